// Long-delayed messages do not keep the log's oldest segments: they are written again, the segments
// go, and every message still comes with its content, over kill -9 as well.
//
// TIDEMARK_RELOCATED=900 makes the long run.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

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
using client::DelayTarget;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSegmentBytes = 4 * kMiB;
constexpr uint64_t kPerSegment = 150;  // about: a segment of plain messages follows so many
constexpr int64_t kHourMs = 3'600'000;

uint64_t messages() { return full_size("TIDEMARK_RELOCATED", 300); }

// Of every three messages the first has a key, the second is rescheduled, the third just waits.
bool has_key(uint64_t number) { return number % 3 == 0; }

bool is_moved(uint64_t number) { return number % 3 == 1; }

std::string key_of(uint64_t number) { return "key-" + std::to_string(number); }

class Fixture {
 public:
  Fixture()
      : daemon_(directory_ / "data",
                {"--shards", "1", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB",
                 "--checkpoint-interval", "1s", "--retention-interval", "100ms",
                 "--tail-cache-bytes", "16MiB"}) {
    REQUIRE_MESSAGE(daemon_.start(), daemon_.errors());
    client::Admin admin(connect(daemon_.address()));
    REQUIRE(admin.create_topic("later", 1, {}, kTrafficDeadlineMs).ok());
    client::TopicConfig config;
    config.retention_bytes = static_cast<int64_t>(kMiB);
    REQUIRE(admin.create_topic("plain", 1, config, kTrafficDeadlineMs).ok());
  }

  DaemonProcess& daemon() { return daemon_; }

  // Messages due in hours, over several segments; a third of them moved to another hour.
  void schedule(const client::Client& client, Schedules& schedules) {
    for (uint64_t number = 0; number < messages(); ++number) {
      const std::string key = key_of(number);
      Delay delay = Delay::after(kHourMs + static_cast<int64_t>(number * 7'919 % messages()));
      if (has_key(number)) {
        delay.with_key(key);
      }
      schedules.send(number, delay);
      if (number % kPerSegment == kPerSegment - 1) {
        schedules.flush();
        fill(client, 1);
      }
    }
    schedules.flush();
    std::vector<uint64_t> moved;
    for (uint64_t number = 0; number < messages(); ++number) {
      if (is_moved(number)) {
        moved.push_back(number);
      }
      targets_.push_back(has_key(number) ? DelayTarget::of_key(key_of(number))
                                         : DelayTarget::of(schedules.of(number).handle));
    }
    auto delays = client::Delays::create(client);
    const auto answer = delays->reschedule("later", schedules.targets(moved),
                                           Delay::after(2 * kHourMs), kTrafficDeadlineMs);
    REQUIRE_MESSAGE(answer.ok(), answer.status().to_string());
    for (size_t i = 0; i < moved.size(); ++i) {
      REQUIRE((*answer)[i].outcome == DelayOutcome::kRescheduled);
      targets_[moved[i]] = DelayTarget::of((*answer)[i].receipt.handle);
    }
  }

  // Plain messages over several segments.
  void fill(const client::Client& client, uint64_t segments) {
    auto producer = client::Producer::create(client, {.delivery_timeout_ms = kTrafficDeadlineMs});
    REQUIRE(producer.ok());
    const auto topic = producer->topic("plain");
    const std::string value(32 * 1024, 'p');
    client::Message message;
    message.value = value;
    for (uint64_t bytes = 0; bytes < segments * kSegmentBytes; bytes += value.size()) {
      REQUIRE(producer->send(*topic, message).ok());
    }
    const client::FlushResult rest = producer->close(kTrafficDeadlineMs);
    REQUIRE_MESSAGE(rest.status.ok(), rest.status.to_string());
  }

  [[nodiscard]] double metric(const std::string& name) const {
    return metric_sum(daemon_.http_port(), name);
  }

  // Asks the broker until it is so, at most kTrafficDeadlineMs.
  static bool wait_until(const std::function<bool()>& so) {
    const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
    while (!so()) {
      if (wall_now_ms() > until_ms) {
        return false;
      }
      wait_for_wall(wall_now_ms() + 20);
    }
    return true;
  }

  // The segments that held the messages are gone: the log's first position is behind them.
  bool wait_until_given_back(double position) {
    return wait_until([&] { return metric("tidemark_log_first_position_bytes") >= position; });
  }

  [[nodiscard]] std::vector<std::string> segment_files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(daemon_.data_dir())) {
      if (entry.is_regular_file() && entry.path().extension() == ".seg") {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  [[nodiscard]] const std::vector<DelayTarget>& targets() const { return targets_; }

 private:
  TempDirectory directory_;
  DaemonProcess daemon_;
  std::vector<DelayTarget> targets_;
};

// Half of them by reschedule to a moment ahead, half at once: all come, once, as they were sent.
void fire_all(const client::Client& client, const std::vector<DelayTarget>& targets) {
  Arrivals arrivals(client, "later", 1);
  auto delays = client::Delays::create(client);
  const auto pending = delays->stats("later", kTrafficDeadlineMs);
  REQUIRE(pending.ok());
  CHECK(pending->at(0).pending == targets.size());
  const auto shown = delays->show("later", targets.front(), kTrafficDeadlineMs);
  REQUIRE_MESSAGE(shown.ok(), shown.status().to_string());
  CHECK(number_of(shown->message_value.value_or("")) == 0);
  const size_t half = targets.size() / 2;
  const auto middle = targets.begin() + static_cast<ptrdiff_t>(half);
  for (const auto& [some, when_ms] :
       {std::pair(std::vector<DelayTarget>(targets.begin(), middle), int64_t{0}),
        std::pair(std::vector<DelayTarget>(middle, targets.end()), int64_t{300})}) {
    const auto answer =
        delays->reschedule("later", some, Delay::after(when_ms), kTrafficDeadlineMs);
    REQUIRE_MESSAGE(answer.ok(), answer.status().to_string());
    for (const client::DelayChange& change : *answer) {
      REQUIRE_MESSAGE(change.status.ok(), change.status.to_string());
      REQUIRE(change.outcome == DelayOutcome::kRescheduled);
    }
  }
  const bool all_came = arrivals.wait_for(targets.size(), 30'000);
  const size_t came = arrivals.count();
  REQUIRE_MESSAGE(all_came, came << " came; " << arrivals.error());
  // Behind all of them.
  Schedules last(client, "later", 20);
  last.send(targets.size(), Delay::after(200));
  last.flush();
  REQUIRE(arrivals.wait_for_number(targets.size()));
  CHECK(arrivals.stop().size() == targets.size() + 1);
  CHECK(arrivals.times().size() == targets.size() + 1);
  CHECK(arrivals.damaged() == 0);
}

void check_log(DaemonProcess& daemon) {
  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace

TEST_CASE("old segments are given back though long-delayed messages lie in them; kill -9 between") {
  Fixture fixture;
  const client::Client client = connect(fixture.daemon().address());
  Schedules schedules(client, "later", 1'024);
  fixture.schedule(client, schedules);
  const double scheduled_end = fixture.metric("tidemark_log_next_position_bytes");
  const std::vector<std::string> first_files = fixture.segment_files();
  REQUIRE_FALSE(first_files.empty());
  fixture.fill(client, 3);
  REQUIRE(Fixture::wait_until(
      [&] { return fixture.metric("tidemark_delays_relocated_bytes_total") > 0; }));
  const double relocated = fixture.metric("tidemark_delays_relocated_bytes_total");
  // Somewhere between the first message written again and the segment given back.
  fixture.daemon().kill();
  REQUIRE_MESSAGE(fixture.daemon().start(), fixture.daemon().errors());
  const double first_after_kill = fixture.metric("tidemark_log_first_position_bytes");
  fixture.fill(client, 3);
  REQUIRE(fixture.wait_until_given_back(scheduled_end));
  MESSAGE(messages() << " messages in the log below " << scheduled_end << ", " << relocated
                     << " bytes written again before the kill; first position " << first_after_kill
                     << " after it, now " << fixture.metric("tidemark_log_first_position_bytes"));
  REQUIRE(Fixture::wait_until([&] { return !std::filesystem::exists(first_files.front()); }));

  // Where they lie now is known over another restart, too.
  fixture.daemon().kill();
  REQUIRE_MESSAGE(fixture.daemon().start(), fixture.daemon().errors());
  fire_all(client, fixture.targets());
  check_log(fixture.daemon());
}

}  // namespace tidemark::testing
