#include "broker/delay/count_table.h"

#include <map>
#include <string>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/store_keys.h"
#include "log/base/random.h"

namespace tidemark::delay {
namespace {

std::string encode(const uint64_t& key) { return "C" + partition::keys::number64(key); }

using Counts = CountTable<uint64_t, encode>;

void checkpoint(Counts& counts, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  counts.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  counts.commit_done();
}

Counts reload(kv::MemoryStore& store) {
  Counts counts;
  const auto view = std::move(store.read()).value();
  auto pair = view->seek("C").value();
  while (pair.has_value()) {
    REQUIRE(counts.load(load_be<uint64_t>(as_bytes(pair->key).data() + 1), pair->value).ok());
    pair = view->next().value();
  }
  return counts;
}

TEST_CASE("counts: what is zero is not there, and never below") {
  Counts counts;
  CHECK(counts.get(1) == 0);
  counts.add(1, 3);
  counts.add(1, 2);
  counts.subtract(1, 4);
  CHECK(counts.get(1) == 1);
  counts.subtract(1, 1);
  CHECK(counts.counts().empty());
  counts.subtract(1, 1);
  CHECK(counts.counts().empty());
  counts.add(2, 3);
  counts.subtract(2, 4);
  CHECK(counts.counts().empty());
}

TEST_CASE("counts: a range goes without its end") {
  Counts counts;
  for (uint64_t key = 1; key <= 6; ++key) {
    counts.add(key, key);
  }
  counts.erase_range(3, 5);
  counts.erase_range(10, 20);
  counts.erase_range(2, 2);
  CHECK(counts.counts() == std::map<uint64_t, uint64_t>{{1, 1}, {2, 2}, {5, 5}, {6, 6}});
}

TEST_CASE("counts: equal to a map, also after checkpoints, failed ones and restarts") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Counts counts;
    std::map<uint64_t, uint64_t> model;
    kv::MemoryStore store;
    for (int step = 0; step < 500; ++step) {
      const uint64_t key = random.below(10);
      const uint64_t count = random.between(1, 5);
      if (random.chance(1, 30)) {
        counts.erase_range(key, key + 2);
        model.erase(key);
        model.erase(key + 1);
      } else if (random.chance(1, 2)) {
        counts.add(key, count);
        model[key] += count;
      } else {
        counts.subtract(key, count);
        const auto it = model.find(key);
        if (it != model.end() && it->second <= count) {
          model.erase(it);
        } else if (it != model.end()) {
          it->second -= count;
        }
      }
      if (random.chance(1, 20)) {
        kv::WriteBatch lost;
        counts.freeze(lost);
        counts.commit_failed();
      }
      if (random.chance(1, 20)) {
        checkpoint(counts, store);
        counts = reload(store);
      }
      REQUIRE(counts.counts() == model);
    }
  }
}

TEST_CASE("counts: a value of the wrong length is refused") {
  Counts counts;
  CHECK(counts.load(1, "1234567").code() == ErrorCode::kCorrupted);
  CHECK(counts.load(1, "123456789").code() == ErrorCode::kCorrupted);
  CHECK(counts.counts().empty());
}

}  // namespace
}  // namespace tidemark::delay
