#include "log/verify.h"

#include <algorithm>
#include <optional>

#include "log/file_names.h"
#include "log/segment_format.h"
#include "log/segment_reader.h"
#include "log/segment_set.h"

namespace tidemark::log {

namespace {

class Verifier {
 public:
  Verifier(FileSystem& fs, const std::string& directory) : fs_(fs), directory_(directory) {}

  Result<LogVerification> run();

 private:
  void check_segment(const SegmentFileName& file, bool is_last);
  void begin(const SegmentReader& reader);
  Status walk(SegmentReader& reader);
  Status take(SegmentReader& reader, const SegmentEntry& entry);
  Status finish(SegmentReader& reader, const SegmentEntry& seal);
  // Goes on behind a bad place. False: nothing that verifies follows.
  Result<bool> skip_damage(SegmentReader& reader, const std::string& what);
  void restart_at(const SegmentReader& reader, const SegmentEntry& entry);
  void add(LogFinding::Kind kind, uint64_t offset, std::string what);

  FileSystem& fs_;
  const std::string& directory_;
  LogVerification result_;
  std::string file_;
  bool is_last_ = false;
  // What is expected next. Behind damage it starts anew from the first entry found there, and no
  // longer knows everything before: a truncation may then name an entry that it has not seen.
  SegmentSet set_;
  bool unknown_ = false;    // the next entry is taken as it is
  bool restarted_ = false;  // somewhere before
  bool whole_ = true;       // not in this segment: its seal can be checked
};

void Verifier::add(LogFinding::Kind kind, uint64_t offset, std::string what) {
  if (result_.findings.size() >= kLogFindingsMax) {
    return;
  }
  if (result_.findings.size() + 1 == kLogFindingsMax) {
    what += " (further findings are not listed)";
  }
  const LogPosition position = set_.empty() ? LogPosition{} : set_.next_position();
  result_.findings.push_back({kind, file_, offset, position, std::move(what)});
}

void Verifier::begin(const SegmentReader& reader) {
  if (unknown_) {
    set_ = SegmentSet();
    unknown_ = false;
  }
  if (const std::string wrong = set_.check_follows(reader.header()); !wrong.empty()) {
    add(LogFinding::Kind::kDamage, 0, wrong);
    set_ = SegmentSet();
    restarted_ = true;
  }
  whole_ = true;
  set_.start(std::make_shared<Segment>(reader.header(), reader.seed()));
}

// What lies before `entry` is not known: it is taken as the first one of its segment.
void Verifier::restart_at(const SegmentReader& reader, const SegmentEntry& entry) {
  SegmentHeader header = reader.header();
  const EntryHeader& found = entry.header();
  const uint64_t next = found.index.value() + (is_replicated(found.kind) ? 0 : 1);
  header.first_position = found.position;
  header.first_index = LogIndex{std::max<uint64_t>(next, 1)};
  header.term_before = found.term;
  set_ = SegmentSet();
  set_.start(std::make_shared<Segment>(header, reader.seed()));
  unknown_ = false;
  restarted_ = true;
  whole_ = false;
}

// Counts an entry that verifies and checks that it follows the one before.
Status Verifier::take(SegmentReader& reader, const SegmentEntry& entry) {
  ByteView payload;
  const bool is_local = !is_replicated(entry.header().kind);
  if (is_local) {
    ASSIGN_OR_RETURN(payload, reader.payload(entry));
  }
  ++(is_local ? result_.local_entries : result_.replicated_entries);
  result_.bytes += entry.end_offset() - entry.offset;
  if (unknown_) {
    restart_at(reader, entry);
  }
  std::string wrong = set_.apply(entry.header(), payload);
  if (wrong.empty()) {
    return {};
  }
  if (!restarted_ || entry.header().kind != EntryKind::kTruncate) {
    add(LogFinding::Kind::kDamage, entry.offset, wrong);
    restart_at(reader, entry);
    wrong = set_.apply(entry.header(), payload);
  }
  unknown_ = !wrong.empty();
  whole_ = false;
  return {};
}

Status Verifier::finish(SegmentReader& reader, const SegmentEntry& seal) {
  if (whole_) {
    RETURN_IF_ERROR(take(reader, seal));
  }
  if (!reader.seal_offset()) {
    add(is_last_ ? LogFinding::Kind::kTornTail : LogFinding::Kind::kNote, seal.offset,
        "a seal without a good trailer");
  }
  return {};
}

Result<bool> Verifier::skip_damage(SegmentReader& reader, const std::string& what) {
  const uint64_t bad_offset = reader.offset();
  SegmentEntry entry;
  ASSIGN_OR_RETURN(const bool found, reader.find_next(entry));
  if (found) {
    const bool torn = is_last_ && entry.header().synced_to <= bad_offset;
    add(torn ? LogFinding::Kind::kTornTail : LogFinding::Kind::kDamage, bad_offset,
        what + "; the next entry that verifies is at offset " + std::to_string(entry.offset) +
            ", log position " + std::to_string(entry.header().position.value()));
    unknown_ = true;
    reader.seek(entry.offset);
    return true;
  }
  if (!is_last_) {
    add(LogFinding::Kind::kDamage, bad_offset, what + "; no entry follows");
    unknown_ = true;
    return false;
  }
  ASSIGN_OR_RETURN(const bool clean, reader.only_zeros_from(bad_offset));
  if (!clean) {
    if (reader.seal_offset()) {
      add(LogFinding::Kind::kTornTail, bad_offset, what + "; a trailer without its seal");
      return false;
    }
    // In a recycled file bytes of its last use follow the end; only a header of this use is a torn
    // entry.
    ASSIGN_OR_RETURN(const std::optional<EntryHeader> torn, reader.header_at(bad_offset));
    add(torn ? LogFinding::Kind::kTornTail : LogFinding::Kind::kNote, bad_offset,
        torn ? "an entry that was not written whole: " + what
             : "the entries end here; what follows belongs to none");
  }
  return false;
}

Status Verifier::walk(SegmentReader& reader) {
  while (true) {
    SegmentEntry entry;
    ASSIGN_OR_RETURN(const SegmentReader::Step step, reader.next(entry, LogPosition{}));
    if (step == SegmentReader::Step::kEntry) {
      if (entry.header().kind == EntryKind::kSeal) {
        return finish(reader, entry);
      }
      RETURN_IF_ERROR(take(reader, entry));
      continue;
    }
    const bool damaged = step == SegmentReader::Step::kDamaged;
    ASSIGN_OR_RETURN(const bool more,
                     skip_damage(reader, damaged ? reader.damage() : "zeros instead of an entry"));
    if (!more) {
      return {};
    }
  }
}

void Verifier::check_segment(const SegmentFileName& file, bool is_last) {
  file_ = file.name;
  is_last_ = is_last;
  ++result_.segments;
  Result<SegmentReader> reader = SegmentReader::open(fs_, directory_ + "/" + file.name);
  if (!reader) {
    add(LogFinding::Kind::kDamage, 0, reader.error().to_string());
    unknown_ = true;
    restarted_ = true;
    return;
  }
  const SegmentHeader& header = reader->header();
  if (header.sequence != file.sequence || header.first_position != file.first) {
    add(LogFinding::Kind::kDamage, 0,
        "the header is that of " + segment_file_name(header.sequence, header.first_position));
  }
  result_.sealed_segments += reader->seal_offset() ? 1 : 0;
  begin(*reader);
  if (const Status status = walk(*reader); !status.ok()) {
    add(LogFinding::Kind::kDamage, reader->offset(), status.to_string());
  }
  if (!set_.empty()) {
    result_.end = set_.next_position();
  }
}

Result<LogVerification> Verifier::run() {
  ASSIGN_OR_RETURN(const std::vector<SegmentFileName> files, list_segment_files(fs_, directory_));
  if (!files.empty()) {
    result_.first = files.front().first;
  }
  for (const SegmentFileName& file : files) {
    check_segment(file, file.sequence == files.back().sequence);
  }
  return std::move(result_);
}

}  // namespace

bool LogVerification::damaged() const {
  return std::any_of(findings.begin(), findings.end(), [](const LogFinding& finding) {
    return finding.kind == LogFinding::Kind::kDamage;
  });
}

Result<LogVerification> verify_log(FileSystem& fs, const std::string& directory) {
  return Verifier(fs, directory).run();
}

}  // namespace tidemark::log
