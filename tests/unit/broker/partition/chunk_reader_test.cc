#include "broker/partition/chunk_reader.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/index_chunk.h"
#include "broker/partition/store_keys.h"
#include "tests/unit/broker/partition/random_refs.h"

namespace tidemark::partition {
namespace {

constexpr PartitionId kId{TopicId{5}, PartitionIndex{3}};
// Neighbours in key order, to see that look-ups stay inside their partition.
constexpr PartitionId kBefore{TopicId{5}, PartitionIndex{2}};
constexpr PartitionId kBehind{TopicId{5}, PartitionIndex{4}};

// A partition's index in a store, and the same as a list.
struct Stored {
  kv::MemoryStore store;
  std::vector<BatchRef> refs;

  Stored(Random& random, size_t count, size_t refs_per_chunk, bool neighbours) {
    BatchRef previous;
    previous.base = Offset{random.chance(1, 2) ? 0 : random.below(1000)};
    for (size_t i = 0; i < count; ++i) {
      previous = next_ref(random, previous);
      refs.push_back(previous);
    }
    kv::WriteBatch batch;
    for (size_t at = 0; at < count; at += refs_per_chunk) {
      const std::span chunk(refs.data() + at, std::min(refs_per_chunk, count - at));
      batch.put(keys::chunk(kId, chunk.front().base), encode_chunk(chunk));
    }
    if (neighbours) {
      const BatchRef other{Offset{0}, 1'000'000, 61, LogPosition{8}, 0};
      batch.put(keys::chunk(kBefore, other.base), encode_chunk({&other, 1}));
      batch.put(keys::chunk(kBehind, other.base), encode_chunk({&other, 1}));
    }
    REQUIRE(store.commit(batch).ok());
  }
};

std::vector<BatchRef> linear_find(const std::vector<BatchRef>& refs, Offset from,
                                  size_t bytes_max) {
  std::vector<BatchRef> found;
  size_t bytes = 0;
  for (const BatchRef& ref : refs) {
    if (ref.end() <= from) {
      continue;
    }
    if (!found.empty() && bytes + ref.bytes > bytes_max) {
      break;
    }
    bytes += ref.bytes;
    found.push_back(ref);
  }
  return found;
}

std::optional<BatchRef> linear_find_time(const std::vector<BatchRef>& refs, Offset start,
                                         int64_t time_ms) {
  const auto it = std::find_if(refs.begin(), refs.end(), [&](const BatchRef& ref) {
    return ref.end() > start && ref.received_ms >= time_ms;
  });
  return it == refs.end() ? std::nullopt : std::optional(*it);
}

TEST_CASE("find_stored gives what a walk over the whole list gives") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Stored stored(random, random.between(1, 300), random.between(1, 60), seed % 2 == 0);
    const auto view = std::move(stored.store.read()).value();
    for (int i = 0; i < 30; ++i) {
      const Offset from{random.below(stored.refs.back().end().value() + 10)};
      const size_t bytes_max = random.between(0, 5'000'000);
      CAPTURE(from.value());
      const auto found = find_stored(*view, kId, from, bytes_max);
      REQUIRE(found.ok());
      CHECK(*found == linear_find(stored.refs, from, bytes_max));
    }
  }
}

TEST_CASE(
    "find_stored_time gives the first reference that is late enough, also with equal times and a "
    "trimmed start") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Stored stored(random, random.between(1, 300), random.between(1, 60), seed % 2 == 0);
    const auto view = std::move(stored.store.read()).value();
    const Offset end = stored.refs.back().end();
    for (int i = 0; i < 30; ++i) {
      const Offset start = stored.refs[random.below(stored.refs.size())].base;
      const auto time = static_cast<int64_t>(
          random.below(static_cast<uint64_t>(stored.refs.back().received_ms) + 3));
      CAPTURE(start.value());
      CAPTURE(time);
      const auto found = find_stored_time(*view, kId, start, end, time);
      REQUIRE(found.ok());
      CHECK(*found == linear_find_time(stored.refs, start, time));
    }
  }
}

TEST_CASE("an empty store, a neighbour's chunks and a damaged chunk are told apart") {
  Random random(1);
  Stored stored(random, 10, 4, true);
  const auto view = std::move(stored.store.read()).value();
  const PartitionId nobody{TopicId{5}, PartitionIndex{9}};
  CHECK(find_stored(*view, nobody, Offset{0}, 1000)->empty());
  CHECK_FALSE(find_stored_time(*view, nobody, Offset{0}, Offset{100}, 0)->has_value());
  CHECK(last_stored_chunk(*view, nobody)->empty());
  CHECK_FALSE(chunk_key_at(*view, nobody, Offset{50})->has_value());

  kv::WriteBatch damage;
  damage.put(keys::chunk(kId, stored.refs[4].base), "damaged");
  REQUIRE(stored.store.commit(damage).ok());
  const auto later = std::move(stored.store.read()).value();
  CHECK(find_stored(*later, kId, stored.refs[4].base, 1000).status().code() ==
        ErrorCode::kCorrupted);
  CHECK(find_stored(*later, kId, stored.refs[0].base, 0)->size() == 1);
}

TEST_CASE("the chunk at a start offset is the one that has it, so all before it may go") {
  Random random(2);
  Stored stored(random, 10, 4, true);
  const auto view = std::move(stored.store.read()).value();
  CHECK(*chunk_key_at(*view, kId, stored.refs[6].base).value() ==
        keys::chunk(kId, stored.refs[4].base));
  CHECK(*chunk_key_at(*view, kId, stored.refs[8].base).value() ==
        keys::chunk(kId, stored.refs[8].base));
  CHECK(last_stored_chunk(*view, kId)->size() == 2);
}

TEST_CASE("chunks follow compaction; what is dead in a row becomes one reference") {
  kv::MemoryStore store;
  std::vector<BatchRef> refs;
  for (uint64_t i = 0; i < 8; ++i) {
    refs.push_back(
        {Offset{10 * i}, 10, 100, LogPosition{1'000 + 200 * i}, static_cast<int64_t>(i)});
  }
  kv::WriteBatch batch;
  batch.put(keys::chunk(kId, Offset{0}), encode_chunk(std::span(refs).first(4)));
  batch.put(keys::chunk(kId, Offset{40}), encode_chunk(std::span(refs).subspan(4)));
  REQUIRE(store.commit(batch).ok());
  const auto move = [&](std::vector<MovedBatch> moved, Offset start = Offset{0}) {
    kv::WriteBatch changes;
    const Status status = move_stored(*store.read().value(), changes, kId, start, moved);
    REQUIRE(store.commit(changes).ok());
    return status;
  };
  REQUIRE(move({{Offset{10}, LogPosition{0}, 0},
                {Offset{20}, LogPosition{0}, 0},
                {Offset{50}, LogPosition{9'000}, 70}})
              .ok());
  const auto found = find_stored(*store.read().value(), kId, Offset{0}, 1'000).value();
  REQUIRE(found.size() == 7);
  CHECK(found[1].is_dead());
  CHECK(found[1].base == Offset{10});
  CHECK(found[1].end() == Offset{30});
  CHECK(found[1].received_ms == 2);
  CHECK(found[2] == refs[3]);
  CHECK(found[4] == BatchRef{Offset{50}, 10, 70, LogPosition{9'000}, 5});
  // Over the border of chunks they are one in what is found.
  REQUIRE(move({{Offset{30}, LogPosition{0}, 0}, {Offset{40}, LogPosition{0}, 0}}).ok());
  CHECK(find_stored(*store.read().value(), kId, Offset{35}, 1).value().front().end() == Offset{50});
  // One that is not there is damage, unless it may be gone.
  CHECK(move({{Offset{55}, LogPosition{0}, 0}}).code() == ErrorCode::kCorrupted);
  CHECK(move({{Offset{55}, LogPosition{0}, 0}}).context() ==
        "the index in the checkpoint store has no batch 55, which was compacted");
  kv::MemoryStore empty;
  kv::WriteBatch nothing;
  const MovedBatch gone{Offset{5}, LogPosition{0}, 0};
  CHECK(move_stored(*empty.read().value(), nothing, kId, Offset{6}, {&gone, 1}).ok());
  CHECK(move_stored(*empty.read().value(), nothing, kId, Offset{5}, {&gone, 1}).code() ==
        ErrorCode::kCorrupted);
}

}  // namespace
}  // namespace tidemark::partition
