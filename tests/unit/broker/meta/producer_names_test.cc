#include "broker/meta/producer_names.h"

#include <doctest/doctest.h>

#include "tests/support/view_checkpoint.h"

namespace tidemark::meta {
namespace {

using testing::checkpoint;
using testing::fail_checkpoint;
using testing::load;
using testing::pairs_of;

bool same(const ProducerNames::Taken& taken, uint64_t producer, uint16_t epoch, bool is_new) {
  return taken.producer == producer && taken.epoch == epoch && taken.is_new == is_new;
}

// Of all shards of a cluster that has two.
void fence_all(ProducerNames& names, uint64_t producer, uint16_t epoch) {
  names.fenced(producer, epoch, ShardId{0});
  names.fenced(producer, epoch, ShardId{1});
}

TEST_CASE("a new name gets the new id with epoch 0, a known one the next epoch of its id") {
  ProducerNames names;
  CHECK(same(names.take_next("a", 10, 2, 1), 10, 0, true));
  CHECK(names.is_settled(10, 0));
  CHECK(same(names.take_next("b", 11, 2, 2), 11, 0, true));
  CHECK(same(names.take_next("a", 12, 2, 3), 10, 1, false));
  CHECK(same(names.take_next("a", 12, 2, 4), 10, 2, false));
  CHECK(names.size() == 2);
}

TEST_CASE("an epoch is settled when all shards refuse those before") {
  ProducerNames names;
  names.take_next("a", 10, 2, 1);
  names.take_next("a", 11, 2, 2);
  CHECK(!names.is_settled(10, 1));
  CHECK(!names.is_settled(10, 0));
  REQUIRE(names.unsettled().size() == 1);
  CHECK(names.unsettled()[0].producer == 10);
  CHECK(names.unsettled()[0].epoch == 1);
  CHECK(names.unsettled()[0].unfenced == std::set<ShardId>{ShardId{0}, ShardId{1}});
  names.fenced(10, 1, ShardId{1});
  names.fenced(10, 1, ShardId{1});
  names.fenced(10, 1, ShardId{7});  // has no part in it
  names.fenced(99, 1, ShardId{0});
  CHECK(!names.is_settled(10, 1));
  names.fenced(10, 1, ShardId{0});
  CHECK(names.is_settled(10, 1));
  CHECK(names.is_settled(10, 0));  // by a later one
  CHECK(!names.is_settled(10, 2));
  CHECK(names.is_settled(99, 5));
  CHECK(names.unsettled().empty());
}

TEST_CASE("a confirmation of an epoch that is not the present one is ignored") {
  ProducerNames names;
  names.take_next("a", 10, 2, 1);
  names.take_next("a", 11, 2, 2);
  names.take_next("a", 11, 2, 3);
  fence_all(names, 10, 1);
  fence_all(names, 10, 3);
  CHECK(!names.is_settled(10, 2));
  fence_all(names, 10, 2);
  CHECK(names.is_settled(10, 2));
}

TEST_CASE("after epoch 32,767 a name gets a new id") {
  ProducerNames names;
  kv::MemoryStore store;
  uint64_t use = 0;
  names.take_next("a", 10, 1, ++use);
  for (uint32_t epoch = 1; epoch <= 32767; ++epoch) {
    REQUIRE(same(names.take_next("a", 11, 1, ++use), 10, static_cast<uint16_t>(epoch), false));
  }
  CHECK(!names.is_settled(10, 32767));
  checkpoint(names, store);
  CHECK(same(names.take_next("a", 11, 1, ++use), 11, 0, true));
  CHECK(names.is_settled(11, 0));
  CHECK(names.is_settled(10, 32767));
  CHECK(names.unsettled().empty());
  CHECK(names.size() == 1);
  CHECK(same(names.take_next("a", 12, 1, ++use), 11, 1, false));
  checkpoint(names, store);
  CHECK(pairs_of(store).size() == 1);  // the old id's value is gone
}

TEST_CASE("beyond the bound the name idle longest is forgotten; one that waits for shards last") {
  ProducerNames names(3);
  names.take_next("waits", 1, 2, 1);
  names.take_next("waits", 2, 2, 2);
  names.take_next("b", 2, 2, 3);
  names.take_next("c", 3, 2, 4);
  CHECK(same(names.take_next("d", 4, 2, 5), 4, 0, true));
  CHECK(names.size() == 3);
  CHECK(same(names.take_next("c", 5, 2, 6), 3, 1, false));  // b went
  CHECK(same(names.take_next("b", 5, 2, 7), 5, 0, true));   // and now d
  // All that are left wait but the last: a new name never pushes itself out.
  names.take_next("b", 6, 2, 8);
  CHECK(names.unsettled().size() == 3);
  CHECK(same(names.take_next("e", 6, 2, 9), 6, 0, true));
  CHECK(names.size() == 3);
  CHECK(names.is_settled(1, 1));  // nothing is known of it
  CHECK(same(names.take_next("e", 7, 2, 10), 6, 1, false));
  // Confirmed by all, it is the first to go again.
  fence_all(names, 3, 1);
  names.take_next("f", 7, 2, 11);
  CHECK(same(names.take_next("b", 8, 2, 12), 5, 2, false));
  CHECK(same(names.take_next("c", 8, 2, 13), 8, 0, true));
}

TEST_CASE("a checkpoint gives back what was there, names of the greatest length too") {
  ProducerNames names;
  kv::MemoryStore store;
  const std::string longest(2 * limits::kTxnTextBytesMax + 1, 'x');
  names.take_next(longest, 1, 2, 1);
  for (uint64_t i = 2; i < 50; ++i) {
    names.take_next("name " + std::to_string(i % 20), i, 2, i);
  }
  checkpoint(names, store);
  fence_all(names, 3, 2);
  names.fenced(2, 2, ShardId{1});
  checkpoint(names, store);
  ProducerNames loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.size() == names.size());
  CHECK(loaded.hash() == names.hash());
  CHECK(loaded.unsettled().size() == names.unsettled().size());
  CHECK(!loaded.is_settled(2, 2));
  CHECK(loaded.is_settled(3, 2));
  kv::WriteBatch nothing_new;
  loaded.freeze(nothing_new);
  CHECK(nothing_new.empty());
  CHECK(same(loaded.take_next(longest, 60, 2, 60), 1, 1, false));
}

TEST_CASE("the hash does not depend on the order of changes") {
  ProducerNames one;
  ProducerNames other;
  one.take_next("a", 1, 2, 1);
  one.take_next("b", 2, 2, 2);
  one.take_next("b", 3, 2, 3);
  one.take_next("a", 3, 2, 4);
  one.fenced(1, 1, ShardId{1});
  one.fenced(2, 1, ShardId{0});
  other.take_next("b", 2, 2, 1);
  other.take_next("b", 3, 2, 3);
  other.fenced(2, 1, ShardId{0});
  other.take_next("a", 1, 2, 2);
  other.take_next("a", 3, 2, 4);
  CHECK(one.hash() != other.hash());
  other.fenced(1, 1, ShardId{1});
  CHECK(one.hash() == other.hash());
}

TEST_CASE("what a failed commit had is in the next one, removals too") {
  ProducerNames names(1);
  kv::MemoryStore store;
  names.take_next("a", 1, 2, 1);
  checkpoint(names, store);
  names.take_next("b", 2, 2, 2);
  fail_checkpoint(names);
  names.take_next("b", 3, 2, 3);
  checkpoint(names, store);
  CHECK(pairs_of(store).size() == 1);
  ProducerNames loaded;
  REQUIRE(load(loaded, store).ok());
  CHECK(loaded.hash() == names.hash());
}

TEST_CASE("a damaged name is refused") {
  ProducerNames names;
  names.take_next("a", 1, 2, 1);
  names.take_next("a", 2, 2, 2);
  testing::check_damage_is_noticed(names);
}

TEST_CASE("a name that two ids have is refused") {
  kv::MemoryStore store;
  for (const uint64_t producer : {1u, 5u}) {
    ProducerNames names;
    names.take_next("a", producer, 2, producer);
    checkpoint(names, store);
  }
  ProducerNames loaded;
  CHECK(load(loaded, store).code() == ErrorCode::kCorrupted);
}

}  // namespace
}  // namespace tidemark::meta
