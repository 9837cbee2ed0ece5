// The lowest epoch of a named producer that a shard still takes anything from: a view over the log.
//
// Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>

#include "broker/kv/key_value_store.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::txn {

class ProducerFences {
 public:
  // 0: not fenced.
  [[nodiscard]] uint16_t lowest_epoch(uint64_t producer) const;

  [[nodiscard]] bool is_fenced(uint64_t producer, uint16_t epoch) const {
    return !epochs_.empty() && epoch < lowest_epoch(producer);
  }

  // Never lowers. Beyond limits::kProducerNamesMax producers the one with the lowest id (ids are
  // given in order, never again) is forgotten.
  void raise(uint64_t producer, uint16_t epoch);

  [[nodiscard]] size_t size() const { return epochs_.size(); }

  [[nodiscard]] uint64_t hash() const { return hash_; }

  // --- checkpoint: keys "F" producer (8 bytes, big-endian)
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode.
  Status load(kv::ReadView& view);

 private:
  std::unordered_map<uint64_t, uint16_t> epochs_;
  std::set<uint64_t> by_id_;
  std::set<uint64_t> dirty_;
  std::set<uint64_t> frozen_;
  uint64_t hash_ = 0;
};

}  // namespace tidemark::txn
