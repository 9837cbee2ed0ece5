// A consumer group of `tidemark consume` processes while messages come at a steady rate: one member
// is added, one is killed with -9. Every message is printed, the lag reaches 0, and partitions that
// do not move are not interrupted.
//
// TIDEMARK_GROUP_RATE=50000 makes the big run (messages per second, for TIDEMARK_GROUP_SECONDS).
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/check.h"
#include "tests/support/child_process.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 12;
constexpr size_t kMessageBytes = 100;
constexpr int64_t kSessionMs = 1'500;
constexpr int64_t kSettleMsMax = 60'000;
// A partition that moves from a killed member waits at least for the session timeout.
constexpr int64_t kInterruptedMs = 1'000;

struct Print {
  uint64_t number = 0;
  uint32_t partition = 0;
  int64_t at_ns = 0;
};

// A member as a process, and a thread that reads what it prints.
class Member {
 public:
  Member(ToolFixture& broker, const std::string& name) {
    ChildProcess::Start start;
    start.arguments = {tool_path(),
                       "consume",
                       "t",
                       "--group",
                       "g",
                       "--format",
                       "%p %v\\n",
                       "--session-timeout",
                       std::to_string(kSessionMs) + "ms"};
    start.environment = {"TIDEMARK_BROKERS=" + broker.daemon().address()};
    start.error_file = broker.directory() / (name + ".err");
    error_file_ = start.error_file;
    child_.launch(start);
    // The child closes its own when it has ended; what it had printed is still to be read.
    const int output = ::fcntl(child_.output(), F_DUPFD_CLOEXEC, 0);
    TIDEMARK_CHECK(output >= 0);
    reader_ = std::thread([this, output] { read(output); });
  }

  ~Member() {
    child_.kill();
    if (reader_.joinable()) {
      reader_.join();
    }
  }

  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  ChildProcess& child() { return child_; }

  // Requires: it has ended. In the order of printing.
  const std::vector<Print>& prints() {
    if (reader_.joinable()) {
      reader_.join();
    }
    return prints_;
  }

  [[nodiscard]] std::string errors() const { return file_text(error_file_); }

 private:
  void read(int output) {
    std::string rest;
    std::array<char, 65536> part;
    ssize_t got = 0;
    while ((got = ::read(output, part.data(), part.size())) > 0) {
      const int64_t now_ns = monotonic_now_ns();
      rest.append(part.data(), static_cast<size_t>(got));
      size_t begin = 0;
      for (size_t end = rest.find('\n'); end != std::string::npos; end = rest.find('\n', begin)) {
        add(std::string_view(rest).substr(begin, end - begin), now_ns);
        begin = end + 1;
      }
      rest.erase(0, begin);  // half a line, if it was killed
    }
    ::close(output);
  }

  void add(std::string_view line, int64_t now_ns) {
    Print print;
    const auto [end, error] =
        std::from_chars(line.data(), line.data() + line.size(), print.partition);
    TIDEMARK_CHECK(error == std::errc(), std::string(line));
    print.number = number_of(line.substr(static_cast<size_t>(end - line.data()) + 1));
    print.at_ns = now_ns;
    prints_.push_back(print);
  }

  ChildProcess child_;
  std::string error_file_;
  std::thread reader_;
  std::vector<Print> prints_;  // of reader_ while it runs
};

// Numbered messages at an even pace, in turn over the partitions.
class Traffic {
 public:
  Traffic(const client::Client& client, uint64_t rate, uint64_t total)
      : rate_(rate), sent_ns_(total), began_ms_(wall_now_ms()) {
    thread_ = std::thread([this, client] { send_all(client); });
  }

  ~Traffic() { join(); }

  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  // When this part of the messages is to have been sent.
  [[nodiscard]] int64_t wall_of(double part) const {
    return began_ms_ + static_cast<int64_t>(part * static_cast<double>(sent_ns_.size()) * 1'000 /
                                            static_cast<double>(rate_));
  }

  void join() {
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  // After join(). When each was given to the producer.
  [[nodiscard]] const std::vector<int64_t>& sent_ns() const { return sent_ns_; }

  // After join(). Not ok if a message could not be delivered.
  [[nodiscard]] const client::Status& result() const { return result_; }

 private:
  void send_all(const client::Client& client) {
    auto producer = client::Producer::create(client, {});
    TIDEMARK_CHECK(producer.ok());
    const auto topic = producer->topic("t");
    TIDEMARK_CHECK(topic.ok());
    for (uint64_t number = 0; number < sent_ns_.size(); ++number) {
      const int64_t due_ms = began_ms_ + static_cast<int64_t>(number * 1'000 / rate_);
      if (wall_now_ms() < due_ms) {
        wait_for_wall(due_ms);
      }
      const std::string value = numbered_value(number, kMessageBytes);
      client::Message message;
      message.value = value;
      message.partition = static_cast<uint32_t>(number % kPartitions);
      sent_ns_[number] = monotonic_now_ns();
      const client::Status sent = producer->send(*topic, message);
      result_ = result_.ok() ? sent : result_;
    }
    const client::FlushResult flushed = producer->flush(kTrafficDeadlineMs);
    result_ = result_.ok() ? flushed.status : result_;
  }

  const uint64_t rate_;
  std::vector<int64_t> sent_ns_;
  const int64_t began_ms_;
  client::Status result_;
  std::thread thread_;
};

// Waits until the group looks as wanted.
template <typename Condition>
void wait_for_group(const client::Client& client, const std::string& what, Condition condition) {
  auto groups = client::Groups::create(client);
  REQUIRE(groups.ok());
  const int64_t until_ms = wall_now_ms() + kSettleMsMax;
  std::string last = "no answer";
  while (wall_now_ms() < until_ms) {
    const auto group = groups->describe("g");
    if (group.ok() && condition(*group)) {
      return;
    }
    last = group.ok() ? std::to_string(group->members.size()) + " members, lag " +
                            std::to_string(group->lag)
                      : group.status().to_string();
    wait_for_wall(wall_now_ms() + 20);
  }
  FAIL("the group has not " << what << ": " << last);
}

bool has_all_partitions(const client::GroupDescription& group, size_t members) {
  size_t assigned = 0;
  bool all_work = group.members.size() == members;
  for (const client::GroupMemberInfo& member : group.members) {
    assigned += member.assigned.size();
    all_work = all_work && !member.assigned.empty();
  }
  return all_work && assigned == kPartitions;
}

struct Outcome {
  uint64_t lost = 0;
  uint64_t again = 0;    // printed more than once
  uint64_t strange = 0;  // that nobody sent
  size_t stayed = 0;     // partitions that one member read all the time
  double stayed_ms = 0;  // the longest that a message of those waited
  double moved_ms = 0;   // of the others
};

Outcome judge(const std::vector<int64_t>& sent_ns,
              const std::vector<std::unique_ptr<Member>>& members) {
  Outcome outcome;
  std::vector<int64_t> first_ns(sent_ns.size());
  std::map<uint32_t, std::set<const Member*>> readers;
  for (const std::unique_ptr<Member>& member : members) {
    for (const Print& print : member->prints()) {
      if (print.number >= sent_ns.size()) {
        ++outcome.strange;
        continue;
      }
      int64_t& first = first_ns[print.number];
      outcome.again += first != 0 ? 1U : 0U;
      first = first == 0 ? print.at_ns : std::min(first, print.at_ns);
      readers[print.partition].insert(member.get());
    }
  }
  for (const auto& [partition, who] : readers) {
    outcome.stayed += who.size() == 1 ? 1U : 0U;
  }
  for (uint64_t number = 0; number < sent_ns.size(); ++number) {
    if (first_ns[number] == 0) {
      ++outcome.lost;
      continue;
    }
    const double waited_ms = static_cast<double>(first_ns[number] - sent_ns[number]) / 1e6;
    const bool stayed = readers[static_cast<uint32_t>(number % kPartitions)].size() == 1;
    double& longest = stayed ? outcome.stayed_ms : outcome.moved_ms;
    longest = std::max(longest, waited_ms);
  }
  return outcome;
}

}  // namespace

TEST_CASE(
    "members come and are killed: every message is printed, and what stays is not disturbed") {
  const uint64_t rate = full_size("TIDEMARK_GROUP_RATE", 5'000);
  const uint64_t seconds = full_size("TIDEMARK_GROUP_SECONDS", 5);
  ToolFixture broker;
  broker.output({"topic", "create", "t", "--partitions", std::to_string(kPartitions)});
  const client::Client client = connect(broker.daemon().address());
  std::vector<std::unique_ptr<Member>> members;
  const auto add_member = [&] {
    members.push_back(std::make_unique<Member>(broker, "member-" + std::to_string(members.size())));
  };
  for (size_t i = 0; i < 3; ++i) {
    add_member();
  }
  wait_for_group(client, "shared out its partitions",
                 [](const auto& group) { return has_all_partitions(group, 3); });

  Traffic traffic(client, rate, rate * seconds);
  wait_for_wall(traffic.wall_of(0.2));
  add_member();
  wait_for_wall(traffic.wall_of(0.4));
  members[0]->child().kill();
  traffic.join();
  REQUIRE_MESSAGE(traffic.result().ok(), traffic.result().to_string());
  wait_for_group(client, "caught up", [](const auto& group) {
    return has_all_partitions(group, 3) && group.partitions.size() == kPartitions && group.lag == 0;
  });
  for (size_t i = 1; i < members.size(); ++i) {
    members[i]->child().send_signal(SIGTERM);
    CHECK_MESSAGE(members[i]->child().wait_exit() == 0, members[i]->errors());
  }

  const Outcome outcome = judge(traffic.sent_ns(), members);
  MESSAGE(rate << " messages/s for " << seconds << " s: lost " << outcome.lost << ", printed again "
               << outcome.again << "; " << outcome.stayed
               << " partitions stayed, a message waited at most " << outcome.stayed_ms
               << " ms; of the others " << outcome.moved_ms << " ms");
  CHECK(outcome.lost == 0);
  CHECK(outcome.strange == 0);
  // Of three members with four each, two live on and give up one each to the fourth.
  CHECK(outcome.stayed >= 6);
  CHECK(outcome.stayed_ms < kInterruptedMs);
}

}  // namespace tidemark::testing
