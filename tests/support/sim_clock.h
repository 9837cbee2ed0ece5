// A Clock that stands still until the test moves it.
#pragma once

#include <cstdint>

#include "log/base/clock.h"

namespace tidemark {

class SimClock final : public Clock {
 public:
  // Both clocks start away from zero, so that a forgotten initial value shows.
  static constexpr int64_t kStartNs = 1'000'000'000;
  static constexpr int64_t kStartWallMs = 1'700'000'000'000;

  MonotonicTime monotonic() override { return {monotonic_ns_}; }

  WallTime wall() override { return {wall_ms_}; }

  // Both clocks go on together.
  void advance_ms(int64_t ms) { advance_ns(ms * 1'000'000); }

  void advance_ns(int64_t ns) {
    monotonic_ns_ += ns;
    rest_ns_ += ns;
    wall_ms_ += rest_ns_ / 1'000'000;
    rest_ns_ %= 1'000'000;
  }

  // Somebody sets the wall clock; time as such goes on as before.
  void step_wall_ms(int64_t ms) { wall_ms_ += ms; }

 private:
  int64_t monotonic_ns_ = kStartNs;
  int64_t wall_ms_ = kStartWallMs;
  int64_t rest_ns_ = 0;
};

}  // namespace tidemark
