// Cancels and reschedules that race with the due times of their messages, two threads asking for
// every message: what was answered is what happens.
//
// TIDEMARK_CANCELS=100000 makes the long run.
#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

using client::Delay;
using client::DelayChange;
using client::DelayOutcome;

constexpr uint32_t kPartitions = 3;
constexpr int64_t kSpreadMs = 1'000;
constexpr uint64_t kRounds = 50;  // requests of each thread
constexpr int64_t kMovedByMs = 1'000;

uint64_t messages() { return full_size("TIDEMARK_CANCELS", 10'000); }

// Message n of `count` is due at this time after the first.
int64_t due_after_first_ms(uint64_t number, uint64_t count) {
  return static_cast<int64_t>(number) * kSpreadMs / static_cast<int64_t>(count);
}

// Sends messages 0 to count - 1, due within kSpreadMs; gives when the first is due.
int64_t schedule_all(Schedules& schedules, uint64_t count) {
  const int64_t first_ms = wall_now_ms() + 800 + static_cast<int64_t>(count / 50);
  for (uint64_t number = 0; number < count; ++number) {
    schedules.send(number, Delay::at(first_ms + due_after_first_ms(number, count)));
  }
  schedules.flush();
  REQUIRE(wall_now_ms() < first_ms);
  return first_ms;
}

// What one thread was told, by number.
using Answers = std::unordered_map<uint64_t, DelayChange>;

// One thread of a race: asks for all messages in kRounds requests, each of them when the first of
// its messages is about due, so that some of them are delivered and some are not.
class Racer {
 public:
  using Ask = client::Result<std::vector<DelayChange>> (*)(client::Delays&,
                                                           const std::vector<client::DelayTarget>&);

  Racer(const std::string& address, const Schedules& schedules, int64_t first_ms, int64_t behind_ms,
        Ask ask)
      : client_(connect(address)), thread_([this, &schedules, first_ms, behind_ms, ask] {
          run(schedules, first_ms + behind_ms, ask);
        }) {}

  const Answers& wait() {
    thread_.join();
    REQUIRE_MESSAGE(failed_.ok(), failed_.to_string());
    return answers_;
  }

 private:
  void run(const Schedules& schedules, int64_t first_ms, Ask ask) {
    auto delays = client::Delays::create(client_);
    const uint64_t count = schedules.all().size();
    for (uint64_t round = 0; round < kRounds; ++round) {
      std::vector<uint64_t> numbers;
      for (uint64_t i = count * round / kRounds; i < count * (round + 1) / kRounds; ++i) {
        numbers.push_back(i);
      }
      wait_for_wall(first_ms + due_after_first_ms(numbers.front(), count));
      const auto answer = ask(*delays, schedules.targets(numbers));
      if (!answer.ok()) {
        failed_ = answer.status();
        return;
      }
      for (size_t i = 0; i < numbers.size(); ++i) {
        answers_[numbers[i]] = (*answer)[i];
      }
    }
  }

  client::Client client_;
  Answers answers_;
  client::Status failed_;
  std::thread thread_;
};

client::Result<std::vector<DelayChange>> ask_cancel(
    client::Delays& delays, const std::vector<client::DelayTarget>& targets) {
  return delays.cancel("t", targets, kTrafficDeadlineMs);
}

client::Result<std::vector<DelayChange>> ask_reschedule(
    client::Delays& delays, const std::vector<client::DelayTarget>& targets) {
  return delays.reschedule("t", targets, Delay::after(kMovedByMs), kTrafficDeadlineMs);
}

struct Fixture {
  Fixture() : daemon(directory / "data", {"--shards", "2"}) {
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
    client::Admin admin(connect(daemon.address()));
    REQUIRE(admin.create_topic("t", kPartitions, {}, kTrafficDeadlineMs).ok());
  }

  TempDirectory directory;
  DaemonProcess daemon;
};

// One message for every partition, due behind everything that was scheduled so far: when they have
// come, what else would come has come.
void wait_for_the_last(const client::Client& client, Arrivals& arrivals) {
  auto producer = client::Producer::create(client, {});
  REQUIRE(producer.ok());
  constexpr uint64_t kFirst = 1'000'000'000;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    const uint64_t number = kFirst + partition;
    const std::string value = numbered_value(number, 20);
    client::Message message;
    message.value = value;
    message.partition = partition;
    message.delay = Delay::after(kMovedByMs + 300);
    REQUIRE(producer->send_future("t", message).get().status.ok());
  }
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    REQUIRE(arrivals.wait_for_number(kFirst + partition));
  }
}

// The outcomes of two threads for one message, the answers of which must fit together.
struct Tally {
  uint64_t changed = 0;
  uint64_t delivered = 0;
  uint64_t contradictory = 0;
  uint64_t errors = 0;
};

Tally tally(const Answers& first, const Answers& second, DelayOutcome done) {
  Tally tally;
  for (const auto& [number, one] : first) {
    const DelayChange& other = second.at(number);
    if (!one.status.ok() || !other.status.ok()) {
      ++tally.errors;
      continue;
    }
    const std::array<DelayOutcome, 2> both = {one.outcome, other.outcome};
    const auto times = [&](DelayOutcome outcome) {
      return std::count(both.begin(), both.end(), outcome);
    };
    if (times(DelayOutcome::kAlreadyDelivered) == 2) {
      ++tally.delivered;
    } else if (times(done) == 1 && times(DelayOutcome::kNotFound) == 1) {
      ++tally.changed;
    } else {
      ++tally.contradictory;
    }
  }
  return tally;
}

}  // namespace

TEST_CASE("cancels that race with due times: each answer holds") {
  Fixture fixture;
  const client::Client client = connect(fixture.daemon.address());
  Arrivals arrivals(client, "t", kPartitions);
  Schedules schedules(client, "t", 100);
  const uint64_t count = messages();
  const int64_t first_ms = schedule_all(schedules, count);
  Racer early(fixture.daemon.address(), schedules, first_ms, 0, ask_cancel);
  Racer late(fixture.daemon.address(), schedules, first_ms, 5, ask_cancel);
  const Answers& first = early.wait();
  const Answers& second = late.wait();
  wait_for_the_last(client, arrivals);
  arrivals.stop();

  const Tally outcomes = tally(first, second, DelayOutcome::kCancelled);
  MESSAGE(count << " messages: " << outcomes.changed << " cancelled, " << outcomes.delivered
                << " already delivered");
  CHECK(outcomes.errors == 0);
  CHECK(outcomes.contradictory == 0);
  CHECK(outcomes.changed > 0);
  CHECK(outcomes.delivered > 0);
  const auto times = arrivals.times();
  size_t cancelled_but_came = 0;
  size_t wrong = 0;  // lost or twice
  for (uint64_t number = 0; number < count; ++number) {
    const bool cancelled = first.at(number).outcome == DelayOutcome::kCancelled ||
                           second.at(number).outcome == DelayOutcome::kCancelled;
    const auto it = times.find(number);
    const size_t came = it == times.end() ? 0 : it->second;
    cancelled_but_came += cancelled && came > 0 ? 1U : 0U;
    wrong += !cancelled && came != 1 ? 1U : 0U;
  }
  CHECK(cancelled_but_came == 0);
  CHECK(wrong == 0);
  CHECK(arrivals.damaged() == 0);

  // Asked again when all is over.
  auto delays = client::Delays::create(client);
  std::vector<uint64_t> numbers;
  for (uint64_t number = 0; number < count; ++number) {
    numbers.push_back(number);
  }
  const auto again = ask_cancel(*delays, schedules.targets(numbers));
  REQUIRE(again.ok());
  size_t changed_their_mind = 0;
  for (const uint64_t number : numbers) {
    const bool delivered = times.contains(number);
    const DelayOutcome expected =
        delivered ? DelayOutcome::kAlreadyDelivered : DelayOutcome::kNotFound;
    changed_their_mind += (*again)[number].outcome == expected ? 0U : 1U;
  }
  CHECK(changed_their_mind == 0);
}

TEST_CASE("reschedules that race with due times: each answer holds, and every message comes once") {
  Fixture fixture;
  const client::Client client = connect(fixture.daemon.address());
  Arrivals arrivals(client, "t", kPartitions);
  Schedules schedules(client, "t", 100);
  const uint64_t count = messages();
  const int64_t first_ms = schedule_all(schedules, count);
  Racer early(fixture.daemon.address(), schedules, first_ms, 0, ask_reschedule);
  Racer late(fixture.daemon.address(), schedules, first_ms, 5, ask_reschedule);
  const Answers& first = early.wait();
  const Answers& second = late.wait();

  // Every other one that was moved is cancelled by its new handle.
  std::unordered_map<uint64_t, client::DelayReceipt> moved;
  for (const Answers* answers : {&first, &second}) {
    for (const auto& [number, change] : *answers) {
      if (change.outcome == DelayOutcome::kRescheduled) {
        moved[number] = change.receipt;
      }
    }
  }
  std::vector<uint64_t> numbers;
  std::vector<client::DelayTarget> targets;
  for (const auto& [number, receipt] : moved) {
    if (number % 2 == 0) {
      numbers.push_back(number);
      targets.push_back(client::DelayTarget::of(receipt.handle));
    }
  }
  auto delays = client::Delays::create(client);
  const auto answer = ask_cancel(*delays, targets);
  REQUIRE(answer.ok());
  std::unordered_map<uint64_t, bool> cancelled;
  for (size_t i = 0; i < numbers.size(); ++i) {
    REQUIRE((*answer)[i].status.ok());
    REQUIRE((*answer)[i].outcome != DelayOutcome::kNotFound);
    cancelled[numbers[i]] = (*answer)[i].outcome == DelayOutcome::kCancelled;
  }
  wait_for_the_last(client, arrivals);

  const Tally outcomes = tally(first, second, DelayOutcome::kRescheduled);
  MESSAGE(count << " messages: " << outcomes.changed << " moved, " << outcomes.delivered
                << " already delivered");
  CHECK(outcomes.errors == 0);
  CHECK(outcomes.contradictory == 0);
  CHECK(outcomes.changed > 0);
  CHECK(outcomes.delivered > 0);
  size_t early_ones = 0;
  for (const Arrival& arrival : arrivals.stop()) {
    if (arrival.number < count) {
      const auto it = moved.find(arrival.number);
      const int64_t due_ms =
          it == moved.end() ? schedules.of(arrival.number).due_ms : it->second.due_ms;
      early_ones += arrival.wall_ms < due_ms ? 1U : 0U;
    }
  }
  CHECK(early_ones == 0);
  const auto times = arrivals.times();
  size_t wrong = 0;
  for (uint64_t number = 0; number < count; ++number) {
    const auto it = times.find(number);
    const auto gone = cancelled.find(number);
    const size_t expected = gone != cancelled.end() && gone->second ? 0 : 1;
    wrong += (it == times.end() ? 0 : it->second) != expected ? 1U : 0U;
  }
  CHECK(wrong == 0);
}

}  // namespace tidemark::testing
