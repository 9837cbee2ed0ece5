#include "log/segment_reader.h"

#include <algorithm>
#include <cstring>

#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark::log {

namespace {

constexpr uint64_t kWindowBytes = 1 * limits::kMiB;
// Read around a place that does not follow the last one: large payloads are skipped, not read.
constexpr uint64_t kJumpWindowBytes = 16 * limits::kKiB;

bool only_zeros(ByteView bytes) {
  // The first byte is zero and each byte equals the next one: memcmp is the fastest loop there is.
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// What the first 8 bytes of an entry can be; spares a search most of its work.
bool may_start_entry(uint64_t word) {
  const auto payload_bytes = static_cast<uint32_t>(word);
  const auto kind = static_cast<uint8_t>(word >> 32);
  const auto flags = static_cast<uint8_t>(word >> 40);
  return kind != 0 && kind <= static_cast<uint8_t>(EntryKind::kSeal) && flags == 0 &&
         payload_bytes <= limits::kEntryPayloadBytesMax;
}

}  // namespace

SegmentReader::SegmentReader(std::unique_ptr<File> owned, File& file, std::string name)
    : owned_(std::move(owned)), file_(&file), name_(std::move(name)) {}

Result<SegmentReader> SegmentReader::open(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.open(path, OpenMode::kReadOnly));
  File& opened = *file;
  return start(std::move(file), opened, path);
}

Result<SegmentReader> SegmentReader::over(File& file, const std::string& name) {
  return start(nullptr, file, name);
}

Result<SegmentReader> SegmentReader::start(std::unique_ptr<File> owned, File& file,
                                           std::string name) {
  SegmentReader reader(std::move(owned), file, std::move(name));
  ASSIGN_OR_RETURN(reader.file_bytes_, file.size());
  reader.limit_ = reader.file_bytes_;
  if (reader.file_bytes_ < kSegmentHeaderBytes) {
    return Status(ErrorCode::kCorrupted, reader.name_ + ": " + std::to_string(reader.file_bytes_) +
                                             " bytes, too short for a segment header");
  }
  ASSIGN_OR_RETURN(const ByteView bytes, reader.view(0, kSegmentHeaderBytes));
  Result<DecodedSegmentHeader> header = decode_segment_header(bytes);
  if (!header) {
    return Status(header.error().code(),
                  reader.name_ + ": " + std::string(header.error().context()));
  }
  reader.header_ = *header;
  if (reader.file_bytes_ >= kSegmentHeaderBytes + kSegmentTrailerBytes) {
    const uint64_t at = reader.file_bytes_ - kSegmentTrailerBytes;
    std::array<uint8_t, kSegmentTrailerBytes> trailer{};
    RETURN_IF_ERROR(file.read(at, trailer));
    reader.seal_offset_ = decode_trailer(trailer, reader.file_bytes_, reader.seed());
    reader.limit_ = reader.seal_offset_ ? at : reader.file_bytes_;
  }
  return reader;
}

Result<ByteView> SegmentReader::view(uint64_t offset, uint64_t size) {
  TIDEMARK_CHECK(offset + size <= file_bytes_, "readers know where the file ends");
  const uint64_t window_end = window_offset_ + window_bytes_;
  if (offset < window_offset_ || offset + size > window_end) {
    const bool follows = offset >= window_offset_ && offset <= window_end + kJumpWindowBytes;
    const uint64_t wanted = std::max(size, follows ? kWindowBytes : kJumpWindowBytes);
    const uint64_t bytes = std::min(wanted, file_bytes_ - offset);
    if (window_.size() < bytes) {
      window_ = Buffer(static_cast<size_t>(std::max(bytes, std::min(kWindowBytes, file_bytes_))));
    }
    window_bytes_ = 0;
    RETURN_IF_ERROR(file_->read(offset, window_.mutable_view().first(static_cast<size_t>(bytes))));
    window_offset_ = offset;
    window_bytes_ = bytes;
  }
  return window_.view().subspan(static_cast<size_t>(offset - window_offset_),
                                static_cast<size_t>(size));
}

SegmentReader::Step SegmentReader::damaged(std::string why) {
  damage_ = std::move(why);
  return Step::kDamaged;
}

Result<SegmentReader::Step> SegmentReader::next(SegmentEntry& entry, LogPosition verify_from) {
  if (limit_ - std::min(offset_, limit_) < kEntryHeaderBytes) {
    if (offset_ < limit_) {
      ASSIGN_OR_RETURN(const ByteView rest, view(offset_, limit_ - offset_));
      if (!only_zeros(rest)) {
        return damaged("the file ends within an entry header");
      }
    }
    return Step::kEnd;
  }
  ASSIGN_OR_RETURN(const ByteView bytes, view(offset_, kEntryHeaderBytes));
  const std::optional<DecodedEntryHeader> decoded = decode_entry_header(bytes, seed());
  if (!decoded) {
    return only_zeros(bytes) ? Step::kEnd : damaged("no entry header that verifies");
  }
  SegmentEntry found{.decoded = *decoded, .offset = offset_};
  const EntryHeader& header = found.header();
  if (header.synced_to > offset_) {
    return damaged("its header claims more to be durable than was written before it");
  }
  if (found.end_offset() > limit_) {
    return damaged("the file ends within the entry");
  }
  if (!is_replicated(header.kind) ||
      header.position + entry_bytes(header.payload_bytes) > verify_from) {
    ASSIGN_OR_RETURN(found.verified, try_entry(offset_, found));
    if (!found.verified) {
      return damaged("its payload does not match the hash in its header");
    }
  }
  entry = found;
  offset_ = found.end_offset();
  return Step::kEntry;
}

// Fills `entry` and returns true if an entry that verifies starts at `offset`.
Result<bool> SegmentReader::try_entry(uint64_t offset, SegmentEntry& entry) {
  ASSIGN_OR_RETURN(const ByteView bytes, view(offset, kEntryHeaderBytes));
  const std::optional<DecodedEntryHeader> decoded = decode_entry_header(bytes, seed());
  if (!decoded || decoded->header.synced_to > offset) {
    return false;
  }
  const uint64_t whole = entry_bytes(decoded->header.payload_bytes);
  if (whole > limit_ - offset) {
    return false;
  }
  ASSIGN_OR_RETURN(const ByteView entry_view, view(offset, whole));
  const ByteView payload = entry_view.subspan(kEntryHeaderBytes, decoded->header.payload_bytes);
  if (!decoded->payload_matches(payload) ||
      !only_zeros(entry_view.subspan(kEntryHeaderBytes + payload.size()))) {
    return false;
  }
  entry = SegmentEntry{.decoded = *decoded, .offset = offset, .verified = true};
  return true;
}

Result<std::optional<EntryHeader>> SegmentReader::header_at(uint64_t offset) {
  if (offset > limit_ || limit_ - offset < kEntryHeaderBytes) {
    return std::optional<EntryHeader>();
  }
  ASSIGN_OR_RETURN(const ByteView bytes, view(offset, kEntryHeaderBytes));
  const std::optional<DecodedEntryHeader> decoded = decode_entry_header(bytes, seed());
  return decoded ? std::optional(decoded->header) : std::nullopt;
}

Result<bool> SegmentReader::find_next(SegmentEntry& entry) {
  // Entries start at multiples of 8.
  uint64_t at = (offset_ + 7) & ~uint64_t{7};
  while (at < limit_ && limit_ - at >= kEntryHeaderBytes) {
    // What is left of the window first: a candidate in the middle must not cost another read of it.
    const uint64_t window_end = std::min(window_offset_ + window_bytes_, limit_);
    const bool inside = at >= window_offset_ && at + kEntryHeaderBytes <= window_end;
    const uint64_t chunk =
        (inside ? window_end - at : std::min(kWindowBytes, limit_ - at)) & ~uint64_t{7};
    ASSIGN_OR_RETURN(const ByteView bytes, view(at, chunk));
    uint64_t i = 0;
    while (i < chunk && !may_start_entry(load_le<uint64_t>(bytes.data() + i))) {
      i += 8;
    }
    at += i;
    if (i == chunk || limit_ - at < kEntryHeaderBytes) {
      continue;
    }
    ASSIGN_OR_RETURN(const bool found, try_entry(at, entry));
    if (found) {
      offset_ = entry.end_offset();
      return true;
    }
    at += 8;
  }
  offset_ = limit_;
  return false;
}

Result<ByteView> SegmentReader::payload(const SegmentEntry& entry) {
  const size_t size = entry.header().payload_bytes;
  ASSIGN_OR_RETURN(const ByteView bytes, view(entry.offset + kEntryHeaderBytes, size));
  if (!entry.verified && !entry.decoded.payload_matches(bytes)) {
    return Status(ErrorCode::kCorrupted, name_ + ": the entry at offset " +
                                             std::to_string(entry.offset) + " (log position " +
                                             std::to_string(entry.header().position.value()) +
                                             ") does not match its hash");
  }
  return bytes;
}

Result<bool> SegmentReader::only_zeros_from(uint64_t offset) {
  while (offset < file_bytes_) {
    const uint64_t chunk = std::min(kWindowBytes, file_bytes_ - offset);
    ASSIGN_OR_RETURN(const ByteView bytes, view(offset, chunk));
    if (!only_zeros(bytes)) {
      return false;
    }
    offset += chunk;
  }
  return true;
}

}  // namespace tidemark::log
