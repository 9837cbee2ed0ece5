// Admin: topics, partitions and offsets. Every call waits for its answer, at most deadline_ms.
//
// Passing failures (a broker away, overloaded) are tried again until the deadline; then the last
// one is returned. A call that may have taken effect when its connection broke is not repeated:
// kOutcomeUnknown.
//
// Thread: any, except the client's I/O thread (kInvalidArgument).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"

namespace tidemark::client {

inline constexpr int64_t kAdminDeadlineMs = 10'000;

// What becomes of a delayed message that could only be delivered late_max_ms after its time.
enum class LatePolicy { kDeliver, kSkip, kDeadLetter };

struct TopicConfig {
  int64_t retention_ms = -1;     // -1: for ever
  int64_t retention_bytes = -1;  // per partition; -1: no bound
  // Bounds of pending delayed messages, per partition; -1: none. Beyond: kLimitExceeded.
  int64_t delay_pending_max = -1;
  int64_t delay_bytes_max = -1;
  LatePolicy late_policy = LatePolicy::kDeliver;
  int64_t late_max_ms = -1;     // -1: never too late
  std::string late_topic = {};  // kDeadLetter: where to
  // Queue mode: the n-th failed delivery waits for the n-th delay; behind the last one each wait is
  // retry_factor_percent of the one before, at most retry_max_ms.
  std::vector<int64_t> retry_delays_ms = {1'000};  // 1 to 16
  uint32_t retry_factor_percent = 200;             // 100 to 1000
  int64_t retry_max_ms = 300'000;
  uint32_t max_deliveries = 0;         // then a message goes to dead_letter_topic; 0: never
  std::string dead_letter_topic = {};  // with max_deliveries
  int64_t ttl_ms = -1;                 // of messages that name none; -1: they do not expire
  int64_t dedupe_window_ms = -1;       // a message id that comes again within it is stored once
  // Of the messages with a key the newest is kept; earlier ones go when they are at least so old.
  // -1: no compaction.
  int64_t compact_after_ms = -1;
  // A message without a value that is the newest of its key goes when it is so old.
  int64_t tombstone_ms = 86'400'000;
};

struct PartitionPlace {
  uint32_t partition = 0;
  uint16_t shard = 0;
  uint64_t leader = 0;  // node id; 0: none now
};

struct TopicDescription {
  std::string name;
  uint32_t id = 0;
  int64_t created_ms = 0;
  TopicConfig config;
  std::vector<PartitionPlace> partitions;  // in order
};

struct TopicChange {
  std::optional<int64_t> retention_ms = {};
  std::optional<int64_t> retention_bytes = {};
  std::optional<uint32_t> partitions = {};  // may only grow
  std::optional<int64_t> delay_pending_max = {};
  std::optional<int64_t> delay_bytes_max = {};
  std::optional<LatePolicy> late_policy = {};
  std::optional<int64_t> late_max_ms = {};
  std::optional<std::string> late_topic = {};
  std::optional<std::vector<int64_t>> retry_delays_ms = {};
  std::optional<uint32_t> retry_factor_percent = {};
  std::optional<int64_t> retry_max_ms = {};
  std::optional<uint32_t> max_deliveries = {};
  std::optional<std::string> dead_letter_topic = {};
  std::optional<int64_t> ttl_ms = {};
  std::optional<int64_t> dedupe_window_ms = {};
  std::optional<int64_t> compact_after_ms = {};
  std::optional<int64_t> tombstone_ms = {};
};

struct OffsetQuery {
  enum class At { kStart, kEnd, kTimestamp };
  uint32_t partition = 0;
  At at = At::kEnd;
  int64_t timestamp_ms = 0;  // for kTimestamp
};

struct OffsetAnswer {
  uint32_t partition = 0;
  Status status;
  uint64_t offset = 0;
  int64_t timestamp_ms = -1;  // of the message found by time; -1: none
};

struct PartitionDescription {
  uint32_t partition = 0;
  Status status;
  uint16_t shard = 0;
  uint64_t leader = 0;
  uint64_t start_offset = 0;  // first still stored
  uint64_t end_offset = 0;    // next to be written
  uint64_t bytes = 0;
  uint64_t batches = 0;
  uint32_t producers = 0;  // remembered for dedupe
  int64_t last_received_ms = 0;
};

struct BrokerPlace {
  uint64_t node = 0;
  std::string host;
  uint16_t port = 0;
};

struct ClusterDescription {
  uint64_t cluster_id = 0;
  // Of the broker that answered:
  uint64_t node = 0;
  uint16_t shards = 0;
  std::string fsync;  // "batch", "interval:100", "never"
  std::string version;
  uint32_t message_bytes_max = 0;
  uint32_t batch_bytes_max = 0;
  uint32_t frame_bytes_max = 0;
  std::vector<BrokerPlace> brokers;
};

class Admin {
 public:
  explicit Admin(const Client& client) : client_(client) {}

  // Names: [A-Za-z0-9._-]{1,200}, not "." or "..". kAlreadyExists, kInvalidArgument,
  // kLimitExceeded.
  Result<TopicDescription> create_topic(std::string_view name, uint32_t partitions,
                                        const TopicConfig& config = {},
                                        int64_t deadline_ms = kAdminDeadlineMs);
  // kUnknownTopic; kInvalidArgument when partitions would shrink or nothing is to be changed.
  Result<TopicDescription> alter_topic(std::string_view name, const TopicChange& change,
                                       int64_t deadline_ms = kAdminDeadlineMs);
  // Answers with the name; a deleted topic has nothing else. kUnknownTopic.
  Result<TopicDescription> delete_topic(std::string_view name,
                                        int64_t deadline_ms = kAdminDeadlineMs);
  // Sorted by name.
  Result<std::vector<TopicDescription>> list_topics(int64_t deadline_ms = kAdminDeadlineMs);
  // kUnknownTopic.
  Result<TopicDescription> describe_topic(std::string_view name,
                                          int64_t deadline_ms = kAdminDeadlineMs);

  // Answers in the order of the queries; an empty list asks for the end of every partition.
  Result<std::vector<OffsetAnswer>> list_offsets(std::string_view topic,
                                                 const std::vector<OffsetQuery>& queries = {},
                                                 int64_t deadline_ms = kAdminDeadlineMs);
  // All partitions, in order.
  Result<std::vector<PartitionDescription>> describe_partitions(
      std::string_view topic, int64_t deadline_ms = kAdminDeadlineMs);
  Result<ClusterDescription> describe_cluster(int64_t deadline_ms = kAdminDeadlineMs);

 private:
  Client client_;
};

}  // namespace tidemark::client
