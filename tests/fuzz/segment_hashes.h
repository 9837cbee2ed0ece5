// Segment files whose hashes agree with their bytes, so that a fuzzer gets behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/segment_format.h"

namespace tidemark::log {

// Of the header and of entry after entry, as far as lengths lead.
inline void put_hashes_right(std::vector<uint8_t>& file) {
  if (file.size() < kSegmentHeaderBytes) {
    return;
  }
  std::memcpy(file.data(), "TDMKSEG1", 8);
  store_le(file.data() + 8, kSegmentFormatVersion);
  store_le(file.data() + 12, uint32_t{kSegmentHeaderBytes});
  const ByteView covered = ByteView(file).first(kSegmentHeaderBytes - 8);
  const uint64_t seed = xxh3(covered);
  store_le(file.data() + kSegmentHeaderBytes - 8, seed);
  size_t at = kSegmentHeaderBytes;
  while (file.size() - at >= kEntryHeaderBytes) {
    uint8_t* entry = file.data() + at;
    const auto payload_bytes = load_le<uint32_t>(entry);
    if (payload_bytes > file.size() - at - kEntryHeaderBytes) {
      break;
    }
    store_le(entry + 6, uint16_t{0});
    const uint64_t hash = xxh3(ByteView(entry, 40), seed);
    store_le(entry + 6, static_cast<uint16_t>(hash));
    store_le(entry + 40, xxh3(ByteView(entry + kEntryHeaderBytes, payload_bytes), hash));
    if (entry_bytes(payload_bytes) > file.size() - at) {
      break;
    }
    at += entry_bytes(payload_bytes);
  }
  if (file.size() - at == kSegmentTrailerBytes) {
    store_le(file.data() + at + kSegmentTrailerBytes - 8,
             xxh3(ByteView(file.data() + at, kSegmentTrailerBytes - 8), seed));
  }
}

}  // namespace tidemark::log
