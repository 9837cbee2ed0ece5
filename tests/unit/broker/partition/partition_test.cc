#include "broker/partition/partition.h"

#include <limits>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/store_keys.h"
#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::partition {
namespace {

constexpr PartitionId kId{TopicId{1}, PartitionIndex{0}};

format::BatchHeader plain_batch(uint32_t count, uint32_t bytes = 100) {
  format::BatchHeader header;
  header.record_count = count;
  header.batch_bytes = bytes;
  return header;
}

Partition reload(kv::MemoryStore& store) {
  const auto view = std::move(store.read()).value();
  Partition partition = Partition::load(kId, *view->get(keys::partition(kId)).value()).value();
  auto pair = view->seek("D").value();
  while (pair.has_value() && pair->key[0] == 'D') {
    const ProducerId id{load_be<uint64_t>(as_bytes(pair->key).data() + 9)};
    REQUIRE(partition.load_producer(id, pair->value).ok());
    pair = view->next().value();
  }
  partition.finish_load();
  if (auto refs = last_stored_chunk(*view, kId).value(); !refs.empty()) {
    partition.load_last_chunk(std::move(refs));
  }
  return partition;
}

void checkpoint(Partition& partition, kv::MemoryStore& store, LogPosition keep_from) {
  kv::WriteBatch batch;
  partition.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  partition.commit_done();
  partition.evict_before(keep_from);
}

TEST_CASE("offsets are dense, log time does not go back, a duplicate changes nothing") {
  Partition partition(kId, {});
  CHECK(partition.append(plain_batch(3), LogPosition{80}, 1000, 1).base == Offset{0});
  CHECK(partition.append(plain_batch(2), LogPosition{400}, 900, 2).received_ms == 1000);
  format::BatchHeader header = plain_batch(4);
  header.producer_id = 7;
  header.producer_epoch = 0;
  header.base_sequence = 0;
  CHECK(partition.append(header, LogPosition{800}, 1100, 3).base == Offset{5});
  const uint64_t hash = partition.hash();
  const AppendOutcome again = partition.append(header, LogPosition{1200}, 1200, 4);
  CHECK(again.duplicate);
  CHECK(again.error == ErrorCode::kOk);
  CHECK(again.base == Offset{5});
  header.base_sequence = 9;
  const AppendOutcome gap = partition.append(header, LogPosition{1600}, 1300, 5);
  CHECK(gap.error == ErrorCode::kOutOfOrderSequence);
  CHECK(gap.expected_sequence == 4);
  CHECK(partition.hash() == hash);
  CHECK(partition.end() == Offset{9});
  CHECK(partition.batches() == 3);
  CHECK(partition.bytes() == 300);
}

TEST_CASE("a trim takes away what it names and nothing twice") {
  Partition partition(kId, {});
  CHECK(partition.low_position() == LogPosition{std::numeric_limits<uint64_t>::max()});
  for (uint64_t i = 0; i < 4; ++i) {
    partition.append(plain_batch(10), LogPosition{80 + 200 * i}, 1000, i + 1);
  }
  CHECK(partition.low_position() == LogPosition{80});
  CHECK_FALSE(partition.trim({Offset{0}, LogPosition{80}, 0, 0}));
  CHECK_FALSE(partition.trim({Offset{41}, LogPosition{1000}, 400, 4}));
  CHECK_FALSE(partition.trim({Offset{20}, LogPosition{480}, 401, 2}));
  CHECK(partition.trim({Offset{20}, LogPosition{480}, 200, 2}));
  CHECK_FALSE(partition.trim({Offset{20}, LogPosition{480}, 200, 2}));
  CHECK(partition.start() == Offset{20});
  CHECK(partition.low_position() == LogPosition{480});
  CHECK(partition.bytes() == 200);
  CHECK(partition.trim({Offset{40}, LogPosition{880}, 200, 2}));
  CHECK(partition.low_position() == LogPosition{std::numeric_limits<uint64_t>::max()});
  partition.append(plain_batch(1), LogPosition{4000}, 1000, 9);
  CHECK(partition.low_position() == LogPosition{4000});
}

TEST_CASE("hash and behaviour are the same after a checkpoint and reload at any point") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Partition straight(kId, {1, 1000, -1});
    Partition restarted(kId, {1, 1000, -1});
    kv::MemoryStore store;
    LogPosition position;
    for (uint64_t use = 1; use < 1500; ++use) {
      position = position + 8 * random.between(20, 200);
      format::BatchHeader header = plain_batch(static_cast<uint32_t>(random.between(1, 5)));
      if (random.chance(1, 2)) {
        header.producer_id = static_cast<int64_t>(random.between(1, 3));
        header.producer_epoch = 0;
        header.base_sequence = static_cast<int32_t>(random.below(6));
      }
      const auto received = static_cast<int64_t>(use * 10 + random.below(30));
      const AppendOutcome expected = straight.append(header, position, received, use);
      const AppendOutcome outcome = restarted.append(header, position, received, use);
      REQUIRE(outcome.error == expected.error);
      REQUIRE(outcome.duplicate == expected.duplicate);
      REQUIRE(outcome.base == expected.base);
      if (random.chance(1, 100) && straight.batches() > 3) {
        const auto& refs = straight.index().refs();
        const auto& stays = refs[refs.size() - 2];
        const uint64_t gone = straight.batches() - 2;
        const Partition::TrimTo to{stays.base, stays.position, gone * 100, gone};
        REQUIRE(straight.trim(to));
        REQUIRE(restarted.trim(to));
      }
      if (random.chance(1, 150)) {
        kv::WriteBatch lost;
        restarted.freeze(lost);
        restarted.commit_failed();
      }
      if (random.chance(1, 100)) {
        checkpoint(restarted, store, LogPosition{random.below(position.value())});
        restarted = reload(store);
      }
      REQUIRE(restarted.hash() == straight.hash());
      REQUIRE(restarted.low_position() == straight.low_position());
    }
  }
}

TEST_CASE("a damaged partition state is refused") {
  Partition partition(kId, {});
  partition.append(plain_batch(1), LogPosition{80}, 1000, 1);
  kv::WriteBatch batch;
  partition.freeze(batch);
  const std::string good = batch.operations().back().value;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    CHECK(Partition::load(kId, bad).status().code() == ErrorCode::kCorrupted);
    CHECK(Partition::load(kId, good.substr(0, i)).status().code() == ErrorCode::kCorrupted);
  }
  CHECK(Partition::load(kId, good).ok());
}

}  // namespace
}  // namespace tidemark::partition
