#include "timerwheel/tiered_wheel.h"

#include <algorithm>
#include <bit>
#include <span>
#include <string>
#include <utility>

#include "timerwheel/check.h"
#include "timerwheel/coverage_mark.h"
#include "timerwheel/packed_chunk.h"

namespace tidemark::timerwheel {
namespace {

constexpr unsigned kLevelMax = kLevels - 1;
// A horizon that jumps stops at a multiple of this, so that it does not do so at every tick.
constexpr Tick kJump = Tick{1} << (2 * kSlotBits);
// Fresh entries are looked through for popped ones no more often than once in so many.
constexpr size_t kFreshPruneMin = 4096;
// A tree node with its slot, about.
constexpr size_t kDirectoryNodeBytes = 80;

SlotId slot_with(unsigned level, Tick due) {
  return {static_cast<uint8_t>(level), due >> (kSlotBits * level)};
}

// The end, kDueEnd for the last slot of all.
Tick end_of(SlotId slot) { return slot.end() == 0 ? kDueEnd : slot.end(); }

// The largest k with 256^k <= `ticks`; 0 for 0.
unsigned digits_above_first(Tick ticks) {
  return ticks == 0 ? 0 : static_cast<unsigned>(std::bit_width(ticks) - 1) / kSlotBits;
}

Tick saturating_add(Tick a, Tick b) { return a > kDueEnd - b ? kDueEnd : a + b; }

// The level to store at: the coarser, the further away. But never in a slot that the horizon is in
// (or else a slot that has been split, or that is being, would come into being again and again, and
// with it the need to split it).
unsigned level_to_store(Tick due, Key watermark, Key horizon) {
  const Tick distance = due > watermark.due ? due - watermark.due : 0;
  const unsigned level = std::clamp(digits_above_first(distance), 1U, kLevelMax);
  return std::min(level, digits_above_first(due ^ horizon.due));
}

std::string name_of(SlotId slot) {
  return "slot " + std::to_string(slot.level) + "/" + std::to_string(slot.number);
}

bool by_key(const Entry& a, const Entry& b) { return a.key() < b.key(); }

}  // namespace

// --- What workers get

struct TieredWheel::Spill::State {
  struct Drop {
    SlotId slot;
    uint64_t last_sequence;
  };

  struct Appended {
    SlotId slot;
    uint64_t sequence;
    uint32_t entries;
  };

  Key watermark;
  Key horizon;
  size_t chunk_entries_max = 0;
  size_t split_entries_max = 0;
  uint64_t last_sequence = 0;

  // To be written.
  std::unique_ptr<TimingWheel> far;
  std::vector<Entry> fresh;
  std::vector<Entry> taken;  // from `far`, in order
  std::vector<Drop> drops;
  std::optional<SlotId> split;

  // What was done.
  bool written = false;
  std::vector<Appended> appended;
  uint64_t split_sequence = 0;  // dropped up to here
  uint64_t split_entries = 0;

  Failure split_slot(SlotStore& store);
  void append_run(SlotStore& store, SlotId slot, std::span<const Entry> entries);
  template <class LevelOf>
  void append_sorted(SlotStore& store, std::span<const Entry> entries, LevelOf level_of);
};

void TieredWheel::Spill::State::append_run(SlotStore& store, SlotId slot,
                                           std::span<const Entry> entries) {
  while (!entries.empty()) {
    const auto chunk = entries.first(std::min(entries.size(), chunk_entries_max));
    ++last_sequence;
    const auto count = static_cast<uint32_t>(chunk.size());
    hit(Mark::kChunkStored);
    store.append(slot, last_sequence, count, pack_chunk(chunk));
    appended.push_back({slot, last_sequence, count});
    entries = entries.subspan(chunk.size());
  }
}

// In the order of due, what belongs into one slot lies together, as long as levels do not descend;
// where they do (before the horizon), a slot just gets another chunk.
template <class LevelOf>
void TieredWheel::Spill::State::append_sorted(SlotStore& store, std::span<const Entry> entries,
                                              LevelOf level_of) {
  while (!entries.empty()) {
    const SlotId slot = slot_with(level_of(entries.front().due), entries.front().due);
    size_t n = 1;
    while (n < entries.size() && slot_with(level_of(entries[n].due), entries[n].due) == slot) {
      ++n;
    }
    append_run(store, slot, entries.first(n));
    entries = entries.subspan(n);
  }
}

Failure TieredWheel::Spill::State::split_slot(SlotStore& store) {
  std::vector<Entry> entries;
  Failure malformed;
  const auto visit = [&](uint64_t sequence, std::string_view chunk) {
    const size_t before = entries.size();
    malformed = unpack_chunk(chunk, entries);
    if (malformed) {
      return false;
    }
    split_entries += entries.size() - before;
    split_sequence = sequence;
    return split_entries < split_entries_max;
  };
  Failure failure = store.read(*split, visit);
  if (failure || malformed) {
    return failure ? failure : malformed;
  }
  if (split_entries == 0) {
    return name_of(*split) + " is to be split, but the store has no chunk of it";
  }
  hit(Mark::kSlotSplit);
  if (split_entries >= split_entries_max) {
    hit(Mark::kSlotSplitInPart);
  }
  std::erase_if(entries, [&](const Entry& entry) { return entry.key() <= watermark; });
  std::sort(entries.begin(), entries.end(), by_key);
  store.drop(*split, split_sequence);
  const unsigned level = split->level - 1U;
  append_sorted(store, entries, [&](Tick) { return level; });
  return std::nullopt;
}

Failure TieredWheel::Spill::write(SlotStore& store) {
  State& state = *state_;
  require(!state.written, "a spill is written once");
  for (const State::Drop& drop : state.drops) {
    hit(Mark::kSlotDropped);
    store.drop(drop.slot, drop.last_sequence);
  }
  if (state.split) {
    if (Failure failure = state.split_slot(store)) {
      return failure;
    }
  }
  std::erase_if(state.fresh, [&](const Entry& entry) { return entry.key() <= state.watermark; });
  std::sort(state.fresh.begin(), state.fresh.end(), by_key);
  state.taken.reserve(state.far->size());
  // In steps, so that the wheel gives back its blocks while the vector fills.
  while (!state.far->pop(last_key(kDueEnd), kFreshPruneMin, state.taken)) {
  }
  const auto level_of = [&](Tick due) {
    return level_to_store(due, state.watermark, state.horizon);
  };
  state.append_sorted(store, state.fresh, level_of);
  state.append_sorted(store, state.taken, level_of);
  state.written = true;
  return std::nullopt;
}

struct TieredWheel::LoadPlan::State {
  struct Source {
    SlotId slot;
    uint64_t entries;
  };

  uint64_t generation = 0;
  std::vector<Source> sources;
  Key from;      // what is smaller is in memory or has left
  Tick end = 0;  // of what is read
  size_t limit = 0;

  bool done = false;
  std::vector<Entry> entries;
  Key horizon;

  void keep_smallest(bool& cut);
};

// Keeps the `limit` smallest.
void TieredWheel::LoadPlan::State::keep_smallest(bool& cut) {
  if (entries.size() > limit) {
    std::nth_element(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(limit),
                     entries.end(), by_key);
    entries.resize(limit);
    cut = true;
  }
}

Failure TieredWheel::LoadPlan::run(SlotReader& store) {
  State& state = *state_;
  state.entries.clear();
  bool cut = false;
  Failure malformed;
  std::vector<Entry> chunk;
  uint64_t found = 0;
  const auto visit = [&](uint64_t, std::string_view bytes) {
    chunk.clear();
    malformed = unpack_chunk(bytes, chunk);
    if (malformed) {
      return false;
    }
    found += chunk.size();
    for (const Entry& entry : chunk) {
      if (entry.key() >= state.from && entry.due < state.end) {
        state.entries.push_back(entry);
      }
    }
    if (state.entries.size() / 2 > state.limit) {
      state.keep_smallest(cut);
    }
    return true;
  };
  for (const State::Source& source : state.sources) {
    hit(Mark::kSlotLoaded);
    found = 0;
    Failure failure = store.read(source.slot, visit);
    if (failure || malformed) {
      return failure ? failure : malformed;
    }
    if (found != source.entries) {
      return name_of(source.slot) + " has " + std::to_string(found) + " entries, not " +
             std::to_string(source.entries);
    }
  }
  state.keep_smallest(cut);
  std::sort(state.entries.begin(), state.entries.end(), by_key);
  if (cut) {
    hit(Mark::kLoadCut);
  }
  state.horizon = cut ? next_key(state.entries.back().key()) : first_key(state.end);
  state.done = true;
  return std::nullopt;
}

std::span<Entry> TieredWheel::LoadPlan::loaded() { return state_->entries; }

// --- Adding and popping

TieredWheel::TieredWheel(Key watermark, TieredOptions options)
    : options_(options),
      watermark_(watermark),
      horizon_(next_key(watermark)),
      near_(watermark.due),
      far_(std::make_unique<TimingWheel>(watermark.due)),
      fresh_prune_at_(kFreshPruneMin) {
  require(options.memory_entries_max > 0 && options.chunk_entries_max > 0 &&
              options.split_entries_max > 0,
          "options are above 0");
}

void TieredWheel::adopt(SlotId slot, uint64_t sequence, uint32_t entries) {
  require(slot.level <= kLevelMax, "a stored slot has a level of the wheel");
  StoredSlot& stored = directory_[slot];
  stored.entries += entries;
  stored.last_sequence = std::max(stored.last_sequence, sequence);
  last_sequence_ = std::max(last_sequence_, sequence);
  size_ += entries;
}

void TieredWheel::set_size(uint64_t size) {
  require(size <= size_ && memory_entries() == 0, "the size is one of what was adopted");
  size_ = size;
}

void TieredWheel::add(const Entry& entry) {
  require(entry.key() > watermark_ && entry.due < kDueEnd, "an entry is due after the watermark");
  ++size_;
  if (entry.key() >= horizon_) {
    far_->add(entry);
    return;
  }
  near_.add(entry);
  if (fresh_.size() >= fresh_prune_at_) {
    forget_popped_fresh();
  }
  fresh_.push_back(entry);
}

// Looks through them each time they have doubled: O(1) an entry.
void TieredWheel::forget_popped_fresh() {
  std::erase_if(fresh_, [&](const Entry& entry) { return entry.key() <= watermark_; });
  fresh_prune_at_ = std::max(kFreshPruneMin, 2 * fresh_.size());
}

bool TieredWheel::pop(Key until, size_t limit, std::vector<Entry>& out) {
  require(limit > 0 && until < horizon_ && until >= watermark_,
          "pop: from the watermark on, before the horizon");
  const size_t before = out.size();
  const bool done = near_.pop(until, limit, out);
  size_ -= out.size() - before;
  watermark_ = done ? until : out.back().key();
  return done;
}

Key TieredWheel::watermark() const { return watermark_; }

Key TieredWheel::horizon() const { return horizon_; }

std::optional<Tick> TieredWheel::next_due() const { return near_.next_due(); }

uint64_t TieredWheel::size() const { return size_; }

size_t TieredWheel::memory_entries() const {
  return near_.size() + far_->size() + frozen_far_entries_;
}

size_t TieredWheel::unspilled_entries() const {
  return fresh_.size() + far_->size() + frozen_far_entries_ + frozen_fresh_entries_;
}

size_t TieredWheel::memory_bytes() const {
  return near_.memory_bytes() + far_->memory_bytes() + fresh_.capacity() * sizeof(Entry) +
         directory_.size() * kDirectoryNodeBytes + frozen_bytes_;
}

std::vector<SlotId> TieredWheel::stored_slots(Tick from, Tick to) const {
  std::vector<SlotId> slots;
  for (const auto& [slot, stored] : directory_) {
    if (slot.begin() <= to && end_of(slot) > from) {
      slots.push_back(slot);
    }
  }
  std::sort(slots.begin(), slots.end(), [](SlotId a, SlotId b) { return a.begin() < b.begin(); });
  return slots;
}

// --- Spilling

TieredWheel::Spill TieredWheel::freeze() {
  require(!spilling_, "one spill or load at a time");
  spilling_ = true;
  ++generation_;
  Spill spill;
  spill.state_ = std::make_shared<Spill::State>();
  Spill::State& state = *spill.state_;
  state.watermark = watermark_;
  state.horizon = horizon_;
  state.chunk_entries_max = options_.chunk_entries_max;
  state.split_entries_max = options_.split_entries_max;
  state.last_sequence = last_sequence_;
  frozen_far_entries_ = far_->size();
  frozen_fresh_entries_ = fresh_.size();
  frozen_bytes_ = far_->memory_bytes() + fresh_.capacity() * sizeof(Entry);
  state.far = std::exchange(far_, std::make_unique<TimingWheel>(horizon_.due));
  state.fresh = std::exchange(fresh_, {});
  fresh_prune_at_ = kFreshPruneMin;
  for (unsigned level = 0; level <= kLevelMax; ++level) {
    for (auto at = directory_.lower_bound(slot_with(level, 0)); at != directory_.end(); ++at) {
      if (at->first.level != level || end_of(at->first) > watermark_.due) {
        break;
      }
      state.drops.push_back({at->first, at->second.last_sequence});
    }
  }
  if (split_ && end_of(*split_) > watermark_.due) {
    state.split = split_;
  }
  return spill;
}

// The directory after the spill.
void TieredWheel::take_over(const Spill::State& state) {
  for (const Spill::State::Drop& drop : state.drops) {
    directory_.erase(drop.slot);
  }
  if (state.split) {
    const auto at = directory_.find(*state.split);
    require(at != directory_.end() && state.split_entries <= at->second.entries,
            "a slot holds what the directory says");
    at->second.entries -= state.split_entries;
    if (state.split_sequence >= at->second.last_sequence) {
      directory_.erase(at);
    }
  }
  for (const Spill::State::Appended& chunk : state.appended) {
    StoredSlot& slot = directory_[chunk.slot];
    slot.entries += chunk.entries;
    slot.last_sequence = chunk.sequence;
  }
  last_sequence_ = state.last_sequence;
  if (split_ && !directory_.contains(*split_)) {
    split_.reset();
  }
}

void TieredWheel::spill_done(Spill& spill, Key keep) {
  require(keep < horizon_, "the horizon lies beyond what is to be kept");
  require(spilling_ && spill.state_ && spill.state_->written, "the spill was written");
  take_over(*spill.state_);
  spill.state_.reset();
  spilling_ = false;
  frozen_far_entries_ = 0;
  frozen_fresh_entries_ = 0;
  frozen_bytes_ = 0;
  if (near_.size() > options_.memory_entries_max) {
    cut_back(keep);
  }
}

void TieredWheel::spill_failed(Spill& spill) {
  require(spilling_ && spill.state_, "the spill is under way");
  hit(Mark::kSpillFailed);
  Spill::State& state = *spill.state_;
  for (const Entry& entry : state.taken) {
    far_->add(entry);
  }
  state.far->for_each([this](const Entry& entry) { far_->add(entry); });
  fresh_.insert(fresh_.end(), state.fresh.begin(), state.fresh.end());
  forget_popped_fresh();
  spill.state_.reset();
  spilling_ = false;
  frozen_far_entries_ = 0;
  frozen_fresh_entries_ = 0;
  frozen_bytes_ = 0;
}

// Moves the horizon nearer, so that three quarters of what memory may hold stay. What lies beyond
// is stored, except for what is fresh since the last freeze. At least one entry stays: progress.
// Everything up to `until` stays, too.
void TieredWheel::cut_back(Key until) {
  hit(Mark::kCutBack);
  const size_t keep = std::max<size_t>(1, options_.memory_entries_max / 4 * 3);
  const Key horizon = std::max(near_.key_near_rank(keep), next_key(until));
  std::vector<Entry> beyond;
  near_.extract(horizon.due, kDueEnd, beyond);
  for (const Entry& entry : beyond) {
    if (entry.key() < horizon) {
      near_.add(entry);
    }
  }
  horizon_ = horizon;
  // Made new: dues before those that the far wheel has opened would be late there.
  auto far = std::make_unique<TimingWheel>(horizon.due);
  far_->for_each([&](const Entry& entry) { far->add(entry); });
  std::erase_if(fresh_, [&](const Entry& entry) {
    if (entry.key() >= horizon) {
      hit(Mark::kFreshMadeFar);
      far->add(entry);
    }
    return entry.key() >= horizon;
  });
  far_ = std::move(far);
}

// --- Loading

// Slots nest, so whatever else the store has there lies within it.
std::optional<SlotId> TieredWheel::coarsest_slot_with(Tick due) const {
  for (unsigned level = kLevels; level-- > 0;) {
    if (directory_.contains(slot_with(level, due))) {
      return slot_with(level, due);
    }
  }
  return std::nullopt;
}

std::optional<Tick> TieredWheel::next_slot_begin(Tick after) const {
  std::optional<Tick> begin;
  for (unsigned level = 0; level <= kLevelMax; ++level) {
    const auto at = directory_.upper_bound(slot_with(level, after));
    if (at != directory_.end() && at->first.level == level) {
      begin = std::min(begin.value_or(kDueEnd), at->first.begin());
    }
  }
  return begin;
}

// The stored slots of all levels within `outer`, those that end before `from` excepted.
std::vector<SlotId> TieredWheel::slots_within(SlotId outer, Tick from) const {
  std::vector<SlotId> slots;
  for (unsigned level = 0; level <= outer.level; ++level) {
    const SlotId first = slot_with(level, std::max(outer.begin(), from));
    for (auto at = directory_.lower_bound(first); at != directory_.end(); ++at) {
      if (at->first.level != level || at->first.begin() >= end_of(outer)) {
        break;
      }
      slots.push_back(at->first);
    }
  }
  return slots;
}

uint64_t TieredWheel::entries_of(const std::vector<SlotId>& slots) const {
  uint64_t entries = 0;
  for (const SlotId slot : slots) {
    entries += directory_.at(slot).entries;
  }
  return entries;
}

// Entries that may be loaded.
size_t TieredWheel::room() const {
  if (near_.empty()) {
    return std::max(options_.memory_entries_max, options_.chunk_entries_max);
  }
  return options_.memory_entries_max - std::min(options_.memory_entries_max, near_.size());
}

bool TieredWheel::wants_split() const { return split_.has_value(); }

// Everything that a slot at the horizon covers, if there is room for it; or part of a tick; or the
// wish to have the slot split.
std::optional<TieredWheel::LoadPlan> TieredWheel::plan_slot(SlotId slot, bool at_once) {
  const std::vector<SlotId> slots = slots_within(slot, horizon_.due);
  const size_t limit = at_once ? std::max(room(), options_.memory_entries_max) : room();
  if (entries_of(slots) > limit && !at_once) {
    if (slot.level > 0) {
      hit(Mark::kSplitWanted);
      split_ = slot;
      return std::nullopt;
    }
    // All of the tick is read for what there is room for: not for a few.
    if (!near_.empty() && limit < options_.memory_entries_max / 4) {
      hit(Mark::kLoadWaitsForRoom);
      return std::nullopt;
    }
  }
  if (at_once && entries_of(slots) > room()) {
    hit(Mark::kLoadOverdue);
  }
  if (limit == 0) {
    return std::nullopt;
  }
  LoadPlan plan;
  plan.state_ = std::make_shared<LoadPlan::State>();
  plan.state_->generation = ++generation_;
  for (const SlotId source : slots) {
    plan.state_->sources.push_back({source, directory_.at(source).entries});
  }
  plan.state_->from = horizon_;
  plan.state_->end = end_of(slot);
  plan.state_->limit = limit;
  return plan;
}

std::optional<TieredWheel::LoadPlan> TieredWheel::plan_load(Tick now, bool at_once) {
  require(!spilling_, "one spill or load at a time");
  split_.reset();
  // At least now's tick is to be in reach.
  const Tick wanted = saturating_add(now, std::max<Tick>(1, options_.lookahead));
  while (horizon_.due < wanted) {
    if (const std::optional<SlotId> slot = coarsest_slot_with(horizon_.due)) {
      return plan_slot(*slot, at_once);
    }
    hit(Mark::kHorizonJumped);
    const Tick ahead = saturating_add(wanted, options_.lookahead);
    const Tick rounded = saturating_add(ahead, kJump - 1) / kJump * kJump;
    const Tick jump = std::max(rounded, ahead);
    move_horizon(first_key(std::min(jump, next_slot_begin(horizon_.due).value_or(kDueEnd))));
  }
  return std::nullopt;
}

void TieredWheel::finish_load(LoadPlan& plan) {
  require(plan.state_ && plan.state_->done, "the load was run");
  require(plan.state_->generation == generation_, "no spill and no other load has come between");
  for (const Entry& entry : plan.state_->entries) {
    near_.add(entry);
  }
  const Key horizon = plan.state_->horizon;
  plan.state_.reset();
  move_horizon(horizon);
}

// Forward: far entries before it become near, and they are fresh: no store has them.
void TieredWheel::move_horizon(Key horizon) {
  require(horizon > horizon_, "the horizon moves on");
  horizon_ = horizon;
  const size_t before = fresh_.size();
  (void)far_->pop(previous_key(horizon), std::numeric_limits<size_t>::max(), fresh_);
  if (fresh_.size() > before) {
    hit(Mark::kFarBecameNear);
  }
  for (size_t i = before; i < fresh_.size(); ++i) {
    near_.add(fresh_[i]);
  }
  fresh_prune_at_ = std::max(fresh_prune_at_, 2 * fresh_.size());
}

// --- Invariants

void TieredWheel::check_invariants() const {
  near_.check_invariants();
  far_->check_invariants();
  std::vector<Key> keys;
  near_.for_each([&](const Entry& entry) {
    require(entry.key() > watermark_ && entry.key() < horizon_,
            "(2) near lies between watermark and horizon");
    keys.push_back(entry.key());
  });
  far_->for_each([&](const Entry& entry) {
    require(entry.key() >= horizon_, "(3) far lies at the horizon or beyond");
  });
  std::sort(keys.begin(), keys.end());
  for (const Entry& entry : fresh_) {
    require(entry.key() <= watermark_ || std::binary_search(keys.begin(), keys.end(), entry.key()),
            "(4) what is fresh and not popped is near");
  }
  require(watermark_ < horizon_, "(2) the watermark lies before the horizon");
  require(size_ >= memory_entries(), "(5) size() counts at least what is in memory");
  for (const auto& [slot, stored] : directory_) {
    require(stored.entries > 0 && stored.last_sequence <= last_sequence_ && slot.level <= kLevelMax,
            "(6) a slot of the directory holds entries");
  }
  require(!split_ || (split_->level > 0 && directory_.contains(*split_)),
          "(7) the slot to be split is there");
}

}  // namespace tidemark::timerwheel
