// How a shard talks to the outside without knowing it: where replies go, and mail between shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/partition/compaction_config.h"
#include "broker/partition/delay_config.h"
#include "broker/partition/queue_config.h"
#include "broker/protocol/frame.h"
#include "broker/txn/txn_key.h"
#include "log/base/ids.h"

namespace tidemark::shard {

// The request a reply belongs to. Copied around; means nothing to the shard.
struct ReplyTo {
  uint32_t loop = 0;        // the loop that owns the connection
  uint64_t connection = 0;  // never reused within a process
  uint64_t correlation = 0;
  protocol::FrameType type = protocol::FrameType::kError;
};

// Mail between shards of one broker. Delivery may be lost when a shard stops; the sender repeats
// until it is answered.
struct ShardMail {
  enum class Kind : uint8_t {
    kPartitions,      // metadata shard -> shard: bring these partitions of a topic to this state
    kPartitionsDone,  // shard -> metadata shard: it is committed here
    kTxnOutcome,      // coordinating shard -> shard with parts: the transaction has ended
    kTxnFollowed,     // the answer: it has ended here, too
    kTxnAsk,          // shard with parts -> coordinating shard: how did it end?
    kFence,           // metadata shard -> shard: take nothing of epochs below this one
    kFenced,          // the answer: it is committed here
    kGroupLease,      // metadata shard -> shard of a partition: a member of the group gets it
    kGroupLeased,     // the answer: with this epoch
  };
  enum class State : uint8_t { kOpen, kDropped };

  Kind kind = Kind::kPartitions;
  ShardId from;
  ShardId to;
  TopicId topic;
  std::string name = {};  // of the topic
  uint64_t version = 0;   // of the topic's configuration; higher wins
  State state = State::kOpen;
  std::vector<uint32_t> partitions;
  int64_t retention_ms = -1;
  int64_t retention_bytes = -1;
  partition::DelayConfig delays = {};
  uint32_t late_partition = 0;  // of delays.late_topic, on the receiving shard
  partition::QueueConfig queue = {};
  uint32_t dead_letter_partition = 0;  // of queue.dead_letter_topic, on the receiving shard
  partition::CompactionConfig compaction = {};
  // kTxn*; kFence, kFenced: producer and epoch.
  txn::TxnKey txn = {};
  uint16_t epoch = 0;
  bool commit = false;  // kTxnOutcome
  // kTxnAsk, for a coordinator that does not know it.
  std::string group = {};  // of producers; kGroup*: of consumers
  std::string reference = {};
  uint32_t timeout_ms = 0;
  PartitionId partition = {};  // kGroup*
  uint32_t group_epoch = 0;    // kGroupLeased
  int64_t age_ms = 0;  // since its first part there: log times of two shards may be far apart
};

// Implemented by the server (real) and by the simulator. Calls never re-enter the shard.
class Outbox {
 public:
  virtual ~Outbox() = default;
  // The frame's correlation and type are already set from `to`. Dropped silently if the connection
  // is gone.
  virtual void reply(const ReplyTo& to, protocol::OutFrame frame) = 0;
  virtual void mail(ShardMail mail) = 0;
};

}  // namespace tidemark::shard
