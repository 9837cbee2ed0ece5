// The library's own coverage marks: it depends on nothing, so not on log/base/coverage_mark.h
// either, where it is said what they are for and what they cost. There are few, so they are listed
// here; hit(Mark) names the branch that is taken, from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tidemark::timerwheel {

enum class Mark : uint8_t {
  kCoarseSlotOpened,  // of level 3 or above: its entries cascade
  kSplitWanted,       // a stored slot does not fit into memory
  kSlotSplit,         // and is written again in finer slots
  kSlotSplitInPart,   // it is too large for one checkpoint
  kSlotDropped,       // a stored slot is removed that everything has left
  kChunkStored,       // entries go to the store
  kSlotLoaded,        // and come back
  kLoadCut,           // a load ends within a slot, as memory is full
  kLoadOverdue,       // more is loaded than memory should hold, as it is due
  kLoadWaitsForRoom,  // a load has no room
  kCutBack,           // what is far is forgotten to make room
  kFreshMadeFar,      // some of it before any store had it
  kHorizonJumped,     // over time in which nothing is due
  kSpillFailed,       // a checkpoint failed: all of it is in memory again
  kFarBecameNear,     // the horizon moves over entries that no store has
};

inline constexpr std::array<const char*, 15> kMarkNames{
    "wheel_coarse_slot_opened",  "wheel_split_wanted", "wheel_slot_split",
    "wheel_slot_split_in_part",  "wheel_slot_dropped", "wheel_chunk_stored",
    "wheel_slot_loaded",         "wheel_load_cut",     "wheel_load_overdue",
    "wheel_load_waits_for_room", "wheel_cut_back",     "wheel_fresh_made_far",
    "wheel_horizon_jumped",      "wheel_spill_failed", "wheel_far_became_near"};

inline constinit std::array<std::atomic<uint64_t>, kMarkNames.size()> mark_hits{};

inline void hit(Mark mark) {
  std::atomic<uint64_t>& hits = mark_hits[static_cast<size_t>(mark)];
  hits.store(hits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

static_assert(static_cast<size_t>(Mark::kFarBecameNear) + 1 == kMarkNames.size());

}  // namespace tidemark::timerwheel
