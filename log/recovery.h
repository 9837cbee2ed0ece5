// What a log directory holds, found out at start. Blocking; no thread but the caller's.
//
// A crash can leave, and recovery puts right: an unacknowledged tail behind the last durable entry
// of the last segment, with any part of it missing (cut); a last segment with its seal and without
// a successor (the log starts one); a seal that was not written whole (cut; the segment goes on);
// spare files (reused or removed). A segment gets its final name only after its header and the seal
// of the one before it are durable, so anything else is damage and an error.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/result.h"
#include "log/log.h"
#include "log/segment_set.h"

namespace tidemark::log {

// A file that can become a segment without taking disk space.
struct SpareFile {
  std::string name;
  std::unique_ptr<File> file;
  uint64_t file_bytes = 0;
  uint64_t touched_bytes = 0;  // see Segment
};

struct RecoveredLog {
  // Every segment is open for reading, the last one also for writing. Empty: a new log.
  SegmentSet set;
  std::vector<SpareFile> spares;
  uint64_t next_spare_number = 0;
};

// kCorrupted names file, offset and position and leaves the directory as it was. kConflict: the log
// belongs to another cluster or shard.
Result<RecoveredLog> recover_log(FileSystem& fs, const LogOptions& options, LogPosition verify_from,
                                 RecoveryReport& report);

// Headers of the replicated entries from `from` on that are not truncated. Requires: `from` is the
// position of an entry or the end. kCorrupted names file, offset and position.
Result<std::vector<EntryInfo>> list_entries(const SegmentSet& set, LogPosition from);

// Payload of the entry at `entry.position`, verified. kCorrupted also if there is another entry at
// this position.
Result<SharedBytes> read_entry_payload(const SegmentSet& set, const EntryInfo& entry);

}  // namespace tidemark::log
