// Checks of numeric options: each wrong one is named, with what is allowed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tidemark/error.h"

namespace tidemark::client_core {

inline constexpr int64_t kHourMs = 3'600'000;

struct OptionRange {
  const char* name;
  int64_t value;
  int64_t low;
  int64_t high;
};

inline client::Status check_ranges(std::span<const OptionRange> ranges) {
  for (const OptionRange& range : ranges) {
    if (range.value < range.low || range.value > range.high) {
      return {client::ErrorCode::kInvalidArgument,
              std::string(range.name) + " is " + std::to_string(range.value) + "; allowed are " +
                  std::to_string(range.low) + " to " + std::to_string(range.high)};
    }
  }
  return {};
}

}  // namespace tidemark::client_core
