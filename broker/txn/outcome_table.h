// How transactions ended, for a while after their end: a view over the log.
//
// A producer numbers its transactions in sequence, so 256 outcomes are one chunk of two bits each.
// A chunk is forgotten when its newest outcome is old enough (forget_before()), or, beyond the
// bound of the table, when it is the one idle longest.
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "broker/kv/key_value_store.h"
#include "broker/txn/txn_key.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::txn {

class OutcomeTable {
 public:
  explicit OutcomeTable(size_t chunks_max = limits::kTxnOutcomeChunksPerShardMax)
      : chunks_max_(chunks_max) {}

  // kCommitted, kRolledBack, or kNone: not known.
  [[nodiscard]] TxnState get(const TxnKey& key) const;
  // Requires: `state` is ended, get(key) is kNone; `now_ms` never goes back.
  void set(const TxnKey& key, TxnState state, int64_t now_ms);
  // Forgets chunks whose newest outcome was set before this time.
  void forget_before(int64_t ms);
  // When the chunk idle longest was last changed; nothing to forget: INT64_MAX.
  [[nodiscard]] int64_t oldest_ms() const;

  [[nodiscard]] size_t chunks() const { return chunks_.size(); }

  // Independent of the order of changes.
  [[nodiscard]] uint64_t hash() const { return hash_; }

  // --- checkpoint: keys "O" producer, chunk number (8 bytes each, big-endian)
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode.
  Status load(kv::ReadView& view);

 private:
  static constexpr uint64_t kPerChunk = 256;

  // Producer and number / kPerChunk.
  using ChunkKey = TxnKey;

  struct Chunk {
    std::array<uint8_t, kPerChunk / 4> bits{};  // 0 none, 1 committed, 2 rolled back
    int64_t changed_ms = 0;
  };

  static uint64_t hash_of(const ChunkKey& key, const Chunk& chunk);
  void forget_oldest();

  size_t chunks_max_;
  std::unordered_map<ChunkKey, Chunk> chunks_;
  std::set<std::pair<int64_t, ChunkKey>> by_age_;
  std::set<ChunkKey> dirty_;
  std::set<ChunkKey> frozen_;
  uint64_t hash_ = 0;
};

}  // namespace tidemark::txn
