// The only place that reads time. Code that needs time takes it as an argument or asks a Clock.
#pragma once

#include <compare>
#include <cstdint>

namespace tidemark {

// Nanoseconds of a clock that never goes back; only differences mean anything.
struct MonotonicTime {
  int64_t ns = 0;

  friend constexpr auto operator<=>(const MonotonicTime&, const MonotonicTime&) = default;
};

// Milliseconds since 1970-01-01 UTC; may step in both directions.
struct WallTime {
  int64_t ms = 0;

  friend constexpr auto operator<=>(const WallTime&, const WallTime&) = default;
};

// The same clock in nanoseconds, for measuring: what is stored or sent is in milliseconds.
struct WallTimeNs {
  int64_t ns = 0;

  friend constexpr auto operator<=>(const WallTimeNs&, const WallTimeNs&) = default;
};

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual MonotonicTime monotonic() = 0;
  [[nodiscard]] virtual WallTime wall() = 0;

  // wall(), as fine as the clock can tell.
  [[nodiscard]] virtual WallTimeNs wall_ns() { return {wall().ms * 1'000'000}; }
};

// CLOCK_MONOTONIC and CLOCK_REALTIME. Thread-safe; lives for ever.
Clock& system_clock();

}  // namespace tidemark
