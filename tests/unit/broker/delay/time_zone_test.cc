#include "broker/delay/time_zone.h"

#include <chrono>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark::delay {
namespace {

int64_t utc_s(int year, unsigned month, unsigned day, int hour = 0, int minute = 0) {
  const std::chrono::sys_days date(std::chrono::year(year) / std::chrono::month(month) /
                                   std::chrono::day(day));
  const std::chrono::sys_seconds instant =
      date + std::chrono::hours(hour) + std::chrono::minutes(minute);
  return instant.time_since_epoch().count();
}

TimeZone zone(const std::string& name) {
  Result<TimeZone> found = TimeZone::find(name);
  REQUIRE_MESSAGE(found.ok(), found.error().to_string());
  return *found;
}

// Offsets in minutes just before and from the instant on.
void check_change(const TimeZone& zone, int64_t instant_s, int before, int after) {
  CHECK(zone.period_at(instant_s - 1).offset_s == before * 60);
  CHECK(zone.period_at(instant_s - 1).end_s == instant_s);
  CHECK(zone.period_at(instant_s).offset_s == after * 60);
  CHECK(zone.period_at(instant_s).begin_s == instant_s);
}

TEST_CASE("UTC needs no database and never changes") {
  for (const TimeZone& utc : {TimeZone(), zone(""), zone("UTC")}) {
    for (const int64_t instant_s : {int64_t{0}, utc_s(2026, 3, 29, 1), utc_s(9999, 12, 31)}) {
      CHECK(utc.period_at(instant_s).offset_s == 0);
      CHECK(utc.period_at(instant_s).end_s > utc_s(10'000, 1, 1));
    }
  }
}

TEST_CASE("names that are no zone are refused and the text says what is allowed") {
  for (const std::string& name :
       {std::string("Europe/Atlantis"), std::string("europe/berlin"), std::string("Europe"),
        std::string("localtime"), std::string("posixrules"), std::string("right/Europe/Berlin"),
        std::string("../../../etc/passwd"), std::string("/etc/localtime"),
        std::string("Europe/Berlin "), std::string("Europe/../Europe/Berlin"),
        std::string("Europe/Berlin\0", 14), std::string("\xFF"), std::string(" "),
        std::string(65, 'A')}) {
    CAPTURE(name);
    const Result<TimeZone> found = TimeZone::find(name);
    REQUIRE(!found.ok());
    CHECK(found.error().code() == ErrorCode::kInvalidArgument);
    CHECK(found.error().context().find("IANA") != std::string_view::npos);
  }
}

TEST_CASE("changes of 2026 are where the law puts them") {
  const TimeZone berlin = zone("Europe/Berlin");
  check_change(berlin, utc_s(2026, 3, 29, 1), 60, 120);
  check_change(berlin, utc_s(2026, 10, 25, 1), 120, 60);
  const TimeZone new_york = zone("America/New_York");
  check_change(new_york, utc_s(2026, 3, 8, 7), -300, -240);
  check_change(new_york, utc_s(2026, 11, 1, 6), -240, -300);
  const TimeZone lord_howe = zone("Australia/Lord_Howe");
  check_change(lord_howe, utc_s(2026, 4, 4, 15), 660, 630);
  check_change(lord_howe, utc_s(2026, 10, 3, 15, 30), 630, 660);
  // Another name of the same zone.
  check_change(zone("US/Eastern"), utc_s(2026, 3, 8, 7), -300, -240);
  CHECK(zone("Asia/Kolkata").period_at(utc_s(2026, 7, 1)).offset_s == 330 * 60);
}

TEST_CASE("changes go on after 2037, where the database ends") {
  const TimeZone berlin = zone("Europe/Berlin");
  check_change(berlin, utc_s(2037, 10, 25, 1), 120, 60);
  check_change(berlin, utc_s(2038, 3, 28, 1), 60, 120);
  check_change(berlin, utc_s(2038, 10, 31, 1), 120, 60);
  check_change(berlin, utc_s(2040, 3, 25, 1), 60, 120);  // a leap year
  check_change(berlin, utc_s(2054, 3, 29, 1), 60, 120);
  check_change(berlin, utc_s(2100, 3, 28, 1), 60, 120);  // none, though divisible by four
  const TimeZone new_york = zone("America/New_York");
  check_change(new_york, utc_s(2050, 3, 13, 7), -300, -240);
  check_change(new_york, utc_s(2050, 11, 6, 6), -240, -300);
  // Summer over the turn of the year.
  const TimeZone lord_howe = zone("Australia/Lord_Howe");
  check_change(lord_howe, utc_s(2038, 4, 3, 15), 660, 630);
  check_change(lord_howe, utc_s(2044, 10, 1, 15, 30), 630, 660);
  // Clocks of this zone last moved in 1945.
  CHECK(zone("Asia/Kolkata").period_at(utc_s(2060, 7, 1)).offset_s == 330 * 60);
}

TEST_CASE("periods follow one another without a hole, for a hundred years") {
  for (const std::string& name :
       {std::string("Europe/Berlin"), std::string("America/New_York"),
        std::string("Australia/Lord_Howe"), std::string("Africa/Casablanca"),
        std::string("Asia/Gaza"), std::string("America/Sao_Paulo"), std::string("Asia/Kolkata"),
        std::string("Pacific/Apia"), std::string("Etc/GMT+12")}) {
    CAPTURE(name);
    const TimeZone here = zone(name);
    int periods = 0;
    for (int64_t instant_s = 0; instant_s < utc_s(2120, 1, 1); ++periods) {
      const TimeZone::Period period = here.period_at(instant_s);
      REQUIRE(period.begin_s <= instant_s);
      REQUIRE(period.end_s > instant_s);
      if (periods > 0) {
        REQUIRE(period.begin_s == instant_s);
      }
      REQUIRE(here.period_at((instant_s + period.end_s - 1) / 2).offset_s == period.offset_s);
      instant_s = period.end_s;
    }
    CHECK(periods < 1000);
  }
}

}  // namespace
}  // namespace tidemark::delay
