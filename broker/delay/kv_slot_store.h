// The slots of a timing wheel in a shard's checkpoint store.
//
//   key: "W", level (u8), slot number, sequence, entries (big-endian: u64, u64, u32); value: the
//   chunk
//
// So a walk over the keys alone tells what is stored. Reads see what was committed before; writes
// are gathered in a batch that the caller commits together with the other views.
//
// Thread: one at a time, a worker.
#pragma once

#include <string>
#include <string_view>

#include "broker/kv/key_value_store.h"
#include "timerwheel/slot_store.h"

namespace tidemark::delay {

inline constexpr size_t kSlotKeyBytes = 22;

struct SlotKey {
  timerwheel::SlotId slot;
  uint64_t sequence = 0;
  uint32_t entries = 0;
};

std::string encode_slot_key(const SlotKey& key);
// Requires: a key of kSlotKeyBytes that begins with "W".
SlotKey decode_slot_key(std::string_view key);

class KvSlotStore final : public timerwheel::SlotStore {
 public:
  // Both outlive this. `batch` may be null when nothing is written.
  KvSlotStore(kv::ReadView& view, kv::WriteBatch* batch) : view_(view), batch_(batch) {}

  [[nodiscard]] timerwheel::Failure read(timerwheel::SlotId slot, const Visit& visit) override;
  void append(timerwheel::SlotId slot, uint64_t sequence, uint32_t entries,
              std::string chunk) override;
  void drop(timerwheel::SlotId slot, uint64_t sequence) override;

 private:
  kv::ReadView& view_;
  kv::WriteBatch* batch_;
};

}  // namespace tidemark::delay
