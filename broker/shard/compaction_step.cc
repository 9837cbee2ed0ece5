#include "broker/shard/compaction_step.h"

#include <utility>

#include "log/format/batch_select.h"
#include "log/format/record_batch.h"
#include "log/format/reference_batch.h"

namespace tidemark::shard {

namespace {

using Fate = CompactionItem::Fate;

// Whether a message of a batch that is old enough, and lies before the end of what was scanned, has
// to go: a later one has its key, or it is a tombstone that is old enough.
bool is_dead(const CompactionRules& rules, const partition::BatchRef& ref,
             const format::RecordView& record) {
  if (!record.has_key) {
    return false;
  }
  const Offset offset = ref.base + record.offset_delta;
  const std::optional<Offset> newest = rules.keys->find(xxh3_128(record.key));
  if (newest.has_value() && *newest > offset) {
    return true;
  }
  // The newest of its key: either the table says so, or it lies before what was scanned and nothing
  // behind that has the key; then the runs before have taken out what is older. Else the scan could
  // not read its batch, and what is older stays in this run.
  const bool covers_nothing = newest.has_value() ? *newest == offset : offset < rules.scanned_from;
  return !record.has_value && covers_nothing && !rules.tombstones_stay &&
         ref.received_ms <= rules.tombstone_before_ms;
}

// References, and batches that cannot be read, stay as they are: nobody knows what is in them.
void keep_unread(CompactionItem& item, CompactionRules& rules) {
  rules.tombstones_stay = true;
  if (item.bytes.has_value() && !format::is_reference(item.bytes->view())) {
    return;
  }
  // One that is damaged, or may be one, holds what it may refer to.
  item.low = std::min(item.low, rules.refers_from);
  if (item.bytes.has_value()) {
    const Result<format::BatchReference> reference = format::read_reference(item.bytes->view());
    item.low = reference.ok() ? std::min(item.ref.position, reference->position) : item.low;
  }
}

void select_item(CompactionItem& item, CompactionRules& rules) {
  item.low = item.ref.position;
  if (!item.bytes.has_value() || format::is_reference(item.bytes->view())) {
    return keep_unread(item, rules);
  }
  const Result<format::BatchHeader> header = format::decode_batch_header(item.bytes->view());
  if (!header.ok()) {
    item.unread = header.error();
    return keep_unread(item, rules);
  }
  const bool moves = item.ref.position < rules.move_below;
  if (moves) {
    item.fate = Fate::kRewritten;
    item.left = *item.bytes;
  }
  if (rules.keys == nullptr || item.ref.base >= rules.scanned_to ||
      item.ref.received_ms > rules.dead_before_ms) {
    return;
  }
  uint32_t dead = 0;
  const auto stays = [&](const format::RecordView& record) {
    const bool goes = is_dead(rules, item.ref, record);
    dead += goes ? 1 : 0;
    return !goes;
  };
  Result<format::Selection> selection =
      format::select_records(item.bytes->view(), stays, format::SelectedCodec::kSame);
  if (!selection.ok()) {
    // Of a codec that is not ours; or what is left is larger than a batch may be.
    rules.keeps_dead = rules.keeps_dead || dead > 0;
    item.unread = dead > 0 ? Status() : selection.status();
    return keep_unread(item, rules);
  }
  if (selection->kept == 0) {
    item.fate = Fate::kDead;
    item.left = {};
  } else if (dead > 0) {
    item.fate = Fate::kRewritten;
    item.left = SharedBytes(std::move(selection->batch));
  }
}

// False: there is no room for its keys.
bool scan_item(CompactionItem& item, NewestOffsets& keys) {
  if (!item.bytes.has_value() || format::is_reference(item.bytes->view())) {
    return true;
  }
  Result<format::BatchReader> reader = format::BatchReader::open(item.bytes->view());
  if (!reader.ok()) {
    item.unread = reader.error();  // what is in it makes nothing older
    return true;
  }
  if (!keys.has_room_for(reader->header().record_count)) {
    return false;
  }
  format::RecordView record;
  while (reader->next(record)) {
    if (record.has_key) {
      keys.put(xxh3_128(record.key), item.ref.base + record.offset_delta);
    }
  }
  item.unread = reader->status();
  return true;
}

}  // namespace

void scan_keys(CompactionBatches& batches) {
  for (CompactionItem& item : batches.items) {
    if (item.look && !scan_item(item, *batches.rules.keys)) {
      return;
    }
    ++batches.scanned;
  }
}

void select_live(CompactionBatches& batches) {
  for (CompactionItem& item : batches.items) {
    if (item.look) {
      select_item(item, batches.rules);
    } else if (!item.ref.is_dead()) {
      item.low = item.ref.position;
    }
  }
}

}  // namespace tidemark::shard
