#include "broker/partition/dedupe_table.h"

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/store_keys.h"
#include "log/base/random.h"

namespace tidemark::partition {
namespace {

constexpr PartitionId kId{TopicId{1}, PartitionIndex{0}};
constexpr PartitionId kOther{TopicId{1}, PartitionIndex{1}};

Hash128 id_of(uint64_t number) { return {number * 7, number}; }

void add(DedupeTable& table, PartitionId partition, uint64_t id, uint64_t offset, int64_t time_ms,
         int64_t window_ms) {
  const DedupeTable::Item item{id_of(id), Offset{offset}};
  table.add(partition, {&item, 1}, time_ms, window_ms);
}

kv::WriteBatch checkpoint(DedupeTable& table, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  table.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  table.commit_done();
  return batch;
}

Status load(DedupeTable& table, kv::MemoryStore& store) {
  return table.load(*std::move(store.read()).value());
}

TEST_CASE("an id counts for less than its window, and in its own partition") {
  DedupeTable table;
  CHECK_FALSE(table.find(kId, id_of(1), 0, 1000).has_value());
  add(table, kId, 1, 40, 5'000, 1'000);
  CHECK(table.find(kId, id_of(1), 5'000, 1'000) == Offset{40});
  CHECK(table.find(kId, id_of(1), 5'999, 1'000) == Offset{40});
  CHECK_FALSE(table.find(kId, id_of(1), 6'000, 1'000).has_value());
  CHECK(table.find(kId, id_of(1), 6'000, 1'001) == Offset{40});
  CHECK(table.find(kId, id_of(1)) == Offset{40});
  CHECK_FALSE(table.find(kId, id_of(2)).has_value());
  CHECK_FALSE(table.find(kOther, id_of(1)).has_value());
  // Both halves of the hash count.
  CHECK_FALSE(table.find(kId, {id_of(1).low, 9}).has_value());
  CHECK_FALSE(table.find(kId, {9, id_of(1).high}).has_value());
}

TEST_CASE("old ids are forgotten when others come") {
  DedupeTable table;
  add(table, kId, 1, 40, 5'000, 1'000);
  add(table, kId, 2, 41, 5'999, 1'000);
  CHECK(table.size(kId) == 2);
  add(table, kId, 3, 42, 6'000, 1'000);
  CHECK(table.size(kId) == 2);
  CHECK_FALSE(table.find(kId, id_of(1)).has_value());
  CHECK(table.find(kId, id_of(2)) == Offset{41});
  CHECK(table.find(kId, id_of(3)) == Offset{42});
}

TEST_CASE("no more are forgotten in a turn than it can bear, and they do not count") {
  DedupeTable table;
  std::vector<DedupeTable::Item> items;
  for (uint64_t i = 0; i < 5'000; ++i) {
    items.push_back({id_of(i), Offset{i}});
  }
  table.add(kId, items, 1'000, 1'000);
  add(table, kId, 9'001, 9'001, 10'000, 1'000);
  CHECK(table.size(kId) == 5'000 - 1'024 - 2 + 1);
  CHECK(table.find(kId, id_of(4'000)).has_value());
  CHECK_FALSE(table.find(kId, id_of(4'000), 10'000, 1'000).has_value());
  for (uint64_t i = 0; i < 4; ++i) {
    add(table, kId, 9'002 + i, 9'002 + i, 10'001, 1'000);
  }
  CHECK(table.size(kId) == 5);
}

TEST_CASE("beyond the bound the oldest are forgotten early") {
  DedupeTable table(3);
  for (uint64_t i = 0; i < 5; ++i) {
    add(table, kId, i, i, 1'000, 60'000);
    add(table, kOther, i, i, 1'000, 60'000);
  }
  CHECK(table.size(kId) == 3);
  CHECK(table.size(kOther) == 3);
  CHECK_FALSE(table.find(kId, id_of(1), 1'000, 60'000).has_value());
  CHECK(table.find(kId, id_of(2), 1'000, 60'000) == Offset{2});
  CHECK(limits::kMessageIdsPerPartitionMax == 1'000'000);
}

TEST_CASE("an id that comes again counts from then on, and outlives its first coming") {
  DedupeTable table(3);
  add(table, kId, 1, 10, 1'000, 5'000);
  add(table, kId, 2, 11, 1'000, 5'000);
  add(table, kId, 1, 12, 2'000, 5'000);  // the window had been shorter when it was judged
  CHECK(table.find(kId, id_of(1)) == Offset{12});
  add(table, kId, 3, 13, 2'000, 5'000);  // forgets the first coming of 1
  CHECK(table.size(kId) == 3);
  CHECK(table.find(kId, id_of(1)) == Offset{12});
  CHECK(table.find(kId, id_of(1), 6'999, 5'000) == Offset{12});
  CHECK_FALSE(table.find(kId, id_of(1), 7'000, 5'000).has_value());
}

TEST_CASE("the hash tells tables apart and is that of the contents alone") {
  DedupeTable one;
  DedupeTable two;
  CHECK(one.hash() == two.hash());
  add(one, kId, 1, 10, 1'000, 5'000);
  CHECK(one.hash() != two.hash());
  for (const auto& [partition, id, offset, time] :
       {std::tuple{kOther, 1, 10, 1'000}, std::tuple{kId, 2, 10, 1'000},
        std::tuple{kId, 1, 11, 1'000}, std::tuple{kId, 1, 10, 1'001}}) {
    DedupeTable other;
    add(other, partition, static_cast<uint64_t>(id), static_cast<uint64_t>(offset), time, 5'000);
    CHECK(other.hash() != one.hash());
  }
  add(two, kOther, 3, 10, 1'000, 5'000);
  add(two, kId, 1, 10, 1'000, 5'000);
  two.drop_partition(kOther);
  CHECK(one.hash() == two.hash());
}

TEST_CASE("a checkpoint has what changed, by chunks") {
  DedupeTable table;
  kv::MemoryStore store;
  std::vector<DedupeTable::Item> items;
  for (uint64_t i = 0; i < 3'000; ++i) {
    items.push_back({id_of(i), Offset{i}});
  }
  table.add(kId, items, 1'000, 1'000);
  const auto keys_of = [](const kv::WriteBatch& batch) {
    std::vector<std::string> keys;
    for (const auto& operation : batch.operations()) {
      keys.push_back(operation.key);
    }
    return keys;
  };
  const std::string head = keys::of('J', kId);
  CHECK(keys_of(checkpoint(table, store)) ==
        std::vector<std::string>{keys::message_ids(kId, 0), keys::message_ids(kId, 1),
                                 keys::message_ids(kId, 2), head});
  CHECK(checkpoint(table, store).empty());
  add(table, kId, 4'000, 4'000, 1'500, 1'000);
  CHECK(keys_of(checkpoint(table, store)) ==
        std::vector<std::string>{keys::message_ids(kId, 2), head});
  add(table, kId, 4'001, 4'001, 2'000, 1'000);  // 1026 of the first are forgotten
  const kv::WriteBatch batch = checkpoint(table, store);
  CHECK(keys_of(batch) ==
        std::vector<std::string>{keys::message_ids(kId, 0), keys::message_ids(kId, 2), head});
  CHECK(batch.operations()[0].kind == kv::WriteBatch::Kind::kRemoveRange);
  CHECK(batch.operations()[0].value == keys::message_ids(kId, 1));
  DedupeTable loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.size(kId) == 3'002 - 1'026);
  CHECK(loaded.hash() == table.hash());
  CHECK(loaded.find(kId, id_of(4'001)) == Offset{4'001});
  CHECK(checkpoint(loaded, store).empty());
}

TEST_CASE("a partition that is dropped leaves nothing in the store, also when it comes back") {
  DedupeTable table;
  kv::MemoryStore store;
  for (uint64_t i = 0; i < 1'500; ++i) {
    add(table, kId, i, i, 1'000, 1'000);
  }
  add(table, kOther, 1, 1, 1'000, 1'000);
  checkpoint(table, store);
  table.drop_partition(kId);
  table.drop_partition(kId);
  CHECK(table.size(kId) == 0);
  SUBCASE("gone") {
    checkpoint(table, store);
    DedupeTable loaded;
    REQUIRE(load(loaded, store).ok());
    CHECK(loaded.size(kId) == 0);
    CHECK(loaded.size(kOther) == 1);
    CHECK(loaded.hash() == table.hash());
  }
  SUBCASE("back before the next checkpoint, which fails at first") {
    add(table, kId, 7, 70, 2'000, 1'000);
    kv::WriteBatch lost;
    table.freeze(lost);
    table.commit_failed();
    checkpoint(table, store);
    DedupeTable loaded;
    REQUIRE(load(loaded, store).ok());
    CHECK(loaded.size(kId) == 1);
    CHECK(loaded.find(kId, id_of(7)) == Offset{70});
    CHECK(loaded.hash() == table.hash());
  }
  SUBCASE("dropped while a checkpoint fails") {
    add(table, kId, 7, 70, 2'000, 1'000);
    kv::WriteBatch lost;
    table.freeze(lost);
    table.drop_partition(kId);
    table.commit_failed();
    add(table, kId, 8, 80, 2'000, 1'000);
    checkpoint(table, store);
    DedupeTable loaded;
    REQUIRE(load(loaded, store).ok());
    CHECK(loaded.size(kId) == 1);
    CHECK(loaded.hash() == table.hash());
  }
}

// What the table is to be, said as simply as can be.
struct Model {
  struct Seen {
    int64_t time_ms = 0;
    uint64_t offset = 0;
  };

  std::map<std::pair<PartitionId, uint64_t>, Seen> seen;
};

TEST_CASE("it finds what a plain map finds, across checkpoints and restarts at any point") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    DedupeTable straight;
    DedupeTable restarted;
    Model model;
    kv::MemoryStore store;
    const int64_t window_ms = static_cast<int64_t>(random.between(1, 400));
    int64_t now_ms = 1'000;
    for (uint64_t step = 0; step < 1'500; ++step) {
      now_ms += static_cast<int64_t>(random.below(random.chance(1, 50) ? 500 : 4));
      const PartitionId partition = random.chance(1, 3) ? kOther : kId;
      std::vector<DedupeTable::Item> items;
      const uint64_t count = random.between(1, random.chance(1, 40) ? 900 : 3);
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t id = random.below(2'000);
        const auto known = model.seen.find({partition, id});
        if (known != model.seen.end() && known->second.offset / 1'000 == step) {
          continue;  // in this batch: not the table's to know
        }
        const bool expected =
            known != model.seen.end() && now_ms - known->second.time_ms < window_ms;
        const auto found = restarted.find(partition, id_of(id), now_ms, window_ms);
        REQUIRE(found.has_value() == expected);
        if (expected) {
          REQUIRE(found == Offset{known->second.offset});
          continue;
        }
        const uint64_t offset = step * 1'000 + i;
        model.seen[{partition, id}] = {now_ms, offset};
        items.push_back({id_of(id), Offset{offset}});
      }
      straight.add(partition, items, now_ms, window_ms);
      restarted.add(partition, items, now_ms, window_ms);
      if (random.chance(1, 200)) {
        straight.drop_partition(partition);
        restarted.drop_partition(partition);
        std::erase_if(model.seen, [&](const auto& one) { return one.first.first == partition; });
      }
      if (random.chance(1, 60)) {
        kv::WriteBatch lost;
        restarted.freeze(lost);
        restarted.commit_failed();
      }
      if (random.chance(1, 40)) {
        checkpoint(restarted, store);
      }
      if (random.chance(1, 60)) {
        checkpoint(restarted, store);
        restarted = DedupeTable();
        REQUIRE(load(restarted, store).ok());
      }
      REQUIRE(restarted.hash() == straight.hash());
      REQUIRE(restarted.size(partition) == straight.size(partition));
    }
  }
}

TEST_CASE("a damaged, cut or missing value is refused") {
  DedupeTable table;
  kv::MemoryStore good;
  std::vector<DedupeTable::Item> items;
  for (uint64_t i = 0; i < 2'500; ++i) {
    items.push_back({id_of(i), Offset{i}});
  }
  table.add(kId, items, 1'000, 1'000);
  const kv::WriteBatch batch = checkpoint(table, good);
  const auto load_with = [&](const std::string& key, const std::string* value) {
    kv::MemoryStore store;
    kv::WriteBatch changed;
    for (const auto& operation : batch.operations()) {
      if (operation.key != key) {
        changed.put(operation.key, operation.value);
      } else if (value != nullptr) {
        changed.put(key, *value);
      }
    }
    REQUIRE(store.commit(changed).ok());
    DedupeTable loaded;
    return load(loaded, store).code();
  };
  CHECK(load_with("", nullptr) == ErrorCode::kOk);
  for (const auto& operation : batch.operations()) {
    CAPTURE(operation.key.size());
    CHECK(load_with(operation.key, nullptr) == ErrorCode::kCorrupted);
    for (size_t i = 0; i < operation.value.size(); i += operation.value.size() / 20) {
      std::string bad = operation.value;
      bad[i] = static_cast<char>(bad[i] ^ 4);
      CHECK(load_with(operation.key, &bad) == ErrorCode::kCorrupted);
      bad = operation.value.substr(0, i);
      CHECK(load_with(operation.key, &bad) == ErrorCode::kCorrupted);
    }
  }
  // A whole chunk in the place of another.
  CHECK(load_with(keys::message_ids(kId, 0), &batch.operations()[1].value) ==
        ErrorCode::kCorrupted);
}

}  // namespace
}  // namespace tidemark::partition
