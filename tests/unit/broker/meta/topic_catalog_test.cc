#include "broker/meta/topic_catalog.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark::meta {
namespace {

std::vector<ShardId> shards(std::initializer_list<uint16_t> numbers) {
  std::vector<ShardId> ids;
  for (const uint16_t number : numbers) {
    ids.emplace_back(number);
  }
  return ids;
}

void checkpoint(TopicCatalog& catalog, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  catalog.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  catalog.commit_done();
}

TopicCatalog reload(kv::MemoryStore& store, TopicId next_id) {
  TopicCatalog catalog;
  catalog.load_next_id(next_id);
  const auto view = std::move(store.read()).value();
  auto pair = view->seek("T").value();
  while (pair.has_value()) {
    REQUIRE(
        catalog.load(TopicId{load_be<uint32_t>(as_bytes(pair->key).data() + 1)}, pair->value).ok());
    pair = view->next().value();
  }
  return catalog;
}

TEST_CASE(
    "a topic opens, becomes ready when all shards confirmed, and is gone when all dropped it") {
  TopicCatalog catalog;
  const TopicOutcome made = catalog.create("t", {}, shards({0, 1, 1}), 5);
  CHECK(made.error == ErrorCode::kOk);
  CHECK(made.version == 1);
  CHECK(catalog.find("t")->state == TopicState::kOpening);
  catalog.progress(made.id, 1, ShardId{0});
  CHECK(catalog.find("t")->state == TopicState::kOpening);
  catalog.progress(made.id, 2, ShardId{1});  // of a version that is not the present one
  catalog.progress(made.id, 1, ShardId{7});  // of a shard that has nothing of it
  CHECK(catalog.find("t")->state == TopicState::kOpening);
  catalog.progress(made.id, 1, ShardId{1});
  CHECK(catalog.find("t")->state == TopicState::kReady);

  CHECK(catalog.remove(made.id).version == 2);
  CHECK(catalog.find("t") == nullptr);
  CHECK(catalog.find(made.id)->state == TopicState::kDropping);
  CHECK(catalog.remove(made.id).error == ErrorCode::kUnknownTopic);
  CHECK(catalog.alter(made.id, {}, shards({0, 1, 1})).error == ErrorCode::kUnknownTopic);
  // The name is free at once, the id is not used again.
  const TopicOutcome second = catalog.create("t", {}, shards({0}), 6);
  CHECK(second.error == ErrorCode::kOk);
  CHECK(second.id != made.id);
  catalog.progress(made.id, 1, ShardId{0});  // late, of the opening
  catalog.progress(made.id, 2, ShardId{0});
  CHECK(catalog.find(made.id) != nullptr);
  catalog.progress(made.id, 2, ShardId{1});
  CHECK(catalog.find(made.id) == nullptr);
  CHECK(catalog.find("t")->id == second.id);
}

TEST_CASE("alter may add partitions and nothing else to the placement") {
  TopicCatalog catalog;
  const TopicId id = catalog.create("t", {}, shards({0, 1}), 5).id;
  CHECK(catalog.create("t", {}, shards({0}), 5).error == ErrorCode::kAlreadyExists);
  CHECK(catalog.alter(id, {}, shards({0})).error == ErrorCode::kConflict);
  CHECK(catalog.alter(id, {}, shards({1, 0})).error == ErrorCode::kConflict);
  CHECK(catalog.alter(TopicId{99}, {}, shards({0})).error == ErrorCode::kUnknownTopic);
  const TopicOutcome grown = catalog.alter(id, {60'000, -1}, shards({0, 1, 2}));
  CHECK(grown.error == ErrorCode::kOk);
  CHECK(grown.version == 2);
  CHECK(catalog.find(id)->unconfirmed.size() == 3);
  CHECK(catalog.find(id)->config.retention_ms == 60'000);
  CHECK(catalog.find(id)->partitions_on(ShardId{2}) == std::vector<uint32_t>{2});
}

TEST_CASE("new partitions go to the shards that have the fewest") {
  TopicCatalog catalog;
  (void)catalog.create("t", {}, shards({0, 0, 1}), 5);
  CHECK(catalog.place(4, 3, {}) == shards({2, 1, 0, 2}));
}

TEST_CASE(
    "a topic with as many partitions as shards is on every shard, whatever the others are on") {
  TopicCatalog catalog;
  (void)catalog.create("t", {}, shards({0, 0, 0, 0, 0, 1, 1}), 5);
  CHECK(catalog.place(3, 3, {}) == shards({2, 1, 0}));
  CHECK(catalog.place(2, 3, shards({2})) == shards({1, 0}));
}

TEST_CASE("a reloaded catalog equals the one that was never stored, at any point") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    TopicCatalog straight;
    TopicCatalog restarted;
    kv::MemoryStore store;
    for (int step = 0; step < 200; ++step) {
      const std::string name = "topic-" + std::to_string(random.below(6));
      const TopicId id{static_cast<uint32_t>(random.between(1, straight.next_id().value()))};
      const uint64_t version = random.between(1, 4);
      const ShardId shard{static_cast<uint16_t>(random.below(3))};
      const uint64_t choice = random.below(6);
      TopicConfig config{static_cast<int64_t>(random.below(100)), -1};
      config.delays.pending_max = static_cast<int64_t>(random.below(3));
      for (TopicCatalog* catalog : {&straight, &restarted}) {
        if (choice == 0) {
          (void)catalog->create(name, config, shards({0, 1, 2}), step);
        } else if (choice == 1) {
          (void)catalog->remove(id);
        } else if (choice == 2) {
          (void)catalog->alter(id, config, shards({0, 1, 2}));
        } else {
          catalog->progress(id, version, shard);
        }
      }
      if (random.chance(1, 20)) {
        kv::WriteBatch lost;
        restarted.freeze(lost);
        restarted.commit_failed();
      }
      if (random.chance(1, 10)) {
        checkpoint(restarted, store);
        restarted = reload(store, restarted.next_id());
      }
      REQUIRE(restarted.hash() == straight.hash());
      REQUIRE(restarted.size() == straight.size());
    }
  }
}

TEST_CASE("what a topic asks of delayed messages survives a checkpoint") {
  TopicCatalog catalog;
  TopicConfig config{60'000, -1};
  config.delays = {10, 2000, partition::LatePolicy::kSkip, 3000, TopicId{4}};
  const TopicId id = catalog.create("t", config, shards({0}), 5).id;
  kv::MemoryStore store;
  checkpoint(catalog, store);
  const TopicCatalog loaded = reload(store, catalog.next_id());
  CHECK(loaded.find(id)->config.delays == config.delays);
  CHECK(loaded.hash() == catalog.hash());
}

TEST_CASE("what a topic asks of queue mode survives a checkpoint") {
  TopicCatalog catalog;
  TopicConfig config{60'000, -1};
  config.queue = {{1, 2, 3}, 3, 150, 70'000, 9, TopicId{4}, 80'000, 90'000};
  const TopicId id = catalog.create("t", config, shards({0}), 5).id;
  const uint64_t hash = catalog.hash();
  kv::MemoryStore store;
  checkpoint(catalog, store);
  const TopicCatalog loaded = reload(store, catalog.next_id());
  CHECK(loaded.find(id)->config.queue == config.queue);
  CHECK(loaded.hash() == hash);
  config.queue.dedupe_window_ms = -1;
  (void)catalog.alter(id, config, shards({0}));
  CHECK(catalog.find(id)->config.queue.dedupe_window_ms == -1);
}

// The value of a topic as releases before delayed messages wrote it, `encoding` 1; or, with
// `delays`, before queue mode, `encoding` 2.
std::string old_value(uint8_t encoding, bool delays = false) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(encoding);
  writer.sized_text("orders");
  writer.le(static_cast<uint8_t>(TopicState::kOpening));
  writer.le(uint64_t{7});      // version
  writer.le(int64_t{1'234});   // created
  writer.le(int64_t{60'000});  // retention ms, bytes
  writer.le(int64_t{1'000'000});
  if (delays) {
    writer.le(int64_t{10});  // pending, bytes
    writer.le(int64_t{2'000});
    writer.le(uint8_t{2});  // late policy, ms, topic
    writer.le(int64_t{3'000});
    writer.le(uint32_t{4});
  }
  writer.varint(2);  // shards
  writer.le(uint16_t{0});
  writer.le(uint16_t{1});
  writer.varint(1);  // unconfirmed
  writer.le(uint16_t{1});
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

TEST_CASE("a topic stored before there were delayed messages is read") {
  TopicCatalog catalog;
  REQUIRE(catalog.load(TopicId{3}, old_value(1)).ok());
  const Topic& topic = *catalog.find("orders");
  CHECK(topic.id == TopicId{3});
  CHECK(topic.version == 7);
  CHECK(topic.created_ms == 1'234);
  CHECK(topic.config.retention_ms == 60'000);
  CHECK(topic.config.retention_bytes == 1'000'000);
  CHECK(topic.config.delays == partition::DelayConfig());
  CHECK(topic.shards == shards({0, 1}));
  CHECK(topic.unconfirmed == std::set<ShardId>{ShardId{1}});
  for (const uint8_t encoding : {uint8_t{0}, uint8_t{2}, uint8_t{3}, uint8_t{255}}) {
    CAPTURE(encoding);
    CHECK(TopicCatalog().load(TopicId{3}, old_value(encoding)).code() == ErrorCode::kCorrupted);
  }
}

TEST_CASE("a topic stored before there was queue mode is read") {
  TopicCatalog catalog;
  REQUIRE(catalog.load(TopicId{3}, old_value(2, true)).ok());
  const Topic& topic = *catalog.find("orders");
  CHECK(topic.config.delays ==
        partition::DelayConfig{10, 2'000, partition::LatePolicy::kDeadLetter, 3'000, TopicId{4}});
  CHECK(topic.config.queue == partition::QueueConfig());
  CHECK(topic.shards == shards({0, 1}));
  CHECK(topic.unconfirmed == std::set<ShardId>{ShardId{1}});
  for (const uint8_t encoding : {uint8_t{1}, uint8_t{3}, uint8_t{4}}) {
    CAPTURE(encoding);
    CHECK(TopicCatalog().load(TopicId{3}, old_value(encoding, true)).code() ==
          ErrorCode::kCorrupted);
  }
}

TEST_CASE("a damaged topic is refused") {
  TopicCatalog catalog;
  (void)catalog.create("t", {}, shards({0, 1}), 5);
  kv::WriteBatch batch;
  catalog.freeze(batch);
  const std::string good = batch.operations().front().value;
  TopicCatalog loaded;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    CHECK(loaded.load(TopicId{1}, bad).code() == ErrorCode::kCorrupted);
    CHECK(loaded.load(TopicId{1}, good.substr(0, i)).code() == ErrorCode::kCorrupted);
  }
  CHECK(loaded.load(TopicId{1}, good).ok());
}

TEST_CASE("a list of all topics fits in one frame: partitions of the cluster are bounded") {
  TopicCatalog catalog;
  const std::vector<ShardId> many(limits::kPartitionsPerTopicMax, ShardId{0});
  size_t made = 0;
  while (made + many.size() <= limits::kPartitionsMax) {
    REQUIRE(catalog.create("t" + std::to_string(made), {}, many, 0).error == ErrorCode::kOk);
    made += many.size();
  }
  CHECK(catalog.create("more", {}, many, 0).error == ErrorCode::kLimitExceeded);
  const TopicOutcome last = catalog.create(
      "rest", {}, std::vector<ShardId>(limits::kPartitionsMax - made, ShardId{0}), 0);
  CHECK(last.error == ErrorCode::kOk);
  CHECK(catalog.partition_count() == limits::kPartitionsMax);
  const std::vector<ShardId> grown(limits::kPartitionsMax - made + 1, ShardId{0});
  CHECK(catalog.alter(last.id, {}, grown).error == ErrorCode::kLimitExceeded);
}

}  // namespace
}  // namespace tidemark::meta
