#include "bench/peers/workload.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tools/interrupt.h"
#include "tools/pacer.h"

namespace tidemark::bench {
namespace {

constexpr int64_t kAnswerWaitUs = 1'000;  // between two looks at the clock
constexpr int64_t kPollMs = 20;
constexpr size_t kFixedRows = 7;
constexpr double kWarmUpRate = 1'000;
constexpr int64_t kUnmeasured = 0;  // time of a stamp
// After the last message was sent: for the answers, and for what is still to arrive.
constexpr int64_t kDrainNs = 20'000'000'000;
// Rows that read stop when nothing comes for this long.
constexpr int64_t kQuietNs = 5'000'000'000;

int64_t now_ns() { return system_clock().monotonic().ns; }

// First bytes of every message.
struct Stamp {
  uint64_t run = 0;  // tells the messages of a row from whatever else a queue holds
  uint64_t index = 0;
  int64_t time = 0;  // intended sending, or when it is due; in the unit of the row
};

class Payload {
 public:
  Payload(size_t bytes, uint64_t run) : run_(run), value_(std::max(bytes, sizeof(Stamp))) {
    // Does not compress.
    Random random(1);
    std::ranges::generate(value_, [&random] { return static_cast<char>(random.next()); });
  }

  std::string_view make(uint64_t index, int64_t time) {
    const Stamp stamp = {.run = run_, .index = index, .time = time};
    std::memcpy(value_.data(), &stamp, sizeof(stamp));
    return {value_.data(), value_.size()};
  }

 private:
  uint64_t run_;
  std::vector<char> value_;
};

// What has arrived: each message once, or again.
class Arrivals {
 public:
  explicit Arrivals(uint64_t run) : run_(run) {}

  // Nothing for what is not of this run or came before.
  std::optional<Stamp> add(std::string_view value) {
    Stamp stamp;
    if (value.size() < sizeof(stamp)) {
      return std::nullopt;
    }
    std::memcpy(&stamp, value.data(), sizeof(stamp));
    if (stamp.run != run_) {
      return std::nullopt;
    }
    if (stamp.index >= seen_.size()) {
      seen_.resize(std::max<size_t>(stamp.index + 1, seen_.size() * 2));
    }
    if (seen_[stamp.index]) {
      ++duplicates_;
      return std::nullopt;
    }
    seen_[stamp.index] = true;
    ++unique_;
    return stamp;
  }

  [[nodiscard]] uint64_t unique() const { return unique_; }

  [[nodiscard]] uint64_t duplicates() const { return duplicates_; }

 private:
  uint64_t run_;
  std::vector<bool> seen_;
  uint64_t unique_ = 0;
  uint64_t duplicates_ = 0;
};

// What a sending loop did.
struct Sent {
  uint64_t sent = 0;
  uint64_t acked = 0;
  int64_t started_ns = 0;
  int64_t last_ack_ns = 0;

  void fill(Row& row) const {
    row.messages = acked;
    row.seconds = static_cast<double>(last_ack_ns - started_ns) / 1e9;
  }
};

// Keeps at most `in_flight` messages unanswered and notes the time of the last answer.
class Window {
 public:
  Window(Producer& producer, uint32_t in_flight) : producer_(producer), in_flight_(in_flight) {
    sent_.started_ns = now_ns();
    sent_.last_ack_ns = sent_.started_ns;
    before_ = producer.acked();
  }

  [[nodiscard]] bool full() const { return sent_.sent - sent_.acked >= in_flight_; }

  void send(std::string_view value, int64_t due_ms) {
    producer_.send(value, due_ms);
    ++sent_.sent;
  }

  void pump(int64_t wait_us) {
    producer_.pump(wait_us);
    const uint64_t acked = producer_.acked() - before_;
    if (acked != sent_.acked) {
      sent_.acked = acked;
      sent_.last_ack_ns = now_ns();
    }
  }

  // Until every message is answered, as long as answers may be waited for.
  Sent drain() {
    const int64_t deadline_ns = now_ns() + kDrainNs;
    while (sent_.acked < sent_.sent && now_ns() < deadline_ns && !tools::interrupted()) {
      pump(kAnswerWaitUs);
    }
    return sent_;
  }

  [[nodiscard]] const Sent& sent() const { return sent_; }

 private:
  Producer& producer_;
  uint64_t in_flight_;
  uint64_t before_ = 0;
  Sent sent_;
};

// As fast as answers come, for at most `count` messages and `seconds`. `time_of` gives what the
// stamp of the next message says; it is also its due time if `delayed`.
Sent send_all(Producer& producer, Payload& payload, const WorkloadOptions& options, uint64_t count,
              bool delayed, const std::function<int64_t()>& time_of) {
  Window window(producer, options.in_flight);
  const int64_t deadline_ns =
      window.sent().started_ns + static_cast<int64_t>(options.seconds * 1e9);
  while (window.sent().sent < count && now_ns() < deadline_ns && !tools::interrupted()) {
    for (int i = 0; i < 64 && !window.full() && window.sent().sent < count; ++i) {
      const int64_t time = time_of();
      window.send(payload.make(window.sent().sent, time), delayed ? time : 0);
    }
    window.pump(window.full() ? kAnswerWaitUs : 0);
  }
  return window.drain();
}

// At an even pace, whatever the answers do; beyond the window messages wait and are late. The first
// message has the number `first_index`.
Sent send_paced(Producer& producer, Payload& payload, const WorkloadOptions& options, double rate,
                uint64_t first_index) {
  constexpr int64_t kPumpUsMax = 200;
  const auto count = std::min(options.count_max, static_cast<uint64_t>(rate * options.seconds));
  Window window(producer, options.in_flight);
  const tools::Pacer pacer(rate, MonotonicTime{window.sent().started_ns});
  const int64_t deadline_ns =
      window.sent().started_ns + static_cast<int64_t>(options.seconds * 1e9) + kDrainNs;
  while (window.sent().sent < count && now_ns() < deadline_ns && !tools::interrupted()) {
    const int64_t intended_ns = pacer.intended(window.sent().sent).ns;
    const int64_t early_us = (intended_ns - now_ns()) / 1'000;
    if (early_us > 0 || window.full()) {
      window.pump(std::clamp<int64_t>(early_us, 1, kPumpUsMax));
    } else {
      window.send(payload.make(first_index + window.sent().sent, intended_ns), 0);
      window.pump(0);
    }
  }
  return window.drain();
}

// A consumer on a thread of its own, until it is told how many messages there are and has them, or
// nothing more comes.
class LiveReader {
 public:
  using OnMessage = std::function<void(const Stamp&)>;

  LiveReader(std::unique_ptr<Consumer> consumer, uint64_t run, OnMessage on_message)
      : consumer_(std::move(consumer)), arrivals_(run), on_message_(std::move(on_message)) {
    thread_ = std::thread([this] { run_thread(); });
  }

  // The sender failed: there is nothing to wait for.
  ~LiveReader() {
    if (thread_.joinable()) {
      gave_up_ = true;
      thread_.join();
    }
  }

  LiveReader(const LiveReader&) = delete;
  LiveReader& operator=(const LiveReader&) = delete;

  // Different messages so far.
  [[nodiscard]] uint64_t arrived() const { return arrived_; }

  // Waits for the end. Nothing is given up before `patience_ns` from now.
  const Arrivals& finish(uint64_t expected, int64_t patience_ns) {
    patient_until_ns_ = now_ns() + patience_ns;
    expected_ = expected;
    thread_.join();
    if (error_) {
      std::rethrow_exception(error_);
    }
    return arrivals_;
  }

 private:
  void run_thread() {
    try {
      int64_t last_ns = now_ns();
      while (!gave_up_ && !tools::interrupted() && arrivals_.unique() < expected_) {
        const uint64_t before = arrivals_.unique();
        consumer_->poll(kPollMs, [this](std::string_view value) {
          if (const std::optional<Stamp> stamp = arrivals_.add(value)) {
            on_message_(*stamp);
          }
        });
        const int64_t now = now_ns();
        arrived_ = arrivals_.unique();
        last_ns = arrivals_.unique() > before ? now : last_ns;
        if (expected_ != UINT64_MAX && now - std::max<int64_t>(last_ns, patient_until_ns_) > 0 &&
            now - last_ns > kQuietNs) {
          return;
        }
      }
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  std::unique_ptr<Consumer> consumer_;
  Arrivals arrivals_;
  OnMessage on_message_;
  std::atomic<uint64_t> arrived_{0};
  std::atomic<uint64_t> expected_{UINT64_MAX};
  std::atomic<int64_t> patient_until_ns_{0};
  std::atomic<bool> gave_up_{false};
  std::exception_ptr error_;
  std::thread thread_;
};

// Sends message 0, which is not measured, and waits for it: then both sides are connected.
void connect_both(Producer& producer, Payload& payload, const LiveReader& reader) {
  Window window(producer, 1);
  window.send(payload.make(0, kUnmeasured), 0);
  const int64_t deadline_ns = now_ns() + kDrainNs;
  while (reader.arrived() == 0 || window.full()) {
    if (now_ns() > deadline_ns || tools::interrupted()) {
      throw PeerError("the first message did not arrive");
    }
    window.pump(kAnswerWaitUs);
  }
}

class Rows {
 public:
  Rows(Adapter& adapter, const WorkloadOptions& options, tools::RawWriter& baseline)
      : adapter_(adapter), options_(options), baseline_(baseline) {}

  std::vector<Row> run() {
    // References to earlier rows stay valid.
    rows_.reserve(kFixedRows + options_.rates.size());
    warm_up();
    for (const size_t bytes : {size_t{100}, size_t{1'024}}) {
      produce_and_consume(bytes);
    }
    for (const double rate : options_.rates) {
      end_to_end(rate);
    }
    delayed();
    transactions();
    return std::move(rows_);
  }

 private:
  Row& begin(std::string name, size_t bytes) {
    Row row;
    row.name = std::move(name);
    row.bytes = bytes;
    rows_.push_back(std::move(row));
    return rows_.back();
  }

  // Runs `steps`; a failure becomes the text of the row.
  void attempt(Row& row, const std::function<void()>& steps) {
    if (tools::interrupted()) {
      row.why_not = "interrupted";
      return;
    }
    try {
      steps();
    } catch (const std::exception& error) {
      row.why_not = fmt::format("failed: {}", error.what());
    }
  }

  // As much per sync as is under way at most: what group commit could make of the load.
  void measure_baseline(Row& row) {
    const tools::RawWriteResult before = baseline_.result();
    const Status written =
        baseline_.write(std::min(options_.seconds, 1.0), options_.in_flight * row.bytes);
    if (!written.ok()) {
      throw PeerError(fmt::format("baseline: {}", written.to_string()));
    }
    row.baseline = baseline_.result();
    row.baseline.bytes -= before.bytes;
    row.baseline.syncs -= before.syncs;
    row.baseline.seconds -= before.seconds;
  }

  // For virtual machines that compile what runs often; all systems have it. Half of it is produced
  // and consumed, half end to end. What fails here fails in the rows, too, which say so.
  void warm_up() {
    WorkloadOptions options = options_;
    options.seconds = options_.warm_up_seconds / 2;
    Row unused;
    attempt(unused, [&] {
      const uint64_t run = seed_from_system();
      adapter_.create_queue("warm", QueueKind::kPlain, 0);
      const auto producer = adapter_.producer("warm", QueueKind::kPlain, options.in_flight);
      Payload payload(options.e2e_bytes, run);
      const Sent sent = send_all(*producer, payload, options, options.count_max, false,
                                 [] { return int64_t{0}; });
      consume(unused, "warm", run, sent.acked);
      unused.bytes = options.e2e_bytes;
      unused.rate = kWarmUpRate;
      measure_end_to_end(unused, "warm_e2e", options);
    });
  }

  void produce_and_consume(size_t bytes) {
    const uint64_t run = seed_from_system();
    const std::string queue = fmt::format("plain{}", bytes);
    Row& produce = begin(fmt::format("produce_{}", bytes), bytes);
    uint64_t stored = 0;
    attempt(produce, [&] {
      measure_baseline(produce);
      adapter_.create_queue(queue, QueueKind::kPlain, 0);
      const auto producer = adapter_.producer(queue, QueueKind::kPlain, options_.in_flight);
      Payload payload(bytes, run);
      const Sent sent = send_all(*producer, payload, options_, options_.count_max, false,
                                 [] { return int64_t{0}; });
      sent.fill(produce);
      produce.lost = sent.sent - sent.acked;
      stored = sent.acked;
    });
    Row& consume = begin(fmt::format("consume_{}", bytes), bytes);
    if (!produce.measured()) {
      consume.why_not = "nothing was produced";
      return;
    }
    attempt(consume, [&] { this->consume(consume, queue, run, stored); });
  }

  // Counts from the first arrival, without what came with it: connecting is not measured.
  void consume(Row& row, const std::string& queue, uint64_t run, uint64_t stored) {
    const auto consumer = adapter_.consumer(queue, QueueKind::kPlain, Reading::kBacklog);
    Arrivals arrivals(run);
    int64_t first_ns = now_ns();
    uint64_t with_first = 0;
    // Up to four times as long as writing might take: mostly all of it is read.
    const int64_t deadline_ns = first_ns + static_cast<int64_t>(options_.seconds * 4e9);
    int64_t last_ns = first_ns;
    while (arrivals.unique() < stored && !tools::interrupted()) {
      const uint64_t before = arrivals.unique();
      consumer->poll(kPollMs, [&arrivals](std::string_view value) { (void)arrivals.add(value); });
      const int64_t now = now_ns();
      last_ns = arrivals.unique() > before ? now : last_ns;
      // Unless all came at once.
      if (before == 0 && arrivals.unique() < stored) {
        first_ns = now;
        with_first = arrivals.unique();
      }
      row.cut = now > deadline_ns;
      if (row.cut || now - last_ns > kQuietNs) {
        break;
      }
    }
    row.messages = arrivals.unique() - with_first;
    row.seconds = static_cast<double>(last_ns - first_ns) / 1e9;
    row.duplicates = arrivals.duplicates();
    row.lost = row.cut ? 0 : stored - arrivals.unique();
  }

  void end_to_end(double rate) {
    Row& row = begin(e2e_name(rate), options_.e2e_bytes);
    row.rate = rate;
    attempt(row, [&] { measure_end_to_end(row, row.name, options_); });
  }

  void measure_end_to_end(Row& row, const std::string& queue, const WorkloadOptions& options) {
    const uint64_t run = seed_from_system();
    adapter_.create_queue(queue, QueueKind::kPlain, 0);
    const auto producer = adapter_.producer(queue, QueueKind::kPlain, options.in_flight);
    LiveReader reader(adapter_.consumer(queue, QueueKind::kPlain, Reading::kLive), run,
                      [&row](const Stamp& stamp) {
                        if (stamp.time != kUnmeasured) {
                          row.latency_ns.record(
                              static_cast<uint64_t>(std::max<int64_t>(0, now_ns() - stamp.time)));
                        }
                      });
    Payload payload(row.bytes, run);
    connect_both(*producer, payload, reader);
    const Sent sent = send_paced(*producer, payload, options, row.rate, 1);
    const uint64_t expected = sent.acked + 1;
    const Arrivals& arrivals = reader.finish(expected, 0);
    sent.fill(row);
    row.lost = expected - std::min(expected, arrivals.unique());
    row.duplicates = arrivals.duplicates();
  }

  // Two rows: how fast messages are scheduled, and when they come.
  void delayed() {
    Row& schedule = begin("schedule", options_.delayed_bytes);
    Row& lateness = begin("delayed", options_.delayed_bytes);
    schedule.why_not = adapter_.why_not(QueueKind::kDelayed);
    if (schedule.measured()) {
      attempt(schedule, [&] { schedule_and_receive(schedule, lateness); });
    }
    lateness.why_not = schedule.why_not;
  }

  void schedule_and_receive(Row& schedule, Row& lateness) {
    const uint64_t run = seed_from_system();
    const int64_t longest_ms = options_.delay_min_ms + options_.delay_window_ms;
    adapter_.create_queue("later", QueueKind::kDelayed, longest_ms);
    const auto producer = adapter_.producer("later", QueueKind::kDelayed, options_.in_flight);
    LiveReader reader(
        adapter_.consumer("later", QueueKind::kDelayed, Reading::kLive), run,
        [&lateness](const Stamp& stamp) {
          const int64_t late_ns = system_clock().wall_ns().ns - stamp.time * 1'000'000;
          lateness.early += late_ns < 0 ? 1 : 0;
          lateness.latency_ns.record(static_cast<uint64_t>(std::max<int64_t>(0, late_ns)));
        });
    Payload payload(schedule.bytes, run);
    const int64_t step_ms = adapter_.delay_step_ms();
    Random random(run);
    const auto due_ms = [&] {
      const auto steps = static_cast<int64_t>(
          random.between(static_cast<uint64_t>((options_.delay_min_ms + step_ms - 1) / step_ms),
                         static_cast<uint64_t>(longest_ms / step_ms)));
      return system_clock().wall().ms + steps * step_ms;
    };
    const Sent sent = send_all(*producer, payload, options_, options_.delayed_count, true, due_ms);
    sent.fill(schedule);
    schedule.lost = sent.sent - sent.acked;
    lateness.delay_step_ms = step_ms;
    const Arrivals& arrivals = reader.finish(sent.acked, longest_ms * 1'000'000 + kDrainNs);
    lateness.messages = arrivals.unique();
    lateness.lost = sent.acked - std::min(sent.acked, arrivals.unique());
    lateness.duplicates = arrivals.duplicates();
  }

  void transactions() {
    Row& row = begin("transactions", options_.transaction_bytes);
    row.why_not = adapter_.why_not(QueueKind::kTransactional);
    if (!row.measured()) {
      return;
    }
    attempt(row, [&] {
      const uint64_t run = seed_from_system();
      adapter_.create_queue("txn", QueueKind::kTransactional, 0);
      const auto producer = adapter_.producer("txn", QueueKind::kTransactional, options_.in_flight);
      Payload payload(row.bytes, run);
      const Sent sent = send_all(*producer, payload, options_, options_.count_max, false,
                                 [] { return int64_t{0}; });
      sent.fill(row);
      // Committed means visible: all of them are read back.
      Row read;
      consume(read, "txn", run, sent.acked);
      row.lost = read.lost;
      row.duplicates = read.duplicates;
    });
  }

  Adapter& adapter_;
  const WorkloadOptions& options_;
  tools::RawWriter& baseline_;
  std::vector<Row> rows_;
};

}  // namespace

std::string e2e_name(double rate) { return fmt::format("e2e_{:.0f}", rate); }

std::vector<Row> run_rows(Adapter& adapter, const WorkloadOptions& options,
                          tools::RawWriter& baseline) {
  return Rows(adapter, options, baseline).run();
}

}  // namespace tidemark::bench
