// Little-endian fixed-width integers at unaligned addresses (our formats), big-endian ones
// (RecordBatch v2) and varints. Readers never look past `end`; writers append to a byte vector.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "log/base/bytes.h"

namespace tidemark {

static_assert(std::endian::native == std::endian::little, "formats are read and written by memcpy");

template <typename T>
T byte_swap(T value) {
  static_assert(std::is_unsigned_v<T>);
  if constexpr (sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return static_cast<T>(__builtin_bswap16(value));
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

template <typename T>
T load_le(const uint8_t* at) {
  static_assert(std::is_integral_v<T>);
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void store_le(uint8_t* at, T value) {
  static_assert(std::is_integral_v<T>);
  std::memcpy(at, &value, sizeof value);
}

template <typename T>
T load_be(const uint8_t* at) {
  return static_cast<T>(byte_swap(load_le<std::make_unsigned_t<T>>(at)));
}

template <typename T>
void store_be(uint8_t* at, T value) {
  store_le(at, byte_swap(static_cast<std::make_unsigned_t<T>>(value)));
}

// Appends integers and bytes to a vector it does not own.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<uint8_t>& out) : out_(out) {}

  template <typename T>
  void le(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof value);
    store_le(out_.data() + at, value);
  }

  void bytes(ByteView view) { out_.insert(out_.end(), view.begin(), view.end()); }

  // Unsigned LEB128, at most 10 bytes.
  void varint(uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<uint8_t>(value));
  }

  void sized_text(std::string_view text) {
    varint(text.size());
    bytes(as_bytes(text));
  }

 private:
  std::vector<uint8_t>& out_;
};

// Reads what ByteWriter wrote. A read past the end or an overlong varint sets failed() and gives 0
// or an empty view; check once at the end.
class ByteReader {
 public:
  explicit ByteReader(ByteView in) : in_(in) {}

  template <typename T>
  T le() {
    if (in_.size() - at_ < sizeof(T)) {
      return fail<T>();
    }
    const T value = load_le<T>(in_.data() + at_);
    at_ += sizeof(T);
    return value;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == in_.size()) {
        return fail<uint64_t>();
      }
      const uint8_t byte = in_[at_++];
      if (shift == 63 && byte > 1) {
        return fail<uint64_t>();
      }
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    return fail<uint64_t>();
  }

  ByteView bytes(uint64_t size) {
    if (in_.size() - at_ < size) {
      fail<uint64_t>();
      return {};
    }
    const ByteView view = in_.subspan(at_, static_cast<size_t>(size));
    at_ += static_cast<size_t>(size);
    return view;
  }

  std::string_view sized_text() { return as_text(bytes(varint())); }

  [[nodiscard]] bool failed() const { return failed_; }

  [[nodiscard]] size_t remaining() const { return in_.size() - at_; }

  [[nodiscard]] size_t consumed() const { return at_; }

 private:
  template <typename T>
  T fail() {
    failed_ = true;
    at_ = in_.size();
    return T{};
  }

  ByteView in_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace tidemark
