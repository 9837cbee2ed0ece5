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
//
// Where an entry is. `stored` are those of the store's committed chunks:
//
//   key in (watermark(), horizon()):  near, and either stored, frozen, or also in `fresh`
//   key >= horizon():                 stored, frozen, or in `far`; exactly one of these
//
// So what a store has beyond the horizon is not in memory, and what memory alone has is in `fresh`,
// `far` and, until its spill has ended, in the spill.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
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

// Dues are below, so that there is a horizon beyond each.
inline constexpr Tick kDueEnd = std::numeric_limits<Tick>::max();

class TieredWheel {
 public:
  // Everything up to `watermark` is thought to have left. Nothing is stored: see adopt().
  explicit TieredWheel(Key watermark = {}, TieredOptions options = {});
  TieredWheel(const TieredWheel&) = delete;
  TieredWheel& operator=(const TieredWheel&) = delete;

  // At start, before anything else: a chunk that the store has. What lies in it up to the watermark
  // is not loaded, but counted by size(), for it is not known here: see set_size().
  void adopt(SlotId slot, uint64_t sequence, uint32_t entries);
  // At start, after the last adopt() and before anything else: how many of the entries adopted lie
  // beyond the watermark, for example size() at the freeze() of the spill that wrote the watermark
  // with the chunks.
  void set_size(uint64_t size);

  // Requires: entry.key() > watermark(), entry.due < kDueEnd, no entry with this key is pending.
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

  // Those of them before the horizon: that many pop() can give without any load.
  [[nodiscard]] size_t near_entries() const { return near_.size(); }

  // Entries in memory that no store has: the caller spills before it grows too large. Those of a
  // spill under way count until it has ended. An upper bound: entries that were popped before they
  // were ever stored may be counted for a while, at most as many again and a few thousand.
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

  // Takes what is to be written, with the watermark of now; O(slots dropped), no entry is copied.
  // Requires: no spill and no load is under way.
  [[nodiscard]] Spill freeze();
  // The transaction is durable: what was frozen leaves memory if it lies beyond the horizon. If the
  // near part is larger than memory_entries_max, the horizon moves nearer. Requires: write()
  // succeeded.
  void spill_done(Spill& spill);
  // It is not; the next freeze takes it again.
  void spill_failed(Spill& spill);

  // --- load: extend the horizon
  class LoadPlan {
   public:
    // On a worker. Reads the slots planned, keeps what the near part has room for. After a failure
    // it may be run again, or the plan be dropped and another one made.
    [[nodiscard]] Failure run(SlotReader& store);

   private:
    friend class TieredWheel;
    struct State;
    std::shared_ptr<State> state_;
  };

  // True: the next slot is too big to load and waits to be split by a spill: spill soon.
  [[nodiscard]] bool wants_split() const;

  // What to load so that the horizon stays `lookahead` ahead of `now`. nullopt: nothing (the
  // horizon may have moved without any reading). `at_once`: what is next is needed now, so it is
  // loaded even if memory is full, and in part if it is too big.
  [[nodiscard]] std::optional<LoadPlan> plan_load(Tick now, bool at_once = false);
  // Requires: run() succeeded, and no spill was frozen and no other load planned since the plan.
  void finish_load(LoadPlan& plan);

  // --- look: what is pending, without taking it
  // Visits what is in memory, in no order. What a spill under way holds is not visited: it will be
  // in the store when the spill is done. O(entries in memory).
  template <class Visit>
  void visit_memory(Visit&& visit) const {
    near_.for_each(visit);
    far_->for_each(visit);
  }

  // Slots of the store that may have something due in [from, to], in the order of their begin.
  [[nodiscard]] std::vector<SlotId> stored_slots(Tick from, Tick to) const;

  // Fails the process (with the invariant's number) if the structure contradicts itself. For tests.
  // (1) those of the near and the far wheel; (2) near lies between watermark and horizon; (3) far
  // lies at the horizon or beyond; (4) what is fresh and not popped is near; (5) size() counts at
  // least what is in memory; (6) a slot of the directory holds entries, and its sequence was given
  // out; (7) the slot that waits to be split is there and can be split.
  void check_invariants() const;

 private:
  struct StoredSlot {
    uint64_t entries = 0;  // popped ones included
    uint64_t last_sequence = 0;
  };

  using Directory = std::map<SlotId, StoredSlot>;

  [[nodiscard]] std::optional<SlotId> coarsest_slot_with(Tick due) const;
  [[nodiscard]] std::optional<Tick> next_slot_begin(Tick after) const;
  [[nodiscard]] std::vector<SlotId> slots_within(SlotId outer, Tick from) const;
  [[nodiscard]] uint64_t entries_of(const std::vector<SlotId>& slots) const;
  [[nodiscard]] size_t room() const;
  [[nodiscard]] std::optional<LoadPlan> plan_slot(SlotId slot, bool at_once);
  void move_horizon(Key horizon);
  void cut_back();
  void forget_popped_fresh();
  void take_over(const Spill::State& spill);

  TieredOptions options_;
  Key watermark_;
  Key horizon_;
  uint64_t size_ = 0;
  TimingWheel near_;
  std::unique_ptr<TimingWheel> far_;
  // Copies of near entries that no store has. Popped ones are removed now and then.
  std::vector<Entry> fresh_;
  size_t fresh_prune_at_ = 0;
  Directory directory_;
  // One sequence for all slots: so it ascends in each, whatever was dropped.
  uint64_t last_sequence_ = 0;
  std::optional<SlotId> split_;
  // Changes with each spill and each plan: a plan is finished in the state it was made for.
  uint64_t generation_ = 0;
  // Of the spill under way, which may be on a worker.
  bool spilling_ = false;
  size_t frozen_far_entries_ = 0;
  size_t frozen_fresh_entries_ = 0;
  size_t frozen_bytes_ = 0;
};

}  // namespace tidemark::timerwheel
