// Splits the text of a filter into tokens. FILTERS.md has the language.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "log/base/result.h"

namespace tidemark::filter {

enum class TokenKind : uint8_t {
  kEnd,
  kName,        // region
  kQuotedName,  // "any name"
  kText,        // 'text'
  kNumber,      // -2.5
  kOpen,
  kClose,
  kComma,
  kEqual,
  kNotEqual,  // != or <>
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kAnd,
  kOr,
  kNot,
  kIn,
  kExists,
  kTrue,
  kFalse,
  kUnknown,  // a character that begins nothing
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  size_t column = 1;           // of its first byte, from 1
  std::string_view text = {};  // as it was written, in the expression
};

// "'and'", "the end": for the sentence "expected ..., found ...". Long ones are cut; what is not
// printable ASCII is written as \xNN.
std::string describe(const Token& token);
// What a kText or a kQuotedName stands for: without the quotes around it, doubled ones once.
std::string unquote(const Token& token);
// The errors of this module: kInvalidArgument at a place, kLimitExceeded.
Status error_at(size_t column, const std::string& what);
Status beyond_limit(const std::string& what, size_t limit);

class Lexer {
 public:
  // `expression` stays alive while the lexer and its tokens are used.
  explicit Lexer(std::string_view expression) : expression_(expression) {}

  // The next token; kEnd again and again at the end. kInvalidArgument: a quote that is not closed,
  // digits that are no number.
  Result<Token> next();

 private:
  Result<Token> quoted(TokenKind kind);
  Result<Token> number();
  Token take(TokenKind kind, size_t bytes);
  Token symbol();
  Token word();

  std::string_view expression_;
  size_t at_ = 0;
};

}  // namespace tidemark::filter
