// Exceptions: the library throws for an unknown name, an unreadable file and a missing database. A
// search of its list of names would avoid only the first of these, so this file, and no other of
// the module, is compiled with exceptions (broker/module.mk), and they end in find(). After find()
// has read the zone, a look-up has nothing left to throw; period_at() is noexcept to hold it to
// that.
#include "broker/delay/time_zone.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>
#include <string>

// As Debian builds the library: classes have other members without it.
#define USE_OS_TZDB 1
#include <date/date.h>
#include <date/tz.h>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::delay {
namespace {

using Seconds = std::chrono::seconds;
using Period = TimeZone::Period;

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();
// The last year whose changes the database lists.
constexpr int kListedYearMax = 2037;

constexpr date::sys_days march_first(date::year year) { return date::sys_days(year / 3 / 1); }

constexpr int64_t seconds_of(date::sys_days day) {
  return std::chrono::duration_cast<Seconds>(day.time_since_epoch()).count();
}

Period listed_period(const date::time_zone& zone, int64_t instant_s) {
  const date::sys_info info = zone.get_info(date::sys_seconds(Seconds(instant_s)));
  return {.begin_s = info.begin.time_since_epoch().count(),
          .end_s = info.end.time_since_epoch().count(),
          .offset_s = info.offset.count()};
}

// The year, from March to February, that `instant_s` lies in.
date::year march_year(int64_t instant_s) {
  const date::sys_days day = date::floor<date::days>(date::sys_seconds(Seconds(instant_s)));
  const date::year year = date::year_month_day(day).year();
  return day < march_first(year) ? year - date::years(1) : year;
}

// The latest listed year of which every day from March on has the weekday it has in `year`.
date::year model_of(date::year year) {
  date::year model(kListedYearMax);
  while ((march_first(year) - march_first(model)).count() % 7 != 0) {
    model -= date::years(1);  // within eleven years all seven weekdays occur
  }
  return model;
}

// As listed_period(), when the list ended before `instant_s` although the zone still has rules.
Period continued_period(const date::time_zone& zone, int64_t instant_s) {
  const date::year year = march_year(instant_s);
  const int64_t year_begin_s = seconds_of(march_first(year));
  const int64_t shift_s = year_begin_s - seconds_of(march_first(model_of(year)));
  const Period model = listed_period(zone, instant_s - shift_s);
  return {.begin_s = std::max(model.begin_s + shift_s, year_begin_s),
          .end_s = std::min(model.end_s + shift_s, seconds_of(march_first(year + date::years(1)))),
          .offset_s = model.offset_s};
}

}  // namespace

Result<TimeZone> TimeZone::find(std::string_view name) {
  const auto bad = [](std::string what) {
    return Status(ErrorCode::kInvalidArgument,
                  "zone " + std::move(what) +
                      "; allowed are IANA names such as Europe/Berlin, or nothing for UTC");
  };
  if (name.empty() || name == "UTC") {
    return TimeZone();
  }
  if (name.size() > limits::kZoneNameBytesMax) {
    return bad("has " + std::to_string(name.size()) + " bytes, at most " +
               std::to_string(limits::kZoneNameBytesMax));
  }
  // What is beside the zones in that folder: localtime is no name, right/ counts leap seconds.
  if (name.front() < 'A' || name.front() > 'Z') {
    return bad("is not known here");
  }
  try {
    const date::time_zone* zone = date::locate_zone(name);
    static_cast<void>(zone->get_info(date::sys_seconds()));  // reads its file
    return TimeZone(zone);
  } catch (const std::exception&) {
    // The library's text repeats the name, whatever bytes it has.
    return bad("is not known here, or the time zone data (package tzdata) cannot be read");
  }
}

Period TimeZone::period_at(int64_t instant_s) const noexcept {
  if (zone_ == nullptr) {
    return {.begin_s = -kForever, .end_s = kForever, .offset_s = 0};
  }
  static constexpr int64_t kLastYearBegin =
      seconds_of(date::sys_days(date::year(kListedYearMax) / 1 / 1));
  static constexpr int64_t kContinuedFrom = seconds_of(march_first(date::year(kListedYearMax + 1)));
  Period period = listed_period(*zone_, instant_s);
  // A list that ends earlier means that the rules were given up; one that goes beyond (some zones
  // follow the moon) was written out as far as anybody knows. What lies behind the last entry of a
  // list has no end.
  static constexpr int64_t kNoEnd = seconds_of(date::sys_days(date::year(9999) / 1 / 1));
  const bool continued =
      period.begin_s >= kLastYearBegin && period.begin_s < kContinuedFrom && period.end_s > kNoEnd;
  if (continued && instant_s >= kContinuedFrom) {
    period = continued_period(*zone_, instant_s);
  } else if (continued) {
    period.end_s = kContinuedFrom;
  }
  TIDEMARK_DCHECK(period.begin_s <= instant_s && instant_s < period.end_s);
  return period;
}

}  // namespace tidemark::delay
