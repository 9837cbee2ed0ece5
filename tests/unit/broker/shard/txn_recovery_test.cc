// Transactions across restarts: from the log, and from a checkpoint at any entry.
#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

// One entry after the other of every kind that transactions have.
class Life {
 public:
  explicit Life(TxnHarness& harness) : harness_(harness) {}

  // Called after every entry.
  std::function<void()> each_entry = [] {};

  void live() {
    send(testing::half_request(std::vector{TxnHarness::half(txn_id(4), 0, {"parked"})}));
    const LogPosition first_end = harness_.core->views().applied().next_position;
    send(testing::half_request(std::vector{TxnHarness::half(txn_id(1), 0, {"a"})}));
    send(testing::half_request(
        std::vector{TxnHarness::delayed_half(
                        txn_id(1), 1, {{"later", 1000}, {"k", 90'000'000, false, "k", true}}),
                    TxnHarness::half(txn_id(2), 0, {"b", "c"}, kOther)}));
    send(testing::half_request(std::vector{TxnHarness::half(txn_id(3, 1), 0, {"foreign"})}));
    mail(ShardMail::Kind::kTxnAsk, txn_id(5));
    mail(ShardMail::Kind::kTxnAsk, txn_id(2));
    harness_.poll();
    pass(6000);  // checked
    send_end({txn_id(1), true, 2, {1}});
    send_end({txn_id(2), false});
    send_end({txn_id(1), false});   // refused
    send_end({txn_id(77), false});  // unknown
    mail(ShardMail::Kind::kTxnFollowed, txn_id(1));
    mail(ShardMail::Kind::kTxnOutcome, txn_id(3, 1), true);
    pass(1100);  // "later" is delivered
    send(testing::named_producer_request("orders", "one"));
    send(testing::named_producer_request("orders", "one"));
    fence();
    pass(60'000);  // parked
    const TxnId parked = txn_id(4);
    send(testing::txn_recheck_request({&parked, 1}));
    harness_.source.segment_end = first_end;
    pass(harness_.options.retention_interval_ms);  // the half message is relocated
    pass(120'000);                                 // parked again, outcomes forgotten
    pass(1'100);
    send_end({txn_id(4), true});
    harness_.source.segment_end.reset();
  }

 private:
  void settle() {
    harness_.core->flush(harness_.now);
    for (bool moved = true; moved;) {
      moved = harness_.source.run_one();
      harness_.core->flush(harness_.now);
      while (harness_.consensus.commit_one()) {
        moved = true;
        each_entry();
        harness_.core->flush(harness_.now);
      }
    }
    harness_.outbox.replies.clear();
    harness_.outbox.letters.clear();
  }

  void send(const protocol::Frame& frame) {
    harness_.receive(frame);
    settle();
  }

  void send_end(const EndInput& end) { send(testing::txn_end_request({&end, 1})); }

  void mail(ShardMail::Kind kind, const TxnId& txn, bool commit = false) {
    ShardMail letter;
    letter.kind = kind;
    letter.from = ShardId{1};
    letter.txn = key_of(txn);
    letter.commit = commit;
    letter.group = "orders";
    letter.timeout_ms = 1000;
    harness_.core->receive_mail(letter, harness_.now);
    settle();
  }

  void fence() {
    for (const auto kind : {ShardMail::Kind::kFence, ShardMail::Kind::kFenced}) {
      ShardMail letter;
      letter.kind = kind;
      letter.from = ShardId{1};
      letter.txn.producer = 1;
      letter.epoch = 1;
      harness_.core->receive_mail(letter, harness_.now);
      settle();
    }
  }

  void pass(int64_t ms) {
    harness_.advance_ms(ms);
    for (int i = 0; i < 3; ++i) {
      harness_.advance_ms(20);
      harness_.core->tick(harness_.now);
      settle();
    }
  }

  TxnHarness& harness_;
};

void configure(TxnHarness& harness) {
  harness.options.txn_pending_age_ms = 60'000;
  harness.options.txn_outcome_age_ms = 100'000;
  harness.restart();
}

// What kinds of record the log has.
std::set<format::RecordKind> kinds_in(const testing::FakeConsensus& consensus) {
  std::set<format::RecordKind> kinds;
  for (const replica::CommittedEntry& entry : consensus.log) {
    format::RecordListReader reader(entry.payload.view());
    format::LogRecord record;
    while (reader.next(record)) {
      kinds.insert(record.kind);
    }
  }
  return kinds;
}

TEST_CASE("a checkpoint at any entry and the log behind it give what the log gives") {
  size_t entries = 0;
  {
    TxnHarness harness(0, 2);
    configure(harness);
    Life life(harness);
    life.each_entry = [&] { ++entries; };
    life.live();
    using format::RecordKind;
    const auto kinds = kinds_in(harness.consensus);
    for (const RecordKind kind :
         {RecordKind::kHalf, RecordKind::kRelocateHalf, RecordKind::kTxnEnd, RecordKind::kTxnSettle,
          RecordKind::kTxnJoin, RecordKind::kTxnConfirm, RecordKind::kTxnChecked,
          RecordKind::kTxnParked, RecordKind::kTxnRecheck, RecordKind::kTxnForget,
          RecordKind::kProducerName, RecordKind::kProducerFenced, RecordKind::kProducerFence}) {
      CHECK_MESSAGE(kinds.contains(kind), static_cast<int>(kind));
    }
  }
  for (size_t at = 1; at <= entries; ++at) {
    CAPTURE(at);
    TxnHarness harness(0, 2);
    configure(harness);
    Life life(harness);
    size_t entry = 0;
    life.each_entry = [&] {
      if (++entry == at) {
        harness.checkpoint();
      }
    };
    life.live();
    const uint64_t hash = harness.core->views().hash();
    const Values values = harness.values();
    harness.restart_from_checkpoint();
    REQUIRE(harness.core->views().hash() == hash);
    CHECK(harness.values() == values);
    harness.checkpoint();  // what changed since, and what the store has and must not have
    harness.restart_from_checkpoint();
    REQUIRE(harness.core->views().hash() == hash);
    CHECK(harness.values() == values);
  }
}

TEST_CASE("a checkpoint after every entry and one that failed after every other") {
  for (const bool fail : {false, true}) {
    TxnHarness harness(0, 2);
    configure(harness);
    Life life(harness);
    size_t entry = 0;
    life.each_entry = [&] {
      if (fail && ++entry % 2 == 0) {
        harness.core->set_checkpointing(true);
        Views::Delta delta = harness.core->views().freeze();
        harness.core->views().commit_failed(delta);
        harness.core->set_checkpointing(false);
      } else {
        harness.checkpoint();
      }
    };
    life.live();
    const uint64_t hash = harness.core->views().hash();
    harness.checkpoint();
    harness.restart_from_checkpoint();
    CHECK(harness.core->views().hash() == hash);
    harness.restart();
    CHECK(harness.core->views().hash() == hash);
  }
}

TEST_CASE("an end that was not committed when the process died is asked for again") {
  for (const bool commit : {true, false}) {
    TxnHarness harness;
    harness.put(txn_id(), 0, {"a"});
    const EndInput end{txn_id(), commit};
    harness.receive(testing::txn_end_request({&end, 1}));
    harness.core->flush(harness.now);
    REQUIRE(harness.consensus.proposed() == 1);
    harness.restart();
    CHECK(harness.state() == TxnWireState::kOpen);
    CHECK(harness.values().empty());
    CHECK(harness.end(end).status.ok());
    CHECK(harness.values() == (commit ? Values{"a"} : Values{}));
  }
}

TEST_CASE("leadership that is lost with an end under way: nobody claims to know") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  const EndInput end{txn_id()};
  harness.receive(testing::txn_end_request({&end, 1}));
  harness.receive(testing::half_request(std::vector{TxnHarness::half(txn_id(2), 0, {"b"})}));
  harness.core->flush(harness.now);
  harness.consensus.set_role(replica::Role::kFollower);
  CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.code() ==
        ErrorCode::kOutcomeUnknown);
  CHECK(testing::read_produce_reply(harness.outbox.take()).at(0).status.code() ==
        ErrorCode::kOutcomeUnknown);
  harness.consensus.commit_all();  // it got there after all
  harness.consensus.set_role(replica::Role::kLeader);
  CHECK(harness.commit().status.ok());
  CHECK(harness.values() == Values{"a"});
  CHECK(harness.send_half(TxnHarness::half(txn_id(2), 0, {"b"})).duplicate);
}

TEST_CASE(
    "random work with checkpoints and restarts: each transaction is seen whole or not at all") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    TxnHarness harness;
    std::map<uint64_t, bool> ended;
    std::map<uint64_t, uint32_t> parts;
    for (uint64_t step = 0; step < 300; ++step) {
      const uint64_t number = random.between(1, 40);
      const TxnId txn = txn_id(number);
      const uint32_t index = parts[number];
      if (random.chance(3, 5)) {
        const PartitionId partition = random.chance(1, 2) ? kPartition : kOther;
        const std::string value = std::to_string(number) + "." + std::to_string(index);
        const auto result = harness.send_half(TxnHarness::half(txn, index, {value}, partition));
        CHECK(result.status.ok() == !ended.contains(number));
        parts[number] += result.status.ok() ? 1 : 0;
      } else {
        const bool commit = random.chance(2, 3);
        const bool right = random.chance(4, 5);
        const TxnResult result = harness.end({txn, commit, right ? index : index + 1});
        if (result.status.ok()) {
          CHECK(ended.emplace(number, commit).first->second == commit);
        } else if (result.status.code() == ErrorCode::kConflict) {
          CHECK((ended.contains(number) ? ended[number] != commit : commit && !right));
        } else {
          CHECK(result.status.code() == ErrorCode::kNotFound);
          CHECK(index == 0);
        }
      }
      harness.advance_ms(static_cast<int64_t>(random.below(100)));
      if (random.chance(1, 20)) {
        harness.checkpoint();
      }
      if (random.chance(1, 20)) {
        const uint64_t hash = harness.core->views().hash();
        harness.restart_from_checkpoint();
        REQUIRE(harness.core->views().hash() == hash);
      }
    }
    Values expected;
    for (const auto& [number, commit] : ended) {
      for (uint32_t index = 0; commit && index < parts[number]; ++index) {
        expected.push_back(std::to_string(number) + "." + std::to_string(index));
      }
    }
    Values values = harness.values(kPartition);
    const Values others = harness.values(kOther);
    values.insert(values.end(), others.begin(), others.end());
    std::sort(values.begin(), values.end());
    std::sort(expected.begin(), expected.end());
    CHECK(values == expected);
  }
}

}  // namespace
}  // namespace tidemark::shard
