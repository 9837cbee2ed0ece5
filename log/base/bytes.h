// Byte spans and reference-counted immutable buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemark {

using ByteView = std::span<const uint8_t>;
using MutableByteView = std::span<uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A fixed-size heap block without zero-fill. Move-only until frozen into a SharedBytes.
class Buffer {
 public:
  Buffer() = default;

  explicit Buffer(size_t size) : data_(size ? new uint8_t[size] : nullptr), size_(size) {}

  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}

  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() = default;

  static Buffer copy_of(ByteView bytes) {
    Buffer buffer(bytes.size());
    if (!bytes.empty()) {
      std::memcpy(buffer.data(), bytes.data(), bytes.size());
    }
    return buffer;
  }

  [[nodiscard]] uint8_t* data() { return data_.get(); }

  [[nodiscard]] const uint8_t* data() const { return data_.get(); }

  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] ByteView view() const { return {data_.get(), size_}; }

  [[nodiscard]] MutableByteView mutable_view() { return {data_.get(), size_}; }

  // Gives the memory up; used by SharedBytes.
  std::unique_ptr<uint8_t[]> release() {
    size_ = 0;
    return std::move(data_);
  }

  // Keeps the first `size` bytes visible; the block stays as large as it was. Requires: size <=
  // this->size().
  void shrink(size_t size) { size_ = size < size_ ? size : size_; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
};

// A view that keeps its block alive. Copying shares the block (atomic count: may cross threads);
// the bytes never change after construction.
class SharedBytes {
 public:
  SharedBytes() = default;

  explicit SharedBytes(Buffer buffer) : size_(buffer.size()) {
    std::shared_ptr<uint8_t[]> block(buffer.release());
    view_ = block.get();
    owner_ = std::move(block);
  }

  [[nodiscard]] ByteView view() const { return {view_, size_}; }

  [[nodiscard]] const uint8_t* data() const { return view_; }

  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] bool empty() const { return size_ == 0; }

  // A part of the same block. Requires: offset + size <= this->size().
  [[nodiscard]] SharedBytes slice(size_t offset, size_t size) const {
    SharedBytes part(*this);
    part.view_ = view_ + offset;
    part.size_ = size;
    return part;
  }

 private:
  std::shared_ptr<const uint8_t[]> owner_;
  const uint8_t* view_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tidemark
