// Recurring schedules: when a message that is sent again and again comes next.
//
// Pure: time is an argument, in milliseconds since 1970 UTC; the only thing read is the time zone
// database (time_zone.h). Thread: value types and free functions, from any thread.
//
// Cron text: six fields with blanks between them,
//
//   second 0-59, minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7
//
// where 0 and 7 are Sunday and JAN..DEC and SUN..SAT may stand for numbers, in any case. A field is
// a list of `*`, `*/step`, `n`, `low-high` or `low-high/step`, with commas between; a range does
// not wrap, but may end with Sunday (FRI-SUN). `?` is `*` in the two day fields. Instead of six
// fields:
// @yearly (0 0 0 1 1 *), @monthly (0 0 0 1 * *), @weekly (0 0 0 * * 0), @daily (0 0 0 * * *) and
// @hourly (0 0 * * * *).
//
// Days, as in Vixie cron: if both day fields are restricted, a day matches that matches either;
// else it has to match both. A field with `*` in it, also as `*/2`, is not restricted.
//
// Daylight saving, and whatever else moves a zone's clocks. What counts is whether the hour field
// has a `*` in it, also as `*/2`. All other hour fields are fixed, also ranges and lists.
//
//   A fixed hour is about the time of day:
//     Forward: if the schedule matches one or more of the local times that are left out, it fires
//     once at the instant of the change. If it also matches the local time that the clocks then
//     show, that is the same occurrence.
//     Back: local times that are shown twice count the first time only. From the change until
//     clocks show a new time, nothing fires.
//   `*` in the hour field is about time that passes. The schedule fires at every instant at which
//   the local clocks show a time that matches, no more and no less: times left out do not fire,
//   times shown twice fire twice. Every hour is so every 3600 s where clocks move by whole hours;
//   in Australia/Lord_Howe, where they move by half an hour, the one step that contains the change
//   is longer or shorter by that half hour. `*/2` skips an hour or has one more when they move.
//
//   Europe/Berlin          2026-03-29: 02:00 to 03:00 left out    2026-10-25: 02:00 to 03:00 twice
//     0 30 2 * * *         once, at 03:00 = 01:00 UTC             once, at 00:30 UTC
//     0 */20 2-3 * * *     03:00 03:20 03:40                      02:00 02:20 02:40, first ones,
//     and
//                                                                 03:00 03:20 03:40
//     0 30 * * * *         01:30 03:30                            01:30 02:30 02:30 03:30
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "broker/delay/time_zone.h"
#include "log/base/result.h"
#include "log/base/status.h"

namespace tidemark::delay {

// When a recurring message comes next.
struct Recurrence {
  enum class Kind : uint8_t { kEvery = 1, kCron = 2 };

  Kind kind = Kind::kEvery;
  int64_t every_ms = 0;  // kEvery: limits::kRecurrenceEveryMsMin to Max
  std::string cron;      // kCron: as above; at most limits::kCronBytesMax
  std::string zone;      // kCron: IANA name; empty: UTC
};

// Ok, or kInvalidArgument saying which field is wrong and what is allowed. A cron text that never
// matches, such as "0 0 0 30 2 *", is wrong too. Fields of the other kind are not looked at.
[[nodiscard]] Status check_recurrence(const Recurrence& recurrence);

// The first occurrence strictly after `after_ms`.
//   kEvery: of anchor_ms + k * every_ms, k = 0, 1, 2...; so `anchor_ms` itself if that is later.
//   kCron: on a whole second; `anchor_ms` has no meaning. Parses the text: a caller with many
//   questions about one schedule keeps a CronSchedule.
// nullopt: none before the year 10000, or, for kCron, within limits::kCronYearsAheadMax; and none
// is before 1970. Requires: check_recurrence() is ok. If the time zone database lost the zone since
// (another node, another day), nullopt too: that is the world's fault, not the caller's.
[[nodiscard]] std::optional<int64_t> next_occurrence(const Recurrence& recurrence,
                                                     int64_t anchor_ms, int64_t after_ms);

// A parsed cron text with its zone: a value of 40 bytes, no heap.
class CronSchedule {
 public:
  // Errors as of check_recurrence().
  static Result<CronSchedule> parse(std::string_view text, std::string_view zone);

  // As next_occurrence(). Works field by field; a day is looked at as a whole, a
  // month that does not match is not looked at.
  [[nodiscard]] std::optional<int64_t> next(int64_t after_ms) const;

 private:
  CronSchedule() = default;

  Status parse_fields(std::string_view text);
  [[nodiscard]] bool matches_day(int month, int day, int weekday) const;
  [[nodiscard]] std::optional<int64_t> next_in_day(int64_t second_of_day) const;
  [[nodiscard]] std::optional<int64_t> next_local(int64_t local_s, int64_t end_s) const;
  [[nodiscard]] std::optional<int64_t> next_in_period(const TimeZone::Period& period,
                                                      int64_t instant_s, int64_t end_s) const;

  // Bit n is set if n matches; a Sunday has bit 0.
  uint64_t seconds_ = 0;
  uint64_t minutes_ = 0;
  uint32_t hours_ = 0;
  uint32_t days_ = 0;
  uint16_t months_ = 0;
  uint8_t weekdays_ = 0;
  bool hour_fixed_ = false;
  bool days_restricted_ = false;
  bool weekdays_restricted_ = false;
  TimeZone zone_;
};

}  // namespace tidemark::delay
