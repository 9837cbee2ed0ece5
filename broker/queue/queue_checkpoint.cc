// QueueTable and the checkpoint store.
#include <iterator>
#include <optional>
#include <utility>

#include "broker/partition/store_keys.h"
#include "broker/partition/stored_value.h"
#include "broker/queue/queue_table.h"
#include "log/base/check.h"
#include "log/base/checksum.h"

namespace tidemark::queue {

namespace keys = partition::keys;

namespace {

constexpr uint8_t kVersion = 1;
constexpr std::string_view kLetter = "Q";
constexpr size_t kGroupAt = 1 + 2 * sizeof(uint32_t) + 1;  // in a key, behind its size

// What a chunk's value begins with. A bitmap is followed by the failures of its unsettled messages.
enum class ChunkKind : uint8_t { kNothingSettled = 0, kBitmap = 1, kRun = 2 };

std::vector<uint8_t> encode(const QueueState& state) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  writer.le(state.acks.floor().value());
  writer.varint(state.acked);
  writer.varint(state.failed);
  writer.varint(state.dead_lettered);
  writer.varint(state.expired);
  writer.varint(state.filtered);
  return out;
}

using FailureIterator = std::map<Offset, Failures>::const_iterator;

void put_failures(ByteWriter& writer, FailureIterator begin, FailureIterator end) {
  writer.varint(static_cast<uint64_t>(std::distance(begin, end)));
  for (auto it = begin; it != end; ++it) {
    writer.varint(it->first.value() % AckSet::kChunkOffsets);
    writer.varint(it->second.count);
    writer.le(it->second.retry_ms);
  }
}

// nullopt: there is nothing to be stored of this chunk.
std::optional<std::vector<uint8_t>> encode_chunk(const QueueState& state, uint64_t chunk) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le(kVersion);
  if (const uint64_t chunks = state.acks.run_at(chunk); chunks > 0) {
    writer.le(static_cast<uint8_t>(ChunkKind::kRun));
    writer.varint(chunks);
    return out;
  }
  const auto begin = state.failures.lower_bound(Offset{chunk * AckSet::kChunkOffsets});
  auto end = begin;
  while (end != state.failures.end() && AckSet::chunk_of(end->first) == chunk) {
    ++end;
  }
  const AckSet::Bits* const bits = state.acks.bits_of(chunk);
  if (bits == nullptr && begin == end) {
    return std::nullopt;
  }
  writer.le(static_cast<uint8_t>(bits ? ChunkKind::kBitmap : ChunkKind::kNothingSettled));
  if (bits != nullptr) {
    for (const uint64_t word : *bits) {
      writer.le(word);
    }
  }
  put_failures(writer, begin, end);
  return out;
}

uint64_t hash_of(const std::string& key, const QueueState& state) {
  std::vector<uint8_t> out = encode(state);
  ByteWriter writer(out);
  writer.le(state.acks.hash());
  put_failures(writer, state.failures.begin(), state.failures.end());
  // Above, a failure is named by its place in its chunk.
  for (const auto& [offset, failures] : state.failures) {
    writer.le(offset.value());
  }
  return xxh3(out, xxh3(as_bytes(key)));
}

void put(kv::WriteBatch& batch, std::string key, std::vector<uint8_t> value) {
  std::string sealed = partition::seal_value(value, key);
  batch.put(std::move(key), std::move(sealed));
}

void put_changes(kv::WriteBatch& batch, const std::string& name, const QueueState& state,
                 const AckSet::Changes& changes) {
  const uint64_t floor_chunk = AckSet::chunk_of(state.acks.floor());
  if (changes.emptied_from && *changes.emptied_from < floor_chunk) {
    batch.remove_range(name + keys::number64(*changes.emptied_from),
                       name + keys::number64(floor_chunk));
  }
  for (auto it = changes.chunks.lower_bound(floor_chunk); it != changes.chunks.end(); ++it) {
    std::string key = name + keys::number64(*it);
    if (auto value = encode_chunk(state, *it)) {
      put(batch, std::move(key), std::move(*value));
    } else {
      batch.remove(std::move(key));
    }
  }
  put(batch, name, encode(state));
}

Status damaged() { return partition::damaged_value("queue of a consumer group"); }

}  // namespace

uint64_t QueueTable::hash() const {
  uint64_t hash = 0;
  for (const auto& [group, queues] : groups_) {
    for (const auto& [partition, state] : queues) {
      hash += hash_of(keys::queue(partition, group), state);
    }
  }
  return hash;
}

void QueueTable::freeze(kv::WriteBatch& batch) {
  for (const Name& name : dropped_) {
    const std::string key = keys::queue(name.first, name.second);
    batch.remove_range(key, keys::after(key));
    frozen_[name].dropped = true;
  }
  dropped_.clear();
  for (const Name& name : changed_) {
    QueueState& state = *find_open(name.second, name.first);
    AckSet::Changes changes = state.acks.take_changes();
    put_changes(batch, keys::queue(name.first, name.second), state, changes);
    state.changed = false;
    Frozen& frozen = frozen_[name];
    frozen.changed = true;
    frozen.changes.merge(std::move(changes));
  }
  changed_.clear();
}

void QueueTable::commit_done() { frozen_.clear(); }

void QueueTable::commit_failed() {
  for (auto& [name, frozen] : frozen_) {
    if (frozen.dropped) {
      dropped_.insert(name);
    }
    // One that is not there was dropped meanwhile; one that was opened again meanwhile only looks
    // at a few chunks more.
    if (frozen.changed && find(name.second, name.first) != nullptr) {
      QueueState& state = *find_open(name.second, name.first);
      state.acks.give_back(std::move(frozen.changes));
      changed(name.second, name.first, state);
    }
  }
  frozen_.clear();
}

Status QueueTable::load(kv::ReadView& view) {
  TIDEMARK_CHECK(groups_.empty(), "loaded once, at start");
  return partition::for_each_of(
      view, kLetter, [this](std::string_view key, std::string_view value) {
        const auto body = partition::open_value(key, value);
        if (!body || key.size() < kGroupAt) {
          return damaged();
        }
        const uint8_t* const at = as_bytes(key).data();
        const PartitionId partition{TopicId{load_be<uint32_t>(at + 1)},
                                    PartitionIndex{load_be<uint32_t>(at + 1 + sizeof(uint32_t))}};
        const size_t group_bytes = at[kGroupAt - 1];
        const size_t head_bytes = kGroupAt + group_bytes;
        if (group_bytes == 0) {
          return damaged();
        }
        if (key.size() == head_bytes) {
          return load_queue({partition, std::string(key.substr(kGroupAt))}, *body);
        }
        if (key.size() != head_bytes + sizeof(uint64_t)) {
          return damaged();
        }
        return load_chunk({partition, std::string(key.substr(kGroupAt, group_bytes))},
                          load_be<uint64_t>(at + head_bytes), *body);
      });
}

Status QueueTable::load_queue(const Name& name, ByteView body) {
  ByteReader reader(body);
  const auto version = reader.le<uint8_t>();
  const Offset floor{reader.le<uint64_t>()};
  QueueState& state = open_queue(name.second, name.first);
  state.acked = reader.varint();
  state.failed = reader.varint();
  state.dead_lettered = reader.varint();
  state.expired = reader.varint();
  state.filtered = reader.varint();
  const bool sound = state.acks.load_floor(floor);
  return version == kVersion && sound && !reader.failed() && reader.remaining() == 0 ? Status()
                                                                                     : damaged();
}

// Behind that of its queue, and of its chunks before it.
Status QueueTable::load_chunk(const Name& name, uint64_t chunk, ByteView body) {
  if (find(name.second, name.first) == nullptr) {
    return damaged();
  }
  QueueState& state = *find_open(name.second, name.first);
  ByteReader reader(body);
  const auto version = reader.le<uint8_t>();
  const auto kind = static_cast<ChunkKind>(reader.le<uint8_t>());
  bool sound = version == kVersion;
  switch (kind) {
    case ChunkKind::kRun:
      sound = sound && state.acks.load_run(chunk, reader.varint());
      break;
    case ChunkKind::kBitmap: {
      AckSet::Bits bits;
      for (uint64_t& word : bits) {
        word = reader.le<uint64_t>();
      }
      sound = sound && state.acks.load_bits(chunk, bits) && load_failures(state, chunk, reader);
      break;
    }
    case ChunkKind::kNothingSettled: {
      const size_t before = failures_;
      sound = sound && load_failures(state, chunk, reader) && failures_ > before;
      break;
    }
    default:
      sound = false;
  }
  return sound && !reader.failed() && reader.remaining() == 0 ? Status() : damaged();
}

bool QueueTable::load_failures(QueueState& state, uint64_t chunk, ByteReader& reader) {
  const uint64_t count = reader.varint();
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    const uint64_t within = reader.varint();
    const uint64_t failures = reader.varint();
    const auto retry_ms = reader.le<int64_t>();
    if (within >= AckSet::kChunkOffsets || chunk >= AckSet::kChunks || failures == 0 ||
        failures > UINT32_MAX) {
      return false;
    }
    const Offset offset{chunk * AckSet::kChunkOffsets + within};
    const bool ascends = state.failures.empty() || state.failures.rbegin()->first < offset;
    if (!ascends || state.acks.contains(offset) || offset == Offset{UINT64_MAX}) {
      return false;
    }
    state.failures.emplace_hint(state.failures.end(), offset,
                                Failures{static_cast<uint32_t>(failures), retry_ms});
    ++failures_;
  }
  return true;
}

}  // namespace tidemark::queue
