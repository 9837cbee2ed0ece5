// kill -9 of the broker and of a program with a database of its own, at any moment, and programs
// that take over the name of one that still runs: afterwards every order in the database has its
// messages, once, on every topic, and every message its order.
//
// The program is the example order_service. TIDEMARK_ORDER_ROUNDS=200 makes the long run.
#include <signal.h>
#include <sqlite3.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/child_process.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr int kTakenOver = 3;  // exit code of order_service
constexpr int64_t kSettleMsMax = 60'000;

class Shop {
 public:
  Shop() : broker_({"--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"}) {
    for (const char* const topic : {"orders", "mails"}) {
      broker_.output({"topic", "create", topic, "--partitions", "4"});
    }
  }

  ToolFixture& broker() { return broker_; }

  std::unique_ptr<ChildProcess> launch(uint64_t seed, const Arguments& more) {
    ChildProcess::Start start;
    start.arguments = {required_environment("TIDEMARK_EXAMPLES") + "/order_service"};
    const std::pair<const char*, std::string> flags[] = {
        {"--brokers", broker_.daemon().address()},
        {"--db", database()},
        {"--topic", "orders"},
        {"--mail-topic", "mails"},
        {"--instance", "shop"},
        {"--timeout-ms", "200"},
        {"--rollback-percent", "20"},
        {"--seed", std::to_string(seed)},
    };
    for (const auto& [name, value] : flags) {
      start.arguments.insert(start.arguments.end(), {name, value});
    }
    start.arguments.insert(start.arguments.end(), more.begin(), more.end());
    start.output_file = output();
    start.error_file = directory() + "/service-" + std::to_string(errors_.size()) + ".err";
    errors_.push_back(start.error_file);
    auto child = std::make_unique<ChildProcess>();
    child->launch(start);
    return child;
  }

  // One that goes on until it is killed or another takes over. Some take longer over an order than
  // the broker waits before it asks.
  std::unique_ptr<ChildProcess> launch_endless(Random& random) {
    return launch(random.next() >> 1,
                  {"--count", "1000000000", "--work-ms", random.chance(1, 3) ? "400" : "0"});
  }

  void restart_broker() {
    DaemonProcess& daemon = broker_.daemon();
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  }

  // Lines of all services with these words.
  size_t said(std::string_view words) {
    size_t count = 0;
    for (const std::string& line : lines_of(file_text(output()))) {
      count += line.find(words) != std::string::npos ? 1U : 0U;
    }
    return count;
  }

  // What the last services complained about.
  std::string complaints() {
    std::string text;
    for (const std::string& file : errors_) {
      text += file_text(file);
    }
    return text;
  }

  std::string directory() { return broker_.directory().path(); }

  std::string database() { return directory() + "/orders.db"; }

  std::string output() { return directory() + "/service.out"; }

 private:
  ToolFixture broker_;
  std::vector<std::string> errors_;
};

// One round: something ends at a random moment. Afterwards broker and service run again.
class Rounds {
 public:
  Rounds(Shop& shop, uint64_t seed)
      : shop_(shop), random_(seed), service_(shop.launch_endless(random_)) {}

  void run_one() {
    // The moment is what the wait ends with: the service goes on by itself.
    const std::optional<int> ended =
        service_->wait_exit(static_cast<int>(random_.between(10, 600)));
    REQUIRE_MESSAGE(!ended.has_value(), *ended << " " << shop_.complaints());
    const uint64_t what = random_.below(5);
    if (what <= 2) {
      kill(what != 1, what != 0);
    } else {
      take_over(what == 4);
    }
  }

  void end() { service_->kill(); }

  uint64_t broker_kills = 0;
  uint64_t service_kills = 0;
  uint64_t take_overs = 0;

 private:
  void kill(bool broker, bool service) {
    if (broker) {
      shop_.broker().daemon().send_signal(SIGKILL);
      ++broker_kills;
    }
    if (service) {
      service_->kill();
      ++service_kills;
    }
    if (broker) {
      shop_.broker().daemon().kill();
      shop_.restart_broker();
    }
    if (service) {
      service_ = shop_.launch_endless(random_);
    }
  }

  // The older one finds out by itself, also when the broker falls in between.
  void take_over(bool kill_broker) {
    ++take_overs;
    std::unique_ptr<ChildProcess> second = shop_.launch_endless(random_);
    if (kill_broker) {
      const std::optional<int> ended = second->wait_exit(static_cast<int>(random_.between(0, 60)));
      REQUIRE_MESSAGE(!ended.has_value(), shop_.complaints());
      shop_.broker().daemon().kill();
      ++broker_kills;
      shop_.restart_broker();
    }
    const std::optional<int> ended = service_->wait_exit();
    REQUIRE_MESSAGE(ended == kTakenOver, ended.value_or(-1) << " " << shop_.complaints());
    service_ = std::move(second);
  }

  Shop& shop_;
  Random random_;
  std::unique_ptr<ChildProcess> service_;
};

// Every row, by order: what its messages say.
std::map<int64_t, std::string> orders_of(const std::string& file) {
  std::map<int64_t, std::string> orders;
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &db) == SQLITE_OK);
  const auto take = [](void* into, int, char** columns, char**) {
    auto& all = *static_cast<std::map<int64_t, std::string>*>(into);
    all[std::stoll(columns[0])] = std::string(columns[0]) + " for " + columns[1];
    return 0;
  };
  CHECK(sqlite3_exec(db, "SELECT id, amount FROM orders", take, &orders, nullptr) == SQLITE_OK);
  sqlite3_close(db);
  return orders;
}

// Waits until nothing is undecided on any shard.
void wait_until_settled(const client::Client& client) {
  auto transactions = client::Transactions::create(client);
  REQUIRE(transactions.ok());
  const int64_t until_ms = wall_now_ms() + kSettleMsMax;
  std::string last = "no answer";
  while (wall_now_ms() < until_ms) {
    const auto totals = transactions->stats();
    if (totals.ok()) {
      if (totals->open + totals->parked + totals->halves + totals->unconfirmed == 0) {
        return;
      }
      last = "open " + std::to_string(totals->open) + ", parked " + std::to_string(totals->parked) +
             ", halves " + std::to_string(totals->halves) + ", unconfirmed " +
             std::to_string(totals->unconfirmed);
    }
    wait_for_wall(wall_now_ms() + 50);
  }
  FAIL("not settled: " << last);
}

void check_topic(Shop& shop, const std::string& topic,
                 const std::map<int64_t, std::string>& orders) {
  CAPTURE(topic);
  std::map<std::string, size_t> times;
  for (const std::string& value :
       lines_of(shop.broker().output({"consume", topic, "--from", "start", "-q"}))) {
    ++times[value];
  }
  size_t lost = 0;
  size_t twice = 0;
  size_t found = 0;
  for (const auto& [number, value] : orders) {
    const auto it = times.find(value);
    lost += it == times.end() ? 1U : 0U;
    twice += it != times.end() && it->second > 1 ? 1U : 0U;
    found += it != times.end() ? 1U : 0U;
  }
  const size_t extra = times.size() - found;
  MESSAGE(topic << ": messages " << times.size() << ", lost " << lost << ", twice " << twice
                << ", without an order " << extra);
  CHECK(lost == 0);
  CHECK(twice == 0);
  CHECK(extra == 0);
}

}  // namespace

TEST_CASE("kill -9 of broker and program: every order has its messages, every message an order") {
  const uint64_t rounds = full_size("TIDEMARK_ORDER_ROUNDS", 8);
  constexpr uint64_t kSeed = 20261126;
  Shop shop;
  Rounds play(shop, kSeed);
  for (uint64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    play.run_one();
  }
  play.end();

  // A last one answers for what the others left.
  const auto last = shop.launch(kSeed, {"--count", "3", "--settle"});
  REQUIRE_MESSAGE(last->wait_exit() == 0, shop.complaints());
  wait_until_settled(connect(shop.broker().daemon().address()));

  const std::map<int64_t, std::string> orders = orders_of(shop.database());
  MESSAGE("rounds " << rounds << ": broker killed " << play.broker_kills << " times, program "
                    << play.service_kills << ", taken over " << play.take_overs);
  MESSAGE("orders " << orders.size() << ", refused " << shop.said(" refused")
                    << ", overtaken by a check " << shop.said("decided otherwise")
                    << "; check-backs: committed " << shop.said(": committed") << ", not done "
                    << shop.said(": not done"));
  CHECK(orders.size() > rounds);
  CHECK(shop.complaints().empty());
  check_topic(shop, "orders", orders);
  check_topic(shop, "mails", orders);

  DaemonProcess& daemon = shop.broker().daemon();
  CHECK(daemon.terminate() == 0);
  const CommandResult verify = run_command({tool_path(), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace tidemark::testing
