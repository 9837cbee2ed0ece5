// tidemark bench produce: acknowledged messages per second and the latency of each acknowledgement.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/baseline.h"
#include "tools/bench_send.h"
#include "tools/cli.h"
#include "tools/output.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr double kDefaultSeconds = 10;
// A baseline slice for about each second of sending, or for as many bytes if only a count is given:
// short enough that both sides see the same disk, long enough that a pause costs nothing.
constexpr double kSliceSeconds = 1;
constexpr double kSliceBytes = 256e6;
constexpr double kSlicesMax = 60;

// How a run and its baseline take turns: half a slice of messages, baseline, a slice of messages,
// baseline, ... , half a slice of messages. Neither side is always first, so a disk that becomes
// slower (a burst that ends) or faster on the way favours neither.
struct Turns {
  uint64_t baselines = 0;  // 0: the messages are sent in one piece
  SendLimits slice;        // between two baselines

  [[nodiscard]] SendLimits limits(uint64_t turn, const SendLimits& all) const {
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
};

Turns plan_turns(const BenchOptions& options, const SendLimits& all, bool with_baseline) {
  Turns turns;
  turns.slice = all;
  // A pace must not be interrupted.
  if (!with_baseline || options.rate > 0) {
    return turns;
  }
  const double wanted = all.seconds > 0 ? all.seconds / kSliceSeconds
                                        : static_cast<double>(all.count) *
                                              static_cast<double>(options.size) / kSliceBytes;
  turns.baselines = static_cast<uint64_t>(std::clamp(std::round(wanted), 1.0, kSlicesMax));
  turns.baselines = all.count > 0 ? std::min(turns.baselines, all.count) : turns.baselines;
  turns.slice.seconds = all.seconds / static_cast<double>(turns.baselines);
  turns.slice.count = all.count / turns.baselines;
  return turns;
}

// Sends everything, in turns with the baseline. Gives the seconds that sending took, each piece up
// to its last acknowledgement: sending alone is not storing.
double send_in_turns(Sender& sender, const BenchOptions& options, const SendLimits& all,
                     const AckCounts& counts, Baseline& baseline, Progress& progress) {
  const Payloads payloads(options.size);
  const auto make_value = [&payloads](uint64_t index, MonotonicTime) { return payloads.at(index); };
  const Turns turns = plan_turns(options, all, baseline.wanted());
  const double fixed_half = options.baseline_seconds.value_or(kBaselineSecondsDefault) / 2;
  if (turns.baselines == 0) {
    baseline.measure(fixed_half);
  }
  double sending = 0;
  for (uint64_t turn = 0; turn <= turns.baselines && !sender.stopped(); ++turn) {
    const SendLimits limits = turns.limits(turn, all);
    if (all.count > 0 && limits.count == 0) {
      break;
    }
    baseline.workload_begins();
    const MonotonicTime started = sender.send(limits, make_value, progress);
    sender.flush();
    const double seconds =
        static_cast<double>(std::max(counts.last_ack.ns, started.ns) - started.ns) / 1e9;
    sending += seconds;
    baseline.workload_ends();
    if (turn < turns.baselines) {
      // By default as long as the messages of a whole slice take.
      const double as_long = turn == 0 ? 2 * seconds : seconds;
      baseline.measure(options.baseline_seconds
                           ? *options.baseline_seconds / static_cast<double>(turns.baselines)
                           : as_long);
    }
  }
  if (turns.baselines == 0) {
    baseline.measure(fixed_half);
  }
  sender.close();
  return sending;
}

}  // namespace

BenchResult bench_produce(const Globals& globals, Session& session, const BenchOptions& asked,
                          Baseline& baseline) {
  BenchOptions options = asked;
  BenchResult result;
  result.what = "produce";
  options.partitions = ensure_topic(session, options);
  result.partitions = options.partitions;
  const SendLimits all = {
      .count = options.count,
      .seconds = options.count == 0 && options.seconds <= 0 ? kDefaultSeconds : options.seconds};
  AckCounts counts;
  std::atomic<uint64_t> sent{0};
  Sender sender(session.client(), globals, options, counts, sent);
  {
    Progress progress("bench", expected_messages(options, all), "messages",
                      progress_wanted(globals.quiet));
    result.seconds = send_in_turns(sender, options, all, counts, baseline, progress);
  }
  result.messages = counts.acked;
  result.failed = sent - counts.acked;
  result.rate = options.rate;
  result.has_latency = true;
  result.latency_ns = counts.latency_ns;
  if (result.failed > 0 && !counts.first_error.ok()) {
    note(fmt::format("first failure: {}", counts.first_error.to_string()));
  }
  return result;
}

}  // namespace tidemark::tools
