// The log of one shard: an append-only sequence of entries in segment files, which is also the raft
// log.
//
// Owner:   one shard. Thread: everything here is called on the shard's loop, except
// ReadPlan::read(), which
//          may run on any thread. Blocking work goes through the disk Executor (ordered, one
//          worker); open() is the only call that blocks.
// Order:   entries get their positions at append() and are durable in that order.
// Group commit: while one write+sync runs, everything appended is gathered into the next (at most
//          limits::kGroupCommitBytesMax, at least one entry).
// Failure: after a failed write or sync the log is read-only for good (failure() says why): no
// completion of a later
//          or pending append fires any more, nothing is retried. Lack of space is not such a
//          failure: space is taken ahead of need, has_room() says when there is none, and the log
//          tries again by itself (tick).
//
// Every byte is described in FORMAT.md.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/executor.h"
#include "log/base/file_system.h"
#include "log/base/function.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::log {

class Segment;
class SegmentSet;

// Kinds below 16 are replicated and take part in positions; kinds from 16 on are local to this
// replica and take none.
enum class EntryKind : uint8_t {
  kCommand = 1,        // records of the shard (log/format/log_record.h)
  kBarrier = 2,        // raft no-op
  kConfiguration = 3,  // raft membership, opaque here
  kVote = 16,          // {term, voted for}
  kTruncate = 17,      // the suffix from {index, position} on is void
  kSnapshot = 18,      // manifest: the views up to {index, term} are checkpointed
  kSeal = 19,          // last entry of a full segment
};

// Which allocated space an entry of a client may use; see Log::set_reserve().
enum class Room : uint8_t {
  kOrdinary,  // leaves both reserves as they are
  kReserved,  // may use what set_reserve() asked for
};

struct FsyncPolicy {
  enum class Mode : uint8_t { kBatch, kInterval, kNever };
  Mode mode = Mode::kBatch;
  uint32_t interval_ms = 0;  // for kInterval

  // "batch", "interval:100", "never".
  static Result<FsyncPolicy> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

struct LogOptions {
  std::string directory;  // exists
  uint64_t cluster_id = 0;
  ShardId shard;
  // From 16 KiB (tests) to limits::kSegmentBytesMax. An entry that is larger gets a segment of its
  // own.
  uint64_t segment_bytes = limits::kSegmentBytesDefault;
  FsyncPolicy fsync;
  size_t tail_cache_bytes = limits::kTailCacheBytesPerShardDefault;
  // Where the incarnation numbers of new segments come from; 0: the operating system. Simulations
  // and golden files give one, so that the same run writes the same bytes.
  uint64_t incarnation_seed = 0;
};

struct Vote {
  Term term;
  NodeId voted_for;  // 0: nobody
};

// What libraft needs to know about everything before the resident entries. Opaque bytes come back
// as given.
struct SnapshotManifest {
  LogIndex index;
  Term term;
  LogPosition next_position;  // first position after entry `index`
  LogIndex configuration_index;
  std::vector<uint8_t> configuration;
  std::vector<uint8_t> data;
};

struct EntryInfo {
  EntryKind kind = EntryKind::kCommand;
  Term term;
  LogIndex index;
  LogPosition position;  // of the entry header
  uint32_t payload_bytes = 0;
};

// What open() found; every line of `notes` is worth a log line for the operator.
struct RecoveryReport {
  uint64_t segments = 0;
  uint64_t entries_verified = 0;
  uint64_t bytes_verified = 0;
  uint64_t torn_bytes_cut = 0;  // bytes of an unacknowledged tail that were cut
  std::vector<std::string> notes;
};

// Where bytes of the log lie on disk; keeps the segment alive. Copyable, may cross threads.
class ReadPlan {
 public:
  // Blocking. Any thread. Fills `out` (size() bytes). Does not verify: the caller checks what it
  // reads (an entry's hash, a batch's CRC).
  Status read(MutableByteView out) const;

  [[nodiscard]] size_t size() const { return size_; }

 private:
  friend class Log;
  std::shared_ptr<const Segment> segment_;
  uint64_t offset_ = 0;
  size_t size_ = 0;
};

class Log {
 public:
  using Completion = MoveOnlyFunction<void()>;

  // Opens the log or creates an empty one, and recovers it: walks headers up to `verify_from`,
  // checks every hash from there on, cuts a torn tail, reports it. kCorrupted (with segment and
  // position) if damage is followed by entries that were written after it was durable. Blocking.
  // `disk`, `clock` and `fs` outlive the log.
  static Result<std::unique_ptr<Log>> open(FileSystem& fs, Executor& disk, Clock& clock,
                                           LogOptions options, LogPosition verify_from,
                                           RecoveryReport* report);
  ~Log();  // Requires: idle() or failed or the executor dropped its jobs.
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // --- what recovery found (valid after open until the next append)
  // ----------------------------------------------- Replicated entries from `from` on, in order
  // (headers only). Truncated entries are not among them.
  [[nodiscard]] Result<std::vector<EntryInfo>> entries_from(LogPosition from) const;
  [[nodiscard]] Vote vote() const;
  [[nodiscard]] const std::optional<SnapshotManifest>& snapshot() const;
  // Reads and verifies the payload of one entry. Blocking: start-up and tools only.
  [[nodiscard]] Result<SharedBytes> read_payload(const EntryInfo& entry) const;

  // --- append
  // ------------------------------------------------------------------------------------------------------
  // True if `payload_bytes` of a client's entry can be appended now without running out of
  // allocated space. The control reserve (limits::kControlReserveBytes, at most an eighth of
  // segment_bytes) is not counted, so local and control entries always fit.
  [[nodiscard]] bool has_room(size_t payload_bytes, Room room = Room::kOrdinary) const;
  // `bytes` are to be kept allocated, besides the control reserve, for entries appended with
  // Room::kReserved: the sum of entry_bytes() of what has been promised a place even on a full
  // disk. It is taken like other space, ahead of need and again when a full disk has room; until
  // then ordinary entries are refused. The caller lowers it when a promise is kept.
  //
  // Cap: both reserves together take at most a quarter of segment_bytes, because they have to fit
  // in one segment. What is asked beyond that is not kept: these entries are accepted as long as
  // there is space, and on a full disk the last of them wait.
  void set_reserve(uint64_t bytes);
  // True if what is allocated now has both reserves, the one of set_reserve() up to its cap.
  [[nodiscard]] bool reserve_kept() const;
  // Appends a replicated entry. Requires: index follows the last one; payload at most
  // kEntryPayloadBytesMax; has_room or a control entry. `done` fires on the loop, in order, when
  // the entry is as durable as the fsync policy asks. Never fails and never calls `done` inside the
  // call.
  LogPosition append(EntryKind kind, Term term, LogIndex index, SharedBytes payload,
                     Completion done);
  void append_vote(Vote vote, Completion done);
  // Requires: at most limits::kSnapshotManifestBytesMax. A manifest whose index is above the last
  // one comes from elsewhere: it replaces everything stored, and the next append has index + 1 and
  // its next_position.
  void append_snapshot(SnapshotManifest manifest, Completion done);
  // Voids the entries from `index` on; the next append has this index and position. Requires:
  // `position` is where the entry `index` starts (or both are the end) and is stored. Completions
  // of voided entries still fire.
  void truncate_suffix(LogIndex index, LogPosition position, Completion done);

  // `done` fires when everything below the present durable_position() is on stable storage,
  // whatever the fsync policy. It does not fire if the log is or turns read-only.
  void sync(Completion done);

  [[nodiscard]] LogPosition next_position() const;
  // First position that is still stored.
  [[nodiscard]] LogPosition first_position() const;
  // Everything below is as durable as the policy asks.
  [[nodiscard]] LogPosition durable_position() const;
  // Payload bytes appended and not yet durable.
  [[nodiscard]] size_t unsynced_bytes() const;
  // No write, allocation or sync is under way or queued.
  [[nodiscard]] bool idle() const;
  // Ok, or why the log is read-only for good.
  [[nodiscard]] const Status& failure() const;
  // True while the last attempt to take more disk space failed for lack of it.
  [[nodiscard]] bool disk_full() const;
  // Called about every 10 ms: interval syncs, renewed attempts to take space.
  void tick(MonotonicTime now);
  // Called once when the log turns read-only.
  void on_failure(MoveOnlyFunction<void(const Status&)> callback);

  // --- read
  // --------------------------------------------------------------------------------------------------------
  // Bytes [position, position + size) if they lie within one entry that is still in the tail cache.
  // Shares memory.
  [[nodiscard]] std::optional<SharedBytes> cached(LogPosition position, size_t size) const;
  // Where [position, position + size) lies. kNotFound if it was dropped, kInvalidArgument if it is
  // not yet durable or crosses a segment. `position` is any byte position within an entry (header
  // included).
  [[nodiscard]] Result<ReadPlan> locate(LogPosition position, size_t size) const;

  // --- retention
  // ---------------------------------------------------------------------------------------------------
  // Gives whole sealed segments that end at or below `position` back (recycled or removed).
  // Requires: a snapshot that covers `position` is durable; otherwise nothing is dropped.
  void drop_prefix(LogPosition position);

  struct SegmentInfo {
    LogPosition first;
    LogPosition end;
    uint64_t file_bytes = 0;
    bool sealed = false;
  };

  [[nodiscard]] std::vector<SegmentInfo> segments() const;

  struct Counters {
    uint64_t syncs = 0;
    uint64_t bytes_written = 0;
    uint64_t entries = 0;
    uint64_t sync_ns_total = 0;
    uint64_t sync_ns_max = 0;
    uint64_t segments_recycled = 0;
  };

  [[nodiscard]] const Counters& counters() const;

 private:
  class Impl;
  explicit Log(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Bytes that an entry with this payload takes in the position space: header plus payload padded
// to 8.
inline constexpr size_t kEntryHeaderBytes = 48;

constexpr size_t entry_bytes(size_t payload_bytes) {
  return kEntryHeaderBytes + ((payload_bytes + 7) & ~size_t{7});
}

}  // namespace tidemark::log
