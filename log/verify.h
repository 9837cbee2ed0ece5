// Offline check of a log directory: reads every byte of every segment, changes nothing, goes on
// after damage.
//
// Blocking; any thread. The log may be open in another process only if nothing is appended
// meanwhile: a segment that is being written looks torn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::log {

struct LogFinding {
  enum class Kind {
    kDamage,    // data that was durable is bad or missing
    kTornTail,  // the unacknowledged end of the last segment; opening the log cuts it
    kNote,      // nothing is lost, e.g. a trailer that had to be replaced by reading everything
  };
  Kind kind = Kind::kDamage;
  std::string file;
  uint64_t offset = 0;
  LogPosition position;  // where in the log; the next expected one if the entry cannot be read
  std::string what;
};

struct LogVerification {
  uint64_t segments = 0;
  uint64_t sealed_segments = 0;
  uint64_t replicated_entries = 0;  // that verify, including those truncated later
  uint64_t local_entries = 0;
  uint64_t bytes = 0;  // of entries that verify
  LogPosition first;   // of the first segment
  LogPosition end;     // after the last replicated entry
  std::vector<LogFinding> findings;

  [[nodiscard]] bool damaged() const;
};

// An error only if the directory cannot be listed; everything else is a finding. At most
// kLogFindingsMax findings; the last one says so.
inline constexpr size_t kLogFindingsMax = 1000;
Result<LogVerification> verify_log(FileSystem& fs, const std::string& directory);

}  // namespace tidemark::log
