// How a workload and its baseline take turns: half a slice of the workload, baseline, a slice of
// it, baseline, ... , half a slice of it. Neither side is always first, so a disk that becomes
// slower (a burst that ends) or faster on the way favours neither.
//
// Thread: pure functions.
#pragma once

#include <cstdint>

#include "tools/bench_send.h"

namespace tidemark::tools {

struct Turns {
  uint64_t baselines = 0;  // 0: the workload is in one piece
  SendLimits slice;        // between two baselines

  // Of the piece before baseline `turn`, or of the last one.
  [[nodiscard]] SendLimits limits(uint64_t turn, const SendLimits& all) const;
};

// Slices of about a second, or of as many bytes if only a count is given: short enough that both
// sides see the same disk, long enough that a pause costs nothing.
Turns plan_turns(const BenchOptions& options, const SendLimits& all);

}  // namespace tidemark::tools
