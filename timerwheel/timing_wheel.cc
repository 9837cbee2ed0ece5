#include "timerwheel/timing_wheel.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "timerwheel/check.h"
#include "timerwheel/coverage_mark.h"

namespace tidemark::timerwheel {
namespace {

// Fewer entries than this are sorted by comparing: counting digits costs a fixed amount.
constexpr size_t kRadixEntriesMin = 64;
constexpr unsigned kRadixPassesMax = 4;
constexpr unsigned kIndexBits = 16;
// Slots of this level and above are called coarse.
constexpr unsigned kCoarseLevelMin = 3;
// Blocks kept for reuse: a share of those in use, and at least these.
constexpr size_t kFreeBlocksMin = 64;
constexpr size_t kFreeBlocksShare = 8;

bool by_key(const Entry& a, const Entry& b) { return a.key() < b.key(); }

bool by_key_descending(const Entry& a, const Entry& b) { return a.key() > b.key(); }

// Entries of `sorted` with key <= bound, of the first `limit`.
size_t count_up_to(const Entry* sorted, size_t limit, Key bound) {
  if (limit == 0 || sorted[limit - 1].key() <= bound) {
    return limit;
  }
  const Entry* end = std::upper_bound(sorted, sorted + limit, bound,
                                      [](Key key, const Entry& e) { return key < e.key(); });
  return static_cast<size_t>(end - sorted);
}

// Sorts `keys` by their bits from kIndexBits on, `passes` times 8 of them; stable.
void radix_sort(std::vector<uint64_t>& keys, std::vector<uint64_t>& other, unsigned passes) {
  other.resize(keys.size());
  for (unsigned pass = 0; pass < passes; ++pass) {
    const unsigned shift = kIndexBits + 8 * pass;
    std::array<uint32_t, 256> begins{};
    for (const uint64_t key : keys) {
      ++begins[key >> shift & 255];
    }
    uint32_t begin = 0;
    for (uint32_t& slot : begins) {
      begin += std::exchange(slot, begin);
    }
    for (const uint64_t key : keys) {
      other[begins[key >> shift & 255]++] = key;
    }
    keys.swap(other);
  }
}

// `entries` is in order of due: puts what is due in the same tick in order of id.
void sort_within_ticks(std::vector<Entry>& entries) {
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].due != entries[i - 1].due || entries[i].id > entries[i - 1].id) {
      continue;
    }
    size_t begin = i - 1;
    while (begin > 0 && entries[begin - 1].due == entries[i].due) {
      --begin;
    }
    size_t end = i + 1;
    while (end < entries.size() && entries[end].due == entries[i].due) {
      ++end;
    }
    std::sort(entries.begin() + static_cast<ptrdiff_t>(begin),
              entries.begin() + static_cast<ptrdiff_t>(end), by_key);
    i = end;
  }
}

}  // namespace

TimingWheel::TimingWheel(Tick now) : now_(now) {}

TimingWheel::~TimingWheel() {
  for_each_slot([this](SlotIndex at) { free_blocks(slot_at(at).first); });
  for (const Run& run : runs_) {
    free_blocks(run.block);
  }
  free_blocks(free_);
}

// --- Where an entry belongs

bool TimingWheel::is_late(Tick due) const { return due < now_ || (due == now_ && tick_open_); }

TimingWheel::SlotIndex TimingWheel::slot_of(Tick due) const {
  const Tick differing = due ^ now_;
  const unsigned level =
      differing == 0 ? 0 : static_cast<unsigned>(std::bit_width(differing) - 1) / kDigitBits;
  return {level, static_cast<unsigned>(due >> (kDigitBits * level)) & (kSlots - 1)};
}

// Of the lowest level that has any: all of a level is due before what is in the levels above it.
std::optional<TimingWheel::SlotIndex> TimingWheel::first_slot() const {
  if (occupied_levels_ == 0) {
    return std::nullopt;
  }
  const auto level = static_cast<unsigned>(std::countr_zero(occupied_levels_));
  const auto word = static_cast<unsigned>(std::countr_zero(levels_[level]->occupied_words));
  const auto bit = static_cast<unsigned>(std::countr_zero(levels_[level]->occupied[word]));
  return SlotIndex{level, word * 64 + bit};
}

const TimingWheel::Slot& TimingWheel::slot_at(SlotIndex at) const {
  return levels_[at.level]->slots[at.index];
}

bool TimingWheel::is_occupied(SlotIndex at) const {
  const Level* const level = levels_[at.level].get();
  return level != nullptr && (level->occupied[at.index / 64] >> (at.index % 64) & 1) != 0;
}

size_t TimingWheel::entries_in(const Slot& slot, const Block* block) {
  return block == slot.last ? (slot.count - 1) % kBlockEntries + 1 : kBlockEntries;
}

// --- Adding

void TimingWheel::add(const Entry& entry) {
  place(entry);
  ++size_;
}

void TimingWheel::place(const Entry& entry) {
  if (is_late(entry.due)) [[unlikely]] {
    add_late(entry);
  } else {
    append(slot_of(entry.due), entry);
  }
}

void TimingWheel::append(SlotIndex at, const Entry& entry) {
  std::unique_ptr<Level>& made = levels_[at.level];
  if (made == nullptr) [[unlikely]] {
    made = std::make_unique<Level>();
  }
  Level& level = *made;
  Slot& slot = level.slots[at.index];
  const size_t used = slot.count % kBlockEntries;
  if (slot.count == 0) {
    level.occupied[at.index / 64] |= uint64_t{1} << (at.index % 64);
    level.occupied_words |= uint64_t{1} << (at.index / 64);
    occupied_levels_ |= uint64_t{1} << at.level;
    slot.first = slot.last = allocate_block();
    slot.due_min = slot.due_max = entry.due;
    slot.sorted = true;
  } else {
    slot.due_min = std::min(slot.due_min, entry.due);
    slot.due_max = std::max(slot.due_max, entry.due);
    slot.sorted =
        slot.sorted && slot.last->entries[(slot.count - 1) % kBlockEntries].key() < entry.key();
    if (used == 0) {
      slot.last = slot.last->next = allocate_block();
    }
  }
  slot.last->entries[used] = entry;
  ++slot.count;
}

// What arrives late is mostly in order (due is then the time of arrival, and ids ascend).
void TimingWheel::add_late(const Entry& entry) {
  Run& run = runs_[kLateRun];
  if (run.count == 0 || run.entries.back().key() < entry.key()) {
    if (run.head > kSortEntriesMax && run.head > run.entries.size() / 2) {
      run.entries.erase(run.entries.begin(),
                        run.entries.begin() + static_cast<ptrdiff_t>(run.head));
      run.head = 0;
    }
    run.entries.push_back(entry);
    run.sorted_end = run.entries.size();
    ++run.count;
    activate(kLateRun);
    return;
  }
  late_heap_.push_back(entry);
  std::push_heap(late_heap_.begin(), late_heap_.end(), by_key_descending);
}

// --- Opening slots

TimingWheel::Slot TimingWheel::take_slot(SlotIndex at) {
  Level& level = *levels_[at.level];
  uint64_t& word = level.occupied[at.index / 64];
  word &= ~(uint64_t{1} << (at.index % 64));
  if (word == 0) {
    level.occupied_words &= ~(uint64_t{1} << (at.index / 64));
    if (level.occupied_words == 0) {
      occupied_levels_ &= ~(uint64_t{1} << at.level);
    }
  }
  return std::exchange(level.slots[at.index], Slot{});
}

// Moves time to the begin of a slot, but not above `now_max`, and its entries to where they are
// then in reach. Requires: nothing due before the slot is left.
void TimingWheel::open(SlotIndex at, Tick now_max) {
  const Slot slot = take_slot(at);
  if (at.level >= kCoarseLevelMin) {
    hit(Mark::kCoarseSlotOpened);
  }
  // As far down as all of the slot stays together: a large tick does not pass through the levels.
  unsigned level = at.level;
  const auto begin_at = [&](unsigned k) {
    return slot.due_min >> (kDigitBits * k) << (kDigitBits * k);
  };
  while (level > 0 && begin_at(level - 1) <= now_max &&
         slot.due_min >> (kDigitBits * (level - 1)) == slot.due_max >> (kDigitBits * (level - 1))) {
    --level;
  }
  now_ = begin_at(level);
  tick_open_ = level == 0;
  Run& run = runs_[level];
  require(run.count == 0, "a slot is opened when the one before is empty");
  if (!slot.sorted && slot.count > kSortEntriesMax && level > 0) {
    for (Block* block = slot.first; block != nullptr;) {
      const size_t n = entries_in(slot, block);
      for (size_t i = 0; i < n; ++i) {
        append(slot_of(block->entries[i].due), block->entries[i]);
      }
      release_block(std::exchange(block, block->next));
    }
    return;
  }
  run.count = slot.count;
  run.head = 0;
  if (slot.sorted) {
    run.block = slot.first;
  } else if (slot.count <= kSortEntriesMax) {
    sort_small(slot, run.entries);
    run.sorted_end = slot.count;
  } else {
    copy_out(slot, run.entries);
    run.sorted_end = 0;
    run.bounds.assign(1, slot.count);
    sort_next_part(run);
  }
  activate(level);
}

// Blocks go as they are copied: at no time is all of a large slot in memory twice.
void TimingWheel::copy_out(const Slot& slot, std::vector<Entry>& out) {
  out.reserve(out.size() + slot.count);
  for (Block* block = slot.first; block != nullptr;) {
    out.insert(out.end(), block->entries, block->entries + entries_in(slot, block));
    release_block(std::exchange(block, block->next));
  }
}

// Sorts (due, place in the slot) in words of 64 bits and then gathers, so that an entry is moved
// once.
void TimingWheel::sort_small(const Slot& slot, std::vector<Entry>& out) {
  const auto bits = static_cast<unsigned>(std::bit_width(slot.due_max - slot.due_min));
  const unsigned passes = (bits + 7) / 8;
  if (slot.count < kRadixEntriesMin || passes > kRadixPassesMax) {
    out.clear();
    copy_out(slot, out);
    std::sort(out.begin(), out.end(), by_key);
    return;
  }
  static_assert(kSortEntriesMax <= size_t{1} << kIndexBits);
  keys_.clear();
  chain_.clear();
  uint64_t place = 0;
  for (const Block* block = slot.first; block != nullptr; block = block->next) {
    chain_.push_back(block);
    const size_t n = entries_in(slot, block);
    for (size_t i = 0; i < n; ++i) {
      keys_.push_back((block->entries[i].due - slot.due_min) << kIndexBits | place++);
    }
  }
  radix_sort(keys_, other_keys_, passes);
  out.clear();
  out.reserve(slot.count);
  for (const uint64_t key : keys_) {
    const size_t from = key & ((uint64_t{1} << kIndexBits) - 1);
    out.push_back(chain_[from / kBlockEntries]->entries[from % kBlockEntries]);
  }
  sort_within_ticks(out);
  for (Block* block = slot.first; block != nullptr;) {
    release_block(std::exchange(block, block->next));
  }
}

// Moves time to `now`, so that what is added next lies in fine levels: order does not need it,
// speed does. Requires: everything due before has been popped.
void TimingWheel::advance(Tick now) {
  while (now_ < now) {
    const SlotIndex at = slot_of(now);
    if (is_occupied(at)) {
      open(at, now);
    } else {
      const unsigned shift = kDigitBits * at.level;
      now_ = now >> shift << shift;
      tick_open_ = false;
    }
  }
}

// --- Runs

const Entry& TimingWheel::head_of(const Run& run) const {
  return run.block != nullptr ? run.block->entries[run.head] : run.entries[run.head];
}

void TimingWheel::activate(unsigned run) { active_runs_ |= uint64_t{1} << run; }

size_t TimingWheel::give_chain(Run& run, Key bound, size_t limit, std::vector<Entry>& out) {
  size_t given = 0;
  while (run.count > 0 && given < limit) {
    const size_t here = std::min({kBlockEntries - run.head, run.count, limit - given});
    const Entry* from = run.block->entries + run.head;
    const size_t n = count_up_to(from, here, bound);
    out.insert(out.end(), from, from + n);
    given += n;
    run.head += n;
    run.count -= n;
    if (run.head == kBlockEntries || run.count == 0) {
      release_block(std::exchange(run.block, run.block->next));
      run.head = 0;
    }
    if (n < here) {
      break;
    }
  }
  return given;
}

size_t TimingWheel::give_entries(Run& run, Key bound, size_t limit, std::vector<Entry>& out) {
  const Entry* from = run.entries.data() + run.head;
  const size_t n = count_up_to(from, std::min(run.sorted_end - run.head, limit), bound);
  out.insert(out.end(), from, from + n);
  run.head += n;
  run.count -= n;
  if (run.head == run.sorted_end && run.count > 0) {
    sort_next_part(run);
  }
  return n;
}

// Halves what lies up to the next bound until it is small, then sorts that. The halves stay, so
// that what is behind is never looked at twice in the same size.
void TimingWheel::sort_next_part(Run& run) {
  const auto at = [&](size_t i) { return run.entries.begin() + static_cast<ptrdiff_t>(i); };
  while (run.bounds.back() - run.head > kSortEntriesMax) {
    const size_t middle = run.head + (run.bounds.back() - run.head) / 2;
    std::nth_element(at(run.head), at(middle), at(run.bounds.back()), by_key);
    run.bounds.push_back(middle);
  }
  run.sorted_end = run.bounds.back();
  run.bounds.pop_back();
  std::sort(at(run.head), at(run.sorted_end), by_key);
}

void TimingWheel::finish_run(unsigned index) {
  Run& run = runs_[index];
  active_runs_ &= ~(uint64_t{1} << index);
  run.block = nullptr;
  run.head = 0;
  run.sorted_end = 0;
  run.bounds.clear();
  run.entries.clear();
  if (run.entries.capacity() > kSortEntriesMax) {
    std::vector<Entry>().swap(run.entries);
  }
}

size_t TimingWheel::give(unsigned index, Key bound, size_t limit, std::vector<Entry>& out) {
  Run& run = runs_[index];
  const size_t given = run.block != nullptr ? give_chain(run, bound, limit, out)
                                            : give_entries(run, bound, limit, out);
  if (run.count == 0) {
    finish_run(index);
  }
  return given;
}

size_t TimingWheel::give_late_heap(Key bound, size_t limit, std::vector<Entry>& out) {
  size_t given = 0;
  for (; given < limit && !late_heap_.empty() && late_heap_.front().key() <= bound; ++given) {
    std::pop_heap(late_heap_.begin(), late_heap_.end(), by_key_descending);
    out.push_back(late_heap_.back());
    late_heap_.pop_back();
  }
  if (late_heap_.empty() && late_heap_.capacity() > kSortEntriesMax) {
    std::vector<Entry>().swap(late_heap_);
  }
  return given;
}

// Gives from the run with the smallest head, as far as it is the smallest; 0 if nothing is up to
// `bound`.
size_t TimingWheel::give_smallest(Key bound, size_t limit, std::vector<Entry>& out) {
  constexpr unsigned kHeap = kRuns;
  unsigned source = kRuns + 1;
  Key smallest = bound;
  Key second = bound;  // where the source stops
  const auto consider = [&](unsigned index, Key head) {
    if (head > bound) {
      return;
    }
    if (source > kRuns || head < smallest) {
      second = source > kRuns ? bound : smallest;
      smallest = head;
      source = index;
    } else {
      second = std::min(second, head);
    }
  };
  for (uint64_t left = active_runs_; left != 0; left &= left - 1) {
    const auto index = static_cast<unsigned>(std::countr_zero(left));
    consider(index, head_of(runs_[index]).key());
  }
  if (!late_heap_.empty()) {
    consider(kHeap, late_heap_.front().key());
  }
  if (source > kRuns) {
    return 0;
  }
  return source == kHeap ? give_late_heap(second, limit, out) : give(source, second, limit, out);
}

bool TimingWheel::pop(Key until, size_t limit, std::vector<Entry>& out) {
  size_t left = limit;
  for (;;) {
    if (left == 0) {
      return false;
    }
    const std::optional<SlotIndex> slot = first_slot();
    const Tick slot_due = slot ? slot_at(*slot).due_min : 0;
    const bool slot_reached = slot && slot_due <= until.due;
    size_t given = 0;
    if (!slot_reached || slot_due > 0) {
      given = give_smallest(slot_reached ? last_key(slot_due - 1) : until, left, out);
      left -= given;
      size_ -= given;
    }
    if (given == 0) {
      if (!slot_reached) {
        break;
      }
      open(*slot, until.due);
    }
  }
  advance(until.due);
  return true;
}

std::optional<Tick> TimingWheel::next_due() const {
  if (size_ == 0) {
    return std::nullopt;
  }
  Tick due = std::numeric_limits<Tick>::max();
  for (uint64_t left = active_runs_; left != 0; left &= left - 1) {
    due = std::min(due, head_of(runs_[static_cast<unsigned>(std::countr_zero(left))]).due);
  }
  if (!late_heap_.empty()) {
    due = std::min(due, late_heap_.front().due);
  }
  if (const std::optional<SlotIndex> slot = first_slot()) {
    due = std::min(due, slot_at(*slot).due_min);
  }
  return due;
}

// --- Taking out and looking in

void TimingWheel::extract_from_slot(SlotIndex at, Tick first, Tick last, std::vector<Entry>& out) {
  const Slot& there = slot_at(at);
  if (there.due_max < first || there.due_min > last) {
    return;
  }
  const Slot slot = take_slot(at);
  for (Block* block = slot.first; block != nullptr;) {
    const size_t n = entries_in(slot, block);
    for (size_t i = 0; i < n; ++i) {
      const Entry& entry = block->entries[i];
      if (entry.due >= first && entry.due <= last) {
        out.push_back(entry);
      } else {
        append(at, entry);
      }
    }
    release_block(std::exchange(block, block->next));
  }
}

void TimingWheel::extract_from_run(unsigned index, Tick first, Tick last, std::vector<Entry>& out) {
  Run& run = runs_[index];
  const bool was_sorted = run.block != nullptr || run.sorted_end == run.entries.size();
  std::vector<Entry> kept;
  const size_t before = out.size();
  for_each_in(run, [&](const Entry& entry) {
    (entry.due >= first && entry.due <= last ? out : kept).push_back(entry);
  });
  if (out.size() == before) {
    return;
  }
  while (run.block != nullptr) {
    release_block(std::exchange(run.block, run.block->next));
  }
  finish_run(index);
  run.count = kept.size();
  run.entries = std::move(kept);
  if (run.count == 0) {
    return;
  }
  activate(index);
  if (was_sorted) {
    run.sorted_end = run.count;
  } else {
    run.bounds.assign(1, run.count);
    sort_next_part(run);
  }
}

void TimingWheel::extract(Tick first, Tick last, std::vector<Entry>& out) {
  const size_t before = out.size();
  for_each_slot([&](SlotIndex at) { extract_from_slot(at, first, last, out); });
  for (unsigned index = 0; index < kRuns; ++index) {
    if (runs_[index].count > 0) {
      extract_from_run(index, first, last, out);
    }
  }
  const auto kept = std::partition(late_heap_.begin(), late_heap_.end(), [&](const Entry& entry) {
    return entry.due < first || entry.due > last;
  });
  out.insert(out.end(), kept, late_heap_.end());
  late_heap_.erase(kept, late_heap_.end());
  std::make_heap(late_heap_.begin(), late_heap_.end(), by_key_descending);
  size_ -= out.size() - before;
}

Key TimingWheel::key_near_rank(size_t rank) const {
  require(rank < size_, "the rank is of an entry");
  std::vector<Key> keys;
  const auto collect = [&](const Entry& entry) { keys.push_back(entry.key()); };
  const auto pick = [&](size_t n) {
    std::nth_element(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(n), keys.end());
    return keys[n];
  };
  size_t open = late_heap_.size();
  for (const Run& run : runs_) {
    open += run.count;
  }
  if (rank < open) {
    for (const Run& run : runs_) {
      for_each_in(run, collect);
    }
    std::for_each(late_heap_.begin(), late_heap_.end(), collect);
    return pick(rank);
  }
  // Slots are visited in order of due.
  size_t below = open;
  std::optional<Key> key;
  for_each_slot([&](SlotIndex at) {
    const Slot& slot = slot_at(at);
    if (!key && rank < below + slot.count) {
      for_each_in(slot, collect);
      key = pick(rank - below);
    }
    below += slot.count;
  });
  return *key;
}

// --- Memory

TimingWheel::Block* TimingWheel::allocate_block() {
  ++used_count_;
  if (free_ == nullptr) {
    return new Block;
  }
  --free_count_;
  Block* block = std::exchange(free_, free_->next);
  block->next = nullptr;
  return block;
}

void TimingWheel::release_block(Block* block) {
  --used_count_;
  if (free_count_ >= kFreeBlocksMin + used_count_ / kFreeBlocksShare) {
    delete block;
    return;
  }
  block->next = free_;
  free_ = block;
  ++free_count_;
}

void TimingWheel::free_blocks(Block* first) {
  while (first != nullptr) {
    delete std::exchange(first, first->next);
  }
}

size_t TimingWheel::memory_bytes() const {
  const auto made = static_cast<size_t>(std::count_if(
      levels_.begin(), levels_.end(), [](const auto& level) { return level != nullptr; }));
  size_t bytes =
      sizeof(*this) + made * sizeof(Level) + (used_count_ + free_count_) * sizeof(Block) +
      (keys_.capacity() + other_keys_.capacity() + chain_.capacity()) * sizeof(uint64_t) +
      late_heap_.capacity() * sizeof(Entry);
  for (const Run& run : runs_) {
    bytes += run.entries.capacity() * sizeof(Entry) + run.bounds.capacity() * sizeof(size_t);
  }
  return bytes;
}

// --- Invariants

void TimingWheel::check_slot(SlotIndex at) const {
  const Slot& slot = slot_at(at);
  require(is_occupied(at) == (slot.count > 0), "(3) the bit of a slot that holds entries is set");
  if (slot.count == 0) {
    return;
  }
  size_t count = 0;
  Tick due_min = std::numeric_limits<Tick>::max();
  Tick due_max = 0;
  bool sorted = true;
  std::optional<Key> previous;
  for_each_in(slot, [&](const Entry& entry) {
    const SlotIndex home = slot_of(entry.due);
    require(!is_late(entry.due) && home.level == at.level && home.index == at.index,
            "(2) an entry is in the slot of its digits");
    ++count;
    due_min = std::min(due_min, entry.due);
    due_max = std::max(due_max, entry.due);
    sorted = sorted && (!previous || *previous < entry.key());
    previous = entry.key();
  });
  require(count == slot.count && due_min == slot.due_min && due_max == slot.due_max,
          "(4) a slot's count, smallest and largest due are exact");
  require(sorted || !slot.sorted, "(4) a slot that says so is sorted");
}

void TimingWheel::check_run(const Run& run) const {
  size_t count = 0;
  std::optional<Key> largest;
  for_each_in(run, [&](const Entry& entry) {
    const size_t at = run.head + count;
    const bool in_order = run.block != nullptr || at < run.sorted_end;
    require(!largest || *largest < entry.key(), "(5) what is given next is the smallest");
    largest = in_order ? entry.key() : largest;
    ++count;
  });
  require(count == run.count, "(1) a run counts its entries");
  require(count == 0 || run.block != nullptr || run.head < run.sorted_end,
          "(5) the head of a run is sorted");
}

void TimingWheel::check_invariants() const {
  size_t count = 0;
  for_each([&](const Entry&) { ++count; });
  require(count == size_, "(1) size() counts the entries");
  size_t blocks = 0;
  for (unsigned level = 0; level < kWheelLevels; ++level) {
    uint64_t words = 0;
    for (unsigned index = 0; index < kSlots && levels_[level] != nullptr; ++index) {
      check_slot({level, index});
      blocks += (slot_at({level, index}).count + kBlockEntries - 1) / kBlockEntries;
      words |= is_occupied({level, index}) ? uint64_t{1} << (index / 64) : 0;
    }
    require(levels_[level] == nullptr || words == levels_[level]->occupied_words,
            "(3) a word's bit is set when one of its bits is");
    require((words != 0) == ((occupied_levels_ >> level & 1) != 0),
            "(3) a level's bit is set when it holds entries");
  }
  for (unsigned index = 0; index < kRuns; ++index) {
    const Run& run = runs_[index];
    check_run(run);
    require((run.count > 0) == ((active_runs_ >> index & 1) != 0),
            "(3) a run's bit is set when it holds entries");
    blocks += run.block == nullptr ? 0 : (run.head + run.count + kBlockEntries - 1) / kBlockEntries;
  }
  for_each_in(runs_[kLateRun], [&](const Entry& entry) {
    require(entry.due <= now_, "(6) late: not due after now");
  });
  require(std::is_heap(late_heap_.begin(), late_heap_.end(), by_key_descending),
          "(5) the late heap is a heap");
  require(blocks == used_count_, "(7) blocks in use are what the entries need");
}

}  // namespace tidemark::timerwheel
