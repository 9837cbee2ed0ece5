// Recursive descent over the grammar of FILTERS.md: one function for each rule.
#include <array>
#include <optional>
#include <utility>

#include "broker/filter/condition.h"
#include "broker/filter/lexer.h"
#include "log/base/limits.h"

namespace tidemark::filter {
namespace {

bool is_name(const Token& token) {
  return token.kind == TokenKind::kName || token.kind == TokenKind::kQuotedName;
}

std::string name_of(const Token& token) {
  return token.kind == TokenKind::kName ? std::string(token.text) : unquote(token);
}

constexpr std::array<std::pair<TokenKind, Comparison>, 6> kComparisons{{
    {TokenKind::kEqual, Comparison::kEqual},
    {TokenKind::kNotEqual, Comparison::kNotEqual},
    {TokenKind::kLess, Comparison::kLess},
    {TokenKind::kLessOrEqual, Comparison::kLessOrEqual},
    {TokenKind::kGreater, Comparison::kGreater},
    {TokenKind::kGreaterOrEqual, Comparison::kGreaterOrEqual},
}};

std::optional<Comparison> comparison_of(TokenKind kind) {
  for (const auto& [token, comparison] : kComparisons) {
    if (token == kind) {
      return comparison;
    }
  }
  return std::nullopt;
}

bool is_ordering(Comparison comparison) {
  return comparison != Comparison::kEqual && comparison != Comparison::kNotEqual &&
         comparison != Comparison::kIn && comparison != Comparison::kNotIn;
}

class Parser {
 public:
  explicit Parser(std::string_view expression) : lexer_(expression) {}

  Result<Condition> parse() {
    RETURN_IF_ERROR(advance());
    ASSIGN_OR_RETURN(Condition condition, any_of());
    if (token_.kind != TokenKind::kEnd) {
      return unexpected("'and', 'or' or the end");
    }
    return condition;
  }

 private:
  // conditions { or conditions }
  Result<Condition> any_of() { return chain(ConditionKind::kOr, TokenKind::kOr, &Parser::all_of); }

  // condition { and condition }
  Result<Condition> all_of() {
    return chain(ConditionKind::kAnd, TokenKind::kAnd, &Parser::condition);
  }

  Result<Condition> chain(ConditionKind kind, TokenKind between,
                          Result<Condition> (Parser::*operand)()) {
    ASSIGN_OR_RETURN(Condition first, (this->*operand)());
    if (token_.kind != between) {
      return first;
    }
    RETURN_IF_ERROR(count_node());
    Condition chain{.kind = kind};
    chain.operands.push_back(std::move(first));
    while (token_.kind == between) {
      RETURN_IF_ERROR(advance());
      ASSIGN_OR_RETURN(Condition next, (this->*operand)());
      chain.operands.push_back(std::move(next));
    }
    return chain;
  }

  // not condition | ( conditions ) | exists name | name comparison
  Result<Condition> condition() {
    if (token_.kind == TokenKind::kNot) {
      RETURN_IF_ERROR(count_node());
      Condition negated{.kind = ConditionKind::kNot};
      ASSIGN_OR_RETURN(Condition operand, nested(&Parser::condition));
      negated.operands.push_back(std::move(operand));
      return negated;
    }
    if (token_.kind == TokenKind::kOpen) {
      ASSIGN_OR_RETURN(Condition inner, nested(&Parser::any_of));
      RETURN_IF_ERROR(expect(TokenKind::kClose, "'and', 'or' or ')'"));
      return inner;
    }
    RETURN_IF_ERROR(count_node());
    if (token_.kind == TokenKind::kExists) {
      RETURN_IF_ERROR(advance());
      if (!is_name(token_)) {
        return unexpected("the name of a header after 'exists'");
      }
      Condition exists{.kind = ConditionKind::kExists, .name = name_of(token_)};
      RETURN_IF_ERROR(advance());
      return exists;
    }
    if (!is_name(token_)) {
      return unexpected("the name of a header, 'not', 'exists' or '('");
    }
    return comparison();
  }

  // What follows `not` or '(', one level deeper.
  Result<Condition> nested(Result<Condition> (Parser::*rule)()) {
    if (depth_ == limits::kFilterDepthMax) {
      return beyond_limit("column " + std::to_string(token_.column) + ": 'not' and '(' nested " +
                              std::to_string(depth_ + 1) + " deep",
                          limits::kFilterDepthMax);
    }
    ++depth_;
    RETURN_IF_ERROR(advance());
    Result<Condition> inner = (this->*rule)();
    --depth_;
    return inner;
  }

  // name ( operator value | [ not ] in ( value { , value } ) )
  Result<Condition> comparison() {
    Condition compare{.kind = ConditionKind::kCompare, .name = name_of(token_)};
    const std::string name = describe(token_);
    RETURN_IF_ERROR(advance());
    if (token_.kind == TokenKind::kNot || token_.kind == TokenKind::kIn) {
      compare.comparison = Comparison::kIn;
      if (token_.kind == TokenKind::kNot) {
        compare.comparison = Comparison::kNotIn;
        RETURN_IF_ERROR(advance());
        if (token_.kind != TokenKind::kIn) {
          return unexpected("'in' after 'not'");
        }
      }
      RETURN_IF_ERROR(advance());
      RETURN_IF_ERROR(value_list(compare));
      return compare;
    }
    const std::optional<Comparison> found = comparison_of(token_.kind);
    if (!found) {
      return unexpected("a comparison after " + name);
    }
    compare.comparison = *found;
    const std::string after = " after " + describe(token_);
    RETURN_IF_ERROR(advance());
    RETURN_IF_ERROR(value(compare, after));
    return compare;
  }

  Status value_list(Condition& compare) {
    RETURN_IF_ERROR(expect(TokenKind::kOpen, "'(' after 'in'"));
    RETURN_IF_ERROR(value(compare, " after '('"));
    while (token_.kind == TokenKind::kComma) {
      RETURN_IF_ERROR(count_node());
      RETURN_IF_ERROR(advance());
      RETURN_IF_ERROR(value(compare, " after ','"));
    }
    return expect(TokenKind::kClose, "',' or ')'");
  }

  Status value(Condition& compare, const std::string& after) {
    Value value;
    ValueKind kind = ValueKind::kText;
    if (token_.kind == TokenKind::kText) {
      value.text = unquote(token_);
    } else if (token_.kind == TokenKind::kNumber) {
      kind = ValueKind::kNumber;
      value.number = *parse_decimal(token_.text);
    } else if (token_.kind == TokenKind::kTrue || token_.kind == TokenKind::kFalse) {
      kind = ValueKind::kTruth;
      value.text = token_.kind == TokenKind::kTrue ? "true" : "false";
    } else {
      // The one mistake that everybody makes.
      return error_at(token_.column,
                      "expected a value" + after + ", found " + describe(token_) +
                          (is_name(token_) ? "; a text is written in single quotes" : ""));
    }
    if (kind == ValueKind::kTruth && is_ordering(compare.comparison)) {
      return unexpected("a text or a number" + after);
    }
    if (!compare.values.empty() && kind != compare.value_kind) {
      return unexpected("a value of the same kind as the first one");
    }
    compare.value_kind = kind;
    compare.values.push_back(std::move(value));
    return advance();
  }

  Status expect(TokenKind kind, const std::string& what) {
    return token_.kind == kind ? advance() : unexpected(what);
  }

  Status unexpected(const std::string& expected) const {
    return error_at(token_.column, "expected " + expected + ", found " + describe(token_));
  }

  Status advance() {
    ASSIGN_OR_RETURN(token_, lexer_.next());
    return Status();
  }

  Status count_node() {
    return ++nodes_ <= limits::kFilterNodesMax
               ? Status()
               : beyond_limit(
                     "column " + std::to_string(token_.column) + ": too many conditions and values",
                     limits::kFilterNodesMax);
  }

  Lexer lexer_;
  Token token_;
  size_t depth_ = 0;
  size_t nodes_ = 0;
};

}  // namespace

Result<Condition> parse_condition(std::string_view expression) {
  return Parser(expression).parse();
}

}  // namespace tidemark::filter
