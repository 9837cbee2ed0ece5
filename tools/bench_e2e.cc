// tidemark bench e2e: from the intended sending of a message to its arrival at a consumer, both in
// this process.
#include <algorithm>
#include <exception>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tidemark/consumer.h"
#include "tools/baseline.h"
#include "tools/bench_send.h"
#include "tools/bench_stamp.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/output.h"
#include "tools/partition_ranges.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kPollMs = 20;
constexpr double kDefaultRate = 10'000;

// What has arrived: each message once, or again.
class Arrivals {
 public:
  explicit Arrivals(uint64_t run) : run_(run) {}

  void add(const client::ReceivedMessage& message, MonotonicTime now) {
    const std::optional<Stamp> stamp = stamp_of(message, run_);
    if (!stamp) {
      return;
    }
    if (stamp->index >= seen_.size()) {
      seen_.resize(std::max<size_t>(stamp->index + 1, seen_.size() * 2));
    }
    if (seen_[stamp->index]) {
      ++duplicates_;
      return;
    }
    seen_[stamp->index] = true;
    ++unique_;
    last_arrival_ = now;
    latency_ns_.record(static_cast<uint64_t>(std::max<int64_t>(0, now.ns - stamp->time)));
  }

  [[nodiscard]] uint64_t unique() const { return unique_; }

  [[nodiscard]] uint64_t duplicates() const { return duplicates_; }

  [[nodiscard]] MonotonicTime last_arrival() const { return last_arrival_; }

  [[nodiscard]] const Histogram& latency_ns() const { return latency_ns_; }

 private:
  uint64_t run_;
  std::vector<bool> seen_;
  uint64_t unique_ = 0;
  uint64_t duplicates_ = 0;
  MonotonicTime last_arrival_;
  Histogram latency_ns_;
};

// The sending thread's outcome; read after it was joined, but for the atomics.
struct Sending {
  AckCounts counts;
  std::atomic<uint64_t> sent{0};
  std::atomic<bool> finished{false};
  MonotonicTime started;
  std::exception_ptr error;
};

// Reads until all that was acknowledged has arrived, or nothing has for the time of --timeout after
// the last was sent.
void receive(const Globals& globals, const BenchOptions& options, client::Consumer& consumer,
             const Sending& sending, Arrivals& arrivals) {
  int64_t quiet_since_ns = system_clock().monotonic().ns;
  for (;;) {
    const bool finished = sending.finished;
    if (finished && (arrivals.unique() >= sending.counts.acked || interrupted())) {
      return;
    }
    const auto batch = consumer.poll(kPollMs);
    require(batch.status(), fmt::format("topic {}", options.topic));
    const MonotonicTime now = system_clock().monotonic();
    for (const client::ReceivedMessage& message : batch->messages) {
      arrivals.add(message, now);
    }
    if (!batch->messages.empty() || !finished) {
      quiet_since_ns = now.ns;
    } else if (now.ns - quiet_since_ns > globals.timeout_ms * 1'000'000) {
      return;
    }
  }
}

}  // namespace

BenchResult bench_e2e(const Globals& globals, Session& session, const BenchOptions& asked,
                      Baseline& baseline) {
  BenchOptions options = asked;
  if (options.size < sizeof(Stamp)) {
    throw usage_error(
        fmt::format("--size: at least {} bytes, they carry the time of sending", sizeof(Stamp)));
  }
  const SendLimits send_limits = {
      .count = options.count,
      .seconds = options.count == 0 && options.seconds <= 0 ? 10 : options.seconds};
  options.rate = options.rate > 0 ? options.rate : kDefaultRate;
  BenchResult result;
  result.what = "e2e";
  options.partitions = ensure_topic(session, options);
  result.partitions = options.partitions;
  const PartitionRanges ranges =
      resolve_ranges(session, options.topic, {}, {.kind = StartPoint::Kind::kEnd});
  client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
  require(consumer.assign(ranges.assignment(options.topic, false)),
          fmt::format("topic {}", options.topic));
  const uint64_t run = seed_from_system();
  Arrivals arrivals(run);
  Sending sending;
  const double baseline_half = options.baseline_seconds.value_or(kBaselineSecondsDefault) / 2;
  baseline.measure(baseline_half);
  baseline.workload_begins();
  std::thread sender([&] {
    try {
      StampedPayload payload(options.size, run);
      const auto make_value = [&payload](uint64_t index, MonotonicTime at) {
        return payload.make(index, at.ns);
      };
      Sender messages(session.client(), globals, options, sending.counts, sending.sent);
      Progress progress("bench", expected_messages(options, send_limits), "messages",
                        progress_wanted(globals.quiet));
      sending.started = messages.send(send_limits, make_value, progress);
      messages.close();
    } catch (...) {
      sending.error = std::current_exception();
    }
    sending.finished = true;
  });
  try {
    receive(globals, options, consumer, sending, arrivals);
  } catch (...) {
    sender.join();
    throw;
  }
  sender.join();
  if (sending.error) {
    std::rethrow_exception(sending.error);
  }
  baseline.workload_ends();
  baseline.measure(baseline_half);
  result.messages = arrivals.unique();
  result.seconds = static_cast<double>(arrivals.last_arrival().ns - sending.started.ns) / 1e9;
  result.rate = options.rate;
  result.has_latency = true;
  result.latency_ns = arrivals.latency_ns();
  result.counts_losses = true;
  result.lost =
      sending.counts.acked > arrivals.unique() ? sending.counts.acked - arrivals.unique() : 0;
  result.duplicates = arrivals.duplicates();
  result.failed = sending.counts.failed;
  return result;
}

}  // namespace tidemark::tools
