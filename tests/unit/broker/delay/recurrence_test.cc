#include "broker/delay/recurrence.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark::delay {
namespace {

constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kInt64Min = std::numeric_limits<int64_t>::min();
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();

Recurrence every(int64_t every_ms) {
  return {.kind = Recurrence::Kind::kEvery, .every_ms = every_ms, .cron = "", .zone = ""};
}

Recurrence cron(std::string text, std::string zone = "") {
  return {.kind = Recurrence::Kind::kCron,
          .every_ms = 0,
          .cron = std::move(text),
          .zone = std::move(zone)};
}

// "2026-03-29 01:00:00" in UTC.
int64_t utc_ms(const std::string& text) {
  int year = 0;
  unsigned month = 0;
  unsigned day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  REQUIRE(std::sscanf(text.c_str(), "%d-%u-%u %d:%d:%d", &year, &month, &day, &hour, &minute,
                      &second) == 6);
  const std::chrono::sys_days date(std::chrono::year(year) / std::chrono::month(month) /
                                   std::chrono::day(day));
  const std::chrono::sys_seconds instant =
      date + std::chrono::hours(hour) + std::chrono::minutes(minute) + std::chrono::seconds(second);
  return int64_t{instant.time_since_epoch().count()} * 1000;
}

std::string to_text(int64_t instant_ms) {
  const std::chrono::sys_seconds instant(std::chrono::seconds(instant_ms / 1000));
  const auto day = std::chrono::floor<std::chrono::days>(instant);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(instant - day);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u %02d:%02d:%02d", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()));
  return text;
}

using Texts = std::vector<std::string>;

// The first `count` occurrences after `after`, in UTC.
Texts occurrences(const Recurrence& recurrence, const std::string& after, size_t count) {
  const Status status = check_recurrence(recurrence);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  Texts texts;
  int64_t instant_ms = utc_ms(after);
  while (texts.size() < count) {
    const std::optional<int64_t> next = next_occurrence(recurrence, 0, instant_ms);
    if (!next) {
      texts.emplace_back("none");
      break;
    }
    instant_ms = *next;
    texts.push_back(to_text(instant_ms));
  }
  return texts;
}

std::string first(const Recurrence& recurrence, const std::string& after) {
  return occurrences(recurrence, after, 1).front();
}

// --- Every ---

TEST_CASE("every: the next of anchor and steps, strictly after") {
  const Recurrence minute = every(60'000);
  CHECK(next_occurrence(minute, 5'000, 5'000) == 65'000);
  CHECK(next_occurrence(minute, 5'000, 64'999) == 65'000);
  CHECK(next_occurrence(minute, 5'000, 65'000) == 125'000);
  CHECK(next_occurrence(minute, 5'000, 4'999) == 5'000);
  CHECK(next_occurrence(minute, 5'000, kInt64Min) == 5'000);
  CHECK(next_occurrence(minute, -5'000, 0) == 55'000);
  CHECK(next_occurrence(every(1'001), 7, 1'000'000'000'000) ==
        7 + 1'001 * ((1'000'000'000'000 - 7) / 1'001 + 1));
}

TEST_CASE("every: nothing overflows, and nothing is after the year 9999") {
  CHECK(next_occurrence(every(1'000), kInt64Min, kInt64Max) == std::nullopt);
  CHECK(next_occurrence(every(1'000), kInt64Max, 0) == std::nullopt);
  CHECK(next_occurrence(every(limits::kRecurrenceEveryMsMax), kInt64Min, 0).has_value());
  CHECK(next_occurrence(every(1'000), 0, utc_ms("9999-12-31 23:59:58")) ==
        utc_ms("9999-12-31 23:59:59"));
  CHECK(next_occurrence(every(1'000), 0, utc_ms("9999-12-31 23:59:59")) == std::nullopt);
}

TEST_CASE("every: from a second to 34 years") {
  CHECK(check_recurrence(every(1'000)).ok());
  CHECK(check_recurrence(every(limits::kRecurrenceEveryMsMax)).ok());
  for (const int64_t bad :
       {int64_t{0}, int64_t{999}, limits::kRecurrenceEveryMsMax + 1, kInt64Min, kInt64Max}) {
    const Status status = check_recurrence(every(bad));
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    CHECK(status.context().find("every") != std::string_view::npos);
    CHECK(status.context().find("1000") != std::string_view::npos);
  }
}

TEST_CASE("a kind that does not exist is refused") {
  Recurrence recurrence = every(1'000);
  recurrence.kind = static_cast<Recurrence::Kind>(3);
  CHECK(check_recurrence(recurrence).context().find("kind") != std::string_view::npos);
}

// --- Cron: syntax and calendar, in UTC ---

TEST_CASE("cron: what the fields mean") {
  struct Case {
    const char* cron;
    const char* after;
    const char* next;
  };

  const Case cases[] = {
      {"* * * * * *", "2026-01-01 00:00:00", "2026-01-01 00:00:01"},
      {"0 * * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01:00"},
      {"*/15 * * * * *", "2026-01-01 00:00:45", "2026-01-01 00:01:00"},
      {"10-40/5 * * * * *", "2026-01-01 00:00:40", "2026-01-01 00:01:10"},
      {"10-40/7 * * * * *", "2026-01-01 00:00:31", "2026-01-01 00:00:38"},
      {"5,3,4 * * * * *", "2026-01-01 00:00:03", "2026-01-01 00:00:04"},
      {"59 59 23 31 12 *", "2026-12-31 23:59:58", "2026-12-31 23:59:59"},
      {"59 59 23 31 12 *", "2026-12-31 23:59:59", "2027-12-31 23:59:59"},
      {"30 15 9 * * *", "2026-01-01 09:15:30", "2026-01-02 09:15:30"},
      {"30 15 9 * * *", "2026-01-01 09:15:29", "2026-01-01 09:15:30"},
      {"0 30 9 * * *", "2026-01-01 09:30:01", "2026-01-02 09:30:00"},
      {"0 15,45 9,17 * * *", "2026-01-01 09:45:00", "2026-01-01 17:15:00"},
      {"\t00  05 07 01 01 *  ", "2026-01-01 00:00:00", "2026-01-01 07:05:00"},
      // Months and days of the week by name.
      {"0 0 0 1 JAN *", "2026-01-01 00:00:00", "2027-01-01 00:00:00"},
      {"0 0 0 1 feb,Dec *", "2026-02-01 00:00:00", "2026-12-01 00:00:00"},
      {"0 0 0 1 mar-may/2 *", "2026-03-01 00:00:00", "2026-05-01 00:00:00"},
      {"0 0 12 ? * MON-FRI", "2026-11-27 12:00:00", "2026-11-30 12:00:00"},
      {"0 0 12 ? * sat", "2026-11-25 00:00:00", "2026-11-28 12:00:00"},
      {"0 0 12 ? * 0", "2026-11-25 00:00:00", "2026-11-29 12:00:00"},
      {"0 0 12 ? * 7", "2026-11-25 00:00:00", "2026-11-29 12:00:00"},
      {"0 0 12 ? * 6-7", "2026-11-28 12:00:00", "2026-11-29 12:00:00"},
      {"0 0 12 ? * FRI-SUN", "2026-11-28 12:00:00", "2026-11-29 12:00:00"},
      {"0 0 12 ? * FRI-SUN", "2026-11-29 12:00:00", "2026-12-04 12:00:00"},
      {"0 0 12 ? * 0-0/5", "2026-11-25 00:00:00", "2026-11-29 12:00:00"},
      {"0 0 12 ? * 0-2", "2026-11-25 00:00:00", "2026-11-29 12:00:00"},
      // Both day fields: either, if both are restricted; else both.
      {"0 0 0 13 * FRI", "2026-11-25 00:00:00", "2026-11-27 00:00:00"},
      {"0 0 0 13 * FRI", "2026-12-12 00:00:00", "2026-12-13 00:00:00"},
      {"0 0 0 13 * ?", "2026-11-25 00:00:00", "2026-12-13 00:00:00"},
      {"0 0 0 */2 * FRI", "2026-11-25 00:00:00", "2026-11-27 00:00:00"},
      {"0 0 0 */2 * FRI", "2026-11-27 00:00:00", "2026-12-11 00:00:00"},
      {"0 0 0 */30 2 MON", "2026-02-01 00:00:00", "2027-02-01 00:00:00"},
      // Months are not all alike.
      {"0 0 0 31 * *", "2026-03-31 00:00:00", "2026-05-31 00:00:00"},
      {"0 0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"},
      {"0 0 0 29 2 *", "2096-02-29 00:00:00", "2104-02-29 00:00:00"},
      {"0 0 0 30 2,4 *", "2026-01-01 00:00:00", "2026-04-30 00:00:00"},
      {"0 0 0 30 2 SUN", "2026-01-01 00:00:00", "2026-02-01 00:00:00"},
      {"@yearly", "2026-01-01 00:00:00", "2027-01-01 00:00:00"},
      {"@monthly", "2026-01-01 00:00:00", "2026-02-01 00:00:00"},
      {"@weekly", "2026-11-25 00:00:00", "2026-11-29 00:00:00"},
      {"@Daily", "2026-12-31 00:00:00", "2027-01-01 00:00:00"},
      {"@hourly", "2026-12-31 23:00:00", "2027-01-01 00:00:00"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.cron);
    CHECK(first(cron(c.cron), c.after) == c.next);
  }
}

TEST_CASE("cron: strictly after, to the millisecond, from 1970 to 9999") {
  const Recurrence minute = cron("0 * * * * *");
  CHECK(next_occurrence(minute, 0, 59'999) == 60'000);
  CHECK(next_occurrence(minute, 0, 60'000) == 120'000);
  CHECK(next_occurrence(minute, 0, 60'001) == 120'000);
  CHECK(next_occurrence(minute, 0, -1) == 0);
  CHECK(next_occurrence(minute, 0, kInt64Min) == 0);
  CHECK(next_occurrence(minute, 0, kInt64Max) == std::nullopt);
  CHECK(next_occurrence(minute, 0, utc_ms("9999-12-31 23:58:59")) == utc_ms("9999-12-31 23:59:00"));
  CHECK(next_occurrence(minute, 0, utc_ms("9999-12-31 23:59:00")) == std::nullopt);
  CHECK(first(cron("* * * * * *", "Europe/Berlin"), "9999-12-31 23:59:59") == "none");
  CHECK(next_occurrence(cron("* * * * * *", "America/New_York"), 0, kInt64Min) == 0);
}

TEST_CASE("cron: what is wrong is refused, with the field and what is allowed") {
  struct Case {
    std::string cron;
    const char* says;
  };

  const Case cases[] = {
      {"", "0 fields"},
      {"* * * * *", "5 fields; six are needed"},
      {"* * * * * * *", "7 fields"},
      {"@reboot", "@yearly"},
      {"60 * * * * *", "second '60' is not understood; allowed are * and numbers 0-59"},
      {"* 60 * * * *", "minute"},
      {"* * 24 * * *", "hour '24' is not understood; allowed are * and numbers 0-23"},
      {"* * * 0 * *", "day of month"},
      {"* * * 32 * *", "day of month"},
      {"* * * * 0 *", "month '0'"},
      {"* * * * 13 *", "month '13' is not understood; allowed are * and numbers 1-12 or JAN-DEC"},
      {"* * * * JANUARY *", "month"},
      {"* * * * MON *", "month"},
      {"* * * * * 8", "day of week"},
      {"* * * * * JAN", "day of week"},
      {"? * * * * *", "second '?'"},
      {"* * * ?/2 * *", "day of month"},
      {"* * * 1,? * *", "day of month"},
      {"-1 * * * * *", "second"},
      {"1- * * * * *", "second"},
      {"1-2-3 * * * * *", "second"},
      {"5-3 * * * * *", "'5-3' ends before it begins"},
      {"* * 22-2 * * *", "hour '22-2' ends before it begins"},
      {"*/0 * * * * *", "needs a step from 1 to 59"},
      {"*/60 * * * * *", "needs a step from 1 to 59"},
      {"*/ * * * * *", "needs a step"},
      {"*/2/3 * * * * *", "needs a step"},
      {"*/-1 * * * * *", "needs a step"},
      {"5/15 * * * * *", "'5/15' has a step but no range"},
      {"*-5 * * * * *", "second"},
      {"1,,2 * * * * *", "second ''"},
      {",1 * * * * *", "second"},
      {"1, * * * * *", "second"},
      {"001 * * * * *", "second '001'"},
      {"1.5 * * * * *", "second"},
      {"L * * * * *", "second"},
      {"* * * L * *", "day of month"},
      {"* * * * * 5#2", "day of week"},
      {std::string("\x01\xFF * * * * *"), "'\?\?'"},
      {std::string("\0 * * * * *", 11), "'?'"},
      {"0\n0 0 * * *", "5 fields"},
      {"0 0 0 30 2 *", "never matches"},
      {"0 0 0 31 2,4,6,9,11 *", "never matches"},
      {"0 0 0 30,31 2 ?", "never matches"},
      {std::string(201, ' '), "201 bytes; allowed are 200"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.cron);
    const Status status = check_recurrence(cron(c.cron));
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    const std::string text(status.context());
    CHECK_MESSAGE(text.find(c.says) != std::string::npos, text);
    CHECK(text.size() < 500);
  }
  CHECK(check_recurrence(cron("* * * * * *", "Mars/Base")).context().find("zone") == 0);
  CHECK(next_occurrence(cron("* * * * * *", "Mars/Base"), 0, 0) == std::nullopt);
}

// --- Cron: clocks that move ---

struct DstCase {
  const char* zone;
  const char* cron;
  const char* after;  // UTC, as all below
  Texts next;
};

void check_all(const std::vector<DstCase>& cases) {
  for (const DstCase& c : cases) {
    CAPTURE(c.zone);
    CAPTURE(c.cron);
    CAPTURE(c.after);
    CHECK(occurrences(cron(c.cron, c.zone), c.after, c.next.size()) == c.next);
  }
}

TEST_CASE("a fixed hour is a time of day: left out it fires at the change") {
  check_all({
      // Berlin: 02:00 to 03:00 does not exist; the change is at 01:00 UTC.
      {"Europe/Berlin",
       "0 30 2 * * *",
       "2026-03-28 00:00:00",
       {"2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00"}},
      {"Europe/Berlin",
       "0 0 2 * * *",
       "2026-03-28 12:00:00",
       {"2026-03-29 01:00:00", "2026-03-30 00:00:00"}},
      {"Europe/Berlin",
       "59 59 1 * * *",
       "2026-03-28 12:00:00",
       {"2026-03-29 00:59:59", "2026-03-29 23:59:59"}},
      // Many left out are one; 03:00 is the same instant.
      {"Europe/Berlin",
       "0 */20 2 * * *",
       "2026-03-29 00:00:00",
       {"2026-03-29 01:00:00", "2026-03-30 00:00:00"}},
      {"Europe/Berlin",
       "0 0 2,3 * * *",
       "2026-03-29 00:00:00",
       {"2026-03-29 01:00:00", "2026-03-30 00:00:00", "2026-03-30 01:00:00"}},
      {"Europe/Berlin",
       "0 30 1-3 * * *",
       "2026-03-29 00:00:00",
       {"2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-29 01:30:00",
        "2026-03-29 23:30:00"}},
      {"Europe/Berlin",
       "0 0 3 * * *",
       "2026-03-29 00:00:00",
       {"2026-03-29 01:00:00", "2026-03-30 01:00:00"}},
      // Only on a day of the schedule.
      {"Europe/Berlin", "0 30 2 * * MON", "2026-03-28 12:00:00", {"2026-03-30 00:30:00"}},
      {"Europe/Berlin",
       "0 30 2 29 3 *",
       "2025-03-30 12:00:00",
       {"2026-03-29 01:00:00", "2027-03-29 00:30:00"}},
      {"America/New_York",
       "0 30 2 * * *",
       "2026-03-07 12:00:00",
       {"2026-03-08 07:00:00", "2026-03-09 06:30:00"}},
      // Lord Howe: 02:00 to 02:30 does not exist; the change is at 15:30 UTC of the day before.
      {"Australia/Lord_Howe",
       "0 15 2 * * *",
       "2026-10-03 12:00:00",
       {"2026-10-03 15:30:00", "2026-10-04 15:15:00"}},
      {"Australia/Lord_Howe",
       "0 45 2 * * *",
       "2026-10-03 12:00:00",
       {"2026-10-03 15:45:00", "2026-10-04 15:45:00"}},
      {"Australia/Lord_Howe",
       "0 0,30 2 * * *",
       "2026-10-03 12:00:00",
       {"2026-10-03 15:30:00", "2026-10-04 15:00:00"}},
  });
}

TEST_CASE("a fixed hour is a time of day: shown twice it fires the first time") {
  check_all({
      // Berlin: 02:00 to 03:00 from 00:00 UTC and again from 01:00 UTC.
      {"Europe/Berlin",
       "0 30 2 * * *",
       "2026-10-24 12:00:00",
       {"2026-10-25 00:30:00", "2026-10-26 01:30:00"}},
      {"Europe/Berlin",
       "0 0 2 * * *",
       "2026-10-24 12:00:00",
       {"2026-10-25 00:00:00", "2026-10-26 01:00:00"}},
      {"Europe/Berlin",
       "0 0 3 * * *",
       "2026-10-24 12:00:00",
       {"2026-10-25 02:00:00", "2026-10-26 02:00:00"}},
      {"Europe/Berlin",
       "0 */20 2-3 * * *",
       "2026-10-24 12:00:00",
       {"2026-10-25 00:00:00", "2026-10-25 00:20:00", "2026-10-25 00:40:00", "2026-10-25 02:00:00",
        "2026-10-25 02:20:00", "2026-10-25 02:40:00", "2026-10-26 01:00:00"}},
      // Asked from within the second pass.
      {"Europe/Berlin", "0 30 2 * * *", "2026-10-25 01:10:00", {"2026-10-26 01:30:00"}},
      {"Europe/Berlin", "* * 2 * * *", "2026-10-25 00:59:59", {"2026-10-26 01:00:00"}},
      {"America/New_York",
       "0 30 1 * * *",
       "2026-10-31 12:00:00",
       {"2026-11-01 05:30:00", "2026-11-02 06:30:00"}},
      // Lord Howe: 01:30 to 02:00 from 14:30 UTC and again from 15:00 UTC.
      {"Australia/Lord_Howe",
       "0 45 1 * * *",
       "2026-04-04 12:00:00",
       {"2026-04-04 14:45:00", "2026-04-05 15:15:00"}},
      {"Australia/Lord_Howe",
       "0 15 1 * * *",
       "2026-04-04 12:00:00",
       {"2026-04-04 14:15:00", "2026-04-05 14:45:00"}},
      {"Australia/Lord_Howe",
       "0 0 2 * * *",
       "2026-04-04 12:00:00",
       {"2026-04-04 15:30:00", "2026-04-05 15:30:00"}},
  });
}

TEST_CASE("a star in the hour is time that passes: whatever the clocks show") {
  check_all({
      {"Europe/Berlin",
       "0 30 * * * *",
       "2026-03-28 23:30:00",
       {"2026-03-29 00:30:00", "2026-03-29 01:30:00", "2026-03-29 02:30:00"}},
      {"Europe/Berlin",
       "0 30 * * * *",
       "2026-10-24 23:30:00",
       {"2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00"}},
      {"Europe/Berlin",
       "0 0 */2 * * *",
       "2026-03-28 22:00:00",
       {"2026-03-28 23:00:00", "2026-03-29 02:00:00", "2026-03-29 04:00:00"}},
      {"Europe/Berlin",
       "0 0 */2 * * *",
       "2026-10-24 21:00:00",
       {"2026-10-24 22:00:00", "2026-10-25 00:00:00", "2026-10-25 01:00:00",
        "2026-10-25 03:00:00"}},
      {"Australia/Lord_Howe",
       "0 */30 * * * *",
       "2026-10-03 14:30:00",
       {"2026-10-03 15:00:00", "2026-10-03 15:30:00", "2026-10-03 16:00:00"}},
      {"Australia/Lord_Howe",
       "0 0 * * * *",
       "2026-10-03 14:00:00",
       {"2026-10-03 14:30:00", "2026-10-03 16:00:00", "2026-10-03 17:00:00"}},
      {"Australia/Lord_Howe",
       "0 0 * * * *",
       "2026-04-04 13:30:00",
       {"2026-04-04 14:00:00", "2026-04-04 15:30:00", "2026-04-04 16:30:00"}},
      {"Australia/Lord_Howe",
       "0 45 * * * *",
       "2026-04-04 14:00:00",
       {"2026-04-04 14:45:00", "2026-04-04 15:15:00", "2026-04-04 16:15:00"}},
  });
}

TEST_CASE("every hour is every hour, for all of the years until 2045") {
  for (const char* zone : {"Europe/Berlin", "America/New_York"}) {
    for (const char* text : {"@hourly", "0 0 */1 * * *"}) {
      CAPTURE(zone);
      CAPTURE(text);
      const Result<CronSchedule> schedule = CronSchedule::parse(text, zone);
      REQUIRE(schedule.ok());
      const int64_t end_ms = utc_ms("2045-01-01 00:00:00");
      int64_t instant_ms = utc_ms("2026-01-01 00:00:00");
      while (instant_ms < end_ms && schedule->next(instant_ms) == instant_ms + kHourMs) {
        instant_ms += kHourMs;
      }
      CHECK(to_text(instant_ms) == to_text(end_ms));
    }
  }
}

TEST_CASE("once a day is once on each date, whatever the hour, for all of the years until 2050") {
  for (const char* zone : {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}) {
    for (const char* text : {"0 0 0 * * *", "0 30 1 * * *", "0 45 1 * * *", "0 15 2 * * *"}) {
      const Result<CronSchedule> schedule = CronSchedule::parse(text, zone);
      REQUIRE(schedule.ok());
      int64_t instant_ms = utc_ms("2026-01-01 12:00:00");
      int days = 0;
      while (instant_ms < utc_ms("2050-01-01 12:00:00")) {
        instant_ms = schedule->next(instant_ms).value_or(kInt64Max);
        ++days;
      }
      CHECK(days == 24 * 365 + 6 + 1);  // six leap days, and the one that ended the loop
    }
  }
}

TEST_CASE("a zone without changes, and a zone that left out a day") {
  check_all({
      {"Asia/Kolkata",
       "0 30 2 * * *",
       "2026-03-28 21:00:00",
       {"2026-03-29 21:00:00", "2026-03-30 21:00:00"}},
      {"", "0 30 2 * * *", "2026-03-28 12:00:00", {"2026-03-29 02:30:00", "2026-03-30 02:30:00"}},
      // Samoa had no 2011-12-30: from UTC-10 to UTC+14, at 10:00 UTC.
      {"Pacific/Apia",
       "0 0 12 * * *",
       "2011-12-29 12:00:00",
       {"2011-12-29 22:00:00", "2011-12-30 10:00:00", "2011-12-30 22:00:00"}},
  });
}

// --- Cron: against a reference that steps through every second ---

struct RandomField {
  std::string text;
  std::vector<bool> values;
  bool star = false;
};

RandomField random_field(Random& random, int low, int high, int items_max) {
  RandomField field;
  field.values.resize(static_cast<size_t>(high) + 1);
  const uint64_t items = random.between(1, static_cast<uint64_t>(items_max));
  for (uint64_t i = 0; i < items; ++i) {
    const auto pick = [&](int from, int to) {
      return static_cast<int>(
          random.between(static_cast<uint64_t>(from), static_cast<uint64_t>(to)));
    };
    int from = low;
    int to = high;
    int step = 1;
    std::string text = "*";
    switch (random.below(4)) {
      case 0:
        from = to = pick(low, high);
        text = std::to_string(from);
        break;
      case 1:
        from = pick(low, high);
        to = pick(from, high);
        step = pick(1, high);
        text = std::to_string(from) + "-" + std::to_string(to) + "/" + std::to_string(step);
        break;
      case 2:
        step = pick(1, high);
        text += "/" + std::to_string(step);
        field.star = true;
        break;
      default:
        field.star = true;
        break;
    }
    for (int value = from; value <= to; value += step) {
      field.values[static_cast<size_t>(value)] = true;
    }
    field.text += (field.text.empty() ? "" : ",") + text;
  }
  return field;
}

// The rules of recurrence.h, as they are written there, without any cleverness.
struct Reference {
  std::array<RandomField, 6> fields;
  TimeZone zone;

  [[nodiscard]] bool matches(int64_t local_s) const {
    const std::chrono::sys_seconds local{std::chrono::seconds(local_s)};
    const auto day = std::chrono::floor<std::chrono::days>(local);
    const std::chrono::year_month_day date(day);
    const auto second = static_cast<size_t>((local - day).count());
    const size_t weekday = std::chrono::weekday(day).c_encoding();
    const bool by_day = fields[3].values[static_cast<unsigned>(date.day())];
    const bool by_weekday = fields[5].values[weekday] || (weekday == 0 && fields[5].values[7]);
    const bool either = !fields[3].star && !fields[5].star;
    return fields[0].values[second % 60] && fields[1].values[second / 60 % 60] &&
           fields[2].values[second / 3600] &&
           fields[4].values[static_cast<unsigned>(date.month())] &&
           (either ? by_day || by_weekday : by_day && by_weekday);
  }

  // The first occurrence in (after_s, end_s), or -1.
  [[nodiscard]] int64_t next(int64_t after_s, int64_t end_s) const {
    constexpr int64_t kWarmUp = 7200;
    TimeZone::Period period = zone.period_at(after_s - kWarmUp);
    int64_t newest_s = after_s - kWarmUp + period.offset_s - 1;  // the newest time clocks showed
    for (int64_t instant_s = after_s - kWarmUp; instant_s < end_s; ++instant_s) {
      if (instant_s >= period.end_s) {
        period = zone.period_at(instant_s);
      }
      const int64_t local_s = instant_s + period.offset_s;
      bool fires = false;
      if (fields[2].star) {
        fires = matches(local_s);
      } else {
        // None if the clocks show nothing new, many if they leave something out.
        for (int64_t shown_s = newest_s + 1; shown_s <= local_s && !fires; ++shown_s) {
          fires = matches(shown_s);
        }
      }
      newest_s = std::max(newest_s, local_s);
      if (fires && instant_s > after_s) {
        return instant_s;
      }
    }
    return -1;
  }
};

TEST_CASE("random schedules near changes of clocks are what stepping through seconds says") {
  const uint64_t seed = 20261125;
  CAPTURE(seed);
  Random random(seed);

  struct Change {
    const char* zone;
    const char* instant;
  };

  const Change changes[] = {{"Europe/Berlin", "2026-03-29 01:00:00"},
                            {"Europe/Berlin", "2026-10-25 01:00:00"},
                            {"America/New_York", "2026-03-08 07:00:00"},
                            {"America/New_York", "2050-11-06 06:00:00"},
                            {"Australia/Lord_Howe", "2026-04-04 15:00:00"},
                            {"Australia/Lord_Howe", "2026-10-03 15:30:00"},
                            {"Asia/Kolkata", "2026-12-31 18:30:00"},
                            {"", "2028-02-29 00:00:00"}};
  int found = 0;
  for (int run = 0; run < 800; ++run) {
    const Change& change = changes[random.below(std::size(changes))];
    Reference reference;
    reference.fields = {random_field(random, 0, 59, 2), random_field(random, 0, 59, 2),
                        random_field(random, 0, 23, 3), random_field(random, 1, 31, 3),
                        random_field(random, 1, 12, 3), random_field(random, 0, 7, 2)};
    if (random.chance(1, 2)) {
      reference.fields[2] = random_field(random, 0, 4, 3);  // the hours in which clocks move
      reference.fields[2].values.resize(24);
      for (size_t hour = 5; hour < 24 && reference.fields[2].star; ++hour) {
        reference.fields[2].values[hour] = true;
      }
      if (reference.fields[2].star) {
        reference.fields[2].text = "*";
        reference.fields[2].values.assign(24, true);
      }
    }
    std::string text;
    for (const RandomField& field : reference.fields) {
      text += (text.empty() ? "" : " ") + field.text;
    }
    CAPTURE(run);
    CAPTURE(text);
    CAPTURE(change.zone);
    const Result<CronSchedule> schedule = CronSchedule::parse(text, change.zone);
    if (!schedule.ok()) {
      REQUIRE(schedule.error().context().find("never matches") != std::string_view::npos);
      continue;
    }
    reference.zone = *TimeZone::find(change.zone);
    const int64_t change_s = utc_ms(change.instant) / 1000;
    int64_t after_s = change_s - static_cast<int64_t>(random.below(18'000)) + 3600;
    const int64_t end_s = change_s + 36'000;
    CAPTURE(after_s);
    for (int i = 0; i < 4; ++i) {
      const int64_t next_s = schedule->next(after_s * 1000).value_or(-1000) / 1000;
      const int64_t expected_s = reference.next(after_s, end_s);
      REQUIRE((expected_s < 0 ? next_s == -1 || next_s >= end_s : next_s == expected_s));
      if (expected_s < 0) {
        break;
      }
      ++found;
      after_s = next_s + static_cast<int64_t>(random.below(1800));
    }
  }
  CHECK(found > 300);
}

}  // namespace
}  // namespace tidemark::delay
