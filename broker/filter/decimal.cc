#include "broker/filter/decimal.h"

#include <algorithm>

namespace tidemark::filter {
namespace {

bool are_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::strong_ordering compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (const auto order = a.whole.size() <=> b.whole.size(); order != 0) {
    return order;
  }
  if (const auto order = a.whole <=> b.whole; order != 0) {
    return order;
  }
  return a.fraction <=> b.fraction;  // no zeros at their ends
}

}  // namespace

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal decimal;
  decimal.negative = text.starts_with('-');
  text.remove_prefix(decimal.negative ? 1 : 0);
  const size_t point = text.find('.');
  decimal.whole = text.substr(0, point);
  if (!are_digits(decimal.whole)) {
    return std::nullopt;
  }
  if (point != std::string_view::npos) {
    decimal.fraction = text.substr(point + 1);
    if (!are_digits(decimal.fraction)) {
      return std::nullopt;
    }
  }
  decimal.whole.remove_prefix(std::min(decimal.whole.find_first_not_of('0'), decimal.whole.size()));
  // npos + 1 is 0: nothing but zeros.
  decimal.fraction = decimal.fraction.substr(0, decimal.fraction.find_last_not_of('0') + 1);
  decimal.negative = decimal.negative && !(decimal.whole.empty() && decimal.fraction.empty());
  return decimal;
}

std::strong_ordering compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) {
    return a.negative ? std::strong_ordering::less : std::strong_ordering::greater;
  }
  return a.negative ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

}  // namespace tidemark::filter
