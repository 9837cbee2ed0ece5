// The yardstick of the benchmarks: what the file system gives to a program that does nothing but
// write and sync.
//
// Thread: one. Blocking.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "log/base/file_system.h"
#include "log/base/posix_file_system.h"
#include "log/base/result.h"

namespace tidemark::tools {

struct RawWriteResult {
  uint64_t bytes = 0;
  uint64_t syncs = 0;
  double seconds = 0;

  [[nodiscard]] double mb_per_s() const {
    return seconds > 0 ? static_cast<double>(bytes) / 1e6 / seconds : 0;
  }
};

// Writes in slices: each goes on where the one before ended, so that every byte falls on fresh
// blocks and fresh memory, as those of a log do. Blocks and cache pages that were just given back
// are several times faster on a virtual machine; so files are kept up to 8 GiB, and then the oldest
// goes.
class RawWriter {
 public:
  // Nothing is created yet.
  explicit RawWriter(const std::string& directory);
  // Removes what remove_files() has not.
  ~RawWriter();
  RawWriter(const RawWriter&) = delete;
  RawWriter& operator=(const RawWriter&) = delete;

  // Writes sequentially into blocks that were allocated before, with an fdatasync after every
  // `bytes_per_sync`, for about `seconds` and at least once. Allocating is not counted.
  Status write(double seconds, uint64_t bytes_per_sync);
  Status remove_files();

  // All slices together.
  [[nodiscard]] const RawWriteResult& result() const { return result_; }

 private:
  Status next_file(uint64_t bytes_least);

  PosixFileSystem file_system_;
  std::string prefix_;
  uint64_t files_made_ = 0;
  std::deque<std::string> paths_;  // oldest first
  std::unique_ptr<File> file_;     // the last of them
  uint64_t file_bytes_ = 0;
  uint64_t offset_ = 0;
  std::vector<uint8_t> block_;
  RawWriteResult result_;
};

}  // namespace tidemark::tools
