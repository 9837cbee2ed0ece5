#include "log/format/message_properties.h"

#include <charconv>

#include "log/base/limits.h"

namespace tidemark::format {
namespace {

std::optional<int64_t> number(std::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

MessageProperties read_properties(const RecordView& record) {
  MessageProperties properties;
  bool has_priority = false;
  HeaderCursor cursor(record.headers, record.header_count);
  HeaderView header;
  while (cursor.next(header)) {
    if (!header.has_value || !header.key.starts_with("tm-")) {
      continue;
    }
    const std::string_view value = as_text(header.value);
    if (header.key == kTtlHeader && !properties.ttl_ms.has_value()) {
      properties.ttl_ms = number(value, 1, INT64_MAX);
    } else if (header.key == kPriorityHeader && !has_priority) {
      const std::optional<int64_t> priority = number(value, 0, kPriorityMax);
      has_priority = priority.has_value();
      properties.priority = static_cast<uint8_t>(priority.value_or(0));
    } else if (header.key == kMessageIdHeader && !properties.id.has_value() && !value.empty() &&
               value.size() <= limits::kMessageIdBytesMax) {
      properties.id = value;
    }
  }
  return properties;
}

bool is_dead_letter(const RecordView& record) {
  bool dead = false;
  HeaderCursor headers(record.headers, record.header_count);
  HeaderView header;
  while (headers.next(header)) {
    dead = header.key == kDeadTopicHeader || (dead && header.key != kRedrivenHeader);
  }
  return dead;
}

}  // namespace tidemark::format
