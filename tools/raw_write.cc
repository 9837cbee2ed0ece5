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

// One file's worth, or until `deadline`.
Status fill_file(File& file, ByteView block, MonotonicTime deadline, RawWriteResult& result) {
  RETURN_IF_ERROR(file.allocate(std::max<uint64_t>(kFileBytes, block.size())));
  RETURN_IF_ERROR(file.sync());
  const MonotonicTime started = system_clock().monotonic();
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
  const std::string path = fmt::format("{}/tidemark-baseline-{}.tmp", options.directory, getpid());
  std::vector<uint8_t> block(options.bytes_per_sync);
  // Not zeros: a file system that compresses would flatter itself.
  Random random(1);
  std::ranges::generate(block, [&random] { return static_cast<uint8_t>(random.next()); });
  const auto wanted_ns = static_cast<int64_t>(seconds * 1e9);
  const MonotonicTime started = system_clock().monotonic();
  Status status;
  double before = result.seconds;
  // The time spent on preparing files does not count, but it is bounded: three times what was asked
  // for.
  while (status.ok() && result.seconds - before < seconds &&
         system_clock().monotonic().ns - started.ns < 3 * wanted_ns) {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                     file_system.open(path, OpenMode::kCreateNew));
    const auto left_ns = static_cast<int64_t>((seconds - (result.seconds - before)) * 1e9);
    status =
        fill_file(*file, block, MonotonicTime{system_clock().monotonic().ns + left_ns}, result);
    const Status removed = file_system.remove(path);
    status = status.ok() ? removed : status;
  }
  return status;
}

}  // namespace tidemark::tools
