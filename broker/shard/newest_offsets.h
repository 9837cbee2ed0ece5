// NewestOffsets: the newest offset of each of many keys, which are known by their hashes.
//
// A hash has 128 bits: two of 2^32 keys have the same one with a chance below 2^-64, so no message
// is taken for an older one of another key. Memory: 24 bytes a slot, of which at most three
// quarters are in use. Thread: one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "log/base/checksum.h"
#include "log/base/ids.h"

namespace tidemark::shard {

class NewestOffsets {
 public:
  explicit NewestOffsets(size_t keys_max) : keys_max_(keys_max), slots_(kSlotsMin) {}

  // Whether so many keys, perhaps all of them new, may come in. An empty table takes any number.
  [[nodiscard]] bool has_room_for(size_t keys) const {
    return size_ == 0 || size_ + keys <= keys_max_;
  }

  // Requires: offsets of one key ascend.
  void put(const Hash128& key, Offset offset) {
    if ((size_ + 1) * 4 > slots_.size() * 3) {
      grow();
    }
    Slot& slot = slot_of(key);
    size_ += slot.end == 0 ? 1 : 0;
    slot = {key, offset.value() + 1};
  }

  [[nodiscard]] std::optional<Offset> find(const Hash128& key) const {
    const Slot& slot = const_cast<NewestOffsets*>(this)->slot_of(key);
    return slot.end == 0 ? std::nullopt : std::optional(Offset{slot.end - 1});
  }

  [[nodiscard]] size_t size() const { return size_; }

 private:
  static constexpr size_t kSlotsMin = 1024;  // a power of two, like all sizes

  struct Slot {
    Hash128 key;
    uint64_t end = 0;  // offset + 1; 0: empty
  };

  Slot& slot_of(const Hash128& key) {
    const size_t mask = slots_.size() - 1;
    size_t at = key.low & mask;
    while (slots_[at].end != 0 && slots_[at].key != key) {
      at = (at + 1) & mask;
    }
    return slots_[at];
  }

  void grow() {
    const std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
    for (const Slot& slot : before) {
      if (slot.end != 0) {
        slot_of(slot.key) = slot;
      }
    }
  }

  size_t keys_max_;
  size_t size_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace tidemark::shard
