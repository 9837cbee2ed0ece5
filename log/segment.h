// One segment file and the map from log positions to its bytes.
//
// Owner:  SegmentSet; a ReadPlan and jobs of the disk worker share it, so that its file outlives
// its place in the set. Thread: header, seed and file never change once set and may be used from
// any thread (File says who may write);
//         everything else belongs to the shard's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/file_system.h"
#include "log/segment_format.h"

namespace tidemark::log {

// Where the bytes of positions lie. Local entries take file bytes and no positions, so the distance
// between the two grows; a truncation makes positions fall back while the file goes on. Rows are
// ascending in position and in offset.
class PositionMap {
 public:
  explicit PositionMap(LogPosition first) : rows_{{first, kSegmentHeaderBytes}}, end_(first) {}

  PositionMap(std::vector<PositionRow> rows, LogPosition end) : rows_(std::move(rows)), end_(end) {}

  // Lowest position here; lower than the first one planned if a truncation reached into earlier
  // segments.
  [[nodiscard]] LogPosition low() const { return rows_.front().position; }

  [[nodiscard]] LogPosition end() const { return end_; }

  // File offset where the next entry goes.
  [[nodiscard]] uint64_t tail() const {
    return rows_.back().offset + (end_ - rows_.back().position);
  }

  [[nodiscard]] const std::vector<PositionRow>& rows() const { return rows_; }

  void add_replicated(uint64_t bytes) { end_ = end_ + bytes; }

  void add_local(uint64_t bytes);
  // A truncation record of `bytes` was added: positions go on from `position`.
  void fall_back(LogPosition position, uint64_t bytes);
  // A snapshot record of `bytes` was added that voids everything before; positions go on from
  // `position`.
  void restart(LogPosition position, uint64_t bytes);

  struct Place {
    uint64_t offset = 0;
    uint64_t contiguous = 0;  // bytes from there on without a local entry between
  };

  // Nothing below low() or from end() on.
  [[nodiscard]] std::optional<Place> find(LogPosition position) const;

 private:
  std::vector<PositionRow> rows_;
  LogPosition end_;
};

class Segment {
 public:
  Segment(const SegmentHeader& header, uint64_t seed);

  [[nodiscard]] const SegmentHeader& header() const { return header_; }

  [[nodiscard]] uint64_t seed() const { return seed_; }

  [[nodiscard]] const std::string& name() const { return name_; }

  // A segment is planned before its file is there. Once attached the file stays.
  void attach(std::unique_ptr<File> file, uint64_t file_bytes);

  [[nodiscard]] bool has_file() const { return file_ != nullptr; }

  [[nodiscard]] File& file() const { return *file_; }

  PositionMap map;
  // Lowest `low` of this and all later segments: what lies from there on is not looked for in
  // earlier ones.
  LogPosition reach;
  LogIndex low_index;  // lowest index of an entry here
  std::optional<LogFloor> floor;
  uint64_t replicated_entries = 0;
  uint64_t local_entries = 0;
  bool sealed = false;  // its seal is on disk
  // Bytes of the file that are backed by disk blocks.
  uint64_t file_bytes = 0;
  // Bytes of the file that were written once, entries or not. The first write to a block that is
  // only allocated changes metadata, and its sync waits for the file system's journal as well.
  uint64_t touched_bytes = 0;
  // Where the next entry goes at most: the seal still fits behind it.
  uint64_t capacity = 0;

 private:
  SegmentHeader header_;
  uint64_t seed_;
  std::string name_;
  std::unique_ptr<File> file_;
};

}  // namespace tidemark::log
