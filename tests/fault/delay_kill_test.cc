// kill -9 between schedule and due time, and a broker that stays down past due times: nothing
// early, lost or twice, and what is overdue comes in order or as the topic's policy says.
//
// TIDEMARK_KILL_ROUNDS=100 makes the long run.
#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

using client::Delay;
using client::DelayOutcome;

constexpr uint32_t kPartitions = 3;
constexpr uint64_t kPerRound = 2'000;
constexpr int64_t kDelayMsMax = 1'500;

void check_log(DaemonProcess& daemon) {
  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

struct Checked {
  size_t early = 0;
  size_t lost = 0;
  size_t twice = 0;
  size_t cancelled_but_came = 0;
};

Checked check(const Schedules& schedules, Arrivals& arrivals, const std::set<uint64_t>& cancelled) {
  Checked checked;
  for (const Arrival& arrival : arrivals.stop()) {
    const auto one = schedules.all().find(arrival.number);
    if (one != schedules.all().end()) {
      checked.early += arrival.wall_ms < one->second.due_ms ? 1U : 0U;
    }
  }
  const auto times = arrivals.times();
  for (const auto& [number, one] : schedules.all()) {
    const auto it = times.find(number);
    const size_t came = it == times.end() ? 0 : it->second;
    if (cancelled.contains(number)) {
      checked.cancelled_but_came += came;
    } else {
      checked.lost += came == 0 ? 1U : 0U;
      checked.twice += came > 1 ? 1U : 0U;
    }
  }
  return checked;
}

// Cancels some of the messages of which reports came; those that answer so never come.
void cancel_some(const client::Client& client, Schedules& schedules, uint64_t first,
                 std::set<uint64_t>& cancelled) {
  auto delays = client::Delays::create(client);
  std::vector<uint64_t> numbers;
  std::vector<client::DelayTarget> targets;
  for (uint64_t number = first; number < first + kPerRound; number += 20) {
    const std::optional<Scheduled> one = schedules.find(number);
    if (one.has_value() && one->acked && one->status.ok()) {
      numbers.push_back(number);
      targets.push_back(client::DelayTarget::of(one->handle));
    }
  }
  const auto answer = delays->cancel("t", targets, kTrafficDeadlineMs);
  REQUIRE_MESSAGE(answer.ok(), answer.status().to_string());
  for (size_t i = 0; i < numbers.size(); ++i) {
    REQUIRE_MESSAGE((*answer)[i].status.ok(), (*answer)[i].status.to_string());
    if ((*answer)[i].outcome == DelayOutcome::kCancelled) {
      cancelled.insert(numbers[i]);
    }
  }
}

}  // namespace

TEST_CASE("kill -9 between schedule and due time: nothing early, lost, twice or against a cancel") {
  const uint64_t rounds = full_size("TIDEMARK_KILL_ROUNDS", 3);
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data",
                       {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  REQUIRE(admin.create_topic("t", kPartitions, {}, kTrafficDeadlineMs).ok());
  Arrivals arrivals(client, "t", kPartitions);
  Schedules schedules(client, "t", 200);
  std::set<uint64_t> cancelled;
  Random random(20261125);
  for (uint64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const size_t acks = schedules.acks();
    for (uint64_t number = round * kPerRound; number < (round + 1) * kPerRound; ++number) {
      schedules.send(number, Delay::after(static_cast<int64_t>(random.between(0, kDelayMsMax))));
    }
    // The kill falls while requests, writes and deliveries are under way.
    REQUIRE(schedules.wait_for_acks(acks + random.between(1, kPerRound)));
    cancel_some(client, schedules, round * kPerRound, cancelled);
    const size_t came = arrivals.count();
    REQUIRE(arrivals.wait_for(came + random.between(0, 100)));
    daemon.kill();
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  }
  schedules.flush();
  // Behind everything: what would come wrongly has come when it comes.
  Schedules last(client, "t", 20);
  constexpr uint64_t kFirstOfLast = 1'000'000'000;
  for (uint64_t i = 0; i < uint64_t{8} * kPartitions; ++i) {
    last.send(kFirstOfLast + i, Delay::after(kDelayMsMax + 100));
  }
  last.flush();
  for (uint64_t i = 0; i < uint64_t{8} * kPartitions; ++i) {
    REQUIRE(arrivals.wait_for_number(kFirstOfLast + i));
  }
  const Checked checked = check(schedules, arrivals, cancelled);
  MESSAGE("rounds " << rounds << ", scheduled " << schedules.all().size() << ", cancelled "
                    << cancelled.size());
  CHECK(arrivals.errors().empty());
  CHECK(arrivals.damaged() == 0);
  CHECK(checked.early == 0);
  CHECK(checked.lost == 0);
  CHECK(checked.twice == 0);
  CHECK(checked.cancelled_but_came == 0);
  check_log(daemon);
}

namespace {

// Topics of each late policy with messages due soon, and a broker that stays down for a while.
struct LongStop {
  static constexpr int64_t kLateMaxMs = 400;

  explicit LongStop(uint64_t messages_of_each)
      : count(messages_of_each),
        daemon(directory / "data",
               {"--shards", "1", "--wheel-memory-bytes", "1MiB", "--checkpoint-bytes", "1MiB"}) {
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
    client::Admin admin(connect(daemon.address()));
    client::TopicConfig config;
    REQUIRE(admin.create_topic("deliver", 1, config, kTrafficDeadlineMs).ok());
    REQUIRE(admin.create_topic("dead", 1, config, kTrafficDeadlineMs).ok());
    config.late_max_ms = kLateMaxMs;
    config.late_policy = client::LatePolicy::kSkip;
    REQUIRE(admin.create_topic("skip", 1, config, kTrafficDeadlineMs).ok());
    config.late_policy = client::LatePolicy::kDeadLetter;
    config.late_topic = "dead";
    REQUIRE(admin.create_topic("dead-letter", 1, config, kTrafficDeadlineMs).ok());
  }

  // Due within `spread_ms`, in an order that is not that of sending.
  void schedule(Schedules& schedules, int64_t first_ms, int64_t spread_ms) const {
    for (uint64_t number = 0; number < count; ++number) {
      const auto offset = static_cast<int64_t>(number * 7'919 % count);
      schedules.send(number,
                     Delay::at(first_ms + offset * spread_ms / static_cast<int64_t>(count)));
    }
    schedules.flush();
  }

  uint64_t count;
  TempDirectory directory;
  DaemonProcess daemon;
};

bool in_order(const Schedules& schedules, const std::vector<Arrival>& arrivals) {
  std::pair<int64_t, uint64_t> last;
  for (const Arrival& arrival : arrivals) {
    const Scheduled& one = schedules.of(arrival.number);
    if (std::pair(one.due_ms, one.handle.id) <= last) {
      return false;
    }
    last = {one.due_ms, one.handle.id};
  }
  return true;
}

void check_long_stop(uint64_t count, int64_t spread_ms, int64_t ahead_ms) {
  LongStop stop(count);
  const client::Client client = connect(stop.daemon.address());
  const int64_t first_ms = wall_now_ms() + ahead_ms;
  Schedules delivered(client, "deliver", 100);
  Schedules skipped(client, "skip", 100);
  Schedules dead(client, "dead-letter", 100);
  for (Schedules* const schedules : {&delivered, &skipped, &dead}) {
    stop.schedule(*schedules, first_ms, spread_ms);
  }
  REQUIRE_MESSAGE(wall_now_ms() < first_ms, "sending took too long");
  stop.daemon.kill();
  wait_for_wall(first_ms + spread_ms + LongStop::kLateMaxMs + 100);
  REQUIRE_MESSAGE(stop.daemon.start(), stop.daemon.errors());

  Arrivals of_deliver(client, "deliver", 1);
  Arrivals of_skip(client, "skip", 1);
  Arrivals of_dead_letter(client, "dead-letter", 1);
  Arrivals of_dead(client, "dead", 1);
  REQUIRE(of_deliver.wait_for(count));
  REQUIRE(of_dead.wait_for(count));
  // What comes in time is delivered, and last.
  constexpr uint64_t kInTime = 1'000'000'000;
  for (Schedules* const schedules : {&skipped, &dead}) {
    schedules->send(kInTime, Delay::after(50));
    schedules->flush();
  }
  REQUIRE(of_skip.wait_for_number(kInTime));
  REQUIRE(of_dead_letter.wait_for_number(kInTime));
  CHECK(in_order(delivered, of_deliver.stop()));
  CHECK(of_deliver.times().size() == count);
  CHECK(in_order(dead, of_dead.stop()));
  CHECK(of_dead.times().size() == count);
  CHECK(of_skip.stop().size() == 1);
  CHECK(of_dead_letter.stop().size() == 1);
  const uint16_t http = stop.daemon.http_port();
  CHECK(metric_sum(http, "tidemark_delays_late_skipped_total") == static_cast<double>(count));
  CHECK(metric_sum(http, "tidemark_delays_dead_lettered_total") == static_cast<double>(count));
  CHECK(metric_sum(http, "tidemark_wheel_entries") == 0);
  check_log(stop.daemon);
}

}  // namespace

TEST_CASE("down past due times: overdue messages come in order, or as their topic's policy says") {
  check_long_stop(500, 200, 800);
}

TEST_CASE("down past due times with more messages than the timing wheel keeps in memory") {
  check_long_stop(full_size("TIDEMARK_OVERDUE", 30'000), 200, 3'000);
}

}  // namespace tidemark::testing
