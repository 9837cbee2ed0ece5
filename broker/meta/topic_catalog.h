// The table of topics, a view of the metadata shard: names, ids, configuration, which shard has
// which partition, and how far the other shards have followed.
//
//            create            all shards confirmed
//   (none) ---------> opening ----------------------> ready
//                        ^  alter (version + 1)         |
//                        +------------------------------+
//   opening, ready -- delete (name is free at once) --> dropping -- all shards confirmed --> (none)
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the metadata shard's
// loop.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/partition/compaction_config.h"
#include "broker/partition/delay_config.h"
#include "broker/partition/queue_config.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::meta {

struct TopicConfig {
  int64_t retention_ms = -1;     // -1: for ever
  int64_t retention_bytes = -1;  // per partition; -1: no bound
  partition::DelayConfig delays = {};
  partition::QueueConfig queue = {};
  partition::CompactionConfig compaction = {};
};

enum class TopicState : uint8_t { kOpening = 1, kReady = 2, kDropping = 3 };

struct Topic {
  TopicId id;
  std::string name;
  TopicState state = TopicState::kOpening;
  uint64_t version = 1;  // grows with every change
  int64_t created_ms = 0;
  TopicConfig config;
  std::vector<ShardId> shards;    // of each partition
  std::set<ShardId> unconfirmed;  // shards that have not yet committed this version

  [[nodiscard]] std::vector<uint32_t> partitions_on(ShardId shard) const;
};

// Outcome of an applied change.
struct TopicOutcome {
  ErrorCode error = ErrorCode::kOk;
  TopicId id;
  uint64_t version = 0;
};

class TopicCatalog {
 public:
  // kAlreadyExists, kLimitExceeded.
  TopicOutcome create(std::string_view name, TopicConfig config, std::vector<ShardId> shards,
                      int64_t now_ms);
  // kUnknownTopic; kConflict if `shards` does not begin with the present ones; kLimitExceeded.
  TopicOutcome alter(TopicId id, TopicConfig config, std::vector<ShardId> shards);
  // kUnknownTopic.
  TopicOutcome remove(TopicId id);
  // A shard confirmed a version; ignored if it is not the present one.
  void progress(TopicId id, uint64_t version, ShardId shard);

  [[nodiscard]] const Topic* find(std::string_view name) const;  // not dropped ones
  [[nodiscard]] const Topic* find(TopicId id) const;             // dropped ones too

  [[nodiscard]] const std::map<TopicId, Topic>& topics() const { return topics_; }

  // Grows whenever topics or their partitions change; not part of the state.
  [[nodiscard]] uint64_t changes() const { return changes_; }

  // Partitions of all topics, those being dropped included.
  [[nodiscard]] size_t partition_count() const;

  // Topics that can be found by name.
  [[nodiscard]] size_t size() const { return by_name_.size(); }

  // Shards for `count` new partitions of a topic that has partitions on `present`: each goes where
  // the topic has the fewest, of those where all topics together have the fewest. So a topic with
  // as many partitions as there are shards is on every one of them. (A proposal of the leader, not
  // part of the state.)
  [[nodiscard]] std::vector<ShardId> place(uint32_t count, uint16_t shard_count,
                                           const std::vector<ShardId>& present) const;

  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint
  // ---------------------------------------------------------------------------------------------------
  void freeze(kv::WriteBatch& batch);

  void commit_done() { frozen_.clear(); }

  void commit_failed();
  Status load(TopicId id, std::string_view value);

  [[nodiscard]] TopicId next_id() const { return next_id_; }

  void load_next_id(TopicId next) { next_id_ = next; }

 private:
  static std::string encode(const Topic& topic);

  std::map<TopicId, Topic> topics_;
  std::map<std::string, TopicId, std::less<>> by_name_;
  TopicId next_id_{1};
  uint64_t changes_ = 1;
  std::set<TopicId> dirty_;
  std::set<TopicId> frozen_;
};

}  // namespace tidemark::meta
