// tidemark log: what the commands take.
#pragma once

#include <cstdint>
#include <string>

namespace tidemark::tools {

struct Globals;

struct LogDumpOptions {
  std::string path;    // a segment, a log directory or a data directory
  uint64_t from = 0;   // log position
  uint64_t limit = 0;  // entries; 0: all
  bool stats = false;
};

struct LogVerifyOptions {
  std::string path;
  bool state_hash = false;
};

// Exit code 1 if a damaged place was met.
int dump_log(const Globals& globals, const LogDumpOptions& options);
// Exit code 0: clean, 1: damage.
int verify_log(const Globals& globals, const LogVerifyOptions& options);

}  // namespace tidemark::tools
