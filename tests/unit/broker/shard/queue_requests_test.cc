// Queue mode at the shard: bounds, restarts, and what goes wrong.
#include <doctest/doctest.h>

#include "tests/support/group_requests.h"
#include "tests/unit/broker/shard/queue_harness.h"

namespace tidemark::shard {
namespace {

constexpr PartitionId kPartition = ShardHarness::kPartition;
using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;

TEST_CASE("queue: what a receive may ask for") {
  QueueHarness shard;
  const auto text = [&](const ReceiveInput& input) {
    const Status status = shard.refusal(input);
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    return std::string(status.context());
  };
  CHECK(text({.group = ""}) == "a consumer group has a name of 1 to 255 bytes");
  CHECK(text({.group = std::string(256, 'g')}) == "a consumer group has a name of 1 to 255 bytes");
  CHECK(text({.group = "$dlq"}) == "names of consumer groups that begin with $ are reserved");
  CHECK(text({.messages_max = 0}) == "messages_max is 1 to 1024");
  CHECK(text({.messages_max = 1025}) == "messages_max is 1 to 1024");
  CHECK(text({.visibility_ms = 999}) == "visibility_ms is 1000 to 43200000");
  CHECK(text({.visibility_ms = 43'200'001}) == "visibility_ms is 1000 to 43200000");
  CHECK(text({.parts = std::vector<PartitionId>(257, kPartition)}) ==
        "a receive has 1 to 256 parts");
  CHECK(testing::error_of(shard.ask(testing::queue_receive_request({}))).context() ==
        "a receive has 1 to 256 parts");
  CHECK(
      shard.lease({.group = std::string(255, 'g'), .messages_max = 1'024, .bytes_max = 0}).empty());
}

TEST_CASE("queue: what a settle request may ask for") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased message = shard.lease_one();
  const QueueSettleInput good = QueueHarness::item(QueueAction::kAck, message);
  const auto refusal = [&](std::string_view group, size_t count, size_t reason) {
    const std::vector<QueueSettleInput> items(count, good);
    const Status status = testing::error_of(
        shard.ask(testing::queue_settle_request(group, items, std::string(reason, 'r'))));
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    return std::string(status.context());
  };
  CHECK(refusal("", 1, 0) == "a consumer group has a name of 1 to 255 bytes");
  CHECK(refusal("$other", 1, 0) == "names of consumer groups that begin with $ are reserved");
  CHECK(refusal("workers", 0, 0) == "1 to 1024 items are allowed");
  CHECK(refusal("workers", 1'025, 0) == "1 to 1024 items are allowed");
  CHECK(refusal("workers", 1, 256) == "a reason has at most 255 bytes");

  const auto invalid = [&](QueueAction action, uint64_t token, int64_t delay_ms) {
    return shard.settle_items({{QueueHarness::kPartition, {}, token, action, delay_ms, 1}}).at(0);
  };
  const auto kInvalid = ErrorCode::kInvalidArgument;
  CHECK(invalid(QueueAction::kNack, 0, 0) == kInvalid);
  CHECK(invalid(QueueAction::kNack, message.token, -2) == kInvalid);
  CHECK(invalid(QueueAction::kNack, message.token, limits::kQueueDelayMsMax + 1) == kInvalid);
  CHECK(invalid(QueueAction::kExtend, 0, 1'000) == kInvalid);
  CHECK(invalid(QueueAction::kExtend, message.token, -1) == kInvalid);
  CHECK(invalid(QueueAction::kExtend, message.token, 43'200'001) == kInvalid);
  CHECK(invalid(QueueAction::kDeadLetter, 0, 0) == kInvalid);
  CHECK(invalid(QueueAction::kRelease, 0, 0) == kInvalid);
  CHECK(invalid(static_cast<QueueAction>(5), message.token, 0) == kInvalid);
  // Each item for itself.
  const Leased nowhere{.offset = Offset{7}, .token = 1};
  CHECK(shard.settle_items(
            {QueueHarness::item(QueueAction::kAck, nowhere),
             QueueHarness::item(QueueAction::kAck, message, 0, {TopicId{9}, PartitionIndex{0}}),
             good}) == Codes{ErrorCode::kNotFound, ErrorCode::kUnknownPartition, ErrorCode::kOk});
}

TEST_CASE("queue: an operator settles what nobody has") {
  QueueHarness shard;
  shard.put({"a", "b", "c", "d", "e"});
  const Leased first = shard.lease_one();
  CHECK(shard.settle_items({QueueHarness::purge(0, 1)}) == Codes{ErrorCode::kFenced});
  CHECK(shard.settle_items({QueueHarness::purge(3, 1)}) == Codes{ErrorCode::kOk});
  CHECK(shard.unsettled().ranges == Ranges{{0, 3}, {4, 1}});
  // What is leased is left out of a range, and told.
  CHECK(shard.settle_items({QueueHarness::purge(0, 3)}) == Codes{ErrorCode::kFenced});
  CHECK(shard.unsettled().ranges == Ranges{{0, 1}, {4, 1}});
  CHECK(shard.ack(first) == ErrorCode::kOk);
  CHECK(shard.settle_items({QueueHarness::purge(0, UINT32_MAX)}) == Codes{ErrorCode::kOk});
  CHECK(shard.unsettled().ranges.empty());
  CHECK(shard.describe().acked == 5);
  shard.put({"f"});
  CHECK(values_of(shard.lease()) == Values{"f"});  // nothing to come was settled
}

TEST_CASE("queue: an operator settles for a group that nobody uses") {
  QueueHarness shard;
  shard.put({"a", "b", "c"});
  CHECK(shard.settle_items({QueueHarness::purge(1, 1)}) == Codes{ErrorCode::kOk});
  CHECK(values_of(shard.lease()) == Values{"a", "c"});
}

TEST_CASE("queue: what is not settled is listed by ranges") {
  QueueHarness shard;
  shard.put({"a", "b", "c", "d", "e"});
  CHECK(shard.unsettled().ranges == Ranges{{0, 5}});
  CHECK(shard.settle_items({QueueHarness::purge(1, 1), QueueHarness::purge(3, 1)}) ==
        Codes{ErrorCode::kOk, ErrorCode::kOk});
  const testing::QueueUnsettledResult two = shard.unsettled(kPartition, "workers", 0, 2);
  CHECK(two.ranges == Ranges{{0, 1}, {2, 1}});
  CHECK(two.more);
  CHECK(two.end == 5);
  const testing::QueueUnsettledResult rest = shard.unsettled(kPartition, "workers", 3, 2);
  CHECK(rest.ranges == Ranges{{4, 1}});
  CHECK(!rest.more);
  for (const uint32_t limit : {0u, 10'001u}) {
    CHECK(testing::error_of(
              shard.ask(testing::queue_unsettled_request("workers", kPartition, 0, limit)))
              .context() == "limit is 1 to 10000");
  }
  const PartitionId nowhere{TopicId{9}, PartitionIndex{0}};
  CHECK(testing::error_of(shard.ask(testing::queue_unsettled_request("workers", nowhere))).code() ==
        ErrorCode::kUnknownPartition);
}

TEST_CASE("queue: a restart keeps what is settled, and failures; leases are over") {
  for (const bool from_checkpoint : {false, true}) {
    CAPTURE(from_checkpoint);
    QueueHarness shard;
    shard.put({"a", "b", "c"});
    const std::vector<Leased> all = shard.lease();
    CHECK(shard.ack(all[1]) == ErrorCode::kOk);
    CHECK(shard.nack(all[2], 5'000) == ErrorCode::kOk);
    const uint64_t hash = shard.core->views().hash();
    shard.advance_ms(1);  // no broker is back sooner
    if (from_checkpoint) {
      shard.checkpoint();
      shard.restart_from_checkpoint();
    } else {
      shard.restart();
    }
    CHECK(shard.core->views().hash() == hash);
    CHECK(shard.nack(all[0]) == ErrorCode::kNotFound);
    const Leased again = shard.lease_one();
    CHECK(again.value == "a");
    CHECK(again.deliveries == 1);
    CHECK(again.token != all[0].token);
    CHECK(shard.ack(all[0]) == ErrorCode::kFenced);
    CHECK(shard.lease().empty());
    shard.run_ms(5'000);
    const Leased failed = shard.lease_one();
    CHECK(failed.value == "c");
    CHECK(failed.deliveries == 2);
  }
}

TEST_CASE("queue: what is released comes again at once, and that was no failure") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a", "b"});
  const std::vector<Leased> all = shard.lease();
  const auto logged = shard.records_of(format::RecordKind::kQueueSettle);
  CHECK(shard.release(all[0]) == ErrorCode::kOk);
  const Leased again = shard.lease_one();
  CHECK(again.value == "a");
  CHECK(again.deliveries == 1);
  CHECK(shard.release(all[0]) == ErrorCode::kFenced);
  CHECK(shard.ack(again) == ErrorCode::kOk);
  CHECK(shard.release(again) == ErrorCode::kNotFound);
  // A receiver that waits gets it.
  shard.start_receive({}, 7);
  shard.receive(testing::queue_settle_request(
      "workers", std::vector{QueueHarness::item(QueueAction::kRelease, all[1], 0)}));
  shard.drain();
  CHECK(shard.outbox.replies.size() == 2);
  shard.outbox.replies.clear();
  CHECK(shard.describe().failed == 0);
  CHECK(shard.describe().dead_lettered == 0);
  CHECK(shard.records_of(format::RecordKind::kQueueSettle).first == logged.first + 1);  // the ack
}

// Found by reading: it was told Fenced, as if another consumer had the message.
TEST_CASE("queue: an ack that comes again while the first one is written is asked to try again") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased message = shard.lease_one();
  const auto ack = testing::queue_settle_request(
      "workers", std::vector{QueueHarness::item(QueueAction::kAck, message)});
  shard.receive(ack);
  shard.receive(ack);
  CHECK(testing::read_queue_settle_reply(shard.outbox.take()) == Codes{ErrorCode::kUnavailable});
  shard.drain();
  CHECK(testing::read_queue_settle_reply(shard.outbox.take()) == Codes{ErrorCode::kOk});
  CHECK(shard.ack(message) == ErrorCode::kOk);
}

// Found by reading: the message was leased while an operator's ack of it was on its way to the log.
TEST_CASE("queue: what is acked before it is loaded is not given while the ack is written") {
  QueueHarness shard;
  shard.put({"a", "b"});
  shard.receive(testing::queue_settle_request("workers", std::vector{QueueHarness::purge(0, 1)}));
  shard.receive(testing::queue_receive_request({.parts = {kPartition}, .wait_ms = 1'000}), 7);
  shard.drain();
  REQUIRE(shard.outbox.replies.size() == 2);
  CHECK(testing::read_queue_settle_reply(shard.outbox.take()) == Codes{ErrorCode::kOk});
  const auto parts = testing::read_queue_receive_reply(shard.outbox.take());
  CHECK(values_of(parts.at(0).messages) == Values{"b"});
}

TEST_CASE("queue: what was trimmed is gone") {
  QueueHarness shard({}, 0);
  shard.open_partitions(1, -1, 1);
  shard.put({"a", "b"});
  const std::vector<Leased> old = shard.lease();
  shard.put({"c"});
  shard.put({"d"});
  shard.advance_ms(60'000);
  shard.tick();
  shard.drain();
  const uint64_t start = shard.core->views().find(kPartition)->start().value();
  REQUIRE(start >= 2);
  CHECK(shard.ack(old[0]) == ErrorCode::kOk);  // no longer there, so nobody can get it
  CHECK(shard.describe().floor == start);
  CHECK(shard.unsettled().ranges == (start < 4 ? Ranges{{start, 4 - start}} : Ranges{}));
  CHECK(shard.lease().size() == 4 - start);
}

TEST_CASE("queue: a topic that is deleted") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased message = shard.lease_one();
  shard.start_receive();
  ShardMail drop;
  drop.topic = kPartition.topic;
  drop.version = 2;
  drop.state = ShardMail::State::kDropped;
  shard.core->receive_mail(drop, shard.now);
  shard.drain();
  const ReceivePartResult told = testing::read_queue_receive_reply(shard.outbox.take()).at(0);
  CHECK(told.status.code() == ErrorCode::kUnknownPartition);
  CHECK(shard.ack(message) == ErrorCode::kUnknownPartition);
  CHECK(shard.core->views().queues().size() == 0);
  CHECK(testing::read_queue_describe_reply(shard.ask(testing::queue_describe_request("workers")))
            .empty());
}

TEST_CASE("queue: a full disk: nothing is settled, and leases hold on") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const Leased message = shard.lease_one({.visibility_ms = 1'000});
  shard.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  CHECK(shard.ack(message) == ErrorCode::kDiskFull);
  CHECK(values_of(shard.lease({.visibility_ms = 1'000})) == Values{"a", "b"});
  shard.run_ms(1'000);  // their ends cannot be written: they are ready again
  shard.consensus.refuse_with(Status());
  const std::vector<Leased> again = shard.lease();
  REQUIRE(again.size() == 2);
  CHECK(again[0].deliveries == 1);
  CHECK(shard.ack(again[0]) == ErrorCode::kOk);
}

TEST_CASE("queue: a full disk: what nobody wants is settled later") {
  QueueHarness shard;
  shard.put_messages({{"a"}, {"b", {{"tm-tag", "x"}}}});
  shard.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  CHECK(values_of(shard.lease({.tags = {"x"}})) == Values{"b"});
  shard.consensus.refuse_with(Status());
  shard.run_ms(200);
  CHECK(shard.describe().filtered == 1);
  CHECK(shard.unsettled().ranges == Ranges{{1, 1}});
}

TEST_CASE("queue: a full disk: a group cannot begin at the end") {
  QueueHarness shard;
  shard.put({"old"});
  shard.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  shard.receive(testing::queue_receive_request({.parts = {kPartition}, .from_end = true}));
  shard.drain();
  CHECK(shard.core->next_wake().has_value());
  shard.drain();  // the next turn tells
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).status.code() ==
        ErrorCode::kDiskFull);
  shard.consensus.refuse_with(Status());
  CHECK(shard.lease({.from_end = true}).empty());
  CHECK(shard.describe().floor == 1);
}

TEST_CASE("queue: leadership is lost") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const std::vector<Leased> all = shard.lease();
  shard.start_receive();
  const std::vector<QueueSettleInput> items{QueueHarness::item(QueueAction::kAck, all[0])};
  shard.receive(testing::queue_settle_request("workers", items));
  shard.core->flush(shard.now);
  shard.consensus.set_role(replica::Role::kFollower);
  CHECK(testing::read_queue_settle_reply(shard.outbox.take()) == Codes{ErrorCode::kOutcomeUnknown});
  const Status told = testing::error_of(shard.outbox.take());
  CHECK(told.to_string() == Status(ErrorCode::kNotLeader, "leadership was lost").to_string());
  CHECK(shard.refusal({}).code() == ErrorCode::kNotLeader);
  CHECK(testing::error_of(shard.ask(testing::queue_settle_request("workers", items))).code() ==
        ErrorCode::kNotLeader);
  const uint64_t offset = 0;
  CHECK(testing::error_of(shard.ask(testing::queue_redrive_request(kPartition, {&offset, 1})))
            .code() == ErrorCode::kNotLeader);
  shard.consensus.set_role(replica::Role::kLeader);
  // The record was committed all the same.
  CHECK(values_of(shard.lease()) == Values{"b"});
}

TEST_CASE("queue: a delivery that is being read when leadership is lost") {
  QueueHarness shard;
  shard.put({"a"});
  CHECK(shard.nack(shard.lease_one(), 0) == ErrorCode::kOk);
  shard.source.cached_from = LogPosition{1'000'000};
  shard.receive(testing::queue_receive_request({.parts = {kPartition}}));
  shard.settle();
  REQUIRE(shard.source.pending() == 1);
  shard.consensus.set_role(replica::Role::kFollower);
  shard.drain();
  CHECK(testing::error_of(shard.outbox.take()).code() == ErrorCode::kNotLeader);
}

TEST_CASE("queue: the broker stops") {
  QueueHarness shard;
  shard.start_receive();
  shard.core->begin_stop();
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.empty());
  CHECK(shard.refusal({}).code() == ErrorCode::kShuttingDown);
}

TEST_CASE("queue: a group is deleted with what it settled, unless it leases messages") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const std::vector<Leased> all = shard.lease();
  CHECK(shard.ack(all[0]) == ErrorCode::kOk);
  const Status refused = testing::error_of(shard.ask(testing::group_delete_request("workers")));
  CHECK(refused.to_string() ==
        Status(ErrorCode::kConflict, "consumer group workers leases 1 messages").to_string());
  CHECK(shard.ack(all[1]) == ErrorCode::kOk);
  shard.start_receive();
  shard.receive(testing::group_delete_request("workers"));
  shard.drain();
  REQUIRE(shard.outbox.replies.size() == 2);
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.empty());
  const protocol::Frame deleted = shard.outbox.take();
  const auto table = protocol::read_table<protocol::fbs::GroupDeleteReply>(deleted.table(), "");
  REQUIRE(table.ok());
  CHECK((*table)->partitions() == 1);
  CHECK(values_of(shard.lease()) == Values{"a", "b"});
}

TEST_CASE("queue: groups are listed with their queues, dead letters are none") {
  QueueHarness shard(QueueHarness::dead_after(1));
  shard.put({"a"});
  CHECK(shard.bury(shard.lease_one()) == ErrorCode::kOk);
  CHECK(shard.redrive({0}) == Codes{ErrorCode::kOk});
  const protocol::Frame reply = shard.ask(testing::group_list_request());
  const auto table = protocol::read_table<protocol::fbs::GroupListReply>(reply.table(), "");
  REQUIRE(table.ok());
  REQUIRE((*table)->groups()->size() == 1);
  CHECK((*table)->groups()->Get(0)->group()->str() == "workers");
  CHECK((*table)->groups()->Get(0)->queues() == 1);
}

TEST_CASE("queue: a queue that nobody uses leaves memory") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const Leased message = shard.lease_one();
  shard.run_ms(1);
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.queue_leased == 1);
  CHECK(stats.queue_ready == 1);
  CHECK(shard.ack(message) == ErrorCode::kOk);
  for (int i = 0; i < 62; ++i) {
    shard.advance_ms(1'000);
    shard.tick();
  }
  ShardStats later;
  shard.core->add_stats(later);
  CHECK(later.queue_ready == 0);
  CHECK(later.queues == 1);
  CHECK(values_of(shard.lease()) == Values{"b"});
}

}  // namespace
}  // namespace tidemark::shard
