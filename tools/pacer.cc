#include "tools/pacer.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tools/interrupt.h"

namespace tidemark::tools {
namespace {

// Shorter sleeps cost more than they are worth; longer ones would let an interrupt wait.
constexpr int64_t kSleepNsMin = 100'000;
constexpr int64_t kSleepNsMax = 50'000'000;

}  // namespace

Pacer::Pacer(double per_second, MonotonicTime start)
    : interval_ns_(per_second > 0 ? 1e9 / per_second : 0), start_(start), now_(start) {
  if (!unlimited()) {
    // The kernel may add 50 us to a sleep by default; that would show in every latency.
    (void)prctl(PR_SET_TIMERSLACK, 1'000UL, 0UL, 0UL, 0UL);
  }
}

MonotonicTime Pacer::wait(uint64_t index) {
  if (unlimited()) {
    return system_clock().monotonic();
  }
  const MonotonicTime due = intended(index);
  while (due > now_) {
    now_ = system_clock().monotonic();
    if (due <= now_ || interrupted()) {
      break;
    }
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(std::clamp(due.ns - now_.ns, kSleepNsMin, kSleepNsMax)));
  }
  return due;
}

}  // namespace tidemark::tools
