// TieredWheel: a hierarchical timing wheel whose near part is in memory, bounded in entries, and
// whose far part lies in a SlotStore.
//
//   add --> near (due before horizon())            --pop, in key order--> out
//       \-> far, in memory until the next spill --freeze, write--> slots of the store
//   slots of the store --plan_load, run, finish_load--> near; horizon() moves on
//   slot too big to be loaded --split, as part of a spill--> slots of the next finer level
//
// Deterministic: what pop() gives depends on what was added and on its arguments alone, never on
// what is loaded or spilled at the moment.
//
// Watermark: what was popped is known by its key: everything up to watermark() has left. So a store
// needs no list of what is gone, and entries loaded again after a restart are filtered by it.
//
// Thread: one, except Spill::write() and LoadPlan::run(), which a worker runs while the wheel goes
// on being used. At most one spill or load is under way at a time; the caller sees to that.
//
// Cost: see README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "timerwheel/entry.h"
#include "timerwheel/slot_store.h"
#include "timerwheel/timing_wheel.h"

namespace tidemark::timerwheel {

struct TieredOptions {
  // What memory may hold. Loading stays below; what is added may go above until the next spill,
  // after which the near part is cut back to it (the horizon moves nearer).
  size_t memory_entries_max = size_t{1} << 20;
  // Entries per stored chunk.
  size_t chunk_entries_max = 1024;
  // The horizon is kept at least this far ahead of now, memory permitting.
  Tick lookahead = 60'000;
  // Entries that one spill moves by splitting.
  size_t split_entries_max = size_t{1} << 20;
};

class TieredWheel {
 public:
  // Everything up to `watermark` is thought to have left. Nothing is stored: see adopt().
  explicit TieredWheel(Key watermark = {}, TieredOptions options = {});
  TieredWheel(const TieredWheel&) = delete;
  TieredWheel& operator=(const TieredWheel&) = delete;

  // At start, before anything else: a chunk that the store has.
  void adopt(SlotId slot, uint64_t sequence, uint32_t entries);

  // Requires: entry.key() > watermark().
  void add(const Entry& entry);

  // Moves what has key <= `until` to the end of `out`, in key order, at most `limit` entries. The
  // watermark becomes `until`, or the key of the last entry given when the limit was reached (and
  // false is returned: call again). Requires: until < horizon(), until >= watermark().
  [[nodiscard]] bool pop(Key until, size_t limit, std::vector<Entry>& out);

  [[nodiscard]] Key watermark() const;

  // Everything that is pending with a smaller key is in memory.
  [[nodiscard]] Key horizon() const;

  // The due tick of the earliest entry before the horizon; nullopt if there is none.
  [[nodiscard]] std::optional<Tick> next_due() const;

  // Entries added and not popped, stored ones included. Exact.
  [[nodiscard]] uint64_t size() const;
  [[nodiscard]] size_t memory_entries() const;
  // Entries in memory that no store has: the caller spills before it grows too large.
  [[nodiscard]] size_t unspilled_entries() const;
  [[nodiscard]] size_t memory_bytes() const;

  // --- spill: bring the store up to date, as part of a transaction of the caller
  class Spill {
   public:
    // On a worker. Sorts and packs what was frozen, splits slots that are too big, drops what the
    // watermark has passed. Reads through the store what was committed before.
    [[nodiscard]] Failure write(SlotStore& store);

   private:
    friend class TieredWheel;
    struct State;
    std::shared_ptr<State> state_;
  };

  // Takes what is to be written; O(slots), entries are moved and not copied where they can be.
  [[nodiscard]] Spill freeze();
  // The transaction is durable: what was frozen leaves memory if it lies beyond the horizon.
  void spill_done(Spill& spill);
  // It is not; the next freeze takes it again.
  void spill_failed(Spill& spill);

  // --- load: extend the horizon
  class LoadPlan {
   public:
    // On a worker. Reads the slots planned, keeps what the near part has room for.
    [[nodiscard]] Failure run(SlotReader& store);

   private:
    friend class TieredWheel;
    struct State;
    std::shared_ptr<State> state_;
  };

  // True: the next slot is too big to load and waits to be split by a spill: spill soon.
  [[nodiscard]] bool wants_split() const;

  // What to load so that the horizon stays `lookahead` ahead of `now`. nullopt: nothing (the horizon
  // may have moved without any reading).
  [[nodiscard]] std::optional<LoadPlan> plan_load(Tick now);
  // Requires: run() succeeded.
  void finish_load(LoadPlan& plan);

  // Fails the process (with the invariant's number) if the structure contradicts itself. For tests.
  void check_invariants() const;

 private:
  // to be designed
};

}  // namespace tidemark::timerwheel
