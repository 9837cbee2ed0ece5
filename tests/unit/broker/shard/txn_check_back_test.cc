// Check-backs, parking and forgetting: transactions as time goes by.
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;
using NoChecks = std::vector<TxnCheck>;

constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kTickMs = 20;  // how exact check-backs are

HalfInput half_of_group(const TxnId& txn, const std::string& group, uint32_t timeout_ms = 0) {
  HalfInput part = TxnHarness::half(txn, 0, {std::to_string(txn.number())});
  part.group = group;
  part.timeout_ms = timeout_ms;
  return part;
}

// --- when a producer is asked

TEST_CASE("without a producer that can be asked nothing happens, however long it takes") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.poll("others", 60'000);
  const size_t entries = harness.consensus.log.size();
  harness.tick_for_ms(60'000, 1000);
  CHECK(harness.take_checks().empty());  // its time was up
  harness.tick_for_ms(kHourMs, 1000);
  CHECK_FALSE(harness.answered());
  CHECK(harness.consensus.log.size() == entries);
  CHECK(harness.stats().txn_checks == 0);
  harness.poll();
  harness.wait_ms(kTickMs);
  const auto checks = harness.take_checks();
  REQUIRE(checks.size() == 1);
  CHECK(checks[0].checks == 1);
}

TEST_CASE("a transaction is asked about when its timeout is over, and not before") {
  for (const uint32_t timeout_ms : {0u, limits::kTxnTimeoutMsMin, 60'000u}) {
    const int64_t after_ms = timeout_ms == 0 ? limits::kTxnTimeoutMsDefault : timeout_ms;
    for (const int64_t waited_ms : {after_ms - 1, after_ms}) {
      CAPTURE(waited_ms);
      TxnHarness harness;
      harness.put(half_of_group(txn_id(), "orders", timeout_ms));
      const int64_t born_ms = harness.log_ms();
      harness.advance_ms(waited_ms - 1);
      harness.poll();
      harness.poll();
      harness.advance_ms(1);
      harness.core->tick(harness.now);
      if (waited_ms < after_ms) {
        CHECK_FALSE(harness.answered());
        continue;
      }
      const auto checks = harness.take_checks();
      REQUIRE(checks.size() == 1);
      CHECK(checks[0].txn.producer() == 7);
      CHECK(checks[0].txn.number() == 1);
      CHECK(checks[0].txn.shard() == 0);
      CHECK(checks[0].reference == "order 17");
      CHECK(checks[0].born_ms == born_ms);
      CHECK(checks[0].checks == 1);
      CHECK_FALSE(harness.answered());  // one producer is asked
    }
  }
}

TEST_CASE("time counts from the first part, later ones do not put it off") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.advance_ms(5999);
  harness.put(txn_id(), 1, {"b"});
  harness.advance_ms(1);
  harness.poll();
  harness.tick();
  CHECK(harness.take_checks().size() == 1);
}

TEST_CASE("who does not answer is asked again, after pauses that grow to five minutes") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  int64_t before_ms = harness.log_ms();
  const int64_t start_ns = harness.now.monotonic.ns;
  harness.poll("orders", 47'000);  // none ends just when a check is due
  for (uint32_t check = 1; check <= 16;) {
    harness.wait_ms(kTickMs);
    if (!harness.answered()) {
      continue;
    }
    const auto checks = harness.take_checks();
    harness.poll("orders", 47'000);
    if (checks.empty()) {
      continue;
    }
    REQUIRE(checks.size() == 1);
    CHECK(checks[0].checks == check);
    const int64_t passed_ms = (harness.now.monotonic.ns - start_ns) / 1'000'000;
    const int64_t asked_ms =
        harness.core->views().txns().find(key_of(txn_id()))->born_ms + passed_ms;
    const int64_t pause_ms = txn::TxnTable::check_pause_ms(6000, check - 1);
    CAPTURE(check);
    CHECK(asked_ms - before_ms >= pause_ms);
    CHECK(asked_ms - before_ms < pause_ms + kTickMs);
    before_ms = asked_ms;
    ++check;
  }
  CHECK(txn::TxnTable::check_pause_ms(6000, 15) == 300'000);
  CHECK(harness.stats().txn_checks == 16);
}

TEST_CASE("transactions of one moment are all asked about, each once") {
  TxnHarness harness;
  std::vector<HalfInput> parts;
  for (uint64_t i = 1; i <= 500; ++i) {
    parts.push_back(half_of_group(txn_id(i), "orders"));
  }
  harness.send_halves({parts.begin(), parts.begin() + 250});
  harness.send_halves({parts.begin() + 250, parts.end()});
  harness.advance_ms(6000);
  std::set<uint64_t> asked;
  for (int round = 0; round < 20; ++round) {
    harness.poll("orders", 1000);
    harness.wait_ms(kTickMs);
    for (const TxnCheck& check : harness.answered() ? harness.take_checks() : NoChecks()) {
      CHECK(check.checks == 1);
      CHECK(asked.insert(check.txn.number()).second);
    }
  }
  CHECK(asked.size() == 500);
}

TEST_CASE("a poll gets as many as it asks for, the next one the rest") {
  TxnHarness harness;
  for (uint64_t i = 1; i <= 10; ++i) {
    harness.put(half_of_group(txn_id(i), "orders"));
    harness.advance_ms(1);
  }
  harness.advance_ms(6000);
  harness.poll("orders", 1000, 3, 1);
  harness.poll("orders", 1000, 4, 2);
  harness.poll("orders", 1000, 0, 3);  // at least one
  harness.tick();
  std::vector<size_t> sizes;
  uint64_t next = 1;  // oldest first
  while (harness.answered()) {
    const auto checks = harness.take_checks();
    sizes.push_back(checks.size());
    for (const TxnCheck& check : checks) {
      CHECK(check.txn.number() == next++);
    }
  }
  CHECK(sizes == std::vector<size_t>{3, 4, 1});
  harness.poll("orders", 1000, UINT32_MAX);
  harness.wait_ms(kTickMs);
  CHECK(harness.take_checks().size() == 2);
}

TEST_CASE("a group is asked about what is its own") {
  TxnHarness harness;
  harness.put(half_of_group(txn_id(1), "orders"));
  harness.put(half_of_group(txn_id(2), "payments"));
  harness.advance_ms(6000);
  harness.poll("payments");
  harness.poll("nobody");
  harness.tick();
  const auto checks = harness.take_checks();
  REQUIRE(checks.size() == 1);
  CHECK(checks[0].txn.number() == 2);
  CHECK_FALSE(harness.answered());
}

TEST_CASE("a poll that nothing is there for ends empty when its time is over") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.poll("orders", 1000);
  harness.wait_ms(999);
  CHECK_FALSE(harness.answered());
  harness.wait_ms(1);
  CHECK(harness.take_checks().empty());
  CHECK(harness.stats().txn_producers == 0);
  harness.poll("orders", UINT32_MAX);  // as long as the broker waits for anything
  harness.put(txn_id(2), 0, {"b"});
  REQUIRE(harness.commit(txn_id(1)).status.ok());
  REQUIRE(harness.commit(txn_id(2)).status.ok());
  harness.wait_ms(limits::kFetchWaitMsMax - 1);
  CHECK_FALSE(harness.answered());
  harness.wait_ms(1);
  CHECK(harness.take_checks().empty());
}

TEST_CASE("a poll ends in time though its shard is no longer the leader") {
  TxnHarness harness;
  harness.poll("orders", 1000);
  harness.consensus.set_role(replica::Role::kFollower);
  harness.wait_ms(1000);
  REQUIRE(harness.answered());
  CHECK(harness.take_checks().empty());
}

TEST_CASE("a producer that hung up is not asked") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.poll("orders", 60'000, 64, 1);
  harness.poll("orders", 60'000, 64, 2);
  harness.core->connection_closed(0, 1);
  CHECK(harness.stats().txn_producers == 1);
  harness.wait_ms(6000);
  REQUIRE(harness.outbox.replies.size() == 1);
  CHECK(harness.outbox.replies[0].to.connection == 2);
  CHECK(harness.take_checks().size() == 1);
  harness.poll("orders", 60'000, 64, 1);
  harness.core->connection_closed(0, 1);
  harness.tick_for_ms(kHourMs, 1000);
  CHECK_FALSE(harness.answered());
  CHECK(harness.stats().txn_checks == 1);
}

TEST_CASE("a poll without a group is refused") {
  TxnHarness harness;
  for (const std::string& group : {std::string(), std::string(256, 'g')}) {
    harness.poll(group);
    CHECK(testing::error_of(harness.outbox.take()).code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("when the broker stops, polls are answered") {
  TxnHarness harness;
  harness.poll();
  harness.poll("others");
  harness.core->begin_stop();
  CHECK(harness.take_checks().empty());
  CHECK(harness.take_checks().empty());
}

TEST_CASE("steps of the wall clock make no check earlier or later") {
  for (const int64_t step_ms : {-kHourMs, kHourMs, -30 * 24 * kHourMs, 30 * 24 * kHourMs}) {
    CAPTURE(step_ms);
    TxnHarness harness;
    harness.put(txn_id(), 0, {"a"});
    harness.poll();
    harness.advance_ms(3000);
    harness.now.wall.ms += step_ms;
    harness.wait_ms(2999);
    CHECK_FALSE(harness.answered());
    harness.wait_ms(kTickMs);
    CHECK(harness.take_checks().size() == 1);
    harness.now.wall.ms -= step_ms;
    harness.poll();
    harness.wait_ms(8900);
    CHECK_FALSE(harness.answered());
    harness.wait_ms(200);
    CHECK(harness.take_checks().size() == 1);
    CHECK(harness.state() == TxnWireState::kOpen);
  }
}

TEST_CASE("a check that was not recorded when the process died is made again") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.poll();
  harness.advance_ms(6000);
  harness.core->tick(harness.now);
  CHECK(harness.take_checks().size() == 1);
  harness.core->flush(harness.now);
  harness.restart();
  harness.poll();
  harness.tick();
  const auto again = harness.take_checks();
  REQUIRE(again.size() == 1);
  CHECK(again[0].checks == 1);
  // A recorded one counts across the restart.
  harness.restart();
  harness.poll();
  harness.wait_ms(8900);
  CHECK_FALSE(harness.answered());
  harness.wait_ms(100);
  CHECK(harness.take_checks().at(0).checks == 2);
}

TEST_CASE("a check that is under way is not made twice") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.advance_ms(6000);
  harness.poll();
  harness.poll();
  harness.core->tick(harness.now);
  CHECK(harness.take_checks().size() == 1);
  harness.core->flush(harness.now);
  for (int i = 0; i < 5; ++i) {  // the disk is slow
    harness.advance_ms(kTickMs);
    harness.core->tick(harness.now);
  }
  CHECK_FALSE(harness.answered());
  harness.settle();
  CHECK(harness.stats().txn_checks == 1);
}

TEST_CASE("a group that is away for an hour finds all of its transactions, and ends them") {
  TxnHarness harness;
  std::map<uint64_t, bool> wanted;
  for (uint64_t i = 1; i <= 200; ++i) {
    harness.put(half_of_group(txn_id(i), "orders", i % 3 == 0 ? 100 : 0));
    wanted[i] = i % 4 != 0;
    harness.tick_for_ms(7, 7);
  }
  harness.tick_for_ms(kHourMs, 1000);
  CHECK(harness.stats().txn_open == 200);
  while (harness.stats().txn_open > 0) {
    harness.poll();
    harness.tick_for_ms(kTickMs);
    REQUIRE(harness.answered());
    const auto checks = harness.take_checks();
    REQUIRE_FALSE(checks.empty());
    for (const TxnCheck& check : checks) {
      CHECK(harness.end({check.txn, wanted.at(check.txn.number())}, TxnEndBy::kCheck).status.ok());
    }
  }
  CHECK(harness.stats().txn_committed == 150);
  CHECK(harness.stats().txn_rolled_back == 50);
  Values expected;
  for (const auto& [number, commit] : wanted) {
    if (commit) {
      expected.push_back(std::to_string(number));
    }
  }
  Values values = harness.values();
  std::sort(values.begin(), values.end());
  std::sort(expected.begin(), expected.end());
  CHECK(values == expected);
}

// --- parking

// A shard that parks what is a minute old.
class ParkingHarness : public TxnHarness {
 public:
  static constexpr int64_t kAgeMs = 60'000;

  ParkingHarness() {
    options.txn_pending_age_ms = kAgeMs;
    restart();
  }

  // A parked transaction.
  void park(const TxnId& txn = txn_id()) {
    put(txn, 0, {"a"});
    wait_ms(kAgeMs);
    REQUIRE(state(txn) == TxnWireState::kParked);
  }
};

TEST_CASE("a transaction is parked when it is as old as allowed, and not before") {
  for (const int64_t short_of_ms : {1, 0}) {
    CAPTURE(short_of_ms);
    ParkingHarness harness;
    harness.put(txn_id(), 0, {"a"});
    harness.wait_ms(ParkingHarness::kAgeMs - short_of_ms);
    CHECK(harness.state() == (short_of_ms > 0 ? TxnWireState::kOpen : TxnWireState::kParked));
    CHECK(harness.stats().txn_parkings == (short_of_ms > 0 ? 0 : 1));
    harness.wait_ms(kTickMs);
    CHECK(harness.state() == TxnWireState::kParked);
    CHECK(harness.stats().txn_parkings == 1);
    CHECK(harness.stats().txn_parked == 1);
    CHECK(harness.stats().txn_open == 0);
  }
}

TEST_CASE("checks in vain do not keep a transaction from being parked") {
  ParkingHarness harness;
  harness.put(txn_id(), 0, {"a"});
  for (int64_t passed_ms = 0; passed_ms < ParkingHarness::kAgeMs - 1000; passed_ms += 1000) {
    harness.poll("orders", 900);
    harness.tick_for_ms(1000);
    harness.take_checks();
  }
  CHECK(harness.state() == TxnWireState::kOpen);
  harness.tick_for_ms(1000);
  CHECK(harness.state() == TxnWireState::kParked);
}

TEST_CASE("a parked transaction is not asked about, and stays") {
  ParkingHarness harness;
  harness.park();
  const size_t entries = harness.consensus.log.size();
  harness.poll("orders", 60'000);
  harness.tick_for_ms(60'000, 1000);
  CHECK(harness.take_checks().empty());
  harness.restart();
  harness.tick_for_ms(48 * kHourMs, 60'000);
  CHECK(harness.state() == TxnWireState::kParked);
  CHECK(harness.consensus.log.size() == entries);
  CHECK(harness.values().empty());
}

TEST_CASE("a parked transaction ends like an open one, whoever says so") {
  for (const TxnEndBy by : {TxnEndBy::kProducer, TxnEndBy::kCheck, TxnEndBy::kOperator}) {
    for (const bool commit : {true, false}) {
      ParkingHarness harness;
      harness.park();
      const TxnResult result = harness.end({txn_id(), commit, 1}, by);
      CHECK(result.status.ok());
      CHECK(result.state == (commit ? TxnWireState::kCommitted : TxnWireState::kRolledBack));
      CHECK(harness.values() == (commit ? Values{"a"} : Values{}));
      CHECK(harness.stats().txn_parked == 0);
    }
  }
}

TEST_CASE("a parked transaction takes the parts of its producer that is late") {
  ParkingHarness harness;
  harness.park();
  harness.put(txn_id(), 1, {"b"});
  CHECK(harness.state() == TxnWireState::kParked);
  CHECK(harness.end({txn_id(), true, 2}).status.ok());
  CHECK(harness.values() == Values{"a", "b"});
}

TEST_CASE("a recheck opens a parked transaction and asks at once, and it is parked anew") {
  ParkingHarness harness;
  harness.park();
  harness.poll();
  harness.wait_ms(kTickMs);
  CHECK_FALSE(harness.answered());
  harness.outbox.replies.clear();
  const TxnResult result = harness.recheck();
  CHECK(result.status.ok());
  CHECK(result.state == TxnWireState::kOpen);
  harness.wait_ms(kTickMs);
  const auto checks = harness.take_checks();
  REQUIRE(checks.size() == 1);
  CHECK(checks[0].checks == 1);
  harness.wait_ms(ParkingHarness::kAgeMs - 2 * kTickMs);
  CHECK(harness.state() == TxnWireState::kOpen);
  harness.wait_ms(2 * kTickMs);
  CHECK(harness.state() == TxnWireState::kParked);
  CHECK(harness.stats().txn_parkings == 2);
}

TEST_CASE("a recheck asks about an open transaction, too, and says of others what is known") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  CHECK(harness.recheck().state == TxnWireState::kOpen);
  harness.poll();
  harness.tick();
  CHECK(harness.take_checks().size() == 1);
  CHECK(harness.recheck(txn_id(2)).status.code() == ErrorCode::kNotFound);
  REQUIRE(harness.rollback().status.ok());
  const TxnResult ended = harness.recheck();
  CHECK(ended.status.code() == ErrorCode::kConflict);
  CHECK(ended.state == TxnWireState::kRolledBack);
  CHECK(testing::error_of(harness.ask(testing::txn_recheck_request({}))).code() ==
        ErrorCode::kInvalidArgument);
  CHECK(testing::error_of(
            harness.ask(testing::txn_recheck_request(std::vector<TxnId>(1025, txn_id()))))
            .code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("an end and a recheck of one moment: the end counts") {
  for (const bool end_first : {true, false}) {
    CAPTURE(end_first);
    TxnHarness harness;
    harness.put(txn_id(), 0, {"a"});
    const TxnId id = txn_id();
    const EndInput end{id};
    const auto end_frame = testing::txn_end_request({&end, 1});
    const auto recheck_frame = testing::txn_recheck_request({&id, 1});
    harness.receive(end_first ? end_frame : recheck_frame);
    harness.receive(end_first ? recheck_frame : end_frame);
    harness.settle();
    const TxnResult first = testing::read_txn_results(harness.outbox.take()).at(0);
    const TxnResult second = testing::read_txn_results(harness.outbox.take()).at(0);
    CHECK(first.status.ok());
    CHECK(second.status.code() == (end_first ? ErrorCode::kConflict : ErrorCode::kOk));
    CHECK(second.state == TxnWireState::kCommitted);
    CHECK(harness.values() == Values{"a"});
  }
}

TEST_CASE("thousands of old transactions are parked, some at a time") {
  ParkingHarness harness;
  for (uint64_t i = 0; i < 12; ++i) {
    std::vector<HalfInput> parts;
    for (uint64_t k = 1; k <= 250; ++k) {
      parts.push_back(half_of_group(txn_id(i * 250 + k), "orders"));
    }
    harness.send_halves(parts);
  }
  REQUIRE(harness.stats().txn_open == 3000);
  harness.wait_ms(ParkingHarness::kAgeMs);
  harness.tick_for_ms(100);
  CHECK(harness.stats().txn_open == 0);
  CHECK(harness.stats().txn_parked == 3000);
  CHECK(harness.stats().txn_parkings == 3000);
}

// --- forgetting

TEST_CASE("an outcome is remembered for its age, and then no more") {
  TxnHarness harness;
  harness.options.txn_outcome_age_ms = 60'000;
  harness.restart();
  harness.put(txn_id(), 0, {"a"});
  harness.commit();
  harness.wait_ms(60'000);
  CHECK(harness.state() == TxnWireState::kCommitted);
  CHECK(harness.commit().status.ok());
  harness.tick_for_ms(1100, 100);
  CHECK(harness.state() == TxnWireState::kNone);
  CHECK(harness.commit().status.code() == ErrorCode::kNotFound);
  const size_t entries = harness.consensus.log.size();
  harness.tick_for_ms(10'000, 1000);
  CHECK(harness.consensus.log.size() == entries);  // said once
  CHECK(harness.values() == Values{"a"});
  harness.restart();
  CHECK(harness.state() == TxnWireState::kNone);
}

}  // namespace
}  // namespace tidemark::shard
