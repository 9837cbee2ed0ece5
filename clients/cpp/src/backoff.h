// Pauses between attempts: doubling from min to max, each drawn from the upper half of its step so
// that many clients do not come back at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "log/base/random.h"

namespace tidemark::client_core {

inline constexpr int64_t kNsPerMs = 1'000'000;

class Backoff {
 public:
  // Requires: 0 < min_ns <= max_ns.
  Backoff(int64_t min_ns, int64_t max_ns) : min_ns_(min_ns), max_ns_(max_ns), step_ns_(min_ns) {}

  // The next pause; at least half the current step, at most the step.
  int64_t next_ns(Random& random) {
    const int64_t step = step_ns_;
    step_ns_ = std::min(max_ns_, step_ns_ * 2);
    return step - static_cast<int64_t>(random.below(static_cast<uint64_t>(step / 2 + 1)));
  }

  void reset() { step_ns_ = min_ns_; }

 private:
  int64_t min_ns_;
  int64_t max_ns_;
  int64_t step_ns_;
};

}  // namespace tidemark::client_core
