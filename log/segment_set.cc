#include "log/segment_set.h"

#include <algorithm>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::log {

namespace {

template <typename Id>
std::string text(Id id) {
  return std::to_string(id.value());
}

bool is_same_seal(const Seal& a, const Seal& b) {
  return a.end == b.end && a.last_index == b.last_index && a.last_term == b.last_term &&
         a.low_index == b.low_index && a.term_before_low == b.term_before_low &&
         a.replicated_entries == b.replicated_entries && a.local_entries == b.local_entries &&
         a.floor == b.floor && a.rows == b.rows && a.runs == b.runs;
}

}  // namespace

void TermTable::reset(LogIndex base, Term term) { runs_.assign(1, {base, term}); }

void TermTable::add(LogIndex index, Term term) {
  if (runs_.back().term != term) {
    runs_.push_back({index, term});
  }
}

void TermTable::truncate(LogIndex index) {
  TIDEMARK_CHECK(runs_.front().index < index, "the base of the term table stays");
  while (runs_.back().index >= index) {
    runs_.pop_back();
  }
}

void TermTable::drop_before(LogIndex index) {
  while (runs_.size() > 1 && runs_[1].index <= index) {
    runs_.pop_front();
  }
  runs_.front().index = std::max(runs_.front().index, index);
}

Term TermTable::term_of(LogIndex index) const {
  TIDEMARK_CHECK(covers(index), "the term of a dropped entry is not known");
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), index,
                       [](LogIndex wanted, const TermRun& run) { return wanted < run.index; });
  return (after - 1)->term;
}

std::vector<TermRun> TermTable::runs(LogIndex from, LogIndex last) const {
  std::vector<TermRun> result;
  if (from > last) {
    return result;
  }
  result.push_back({from, term_of(from)});
  for (const TermRun& run : runs_) {
    if (run.index > from && run.index <= last) {
      result.push_back(run);
    }
  }
  return result;
}

size_t TermTable::run_count(LogIndex from) const {
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), from,
                       [](LogIndex wanted, const TermRun& run) { return wanted < run.index; });
  return static_cast<size_t>(runs_.end() - after) + 1;
}

std::string check_order(const LogEnd& end, const EntryHeader& header) {
  if (header.position != end.position) {
    return "its position is " + text(header.position) + ", expected " + text(end.position);
  }
  const uint64_t index = end.index.value() + (is_replicated(header.kind) ? 1 : 0);
  if (header.index.value() != index) {
    return "its index is " + text(header.index) + ", expected " + std::to_string(index);
  }
  if (header.term < end.term || (!is_replicated(header.kind) && header.term != end.term)) {
    return "its term is " + text(header.term) + " after term " + text(end.term);
  }
  return {};
}

std::string SegmentSet::check_follows(const SegmentHeader& header) const {
  if (segments_.empty()) {
    return {};
  }
  const SegmentHeader& before = last().header();
  if (header.sequence != before.sequence + 1) {
    return "segment " + std::to_string(before.sequence + 1) + " is missing";
  }
  if (header.cluster_id != before.cluster_id || header.shard != before.shard) {
    return "it belongs to another cluster or shard than the segment before";
  }
  if (header.first_position != next_position() ||
      header.first_index.value() != last_index_.value() + 1 || header.term_before != last_term_) {
    return "it starts at position " + text(header.first_position) + ", index " +
           text(header.first_index) + ", but the segment before ends at position " +
           text(next_position()) + ", index " + text(last_index_);
  }
  return {};
}

void SegmentSet::start(std::shared_ptr<Segment> segment) {
  const SegmentHeader& header = segment->header();
  TIDEMARK_CHECK(check_follows(header).empty(), "segments follow one another");
  if (segments_.empty()) {
    last_index_ = LogIndex{header.first_index.value() - 1};
    last_term_ = header.term_before;
    terms_.reset(last_index_, last_term_);
  }
  vote_ = header.vote;
  segments_.push_back(std::move(segment));
}

std::string SegmentSet::adopt(std::shared_ptr<Segment> segment, const Seal& seal) {
  start(std::move(segment));
  Segment& added = last();
  if (seal.floor) {
    floor_ = seal.floor;
  }
  if (seal.low_index > added.header().first_index && !seal.floor) {
    return "its seal names entry " + text(seal.low_index) + " as its lowest";
  }
  go_back_to(seal.low_index, seal.term_before_low);
  for (const TermRun& run : seal.runs) {
    terms_.add(run.index, run.term);
  }
  added.map = PositionMap(seal.rows, seal.end);
  added.low_index = seal.low_index;
  added.floor = seal.floor;
  added.replicated_entries = seal.replicated_entries;
  added.local_entries = seal.local_entries;
  last_index_ = seal.last_index;
  last_term_ = seal.last_term;
  if (!terms_.covers(last_index_) || terms_.term_of(last_index_) != last_term_) {
    return "its seal contradicts itself on the last term";
  }
  lower_reach();
  return {};
}

std::string SegmentSet::apply(const EntryHeader& header, ByteView payload) {
  if (std::string wrong = check_order({next_position(), last_index_, last_term_}, header);
      !wrong.empty()) {
    return wrong;
  }
  Segment& segment = last();
  const uint64_t bytes = entry_bytes(header.payload_bytes);
  switch (header.kind) {
    case EntryKind::kCommand:
    case EntryKind::kBarrier:
    case EntryKind::kConfiguration:
      segment.map.add_replicated(bytes);
      last_index_ = header.index;
      last_term_ = header.term;
      terms_.add(last_index_, last_term_);
      ++segment.replicated_entries;
      return {};
    case EntryKind::kVote: {
      const std::optional<Vote> vote = decode_vote(payload);
      if (!vote) {
        return "a vote that cannot be read";
      }
      vote_ = *vote;
      segment.map.add_local(bytes);
      ++segment.local_entries;
      return {};
    }
    case EntryKind::kTruncate:
      return apply_truncation(header, payload);
    case EntryKind::kSnapshot:
      return apply_snapshot(header, payload);
    case EntryKind::kSeal:
      return apply_seal(payload);
  }
  return "an unknown kind of entry";
}

std::string SegmentSet::apply_truncation(const EntryHeader& header, ByteView payload) {
  const std::optional<Truncation> truncation = decode_truncation(payload);
  if (!truncation) {
    return "a truncation that cannot be read";
  }
  const auto [index, position, term_before] = *truncation;
  if (index.value() > last_index_.value() + 1 || index.value() == 0 || position > next_position() ||
      (floor_ && position < floor_->position) || position.value() % 8 != 0) {
    return "a truncation to index " + text(index) + ", position " + text(position) +
           ", which is not stored";
  }
  Segment& segment = last();
  segment.map.fall_back(position, entry_bytes(header.payload_bytes));
  segment.low_index = std::min(segment.low_index, index);
  ++segment.local_entries;
  go_back_to(index, term_before);
  last_index_ = LogIndex{index.value() - 1};
  last_term_ = term_before;
  lower_reach();
  return {};
}

// The next entry has `index` and follows one of `term`. What lies before may have been dropped
// since.
void SegmentSet::go_back_to(LogIndex index, Term term) {
  const LogIndex before{index.value() - 1};
  if (terms_.covers(before) && terms_.term_of(before) == term) {
    terms_.truncate(index);
  } else {
    terms_.reset(before, term);
  }
}

std::string SegmentSet::apply_snapshot(const EntryHeader& header, ByteView payload) {
  std::optional<SnapshotManifest> manifest = decode_snapshot(payload);
  if (!manifest || manifest->next_position.value() % 8 != 0) {
    return "a snapshot manifest that cannot be read";
  }
  Segment& segment = last();
  const uint64_t bytes = entry_bytes(header.payload_bytes);
  if (manifest->index <= last_index_) {
    if (manifest->next_position > next_position()) {
      return "a snapshot manifest that ends at position " + text(manifest->next_position) +
             ", behind the end of the log";
    }
    segment.map.add_local(bytes);
  } else {
    floor_ = LogFloor{manifest->next_position, manifest->index, manifest->term};
    segment.floor = floor_;
    segment.map.restart(manifest->next_position, bytes);
    segment.low_index = manifest->index + 1;
    last_index_ = manifest->index;
    last_term_ = manifest->term;
    terms_.reset(last_index_, last_term_);
    lower_reach();
  }
  ++segment.local_entries;
  snapshot_ = std::move(manifest);
  return {};
}

std::string SegmentSet::apply_seal(ByteView payload) {
  const std::optional<Seal> found = decode_seal(payload);
  if (!found || !is_same_seal(*found, seal())) {
    return "a seal that does not say what the segment holds";
  }
  return {};
}

Seal SegmentSet::seal() const {
  const Segment& segment = last();
  Seal seal;
  seal.end = segment.map.end();
  seal.last_index = last_index_;
  seal.last_term = last_term_;
  seal.low_index = segment.low_index;
  seal.term_before_low = terms_.term_of(LogIndex{segment.low_index.value() - 1});
  seal.replicated_entries = segment.replicated_entries;
  seal.local_entries = segment.local_entries;
  seal.floor = segment.floor;
  seal.rows = segment.map.rows();
  seal.runs = terms_.runs(segment.low_index, last_index_);
  return seal;
}

uint64_t SegmentSet::seal_bytes_ahead() const {
  const Segment& segment = last();
  return seal_bytes(segment.map.rows().size() + 1, terms_.run_count(segment.low_index) + 1);
}

bool SegmentSet::last_is_crowded() const {
  const Segment& segment = last();
  return segment.map.rows().size() >= limits::kSegmentRowsMax ||
         terms_.run_count(segment.low_index) >= limits::kSegmentRowsMax;
}

LogPosition SegmentSet::first_position() const {
  const LogPosition stored = segments_.front()->reach;
  return floor_ ? std::max(stored, floor_->position) : stored;
}

const std::shared_ptr<Segment>& SegmentSet::find(LogPosition position) const {
  TIDEMARK_CHECK(position >= first_position() && position < next_position());
  const auto after =
      std::upper_bound(segments_.begin(), segments_.end(), position,
                       [](LogPosition wanted, const std::shared_ptr<Segment>& segment) {
                         return wanted < segment->reach;
                       });
  return *(after - 1);
}

LogPosition SegmentSet::end_of(size_t i) const {
  const LogPosition end = segments_[i]->map.end();
  return i + 1 < segments_.size() ? std::min(end, segments_[i + 1]->reach) : end;
}

std::shared_ptr<Segment> SegmentSet::drop_first() {
  TIDEMARK_CHECK(segments_.size() > 1, "the segment that is written stays");
  std::shared_ptr<Segment> dropped = std::move(segments_.front());
  segments_.pop_front();
  LogIndex lowest = segments_.front()->header().first_index;
  for (const std::shared_ptr<Segment>& segment : segments_) {
    lowest = std::min(lowest, segment->low_index);
  }
  terms_.drop_before(LogIndex{lowest.value() - 1});
  return dropped;
}

void SegmentSet::lower_reach() {
  const LogPosition low = last().map.low();
  last().reach = low;
  for (size_t i = segments_.size() - 1; i > 0 && segments_[i - 1]->reach > low; --i) {
    segments_[i - 1]->reach = low;
  }
}

}  // namespace tidemark::log
