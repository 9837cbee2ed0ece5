// What a person types on the command line, turned into numbers: durations, byte sizes, points in
// time, names.
//
// Thread: pure functions. Errors: kInvalidArgument with the text that was wrong and what is
// allowed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "log/base/result.h"

namespace tidemark::tools {

// "500ms", "30s", "10m", "12h", "7d", "2w", or several with units that get smaller: "1h30m"; a
// plain number is seconds. Decimal fractions are allowed ("1.5h"). "forever" is -1 where the caller
// allows it.
Result<int64_t> parse_duration_ms(std::string_view text);
// "100", "64KiB", "10GiB", "5MB": B, KB, MB, GB, TB are powers of 1000, KiB and so on (and K, M, G,
// T) of 1024.
Result<uint64_t> parse_bytes(std::string_view text);

// Where a consumer starts.
struct StartPoint {
  enum class Kind { kStart, kEnd, kOffset, kTime };
  Kind kind = Kind::kStart;
  uint64_t offset = 0;  // kOffset
  int64_t time_ms = 0;  // kTime: since 1970, UTC
};

// "start", "end", an offset ("42"), "@<milliseconds since 1970>", a time ("2026-03-01",
// "2026-03-01T12:30:05.250Z", "2026-03-01T12:30+02:00"; UTC unless it says otherwise) or a time
// span before `now_ms` ("-10m").
Result<StartPoint> parse_start_point(std::string_view text, int64_t now_ms);

// ISO 8601 date or date and time to milliseconds since 1970.
Result<int64_t> parse_time_ms(std::string_view text);
// When something is to happen: "2026-12-24T18:00:00Z", "2026-12-24T18:00" or "2026-12-24" (these
// two in the time zone of this process), "@<milliseconds since 1970>", or a time span after
// `now_ms`
// ("+90s").
Result<int64_t> parse_due_ms(std::string_view text, int64_t now_ms);
// "2026-03-01T12:30:05.250Z".
std::string format_time(int64_t time_ms);

struct KeyValue {
  std::string key;
  std::string value;
};

// "key=value"; the key is not empty, the value may be.
Result<KeyValue> parse_key_value(std::string_view text);

// Replaces \n \t \r \0 \\ and \xHH; any other escape is an error.
Result<std::string> unescape(std::string_view text);

// "10.0 MiB", "512 B": for people.
std::string format_bytes(uint64_t bytes);
// "12.3 MB", "4.5 kB", "12 B": powers of 1000, for rates and sums.
std::string format_megabytes(double bytes);
// "7d", "1h30m", "forever" for -1: parse_duration_ms() reads it back.
std::string format_duration(int64_t duration_ms);
// "3d4h", "1h30m", "59s", "-2m5s": how far away, in the two largest units.
std::string format_span(int64_t span_ms);
// "1,234,567".
std::string format_count(uint64_t count);

}  // namespace tidemark::tools
