// The yardstick of the benchmarks: what the file system gives to a program that does nothing but
// write and sync.
//
// Thread: one. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "log/base/result.h"

namespace tidemark::tools {

struct RawWriteOptions {
  std::string directory = ".";
  uint64_t bytes_per_sync = uint64_t{1} << 20;
};

// Adds up over several runs.
struct RawWriteResult {
  uint64_t bytes = 0;
  uint64_t syncs = 0;
  double seconds = 0;

  [[nodiscard]] double mb_per_s() const {
    return seconds > 0 ? static_cast<double>(bytes) / 1e6 / seconds : 0;
  }
};

// Writes a file sequentially into blocks that were allocated before, with an fdatasync after every
// `bytes_per_sync`, for about `seconds`, and adds what that took to `result`. Preparing and
// removing the file (256 MiB at most) is not counted. The file is removed in any case.
Status measure_raw_writes(const RawWriteOptions& options, double seconds, RawWriteResult& result);

}  // namespace tidemark::tools
