// The index of a partition: offset -> batch. References since the last checkpoint (and those whose
// bytes are still in the log's tail cache) are in memory; older ones lie in the store as packed
// chunks and are found by chunk_reader.h on a worker.
//
// Compaction changes references anywhere. What it did is in memory at once, and until a checkpoint
// after the one that stored it: amend() joins it to what came from the store.
//
// Thread: the shard's loop. Invariants: references are in offset order without overlap; memory
// holds an unbroken suffix of the index; everything before `stored_end()` is in the store.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/partition/batch_ref.h"

namespace tidemark::partition {

class IndexView {
 public:
  // Requires: ref.base >= end of the last reference.
  void append(const BatchRef& ref) { refs_.push_back(ref); }

  // Where a batch lies from now on. Of one that memory has not, the store has to be told.
  void move(const MovedBatch& moved);
  // References that the store gave: as they are now.
  void amend(std::vector<BatchRef>& refs) const;

  // Changes by move() that the store lacks.
  [[nodiscard]] size_t unstored_moves() const { return unstored_moves_; }

  // References in memory that overlap [from, ...), in order, until their bytes exceed `bytes_max`
  // (at least one if there is one). Dead ones in a row are one reference. nullopt: `from` lies
  // before what memory holds; ask the store.
  [[nodiscard]] std::optional<std::vector<BatchRef>> find(Offset from, size_t bytes_max,
                                                          Offset start) const;
  // First reference in memory that has anything from `start` on and received_ms >= time. nullopt if
  // there is none or an older one may lie in the store.
  [[nodiscard]] std::optional<BatchRef> find_time(int64_t time_ms, Offset start) const;

  // True if memory holds everything from `start` on.
  [[nodiscard]] bool complete_from(Offset start) const { return memory_start() <= start; }

  // Base offset of the first reference in memory; the largest offset if there is none and nothing
  // is stored.
  [[nodiscard]] Offset memory_start() const;

  [[nodiscard]] const std::deque<BatchRef>& refs() const { return refs_; }

  // --- checkpoint
  // ---------------------------------------------------------------------------------------------------
  // Adds to `batch` the chunks that cover all references not yet stored (the last, partial chunk is
  // written again as it grows) and remembers how far that reaches until commit_done() or
  // commit_failed().
  void freeze(PartitionId id, kv::WriteBatch& batch);
  // What the same checkpoint has to change in chunks that freeze() does not write, in order
  // (chunk_reader.h, move_stored()).
  [[nodiscard]] std::vector<MovedBatch> frozen_moves() const;
  void commit_done();
  void commit_failed();
  // Forgets stored references of full chunks that lie before `position`. Once for each checkpoint.
  void evict_before(LogPosition position);
  // Forgets what lies wholly before `start`.
  void trim(Offset start);
  // At start: the references of the last chunk in the store.
  void load_last_chunk(std::vector<BatchRef> refs);

 private:
  // How far the store has followed.
  enum class MoveState : uint8_t { kNew, kFrozen, kStored, kOld };

  struct Move {
    MovedBatch batch;
    MoveState state = MoveState::kNew;
  };

  // Base offset of the first reference that freeze() writes; the largest one if there is none.
  [[nodiscard]] Offset open_begin() const;

  std::deque<BatchRef> refs_;
  std::map<Offset, Move> moves_;  // by base
  size_t unstored_moves_ = 0;     // kNew or kFrozen
  bool open_changed_ = false;     // a reference of the open chunk was changed
  bool frozen_open_changed_ = false;
  uint64_t evicted_ =
      0;  // references ever removed from the front: ordinals below are relative to it
  uint64_t stored_ = 0;       // ordinal: all before are in the store
  uint64_t chunk_begin_ = 0;  // ordinal at which the open (last, partial) chunk begins
  uint64_t frozen_end_ = 0;
  uint64_t frozen_chunk_begin_ = 0;
  bool has_stored_ = false;  // the store has chunks of this partition
};

}  // namespace tidemark::partition
