// Look-ups in the stored part of a partition's index. Blocking: for a worker with its own read
// view.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/partition/batch_ref.h"
#include "log/base/result.h"

namespace tidemark::partition {

// References that overlap [from, ...), in order, until their bytes exceed `bytes_max` (at least one
// if there is one); dead ones in a row are one. Empty if nothing stored lies at or after `from`.
Result<std::vector<BatchRef>> find_stored(kv::ReadView& view, PartitionId id, Offset from,
                                          size_t bytes_max);

// First stored reference at or after `start` with received_ms >= time_ms; log time never goes back
// within a partition, so this bisects.
Result<std::optional<BatchRef>> find_stored_time(kv::ReadView& view, PartitionId id, Offset start,
                                                 Offset end, int64_t time_ms);

// Walks references in order from `from` until `visit` gives false or the stored part ends.
Status walk_stored(kv::ReadView& view, PartitionId id, Offset from,
                   const std::function<bool(const BatchRef&)>& visit);

// The last chunk of the partition, for loading. Empty if there is none.
Result<std::vector<BatchRef>> last_stored_chunk(kv::ReadView& view, PartitionId id);

// Key of the chunk that has `start`: all chunks before it may go. nullopt if there is none.
Result<std::optional<std::string>> chunk_key_at(kv::ReadView& view, PartitionId id, Offset start);

// Adds to `batch` the chunks of the partition as compaction has changed them; `moved` is in order
// of offset. What lies before `start` may be gone. kCorrupted: another one is not there.
Status move_stored(kv::ReadView& view, kv::WriteBatch& batch, PartitionId id, Offset start,
                   std::span<const MovedBatch> moved);

}  // namespace tidemark::partition
