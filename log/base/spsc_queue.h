// SpscQueue: a bounded queue between exactly two threads, one that pushes and one that pops. No
// lock, no allocation after construction; what was written before a push is visible after the pop
// that returns it.
//
// Memory: slots are touched only when used, so a large capacity costs nothing until it is needed.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "log/base/check.h"

namespace tidemark {

template <typename T>
class SpscQueue {
 public:
  // Capacity is rounded up to a power of two. Requires: capacity > 0.
  explicit SpscQueue(size_t capacity)
      : mask_(std::bit_ceil(capacity) - 1), slots_(new Slot[mask_ + 1]) {
    TIDEMARK_CHECK(capacity > 0);
  }

  // Requires: neither side uses the queue any more. Destroys what was not popped.
  ~SpscQueue() {
    while (pop().has_value()) {
    }
  }

  SpscQueue(const SpscQueue&) = delete;
  SpscQueue& operator=(const SpscQueue&) = delete;

  // Pushing side. False if full; `value` is then untouched.
  [[nodiscard]] bool try_push(T&& value) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ > mask_) {
        return false;
      }
    }
    ::new (static_cast<void*>(slots_[tail & mask_].bytes)) T(std::move(value));
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // Popping side. nullopt if empty.
  std::optional<T> pop() {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) {
        return std::nullopt;
      }
    }
    T* slot = std::launder(reinterpret_cast<T*>(slots_[head & mask_].bytes));
    std::optional<T> value(std::move(*slot));
    slot->~T();
    head_.store(head + 1, std::memory_order_release);
    return value;
  }

  // Either side; exact only when the other side is still.
  [[nodiscard]] size_t size() const {
    const size_t head = head_.load(std::memory_order_acquire);
    return tail_.load(std::memory_order_acquire) - head;
  }

  [[nodiscard]] size_t capacity() const { return mask_ + 1; }

 private:
  struct Slot {
    alignas(T) std::byte bytes[sizeof(T)];
  };

  // Keeps what one side writes off the cache lines of the other.
  static constexpr size_t kCacheLineBytes = 64;

  const size_t mask_;
  const std::unique_ptr<Slot[]> slots_;
  alignas(kCacheLineBytes) std::atomic<size_t> head_{0};  // next to pop
  size_t tail_seen_ = 0;                                  // popping side's copy of tail_
  alignas(kCacheLineBytes) std::atomic<size_t> tail_{0};  // next to push
  size_t head_seen_ = 0;                                  // pushing side's copy of head_
};

}  // namespace tidemark
