// Puts entries at the end of a log: gives them their places, writes and syncs them in groups, rolls
// to the next segment and takes disk space ahead of need.
//
// Owner:  Log. Thread: the shard's loop; start() is the only call that blocks.
// Jobs:   at most one write or roll, one that takes space, one sync and one that drops segments are
// out at a time, on
//         one ordered executor. A job that finishes after the appender is gone does nothing.
//
// Life of an entry:
//
//   append() -> queue_ -> WriteWork (hash, write, sync) -> done()
//                 |            ^
//                 |            | only while the file has disk space for the group: SpaceWork
//                 +-> RollWork | if the entry lies in the next segment; needs a spare file:
//                 SpaceWork
//
// Invariants: (1) entries are written in the order of append; (2) queue_ holds entries of writing_
// first, then of planned_ in order; (3) no byte is written behind file_bytes, so that no write
// fails for lack of space; (4) after a failure nothing is submitted and no completion fires.
//
// Space: behind an entry that has_room() allowed there is room for a seal and for the reserves
// (control entries, and those promised with set_reserve()). They lie in the last segment, or, if
// its capacity ends before, whole in a spare file; then the last segment has all its space, so that
// whatever still fits in it can be written.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "log/base/clock.h"
#include "log/base/executor.h"
#include "log/base/file_system.h"
#include "log/disk_jobs.h"
#include "log/log.h"
#include "log/recovery.h"
#include "log/segment_set.h"

namespace tidemark::log {

class SegmentAppender {
 public:
  // `set` and everything behind the references outlive the appender.
  SegmentAppender(FileSystem& fs, Executor& disk, Clock& clock, const LogOptions& options,
                  SegmentSet& set);
  ~SegmentAppender();
  SegmentAppender(const SegmentAppender&) = delete;
  SegmentAppender& operator=(const SegmentAppender&) = delete;

  // Takes over the spare files and, if the set is empty or ends with a sealed segment, creates the
  // next one.
  Status start(std::vector<SpareFile> spares, uint64_t next_spare_number);

  // The entry behind the last one of the set. Returns its position.
  LogPosition append(EntryKind kind, Term term, LogIndex index, SharedBytes payload,
                     Log::Completion done);
  // A local entry.
  void append_local(EntryKind kind, ByteView payload, Log::Completion done);
  // See Log.
  [[nodiscard]] bool has_room(size_t payload_bytes, Room room) const;
  void set_reserve(uint64_t bytes);
  [[nodiscard]] bool reserve_kept() const;
  // Removes or recycles the first segment of the set. Requires: it is sealed.
  void drop_first();
  void tick(MonotonicTime now);
  void on_failure(MoveOnlyFunction<void(const Status&)> callback);
  // See Log::sync().
  void sync(Log::Completion done);

  [[nodiscard]] LogPosition durable_position() const { return durable_; }

  [[nodiscard]] size_t unsynced_bytes() const { return unsynced_bytes_; }

  [[nodiscard]] bool idle() const;

  [[nodiscard]] const Status& failure() const { return failure_; }

  [[nodiscard]] bool disk_full() const { return disk_full_; }

  [[nodiscard]] const Log::Counters& counters() const { return counters_; }

 private:
  struct Owner {
    SegmentAppender* appender;
  };
  template <typename Work, void (SegmentAppender::*on_done)(Work&)>
  class OwnedJob;

  void place(EntryHeader header, SharedBytes payload, Log::Completion done);
  void make_room(uint64_t bytes);
  void plan_roll(uint64_t bytes);
  SegmentStart begin_segment(uint64_t bytes);
  void clamp_positions(LogPosition end);

  void pump();
  void submit_roll();
  void submit_write();
  void take_space();
  void grow_segment(const std::shared_ptr<Segment>& segment, uint64_t least);
  void grow_spare(uint64_t least);
  void give_spare(SpareFile spare);
  void submit_drop();
  template <auto on_done, typename Work>
  void submit(Work work);

  void on_written(WriteWork& work);
  void on_rolled(RollWork& work);
  void on_synced(SyncWork& work);
  void on_space(SpaceWork& work);
  void on_dropped(DropWork& work);
  void count_sync(int64_t ns);
  void fail(const Status& status);

  [[nodiscard]] uint64_t control_bytes() const;
  [[nodiscard]] uint64_t reserve_bytes() const;
  [[nodiscard]] bool fits(uint64_t bytes, uint64_t keep) const;
  [[nodiscard]] uint64_t headroom_bytes() const;
  [[nodiscard]] bool spare_has(uint64_t bytes) const;
  [[nodiscard]] uint64_t start_bytes_ahead() const;

  // A segment that has its place behind the one being written and is not on disk under its name
  // yet.
  struct Planned {
    SegmentStart start;
    uint64_t seal_offset = 0;  // of the segment before
    EntryHeader seal_header;
    std::vector<uint8_t> seal;

    [[nodiscard]] uint64_t sealed_bytes() const {
      return seal_offset + entry_bytes(seal.size()) + kSegmentTrailerBytes;
    }
  };

  FileSystem& fs_;
  Executor& disk_;
  Clock& clock_;
  const LogOptions& options_;
  SegmentSet& set_;
  std::shared_ptr<Owner> owner_;
  uint64_t incarnation_seed_;

  std::shared_ptr<Segment> writing_;
  uint64_t synced_to_ = 0;   // in the file of writing_
  uint64_t written_to_ = 0;  // likewise
  std::deque<Planned> planned_;
  std::deque<PendingEntry> queue_;
  LogPosition write_end_;  // what is durable once the write that is out is
  LogPosition durable_;
  size_t unsynced_bytes_ = 0;

  std::deque<DropWork::Item> to_drop_;
  std::vector<SpareFile> spares_;
  uint64_t next_spare_number_ = 0;
  uint64_t step_bytes_;
  // Largest entry that somebody asked room for; has_room() raises it.
  mutable uint64_t wanted_bytes_;
  uint64_t reserve_ = 0;       // as asked, without the cap
  uint64_t control_used_ = 0;  // of the control reserve, since the reserves were last whole
  bool disk_full_ = false;
  MonotonicTime retry_space_at_;

  bool write_out_ = false;  // a WriteWork or RollWork
  bool space_out_ = false;
  bool sync_out_ = false;
  bool drop_out_ = false;
  MonotonicTime last_sync_;
  Status failure_;
  MoveOnlyFunction<void(const Status&)> on_failure_;
  Log::Counters counters_;
};

}  // namespace tidemark::log
