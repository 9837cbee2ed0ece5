// Names of the files in a log directory.
//
//   0000000007-00000000000012345678.seg   segment number 7, whose first log position is 12345678
//   spare-3.seg                           a file kept for a later segment; its content means
//   nothing
//
// Segments are numbered in the order in which they were created, without gaps; sorted names are in
// that order. (The first position alone would not do: positions fall back when a suffix is
// truncated.)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::log {

std::string segment_file_name(uint64_t sequence, LogPosition first);
std::string spare_file_name(uint64_t number);

struct SegmentFileName {
  uint64_t sequence = 0;
  LogPosition first;
  std::string name;
};

// Nothing for any other name.
std::optional<SegmentFileName> parse_segment_file_name(std::string_view name);
std::optional<uint64_t> parse_spare_file_name(std::string_view name);

// The segments of a directory in order; says nothing about gaps or content.
Result<std::vector<SegmentFileName>> list_segment_files(FileSystem& fs,
                                                        const std::string& directory);

}  // namespace tidemark::log
