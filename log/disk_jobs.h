// What the disk worker does for a log. Each struct is filled by the appender on the loop, run() on
// the worker, and read by the appender again afterwards; nobody else looks at it meanwhile. A job
// keeps what it works on alive.
//
// Decisions (positions, offsets, when to roll) are made before, on the loop; a job only executes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/file_system.h"
#include "log/base/status.h"
#include "log/log.h"
#include "log/recovery.h"
#include "log/segment.h"

namespace tidemark::log {

// An entry that has its place and is not durable yet.
struct PendingEntry {
  EntryHeader header;
  SharedBytes payload;
  uint64_t offset = 0;         // in the file
  Segment* segment = nullptr;  // alive as long as something waits for it
  LogPosition end;             // what is durable once this entry is
  Log::Completion done;

  [[nodiscard]] uint64_t end_offset() const { return offset + entry_bytes(payload.size()); }
};

// Hashes and writes a group of consecutive entries, and syncs if asked.
struct WriteWork {
  std::shared_ptr<Segment> segment;
  Clock* clock = nullptr;
  std::vector<PendingEntry> entries;
  uint64_t synced_to = 0;  // for the headers
  bool sync = false;
  uint64_t zeros = 0;  // written behind the entries; see Segment::touched_bytes

  Status status;
  uint64_t bytes = 0;  // of entries
  int64_t sync_ns = 0;

  void run();
};

// Syncs what was written before: for fsync = interval (without `done`), and for Log::sync().
struct SyncWork {
  std::shared_ptr<Segment> segment;
  Clock* clock = nullptr;
  uint64_t written_to = 0;
  Log::Completion done;

  Status status;
  int64_t sync_ns = 0;

  void run();
};

// The first bytes of a segment: header and the snapshot manifest in force. `segment`'s file still
// has the name of a spare file.
struct SegmentStart {
  std::shared_ptr<Segment> segment;
  std::string spare_name;
  std::vector<uint8_t> bytes;

  // Afterwards the segment is there under its own name, durably.
  Status run(FileSystem& fs, const std::string& directory) const;
};

// Ends one segment and starts the next one. In this order, so that a segment that can be seen has a
// predecessor that is whole: entries and seal of the old one, sync; header of the new one, sync;
// its name, sync of the directory.
struct RollWork {
  FileSystem* fs = nullptr;
  std::string directory;
  Clock* clock = nullptr;
  std::shared_ptr<Segment> old_segment;
  uint64_t seal_offset = 0;
  EntryHeader seal_header;
  std::vector<uint8_t> seal;
  SegmentStart start;

  Status status;
  uint64_t old_file_bytes = 0;
  int64_t sync_ns = 0;

  void run();
};

// Takes disk space: for `segment`, or for a spare file (which is created if it has no file yet).
struct SpaceWork {
  FileSystem* fs = nullptr;
  std::string directory;
  std::shared_ptr<Segment> segment;
  SpareFile spare;
  uint64_t bytes_wanted = 0;
  uint64_t bytes_least = 0;  // tried if there is no room for bytes_wanted

  Status status;
  uint64_t file_bytes = 0;

  void run();

 private:
  Status allocate(File& file);
};

// Gives segments back, oldest first and each one durably before the next, so that a crash never
// leaves a gap.
struct DropWork {
  FileSystem* fs = nullptr;
  std::string directory;

  struct Item {
    std::shared_ptr<Segment> segment;
    std::string spare_name;  // kept under this name; empty: removed
  };

  std::vector<Item> items;

  Status status;
  std::vector<SpareFile> spares;

  void run();

 private:
  Status drop(Item& item);
};

}  // namespace tidemark::log
