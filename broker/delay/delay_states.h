// What has become of each delayed message of a shard: two bits per id.
//
// Ids are given out in order, one per message, so they are dense and a bitmap costs a quarter byte
// each; chunks in which nothing is pending any more are kept for a while, so that a late cancel
// gets a true answer, and are then forgotten, lowest ids first: kNone.
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "broker/kv/key_value_store.h"
#include "log/base/result.h"

namespace tidemark::delay {

enum class DelayState : uint8_t {
  kNone = 0,  // never there, or forgotten
  kPending = 1,
  kDelivered = 2,
  kCancelled = 3,  // also: replaced by a reschedule, skipped, or its partition is gone
};

class DelayStates {
 public:
  static constexpr uint64_t kIdsPerChunk = 256;
  // Ended chunks that are remembered: the last 16.7 million messages at least.
  static constexpr size_t kEndedChunksMax = 65'536;

  [[nodiscard]] DelayState get(uint64_t id) const;
  void set(uint64_t id, DelayState state);

  [[nodiscard]] uint64_t hash() const { return hash_; }

  [[nodiscard]] size_t chunks() const { return chunks_.size(); }

  // --- checkpoint
  void freeze(kv::WriteBatch& batch);

  void commit_done() { frozen_.clear(); }

  void commit_failed();
  // At start, for every chunk stored.
  Status load(uint64_t chunk, std::string_view value);

 private:
  struct Chunk {
    std::array<uint64_t, kIdsPerChunk / 32> words{};
    uint16_t pending = 0;
  };

  static DelayState state_at(const Chunk& chunk, uint64_t place);
  void forget_ended();

  std::unordered_map<uint64_t, Chunk> chunks_;
  std::set<uint64_t> ended_;
  std::unordered_set<uint64_t> dirty_;
  std::unordered_set<uint64_t> frozen_;
  uint64_t hash_ = 0;
};

}  // namespace tidemark::delay
