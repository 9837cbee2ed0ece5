// Queue mode at the shard: dead letters and their way back.
#include <doctest/doctest.h>

#include "tests/support/group_requests.h"
#include "tests/unit/broker/shard/queue_harness.h"

namespace tidemark::shard {
namespace {

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kDead = QueueHarness::kDead;

// Messages of the dead-letter topic as a consumer of it gets them.
std::vector<Leased> dead_letters(QueueHarness& shard) {
  return shard.lease({.parts = {kDead}, .group = "undertakers"});
}

TEST_CASE("dead letters: after the maximum of deliveries, with a history") {
  QueueHarness shard(QueueHarness::dead_after(2));
  shard.put_messages({{"a", {{"color", "red"}}}, {"b"}});
  CHECK(shard.nack(shard.lease_one(), 0) == ErrorCode::kOk);
  CHECK(dead_letters(shard).empty());
  shard.start_receive({.parts = {kDead}, .group = "watchers"});
  const Leased second = shard.lease_one();
  CHECK(second.deliveries == 2);
  const int64_t died_ms = shard.now.wall.ms;
  shard.receive(testing::queue_settle_request(
      "workers", std::vector{QueueHarness::item(QueueAction::kNack, second, 0)}, "no such user"));
  shard.drain();
  REQUIRE(shard.outbox.replies.size() == 2);
  CHECK(testing::read_queue_settle_reply(shard.outbox.take()) == Codes{ErrorCode::kOk});
  // Whoever waits for dead letters is woken.
  const Leased dead = testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.at(0);
  CHECK(dead.value == "a");
  CHECK(dead.header("color") == "red");
  CHECK(dead.header("tm-dead-topic") == "topic-1");
  CHECK(dead.header("tm-dead-topic-id") == "1");
  CHECK(dead.header("tm-dead-partition") == "0");
  CHECK(dead.header("tm-dead-offset") == "0");
  CHECK(dead.header("tm-dead-group") == "workers");
  CHECK(dead.header("tm-dead-reason") == "no such user");
  CHECK(dead.header("tm-dead-deliveries") == "2");
  CHECK(dead.header("tm-dead-time") == std::to_string(died_ms));
  const testing::QueueInfoResult queue = shard.describe();
  CHECK(queue.dead_lettered == 1);
  CHECK(queue.failed == 1);
  CHECK(queue.floor == 1);
  CHECK(values_of(shard.lease()) == Values{"b"});
  // As a reader of the topic sees it.
  const testing::FetchPartResult read = shard.fetch(kDead, 0);
  REQUIRE(read.messages.size() == 1);
  CHECK(read.messages[0].value == "a");
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.queue_dead_lettered == 1);
}

TEST_CASE("dead letters: at once, and by leases that end") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b", "c"});
  CHECK(shard.bury(shard.lease_one(), "broken") == ErrorCode::kOk);
  (void)shard.lease_one({.visibility_ms = 1'000});
  shard.run_ms(1'000);
  const std::vector<Leased> dead = dead_letters(shard);
  REQUIRE(dead.size() == 2);
  CHECK(dead[0].header("tm-dead-reason") == "broken");
  CHECK(dead[1].header("tm-dead-reason") == "lease ended");
  CHECK(values_of(shard.lease()) == Values{"c"});
}

TEST_CASE(
    "dead letters: one that cannot be read waits as long as its consumer asked, and dies then") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  const LogPosition bad = shard.core->views().find(kPartition)->index().refs().front().position;
  const Leased first = shard.lease_one();
  shard.source.cached_from = LogPosition{1'000'000};
  shard.source.damaged = {bad};
  CHECK(shard.nack(first, 7'000) == ErrorCode::kOk);
  shard.source.damaged.clear();
  shard.run_ms(6'999);
  CHECK(shard.lease().empty());
  shard.run_ms(1);
  CHECK(shard.nack(shard.lease_one(), 0) == ErrorCode::kOk);
  CHECK(dead_letters(shard).at(0).header("tm-dead-deliveries") == "2");
}

TEST_CASE("dead letters: without a topic for them deliveries go on, without a maximum too") {
  partition::QueueConfig unbounded = QueueHarness::dead_after(0);
  partition::QueueConfig nowhere = QueueHarness::dead_after(1);
  nowhere.dead_letter_topic = TopicId{0};
  for (const partition::QueueConfig& config : {unbounded, nowhere}) {
    QueueHarness shard(config);
    shard.put({"a"});
    for (uint32_t i = 1; i < 5; ++i) {
      const Leased message = shard.lease_one();
      CHECK(message.deliveries == i);
      CHECK(shard.nack(message, 0) == ErrorCode::kOk);
    }
    const ErrorCode buried = shard.bury(shard.lease_one());
    CHECK(buried ==
          (config.dead_letter_topic == TopicId{0} ? ErrorCode::kNotAllowed : ErrorCode::kOk));
  }
}

TEST_CASE("dead letters: every message is in one of both, never in none") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b", "c", "d"});
  const std::vector<Leased> all = shard.lease();
  std::vector<QueueSettleInput> items;
  for (const Leased& message : all) {
    items.push_back(QueueHarness::item(QueueAction::kNack, message));
  }
  // The record is lost with the process.
  shard.receive(testing::queue_settle_request("workers", items));
  shard.core->flush(shard.now);
  shard.restart();
  CHECK(dead_letters(shard).empty());
  CHECK(shard.lease().size() == 4);
  // And once it is committed it is there for good.
  shard.advance_ms(30'000);
  shard.drain();
  shard.restart();
  CHECK(shard.lease().empty());
  CHECK(values_of(dead_letters(shard)) == Values{"a", "b", "c", "d"});
}

TEST_CASE("dead letters: their topic is gone: nothing is lost") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  ShardMail drop;
  drop.topic = kDead.topic;
  drop.version = 2;
  drop.state = ShardMail::State::kDropped;
  shard.core->receive_mail(drop, shard.now);
  shard.drain();
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kUnknownPartition);
  CHECK(shard.describe().unsettled == 1);
  shard.advance_ms(1'000);
  const Leased again = shard.lease_one();
  CHECK(shard.nack(again) == ErrorCode::kOk);
  CHECK(shard.describe().unsettled == 1);
  CHECK(shard.describe().dead_lettered == 0);
}

TEST_CASE("dead letters: the log keeps the body as long as the letter is there") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  const LogPosition body = shard.core->views().find(kPartition)->index().refs().front().position;
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  CHECK(shard.core->views().find(kDead)->low_position() == body);
  shard.checkpoint();
  shard.restart_from_checkpoint();
  CHECK(shard.core->views().find(kDead)->low_position() == body);
  CHECK(values_of(dead_letters(shard)) == Values{"a"});
}

TEST_CASE("redrive: back to where it came from, and its history grows") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b"});
  CHECK(shard.bury(shard.lease_one(), "first") == ErrorCode::kOk);
  CHECK(shard.unsettled(kDead, "$dlq").ranges ==
        std::vector<std::pair<uint64_t, uint64_t>>{{0, 1}});
  shard.advance_ms(5);
  const int64_t redriven_ms = shard.now.wall.ms;
  CHECK(shard.redrive({0}) == Codes{ErrorCode::kOk});
  CHECK(shard.unsettled(kDead, "$dlq").ranges.empty());
  CHECK(shard.redrive({0, 1}) == Codes{ErrorCode::kNotFound, ErrorCode::kNotFound});
  CHECK(shard.lease_one().value == "b");
  const Leased back = shard.lease_one();
  CHECK(back.value == "a");
  CHECK(back.offset == Offset{2});
  CHECK(back.deliveries == 1);
  CHECK(back.header("tm-redriven") == std::to_string(redriven_ms));
  CHECK(back.header("tm-dead-reason") == "first");
  CHECK(shard.bury(back, "second") == ErrorCode::kOk);
  const Leased twice = dead_letters(shard).at(1);
  CHECK(twice.value == "a");
  Values reasons;
  for (const auto& [name, value] : twice.headers) {
    if (name == "tm-dead-reason") {
      reasons.push_back(value);
    }
  }
  CHECK(reasons == Values{"first", "second"});
  CHECK(twice.header("tm-dead-offset") == "2");
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.queue_redriven == 1);
  CHECK(stats.queue_dead_lettered == 2);
}

// Found by reading: a message that was sent back has the history of a dead letter, and a redrive of
// its own topic stored it once more.
TEST_CASE("redrive: what was sent back is no dead letter any more") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  CHECK(shard.redrive({0}) == Codes{ErrorCode::kOk});
  CHECK(testing::read_queue_settle_reply(shard.ask(testing::queue_redrive_request(
            QueueHarness::kPartition, std::vector<uint64_t>{1}))) == Codes{ErrorCode::kNotFound});
  CHECK(shard.lease().size() == 1);
}

// Found by reading: in queue mode a letter expired by the time to live that it died with.
TEST_CASE(
    "dead letters: the time to live of the message is over: they stay, what is sent back goes") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put_messages({{"a", {{"tm-ttl", "1000"}}}});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  shard.advance_ms(2'000);
  CHECK(values_of(dead_letters(shard)) == Values{"a"});
  CHECK(shard.redrive({0}) == Codes{ErrorCode::kOk});
  shard.advance_ms(1'000);  // counts anew from then on
  CHECK(shard.lease().empty());
  CHECK(shard.describe().expired == 1);
}

// Found by reading: deleting it made all letters that were redriven or purged open again.
TEST_CASE("dead letters: the group that says which are settled is not deleted") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  CHECK(shard.settle_items({QueueHarness::purge(0, 1, kDead)}, {}, "$dlq") ==
        Codes{ErrorCode::kOk});
  CHECK(testing::error_of(shard.ask(testing::group_delete_request("$dlq"))).to_string() ==
        "invalid argument: $dlq says which dead letters are settled, and stays");
  CHECK(shard.unsettled(kDead, "$dlq").ranges.empty());
}

TEST_CASE("redrive: a history without room loses its oldest parts") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  for (uint64_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    CHECK(shard.bury(shard.lease_one(), "reason " + std::to_string(i)) == ErrorCode::kOk);
    CHECK(shard.redrive({i}) == Codes{ErrorCode::kOk});
  }
  const Leased last = shard.lease_one();
  CHECK(last.value == "a");
  CHECK(last.headers.size() <= limits::kHeadersPerMessageMax);
  CHECK(last.header("tm-dead-reason") == "reason 11");
  CHECK(last.header("tm-redriven") != "-");
}

TEST_CASE("redrive: what is no dead letter, twice in one request, and a place that is gone") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"x"}, kDead);  // somebody produced into it
  shard.put({"a"});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  CHECK(shard.redrive({0, 1, 1, 7}) ==
        Codes{ErrorCode::kNotFound, ErrorCode::kOk, ErrorCode::kFenced, ErrorCode::kNotFound});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  ShardMail drop;
  drop.topic = kPartition.topic;
  drop.version = 2;
  drop.state = ShardMail::State::kDropped;
  shard.core->receive_mail(drop, shard.now);
  shard.drain();
  CHECK(shard.redrive({2}) == Codes{ErrorCode::kUnknownPartition});
  CHECK(dead_letters(shard).size() == 3);  // it stays
}

TEST_CASE("redrive: letters that are not in memory") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b"});
  for (const Leased& message : shard.lease()) {
    CHECK(shard.bury(message) == ErrorCode::kOk);
  }
  shard.checkpoint();
  shard.restart_from_checkpoint();
  shard.source.cached_from = LogPosition{1'000'000};
  CHECK(shard.redrive({0, 1}) == Codes{ErrorCode::kOk, ErrorCode::kOk});
  CHECK(values_of(shard.lease()) == Values{"a", "b"});
}

TEST_CASE("redrive: bounds") {
  QueueHarness shard;
  const std::string text = "1 to 1024 offsets are allowed";
  for (const size_t count : {size_t{0}, limits::kQueueItemsPerRequestMax + 1}) {
    const std::vector<uint64_t> offsets(count);
    CHECK(
        testing::error_of(shard.ask(testing::queue_redrive_request(kDead, offsets))).to_string() ==
        Status(ErrorCode::kInvalidArgument, text).to_string());
  }
  const PartitionId nowhere{TopicId{9}, PartitionIndex{0}};
  const uint64_t offset = 0;
  CHECK(
      testing::error_of(shard.ask(testing::queue_redrive_request(nowhere, {&offset, 1}))).code() ==
      ErrorCode::kUnknownPartition);
}

TEST_CASE("dead letters: purged as the group of dead letters, without a lease") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b", "c"});
  for (const Leased& message : shard.lease()) {
    CHECK(shard.bury(message) == ErrorCode::kOk);
  }
  CHECK(shard.settle_items({QueueHarness::purge(0, 2, kDead)}, {}, "$dlq") ==
        Codes{ErrorCode::kOk});
  CHECK(shard.unsettled(kDead, "$dlq").ranges ==
        std::vector<std::pair<uint64_t, uint64_t>>{{2, 1}});
  CHECK(shard.redrive({0}) == Codes{ErrorCode::kNotFound});
  const QueueSettleInput with_token{QueueHarness::kDead, Offset{2}, 5, QueueAction::kAck, 0, 1};
  CHECK(shard.settle_items({with_token}, {}, "$dlq") == Codes{ErrorCode::kInvalidArgument});
}

}  // namespace
}  // namespace tidemark::shard
