#include "broker/delay/recurrence.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <span>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::delay {
namespace {

namespace chrono = std::chrono;

constexpr int64_t kDaySeconds = 86'400;
// Occurrences lie in [0, kInstantEnd): what four digits can write.
constexpr int64_t kInstantEnd = 253'402'300'800;

// --- Parsing ---

// One of the six fields: its name, its values, and the names of values from name_base on.
struct Field {
  std::string_view name;
  int low;
  int high;
  std::span<const std::string_view> names = {};
  int name_base = 0;
};

constexpr std::array<std::string_view, 12> kMonthNames = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN",
                                                          "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};
constexpr std::array<std::string_view, 7> kWeekdayNames = {"SUN", "MON", "TUE", "WED",
                                                           "THU", "FRI", "SAT"};

constexpr Field kSecond = {.name = "second", .low = 0, .high = 59};
constexpr Field kMinute = {.name = "minute", .low = 0, .high = 59};
constexpr Field kHour = {.name = "hour", .low = 0, .high = 23};
constexpr Field kDay = {.name = "day of month", .low = 1, .high = 31};
constexpr Field kMonth = {
    .name = "month", .low = 1, .high = 12, .names = kMonthNames, .name_base = 1};
constexpr Field kWeekday = {.name = "day of week", .low = 0, .high = 7, .names = kWeekdayNames};

constexpr size_t kFieldCount = 6;

struct Shorthand {
  std::string_view name;
  std::string_view fields;
};

constexpr Shorthand kShorthands[] = {{"@yearly", "0 0 0 1 1 *"},
                                     {"@monthly", "0 0 0 1 * *"},
                                     {"@weekly", "0 0 0 * * 0"},
                                     {"@daily", "0 0 0 * * *"},
                                     {"@hourly", "0 0 * * * *"}};

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return to_upper(x) == to_upper(y); });
}

// User text for an error: in quotes, on one line.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c >= ' ' && c <= '~' ? c : '?';
  }
  return out + "'";
}

Status bad_cron(std::string what) {
  return Status(ErrorCode::kInvalidArgument, "cron: " + std::move(what));
}

Status bad_field(const Field& field, std::string_view item, std::string_view why) {
  std::string text = "cron: " + std::string(field.name) + " " + quoted(item);
  text.append(" ").append(why);
  text +=
      "; allowed are * and numbers " + std::to_string(field.low) + "-" + std::to_string(field.high);
  if (!field.names.empty()) {
    text.append(" or ").append(field.names.front()).append("-").append(field.names.back());
  }
  text += ", as n, low-high, low-high/step or */step, with commas between";
  return Status(ErrorCode::kInvalidArgument, std::move(text));
}

std::optional<int> parse_number(std::string_view text) {
  if (text.empty() || text.size() > 2) {
    return std::nullopt;
  }
  int number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') {
      return std::nullopt;
    }
    number = number * 10 + (c - '0');
  }
  return number;
}

// A number of the field's range, or a name.
std::optional<int> parse_value(const Field& field, std::string_view text) {
  for (size_t i = 0; i < field.names.size(); ++i) {
    if (same_word(text, field.names[i])) {
      return field.name_base + static_cast<int>(i);
    }
  }
  const std::optional<int> number = parse_number(text);
  return number && *number >= field.low && *number <= field.high ? number : std::nullopt;
}

struct Values {
  uint64_t bits = 0;
  bool star = false;  // a `*` is in it
};

Status parse_item(const Field& field, std::string_view item, Values& values) {
  const size_t slash = item.find('/');
  const std::string_view range = item.substr(0, slash);
  const size_t dash = range.find('-');
  const bool star = range == "*";
  int low = field.low;
  int high = field.high;
  int step = 1;
  if (!star) {
    const std::optional<int> first = parse_value(field, range.substr(0, dash));
    const std::optional<int> last =
        dash == std::string_view::npos ? first : parse_value(field, range.substr(dash + 1));
    if (!first || !last) {
      return bad_field(field, item, "is not understood");
    }
    low = *first;
    high = *last;
    if (&field == &kWeekday && high == 0 && low > 0) {
      high = 7;  // a week that ends with Sunday
    }
    if (low > high) {
      return bad_field(field, item, "ends before it begins");
    }
  }
  if (slash != std::string_view::npos) {
    const std::optional<int> number = parse_number(item.substr(slash + 1));
    if (!star && dash == std::string_view::npos) {
      return bad_field(field, item, "has a step but no range");
    }
    if (!number || *number < 1 || *number > field.high) {
      return bad_field(field, item, "needs a step from 1 to " + std::to_string(field.high));
    }
    step = *number;
  }
  for (int value = low; value <= high; value += step) {
    values.bits |= uint64_t{1} << value;
  }
  values.star = values.star || star;
  return Status();
}

Status parse_field(const Field& field, std::string_view text, Values& values) {
  if (text == "?" && (&field == &kDay || &field == &kWeekday)) {
    text = "*";
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    RETURN_IF_ERROR(parse_item(field, text.substr(begin, comma - begin), values));
    begin = comma + 1;
  }
  return Status();
}

// The six fields of `text`, blanks removed.
Status split(std::string_view text, std::array<std::string_view, kFieldCount>& fields) {
  size_t count = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    if (end > begin) {
      if (count < kFieldCount) {
        fields[count] = text.substr(begin, end - begin);
      }
      ++count;
    }
    begin = end + 1;
  }
  if (count != kFieldCount) {
    return bad_cron(quoted(text) + " has " + std::to_string(count) +
                    " fields; six are needed: second minute hour day-of-month month day-of-week, "
                    "or one of @yearly @monthly @weekly @daily @hourly");
  }
  return Status();
}

// --- Arithmetic ---

// The lowest bit from `from` on, or -1.
int next_bit(uint64_t bits, int from) {
  if (from >= 64 || bits >> from == 0) {
    return -1;
  }
  return from + std::countr_zero(bits >> from);
}

std::optional<int64_t> next_every(int64_t every_ms, int64_t anchor_ms, int64_t after_ms) {
  int64_t next_ms = anchor_ms;
  if (anchor_ms <= after_ms) {
    // Unsigned, because the distance of two int64_t may be larger than one.
    const uint64_t passed_ms = static_cast<uint64_t>(after_ms) - static_cast<uint64_t>(anchor_ms);
    const auto every = static_cast<uint64_t>(every_ms);
    const auto remaining_ms = static_cast<int64_t>(every - passed_ms % every);
    if (__builtin_add_overflow(after_ms, remaining_ms, &next_ms)) {
      return std::nullopt;
    }
  }
  return next_ms < kInstantEnd * 1000 ? std::optional<int64_t>(next_ms) : std::nullopt;
}

}  // namespace

Status check_recurrence(const Recurrence& recurrence) {
  switch (recurrence.kind) {
    case Recurrence::Kind::kEvery:
      if (recurrence.every_ms < limits::kRecurrenceEveryMsMin ||
          recurrence.every_ms > limits::kRecurrenceEveryMsMax) {
        return Status(ErrorCode::kInvalidArgument,
                      "every: " + std::to_string(recurrence.every_ms) + " ms; allowed are " +
                          std::to_string(limits::kRecurrenceEveryMsMin) + " to " +
                          std::to_string(limits::kRecurrenceEveryMsMax) + " ms");
      }
      return Status();
    case Recurrence::Kind::kCron:
      return CronSchedule::parse(recurrence.cron, recurrence.zone).status();
  }
  return Status(ErrorCode::kInvalidArgument,
                "kind: " + std::to_string(static_cast<int>(recurrence.kind)) +
                    "; allowed are 1 (every) and 2 (cron)");
}

std::optional<int64_t> next_occurrence(const Recurrence& recurrence, int64_t anchor_ms,
                                       int64_t after_ms) {
  if (recurrence.kind == Recurrence::Kind::kEvery) {
    TIDEMARK_CHECK(recurrence.every_ms > 0);
    return next_every(recurrence.every_ms, anchor_ms, after_ms);
  }
  const Result<CronSchedule> schedule = CronSchedule::parse(recurrence.cron, recurrence.zone);
  return schedule.ok() ? schedule->next(after_ms) : std::nullopt;
}

Result<CronSchedule> CronSchedule::parse(std::string_view text, std::string_view zone) {
  if (text.size() > limits::kCronBytesMax) {
    return bad_cron("has " + std::to_string(text.size()) + " bytes; allowed are " +
                    std::to_string(limits::kCronBytesMax));
  }
  CronSchedule schedule;
  RETURN_IF_ERROR(schedule.parse_fields(text));
  // In UTC and from any day: if the calendar has one such day, it comes again within these years.
  if (!schedule.next(0)) {
    return bad_cron(quoted(text) + " never matches: no month named has a day named");
  }
  ASSIGN_OR_RETURN(schedule.zone_, TimeZone::find(zone));
  return schedule;
}

Status CronSchedule::parse_fields(std::string_view text) {
  for (const Shorthand& shorthand : kShorthands) {
    if (same_word(text, shorthand.name)) {
      text = shorthand.fields;
    }
  }
  std::array<std::string_view, kFieldCount> fields;
  RETURN_IF_ERROR(split(text, fields));
  constexpr std::array<const Field*, kFieldCount> kFields = {&kSecond, &kMinute, &kHour,
                                                             &kDay,    &kMonth,  &kWeekday};
  std::array<Values, kFieldCount> values;
  for (size_t i = 0; i < kFieldCount; ++i) {
    RETURN_IF_ERROR(parse_field(*kFields[i], fields[i], values[i]));
  }
  seconds_ = values[0].bits;
  minutes_ = values[1].bits;
  hours_ = static_cast<uint32_t>(values[2].bits);
  days_ = static_cast<uint32_t>(values[3].bits);
  months_ = static_cast<uint16_t>(values[4].bits);
  weekdays_ = static_cast<uint8_t>((values[5].bits | values[5].bits >> 7) & 0x7F);
  hour_fixed_ = !values[2].star;
  days_restricted_ = !values[3].star;
  weekdays_restricted_ = !values[5].star;
  return Status();
}

bool CronSchedule::matches_day(int month, int day, int weekday) const {
  if ((months_ >> month & 1) == 0) {
    return false;
  }
  const bool day_matches = (days_ >> day & 1) != 0;
  const bool weekday_matches = (weekdays_ >> weekday & 1) != 0;
  return days_restricted_ && weekdays_restricted_ ? day_matches || weekday_matches
                                                  : day_matches && weekday_matches;
}

// The first second of a day, from `second_of_day` on, that matches.
std::optional<int64_t> CronSchedule::next_in_day(int64_t second_of_day) const {
  const auto from = static_cast<int>(second_of_day);
  const int from_hour = from / 3600;
  const int from_minute = from / 60 % 60;
  for (int hour = next_bit(hours_, from_hour); hour >= 0; hour = next_bit(hours_, hour + 1)) {
    int minute = next_bit(minutes_, hour == from_hour ? from_minute : 0);
    for (; minute >= 0; minute = next_bit(minutes_, minute + 1)) {
      // Only the minute asked for can be too far gone for any second.
      const bool same_minute = hour == from_hour && minute == from_minute;
      const int second = next_bit(seconds_, same_minute ? from % 60 : 0);
      if (second >= 0) {
        return hour * 3600 + minute * 60 + second;
      }
    }
  }
  return std::nullopt;
}

// The first local time in [local_s, end_s) that matches, as if no clock ever moved.
std::optional<int64_t> CronSchedule::next_local(int64_t local_s, int64_t end_s) const {
  const chrono::sys_days first_day =
      chrono::floor<chrono::days>(chrono::sys_seconds(chrono::seconds(local_s)));
  for (chrono::sys_days day = first_day; day.time_since_epoch().count() * kDaySeconds < end_s;) {
    const chrono::year_month_day date(day);
    const auto month = static_cast<int>(static_cast<unsigned>(date.month()));
    if ((months_ >> month & 1) == 0) {
      day = chrono::sys_days((date.year() / date.month() + chrono::months(1)) / 1);
      continue;
    }
    const int64_t day_s = day.time_since_epoch().count() * kDaySeconds;
    if (matches_day(month, static_cast<int>(static_cast<unsigned>(date.day())),
                    static_cast<int>(chrono::weekday(day).c_encoding()))) {
      const std::optional<int64_t> found = next_in_day(std::max<int64_t>(local_s - day_s, 0));
      if (found) {
        return day_s + *found < end_s ? std::optional<int64_t>(day_s + *found) : std::nullopt;
      }
    }
    day += chrono::days(1);
  }
  return std::nullopt;
}

// The first occurrence in [instant_s, end_s), which lies in `period`.
std::optional<int64_t> CronSchedule::next_in_period(const TimeZone::Period& period,
                                                    int64_t instant_s, int64_t end_s) const {
  // How far clocks moved when the period began; no zone moves them further than a day.
  const int64_t since_begin_s = instant_s - std::max(period.begin_s, instant_s - 2 * kDaySeconds);
  if (hour_fixed_ && since_begin_s <= kDaySeconds) {
    const int64_t before_s = zone_.period_at(period.begin_s - 1).offset_s;
    if (instant_s == period.begin_s &&
        next_local(instant_s + before_s, instant_s + period.offset_s)) {
      return instant_s;
    }
    instant_s = std::max(instant_s, period.begin_s + before_s - period.offset_s);
  }
  const std::optional<int64_t> local_s =
      next_local(instant_s + period.offset_s, end_s + period.offset_s);
  return local_s ? std::optional<int64_t>(*local_s - period.offset_s) : std::nullopt;
}

std::optional<int64_t> CronSchedule::next(int64_t after_ms) const {
  if (after_ms >= kInstantEnd * 1000) {
    return std::nullopt;
  }
  int64_t instant_s = after_ms < 0 ? 0 : after_ms / 1000 + 1;
  // 1461 days are four years.
  const int64_t ahead_s = limits::kCronYearsAheadMax * 1461 * kDaySeconds / 4 + kDaySeconds;
  const int64_t end_s = std::min(kInstantEnd, instant_s + ahead_s);
  while (instant_s < end_s) {
    const TimeZone::Period period = zone_.period_at(instant_s);
    const int64_t period_end_s = std::min(period.end_s, end_s);
    const std::optional<int64_t> found = next_in_period(period, instant_s, period_end_s);
    if (found) {
      TIDEMARK_CHECK(*found >= instant_s && *found < period_end_s);
      return *found * 1000;
    }
    instant_s = period_end_s;
  }
  return std::nullopt;
}

}  // namespace tidemark::delay
