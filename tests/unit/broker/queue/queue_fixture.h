// A queue to try things on, and what its store gives back.
#pragma once

#include <doctest/doctest.h>

#include "broker/queue/queue_table.h"
#include "tests/support/view_checkpoint.h"

namespace tidemark::queue {

constexpr uint64_t kChunk = AckSet::kChunkOffsets;

constexpr PartitionId partition_of(uint32_t topic, uint32_t index) {
  return {TopicId{topic}, PartitionIndex{index}};
}

constexpr PartitionId kPartition = partition_of(1, 0);
constexpr PartitionId kOther = partition_of(1, 1);

inline AckRange range_of(uint64_t first, uint64_t count = 1) { return {Offset{first}, count}; }

// With the queue "g" of kPartition, which begins at `start`.
struct OneQueue {
  explicit OneQueue(uint64_t start = 0, size_t failures_max = 100) : table(10, failures_max) {
    REQUIRE(table.open("g", kPartition, Offset{start}).ok());
  }

  uint64_t ack(uint64_t first, uint64_t count = 1) {
    return table.ack("g", kPartition, range_of(first, count));
  }

  bool fail(uint64_t offset, int64_t retry_ms = 7) {
    return table.fail("g", kPartition, Offset{offset}, retry_ms);
  }

  [[nodiscard]] const QueueState& state() const {
    const QueueState* const found = table.find("g", kPartition);
    REQUIRE(found != nullptr);
    return *found;
  }

  QueueTable table;
};

// Equal, and with nothing to be stored.
inline void check_loads_as(QueueTable& table, kv::MemoryStore& store) {
  QueueTable loaded;
  REQUIRE(testing::load(loaded, store).ok());
  CHECK(loaded.hash() == table.hash());
  CHECK(loaded.size() == table.size());
  CHECK(loaded.failures() == table.failures());
  kv::WriteBatch batch;
  loaded.freeze(batch);
  CHECK(batch.empty());
}

}  // namespace tidemark::queue
