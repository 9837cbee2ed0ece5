// A byte block that grows at its end without zero-filling, for building large things piece by
// piece.
//
// Thread: one. A pointer that extend() gave is valid until the next call of a non-const member.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "log/base/bytes.h"
#include "log/base/check.h"

namespace tidemark {

class GrowingBuffer {
 public:
  GrowingBuffer() = default;

  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] bool empty() const { return size_ == 0; }

  [[nodiscard]] size_t capacity() const { return block_.size(); }

  [[nodiscard]] ByteView view() const { return {block_.data(), size_}; }

  [[nodiscard]] uint8_t* data() { return block_.data(); }

  // Appends `bytes` bytes of unspecified content; gives their begin.
  uint8_t* extend(size_t bytes) {
    if (block_.size() - size_ < bytes) [[unlikely]] {
      grow(bytes);
    }
    uint8_t* const at = block_.data() + size_;
    size_ += bytes;
    return at;
  }

  // Forgets the content, keeps the memory.
  void clear() { size_ = 0; }

  // The content as one block; empty afterwards. A block that is nearly full is handed out itself,
  // and the next one begins as large; otherwise the content is copied into a block of its size and
  // the large one stays for the next use. So a stream of like contents grows nothing anew, and
  // nobody holds much more memory than bytes.
  [[nodiscard]] Buffer take() {
    if (size_ >= block_.size() - block_.size() / 4) {
      Buffer full = std::exchange(block_, Buffer());
      first_bytes_ = std::max(kFirstBytes, size_);
      full.shrink(std::exchange(size_, 0));
      return full;
    }
    Buffer copy = Buffer::copy_of(view());
    size_ = 0;
    return copy;
  }

 private:
  static constexpr size_t kFirstBytes = 512;

  void grow(size_t bytes) {
    TIDEMARK_CHECK(bytes <= SIZE_MAX / 4 && size_ <= SIZE_MAX / 4,
                   "a buffer beyond the address space");
    Buffer larger(std::max({size_ + bytes, 2 * block_.size(), first_bytes_}));
    if (size_ != 0) {
      std::memcpy(larger.data(), block_.data(), size_);
    }
    block_ = std::move(larger);
  }

  Buffer block_;  // its size is the capacity
  size_t size_ = 0;
  size_t first_bytes_ = kFirstBytes;
};

}  // namespace tidemark
