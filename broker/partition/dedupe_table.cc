#include "broker/partition/dedupe_table.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/partition/store_keys.h"
#include "log/base/coding.h"

namespace tidemark::partition {

namespace {

constexpr uint8_t kVersion = 1;

Status damaged() { return Status(ErrorCode::kCorrupted, "message ids in the checkpoint store"); }

std::string sealed(std::vector<uint8_t>& out) {
  ByteWriter(out).le(xxh3(out));
  return std::string(as_text(out));
}

// What was sealed; empty if it is damaged.
ByteView unsealed(std::string_view value) {
  const ByteView all = as_bytes(value);
  if (all.size() < 9) {
    return {};
  }
  const ByteView body = all.first(all.size() - 8);
  return load_le<uint64_t>(all.data() + body.size()) == xxh3(body) ? body : ByteView();
}

}  // namespace

const DedupeTable::Entry* DedupeTable::find_entry(PartitionId partition, const Hash128& id) const {
  const auto window = windows_.find(partition);
  if (window == windows_.end()) {
    return nullptr;
  }
  const auto number = window->second.numbers.find(id);
  return number == window->second.numbers.end()
             ? nullptr
             : &window->second.entries[number->second - window->second.first];
}

std::optional<Offset> DedupeTable::find(PartitionId partition, const Hash128& id, int64_t now_ms,
                                        int64_t window_ms) const {
  const Entry* entry = find_entry(partition, id);
  if (entry == nullptr || now_ms - entry->time_ms >= window_ms) {
    return std::nullopt;
  }
  return entry->offset;
}

std::optional<Offset> DedupeTable::find(PartitionId partition, const Hash128& id) const {
  const Entry* entry = find_entry(partition, id);
  return entry == nullptr ? std::nullopt : std::optional(entry->offset);
}

uint64_t DedupeTable::hash_of(PartitionId partition, uint64_t number, const Entry& entry) {
  uint8_t bytes[48];
  store_le(bytes, entry.id.low);
  store_le(bytes + 8, entry.id.high);
  store_le(bytes + 16, entry.time_ms);
  store_le(bytes + 24, entry.offset.value());
  store_le(bytes + 32, number);
  store_le(bytes + 40, partition.topic.value());
  store_le(bytes + 44, partition.index.value());
  return xxh3(bytes);
}

void DedupeTable::add(PartitionId partition, std::span<const Item> items, int64_t time_ms,
                      int64_t window_ms) {
  if (items.empty()) {
    return;
  }
  Window& window = windows_[partition];
  dirty_.insert(partition);
  // Old ids come in bursts, too, and this is a turn of the loop.
  for (size_t i = 0; i < kForgottenAtOnce + 2 * items.size() && !window.entries.empty() &&
                     time_ms - window.entries.front().time_ms >= window_ms;
       ++i) {
    forget_first(partition, window);
  }
  for (const Item& item : items) {
    const uint64_t number = window.end();
    window.entries.push_back({item.id, time_ms, item.offset});
    window.numbers[item.id] = number;
    hash_ += hash_of(partition, number, window.entries.back());
    if (window.entries.size() > ids_max_) {
      forget_first(partition, window);
    }
  }
}

void DedupeTable::forget_first(PartitionId partition, Window& window) {
  const Entry& entry = window.entries.front();
  hash_ -= hash_of(partition, window.first, entry);
  // The id may have come again since.
  if (const auto it = window.numbers.find(entry.id); it->second == window.first) {
    window.numbers.erase(it);
  }
  window.entries.pop_front();
  ++window.first;
}

void DedupeTable::drop_partition(PartitionId partition) {
  const auto it = windows_.find(partition);
  if (it == windows_.end()) {
    return;
  }
  uint64_t number = it->second.first;
  for (const Entry& entry : it->second.entries) {
    hash_ -= hash_of(partition, number++, entry);
  }
  windows_.erase(it);
  dirty_.erase(partition);
  dropped_.insert(partition);
}

size_t DedupeTable::size(PartitionId partition) const {
  const auto it = windows_.find(partition);
  return it == windows_.end() ? 0 : it->second.entries.size();
}

std::string DedupeTable::encode_chunk(const Window& window, uint64_t first, uint64_t end) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(first);
  for (uint64_t number = first; number < end; ++number) {
    const Entry& entry = window.entries[number - window.first];
    writer.le(entry.id.low);
    writer.le(entry.id.high);
    writer.le(entry.time_ms);
    writer.le(entry.offset.value());
  }
  return sealed(out);
}

void DedupeTable::freeze_window(PartitionId partition, Window& window, kv::WriteBatch& batch) {
  window.frozen_dirty_from = window.dirty_from;
  window.frozen_stored_chunk = window.stored_chunk;
  const uint64_t first_chunk = window.first / kIdsPerChunk;
  if (window.stored_chunk < first_chunk) {
    batch.remove_range(keys::message_ids(partition, window.stored_chunk),
                       keys::message_ids(partition, first_chunk));
    window.stored_chunk = first_chunk;
  }
  uint64_t number = std::max(window.dirty_from, window.first);
  while (number < window.end()) {
    const uint64_t chunk = number / kIdsPerChunk;
    const uint64_t end = std::min((chunk + 1) * kIdsPerChunk, window.end());
    const uint64_t first = std::max(chunk * kIdsPerChunk, window.first);
    batch.put(keys::message_ids(partition, chunk), encode_chunk(window, first, end));
    number = end;
  }
  window.dirty_from = window.end();
  std::vector<uint8_t> head;
  ByteWriter writer(head);
  writer.le(kVersion);
  writer.le(window.first);
  writer.le(window.end());
  batch.put(keys::of('J', partition), sealed(head));
}

void DedupeTable::freeze(kv::WriteBatch& batch) {
  for (const PartitionId partition : dropped_) {
    const std::string key = keys::of('J', partition);
    batch.remove_range(key, keys::after(key));
  }
  for (const PartitionId partition : dirty_) {
    freeze_window(partition, windows_.at(partition), batch);
  }
  frozen_dropped_ = std::exchange(dropped_, {});
  frozen_ = std::exchange(dirty_, {});
}

void DedupeTable::commit_done() {
  frozen_.clear();
  frozen_dropped_.clear();
}

void DedupeTable::commit_failed() {
  for (const PartitionId partition : frozen_) {
    // One that was dropped since, and is there again, is not stored at all.
    if (const auto it = windows_.find(partition);
        it != windows_.end() && !dropped_.contains(partition)) {
      Window& window = it->second;
      window.dirty_from = std::min(window.dirty_from, window.frozen_dirty_from);
      window.stored_chunk = std::min(window.stored_chunk, window.frozen_stored_chunk);
      dirty_.insert(partition);
    }
  }
  frozen_.clear();
  dropped_.merge(frozen_dropped_);
  frozen_dropped_.clear();
}

Status DedupeTable::load_chunk(PartitionId partition, Window& window, uint64_t chunk,
                               std::string_view value) {
  ByteReader reader(unsealed(value));
  const auto version = reader.le<uint8_t>();
  uint64_t number = reader.le<uint64_t>();
  if (reader.failed() || version != kVersion || number / kIdsPerChunk != chunk ||
      number > window.end()) {
    return damaged();
  }
  for (; reader.remaining() > 0; ++number) {
    Entry entry;
    entry.id.low = reader.le<uint64_t>();
    entry.id.high = reader.le<uint64_t>();
    entry.time_ms = reader.le<int64_t>();
    entry.offset = Offset{reader.le<uint64_t>()};
    if (reader.failed() || number / kIdsPerChunk != chunk) {
      return damaged();
    }
    if (number < window.first) {
      continue;  // forgotten since the chunk was written
    }
    window.entries.push_back(entry);
    window.numbers[entry.id] = number;
    hash_ += hash_of(partition, number, entry);
  }
  return number == window.end() || number < window.first ? Status() : damaged();
}

Status DedupeTable::load(kv::ReadView& view) {
  constexpr size_t kHeadKeyBytes = 9;
  Window* window = nullptr;
  PartitionId partition;
  uint64_t end = 0;
  ASSIGN_OR_RETURN(auto pair, view.seek("J"));
  while (pair.has_value() && pair->key.substr(0, 1) == "J") {
    const uint8_t* const key = as_bytes(pair->key).data();
    if (pair->key.size() == kHeadKeyBytes) {
      if (window != nullptr && window->end() != end) {
        return damaged();
      }
      partition = {TopicId{load_be<uint32_t>(key + 1)}, PartitionIndex{load_be<uint32_t>(key + 5)}};
      ByteReader reader(unsealed(pair->value));
      const auto version = reader.le<uint8_t>();
      window = &windows_[partition];
      window->first = reader.le<uint64_t>();
      end = reader.le<uint64_t>();
      if (version != kVersion || reader.failed() || reader.remaining() != 0) {
        return damaged();
      }
      window->dirty_from = end;
      window->stored_chunk = window->first / kIdsPerChunk;
    } else {
      const bool is_chunk = pair->key.size() == kHeadKeyBytes + 8 && window != nullptr &&
                            pair->key.substr(0, kHeadKeyBytes) == keys::of('J', partition);
      if (!is_chunk) {
        return damaged();
      }
      RETURN_IF_ERROR(
          load_chunk(partition, *window, load_be<uint64_t>(key + kHeadKeyBytes), pair->value));
    }
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return window == nullptr || window->end() == end ? Status() : damaged();
}

}  // namespace tidemark::partition
