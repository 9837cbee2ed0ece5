#include "broker/delay/delay_states.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "broker/partition/store_keys.h"
#include "log/base/coding.h"
#include "log/base/random.h"

namespace tidemark::delay {
namespace {

constexpr uint64_t kPerChunk = DelayStates::kIdsPerChunk;

constexpr DelayState kEnded[] = {DelayState::kDelivered, DelayState::kCancelled};

void checkpoint(DelayStates& states, kv::MemoryStore& store) {
  kv::WriteBatch batch;
  states.freeze(batch);
  REQUIRE(store.commit(batch).ok());
  states.commit_done();
}

DelayStates reload(kv::MemoryStore& store) {
  DelayStates states;
  const auto view = std::move(store.read()).value();
  auto pair = view->seek("S").value();
  while (pair.has_value() && pair->key[0] == 'S') {
    REQUIRE(states.load(load_be<uint64_t>(as_bytes(pair->key).data() + 1), pair->value).ok());
    pair = view->next().value();
  }
  return states;
}

TEST_CASE("states: an id that was never set is not there, at either end of the range") {
  DelayStates states;
  for (const uint64_t id : {uint64_t{0}, uint64_t{1}, uint64_t{255}, UINT64_MAX}) {
    CHECK(states.get(id) == DelayState::kNone);
  }
  CHECK(states.hash() == 0);
  states.set(UINT64_MAX, DelayState::kPending);
  CHECK(states.get(UINT64_MAX) == DelayState::kPending);
  CHECK(states.get(UINT64_MAX - 1) == DelayState::kNone);
  CHECK(states.chunks() == 1);
}

TEST_CASE("states: as a map would have them, also after checkpoints, failed ones and restarts") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    DelayStates states;
    DelayStates straight;
    kv::MemoryStore store;
    std::map<uint64_t, DelayState> model;
    uint64_t next_id = 1;
    for (int step = 0; step < 3000; ++step) {
      const bool fresh = random.chance(1, 2);
      const uint64_t id = fresh ? next_id++ : random.below(next_id + 5);
      const DelayState state = fresh ? DelayState::kPending : kEnded[random.below(2)];
      if (!fresh && model.find(id) == model.end()) {
        REQUIRE(states.get(id) == DelayState::kNone);
        continue;
      }
      states.set(id, state);
      straight.set(id, state);
      model[id] = state;
      if (random.chance(1, 200)) {
        kv::WriteBatch lost;
        states.freeze(lost);
        states.commit_failed();
      }
      if (random.chance(1, 200)) {
        checkpoint(states, store);
        states = reload(store);
      }
      REQUIRE(states.hash() == straight.hash());
    }
    for (uint64_t id = 0; id < next_id + 300; ++id) {
      const auto it = model.find(id);
      REQUIRE(states.get(id) == (it == model.end() ? DelayState::kNone : it->second));
    }
  }
}

TEST_CASE("states: the hash depends on the states alone, not on how they came about") {
  DelayStates one;
  DelayStates other;
  for (uint64_t id = 1; id <= 1000; ++id) {
    one.set(id, id % 3 == 0 ? DelayState::kDelivered : DelayState::kPending);
  }
  for (uint64_t id = 1000; id >= 1; --id) {
    other.set(id, DelayState::kPending);
  }
  CHECK(one.hash() != other.hash());
  for (uint64_t id = 3; id <= 1000; id += 3) {
    other.set(id, DelayState::kCancelled);
    CHECK(one.hash() != other.hash());
    other.set(id, DelayState::kDelivered);
  }
  CHECK(one.hash() == other.hash());
}

TEST_CASE("states: a freeze writes what changed since the last one that was committed") {
  DelayStates states;
  states.set(1, DelayState::kPending);
  states.set(5 * kPerChunk, DelayState::kPending);
  kv::WriteBatch first;
  states.freeze(first);
  CHECK(first.operations().size() == 2);
  states.set(9 * kPerChunk, DelayState::kPending);  // while the commit is under way
  states.commit_failed();
  kv::WriteBatch second;
  states.freeze(second);
  CHECK(second.operations().size() == 3);
  states.commit_done();
  kv::WriteBatch third;
  states.freeze(third);
  CHECK(third.empty());
}

// Ends one message in each of `count` chunks from `first` on.
void end_chunks(DelayStates& states, uint64_t first, uint64_t count) {
  for (uint64_t chunk = first; chunk < first + count; ++chunk) {
    states.set(chunk * kPerChunk, DelayState::kPending);
    states.set(chunk * kPerChunk, DelayState::kDelivered);
  }
}

TEST_CASE("states: the lowest ended chunks are forgotten, those with something pending never") {
  DelayStates states;
  states.set(7, DelayState::kPending);  // chunk 0 stays
  states.set(8, DelayState::kCancelled);
  end_chunks(states, 1, DelayStates::kEndedChunksMax);
  CHECK(states.chunks() == DelayStates::kEndedChunksMax + 1);
  kv::MemoryStore store;
  checkpoint(states, store);
  end_chunks(states, DelayStates::kEndedChunksMax + 1, 2);
  CHECK(states.chunks() == DelayStates::kEndedChunksMax + 1);
  CHECK(states.get(7) == DelayState::kPending);
  CHECK(states.get(8) == DelayState::kCancelled);
  CHECK(states.get(kPerChunk) == DelayState::kNone);
  CHECK(states.get(2 * kPerChunk) == DelayState::kNone);
  CHECK(states.get(3 * kPerChunk) == DelayState::kDelivered);
  states.set(7, DelayState::kDelivered);  // now it is the lowest
  CHECK(states.get(7) == DelayState::kNone);
  // The store forgets too.
  checkpoint(states, store);
  DelayStates loaded = reload(store);
  CHECK(loaded.chunks() == DelayStates::kEndedChunksMax);
  CHECK(loaded.hash() == states.hash());
}

TEST_CASE("states: what is forgotten and set again is forgotten again, restarted or not") {
  DelayStates states;
  end_chunks(states, 1, DelayStates::kEndedChunksMax + 1);
  REQUIRE(states.get(kPerChunk) == DelayState::kNone);
  // A message of a partition that is gone ends twice: delivered, then skipped.
  states.set(kPerChunk, DelayState::kCancelled);
  kv::MemoryStore store;
  checkpoint(states, store);
  DelayStates loaded = reload(store);
  CHECK(loaded.hash() == states.hash());
  for (DelayStates* both : {&states, &loaded}) {
    end_chunks(*both, 2 * DelayStates::kEndedChunksMax, 1);
  }
  CHECK(loaded.hash() == states.hash());
  CHECK(loaded.chunks() == states.chunks());
  CHECK(states.chunks() == DelayStates::kEndedChunksMax);
}

TEST_CASE("states: a damaged chunk, or one under the number of another, is refused") {
  DelayStates states;
  states.set(1, DelayState::kPending);
  states.set(2, DelayState::kDelivered);
  kv::WriteBatch batch;
  states.freeze(batch);
  REQUIRE(batch.operations().size() == 1);
  CHECK(batch.operations()[0].key == "S" + partition::keys::number64(0));
  const std::string good = batch.operations()[0].value;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    CHECK(DelayStates().load(0, bad).code() == ErrorCode::kCorrupted);
    CHECK(DelayStates().load(0, good.substr(0, i)).code() == ErrorCode::kCorrupted);
  }
  CHECK(DelayStates().load(1, good).code() == ErrorCode::kCorrupted);
  CHECK(DelayStates().load(0, good).ok());
}

}  // namespace
}  // namespace tidemark::delay
