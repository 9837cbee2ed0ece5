#include "tools/raw_write.h"

#include <unistd.h>

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"

namespace tidemark::tools {
namespace {

constexpr uint64_t kFileBytes = uint64_t{256} << 20;
constexpr size_t kFilesMax = 32;  // 8 GiB

}  // namespace

RawWriter::RawWriter(const std::string& directory)
    : prefix_(fmt::format("{}/tidemark-baseline-{}", directory, getpid())) {}

RawWriter::~RawWriter() {
  const Status removed = remove_files();
  if (!removed.ok()) {
    // Whoever minds has called remove_files() and been told.
    paths_.clear();
  }
}

Status RawWriter::remove_files() {
  file_.reset();
  Status status;
  for (const std::string& path : paths_) {
    const Status removed = file_system_.remove(path);
    status = status.ok() ? removed : status;
  }
  paths_.clear();
  return status;
}

Status RawWriter::next_file(uint64_t bytes_least) {
  file_.reset();
  if (paths_.size() == kFilesMax) {
    RETURN_IF_ERROR(file_system_.remove(paths_.front()));
    paths_.pop_front();
  }
  const std::string path = fmt::format("{}-{}.tmp", prefix_, files_made_++);
  ASSIGN_OR_RETURN(file_, file_system_.open(path, OpenMode::kCreateNew));
  paths_.push_back(path);
  file_bytes_ = std::max(kFileBytes, bytes_least);
  offset_ = 0;
  RETURN_IF_ERROR(file_->allocate(file_bytes_));
  return file_->sync();
}

Status RawWriter::write(double seconds, uint64_t bytes_per_sync) {
  if (block_.size() < bytes_per_sync) {
    block_.resize(bytes_per_sync);
    // Not zeros: a file system that compresses would flatter itself.
    Random random(1);
    std::ranges::generate(block_, [&random] { return static_cast<uint8_t>(random.next()); });
  }
  const ByteView block = ByteView(block_).first(bytes_per_sync);
  const auto wanted_ns = static_cast<int64_t>(seconds * 1e9);
  int64_t spent_ns = 0;
  do {
    if (file_ == nullptr || offset_ + block.size() > file_bytes_) {
      RETURN_IF_ERROR(next_file(block.size()));
    }
    const MonotonicTime before = system_clock().monotonic();
    RETURN_IF_ERROR(file_->write(offset_, std::span(&block, 1)));
    RETURN_IF_ERROR(file_->sync());
    spent_ns += system_clock().monotonic().ns - before.ns;
    offset_ += block.size();
    result_.bytes += block.size();
    ++result_.syncs;
  } while (spent_ns < wanted_ns);
  result_.seconds += static_cast<double>(spent_ns) / 1e9;
  return {};
}

}  // namespace tidemark::tools
