// TimingWheel: a hierarchical timing wheel over 64-bit ticks. Memory only: no clock, no I/O, no
// thread.
//
//   add --> slot of a level --opened when its time comes--> slots of finer levels (it is large)
//                                \-> run: in key order (it is small, or was filled in order)
//   late: due in a tick that is already open --> late run (keys ascend) or late heap
//   pop: the runs and the late entries, merged
//
// Level k has 256 slots of 256^k ticks, the digits of a due tick in base 256. An entry lies in the
// level of the highest digit in which its due differs from the wheel's current tick. Levels 0 to 4
// reach 34.8 years of milliseconds; the three above are the overflow, the same structure, so that
// every 64-bit tick has its place and none is ever searched for.
//
// A slot is a chain of blocks of 64 entries, not of entries: reading one is sequential, and blocks
// are recycled, so that growing leaves no garbage behind. Each slot knows its smallest and largest
// due and whether it was filled in key order; such a slot needs neither sorting nor moving, however
// large it is. Of a large tick that was not, each pop sorts the part that it gives.
//
// Order:  by key. An entry whose tick has passed leaves in key order among what has not been
// popped. Thread: one; nothing here is synchronised. Cost:   see README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "timerwheel/entry.h"
#include "timerwheel/slot_store.h"

namespace tidemark::timerwheel {

class TimingWheel {
 public:
  // `now` is where the wheel's time starts. An earlier due is allowed, but costs more.
  explicit TimingWheel(Tick now = 0);
  ~TimingWheel();
  TimingWheel(const TimingWheel&) = delete;
  TimingWheel& operator=(const TimingWheel&) = delete;

  // Requires: no entry with this key is in the wheel. O(1); O(log n) for a late entry out of order.
  void add(const Entry& entry);

  // Moves what has key <= `until` to the end of `out`, in key order, at most `limit` entries.
  // False: the limit was reached. Apart from what is given, work is bounded by the entries of the
  // slots opened: each entry is moved at most once a level, and sorted once.
  [[nodiscard]] bool pop(Key until, size_t limit, std::vector<Entry>& out);

  // The earliest due tick; nullopt when empty. O(1).
  [[nodiscard]] std::optional<Tick> next_due() const;

  // Takes out everything with `first` <= due <= `last`, in no order. O(slots) plus the entries of
  // the slots that the range touches.
  void extract(Tick first, Tick last, std::vector<Entry>& out);

  // A key that about `rank` entries are smaller than, at least one if rank > 0. Requires: rank <
  // size(). O(slots) plus the entries of one slot, or of those that are open.
  [[nodiscard]] Key key_near_rank(size_t rank) const;

  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] bool empty() const { return size_ == 0; }

  // What is allocated: blocks in use and kept for reuse, runs, the wheel itself.
  [[nodiscard]] size_t memory_bytes() const;

  // Visits every entry, in no order.
  template <class Visit>
  void for_each(Visit&& visit) const;

  // Fails the process, naming the invariant, if one of these does not hold. O(n). For tests.
  // (1) size() counts the entries; (2) an entry in a slot is in the slot of its digits, in the
  // level of the highest digit that differs from now; (3) a slot's bit is set when it holds
  // entries, and so are the bits above it; (4) a slot's count, smallest and largest due are exact,
  // and it is sorted if it says so; (5) the given part of a run is sorted, and nothing behind it is
  // smaller; (6) a late entry is not due after now; (7) in-use blocks are what the entries need.
  void check_invariants() const;

 private:
  static constexpr unsigned kDigitBits = kSlotBits;
  static constexpr unsigned kSlots = 1U << kDigitBits;
  static constexpr unsigned kWheelLevels = 64 / kDigitBits;
  static constexpr unsigned kWords = kSlots / 64;
  static constexpr size_t kBlockEntries = 64;
  // A slot up to this size is sorted as a whole, in the processor's cache; a larger one is first
  // distributed to the level below.
  static constexpr size_t kSortEntriesMax = 4096;
  static_assert(kLevels <= kWheelLevels);

  struct Block {
    Block* next = nullptr;
    Entry entries[kBlockEntries];
  };

  // All blocks but the last are full.
  struct Slot {
    Block* first = nullptr;
    Block* last = nullptr;
    size_t count = 0;
    Tick due_min = 0;
    Tick due_max = 0;
    bool sorted = true;
  };

  struct Level {
    std::array<Slot, kSlots> slots;
    std::array<uint64_t, kWords> occupied{};  // a bit for each slot
    uint64_t occupied_words = 0;              // a bit for each word of `occupied`
  };

  // Entries of an opened slot, given from `head` on. Either a chain that is in order (`block` is
  // set), or `sorted`: in order up to `sorted_end`, and then in parts that end at `bounds`, the
  // last bound first: all of a part is smaller than the next part.
  struct Run {
    Block* block = nullptr;
    size_t head = 0;
    size_t count = 0;  // what is left
    std::vector<Entry> entries;
    size_t sorted_end = 0;
    std::vector<size_t> bounds;
  };

  // A run for each level that it came from (while one is not empty, no other slot of its level can
  // be opened), and the late one.
  static constexpr unsigned kLateRun = kWheelLevels;
  static constexpr unsigned kRuns = kWheelLevels + 1;

  struct SlotIndex {
    unsigned level;
    unsigned index;
  };

  [[nodiscard]] bool is_late(Tick due) const;
  [[nodiscard]] SlotIndex slot_of(Tick due) const;
  [[nodiscard]] std::optional<SlotIndex> first_slot() const;
  [[nodiscard]] const Slot& slot_at(SlotIndex at) const;
  [[nodiscard]] bool is_occupied(SlotIndex at) const;
  [[nodiscard]] static size_t entries_in(const Slot& slot, const Block* block);

  void place(const Entry& entry);
  void append(SlotIndex at, const Entry& entry);
  void add_late(const Entry& entry);
  Slot take_slot(SlotIndex at);
  void open(SlotIndex at, Tick now_max);
  void advance(Tick now);
  void copy_out(const Slot& slot, std::vector<Entry>& out);
  void sort_small(const Slot& slot, std::vector<Entry>& out);

  [[nodiscard]] const Entry& head_of(const Run& run) const;
  void activate(unsigned run);
  size_t give(unsigned run, Key bound, size_t limit, std::vector<Entry>& out);
  size_t give_chain(Run& run, Key bound, size_t limit, std::vector<Entry>& out);
  size_t give_entries(Run& run, Key bound, size_t limit, std::vector<Entry>& out);
  size_t give_late_heap(Key bound, size_t limit, std::vector<Entry>& out);
  size_t give_smallest(Key bound, size_t limit, std::vector<Entry>& out);
  static void sort_next_part(Run& run);
  void finish_run(unsigned run);

  void extract_from_run(unsigned run, Tick first, Tick last, std::vector<Entry>& out);
  void extract_from_slot(SlotIndex at, Tick first, Tick last, std::vector<Entry>& out);

  Block* allocate_block();
  void release_block(Block* block);
  void free_blocks(Block* first);

  template <class Visit>
  static void for_each_in(const Slot& slot, Visit&& visit);
  template <class Visit>
  static void for_each_in(const Run& run, Visit&& visit);
  template <class Visit>
  void for_each_slot(Visit&& visit) const;

  void check_slot(SlotIndex at) const;
  void check_run(const Run& run) const;

  // No entry in a slot is due before now_, nor at now_ once its tick is open.
  Tick now_;
  bool tick_open_ = false;
  size_t size_ = 0;
  uint64_t occupied_levels_ = 0;  // a bit for each level
  uint64_t active_runs_ = 0;      // a bit for each run that is not empty
  // Made when first needed: a wheel of seconds has two or three of them.
  std::array<std::unique_ptr<Level>, kWheelLevels> levels_;
  std::array<Run, kRuns> runs_;
  std::vector<Entry> late_heap_;
  Block* free_ = nullptr;
  size_t free_count_ = 0;
  size_t used_count_ = 0;
  // Scratch of sort_small().
  std::vector<uint64_t> keys_;
  std::vector<uint64_t> other_keys_;
  std::vector<const Block*> chain_;
};

template <class Visit>
void TimingWheel::for_each_in(const Slot& slot, Visit&& visit) {
  for (const Block* block = slot.first; block != nullptr; block = block->next) {
    const size_t n = entries_in(slot, block);
    for (size_t i = 0; i < n; ++i) {
      visit(block->entries[i]);
    }
  }
}

template <class Visit>
void TimingWheel::for_each_in(const Run& run, Visit&& visit) {
  if (run.block == nullptr) {
    for (size_t i = run.head; i < run.entries.size(); ++i) {
      visit(run.entries[i]);
    }
    return;
  }
  size_t left = run.count;
  size_t at = run.head;
  for (const Block* block = run.block; left > 0; block = block->next, at = 0) {
    for (; at < kBlockEntries && left > 0; ++at, --left) {
      visit(block->entries[at]);
    }
  }
}

template <class Visit>
void TimingWheel::for_each_slot(Visit&& visit) const {
  for (unsigned level = 0; level < kWheelLevels; ++level) {
    if ((occupied_levels_ >> level & 1) == 0) {
      continue;
    }
    for (unsigned index = 0; index < kSlots; ++index) {
      if (is_occupied({level, index})) {
        visit(SlotIndex{level, index});
      }
    }
  }
}

template <class Visit>
void TimingWheel::for_each(Visit&& visit) const {
  for_each_slot([&](SlotIndex at) { for_each_in(slot_at(at), visit); });
  for (const Run& run : runs_) {
    for_each_in(run, visit);
  }
  for (const Entry& entry : late_heap_) {
    visit(entry);
  }
}

}  // namespace tidemark::timerwheel
