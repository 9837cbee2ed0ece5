#include "broker/delay/delay_scan.h"

#include <algorithm>

#include "broker/delay/delay_tag.h"
#include "broker/delay/kv_slot_store.h"
#include "timerwheel/packed_chunk.h"

namespace tidemark::delay {

using timerwheel::Entry;
using timerwheel::Failure;

DelayScan::DelayScan(const timerwheel::TieredWheel& wheel, const ScanQuery& query)
    : query_(query), slots_(wheel.stored_slots(query.after.due, query.to)) {
  const auto visit = [this](const Entry& entry) {
    if (wanted(entry)) {
      found_.push_back(entry);
      if (found_.size() > 2 * query_.limit + 1024) {
        reduce();
      }
    }
  };
  wheel.visit_memory(visit);
}

bool DelayScan::wanted(const Entry& entry) const {
  const DelayTag tag = DelayTag::unpack(entry.tag);
  return tag.partition.topic == query_.topic &&
         (!query_.partition.has_value() || tag.partition.index == *query_.partition) &&
         entry.key() > query_.after && entry.due <= query_.to;
}

void DelayScan::reduce() {
  std::sort(found_.begin(), found_.end(),
            [](const Entry& a, const Entry& b) { return a.key() < b.key(); });
  found_.erase(std::unique(found_.begin(), found_.end(),
                           [](const Entry& a, const Entry& b) { return a.key() == b.key(); }),
               found_.end());
  if (found_.size() > query_.limit) {
    found_.resize(query_.limit);
    more_ = true;
  }
}

Status DelayScan::run(kv::ReadView& view) {
  KvSlotStore store(view, nullptr);
  std::vector<Entry> chunk_entries;
  Failure damage;
  reduce();
  for (const timerwheel::SlotId slot : slots_) {
    // Slots come in the order of their begin: what lies behind a full page does not matter.
    if (found_.size() == query_.limit && slot.begin() > found_.back().due) {
      more_ = true;
      break;
    }
    const Failure failure = store.read(slot, [&](uint64_t, std::string_view chunk) {
      chunk_entries.clear();
      damage = timerwheel::unpack_chunk(chunk, chunk_entries);
      for (const Entry& entry : chunk_entries) {
        if (wanted(entry)) {
          found_.push_back(entry);
        }
      }
      if (found_.size() > 2 * query_.limit + 1024) {
        reduce();
      }
      return !damage.has_value();
    });
    if (failure.has_value() || damage.has_value()) {
      return Status(ErrorCode::kCorrupted, failure ? *failure : *damage);
    }
    reduce();
  }
  return Status();
}

}  // namespace tidemark::delay
