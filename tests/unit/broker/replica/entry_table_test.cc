#include "broker/replica/entry_table.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::replica {
namespace {

using log::EntryKind;

SharedBytes bytes_of(uint64_t seed, size_t size) {
  Buffer buffer(size);
  std::fill_n(buffer.data(), size, static_cast<uint8_t>(seed));
  return SharedBytes(std::move(buffer));
}

EntrySlot slot_of(LogIndex index, EntryKind kind, size_t payload_bytes) {
  return {Term(index.value() / 10 + 1), LogPosition(index.value() * 1000),
          static_cast<uint32_t>(payload_bytes), kind};
}

// What the table should hold of one entry.
struct ModelEntry {
  EntrySlot slot;
  SharedBytes payload;
  bool held = false;
};

struct Model {
  LogIndex first;
  std::vector<ModelEntry> entries;

  [[nodiscard]] LogIndex end() const { return first + entries.size(); }
};

void check_same(const EntryTable& table, const Model& model) {
  REQUIRE(table.first() == model.first);
  REQUIRE(table.end() == model.end());
  CHECK(table.find(LogIndex(model.first.value() - 1)) == nullptr);
  CHECK(table.find(model.end()) == nullptr);
  size_t held_bytes = 0;
  for (size_t i = 0; i < model.entries.size(); ++i) {
    const ModelEntry& expected = model.entries[i];
    const EntrySlot* slot = table.find(model.first + i);
    REQUIRE(slot != nullptr);
    CHECK(slot->term == expected.slot.term);
    CHECK(slot->position == expected.slot.position);
    CHECK(slot->kind == expected.slot.kind);
    const SharedBytes* payload = table.payload(model.first + i);
    REQUIRE((payload != nullptr) == expected.held);
    if (payload != nullptr) {
      CHECK(payload->data() == expected.payload.data());
      held_bytes += payload->size();
    }
  }
  CHECK(table.payload_bytes() == held_bytes);
}

TEST_CASE("the table agrees with a model") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Model model{LogIndex(random.between(1, 50)), {}};
    EntryTable table(model.first);
    const auto append = [&](bool stored) {
      const EntryKind kind = random.chance(1, 6) ? EntryKind::kBarrier
                                                 : (random.chance(1, 6) ? EntryKind::kConfiguration
                                                                        : EntryKind::kCommand);
      const size_t size = random.below(100);
      const EntrySlot slot = slot_of(model.end(), kind, size);
      if (stored && kind == EntryKind::kCommand) {
        table.append_stored(slot);
        model.entries.push_back({slot, {}, false});
      } else {
        SharedBytes payload = bytes_of(random.next(), size);
        table.append(slot, payload);
        model.entries.push_back({slot, payload, true});
      }
    };
    for (uint64_t i = random.below(30); i > 0; --i) {
      append(true);
    }
    LogIndex released = LogIndex(model.end().value() - 1);
    table.release_commands(released);
    for (int step = 0; step < 200; ++step) {
      switch (random.below(8)) {
        case 0:
          if (model.end() > released + 1) {
            const LogIndex from(random.between(released.value() + 1, model.end().value() - 1));
            table.truncate(from);
            model.entries.resize(from - model.first);
          }
          break;
        case 1:
          released = std::max(
              released, LogIndex(random.between(model.first.value(), model.end().value()) - 1));
          table.release_commands(released);
          for (ModelEntry& entry : model.entries) {
            if (entry.slot.kind == EntryKind::kCommand &&
                entry.slot.position <= LogPosition(released.value() * 1000)) {
              entry.held = false;
            }
          }
          break;
        case 2: {
          const LogIndex first(random.between(model.first.value(), released.value() + 1));
          table.drop_before(std::min(first, model.end()));
          const LogIndex kept = std::min(first, model.end());
          model.entries.erase(model.entries.begin(),
                              model.entries.begin() + static_cast<ptrdiff_t>(kept - model.first));
          model.first = kept;
          break;
        }
        default:
          append(false);
          break;
      }
      check_same(table, model);
    }
  }
}

TEST_CASE("an empty payload is held like any other") {
  EntryTable table(LogIndex(1));
  table.append(slot_of(LogIndex(1), EntryKind::kCommand, 0), SharedBytes());
  REQUIRE(table.payload(LogIndex(1)) != nullptr);
  table.release_commands(LogIndex(1));
  CHECK(table.payload(LogIndex(1)) == nullptr);
}

TEST_CASE("loaded entries can be cut off and followed by new ones") {
  EntryTable table(LogIndex(5));
  for (uint64_t i = 5; i < 10; ++i) {
    table.append_stored(slot_of(LogIndex(i), EntryKind::kCommand, 8));
  }
  table.truncate(LogIndex(7));
  CHECK(table.end() == LogIndex(7));
  table.append(slot_of(LogIndex(7), EntryKind::kCommand, 3), bytes_of(1, 3));
  CHECK(table.payload(LogIndex(6)) == nullptr);
  REQUIRE(table.payload(LogIndex(7)) != nullptr);
  CHECK(table.payload(LogIndex(7))->size() == 3);
  CHECK(table.find(LogIndex(7))->end() == LogPosition(7000 + 48 + 8));
}

}  // namespace
}  // namespace tidemark::replica
