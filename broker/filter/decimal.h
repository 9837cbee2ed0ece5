// Decimal numbers as text: compared exactly, whatever their length; nothing is rounded.
#pragma once

#include <compare>
#include <optional>
#include <string_view>

namespace tidemark::filter {

// Views the text that it was read from. One value has one form: no zeros before the whole part or
// behind the fraction, and zero is not negative.
struct Decimal {
  bool negative = false;
  std::string_view whole = {};
  std::string_view fraction = {};
};

// `text` as a whole: an optional '-', digits, and optionally a point and digits. Anything else,
// also a sign '+', blanks, an exponent: nullopt.
std::optional<Decimal> parse_decimal(std::string_view text);

std::strong_ordering compare(const Decimal& a, const Decimal& b);

}  // namespace tidemark::filter
