// Named producers of transactions, a view of the metadata shard: which producer id a name has, its
// epoch, and which shards do not yet refuse the epochs before.
//
//   take_next(name): epoch + 1 --> unfenced on all shards --fenced(shard) from each--> settled
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the metadata shard's
// loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::meta {

struct NamedProducer {
  uint64_t producer = 0;
  uint16_t epoch = 0;
  uint64_t last_use = 0;       // orders names by idleness
  std::set<ShardId> unfenced;  // shards that may still take epochs below this one
};

class ProducerNames {
 public:
  explicit ProducerNames(size_t names_max = limits::kProducerNamesMax) : names_max_(names_max) {}

  struct Taken {
    uint64_t producer = 0;
    uint16_t epoch = 0;
    bool is_new = false;  // `new_id` was used
  };

  // A name that is not known gets `new_id` with epoch 0 and no shard to fence; a known one the next
  // epoch, with shards 0 to shard_count - 1 to fence. After epoch 32,767 the name gets `new_id`,
  // epoch 0, and the old id stays fenced by nobody: 32,767 restarts of one instance. `use` grows
  // with every call. Beyond the bound the name idle longest is forgotten; one that still waits for
  // shards goes last.
  Taken take_next(std::string_view name, uint64_t new_id, uint16_t shard_count, uint64_t use);
  // The shard refuses epochs below `epoch`; ignored unless that is the present one.
  void fenced(uint64_t producer, uint16_t epoch, ShardId shard);

  // True if this or a later epoch of the producer is fenced on all shards, or nothing is known of
  // it.
  [[nodiscard]] bool is_settled(uint64_t producer, uint16_t epoch) const;

  // nullptr: nothing is known of it.
  [[nodiscard]] const NamedProducer* find(uint64_t producer) const;

  // Producers that wait for shards, by id.
  [[nodiscard]] std::vector<NamedProducer> unsettled() const;

  [[nodiscard]] size_t size() const { return names_.size(); }

  // Independent of the order of changes.
  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint: keys "A" producer (8 bytes, big-endian); a name may be longer than a key
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode.
  Status load(kv::ReadView& view);

 private:
  using Names = std::map<std::string, NamedProducer, std::less<>>;

  static std::string encode(const std::string& name, const NamedProducer& named);
  void enlist(const std::string& name, const NamedProducer& named);
  void delist(const NamedProducer& named);
  void forget(Names::iterator it);
  Status load_one(std::string_view key, std::string_view value);

  size_t names_max_;
  Names names_;
  std::map<uint64_t, std::string> by_producer_;
  std::set<uint64_t> unsettled_;                             // producer ids
  std::map<std::pair<bool, uint64_t>, std::string> by_use_;  // (unsettled, last_use) -> name
  std::set<uint64_t> dirty_;                                 // producer ids
  std::set<uint64_t> frozen_;
};

}  // namespace tidemark::meta
