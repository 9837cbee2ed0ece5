#include "broker/txn/producer_fences.h"

#include <doctest/doctest.h>

#include "tests/support/view_checkpoint.h"

namespace tidemark::txn {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::pairs_of;

TEST_CASE("epochs below the fence are refused, those from it on are not") {
  ProducerFences fences;
  CHECK(!fences.is_fenced(1, 0));
  fences.raise(1, 3);
  CHECK(fences.is_fenced(1, 2));
  CHECK(!fences.is_fenced(1, 3));
  CHECK(!fences.is_fenced(1, 4));
  CHECK(!fences.is_fenced(2, 0));
  CHECK(fences.lowest_epoch(1) == 3);
}

TEST_CASE("a fence is never lowered") {
  ProducerFences fences;
  fences.raise(1, 3);
  const uint64_t hash = fences.hash();
  fences.raise(1, 2);
  fences.raise(1, 3);
  CHECK(fences.lowest_epoch(1) == 3);
  CHECK(fences.hash() == hash);
  fences.raise(2, 0);  // fences nothing
  CHECK(fences.size() == 1);
  CHECK(fences.hash() == hash);
}

TEST_CASE("the last epoch can be fenced against all others") {
  ProducerFences fences;
  fences.raise(UINT64_MAX, 65535);
  kv::MemoryStore store;
  checkpoint(fences, store);
  ProducerFences loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.is_fenced(UINT64_MAX, 65534));
  CHECK(!loaded.is_fenced(UINT64_MAX, 65535));
}

TEST_CASE("the hash does not depend on the order of changes") {
  ProducerFences one;
  ProducerFences other;
  for (uint64_t i = 1; i <= 100; ++i) {
    one.raise(i, static_cast<uint16_t>(i));
    other.raise(101 - i, 1);
    other.raise(101 - i, static_cast<uint16_t>(101 - i));
  }
  CHECK(one.hash() == other.hash());
  other.raise(50, 51);
  CHECK(one.hash() != other.hash());
}

TEST_CASE("a checkpoint gives back what was there") {
  ProducerFences fences;
  kv::MemoryStore store;
  for (uint64_t i = 1; i <= 100; ++i) {
    fences.raise(i << 32, static_cast<uint16_t>(i));
  }
  checkpoint(fences, store);
  fences.raise(uint64_t{7} << 32, 70);
  checkpoint(fences, store);
  ProducerFences loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.size() == 100);
  CHECK(loaded.hash() == fences.hash());
  CHECK(loaded.lowest_epoch(uint64_t{7} << 32) == 70);
  kv::WriteBatch nothing_new;
  loaded.freeze(nothing_new);
  CHECK(nothing_new.empty());
}

TEST_CASE("beyond the bound the lowest producer is forgotten, in the store too") {
  ProducerFences fences;
  kv::MemoryStore store;
  for (uint64_t i = 1; i <= limits::kProducerNamesMax; ++i) {
    fences.raise(i, 2);
  }
  checkpoint(fences, store);
  fences.raise(limits::kProducerNamesMax + 1, 2);
  CHECK(fences.size() == limits::kProducerNamesMax);
  CHECK(!fences.is_fenced(1, 0));
  CHECK(fences.is_fenced(2, 0));
  fail_checkpoint(fences);
  checkpoint(fences, store);
  CHECK(pairs_of(store).size() == limits::kProducerNamesMax);
  ProducerFences loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.hash() == fences.hash());
}

TEST_CASE("what a failed commit had is in the next one") {
  ProducerFences fences;
  kv::MemoryStore store;
  fences.raise(1, 1);
  fail_checkpoint(fences);
  fences.raise(2, 1);
  checkpoint(fences, store);
  ProducerFences loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.hash() == fences.hash());
}

TEST_CASE("a damaged fence is refused") {
  ProducerFences fences;
  fences.raise(1, 1);
  testing::check_damage_is_noticed(fences);
}

}  // namespace
}  // namespace tidemark::txn
