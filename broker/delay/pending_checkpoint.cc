// PendingDelays and the checkpoint store.
#include <string_view>
#include <utility>

#include "broker/delay/entry_codec.h"
#include "broker/delay/kv_slot_store.h"
#include "broker/delay/pending_delays.h"
#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "log/base/check.h"

namespace tidemark::delay {

namespace keys = partition::keys;
using timerwheel::Entry;
using timerwheel::Key;
using timerwheel::TieredWheel;

namespace {

constexpr uint8_t kVersion = 1;

PartitionId partition_in(std::string_view key) {
  const uint8_t* const at = as_bytes(key).data() + 1;
  return {TopicId{load_be<uint32_t>(at)}, PartitionIndex{load_be<uint32_t>(at + 4)}};
}

std::string keyed_key(const std::pair<PartitionId, std::string>& key) {
  return keys::of('K', key.first) + key.second;
}

std::string moved_key(Key key) { return "L" + keys::number64(key.due) + keys::number64(key.id); }

std::string series_key(uint64_t id) { return "E" + keys::number64(id); }

std::string encode_series(const Series& series) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  put_entry(writer, series.entry);
  writer.le(series.next_due_ms);
  writer.le(static_cast<uint8_t>(series.recurrence.kind));
  writer.le(series.recurrence.every_ms);
  writer.sized_text(series.recurrence.zone);
  writer.sized_text(series.recurrence.cron);
  return partition::seal_value(out, series_key(series.entry.id));
}

// A store that knows of no delayed messages has no head for them, and nothing else about them.
Status check_nothing_stored(kv::ReadView& view) {
  for (const std::string_view letter : {"W", "S", "N", "Y", "B", "X", "K", "L", "R", "E"}) {
    ASSIGN_OR_RETURN(const auto pair, view.seek(letter));
    if (pair.has_value() && pair->key.substr(0, 1) == letter) {
      return partition::damaged_value("delayed messages without a head");
    }
  }
  return Status();
}

}  // namespace

std::string PendingDelays::encode_meta() const {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(wheel_->watermark().due);
  writer.le(wheel_->watermark().id);
  writer.le(wheel_->size());
  writer.le(next_id_);
  writer.le(pending_hash_);
  writer.le(static_cast<uint8_t>(relocated_));
  writer.le(relocated_below_.value());
  return partition::seal_value(out, "V");
}

void PendingDelays::freeze(kv::WriteBatch& batch) {
  batch.put("V", encode_meta());
  states_.freeze(batch);
  partition_counts_.freeze(batch);
  partition_bytes_.freeze(batch);
  buckets_.freeze(batch);
  extents_.freeze(batch);
  freeze_moved(batch);
  frozen_keys_ = std::exchange(dirty_keys_, {});
  for (const auto& key : frozen_keys_) {
    const auto it = keyed_.find(key);
    if (it == keyed_.end()) {
      batch.remove(keyed_key(key));
      continue;
    }
    std::vector<uint8_t> out;
    ByteWriter writer(out);
    put_entry(writer, it->second);
    batch.put(keyed_key(key), partition::seal_value(out, keyed_key(key)));
  }
  frozen_rescheduled_ = std::exchange(dirty_rescheduled_, {});
  for (const LogPosition position : frozen_rescheduled_) {
    const auto it = rescheduled_.find(position);
    const std::string key = "R" + keys::number64(position.value());
    if (it == rescheduled_.end()) {
      batch.remove(key);
      continue;
    }
    std::vector<uint8_t> out;
    ByteWriter writer(out);
    put_entry(writer, it->second);
    batch.put(key, partition::seal_value(out, key));
  }
  frozen_series_ = std::exchange(dirty_series_, {});
  for (const uint64_t id : frozen_series_) {
    const auto it = series_.find(id);
    if (it == series_.end()) {
      batch.remove(series_key(id));
    } else {
      batch.put(series_key(id), encode_series(it->second));
    }
  }
}

void PendingDelays::freeze_moved(kv::WriteBatch& batch) {
  if (!relocated_) {
    return;
  }
  batch.remove_range("L", moved_key(timerwheel::next_key(wheel_->watermark())));
  frozen_moved_ = std::exchange(dirty_moved_, {});
  for (const Key key : frozen_moved_) {
    const auto it = moved_.find(key);
    if (it == moved_.end()) {
      continue;  // delivered in the meantime, and so below the watermark
    }
    std::string value(8, '\0');
    store_le(reinterpret_cast<uint8_t*>(value.data()), it->second.value());
    batch.put(moved_key(key), std::move(value));
  }
}

Status PendingDelays::patch(kv::ReadView& view, std::span<Entry> entries) {
  if (entries.empty()) {
    return Status();
  }
  const std::string last = moved_key(entries.back().key());
  size_t at = 0;
  ASSIGN_OR_RETURN(auto pair, view.seek(moved_key(entries.front().key())));
  while (pair.has_value() && pair->key.substr(0, 1) == "L" && pair->key <= last) {
    if (pair->key.size() != 17 || pair->value.size() != 8) {
      return partition::damaged_value("place of a relocated message");
    }
    const uint8_t* const bytes = as_bytes(pair->key).data();
    const Key key{load_be<uint64_t>(bytes + 1), load_be<uint64_t>(bytes + 9)};
    while (at < entries.size() && entries[at].key() < key) {
      ++at;
    }
    if (at < entries.size() && entries[at].key() == key) {
      entries[at].position = load_le<uint64_t>(as_bytes(pair->value).data());
    }
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return Status();
}

void PendingDelays::commit_done() {
  // What lies behind the horizon gets its position when it is loaded.
  for (auto it = moved_.lower_bound(wheel_->horizon()); it != moved_.end();) {
    it = dirty_moved_.contains(it->first) ? std::next(it) : moved_.erase(it);
  }
  frozen_moved_.clear();
  states_.commit_done();
  partition_counts_.commit_done();
  partition_bytes_.commit_done();
  buckets_.commit_done();
  extents_.commit_done();
  frozen_keys_.clear();
  frozen_series_.clear();
  frozen_rescheduled_.clear();
}

void PendingDelays::commit_failed() {
  dirty_moved_.merge(frozen_moved_);
  frozen_moved_.clear();
  dirty_rescheduled_.merge(frozen_rescheduled_);
  frozen_rescheduled_.clear();
  states_.commit_failed();
  partition_counts_.commit_failed();
  partition_bytes_.commit_failed();
  buckets_.commit_failed();
  extents_.commit_failed();
  dirty_keys_.merge(frozen_keys_);
  frozen_keys_.clear();
  dirty_series_.merge(frozen_series_);
  frozen_series_.clear();
}

Status PendingDelays::load(kv::ReadView& view) {
  ASSIGN_OR_RETURN(const auto head, view.get("V"));
  if (!head.has_value()) {
    return check_nothing_stored(view);
  }
  const auto body = partition::open_value("V", *head);
  if (!body) {
    return partition::damaged_value("head of the delayed messages");
  }
  ByteReader reader(*body);
  const auto version = reader.le<uint8_t>();
  Key watermark;
  watermark.due = reader.le<uint64_t>();
  watermark.id = reader.le<uint64_t>();
  const auto entries = reader.le<uint64_t>();
  next_id_ = reader.le<uint64_t>();
  pending_hash_ = reader.le<uint64_t>();
  relocated_ = reader.le<uint8_t>() != 0;
  relocated_below_ = LogPosition{reader.le<uint64_t>()};
  if (version != kVersion || reader.failed() || reader.remaining() != 0) {
    return partition::damaged_value("head of the delayed messages");
  }
  wheel_ = std::make_unique<TieredWheel>(watermark, options_);
  RETURN_IF_ERROR(partition::for_each_of(view, "W", [this](std::string_view key, std::string_view) {
    // These keys carry no proof of their own.
    if (key.size() != kSlotKeyBytes) {
      return partition::damaged_value("slot of the timing wheel");
    }
    const SlotKey slot = decode_slot_key(key);
    if (slot.slot.level >= timerwheel::kLevels || slot.entries == 0) {
      return partition::damaged_value("slot of the timing wheel");
    }
    wheel_->adopt(slot.slot, slot.sequence, slot.entries);
    return Status();
  }));
  if (entries > wheel_->size()) {
    return partition::damaged_value("slots of the timing wheel: some are missing");
  }
  wheel_->set_size(entries);
  return load_tables(view);
}

Status PendingDelays::load_tables(kv::ReadView& view) {
  RETURN_IF_ERROR(
      partition::for_each_of(view, "S", [this](std::string_view key, std::string_view value) {
        return key.size() == 9 ? states_.load(load_be<uint64_t>(as_bytes(key).data() + 1), value)
                               : partition::damaged_value("states of delayed messages");
      }));
  RETURN_IF_ERROR(
      partition::for_each_of(view, "N", [this](std::string_view key, std::string_view value) {
        return key.size() == 9 ? partition_counts_.load(partition_in(key), value)
                               : partition::damaged_value("a count");
      }));
  RETURN_IF_ERROR(
      partition::for_each_of(view, "Y", [this](std::string_view key, std::string_view value) {
        return key.size() == 9 ? partition_bytes_.load(partition_in(key), value)
                               : partition::damaged_value("a count");
      }));
  RETURN_IF_ERROR(
      partition::for_each_of(view, "B", [this](std::string_view key, std::string_view value) {
        const uint8_t* const at = as_bytes(key).data();
        return key.size() == 13
                   ? buckets_.load({TopicId{load_be<uint32_t>(at + 1)}, load_be<int64_t>(at + 5)},
                                   value)
                   : partition::damaged_value("a count");
      }));
  RETURN_IF_ERROR(
      partition::for_each_of(view, "X", [this](std::string_view key, std::string_view value) {
        return key.size() == 9 ? extents_.load(load_be<uint64_t>(as_bytes(key).data() + 1), value)
                               : partition::damaged_value("a count");
      }));
  RETURN_IF_ERROR(partition::for_each_of(
      view, "K",
      [this](std::string_view key, std::string_view value) { return load_keyed(key, value); }));
  RETURN_IF_ERROR(
      partition::for_each_of(view, "R", [this](std::string_view key, std::string_view value) {
        return load_rescheduled(key, value);
      }));
  return partition::for_each_of(view, "E", [this](std::string_view key, std::string_view value) {
    return load_series(key, value);
  });
}

Status PendingDelays::load_keyed(std::string_view key, std::string_view value) {
  const auto body = partition::open_value(key, value);
  if (!body || key.size() < 10) {
    return partition::damaged_value("key of a delayed message");
  }
  ByteReader reader(*body);
  const Entry entry = get_entry(reader);
  const auto it =
      keyed_.emplace(std::pair{partition_in(key), std::string(key.substr(9))}, entry).first;
  key_of_[entry.id] = it;
  return reader.failed() ? partition::damaged_value("key of a delayed message") : Status();
}

Status PendingDelays::load_rescheduled(std::string_view key, std::string_view value) {
  const auto body = partition::open_value(key, value);
  if (!body || key.size() != 9) {
    return partition::damaged_value("rescheduled message");
  }
  ByteReader reader(*body);
  const Entry entry = get_entry(reader);
  const LogPosition position{load_be<uint64_t>(as_bytes(key).data() + 1)};
  rescheduled_[position] = entry;
  rescheduled_at_[entry.id] = position;
  return reader.failed() ? partition::damaged_value("rescheduled message") : Status();
}

Status PendingDelays::load_series(std::string_view key, std::string_view value) {
  const auto body = partition::open_value(key, value);
  if (!body || key.size() != 9) {
    return partition::damaged_value("recurring message");
  }
  ByteReader reader(*body);
  const auto version = reader.le<uint8_t>();
  Series series;
  series.entry = get_entry(reader);
  series.next_due_ms = reader.le<int64_t>();
  series.recurrence.kind = static_cast<Recurrence::Kind>(reader.le<uint8_t>());
  series.recurrence.every_ms = reader.le<int64_t>();
  series.recurrence.zone = reader.sized_text();
  series.recurrence.cron = reader.sized_text();
  if (version != kVersion || reader.failed() || reader.remaining() != 0) {
    return partition::damaged_value("recurring message");
  }
  if (series.recurrence.kind == Recurrence::Kind::kCron && series.next_due_ms == 0) {
    want_next_.insert(series.entry.id);
  }
  series_.emplace(series.entry.id, std::move(series));
  return Status();
}

}  // namespace tidemark::delay
