// SlotStore: where the upper levels of a wheel lie when they are not in memory.
//
// A slot is (level, number): level k, number n covers the ticks [n << 8k, (n + 1) << 8k). It holds
// chunks (packed_chunk.h) in the order of their sequence numbers. Chunks of one slot may overlap in
// due time.
//
// Thread: one at a time; implementations are used on a worker, never on a loop.
// Errors: a text for the operator; std::nullopt is success.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "timerwheel/entry.h"

namespace tidemark::timerwheel {

inline constexpr unsigned kSlotBits = 8;
inline constexpr unsigned kLevels = 5;  // 256^5 ms: 34.8 years

struct SlotId {
  uint8_t level = 0;
  uint64_t number = 0;

  [[nodiscard]] constexpr Tick begin() const { return number << (kSlotBits * level); }

  // 0 for the last slot of a level in 64 bits.
  [[nodiscard]] constexpr Tick end() const { return (number + 1) << (kSlotBits * level); }

  friend constexpr auto operator<=>(const SlotId&, const SlotId&) = default;
};

using Failure = std::optional<std::string>;

class SlotReader {
 public:
  virtual ~SlotReader() = default;

  // Gets each chunk; false stops the walk.
  using Visit = std::function<bool(uint64_t sequence, std::string_view chunk)>;
  // Walks the chunks of a slot in the order of their sequence numbers. A slot that is not there has
  // none.
  [[nodiscard]] virtual Failure read(SlotId slot, const Visit& visit) = 0;
};

class SlotStore : public SlotReader {
 public:
  // Adds a chunk of `entries` entries. Requires: `sequence` is above those of all chunks that the
  // slot has or had, except for those that had been dropped before the wheel that appends was made.
  virtual void append(SlotId slot, uint64_t sequence, uint32_t entries, std::string chunk) = 0;
  // Removes chunks of a slot with sequence numbers up to and including `sequence`.
  virtual void drop(SlotId slot, uint64_t sequence) = 0;
};

}  // namespace tidemark::timerwheel
