#include "log/recovery.h"

#include <algorithm>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"
#include "log/base/limits.h"
#include "log/file_names.h"
#include "log/segment_reader.h"

namespace tidemark::log {

namespace {

constexpr uint64_t kRewriteBytes = limits::kMiB;

std::string place(const SegmentReader& reader, uint64_t offset, LogPosition position) {
  return reader.name() + ": offset " + std::to_string(offset) + ", log position " +
         std::to_string(position.value());
}

class Recovery {
 public:
  Recovery(FileSystem& fs, const LogOptions& options, LogPosition verify_from,
           RecoveryReport& report)
      : fs_(fs), options_(options), verify_from_(verify_from), report_(report) {}

  Result<RecoveredLog> run();

 private:
  Status add_segment(const SegmentFileName& file, bool is_last);
  Status check_header(const SegmentFileName& file, const SegmentHeader& header) const;
  Status walk_full(SegmentReader& reader);
  Status walk_last(SegmentReader& reader);
  Status judge_tail(SegmentReader& reader, uint64_t bad_offset, const std::string& why);
  Status cut_tail(SegmentReader& reader, uint64_t offset);
  Status make_durable(uint64_t end);
  Status collect_spares(const std::vector<std::string>& names);
  Result<bool> adopt_by_seal(SegmentReader& reader, const std::shared_ptr<Segment>& segment);
  // True: the entry was taken up. False: it does not follow; `why_` says so.
  Result<bool> take(SegmentReader& reader, const SegmentEntry& entry);

  FileSystem& fs_;
  const LogOptions& options_;
  LogPosition verify_from_;
  RecoveryReport& report_;
  RecoveredLog log_;
  // In the segment being walked: everything below was durable when its newest entry was written.
  uint64_t synced_to_ = kSegmentHeaderBytes;
  std::string why_;
};

Result<RecoveredLog> Recovery::run() {
  ASSIGN_OR_RETURN(const std::vector<SegmentFileName> files,
                   list_segment_files(fs_, options_.directory));
  for (size_t i = 0; i < files.size(); ++i) {
    RETURN_IF_ERROR(add_segment(files[i], i + 1 == files.size()));
    ++report_.segments;
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.list(options_.directory));
  RETURN_IF_ERROR(collect_spares(names));
  if (!files.empty() || !log_.spares.empty()) {
    // The process before us may have been stopped between a rename and its sync: nothing may be
    // written to a file whose name could still change.
    RETURN_IF_ERROR(fs_.sync_directory(options_.directory));
  }
  return std::move(log_);
}

Status Recovery::check_header(const SegmentFileName& file, const SegmentHeader& header) const {
  const std::string path = options_.directory + "/" + file.name;
  if (header.cluster_id != options_.cluster_id || header.shard != options_.shard) {
    return {ErrorCode::kConflict, path + ": belongs to cluster " +
                                      std::to_string(header.cluster_id) + ", shard " +
                                      std::to_string(header.shard.value()) + "; this is cluster " +
                                      std::to_string(options_.cluster_id) + ", shard " +
                                      std::to_string(options_.shard.value())};
  }
  if (header.sequence != file.sequence || header.first_position != file.first) {
    return {ErrorCode::kCorrupted, path + ": the header says segment " +
                                       std::to_string(header.sequence) + " from log position " +
                                       std::to_string(header.first_position.value())};
  }
  if (const std::string wrong = log_.set.check_follows(header); !wrong.empty()) {
    return {ErrorCode::kCorrupted, path + ": " + wrong};
  }
  return {};
}

Status Recovery::add_segment(const SegmentFileName& file, bool is_last) {
  const std::string path = options_.directory + "/" + file.name;
  ASSIGN_OR_RETURN(std::unique_ptr<File> opened,
                   fs_.open(path, is_last ? OpenMode::kReadWrite : OpenMode::kReadOnly));
  ASSIGN_OR_RETURN(SegmentReader reader, SegmentReader::over(*opened, path));
  RETURN_IF_ERROR(check_header(file, reader.header()));
  auto segment = std::make_shared<Segment>(reader.header(), reader.seed());
  segment->attach(std::move(opened), reader.file_bytes());
  if (!is_last && reader.seal_offset()) {
    ASSIGN_OR_RETURN(const bool adopted, adopt_by_seal(reader, segment));
    if (adopted) {
      return {};
    }
  }
  log_.set.start(segment);
  synced_to_ = kSegmentHeaderBytes;
  // The last segment is always walked: vote and snapshot are found there.
  return is_last ? walk_last(reader) : walk_full(reader);
}

// True if nothing but the seal had to be read.
Result<bool> Recovery::adopt_by_seal(SegmentReader& reader,
                                     const std::shared_ptr<Segment>& segment) {
  reader.seek(*reader.seal_offset());
  SegmentEntry entry;
  ASSIGN_OR_RETURN(const SegmentReader::Step step, reader.next(entry, LogPosition{}));
  std::optional<Seal> seal;
  if (step == SegmentReader::Step::kEntry && entry.header().kind == EntryKind::kSeal) {
    ASSIGN_OR_RETURN(const ByteView payload, reader.payload(entry));
    seal = decode_seal(payload);
  }
  reader.seek(kSegmentHeaderBytes);
  if (!seal) {
    report_.notes.push_back(reader.name() +
                            ": the seal does not verify; all entries were read instead");
    return false;
  }
  if (seal->end > verify_from_) {
    TIDEMARK_COVERAGE_MARK(recovery_sealed_segment_walked);
    return false;
  }
  if (const std::string wrong = log_.set.adopt(segment, *seal); !wrong.empty()) {
    return Status(ErrorCode::kCorrupted, reader.name() + ": " + wrong);
  }
  TIDEMARK_COVERAGE_MARK(recovery_adopted_by_seal);
  segment->sealed = true;
  return true;
}

Result<bool> Recovery::take(SegmentReader& reader, const SegmentEntry& entry) {
  ByteView payload;
  if (!is_replicated(entry.header().kind)) {
    ASSIGN_OR_RETURN(payload, reader.payload(entry));
  }
  why_ = log_.set.apply(entry.header(), payload);
  if (!why_.empty()) {
    return false;
  }
  synced_to_ = std::max(synced_to_, entry.header().synced_to);
  if (entry.verified) {
    ++report_.entries_verified;
    report_.bytes_verified += entry.end_offset() - entry.offset;
  }
  return true;
}

// A segment that has a successor: every byte of it was durable.
Status Recovery::walk_full(SegmentReader& reader) {
  while (true) {
    SegmentEntry entry;
    ASSIGN_OR_RETURN(const SegmentReader::Step step, reader.next(entry, verify_from_));
    const LogPosition position = log_.set.next_position();
    if (step == SegmentReader::Step::kEntry) {
      ASSIGN_OR_RETURN(const bool taken, take(reader, entry));
      if (!taken) {
        return {ErrorCode::kCorrupted, place(reader, entry.offset, position) + ": " + why_};
      }
      if (entry.header().kind == EntryKind::kSeal) {
        log_.set.last().sealed = true;
        if (!reader.seal_offset()) {
          report_.notes.push_back(reader.name() + ": the trailer does not verify; all entries do");
        }
        return {};
      }
      continue;
    }
    // The next segment's header says where this one ends. Without a seal that may still be here; if
    // it is not, check_follows() refuses the next one.
    if (step == SegmentReader::Step::kEnd && !reader.seal_offset()) {
      log_.set.last().sealed = true;
      report_.notes.push_back(reader.name() + ": the seal is missing");
      return {};
    }
    return {
        ErrorCode::kCorrupted,
        place(reader, reader.offset(), position) + ": " +
            (step == SegmentReader::Step::kDamaged ? reader.damage() : "no entry before the seal")};
  }
}

// The segment that was being written.
Status Recovery::walk_last(SegmentReader& reader) {
  while (true) {
    SegmentEntry entry;
    ASSIGN_OR_RETURN(const SegmentReader::Step step, reader.next(entry, verify_from_));
    std::string why;
    uint64_t bad_offset = reader.offset();
    if (step == SegmentReader::Step::kEntry) {
      const bool is_seal = entry.header().kind == EntryKind::kSeal;
      // Without a good trailer behind it a seal was not finished, and nothing was written after it.
      if (is_seal && reader.seal_offset() != entry.offset) {
        TIDEMARK_COVERAGE_MARK(recovery_seal_without_trailer);
        why = "a seal without a trailer";
      } else {
        ASSIGN_OR_RETURN(const bool taken, take(reader, entry));
        if (taken && is_seal) {
          TIDEMARK_COVERAGE_MARK(recovery_last_is_sealed);
          log_.set.last().sealed = true;
          return make_durable(reader.file_bytes());
        }
        if (taken) {
          continue;
        }
        why = why_;
      }
      bad_offset = entry.offset;
    } else {
      why = step == SegmentReader::Step::kDamaged ? reader.damage() : "zeros";
    }
    return judge_tail(reader, bad_offset, why);
  }
}

// Entries end at `bad_offset`. If an entry further on was written after more than that was durable,
// what is bad there had been good: damage. Otherwise it is the tail of a write that nobody was told
// of.
Status Recovery::judge_tail(SegmentReader& reader, uint64_t bad_offset, const std::string& why) {
  const LogPosition position = log_.set.next_position();
  TIDEMARK_CHECK(log_.set.last().map.tail() == bad_offset, "the map counts what was read");
  uint64_t torn_end = bad_offset;
  reader.seek(bad_offset);
  SegmentEntry entry;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, reader.find_next(entry));
    if (!found) {
      break;
    }
    if (entry.header().synced_to > bad_offset) {
      return {ErrorCode::kCorrupted,
              place(reader, bad_offset, position) + ": " + why + ", but the entry at offset " +
                  std::to_string(entry.offset) + " (log position " +
                  std::to_string(entry.header().position.value()) +
                  ") was written after this place was durable up to offset " +
                  std::to_string(entry.header().synced_to)};
    }
    TIDEMARK_COVERAGE_MARK(recovery_entries_behind_torn_one);
    torn_end = entry.end_offset();
  }
  ASSIGN_OR_RETURN(const bool clean, reader.only_zeros_from(bad_offset));
  if (!clean) {
    // The header of the entry that is torn may have arrived; in a recycled file anything else may
    // be old.
    ASSIGN_OR_RETURN(const std::optional<EntryHeader> torn, reader.header_at(bad_offset));
    if (torn && torn_end == bad_offset) {
      torn_end = std::min(bad_offset + entry_bytes(torn->payload_bytes), reader.file_bytes());
    }
    if (torn_end > bad_offset) {
      TIDEMARK_COVERAGE_MARK(recovery_torn_tail_cut);
      report_.torn_bytes_cut += torn_end - bad_offset;
      report_.notes.push_back(place(reader, bad_offset, position) + ": cut " +
                              std::to_string(torn_end - bad_offset) +
                              " bytes of an unacknowledged tail (" + why + ")");
    }
    RETURN_IF_ERROR(cut_tail(reader, bad_offset));
  }
  return make_durable(bad_offset);
}

// What the last process wrote and did not sync counts from now on, so it has to be durable. It is
// written once more: if a sync of it has failed, the kernel took it for written, and another sync
// would say so and store nothing.
Status Recovery::make_durable(uint64_t end) {
  File& file = log_.set.last().file();
  if (synced_to_ < end) {
    TIDEMARK_COVERAGE_MARK(recovery_unsynced_written_again);
  }
  Buffer buffer(static_cast<size_t>(std::min(kRewriteBytes, end - std::min(end, synced_to_))));
  for (uint64_t at = synced_to_; at < end; at += buffer.size()) {
    const MutableByteView piece = buffer.mutable_view().first(
        static_cast<size_t>(std::min<uint64_t>(buffer.size(), end - at)));
    RETURN_IF_ERROR(file.read(at, piece));
    const ByteView part(piece);
    RETURN_IF_ERROR(file.write(at, {&part, 1}));
  }
  if (log_.set.last().sealed) {
    RETURN_IF_ERROR(file.truncate(end));
  }
  return file.sync();
}

// Afterwards only zeros follow `offset`: an old entry there would fit behind a later one of the
// same length.
Status Recovery::cut_tail(SegmentReader& reader, uint64_t offset) {
  Segment& segment = log_.set.last();
  RETURN_IF_ERROR(segment.file().truncate(offset));
  const Status allocated = segment.file().allocate(reader.file_bytes());
  if (allocated.code() == ErrorCode::kDiskFull) {
    // The log asks again when it needs the space.
    segment.file_bytes = offset;
    return segment.file().truncate(offset);
  }
  return allocated;
}

Status Recovery::collect_spares(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::optional<uint64_t> number = parse_spare_file_name(name);
    if (!number) {
      continue;
    }
    log_.next_spare_number = std::max(log_.next_spare_number, *number + 1);
    const std::string path = options_.directory + "/" + name;
    if (log_.spares.size() == limits::kRecycledSegmentsMax) {
      TIDEMARK_COVERAGE_MARK(recovery_spare_removed);
      RETURN_IF_ERROR(fs_.remove(path));
      continue;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.open(path, OpenMode::kReadWrite));
    ASSIGN_OR_RETURN(const uint64_t bytes, file->size());
    TIDEMARK_COVERAGE_MARK(recovery_spare_found);
    log_.spares.push_back({name, std::move(file), bytes});
  }
  return {};
}

}  // namespace

Result<RecoveredLog> recover_log(FileSystem& fs, const LogOptions& options, LogPosition verify_from,
                                 RecoveryReport& report) {
  return Recovery(fs, options, verify_from, report).run();
}

namespace {

// The entries from a position on. What a seal says of a segment was taken on trust when the log was
// opened; here its entries have to agree.
class EntryList {
 public:
  explicit EntryList(LogPosition from) : end_{from, {}, {}} {}

  // Those of one segment from `offset` on, without those that it voids.
  Status add(const Segment& segment, uint64_t offset);

  std::vector<EntryInfo> take() { return std::move(entries_); }

 private:
  // Why it does not follow, or empty.
  std::string check(const EntryHeader& header);
  // False: a payload that cannot be read.
  Result<bool> apply(SegmentReader& reader, const SegmentEntry& entry);

  [[nodiscard]] Status damaged(const SegmentReader& reader, uint64_t offset,
                               const std::string& why) const {
    return {ErrorCode::kCorrupted, place(reader, offset, end_.position) + ": " + why};
  }

  std::vector<EntryInfo> entries_;
  LogEnd end_;
  bool begun_ = false;
};

std::string EntryList::check(const EntryHeader& header) {
  if (!begun_) {
    // The first one says itself what it follows.
    begun_ = true;
    end_.index = LogIndex{header.index.value() - (is_replicated(header.kind) ? 1 : 0)};
    end_.term = header.term;
  }
  return check_order(end_, header);
}

Result<bool> EntryList::apply(SegmentReader& reader, const SegmentEntry& entry) {
  const EntryHeader& header = entry.header();
  if (is_replicated(header.kind)) {
    entries_.push_back(entry.info());
    end_ = {header.position + entry_bytes(header.payload_bytes), header.index, header.term};
    return true;
  }
  ASSIGN_OR_RETURN(const ByteView payload, reader.payload(entry));
  if (header.kind == EntryKind::kTruncate) {
    const std::optional<Truncation> truncation = decode_truncation(payload);
    if (!truncation) {
      return false;
    }
    while (!entries_.empty() && entries_.back().position >= truncation->position) {
      entries_.pop_back();
    }
    end_ = {truncation->position, LogIndex{truncation->index.value() - 1}, truncation->term_before};
  } else if (header.kind == EntryKind::kSnapshot) {
    const std::optional<SnapshotManifest> manifest = decode_snapshot(payload);
    if (!manifest) {
      return false;
    }
    if (manifest->index > header.index) {
      entries_.clear();
      end_ = {manifest->next_position, manifest->index, manifest->term};
    }
  }
  return true;
}

Status EntryList::add(const Segment& segment, uint64_t offset) {
  ASSIGN_OR_RETURN(SegmentReader reader, SegmentReader::over(segment.file(), segment.name()));
  reader.seek(offset);
  while (reader.offset() < segment.map.tail()) {
    const uint64_t at = reader.offset();
    SegmentEntry entry;
    // Nothing but the headers; local entries are verified all the same.
    ASSIGN_OR_RETURN(const SegmentReader::Step step, reader.next(entry, LogPosition{UINT64_MAX}));
    if (step != SegmentReader::Step::kEntry) {
      return damaged(reader, at, "no entry");
    }
    if (const std::string wrong = check(entry.header()); !wrong.empty()) {
      return damaged(reader, at, wrong);
    }
    ASSIGN_OR_RETURN(const bool applied, apply(reader, entry));
    if (!applied) {
      return damaged(reader, at, "an entry that cannot be read");
    }
  }
  if (end_.position != segment.map.end()) {
    return damaged(reader, reader.offset(),
                   "its entries end here, its seal says at log position " +
                       std::to_string(segment.map.end().value()));
  }
  return {};
}

}  // namespace

Result<std::vector<EntryInfo>> list_entries(const SegmentSet& set, LogPosition from) {
  if (from == set.next_position()) {
    return std::vector<EntryInfo>();
  }
  if (from < set.first_position() || from > set.next_position()) {
    return Status(ErrorCode::kNotFound, "log position " + std::to_string(from.value()) +
                                            " is not stored; the log has " +
                                            std::to_string(set.first_position().value()) + " to " +
                                            std::to_string(set.next_position().value()));
  }
  const std::shared_ptr<Segment>& first = set.find(from);
  const std::optional<PositionMap::Place> start = first->map.find(from);
  TIDEMARK_CHECK(start.has_value(), "the set found this segment by its map");
  EntryList entries(from);
  bool reached = false;
  for (const std::shared_ptr<Segment>& segment : set.segments()) {
    if (segment == first) {
      reached = true;
      RETURN_IF_ERROR(entries.add(*segment, start->offset));
    } else if (reached) {
      RETURN_IF_ERROR(entries.add(*segment, kSegmentHeaderBytes));
    }
  }
  return entries.take();
}

Result<SharedBytes> read_entry_payload(const SegmentSet& set, const EntryInfo& entry) {
  const std::string name = "entry at log position " + std::to_string(entry.position.value());
  if (entry.position < set.first_position() || entry.position >= set.next_position()) {
    return Status(ErrorCode::kNotFound, name + " is not stored");
  }
  const Segment& segment = *set.find(entry.position);
  const std::optional<PositionMap::Place> at = segment.map.find(entry.position);
  TIDEMARK_CHECK(at.has_value(), "the set found this segment by its map");
  const std::string where = segment.name() + ": offset " + std::to_string(at->offset) + ", " + name;
  EntryHeaderBytes bytes;
  RETURN_IF_ERROR(segment.file().read(at->offset, bytes));
  const std::optional<DecodedEntryHeader> decoded = decode_entry_header(bytes, segment.seed());
  if (!decoded) {
    return Status(ErrorCode::kCorrupted, where + ": no entry header that verifies");
  }
  const EntryHeader& header = decoded->header;
  if (header.position != entry.position || header.index != entry.index ||
      header.term != entry.term || header.kind != entry.kind ||
      header.payload_bytes != entry.payload_bytes) {
    return Status(ErrorCode::kCorrupted, where + ": another entry than expected");
  }
  Buffer payload(header.payload_bytes);
  RETURN_IF_ERROR(segment.file().read(at->offset + kEntryHeaderBytes, payload.mutable_view()));
  if (!decoded->payload_matches(payload.view())) {
    return Status(ErrorCode::kCorrupted, where + ": the payload does not match its hash");
  }
  return SharedBytes(std::move(payload));
}

}  // namespace tidemark::log
