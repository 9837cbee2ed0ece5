#include "tidemark/admin.h"

#include <algorithm>
#include <map>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/client_impl.h"

namespace tidemark::client {

namespace {

using client_core::Cluster;
using client_core::kNsPerMs;
using client_core::Promise;
using client_core::Reply;
using client_core::Runtime;
using client_core::Session;
using client_core::to_public;
using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr int64_t kRetryPauseMs = 50;

int64_t now_ns() { return system_clock().monotonic().ns; }

// One admin call: its client and its deadline.
class Call {
 public:
  Call(const Client& client, int64_t deadline_ms)
      : client_(client.impl()),
        until_ns_(now_ns() + std::max<int64_t>(deadline_ms, 1) * kNsPerMs) {}

  // Ok unless the caller is on the I/O thread, where waiting would never end.
  [[nodiscard]] tidemark::Status check() const {
    return client_->runtime().on_thread()
               ? tidemark::Status(tidemark::ErrorCode::kInvalidArgument,
                                  "admin calls wait and cannot be made in a callback")
               : tidemark::Status();
  }

  Reply ask(FrameType type, const flatbuffers::FlatBufferBuilder& builder, Cluster::Repeat repeat) {
    return ask(type, Buffer::copy_of(protocol::finished(builder)), repeat);
  }

  Reply ask(FrameType type, Buffer table, Cluster::Repeat repeat) {
    auto promise = std::make_shared<Promise<Reply>>();
    Runtime* const runtime = &client_->runtime();
    runtime->post([promise, runtime, type, repeat, deadline = MonotonicTime{until_ns_},
                   table = std::move(table)] {
      runtime->cluster().call(type, table.view(), deadline, repeat,
                              [promise](Reply reply) { promise->set(std::move(reply)); });
    });
    return promise->wait();
  }

  // A pause before trying again; false when there is no time left for it.
  bool pause() const {
    if (now_ns() + kRetryPauseMs * kNsPerMs >= until_ns_) {
      return false;
    }
    static_cast<void>(Promise<bool>().wait_ms(kRetryPauseMs));
    return true;
  }

  [[nodiscard]] ClientImpl& client() { return *client_; }

  [[nodiscard]] MonotonicTime until() const { return {until_ns_}; }

 private:
  std::shared_ptr<ClientImpl> client_;
  int64_t until_ns_;
};

TopicDescription describe(const fbs::TopicInfo& info) {
  TopicDescription topic;
  topic.name = std::string(protocol::view(info.name()));
  topic.id = info.id();
  topic.created_ms = info.created_ms();
  if (info.config() != nullptr) {
    topic.config = {.retention_ms = info.config()->retention_ms(),
                    .retention_bytes = info.config()->retention_bytes()};
  }
  if (info.partitions() != nullptr) {
    for (const fbs::PartitionInfo* partition : *info.partitions()) {
      topic.partitions.push_back({.partition = partition->index(),
                                  .shard = partition->shard(),
                                  .leader = partition->leader()});
    }
  }
  return topic;
}

Result<TopicDescription> topic_reply(const Reply& reply, std::string_view name) {
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  const auto* table = *protocol::read_table<fbs::TopicReply>(reply.frame.table(), "TopicReply");
  TopicDescription topic;
  if (table->topic() != nullptr) {
    topic = describe(*table->topic());
  }
  topic.name = name;
  return topic;
}

Reply ask_metadata(Call& call, const std::vector<std::string>& names) {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto list = builder.CreateVectorOfStrings(names);
  builder.Finish(fbs::CreateMetadata(builder, list));
  return call.ask(FrameType::kMetadata, builder, Cluster::Repeat::kAlways);
}

tidemark::Result<TopicDescription> find_topic(Call& call, std::string_view name) {
  Reply reply = ask_metadata(call, {std::string(name)});
  if (!reply.status.ok()) {
    return reply.status;
  }
  const auto* table =
      *protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "MetadataReply");
  if (table->topics() != nullptr) {
    for (const fbs::TopicInfo* topic : *table->topics()) {
      if (protocol::view(topic->name()) != name) {
        continue;
      }
      RETURN_IF_ERROR(protocol::to_status(topic->error()));
      return describe(*topic);
    }
  }
  return tidemark::Status(tidemark::ErrorCode::kUnknownTopic,
                          "topic \"" + std::string(name) + "\" does not exist");
}

// --- requests to the shards of a topic ---

using Home = std::pair<uint64_t, uint16_t>;  // leader, shard

// A request per shard, answered together.
struct Gather {
  std::map<Home, Reply> replies;
  size_t missing = 0;
  Promise<bool> done;
};

// Sends one table to each home and waits for all answers. Homes without a known leader answer
// kUnavailable.
std::map<Home, Reply> ask_homes(Call& call, FrameType type, std::map<Home, Buffer> tables) {
  auto gather = std::make_shared<Gather>();
  gather->missing = tables.size();
  if (tables.empty()) {
    return {};
  }
  Runtime* const runtime = &call.client().runtime();
  runtime->post([gather, runtime, type, until = call.until(), tables = std::move(tables)] {
    Cluster& cluster = runtime->cluster();
    const MonotonicTime deadline =
        std::min(until, MonotonicTime{now_ns() + cluster.options().request_timeout_ns});
    const auto answer = [gather](Home home, Reply reply) {
      gather->replies[home] = std::move(reply);
      if (--gather->missing == 0) {
        gather->done.set(true);
      }
    };
    for (const auto& [home, table] : tables) {
      Session* const session = cluster.session_of({.shard = home.second, .leader = home.first});
      if (session == nullptr) {
        Reply reply;
        reply.status = tidemark::Status(
            tidemark::ErrorCode::kUnavailable,
            "shard " + std::to_string(home.second) + " has no leader at the moment");
        answer(home, std::move(reply));
        continue;
      }
      session->request(type, home.second, table.view(), {}, deadline,
                       [answer, home = home](Reply reply) { answer(home, std::move(reply)); });
    }
  });
  gather->done.wait();
  return std::move(gather->replies);
}

// What a status about one shard's answer means for a call that only reads.
bool may_ask_again(const tidemark::Status& status) {
  return error_is_retryable(status.code()) ||
         status.code() == tidemark::ErrorCode::kUnknownPartition;
}

Buffer finished_copy(flatbuffers::FlatBufferBuilder& builder) {
  return Buffer::copy_of(protocol::finished(builder));
}

// The first failure among the answers; tables of the others verify and have no error of the whole
// request.
tidemark::Status first_failure(const std::map<Home, Reply>& replies) {
  for (const auto& [home, reply] : replies) {
    RETURN_IF_ERROR(reply.status);
    RETURN_IF_ERROR(client_core::error_of(reply.frame).status);
  }
  return {};
}

int64_t query_time(const OffsetQuery& query) {
  switch (query.at) {
    case OffsetQuery::At::kEnd:
      return -1;
    case OffsetQuery::At::kStart:
      return -2;
    case OffsetQuery::At::kTimestamp:
      return std::max<int64_t>(query.timestamp_ms, 0);
  }
  return -1;
}

tidemark::Result<std::vector<OffsetAnswer>> list_offsets_once(
    Call& call, const TopicDescription& topic, const std::vector<OffsetQuery>& queries) {
  std::map<Home, std::vector<size_t>> by_home;
  for (size_t i = 0; i < queries.size(); ++i) {
    if (queries[i].partition >= topic.partitions.size()) {
      return tidemark::Status(tidemark::ErrorCode::kUnknownPartition,
                              "topic \"" + topic.name + "\" has " +
                                  std::to_string(topic.partitions.size()) +
                                  " partitions, asked was " + std::to_string(queries[i].partition));
    }
    const PartitionPlace& place = topic.partitions[queries[i].partition];
    by_home[{place.leader, place.shard}].push_back(i);
  }
  std::map<Home, Buffer> tables;
  for (const auto& [home, places] : by_home) {
    flatbuffers::FlatBufferBuilder builder(256);
    std::vector<flatbuffers::Offset<fbs::ListOffsetsPart>> parts;
    for (const size_t i : places) {
      parts.push_back(fbs::CreateListOffsetsPart(builder, topic.id, queries[i].partition,
                                                 query_time(queries[i])));
    }
    builder.Finish(fbs::CreateListOffsets(builder, builder.CreateVector(parts)));
    tables[home] = finished_copy(builder);
  }
  const std::map<Home, Reply> replies = ask_homes(call, FrameType::kListOffsets, std::move(tables));
  RETURN_IF_ERROR(first_failure(replies));
  std::vector<OffsetAnswer> answers(queries.size());
  for (const auto& [home, reply] : replies) {
    const auto* table =
        *protocol::read_table<fbs::ListOffsetsReply>(reply.frame.table(), "ListOffsetsReply");
    const std::vector<size_t>& places = by_home[home];
    if (table->parts() == nullptr || table->parts()->size() != places.size()) {
      return tidemark::Status(tidemark::ErrorCode::kMalformed,
                              "ListOffsetsReply does not answer every part");
    }
    for (size_t i = 0; i < places.size(); ++i) {
      const auto* part = table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i));
      const tidemark::Status status = protocol::to_status(part->error());
      if (!status.ok() && may_ask_again(status)) {
        return status;
      }
      answers[places[i]] = {.partition = queries[places[i]].partition,
                            .status = to_public(status),
                            .offset = part->offset(),
                            .timestamp_ms = part->time_ms()};
    }
  }
  return answers;
}

tidemark::Result<std::vector<PartitionDescription>> describe_partitions_once(
    Call& call, const TopicDescription& topic) {
  std::map<Home, std::vector<uint32_t>> by_home;
  for (const PartitionPlace& place : topic.partitions) {
    by_home[{place.leader, place.shard}].push_back(place.partition);
  }
  std::map<Home, Buffer> tables;
  for (const auto& [home, partitions] : by_home) {
    flatbuffers::FlatBufferBuilder builder(256);
    builder.Finish(
        fbs::CreatePartitionDescribe(builder, topic.id, builder.CreateVector(partitions)));
    tables[home] = finished_copy(builder);
  }
  const std::map<Home, Reply> replies =
      ask_homes(call, FrameType::kPartitionDescribe, std::move(tables));
  RETURN_IF_ERROR(first_failure(replies));
  std::vector<PartitionDescription> out(topic.partitions.size());
  std::vector<bool> answered(topic.partitions.size());
  for (const auto& [home, reply] : replies) {
    const auto* table = *protocol::read_table<fbs::PartitionDescribeReply>(
        reply.frame.table(), "PartitionDescribeReply");
    if (table->partitions() == nullptr) {
      continue;
    }
    for (const fbs::PartitionState* state : *table->partitions()) {
      if (state->partition() >= out.size()) {
        continue;
      }
      const tidemark::Status status = protocol::to_status(state->error());
      if (!status.ok() && may_ask_again(status)) {
        return status;
      }
      answered[state->partition()] = true;
      out[state->partition()] = {.partition = state->partition(),
                                 .status = to_public(status),
                                 .shard = state->shard(),
                                 .leader = state->leader(),
                                 .start_offset = state->start_offset(),
                                 .end_offset = state->end_offset(),
                                 .bytes = state->bytes(),
                                 .batches = state->batches(),
                                 .producers = state->producers(),
                                 .last_received_ms = state->last_received_ms()};
    }
  }
  const auto silent = std::find(answered.begin(), answered.end(), false);
  if (silent != answered.end()) {
    return tidemark::Status(tidemark::ErrorCode::kUnavailable,
                            "topic \"" + topic.name + "\": no answer about partition " +
                                std::to_string(silent - answered.begin()));
  }
  return out;
}

// Asks until there is an answer, an error that will not pass, or no time.
template <typename T, typename Once>
Result<T> until_answered(Call& call, std::string_view name, Once once) {
  tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  while (true) {
    tidemark::Result<TopicDescription> topic = find_topic(call, name);
    if (!topic.ok()) {
      return to_public(topic.error());  // was tried until the deadline
    }
    tidemark::Result<T> answer = once(call, *topic);
    if (answer.ok()) {
      return std::move(answer).value();
    }
    if (!may_ask_again(answer.error()) || !call.pause()) {
      return to_public(answer.error());
    }
  }
}

flatbuffers::Offset<fbs::TopicConfig> build_config(flatbuffers::FlatBufferBuilder& builder,
                                                   int64_t retention_ms, int64_t retention_bytes) {
  return fbs::CreateTopicConfig(builder, retention_ms, retention_bytes);
}

}  // namespace

Result<TopicDescription> Admin::create_topic(std::string_view name, uint32_t partitions,
                                             const TopicConfig& config, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  flatbuffers::FlatBufferBuilder builder(256);
  const auto text = builder.CreateString(name.data(), name.size());
  const auto table = build_config(builder, config.retention_ms, config.retention_bytes);
  builder.Finish(fbs::CreateTopicCreate(builder, text, partitions, table));
  return topic_reply(call.ask(FrameType::kTopicCreate, builder, Cluster::Repeat::kIfRefused), name);
}

Result<TopicDescription> Admin::alter_topic(std::string_view name, const TopicChange& change,
                                            int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  std::vector<std::string> set;
  if (change.retention_ms) {
    set.emplace_back("retention_ms");
  }
  if (change.retention_bytes) {
    set.emplace_back("retention_bytes");
  }
  if (change.partitions) {
    set.emplace_back("partitions");
  }
  if (set.empty()) {
    return Status(ErrorCode::kInvalidArgument, "nothing is to be changed");
  }
  flatbuffers::FlatBufferBuilder builder(256);
  const auto text = builder.CreateString(name.data(), name.size());
  const auto table =
      build_config(builder, change.retention_ms.value_or(-1), change.retention_bytes.value_or(-1));
  const auto fields = builder.CreateVectorOfStrings(set);
  builder.Finish(
      fbs::CreateTopicAlter(builder, text, table, fields, change.partitions.value_or(0)));
  // Setting the same values twice does no harm.
  return topic_reply(call.ask(FrameType::kTopicAlter, builder, Cluster::Repeat::kAlways), name);
}

Result<TopicDescription> Admin::delete_topic(std::string_view name, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  flatbuffers::FlatBufferBuilder builder(256);
  const auto text = builder.CreateString(name.data(), name.size());
  builder.Finish(fbs::CreateTopicDelete(builder, text));
  return topic_reply(call.ask(FrameType::kTopicDelete, builder, Cluster::Repeat::kIfRefused), name);
}

Result<std::vector<TopicDescription>> Admin::list_topics(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  const Reply reply = ask_metadata(call, {});
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  const auto* table =
      *protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "MetadataReply");
  std::vector<TopicDescription> topics;
  if (table->topics() != nullptr) {
    for (const fbs::TopicInfo* topic : *table->topics()) {
      if (protocol::to_status(topic->error()).ok()) {
        topics.push_back(describe(*topic));
      }
    }
  }
  std::sort(topics.begin(), topics.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return topics;
}

Result<TopicDescription> Admin::describe_topic(std::string_view name, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  auto topic = find_topic(call, name);
  if (!topic.ok()) {
    return to_public(topic.error());
  }
  return std::move(topic).value();
}

Result<std::vector<OffsetAnswer>> Admin::list_offsets(std::string_view topic,
                                                      const std::vector<OffsetQuery>& queries,
                                                      int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return until_answered<std::vector<OffsetAnswer>>(
      call, topic, [&queries](Call& each, const TopicDescription& found) {
        if (!queries.empty()) {
          return list_offsets_once(each, found, queries);
        }
        std::vector<OffsetQuery> ends;
        for (const PartitionPlace& place : found.partitions) {
          ends.push_back({.partition = place.partition, .at = OffsetQuery::At::kEnd});
        }
        return list_offsets_once(each, found, ends);
      });
}

Result<std::vector<PartitionDescription>> Admin::describe_partitions(std::string_view topic,
                                                                     int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return until_answered<std::vector<PartitionDescription>>(call, topic, describe_partitions_once);
}

Result<ClusterDescription> Admin::describe_cluster(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  // An empty list would ask for every topic; one name, there or not, makes the answer small.
  const Reply reply = ask_metadata(call, {"-"});
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  auto out = call.client().on_io_thread<ClusterDescription>([](Runtime& runtime) {
    const client_core::BrokerFacts& facts = runtime.cluster().facts();
    return ClusterDescription{.cluster_id = facts.cluster_id,
                              .node = facts.node_id,
                              .shards = facts.shards,
                              .fsync = facts.fsync,
                              .version = facts.version,
                              .message_bytes_max = facts.message_bytes_max,
                              .batch_bytes_max = facts.batch_bytes_max,
                              .frame_bytes_max = facts.frame_bytes_max,
                              .brokers = {}};
  });
  const auto* table =
      *protocol::read_table<fbs::MetadataReply>(reply.frame.table(), "MetadataReply");
  if (table->brokers() != nullptr) {
    for (const fbs::BrokerInfo* broker : *table->brokers()) {
      out.brokers.push_back({.node = broker->id(),
                             .host = std::string(protocol::view(broker->host())),
                             .port = broker->port()});
    }
  }
  return out;
}

}  // namespace tidemark::client
