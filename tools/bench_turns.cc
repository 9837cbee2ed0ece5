#include "tools/bench_turns.h"

#include <algorithm>
#include <cmath>

namespace tidemark::tools {
namespace {

constexpr double kSliceSeconds = 1;
constexpr double kSliceBytes = 256e6;
constexpr double kSlicesMax = 60;

}  // namespace

SendLimits Turns::limits(uint64_t turn, const SendLimits& all) const {
  if (baselines == 0) {
    return all;
  }
  const bool last = turn == baselines;
  SendLimits out = slice;
  if (turn == 0 || last) {
    out.seconds /= 2;
    out.count = (slice.count + 1) / 2;
  }
  // The last one takes what the division left over.
  const uint64_t before = turn == 0 ? 0 : (slice.count + 1) / 2 + (turn - 1) * slice.count;
  out.count = all.count == 0 ? 0 : last ? all.count - before : out.count;
  return out;
}

Turns plan_turns(const BenchOptions& options, const SendLimits& all) {
  Turns turns;
  turns.slice = all;
  const double wanted = all.seconds > 0 ? all.seconds / kSliceSeconds
                                        : static_cast<double>(all.count) *
                                              static_cast<double>(options.size) / kSliceBytes;
  turns.baselines = static_cast<uint64_t>(std::clamp(std::round(wanted), 1.0, kSlicesMax));
  turns.baselines = all.count > 0 ? std::min(turns.baselines, all.count) : turns.baselines;
  turns.slice.seconds = all.seconds / static_cast<double>(turns.baselines);
  turns.slice.count = all.count / turns.baselines;
  return turns;
}

}  // namespace tidemark::tools
