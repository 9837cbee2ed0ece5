// LogClock: the time of a shard, in which everything in its log is dated and due.
//
// It begins at the wall clock, or at the latest time in the log if that is later, and from then on
// goes with the monotonic clock: a step of the wall clock in either direction makes nothing early
// and nothing late that is under way. What names wall time is translated at its receipt, when the
// difference of the two clocks is known. A restart takes the wall clock anew.
//
// Thread: the shard's loop.
#pragma once

#include <algorithm>
#include <cstdint>

#include "log/base/clock.h"

namespace tidemark::shard {

struct Now {
  MonotonicTime monotonic;
  WallTime wall;

  // The wall clock first: if the thread loses its processor between the two, what is due is late,
  // never early.
  static Now of(Clock& clock) {
    const WallTime wall = clock.wall();
    return {clock.monotonic(), wall};
  }
};

class LogClock {
 public:
  // Never below `at_least_ms`, the latest time in the log.
  void start(const Now& now, int64_t at_least_ms) {
    started_ = true;
    anchor_ = now.monotonic;
    anchor_ms_ = std::max(now.wall.ms, at_least_ms);
    begun_at_wall_ = now.wall.ms >= at_least_ms;
  }

  [[nodiscard]] bool started() const { return started_; }

  // Whole milliseconds, rounded down.
  [[nodiscard]] int64_t ms(const Now& now) const {
    return anchor_ms_ + (now.monotonic.ns - anchor_.ns) / kNsPerMs;
  }

  // The first millisecond that begins no earlier than `delay_ms` from now.
  [[nodiscard]] int64_t after(const Now& now, int64_t delay_ms) const {
    const int64_t elapsed_ns = now.monotonic.ns - anchor_.ns;
    return anchor_ms_ + delay_ms + (elapsed_ns + kNsPerMs - 1) / kNsPerMs;
  }

  // How far this clock is ahead of the wall clock, give or take a millisecond for rounding.
  [[nodiscard]] int64_t ahead_ms(const Now& now) const { return ms(now) - now.wall.ms; }

  // The first millisecond that begins no earlier than this wall time, as the clocks stand now; or
  // one later, where the difference is not known better than that. A step of the wall clock by less
  // than a millisecond is not noticed.
  [[nodiscard]] int64_t at(const Now& now, int64_t wall_ms) const {
    const int64_t ahead = ahead_ms(now);
    // It begins less than a millisecond behind the wall clock.
    const bool in_step = begun_at_wall_ && (ahead == 0 || ahead == -1);
    const int64_t wall = std::max<int64_t>(wall_ms, 0);
    return in_step ? wall : wall + ahead + 1;
  }

  // The monotonic time at which this millisecond begins.
  [[nodiscard]] MonotonicTime monotonic(int64_t ms) const {
    return {anchor_.ns + (ms - anchor_ms_) * kNsPerMs};
  }

 private:
  static constexpr int64_t kNsPerMs = 1'000'000;

  bool started_ = false;
  bool begun_at_wall_ = true;
  MonotonicTime anchor_;
  int64_t anchor_ms_ = 0;
};

}  // namespace tidemark::shard
