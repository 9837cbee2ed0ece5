#include "log/segment.h"

#include <algorithm>

#include "log/base/check.h"
#include "log/file_names.h"

namespace tidemark::log {

void PositionMap::add_local(uint64_t bytes) {
  const uint64_t offset = tail() + bytes;
  if (rows_.back().position == end_) {
    rows_.back().offset = offset;
  } else {
    rows_.push_back({end_, offset});
  }
}

void PositionMap::fall_back(LogPosition position, uint64_t bytes) {
  TIDEMARK_CHECK(position <= end_, "positions only fall back");
  const uint64_t offset = tail() + bytes;
  while (!rows_.empty() && rows_.back().position >= position) {
    rows_.pop_back();
  }
  rows_.push_back({position, offset});
  end_ = position;
}

void PositionMap::restart(LogPosition position, uint64_t bytes) {
  const uint64_t offset = tail() + bytes;
  rows_.assign(1, {position, offset});
  end_ = position;
}

std::optional<PositionMap::Place> PositionMap::find(LogPosition position) const {
  if (position < low() || position >= end_) {
    return std::nullopt;
  }
  const auto after = std::upper_bound(
      rows_.begin(), rows_.end(), position,
      [](LogPosition wanted, const PositionRow& row) { return wanted < row.position; });
  const PositionRow& row = *(after - 1);
  const LogPosition limit = after == rows_.end() ? end_ : after->position;
  return Place{row.offset + (position - row.position), limit - position};
}

Segment::Segment(const SegmentHeader& header, uint64_t seed)
    : map(header.first_position),
      reach(header.first_position),
      low_index(header.first_index),
      header_(header),
      seed_(seed),
      name_(segment_file_name(header.sequence, header.first_position)) {}

void Segment::attach(std::unique_ptr<File> file, uint64_t bytes) {
  TIDEMARK_CHECK(file_ == nullptr && file != nullptr, "a segment gets its file once");
  file_ = std::move(file);
  file_bytes = bytes;
}

}  // namespace tidemark::log
