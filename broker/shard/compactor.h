// Compactor: of the messages of a key, only the newest stays (topics with compact_after_ms).
//
//   idle       --a partition has grown, or holds the log--> begin (Compacted) --applied--> scanning
//   scanning   newest offset of each key, from where the last run ended --all, or full--> rewriting
//   rewriting  what is left of a batch (Compact), or that nothing is (Compacted: dead)
//              --applied--> next step ... --end (Compacted)--applied--> idle
//
// A run goes over one partition in steps of limits::kCompactionStepBytes; a shard has one run at a
// time. Nothing is lost by a run that ends early, by a crash or with the leadership: what it
// changed stays, the next one begins anew.
//
// A batch that cannot be read stays, and the run goes on. No tombstone goes that covers a message
// of it, and the next run scans from there, so that nothing comes up again.
//
// When: a run costs a read of the partition and a write of what is left of batches with dead
// messages. It begins when what came since the last one is at least half of what was there before,
// and 1 MiB: so a byte is read and written again a bounded number of times. And, since retention
// drops the oldest segment only: when the log is larger than twice what is alive, and nothing but
// compacted partitions hold its oldest segment, what is alive in its oldest eighth is written
// again.
//
// Owner: the shard. Thread: its loop; batches are looked at on a worker. Leader only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "broker/shard/batch_source.h"
#include "broker/shard/compaction_step.h"
#include "broker/shard/shard_runtime.h"
#include "broker/shard/views.h"
#include "log/base/clock.h"
#include "log/format/log_record.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

// The shard, as the compactor sees it.
class CompactionHost {
 public:
  virtual ~CompactionHost() = default;
  [[nodiscard]] virtual Status may_write() const = 0;
  // Log time; never goes back.
  [[nodiscard]] virtual int64_t compaction_time() = 0;
  [[nodiscard]] virtual Offset visible_end(const partition::Partition& partition) const = 0;
  // The record becomes part of the next entry; then settle() is called with the run's number.
  virtual void gather_compact(const format::CompactRecord& record, uint64_t run) = 0;
  virtual void gather_compacted(const flatbuffers::FlatBufferBuilder& body, uint64_t run) = 0;
};

class Compactor {
 public:
  Compactor(const ShardOptions& options, const Views& views, CompactionHost& host)
      : options_(options), views_(views), host_(host) {}

  // Before anything else. Outlives the compactor.
  void attach(BatchSource& source) { source_ = &source; }

  // Begins a run if one is wanted; goes on with one that waits. `busy`: partitions that are being
  // trimmed, which have to wait.
  void tick(MonotonicTime now, const std::set<PartitionId>& busy);
  // A record of the run was applied and did what it says, or it did not.
  void settle(uint64_t run, bool done);

  // Leadership or the process ends.
  void abandon() { run_.reset(); }

  [[nodiscard]] bool works_on(PartitionId id) const {
    return run_ != nullptr && run_->partition == id;
  }

  // A run waits for the store to take in what it has changed.
  [[nodiscard]] bool wants_checkpoint() const { return run_ != nullptr && run_->paused; }

  void add_stats(ShardStats& stats) const;

 private:
  struct Run {
    uint64_t number = 0;
    PartitionId partition;
    CompactionRules rules;
    bool with_keys = false;  // else batches are only moved
    bool begun = false;
    bool scanning = false;
    bool ending = false;
    bool paused = false;
    size_t unapplied = 0;  // records
    bool failed = false;   // one of them did nothing, or never will
    bool full = false;     // the table was, before the scan had come to the end
    Offset cursor;
    Offset visible;  // what lies behind is not shown yet
    Offset end;
    LogPosition written_from;  // what the run writes lies at or behind it
    int64_t now_ms = 0;
    // What is known at the end.
    LogPosition low = kNoPosition;
    std::optional<partition::BatchRef> unread;  // the first batch that could not be read
    Status why_unread;
    std::optional<Offset> dirty_from;
    Offset next_scan;  // where the next run looks for newer messages from
    uint64_t dirty_bytes = 0;
    bool young = false;  // some of it was too young
  };

  struct Wanted {
    PartitionId partition;
    bool with_keys = false;
  };

  using Refs = std::vector<partition::BatchRef>;
  using Batches = std::shared_ptr<CompactionBatches>;

  [[nodiscard]] bool may_compact(const partition::Partition& partition) const;
  [[nodiscard]] bool is_due(const partition::Partition& partition, int64_t now_ms) const;
  [[nodiscard]] LogPosition move_below() const;
  [[nodiscard]] std::optional<Wanted> choose(const std::set<PartitionId>& busy);
  void begin(const Wanted& wanted);
  // Of the run, as long as it goes on; nullptr: it was given up.
  [[nodiscard]] const partition::Partition* partition_of(uint64_t run);
  void give_up(const Status& why);
  void go_on();
  void begun();
  void step();
  void take_refs(Refs refs);
  [[nodiscard]] bool wants_look(const partition::Partition& partition,
                                const partition::BatchRef& ref) const;
  void read(const Batches& batches);
  void work(const Batches& batches);
  void scanned(const Batches& batches);
  void selected(const Batches& batches);
  void note_unread(const CompactionItem& item);
  void account(const CompactionItem& item);
  void write(CompactionItem& item);
  void write_dead();
  void end();
  void log_unread() const;
  [[nodiscard]] Offset choose_next_scan();
  void gather(CompactionStep step, const std::vector<format::fbs::DeadBatch>& dead,
              const Run* ended);

  const ShardOptions& options_;
  const Views& views_;
  CompactionHost& host_;
  BatchSource* source_ = nullptr;
  std::unique_ptr<Run> run_;
  std::vector<format::fbs::DeadBatch> dead_;  // of the step, not gathered yet
  uint64_t next_run_ = 1;
  PartitionId reached_;  // the partition that was looked at last
  MonotonicTime next_look_;
  // Where partitions lay that a run could not free of the log's oldest part: not again.
  std::map<PartitionId, LogPosition> stuck_;
  uint64_t runs_ = 0;
  uint64_t written_bytes_ = 0;
  uint64_t freed_bytes_ = 0;
};

}  // namespace tidemark::shard
