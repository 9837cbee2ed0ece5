// Cuts the input of a fuzz target into numbers and pieces. Whatever is asked for is there: behind
// the end numbers are 0 and pieces are as long as what is left.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "log/base/bytes.h"
#include "log/base/coding.h"

namespace tidemark::testing {

class FuzzInput {
 public:
  explicit FuzzInput(ByteView bytes) : bytes_(bytes) {}

  [[nodiscard]] bool done() const { return bytes_.empty(); }

  // Little-endian.
  template <typename T>
  T number() {
    uint8_t raw[sizeof(T)] = {};
    const ByteView piece = bytes(sizeof(T));
    std::copy(piece.begin(), piece.end(), raw);
    return load_le<T>(raw);
  }

  ByteView bytes(size_t size) {
    const ByteView piece = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(piece.size());
    return piece;
  }

  // A piece with its size in front.
  ByteView sized() {
    const auto size = number<uint16_t>();
    return bytes(size);
  }

  ByteView rest() { return bytes(bytes_.size()); }

 private:
  ByteView bytes_;
};

}  // namespace tidemark::testing
