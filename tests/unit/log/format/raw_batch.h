// Batches written field by field, so that a test can lie in any of them. Knows nothing of the code
// under test but the checksum.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/checksum.h"

namespace tidemark::format {

using Bytes = std::vector<uint8_t>;

// Appends in any order and to any length.
class RawWriter {
 public:
  RawWriter& varint(int64_t value) {
    uint64_t bits = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
    for (; bits > 0x7F; bits >>= 7) {
      out.push_back(static_cast<uint8_t>((bits & 0x7F) | 0x80));
    }
    out.push_back(static_cast<uint8_t>(bits));
    return *this;
  }

  template <typename T>
  RawWriter& be(T value) {
    for (size_t i = sizeof(T); i-- > 0;) {
      out.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
    }
    return *this;
  }

  RawWriter& bytes(ByteView view) {
    out.insert(out.end(), view.begin(), view.end());
    return *this;
  }

  RawWriter& text(std::string_view view) { return bytes(as_bytes(view)); }

  // A length and the bytes.
  RawWriter& field(std::string_view view) {
    return varint(static_cast<int64_t>(view.size())).text(view);
  }

  Bytes out;
};

// The body of a plain record: no key, the value, no headers.
inline Bytes raw_body(int64_t timestamp_delta, int64_t offset_delta, std::string_view value) {
  return RawWriter()
      .be<uint8_t>(0)
      .varint(timestamp_delta)
      .varint(offset_delta)
      .varint(-1)
      .field(value)
      .varint(0)
      .out;
}

// A body behind its length.
inline Bytes raw_record(const Bytes& body) {
  return RawWriter().varint(static_cast<int64_t>(body.size())).bytes(body).out;
}

struct RawBatch {
  int64_t base_offset = 0;
  int32_t leader_epoch = 0;
  uint8_t magic = 2;
  uint16_t attributes = 0;
  int32_t count = 1;
  std::optional<int32_t> last_offset_delta = {};
  int64_t base_timestamp = 0;
  int64_t max_timestamp = 0;
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  int32_t base_sequence = -1;
  Bytes block = {};
  int32_t length_error = 0;

  [[nodiscard]] Bytes encode() const {
    RawWriter tail;
    tail.be(attributes).be(last_offset_delta ? *last_offset_delta : count - 1).be(base_timestamp);
    tail.be(max_timestamp).be(producer_id).be(producer_epoch).be(base_sequence).be(count);
    tail.bytes(block);
    const uint32_t length =
        static_cast<uint32_t>(tail.out.size() + 9) + static_cast<uint32_t>(length_error);
    RawWriter batch;
    batch.be(base_offset).be(length).be(leader_epoch).be(magic).be(crc32c(tail.out));
    batch.bytes(tail.out);
    return batch.out;
  }
};

// Makes length and checksum right again after a test changed or cut a batch (61 bytes at least).
inline void repair(Bytes& batch) {
  const auto put = [&batch](size_t at, uint32_t value) {
    for (size_t i = 0; i < 4; ++i) {
      batch[at + i] = static_cast<uint8_t>(value >> (24 - 8 * i));
    }
  };
  put(8, static_cast<uint32_t>(batch.size() - 12));
  put(17, crc32c(ByteView(batch).subspan(21)));
}

}  // namespace tidemark::format
