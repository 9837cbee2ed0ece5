// Half messages and their ends, on one shard.
#include <doctest/doctest.h>

#include "log/base/random.h"
#include "log/log.h"
#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

// --- visible with the commit, and not before

TEST_CASE("half messages are seen when the transaction commits, in order, behind what was there") {
  TxnHarness harness;
  harness.produce_values({"before"});
  harness.put(txn_id(), 1, {"c", "d"});
  harness.put(txn_id(), 0, {"a", "b"});
  harness.produce_values({"between"});
  CHECK(harness.values() == Values{"before", "between"});
  CHECK(harness.fetch(kPartition, 0).high_watermark == Offset{2});
  CHECK(harness.state() == TxnWireState::kOpen);

  const TxnResult result = harness.commit();
  CHECK(result.status.ok());
  CHECK(result.state == TxnWireState::kCommitted);
  CHECK(harness.values() == Values{"before", "between", "a", "b", "c", "d"});
  const auto fetched = harness.fetch(kPartition, 0);
  CHECK(fetched.high_watermark == Offset{6});
  for (size_t i = 0; i < fetched.messages.size(); ++i) {
    CHECK(fetched.messages[i].offset == Offset{i});
    CHECK(fetched.messages[i].producer_id == -1);
  }
  const auto after = harness.produce(kPartition, testing::build_batch(Values{"after"}));
  CHECK(after.base == Offset{6});
  CHECK(harness.fetch(kPartition, 5).messages.size() == 3);  // the batch of offset 4, and behind
}

TEST_CASE("a commit takes effect in every partition at once, in each by index") {
  TxnHarness harness;
  const auto results = harness.send_halves({TxnHarness::half(txn_id(), 3, {"o2"}, kOther),
                                            TxnHarness::half(txn_id(), 2, {"p2"}, kPartition),
                                            TxnHarness::half(txn_id(), 1, {"o1"}, kOther),
                                            TxnHarness::half(txn_id(), 0, {"p1"}, kPartition)});
  for (const auto& result : results) {
    CHECK(result.status.ok());
    CHECK(result.received_ms == harness.log_ms());
  }
  CHECK(harness.values(kPartition).empty());
  CHECK(harness.values(kOther).empty());
  CHECK(harness.end({txn_id(), true, 4}).status.ok());
  CHECK(harness.values(kPartition) == Values{"p1", "p2"});
  CHECK(harness.values(kOther) == Values{"o1", "o2"});
}

TEST_CASE("what is rolled back is never seen") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"no"});
  harness.put(txn_id(2), 0, {"yes"});
  CHECK(harness.rollback().state == TxnWireState::kRolledBack);
  CHECK(harness.commit(txn_id(2)).status.ok());
  harness.tick_for_ms(60'000, 1000);
  CHECK(harness.values() == Values{"yes"});
  CHECK(harness.core->views().txns().half_bytes() == 0);
  harness.restart();
  CHECK(harness.values() == Values{"yes"});
}

TEST_CASE("transactions commit in the order of their ends, whatever the order of their parts") {
  TxnHarness harness;
  harness.put(txn_id(1), 0, {"first 0"});
  harness.put(txn_id(2), 0, {"second 0"});
  harness.put(txn_id(1), 1, {"first 1"});
  harness.put(txn_id(2), 1, {"second 1"});
  harness.commit(txn_id(2));
  harness.commit(txn_id(1));
  CHECK(harness.values() == Values{"second 0", "second 1", "first 0", "first 1"});
}

TEST_CASE("a compressed batch is committed as it is") {
  TxnHarness harness;
  format::BatchBuilder builder;
  const std::string value(50'000, 'z');
  for (int i = 0; i < 3; ++i) {
    format::RecordInput record;
    record.value = as_bytes(value);
    REQUIRE(builder.append(record).ok());
  }
  Result<Buffer> batch = builder.finish(format::Codec::kZstd, 3, {});
  REQUIRE(batch.ok());
  REQUIRE(batch->size() < 10'000);
  harness.put({txn_id(), kPartition, 0, SharedBytes(std::move(*batch))});
  harness.produce_values({"plain"});
  harness.commit();
  CHECK(harness.values() == Values{"plain", value, value, value});
  CHECK(harness.produce(kPartition, testing::build_batch(Values{"after"})).base == Offset{4});
}

TEST_CASE("a fetch that waits is not woken by a half message, but by the commit") {
  TxnHarness harness;
  harness.start_fetch(kPartition, 0, {.wait_ms = 10'000});
  harness.receive(testing::half_request(std::vector{TxnHarness::half(txn_id(), 0, {"a"})}));
  harness.settle();
  static_cast<void>(testing::read_produce_reply(harness.outbox.take()));
  harness.wait_ms(100);
  CHECK_FALSE(harness.answered());
  const EndInput end{txn_id()};
  harness.receive(testing::txn_end_request({&end, 1}));
  harness.settle();
  CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.ok());
  REQUIRE(harness.answered());
  const auto fetched = harness.take_fetch().at(0);
  REQUIRE(fetched.messages.size() == 1);
  CHECK(fetched.messages[0].value == "a");
}

TEST_CASE("a fetch that waits sleeps through a rollback") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.start_fetch(kPartition, 0, {.wait_ms = 10'000});
  const EndInput end{txn_id(), false};
  harness.receive(testing::txn_end_request({&end, 1}));
  harness.settle();
  CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.ok());
  CHECK_FALSE(harness.answered());
  harness.wait_ms(10'000);
  CHECK(harness.take_fetch().at(0).messages.empty());
}

TEST_CASE("committed messages are there from the checkpoint and from the disk, too") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.produce_values({"plain"});
  harness.commit();
  harness.checkpoint();
  harness.source.cached_from = LogPosition{UINT64_MAX};
  CHECK(harness.values() == Values{"plain", "a"});
  harness.restart_from_checkpoint();
  CHECK(harness.values() == Values{"plain", "a"});
}

TEST_CASE("the log is kept from the first half message on, and from the first committed one") {
  TxnHarness harness;
  harness.produce_values({"plain"});
  const LogPosition plain = harness.core->views().low_position();
  harness.put(txn_id(), 0, {"a"});
  harness.produce_values({"more"}, kOther);
  CHECK(harness.core->views().low_position() == plain);
  const LogPosition part = harness.core->views().txns().low_position();
  CHECK(part > plain);
  harness.commit();
  CHECK(harness.core->views().find(kPartition)->low_position() == plain);

  TxnHarness second;
  second.put(txn_id(), 0, {"old"});
  const LogPosition old = second.core->views().txns().low_position();
  second.produce_values({"new"});
  CHECK(second.core->views().low_position() == old);
  second.commit();  // behind "new", and before it in the log
  CHECK(second.core->views().find(kPartition)->low_position() == old);
  second.checkpoint();
  CHECK(second.core->views().low_position() == old);
  second.restart_from_checkpoint();
  CHECK(second.core->views().low_position() == old);
}

TEST_CASE("a partition that is dropped takes its half messages along, not the transaction") {
  TxnHarness harness;
  harness.open_partitions_of(TopicId{2}, 1);
  const PartitionId dropped{TopicId{2}, PartitionIndex{0}};
  harness.put(txn_id(), 0, {"gone"}, dropped);
  harness.put(txn_id(), 1, {"stays"});
  ShardMail mail;
  mail.topic = TopicId{2};
  mail.version = 2;
  mail.state = ShardMail::State::kDropped;
  harness.core->receive_mail(mail, harness.now);
  harness.settle();
  CHECK(harness.send_half(TxnHarness::half(txn_id(), 2, {"late"}, dropped)).status.code() ==
        ErrorCode::kUnknownPartition);
  CHECK(harness.commit().status.ok());
  CHECK(harness.values() == Values{"stays"});
}

// --- ends

TEST_CASE("a commit that comes twice is one message") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  CHECK(harness.commit().status.ok());
  const size_t entries = harness.consensus.log.size();
  for (const TxnEndBy by : {TxnEndBy::kProducer, TxnEndBy::kCheck, TxnEndBy::kOperator}) {
    const TxnResult again = harness.commit(txn_id(), by);
    CHECK(again.status.ok());
    CHECK(again.state == TxnWireState::kCommitted);
  }
  CHECK(harness.consensus.log.size() == entries);  // decided already: no record
  CHECK(harness.values() == Values{"a"});

  // Both under way at once.
  harness.put(txn_id(2), 0, {"b"});
  const std::vector<EndInput> twice{{txn_id(2)}, {txn_id(2)}};
  const auto results = testing::read_txn_results(harness.ask(testing::txn_end_request(twice)));
  CHECK(results.at(0).status.ok());
  CHECK(results.at(1).status.ok());
  CHECK(harness.values() == Values{"a", "b"});
  CHECK(harness.stats().txn_committed == 2);
  CHECK(harness.stats().txn_refused == 0);
}

TEST_CASE("an end against the recorded one is refused, and says what is recorded") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    TxnHarness harness;
    harness.put(txn_id(), 0, {"a"});
    REQUIRE(harness.end({txn_id(), commit}).status.ok());
    const TxnResult other = harness.end({txn_id(), !commit});
    CHECK(other.status.code() == ErrorCode::kConflict);
    CHECK(other.state == (commit ? TxnWireState::kCommitted : TxnWireState::kRolledBack));
    const std::string recorded = commit ? "committed" : "rolled back";
    CHECK(other.status.to_string().find(recorded) != std::string::npos);
    CHECK(harness.stats().txn_refused == 1);

    // Both under way at once: the first one counts.
    harness.put(txn_id(2), 0, {"b"});
    const std::vector<EndInput> both{{txn_id(2), commit}, {txn_id(2), !commit}};
    const auto results = testing::read_txn_results(harness.ask(testing::txn_end_request(both)));
    CHECK(results.at(0).status.ok());
    CHECK(results.at(1).status.code() == ErrorCode::kConflict);
    CHECK(results.at(1).status.to_string().find(recorded) != std::string::npos);
    CHECK(results.at(1).state == other.state);
    CHECK(harness.values() == (commit ? Values{"a", "b"} : Values{}));
  }
}

TEST_CASE("of what is not known a commit is not found, a rollback is recorded") {
  TxnHarness harness;
  const TxnResult unknown = harness.commit();
  CHECK(unknown.status.code() == ErrorCode::kNotFound);
  CHECK(unknown.state == TxnWireState::kNone);
  CHECK(harness.state() == TxnWireState::kNone);
  CHECK(harness.rollback().status.ok());
  CHECK(harness.state() == TxnWireState::kRolledBack);
  CHECK(harness.rollback().status.ok());
  CHECK(harness.commit().status.code() == ErrorCode::kConflict);
  const auto late = harness.send_half(TxnHarness::half(txn_id(), 0, {"late"}));
  CHECK(late.status.code() == ErrorCode::kConflict);
  CHECK(late.status.to_string().find("rolled back") != std::string::npos);
  harness.restart();
  CHECK(harness.state() == TxnWireState::kRolledBack);
}

TEST_CASE("a commit that names another number of parts is refused") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.put(txn_id(), 1, {"b"});
  for (const uint32_t halves : {0u, 1u, 3u}) {
    const TxnResult result = harness.end({txn_id(), true, halves});
    CHECK(result.status.code() == ErrorCode::kConflict);
    CHECK(result.state == TxnWireState::kOpen);
    CHECK(result.status.to_string().find("2 stored") != std::string::npos);
  }
  CHECK(harness.values().empty());
  CHECK(harness.end({txn_id(), true, 2}).status.ok());
  CHECK(harness.values() == Values{"a", "b"});
}

TEST_CASE("a part that comes after the end is refused, on its way or later") {
  for (const bool commit : {true, false}) {
    CAPTURE(commit);
    TxnHarness harness;
    harness.put(txn_id(), 0, {"a"});
    const EndInput end{txn_id(), commit};
    harness.receive(testing::txn_end_request({&end, 1}));
    harness.receive(testing::half_request(std::vector{TxnHarness::half(txn_id(), 1, {"b"})}));
    harness.settle();
    CHECK(testing::read_txn_results(harness.outbox.take()).at(0).status.ok());
    for (int i = 0; i < 2; ++i) {
      const auto late = i == 0 ? testing::read_produce_reply(harness.outbox.take()).at(0)
                               : harness.send_half(TxnHarness::half(txn_id(), 1, {"b"}));
      CHECK(late.status.code() == ErrorCode::kConflict);
      CHECK(late.status.to_string().find(commit ? "committed" : "rolled back") !=
            std::string::npos);
    }
    // Not even one that was stored before is answered as if it were.
    CHECK(harness.send_half(TxnHarness::half(txn_id(), 0, {"a"})).status.code() ==
          ErrorCode::kConflict);
    CHECK(harness.values() == (commit ? Values{"a"} : Values{}));
  }
}

TEST_CASE("a part that comes again is a duplicate, stored once") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  const uint64_t hash = harness.core->views().hash();
  const size_t entries = harness.consensus.log.size();
  const auto again = harness.send_half(TxnHarness::half(txn_id(), 0, {"a"}));
  CHECK(again.status.ok());
  CHECK(again.duplicate);
  CHECK(harness.consensus.log.size() == entries);
  CHECK(harness.core->views().hash() == hash);
  // Both under way at once.
  const auto both = harness.send_halves(
      {TxnHarness::half(txn_id(), 1, {"b"}), TxnHarness::half(txn_id(), 1, {"b"})});
  CHECK(both.at(0).status.ok());
  CHECK_FALSE(both.at(0).duplicate);
  CHECK(both.at(1).status.ok());
  CHECK(both.at(1).duplicate);
  CHECK(harness.end({txn_id(), true, 2}).status.ok());
  CHECK(harness.values() == Values{"a", "b"});
  CHECK(harness.stats().txn_begun == 1);
}

TEST_CASE("several ends in one request are answered one by one") {
  TxnHarness harness;
  harness.put(txn_id(1), 0, {"a"});
  harness.put(txn_id(2), 0, {"b"});
  const std::vector<EndInput> items{{txn_id(1)}, {txn_id(3)}, {txn_id(2), false}, {txn_id(4, 1)}};
  const auto results = testing::read_txn_results(harness.ask(testing::txn_end_request(items)));
  REQUIRE(results.size() == 4);
  CHECK(results[0].state == TxnWireState::kCommitted);
  CHECK(results[1].status.code() == ErrorCode::kNotFound);
  CHECK(results[2].state == TxnWireState::kRolledBack);
  CHECK(results[3].status.code() == ErrorCode::kWrongShard);
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("what an end has to look like") {
  TxnHarness harness(0, 2);
  CHECK(harness.end({txn_id(1, 1)}).status.code() == ErrorCode::kWrongShard);
  CHECK(harness.end({TxnId(0, 1, 0)}).status.code() == ErrorCode::kInvalidArgument);
  CHECK(harness.end({TxnId(1, 0, 0)}).status.code() == ErrorCode::kInvalidArgument);
  harness.put(txn_id(), 0, {"a"});
  CHECK(harness.end({txn_id(), true, 1, {2}}).status.code() == ErrorCode::kInvalidArgument);
  CHECK(harness.state() == TxnWireState::kOpen);
  const EndInput end{txn_id()};
  CHECK(testing::error_of(harness.ask(testing::txn_end_request({}))).code() ==
        ErrorCode::kInvalidArgument);
  CHECK(testing::error_of(harness.ask(testing::txn_end_request(std::vector<EndInput>(1025, end))))
            .code() == ErrorCode::kInvalidArgument);
  CHECK(
      testing::error_of(harness.ask(testing::txn_end_request({&end, 1}, static_cast<TxnEndBy>(3))))
          .code() == ErrorCode::kInvalidArgument);
  CHECK(harness.state() == TxnWireState::kOpen);
  const auto most = testing::read_txn_results(
      harness.ask(testing::txn_end_request(std::vector<EndInput>(1024, end))));
  CHECK(most.size() == 1024);
  CHECK(most.back().status.ok());
}

TEST_CASE("an end that names more shards than there are is refused, one that repeats them is not") {
  TxnHarness harness(0, 3);
  harness.put(txn_id(), 0, {"a"});
  CHECK(harness.end({txn_id(), true, 1, std::vector<uint16_t>(100'000, 1)}).status.code() ==
        ErrorCode::kInvalidArgument);
  CHECK(harness.state() == TxnWireState::kOpen);
  CHECK(harness.end({txn_id(), true, 1, {1, 1, 0}}).status.ok());
  CHECK(harness.core->views().txns().unconfirmed().at(key_of(txn_id())).shards ==
        std::vector<ShardId>{ShardId{1}});
}

// --- what is refused

TEST_CASE("every field of a half message is checked, and the refusal says which") {
  TxnHarness harness(0, 2);
  const HalfInput good = TxnHarness::half(txn_id(), 0, {"a"});
  const auto refused = [&](const HalfInput& part, ErrorCode code, const std::string& word) {
    const auto result = harness.send_half(part);
    CAPTURE(word);
    CHECK(result.status.code() == code);
    CHECK_MESSAGE(result.status.to_string().find(word) != std::string::npos,
                  result.status.to_string());
  };
  HalfInput bad = good;
  bad.txn = TxnId(0, 1, 0);
  refused(bad, ErrorCode::kInvalidArgument, "producer and number");
  bad.txn = TxnId(7, uint64_t{3} << 48, 0);  // an epoch without a number
  refused(bad, ErrorCode::kInvalidArgument, "producer and number");
  bad.txn = TxnId(7, 1, 2);
  refused(bad, ErrorCode::kInvalidArgument, "coordinating shard 2");
  bad = good;
  bad.group = "";
  refused(bad, ErrorCode::kInvalidArgument, "producer group");
  bad.group = std::string(256, 'g');
  refused(bad, ErrorCode::kInvalidArgument, "producer group");
  bad = good;
  bad.reference = std::string(256, 'r');
  refused(bad, ErrorCode::kInvalidArgument, "reference");
  bad = good;
  for (const uint32_t timeout_ms : {1u, 99u, limits::kTxnTimeoutMsMax + 1, UINT32_MAX}) {
    bad.timeout_ms = timeout_ms;
    refused(bad, ErrorCode::kInvalidArgument, "timeout of " + std::to_string(timeout_ms));
  }
  bad = good;
  bad.index = limits::kTxnHalvesMax;
  refused(bad, ErrorCode::kLimitExceeded, "at most 1024 parts");
  bad = good;
  bad.partition = PartitionId{TopicId{9}, PartitionIndex{0}};
  refused(bad, ErrorCode::kUnknownPartition, "topic id 9");
  bad = good;
  bad.payload = testing::build_batch(Values{"x"}, {7, 0, 0});
  refused(bad, ErrorCode::kInvalidArgument, "producer of its own");
  bad.payload = SharedBytes(Buffer::copy_of(as_bytes("no batch")));
  CHECK_FALSE(harness.send_half(bad).status.ok());
  CHECK(harness.core->views().txns().size() == 0);
  CHECK(harness.values().empty());

  HalfInput longest = good;
  longest.group = std::string(255, 'g');
  longest.reference = std::string(255, 'r');
  longest.timeout_ms = limits::kTxnTimeoutMsMax;
  longest.index = limits::kTxnHalvesMax - 1;
  harness.put(longest);
  bad = good;
  bad.txn = txn_id(1, 1);
  refused(bad, ErrorCode::kInvalidArgument, "coordinated by shard 0");
}

TEST_CASE("a half message without its transaction is refused") {
  TxnHarness harness;
  flatbuffers::FlatBufferBuilder builder;
  const SharedBytes batch = testing::build_batch(Values{"a"});
  const auto part = protocol::fbs::CreateProducePart(
      builder, 1, 0, static_cast<uint32_t>(batch.size()), protocol::fbs::ProduceKind::kHalf);
  const auto parts = builder.CreateVector(&part, 1);
  const auto frame = testing::request_frame(builder, protocol::fbs::CreateProduce(builder, parts),
                                            protocol::FrameType::kProduce, 0, {batch});
  CHECK(testing::read_produce_reply(harness.ask(frame)).at(0).status.code() ==
        ErrorCode::kInvalidArgument);
}

TEST_CASE("a transaction has as many parts as allowed, and all are committed") {
  TxnHarness harness;
  for (uint32_t index = 0; index < limits::kTxnHalvesMax; ++index) {
    harness.put(txn_id(), index, {std::to_string(index)}, index % 2 == 0 ? kPartition : kOther);
  }
  CHECK(harness.end({txn_id(), true, limits::kTxnHalvesMax}).status.ok());
  const Values values = harness.values(kOther);
  REQUIRE(values.size() == limits::kTxnHalvesMax / 2);
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(values[i] == std::to_string(2 * i + 1));
  }
}

TEST_CASE("a shard that is not the leader takes no half message and no end") {
  TxnHarness harness;
  harness.put(txn_id(), 0, {"a"});
  harness.consensus.set_role(replica::Role::kFollower);
  CHECK(harness.send_half(TxnHarness::half(txn_id(), 1, {"b"})).status.code() ==
        ErrorCode::kNotLeader);
  const EndInput end{txn_id()};
  CHECK(testing::error_of(harness.ask(testing::txn_end_request({&end, 1}))).code() ==
        ErrorCode::kNotLeader);
  harness.poll();
  CHECK(testing::error_of(harness.outbox.take()).code() == ErrorCode::kNotLeader);
}

// --- the disk

TEST_CASE("on a full disk no transaction begins, and every open one can end") {
  TxnHarness harness;
  for (uint64_t i = 1; i <= 4; ++i) {
    harness.put(txn_id(i), 0, {std::to_string(i)});
  }
  const uint64_t kept = harness.consensus.reserve();
  CHECK(kept >= 4 * limits::kTxnEndBytesReserved);
  harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  CHECK(harness.send_half(TxnHarness::half(txn_id(5), 0, {"no"})).status.code() ==
        ErrorCode::kDiskFull);
  CHECK(harness.send_half(TxnHarness::half(txn_id(1), 1, {"no"})).status.code() ==
        ErrorCode::kDiskFull);
  CHECK(harness.produce(kPartition, testing::build_batch(Values{"no"})).status.code() ==
        ErrorCode::kDiskFull);
  CHECK(harness.rollback(txn_id(9)).status.code() == ErrorCode::kDiskFull);  // nothing kept for it
  CHECK(harness.commit(txn_id(1)).status.ok());
  CHECK(harness.rollback(txn_id(2)).status.ok());
  CHECK(harness.commit(txn_id(3), TxnEndBy::kCheck).status.ok());
  CHECK(harness.values() == Values{"1", "3"});
  CHECK(harness.consensus.reserve() == kept / 4);

  harness.consensus.refuse_with(Status());
  CHECK(harness.commit(txn_id(4)).status.ok());
  CHECK(harness.send_half(TxnHarness::half(txn_id(5), 0, {"5"})).status.ok());
  CHECK(harness.commit(txn_id(5)).status.ok());
  CHECK(harness.values() == Values{"1", "3", "4", "5"});
}

TEST_CASE("on a full disk ends go through even if batches come in the same turn") {
  TxnHarness harness;
  harness.put(txn_id(1), 0, {"1"});
  harness.put(txn_id(2), 0, {"2"});
  harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  // The first turn finds out, the second one keeps them apart.
  for (uint64_t turn = 1; turn <= 3; ++turn) {
    const testing::ProduceInput plain{kPartition, testing::build_batch(Values{"no"})};
    const EndInput end{txn_id(turn < 3 ? 1 : 2)};
    harness.receive(testing::produce_request({&plain, 1}));
    harness.receive(testing::txn_end_request({&end, 1}));
    harness.receive(testing::produce_request({&plain, 1}));
    harness.settle();
    while (harness.answered()) {
      const protocol::Frame reply = harness.outbox.take();
      if (reply.header.type == static_cast<uint16_t>(protocol::FrameType::kTxnEnd)) {
        CHECK(testing::read_txn_results(reply).at(0).status.code() ==
              (turn == 1 ? ErrorCode::kDiskFull : ErrorCode::kOk));
      } else {
        CHECK(testing::read_produce_reply(reply).at(0).status.code() == ErrorCode::kDiskFull);
      }
    }
  }
  CHECK(harness.values() == Values{"1", "2"});
}

// An end that names so many shards fits into the room that is kept for it.
void check_end_fits(uint16_t shards) {
  TxnHarness harness(0, shards);
  const TxnId id = txn_id((uint64_t{1} << 48) - 1, 0, UINT16_MAX, UINT64_MAX);
  HalfInput part = TxnHarness::delayed_half(id, 0, {{"x", 1000}});
  harness.put(part);
  EndInput end{id, true, 1};
  for (uint16_t shard = 0; shard < shards; ++shard) {
    end.shards.push_back(shard);
  }
  const size_t before = harness.consensus.log.size();
  const uint64_t kept = harness.consensus.reserve();
  REQUIRE(harness.end(end).status.ok());
  REQUIRE(harness.consensus.log.size() == before + 1);
  const uint64_t taken = log::entry_bytes(harness.consensus.log.back().payload.size());
  MESSAGE("an end with ", shards, " shards takes ", taken, " bytes of the log, kept are ", kept);
  CHECK(taken <= kept);
}

TEST_CASE("an end fits into the room that is kept for it, whatever number of shards it names") {
  check_end_fits(1);
  check_end_fits(limits::kShardsMax);
}

TEST_CASE("a body is written once: 15 check-backs and a commit add less than 4 KiB to 1 MiB") {
  TxnHarness harness;
  const auto log_bytes = [&] {
    uint64_t bytes = 0;
    for (const replica::CommittedEntry& entry : harness.consensus.log) {
      bytes += log::entry_bytes(entry.payload.size());
    }
    return bytes;
  };
  const uint64_t before = log_bytes();
  harness.put(txn_id(), 0, {std::string(limits::kMiB, 'b')});
  const uint64_t prepared = log_bytes();
  size_t checks = 0;
  while (checks < 15) {
    harness.poll();
    harness.tick_for_ms(60'000, 100);
    REQUIRE(harness.answered());
    checks += harness.take_checks().size();
  }
  CHECK(checks == 15);
  const uint64_t checked = log_bytes();
  CHECK(harness.commit().status.ok());
  const uint64_t growth = log_bytes() - before;
  MESSAGE("the log grew by ", growth, " bytes: ", prepared - before, " prepared, ",
          checked - prepared, " for ", checks, " check-backs, ", log_bytes() - checked,
          " for the commit; ", growth - limits::kMiB, " beyond the body");
  CHECK(growth <= limits::kMiB + 4 * limits::kKiB);
  CHECK(harness.values().size() == 1);
}

}  // namespace
}  // namespace tidemark::shard
