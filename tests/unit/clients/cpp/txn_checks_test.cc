// Check-backs against a scripted broker; check functions run when the test says so.
#include "clients/cpp/src/txn_checks.h"

#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/core_rig.h"

namespace tidemark::client_core {
namespace {

using client::CheckAnswer;
using client::CheckRequest;
using client::TransactionId;
using testing::CoreRig;
using TxnState = protocol::fbs::TxnState;

class CheckRig : public CoreRig {
 public:
  explicit CheckRig(uint64_t seed, size_t queue_max = 4'096) : CoreRig(seed) {
    TxnChecks::Hooks hooks;
    hooks.run = [this](TxnChecks::Task task) { jobs.push_back(std::move(task)); };
    hooks.post = [this](TxnChecks::Task task) { posted.push_back(std::move(task)); };
    hooks.count = [this](bool unknown) { ++(unknown ? unknowns : knowns); };
    checks = std::make_shared<TxnChecks>(TxnCheckOptions{.group = "orders",
                                                         .check =
                                                             [this](const CheckRequest& request) {
                                                               asked.push_back(request);
                                                               clock.advance_ms(takes_ms);
                                                               return answer;
                                                             },
                                                         .queue_max = queue_max},
                                         cluster, gate, std::move(hooks), seed);
    components.push_back(checks.get());
    // As the InitProducer of create() would have done.
    network.add_topic("t", 2);
    cluster.want("t");
    REQUIRE(run_until([&] { return cluster.find("t") != nullptr; }, 1'000));
    REQUIRE(run_until([&] { return network.txn_polls == 2; }, 1'000));
  }

  TransactionId add(uint64_t count, uint16_t shard) {
    const TransactionId id{.producer = 9, .number = count, .shard = shard};
    testing::FakeTxn& txn = network.txns[id];
    txn.state = TxnState::kOpen;
    txn.reference = "order " + std::to_string(count);
    txn.born_ms = 1'000;
    network.checks_due.push_back(id);
    return id;
  }

  // Runs the check that was handed out, if there is one, and all that follows.
  void run_jobs() {
    settle();
    while (!jobs.empty()) {
      CHECK_MESSAGE(jobs.size() == 1, "one at a time");
      const TxnChecks::Task job = std::move(jobs.front());
      jobs.clear();
      job();
      settle();
    }
  }

  void settle() {
    REQUIRE(!run_until([] { return false; }, 10));
  }

  std::shared_ptr<CheckGate> gate = std::make_shared<CheckGate>();
  std::shared_ptr<TxnChecks> checks;
  std::vector<TxnChecks::Task> jobs;
  std::vector<CheckRequest> asked;
  CheckAnswer answer = CheckAnswer::kCommitted;
  int64_t takes_ms = 0;
  size_t knowns = 0;
  size_t unknowns = 0;
};

TEST_CASE("a poll waits at every shard, and what is known is answered") {
  CheckRig rig(1);
  const TransactionId first = rig.add(1, 0);
  const TransactionId second = rig.add(2, 1);
  rig.run_jobs();
  REQUIRE(rig.asked.size() == 2);
  for (const CheckRequest& request : rig.asked) {
    CHECK((request.id == first || request.id == second));
    CHECK(request.reference == (request.id == first ? "order 1" : "order 2"));
    CHECK(request.born_ms == 1'000);
    CHECK(request.checks == 1);
    CHECK(request.deadline_ms == 5'000);
  }
  CHECK(rig.network.txns.at(first).state == TxnState::kCommitted);
  CHECK(rig.network.txns.at(second).state == TxnState::kCommitted);
  for (const testing::FakeEnd& end : rig.network.ends) {
    CHECK(end.by == protocol::fbs::TxnEndBy::kCheck);
    CHECK(end.halves == UINT32_MAX);
  }
  CHECK(rig.network.txn_polls == 4);  // again at once
  rig.answer = CheckAnswer::kNotCommitted;
  const TransactionId third = rig.add(3, 0);
  rig.run_jobs();
  CHECK(rig.network.txns.at(third).state == TxnState::kRolledBack);
  CHECK(rig.knowns == 3);
  CHECK(rig.network.violations.empty());
}

TEST_CASE("unknown, and what comes too late, is not answered") {
  CheckRig rig(2);
  rig.answer = CheckAnswer::kUnknown;
  const TransactionId id = rig.add(1, 0);
  rig.run_jobs();
  rig.answer = CheckAnswer::kCommitted;
  rig.takes_ms = 5'001;
  rig.network.checks_due.push_back(id);
  rig.run_jobs();
  CHECK(rig.asked.size() == 2);
  CHECK(rig.unknowns == 2);
  CHECK(rig.network.ends.empty());
  rig.takes_ms = 5'000;
  rig.network.checks_due.push_back(id);
  rig.run_jobs();
  CHECK(rig.asked.back().checks == 3);
  CHECK(rig.network.txns.at(id).state == TxnState::kCommitted);
}

TEST_CASE("one that is asked about again while it waits is asked once") {
  CheckRig rig(3);
  const TransactionId first = rig.add(1, 0);
  rig.settle();
  const TransactionId second = rig.add(2, 0);
  rig.settle();
  rig.network.checks_due = {first, second};
  rig.run_jobs();
  CHECK(rig.asked.size() == 2);
}

TEST_CASE("a full queue: no poll until there is room") {
  CheckRig rig(4, 64);
  for (uint64_t i = 1; i <= 10; ++i) {
    rig.add(i, 0);
  }
  rig.settle();
  const size_t polls = rig.network.txn_polls;
  rig.network.cut_all();
  rig.settle();
  CHECK(rig.network.txn_polls == polls);
  rig.run_jobs();
  CHECK(rig.asked.size() == 10);
  REQUIRE(rig.run_until([&] { return rig.network.txn_polls >= polls + 2; }, 10'000));
}

TEST_CASE("lost connections and refusals: polls come back after a pause") {
  CheckRig rig(5);
  rig.network.cut_all();
  REQUIRE(rig.run_until([&] { return rig.network.txn_polls == 4; }, 20'000));
  rig.network.on_request = [](protocol::FrameType type) {
    return type == protocol::FrameType::kTxnPoll ? Status(ErrorCode::kOverloaded, "busy")
                                                 : Status();
  };
  rig.network.cut_all();
  REQUIRE(!rig.run_until([] { return false; }, 3'000));
  rig.network.on_request = nullptr;
  rig.add(1, 1);
  REQUIRE(rig.run_until([&] { return !rig.jobs.empty(); }, 20'000));
}

TEST_CASE("stopped: no check begins, none is answered") {
  CheckRig rig(6);
  const TransactionId first = rig.add(1, 0);
  rig.settle();
  REQUIRE(rig.jobs.size() == 1);
  SUBCASE("before it ran") {
    CHECK(rig.gate->close(0));
    rig.checks->stop();
    rig.run_jobs();
    CHECK(rig.asked.empty());
  }
  SUBCASE("while its answer is on the way") {
    rig.jobs.front()();
    rig.jobs.clear();
    rig.checks->stop();
    rig.run_jobs();
    CHECK(rig.asked.size() == 1);
  }
  CHECK(rig.network.txns.at(first).state == TxnState::kOpen);
  CHECK(rig.network.ends.empty());
}

TEST_CASE("the gate: closing waits for the check that runs, but not for its own") {
  CheckGate gate;
  CheckThread thread;
  Promise<bool> entered;
  Promise<bool> go_on;
  thread.run([&] {
    entered.set(gate.enter());
    static_cast<void>(go_on.wait());
    gate.leave();
  });
  CHECK(entered.wait());
  CHECK(!gate.close(0));
  go_on.set(true);
  CHECK(gate.close(10'000));
  CHECK(!gate.enter());
  CheckGate own;
  REQUIRE(own.enter());
  CHECK(own.close(0));
}

}  // namespace
}  // namespace tidemark::client_core
