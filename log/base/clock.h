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

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual MonotonicTime monotonic() = 0;
  [[nodiscard]] virtual WallTime wall() = 0;
};

// CLOCK_MONOTONIC and CLOCK_REALTIME. Thread-safe; lives for ever.
Clock& system_clock();

}  // namespace tidemark
