// DedupeTable: which message ids the partitions took in lately, and at which offset, so that a
// message that comes again within its topic's window is not stored again.
//
// An id counts for as long as now < its time + window. Ids that are older are forgotten when others
// come, a bounded number at a time, so a table may still have some that find() passes over; of each
// partition at most limits::kMessageIdsPerPartitionMax stay, the newest. Everything is decided by
// the times of applied records, so all replicas agree (hash()). Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>

#include "broker/kv/key_value_store.h"
#include "log/base/checksum.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::partition {

class DedupeTable {
 public:
  explicit DedupeTable(size_t ids_max = limits::kMessageIdsPerPartitionMax) : ids_max_(ids_max) {}

  struct Item {
    Hash128 id;
    Offset offset;
  };

  // Where the message with this id is, if it came less than `window_ms` before `now_ms`.
  [[nodiscard]] std::optional<Offset> find(PartitionId partition, const Hash128& id, int64_t now_ms,
                                           int64_t window_ms) const;
  // The same, however old it is.
  [[nodiscard]] std::optional<Offset> find(PartitionId partition, const Hash128& id) const;

  // Requires: `time_ms` does not go back. An id that is there already counts from now on.
  void add(PartitionId partition, std::span<const Item> items, int64_t time_ms, int64_t window_ms);

  // It is gone, or its ids mean nothing any more.
  void drop_partition(PartitionId partition);

  // Ids kept, those that are too old included.
  [[nodiscard]] size_t size(PartitionId partition) const;

  // Independent of the order of changes.
  [[nodiscard]] uint64_t hash() const { return hash_; }

  // --- checkpoint: keys "J" partition, and the same with the number of a chunk
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode, or chunks that do not add up.
  Status load(kv::ReadView& view);

 private:
  static constexpr uint64_t kIdsPerChunk = 1024;
  // Forgotten at a time, besides two for each one that is added.
  static constexpr size_t kForgottenAtOnce = 1024;

  struct Entry {
    Hash128 id;
    int64_t time_ms = 0;
    Offset offset;
  };

  // Ids of a partition are numbered in the order in which they came.
  struct Window {
    std::deque<Entry> entries;  // oldest first
    uint64_t first = 0;         // number of the first one
    std::unordered_map<Hash128, uint64_t, Hash128::Hasher> numbers;
    uint64_t dirty_from = 0;    // numbers from here on are not stored
    uint64_t stored_chunk = 0;  // no chunk before it is stored
    uint64_t frozen_dirty_from = 0;
    uint64_t frozen_stored_chunk = 0;

    [[nodiscard]] uint64_t end() const { return first + entries.size(); }
  };

  [[nodiscard]] const Entry* find_entry(PartitionId partition, const Hash128& id) const;
  void forget_first(PartitionId partition, Window& window);
  static void freeze_window(PartitionId partition, Window& window, kv::WriteBatch& batch);
  static std::string encode_chunk(const Window& window, uint64_t first, uint64_t end);
  static uint64_t hash_of(PartitionId partition, uint64_t number, const Entry& entry);
  Status load_chunk(PartitionId partition, Window& window, uint64_t chunk, std::string_view value);

  size_t ids_max_;
  std::map<PartitionId, Window> windows_;
  std::set<PartitionId> dirty_;
  std::set<PartitionId> frozen_;
  std::set<PartitionId> dropped_;  // since the last freeze
  std::set<PartitionId> frozen_dropped_;
  uint64_t hash_ = 0;
};

}  // namespace tidemark::partition
