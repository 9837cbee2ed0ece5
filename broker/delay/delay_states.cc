#include "broker/delay/delay_states.h"

#include <utility>

#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::delay {

namespace keys = partition::keys;

namespace {

constexpr uint64_t kStatesPerWord = 32;
constexpr size_t kValueBytes = DelayStates::kIdsPerChunk / 4 + 8;

// A mix whose sum over all ids does not depend on their order.
uint64_t mix(uint64_t id, DelayState state) {
  if (state == DelayState::kNone) {
    return 0;
  }
  uint64_t x = id * 4 + static_cast<uint64_t>(state);
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9ull;
  return x ^ (x >> 32);
}

}  // namespace

DelayState DelayStates::state_at(const Chunk& chunk, uint64_t place) {
  const uint64_t word = chunk.words[place / kStatesPerWord];
  return static_cast<DelayState>((word >> (2 * (place % kStatesPerWord))) & 3);
}

DelayState DelayStates::get(uint64_t id) const {
  const auto it = chunks_.find(id / kIdsPerChunk);
  return it == chunks_.end() ? DelayState::kNone : state_at(it->second, id % kIdsPerChunk);
}

void DelayStates::set(uint64_t id, DelayState state) {
  const uint64_t number = id / kIdsPerChunk;
  Chunk& chunk = chunks_[number];
  const uint64_t place = id % kIdsPerChunk;
  const DelayState before = state_at(chunk, place);
  const unsigned shift = static_cast<unsigned>(2 * (place % kStatesPerWord));
  uint64_t& word = chunk.words[place / kStatesPerWord];
  word = (word & ~(uint64_t{3} << shift)) | (static_cast<uint64_t>(state) << shift);
  hash_ += mix(id, state) - mix(id, before);
  dirty_.insert(number);
  const int was_pending = before == DelayState::kPending ? 1 : 0;
  const int is_pending = state == DelayState::kPending ? 1 : 0;
  chunk.pending = static_cast<uint16_t>(chunk.pending + is_pending - was_pending);
  // As load() has it: whatever became of it before, a chunk without anything pending has ended.
  if (chunk.pending == 0) {
    ended_.insert(number);
    forget_ended();
  } else if (chunk.pending == 1 && was_pending == 0) {
    ended_.erase(number);
  }
}

void DelayStates::forget_ended() {
  while (ended_.size() > kEndedChunksMax) {
    const uint64_t number = *ended_.begin();
    ended_.erase(ended_.begin());
    const Chunk& chunk = chunks_.at(number);
    for (uint64_t place = 0; place < kIdsPerChunk; ++place) {
      hash_ -= mix(number * kIdsPerChunk + place, state_at(chunk, place));
    }
    chunks_.erase(number);
    dirty_.insert(number);
  }
}

void DelayStates::freeze(kv::WriteBatch& batch) {
  frozen_ = std::exchange(dirty_, {});
  std::vector<uint8_t> out;
  for (const uint64_t number : frozen_) {
    const std::string key = "S" + keys::number64(number);
    const auto it = chunks_.find(number);
    if (it == chunks_.end()) {
      batch.remove(key);
      continue;
    }
    out.clear();
    ByteWriter writer(out);
    for (const uint64_t word : it->second.words) {
      writer.le(word);
    }
    writer.le(xxh3(out, number));
    batch.put(key, std::string(as_text(out)));
  }
}

void DelayStates::commit_failed() {
  dirty_.insert(frozen_.begin(), frozen_.end());
  frozen_.clear();
}

Status DelayStates::load(uint64_t number, std::string_view value) {
  const ByteView bytes = as_bytes(value);
  if (bytes.size() != kValueBytes || load_le<uint64_t>(bytes.data() + kValueBytes - 8) !=
                                         xxh3(bytes.first(kValueBytes - 8), number)) {
    return Status(ErrorCode::kCorrupted, "states of delayed messages in the checkpoint store");
  }
  Chunk chunk;
  for (size_t i = 0; i < chunk.words.size(); ++i) {
    chunk.words[i] = load_le<uint64_t>(bytes.data() + 8 * i);
  }
  for (uint64_t place = 0; place < kIdsPerChunk; ++place) {
    const DelayState state = state_at(chunk, place);
    hash_ += mix(number * kIdsPerChunk + place, state);
    chunk.pending = static_cast<uint16_t>(chunk.pending + (state == DelayState::kPending ? 1 : 0));
  }
  if (chunk.pending == 0) {
    ended_.insert(number);
  }
  chunks_.emplace(number, chunk);
  return Status();
}

}  // namespace tidemark::delay
