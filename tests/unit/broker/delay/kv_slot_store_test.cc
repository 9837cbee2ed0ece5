#include "broker/delay/kv_slot_store.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "log/base/random.h"

namespace tidemark::delay {
namespace {

using timerwheel::SlotId;
using Chunks = std::vector<std::pair<uint64_t, std::string>>;

// One transaction of `work`.
template <typename Work>
void commit(kv::MemoryStore& store, Work work) {
  kv::WriteBatch batch;
  {
    const auto view = std::move(store.read()).value();
    KvSlotStore slots(*view, &batch);
    work(slots);
  }
  REQUIRE(store.commit(batch).ok());
}

Chunks read(kv::MemoryStore& store, SlotId slot, size_t limit = SIZE_MAX) {
  const auto view = std::move(store.read()).value();
  KvSlotStore slots(*view, nullptr);
  Chunks chunks;
  REQUIRE_FALSE(slots
                    .read(slot,
                          [&](uint64_t sequence, std::string_view chunk) {
                            chunks.emplace_back(sequence, chunk);
                            return chunks.size() < limit;
                          })
                    .has_value());
  return chunks;
}

TEST_CASE("slot keys: bytes as the format describes them, and back") {
  const SlotKey key{{3, 0x0102030405060708}, 0x1112131415161718, 0x21222324};
  const std::string bytes = encode_slot_key(key);
  CHECK(bytes == std::string("W\x03\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x15\x16\x17\x18"
                             "\x21\x22\x23\x24"));
  CHECK(bytes.size() == kSlotKeyBytes);
  const SlotKey back = decode_slot_key(bytes);
  CHECK(back.slot == key.slot);
  CHECK(back.sequence == key.sequence);
  CHECK(back.entries == key.entries);
}

TEST_CASE("slots: chunks come back in the order of their sequences, each slot by itself") {
  kv::MemoryStore store;
  const SlotId slot{2, 7};
  commit(store, [&](KvSlotStore& slots) {
    slots.append(slot, 2, 1, "b");
    slots.append({2, 8}, 4, 1, "other number");
    slots.append({1, 7}, 5, 1, "other level");
    slots.append(slot, 6, 3, "c");
  });
  commit(store, [&](KvSlotStore& slots) { slots.append(slot, 256, 2, std::string(3, '\0')); });
  kv::WriteBatch around;
  around.put("V", "head");
  around.put("X", "behind");
  REQUIRE(store.commit(around).ok());
  CHECK(read(store, slot) == Chunks{{2, "b"}, {6, "c"}, {256, std::string(3, '\0')}});
  CHECK(read(store, {2, 8}) == Chunks{{4, "other number"}});
  CHECK(read(store, {1, 7}) == Chunks{{5, "other level"}});
  CHECK(read(store, {4, UINT64_MAX}).empty());
  CHECK(read(store, slot, 2).size() == 2);  // a visit that has enough ends the walk
}

TEST_CASE("slots: a read sees what was committed before, not what is being written") {
  kv::MemoryStore store;
  const SlotId slot{1, 1};
  commit(store, [&](KvSlotStore& slots) {
    slots.append(slot, 1, 1, "a");
    size_t seen = 0;
    REQUIRE_FALSE(slots.read(slot, [&](uint64_t, std::string_view) { return ++seen > 0; }));
    CHECK(seen == 0);
  });
  CHECK(read(store, slot).size() == 1);
}

TEST_CASE("slots: a drop takes what is up to a sequence, and what is written behind it stays") {
  kv::MemoryStore store;
  const SlotId slot{1, 1};
  commit(store, [&](KvSlotStore& slots) {
    for (uint64_t sequence = 1; sequence <= 5; ++sequence) {
      slots.append(slot, sequence, 1, std::to_string(sequence));
      slots.append({1, 2}, sequence, 1, "neighbour");
    }
  });
  commit(store, [&](KvSlotStore& slots) {
    slots.drop(slot, 3);
    slots.append(slot, 6, 1, "6");
  });
  CHECK(read(store, slot) == Chunks{{4, "4"}, {5, "5"}, {6, "6"}});
  CHECK(read(store, {1, 2}).size() == 5);
  commit(store, [&](KvSlotStore& slots) { slots.drop(slot, UINT64_MAX - 1); });
  CHECK(read(store, slot).empty());
  commit(store, [&](KvSlotStore& slots) { slots.drop({0, 0}, 9); });  // nothing there
  CHECK(read(store, {1, 2}).size() == 5);
}

TEST_CASE("slots: equal to a map of chunks under random work") {
  Random random(7);
  kv::MemoryStore store;
  std::map<SlotId, std::map<uint64_t, std::string>> model;
  uint64_t sequence = 0;
  for (int step = 0; step < 300; ++step) {
    commit(store, [&](KvSlotStore& slots) {
      for (uint64_t i = random.between(1, 4); i > 0; --i) {
        const SlotId slot{static_cast<uint8_t>(random.below(3)), random.below(3)};
        if (random.chance(1, 4)) {
          const uint64_t until = random.below(sequence + 1);
          slots.drop(slot, until);
          model[slot].erase(model[slot].begin(), model[slot].upper_bound(until));
          continue;
        }
        ++sequence;
        slots.append(slot, sequence, 1, std::to_string(sequence));
        model[slot][sequence] = std::to_string(sequence);
      }
    });
    for (const auto& [slot, chunks] : model) {
      REQUIRE(read(store, slot) == Chunks(chunks.begin(), chunks.end()));
    }
  }
}

}  // namespace
}  // namespace tidemark::delay
