#include "broker/txn/outcome_table.h"

#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/view_checkpoint.h"

namespace tidemark::txn {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::pairs_of;

constexpr TxnState kCommitted = TxnState::kCommitted;
constexpr TxnState kRolledBack = TxnState::kRolledBack;

// The `count`th transaction of a producer's session.
TxnKey key_of(uint64_t producer, uint16_t epoch, uint64_t count) {
  return {producer, (uint64_t{epoch} << 48) | count};
}

TEST_CASE("outcomes are kept by transaction") {
  OutcomeTable table;
  CHECK(table.get(key_of(1, 0, 1)) == TxnState::kNone);
  CHECK(table.oldest_ms() == INT64_MAX);
  CHECK(table.hash() == 0);
  table.set(key_of(1, 0, 1), kCommitted, 10);
  table.set(key_of(1, 0, 2), kRolledBack, 11);
  table.set(key_of(1, 0, 255), kRolledBack, 11);
  CHECK(table.chunks() == 1);
  CHECK(table.get(key_of(1, 0, 1)) == kCommitted);
  CHECK(table.get(key_of(1, 0, 2)) == kRolledBack);
  CHECK(table.get(key_of(1, 0, 255)) == kRolledBack);
  CHECK(table.get(key_of(1, 0, 3)) == TxnState::kNone);
  CHECK(table.get(key_of(1, 0, 256)) == TxnState::kNone);
  CHECK(table.get(key_of(1, 1, 1)) == TxnState::kNone);
  CHECK(table.get(key_of(2, 0, 1)) == TxnState::kNone);
  table.set(key_of(1, 0, 256), kCommitted, 12);
  CHECK(table.chunks() == 2);
}

TEST_CASE("the last epoch and the last number have their place") {
  OutcomeTable table;
  const TxnKey last{UINT64_MAX, UINT64_MAX};
  table.set(last, kRolledBack, 1);
  table.set(key_of(7, 65535, 1), kCommitted, 1);
  kv::MemoryStore store;
  checkpoint(table, store);
  OutcomeTable loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.get(last) == kRolledBack);
  CHECK(loaded.get(key_of(7, 65535, 1)) == kCommitted);
  CHECK(loaded.get(key_of(7, 65534, 1)) == TxnState::kNone);
}

TEST_CASE("a checkpoint gives back what was there, and what was forgotten is not in the store") {
  OutcomeTable table;
  kv::MemoryStore store;
  for (uint64_t i = 0; i < 1000; ++i) {
    table.set(key_of(i % 3, 2, i), i % 5 == 0 ? kRolledBack : kCommitted, static_cast<int64_t>(i));
  }
  checkpoint(table, store);
  table.set(key_of(9, 0, 1), kCommitted, 2000);
  table.forget_before(600);
  CHECK(table.get(key_of(1, 2, 100)) == TxnState::kNone);
  checkpoint(table, store);
  CHECK(pairs_of(store).size() == table.chunks());

  OutcomeTable loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.hash() == table.hash());
  CHECK(loaded.chunks() == table.chunks());
  CHECK(loaded.oldest_ms() == table.oldest_ms());
  for (uint64_t i = 0; i < 1000; ++i) {
    CHECK(loaded.get(key_of(i % 3, 2, i)) == table.get(key_of(i % 3, 2, i)));
  }
  kv::WriteBatch nothing_new;
  loaded.freeze(nothing_new);
  CHECK(nothing_new.empty());
}

TEST_CASE("the hash does not depend on the order of changes") {
  std::vector<TxnKey> keys;
  for (uint64_t i = 0; i < 2000; ++i) {
    keys.push_back(key_of(i % 7, static_cast<uint16_t>(i % 2), i));
  }
  uint64_t hash = 0;
  Random random(1);
  for (int round = 0; round < 3; ++round) {
    OutcomeTable table;
    for (const TxnKey& key : keys) {
      table.set(key, key.number % 2 == 0 ? kCommitted : kRolledBack, 5);
    }
    CHECK((round == 0 || table.hash() == hash));
    hash = table.hash();
    for (size_t i = keys.size() - 1; i > 0; --i) {
      std::swap(keys[i], keys[random.below(i + 1)]);
    }
    table.forget_before(6);
    CHECK(table.hash() == 0);
  }
}

TEST_CASE("the hash depends on outcome and time") {
  const auto hash_with = [](TxnState state, int64_t ms) {
    OutcomeTable table;
    table.set(key_of(1, 0, 1), state, ms);
    return table.hash();
  };
  CHECK(hash_with(kCommitted, 1) != hash_with(kRolledBack, 1));
  CHECK(hash_with(kCommitted, 1) != hash_with(kCommitted, 2));
}

TEST_CASE("a chunk is forgotten by the age of its newest outcome") {
  OutcomeTable table;
  table.set(key_of(1, 0, 1), kCommitted, 10);
  table.set(key_of(2, 0, 1), kCommitted, 20);
  table.set(key_of(1, 0, 2), kCommitted, 30);
  CHECK(table.oldest_ms() == 20);
  table.forget_before(20);
  CHECK(table.chunks() == 2);
  table.forget_before(21);
  CHECK(table.get(key_of(2, 0, 1)) == TxnState::kNone);
  CHECK(table.get(key_of(1, 0, 1)) == kCommitted);
  table.forget_before(INT64_MAX);
  CHECK(table.chunks() == 0);
  CHECK(table.oldest_ms() == INT64_MAX);
}

TEST_CASE("beyond the bound the chunk idle longest goes, never the new one") {
  OutcomeTable table(3);
  for (const uint64_t producer : {5u, 6u, 7u}) {
    table.set(key_of(producer, 0, 1), kCommitted, 1);
  }
  table.set(key_of(5, 0, 2), kCommitted, 2);
  table.set(key_of(1, 0, 1), kCommitted, 2);  // all others are as old or come behind it
  CHECK(table.chunks() == 3);
  CHECK(table.get(key_of(6, 0, 1)) == TxnState::kNone);
  CHECK(table.get(key_of(1, 0, 1)) == kCommitted);
  table.set(key_of(0, 0, 1), kCommitted, 2);
  table.set(key_of(0, 0, 300), kCommitted, 2);
  CHECK(table.get(key_of(0, 0, 300)) == kCommitted);
  CHECK(table.get(key_of(7, 0, 1)) == TxnState::kNone);
  CHECK(table.get(key_of(5, 0, 1)) == kCommitted);
}

TEST_CASE("what a failed commit had is in the next one, removals too") {
  OutcomeTable table;
  kv::MemoryStore store;
  table.set(key_of(1, 0, 1), kCommitted, 1);
  checkpoint(table, store);
  table.set(key_of(2, 0, 1), kCommitted, 5);
  table.forget_before(2);
  fail_checkpoint(table);
  table.set(key_of(3, 0, 1), kCommitted, 6);
  checkpoint(table, store);
  OutcomeTable loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.chunks() == 2);
  CHECK(loaded.hash() == table.hash());
}

TEST_CASE("damaged outcomes are refused") {
  OutcomeTable table;
  table.set(key_of(1, 0, 1), kCommitted, 1);
  testing::check_damage_is_noticed(table);
}

}  // namespace
}  // namespace tidemark::txn
