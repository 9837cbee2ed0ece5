// tidemark bench produce: acknowledged messages per second and the latency of each acknowledgement.
#include <fmt/format.h>

#include "tools/bench_send.h"
#include "tools/cli.h"
#include "tools/output.h"
#include "tools/session.h"

namespace tidemark::tools {

BenchResult bench_produce(const Globals& globals, Session& session, const BenchOptions& asked) {
  BenchOptions options = asked;
  BenchResult result;
  result.what = "produce";
  options.partitions = ensure_topic(session, options);
  result.partitions = options.partitions;
  const Payloads payloads(options.size);
  const SendLimits send_limits = {
      .count = options.count,
      .seconds = options.count == 0 && options.seconds <= 0 ? 10 : options.seconds};
  AckCounts counts;
  std::atomic<uint64_t> sent{0};
  const auto make_value = [&payloads](uint64_t index, MonotonicTime) { return payloads.at(index); };
  const MonotonicTime started =
      send_messages(session.client(), globals, options, send_limits, make_value, counts, sent);
  result.messages = counts.acked;
  result.failed = sent - counts.acked;
  // Up to the last acknowledgement: sending alone is not storing.
  result.seconds = static_cast<double>(counts.last_ack.ns - started.ns) / 1e9;
  result.rate = options.rate;
  result.has_latency = true;
  result.latency_ns = counts.latency_ns;
  if (result.failed > 0 && !counts.first_error.ok()) {
    note(fmt::format("first failure: {}", counts.first_error.to_string()));
  }
  return result;
}

}  // namespace tidemark::tools
