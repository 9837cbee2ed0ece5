// AckSet: which messages of a partition a group has settled, each for itself.
//
//   0 ......... floor ....... bitmap of 4096 offsets, or "all of these" ....... highest settled
//
// Everything before the floor is settled. Above it a chunk of 4096 offsets that has a settled and
// an unsettled one is a bitmap of 512 bytes; runs of whole chunks that are settled cost one map
// entry: a million acks in random order with 100,000 holes take about 150 KiB.
//
// The last 64-bit number is no offset (see ack_ranges.h): it is never settled, and the floor may be
// there when everything is.
//
// Thread: one.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "log/base/ids.h"

namespace tidemark::queue {

class AckSet {
 public:
  static constexpr uint64_t kChunkOffsets = 4096;
  static constexpr uint64_t kChunks = (UINT64_MAX / kChunkOffsets) + 1;

  // What applies to [first, first + count): how many were not settled before. Anything below the
  // floor is settled already.
  uint64_t add(Offset first, uint64_t count = 1);
  // Everything before `floor` is settled from now on (the partition was trimmed, or the group
  // begins there). Gives how many were not settled before.
  uint64_t raise_floor(Offset floor);

  [[nodiscard]] bool contains(Offset offset) const;

  // The first offset that is not settled.
  [[nodiscard]] Offset floor() const { return floor_; }

  // The first offset from `from` on that is not settled.
  [[nodiscard]] Offset next_unsettled(Offset from) const;
  // The first offset from `from` on that is settled; nullopt: none. With next_unsettled() it lists
  // what is not settled by ranges.
  [[nodiscard]] std::optional<Offset> next_settled(Offset from) const;

  // Settled ones from the floor on.
  [[nodiscard]] uint64_t above_floor() const { return above_; }

  [[nodiscard]] size_t memory_bytes() const;

  // Independent of the order of adding.
  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint: a value for each bitmap and one for each run of whole chunks, under the number
  // of its (first) chunk. What a store that had all changes before these lacks:
  struct Changes {
    std::set<uint64_t> chunks;  // numbers under which there is another value, or none any more
    // There is nothing any more from this number on up to the floor's chunk.
    std::optional<uint64_t> emptied_from;

    // Both.
    void merge(Changes&& other);
  };

  using Bits = std::array<uint64_t, kChunkOffsets / 64>;

  [[nodiscard]] static constexpr uint64_t chunk_of(Offset offset) {
    return offset.value() / kChunkOffsets;
  }

  // Counts as changed what is stored with the chunk.
  void touch(uint64_t chunk) { changes_.chunks.insert(chunk); }

  // Since the last time.
  Changes take_changes();

  // They did not reach the store.
  void give_back(Changes&& changes) { changes_.merge(std::move(changes)); }

  // nullptr: this chunk has no bitmap.
  [[nodiscard]] const Bits* bits_of(uint64_t chunk) const;
  // How many whole chunks the run that begins with this one has; 0: none begins here.
  [[nodiscard]] uint64_t run_at(uint64_t chunk) const;
  // What was stored, into an empty set: the floor, then the others by ascending chunk. Nothing of
  // it counts as changed. False: no AckSet has such a value there.
  [[nodiscard]] bool load_floor(Offset floor);
  [[nodiscard]] bool load_bits(uint64_t chunk, const Bits& bits);
  [[nodiscard]] bool load_run(uint64_t chunk, uint64_t chunks);

 private:
  // Of the floor's chunk: nothing below the floor is set.
  struct Chunk {
    Bits bits{};
    uint32_t settled = 0;
  };

  using Chunks = std::map<uint64_t, Chunk>;
  using Runs = std::map<uint64_t, uint64_t>;  // first chunk, behind the last one

  [[nodiscard]] Runs::const_iterator run_with(uint64_t chunk) const;
  uint64_t add_part(uint64_t chunk, uint64_t first, uint64_t end);
  uint64_t add_whole(uint64_t first, uint64_t end);
  void join_run(uint64_t first, uint64_t end);
  uint64_t forget_below(Offset floor);
  void advance();
  void floor_moved(Offset before);
  [[nodiscard]] bool is_free_behind_all(uint64_t chunk) const;

  Offset floor_;
  uint64_t above_ = 0;
  Chunks chunks_;
  Runs runs_;
  Changes changes_;
};

}  // namespace tidemark::queue
