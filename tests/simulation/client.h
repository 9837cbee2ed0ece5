// What all simulated clients share: the topics they know of, and connections by shard that are made
// when needed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "log/base/random.h"
#include "tests/simulation/model.h"
#include "tests/simulation/options.h"
#include "tests/simulation/sim_network.h"

namespace tidemark::sim {

struct KnownTopic {
  std::string name;
  TopicId id;
  std::vector<ShardId> shards;  // of each partition
  bool deleting = false;        // somebody asked for it: nothing is promised any more
  bool retention = false;

  [[nodiscard]] PartitionId partition(size_t number) const {
    return {id, PartitionIndex{static_cast<uint32_t>(number)}};
  }
};

// The topics that exist, as the administrator learned them.
class Directory {
 public:
  // The newest with this id; nullptr if there is none.
  KnownTopic* find(TopicId id) {
    for (KnownTopic& topic : topics) {
      if (topic.id == id) {
        return &topic;
      }
    }
    return nullptr;
  }

  [[nodiscard]] bool alive(PartitionId partition) {
    const KnownTopic* topic = find(partition.topic);
    return topic != nullptr && !topic->deleting && partition.index.value() < topic->shards.size();
  }

  ShardId shard_of(PartitionId partition) {
    return find(partition.topic)->shards[partition.index.value()];
  }

  // One of those that nobody deletes; nothing if there is none.
  bool pick(Random& random, PartitionId& partition) {
    std::vector<PartitionId> all;
    for (const KnownTopic& topic : topics) {
      for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
        all.push_back(topic.partition(i));
      }
    }
    if (all.empty()) {
      return false;
    }
    partition = all[random.below(all.size())];
    return true;
  }

  std::vector<KnownTopic> topics;
  // Of queue mode, once it exists; nobody sends to it.
  std::optional<KnownTopic> dead_letters;
};

// Errors after which the same request is sent again.
inline bool is_transient(ErrorCode code) {
  return error_is_retryable(code) || error_outcome_unknown(code) || code == ErrorCode::kReadOnly ||
         code == ErrorCode::kIoError;
}

class Client : public Peer {
 public:
  Client(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
         const Options& options, uint64_t seed)
      : scheduler_(scheduler),
        network_(network),
        model_(model),
        directory_(directory),
        options_(options),
        random_(seed) {}

  // No new work; what is under way is finished.
  void finish() { finishing_ = true; }

  [[nodiscard]] virtual bool idle() const = 0;
  [[nodiscard]] virtual std::string describe() const = 0;

  void on_closed(uint64_t connection) final {
    std::erase_if(connections_, [&](const auto& entry) { return entry.second == connection; });
    on_lost(connection);
  }

 protected:
  // Where reads flip bits, what looks damaged now may not be the next time.
  [[nodiscard]] bool is_transient(ErrorCode code) const {
    return sim::is_transient(code) || (options_.read_flip_ms != 0 && code == ErrorCode::kCorrupted);
  }

  // Requests of this connection that are not answered never will be.
  virtual void on_lost(uint64_t connection) = 0;

  // 0 if the broker is down; the number of a connection that may break at any time.
  uint64_t connection_to(ShardId shard) {
    uint64_t& connection = connections_[shard];
    if (connection == 0) {
      connection = network_.connect(*this, shard);
    }
    return connection;
  }

  uint64_t next_correlation() { return ++correlation_; }

  // A message that a reply of now brings; gives its id.
  uint64_t see(PartitionId partition, const testing::Message& message) {
    const uint64_t uid = model_.read(partition, message.offset, message.value);
    model_.txns().seen(uid, message.offset, network_.reply_left_ns());
    if (model_.is_delayed(uid)) {
      const ShardId shard = directory_.shard_of(partition);
      model_.delays().seen(uid, message.offset,
                           model_.delays().log_ms(shard, network_.reply_left_ns()));
    }
    return uid;
  }

  // The process ends: what is on its way is lost.
  void hang_up() {
    while (!connections_.empty()) {
      const uint64_t connection = connections_.begin()->second;
      connections_.erase(connections_.begin());
      network_.break_connection(connection);
    }
  }

  Scheduler& scheduler_;
  SimNetwork& network_;
  Model& model_;
  Directory& directory_;
  const Options& options_;
  Random random_;
  bool finishing_ = false;

 private:
  std::map<ShardId, uint64_t> connections_;
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
