// tidemark bench txn: transactions of one half message each, many open at a time, in turns with
// plain messages of which as many are under way.
//
// Of each transaction:
//
//   begin, send --prepare--> stored --commit, or rollback--> answered --> the next one begins
//
// All of it is driven by the answers, on the client's thread.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tidemark/transaction.h"
#include "tools/baseline.h"
#include "tools/bench_read.h"
#include "tools/bench_send.h"
#include "tools/bench_stamp.h"
#include "tools/bench_turns.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/output.h"
#include "tools/partition_ranges.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr double kDefaultSeconds = 10;

enum class Ending : uint8_t { kUnknown, kCommitted, kRolledBack };

// Whether the transaction of this index is rolled back, for `percent` of them, evenly.
bool rolls_back(uint64_t index, uint32_t percent) {
  return (index + 1) * percent / 100 != index * percent / 100;
}

// Transactions one after the other in as many lanes as are to be open at a time. The mutex guards
// what lanes share; a lane belongs to whoever starts it, then to the callback of its transaction.
class TransactionLoad {
 public:
  TransactionLoad(const client::Client& client, const Globals& globals, const BenchOptions& options,
                  uint64_t run)
      : options_(options),
        lanes_(options.open),
        payload_(options.size, run),
        producer_(require(client::TransactionProducer::create(
                              client, producer_options(globals, options, run), globals.timeout_ms),
                          "producer of transactions")) {
    warm_up();
  }

  // Begins transactions until a limit is reached, something fails or an interrupt comes, and waits
  // for every answer. Gives the seconds up to the last one.
  double run(const SendLimits& limits, Progress& progress);

  [[nodiscard]] bool stopped() const { return interrupted() || failed_ > 0; }

  // The rest between two runs.
  [[nodiscard]] const std::vector<Ending>& endings() const { return endings_; }

  [[nodiscard]] const Histogram& latency_ns() const { return latency_ns_; }

  [[nodiscard]] uint64_t ended() const { return ended_; }

  [[nodiscard]] uint64_t failed() const { return failed_; }

  [[nodiscard]] const client::Status& first_error() const { return first_error_; }

 private:
  struct Lane {
    std::optional<client::Transaction> txn;
    uint64_t index = 0;
    MonotonicTime begun;
  };

  static client::TransactionOptions producer_options(const Globals& globals,
                                                     const BenchOptions& options, uint64_t run) {
    client::TransactionOptions out;
    out.group = fmt::format("bench-{:016x}", run);
    out.open_max = std::max<size_t>(out.open_max, size_t{2} * options.open);
    out.buffer_bytes_max =
        std::max<size_t>(out.buffer_bytes_max, size_t{4} * options.open * (options.size + 256));
    out.delivery_timeout_ms = std::max<int64_t>(globals.timeout_ms, 1'000);
    return out;
  }

  void warm_up();
  void start(Lane& lane);
  // The first step of `lane`; nothing when the run is to end.
  std::optional<client::Status> begin(Lane& lane);
  void on_prepared(Lane& lane, const client::Status& status);
  void on_ended(Lane& lane, const client::TransactionEnd& end);
  void fail(Lane& lane, const client::Status& status);
  void retire();

  const BenchOptions& options_;
  std::vector<Lane> lanes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  StampedPayload payload_;
  SendLimits limits_;
  MonotonicTime started_;
  MonotonicTime last_end_;
  uint64_t begun_in_run_ = 0;
  size_t busy_ = 0;  // lanes
  std::vector<Ending> endings_;
  uint64_t ended_ = 0;
  std::atomic<uint64_t> failed_{0};
  client::Status first_error_;
  Histogram latency_ns_;
  client::TransactionProducer producer_;  // last: its callbacks use the rest
};

// A transaction to each partition that is rolled back: what it takes to connect is not measured.
void TransactionLoad::warm_up() {
  for (uint32_t partition = 0; partition < options_.partitions; ++partition) {
    client::Message message;
    message.value = std::nullopt;
    message.partition = partition;
    client::Transaction txn = producer_.begin();
    require(txn.send(options_.topic, message), fmt::format("topic {}", options_.topic));
    require(txn.prepare(), fmt::format("topic {}", options_.topic));
    require(txn.rollback().status, "rolling back");
  }
}

double TransactionLoad::run(const SendLimits& limits, Progress& progress) {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    limits_ = limits;
    begun_in_run_ = 0;
    busy_ = lanes_.size();
    started_ = system_clock().monotonic();
    last_end_ = started_;
  }
  for (Lane& lane : lanes_) {
    start(lane);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  while (busy_ > 0) {
    changed_.wait_for(lock, std::chrono::milliseconds(100));
    progress.update(ended_, ended_ * options_.size);
  }
  return static_cast<double>(last_end_.ns - started_.ns) / 1e9;
}

void TransactionLoad::start(Lane& lane) {
  const std::optional<client::Status> sent = begin(lane);
  if (!sent) {
    retire();
  } else if (!sent->ok()) {
    fail(lane, *sent);
  } else {
    lane.txn->prepare([this, &lane](const client::Status& status) { on_prepared(lane, status); });
  }
}

std::optional<client::Status> TransactionLoad::begin(Lane& lane) {
  const std::lock_guard<std::mutex> guard(mutex_);
  lane.begun = system_clock().monotonic();
  const bool late = limits_.seconds > 0 &&
                    static_cast<double>(lane.begun.ns - started_.ns) >= limits_.seconds * 1e9;
  if (late || stopped() || (limits_.count > 0 && begun_in_run_ == limits_.count)) {
    return std::nullopt;
  }
  ++begun_in_run_;
  lane.index = endings_.size();
  endings_.push_back(Ending::kUnknown);
  client::Message message;
  message.value = payload_.make(lane.index, lane.begun.ns);
  message.partition = static_cast<uint32_t>(lane.index % options_.partitions);
  lane.txn.emplace(producer_.begin());
  return lane.txn->send(options_.topic, message);
}

void TransactionLoad::on_prepared(Lane& lane, const client::Status& status) {
  if (!status.ok()) {
    fail(lane, status);
    return;
  }
  const auto ended = [this, &lane](const client::TransactionEnd& end) { on_ended(lane, end); };
  if (rolls_back(lane.index, options_.rollback_percent)) {
    lane.txn->rollback(ended);
  } else {
    lane.txn->commit(ended);
  }
}

void TransactionLoad::on_ended(Lane& lane, const client::TransactionEnd& end) {
  if (!end.status.ok()) {
    fail(lane, end.status);
    return;
  }
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    last_end_ = system_clock().monotonic();
    latency_ns_.record(static_cast<uint64_t>(last_end_.ns - lane.begun.ns));
    endings_[lane.index] = rolls_back(lane.index, options_.rollback_percent) ? Ending::kRolledBack
                                                                             : Ending::kCommitted;
    ++ended_;
  }
  start(lane);
}

void TransactionLoad::fail(Lane& lane, const client::Status& status) {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (failed_ == 0) {
      first_error_ = status;
    }
    ++failed_;
  }
  lane.txn.reset();
  retire();
}

void TransactionLoad::retire() {
  const std::lock_guard<std::mutex> guard(mutex_);
  --busy_;
  changed_.notify_one();
}

// How long either side took in all.
struct Taken {
  double transactions = 0;
  double messages = 0;
};

// Both sides and the baseline in turns; which of the sides comes first alternates.
Taken run_in_turns(const BenchOptions& options, const SendLimits& all, TransactionLoad& load,
                   Sender& sender, const AckCounts& acks, Baseline& baseline, Progress& progress) {
  const Payloads payloads(options.size);
  const auto make_value = [&payloads](uint64_t index, MonotonicTime) { return payloads.at(index); };
  const Turns turns = plan_turns(options, all);
  Taken taken;
  for (uint64_t turn = 0; turn <= turns.baselines && !load.stopped() && !sender.stopped(); ++turn) {
    const SendLimits limits = turns.limits(turn, all);
    if (all.count > 0 && limits.count == 0) {
      break;
    }
    const auto send_plain = [&] {
      const MonotonicTime started = sender.send(limits, make_value, progress);
      sender.flush();
      taken.messages +=
          static_cast<double>(std::max(acks.last_ack.ns, started.ns) - started.ns) / 1e9;
    };
    if (turn % 2 == 1) {
      send_plain();
    }
    baseline.workload_begins();
    const double seconds = load.run(limits, progress);
    baseline.workload_ends();
    taken.transactions += seconds;
    if (turn % 2 == 0) {
      send_plain();
    }
    if (turn < turns.baselines) {
      // By default as long as the transactions of a whole slice take.
      baseline.measure(options.baseline_seconds
                           ? *options.baseline_seconds / static_cast<double>(turns.baselines)
                           : (turn == 0 ? 2 * seconds : seconds));
    }
  }
  sender.close();
  return taken;
}

// From where the topic ended before to where it ends now.
PartitionRanges ranges_since(Session& session, const std::string& topic,
                             const PartitionRanges& before) {
  std::vector<PartitionRanges::Range> ranges =
      resolve_ranges(session, topic, {}, {.kind = StartPoint::Kind::kEnd}).ranges();
  for (PartitionRanges::Range& range : ranges) {
    const auto at =
        std::ranges::find(before.ranges(), range.partition, &PartitionRanges::Range::partition);
    range.end = range.next;
    range.next = at == before.ranges().end() ? 0 : at->next;
  }
  return PartitionRanges(std::move(ranges));
}

// Reads what came since `before`: each committed message has to be there once, no other one.
void verify(const Globals& globals, Session& session, const BenchOptions& options, uint64_t run,
            const PartitionRanges& before, const std::vector<Ending>& endings,
            BenchResult& result) {
  std::vector<bool> seen(endings.size());
  client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
  Progress progress("reading", endings.size(), "messages", progress_wanted(globals.quiet));
  uint64_t read = 0;
  const bool complete =
      read_ranges(globals, options.topic, consumer, ranges_since(session, options.topic, before),
                  [&](const client::MessageBatch& batch) {
                    for (const client::ReceivedMessage& message : batch.messages) {
                      const std::optional<Stamp> stamp = stamp_of(message, run);
                      if (!stamp || stamp->index >= seen.size()) {
                        continue;
                      }
                      ++read;
                      result.duplicates += seen[stamp->index] ? 1 : 0;
                      seen[stamp->index] = true;
                    }
                    progress.update(read, read * options.size);
                    return !interrupted();
                  });
  for (size_t index = 0; index < endings.size(); ++index) {
    result.rolled_back += endings[index] == Ending::kRolledBack ? 1 : 0;
    result.uncommitted += endings[index] == Ending::kRolledBack && seen[index] ? 1 : 0;
    // A reader that was interrupted did not see the rest.
    result.lost += complete && endings[index] == Ending::kCommitted && !seen[index] ? 1 : 0;
  }
}

}  // namespace

BenchResult bench_txn(const Globals& globals, Session& session, const BenchOptions& asked,
                      Baseline& baseline) {
  BenchOptions options = asked;
  if (options.size < sizeof(Stamp)) {
    throw usage_error(
        fmt::format("--size: at least {} bytes, they say which transaction", sizeof(Stamp)));
  }
  // A transaction is sent at once, so are the messages that it is compared with.
  options.in_flight = options.open;
  options.linger_ms = 0;
  BenchResult result;
  result.what = "txn";
  options.partitions = ensure_topic(session, options);
  result.partitions = options.partitions;
  const PartitionRanges before =
      resolve_ranges(session, options.topic, {}, {.kind = StartPoint::Kind::kEnd});
  const SendLimits all = {
      .count = options.count,
      .seconds = options.count == 0 && options.seconds <= 0 ? kDefaultSeconds : options.seconds};
  const uint64_t run = seed_from_system();
  AckCounts acks;
  std::atomic<uint64_t> sent{0};
  Sender sender(session.client(), globals, options, acks, sent);
  TransactionLoad load(session.client(), globals, options, run);
  Taken taken;
  {
    Progress progress("bench", expected_messages(options, all), "pairs",
                      progress_wanted(globals.quiet));
    taken = run_in_turns(options, all, load, sender, acks, baseline, progress);
  }
  result.messages = load.ended();
  result.seconds = taken.transactions;
  result.has_latency = true;
  result.latency_ns = load.latency_ns();
  result.failed = load.failed() + acks.failed;
  result.counts_losses = true;
  result.of_transactions = true;
  result.open = options.open;
  result.produce_messages_per_s =
      taken.messages > 0 ? static_cast<double>(acks.acked) / taken.messages : 0;
  if (result.failed > 0) {
    note(fmt::format("first failure: {}",
                     (load.failed() > 0 ? load.first_error() : acks.first_error).to_string()));
  }
  verify(globals, session, options, run, before, load.endings(), result);
  return result;
}

}  // namespace tidemark::tools
