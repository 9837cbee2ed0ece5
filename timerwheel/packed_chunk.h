// A packed chunk: entries in key order, as bytes for a SlotStore.
//
// Version 1. Numbers of fixed size are little-endian; a varint has 7 bits a byte, the lowest first,
// the high bit set in all bytes but the last, in the shortest form.
//
//   offset  bytes  what
//   0       1      version: 1
//   1       3      zero
//   4       4      number of entries
//   8       8      checksum: chunk_checksum() of bytes 0 to 7 and of what follows the checksum
//   16      8      due of the first entry
//   24             entries, one after the other, up to the end
//
//   an entry
//   head            varint of up to 66 bits: (due - due of the previous) << 2 | tag mode. For the
//                   first entry the difference is 0.
//   id              varint of zigzag(d), d = id - id of the previous
//   position        varint of zigzag(position - position of the previous - d): 0 where positions go
//                   as ids do
//   tag             mode 0: nothing, the tag of the previous entry
//                   mode 1: the high 32 bits of the previous tag, and varint of (low ^ low of the
//                   previous tag), which is not 0 and below 2^32
//                   mode 2: varint of (high ^ high of the previous tag), which is not 0 and below
//                   2^32, then varint of low, below 2^32
//                   mode 3: never
//
// Differences wrap at 2^64, and zigzag(d) is d << 1 ^ (d >> 63, with sign). Before the first entry,
// id, position and tag are 0. Keys ascend strictly. So there is one way to write given entries.
//
// chunk_checksum: a state of 64 bits, at first kChecksumSeed. The bytes are taken as little-endian
// words of 8, the last one filled up with zeros: state = (state ^ word) * kChecksumFactor, then
// state
// ^= state >> 29. At the end the number of bytes is taken as one more word. Each step is a
// bijection of the state and of the word, so a change within one word always shows. It is a guard
// against damage, not against forgery: the decoder trusts nothing that it finds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "timerwheel/entry.h"
#include "timerwheel/slot_store.h"

namespace tidemark::timerwheel {

inline constexpr uint8_t kChunkVersion = 1;
inline constexpr size_t kChunkCountAt = 4;
inline constexpr size_t kChunkChecksumAt = 8;
inline constexpr size_t kChunkFirstDueAt = 16;
inline constexpr size_t kChunkHeaderBytes = 24;
// Head, id and position: a byte each.
inline constexpr size_t kChunkEntryBytesMin = 3;
inline constexpr uint64_t kChecksumSeed = 0x9e3779b97f4a7c15;
inline constexpr uint64_t kChecksumFactor = 0xd6e8feb86659fd93;

// Requires: 1 to 2^32 - 1 entries whose keys ascend strictly.
[[nodiscard]] std::string pack_chunk(std::span<const Entry> entries);

// Adds the entries to the end of `out`. Never reads outside `chunk`, and never sets aside more than
// a chunk of its size can hold. On failure `out` is as it was.
[[nodiscard]] Failure unpack_chunk(std::string_view chunk, std::vector<Entry>& out);

// The checksum that belongs into a chunk. Requires: at least kChunkHeaderBytes.
[[nodiscard]] uint64_t chunk_checksum(std::string_view chunk);

}  // namespace tidemark::timerwheel
