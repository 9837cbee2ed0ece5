#include "tools/parse.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <optional>
#include <span>

#include <fmt/format.h>

namespace tidemark::tools {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array<Unit, 7> kDurationUnits = {{
    {"ms", 1},
    {"s", 1'000},
    {"m", 60'000},
    {"h", 3'600'000},
    {"d", 86'400'000},
    {"w", 7 * 86'400'000ull},
    {"", 1'000},
}};

constexpr uint64_t kKibi = 1024;
constexpr std::array<Unit, 14> kByteUnits = {{
    {"", 1},
    {"B", 1},
    {"KB", 1'000},
    {"MB", 1'000'000},
    {"GB", 1'000'000'000},
    {"TB", 1'000'000'000'000},
    {"KiB", kKibi},
    {"MiB", kKibi* kKibi},
    {"GiB", kKibi* kKibi* kKibi},
    {"TiB", kKibi* kKibi* kKibi* kKibi},
    {"K", kKibi},
    {"M", kKibi* kKibi},
    {"G", kKibi* kKibi* kKibi},
    {"T", kKibi* kKibi* kKibi* kKibi},
}};

// A decimal number followed by one of `units`, as a whole number of the smallest unit.
std::optional<uint64_t> parse_with_unit(std::string_view text, std::span<const Unit> units) {
  size_t end = 0;
  while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.')) {
    ++end;
  }
  const std::string_view number = text.substr(0, end);
  for (const Unit& unit : units) {
    if (unit.name != text.substr(end)) {
      continue;
    }
    uint64_t whole = 0;
    const auto exact = std::from_chars(number.data(), number.data() + number.size(), whole);
    if (exact.ec == std::errc() && exact.ptr == number.data() + number.size()) {
      uint64_t product = 0;
      if (__builtin_mul_overflow(whole, unit.factor, &product) || product > uint64_t{INT64_MAX}) {
        return std::nullopt;
      }
      return product;
    }
    double value = 0;
    const auto real = std::from_chars(number.data(), number.data() + number.size(), value);
    if (real.ec != std::errc() || real.ptr != number.data() + number.size()) {
      return std::nullopt;
    }
    const double scaled = value * static_cast<double>(unit.factor);
    if (!(scaled < 9.0e18)) {
      return std::nullopt;
    }
    return static_cast<uint64_t>(std::llround(scaled));
  }
  return std::nullopt;
}

// "90s", "1.5h", "1h30m": parts with units that get smaller, or one number without a unit.
std::optional<uint64_t> parse_duration_parts(std::string_view text) {
  const auto is_number = [](char c) { return (c >= '0' && c <= '9') || c == '.'; };
  uint64_t sum = 0;
  uint64_t last_factor = UINT64_MAX;
  std::string_view rest = text;
  do {
    size_t end = 0;
    while (end < rest.size() && is_number(rest[end])) {
      ++end;
    }
    const size_t unit_begin = end;
    while (end < rest.size() && !is_number(rest[end])) {
      ++end;
    }
    const std::string_view name = rest.substr(unit_begin, end - unit_begin);
    const auto* const unit = std::ranges::find(kDurationUnits, name, &Unit::name);
    const std::optional<uint64_t> part = parse_with_unit(rest.substr(0, end), kDurationUnits);
    if (!part || unit == kDurationUnits.end() || unit->factor >= last_factor ||
        (name.empty() && rest.size() != text.size()) || __builtin_add_overflow(sum, *part, &sum) ||
        sum > uint64_t{INT64_MAX}) {
      return std::nullopt;
    }
    last_factor = unit->factor;
    rest.remove_prefix(end);
  } while (!rest.empty());
  return sum;
}

// Takes exactly `digits` decimal digits from the front.
bool take_number(std::string_view& rest, size_t digits, int& out) {
  if (rest.size() < digits) {
    return false;
  }
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + digits, out);
  if (error != std::errc() || end != rest.data() + digits || rest.front() == '-') {
    return false;
  }
  rest.remove_prefix(digits);
  return true;
}

bool take_char(std::string_view& rest, char wanted) {
  if (rest.empty() || rest.front() != wanted) {
    return false;
  }
  rest.remove_prefix(1);
  return true;
}

// ".250": one to nine digits, cut to milliseconds.
bool take_fraction(std::string_view& rest, int& milliseconds) {
  size_t digits = 0;
  int scale = 100;
  milliseconds = 0;
  while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9') {
    milliseconds += (rest[digits] - '0') * scale;
    scale /= 10;
    ++digits;
  }
  rest.remove_prefix(digits);
  return digits >= 1 && digits <= 9;
}

// "Z", "+02:00", "-0530" or nothing; minutes east of UTC.
bool take_zone(std::string_view& rest, int& minutes_east) {
  minutes_east = 0;
  if (rest.empty() || take_char(rest, 'Z') || take_char(rest, 'z')) {
    return true;
  }
  const bool east = rest.front() == '+';
  if (!east && rest.front() != '-') {
    return false;
  }
  rest.remove_prefix(1);
  int hours = 0;
  int minutes = 0;
  if (!take_number(rest, 2, hours)) {
    return false;
  }
  if (!rest.empty()) {
    (void)take_char(rest, ':');
    if (!take_number(rest, 2, minutes)) {
      return false;
    }
  }
  minutes_east = (hours * 60 + minutes) * (east ? 1 : -1);
  return hours <= 14 && minutes < 60;
}

bool take_clock_time(std::string_view& rest, std::tm& out, int& milliseconds) {
  if (!take_number(rest, 2, out.tm_hour) || !take_char(rest, ':') ||
      !take_number(rest, 2, out.tm_min)) {
    return false;
  }
  if (take_char(rest, ':') && !take_number(rest, 2, out.tm_sec)) {
    return false;
  }
  if (take_char(rest, '.') && !take_fraction(rest, milliseconds)) {
    return false;
  }
  return out.tm_hour < 24 && out.tm_min < 60 && out.tm_sec < 60;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  if (c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  return -1;
}

bool whole_number(std::string_view digits, auto& out) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return !digits.empty() && error == std::errc() && end == digits.data() + digits.size();
}

// A date, or date and time, as written.
struct CivilTime {
  std::tm parts = {};
  int milliseconds = 0;
  bool has_zone = false;
  int minutes_east = 0;
};

std::optional<CivilTime> parse_civil_time(std::string_view text) {
  CivilTime time;
  std::tm& parts = time.parts;
  std::string_view rest = text;
  if (!take_number(rest, 4, parts.tm_year) || !take_char(rest, '-') ||
      !take_number(rest, 2, parts.tm_mon) || !take_char(rest, '-') ||
      !take_number(rest, 2, parts.tm_mday)) {
    return std::nullopt;
  }
  if (!rest.empty()) {
    if ((!take_char(rest, 'T') && !take_char(rest, ' ')) ||
        !take_clock_time(rest, parts, time.milliseconds)) {
      return std::nullopt;
    }
    time.has_zone = !rest.empty();
    if (!take_zone(rest, time.minutes_east)) {
      return std::nullopt;
    }
  }
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  // timegm() turns 31 February into 3 March; that is a mistake of whoever typed it.
  std::tm normal = parts;
  (void)timegm(&normal);
  if (!rest.empty() || normal.tm_mon != parts.tm_mon || normal.tm_mday != parts.tm_mday) {
    return std::nullopt;
  }
  return time;
}

int64_t civil_time_ms(CivilTime& time) {
  const int64_t seconds = timegm(&time.parts);
  return (seconds - int64_t{time.minutes_east} * 60) * 1000 + time.milliseconds;
}

// By the time zone of this process; nothing for an hour that is left out when the clocks go
// forward.
std::optional<int64_t> local_time_ms(const CivilTime& time) {
  std::tm parts = time.parts;
  parts.tm_isdst = -1;
  const int64_t seconds = mktime(&parts);
  if (parts.tm_hour != time.parts.tm_hour || parts.tm_min != time.parts.tm_min ||
      parts.tm_mday != time.parts.tm_mday) {
    return std::nullopt;
  }
  return seconds * 1000 + time.milliseconds;
}

Status invalid(std::string context) {
  return Status(ErrorCode::kInvalidArgument, std::move(context));
}

}  // namespace

Result<int64_t> parse_duration_ms(std::string_view text) {
  const std::optional<uint64_t> value = parse_duration_parts(text);
  if (!value) {
    return invalid(fmt::format(
        "'{}' is not a duration; write for example 500ms, 30s, 10m, 1h30m, 12h, 7d", text));
  }
  return static_cast<int64_t>(*value);
}

Result<uint64_t> parse_bytes(std::string_view text) {
  const std::optional<uint64_t> value = parse_with_unit(text, kByteUnits);
  if (!value) {
    return invalid(
        fmt::format("'{}' is not a size; write for example 4096, 64KiB, 10GiB, 5MB", text));
  }
  return *value;
}

Result<int64_t> parse_time_ms(std::string_view text) {
  std::optional<CivilTime> time = parse_civil_time(text);
  if (!time) {
    return invalid(
        fmt::format("'{}' is not a time; write for example 2026-03-01, 2026-03-01T12:30:05Z "
                    "or 2026-03-01T12:30+02:00",
                    text));
  }
  return civil_time_ms(*time);
}

Result<int64_t> parse_due_ms(std::string_view text, int64_t now_ms) {
  if (text.starts_with('@')) {
    int64_t time_ms = 0;
    if (whole_number(text.substr(1), time_ms) && time_ms >= 0) {
      return time_ms;
    }
  } else if (text.starts_with('+')) {
    const Result<int64_t> span = parse_duration_ms(text.substr(1));
    int64_t due_ms = 0;
    if (span.ok() && !__builtin_add_overflow(now_ms, *span, &due_ms)) {
      return due_ms;
    }
  } else if (std::optional<CivilTime> time = parse_civil_time(text)) {
    if (time->has_zone) {
      return civil_time_ms(*time);
    }
    const std::optional<int64_t> time_ms = local_time_ms(*time);
    if (!time_ms) {
      return invalid(fmt::format(
          "'{}' is skipped by the clocks of the local time zone; add Z or an offset", text));
    }
    return *time_ms;
  }
  return invalid(
      fmt::format("'{}' is not a time; write for example 2026-12-24T18:00:00Z, 2026-12-24T18:00 "
                  "(local time), @<ms since 1970> or +90s",
                  text));
}

Result<StartPoint> parse_start_point(std::string_view text, int64_t now_ms) {
  StartPoint point;
  if (text == "start" || text == "end") {
    point.kind = text == "start" ? StartPoint::Kind::kStart : StartPoint::Kind::kEnd;
    return point;
  }
  if (whole_number(text, point.offset)) {
    point.kind = StartPoint::Kind::kOffset;
    return point;
  }
  point.kind = StartPoint::Kind::kTime;
  if (text.starts_with('@')) {
    if (whole_number(text.substr(1), point.time_ms) && point.time_ms >= 0) {
      return point;
    }
  } else if (text.starts_with('-')) {
    const Result<int64_t> span = parse_duration_ms(text.substr(1));
    if (span.ok()) {
      point.time_ms = now_ms > *span ? now_ms - *span : 0;
      return point;
    }
  } else {
    const Result<int64_t> time = parse_time_ms(text);
    if (time.ok() && *time >= 0) {
      point.time_ms = *time;
      return point;
    }
  }
  return invalid(
      fmt::format("'{}' is not a place to start; write start, end, an offset (42), a time "
                  "(2026-03-01T12:30:05Z or @<ms since 1970>) or a time span back (-10m)",
                  text));
}

std::string format_time(int64_t time_ms) {
  int64_t seconds = time_ms / 1000;
  int64_t milliseconds = time_ms % 1000;
  if (milliseconds < 0) {
    milliseconds += 1000;
    seconds -= 1;
  }
  const std::time_t time = seconds;
  std::tm parts = {};
  if (gmtime_r(&time, &parts) == nullptr) {
    return fmt::format("@{}", time_ms);
  }
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     milliseconds);
}

Result<KeyValue> parse_key_value(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return invalid(fmt::format("'{}' is not key=value", text));
  }
  return KeyValue{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

Result<std::string> unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char escape = ++i < text.size() ? text[i] : '\0';
    if (escape == 'n') {
      out += '\n';
    } else if (escape == 't') {
      out += '\t';
    } else if (escape == 'r') {
      out += '\r';
    } else if (escape == '0') {
      out += '\0';
    } else if (escape == '\\') {
      out += '\\';
    } else if (escape == 'x' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
               hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      return invalid(
          fmt::format("'{}' has an unknown escape; known are \\n \\t \\r \\0 \\\\ \\xHH", text));
    }
  }
  return out;
}

std::string format_bytes(uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kNames[unit]);
}

std::string format_megabytes(double bytes) {
  if (bytes >= 1e5) {
    return fmt::format("{:.1f} MB", bytes / 1e6);
  }
  return bytes >= 1e3 ? fmt::format("{:.1f} kB", bytes / 1e3) : fmt::format("{:.0f} B", bytes);
}

std::string format_duration(int64_t duration_ms) {
  if (duration_ms < 0) {
    return "forever";
  }
  std::string out;
  auto left = static_cast<uint64_t>(duration_ms);
  constexpr std::array<Unit, 5> kParts = {
      {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}}};
  for (const Unit& part : kParts) {
    if (left >= part.factor) {
      out += fmt::format("{}{}", left / part.factor, part.name);
      left %= part.factor;
    }
  }
  return out.empty() ? "0s" : out;
}

std::string format_span(int64_t span_ms) {
  // Rounded to the second largest unit, so that it is short and still says enough.
  constexpr std::array<int64_t, 4> kUnits = {86'400'000, 3'600'000, 60'000, 1'000};
  const uint64_t magnitude =
      span_ms < 0 ? uint64_t{0} - static_cast<uint64_t>(span_ms) : static_cast<uint64_t>(span_ms);
  auto rounded = static_cast<int64_t>(std::min(magnitude, uint64_t{INT64_MAX}));
  for (size_t i = 0; i + 1 < kUnits.size(); ++i) {
    if (rounded >= kUnits[i]) {
      rounded -= rounded % kUnits[i + 1];
      break;
    }
  }
  return (span_ms < 0 ? "-" : "") + format_duration(rounded);
}

std::string format_count(uint64_t count) {
  const std::string digits = fmt::format("{}", count);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      out += ',';
    }
    out += digits[i];
  }
  return out;
}

}  // namespace tidemark::tools
