// What a shard asks of the stored log and index without knowing files: bytes in memory at once, the
// rest later.
//
// Thread: the shard's loop; callbacks fire on it at a later turn, never inside the call.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/partition/batch_ref.h"
#include "log/base/bytes.h"
#include "log/base/function.h"
#include "log/base/result.h"

namespace tidemark::shard {

// How much of a partition's oldest part retention lets go.
struct TrimGoal {
  int64_t received_before_ms = INT64_MIN;  // batches received before this go
  uint64_t bytes_over = 0;                 // and, from the oldest on, at least this many bytes
};

// The result of walking from the oldest batch: [old start, start) may go.
struct TrimPlan {
  Offset start;
  LogPosition position;  // of the first batch that stays
  uint64_t bytes = 0;
  uint64_t batches = 0;
  uint64_t compactions = 0;  // partition::CompactionState::changes, as it was

  // Takes one more batch in; false when this one stays.
  bool visit(const partition::BatchRef& ref, const TrimGoal& goal) {
    if (ref.received_ms >= goal.received_before_ms && bytes >= goal.bytes_over) {
      start = ref.base;
      position = ref.position;
      return false;
    }
    bytes += ref.bytes;
    batches += ref.is_dead() ? 0 : 1;
    start = ref.end();
    return true;
  }
};

// A delayed message as a segment of the log has it.
struct StoredDelay {
  uint64_t id = 0;
  int64_t due_ms = 0;
  PartitionId partition;
  LogPosition position;  // of its record batch
  Buffer batch;
};

// How far a walk over a segment has come.
struct DelayCursor {
  uint64_t segment = 0;  // sequence number; 0: the oldest segment, from its begin
  uint64_t file_offset = 0;
  bool end = false;  // nothing is left of the segment
};

struct DelaysFound {
  std::vector<StoredDelay> delays;
  DelayCursor next;
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // The batch's bytes if the log's tail cache has them.
  [[nodiscard]] virtual std::optional<SharedBytes> cached(const partition::BatchRef& ref) const = 0;

  using BatchesRead = MoveOnlyFunction<void(std::vector<Result<SharedBytes>>)>;
  // Reads from disk and verifies each batch's CRC, and that it stands for `count` offsets unless
  // that is 0. One result per reference, in order.
  virtual void read(std::vector<partition::BatchRef> refs, BatchesRead done) = 0;

  using LogRead = MoveOnlyFunction<void(Result<SharedBytes>)>;
  // Bytes of the log as they are; the reader checks them.
  virtual void read_log(LogPosition position, size_t size, LogRead done) = 0;

  using StoreWork = MoveOnlyFunction<Status(kv::ReadView&)>;
  using StoreDone = MoveOnlyFunction<void(Status)>;
  // Runs `work` on a worker with a view of the checkpoint store.
  virtual void with_store(StoreWork work, StoreDone done) = 0;

  using Work = MoveOnlyFunction<void()>;
  // Runs `work`, which touches nothing of the shard, on a worker, then `done`.
  virtual void run(Work work, Work done) = 0;

  // Where the oldest segment of the log ends, if it is sealed.
  [[nodiscard]] virtual std::optional<LogPosition> oldest_segment_end() const = 0;

  using DelaysRead = MoveOnlyFunction<void(Result<DelaysFound>)>;
  // Walks a segment from the cursor on for messages that were delayed, delivered or not, until
  // `bytes_max` of them are found.
  virtual void read_delays(DelayCursor from, size_t bytes_max, DelaysRead done) = 0;

  using RefsFound = MoveOnlyFunction<void(Result<std::vector<partition::BatchRef>>)>;
  // Stored references that overlap [from, ...), bounded as IndexView::find.
  virtual void find(PartitionId id, Offset from, size_t bytes_max, RefsFound done) = 0;

  using RefFound = MoveOnlyFunction<void(Result<std::optional<partition::BatchRef>>)>;
  virtual void find_time(PartitionId id, Offset start, Offset end, int64_t time_ms,
                         RefFound done) = 0;

  using TrimPlanned = MoveOnlyFunction<void(Result<TrimPlan>)>;
  // Walks the stored part of the index from `start` (up to `until`). The start of a plan that
  // removes nothing is not ahead of it.
  virtual void plan_trim(PartitionId id, Offset start, Offset until, TrimGoal goal,
                         TrimPlanned done) = 0;
};

}  // namespace tidemark::shard
