// The zigzag varints of RecordBatch v2. One number has one encoding: the reader refuses longer
// ones.
#pragma once

#include <bit>
#include <cstdint>

#include "log/base/bytes.h"

namespace tidemark::format {

inline constexpr size_t kVarint32BytesMax = 5;
inline constexpr size_t kVarint64BytesMax = 10;

constexpr uint64_t zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ (value < 0 ? ~uint64_t{0} : 0);
}

constexpr int64_t unzigzag(uint64_t value) {
  return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

// Bytes of the encoding of `value`: one for each 7 bits begun.
constexpr size_t varint_bytes(int64_t value) {
  return (static_cast<size_t>(std::bit_width(zigzag(value) | 1)) + 6) / 7;
}

// Writes at `at`, which has room for varint_bytes(value); gives the place behind.
inline uint8_t* put_varint(uint8_t* at, int64_t value) {
  uint64_t bits = zigzag(value);
  while (bits >= 0x80) {
    *at++ = static_cast<uint8_t>(bits | 0x80);
    bits >>= 7;
  }
  *at++ = static_cast<uint8_t>(bits);
  return at;
}

// Reads forward through a byte range and never past its end. A read gives false, and the position
// is then unspecified, when the range ends too early or a varint is overlong (more bytes than the
// number needs, or more bits than its type has).
class RecordScanner {
 public:
  explicit RecordScanner(ByteView in) : at_(in.data()), end_(in.data() + in.size()) {}

  [[nodiscard]] size_t remaining() const { return static_cast<size_t>(end_ - at_); }

  [[nodiscard]] ByteView rest() const { return {at_, remaining()}; }

  [[nodiscard]] bool byte(uint8_t& out) {
    if (at_ == end_) {
      return false;
    }
    out = *at_++;
    return true;
  }

  [[nodiscard]] bool varint32(int32_t& out) {
    int64_t wide = 0;
    if (!varint<kVarint32BytesMax, 32>(wide)) {
      return false;
    }
    out = static_cast<int32_t>(wide);
    return true;
  }

  [[nodiscard]] bool varint64(int64_t& out) { return varint<kVarint64BytesMax, 64>(out); }

  // The next `size` bytes.
  [[nodiscard]] bool bytes(size_t size, ByteView& out) {
    if (remaining() < size) {
      return false;
    }
    out = {at_, size};
    at_ += size;
    return true;
  }

 private:
  template <size_t kBytesMax, unsigned kBits>
  bool varint(int64_t& out) {
    // Nearly all numbers of a record take one byte or two.
    if (at_ == end_) {
      return false;
    }
    const uint64_t first = at_[0];
    if (first < 0x80) {
      out = unzigzag(first);
      ++at_;
      return true;
    }
    if (end_ - at_ >= 2 && at_[1] < 0x80 && at_[1] != 0) [[likely]] {
      out = unzigzag((first & 0x7F) | uint64_t{at_[1]} << 7);
      at_ += 2;
      return true;
    }
    return long_varint<kBytesMax, kBits>(out);
  }

  template <size_t kBytesMax, unsigned kBits>
  [[gnu::noinline]] bool long_varint(int64_t& out) {
    uint64_t value = 0;
    for (unsigned index = 0; index < kBytesMax && at_ != end_; ++index) {
      const uint8_t byte = *at_++;
      value |= uint64_t{byte & 0x7Fu} << (7 * index);
      if (byte < 0x80) {
        // The last of several bytes is not zero, and has no bits beyond the type: there is room for
        // `room` of them.
        const unsigned room = kBits - 7 * index;
        if (byte == 0 || (room < 7 && (byte >> room) != 0)) {
          return false;
        }
        out = unzigzag(value);
        return true;
      }
    }
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace tidemark::format
