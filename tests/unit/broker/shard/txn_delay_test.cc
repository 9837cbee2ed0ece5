// Delayed messages that are part of a transaction, and the relocation of half messages.
#include <doctest/doctest.h>

#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;
using testing::by_key;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

TEST_CASE("the delay of a half message counts from the commit, and is never cut short") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", 1000}, {"b", 0}, {"c", 500}}));
  harness.run_ms(5000);
  CHECK(harness.values().empty());
  CHECK(harness.pending() == 0);
  REQUIRE(harness.commit().status.ok());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"b"});
  harness.run_ms(498);
  CHECK(harness.values() == Values{"b"});
  harness.run_ms(1);
  CHECK(harness.values() == Values{"b", "c"});
  harness.run_ms(499);
  CHECK(harness.values() == Values{"b", "c"});
  harness.run_ms(1);
  CHECK(harness.values() == Values{"b", "c", "a"});
}

TEST_CASE("a commit within a millisecond: the delay ends with the next whole one") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", 100}}));
  harness.advance_ns(400'000);
  REQUIRE(harness.commit().status.ok());
  harness.run_ms(99);
  harness.advance_ns(599'999);
  harness.settle();
  CHECK(harness.values().empty());
  harness.advance_ns(400'001);  // exactly 100 ms: in the middle of one
  harness.settle();
  CHECK(harness.values().empty());
  harness.advance_ns(600'000);
  harness.settle();
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("a half message for a wall time is delivered then, or at once if that is over") {
  TxnHarness harness;
  const int64_t wall_ms = harness.now.wall.ms;
  harness.put(TxnHarness::delayed_half(
      txn_id(), 0, {{"soon", wall_ms + 3000, true}, {"over", wall_ms + 500, true}}));
  harness.run_ms(1000);
  CHECK(harness.values().empty());
  REQUIRE(harness.commit().status.ok());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"over"});
  harness.run_ms(1998);
  CHECK(harness.values() == Values{"over"});
  harness.run_ms(1);
  CHECK(harness.values() == Values{"over", "soon"});
}

TEST_CASE("a wall time is that of the commit, when somebody set the clock meanwhile") {
  TxnHarness harness;
  const int64_t wall_ms = harness.now.wall.ms;
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", wall_ms + 10'000, true}}));
  harness.now.wall.ms += 8000;
  REQUIRE(harness.commit().status.ok());
  harness.run_ms(1999);
  CHECK(harness.values().empty());
  harness.run_ms(2);  // how the clocks differ is known to a millisecond
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("delayed and plain parts of one transaction, in two partitions") {
  TxnHarness harness;
  harness.send_halves({TxnHarness::delayed_half(txn_id(), 2, {{"later", 100}}, kOther),
                       TxnHarness::half(txn_id(), 1, {"now"}, kOther),
                       TxnHarness::delayed_half(txn_id(), 0, {{"x", 50}, {"y", 50}})});
  CHECK(harness.end({txn_id(), true, 3}).status.ok());
  CHECK(harness.values(kOther) == Values{"now"});
  CHECK(harness.values().empty());
  harness.run_ms(100);
  CHECK(harness.values(kOther) == Values{"now", "later"});
  CHECK(harness.values() == Values{"x", "y"});
}

TEST_CASE("delayed half messages that are rolled back never come") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", 10, false, "k", true}}));
  CHECK(harness.core->views().txns().delayed() == 1);
  REQUIRE(harness.rollback().status.ok());
  CHECK(harness.core->views().txns().delayed() == 0);
  harness.run_ms(1000);
  CHECK(harness.values().empty());
  CHECK(harness.core->views().delays().wheel().size() == 0);
}

TEST_CASE("a key replaces what is pending when the transaction commits, and not before") {
  TxnHarness harness;
  harness.take_in({{"old", 1000, false, "k"}});
  harness.put(TxnHarness::delayed_half(
      txn_id(), 0, {{"first", 500, false, "k", true}, {"second", 2000, false, "k", true}}));
  CHECK(harness.pending() == 1);
  REQUIRE(harness.commit().status.ok());
  CHECK(harness.pending() == 1);
  harness.run_ms(3000);
  CHECK(harness.values() == Values{"second"});

  harness.take_in({{"kept", 1000, false, "k"}});
  harness.put(TxnHarness::delayed_half(txn_id(2), 0, {{"no", 1, false, "k", true}}));
  REQUIRE(harness.rollback(txn_id(2)).status.ok());
  harness.run_ms(1000);
  CHECK(harness.values() == Values{"second", "kept"});
}

TEST_CASE("a committed delayed message is cancelled and rescheduled like any other") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(
      txn_id(), 0,
      {{"a", 1000, false, "a", true}, {"b", 1000, false, "b", true}, {"c", 1000}, {"d", 1000}}));
  CHECK(harness.cancel(by_key(kPartition, "a")).outcome == DelayOutcome::kNotFound);
  REQUIRE(harness.commit().status.ok());
  CHECK(harness.cancel(by_key(kPartition, "a")).outcome == DelayOutcome::kCancelled);
  CHECK(harness.reschedule(by_key(kPartition, "b"), 3000).outcome == DelayOutcome::kRescheduled);

  // By the handles that a list gives out.
  const protocol::Frame page =
      harness.ask_delays(testing::delay_list_request({.topic = kPartition.topic}));
  std::vector<DelayTarget> targets;
  for (const auto* item : *testing::read_reply<protocol::fbs::DelayListReply>(page).items()) {
    const WireReceipt receipt(item->id(), item->due_ms(), item->position(), item->tag(), 0, 0);
    targets.push_back(testing::by_handle(kPartition, receipt));
  }
  REQUIRE(targets.size() == 3);  // by due time, then by id
  CHECK(harness.cancel(targets[0]).outcome == DelayOutcome::kCancelled);
  CHECK(harness.reschedule(targets[1], 2000).outcome == DelayOutcome::kRescheduled);
  harness.run_ms(1999);
  CHECK(harness.values().empty());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"d"});
  harness.run_ms(1000);
  CHECK(harness.values() == Values{"d", "b"});
}

TEST_CASE("ids of committed delayed messages are never given out twice") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(1), 0, {{"a", 100}, {"b", 100}}));
  harness.put(TxnHarness::delayed_half(txn_id(2), 0, {{"c", 100}}));
  // All in one turn.
  const std::vector<EndInput> ends{{txn_id(1)}, {txn_id(2)}};
  harness.receive(testing::txn_end_request(ends));
  const std::vector<DelayInput> plain{{"d", 100}};
  harness.receive(
      testing::schedule_request(kPartition, testing::build_schedule(kPartition, plain)));
  harness.receive(testing::txn_end_request(ends));
  harness.settle();
  harness.outbox.replies.clear();
  CHECK(harness.pending() == 4);
  harness.restart();
  CHECK(harness.take_in({{"e", 100}}).at(0).id() == 5);
  harness.run_ms(200);
  CHECK(harness.values() == Values{"a", "b", "c", "d", "e"});
}

TEST_CASE("what is overdue at its commit comes behind what was delivered already") {
  TxnHarness harness;
  harness.take_in({{"plain", 5}});
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", 0}, {"b", -1'000'000, true}}));
  // The Advance that names 5 ms is under way when the commit arrives.
  harness.advance_ms(5);
  harness.core->flush(harness.now);
  const EndInput end{txn_id()};
  harness.receive(testing::txn_end_request({&end, 1}));
  harness.settle();
  harness.outbox.replies.clear();
  harness.run_ms(20);
  Values values = harness.values();
  REQUIRE(values.size() == 3);
  CHECK(values[0] == "plain");
  const uint64_t hash = harness.core->views().hash();
  harness.restart();
  CHECK(harness.core->views().hash() == hash);
  CHECK(harness.values() == values);
}

TEST_CASE("what would make the commit depend on others is refused in a transaction") {
  TxnHarness harness;
  const auto refused = [&](const DelayInput& item) {
    const auto result = harness.send_half(TxnHarness::delayed_half(txn_id(), 0, {item}));
    CHECK(result.status.code() == ErrorCode::kInvalidArgument);
    return result.status.to_string();
  };
  CHECK(refused({"x", 1000, false, "", false, 60'000}).find("recurring") != std::string::npos);
  DelayInput cron{"x"};
  cron.cron = "0 0 * * * *";
  CHECK(refused(cron).find("recurring") != std::string::npos);
  CHECK(refused({"x", 1000, false, "k"}).find("replace") != std::string::npos);
  CHECK(refused({"x", -1}).find("delay") != std::string::npos);
  CHECK(refused({"x", limits::kDelayMsMax + 1}).find("delay") != std::string::npos);
  const std::vector<DelayInput> items{{"x", 1}};
  HalfInput own = TxnHarness::delayed_half(txn_id(), 0, items);
  own.payload = testing::build_schedule(kPartition, items, {9, 0, 0});
  CHECK(harness.send_half(own).status.to_string().find("producer of its own") != std::string::npos);
  own.payload = testing::build_schedule(kOther, items);
  CHECK(harness.send_half(own).status.code() == ErrorCode::kInvalidArgument);
  own.payload = testing::build_batch(Values{"a batch"});
  CHECK_FALSE(harness.send_half(own).status.ok());
  HalfInput batch = TxnHarness::half(txn_id(), 0, {"a"});
  batch.payload = testing::build_schedule(kPartition, items);
  CHECK_FALSE(harness.send_half(batch).status.ok());
  CHECK(harness.core->views().txns().size() == 0);
}

TEST_CASE("a part that is on its way when its transaction commits makes the commit fail, not lie") {
  TxnHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"a", 10}}));
  harness.receive(
      testing::half_request(std::vector{TxnHarness::delayed_half(txn_id(), 1, {{"b", 10}})}));
  const EndInput end{txn_id()};
  harness.receive(testing::txn_end_request({&end, 1}));
  harness.settle();
  CHECK(testing::read_produce_reply(harness.outbox.take()).at(0).status.ok());
  CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.code() ==
        ErrorCode::kUnavailable);
  CHECK(harness.state() == TxnWireState::kOpen);
  CHECK(harness.commit().status.ok());
  harness.run_ms(10);
  CHECK(harness.values() == Values{"a", "b"});
}

TEST_CASE("committed delayed messages survive a restart, by replay or from a checkpoint") {
  for (const bool checkpoint : {false, true}) {
    CAPTURE(checkpoint);
    TxnHarness harness;
    harness.put(TxnHarness::delayed_half(
        txn_id(), 0, {{"a", 1000}, {"gone", 1000}, {"k", 2000, false, "k", true}}));
    harness.put(TxnHarness::delayed_half(txn_id(2), 0, {{"open", 10}}));
    REQUIRE(harness.commit().status.ok());
    if (checkpoint) {
      harness.checkpoint();
    }
    harness.take_in({{"plain", 1500}});
    const uint64_t hash = harness.core->views().hash();
    if (checkpoint) {
      harness.restart_from_checkpoint();
    } else {
      harness.restart();
    }
    CHECK(harness.core->views().hash() == hash);
    CHECK(harness.cancel(by_key(kPartition, "k")).outcome == DelayOutcome::kCancelled);
    harness.run_ms(3000);
    CHECK(harness.values() == Values{"a", "gone", "plain"});
    REQUIRE(harness.commit(txn_id(2)).status.ok());
    harness.run_ms(10);
    CHECK(harness.values() == Values{"a", "gone", "plain", "open"});
  }
}

// --- relocation

// A shard whose log has a second segment from some time on.
class RelocationHarness : public TxnHarness {
 public:
  // What was written so far is the oldest segment.
  void end_segment() { source.segment_end = core->views().applied().next_position; }

  // The next round of retention and relocation, with all its reading and writing.
  void relocate() {
    wait_ms(options.retention_interval_ms);
    while (source.run_one()) {
      settle();
    }
  }

  // An entry that no view refers to.
  void write_anything() { CHECK(rollback(txn_id(++anything_, 0, 0, 1000)).status.ok()); }

  [[nodiscard]] bool segment_is_free() const {
    return core->views().low_position() >= *source.segment_end;
  }

 private:
  uint64_t anything_ = 0;
};

TEST_CASE("undecided half messages move out of the oldest segment, and are what they were") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    RelocationHarness harness;
    harness.put(txn_id(), 0, {"a", "b"});
    harness.put(
        TxnHarness::delayed_half(txn_id(), 1, {{"late", 100}, {"key", 50, false, "k", true}}));
    harness.put(txn_id(2, 0), 0, {"rolled back"}, kOther);
    harness.end_segment();
    harness.produce_values({"plain"});
    CHECK_FALSE(harness.segment_is_free());
    const auto before = *harness.core->views().txns().find(key_of(txn_id()));
    harness.relocate();
    CHECK(harness.segment_is_free());
    const txn::Transaction& after = *harness.core->views().txns().find(key_of(txn_id()));
    CHECK(after.born_ms == before.born_ms);
    CHECK(after.next_check_ms == before.next_check_ms);
    REQUIRE(after.halves.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      txn::Half moved = after.halves[i];
      CHECK(moved.position >= *harness.source.segment_end);
      moved.position = before.halves[i].position;
      CHECK(moved == before.halves[i]);
    }
    CHECK(harness.stats().relocated_bytes > 0);
    const size_t entries = harness.consensus.log.size();
    harness.relocate();
    CHECK(harness.consensus.log.size() == entries);  // nothing is left to move

    REQUIRE(harness.rollback(txn_id(2)).status.ok());
    REQUIRE(harness.end({txn_id(), commit, 2}).status.ok());
    harness.run_ms(200);
    const Values expected = commit ? Values{"plain", "a", "b", "key", "late"} : Values{"plain"};
    CHECK(harness.values() == expected);
    harness.restart();
    CHECK(harness.values() == expected);
  }
}

TEST_CASE("half messages that moved are there after a checkpoint, and move again") {
  RelocationHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.put(txn_id(1, 0, 0, 8), 1, {"of another"});
  harness.checkpoint();
  for (int round = 0; round < 3; ++round) {
    harness.end_segment();
    harness.write_anything();
    harness.relocate();
    CHECK(harness.segment_is_free());
    if (round == 1) {
      harness.checkpoint();
    }
    const uint64_t hash = harness.core->views().hash();
    harness.restart_from_checkpoint();
    CHECK(harness.core->views().hash() == hash);
    harness.source.segment_begin = *harness.source.segment_end;
  }
  REQUIRE(harness.commit().status.ok());
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("a transaction that ends while its half messages move") {
  for (const bool commit : {true, false}) {
    for (const bool after_reading : {true, false}) {
      CAPTURE(commit);
      CAPTURE(after_reading);
      RelocationHarness harness;
      harness.put(txn_id(), 0, {"a"});
      harness.put(TxnHarness::delayed_half(txn_id(), 1, {{"late", 100}}));
      harness.end_segment();
      harness.write_anything();
      harness.wait_ms(harness.options.retention_interval_ms);
      REQUIRE(harness.source.pending() == 2);
      if (after_reading) {
        harness.source.run_all();  // the records are gathered
      }
      const EndInput end{txn_id(), commit};
      harness.receive(testing::txn_end_request({&end, 1}));
      harness.source.run_all();
      harness.settle();
      CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.ok());
      harness.run_ms(200);
      const Values expected = commit ? Values{"a", "late"} : Values{};
      CHECK(harness.values() == expected);
      harness.restart();
      CHECK(harness.values() == expected);
      harness.put(txn_id(2), 0, {"b"});
      harness.end_segment();
      harness.write_anything();
      harness.relocate();                           // another round is possible
      CHECK(harness.segment_is_free() == !commit);  // what is committed stays where it is
    }
  }
}

TEST_CASE("a committed delayed message moves like any other, and comes when it is due") {
  RelocationHarness harness;
  harness.put(TxnHarness::delayed_half(txn_id(), 0,
                                       {{"cancelled", 10'000'000, false, "gone", true},
                                        {"soon", 5'000'000},
                                        {"key", 6'000'000, false, "k", true},
                                        {"moved", 7'000'000, false, "m", true}}));
  harness.put(TxnHarness::delayed_half(txn_id(2), 0, {{"rolled back", 10}}));
  REQUIRE(harness.commit().status.ok());
  REQUIRE(harness.rollback(txn_id(2)).status.ok());
  CHECK(harness.cancel(by_key(kPartition, "gone")).outcome == DelayOutcome::kCancelled);
  CHECK(harness.reschedule(by_key(kPartition, "m"), 4'000'000).outcome ==
        DelayOutcome::kRescheduled);
  harness.end_segment();
  harness.write_anything();
  harness.relocate();
  CHECK(harness.segment_is_free());
  CHECK(harness.pending() == 3);
  // Again, from the records that relocation wrote.
  harness.source.segment_begin = *harness.source.segment_end;
  harness.end_segment();
  harness.write_anything();
  harness.relocate();
  CHECK(harness.segment_is_free());
  CHECK(harness.cancel(by_key(kPartition, "k")).outcome == DelayOutcome::kCancelled);
  harness.checkpoint();
  harness.restart_from_checkpoint();
  for (int second = 0; second < 10'000; second += 100) {
    harness.run_ms(100'000);
  }
  CHECK(harness.values() == Values{"moved", "soon"});
}

TEST_CASE("half messages of a segment that is mostly alive stay where they are") {
  RelocationHarness harness;
  harness.put(txn_id(), 0, {std::string(500'000, 'x')});
  harness.options.segment_bytes = 999'000;
  harness.restart();
  harness.end_segment();
  harness.produce_values({"plain"}, kOther);
  harness.relocate();
  CHECK_FALSE(harness.segment_is_free());
  REQUIRE(harness.rollback().status.ok());
  CHECK(harness.segment_is_free());
}

}  // namespace
}  // namespace tidemark::shard
