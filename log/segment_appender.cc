#include "log/segment_appender.h"

#include <algorithm>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"
#include "log/base/limits.h"
#include "log/base/logging.h"
#include "log/base/random.h"
#include "log/file_names.h"

namespace tidemark::log {

namespace {

constexpr int64_t kSpaceRetryNs = 200'000'000;

// A small group takes so many zeros along for those that follow it: a hundredth of the groups pays
// a millisecond for them, the others are spared the journal. What is larger gains nothing by it,
// and the disk would write twice as much.
constexpr uint64_t kZeroAheadBytes = 256 * limits::kKiB;
constexpr uint64_t kSmallGroupBytesMax = 32 * limits::kKiB;

}  // namespace

// --- jobs
// --------------------------------------------------------------------------------------------------------------

template <typename Work, void (SegmentAppender::*on_done)(Work&)>
class SegmentAppender::OwnedJob final : public Job {
 public:
  OwnedJob(std::shared_ptr<Owner> owner, Work work)
      : owner_(std::move(owner)), work_(std::move(work)) {}

  void run() override { work_.run(); }

  void finish() override {
    if (owner_->appender != nullptr) {
      (owner_->appender->*on_done)(work_);
    }
  }

 private:
  std::shared_ptr<Owner> owner_;
  Work work_;
};

template <auto on_done, typename Work>
void SegmentAppender::submit(Work work) {
  disk_.submit(std::make_unique<OwnedJob<Work, on_done>>(owner_, std::move(work)));
}

// --- life
// --------------------------------------------------------------------------------------------------------------

SegmentAppender::SegmentAppender(FileSystem& fs, Executor& disk, Clock& clock,
                                 const LogOptions& options, SegmentSet& set)
    : fs_(fs),
      disk_(disk),
      clock_(clock),
      options_(options),
      set_(set),
      owner_(std::make_shared<Owner>(Owner{this})),
      incarnation_seed_(options.incarnation_seed != 0 ? options.incarnation_seed
                                                      : seed_from_system()),
      step_bytes_(std::min(limits::kAllocateStepBytesMin, options.segment_bytes)),
      wanted_bytes_(std::min<uint64_t>(entry_bytes(limits::kEntryPayloadBytesMax),
                                       options.segment_bytes / 4)),
      last_sync_(clock.monotonic()) {}

SegmentAppender::~SegmentAppender() { owner_->appender = nullptr; }

Status SegmentAppender::start(std::vector<SpareFile> spares, uint64_t next_spare_number) {
  spares_ = std::move(spares);
  next_spare_number_ = next_spare_number;
  if (!set_.empty() && !set_.last().sealed) {
    writing_ = set_.last_shared();
    writing_->capacity = options_.segment_bytes;
    written_to_ = writing_->map.tail();
  } else {
    SegmentStart first = begin_segment(0);
    // Small, so that a new log is there at once; more is taken when the loop runs.
    SpaceWork space;
    space.fs = &fs_;
    space.directory = options_.directory;
    space.bytes_wanted = std::max(step_bytes_, first.bytes.size() + set_.seal_bytes_ahead());
    space.bytes_least = space.bytes_wanted;
    if (spares_.empty()) {
      space.spare.name = spare_file_name(next_spare_number_++);
    } else {
      space.spare = std::move(spares_.back());
      spares_.pop_back();
      space.bytes_wanted = std::max(space.bytes_wanted, space.spare.file_bytes);
    }
    space.run();
    RETURN_IF_ERROR(space.status);
    first.spare_name = space.spare.name;
    first.segment->attach(std::move(space.spare.file), space.file_bytes);
    RETURN_IF_ERROR(first.run(fs_, options_.directory));
    writing_ = first.segment;
    written_to_ = first.bytes.size();
  }
  synced_to_ = written_to_;
  durable_ = write_end_ = set_.next_position();
  return {};
}

bool SegmentAppender::idle() const {
  return !write_out_ && !space_out_ && !sync_out_ && !drop_out_ && queue_.empty();
}

void SegmentAppender::on_failure(MoveOnlyFunction<void(const Status&)> callback) {
  on_failure_ = std::move(callback);
}

void SegmentAppender::fail(const Status& status) {
  if (!failure_.ok()) {
    return;
  }
  failure_ = status;
  log_line(LogLevel::kError, "log_read_only shard=" + std::to_string(options_.shard.value()) +
                                 " error=\"" + status.to_string() + "\"");
  // Nobody is told of these: whether they are on disk is not known.
  queue_.clear();
  planned_.clear();
  if (on_failure_) {
    on_failure_(failure_);
  }
}

// --- places
// ------------------------------------------------------------------------------------------------------------

// Both reserves, capped: see Log::set_reserve().
uint64_t SegmentAppender::reserve_bytes() const {
  return std::min(control_bytes() + reserve_, options_.segment_bytes / 4);
}

uint64_t SegmentAppender::control_bytes() const {
  return std::min(limits::kControlReserveBytes, options_.segment_bytes / 8);
}

// What a segment has to have free for the largest entry that is expected.
uint64_t SegmentAppender::headroom_bytes() const {
  return wanted_bytes_ + reserve_bytes() + set_.seal_bytes_ahead();
}

uint64_t SegmentAppender::start_bytes_ahead() const {
  return kSegmentHeaderBytes +
         (set_.snapshot() ? entry_bytes(snapshot_bytes(*set_.snapshot())) : 0);
}

bool SegmentAppender::spare_has(uint64_t bytes) const {
  return !spares_.empty() && spares_.back().file_bytes >= bytes;
}

bool SegmentAppender::has_room(size_t payload_bytes, Room room) const {
  const uint64_t bytes = entry_bytes(payload_bytes);
  // Asking is what makes the appender take that much space ahead.
  wanted_bytes_ = std::max(wanted_bytes_, bytes);
  switch (room) {
    case Room::kOrdinary:
      return fits(bytes, reserve_bytes());
    case Room::kReserved:
      break;
  }
  // What control entries took of theirs was not taken from this one's.
  return fits(bytes, control_bytes() - std::min(control_bytes(), control_used_));
}

// True if an entry of `bytes` has its space and leaves `keep`.
bool SegmentAppender::fits(uint64_t bytes, uint64_t keep) const {
  const Segment& last = set_.last();
  if (!failure_.ok() || !last.has_file()) {
    return false;
  }
  const uint64_t tail = last.map.tail();
  const uint64_t seal = set_.seal_bytes_ahead();
  if (tail + bytes + seal > last.capacity || set_.last_is_crowded()) {
    return tail + seal <= last.file_bytes && spare_has(start_bytes_ahead() + bytes + seal + keep);
  }
  if (tail + bytes + seal + keep <= std::min(last.file_bytes, last.capacity)) {
    return true;
  }
  // At the end of a segment the reserve lies in the next one.
  if (tail + bytes + seal + keep > last.capacity && last.file_bytes >= last.capacity &&
      spare_has(start_bytes_ahead() + seal + keep)) {
    TIDEMARK_COVERAGE_MARK(log_reserve_in_next_segment);
    return true;
  }
  return false;
}

bool SegmentAppender::reserve_kept() const { return fits(0, reserve_bytes()); }

void SegmentAppender::set_reserve(uint64_t bytes) {
  reserve_ = std::min(bytes, options_.segment_bytes);
  pump();
}

LogPosition SegmentAppender::append(EntryKind kind, Term term, LogIndex index, SharedBytes payload,
                                    Log::Completion done) {
  TIDEMARK_CHECK(is_replicated(kind), "local entries have calls of their own");
  make_room(entry_bytes(payload.size()));
  EntryHeader header;
  header.kind = kind;
  header.term = term;
  header.index = index;
  header.position = set_.next_position();
  const LogPosition position = header.position;
  place(header, std::move(payload), std::move(done));
  return position;
}

void SegmentAppender::append_local(EntryKind kind, ByteView payload, Log::Completion done) {
  make_room(entry_bytes(payload.size()));
  EntryHeader header;
  header.kind = kind;
  header.term = set_.last_term();
  header.index = set_.last_index();
  header.position = set_.next_position();
  place(header, SharedBytes(Buffer::copy_of(payload)), std::move(done));
  if (set_.next_position() != header.position) {
    clamp_positions(set_.next_position());
  }
}

// Rolls if an entry of `bytes` does not fit in the last segment.
void SegmentAppender::make_room(uint64_t bytes) {
  const Segment& last = set_.last();
  if (!failure_.ok() || (last.map.tail() + bytes + set_.seal_bytes_ahead() <= last.capacity &&
                         !set_.last_is_crowded())) {
    return;
  }
  Planned planned;
  planned.seal_offset = last.map.tail();
  planned.seal = encode_seal(set_.seal());
  planned.seal_header.kind = EntryKind::kSeal;
  planned.seal_header.payload_bytes = static_cast<uint32_t>(planned.seal.size());
  planned.seal_header.term = set_.last_term();
  planned.seal_header.index = set_.last_index();
  planned.seal_header.position = set_.next_position();
  planned.start = begin_segment(bytes);
  planned_.push_back(std::move(planned));
  if (!spares_.empty()) {
    SpareFile spare = std::move(spares_.back());
    spares_.pop_back();
    give_spare(std::move(spare));
  }
}

// Adds a segment to the set whose first entry will take `bytes`.
SegmentStart SegmentAppender::begin_segment(uint64_t bytes) {
  SegmentHeader header;
  header.cluster_id = options_.cluster_id;
  header.shard = options_.shard;
  header.sequence = 1;
  header.first_index = LogIndex{1};
  if (!set_.empty()) {
    header.sequence = set_.last().header().sequence + 1;
    header.first_position = set_.next_position();
    header.first_index = set_.last_index() + 1;
    header.term_before = set_.last_term();
    header.vote = set_.vote();
  }
  header.incarnation = Random(incarnation_seed_ + header.sequence).next();

  SegmentStart start;
  start.bytes.resize(kSegmentHeaderBytes);
  const uint64_t seed = encode_segment_header(header, start.bytes);
  start.segment = std::make_shared<Segment>(header, seed);
  set_.start(start.segment);
  if (set_.snapshot()) {
    // Old segments may go; the manifest has to stay within reach.
    std::vector<uint8_t> payload = encode_snapshot(*set_.snapshot());
    const EntryHeader entry{.kind = EntryKind::kSnapshot,
                            .payload_bytes = static_cast<uint32_t>(payload.size()),
                            .term = set_.last_term(),
                            .index = set_.last_index(),
                            .position = set_.next_position(),
                            .synced_to = kSegmentHeaderBytes};
    EntryHeaderBytes entry_header;
    encode_entry_header(entry, seed, payload, entry_header);
    start.bytes.insert(start.bytes.end(), entry_header.begin(), entry_header.end());
    start.bytes.insert(start.bytes.end(), payload.begin(), payload.end());
    start.bytes.resize(kSegmentHeaderBytes + entry_bytes(payload.size()));
    const std::string wrong = set_.apply(entry, payload);
    TIDEMARK_CHECK(wrong.empty(), wrong);
  }
  start.segment->capacity =
      std::max(options_.segment_bytes, start.bytes.size() + bytes + set_.seal_bytes_ahead());
  return start;
}

void SegmentAppender::place(EntryHeader header, SharedBytes payload, Log::Completion done) {
  TIDEMARK_CHECK(payload.size() <= limits::kEntryPayloadBytesMax,
                 std::to_string(payload.size()) + " bytes of payload");
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  Segment& last = set_.last();
  const uint64_t offset = last.map.tail();
  const uint64_t used_before = offset + set_.seal_bytes_ahead();
  const std::string wrong = set_.apply(header, payload.view());
  TIDEMARK_CHECK(wrong.empty(), wrong);
  if (header.kind != EntryKind::kCommand) {
    const uint64_t used = last.map.tail() + set_.seal_bytes_ahead();
    control_used_ += used - std::min(used, used_before);
  }
  if (!failure_.ok()) {
    return;
  }
  ++counters_.entries;
  unsynced_bytes_ += payload.size();
  queue_.push_back({.header = header,
                    .payload = std::move(payload),
                    .offset = offset,
                    .segment = &last,
                    .end = set_.next_position(),
                    .done = std::move(done)});
  pump();
}

// Positions from `end` on are void, also those of entries that are still on their way to the disk.
void SegmentAppender::clamp_positions(LogPosition end) {
  durable_ = std::min(durable_, end);
  write_end_ = std::min(write_end_, end);
  for (PendingEntry& entry : queue_) {
    entry.end = std::min(entry.end, end);
  }
}

// --- writing
// -----------------------------------------------------------------------------------------------------------

// Starts what can be started. Called after everything that may have made something possible.
void SegmentAppender::pump() {
  if (!failure_.ok()) {
    return;
  }
  if (control_used_ != 0 && reserve_kept()) {
    control_used_ = 0;
  }
  if (!write_out_ && !queue_.empty()) {
    if (queue_.front().segment != writing_.get()) {
      submit_roll();
    } else if (queue_.front().end_offset() <= writing_->file_bytes) {
      submit_write();
    }
  }
  take_space();
}

void SegmentAppender::submit_write() {
  WriteWork work;
  work.segment = writing_;
  work.clock = &clock_;
  work.synced_to = synced_to_;
  work.sync = options_.fsync.mode == FsyncPolicy::Mode::kBatch;
  uint64_t bytes = 0;
  while (!queue_.empty()) {
    PendingEntry& next = queue_.front();
    const uint64_t next_bytes = entry_bytes(next.payload.size());
    if (next.segment != writing_.get() || next.end_offset() > writing_->file_bytes ||
        (!work.entries.empty() && bytes + next_bytes > limits::kGroupCommitBytesMax)) {
      break;
    }
    bytes += next_bytes;
    work.entries.push_back(std::move(next));
    queue_.pop_front();
  }
  const uint64_t end = work.entries.back().end_offset();
  if (end > writing_->touched_bytes) {
    if (work.sync && bytes <= kSmallGroupBytesMax) {
      work.zeros =
          std::min({kZeroAheadBytes, options_.segment_bytes / 16, writing_->file_bytes - end});
    }
    writing_->touched_bytes = end + work.zeros;
  }
  write_end_ = work.entries.back().end;
  write_out_ = true;
  submit<&SegmentAppender::on_written>(std::move(work));
}

void SegmentAppender::on_written(WriteWork& work) {
  write_out_ = false;
  if (!work.status.ok()) {
    fail(work.status);
  }
  if (!failure_.ok()) {
    return;
  }
  counters_.bytes_written += work.bytes;
  written_to_ = work.entries.back().end_offset();
  if (work.sync) {
    synced_to_ = written_to_;
    count_sync(work.sync_ns);
  }
  durable_ = write_end_;
  for (const PendingEntry& entry : work.entries) {
    unsynced_bytes_ -= entry.payload.size();
  }
  // The disk gets its next group before the loop deals with this one.
  pump();
  const std::shared_ptr<Owner> owner = owner_;
  for (PendingEntry& entry : work.entries) {
    if (entry.done) {
      entry.done();
    }
    if (owner->appender == nullptr) {
      return;
    }
  }
}

// Requires: everything planned for writing_ is written.
void SegmentAppender::submit_roll() {
  Planned& next = planned_.front();
  Segment& segment = *next.start.segment;
  if (writing_->file_bytes < next.sealed_bytes() || !segment.has_file() ||
      segment.file_bytes < next.start.bytes.size()) {
    TIDEMARK_COVERAGE_MARK(log_roll_waits_for_space);
    return;  // take_space() is on it
  }
  RollWork work;
  work.fs = &fs_;
  work.directory = options_.directory;
  work.clock = &clock_;
  work.old_segment = writing_;
  work.seal_offset = next.seal_offset;
  work.seal_header = next.seal_header;
  work.seal_header.synced_to = synced_to_;
  work.seal = next.seal;
  work.start = next.start;
  write_out_ = true;
  submit<&SegmentAppender::on_rolled>(std::move(work));
}

void SegmentAppender::on_rolled(RollWork& work) {
  write_out_ = false;
  if (!work.status.ok()) {
    fail(work.status);
  }
  if (!failure_.ok()) {
    return;
  }
  count_sync(work.sync_ns);
  counters_.bytes_written += work.old_file_bytes - work.seal_offset + work.start.bytes.size();
  writing_->sealed = true;
  writing_->file_bytes = work.old_file_bytes;
  writing_ = work.start.segment;
  planned_.pop_front();
  written_to_ = synced_to_ = work.start.bytes.size();
  pump();
}

void SegmentAppender::count_sync(int64_t ns) {
  ++counters_.syncs;
  counters_.sync_ns_total += static_cast<uint64_t>(ns);
  counters_.sync_ns_max = std::max(counters_.sync_ns_max, static_cast<uint64_t>(ns));
}

void SegmentAppender::tick(MonotonicTime now) {
  if (!failure_.ok()) {
    return;
  }
  const int64_t interval_ns = int64_t{options_.fsync.interval_ms} * 1'000'000;
  if (options_.fsync.mode == FsyncPolicy::Mode::kInterval && !sync_out_ &&
      written_to_ > synced_to_ && now.ns - last_sync_.ns >= interval_ns) {
    last_sync_ = now;
    sync_out_ = true;
    SyncWork work;
    work.segment = writing_;
    work.clock = &clock_;
    work.written_to = written_to_;
    submit<&SegmentAppender::on_synced>(std::move(work));
  }
  pump();
}

void SegmentAppender::sync(Log::Completion done) {
  if (!failure_.ok()) {
    return;
  }
  // Segments before the one being written were synced when they were sealed.
  SyncWork work;
  work.segment = writing_;
  work.clock = &clock_;
  work.written_to = written_to_;
  work.done = std::move(done);
  submit<&SegmentAppender::on_synced>(std::move(work));
}

void SegmentAppender::on_synced(SyncWork& work) {
  if (!work.done) {
    sync_out_ = false;
  }
  if (!work.status.ok()) {
    fail(work.status);
  }
  if (!failure_.ok()) {
    return;
  }
  count_sync(work.sync_ns);
  if (work.segment == writing_) {
    synced_to_ = std::max(synced_to_, work.written_to);
  }
  if (work.done) {
    work.done();
  }
}

// --- space
// -------------------------------------------------------------------------------------------------------------

// First for what waits, then ahead of need.
void SegmentAppender::take_space() {
  if (space_out_ || (disk_full_ && clock_.monotonic() < retry_space_at_)) {
    return;
  }
  if (!planned_.empty() && writing_->file_bytes < planned_.front().sealed_bytes()) {
    grow_segment(writing_, planned_.front().sealed_bytes());
    return;
  }
  for (const Planned& planned : planned_) {
    const std::shared_ptr<Segment>& segment = planned.start.segment;
    if (!segment->has_file()) {
      grow_spare(planned.start.bytes.size() + headroom_bytes());
      return;
    }
    if (segment->file_bytes < planned.start.bytes.size()) {
      grow_segment(segment, planned.start.bytes.size());
      return;
    }
  }
  const Segment& last = set_.last();
  const uint64_t tail = last.map.tail();
  const uint64_t headroom = headroom_bytes();
  const uint64_t most = std::max(last.capacity, tail + set_.seal_bytes_ahead());
  if (last.file_bytes < std::min(most, tail + std::max(step_bytes_, headroom))) {
    grow_segment(set_.last_shared(), std::min(most, tail + headroom));
    return;
  }
  const uint64_t left = last.capacity - std::min(last.capacity, tail);
  const uint64_t spare_bytes = start_bytes_ahead() + headroom;
  if ((left < std::max(headroom, options_.segment_bytes / 4) || set_.last_is_crowded()) &&
      !spare_has(spare_bytes)) {
    grow_spare(spare_bytes);
  }
}

void SegmentAppender::grow_segment(const std::shared_ptr<Segment>& segment, uint64_t least) {
  const uint64_t most = std::max(segment->capacity, least);
  const uint64_t step_least =
      segment->file_bytes + std::min(step_bytes_, limits::kAllocateStepBytesMin);
  SpaceWork work;
  work.segment = segment;
  work.bytes_wanted = std::min(most, std::max(least, segment->file_bytes + step_bytes_));
  work.bytes_least = std::min(most, std::max(least, step_least));
  space_out_ = true;
  submit<&SegmentAppender::on_space>(std::move(work));
}

void SegmentAppender::grow_spare(uint64_t least) {
  SpaceWork work;
  work.fs = &fs_;
  work.directory = options_.directory;
  if (spares_.empty()) {
    work.spare.name = spare_file_name(next_spare_number_++);
  } else {
    work.spare = std::move(spares_.back());
    spares_.pop_back();
  }
  // By a step at least: a reserve grows by little, many times.
  work.bytes_wanted =
      std::max(least, work.spare.file_bytes +
                          std::min(limits::kAllocateStepBytesMin, options_.segment_bytes));
  work.bytes_least = least;
  space_out_ = true;
  submit<&SegmentAppender::on_space>(std::move(work));
}

void SegmentAppender::on_space(SpaceWork& work) {
  space_out_ = false;
  if (!work.status.ok() && work.status.code() != ErrorCode::kDiskFull) {
    fail(work.status);
  }
  if (!failure_.ok()) {
    return;
  }
  disk_full_ = !work.status.ok();
  if (disk_full_) {
    TIDEMARK_COVERAGE_MARK(log_disk_full);
    retry_space_at_ = {clock_.monotonic().ns + kSpaceRetryNs};
  } else if (work.segment != nullptr) {
    work.segment->file_bytes = std::max(work.segment->file_bytes, work.file_bytes);
    step_bytes_ =
        std::min({step_bytes_ * 2, limits::kAllocateStepBytesMax, options_.segment_bytes});
  }
  // A spare that could not grow is still one.
  if (work.spare.file != nullptr) {
    give_spare(std::move(work.spare));
  }
  pump();
}

// To the first planned segment without a file, or kept.
void SegmentAppender::give_spare(SpareFile spare) {
  for (Planned& planned : planned_) {
    if (!planned.start.segment->has_file()) {
      TIDEMARK_COVERAGE_MARK(log_spare_becomes_segment);
      planned.start.spare_name = std::move(spare.name);
      planned.start.segment->attach(std::move(spare.file), spare.file_bytes);
      planned.start.segment->touched_bytes = spare.touched_bytes;
      return;
    }
  }
  spares_.push_back(std::move(spare));
}

void SegmentAppender::drop_first() {
  TIDEMARK_CHECK(set_.segments().front()->sealed, "only whole segments are given back");
  DropWork::Item item;
  item.segment = set_.drop_first();
  to_drop_.push_back(std::move(item));
  submit_drop();
}

void SegmentAppender::submit_drop() {
  if (drop_out_ || to_drop_.empty() || !failure_.ok()) {
    return;
  }
  DropWork work;
  work.fs = &fs_;
  work.directory = options_.directory;
  size_t kept = spares_.size();
  while (!to_drop_.empty()) {
    DropWork::Item item = std::move(to_drop_.front());
    to_drop_.pop_front();
    // A reader may still hold the file: then it must not be written to again.
    if (kept < limits::kRecycledSegmentsMax && item.segment.use_count() == 1) {
      item.spare_name = spare_file_name(next_spare_number_++);
      ++kept;
    }
    work.items.push_back(std::move(item));
  }
  drop_out_ = true;
  submit<&SegmentAppender::on_dropped>(std::move(work));
}

void SegmentAppender::on_dropped(DropWork& work) {
  drop_out_ = false;
  if (!work.status.ok()) {
    fail(work.status);
  }
  if (!failure_.ok()) {
    return;
  }
  for (SpareFile& spare : work.spares) {
    TIDEMARK_COVERAGE_MARK(log_segment_recycled);
    ++counters_.segments_recycled;
    give_spare(std::move(spare));
  }
  submit_drop();
  pump();
}

}  // namespace tidemark::log
