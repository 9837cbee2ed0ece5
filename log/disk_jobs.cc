#include "log/disk_jobs.h"

#include <algorithm>
#include <array>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"

namespace tidemark::log {

namespace {

constexpr std::array<uint8_t, 8> kPadding{};
constexpr std::array<uint8_t, 16'384> kZeros{};

ByteView padding_of(size_t payload_bytes) {
  return ByteView(kPadding).first(entry_bytes(payload_bytes) - kEntryHeaderBytes - payload_bytes);
}

Status timed_sync(File& file, Clock& clock, int64_t& ns) {
  const MonotonicTime before = clock.monotonic();
  Status status = file.sync();
  ns += clock.monotonic().ns - before.ns;
  return status;
}

}  // namespace

void WriteWork::run() {
  std::vector<EntryHeaderBytes> headers(entries.size());
  std::vector<ByteView> parts;
  parts.reserve(entries.size() * 3);
  uint64_t at = entries.front().offset;
  for (size_t i = 0; i < entries.size(); ++i) {
    PendingEntry& entry = entries[i];
    TIDEMARK_CHECK(entry.offset == at, "a group is written in one piece");
    entry.header.synced_to = synced_to;
    encode_entry_header(entry.header, segment->seed(), entry.payload.view(), headers[i]);
    parts.emplace_back(headers[i]);
    parts.push_back(entry.payload.view());
    parts.push_back(padding_of(entry.payload.size()));
    at = entry.end_offset();
  }
  bytes = at - entries.front().offset;
  for (uint64_t left = zeros; left > 0; left -= parts.back().size()) {
    parts.push_back(ByteView(kZeros).first(std::min<uint64_t>(left, kZeros.size())));
  }
  status = segment->file().write(entries.front().offset, parts);
  if (!status.ok()) {
    TIDEMARK_COVERAGE_MARK(log_write_failed);
  } else if (sync) {
    status = timed_sync(segment->file(), *clock, sync_ns);
    if (!status.ok()) {
      TIDEMARK_COVERAGE_MARK(log_sync_failed);
    }
  }
}

void SyncWork::run() { status = timed_sync(segment->file(), *clock, sync_ns); }

Status SegmentStart::run(FileSystem& fs, const std::string& directory) const {
  const ByteView part(bytes);
  RETURN_IF_ERROR(segment->file().write(0, {&part, 1}));
  RETURN_IF_ERROR(segment->file().sync());
  RETURN_IF_ERROR(fs.rename(directory + "/" + spare_name, directory + "/" + segment->name()));
  return fs.sync_directory(directory);
}

void RollWork::run() {
  EntryHeaderBytes header;
  encode_entry_header(seal_header, old_segment->seed(), seal, header);
  old_file_bytes = seal_offset + entry_bytes(seal.size()) + kSegmentTrailerBytes;
  SegmentTrailerBytes trailer;
  encode_trailer(seal_offset, old_file_bytes, old_segment->seed(), trailer);
  const std::array<ByteView, 4> parts{ByteView(header), ByteView(seal), padding_of(seal.size()),
                                      ByteView(trailer)};
  File& file = old_segment->file();
  status = file.write(seal_offset, parts);
  if (status.ok()) {
    status = file.truncate(old_file_bytes);
  }
  if (status.ok()) {
    status = timed_sync(file, *clock, sync_ns);
  }
  if (status.ok()) {
    status = start.run(*fs, directory);
  }
  if (!status.ok()) {
    TIDEMARK_COVERAGE_MARK(log_roll_failed);
  }
}

Status SpaceWork::allocate(File& file) {
  file_bytes = bytes_wanted;
  Status result = file.allocate(bytes_wanted);
  if (result.code() == ErrorCode::kDiskFull && bytes_least < bytes_wanted) {
    TIDEMARK_COVERAGE_MARK(log_least_space_asked_for);
    file_bytes = bytes_least;
    result = file.allocate(bytes_least);
  }
  return result;
}

void SpaceWork::run() {
  if (segment != nullptr) {
    status = allocate(segment->file());
    return;
  }
  const std::string path = directory + "/" + spare.name;
  const bool is_new = spare.file == nullptr;
  if (is_new) {
    Result<std::unique_ptr<File>> created = fs->open(path, OpenMode::kCreateNew);
    if (!created) {
      status = created.error();
      return;
    }
    spare.file = std::move(created).value();
  }
  status = allocate(*spare.file);
  if (status.ok()) {
    spare.file_bytes = file_bytes;
  } else if (is_new) {
    TIDEMARK_COVERAGE_MARK(log_new_spare_given_up);
    // What it holds is what others lack.
    spare.file.reset();
    const Status removed = fs->remove(path);
    if (!removed.ok()) {
      status = removed;
    }
  }
}

Status DropWork::drop(Item& item) {
  const std::string path = directory + "/" + item.segment->name();
  if (item.spare_name.empty()) {
    TIDEMARK_COVERAGE_MARK(log_segment_removed);
    RETURN_IF_ERROR(fs->remove(path));
    return fs->sync_directory(directory);
  }
  const std::string spare_path = directory + "/" + item.spare_name;
  RETURN_IF_ERROR(fs->rename(path, spare_path));
  // Before the file is written to: under its old name it would be a damaged segment.
  RETURN_IF_ERROR(fs->sync_directory(directory));
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs->open(spare_path, OpenMode::kReadWrite));
  ASSIGN_OR_RETURN(const uint64_t size, file->size());
  spares.push_back({item.spare_name, std::move(file), size, size});
  return {};
}

void DropWork::run() {
  for (Item& item : items) {
    status = drop(item);
    if (!status.ok()) {
      return;
    }
  }
}

}  // namespace tidemark::log
