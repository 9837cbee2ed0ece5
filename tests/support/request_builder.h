// Request frames and record batches for tests of the broker's core, and the reading of its replies:
// a client without sockets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/protocol/frame.h"
#include "broker/protocol/messages.h"
#include "log/format/batch_builder.h"

namespace tidemark::testing {

// One record batch with these values; without a producer unless one is given.
SharedBytes build_batch(std::span<const std::string> values,
                        format::BatchBuilder::Producer producer = {}, int64_t timestamp_ms = 1000);

// A message with headers.
struct MessageInput {
  std::string value;
  std::vector<std::pair<std::string, std::string>> headers = {};
};

SharedBytes build_messages(std::span<const MessageInput> messages,
                           format::Codec codec = format::Codec::kNone);

// `count` values of `value_bytes` bytes each.
SharedBytes build_batch_of(size_t count, size_t value_bytes,
                           format::BatchBuilder::Producer producer = {});

// What a connection would have parsed from the bytes of `out`.
protocol::Frame to_frame(const protocol::OutFrame& out);

// A request with this table, to no shard in particular.
template <typename Table>
protocol::Frame request_frame(flatbuffers::FlatBufferBuilder& builder,
                              flatbuffers::Offset<Table> root, protocol::FrameType type,
                              uint64_t correlation = 0, std::vector<SharedBytes> payload = {}) {
  builder.Finish(root);
  return to_frame(protocol::make_frame(type, /*reply=*/false, protocol::kNoShard, correlation,
                                       protocol::finished(builder), std::move(payload)));
}

struct ProduceInput {
  PartitionId partition;
  SharedBytes batch;
  bool ttl = false;  // some message has a tm-ttl header
};

struct FetchInput {
  PartitionId partition;
  Offset offset;
  uint32_t bytes_max = 1 << 20;
};

struct FetchLimits {
  uint32_t wait_ms = 0;
  uint32_t bytes_min = 1;
  uint32_t bytes_max = 1 << 20;
  std::vector<std::string> tags = {};
  std::string filter = {};
};

struct TopicInput {
  std::string name;
  uint32_t partitions = 1;
  int64_t retention_ms = -1;
  int64_t retention_bytes = -1;
};

protocol::Frame produce_request(std::span<const ProduceInput> parts, uint64_t correlation = 0);
protocol::Frame fetch_request(std::span<const FetchInput> parts, const FetchLimits& bounds = {},
                              uint64_t correlation = 0);
protocol::Frame init_producer_request(uint64_t correlation = 0);
protocol::Frame list_offsets_request(PartitionId partition, int64_t time_ms,
                                     uint64_t correlation = 0);
protocol::Frame describe_request(TopicId topic, std::span<const uint32_t> partitions,
                                 uint64_t correlation = 0);
protocol::Frame metadata_request(std::span<const std::string> topics, uint64_t correlation = 0);
protocol::Frame topic_create_request(const TopicInput& topic, uint64_t correlation = 0);
// Sets the named fields of `topic` only.
protocol::Frame topic_alter_request(const TopicInput& topic, std::span<const std::string> set,
                                    uint64_t correlation = 0);
protocol::Frame topic_delete_request(std::string_view name, uint64_t correlation = 0);

// Error of a reply that is an error frame; ok for any other reply.
Status error_of(const protocol::Frame& reply);
// CHECKs that it is a reply, and one of that type.
void check_type(const protocol::Frame& reply, protocol::FrameType type);

struct ProducePartResult {
  Status status;
  uint32_t retry_after_ms = 0;
  Offset base;
  int64_t received_ms = 0;
  bool duplicate = false;
  std::vector<protocol::fbs::DelayReceipt> receipts = {};  // of a schedule set
  std::vector<uint64_t> offsets = {};                      // if some messages are duplicates
};

// A message as a consumer sees it.
struct Message {
  Offset offset;
  std::string value;
  int64_t producer_id = -1;
  std::string key = {};  // empty: none
  bool has_value = true;
  std::vector<std::pair<std::string, std::string>> headers = {};
};

struct FetchPartResult {
  Status status;
  Offset high_watermark;
  Offset start;
  Offset next;
  std::vector<Message> messages;  // of all batches returned, those before the asked offset included
  size_t batches = 0;
  size_t bytes = 0;
  uint32_t filtered = 0;
  uint32_t expired = 0;
};

// These CHECK that the reply is well formed and of the right type, and verify every batch.
std::vector<ProducePartResult> read_produce_reply(const protocol::Frame& reply);
std::vector<FetchPartResult> read_fetch_reply(const protocol::Frame& reply);

template <typename T>
const T& read_reply(const protocol::Frame& reply) {
  const Result<const T*> table = protocol::read_table<T>(reply.table(), "reply");
  TIDEMARK_CHECK(table.ok(), table.status().to_string());
  return **table;
}

}  // namespace tidemark::testing
