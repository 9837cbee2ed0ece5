#include "broker/shard/rebuild.h"

#include <deque>
#include <utility>

#include "log/file_names.h"
#include "log/segment_reader.h"

namespace tidemark::shard {

namespace {

struct Found {
  size_t segment = 0;
  log::SegmentEntry entry;
};

// Headers of all replicated entries that are not truncated, in order. Every hash is checked on the
// way.
Status find_entries(std::vector<log::SegmentReader>& readers, std::deque<Found>& found) {
  for (size_t i = 0; i < readers.size(); ++i) {
    log::SegmentReader& reader = readers[i];
    while (true) {
      log::SegmentEntry entry;
      ASSIGN_OR_RETURN(const auto step, reader.next(entry, LogPosition{0}));
      if (step == log::SegmentReader::Step::kEnd) {
        break;
      }
      if (step == log::SegmentReader::Step::kDamaged) {
        const uint64_t offset = reader.offset();
        const std::string why = reader.damage();
        ASSIGN_OR_RETURN(const bool more, reader.find_next(entry));
        const bool last = i + 1 == readers.size();
        if (last && (!more || entry.header().synced_to <= offset)) {
          return Status();  // an unacknowledged tail
        }
        return Status(ErrorCode::kCorrupted,
                      reader.name() + " at offset " + std::to_string(offset) + ": " + why);
      }
      if (entry.header().kind == log::EntryKind::kTruncate) {
        ASSIGN_OR_RETURN(const ByteView payload, reader.payload(entry));
        const auto truncation = log::decode_truncation(payload);
        if (!truncation) {
          return Status(ErrorCode::kCorrupted,
                        reader.name() + " at offset " + std::to_string(entry.offset));
        }
        while (!found.empty() && found.back().entry.header().index >= truncation->index) {
          found.pop_back();
        }
      } else if (static_cast<uint8_t>(entry.header().kind) <
                 static_cast<uint8_t>(log::EntryKind::kVote)) {
        found.push_back({i, entry});
      }
    }
  }
  return Status();
}

}  // namespace

Status replay_log(FileSystem& fs, const std::string& log_directory, Views& views) {
  ASSIGN_OR_RETURN(const auto files, log::list_segment_files(fs, log_directory));
  std::vector<log::SegmentReader> readers;
  for (const log::SegmentFileName& file : files) {
    ASSIGN_OR_RETURN(auto reader, log::SegmentReader::open(fs, log_directory + "/" + file.name));
    readers.push_back(std::move(reader));
  }
  std::deque<Found> found;
  RETURN_IF_ERROR(find_entries(readers, found));
  if (!found.empty() && found.front().entry.header().index > views.applied().index + 1) {
    return Status(ErrorCode::kNotFound,
                  "the log begins at index " +
                      std::to_string(found.front().entry.header().index.value()) +
                      "; the views cover up to " + std::to_string(views.applied().index.value()));
  }
  std::vector<RecordOutcome> outcomes;
  for (const Found& one : found) {
    const log::EntryHeader& header = one.entry.header();
    if (header.kind != log::EntryKind::kCommand || header.index <= views.applied().index) {
      continue;
    }
    ASSIGN_OR_RETURN(const ByteView payload, readers[one.segment].payload(one.entry));
    outcomes.clear();
    views.apply(header.index, header.term, header.position + log::kEntryHeaderBytes, payload,
                outcomes);
  }
  return Status();
}

Result<StateHash> hash_of_log(FileSystem& fs, const std::string& log_directory) {
  ASSIGN_OR_RETURN(const auto files, log::list_segment_files(fs, log_directory));
  if (files.empty()) {
    return Status(ErrorCode::kNotFound, "no segment in " + log_directory);
  }
  ASSIGN_OR_RETURN(const auto first,
                   log::SegmentReader::open(fs, log_directory + "/" + files.front().name));
  Views views(first.header().shard);
  RETURN_IF_ERROR(replay_log(fs, log_directory, views));
  return StateHash{views.hash(), views.applied().index};
}

}  // namespace tidemark::shard
