// TimeZone: the offset of a zone's local clocks from UTC, by instant.
//
// Zones come from the system's time zone database (Debian: tzdata in /usr/share/zoneinfo), read by
// Howard Hinnant's date library: the list of names once for the process, each zone's file at its
// first use. That takes some milliseconds of disk, so find() one zone before a loop runs. The data
// stays as it was read until the process ends; a node that has other data computes other times, so
// in a cluster one node computes and the others take its result from the log.
//
// The database lists changes up to 2037. Later ones follow from its last years: a year takes its
// changes from the latest year of 2027..2037 whose March 1 is the same day of the week, which is
// what a rule such as "last Sunday of March" comes to. A zone without changes in 2037 gets none.
//
// Thread: a value type; find() may be called from any thread. Errors: find() only.
#pragma once

#include <cstdint>
#include <string_view>

#include "log/base/result.h"

namespace date {
class time_zone;  // of the library: its header stays in time_zone.cc
}

namespace tidemark::delay {

class TimeZone {
 public:
  // Instants begin_s <= t < end_s, in seconds since 1970 UTC, all with one offset: local clocks
  // show t + offset_s. The next period may have the same offset.
  struct Period {
    int64_t begin_s;
    int64_t end_s;
    int64_t offset_s;
  };

  TimeZone() = default;  // UTC; needs no database

  // An IANA name ("Europe/Berlin"), exact, case included; empty is UTC. kInvalidArgument if there
  // is none of that name, or no database.
  static Result<TimeZone> find(std::string_view name);

  // The period around `instant_s`. Requires: years 1970 to 9999, give or take a day.
  [[nodiscard]] Period period_at(int64_t instant_s) const noexcept;

 private:
  explicit TimeZone(const date::time_zone* zone) : zone_(zone) {}

  const date::time_zone* zone_ = nullptr;  // lives as long as the process; null: UTC
};

}  // namespace tidemark::delay
