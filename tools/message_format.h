// How a consumed message is printed: a format string compiled once, or one JSON object per line.
//
// Thread: a MessageFormat is immutable after parse().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/result.h"

namespace tidemark::tools {

struct PrintedHeader {
  std::string_view key;
  std::string_view value;
};

// What can be printed of a message; views into the message.
struct PrintedMessage {
  std::string_view topic;  // empty: goes without saying
  uint32_t partition = 0;
  uint64_t offset = 0;
  int64_t timestamp_ms = 0;
  bool has_key = false;
  std::string_view key;
  bool has_value = true;
  std::string_view value;
  std::span<const PrintedHeader> headers;
  uint32_t deliveries = 0;  // queue mode: this one included; else 0
};

class MessageFormat {
 public:
  // %v value, %k key, %o offset, %p partition, %t time in ms since 1970, %T the same as ISO 8601,
  // %h headers (k=v,k=v), %s bytes of the value, %n name of the topic, %d deliveries, %% a percent
  // sign; \n \t \r \0 \\ \xHH.
  // kInvalidArgument for anything else.
  static Result<MessageFormat> parse(std::string_view text);

  // Appends the message to `out`. Absent keys and values print as nothing.
  void append(const PrintedMessage& message, std::string& out) const;

  // True if %h is used: headers need decoding only then.
  [[nodiscard]] bool needs_headers() const { return needs_headers_; }

 private:
  struct Step {
    char what = 0;        // letter of the format, 0: literal
    std::string literal;  // for 0
  };

  std::vector<Step> steps_;
  bool needs_headers_ = false;
};

// Appends {"partition":..,"offset":..,"timestamp_ms":..,"key":..,"value":..,"headers":{..}} and a
// newline; in queue mode with "deliveries", and before the partition the "topic" if it is said.
// Bytes that are not UTF-8 go as base64 to "key_base64", "value_base64", and a header as
// {"base64":".."}; absent ones are null. A header key that comes twice has an array of its values.
void append_json(const PrintedMessage& message, std::string& out);

// True for well-formed UTF-8 (no surrogates, no overlong forms).
bool is_utf8(std::string_view text);
std::string base64(std::string_view bytes);

}  // namespace tidemark::tools
