// Checks of numeric options: each wrong one is named, with what is allowed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "log/base/limits.h"
#include "tidemark/error.h"

namespace tidemark::client_core {

inline constexpr int64_t kHourMs = 3'600'000;

struct OptionRange {
  const char* name;
  int64_t value;
  int64_t low;
  int64_t high;
};

// The longest tag of a message or a filter.
inline constexpr size_t kTagBytesMax = 255;

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

// Which messages a consumer wants. Whether the expression can be understood is the broker's to say.
inline client::Status check_filter(const std::vector<std::string>& tags,
                                   const std::string& filter) {
  const auto bad = [](const std::string& what, size_t low, size_t high) {
    return client::Status(
        client::ErrorCode::kInvalidArgument,
        what + "; allowed are " + std::to_string(low) + " to " + std::to_string(high));
  };
  if (tags.size() > limits::kFilterTagsMax) {
    return bad("tags has " + std::to_string(tags.size()) + " entries", 0, limits::kFilterTagsMax);
  }
  for (const std::string& tag : tags) {
    if (tag.empty() || tag.size() > kTagBytesMax) {
      return bad("one of tags has " + std::to_string(tag.size()) + " bytes", 1, kTagBytesMax);
    }
  }
  if (filter.size() > limits::kFilterBytesMax) {
    return bad("filter has " + std::to_string(filter.size()) + " bytes", 0,
               limits::kFilterBytesMax);
  }
  return {};
}

}  // namespace tidemark::client_core
