#include "broker/delay/kv_slot_store.h"

#include <utility>

#include "broker/partition/store_keys.h"
#include "log/base/check.h"
#include "log/base/coding.h"

namespace tidemark::delay {

namespace keys = partition::keys;
using timerwheel::SlotId;

namespace {

std::string slot_prefix(SlotId slot) {
  return "W" + std::string(1, static_cast<char>(slot.level)) + keys::number64(slot.number);
}

}  // namespace

std::string encode_slot_key(const SlotKey& key) {
  return slot_prefix(key.slot) + keys::number64(key.sequence) + keys::number32(key.entries);
}

SlotKey decode_slot_key(std::string_view key) {
  TIDEMARK_CHECK(key.size() == kSlotKeyBytes && key[0] == 'W');
  const uint8_t* const at = as_bytes(key).data();
  return {
      {at[1], load_be<uint64_t>(at + 2)}, load_be<uint64_t>(at + 10), load_be<uint32_t>(at + 18)};
}

timerwheel::Failure KvSlotStore::read(SlotId slot, const Visit& visit) {
  const std::string prefix = slot_prefix(slot);
  auto pair = view_.seek(prefix);
  while (pair.ok() && pair->has_value()) {
    const kv::ReadView::Pair& found = **pair;
    if (found.key.size() != kSlotKeyBytes || found.key.substr(0, prefix.size()) != prefix ||
        !visit(decode_slot_key(found.key).sequence, found.value)) {
      break;
    }
    pair = view_.next();
  }
  if (!pair.ok()) {
    return pair.error().to_string();
  }
  return std::nullopt;
}

void KvSlotStore::append(SlotId slot, uint64_t sequence, uint32_t entries, std::string chunk) {
  batch_->put(encode_slot_key({slot, sequence, entries}), std::move(chunk));
}

void KvSlotStore::drop(SlotId slot, uint64_t sequence) {
  batch_->remove_range(slot_prefix(slot), slot_prefix(slot) + keys::number64(sequence + 1));
}

}  // namespace tidemark::delay
