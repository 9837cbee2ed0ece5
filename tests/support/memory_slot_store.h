// A SlotStore in memory with the promises of a transaction: a copy is a snapshot to go back to. It
// holds the wheel to the contract of timerwheel/slot_store.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "timerwheel/slot_store.h"

namespace tidemark::timerwheel {

class MemorySlotStore : public SlotStore {
 public:
  struct Chunk {
    uint32_t entries = 0;
    std::string bytes;
  };

  using Slots = std::map<SlotId, std::map<uint64_t, Chunk>>;

  // The next read fails after so many chunks.
  void fail_read_after(size_t chunks) { fail_read_after_ = chunks; }

  [[nodiscard]] Failure read(SlotId slot, const Visit& visit) override {
    const auto at = slots_.find(slot);
    if (at == slots_.end()) {
      return std::nullopt;
    }
    for (const auto& [sequence, chunk] : at->second) {
      if (fail_read_after_ && (*fail_read_after_)-- == 0) {
        fail_read_after_.reset();
        return "the disk is gone";
      }
      if (!visit(sequence, chunk.bytes)) {
        break;
      }
    }
    return std::nullopt;
  }

  void append(SlotId slot, uint64_t sequence, uint32_t entries, std::string chunk) override {
    uint64_t& last = last_sequence_[slot];
    REQUIRE(sequence > last);
    last = sequence;
    bytes_ += chunk.size();
    entries_ += entries;
    slots_[slot][sequence] = {entries, std::move(chunk)};
  }

  void drop(SlotId slot, uint64_t sequence) override {
    const auto at = slots_.find(slot);
    if (at == slots_.end()) {
      return;
    }
    auto& chunks = at->second;
    while (!chunks.empty() && chunks.begin()->first <= sequence) {
      bytes_ -= chunks.begin()->second.bytes.size();
      entries_ -= chunks.begin()->second.entries;
      chunks.erase(chunks.begin());
    }
    if (chunks.empty()) {
      slots_.erase(at);
    }
  }

  // A restart forgets what dropped slots once had.
  void restart() {
    last_sequence_.clear();
    for (const auto& [slot, chunks] : slots_) {
      last_sequence_[slot] = chunks.rbegin()->first;
    }
  }

  [[nodiscard]] const Slots& slots() const { return slots_; }

  [[nodiscard]] Slots& slots() { return slots_; }

  [[nodiscard]] uint64_t entries() const { return entries_; }

  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  Slots slots_;
  std::map<SlotId, uint64_t> last_sequence_;
  uint64_t entries_ = 0;
  uint64_t bytes_ = 0;
  std::optional<size_t> fail_read_after_;
};

}  // namespace tidemark::timerwheel
