// Named producers of transactions: epochs, and what is refused of older ones.
#include <doctest/doctest.h>

#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;
using Kind = ShardMail::Kind;

constexpr PartitionId kPartition = ShardHarness::kPartition;

struct Named {
  uint64_t producer = 0;
  int16_t epoch = -1;
};

void ask_for(TxnCluster& cluster, const std::string& group, const std::string& instance) {
  cluster[0].receive(testing::named_producer_request(group, instance));
}

Named take_named(TxnCluster& cluster) {
  const protocol::Frame frame = cluster[0].outbox.take();
  REQUIRE_MESSAGE(testing::error_of(frame).ok(), testing::error_of(frame).to_string());
  const auto& reply = testing::read_reply<protocol::fbs::InitProducerReply>(frame);
  return {reply.producer_id(), reply.epoch()};
}

Named name(TxnCluster& cluster, const std::string& group = "orders",
           const std::string& instance = "one") {
  ask_for(cluster, group, instance);
  cluster.settle();
  return take_named(cluster);
}

TxnId txn_of(const Named& named, uint64_t count, uint16_t shard) {
  return txn_id(count, shard, static_cast<uint16_t>(named.epoch), named.producer);
}

TEST_CASE("the same group and instance: the same producer with the next epoch") {
  TxnCluster cluster(3);
  const Named first = name(cluster);
  CHECK(first.epoch == 0);
  const Named second = name(cluster);
  CHECK(second.producer == first.producer);
  CHECK(second.epoch == 1);
  CHECK(name(cluster).epoch == 2);
  const Named other = name(cluster, "orders", "two");
  CHECK(other.producer != first.producer);
  CHECK(other.epoch == 0);
  CHECK(name(cluster, "payments", "one").epoch == 0);
  const Named nameless = name(cluster, "orders", "");
  CHECK(nameless.epoch == 0);
  CHECK(name(cluster, "orders", "").producer != nameless.producer);
  CHECK(name(cluster, "", "").producer != nameless.producer);
  for (size_t shard = 0; shard < 3; ++shard) {
    cluster[shard].restart();
    CHECK(cluster[shard].core->views().fences().lowest_epoch(first.producer) == 2);
    CHECK(cluster[shard].core->views().fences().size() == 1);
  }
  CHECK(name(cluster).epoch == 3);
}

TEST_CASE("group and instance cannot be mixed up where they meet") {
  TxnCluster cluster(1);
  const Named first = name(cluster, "ab", "c");
  CHECK(name(cluster, "a", "bc").producer != first.producer);
}

TEST_CASE("what a request for a producer has to look like") {
  TxnCluster cluster(2);
  const auto refused = [&](const std::string& group, const std::string& instance) {
    ask_for(cluster, group, instance);
    return testing::error_of(cluster[0].outbox.take()).code();
  };
  CHECK(refused("", "one") == ErrorCode::kInvalidArgument);
  CHECK(refused(std::string(256, 'g'), "one") == ErrorCode::kInvalidArgument);
  CHECK(refused("orders", std::string(256, 'i')) == ErrorCode::kInvalidArgument);
  CHECK(name(cluster, std::string(255, 'g'), std::string(255, 'i')).epoch == 0);
  cluster[1].receive(testing::named_producer_request("orders", "one"));
  CHECK(testing::error_of(cluster[1].outbox.take()).code() == ErrorCode::kWrongShard);
}

TEST_CASE("the answer comes when all shards have fenced the epochs before") {
  TxnCluster cluster(3);
  const Named first = name(cluster);
  for (const Kind lost : {Kind::kFence, Kind::kFenced}) {
    cluster.lost = [&](const ShardMail& mail) {
      return mail.kind == lost && (mail.to == ShardId{2} || mail.from == ShardId{2});
    };
    ask_for(cluster, "orders", "one");
    cluster.tick_for_ms(3000);
    CHECK_FALSE(cluster[0].answered());
    cluster.lost = [](const ShardMail&) { return false; };
    cluster.tick_for_ms(600);
    const Named next = take_named(cluster);
    for (size_t shard = 0; shard < 3; ++shard) {
      CHECK(cluster[shard].core->views().fences().lowest_epoch(first.producer) == next.epoch);
    }
  }
}

TEST_CASE("a shard that does not answer makes the request end in time, and the next one goes on") {
  TxnCluster cluster(2);
  name(cluster);
  cluster.lost = [](const ShardMail& mail) { return mail.to == ShardId{1}; };
  ask_for(cluster, "orders", "one");
  cluster.tick_for_ms(9980);
  CHECK_FALSE(cluster[0].answered());
  cluster.tick_for_ms(40);
  CHECK(testing::error_of(cluster[0].outbox.take()).code() == ErrorCode::kTimedOut);
  cluster.lost = [](const ShardMail&) { return false; };
  CHECK(name(cluster).epoch == 2);
  cluster.tick_for_ms(1000);
  CHECK_FALSE(cluster[0].answered());
}

TEST_CASE("a wait for fences ends in time though the shard is no longer the leader") {
  TxnCluster cluster(2);
  name(cluster);
  cluster.lost = [](const ShardMail&) { return true; };
  ask_for(cluster, "orders", "one");
  cluster.settle();
  cluster[0].consensus.set_role(replica::Role::kFollower);
  cluster.tick_for_ms(10'020);
  REQUIRE(cluster[0].answered());
  CHECK(testing::error_of(cluster[0].outbox.take()).code() == ErrorCode::kTimedOut);
}

TEST_CASE("who waits for fences is answered when the broker stops") {
  TxnCluster cluster(2);
  name(cluster);
  cluster.lost = [](const ShardMail&) { return true; };
  ask_for(cluster, "orders", "one");
  cluster.settle();
  cluster[0].core->begin_stop();
  CHECK(testing::error_of(cluster[0].outbox.take()).code() == ErrorCode::kShuttingDown);
}

TEST_CASE("several epochs wait at once: the older ones are answered, too") {
  TxnCluster cluster(2);
  name(cluster);
  cluster.lost = [](const ShardMail&) { return true; };
  for (int i = 0; i < 3; ++i) {
    ask_for(cluster, "orders", "one");
    cluster.settle();
  }
  CHECK_FALSE(cluster[0].answered());
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.tick_for_ms(1100);
  for (int16_t epoch = 1; epoch <= 3; ++epoch) {
    CHECK(take_named(cluster).epoch == epoch);
  }
}

TEST_CASE("restarts of any shard at any step of a fencing: the epochs before are fenced") {
  for (size_t shard = 0; shard < 2; ++shard) {
    for (size_t at = 1; at <= 12; ++at) {
      CAPTURE(shard);
      CAPTURE(at);
      TxnCluster cluster(2);
      const Named first = name(cluster);
      size_t steps = 0;
      cluster.each_step = [&] {
        if (++steps == at) {
          cluster[shard].restart();
        }
      };
      Named next;
      for (int attempt = 0; attempt < 5 && next.epoch <= 0; ++attempt) {
        ask_for(cluster, "orders", "one");
        cluster.settle();
        if (cluster[0].answered()) {
          next = take_named(cluster);
        }
      }
      REQUIRE(next.epoch >= 1);
      CHECK(next.producer == first.producer);
      for (size_t i = 0; i < 2; ++i) {
        CHECK(cluster[i].core->views().fences().is_fenced(first.producer, 0));
      }
      cluster.tick_for_ms(2000);
      CHECK(cluster[0].core->views().producer_names().unsettled().empty());
    }
  }
}

// --- what is refused

TEST_CASE(
    "half messages of an older epoch are refused on every shard, those of the new one taken") {
  TxnCluster cluster(3);
  const Named old = name(cluster);
  const Named now = name(cluster);
  for (uint16_t shard = 0; shard < 3; ++shard) {
    const auto refused = cluster[shard].send_half(TxnHarness::half(txn_of(old, 1, 0), 0, {"old"}));
    CHECK(refused.status.code() == ErrorCode::kFenced);
    CHECK(cluster[shard]
              .send_half(TxnHarness::delayed_half(txn_of(old, 1, 0), 1, {{"old", 1}}))
              .status.code() == ErrorCode::kFenced);
    cluster[shard].put(TxnHarness::half(txn_of(now, 1, 0), shard, {"new"}));
    CHECK(cluster[shard].core->views().txns().size() == 1);
  }
}

TEST_CASE("an old producer cannot end its transactions, check-backs and operators can") {
  TxnCluster cluster(1);
  const Named old = name(cluster);
  for (uint64_t i = 1; i <= 4; ++i) {
    cluster[0].put(TxnHarness::half(txn_of(old, i, 0), 0, {std::to_string(i)}));
  }
  CHECK(cluster[0].commit(txn_of(old, 4, 0)).status.ok());
  const Named now = name(cluster);
  for (const bool commit : {true, false}) {
    for (const uint64_t count : {1u, 2u, 4u, 9u}) {  // open, ended, unknown
      const TxnResult result = cluster[0].end({txn_of(old, count, 0), commit});
      CHECK(result.status.code() == ErrorCode::kFenced);
      CHECK(result.state == cluster[0].state(txn_of(old, count, 0)));
    }
  }
  // Its parts are known, too: not even answered as duplicates.
  CHECK(cluster[0].send_half(TxnHarness::half(txn_of(old, 1, 0), 0, {"1"})).status.code() ==
        ErrorCode::kFenced);
  CHECK(cluster[0].commit(txn_of(old, 1, 0), TxnEndBy::kCheck).status.ok());
  CHECK(cluster[0].rollback(txn_of(old, 2, 0), TxnEndBy::kOperator).status.ok());
  CHECK(cluster[0].values() == Values{"4", "1"});
  // The newer one is asked about what the older one left behind.
  cluster[0].poll();
  cluster[0].wait_ms(6000);
  const auto checks = cluster[0].take_checks();
  REQUIRE(checks.size() == 1);
  CHECK(checks[0].txn.number() == 3);
  CHECK(now.epoch == 1);
}

TEST_CASE("what was on its way when the fence came is refused when it is applied") {
  TxnCluster cluster(2);
  const Named old = name(cluster);
  cluster[1].put(TxnHarness::half(txn_of(old, 1, 1), 0, {"open"}));
  ShardMail fence;
  fence.kind = Kind::kFence;
  fence.from = ShardId{0};
  fence.to = ShardId{1};
  fence.txn.producer = old.producer;
  fence.epoch = 1;
  TxnHarness& shard = cluster[1];
  const HalfInput half = TxnHarness::half(txn_of(old, 2, 1), 0, {"late"});
  const EndInput end{txn_of(old, 1, 1)};
  const auto id = static_cast<int64_t>(old.producer);
  const testing::ProduceInput plain{kPartition, testing::build_batch(Values{"plain"}, {id, 0, 0})};
  const std::vector<DelayInput> items{{"delayed", 1}};
  shard.core->receive_mail(fence, shard.now);
  shard.receive(testing::half_request({&half, 1}));
  shard.receive(testing::txn_end_request({&end, 1}));
  shard.receive(testing::produce_request({&plain, 1}));
  shard.receive(testing::schedule_request(kPartition,
                                          testing::build_schedule(kPartition, items, {id, 0, 0})));
  shard.settle();
  CHECK(testing::read_produce_reply(shard.outbox.take()).at(0).status.code() == ErrorCode::kFenced);
  CHECK(testing::read_txn_results(shard.outbox.take()).at(0).status.code() == ErrorCode::kFenced);
  CHECK(testing::read_produce_reply(shard.outbox.take()).at(0).status.code() == ErrorCode::kFenced);
  CHECK(testing::read_produce_reply(shard.outbox.take()).at(0).status.code() == ErrorCode::kFenced);
  shard.run_ms(100);
  CHECK(shard.values().empty());
  CHECK(shard.state(txn_of(old, 1, 1)) == TxnWireState::kOpen);
  CHECK(shard.state(txn_of(old, 2, 1)) == TxnWireState::kNone);
  const uint64_t hash = shard.core->views().hash();
  shard.restart();
  CHECK(shard.core->views().hash() == hash);
}

TEST_CASE("plain batches and delayed messages of an older epoch are refused") {
  TxnCluster cluster(1);
  const Named old = name(cluster);
  const auto id = static_cast<int64_t>(old.producer);
  TxnHarness& shard = cluster[0];
  const SharedBytes stored = testing::build_batch(Values{"old"}, {id, 0, 0});
  CHECK(shard.produce(kPartition, stored).status.ok());
  name(cluster);
  CHECK(shard.produce(kPartition, testing::build_batch(Values{"no"}, {id, 0, 1})).status.code() ==
        ErrorCode::kFenced);
  CHECK(shard.produce(kPartition, stored).duplicate);  // its answer got lost
  CHECK(shard.schedule({{"no", 1}}, kPartition, {id, 0, 1}).status.code() == ErrorCode::kFenced);
  CHECK(shard.produce(kPartition, testing::build_batch(Values{"new"}, {id, 1, 0})).status.ok());
  CHECK(shard.schedule({{"delayed", 100}}, kPartition, {id, 1, 1}).status.ok());
  CHECK(
      shard.produce(kPartition, testing::build_batch(Values{"other"}, {id + 1, 0, 0})).status.ok());
  shard.run_ms(100);
  CHECK(shard.values() == Values{"old", "new", "other", "delayed"});
}

TEST_CASE("a coordinating shard settles what an older epoch committed before it was fenced") {
  TxnCluster cluster(2);
  const Named old = name(cluster);
  for (uint16_t shard = 0; shard < 2; ++shard) {
    cluster[shard].put(TxnHarness::half(txn_of(old, 1, 0), shard, {"x"}));
  }
  cluster.lost = [](const ShardMail& mail) { return mail.kind == Kind::kTxnOutcome; };
  CHECK(cluster[0].end({txn_of(old, 1, 0), true, 1, {1}}).status.ok());
  name(cluster);
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.tick_for_ms(1100);
  CHECK(cluster.quiet());
  CHECK(cluster[1].values() == Values{"x"});
}

}  // namespace
}  // namespace tidemark::shard
