// What a partition remembers of its idempotent producers, so that a batch sent twice is stored
// once.
//
// Per producer: epoch, next sequence and the last limits::kProducerBatchesRemembered batches with
// the offsets they were given. Key of a batch is (producer id, epoch, first sequence, last
// sequence); sequences count messages and wrap from 2^31 - 1 to 0. The table is part of the
// replicated state: it changes only when entries are applied, and which producer is forgotten (the
// one idle longest) is deterministic too. Thread: the shard's loop.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <unordered_set>

#include "broker/kv/key_value_store.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::partition {

// How a batch stands to what was stored before.
struct SequenceVerdict {
  enum class Kind { kAccept, kDuplicate, kRefuse };
  Kind kind = Kind::kAccept;
  Offset original_base;              // kDuplicate: what it got the first time
  ErrorCode error = ErrorCode::kOk;  // kRefuse
  int32_t expected_sequence = 0;     // kRefuse, kOutOfOrderSequence
};

class ProducerTable {
 public:
  // Judges a batch of a producer (header.producer_id >= 0) without changing anything.
  [[nodiscard]] SequenceVerdict judge(const format::BatchHeader& header) const;
  // Records an accepted batch. `use` grows with every call (the shard's record counter): it orders
  // producers by idleness.
  void accept(const format::BatchHeader& header, Offset base, uint64_t use);

  [[nodiscard]] size_t size() const { return producers_.size(); }

  // Independent of insertion order.
  [[nodiscard]] uint64_t hash() const { return hash_; }

  // --- checkpoint
  // ---------------------------------------------------------------------------------------------------
  void freeze(PartitionId id, kv::WriteBatch& batch);

  void commit_done() { frozen_.clear(); }

  void commit_failed();
  // At start, in any order; finish_load() restores the order of idleness.
  Status load(ProducerId id, std::string_view value);
  void finish_load();

 private:
  struct Remembered {
    int32_t first_sequence = 0;
    int32_t last_sequence = 0;
    Offset base;
  };

  struct Producer {
    int16_t epoch = 0;
    int32_t next_sequence = 0;
    uint64_t last_use = 0;
    uint8_t remembered = 0;
    std::array<Remembered, limits::kProducerBatchesRemembered> batches;  // newest first
    std::list<ProducerId>::iterator idle_place;
  };

  static uint64_t hash_of(ProducerId id, const Producer& producer);
  static std::string encode(const Producer& producer);
  void forget_idle();

  std::unordered_map<ProducerId, Producer> producers_;
  std::list<ProducerId> by_idleness_;  // idle longest first
  std::unordered_set<ProducerId> dirty_;
  std::unordered_set<ProducerId> frozen_;
  uint64_t hash_ = 0;
};

// Sequence `count` places after `first`; wraps from 2^31 - 1 to 0.
int32_t sequence_after(int32_t first, uint32_t count);

}  // namespace tidemark::partition
