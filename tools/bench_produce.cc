// tidemark bench produce: acknowledged messages per second and the latency of each acknowledgement.
#include <algorithm>

#include <fmt/format.h>

#include "tools/baseline.h"
#include "tools/bench_send.h"
#include "tools/bench_turns.h"
#include "tools/cli.h"
#include "tools/output.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr double kDefaultSeconds = 10;

// Sends everything, in turns with the baseline. Gives the seconds that sending took, each piece up
// to its last acknowledgement: sending alone is not storing.
double send_in_turns(Sender& sender, const BenchOptions& options, const SendLimits& all,
                     const AckCounts& counts, Baseline& baseline, Progress& progress) {
  const Payloads payloads(options.size);
  const auto make_value = [&payloads](uint64_t index, MonotonicTime) { return payloads.at(index); };
  // A pace must not be interrupted.
  const bool in_one_piece = !baseline.wanted() || options.rate > 0;
  const Turns turns = in_one_piece ? Turns{.baselines = 0, .slice = all} : plan_turns(options, all);
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
