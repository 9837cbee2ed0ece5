// The bytes of a segment file, version 1: headers, entries, payloads of local entries, seal.
// FORMAT.md is the manual; this is the code that writes and checks it. Pure: no file, no state.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/log.h"

namespace tidemark::log {

inline constexpr uint32_t kSegmentFormatVersion = 1;
inline constexpr size_t kSegmentHeaderBytes = 4096;
inline constexpr size_t kSegmentTrailerBytes = 64;

inline constexpr bool is_replicated(EntryKind kind) { return static_cast<uint8_t>(kind) < 16; }

// --- segment header
// ------------------------------------------------------------------------------------------------

struct SegmentHeader {
  uint64_t cluster_id = 0;
  ShardId shard;
  uint64_t sequence = 0;  // number of the segment, see file_names.h
  LogPosition
      first_position;  // of the first replicated entry, as planned when the segment was created
  LogIndex first_index;
  Term term_before;          // of the entry `first_index` - 1; 0 if there is none
  Vote vote;                 // in force when the segment was created
  uint64_t incarnation = 0;  // random; makes the seed of this use of the file unlike any other
};

// Fills `out` (kSegmentHeaderBytes). Returns the seed of the hashes of all entries of the segment.
uint64_t encode_segment_header(const SegmentHeader& header, MutableByteView out);

struct DecodedSegmentHeader {
  SegmentHeader header;
  uint64_t seed = 0;
};

// kCorrupted or kUnsupportedVersion, saying what is wrong; the caller adds which file it is.
// Requires: `in` has kSegmentHeaderBytes.
Result<DecodedSegmentHeader> decode_segment_header(ByteView in);

// --- entry
// -----------------------------------------------------------------------------------------------------------

struct EntryHeader {
  EntryKind kind = EntryKind::kCommand;
  uint32_t payload_bytes = 0;
  Term term;
  LogIndex index;
  LogPosition position;
  uint64_t synced_to = 0;
};

using EntryHeaderBytes = std::array<uint8_t, kEntryHeaderBytes>;

void encode_entry_header(const EntryHeader& header, uint64_t seed, ByteView payload,
                         EntryHeaderBytes& out);

// An entry header whose own check holds; the payload is not looked at yet.
struct DecodedEntryHeader {
  EntryHeader header;
  uint64_t payload_seed = 0;
  uint64_t hash = 0;

  [[nodiscard]] bool payload_matches(ByteView payload) const;
};

// Nothing if the bytes are no entry header of the segment with this seed. `in` has
// kEntryHeaderBytes.
std::optional<DecodedEntryHeader> decode_entry_header(ByteView in, uint64_t seed);

// --- payloads of local entries
// ---------------------------------------------------------------------------------------

std::vector<uint8_t> encode_vote(const Vote& vote);
std::optional<Vote> decode_vote(ByteView payload);

struct Truncation {
  LogIndex index;
  LogPosition position;
  Term term_before;  // of the entry `index` - 1, which may lie in a segment that is dropped later
};

std::vector<uint8_t> encode_truncation(const Truncation& truncation);
std::optional<Truncation> decode_truncation(ByteView payload);

size_t snapshot_bytes(const SnapshotManifest& manifest);
std::vector<uint8_t> encode_snapshot(const SnapshotManifest& manifest);
std::optional<SnapshotManifest> decode_snapshot(ByteView payload);

// From `position` on (up to the next row), the byte at a position lies at `offset` plus its
// distance to it.
struct PositionRow {
  LogPosition position;
  uint64_t offset = 0;

  friend bool operator==(const PositionRow&, const PositionRow&) = default;
};

// From `index` on (up to the next run), entries have this term.
struct TermRun {
  LogIndex index;
  Term term;

  friend bool operator==(const TermRun&, const TermRun&) = default;
};

// Everything below is void: a snapshot from elsewhere took its place.
struct LogFloor {
  LogPosition position;
  LogIndex index;  // of the snapshot; the first entry above has the next one
  Term term;

  friend bool operator==(const LogFloor&, const LogFloor&) = default;
};

// What a walk through the whole segment would find out.
struct Seal {
  LogPosition end;  // position after the last replicated entry
  LogIndex last_index;
  Term last_term;
  LogIndex low_index;    // lowest index of an entry here; everything from it on in earlier segments
                         // is void
  Term term_before_low;  // of the entry before that one
  uint64_t replicated_entries = 0;  // written, including those truncated later
  uint64_t local_entries = 0;       // without the seal itself
  std::optional<LogFloor> floor;    // if a snapshot from elsewhere was taken in within this segment
  std::vector<PositionRow> rows;
  std::vector<TermRun> runs;
};

// Payload bytes of a seal with so many rows and runs.
size_t seal_payload_bytes(size_t rows, size_t runs);
// Bytes that end a segment: the seal entry and the trailer.
size_t seal_bytes(size_t rows, size_t runs);
std::vector<uint8_t> encode_seal(const Seal& seal);
std::optional<Seal> decode_seal(ByteView payload);

// --- trailer
// -----------------------------------------------------------------------------------------------------------

using SegmentTrailerBytes = std::array<uint8_t, kSegmentTrailerBytes>;

void encode_trailer(uint64_t seal_offset, uint64_t file_bytes, uint64_t seed,
                    SegmentTrailerBytes& out);
// Offset of the seal entry, or nothing if this is not the trailer of this segment at this file
// size.
std::optional<uint64_t> decode_trailer(ByteView in, uint64_t file_bytes, uint64_t seed);

}  // namespace tidemark::log
