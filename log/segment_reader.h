// Reads one segment file from front to back: for recovery, replay and the offline tools. Read-only.
//
//   SegmentReader reader = SegmentReader::open(fs, path) ...
//   SegmentEntry entry;
//   while (reader.next(entry, LogPosition{0}) gives kEntry) use entry, reader.payload(entry);
//   on kDamaged: reader.damage() says why; reader.find_next(entry) goes on behind the damage.
//
// Thread: one. Blocking. Memory: one window of about 1 MiB, or one entry if that is larger.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "log/base/file_system.h"
#include "log/base/result.h"
#include "log/segment_format.h"

namespace tidemark::log {

struct SegmentEntry {
  DecodedEntryHeader decoded;
  uint64_t offset = 0;    // of the header, in the file
  bool verified = false;  // the payload was read and matches the hash

  [[nodiscard]] const EntryHeader& header() const { return decoded.header; }

  [[nodiscard]] EntryInfo info() const {
    const EntryHeader& from = decoded.header;
    return {from.kind, from.term, from.index, from.position, from.payload_bytes};
  }

  [[nodiscard]] uint64_t end_offset() const {
    return offset + entry_bytes(decoded.header.payload_bytes);
  }
};

class SegmentReader {
 public:
  // kCorrupted or kUnsupportedVersion, naming the file, if it has no good segment header.
  static Result<SegmentReader> open(FileSystem& fs, const std::string& path);
  // The same over a file that is open; it outlives the reader. `name` is for messages.
  static Result<SegmentReader> over(File& file, const std::string& name);

  [[nodiscard]] const SegmentHeader& header() const { return header_.header; }

  [[nodiscard]] uint64_t seed() const { return header_.seed; }

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] uint64_t file_bytes() const { return file_bytes_; }

  // Offset of the seal entry if the file ends with a good trailer.
  [[nodiscard]] const std::optional<uint64_t>& seal_offset() const { return seal_offset_; }

  // Where next() reads.
  [[nodiscard]] uint64_t offset() const { return offset_; }

  void seek(uint64_t offset) { offset_ = offset; }

  enum class Step {
    kEntry,    // `entry` is filled, offset() is behind it
    kEnd,      // the file ends here, or 48 zero bytes follow; offset() stays
    kDamaged,  // no entry that verifies; offset() stays, damage() says why
  };

  // Entries that end above `verify_from` and all local ones are checked against their hash, of the
  // others only the header. An error is one of the file system.
  Result<Step> next(SegmentEntry& entry, LogPosition verify_from);

  [[nodiscard]] const std::string& damage() const { return damage_; }

  // Searches from offset() on, at every eighth byte, for an entry that verifies. True: `entry` is
  // filled, offset() is behind it. False: there is none; offset() is the end of the file.
  Result<bool> find_next(SegmentEntry& entry);

  // The entry header at `offset`, if there is one; the payload may be torn or bad.
  Result<std::optional<EntryHeader>> header_at(uint64_t offset);

  // kCorrupted if it does not match its hash. Valid until the next call.
  Result<ByteView> payload(const SegmentEntry& entry);

  // True if no byte from `offset` to the end of the file is set.
  Result<bool> only_zeros_from(uint64_t offset);

 private:
  SegmentReader(std::unique_ptr<File> owned, File& file, std::string name);
  static Result<SegmentReader> start(std::unique_ptr<File> owned, File& file, std::string name);
  Result<ByteView> view(uint64_t offset, uint64_t size);
  Result<bool> try_entry(uint64_t offset, SegmentEntry& entry);
  Step damaged(std::string why);

  std::unique_ptr<File> owned_;
  File* file_;
  std::string name_;
  DecodedSegmentHeader header_;
  uint64_t file_bytes_ = 0;
  uint64_t limit_ = 0;  // entries end here: the end of the file or the start of the trailer
  std::optional<uint64_t> seal_offset_;
  uint64_t offset_ = kSegmentHeaderBytes;
  std::string damage_;
  Buffer window_;
  uint64_t window_offset_ = 0;
  uint64_t window_bytes_ = 0;
};

}  // namespace tidemark::log
