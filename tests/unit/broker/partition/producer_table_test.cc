#include "broker/partition/producer_table.h"

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/store_keys.h"
#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::partition {
namespace {

using Kind = SequenceVerdict::Kind;
constexpr PartitionId kId{TopicId{1}, PartitionIndex{0}};
constexpr int32_t kSequenceMax = 0x7FFFFFFF;

format::BatchHeader batch_of(int64_t producer, int16_t epoch, int32_t sequence, uint32_t count) {
  format::BatchHeader header;
  header.producer_id = producer;
  header.producer_epoch = epoch;
  header.base_sequence = sequence;
  header.record_count = count;
  return header;
}

// What a partition does with a batch.
SequenceVerdict offer(ProducerTable& table, const format::BatchHeader& header, Offset base,
                      uint64_t use) {
  const SequenceVerdict verdict = table.judge(header);
  if (verdict.kind == Kind::kAccept) {
    table.accept(header, base, use);
  }
  return verdict;
}

// Commits what changed and reads everything into a new table.
ProducerTable reload(ProducerTable& table, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  table.freeze(kId, batch);
  REQUIRE(store.commit(batch).ok());
  table.commit_done();
  ProducerTable loaded;
  const auto view = std::move(store.read()).value();
  auto pair = view->seek("D").value();
  while (pair.has_value()) {
    const ProducerId id{load_be<uint64_t>(as_bytes(pair->key).data() + 9)};
    REQUIRE(loaded.load(id, pair->value).ok());
    pair = view->next().value();
  }
  loaded.finish_load();
  return loaded;
}

TEST_CASE("sequences count messages and wrap from 2^31 - 1 to 0") {
  CHECK(sequence_after(0, 5) == 5);
  CHECK(sequence_after(kSequenceMax, 1) == 0);
  CHECK(sequence_after(kSequenceMax - 2, 5) == 2);
}

TEST_CASE("a batch sent again within the window gets the offset it got first") {
  ProducerTable table;
  Offset base;
  for (int32_t i = 0; i < 8; ++i) {
    CHECK(offer(table, batch_of(1, 0, i * 10, 10), base, static_cast<uint64_t>(i)).kind ==
          Kind::kAccept);
    base = base + 10;
  }
  for (int32_t i = 3; i < 8; ++i) {
    CAPTURE(i);
    const SequenceVerdict verdict = table.judge(batch_of(1, 0, i * 10, 10));
    CHECK(verdict.kind == Kind::kDuplicate);
    CHECK(verdict.original_base == Offset{static_cast<uint64_t>(i) * 10});
  }
  // Older than the window, or cut differently: not known as a duplicate, and surely not new.
  CHECK(table.judge(batch_of(1, 0, 20, 10)).error == ErrorCode::kOutOfOrderSequence);
  CHECK(table.judge(batch_of(1, 0, 70, 5)).error == ErrorCode::kOutOfOrderSequence);
}

TEST_CASE("a gap is refused with the sequence that was expected") {
  ProducerTable table;
  offer(table, batch_of(1, 0, 0, 10), Offset{0}, 1);
  const SequenceVerdict verdict = table.judge(batch_of(1, 0, 11, 1));
  CHECK(verdict.kind == Kind::kRefuse);
  CHECK(verdict.error == ErrorCode::kOutOfOrderSequence);
  CHECK(verdict.expected_sequence == 10);
}

TEST_CASE("an unknown producer begins at sequence 0") {
  ProducerTable table;
  CHECK(table.judge(batch_of(9, 0, 5, 1)).error == ErrorCode::kUnknownProducer);
  CHECK(table.judge(batch_of(9, 0, 0, 1)).kind == Kind::kAccept);
  CHECK(table.judge(batch_of(9, 3, 0, 1)).kind == Kind::kAccept);
}

TEST_CASE("a newer epoch begins anew at 0 and fences the older one") {
  ProducerTable table;
  offer(table, batch_of(1, 0, 0, 4), Offset{0}, 1);
  CHECK(table.judge(batch_of(1, 1, 4, 1)).error == ErrorCode::kOutOfOrderSequence);
  CHECK(offer(table, batch_of(1, 1, 0, 4), Offset{4}, 2).kind == Kind::kAccept);
  CHECK(table.judge(batch_of(1, 0, 4, 1)).error == ErrorCode::kFenced);
  // The same sequences of the older epoch are not its duplicates.
  const SequenceVerdict again = table.judge(batch_of(1, 1, 0, 4));
  CHECK(again.kind == Kind::kDuplicate);
  CHECK(again.original_base == Offset{4});
}

TEST_CASE("duplicates are known across the wrap") {
  ProducerTable table;
  offer(table, batch_of(1, 0, 0, 1), Offset{0}, 1);
  // Gets near the end of the sequence space without two billion messages.
  const int32_t near_end = kSequenceMax - 4;
  table.accept(batch_of(1, 0, near_end - 10, 10), Offset{100}, 2);
  CHECK(offer(table, batch_of(1, 0, near_end, 10), Offset{110}, 3).kind == Kind::kAccept);
  CHECK(table.judge(batch_of(1, 0, near_end, 10)).original_base == Offset{110});
  CHECK(offer(table, batch_of(1, 0, 5, 1), Offset{120}, 4).kind == Kind::kAccept);
  CHECK(table.judge(batch_of(1, 0, near_end, 10)).kind == Kind::kDuplicate);
}

TEST_CASE(
    "only so many producers are remembered, the one idle longest is forgotten, in memory and in "
    "the store") {
  ProducerTable table;
  kv::MemoryStore store;
  uint64_t use = 0;
  const auto count = static_cast<int64_t>(limits::kProducersPerPartitionMax);
  for (int64_t id = 1; id <= count; ++id) {
    ++use;
    offer(table, batch_of(id, 0, 0, 1), Offset{use}, use);
  }
  ProducerTable loaded = reload(table, store);
  CHECK(loaded.hash() == table.hash());
  // Producer 1 speaks again, so producer 2 is now the one idle longest; both tables agree on that.
  for (ProducerTable* one : {&table, &loaded}) {
    offer(*one, batch_of(1, 0, 1, 1), Offset{use + 1}, use + 1);
    offer(*one, batch_of(count + 1, 0, 0, 1), Offset{use + 2}, use + 2);
    CHECK(one->size() == limits::kProducersPerPartitionMax);
    CHECK(one->judge(batch_of(2, 0, 1, 1)).error == ErrorCode::kUnknownProducer);
    CHECK(one->judge(batch_of(1, 0, 2, 1)).kind == Kind::kAccept);
  }
  CHECK(loaded.hash() == table.hash());
  const ProducerTable again = reload(table, store);
  CHECK(again.hash() == table.hash());
  CHECK(again.size() == limits::kProducersPerPartitionMax);
}

TEST_CASE("a table read from the store judges and hashes like the one that was never stored") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    ProducerTable table;
    ProducerTable reloaded;
    kv::MemoryStore store;
    Offset base;
    for (uint64_t use = 1; use < 300; ++use) {
      const auto header = batch_of(
          static_cast<int64_t>(random.between(1, 5)), static_cast<int16_t>(random.below(2)),
          static_cast<int32_t>(random.below(12)), static_cast<uint32_t>(random.between(1, 4)));
      const SequenceVerdict expected = table.judge(header);
      const SequenceVerdict verdict = reloaded.judge(header);
      REQUIRE(verdict.kind == expected.kind);
      REQUIRE(verdict.original_base == expected.original_base);
      REQUIRE(verdict.expected_sequence == expected.expected_sequence);
      if (expected.kind == Kind::kAccept) {
        table.accept(header, base, use);
        reloaded.accept(header, base, use);
        base = base + header.record_count;
      }
      if (random.chance(1, 20)) {
        kv::WriteBatch lost;
        reloaded.freeze(kId, lost);  // a commit that fails: the next one has it all again
        reloaded.commit_failed();
      }
      if (random.chance(1, 10)) {
        reloaded = reload(reloaded, store);
      }
      REQUIRE(reloaded.hash() == table.hash());
    }
  }
}

TEST_CASE("a damaged producer state is refused") {
  ProducerTable table;
  offer(table, batch_of(1, 0, 0, 4), Offset{0}, 1);
  kv::WriteBatch batch;
  table.freeze(kId, batch);
  const std::string good = batch.operations().front().value;
  ProducerTable loaded;
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK(loaded.load(ProducerId{1}, good.substr(0, size)).code() == ErrorCode::kCorrupted);
  }
  CHECK(loaded.load(ProducerId{1}, good + "x").code() == ErrorCode::kCorrupted);
}

}  // namespace
}  // namespace tidemark::partition
