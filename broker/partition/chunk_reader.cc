#include "broker/partition/chunk_reader.h"

#include "broker/partition/index_chunk.h"
#include "broker/partition/store_keys.h"

namespace tidemark::partition {

namespace {

bool belongs(std::string_view key, PartitionId id) { return key.substr(0, 9) == keys::of('I', id); }

// Positions `view` at the chunk that has or follows `from`.
Result<std::optional<kv::ReadView::Pair>> seek_chunk(kv::ReadView& view, PartitionId id,
                                                     Offset from) {
  ASSIGN_OR_RETURN(auto pair, view.seek_back(keys::chunk(id, from)));
  if (pair.has_value() && belongs(pair->key, id)) {
    return pair;
  }
  ASSIGN_OR_RETURN(auto first, view.seek(keys::of('I', id)));
  if (first.has_value() && belongs(first->key, id)) {
    return first;
  }
  return std::optional<kv::ReadView::Pair>();
}

}  // namespace

Status walk_stored(kv::ReadView& view, PartitionId id, Offset from,
                   const std::function<bool(const BatchRef&)>& visit) {
  ASSIGN_OR_RETURN(auto pair, seek_chunk(view, id, from));
  while (pair.has_value() && belongs(pair->key, id)) {
    ASSIGN_OR_RETURN(const auto refs, decode_chunk(pair->value));
    for (const BatchRef& ref : refs) {
      if (ref.end() > from && !visit(ref)) {
        return Status();
      }
    }
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return Status();
}

Result<std::vector<BatchRef>> find_stored(kv::ReadView& view, PartitionId id, Offset from,
                                          size_t bytes_max) {
  std::vector<BatchRef> found;
  size_t bytes = 0;
  RETURN_IF_ERROR(walk_stored(view, id, from, [&](const BatchRef& ref) {
    if (!found.empty() && bytes + ref.bytes > bytes_max) {
      return false;
    }
    bytes += ref.bytes;
    if (found.empty() || !join_dead(found.back(), ref)) {
      found.push_back(ref);
    }
    return true;
  }));
  return found;
}

Result<std::optional<BatchRef>> find_stored_time(kv::ReadView& view, PartitionId id, Offset start,
                                                 Offset end, int64_t time_ms) {
  // Smallest offset whose chunk ends late enough: the begin of that chunk, or `start`.
  uint64_t low = start.value();
  uint64_t high = end.value();
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(const auto pair, seek_chunk(view, id, Offset{middle}));
    if (!pair.has_value()) {
      return std::optional<BatchRef>();
    }
    ASSIGN_OR_RETURN(const auto refs, decode_chunk(pair->value));
    if (refs.back().received_ms >= time_ms) {
      high = middle;
    } else {
      low = std::max(middle + 1, refs.back().end().value());
    }
  }
  std::optional<BatchRef> found;
  RETURN_IF_ERROR(walk_stored(view, id, std::max(start, Offset{low}), [&](const BatchRef& ref) {
    if (ref.received_ms < time_ms) {
      return true;
    }
    found = ref;
    return false;
  }));
  return found;
}

Result<std::vector<BatchRef>> last_stored_chunk(kv::ReadView& view, PartitionId id) {
  ASSIGN_OR_RETURN(const auto pair, view.seek_back(keys::chunk(id, Offset{~uint64_t{0}})));
  if (!pair.has_value() || !belongs(pair->key, id)) {
    return std::vector<BatchRef>();
  }
  return decode_chunk(pair->value);
}

Status move_stored(kv::ReadView& view, kv::WriteBatch& batch, PartitionId id, Offset start,
                   std::span<const MovedBatch> moved) {
  for (size_t i = 0; i < moved.size();) {
    ASSIGN_OR_RETURN(const auto pair, view.seek_back(keys::chunk(id, moved[i].base)));
    const bool there = pair.has_value() && belongs(pair->key, id);
    if (!there && moved[i].base < start) {
      ++i;
      continue;
    }
    const Status missing(ErrorCode::kCorrupted, "the index in the checkpoint store has no batch " +
                                                    std::to_string(moved[i].base.value()) +
                                                    ", which was compacted");
    if (!there) {
      return missing;
    }
    const std::string key(pair->key);
    ASSIGN_OR_RETURN(std::vector<BatchRef> refs, decode_chunk(pair->value));
    std::vector<BatchRef> changed;
    const size_t first = i;
    for (BatchRef& ref : refs) {
      if (i < moved.size() && moved[i].base == ref.base) {
        ref.position = moved[i].position;
        ref.bytes = moved[i].bytes;
        ++i;
      }
      if (changed.empty() || !join_dead(changed.back(), ref)) {
        changed.push_back(ref);
      }
    }
    if (i == first) {
      return missing;
    }
    batch.put(key, encode_chunk(changed));
  }
  return Status();
}

Result<std::optional<std::string>> chunk_key_at(kv::ReadView& view, PartitionId id, Offset start) {
  ASSIGN_OR_RETURN(const auto pair, view.seek_back(keys::chunk(id, start)));
  if (!pair.has_value() || !belongs(pair->key, id)) {
    return std::optional<std::string>();
  }
  return std::optional<std::string>(std::string(pair->key));
}

}  // namespace tidemark::partition
