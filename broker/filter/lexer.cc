#include "broker/filter/lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "broker/filter/decimal.h"

namespace tidemark::filter {
namespace {

// No locale: these are the letters of ASCII.
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool continues_name(char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.'; }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

constexpr std::array<std::pair<std::string_view, TokenKind>, 7> kKeywords{{
    {"and", TokenKind::kAnd},
    {"or", TokenKind::kOr},
    {"not", TokenKind::kNot},
    {"in", TokenKind::kIn},
    {"exists", TokenKind::kExists},
    {"true", TokenKind::kTrue},
    {"false", TokenKind::kFalse},
}};

// Longer ones before those that they begin with.
constexpr std::array<std::pair<std::string_view, TokenKind>, 10> kSymbols{{
    {"!=", TokenKind::kNotEqual},
    {"<>", TokenKind::kNotEqual},
    {"<=", TokenKind::kLessOrEqual},
    {">=", TokenKind::kGreaterOrEqual},
    {"<", TokenKind::kLess},
    {">", TokenKind::kGreater},
    {"=", TokenKind::kEqual},
    {"(", TokenKind::kOpen},
    {")", TokenKind::kClose},
    {",", TokenKind::kComma},
}};

bool same_ignoring_case(std::string_view word, std::string_view lower) {
  return std::equal(word.begin(), word.end(), lower.begin(), lower.end(), [](char c, char l) {
    return c == l || (c >= 'A' && c <= 'Z' && c - 'A' + 'a' == l);
  });
}

constexpr size_t kDescribedBytesMax = 40;

std::string printable(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, kDescribedBytesMax)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return text.size() > kDescribedBytesMax ? out + "..." : out;
}

}  // namespace

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end";
    case TokenKind::kText:
      return "the text " + printable(token.text);
    case TokenKind::kQuotedName:
      return "the name " + printable(token.text);
    case TokenKind::kName:
    case TokenKind::kNumber:
    case TokenKind::kOpen:
    case TokenKind::kClose:
    case TokenKind::kComma:
    case TokenKind::kEqual:
    case TokenKind::kNotEqual:
    case TokenKind::kLess:
    case TokenKind::kLessOrEqual:
    case TokenKind::kGreater:
    case TokenKind::kGreaterOrEqual:
    case TokenKind::kAnd:
    case TokenKind::kOr:
    case TokenKind::kNot:
    case TokenKind::kIn:
    case TokenKind::kExists:
    case TokenKind::kTrue:
    case TokenKind::kFalse:
    case TokenKind::kUnknown:
      break;
  }
  return "'" + printable(token.text) + "'";
}

std::string unquote(const Token& token) {
  const char quote = token.text.front();
  std::string out;
  for (size_t i = 1; i + 1 < token.text.size(); ++i) {
    out += token.text[i];
    i += token.text[i] == quote ? 1 : 0;
  }
  return out;
}

Status error_at(size_t column, const std::string& what) {
  return Status(ErrorCode::kInvalidArgument,
                "filter: column " + std::to_string(column) + ": " + what);
}

Status beyond_limit(const std::string& what, size_t limit) {
  return Status(ErrorCode::kLimitExceeded,
                "filter: " + what + "; the limit is " + std::to_string(limit));
}

Result<Token> Lexer::next() {
  while (at_ < expression_.size() && is_space(expression_[at_])) {
    ++at_;
  }
  if (at_ == expression_.size()) {
    return take(TokenKind::kEnd, 0);
  }
  const char first = expression_[at_];
  const char second = at_ + 1 < expression_.size() ? expression_[at_ + 1] : '\0';
  if (first == '\'') {
    return quoted(TokenKind::kText);
  }
  if (first == '"') {
    return quoted(TokenKind::kQuotedName);
  }
  if (is_digit(first) || (first == '-' && is_digit(second))) {
    return number();
  }
  return is_letter(first) ? word() : symbol();
}

Token Lexer::take(TokenKind kind, size_t bytes) {
  const Token token{.kind = kind, .column = at_ + 1, .text = expression_.substr(at_, bytes)};
  at_ += bytes;
  return token;
}

Result<Token> Lexer::quoted(TokenKind kind) {
  const char quote = expression_[at_];
  size_t end = at_ + 1;
  while (true) {
    end = expression_.find(quote, end);
    if (end == std::string_view::npos) {
      return error_at(at_ + 1, std::string("expected another ") + quote + " at the end of the " +
                                   (kind == TokenKind::kText ? "text" : "name") +
                                   ", found the end");
    }
    ++end;
    if (end == expression_.size() || expression_[end] != quote) {
      return take(kind, end - at_);
    }
    ++end;  // a doubled one
  }
}

Result<Token> Lexer::number() {
  size_t end = at_ + 1;
  while (end < expression_.size() && continues_name(expression_[end])) {
    ++end;
  }
  const Token token = take(TokenKind::kNumber, end - at_);
  if (!parse_decimal(token.text)) {
    return error_at(token.column, "expected a number such as 5 or -2.5, found " + describe(token));
  }
  return token;
}

Token Lexer::word() {
  size_t end = at_ + 1;
  while (end < expression_.size() && continues_name(expression_[end])) {
    ++end;
  }
  const std::string_view text = expression_.substr(at_, end - at_);
  for (const auto& [keyword, kind] : kKeywords) {
    if (same_ignoring_case(text, keyword)) {
      return take(kind, text.size());
    }
  }
  return take(TokenKind::kName, text.size());
}

Token Lexer::symbol() {
  for (const auto& [text, kind] : kSymbols) {
    if (expression_.substr(at_).starts_with(text)) {
      return take(kind, text.size());
    }
  }
  return take(TokenKind::kUnknown, 1);
}

}  // namespace tidemark::filter
