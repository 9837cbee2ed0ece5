#include "broker/queue/ack_set.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "broker/queue/ack_ranges.h"
#include "log/base/checksum.h"
#include "log/base/coverage_mark.h"

namespace tidemark::queue {

namespace {

constexpr uint64_t kPerChunk = AckSet::kChunkOffsets;
constexpr size_t kMapNodeBytes = 32;  // links and colour, before the value
constexpr size_t kHeapBlockBytes = 8;

// Bits [first, end) of a word.
constexpr uint64_t mask_of(uint64_t first, uint64_t end) {
  const uint64_t below_end = end == 64 ? ~uint64_t{0} : (uint64_t{1} << end) - 1;
  return below_end & ~((uint64_t{1} << first) - 1);
}

// Calls visit(word, mask) for what [first, end) of a chunk touches.
template <typename Bits, typename Visit>
void for_each_word(Bits& bits, uint64_t first, uint64_t end, Visit visit) {
  for (uint64_t word = first / 64; word * 64 < end; ++word) {
    const uint64_t from = std::max(first, word * 64) - word * 64;
    const uint64_t to = std::min(end, word * 64 + 64) - word * 64;
    visit(bits[static_cast<size_t>(word)], mask_of(from, to));
  }
}

uint64_t count_in(const AckSet::Bits& bits, uint64_t first, uint64_t end) {
  uint64_t count = 0;
  for_each_word(bits, first, end, [&count](const uint64_t& word, uint64_t mask) {
    count += static_cast<uint64_t>(std::popcount(word & mask));
  });
  return count;
}

// The first of [first, kPerChunk) that is set, or is not; kPerChunk: none.
uint64_t find(const AckSet::Bits& bits, uint64_t first, bool set) {
  for (uint64_t word = first / 64; word < bits.size(); ++word) {
    uint64_t wanted = set ? bits[static_cast<size_t>(word)] : ~bits[static_cast<size_t>(word)];
    if (word == first / 64) {
      wanted &= mask_of(first % 64, 64);
    }
    if (wanted != 0) {
      return word * 64 + static_cast<uint64_t>(std::countr_zero(wanted));
    }
  }
  return kPerChunk;
}

uint64_t hash_of(uint64_t number, const AckSet::Bits& bits) {
  return xxh3({reinterpret_cast<const uint8_t*>(bits.data()), sizeof(bits)}, number);
}

uint64_t hash_of(uint64_t first, uint64_t end) {
  const std::array<uint64_t, 2> run{first, end};
  return xxh3({reinterpret_cast<const uint8_t*>(run.data()), sizeof(run)});
}

}  // namespace

// --- Adding

uint64_t AckSet::add(Offset first, uint64_t count) {
  const Offset end = end_of(first, count);
  first = std::max(first, floor_);
  if (first >= end) {
    return 0;
  }
  uint64_t whole = chunk_of(first);
  const uint64_t whole_end = chunk_of(end);
  const uint64_t from = first.value() % kPerChunk;
  const uint64_t to = end.value() % kPerChunk;
  uint64_t added = 0;
  if (whole == whole_end) {
    added = add_part(whole, from, to);
  } else {
    if (from != 0) {
      added += add_part(whole++, from, kPerChunk);
    }
    if (whole < whole_end) {
      added += add_whole(whole, whole_end);
    }
    if (to != 0) {
      added += add_part(whole_end, 0, to);
    }
  }
  above_ += added;
  if (added > 0) {
    advance();
    if (floor_ > end) {
      TIDEMARK_COVERAGE_MARK(queue_hole_filled);
    }
  }
  return added;
}

// Of one chunk: [first, end), which is not all of it.
uint64_t AckSet::add_part(uint64_t chunk, uint64_t first, uint64_t end) {
  if (run_with(chunk) != runs_.end()) {
    return 0;
  }
  Chunk& at = chunks_[chunk];
  const uint64_t added = end - first - count_in(at.bits, first, end);
  if (added == 0) {
    return 0;
  }
  for_each_word(at.bits, first, end, [](uint64_t& word, uint64_t mask) { word |= mask; });
  at.settled += static_cast<uint32_t>(added);
  touch(chunk);
  if (at.settled == kPerChunk) {
    chunks_.erase(chunk);
    join_run(chunk, chunk + 1);
  }
  return added;
}

// Of whole chunks [first, end).
uint64_t AckSet::add_whole(uint64_t first, uint64_t end) {
  uint64_t settled = 0;
  for (auto it = chunks_.lower_bound(first); it != chunks_.end() && it->first < end;) {
    settled += it->second.settled;
    touch(it->first);
    it = chunks_.erase(it);
  }
  auto run = run_with(first);
  if (run == runs_.end()) {
    run = runs_.lower_bound(first);
  }
  for (; run != runs_.end() && run->first < end; ++run) {
    settled += (std::min(run->second, end) - std::max(run->first, first)) * kPerChunk;
  }
  const uint64_t added = (end - first) * kPerChunk - settled;
  if (added > 0) {
    join_run(first, end);
  }
  return added;
}

// [first, end), and every run that touches it, is one run.
void AckSet::join_run(uint64_t first, uint64_t end) {
  auto it = runs_.upper_bound(first);
  if (it != runs_.begin() && std::prev(it)->second >= first) {
    --it;
  }
  while (it != runs_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    touch(it->first);
    it = runs_.erase(it);
  }
  runs_.emplace(first, end);
  touch(first);
}

// --- The floor

uint64_t AckSet::raise_floor(Offset floor) {
  if (floor <= floor_) {
    return 0;
  }
  const uint64_t all = floor - floor_;
  const uint64_t settled = forget_below(floor);
  above_ -= settled;
  const Offset before = std::exchange(floor_, floor);
  floor_moved(before);
  advance();
  return all - settled;
}

// Gives how many of them were settled. A run that goes on behind the floor goes on to be one: what
// of it is below the floor is cut off, and the floor's chunk becomes a bitmap.
uint64_t AckSet::forget_below(Offset floor) {
  const uint64_t chunk = chunk_of(floor);
  const uint64_t within = floor.value() % kPerChunk;
  uint64_t settled = 0;
  for (auto it = chunks_.begin(); it != chunks_.end() && it->first < chunk;) {
    settled += it->second.settled;
    it = chunks_.erase(it);
  }
  if (const auto it = chunks_.find(chunk); it != chunks_.end()) {
    const uint64_t below = count_in(it->second.bits, 0, within);
    for_each_word(it->second.bits, 0, within, [](uint64_t& word, uint64_t mask) { word &= ~mask; });
    it->second.settled -= static_cast<uint32_t>(below);
    settled += below;
    touch(chunk);
    if (it->second.settled == 0) {
      chunks_.erase(it);
    }
  }
  while (!runs_.empty() && runs_.begin()->first <= chunk) {
    const auto [first, end] = *runs_.begin();
    if (end <= chunk) {
      settled += (end - first) * kPerChunk;
      runs_.erase(runs_.begin());
      continue;
    }
    if (first == chunk && within == 0) {
      break;
    }
    settled += (chunk - first) * kPerChunk + within;
    runs_.erase(runs_.begin());
    if (within > 0) {
      Chunk& at = chunks_[chunk];
      for_each_word(at.bits, within, kPerChunk,
                    [](uint64_t& word, uint64_t mask) { word |= mask; });
      at.settled = static_cast<uint32_t>(kPerChunk - within);
    }
    touch(chunk);
    if (const uint64_t rest = within > 0 ? chunk + 1 : chunk; rest < end) {
      runs_.emplace(rest, end);
      touch(rest);
    }
    break;
  }
  return settled;
}

// Over what is settled behind the floor.
void AckSet::advance() {
  const Offset before = floor_;
  for (;;) {
    const uint64_t chunk = chunk_of(floor_);
    if (!runs_.empty() && runs_.begin()->first == chunk) {
      const uint64_t end = runs_.begin()->second;
      above_ -= (end - chunk) * kPerChunk;
      floor_ = Offset{end * kPerChunk};
      runs_.erase(runs_.begin());
      continue;
    }
    const auto it = chunks_.find(chunk);
    if (it == chunks_.end()) {
      break;
    }
    Chunk& at = it->second;
    const uint64_t from = floor_.value() % kPerChunk;
    const uint64_t to = find(at.bits, from, false);
    for_each_word(at.bits, from, to, [](uint64_t& word, uint64_t mask) { word &= ~mask; });
    at.settled -= static_cast<uint32_t>(to - from);
    above_ -= to - from;
    floor_ = floor_ + (to - from);
    if (to > from) {
      touch(chunk);
    }
    if (at.settled == 0) {
      chunks_.erase(it);
    }
    if (to < kPerChunk) {
      break;
    }
  }
  floor_moved(before);
}

// What changed below its chunk needs no naming: all of that is gone.
void AckSet::floor_moved(Offset before) {
  const uint64_t chunk = chunk_of(floor_);
  if (chunk == chunk_of(before)) {
    return;
  }
  changes_.emptied_from =
      std::min(changes_.emptied_from.value_or(chunk_of(before)), chunk_of(before));
  changes_.chunks.erase(changes_.chunks.begin(), changes_.chunks.lower_bound(chunk));
}

// --- Looking

AckSet::Runs::const_iterator AckSet::run_with(uint64_t chunk) const {
  const auto it = runs_.upper_bound(chunk);
  return it != runs_.begin() && std::prev(it)->second > chunk ? std::prev(it) : runs_.end();
}

bool AckSet::contains(Offset offset) const {
  if (offset < floor_) {
    return true;
  }
  const uint64_t chunk = chunk_of(offset);
  if (const Bits* const bits = bits_of(chunk); bits != nullptr) {
    const uint64_t within = offset.value() % kPerChunk;
    return ((*bits)[static_cast<size_t>(within / 64)] >> (within % 64) & 1) != 0;
  }
  return run_with(chunk) != runs_.end();
}

Offset AckSet::next_unsettled(Offset from) const {
  Offset at = std::max(from, floor_);
  for (;;) {
    const uint64_t chunk = chunk_of(at);
    if (const Bits* const bits = bits_of(chunk); bits != nullptr) {
      const uint64_t within = find(*bits, at.value() % kPerChunk, false);
      if (within < kPerChunk) {
        return Offset{chunk * kPerChunk + within};
      }
      at = Offset{(chunk + 1) * kPerChunk};
    } else if (const auto run = run_with(chunk); run != runs_.end()) {
      at = Offset{run->second * kPerChunk};
    } else {
      return at;
    }
  }
}

std::optional<Offset> AckSet::next_settled(Offset from) const {
  if (from < floor_) {
    return from;
  }
  const uint64_t chunk = chunk_of(from);
  if (run_with(chunk) != runs_.end()) {
    return from;
  }
  auto it = chunks_.lower_bound(chunk);
  if (it != chunks_.end() && it->first == chunk) {
    const uint64_t within = find(it->second.bits, from.value() % kPerChunk, true);
    if (within < kPerChunk) {
      return Offset{chunk * kPerChunk + within};
    }
    ++it;
  }
  std::optional<Offset> found;
  if (it != chunks_.end()) {
    found = Offset{it->first * kPerChunk + find(it->second.bits, 0, true)};
  }
  if (const auto run = runs_.lower_bound(chunk); run != runs_.end()) {
    const Offset begin{run->first * kPerChunk};
    found = found ? std::min(*found, begin) : begin;
  }
  return found;
}

size_t AckSet::memory_bytes() const {
  const auto nodes = [](const auto& container) {
    using Value = typename std::decay_t<decltype(container)>::value_type;
    return container.size() * (kMapNodeBytes + sizeof(Value) + kHeapBlockBytes);
  };
  return sizeof(*this) + nodes(chunks_) + nodes(runs_) + nodes(changes_.chunks);
}

uint64_t AckSet::hash() const {
  const uint64_t floor = floor_.value();
  uint64_t hash = xxh3({reinterpret_cast<const uint8_t*>(&floor), sizeof(floor)});
  for (const auto& [number, chunk] : chunks_) {
    hash += hash_of(number, chunk.bits);
  }
  for (const auto& [first, end] : runs_) {
    hash += hash_of(first, end);
  }
  return hash;
}

// --- Checkpoint

void AckSet::Changes::merge(Changes&& other) {
  chunks.merge(other.chunks);
  if (other.emptied_from) {
    emptied_from = std::min(emptied_from.value_or(*other.emptied_from), *other.emptied_from);
  }
}

AckSet::Changes AckSet::take_changes() { return std::exchange(changes_, Changes{}); }

const AckSet::Bits* AckSet::bits_of(uint64_t chunk) const {
  const auto it = chunks_.find(chunk);
  return it == chunks_.end() ? nullptr : &it->second.bits;
}

uint64_t AckSet::run_at(uint64_t chunk) const {
  const auto it = runs_.find(chunk);
  return it == runs_.end() ? 0 : it->second - it->first;
}

bool AckSet::load_floor(Offset floor) {
  if (floor_ != Offset{0} || above_ != 0) {
    return false;
  }
  floor_ = floor;
  return true;
}

// Behind the floor, the bitmaps and the runs that are there.
bool AckSet::is_free_behind_all(uint64_t chunk) const {
  return chunk < kChunks && chunk >= chunk_of(floor_) &&
         (chunks_.empty() || chunks_.rbegin()->first < chunk) &&
         (runs_.empty() || runs_.rbegin()->second <= chunk);
}

bool AckSet::load_bits(uint64_t chunk, const Bits& bits) {
  const uint64_t settled = count_in(bits, 0, kPerChunk);
  if (!is_free_behind_all(chunk) || settled == 0 || settled == kPerChunk) {
    return false;
  }
  // The floor is not settled, what is before it is not said again, and the last number is no
  // offset.
  if (chunk == chunk_of(floor_) && count_in(bits, 0, floor_.value() % kPerChunk + 1) != 0) {
    return false;
  }
  if (chunk == kChunks - 1 && bits.back() >> 63 != 0) {
    return false;
  }
  chunks_.emplace_hint(chunks_.end(), chunk, Chunk{bits, static_cast<uint32_t>(settled)});
  above_ += settled;
  return true;
}

bool AckSet::load_run(uint64_t chunk, uint64_t chunks) {
  if (!is_free_behind_all(chunk) || chunk == chunk_of(floor_) || chunks == 0 ||
      chunks > kChunks - 1 - chunk || (!runs_.empty() && runs_.rbegin()->second == chunk)) {
    return false;
  }
  runs_.emplace_hint(runs_.end(), chunk, chunk + chunks);
  above_ += chunks * kPerChunk;
  return true;
}

}  // namespace tidemark::queue
