#include "broker/txn/outcome_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include "broker/partition/stored_value.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/coverage_mark.h"

namespace tidemark::txn {

namespace {

constexpr uint8_t kVersion = 1;
constexpr char kLetter = 'O';

// In two bits.
constexpr unsigned kNoneBits = 0;
constexpr unsigned kCommittedBits = 1;
constexpr unsigned kRolledBackBits = 2;

template <typename Bits>
unsigned bits_at(const Bits& bits, uint64_t place) {
  return (bits[place / 4] >> (place % 4 * 2)) & 3u;
}

// Nothing is forgotten bit by bit: a chunk without an outcome, or one with an outcome that does not
// exist, was not written by us.
bool is_sound(ByteView bits) {
  bool any = false;
  for (uint64_t place = 0; place < bits.size() * 4; ++place) {
    const unsigned outcome = bits_at(bits, place);
    if (outcome > kRolledBackBits) {
      return false;
    }
    any = any || outcome != kNoneBits;
  }
  return any;
}

}  // namespace

TxnState OutcomeTable::get(const TxnKey& key) const {
  const auto it = chunks_.find({key.producer, key.number / kPerChunk});
  if (it == chunks_.end()) {
    return TxnState::kNone;
  }
  switch (bits_at(it->second.bits, key.number % kPerChunk)) {
    case kCommittedBits:
      return TxnState::kCommitted;
    case kRolledBackBits:
      return TxnState::kRolledBack;
    default:
      return TxnState::kNone;
  }
}

void OutcomeTable::set(const TxnKey& key, TxnState state, int64_t now_ms) {
  TIDEMARK_CHECK(is_ended(state), "an outcome");
  TIDEMARK_CHECK(get(key) == TxnState::kNone, "a transaction ends once");
  const ChunkKey chunk_key{key.producer, key.number / kPerChunk};
  auto it = chunks_.find(chunk_key);
  if (it == chunks_.end()) {
    // Before the new one is there: at equal times it could be the first to go.
    while (!chunks_.empty() && chunks_.size() >= chunks_max_) {
      forget_oldest();
    }
    it = chunks_.try_emplace(chunk_key).first;
  } else {
    hash_ -= hash_of(chunk_key, it->second);
    by_age_.erase({it->second.changed_ms, chunk_key});
  }
  Chunk& chunk = it->second;
  const uint64_t place = key.number % kPerChunk;
  const unsigned bits = state == TxnState::kCommitted ? kCommittedBits : kRolledBackBits;
  chunk.bits[place / 4] = static_cast<uint8_t>(chunk.bits[place / 4] | (bits << (place % 4 * 2)));
  chunk.changed_ms = now_ms;
  by_age_.emplace(now_ms, chunk_key);
  hash_ += hash_of(chunk_key, chunk);
  dirty_.insert(chunk_key);
}

void OutcomeTable::forget_before(int64_t ms) {
  while (oldest_ms() < ms) {
    TIDEMARK_COVERAGE_MARK(txn_outcomes_forgotten);
    forget_oldest();
  }
}

int64_t OutcomeTable::oldest_ms() const {
  return by_age_.empty() ? INT64_MAX : by_age_.begin()->first;
}

void OutcomeTable::forget_oldest() {
  const ChunkKey key = by_age_.begin()->second;
  const auto it = chunks_.find(key);
  hash_ -= hash_of(key, it->second);
  by_age_.erase(by_age_.begin());
  chunks_.erase(it);
  dirty_.insert(key);  // its removal is stored
}

uint64_t OutcomeTable::hash_of(const ChunkKey& key, const Chunk& chunk) {
  return xxh3(chunk.bits,
              xxh3(as_bytes(store_key(kLetter, key)), static_cast<uint64_t>(chunk.changed_ms)));
}

void OutcomeTable::freeze(kv::WriteBatch& batch) {
  for (const ChunkKey& chunk_key : dirty_) {
    std::string key = store_key(kLetter, chunk_key);
    const auto it = chunks_.find(chunk_key);
    if (it == chunks_.end()) {
      batch.remove(std::move(key));
      continue;
    }
    std::vector<uint8_t> out;
    ByteWriter writer(out);
    writer.le(kVersion);
    writer.le(it->second.changed_ms);
    writer.bytes(it->second.bits);
    std::string value = partition::seal_value(out, key);
    batch.put(std::move(key), std::move(value));
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void OutcomeTable::commit_done() { frozen_.clear(); }

void OutcomeTable::commit_failed() {
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status OutcomeTable::load(kv::ReadView& view) {
  TIDEMARK_CHECK(chunks_.empty(), "loaded once, at start");
  return partition::for_each_of(
      view, std::string_view(&kLetter, 1), [this](std::string_view key, std::string_view value) {
        const Status damaged = partition::damaged_value("outcomes of transactions");
        const auto body = partition::open_value(key, value);
        if (!body || key.size() != 1 + 2 * sizeof(uint64_t)) {
          return damaged;
        }
        const uint8_t* const at = as_bytes(key).data() + 1;
        const ChunkKey chunk_key{load_be<uint64_t>(at), load_be<uint64_t>(at + 8)};
        ByteReader reader(*body);
        const auto version = reader.le<uint8_t>();
        Chunk chunk;
        chunk.changed_ms = reader.le<int64_t>();
        const ByteView bits = reader.bytes(chunk.bits.size());
        if (version != kVersion || reader.failed() || reader.remaining() != 0 || !is_sound(bits)) {
          return damaged;
        }
        std::copy(bits.begin(), bits.end(), chunk.bits.begin());
        by_age_.emplace(chunk.changed_ms, chunk_key);
        hash_ += hash_of(chunk_key, chunk);
        chunks_.emplace(chunk_key, chunk);
        return Status();
      });
}

}  // namespace tidemark::txn
