// Transactions with parts on several shards: mail that gets lost or comes twice, and restarts.
#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

using Values = TxnHarness::Values;
using Kind = ShardMail::Kind;

// Parts lie in the first partition of each shard; this one has "<shard>".
HalfInput part_of(uint16_t shard, const TxnId& txn = txn_id()) {
  return TxnHarness::half(txn, shard, {std::to_string(shard)});
}

Values expected_on(uint16_t shard, bool commit) {
  return commit ? Values{std::to_string(shard)} : Values{};
}

// Every shard has made of it what is wanted, and nobody waits for anybody.
void check_followed(TxnCluster& cluster, bool commit, const TxnId& txn = txn_id()) {
  CHECK(cluster.quiet());
  for (uint16_t shard = 0; shard < cluster.size(); ++shard) {
    CAPTURE(shard);
    CHECK(cluster[shard].state(txn) ==
          (commit ? TxnWireState::kCommitted : TxnWireState::kRolledBack));
    CHECK(cluster[shard].values() == expected_on(shard, commit));
  }
}

// Parts on all shards.
void put_all(TxnCluster& cluster, const TxnId& txn = txn_id()) {
  for (uint16_t shard = 0; shard < cluster.size(); ++shard) {
    cluster[shard].put(part_of(shard, txn));
  }
}

const txn::TxnTable& table(TxnCluster& cluster, size_t shard) {
  return cluster[shard].core->views().txns();
}

TEST_CASE("shards that the end names are told at once, and confirm") {
  for (const bool commit : {true, false}) {
    TxnCluster cluster(3);
    put_all(cluster);
    CHECK(cluster[0].end({txn_id(), commit, 1, {1, 2}}).status.ok());
    CHECK(cluster[0].values() == expected_on(0, commit));
    CHECK(table(cluster, 0).unconfirmed().size() == 1);
    CHECK(cluster[1].values().empty());
    cluster.settle();
    check_followed(cluster, commit);
    CHECK(cluster.letters_sent == 4);
  }
}

TEST_CASE("any shard coordinates what is named for it, also one without a part") {
  TxnCluster cluster(3);
  const TxnId txn = txn_id(1, 2);
  cluster[0].put(part_of(0, txn));
  cluster[1].put(part_of(1, txn));
  CHECK(cluster[2].end({txn, true, 0, {0, 1}}).status.code() == ErrorCode::kNotFound);
  cluster.tick_for_ms(1100);  // they ask
  CHECK(cluster[2].state(txn) == TxnWireState::kOpen);
  CHECK(cluster[2].end({txn, true, 0, {0, 1}}).status.ok());
  cluster.settle();
  CHECK(cluster.quiet());
  CHECK(cluster[0].values() == Values{"0"});
  CHECK(cluster[1].values() == Values{"1"});
}

TEST_CASE("outcomes that get lost are told again until they are followed") {
  for (const bool commit : {true, false}) {
    TxnCluster cluster(3);
    put_all(cluster);
    cluster.lost = [](const ShardMail& mail) { return mail.kind == Kind::kTxnOutcome; };
    CHECK(cluster[0].end({txn_id(), commit, 1, {1, 2}}).status.ok());
    cluster.tick_for_ms(5000);
    CHECK(cluster[1].values().empty());
    CHECK(cluster[1].state() == TxnWireState::kOpen);
    CHECK(table(cluster, 0).unconfirmed().at(key_of(txn_id())).shards.size() == 2);
    cluster.lost = [](const ShardMail& mail) { return mail.to == ShardId{2}; };
    cluster.tick_for_ms(1100);
    CHECK(cluster[1].values() == expected_on(1, commit));
    CHECK(table(cluster, 0).unconfirmed().at(key_of(txn_id())).shards ==
          std::vector<ShardId>{ShardId{2}});
    cluster.lost = [](const ShardMail&) { return false; };
    cluster.tick_for_ms(1100);
    check_followed(cluster, commit);
  }
}

TEST_CASE("confirmations that get lost are given again, and nothing is visible twice") {
  TxnCluster cluster(3);
  put_all(cluster);
  cluster.lost = [](const ShardMail& mail) { return mail.kind == Kind::kTxnFollowed; };
  CHECK(cluster[0].end({txn_id(), true, 1, {1, 2}}).status.ok());
  cluster.tick_for_ms(3000);
  CHECK_FALSE(cluster.quiet());
  CHECK(cluster[1].values() == Values{"1"});
  const size_t entries = cluster[1].consensus.log.size();
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.tick_for_ms(1100);
  check_followed(cluster, true);
  CHECK(cluster[1].consensus.log.size() == entries);
}

TEST_CASE("all mail comes twice, or three times") {
  for (const int copies : {2, 3}) {
    for (const bool commit : {true, false}) {
      TxnCluster cluster(3);
      cluster.copies = copies;
      put_all(cluster);
      cluster.tick_for_ms(1100);
      CHECK(cluster[0].end({txn_id(), commit, 1, {1}}).status.ok());
      cluster.tick_for_ms(3000);
      check_followed(cluster, commit);
      CHECK(cluster[0].stats().txn_committed == (commit ? 1 : 0));
    }
  }
}

TEST_CASE("a shard that nobody named asks by itself") {
  for (const bool commit : {true, false}) {
    for (const bool asked_before : {true, false}) {
      CAPTURE(asked_before);
      TxnCluster cluster(2);
      put_all(cluster);
      if (asked_before) {
        cluster.tick_for_ms(1100);
        CHECK(table(cluster, 0).find(key_of(txn_id()))->participants ==
              std::vector<ShardId>{ShardId{1}});
        cluster.tick_for_ms(3000);  // it asks again and again, and is joined already
        CHECK(table(cluster, 0).find(key_of(txn_id()))->participants.size() == 1);
      }
      CHECK(cluster[0].end({txn_id(), commit, 1}).status.ok());
      CHECK(table(cluster, 0).unconfirmed().size() == (asked_before ? 1 : 0));
      cluster.settle();
      CHECK(cluster[1].values() == (asked_before ? expected_on(1, commit) : Values{}));
      cluster.tick_for_ms(2100);
      check_followed(cluster, commit);
    }
  }
}

TEST_CASE("a coordinator that never saw a part learns of the transaction, and asks its group") {
  for (const bool commit : {true, false}) {
    TxnCluster cluster(2);
    cluster[1].put(part_of(1));
    const int64_t born_ms = cluster[1].log_ms();
    cluster[0].poll();
    cluster.tick_for_ms(1100);
    CHECK(cluster[0].state() == TxnWireState::kOpen);
    CHECK_FALSE(cluster[0].answered());
    cluster.tick_for_ms(5000);
    REQUIRE(cluster[0].answered());
    const auto checks = cluster[0].take_checks();
    REQUIRE(checks.size() == 1);
    CHECK(checks[0].reference == "order 17");
    CHECK(checks[0].born_ms == born_ms);
    CHECK(cluster[0].end({checks[0].txn, commit}, TxnEndBy::kCheck).status.ok());
    cluster.settle();
    CHECK(cluster.quiet());
    CHECK(cluster[1].values() == expected_on(1, commit));
  }
}

TEST_CASE("a rollback that overtakes the parts: they learn of it when they ask") {
  TxnCluster cluster(2);
  CHECK(cluster[0].end({txn_id(), false, UINT32_MAX, {1}}).status.ok());
  cluster.settle();  // shard 1 has nothing, and says so
  CHECK(table(cluster, 0).unconfirmed().empty());
  cluster[1].put(part_of(1));
  CHECK(cluster[1].state() == TxnWireState::kOpen);
  cluster.tick_for_ms(2100);
  CHECK(cluster[1].state() == TxnWireState::kRolledBack);
  CHECK(cluster.quiet());
  CHECK(cluster[1].values().empty());
}

TEST_CASE("an outcome stays as long as a named shard has not followed, whatever its age") {
  TxnCluster cluster(2);
  for (size_t shard = 0; shard < 2; ++shard) {
    cluster[shard].options.txn_outcome_age_ms = 10'000;
    cluster[shard].restart();
  }
  put_all(cluster);
  cluster.lost = [](const ShardMail&) { return true; };
  CHECK(cluster[0].end({txn_id(), true, 1, {1}}).status.ok());
  cluster.tick_for_ms(60'000);
  CHECK(table(cluster, 0).outcomes().chunks() == 0);
  CHECK(cluster[0].state() == TxnWireState::kCommitted);
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.tick_for_ms(1100);
  CHECK(cluster.quiet());
  CHECK(cluster[1].values() == Values{"1"});
}

TEST_CASE(
    "a shard that asks when the outcome is forgotten: the group is asked, and says it again") {
  TxnCluster cluster(2);
  cluster[0].options.txn_outcome_age_ms = 10'000;
  cluster[0].restart();
  put_all(cluster);
  cluster.lost = [](const ShardMail&) { return true; };
  CHECK(cluster[0].end({txn_id(), true, 1}).status.ok());  // does not name shard 1
  cluster.tick_for_ms(15'000);
  CHECK(cluster[0].state() == TxnWireState::kNone);
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.tick_for_ms(1100);
  CHECK(cluster[0].state() == TxnWireState::kOpen);
  cluster[0].poll();
  cluster.tick_for_ms(100);
  const auto checks = cluster[0].take_checks();
  REQUIRE(checks.size() == 1);
  CHECK(cluster[0].end({checks[0].txn, true}, TxnEndBy::kCheck).status.ok());
  cluster.settle();
  CHECK(cluster.quiet());
  CHECK(cluster[0].values() == Values{"0"});
  CHECK(cluster[1].values() == Values{"1"});
}

TEST_CASE("mail of a shard that does not coordinate is not believed") {
  TxnCluster cluster(3);
  cluster[1].put(part_of(1));
  ShardMail mail;
  mail.kind = Kind::kTxnOutcome;
  mail.from = ShardId{2};
  mail.to = ShardId{1};
  mail.txn = key_of(txn_id());
  mail.commit = true;
  cluster[1].core->receive_mail(mail, cluster[1].now);
  cluster.settle();
  CHECK(cluster[1].state() == TxnWireState::kOpen);
  // And an end that names the wrong coordinator is not done.
  CHECK(cluster[1].end({txn_id(1, 1), true}).status.code() == ErrorCode::kConflict);
  CHECK(cluster[1].state() == TxnWireState::kOpen);
  CHECK(cluster[1].values().empty());
}

TEST_CASE("a shard that could not follow does not say that it has") {
  TxnCluster cluster(2);
  cluster[0].put(part_of(0));
  const std::vector<DelayInput> items{{"first", 10}};
  cluster[1].put(TxnHarness::delayed_half(txn_id(), 1, items));
  CHECK(cluster[0].end({txn_id(), true, 1, {1}}).status.ok());
  // A part that was sent again, or late, is on its way into the log when the outcome arrives.
  cluster[1].receive(
      testing::half_request(std::vector{TxnHarness::delayed_half(txn_id(), 2, items)}));
  bool followed_open = false;
  cluster.lost = [&](const ShardMail& mail) {
    followed_open = followed_open ||
                    (mail.kind == Kind::kTxnFollowed && cluster[1].state() == TxnWireState::kOpen);
    return false;
  };
  cluster[0].core->flush(cluster[0].now);
  for (ShardMail& mail : cluster[0].outbox.take_mail()) {
    cluster[1].core->receive_mail(mail, cluster[1].now);
  }
  cluster.settle();
  CHECK_FALSE(followed_open);
  cluster.tick_for_ms(1100);
  CHECK(cluster.quiet());
  CHECK(cluster[1].outbox.replies.size() == 1);
  cluster[1].outbox.replies.clear();
  CHECK(cluster[1].values() == Values{"first", "first"});
}

TEST_CASE("on a full disk other shards follow, and are told") {
  TxnCluster cluster(2);
  put_all(cluster);
  for (size_t shard = 0; shard < 2; ++shard) {
    cluster[shard].consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  }
  CHECK(cluster[0].end({txn_id(), true, 1, {1}}).status.ok());
  cluster.tick_for_ms(3000);
  CHECK(cluster[1].values() == Values{"1"});
  CHECK_FALSE(cluster.quiet());  // that it followed has no room to be noted
  cluster[0].consensus.refuse_with(Status());
  cluster.tick_for_ms(1100);
  check_followed(cluster, true);
}

// --- restarts

// Sends until it is answered.
protocol::Frame insist(TxnCluster& cluster, size_t shard, const protocol::Frame& request) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    cluster[shard].receive(request);
    cluster.settle();
    if (cluster[shard].answered()) {
      protocol::Frame reply = cluster[shard].outbox.take();
      cluster[shard].outbox.replies.clear();
      return reply;
    }
  }
  REQUIRE_MESSAGE(false, "no answer");
  return {};
}

// The life of a transaction on three shards, with a restart of one of them after step `at`. Gives
// the number of steps.
size_t live_with_restart(bool commit, size_t shard, size_t at, bool from_checkpoint, bool named) {
  TxnCluster cluster(3);
  size_t steps = 0;
  cluster.each_step = [&] {
    ++steps;
    if (from_checkpoint && steps == (at + 1) / 2) {
      cluster[shard].checkpoint();
    }
    if (steps == at) {
      const uint64_t hash = cluster[shard].core->views().hash();
      if (from_checkpoint) {
        cluster[shard].restart_from_checkpoint();
      } else {
        cluster[shard].restart();
      }
      CHECK(cluster[shard].core->views().hash() == hash);
    }
  };
  for (uint16_t i = 0; i < 3; ++i) {
    std::vector<HalfInput> parts{part_of(i)};
    const std::vector<DelayInput> items{{"delayed", 50}};
    parts.push_back(TxnHarness::delayed_half(txn_id(), 10u + i, items));
    for (const auto& result :
         testing::read_produce_reply(insist(cluster, i, testing::half_request(parts)))) {
      REQUIRE_MESSAGE(result.status.ok(), result.status.to_string());
    }
  }
  cluster.tick_for_ms(named ? 100 : 1200);
  EndInput end{txn_id(), commit, 2};
  if (named) {
    end.shards = {1, 2};
  }
  const TxnResult result =
      testing::read_txn_results(insist(cluster, 0, testing::txn_end_request({&end, 1}))).at(0);
  CHECK_MESSAGE(result.status.ok(), result.status.to_string());
  cluster.tick_for_ms(5000);
  CHECK(cluster.quiet());
  for (uint16_t i = 0; i < 3; ++i) {
    CHECK(cluster[i].values() == (commit ? Values{std::to_string(i), "delayed"} : Values{}));
  }
  return steps;
}

TEST_CASE("a restart of any shard at any step changes nothing of the outcome") {
  for (const bool commit : {true, false}) {
    for (const bool named : {true, false}) {
      const size_t steps = live_with_restart(commit, 0, SIZE_MAX, false, named);
      REQUIRE(steps > 10);
      for (size_t shard = 0; shard < 3; ++shard) {
        for (size_t at = 1; at <= steps; ++at) {
          CAPTURE(commit);
          CAPTURE(named);
          CAPTURE(shard);
          CAPTURE(at);
          live_with_restart(commit, shard, at, at % 2 == 0, named);
        }
      }
    }
  }
}

// What a random run knows of a transaction.
struct Fate {
  TxnId txn;
  std::vector<uint16_t> shards = {};
  std::optional<bool> ended = std::nullopt;  // as was answered
};

// One end, asked for until there is an answer. By chance the other way round from another side.
void end_at_random(TxnCluster& cluster, Random& random, Fate& fate) {
  const size_t coordinator = fate.txn.shard();
  EndInput end{fate.txn, random.chance(2, 3)};
  if (random.chance(1, 2)) {
    end.shards = fate.shards;
  }
  cluster[coordinator].receive(testing::txn_end_request({&end, 1}, TxnEndBy::kOperator));
  cluster.settle();
  if (!cluster[coordinator].answered()) {
    return;
  }
  const TxnResult result = testing::read_txn_results(cluster[coordinator].outbox.take()).at(0);
  cluster[coordinator].outbox.replies.clear();
  if (result.state == TxnWireState::kCommitted || result.state == TxnWireState::kRolledBack) {
    const bool committed = result.state == TxnWireState::kCommitted;
    CHECK(fate.ended.value_or(committed) == committed);
    fate.ended = committed;
  }
}

void begin_at_random(TxnCluster& cluster, Random& random, Fate& fate) {
  for (uint16_t shard = 0; shard < cluster.size(); ++shard) {
    if (random.chance(1, 3)) {
      continue;
    }
    HalfInput part = TxnHarness::half(
        fate.txn, shard, {std::to_string(fate.txn.number()) + "@" + std::to_string(shard)});
    cluster[shard].receive(testing::half_request({&part, 1}));
    cluster.settle();
    if (!cluster[shard].answered()) {
      continue;
    }
    if (testing::read_produce_reply(cluster[shard].outbox.take()).at(0).status.ok()) {
      fate.shards.push_back(shard);
    }
    cluster[shard].outbox.replies.clear();
  }
}

// All mail arrives again, and everything that has no end yet gets one.
void end_all(TxnCluster& cluster, std::vector<Fate>& fates) {
  cluster.lost = [](const ShardMail&) { return false; };
  cluster.each_step = [] {};
  cluster.tick_for_ms(3000);
  for (Fate& fate : fates) {
    const bool known =
        table(cluster, fate.txn.shard()).state(key_of(fate.txn)) != txn::TxnState::kNone;
    if (!fate.ended.has_value() && known) {
      const TxnResult result = cluster[fate.txn.shard()].end({fate.txn, true});
      fate.ended = result.state == TxnWireState::kCommitted;
    }
  }
  cluster.tick_for_ms(3000);
}

TEST_CASE("random ends, lost and doubled mail, restarts: in the end all shards agree") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    TxnCluster cluster(3);
    cluster.copies = seed % 3 == 0 ? 2 : 1;
    cluster.lost = [&](const ShardMail&) { return random.chance(1, 3); };
    cluster.each_step = [&] {
      const size_t shard = random.below(3);
      if (random.chance(1, 60)) {
        cluster[shard].checkpoint();
      } else if (random.chance(1, 40)) {
        const uint64_t hash = cluster[shard].core->views().hash();
        cluster[shard].restart_from_checkpoint();
        REQUIRE(cluster[shard].core->views().hash() == hash);
      }
    };
    std::vector<Fate> fates;
    for (uint64_t number = 1; number <= 40; ++number) {
      fates.push_back({txn_id(number, static_cast<uint16_t>(random.below(3)))});
      begin_at_random(cluster, random, fates.back());
      cluster.tick_for_ms(static_cast<int64_t>(random.below(10)) * 100, 100);
      end_at_random(cluster, random, fates[random.below(fates.size())]);
    }
    end_all(cluster, fates);
    CHECK(cluster.quiet());
    for (uint16_t shard = 0; shard < 3; ++shard) {
      Values values = cluster[shard].values();
      std::sort(values.begin(), values.end());
      CHECK(std::unique(values.begin(), values.end()) == values.end());
      for (const Fate& fate : fates) {
        const std::string value = std::to_string(fate.txn.number()) + "@" + std::to_string(shard);
        const bool there = std::find(values.begin(), values.end(), value) != values.end();
        const bool stored =
            std::find(fate.shards.begin(), fate.shards.end(), shard) != fate.shards.end();
        if (stored) {
          CAPTURE(value);
          CHECK(there == fate.ended.value_or(false));
        } else if (there) {
          CHECK(fate.ended.value_or(false));  // stored, though its producer never learned of it
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidemark::shard
