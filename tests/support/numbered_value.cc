#include "tests/support/numbered_value.h"

#include <cstdlib>

namespace tidemark::testing {

std::string numbered_value(uint64_t number, size_t bytes) {
  std::string value = std::to_string(number) + ":";
  while (value.size() < bytes) {
    value += static_cast<char>('a' + (number + value.size() * 7) % 26);
  }
  return value;
}

uint64_t number_of(std::string_view value) {
  const std::string text(value.substr(0, value.find(':')));
  char* end = nullptr;
  const uint64_t number = std::strtoull(text.c_str(), &end, 10);
  return !text.empty() && *end == '\0' && numbered_value(number, value.size()) == value
             ? number
             : UINT64_MAX;
}

}  // namespace tidemark::testing
