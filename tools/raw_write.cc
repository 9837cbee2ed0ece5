#include "tools/raw_write.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/posix_file_system.h"
#include "log/base/random.h"

namespace tidemark::tools {
namespace {

constexpr uint64_t kFileBytes = uint64_t{256} << 20;
constexpr size_t kFilesMax = 32;  // 8 GiB

// One file's worth, or until `deadline`.
Status fill_file(File& file, ByteView block, MonotonicTime deadline, RawWriteResult& result) {
  const MonotonicTime started = system_clock().monotonic();
  RETURN_IF_ERROR(file.allocate(std::max<uint64_t>(kFileBytes, block.size())));
  RETURN_IF_ERROR(file.sync());
  MonotonicTime now = started;
  for (uint64_t offset = 0; offset == 0 || (offset + block.size() <= kFileBytes && now < deadline);
       offset += block.size()) {
    RETURN_IF_ERROR(file.write(offset, std::span(&block, 1)));
    RETURN_IF_ERROR(file.sync());
    now = system_clock().monotonic();
    result.bytes += block.size();
    ++result.syncs;
  }
  result.seconds += static_cast<double>(now.ns - started.ns) / 1e9;
  return Status();
}

}  // namespace

Status measure_raw_writes(const RawWriteOptions& options, double seconds, RawWriteResult& result) {
  PosixFileSystem file_system;
  const std::string prefix = fmt::format("{}/tidemark-baseline-{}", options.directory, getpid());
  std::vector<uint8_t> block(options.bytes_per_sync);
  // Not zeros: a file system that compresses would flatter itself.
  Random random(1);
  std::ranges::generate(block, [&random] { return static_cast<uint8_t>(random.next()); });
  const double before = result.seconds;
  std::vector<std::string> paths;
  Status status;
  // Each file lies in fresh blocks, as a log's segments do: blocks that were just given back and
  // are taken again are much faster on a virtual disk. So none is removed before the end.
  while (status.ok() && result.seconds - before < seconds && paths.size() < kFilesMax) {
    paths.push_back(fmt::format("{}-{}.tmp", prefix, paths.size()));
    Result<std::unique_ptr<File>> file = file_system.open(paths.back(), OpenMode::kCreateNew);
    status = file.status();
    if (status.ok()) {
      const auto left_ns = static_cast<int64_t>((seconds - (result.seconds - before)) * 1e9);
      const MonotonicTime deadline{system_clock().monotonic().ns + left_ns};
      status = fill_file(**file, block, deadline, result);
    }
  }
  for (const std::string& path : paths) {
    const Status removed = file_system.remove(path);
    status = status.ok() ? removed : status;
  }
  return status;
}

}  // namespace tidemark::tools
