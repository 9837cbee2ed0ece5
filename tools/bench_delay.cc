// tidemark bench delay: messages are scheduled at a pace and received when they are due, both in
// this process; a backlog stays pending meanwhile.
#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tidemark/consumer.h"
#include "tidemark/delay.h"
#include "tidemark/producer.h"
#include "tools/baseline.h"
#include "tools/bench_stamp.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/output.h"
#include "tools/pacer.h"
#include "tools/parse.h"
#include "tools/partition_ranges.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

// In the index of a stamp: a message of the backlog. Its time is the due time, in ms.
constexpr uint64_t kBacklogBit = uint64_t{1} << 63;
constexpr int64_t kPollMs = 20;
// What is due is waited for this long, measured from the last due time.
constexpr int64_t kGraceMs = 10'000;
// Scheduling the backlog is taken to be at least this fast when its due times are chosen.
constexpr uint64_t kBacklogPerSecondMin = 10'000;
// Above this rate batches linger: a request for each few messages would measure requests.
constexpr double kLingerRate = 20'000;
constexpr uint64_t kMessagesMax = 1'000'000'000;
// Opaque of messages that only bring the connections about; those of the run have index + 1.
constexpr uint64_t kWarmUp = 0;

// What the broker said to what was scheduled. on_delivery() runs on the client's thread; the
// atomics may be read at any time, the rest after the producer was closed.
class Acks {
 public:
  // `pacer` (or none): messages have opaque index + 1, are told apart and timed.
  Acks(uint64_t messages, const Pacer* pacer) : pacer_(pacer), stored_(pacer ? messages : 0) {}

  void on_delivery(const client::DeliveryBatch& batch) {
    const MonotonicTime now = system_clock().monotonic();
    if (batch.opaques.front() == kWarmUp) {
      return;
    }
    const uint64_t count = batch.opaques.size();
    if (!batch.status.ok()) {
      fail(batch.status, count);
      return;
    }
    uint64_t taken = 0;
    for (size_t i = 0; i < count; ++i) {
      if (i < batch.receipts.size() && !batch.receipts[i].status.ok()) {
        fail(batch.receipts[i].status, 1);
        continue;
      }
      ++taken;
      if (pacer_ != nullptr) {
        const uint64_t index = batch.opaques[i] - 1;
        stored_[index] = true;
        const int64_t waited_ns = now.ns - pacer_->intended(index).ns;
        latency_ns_.record(static_cast<uint64_t>(std::max<int64_t>(0, waited_ns)));
      }
    }
    acked_.fetch_add(taken, std::memory_order_relaxed);
  }

  [[nodiscard]] uint64_t acked() const { return acked_.load(std::memory_order_relaxed); }

  [[nodiscard]] uint64_t failed() const { return failed_.load(std::memory_order_relaxed); }

  [[nodiscard]] const client::Status& first_error() const { return first_error_; }

  [[nodiscard]] const std::vector<bool>& stored() const { return stored_; }

  [[nodiscard]] const Histogram& latency_ns() const { return latency_ns_; }

 private:
  void fail(const client::Status& status, uint64_t count) {
    if (failed() == 0) {
      first_error_ = status;
    }
    failed_.fetch_add(count, std::memory_order_relaxed);
  }

  const Pacer* pacer_;
  std::vector<bool> stored_;
  std::atomic<uint64_t> acked_{0};
  std::atomic<uint64_t> failed_{0};
  client::Status first_error_;
  Histogram latency_ns_;
};

// What has arrived. Nothing is allocated for a message.
class Arrivals {
 public:
  Arrivals(uint64_t run, uint64_t messages, uint64_t backlog, int64_t seconds_max)
      : run_(run),
        seen_(messages),
        seen_backlog_(backlog),
        per_second_(static_cast<size_t>(seconds_max) + 1) {}

  void add(const client::ReceivedMessage& message, WallTimeNs now) {
    const std::optional<Stamp> stamp = stamp_of(message, run_);
    if (!stamp) {
      return;
    }
    const bool of_backlog = (stamp->index & kBacklogBit) != 0;
    const uint64_t index = stamp->index & ~kBacklogBit;
    std::vector<bool>& seen = of_backlog ? seen_backlog_ : seen_;
    if (index >= seen.size()) {
      return;
    }
    const int64_t late_ns = now.ns - stamp->time * 1'000'000;
    early_ += late_ns < 0 ? 1 : 0;
    if (seen[index]) {
      ++duplicates_;
      return;
    }
    seen[index] = true;
    if (of_backlog) {
      ++backlog_;
      return;
    }
    lateness_ns_.record(static_cast<uint64_t>(std::max<int64_t>(0, late_ns)));
    first_ = unique_ == 0 ? now : first_;
    ++unique_;
    last_ = now;
    const int64_t second = std::max<int64_t>(0, now.ns - first_.ns) / 1'000'000'000;
    per_second_[std::min(static_cast<size_t>(second), per_second_.size() - 1)] += 1;
  }

  [[nodiscard]] uint64_t unique() const { return unique_; }

  [[nodiscard]] uint64_t backlog() const { return backlog_; }

  [[nodiscard]] uint64_t duplicates() const { return duplicates_; }

  [[nodiscard]] uint64_t early() const { return early_; }

  [[nodiscard]] const Histogram& lateness_ns() const { return lateness_ns_; }

  [[nodiscard]] double seconds() const { return static_cast<double>(last_.ns - first_.ns) / 1e9; }

  [[nodiscard]] bool has(uint64_t index) const { return seen_[index]; }

  // Half of the seconds in which something came had at least this many.
  [[nodiscard]] uint64_t median_second() const {
    std::vector<uint64_t> counts;
    std::ranges::copy_if(per_second_, std::back_inserter(counts),
                         [](uint64_t count) { return count > 0; });
    std::ranges::sort(counts);
    return counts.empty() ? 0 : counts[counts.size() / 2];
  }

 private:
  uint64_t run_;
  std::vector<bool> seen_;
  std::vector<bool> seen_backlog_;
  std::vector<uint64_t> per_second_;
  uint64_t unique_ = 0;
  uint64_t backlog_ = 0;
  uint64_t duplicates_ = 0;
  uint64_t early_ = 0;
  WallTimeNs first_;
  WallTimeNs last_;
  Histogram lateness_ns_;
};

// A producer whose answers go to `acks`, and the loop that offers a message until it is taken.
class Scheduler {
 public:
  Scheduler(const Globals& globals, Session& session, const BenchOptions& options, Acks& acks)
      : acks_(acks),
        close_ms_(3 * globals.timeout_ms + 1'000),
        producer_(require(
            client::Producer::create(session.client(), producer_options(globals, options, acks)),
            "producer")),
        topic_(require(producer_.topic(options.topic), fmt::format("topic {}", options.topic))) {}

  // An answered message to each partition: what it takes to connect is no latency of a message.
  void warm_up(const Globals& globals, uint32_t partitions) {
    for (uint32_t partition = 0; partition < partitions; ++partition) {
      client::Message message;
      message.value = std::nullopt;
      message.partition = partition;
      require(producer_.send(topic_, message, kWarmUp), "sending");
    }
    require(producer_.flush(globals.timeout_ms).status, "the first messages");
  }

  // False when scheduling has to stop.
  bool send(const client::Message& message, uint64_t opaque) {
    for (;;) {
      const client::Status accepted = producer_.send(topic_, message, opaque);
      if (accepted.ok()) {
        return acks_.failed() == 0 && !interrupted();
      }
      if (accepted.code() != client::ErrorCode::kOverloaded) {
        throw command_error(accepted, "sending");
      }
      if (acks_.failed() > 0 || interrupted()) {
        return false;
      }
    }
  }

  // Waits for all answers.
  void close() { (void)producer_.close(close_ms_); }

 private:
  static client::ProducerOptions producer_options(const Globals& globals,
                                                  const BenchOptions& options, Acks& acks) {
    client::ProducerOptions out;
    out.batch_bytes = options.batch_bytes;
    out.linger_ms = options.linger_ms.value_or(options.rate >= kLingerRate ? 5 : 0);
    if (options.in_flight > 0) {
      out.buffer_messages_max = options.in_flight;
    }
    out.overflow = client::Overflow::block_for(200);
    out.delivery_timeout_ms = std::max<int64_t>(globals.timeout_ms, 1'000);
    out.on_delivery = [&acks](const client::DeliveryBatch& batch) { acks.on_delivery(batch); };
    return out;
  }

  Acks& acks_;
  int64_t close_ms_;
  client::Producer producer_;
  client::Topic topic_;
};

uint64_t messages_of(const BenchOptions& options) {
  return static_cast<uint64_t>(options.rate * options.seconds);
}

// The furthest that a message of the run is scheduled ahead.
int64_t delay_ms_max(const BenchOptions& options) {
  return options.fixed_delay ? options.delay_ms : options.delay_ms + options.delay_ms / 2;
}

struct Backlog {
  uint64_t acked = 0;
  int64_t first_due_ms = 0;
  double seconds = 0;
};

Backlog schedule_backlog(const Globals& globals, Session& session, const BenchOptions& asked,
                         uint64_t run) {
  BenchOptions options = asked;
  options.rate = kLingerRate;  // as fast as it goes: full batches
  const int64_t run_ms =
      static_cast<int64_t>(options.seconds * 1e3) + delay_ms_max(options) + kGraceMs;
  const auto scheduling_ms = static_cast<int64_t>(options.backlog / kBacklogPerSecondMin * 1'000);
  Backlog result;
  result.first_due_ms = system_clock().wall().ms +
                        options.backlog_after_ms.value_or(2 * run_ms + scheduling_ms + 30'000);
  const MonotonicTime started = system_clock().monotonic();
  Acks acks(options.backlog, nullptr);
  Scheduler scheduler(globals, session, options, acks);
  StampedPayload payload(options.size, run);
  Random random(run);
  Progress progress("backlog", options.backlog, "messages", progress_wanted(globals.quiet));
  client::Message message;
  constexpr uint64_t kMessagesBetweenLooks = 1024;
  for (uint64_t index = 0; index < options.backlog; ++index) {
    const auto ahead = static_cast<int64_t>(
        random.below(static_cast<uint64_t>(std::max<int64_t>(1, options.spread_ms))));
    const int64_t due_ms = result.first_due_ms + ahead;
    message.value = payload.make(index | kBacklogBit, due_ms);
    message.partition = static_cast<uint32_t>(index % options.partitions);
    message.delay = client::Delay::at(due_ms);
    if (!scheduler.send(message, index + 1)) {
      break;
    }
    if (index % kMessagesBetweenLooks == 0) {
      progress.update(acks.acked(), acks.acked() * options.size);
    }
  }
  scheduler.close();
  if (acks.failed() > 0) {
    throw command_error(acks.first_error(),
                        fmt::format("{} messages of the backlog", acks.failed()));
  }
  result.acked = acks.acked();
  result.seconds = static_cast<double>(system_clock().monotonic().ns - started.ns) / 1e9;
  return result;
}

// The scheduling half of the run; read after its thread was joined, but for the atomics.
struct Scheduling {
  std::atomic<uint64_t> sent{0};
  std::atomic<bool> finished{false};
  std::atomic<int64_t> last_due_ms{0};
  std::exception_ptr error;
};

void schedule_run(const BenchOptions& options, uint64_t run, Pacer& pacer, Scheduler& scheduler,
                  Scheduling& scheduling) {
  // One look at the clocks for each millisecond of messages.
  const auto group = std::max<uint64_t>(1, static_cast<uint64_t>(options.rate / 1'000));
  const uint64_t messages = messages_of(options);
  StampedPayload payload(options.size, run);
  Random random(run + 1);
  client::Message message;
  int64_t now_ms = 0;
  for (uint64_t index = 0; index < messages; ++index) {
    if (index % group == 0) {
      (void)pacer.wait(std::min(index + group, messages) - 1);
      now_ms = system_clock().wall().ms;
    }
    int64_t ahead_ms = options.delay_ms;
    if (!options.fixed_delay && options.delay_ms > 1) {
      ahead_ms += static_cast<int64_t>(random.below(static_cast<uint64_t>(options.delay_ms) + 1)) -
                  options.delay_ms / 2;
    }
    const int64_t due_ms = now_ms + ahead_ms;
    message.value = payload.make(index, due_ms);
    message.partition = static_cast<uint32_t>(index % options.partitions);
    message.delay = client::Delay::at(due_ms);
    if (!scheduler.send(message, index + 1)) {
      break;
    }
    scheduling.sent.store(index + 1, std::memory_order_relaxed);
    scheduling.last_due_ms.store(
        std::max(due_ms, scheduling.last_due_ms.load(std::memory_order_relaxed)),
        std::memory_order_relaxed);
  }
  scheduler.close();
}

// Reads until all that was acknowledged has arrived, or it is kGraceMs past the last due time.
void receive(const Globals& globals, const BenchOptions& options, client::Consumer& consumer,
             const Acks& acks, const Scheduling& scheduling, Arrivals& arrivals) {
  Progress progress("bench", messages_of(options), "messages", progress_wanted(globals.quiet));
  for (;;) {
    if (scheduling.finished && (arrivals.unique() >= acks.acked() || interrupted())) {
      return;
    }
    const auto batch = consumer.poll(kPollMs);
    const WallTimeNs now = system_clock().wall_ns();
    require(batch.status(), fmt::format("topic {}", options.topic));
    for (const client::ReceivedMessage& message : batch->messages) {
      arrivals.add(message, now);
    }
    progress.update(arrivals.unique(), arrivals.unique() * options.size);
    if (scheduling.finished && batch->messages.empty() &&
        now.ns / 1'000'000 > scheduling.last_due_ms + kGraceMs) {
      return;
    }
  }
}

void run_schedule(const Globals& globals, Session& session, const BenchOptions& options,
                  uint64_t run, client::Consumer& consumer, Arrivals& arrivals,
                  BenchResult& result) {
  // Replaced when the connections are there: nothing is answered before.
  Pacer pacer(options.rate, system_clock().monotonic());
  Acks acks(messages_of(options), &pacer);
  Scheduler scheduler(globals, session, options, acks);
  scheduler.warm_up(globals, options.partitions);
  pacer = Pacer(options.rate, system_clock().monotonic());
  Scheduling scheduling;
  std::thread sender([&] {
    try {
      schedule_run(options, run, pacer, scheduler, scheduling);
    } catch (...) {
      scheduling.error = std::current_exception();
      scheduler.close();
    }
    scheduling.finished = true;
  });
  try {
    receive(globals, options, consumer, acks, scheduling, arrivals);
  } catch (...) {
    sender.join();
    throw;
  }
  sender.join();
  if (scheduling.error) {
    std::rethrow_exception(scheduling.error);
  }
  for (uint64_t index = 0; index < acks.stored().size(); ++index) {
    result.lost += acks.stored()[index] && !arrivals.has(index) ? 1 : 0;
  }
  // A reader that was interrupted did not wait for the rest.
  result.lost = interrupted() ? 0 : result.lost;
  result.failed = scheduling.sent - acks.acked();
  result.has_latency = true;
  result.latency_ns = acks.latency_ns();
  if (acks.failed() > 0) {
    note(fmt::format("first failure: {}", acks.first_error().to_string()));
  }
}

// What is still pending; while nothing of the backlog was due it has to be all of it.
void check_backlog(Session& session, const BenchOptions& options, const Backlog& backlog,
                   const Arrivals& arrivals, BenchResult& result) {
  client::Delays delays = require(client::Delays::create(session.client()), "delayed messages");
  const auto stats = require(delays.stats(options.topic, session.deadline_ms()),
                             fmt::format("topic {}", options.topic));
  const uint64_t pending = stats.empty() ? 0 : stats.front().pending;
  result.backlog = backlog.acked;
  result.backlog_pending = pending;
  const bool none_due = system_clock().wall().ms < backlog.first_due_ms;
  if (none_due && pending + arrivals.backlog() < backlog.acked) {
    result.lost += backlog.acked - pending - arrivals.backlog();
  }
  if (!none_due) {
    note("the backlog began to fall due during the run: see --backlog-after");
  }
}

void clean_up(Session& session, const BenchOptions& options, const BenchTopic& topic) {
  if (topic.created && !options.keep_backlog) {
    require(session.admin().delete_topic(options.topic, session.deadline_ms()).status(),
            fmt::format("deleting topic {}", options.topic));
    note(fmt::format("deleted topic {}", options.topic));
  } else if (options.backlog > 0) {
    note(fmt::format("the backlog stays pending in topic {}", options.topic));
  }
}

void check_delay_options(const BenchOptions& options) {
  if (options.size < sizeof(Stamp)) {
    throw usage_error(
        fmt::format("--size: at least {} bytes, they carry the due time", sizeof(Stamp)));
  }
  if (options.compress != "none") {
    throw usage_error("--compress: delayed messages are not compressed");
  }
  if (options.rate * options.seconds > static_cast<double>(kMessagesMax) ||
      options.backlog > kMessagesMax) {
    throw usage_error(
        fmt::format("--rate, --seconds, --backlog: at most {} messages", kMessagesMax));
  }
  if (messages_of(options) == 0 && options.backlog == 0) {
    throw usage_error("--seconds 0 without --backlog schedules nothing");
  }
}

}  // namespace

BenchResult bench_delay(const Globals& globals, Session& session, const BenchOptions& asked,
                        Baseline& baseline) {
  check_delay_options(asked);
  BenchOptions options = asked;
  const BenchTopic topic = open_topic(session, options);
  options.partitions = topic.partitions;
  BenchResult result;
  result.what = "delay";
  result.partitions = topic.partitions;
  result.rate = options.rate;
  result.counts_losses = true;
  result.counts_lateness = true;
  const uint64_t run = seed_from_system();
  const auto seconds_max =
      static_cast<int64_t>(options.seconds) + (delay_ms_max(options) + kGraceMs) / 1'000 + 60;
  Arrivals arrivals(run, messages_of(options), options.backlog, seconds_max);
  // From the end as it is now: whatever of the backlog falls due is seen, too.
  const PartitionRanges ranges =
      resolve_ranges(session, options.topic, {}, {.kind = StartPoint::Kind::kEnd});
  Backlog backlog;
  if (options.backlog > 0) {
    backlog = schedule_backlog(globals, session, options, run);
    note(fmt::format("scheduled a backlog of {} messages in {:.1f} s ({}/s)",
                     format_count(backlog.acked), backlog.seconds,
                     format_count(static_cast<uint64_t>(static_cast<double>(backlog.acked) /
                                                        std::max(1e-6, backlog.seconds)))));
  }
  if (messages_of(options) > 0 && !interrupted()) {
    client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
    require(consumer.assign(ranges.assignment(options.topic, false)),
            fmt::format("topic {}", options.topic));
    const double baseline_half = options.baseline_seconds.value_or(kBaselineSecondsDefault) / 2;
    baseline.measure(baseline_half);
    baseline.workload_begins();
    run_schedule(globals, session, options, run, consumer, arrivals, result);
    baseline.workload_ends();
    baseline.measure(baseline_half);
    result.messages = arrivals.unique();
    result.seconds = arrivals.seconds();
    result.fires_per_s = static_cast<double>(arrivals.median_second());
  } else {
    result.messages = backlog.acked;
    result.seconds = backlog.seconds;
    result.rate = 0;
  }
  result.lateness_ns = arrivals.lateness_ns();
  result.early = arrivals.early();
  result.duplicates = arrivals.duplicates();
  if (options.backlog > 0) {
    check_backlog(session, options, backlog, arrivals, result);
  }
  clean_up(session, options, topic);
  return result;
}

}  // namespace tidemark::tools
