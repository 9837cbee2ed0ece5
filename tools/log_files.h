// Finds the segment files that an offline command was pointed at, and names the kinds of entries
// and records.
//
// Thread: any. Read-only: nothing here opens a file for writing or takes the lock of the data
// directory.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "log/base/file_system.h"
#include "log/format/log_record.h"
#include "log/log.h"

namespace tidemark::tools {

// One log directory and its segments in order.
struct LogFiles {
  std::string directory;
  std::vector<std::string> segments;  // names within the directory
};

// `path` is a segment file, a log directory, or a directory with log directories below it (a data
// directory: at most four levels down). Sorted. kNotFound if there is no segment.
Result<std::vector<LogFiles>> find_log_files(FileSystem& fs, const std::string& path);

// "command", "vote", ...
std::string_view entry_kind_name(log::EntryKind kind);
// "produce", "topic_create", ...
std::string_view record_kind_name(format::RecordKind kind);

}  // namespace tidemark::tools
