#include "log/base/clock.h"

#include <ctime>

#include "log/base/check.h"

namespace tidemark {

namespace {

int64_t read_ns(clockid_t id) {
  timespec time{};
  TIDEMARK_CHECK(::clock_gettime(id, &time) == 0, "both clocks exist on every Linux");
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

class SystemClock final : public Clock {
 public:
  MonotonicTime monotonic() override { return {read_ns(CLOCK_MONOTONIC)}; }

  WallTime wall() override { return {read_ns(CLOCK_REALTIME) / 1'000'000}; }

  WallTimeNs wall_ns() override { return {read_ns(CLOCK_REALTIME)}; }
};

}  // namespace

Clock& system_clock() {
  // Never destroyed: threads that outlive main may still ask it.
  static auto* clock = new SystemClock;
  return *clock;
}

}  // namespace tidemark
