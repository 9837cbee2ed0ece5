// An even pace: the intended time of the i-th event is start + i / rate, whatever the earlier ones
// took. A late event does not move the later ones, so latencies measured from the intended times
// count the waiting, too (no coordinated omission).
//
// Thread: one.
#pragma once

#include <cstdint>

#include "log/base/clock.h"

namespace tidemark::tools {

class Pacer {
 public:
  // `per_second` 0: no pace, every event is intended now.
  Pacer(double per_second, MonotonicTime start);

  // Intended time of event `index`.
  [[nodiscard]] MonotonicTime intended(uint64_t index) const {
    return MonotonicTime{start_.ns +
                         static_cast<int64_t>(static_cast<double>(index) * interval_ns_)};
  }

  [[nodiscard]] bool unlimited() const { return interval_ns_ <= 0; }

  // Waits until event `index` is due and gives the time it counts from: its intended time, or now
  // without a pace. Returns early when interrupted.
  MonotonicTime wait(uint64_t index);

 private:
  double interval_ns_;
  MonotonicTime start_;
  MonotonicTime now_;  // at the last look: an event in its past needs no other
};

}  // namespace tidemark::tools
