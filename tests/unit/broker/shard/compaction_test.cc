// Compaction of a partition, as its readers see it.
#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/group_requests.h"
#include "tests/support/queue_requests.h"
#include "tests/unit/broker/shard/compaction_harness.h"

namespace tidemark::shard {
namespace {

using compaction_testing::build;
using compaction_testing::CompactionHarness;
using compaction_testing::Contents;
using compaction_testing::kPartition;
using compaction_testing::kRoundMs;
using compaction_testing::Model;
using compaction_testing::Update;

TEST_CASE("the newest message of each key stays, where it was, and what has no key") {
  CompactionHarness harness;
  harness.send({{"a", "1"}, {"b", "1"}, {std::nullopt, "x"}, {"a", "2"}});
  harness.send({{"a", "3"}, {"b", "2"}});  // of it only b stays
  harness.send({{"a", "4"}});
  harness.send({{"c", "1"}});  // untouched
  const uint64_t bytes = harness.partition().bytes();
  const LogPosition untouched = harness.partition().index().refs()[3].position;
  harness.compact();
  const Contents expected = {
      {2, {std::nullopt, "x"}}, {5, {"b", "2"}}, {6, {"a", "4"}}, {7, {"c", "1"}}};
  CHECK(harness.read() == expected);
  CHECK(harness.partition().end() == Offset{8});
  CHECK(harness.partition().start() == Offset{0});
  CHECK(harness.partition().bytes() < bytes);
  CHECK(harness.partition().batches() == 4);
  CHECK(harness.partition().index().refs()[3].position == untouched);
  CHECK(harness.records_of(format::RecordKind::kCompact) == 2);
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.stats().compacted_bytes > 0);
  CHECK(harness.stats().compaction_freed_bytes > harness.stats().compacted_bytes);
  CHECK(harness.core->views().hash() == harness.hash_of_log());
  // Nothing came since: no other run.
  const size_t entries = harness.consensus.log.size();
  harness.compact();
  CHECK(harness.consensus.log.size() == entries);
}

TEST_CASE("readers pass over gaps, wherever they begin, and wait at the end as ever") {
  CompactionHarness harness;
  for (int i = 0; i < 5; ++i) {
    harness.send("a", std::to_string(i));
  }
  harness.send({{"b", "1"}, {"a", "5"}, {"c", "1"}});
  harness.send("b", "2");
  harness.compact();
  for (uint64_t from = 0; from < 9; ++from) {
    CAPTURE(from);
    Contents expected = {{6, {"a", "5"}}, {7, {"c", "1"}}, {8, {"b", "2"}}};
    expected.erase(expected.begin(), expected.lower_bound(from));
    CHECK(harness.read(from) == expected);
  }
  // The dead ones before it are no data that a long poll would wait for.
  const auto page = harness.fetch(kPartition, 1, {.wait_ms = 1'000, .bytes_min = 1});
  CHECK(page.messages.front().value == "5");
  harness.start_fetch(kPartition, 9, {.wait_ms = 1'000, .bytes_min = 1});
  harness.drain();
  CHECK(harness.outbox.replies.empty());
  harness.send("d", "1");
  CHECK(harness.outbox.replies.size() == 1);
}

TEST_CASE("a partition whose end is dead answers with where to go on") {
  CompactionHarness harness({.after_ms = 0, .tombstone_ms = 0});
  harness.send("a", "1");
  harness.send({{"a", std::nullopt}});
  harness.compact();
  CHECK(harness.partition().batches() == 0);
  CHECK(harness.partition().bytes() == 0);
  CHECK(harness.core->views().low_position() == harness.core->views().applied().next_position);
  const auto page = harness.fetch(kPartition, 0);
  CHECK(page.status.ok());
  CHECK(page.messages.empty());
  CHECK(page.next == Offset{2});
  CHECK(harness.send("b", "1") == 2);
  CHECK(harness.read() == Contents{{2, {"b", "1"}}});
}

TEST_CASE("older messages go when they are old enough, by log time") {
  CompactionHarness harness({.after_ms = 60'000});
  harness.send("a", "1");
  harness.advance_ms(30'000);
  harness.send("a", "2");
  harness.send("a", "3");
  harness.compact();  // the oldest is 35 s old
  CHECK(harness.read().size() == 3);
  harness.compact();  // and there is nothing to be found so soon
  CHECK(harness.stats().compactions == 1);
  harness.advance_ms(22'000);
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  harness.advance_ms(70'000);
  harness.compact();
  CHECK(harness.read() == Contents{{2, {"a", "3"}}});
  CHECK(harness.stats().compactions == 2);
}

TEST_CASE("another setting of a topic counts from the next round on") {
  CompactionHarness harness({.after_ms = 3'600'000});
  harness.send("a", "1");
  harness.send("a", "2");
  harness.compact();
  CHECK(harness.read().size() == 2);
  harness.configure({.after_ms = 0}, 2);
  harness.compact();
  CHECK(harness.read().size() == 1);
  harness.configure({}, 3);
  harness.send("a", "3");
  harness.send("a", "4");
  harness.compact();
  CHECK(harness.read().size() == 3);
}

TEST_CASE("a tombstone stays for its time, then goes; what it stands for never comes up again") {
  CompactionHarness harness({.after_ms = 0, .tombstone_ms = 60'000});
  harness.send("a", "1");
  harness.send({{"a", std::nullopt}, {"b", "1"}});
  harness.compact();
  CHECK(harness.read() == Contents{{1, {"a", std::nullopt}}, {2, {"b", "1"}}});
  harness.advance_ms(70'000);
  harness.compact();
  CHECK(harness.read().size() == 2);  // nothing came: no run
  harness.send("c", std::string(200, 'c'));
  harness.compact();
  CHECK(harness.read() == Contents{{2, {"b", "1"}}, {3, {"c", std::string(200, 'c')}}});
  // A message with an empty value is none.
  harness.send({{"b", ""}});
  harness.advance_ms(70'000);
  harness.send("d", std::string(400, 'd'));
  harness.compact();
  CHECK(harness.read().at(4) == Update{"b", ""});
}

TEST_CASE("a tombstone outlives what is older, if that has to stay longer") {
  CompactionHarness harness({.after_ms = 600'000, .tombstone_ms = 0});
  harness.send("a", "1");
  harness.send({{"a", std::nullopt}});
  harness.advance_ms(300'000);
  harness.compact();
  CHECK(harness.read().size() == 2);
}

// A codec that is not ours is stored as it is, and never looked into.
SharedBytes of_another_codec(const SharedBytes& batch) {
  Buffer bytes = Buffer::copy_of(batch.view());
  bytes.data()[22] = 1;  // gzip
  const uint32_t crc = crc32c(bytes.view().subspan(21));
  for (size_t i = 0; i < 4; ++i) {
    bytes.data()[17 + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
  }
  return SharedBytes(std::move(bytes));
}

TEST_CASE("a batch that cannot be read stays, and so do tombstones behind it") {
  CompactionHarness harness({.after_ms = 0, .tombstone_ms = 0});
  harness.send({{"a", std::nullopt}});
  // No producer can send it; releases to come may.
  format::RecordListBuilder records;
  records.add_produce(kPartition, 0, of_another_codec(build({{"a", "0"}})).view());
  REQUIRE(harness.consensus.propose(records.take()).ok());
  harness.consensus.commit_all();
  harness.send("a", "1");
  harness.send({{"a", std::nullopt}});
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.partition().batches() == 2);
  CHECK(harness.partition().index().refs()[0].is_dead());
  CHECK(!harness.partition().index().refs()[1].is_dead());
  CHECK(harness.partition().index().refs()[2].is_dead());
  CHECK(!harness.partition().index().refs()[3].is_dead());
  // Also in later runs, which do not scan it again.
  harness.send("b", std::string(300, 'b'));
  harness.compact();
  CHECK(harness.stats().compactions == 2);
  CHECK(!harness.partition().index().refs()[3].is_dead());
}

TEST_CASE("a damaged batch stops nothing but what lies in it") {
  CompactionHarness harness;
  harness.send("a", "1");
  harness.send("a", "2");
  harness.send("a", "3");
  const LogPosition bad = harness.partition().index().refs()[0].position;
  harness.source.cached_from = harness.core->views().applied().next_position;
  harness.source.damaged.insert(bad);
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.partition().index().refs()[0].position == bad);
  CHECK(harness.partition().index().refs()[1].is_dead());
  CHECK(harness.partition().low_position() == bad);
}

TEST_CASE("with more keys than fit, each run goes on where the one before ended") {
  CompactionHarness harness({.after_ms = 0}, 4);
  Model model;
  std::vector<std::vector<Update>> sent;
  for (int round = 0; round < 3; ++round) {
    for (int key = 0; key < 10; ++key) {
      const std::vector<Update> update = {{"k" + std::to_string(key), std::to_string(round)}};
      model.add(harness.send(update), update);
    }
  }
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.partition().compaction().scan_from == Offset{4});
  for (int i = 0; i < 12; ++i) {
    harness.compact();
    model.check(harness.read());
  }
  // What the last runs found too little of to go on with is less than half.
  const uint64_t scanned = harness.partition().compaction().scan_from.value();
  CHECK(scanned > 20);
  model.check_compacted(harness.read(), scanned - 10);
}

TEST_CASE("compressed batches stay compressed") {
  CompactionHarness harness;
  const std::string text(5'000, 'x');
  harness.send({{"a", text}, {"b", text}, {"c", text}}, format::Codec::kZstd);
  harness.send({{"a", text}}, format::Codec::kZstd);
  const uint64_t bytes = harness.partition().bytes();
  harness.compact();
  CHECK(harness.records_of(format::RecordKind::kCompact) == 1);
  CHECK(harness.partition().bytes() <= bytes);
  CHECK(harness.read().size() == 3);
}

// --- retention and queues

TEST_CASE("retention and compaction share a partition, and its bytes add up") {
  CompactionHarness harness;
  harness.retention_bytes = 20'000;
  harness.configure({.after_ms = 0}, 2);
  Random random(7);
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 8; ++i) {
      harness.send("k" + std::to_string(random.below(30)), std::string(random.below(900), 'x'));
    }
    harness.compact();
    harness.core->tick(harness.now);  // a trim was under way when the run was to begin
    harness.drain();
    uint64_t bytes = 0;
    uint64_t batches = 0;
    for (const partition::BatchRef& ref : harness.partition().index().refs()) {
      if (ref.base >= harness.partition().start()) {
        bytes += ref.bytes;
        batches += ref.is_dead() ? 0 : 1;
        CHECK((ref.is_dead() || ref.position >= harness.partition().low_position()));
      }
    }
    REQUIRE(harness.partition().bytes() == bytes);
    REQUIRE(harness.partition().batches() == batches);
  }
  CHECK(harness.partition().bytes() <= 21'000);
  CHECK(harness.partition().start() > Offset{0});
  CHECK(harness.stats().compactions > 3);
  CHECK(harness.core->views().hash() == harness.hash_of_log());
}

TEST_CASE("a trim that was planned before a compaction changed something is planned anew") {
  partition::Partition partition(kPartition, {});
  format::BatchHeader header;
  header.record_count = 1;
  header.batch_bytes = 100;
  for (uint64_t i = 0; i < 4; ++i) {
    partition.append(header, LogPosition{100 * i}, 1, i);
  }
  const partition::Partition::TrimTo trim{Offset{2}, LogPosition{200}, 200, 2, 0};
  partition.begin_compaction();
  REQUIRE(partition.compact({Offset{0}, LogPosition{0}, 0}, 1, 100));
  CHECK(!partition.trim(trim));
  CHECK(partition.trim({Offset{2}, LogPosition{200}, 100, 1, partition.compaction().changes}));
  CHECK(partition.bytes() == 200);
}

testing::QueuePartResult receive(CompactionHarness& harness) {
  harness.receive(testing::queue_receive_request({.parts = {kPartition}}));
  harness.drain();
  harness.tick();
  harness.drain();
  return testing::read_queue_receive_reply(harness.outbox.take()).at(0);
}

TEST_CASE("a compacted topic has no queue, and one that was compacted has none either") {
  CompactionHarness harness(partition::CompactionConfig{});
  harness.send("a", "1");
  harness.send("a", "2");
  harness.configure({.after_ms = 0}, 2);
  const std::string why =
      "topic id 1 partition 0 is compacted, or was: it can be consumed as a stream, not in queue "
      "mode";
  CHECK(receive(harness).status.code() == ErrorCode::kNotAllowed);
  harness.compact();
  CHECK(harness.read().size() == 1);
  harness.configure({}, 3);
  CHECK(receive(harness).status.context() == why);
}

TEST_CASE("a topic with a queue is not compacted before the group is gone") {
  CompactionHarness harness(partition::CompactionConfig{});
  harness.send("a", "1");
  harness.send("a", "2");
  const auto received = receive(harness);
  REQUIRE(received.messages.size() == 2);
  std::vector<testing::QueueSettleInput> acks;
  for (const testing::LeasedMessage& message : received.messages) {
    acks.push_back({kPartition, message.offset, message.token});
  }
  harness.receive(testing::queue_settle_request("workers", acks));
  harness.drain();
  CHECK(testing::read_queue_settle_reply(harness.outbox.take()) ==
        std::vector<ErrorCode>(2, ErrorCode::kOk));
  harness.configure({.after_ms = 0}, 2);
  harness.compact();
  CHECK(harness.stats().compactions == 0);
  CHECK(receive(harness).status.code() == ErrorCode::kNotAllowed);
  harness.receive(testing::group_delete_request("workers"));
  harness.drain();
  const Status deleted = testing::error_of(harness.outbox.take());
  CHECK_MESSAGE(deleted.ok(), deleted.to_string());
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.read().size() == 1);
}

}  // namespace
}  // namespace tidemark::shard
