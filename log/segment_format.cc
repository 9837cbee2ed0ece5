#include "log/segment_format.h"

#include <algorithm>
#include <string_view>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark::log {

namespace {

constexpr std::string_view kSegmentMagic = "TDMKSEG1";
constexpr std::string_view kTrailerMagic = "TDMKSEAL";

// Segment header.
constexpr size_t kHeaderVersionAt = 8;
constexpr size_t kHeaderSizeAt = 12;
constexpr size_t kHeaderClusterAt = 16;
constexpr size_t kHeaderShardAt = 24;
constexpr size_t kHeaderSequenceAt = 32;
constexpr size_t kHeaderPositionAt = 40;
constexpr size_t kHeaderIndexAt = 48;
constexpr size_t kHeaderTermBeforeAt = 56;
constexpr size_t kHeaderVoteTermAt = 64;
constexpr size_t kHeaderVoteNodeAt = 72;
constexpr size_t kHeaderIncarnationAt = 80;
constexpr size_t kHeaderHashAt = kSegmentHeaderBytes - 8;

// Entry header.
constexpr size_t kEntryPayloadBytesAt = 0;
constexpr size_t kEntryKindAt = 4;
constexpr size_t kEntryFlagsAt = 5;
constexpr size_t kEntryCheckAt = 6;
constexpr size_t kEntryTermAt = 8;
constexpr size_t kEntryIndexAt = 16;
constexpr size_t kEntryPositionAt = 24;
constexpr size_t kEntrySyncedToAt = 32;
constexpr size_t kEntryHashAt = 40;

// Trailer.
constexpr size_t kTrailerVersionAt = 8;
constexpr size_t kTrailerSizeAt = 12;
constexpr size_t kTrailerSealAt = 16;
constexpr size_t kTrailerFileBytesAt = 24;
constexpr size_t kTrailerHashAt = kSegmentTrailerBytes - 8;

constexpr size_t kSealFixedBytes = 96;

// The hash of the header with an empty check field; seeds the hash of the payload.
uint64_t entry_header_hash(const uint8_t* bytes, uint64_t seed) {
  std::array<uint8_t, kEntryHashAt> covered{};
  std::copy_n(bytes, covered.size(), covered.begin());
  covered[kEntryCheckAt] = 0;
  covered[kEntryCheckAt + 1] = 0;
  return xxh3(covered, seed);
}

bool is_known_kind(uint8_t kind) {
  switch (static_cast<EntryKind>(kind)) {
    case EntryKind::kCommand:
    case EntryKind::kBarrier:
    case EntryKind::kConfiguration:
    case EntryKind::kVote:
    case EntryKind::kTruncate:
    case EntryKind::kSnapshot:
    case EntryKind::kSeal:
      return true;
  }
  return false;
}

}  // namespace

uint64_t encode_segment_header(const SegmentHeader& header, MutableByteView out) {
  TIDEMARK_CHECK(out.size() == kSegmentHeaderBytes);
  std::fill(out.begin(), out.end(), uint8_t{0});
  uint8_t* at = out.data();
  std::copy(kSegmentMagic.begin(), kSegmentMagic.end(), at);
  store_le(at + kHeaderVersionAt, kSegmentFormatVersion);
  store_le(at + kHeaderSizeAt, uint32_t{kSegmentHeaderBytes});
  store_le(at + kHeaderClusterAt, header.cluster_id);
  store_le(at + kHeaderShardAt, header.shard.value());
  store_le(at + kHeaderSequenceAt, header.sequence);
  store_le(at + kHeaderPositionAt, header.first_position.value());
  store_le(at + kHeaderIndexAt, header.first_index.value());
  store_le(at + kHeaderTermBeforeAt, header.term_before.value());
  store_le(at + kHeaderVoteTermAt, header.vote.term.value());
  store_le(at + kHeaderVoteNodeAt, header.vote.voted_for.value());
  store_le(at + kHeaderIncarnationAt, header.incarnation);
  const uint64_t hash = xxh3(ByteView(out).first(kHeaderHashAt));
  store_le(at + kHeaderHashAt, hash);
  return hash;
}

Result<DecodedSegmentHeader> decode_segment_header(ByteView in) {
  TIDEMARK_CHECK(in.size() == kSegmentHeaderBytes);
  const uint8_t* at = in.data();
  if (as_text(in.first(kSegmentMagic.size())) != kSegmentMagic) {
    return Status(ErrorCode::kCorrupted, "no segment header: the first 8 bytes are not TDMKSEG1");
  }
  // The version comes before the hash: another version may hash differently.
  if (const auto version = load_le<uint32_t>(at + kHeaderVersionAt);
      version != kSegmentFormatVersion) {
    return Status(ErrorCode::kUnsupportedVersion, "segment format " + std::to_string(version) +
                                                      "; this program reads format " +
                                                      std::to_string(kSegmentFormatVersion));
  }
  const uint64_t hash = xxh3(in.first(kHeaderHashAt));
  if (hash != load_le<uint64_t>(at + kHeaderHashAt) ||
      load_le<uint32_t>(at + kHeaderSizeAt) != kSegmentHeaderBytes) {
    return Status(ErrorCode::kCorrupted, "the segment header does not verify");
  }
  DecodedSegmentHeader decoded;
  decoded.seed = hash;
  SegmentHeader& header = decoded.header;
  header.cluster_id = load_le<uint64_t>(at + kHeaderClusterAt);
  header.shard = ShardId{load_le<uint16_t>(at + kHeaderShardAt)};
  header.sequence = load_le<uint64_t>(at + kHeaderSequenceAt);
  header.first_position = LogPosition{load_le<uint64_t>(at + kHeaderPositionAt)};
  header.first_index = LogIndex{load_le<uint64_t>(at + kHeaderIndexAt)};
  header.term_before = Term{load_le<uint64_t>(at + kHeaderTermBeforeAt)};
  header.vote.term = Term{load_le<uint64_t>(at + kHeaderVoteTermAt)};
  header.vote.voted_for = NodeId{load_le<uint64_t>(at + kHeaderVoteNodeAt)};
  header.incarnation = load_le<uint64_t>(at + kHeaderIncarnationAt);
  if (header.first_index.value() == 0 || header.first_position.value() % 8 != 0) {
    return Status(ErrorCode::kCorrupted,
                  "the segment header names an impossible index or position");
  }
  return decoded;
}

void encode_entry_header(const EntryHeader& header, uint64_t seed, ByteView payload,
                         EntryHeaderBytes& out) {
  TIDEMARK_CHECK(header.payload_bytes == payload.size());
  uint8_t* at = out.data();
  store_le(at + kEntryPayloadBytesAt, header.payload_bytes);
  at[kEntryKindAt] = static_cast<uint8_t>(header.kind);
  at[kEntryFlagsAt] = 0;
  store_le(at + kEntryCheckAt, uint16_t{0});
  store_le(at + kEntryTermAt, header.term.value());
  store_le(at + kEntryIndexAt, header.index.value());
  store_le(at + kEntryPositionAt, header.position.value());
  store_le(at + kEntrySyncedToAt, header.synced_to);
  const uint64_t header_hash = entry_header_hash(at, seed);
  store_le(at + kEntryCheckAt, static_cast<uint16_t>(header_hash));
  store_le(at + kEntryHashAt, xxh3(payload, header_hash));
}

bool DecodedEntryHeader::payload_matches(ByteView payload) const {
  return payload.size() == header.payload_bytes && xxh3(payload, payload_seed) == hash;
}

std::optional<DecodedEntryHeader> decode_entry_header(ByteView in, uint64_t seed) {
  TIDEMARK_CHECK(in.size() == kEntryHeaderBytes);
  const uint8_t* at = in.data();
  // The cheap tests come first: a search through damage asks at every eighth byte.
  if (!is_known_kind(at[kEntryKindAt]) || at[kEntryFlagsAt] != 0) {
    return std::nullopt;
  }
  DecodedEntryHeader decoded;
  EntryHeader& header = decoded.header;
  header.kind = static_cast<EntryKind>(at[kEntryKindAt]);
  header.payload_bytes = load_le<uint32_t>(at + kEntryPayloadBytesAt);
  header.position = LogPosition{load_le<uint64_t>(at + kEntryPositionAt)};
  header.synced_to = load_le<uint64_t>(at + kEntrySyncedToAt);
  if (header.payload_bytes > limits::kEntryPayloadBytesMax || header.position.value() % 8 != 0 ||
      header.synced_to % 8 != 0 || header.synced_to < kSegmentHeaderBytes) {
    return std::nullopt;
  }
  decoded.payload_seed = entry_header_hash(at, seed);
  if (static_cast<uint16_t>(decoded.payload_seed) != load_le<uint16_t>(at + kEntryCheckAt)) {
    return std::nullopt;
  }
  header.term = Term{load_le<uint64_t>(at + kEntryTermAt)};
  header.index = LogIndex{load_le<uint64_t>(at + kEntryIndexAt)};
  decoded.hash = load_le<uint64_t>(at + kEntryHashAt);
  return decoded;
}

std::vector<uint8_t> encode_vote(const Vote& vote) {
  std::vector<uint8_t> bytes;
  ByteWriter out(bytes);
  out.le(vote.term.value());
  out.le(vote.voted_for.value());
  return bytes;
}

std::optional<Vote> decode_vote(ByteView payload) {
  ByteReader in(payload);
  Vote vote;
  vote.term = Term{in.le<uint64_t>()};
  vote.voted_for = NodeId{in.le<uint64_t>()};
  if (in.failed() || in.remaining() != 0) {
    return std::nullopt;
  }
  return vote;
}

std::vector<uint8_t> encode_truncation(const Truncation& truncation) {
  std::vector<uint8_t> bytes;
  ByteWriter out(bytes);
  out.le(truncation.index.value());
  out.le(truncation.position.value());
  out.le(truncation.term_before.value());
  return bytes;
}

std::optional<Truncation> decode_truncation(ByteView payload) {
  ByteReader in(payload);
  Truncation truncation;
  truncation.index = LogIndex{in.le<uint64_t>()};
  truncation.position = LogPosition{in.le<uint64_t>()};
  truncation.term_before = Term{in.le<uint64_t>()};
  if (in.failed() || in.remaining() != 0) {
    return std::nullopt;
  }
  return truncation;
}

size_t snapshot_bytes(const SnapshotManifest& manifest) {
  return 4 * 8 + 2 * 4 + manifest.configuration.size() + manifest.data.size();
}

std::vector<uint8_t> encode_snapshot(const SnapshotManifest& manifest) {
  std::vector<uint8_t> bytes;
  bytes.reserve(snapshot_bytes(manifest));
  ByteWriter out(bytes);
  out.le(manifest.index.value());
  out.le(manifest.term.value());
  out.le(manifest.next_position.value());
  out.le(manifest.configuration_index.value());
  out.le(static_cast<uint32_t>(manifest.configuration.size()));
  out.le(static_cast<uint32_t>(manifest.data.size()));
  out.bytes(manifest.configuration);
  out.bytes(manifest.data);
  return bytes;
}

std::optional<SnapshotManifest> decode_snapshot(ByteView payload) {
  ByteReader in(payload);
  SnapshotManifest manifest;
  manifest.index = LogIndex{in.le<uint64_t>()};
  manifest.term = Term{in.le<uint64_t>()};
  manifest.next_position = LogPosition{in.le<uint64_t>()};
  manifest.configuration_index = LogIndex{in.le<uint64_t>()};
  const auto configuration_bytes = in.le<uint32_t>();
  const auto data_bytes = in.le<uint32_t>();
  const ByteView configuration = in.bytes(configuration_bytes);
  const ByteView data = in.bytes(data_bytes);
  if (in.failed() || in.remaining() != 0) {
    return std::nullopt;
  }
  manifest.configuration.assign(configuration.begin(), configuration.end());
  manifest.data.assign(data.begin(), data.end());
  return manifest;
}

size_t seal_payload_bytes(size_t rows, size_t runs) { return kSealFixedBytes + 16 * (rows + runs); }

size_t seal_bytes(size_t rows, size_t runs) {
  return entry_bytes(seal_payload_bytes(rows, runs)) + kSegmentTrailerBytes;
}

std::vector<uint8_t> encode_seal(const Seal& seal) {
  std::vector<uint8_t> bytes;
  bytes.reserve(seal_payload_bytes(seal.rows.size(), seal.runs.size()));
  ByteWriter out(bytes);
  out.le(seal.end.value());
  out.le(seal.last_index.value());
  out.le(seal.last_term.value());
  out.le(seal.low_index.value());
  out.le(seal.term_before_low.value());
  out.le(seal.replicated_entries);
  out.le(seal.local_entries);
  const LogFloor floor = seal.floor.value_or(LogFloor{});
  out.le(uint64_t{seal.floor.has_value()});
  out.le(floor.position.value());
  out.le(floor.index.value());
  out.le(floor.term.value());
  out.le(static_cast<uint32_t>(seal.rows.size()));
  out.le(static_cast<uint32_t>(seal.runs.size()));
  TIDEMARK_CHECK(bytes.size() == kSealFixedBytes);
  for (const PositionRow& row : seal.rows) {
    out.le(row.position.value());
    out.le(row.offset);
  }
  for (const TermRun& run : seal.runs) {
    out.le(run.index.value());
    out.le(run.term.value());
  }
  return bytes;
}

std::optional<Seal> decode_seal(ByteView payload) {
  ByteReader in(payload);
  Seal seal;
  seal.end = LogPosition{in.le<uint64_t>()};
  seal.last_index = LogIndex{in.le<uint64_t>()};
  seal.last_term = Term{in.le<uint64_t>()};
  seal.low_index = LogIndex{in.le<uint64_t>()};
  seal.term_before_low = Term{in.le<uint64_t>()};
  seal.replicated_entries = in.le<uint64_t>();
  seal.local_entries = in.le<uint64_t>();
  const auto has_floor = in.le<uint64_t>();
  LogFloor floor;
  floor.position = LogPosition{in.le<uint64_t>()};
  floor.index = LogIndex{in.le<uint64_t>()};
  floor.term = Term{in.le<uint64_t>()};
  if (has_floor != 0) {
    seal.floor = floor;
  }
  const auto rows = in.le<uint32_t>();
  const auto runs = in.le<uint32_t>();
  if (in.failed() || has_floor > 1 || rows == 0 || seal.low_index.value() == 0 ||
      in.remaining() != (size_t{rows} + runs) * 16) {
    return std::nullopt;
  }
  for (uint32_t i = 0; i < rows; ++i) {
    const LogPosition position{in.le<uint64_t>()};
    const auto offset = in.le<uint64_t>();
    const bool ascending = seal.rows.empty() || (seal.rows.back().position < position &&
                                                 seal.rows.back().offset < offset);
    if (!ascending || position > seal.end) {
      return std::nullopt;
    }
    seal.rows.push_back({position, offset});
  }
  for (uint32_t i = 0; i < runs; ++i) {
    const LogIndex index{in.le<uint64_t>()};
    const Term term{in.le<uint64_t>()};
    const bool ascending =
        seal.runs.empty() ? index >= seal.low_index : seal.runs.back().index < index;
    if (!ascending || index > seal.last_index) {
      return std::nullopt;
    }
    seal.runs.push_back({index, term});
  }
  return seal;
}

void encode_trailer(uint64_t seal_offset, uint64_t file_bytes, uint64_t seed,
                    SegmentTrailerBytes& out) {
  out.fill(0);
  uint8_t* at = out.data();
  std::copy(kTrailerMagic.begin(), kTrailerMagic.end(), at);
  store_le(at + kTrailerVersionAt, kSegmentFormatVersion);
  store_le(at + kTrailerSizeAt, uint32_t{kSegmentTrailerBytes});
  store_le(at + kTrailerSealAt, seal_offset);
  store_le(at + kTrailerFileBytesAt, file_bytes);
  store_le(at + kTrailerHashAt, xxh3(ByteView(out).first(kTrailerHashAt), seed));
}

std::optional<uint64_t> decode_trailer(ByteView in, uint64_t file_bytes, uint64_t seed) {
  TIDEMARK_CHECK(in.size() == kSegmentTrailerBytes);
  const uint8_t* at = in.data();
  const auto seal_offset = load_le<uint64_t>(at + kTrailerSealAt);
  if (as_text(in.first(kTrailerMagic.size())) != kTrailerMagic ||
      xxh3(in.first(kTrailerHashAt), seed) != load_le<uint64_t>(at + kTrailerHashAt) ||
      load_le<uint32_t>(at + kTrailerVersionAt) != kSegmentFormatVersion ||
      load_le<uint32_t>(at + kTrailerSizeAt) != kSegmentTrailerBytes ||
      load_le<uint64_t>(at + kTrailerFileBytesAt) != file_bytes || seal_offset % 8 != 0 ||
      seal_offset < kSegmentHeaderBytes || seal_offset > file_bytes) {
    return std::nullopt;
  }
  return seal_offset;
}

}  // namespace tidemark::log
