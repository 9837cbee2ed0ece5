#include <limits>
#include <set>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

using testing::build_batch_of;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr int64_t kRoundMs = 5'000;  // how often retention looks

// One round of retention, cold walks included.
void round(ShardHarness& harness) {
  harness.advance_ms(kRoundMs);
  harness.tick();
  harness.source.run_all();
  harness.settle();
}

const partition::Partition& partition_of(ShardHarness& harness, PartitionId id = kPartition) {
  return *harness.core->views().find(id);
}

TEST_CASE("retention by bytes takes whole batches from the oldest on, down to the bound") {
  ShardHarness harness;
  const int64_t batch_bytes = static_cast<int64_t>(build_batch_of(1, 1000).size());
  harness.open_partitions(1, -1, 3 * batch_bytes + 10);
  for (int i = 0; i < 10; ++i) {
    harness.produce(kPartition, build_batch_of(1, 1000));
  }
  round(harness);
  CHECK(partition_of(harness).start() == Offset{7});
  CHECK(partition_of(harness).bytes() == static_cast<uint64_t>(3 * batch_bytes));
  CHECK(partition_of(harness).batches() == 3);
  CHECK(partition_of(harness).low_position() == partition_of(harness).index().refs()[7].position);
  CHECK(harness.fetch(kPartition, 6).status.code() == ErrorCode::kOffsetOutOfRange);
  CHECK(harness.fetch(kPartition, 7).messages.size() == 3);
  const size_t entries = harness.consensus.log.size();
  round(harness);
  CHECK(harness.consensus.log.size() == entries);  // nothing to do: nothing is written
}

TEST_CASE("retention by time goes by log time") {
  ShardHarness harness;
  harness.open_partitions(1, 60'000);
  for (int i = 0; i < 10; ++i) {
    harness.produce(kPartition, build_batch_of(2, 10));
    harness.advance_ms(10'000);
  }
  round(harness);  // it is 105 s; what came at 0, 10, .. 40 s goes
  CHECK(partition_of(harness).start() == Offset{10});
  harness.now.wall.ms -= 3'600'000;  // the wall clock steps back: nothing more goes, nothing breaks
  round(harness);
  CHECK(partition_of(harness).start() == Offset{10});
}

TEST_CASE("cold partitions are trimmed through the store, step by step, to the same end") {
  ShardHarness harness;
  const auto batch_bytes = static_cast<int64_t>(build_batch_of(1, 100).size());
  harness.open_partitions(1, -1, 20 * batch_bytes);
  for (int i = 0; i < 1300; ++i) {
    harness.produce(kPartition, build_batch_of(1, 100));
  }
  harness.checkpoint();
  REQUIRE(partition_of(harness).index().refs().size() < 1300);
  for (int i = 0; i < 4; ++i) {
    round(harness);
  }
  CHECK(partition_of(harness).start() == Offset{1280});
  CHECK(partition_of(harness).batches() == 20);
  const uint64_t hash = harness.core->views().hash();
  harness.restart();
  CHECK(harness.core->views().hash() == hash);
}

TEST_CASE(
    "everything goes, while more is on its way: the new batches hold their place in the log") {
  ShardHarness harness;
  harness.open_partitions(1, 60'000);
  harness.produce(kPartition, build_batch_of(1, 10));
  harness.advance_ms(100'000);
  const testing::ProduceInput part{kPartition, build_batch_of(1, 10)};
  harness.receive(testing::produce_request({&part, 1}));
  harness.core->flush(harness.now);  // proposed, not applied
  harness.core->tick(harness.now);   // the trim is behind it in the log
  harness.settle();
  CHECK(partition_of(harness).start() == Offset{1});
  CHECK(partition_of(harness).end() == Offset{2});
  // Not before the batch that went: the log up to here is free.
  CHECK(partition_of(harness).low_position() > partition_of(harness).index().refs()[0].position);
  CHECK(partition_of(harness).low_position() <= partition_of(harness).index().refs()[1].position);
}

TEST_CASE("an empty partition holds nothing back in the log") {
  ShardHarness harness;
  harness.open_partitions(1, 60'000);
  harness.produce(kPartition, build_batch_of(1, 10));
  harness.advance_ms(100'000);
  round(harness);
  CHECK(partition_of(harness).start() == partition_of(harness).end());
  CHECK(harness.core->views().low_position() == harness.core->views().applied().next_position);
}

TEST_CASE("with more cold partitions than may be walked at a time every one has its turn") {
  ShardHarness harness;
  const auto count = static_cast<uint32_t>(3 * limits::kColdReadsInFlightPerShardMax);
  harness.open_partitions(count, 3'600'000);
  // Enough batches that the first chunk is full and leaves memory.
  for (uint32_t i = 0; i < count; ++i) {
    std::vector<testing::ProduceInput> parts(
        130, {{TopicId{1}, PartitionIndex{i}}, build_batch_of(1, 1)});
    for (int k = 0; k < 4; ++k) {
      harness.receive(testing::produce_request(parts));
      harness.settle();
    }
  }
  harness.checkpoint();
  harness.outbox.replies.clear();
  for (int i = 0; i < 4; ++i) {
    round(harness);
  }
  const std::set<PartitionId> looked_at(harness.source.trims_planned.begin(),
                                        harness.source.trims_planned.end());
  CHECK(looked_at.size() == count);
}

TEST_CASE("a walk that ends when the topic is gone or the shard stops writes nothing") {
  ShardHarness harness;
  harness.open_partitions(1, -1, 0);
  for (int i = 0; i < 600; ++i) {
    harness.produce(kPartition, build_batch_of(1, 10));
  }
  harness.checkpoint();
  harness.advance_ms(kRoundMs);
  harness.core->tick(harness.now);
  REQUIRE(harness.source.pending() == 1);
  harness.core->begin_stop();
  harness.source.run_all();
  harness.settle();
  CHECK(partition_of(harness).start() == Offset{0});
  CHECK(harness.core->drained());
}

}  // namespace
}  // namespace tidemark::shard
