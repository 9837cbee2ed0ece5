// Queue mode at the shard: leases, acks, nacks, and what they do to others.
#include <doctest/doctest.h>

#include "tests/unit/broker/shard/queue_harness.h"

namespace tidemark::shard {
namespace {

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

TEST_CASE("queue: messages are leased, each to one, and acked") {
  QueueHarness shard;
  shard.put({"a", "b", "c"});
  const std::vector<Leased> first = shard.lease({.messages_max = 2});
  CHECK(values_of(first) == Values{"a", "b"});
  CHECK(first[0].deliveries == 1);
  CHECK(first[0].token != first[1].token);
  const std::vector<Leased> second = shard.lease();
  CHECK(values_of(second) == Values{"c"});
  CHECK(shard.lease().empty());
  CHECK(shard.describe().leased == 3);
  CHECK(shard.ack(first[1]) == ErrorCode::kOk);
  CHECK(shard.ack(first[0]) == ErrorCode::kOk);
  CHECK(shard.ack(second[0]) == ErrorCode::kOk);
  CHECK(shard.ack(second[0]) == ErrorCode::kOk);  // once more does no harm
  const testing::QueueInfoResult queue = shard.describe();
  CHECK(queue.floor == 3);
  CHECK(queue.acked == 3);
  CHECK(queue.leased == 0);
  CHECK(queue.unsettled == 0);
  CHECK(queue.oldest_ms == -1);
  CHECK(shard.lease().empty());
}

// Leases are not in the log, so log time may stand where it stood for the process before.
TEST_CASE("a lease of the process before is none, even if the clock does not go on") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased before = shard.lease_one();
  shard.options.random_seed = 1;
  shard.restart();
  const Leased after = shard.lease_one();
  CHECK(after.offset == before.offset);
  CHECK(after.token != before.token);
  const QueueSettleInput nack{
      QueueHarness::kPartition, before.offset, before.token, QueueAction::kNack, 0, 1};
  CHECK(shard.settle_items({nack}) == Codes{ErrorCode::kFenced});
}

TEST_CASE("queue: groups do not know of one another") {
  QueueHarness shard;
  shard.put({"a"});
  CHECK(shard.ack(shard.lease_one()) == ErrorCode::kOk);
  CHECK(values_of(shard.lease({.group = "others"})) == Values{"a"});
}

TEST_CASE("queue: a receiver that waits gets what comes, and an empty answer in the end") {
  QueueHarness shard;
  shard.start_receive();
  CHECK(shard.outbox.replies.empty());
  CHECK(shard.core->next_wake() == std::nullopt);
  shard.produce(kPartition, testing::build_batch(Values{"a"}));  // its reply comes first
  shard.drain();
  const auto got = testing::read_queue_receive_reply(shard.outbox.take()).at(0);
  CHECK(values_of(got.messages) == Values{"a"});
  shard.start_receive();
  shard.advance_ms(9'999);
  shard.tick();
  CHECK(shard.outbox.replies.empty());
  shard.advance_ms(1);
  shard.tick();
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.empty());
}

TEST_CASE("queue: receivers are served in the order in which they came") {
  QueueHarness shard;
  shard.start_receive({.messages_max = 1}, 1);
  shard.start_receive({.messages_max = 1}, 2);
  const testing::ProduceInput part{kPartition, testing::build_batch(Values{"a", "b"})};
  shard.receive(testing::produce_request({&part, 1}));
  shard.drain();
  REQUIRE(shard.outbox.replies.size() == 3);
  (void)shard.outbox.take();
  CHECK(shard.outbox.replies[0].to.connection == 1);
  CHECK(values_of(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages) ==
        Values{"a"});
  CHECK(values_of(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages) ==
        Values{"b"});
}

TEST_CASE("queue: a connection that closes takes its receivers along") {
  QueueHarness shard;
  shard.start_receive({}, 7);
  CHECK(shard.describe().receivers == 1);
  shard.core->connection_closed(0, 7);
  CHECK(shard.describe().receivers == 0);
  shard.put({"a"});
  CHECK(shard.outbox.replies.empty());
  CHECK(values_of(shard.lease()) == Values{"a"});
}

TEST_CASE("queue: what was leased to a connection that closed meanwhile goes to the next") {
  QueueHarness shard;
  shard.put({"a"});
  CHECK(shard.nack(shard.lease_one(), 0) == ErrorCode::kOk);  // loaded
  shard.source.cached_from = LogPosition{1'000'000};          // to be read from disk now
  shard.receive(testing::queue_receive_request({.parts = {kPartition}}), 7);
  shard.settle();
  REQUIRE(shard.source.pending() == 1);
  shard.core->connection_closed(0, 7);
  shard.drain();
  CHECK(shard.outbox.replies.empty());
  const Leased again = shard.lease_one();
  CHECK(again.deliveries == 2);  // as the one that nobody saw
}

TEST_CASE("queue: bounds of messages and bytes") {
  QueueHarness shard;
  shard.put(Values(10, std::string(100, 'v')));
  CHECK(shard.lease({.messages_max = 3}).size() == 3);
  CHECK(shard.lease({.bytes_max = 250}).size() == 2);
  CHECK(shard.lease({.bytes_max = 1}).size() == 1);  // at least one
  CHECK(shard.lease().size() == 4);
}

TEST_CASE("queue: of a batch of which little is leased only that is sent") {
  QueueHarness shard;
  shard.put({"a", "b", "c", "d", "e", "f", "g", "h"});
  const ReceivePartResult few = shard.receive_parts({.messages_max = 1}).at(0);
  CHECK(few.records == 1);
  const ReceivePartResult quarter = shard.receive_parts({.messages_max = 2}).at(0);
  CHECK(quarter.messages.size() == 2);
  CHECK(quarter.records == 8);  // the batch as it is
  CHECK(shard.receive_parts({.messages_max = 8}).at(0).messages.size() == 5);
}

TEST_CASE("queue: parts take turns") {
  QueueHarness shard;
  shard.put({"a1", "a2", "a3", "a4"}, kPartition);
  shard.put({"b1", "b2"}, kOther);
  const auto both = shard.receive_parts({.parts = {kPartition, kOther}, .messages_max = 4});
  REQUIRE(both.size() == 2);
  CHECK(values_of(both[0].messages) == Values{"a1", "a2"});
  CHECK(values_of(both[1].messages) == Values{"b1", "b2"});
  // Whoever has more may give more.
  const auto rest = shard.receive_parts({.parts = {kPartition, kOther}, .messages_max = 4});
  CHECK(values_of(rest[0].messages) == Values{"a3", "a4"});
  CHECK(rest[1].messages.empty());
}

TEST_CASE("queue: single messages come from all parts in turn") {
  QueueHarness shard;
  shard.put({"a", "a"}, kPartition);
  shard.put({"b", "b"}, kOther);
  Values got;
  for (int i = 0; i < 4; ++i) {
    for (const auto& part :
         shard.receive_parts({.parts = {kPartition, kOther}, .messages_max = 1})) {
      for (const Leased& message : part.messages) {
        got.push_back(message.value);
      }
    }
  }
  CHECK(got == Values{"a", "b", "a", "b"});
}

TEST_CASE("queue: an unknown part is told, the others give") {
  QueueHarness shard;
  shard.put({"a"});
  const PartitionId nowhere{TopicId{9}, PartitionIndex{0}};
  const auto parts = shard.receive_parts({.parts = {nowhere, kPartition}});
  CHECK(parts[0].status.to_string() ==
        Status(ErrorCode::kUnknownPartition, "topic id 9 partition 0 on shard 0").to_string());
  CHECK(values_of(parts[1].messages) == Values{"a"});
}

TEST_CASE("queue: a nack waits longer each time") {
  partition::QueueConfig config;
  config.retry_delays_ms = {100, 500};
  config.retry_delays = 2;
  config.retry_factor_percent = 300;
  config.retry_max_ms = 2'000;
  QueueHarness shard(config);
  shard.put({"a"});
  uint32_t deliveries = 0;
  for (const int64_t delay_ms : {100, 500, 1'500, 2'000, 2'000}) {
    CAPTURE(delay_ms);
    const Leased message = shard.lease_one();
    CHECK(message.deliveries == ++deliveries);
    CHECK(shard.nack(message) == ErrorCode::kOk);
    CHECK(shard.describe().retrying == 1);
    shard.advance_ms(delay_ms - 1);
    CHECK(shard.lease().empty());
    CHECK(shard.core->next_wake()->ns == shard.now.monotonic.ns + 1'000'000);
    shard.advance_ms(1);
  }
  CHECK(shard.describe().failed == 5);
}

TEST_CASE("queue: a nack with a delay of its own, and a receiver woken by it") {
  QueueHarness shard;
  shard.put({"a"});
  CHECK(shard.nack(shard.lease_one(), 5'000) == ErrorCode::kOk);
  shard.start_receive();
  shard.run_ms(4'999);
  CHECK(shard.outbox.replies.empty());
  shard.run_ms(1);
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.at(0).deliveries ==
        2);
}

TEST_CASE("queue: a lease that ends is a delivery that failed") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased lost = shard.lease_one({.visibility_ms = 2'000});
  shard.start_receive();
  shard.run_ms(1'999);
  CHECK(shard.describe().leased == 1);
  shard.run_ms(1);  // ended, and written
  CHECK(shard.describe().leased == 0);
  CHECK(shard.describe().failed == 1);
  shard.run_ms(999);
  CHECK(shard.outbox.replies.empty());
  shard.run_ms(1);
  const Leased again = testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.at(0);
  CHECK(again.deliveries == 2);
  // Who had it before has no say in it any more.
  CHECK(shard.ack(lost) == ErrorCode::kFenced);
  CHECK(shard.nack(lost) == ErrorCode::kFenced);
  CHECK(shard.extend(lost, 1'000) == ErrorCode::kFenced);
  CHECK(shard.ack(again) == ErrorCode::kOk);
}

TEST_CASE("queue: an ack holds after the lease, as long as nobody else has the message") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const std::vector<Leased> lost = shard.lease({.visibility_ms = 1'000});
  shard.run_ms(1'500);
  CHECK(shard.nack(lost[0]) == ErrorCode::kNotFound);
  CHECK(shard.extend(lost[0], 1'000) == ErrorCode::kNotFound);
  CHECK(shard.bury(lost[0]) == ErrorCode::kNotAllowed);
  CHECK(shard.ack(lost[0]) == ErrorCode::kOk);
  shard.run_ms(2'000);
  CHECK(values_of(shard.lease()) == Values{"b"});
}

TEST_CASE("queue: a lease is extended, without a word in the log") {
  QueueHarness shard;
  shard.put({"a"});
  const Leased message = shard.lease_one({.visibility_ms = 1'000});
  const size_t entries = shard.consensus.log.size();
  shard.run_ms(900);
  CHECK(shard.extend(message, 5'000) == ErrorCode::kOk);
  CHECK(shard.consensus.log.size() == entries);
  shard.run_ms(4'999);
  CHECK(shard.describe().leased == 1);
  CHECK(shard.extend(message, 0) == ErrorCode::kOk);  // it ends now
  shard.run_ms(1);
  CHECK(shard.describe().leased == 0);
  CHECK(shard.describe().failed == 1);
}

TEST_CASE("queue: priority goes first, order within") {
  QueueHarness shard;
  shard.put_messages({{"low"},
                      {"high", {{"tm-priority", "7"}}},
                      {"mid", {{"tm-priority", "3"}}},
                      {"high2", {{"tm-priority", "7"}}},
                      {"odd", {{"tm-priority", "8"}}}});
  CHECK(values_of(shard.lease()) == Values{"high", "high2", "mid", "low", "odd"});
}

SharedBytes keyed(const std::vector<std::pair<std::string, std::string>>& messages) {
  format::BatchBuilder builder;
  for (const auto& [key, value] : messages) {
    format::RecordInput record;
    record.has_key = !key.empty();
    record.key = as_bytes(key);
    record.value = as_bytes(value);
    REQUIRE(builder.append(record).ok());
  }
  return SharedBytes(std::move(builder.finish(format::Codec::kNone, 0, {})).value());
}

TEST_CASE("queue: ordered, a key waits for its message before") {
  QueueHarness shard;
  shard.produce(kPartition, keyed({{"k", "k1"}, {"k", "k2"}, {"m", "m1"}, {"", "x"}, {"", "y"}}));
  const std::vector<Leased> first = shard.lease({.ordered = true});
  CHECK(values_of(first) == Values{"k1", "m1", "x", "y"});
  CHECK(shard.lease({.ordered = true}).empty());
  CHECK(shard.nack(first[0]) == ErrorCode::kOk);
  CHECK(shard.lease({.ordered = true}).empty());  // it waits for its next delivery
  shard.run_ms(1'000);
  const Leased again = shard.lease_one({.ordered = true});
  CHECK(again.value == "k1");
  CHECK(shard.ack(again) == ErrorCode::kOk);
  CHECK(values_of(shard.lease({.ordered = true})) == Values{"k2"});
}

TEST_CASE("queue: what the filter does not want is settled unseen") {
  QueueHarness shard;
  shard.put_messages({{"a", {{"tm-tag", "x"}}}, {"b"}, {"c", {{"tm-tag", "y"}}}, {"d"}});
  CHECK(values_of(shard.lease({.tags = {"y", "z"}})) == Values{"c"});
  const testing::QueueInfoResult queue = shard.describe();
  CHECK(queue.filtered == 3);
  CHECK(queue.floor == 2);
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.queue_filtered == 3);
  CHECK(stats.queue_acked == 0);
}

TEST_CASE("queue: receivers of a group agree") {
  QueueHarness shard;
  shard.put_messages({{"a", {{"tm-tag", "x"}}}});
  const std::string text =
      "consumer group workers has receivers, or leases messages, with another filter, tags or "
      "order";
  shard.start_receive({.tags = {"y"}}, 7);
  CHECK(shard.refusal({}).to_string() == Status(ErrorCode::kConflict, text).to_string());
  CHECK(shard.refusal({.tags = {"x"}}).code() == ErrorCode::kConflict);
  CHECK(shard.refusal({.tags = {"y"}, .ordered = true}).code() == ErrorCode::kConflict);
  CHECK(shard.lease({.tags = {"y"}}).empty());
  shard.core->connection_closed(0, 7);
  shard.put_messages({{"b", {{"tm-tag", "x"}}}});
  const Leased leased = shard.lease_one({.tags = {"x"}});  // nobody else is there
  CHECK(leased.value == "b");
  CHECK(shard.refusal({}).code() == ErrorCode::kConflict);  // leases are
  CHECK(shard.ack(leased) == ErrorCode::kOk);
  CHECK(shard.lease().empty());
}

TEST_CASE("queue: a message expires, before it is loaded and while it waits") {
  partition::QueueConfig config;
  config.ttl_ms = 10'000;
  QueueHarness shard(config);
  shard.put_messages({{"a"}, {"b", {{"tm-ttl", "500"}}}, {"c", {{"tm-ttl", "60000"}}}});
  shard.advance_ms(499);
  const std::vector<Leased> all = shard.lease({.visibility_ms = 1'000});
  CHECK(all.size() == 3);
  CHECK(shard.nack(all[1], 0) == ErrorCode::kOk);
  shard.advance_ms(1);
  CHECK(shard.lease().empty());  // "b" was ready, and is gone
  CHECK(shard.describe().expired == 1);
  shard.restart();
  shard.advance_ms(9'500);
  CHECK(values_of(shard.lease()) == Values{"c"});
  CHECK(shard.describe().expired == 2);
  ShardStats stats;
  shard.core->add_stats(stats);
  CHECK(stats.queue_expired == 2);
  CHECK(stats.queue_acked == 0);
}

TEST_CASE("queue: a new group may begin at the end") {
  QueueHarness shard;
  shard.put({"old", "old"});
  CHECK(shard.lease({.from_end = true}).empty());
  CHECK(shard.describe().floor == 2);
  shard.put({"new"});
  CHECK(values_of(shard.lease({.from_end = true})) == Values{"new"});
  // It is new no longer, after a restart either.
  shard.restart();
  CHECK(values_of(shard.lease({.from_end = true})) == Values{"new"});
}

TEST_CASE("queue: a group that begins at the end of nothing has begun") {
  QueueHarness shard;
  CHECK(shard.lease({.from_end = true}).empty());
  shard.put({"a"});
  shard.restart();
  CHECK(values_of(shard.lease({.from_end = true})) == Values{"a"});
}

TEST_CASE("queue: compressed batches are parsed on a worker") {
  QueueHarness shard;
  std::vector<MessageInput> messages;
  for (int i = 0; i < 100; ++i) {
    messages.push_back({std::string(100, 'v') + std::to_string(i)});
  }
  shard.produce(kPartition, testing::build_messages(messages, format::Codec::kZstd));
  shard.receive(testing::queue_receive_request({.parts = {kPartition}}));
  shard.settle();
  CHECK(shard.source.pending() == 1);
  CHECK(shard.outbox.replies.empty());
  shard.drain();
  CHECK(testing::read_queue_receive_reply(shard.outbox.take()).at(0).messages.size() == 64);
}

TEST_CASE("queue: messages that are not in memory, index and batches") {
  QueueHarness shard;
  shard.put({"a", "b"});
  shard.checkpoint();
  shard.restart_from_checkpoint();
  shard.source.cached_from = LogPosition{1'000'000};
  CHECK(values_of(shard.lease()) == Values{"a", "b"});
}

TEST_CASE("queue: what cannot be read just now is read again, and nothing overtakes it") {
  QueueHarness shard;
  shard.put({"a"});
  shard.put({"b", "c"});
  const LogPosition bad = shard.core->views().find(kPartition)->index().refs().back().position;
  shard.put({"d"});
  shard.source.cached_from = LogPosition{1'000'000};
  shard.source.damaged = {bad};
  CHECK(shard.receive_parts({}).at(0).status.code() == ErrorCode::kCorrupted);
  CHECK(values_of(shard.lease()) == Values{"a"});
  CHECK(shard.lease().empty());  // told once
  shard.source.damaged.clear();
  shard.run_ms(100);
  CHECK(values_of(shard.lease()) == Values{"b", "c", "d"});
}

TEST_CASE("queue: damage that follows what was passed over is passed over as well") {
  QueueHarness shard;
  shard.put({"a"});
  shard.put({"b"});
  shard.put({"c"});
  shard.source.cached_from = LogPosition{1'000'000};
  const auto& refs = shard.core->views().find(kPartition)->index().refs();
  shard.source.damaged = {refs[0].position, refs[1].position};
  CHECK(!shard.receive_parts({}).at(0).status.ok());
  shard.run_ms(10'000);
  CHECK(!shard.receive_parts({}).at(0).status.ok());
  CHECK(values_of(shard.lease()) == Values{"c"});
}

TEST_CASE("queue: a damaged batch is told, and in the end what is behind it is given") {
  QueueHarness shard;
  shard.put({"a", "b"});
  const LogPosition bad = shard.core->views().find(kPartition)->index().refs().front().position;
  shard.put({"c"});
  shard.source.cached_from = LogPosition{1'000'000};
  shard.source.damaged = {bad};
  const ReceivePartResult told = shard.receive_parts({}).at(0);
  CHECK(told.status.code() == ErrorCode::kCorrupted);
  CHECK(told.status.context().find("offsets 0 to 1 of topic id 1 partition 0: ") == 0);
  CHECK(told.messages.empty());
  shard.run_ms(9'900);
  CHECK(shard.lease().empty());
  shard.run_ms(100);
  CHECK(shard.receive_parts({}).at(0).status.code() == ErrorCode::kCorrupted);
  CHECK(values_of(shard.lease()) == Values{"c"});
  CHECK(shard.describe().unsettled == 3);  // nothing of it is settled
  // It is read again when the queue is loaded again.
  shard.source.damaged.clear();
  shard.restart();
  CHECK(values_of(shard.lease()) == Values{"a", "b", "c"});
}

TEST_CASE("queue: a message that cannot be read any more does not keep the others") {
  QueueHarness shard;
  shard.put({"a"});
  shard.put({"b"});
  const LogPosition bad = shard.core->views().find(kPartition)->index().refs().front().position;
  for (const Leased& message : shard.lease()) {
    CHECK(shard.nack(message, 0) == ErrorCode::kOk);
  }
  shard.source.cached_from = LogPosition{1'000'000};
  shard.source.damaged = {bad};
  const ReceivePartResult told = shard.receive_parts({}).at(0);
  CHECK(told.status.code() == ErrorCode::kCorrupted);
  CHECK(told.status.context().find("offset 0: ") == 0);
  CHECK(values_of(told.messages) == Values{"b"});
  shard.source.damaged.clear();
  shard.run_ms(9'999);
  CHECK(shard.lease().empty());
  shard.run_ms(1);
  CHECK(shard.lease_one().deliveries == 2);  // that was no failure
}

TEST_CASE("queue: an ack costs at most 16 bytes of the log when many come together") {
  QueueHarness shard;
  constexpr size_t kMessages = 10'000;
  shard.put(Values(kMessages, "v"));
  std::vector<Leased> all;
  while (all.size() < kMessages) {
    const std::vector<Leased> some = shard.lease({.messages_max = 1'000});
    REQUIRE(!some.empty());
    all.insert(all.end(), some.begin(), some.end());
  }
  // Every third one, as slow and fast consumers leave them.
  size_t acked = 0;
  for (size_t from = 0; from < kMessages; from += 3'000) {
    std::vector<QueueSettleInput> items;
    for (size_t i = from; i < std::min(from + 3'000, kMessages); i += 3) {
      items.push_back(QueueHarness::item(QueueAction::kAck, all[i]));
    }
    acked += items.size();
    shard.receive(testing::queue_settle_request("workers", items));
  }
  shard.drain();
  CHECK(shard.outbox.replies.size() == 4);
  shard.outbox.replies.clear();
  CHECK(shard.describe().acked == acked);
  const auto [records, bytes] = shard.records_of(format::RecordKind::kQueueSettle);
  CHECK(records == 1);
  const double each = static_cast<double>(bytes) / static_cast<double>(acked);
  MESSAGE("bytes of log for an ack: " << each);
  CHECK(bytes <= 16 * acked);
}

}  // namespace
}  // namespace tidemark::shard
