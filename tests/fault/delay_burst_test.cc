// A great many delayed messages due in the same millisecond: all delivered once and in order,
// within bounds of memory, while another topic of the shard goes on being served; and what delayed
// messages cost in the log.
//
// TIDEMARK_BURST=1000000 and TIDEMARK_LOG_MESSAGES=100000 make the long runs.
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

using client::Delay;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kFullBurst = 1'000'000;

struct Latency {
  size_t requests = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
};

// Sends one message after the other to a topic, each when the last is acknowledged. A request that
// takes longer than kEveryMs stands also for those that it kept from being sent.
class Pinger {
 public:
  Pinger(const client::Client& client, const std::string& topic) : topic_(topic) {
    client::ProducerOptions options;
    options.linger_ms = 0;
    options.delivery_timeout_ms = kTrafficDeadlineMs;
    auto created = client::Producer::create(client, options);
    REQUIRE(created.ok());
    producer_ = std::make_unique<client::Producer>(std::move(*created));
  }

  void start() {
    stopping_.store(false);
    times_ms_.clear();
    requests_ = 0;
    thread_ = std::thread([this] { run(); });
  }

  [[nodiscard]] uint64_t requests() const { return requests_.load(); }

  Latency stop() {
    stopping_.store(true);
    thread_.join();
    std::sort(times_ms_.begin(), times_ms_.end());
    CHECK(failed_ == 0);
    REQUIRE_FALSE(times_ms_.empty());
    return {requests_.load(), times_ms_[times_ms_.size() / 2],
            times_ms_[times_ms_.size() * 99 / 100], times_ms_.back()};
  }

 private:
  static constexpr double kEveryMs = 2;

  void run() {
    client::Message message;
    message.value = "a plain message";
    while (!stopping_.load()) {
      const int64_t begin_ns = monotonic_now_ns();
      failed_ += producer_->send_future(topic_, message).get().status.ok() ? 0U : 1U;
      double ms = static_cast<double>(monotonic_now_ns() - begin_ns) / 1e6;
      ++requests_;
      do {
        times_ms_.push_back(ms);
        ms -= kEveryMs;
      } while (ms > 0);
    }
  }

  const std::string topic_;
  std::unique_ptr<client::Producer> producer_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> requests_{0};
  std::vector<double> times_ms_;
  size_t failed_ = 0;
};

// How long sending `count` takes on this machine now, by a twentieth of it.
int64_t sending_ms(const client::Client& client, uint64_t count) {
  Schedules trial(client, "trial", 100);
  const int64_t begin_ns = monotonic_now_ns();
  for (uint64_t number = 0; number < count / 20; ++number) {
    trial.send(number, Delay::after(3'600'000));
  }
  trial.flush();
  return (monotonic_now_ns() - begin_ns) * 20 / 1'000'000;
}

void check_burst(const Schedules& schedules, const std::vector<Arrival>& arrivals, uint64_t count) {
  REQUIRE(arrivals.size() == count);
  size_t early = 0;
  size_t out_of_order = 0;
  std::vector<bool> seen(count);
  uint64_t last_id = 0;
  size_t twice = 0;
  for (const Arrival& arrival : arrivals) {
    REQUIRE(arrival.number < count);
    twice += seen[arrival.number] ? 1U : 0U;
    seen[arrival.number] = true;
    const Scheduled& one = schedules.of(arrival.number);
    early += arrival.wall_ms < one.due_ms ? 1U : 0U;
    out_of_order += one.handle.id <= last_id ? 1U : 0U;
    last_id = one.handle.id;
  }
  CHECK(early == 0);
  CHECK(twice == 0);
  CHECK(out_of_order == 0);
}

void print_memory(const std::string& what, uint64_t bytes) {
  MESSAGE(what << " " << bytes / kMiB << " MB");
}

void print_latency(const std::string& what, const Latency& latency) {
  MESSAGE("produce on another topic, " << what << ": " << latency.requests << " requests, p50 "
                                       << latency.p50_ms << " ms, p99 " << latency.p99_ms
                                       << " ms, max " << latency.max_ms << " ms");
}

}  // namespace

TEST_CASE("a burst due in one millisecond comes once, in order, and does not hold up the shard") {
  const uint64_t count = full_size("TIDEMARK_BURST", 100'000);
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "1"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  const client::Client other_client = connect(daemon.address());
  client::Admin admin(client);
  for (const char* topic : {"burst", "other", "trial"}) {
    REQUIRE(admin.create_topic(topic, 1, {}, kTrafficDeadlineMs).ok());
  }
  const uint64_t rss_start = process_memory(daemon.pid(), "VmRSS");
  Pinger pinger(other_client, "other");
  Arrivals arrivals(client, "burst", 1);

  const int64_t due_ms = wall_now_ms() + 2 * sending_ms(client, count) + 2'000;
  Schedules schedules(client, "burst", 100);
  for (uint64_t number = 0; number < count; ++number) {
    schedules.send(number, Delay::at(due_ms));
  }
  schedules.flush();
  REQUIRE_MESSAGE(wall_now_ms() < due_ms - 1'000, "sending took longer than it was measured to");
  CHECK(arrivals.count() == 0);

  pinger.start();
  wait_for_wall(due_ms - 50);
  const Latency idle = pinger.stop();
  const uint64_t rss_before = process_memory(daemon.pid(), "VmRSS");
  const bool peak_known = reset_peak_memory(daemon.pid());
  pinger.start();
  REQUIRE(arrivals.wait_for(count));
  const int64_t drained_ms = wall_now_ms();
  const Latency busy = pinger.stop();
  const uint64_t rss_peak = process_memory(daemon.pid(), peak_known ? "VmHWM" : "VmRSS");

  check_burst(schedules, arrivals.stop(), count);
  CHECK(arrivals.damaged() == 0);
  CHECK(metric_sum(daemon.http_port(), "tidemark_delays_fired_total") ==
        static_cast<double>(count));
  MESSAGE(count << " due in one millisecond: the last was read " << drained_ms - due_ms
                << " ms after its time");
  print_memory("RSS at start", rss_start);
  print_memory("RSS with all of it pending", rss_before);
  const uint64_t grown = rss_peak > rss_before ? rss_peak - rss_before : 0;
  print_memory("RSS growth by the burst, at its peak", grown);
  print_latency("idle", idle);
  print_latency("during the burst", busy);
  CHECK(grown <= 200 * kMiB * std::max<uint64_t>(count / kFullBurst, 1));
  // The machine that runs this may be busy with other things: the figures above are what counts.
  CHECK(busy.p99_ms <= std::max(50 * idle.p99_ms, 1'000.0));
}

TEST_CASE("what delayed messages of 1 KB cost in the log, through delivery") {
  const uint64_t count = full_size("TIDEMARK_LOG_MESSAGES", 20'000);
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "1"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  {
    const client::Client client = connect(daemon.address());
    client::Admin admin(client);
    REQUIRE(admin.create_topic("t", 1, {}, kTrafficDeadlineMs).ok());
    Arrivals arrivals(client, "t", 1);
    Schedules schedules(client, "t", 1'024);
    for (uint64_t number = 0; number < count; ++number) {
      schedules.send(number, Delay::after(static_cast<int64_t>(500 + number % 1'000)));
    }
    schedules.flush();
    REQUIRE(arrivals.wait_for(count));
    arrivals.stop();
    CHECK(arrivals.damaged() == 0);
    CHECK(arrivals.times().size() == count);
  }
  const double written = metric_sum(daemon.http_port(), "tidemark_log_written_bytes_total");
  CHECK(daemon.terminate() == 0);
  const CommandResult dump = run_command({required_environment("TIDEMARK_CLI"), "log", "dump",
                                          daemon.data_dir(), "--stats", "-o", "json"});
  REQUIRE_MESSAGE(dump.exit_code == 0, dump.errors);
  const nlohmann::json stats = nlohmann::json::parse(dump.output);
  CHECK(stats["delayed_messages"] == count);
  const double bodies = static_cast<double>(count) * 1'024;
  CHECK(stats["delayed_body_bytes"].get<double>() == bodies);
  const double entries = stats["entry_bytes"].get<double>();
  MESSAGE(count << " delayed messages of 1 KB: entries " << entries / bodies
                << ", of delayed messages " << stats["delayed_ratio"].get<double>()
                << ", written with padding " << written / bodies << " times their bodies; advances "
                << stats["records_by_kind"]["advance"].get<uint64_t>());
  CHECK(entries <= 1.15 * bodies);
  CHECK(stats["delayed_ratio"].get<double>() <= 1.15);
}

}  // namespace tidemark::testing
