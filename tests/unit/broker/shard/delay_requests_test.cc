// Requests about pending messages: cancel, reschedule, list, show, stats.
#include <doctest/doctest.h>

#include "tests/unit/broker/shard/delay_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;
using testing::by_handle;
using testing::by_key;
using Values = DelayHarness::Values;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;
constexpr PartitionId kNowhere{TopicId{9}, PartitionIndex{0}};

struct Listed {
  std::vector<std::string> keys;
  std::vector<uint64_t> ids;
  bool more = false;
};

Listed list(DelayHarness& harness, const testing::DelayListInput& query) {
  const protocol::Frame reply = harness.ask_delays(testing::delay_list_request(query));
  const auto& table = testing::read_reply<fbs::DelayListReply>(reply);
  Listed listed;
  for (const auto* item : *table.items()) {
    listed.ids.push_back(item->id());
    listed.keys.emplace_back(protocol::view(item->key()));
  }
  listed.more = table.more();
  return listed;
}

TEST_CASE("cancel by handle answers cancelled once, then not found, or already delivered") {
  DelayHarness harness;
  const auto receipts = harness.take_in({{"a", 1000}, {"b", 10}});
  CHECK(harness.cancel(by_handle(kPartition, receipts[0])).outcome == DelayOutcome::kCancelled);
  CHECK(harness.cancel(by_handle(kPartition, receipts[0])).outcome == DelayOutcome::kNotFound);
  harness.run_ms(10);
  CHECK(harness.cancel(by_handle(kPartition, receipts[1])).outcome ==
        DelayOutcome::kAlreadyDelivered);
  harness.run_ms(2000);
  CHECK(harness.values() == Values{"b"});
  CHECK(harness.stats().delays_cancelled == 1);
}

TEST_CASE("cancel by key: what is pending under it") {
  DelayHarness harness;
  harness.take_in({{"a", 1000, false, "k"}});
  CHECK(harness.cancel(by_key(kOther, "k")).outcome == DelayOutcome::kNotFound);
  CHECK(harness.cancel(by_key(kPartition, "other")).outcome == DelayOutcome::kNotFound);
  const auto done = harness.cancel(by_key(kPartition, "k"));
  CHECK(done.status.ok());
  CHECK(done.outcome == DelayOutcome::kCancelled);
  CHECK(harness.cancel(by_key(kPartition, "k")).outcome == DelayOutcome::kNotFound);
}

TEST_CASE("parts of a request are answered one by one, wrong ones with their errors") {
  DelayHarness harness;
  const auto receipts = harness.take_in({{"a", 1000}, {"b", 1000, false, "k"}});
  const std::vector<DelayTarget> targets = {
      by_handle(kPartition, receipts[0]), by_key(kNowhere, "k"), by_key(kPartition, ""),
      by_key(kPartition, "k"), by_handle(kPartition, receipts[0])};
  const auto changes =
      DelayHarness::read_changes(harness.ask_delays(testing::delay_cancel_request(targets)));
  REQUIRE(changes.size() == 5);
  CHECK(changes[0].outcome == DelayOutcome::kCancelled);
  CHECK(changes[1].status.code() == ErrorCode::kUnknownPartition);
  CHECK(changes[2].status.code() == ErrorCode::kInvalidArgument);
  CHECK(changes[3].outcome == DelayOutcome::kCancelled);
  CHECK(changes[4].outcome == DelayOutcome::kNotFound);
  CHECK(testing::error_of(harness.ask_delays(testing::delay_cancel_request({}))).code() ==
        ErrorCode::kInvalidArgument);
  const std::vector<DelayTarget> many(limits::kDelayRefsPerRequestMax + 1, targets[0]);
  CHECK(testing::error_of(harness.ask_delays(testing::delay_cancel_request(many))).code() ==
        ErrorCode::kInvalidArgument);
}

TEST_CASE("a cancel that races with the delivery is decided by the order in the log") {
  for (const bool cancel_first : {false, true}) {
    CAPTURE(cancel_first);
    DelayHarness harness;
    const DelayTarget target = by_handle(kPartition, harness.take_in({{"a", 100}})[0]);
    harness.advance_ms(100);
    if (!cancel_first) {
      harness.core->flush(harness.now);  // the Advance is proposed
    }
    harness.receive(testing::delay_cancel_request({&target, 1}));
    harness.settle();
    const auto change = DelayHarness::read_changes(harness.outbox.take()).at(0);
    CHECK(change.outcome ==
          (cancel_first ? DelayOutcome::kCancelled : DelayOutcome::kAlreadyDelivered));
    harness.run_ms(100);
    CHECK(harness.values().size() == (cancel_first ? 0 : 1));
  }
}

TEST_CASE("reschedule gives a new receipt and voids the old one; the key moves along") {
  DelayHarness harness;
  const DelayTarget old = by_handle(kPartition, harness.take_in({{"a", 1000, false, "k"}})[0]);
  const auto moved = harness.reschedule(old, 50);
  CHECK(moved.outcome == DelayOutcome::kRescheduled);
  CHECK(moved.receipt.due_ms() == harness.now.wall.ms + 50);
  CHECK(harness.reschedule(old, 50).outcome == DelayOutcome::kNotFound);
  CHECK(harness.cancel(old).outcome == DelayOutcome::kNotFound);
  const auto again = harness.reschedule(by_key(kPartition, "k"), 70);
  CHECK(again.outcome == DelayOutcome::kRescheduled);
  CHECK(again.receipt.id() > moved.receipt.id());
  harness.run_ms(69);
  CHECK(harness.values().empty());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"a"});
  CHECK(harness.reschedule(by_handle(kPartition, again.receipt), 5).outcome ==
        DelayOutcome::kAlreadyDelivered);
  CHECK(harness.reschedule(by_key(kPartition, "k"), 5).outcome == DelayOutcome::kNotFound);
  harness.run_ms(5000);
  CHECK(harness.values().size() == 1);
  CHECK(harness.stats().delays_rescheduled == 2);
}

TEST_CASE("fire now: a message rescheduled to no delay is delivered at once") {
  DelayHarness harness;
  const auto receipts = harness.take_in({{"a", 1'000'000'000}, {"b", 1'000'000'000}});
  CHECK(harness.reschedule(by_handle(kPartition, receipts[0]), 0).outcome ==
        DelayOutcome::kRescheduled);
  harness.run_ms(7);
  CHECK(harness.values() == Values{"a"});
  const DelayTarget second = by_handle(kPartition, receipts[1]);
  const auto past = DelayHarness::read_changes(
      harness.ask_delays(testing::delay_reschedule_request({&second, 1}, true, INT64_MIN)));
  CHECK(past.at(0).outcome == DelayOutcome::kRescheduled);
  harness.run_ms(7);
  CHECK(harness.values() == Values{"a", "b"});
}

TEST_CASE("reschedule refuses due times that are not allowed, and recurring messages") {
  DelayHarness harness;
  const DelayTarget series =
      by_handle(kPartition, harness.take_in({{"a", 1000, false, "", false, 5000}})[0]);
  CHECK(harness.reschedule(series, 10).status.code() == ErrorCode::kNotAllowed);
  const auto code = [&](bool at, int64_t due_ms) {
    return testing::error_of(
               harness.ask_delays(testing::delay_reschedule_request({&series, 1}, at, due_ms)))
        .code();
  };
  CHECK(code(false, -1) == ErrorCode::kInvalidArgument);
  CHECK(code(false, limits::kDelayMsMax + 1) == ErrorCode::kInvalidArgument);
  CHECK(code(true, INT64_MAX) == ErrorCode::kInvalidArgument);
}

TEST_CASE("a recurring message comes again until it is cancelled, by whichever of its handles") {
  DelayHarness harness;
  const DelayTarget series =
      by_handle(kPartition, harness.take_in({{"a", 1000, false, "", false, 2000}})[0]);
  harness.run_ms(1000);
  CHECK(harness.values().size() == 1);
  harness.run_ms(1999);
  CHECK(harness.values().size() == 1);
  harness.run_ms(2001);
  CHECK(harness.values().size() == 3);
  CHECK(harness.cancel(series).outcome == DelayOutcome::kCancelled);
  harness.run_ms(100'000);
  CHECK(harness.values().size() == 3);
  CHECK(harness.cancel(series).outcome == DelayOutcome::kNotFound);
}

TEST_CASE("changes need the leader; those under way when it is lost have no known outcome") {
  DelayHarness harness;
  const DelayTarget target = by_handle(kPartition, harness.take_in({{"a", 1000}})[0]);
  harness.receive(testing::delay_cancel_request({&target, 1}));
  harness.core->flush(harness.now);
  harness.consensus.set_role(replica::Role::kFollower);
  CHECK(DelayHarness::read_changes(harness.outbox.take()).at(0).status.code() ==
        ErrorCode::kOutcomeUnknown);
  CHECK(testing::error_of(harness.ask_delays(testing::delay_cancel_request({&target, 1}))).code() ==
        ErrorCode::kNotLeader);
}

TEST_CASE("list: pages in the order of (due, id), by partition and up to a due time") {
  DelayHarness harness;
  std::vector<DelayInput> items;
  for (int i = 0; i < 10; ++i) {
    items.push_back({"x", 1000 - 10 * i, false, "k" + std::to_string(i)});
  }
  const auto receipts = harness.take_in(items);
  harness.take_in({{"other", 5000}}, kOther);
  testing::DelayListInput query{kPartition.topic};
  query.limit = 4;
  const Listed first = list(harness, query);
  CHECK(first.keys == std::vector<std::string>{"k9", "k8", "k7", "k6"});
  CHECK(first.more);
  query.after_due_ms = receipts[6].due_ms();
  query.after_id = receipts[6].id();
  query.limit = 100;
  CHECK(list(harness, query).ids.size() == 7);
  query.partition = 0;
  const Listed rest = list(harness, query);
  CHECK(rest.keys == std::vector<std::string>{"k5", "k4", "k3", "k2", "k1", "k0"});
  CHECK_FALSE(rest.more);
  query = {kPartition.topic};
  query.due_to_ms = receipts[8].due_ms();
  CHECK(list(harness, query).keys == std::vector<std::string>{"k9", "k8"});
  CHECK(list(harness, {kNowhere.topic}).ids.empty());
  for (const uint32_t limit : {0u, limits::kDelayListMax + 1}) {
    query.limit = limit;
    CHECK(testing::error_of(harness.ask_delays(testing::delay_list_request(query))).code() ==
          ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("list: whole pages of cancelled messages are passed over") {
  DelayHarness harness;
  std::vector<DelayTarget> targets;
  for (const WireReceipt& receipt : harness.take_in(std::vector<DelayInput>(50, {"x", 1000}))) {
    targets.push_back(by_handle(kPartition, receipt));
  }
  targets.resize(45);
  harness.ask_delays(testing::delay_cancel_request(targets));
  testing::DelayListInput query{kPartition.topic};
  query.limit = 10;
  const Listed listed = list(harness, query);
  CHECK(listed.ids == std::vector<uint64_t>{46, 47, 48, 49, 50});
  CHECK_FALSE(listed.more);
}

TEST_CASE("list: one asked for during a checkpoint waits for its end and finds everything") {
  DelayHarness harness;
  harness.take_in(std::vector<DelayInput>(20, {"x", 100'000'000}));
  harness.core->set_checkpointing(true);
  Views::Delta delta = harness.core->views().freeze();
  harness.receive(testing::delay_list_request({kPartition.topic}));
  harness.settle();
  CHECK(harness.source.pending() == 0);
  CHECK(harness.outbox.replies.empty());
  harness.write_spill(delta);
  REQUIRE(harness.store.commit(delta.batch).ok());
  harness.core->views().commit_done(delta, LogPosition{});
  harness.core->set_checkpointing(false);
  harness.run_jobs();
  const protocol::Frame reply = harness.outbox.take();
  CHECK(testing::read_reply<fbs::DelayListReply>(reply).items()->size() == 20);
}

TEST_CASE("show: what is pending with its record batch, or what became of it") {
  DelayHarness harness;
  const auto receipts =
      harness.take_in({{"value of a", 1000, false, "k"},
                       {"b", 10},
                       {"c", 2000, false, "", false, 0, "0 0 3 * * *", "Europe/Berlin"},
                       {"d", 3000, false, "", false, 7000}});
  const protocol::Frame reply =
      harness.ask_delays(testing::delay_show_request(by_key(kPartition, "k")));
  const auto& info = *testing::read_reply<fbs::DelayShowReply>(reply).info();
  CHECK(info.id() == receipts[0].id());
  CHECK(info.due_ms() == receipts[0].due_ms());
  CHECK(protocol::view(info.key()) == "k");
  CHECK(info.bytes() == reply.payload().size());
  auto batch = format::BatchReader::open(reply.payload());
  REQUIRE(batch.ok());
  format::RecordView record;
  REQUIRE(batch->next(record));
  CHECK(as_text(record.value) == "value of a");

  const protocol::Frame cron =
      harness.ask_delays(testing::delay_show_request(by_handle(kPartition, receipts[2])));
  CHECK(protocol::view(testing::read_reply<fbs::DelayShowReply>(cron).info()->cron()) ==
        "0 0 3 * * *");
  CHECK(protocol::view(testing::read_reply<fbs::DelayShowReply>(cron).info()->zone()) ==
        "Europe/Berlin");
  const protocol::Frame every =
      harness.ask_delays(testing::delay_show_request(by_handle(kPartition, receipts[3])));
  CHECK(testing::read_reply<fbs::DelayShowReply>(every).info()->every_ms() == 7000);

  harness.run_ms(10);
  const auto outcome = [&](const DelayTarget& target) {
    const protocol::Frame shown = harness.ask_delays(testing::delay_show_request(target));
    const auto& table = testing::read_reply<fbs::DelayShowReply>(shown);
    CHECK(table.info() == nullptr);
    return table.outcome();
  };
  CHECK(outcome(by_handle(kPartition, receipts[1])) == DelayOutcome::kAlreadyDelivered);
  CHECK(outcome(by_key(kPartition, "none")) == DelayOutcome::kNotFound);
  CHECK(testing::error_of(harness.ask_delays(testing::delay_show_request(by_key(kNowhere, "k"))))
            .code() == ErrorCode::kUnknownPartition);
}

TEST_CASE("stats: pending, bytes and buckets by topic, and what happened since the start") {
  DelayHarness harness;
  harness.open_partitions_of(TopicId{2}, 1);
  const auto receipts = harness.take_in({{"a", 10}, {"b", 1000}, {"c", 10'000'000}});
  harness.take_in({{"d", 1000}}, {TopicId{2}, PartitionIndex{0}});
  harness.cancel(by_handle(kPartition, receipts[1]));
  harness.run_ms(20);
  const protocol::Frame all = harness.ask_delays(testing::delay_stats_request(TopicId{0}));
  const auto& table = testing::read_reply<fbs::DelayStatsReply>(all);
  CHECK(table.now_ms() == harness.now.wall.ms);
  REQUIRE(table.topics()->size() == 2);
  CHECK(table.topics()->Get(0)->topic() == 1);
  CHECK(table.topics()->Get(0)->pending() == 1);
  CHECK(table.topics()->Get(0)->bytes() > 0);
  REQUIRE(table.topics()->Get(0)->buckets()->size() == 1);
  const auto& bucket = *table.topics()->Get(0)->buckets()->Get(0);
  CHECK(bucket.count() == 1);
  CHECK(bucket.from_ms() <= receipts[2].due_ms());
  CHECK(bucket.from_ms() + delay::PendingDelays::kBucketMs > receipts[2].due_ms());
  CHECK(table.fired() == 1);
  CHECK(table.cancelled() == 1);
  CHECK(table.wheel_entries() == 3);  // the cancelled one waits for its time
  const protocol::Frame one = harness.ask_delays(testing::delay_stats_request(TopicId{2}));
  CHECK(testing::read_reply<fbs::DelayStatsReply>(one).topics()->size() == 1);
}

}  // namespace
}  // namespace tidemark::shard
