// The segments of a log in order, and what a walk through them says: positions, terms, vote,
// snapshot.
//
// The same rules serve the appender (which plans entries) and recovery (which finds them): an entry
// that apply() accepts when it is written is one that apply() accepts when it is read back.
//
// Owner: Log. Thread: the shard's loop. No file access.
// Invariants: (1) sequences are without gaps; (2) a segment starts where the one before ends; (3)
// `reach` never falls from one segment to the next.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/log.h"
#include "log/segment.h"
#include "log/segment_format.h"

namespace tidemark::log {

// Term of every index that is stored, and of the one before, run-length coded.
class TermTable {
 public:
  // Forgets everything; `base` is the entry before the first one to come.
  void reset(LogIndex base, Term term);
  void add(LogIndex index, Term term);
  // Forgets the indexes from `index` on. Requires: the base is lower.
  void truncate(LogIndex index);
  // Forgets what is not needed for `index` and later.
  void drop_before(LogIndex index);
  // Requires: at least the base.
  [[nodiscard]] Term term_of(LogIndex index) const;
  // Runs that cover [from, last], the first one cut to start at `from`.
  [[nodiscard]] std::vector<TermRun> runs(LogIndex from, LogIndex last) const;

  // Number of runs that reach into [from, end).
  [[nodiscard]] size_t run_count(LogIndex from) const;

  [[nodiscard]] bool covers(LogIndex index) const { return index >= runs_.front().index; }

 private:
  std::deque<TermRun> runs_;
};

// Where a log ends: what its next entry has to follow.
struct LogEnd {
  LogPosition position;  // of the next entry
  LogIndex index;        // of the last replicated entry
  Term term;             // of that entry
};

// Why an entry cannot be the next one behind `end`, or empty.
[[nodiscard]] std::string check_order(const LogEnd& end, const EntryHeader& header);

class SegmentSet {
 public:
  [[nodiscard]] bool empty() const { return segments_.empty(); }

  [[nodiscard]] const std::deque<std::shared_ptr<Segment>>& segments() const { return segments_; }

  [[nodiscard]] Segment& last() const { return *segments_.back(); }

  [[nodiscard]] const std::shared_ptr<Segment>& last_shared() const { return segments_.back(); }

  // Why `header` cannot follow, or empty.
  [[nodiscard]] std::string check_follows(const SegmentHeader& header) const;
  // Adds a segment without entries. Requires: check_follows().
  void start(std::shared_ptr<Segment> segment);
  // Adds a full segment by what its seal says. Returns why the seal cannot be right, or empty. Vote
  // and snapshot are not known from it: they are repeated at the start of the next one.
  [[nodiscard]] std::string adopt(std::shared_ptr<Segment> segment, const Seal& seal);

  // Takes up the entry behind the last one. Returns why it does not follow (nothing is changed
  // then), or empty. `payload` is only looked at for local kinds.
  [[nodiscard]] std::string apply(const EntryHeader& header, ByteView payload);

  // What the seal of the last segment says now.
  [[nodiscard]] Seal seal() const;
  // Bytes of that seal if one more entry of any kind is added before.
  [[nodiscard]] uint64_t seal_bytes_ahead() const;
  // The last segment has as many rows as one may have.
  [[nodiscard]] bool last_is_crowded() const;

  [[nodiscard]] LogPosition next_position() const { return last().map.end(); }

  [[nodiscard]] LogPosition first_position() const;

  [[nodiscard]] LogIndex last_index() const { return last_index_; }

  [[nodiscard]] Term last_term() const { return last_term_; }

  // Requires: the entry is stored, or the one before the first.
  [[nodiscard]] Term term_of(LogIndex index) const { return terms_.term_of(index); }

  [[nodiscard]] const Vote& vote() const { return vote_; }

  [[nodiscard]] const std::optional<SnapshotManifest>& snapshot() const { return snapshot_; }

  // The segment that holds `position`. Requires: first_position() <= position < next_position().
  [[nodiscard]] const std::shared_ptr<Segment>& find(LogPosition position) const;
  // Position from which on nothing is looked for in segment number `i` of the set.
  [[nodiscard]] LogPosition end_of(size_t i) const;
  // Requires: more than one segment.
  std::shared_ptr<Segment> drop_first();

 private:
  std::string apply_truncation(const EntryHeader& header, ByteView payload);
  std::string apply_snapshot(const EntryHeader& header, ByteView payload);
  std::string apply_seal(ByteView payload);
  void go_back_to(LogIndex index, Term term);
  void lower_reach();

  std::deque<std::shared_ptr<Segment>> segments_;
  TermTable terms_;
  LogIndex last_index_;
  Term last_term_;
  Vote vote_;
  std::optional<SnapshotManifest> snapshot_;
  std::optional<LogFloor> floor_;
};

}  // namespace tidemark::log
