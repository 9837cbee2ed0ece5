#include "log/log.h"

#include <algorithm>
#include <charconv>

#include "log/base/check.h"
#include "log/base/limits.h"
#include "log/recovery.h"
#include "log/segment_appender.h"
#include "log/segment_set.h"

namespace tidemark::log {

namespace {

constexpr std::string_view kIntervalPrefix = "interval:";
constexpr uint32_t kIntervalMsMax = 60'000;
// Smallest segment that holds a header, a seal and something between; the configured minimum is
// limits::kSegmentBytesMin.
constexpr uint64_t kSegmentBytesLeast = 16 * limits::kKiB;

std::string text(LogPosition position) { return std::to_string(position.value()); }

}  // namespace

// --- options
// -----------------------------------------------------------------------------------------------------------

Result<FsyncPolicy> FsyncPolicy::parse(std::string_view text) {
  if (text == "batch") {
    return FsyncPolicy{Mode::kBatch, 0};
  }
  if (text == "never") {
    return FsyncPolicy{Mode::kNever, 0};
  }
  if (text.starts_with(kIntervalPrefix)) {
    const std::string_view digits = text.substr(kIntervalPrefix.size());
    uint32_t ms = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ms);
    if (error == std::errc() && end == digits.data() + digits.size() && ms >= 1 &&
        ms <= kIntervalMsMax) {
      return FsyncPolicy{Mode::kInterval, ms};
    }
  }
  return Status(ErrorCode::kInvalidArgument,
                "fsync policy \"" + std::string(text) +
                    "\"; allowed are batch, never and interval:<ms> with 1 to " +
                    std::to_string(kIntervalMsMax) + " ms");
}

std::string FsyncPolicy::to_string() const {
  switch (mode) {
    case Mode::kBatch:
      return "batch";
    case Mode::kInterval:
      return std::string(kIntervalPrefix) + std::to_string(interval_ms);
    case Mode::kNever:
      return "never";
  }
  return {};
}

Status ReadPlan::read(MutableByteView out) const {
  TIDEMARK_CHECK(segment_ != nullptr && out.size() == size_, "a plan is read as a whole");
  return segment_->file().read(offset_, out);
}

// --- the log
// -----------------------------------------------------------------------------------------------------------

class Log::Impl {
 public:
  Impl(FileSystem& fs, Executor& disk, Clock& clock, LogOptions log_options, SegmentSet recovered)
      : options(std::move(log_options)),
        set(std::move(recovered)),
        appender(fs, disk, clock, options, set) {}

  void cache(LogPosition position, SharedBytes payload);
  void forget_cached_from(LogPosition position);
  [[nodiscard]] bool may_drop(size_t i, LogPosition position) const;

  struct CachedEntry {
    LogPosition position;
    SharedBytes payload;
  };

  const LogOptions options;
  SegmentSet set;
  SegmentAppender appender;
  // Newest last, positions ascending. The oldest leave when there are too many bytes, but only once
  // they are durable.
  std::deque<CachedEntry> tail;
  size_t tail_bytes = 0;
  // Of the newest snapshot that is durable.
  LogPosition durable_snapshot;
};

void Log::Impl::cache(LogPosition position, SharedBytes payload) {
  tail_bytes += entry_bytes(payload.size());
  tail.push_back({position, std::move(payload)});
  while (tail_bytes > options.tail_cache_bytes && !tail.empty()) {
    const size_t bytes = entry_bytes(tail.front().payload.size());
    if (tail.front().position + bytes > appender.durable_position()) {
      break;
    }
    tail_bytes -= bytes;
    tail.pop_front();
  }
}

void Log::Impl::forget_cached_from(LogPosition position) {
  while (!tail.empty() && tail.back().position >= position) {
    tail_bytes -= entry_bytes(tail.back().payload.size());
    tail.pop_back();
  }
}

bool Log::Impl::may_drop(size_t i, LogPosition position) const {
  return i + 1 < set.segments().size() && set.segments()[i]->sealed && set.end_of(i) <= position;
}

Log::Log(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Log::~Log() = default;

Result<std::unique_ptr<Log>> Log::open(FileSystem& fs, Executor& disk, Clock& clock,
                                       LogOptions options, LogPosition verify_from,
                                       RecoveryReport* report) {
  if (options.segment_bytes < kSegmentBytesLeast ||
      options.segment_bytes > limits::kSegmentBytesMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "segment size of " + std::to_string(options.segment_bytes) +
                      " bytes; allowed are " + std::to_string(kSegmentBytesLeast) + " to " +
                      std::to_string(limits::kSegmentBytesMax));
  }
  RecoveryReport unused;
  ASSIGN_OR_RETURN(RecoveredLog recovered,
                   recover_log(fs, options, verify_from, report != nullptr ? *report : unused));
  auto impl = std::make_unique<Impl>(fs, disk, clock, std::move(options), std::move(recovered.set));
  RETURN_IF_ERROR(impl->appender.start(std::move(recovered.spares), recovered.next_spare_number));
  if (impl->set.snapshot()) {
    impl->durable_snapshot = impl->set.snapshot()->next_position;
  }
  return std::unique_ptr<Log>(new Log(std::move(impl)));
}

Result<std::vector<EntryInfo>> Log::entries_from(LogPosition from) const {
  return list_entries(impl_->set, from);
}

Vote Log::vote() const { return impl_->set.vote(); }

const std::optional<SnapshotManifest>& Log::snapshot() const { return impl_->set.snapshot(); }

Result<SharedBytes> Log::read_payload(const EntryInfo& entry) const {
  return read_entry_payload(impl_->set, entry);
}

// --- append
// ------------------------------------------------------------------------------------------------------------

bool Log::has_room(size_t payload_bytes, Room room) const {
  return impl_->appender.has_room(payload_bytes, room);
}

void Log::set_reserve(uint64_t bytes) { impl_->appender.set_reserve(bytes); }

bool Log::reserve_kept() const { return impl_->appender.reserve_kept(); }

LogPosition Log::append(EntryKind kind, Term term, LogIndex index, SharedBytes payload,
                        Completion done) {
  SharedBytes cached = payload;
  const LogPosition position =
      impl_->appender.append(kind, term, index, std::move(payload), std::move(done));
  if (failure().ok()) {
    impl_->cache(position, std::move(cached));
  }
  return position;
}

void Log::append_vote(Vote vote, Completion done) {
  impl_->appender.append_local(EntryKind::kVote, encode_vote(vote), std::move(done));
}

void Log::append_snapshot(SnapshotManifest manifest, Completion done) {
  TIDEMARK_CHECK(snapshot_bytes(manifest) <= limits::kSnapshotManifestBytesMax,
                 std::to_string(snapshot_bytes(manifest)) + " bytes of manifest");
  const LogPosition covered = manifest.next_position;
  if (manifest.index > impl_->set.last_index()) {
    // It replaces everything that is stored, and positions go on from another place.
    impl_->forget_cached_from(LogPosition{0});
  }
  // The completion fires while the appender, and so this Impl, is there.
  impl_->appender.append_local(EntryKind::kSnapshot, encode_snapshot(manifest),
                               [impl = impl_.get(), covered, done = std::move(done)]() mutable {
                                 impl->durable_snapshot = covered;
                                 if (done) {
                                   done();
                                 }
                               });
}

void Log::truncate_suffix(LogIndex index, LogPosition position, Completion done) {
  const SegmentSet& set = impl_->set;
  TIDEMARK_CHECK(index.value() > 0 && index <= set.last_index() + 1 &&
                     position >= first_position() && position <= next_position(),
                 "index " + std::to_string(index.value()) + ", position " + text(position));
  const Term term_before = set.term_of(LogIndex{index.value() - 1});
  impl_->forget_cached_from(position);
  impl_->appender.append_local(EntryKind::kTruncate,
                               encode_truncation({index, position, term_before}), std::move(done));
}

void Log::sync(Completion done) { impl_->appender.sync(std::move(done)); }

LogPosition Log::next_position() const { return impl_->set.next_position(); }

LogPosition Log::first_position() const { return impl_->set.first_position(); }

LogPosition Log::durable_position() const { return impl_->appender.durable_position(); }

size_t Log::unsynced_bytes() const { return impl_->appender.unsynced_bytes(); }

bool Log::idle() const { return impl_->appender.idle(); }

const Status& Log::failure() const { return impl_->appender.failure(); }

bool Log::disk_full() const { return impl_->appender.disk_full(); }

void Log::tick(MonotonicTime now) { impl_->appender.tick(now); }

void Log::on_failure(MoveOnlyFunction<void(const Status&)> callback) {
  impl_->appender.on_failure(std::move(callback));
}

// --- read
// --------------------------------------------------------------------------------------------------------------

std::optional<SharedBytes> Log::cached(LogPosition position, size_t size) const {
  const std::deque<Impl::CachedEntry>& tail = impl_->tail;
  const auto after = std::upper_bound(
      tail.begin(), tail.end(), position,
      [](LogPosition wanted, const Impl::CachedEntry& entry) { return wanted < entry.position; });
  if (after == tail.begin()) {
    return std::nullopt;
  }
  const Impl::CachedEntry& entry = *(after - 1);
  const uint64_t within = position - entry.position;
  // Only the payload is kept; nobody asks for the header of what was just appended.
  if (within < kEntryHeaderBytes || within - kEntryHeaderBytes > entry.payload.size() ||
      size > entry.payload.size() - (within - kEntryHeaderBytes)) {
    return std::nullopt;
  }
  return entry.payload.slice(static_cast<size_t>(within - kEntryHeaderBytes), size);
}

Result<ReadPlan> Log::locate(LogPosition position, size_t size) const {
  if (position < first_position()) {
    return Status(ErrorCode::kNotFound, "log position " + text(position) +
                                            " was dropped; the first one stored is " +
                                            text(first_position()));
  }
  const LogPosition durable = durable_position();
  if (position >= durable || size > durable - position) {
    return Status(ErrorCode::kInvalidArgument,
                  std::to_string(size) + " bytes from log position " + text(position) +
                      " are not durable yet; durable is up to " + text(durable));
  }
  const std::shared_ptr<Segment>& segment = impl_->set.find(position);
  const std::optional<PositionMap::Place> place = segment->map.find(position);
  if (!place || size > place->contiguous) {
    return Status(ErrorCode::kInvalidArgument, std::to_string(size) + " bytes from log position " +
                                                   text(position) + " do not lie within one entry");
  }
  ReadPlan plan;
  plan.segment_ = segment;
  plan.offset_ = place->offset;
  plan.size_ = size;
  return plan;
}

// --- retention
// ---------------------------------------------------------------------------------------------------------

void Log::drop_prefix(LogPosition position) {
  if (position > impl_->durable_snapshot || !failure().ok()) {
    return;
  }
  while (impl_->may_drop(0, position)) {
    impl_->appender.drop_first();
  }
}

std::vector<Log::SegmentInfo> Log::segments() const {
  const SegmentSet& set = impl_->set;
  std::vector<SegmentInfo> result;
  for (size_t i = 0; i < set.segments().size(); ++i) {
    const Segment& segment = *set.segments()[i];
    const LogPosition end = set.end_of(i);
    result.push_back({std::min(segment.reach, end), end, segment.file_bytes, segment.sealed});
  }
  return result;
}

const Log::Counters& Log::counters() const { return impl_->appender.counters(); }

}  // namespace tidemark::log
