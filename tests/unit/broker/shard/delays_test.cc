// Delayed messages through a shard: taking in, delivering, what is visible when.
#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/delay_harness.h"

namespace tidemark::shard {
namespace {

using Values = DelayHarness::Values;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

TEST_CASE("a schedule set is taken: a receipt for each, nothing visible, ids go on") {
  DelayHarness harness;
  const auto result = harness.schedule({{"a", 1000}, {"b", 500}, {"c", 2000, false, "key"}});
  REQUIRE(result.status.ok());
  CHECK(result.received_ms == harness.now.wall.ms);
  CHECK_FALSE(result.duplicate);
  REQUIRE(result.receipts.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(result.receipts[i].id() == i + 1);
    CHECK(result.receipts[i].error() == 0);
    CHECK(result.receipts[i].position() > 0);
  }
  CHECK(result.receipts[1].due_ms() == harness.now.wall.ms + 500);
  CHECK(harness.take_in({{"d", 1000}})[0].id() == 4);
  CHECK(harness.pending() == 4);
  CHECK(harness.values().empty());
  CHECK(harness.stats().delays_in == 4);
}

TEST_CASE("messages fire by reference, in the order of (due, id), and only at their time") {
  DelayHarness harness;
  harness.take_in({{"at 30", 30}, {"at 10", 10}, {"at 30 too", 30}, {"at 20", 20}});
  harness.run_ms(9);
  CHECK(harness.values().empty());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"at 10"});
  harness.run_ms(19);
  CHECK(harness.values() == Values{"at 10", "at 20"});
  const uint64_t log_bytes = harness.consensus.log.back().position.value();
  harness.run_ms(1);
  CHECK(harness.values() == Values{"at 10", "at 20", "at 30", "at 30 too"});
  CHECK(harness.consensus.log.back().position.value() - log_bytes < 200);
  harness.run_ms(10'000);
  CHECK(harness.values().size() == 4);
  CHECK(harness.stats().delays_fired == 4);
  CHECK(harness.stats().lateness.counts[0] == 4);  // not late at all
  CHECK(harness.pending() == 0);
}

TEST_CASE("a long poll wakes exactly when the message is due") {
  DelayHarness harness;
  harness.take_in({{"x", 100}});
  harness.start_fetch(kPartition, 0, {.wait_ms = 5000});
  harness.settle();
  harness.run_ms(99);
  CHECK(harness.outbox.replies.empty());
  harness.run_ms(1);
  REQUIRE(harness.outbox.replies.size() == 1);
  const auto part = harness.take_fetch().at(0);
  REQUIRE(part.messages.size() == 1);
  CHECK(part.messages[0].value == "x");
  CHECK(part.messages[0].offset == Offset{0});
  CHECK(part.high_watermark == Offset{1});
}

TEST_CASE("what is delivered ahead of its time is not there for any reader") {
  DelayHarness harness;
  harness.take_in({{"x", 100}});
  harness.run_ms(97);
  REQUIRE(harness.core->views().find(kPartition)->end() == Offset{1});  // in the log already
  CHECK(harness.fetch(kPartition, 0).high_watermark == Offset{0});
  // A consumer that begins at the end now gets it when it comes.
  const auto latest = [&] {
    const protocol::Frame reply = harness.ask(testing::list_offsets_request(kPartition, -1));
    return testing::read_reply<protocol::fbs::ListOffsetsReply>(reply).parts()->Get(0)->offset();
  };
  CHECK(latest() == 0);
  harness.run_ms(3);
  CHECK(latest() == 1);
  CHECK(harness.values() == Values{"x"});
}

TEST_CASE("a message behind one that is hidden becomes visible with it") {
  DelayHarness harness;
  harness.take_in({{"x", 100}});
  harness.run_ms(97);
  CHECK(harness.produce(kPartition, testing::build_batch_of(1, 1)).base == Offset{1});
  CHECK(harness.values().empty());
  harness.run_ms(3);
  CHECK(harness.values() == Values{"x", "v"});
}

TEST_CASE("past due is delivered at once, however long past") {
  DelayHarness harness;
  harness.take_in({{"zero", 0},
                   {"now", harness.now.wall.ms, true},
                   {"past", harness.now.wall.ms - 60'000, true},
                   {"long past", -1, true},
                   {"at the begin of time", INT64_MIN, true}});
  harness.run_ms(7);
  Values values = harness.values();
  std::sort(values.begin(), values.end());
  CHECK(values == Values{"at the begin of time", "long past", "now", "past", "zero"});
}

TEST_CASE("a delay counts from receipt, never early by a fraction of a millisecond") {
  DelayHarness harness;
  harness.advance_ns(300'000);
  harness.take_in({{"x", 10}});
  harness.advance_ns(9'999'999);
  harness.settle();
  harness.settle();
  CHECK(harness.values().empty());
  harness.run_ms(1);
  CHECK(harness.values() == Values{"x"});
}

TEST_CASE("a set sent again is answered with the same receipts, whatever became of it") {
  DelayHarness harness;
  const std::vector<DelayInput> items = {{"a", 1000}, {"b", 50, false, "key"}};
  const SharedBytes set = testing::build_schedule(kPartition, items, {7, 0, 0});
  const auto first = harness.send(set);
  REQUIRE(first.status.ok());
  const auto again = [&] {
    const auto repeated = harness.send(set);
    CHECK(repeated.status.ok());
    CHECK(repeated.duplicate);
    REQUIRE(repeated.receipts.size() == first.receipts.size());
    for (size_t i = 0; i < first.receipts.size(); ++i) {
      CHECK(repeated.receipts[i].id() == first.receipts[i].id());
      CHECK(repeated.receipts[i].due_ms() == first.receipts[i].due_ms());
      CHECK(repeated.receipts[i].position() == first.receipts[i].position());
      CHECK(repeated.receipts[i].tag() == first.receipts[i].tag());
    }
  };
  again();
  harness.checkpoint();
  again();
  harness.restart_from_checkpoint();
  again();
  harness.run_ms(2000);
  again();
  CHECK(harness.values().size() == 2);
  CHECK(harness.pending() == 0);
  // The next set of this producer goes on behind it, a gap is refused.
  CHECK(harness.schedule({{"c", 5}}, kPartition, {7, 0, 3}).status.code() ==
        ErrorCode::kOutOfOrderSequence);
  CHECK(harness.schedule({{"c", 5}}, kPartition, {7, 0, 2}).status.ok());
}

TEST_CASE("both copies of a set within one entry: one is taken, both get its receipts") {
  DelayHarness harness;
  const std::vector<DelayInput> items = {{"a", 1000}};
  const SharedBytes set = testing::build_schedule(kPartition, items, {7, 0, 0});
  harness.receive(testing::schedule_request(kPartition, set));
  harness.receive(testing::schedule_request(kPartition, set));
  harness.settle();
  harness.run_jobs();
  const auto first = testing::read_produce_reply(harness.outbox.take()).at(0);
  const auto second = testing::read_produce_reply(harness.outbox.take()).at(0);
  CHECK_FALSE(first.duplicate);
  CHECK(second.duplicate);
  REQUIRE(second.receipts.size() == 1);
  CHECK(second.receipts[0].id() == first.receipts.at(0).id());
  CHECK(harness.pending() == 1);
}

TEST_CASE("a key that is taken refuses its item only") {
  DelayHarness harness;
  const auto first = harness.take_in({{"a", 1000, false, "k"}});
  const auto receipts = harness.take_in({{"b", 100}, {"c", 100, false, "k"}, {"d", 100}});
  CHECK(receipts[0].error() == 0);
  CHECK(receipts[1].error() == static_cast<uint16_t>(ErrorCode::kAlreadyExists));
  CHECK(receipts[2].error() == 0);
  CHECK(harness.take_in({{"e", 200, false, "k", true}})[0].error() == 0);
  harness.run_ms(1500);
  CHECK(harness.values() == Values{"b", "d", "e"});
  CHECK(harness.take_in({{"f", 100, false, "k"}})[0].error() == 0);
}

TEST_CASE("bounds on delayed messages are named when they are reached") {
  partition::DelayConfig config;
  config.pending_max = 3;
  DelayHarness counted(config);
  counted.take_in({{"a", 1000}, {"b", 1000}});
  const Status many = counted.schedule({{"c", 1000}, {"d", 1000}}).status;
  CHECK(many.code() == ErrorCode::kLimitExceeded);
  CHECK(many.context().find("delay_pending_max") != std::string_view::npos);
  CHECK(many.context().find("the limit is 3") != std::string_view::npos);
  CHECK(counted.schedule({{"c", 1000}}).status.ok());
  CHECK(counted.schedule({{"d", 1000}}, kOther).status.ok());  // of a partition
  counted.run_ms(1000);
  CHECK(counted.schedule({{"e", 1000}}).status.ok());

  config = {};
  config.bytes_max = 500;
  DelayHarness measured(config);
  CHECK(measured.schedule({{std::string(300, 'x'), 1000}}).status.ok());
  const Status large = measured.schedule({{std::string(300, 'x'), 1000}}).status;
  CHECK(large.code() == ErrorCode::kLimitExceeded);
  CHECK(large.context().find("delay_bytes_max") != std::string_view::npos);
}

TEST_CASE("sets under way count for the bounds too") {
  partition::DelayConfig config;
  config.pending_max = 3;
  DelayHarness harness(config);
  const std::vector<DelayInput> two = {{"a", 1000}, {"b", 1000}};
  for (int i = 0; i < 2; ++i) {
    harness.receive(
        testing::schedule_request(kPartition, testing::build_schedule(kPartition, two)));
  }
  harness.settle();
  const Status first = testing::read_produce_reply(harness.outbox.take()).at(0).status;
  const Status second = testing::read_produce_reply(harness.outbox.take()).at(0).status;
  CHECK((first.ok() ? second : first).code() == ErrorCode::kLimitExceeded);
  CHECK(harness.pending() == 2);
}

TEST_CASE("a set that is wrong is refused whole, with the reason") {
  DelayHarness harness;
  const auto code = [&](const DelayInput& item) { return harness.schedule({item}).status.code(); };
  CHECK(code({"x", -1}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", limits::kDelayMsMax + 1}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", INT64_MAX}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", INT64_MAX, true}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", 0, false, "", false, 999}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", 0, false, "", false, 0, "61 * * * * *"}) == ErrorCode::kInvalidArgument);
  CHECK(code({"x", 0, false, "", false, 0, "0 * * * * *", "Nowhere"}) ==
        ErrorCode::kInvalidArgument);
  CHECK(code({"x", limits::kDelayMsMax}) == ErrorCode::kOk);
  const std::vector<DelayInput> item = {{"x", 5}};
  const SharedBytes set = testing::build_schedule(kPartition, item);
  CHECK(harness.send(set, kOther).status.code() == ErrorCode::kInvalidArgument);
  Buffer damaged(set.size());
  std::copy(set.view().begin(), set.view().end(), damaged.data());
  damaged.data()[set.size() - 1] ^= 1;
  CHECK(harness.send(SharedBytes(std::move(damaged))).status.code() == ErrorCode::kCorrupted);
  CHECK(harness.send(set.slice(0, 40)).status.code() != ErrorCode::kOk);
  CHECK(harness.pending() == 1);
}

TEST_CASE("a burst: several Advances, in order, and others are served in between") {
  DelayHarness harness;
  std::vector<DelayInput> items(4096, {"x", 1000});
  for (int set = 0; set < 5; ++set) {
    for (size_t i = 0; i < items.size(); ++i) {
      items[i].value = std::to_string(static_cast<size_t>(set) * items.size() + i);
    }
    harness.take_in(items);
  }
  harness.advance_ms(1000);
  harness.core->flush(harness.now);
  REQUIRE(harness.consensus.proposed() == 1);  // one Advance at a time
  const testing::ProduceInput part{kOther, testing::build_batch_of(1, 1)};
  harness.receive(testing::produce_request({&part, 1}));
  harness.core->flush(harness.now);
  REQUIRE(harness.consensus.commit_one());
  REQUIRE(harness.consensus.commit_one());
  CHECK(testing::read_produce_reply(harness.outbox.take()).at(0).status.ok());
  const uint64_t delivered = harness.core->views().find(kPartition)->end().value();
  CHECK(delivered > 0);
  CHECK(delivered < 20'480);
  harness.run_ms(1);
  CHECK(harness.stats().delays_fired == 20'480);
  const Values all = harness.values();
  REQUIRE(all.size() == 20'480);
  for (size_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i] == std::to_string(i));
  }
}

TEST_CASE("leadership is lost with an Advance under way: everything fires once, later") {
  for (const bool committed : {false, true}) {
    CAPTURE(committed);
    DelayHarness harness;
    harness.take_in({{"a", 100}, {"b", 200}});
    harness.advance_ms(100);
    harness.core->flush(harness.now);
    REQUIRE(harness.consensus.proposed() == 1);
    harness.consensus.set_role(replica::Role::kFollower);
    if (committed) {
      harness.consensus.commit_all();
    } else {
      harness.consensus.lose_proposed();
    }
    harness.run_ms(150);
    CHECK(harness.values().size() == (committed ? 1 : 0));
    CHECK(harness.schedule({{"c", 1}}).status.code() == ErrorCode::kNotLeader);
    harness.consensus.set_role(replica::Role::kLeader);
    harness.run_ms(10);
    CHECK(harness.values() == Values{"a", "b"});
    CHECK(harness.pending() == 0);
  }
}

TEST_CASE("an Advance that could not be written is tried again") {
  DelayHarness harness;
  harness.take_in({{"a", 100}});
  harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  harness.advance_ms(100);
  harness.core->flush(harness.now);
  CHECK(harness.values().empty());
  harness.consensus.refuse_with(Status());
  harness.run_ms(1000);
  CHECK(harness.values() == Values{"a"});
}

TEST_CASE("a shard that cannot write does not wake for what is due") {
  DelayHarness harness;
  harness.take_in({{"a", 100}});
  harness.advance_ms(100);
  harness.consensus.fail_with(Status(ErrorCode::kIoError, "test"));
  harness.core->flush(harness.now);
  CHECK_FALSE(harness.core->next_wake().has_value());
  harness.consensus.fail_with(Status());
  harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  harness.core->flush(harness.now);
  // Not at once again, for the disk is as full as before.
  REQUIRE(harness.core->next_wake().has_value());
  CHECK(harness.core->next_wake()->ns > harness.now.monotonic.ns);
}

}  // namespace
}  // namespace tidemark::shard
