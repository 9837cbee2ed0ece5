#include "tidemark/admin.h"

#include <algorithm>
#include <map>

#include "clients/cpp/src/call.h"
#include "clients/cpp/src/topic_config.h"

namespace tidemark::client {

namespace {

using client_core::Asker;
using client_core::Call;
using client_core::Cluster;
using client_core::describe;
using client_core::finished_copy;
using client_core::Home;
using client_core::home_of;
using client_core::may_ask_again;
using client_core::Reply;
using client_core::table_of;
using client_core::to_public;
using client_core::until_answered;
using protocol::FrameType;
namespace fbs = protocol::fbs;

Result<TopicDescription> topic_reply(const Reply& reply, std::string_view name) {
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  TopicDescription topic;
  const fbs::TopicInfo* const info = table_of<fbs::TopicReply>(reply).topic();
  if (info != nullptr) {
    topic = describe(*info);
  }
  topic.name = name;
  return topic;
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
    Asker& asker, const TopicDescription& topic, const std::vector<OffsetQuery>& queries) {
  std::map<Home, std::vector<size_t>> by_home;
  for (size_t i = 0; i < queries.size(); ++i) {
    if (queries[i].partition >= topic.partitions.size()) {
      return tidemark::Status(tidemark::ErrorCode::kUnknownPartition,
                              "topic \"" + topic.name + "\" has " +
                                  std::to_string(topic.partitions.size()) +
                                  " partitions, asked was " + std::to_string(queries[i].partition));
    }
    const PartitionPlace& place = topic.partitions[queries[i].partition];
    by_home[home_of(place)].push_back(i);
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
  const std::map<Home, Reply> replies = asker.ask_homes(FrameType::kListOffsets, std::move(tables));
  RETURN_IF_ERROR(client_core::first_failure(replies));
  std::vector<OffsetAnswer> answers(queries.size());
  for (const auto& [home, reply] : replies) {
    const auto* table = &table_of<fbs::ListOffsetsReply>(reply);
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
    Asker& asker, const TopicDescription& topic) {
  std::map<Home, std::vector<uint32_t>> by_home;
  for (const PartitionPlace& place : topic.partitions) {
    by_home[home_of(place)].push_back(place.partition);
  }
  std::map<Home, Buffer> tables;
  for (const auto& [home, partitions] : by_home) {
    flatbuffers::FlatBufferBuilder builder(256);
    builder.Finish(
        fbs::CreatePartitionDescribe(builder, topic.id, builder.CreateVector(partitions)));
    tables[home] = finished_copy(builder);
  }
  const std::map<Home, Reply> replies =
      asker.ask_homes(FrameType::kPartitionDescribe, std::move(tables));
  RETURN_IF_ERROR(client_core::first_failure(replies));
  std::vector<PartitionDescription> out(topic.partitions.size());
  std::vector<bool> answered(topic.partitions.size());
  for (const auto& [home, reply] : replies) {
    const auto* table = &table_of<fbs::PartitionDescribeReply>(reply);
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
  const auto table = client_core::build_topic_config(builder, config);
  builder.Finish(fbs::CreateTopicCreate(builder, text, partitions, table));
  return topic_reply(
      call.ask(FrameType::kTopicCreate, finished_copy(builder), Cluster::Repeat::kIfRefused), name);
}

Result<TopicDescription> Admin::alter_topic(std::string_view name, const TopicChange& change,
                                            int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  const client_core::Alteration alteration = client_core::alteration_of(change);
  if (alteration.set.empty()) {
    return Status(ErrorCode::kInvalidArgument, "nothing is to be changed");
  }
  flatbuffers::FlatBufferBuilder builder(256);
  const auto text = builder.CreateString(name.data(), name.size());
  const auto table = client_core::build_topic_config(builder, alteration.config);
  const auto fields = builder.CreateVectorOfStrings(alteration.set);
  builder.Finish(
      fbs::CreateTopicAlter(builder, text, table, fields, change.partitions.value_or(0)));
  // Setting the same values twice does no harm.
  return topic_reply(
      call.ask(FrameType::kTopicAlter, finished_copy(builder), Cluster::Repeat::kAlways), name);
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
  return topic_reply(
      call.ask(FrameType::kTopicDelete, finished_copy(builder), Cluster::Repeat::kIfRefused), name);
}

Result<std::vector<TopicDescription>> Admin::list_topics(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  return to_public(client_core::find_all_topics(call));
}

Result<TopicDescription> Admin::describe_topic(std::string_view name, int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  return to_public(client_core::find_topic(call, name));
}

Result<std::vector<OffsetAnswer>> Admin::list_offsets(std::string_view topic,
                                                      const std::vector<OffsetQuery>& queries,
                                                      int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(
      until_answered<std::vector<OffsetAnswer>>(call, topic, [&](const TopicDescription& found) {
        if (!queries.empty()) {
          return list_offsets_once(call, found, queries);
        }
        std::vector<OffsetQuery> ends;
        for (const PartitionPlace& place : found.partitions) {
          ends.push_back({.partition = place.partition, .at = OffsetQuery::At::kEnd});
        }
        return list_offsets_once(call, found, ends);
      }));
}

Result<std::vector<PartitionDescription>> Admin::describe_partitions(std::string_view topic,
                                                                     int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(until_answered<std::vector<PartitionDescription>>(
      call, topic,
      [&](const TopicDescription& found) { return describe_partitions_once(call, found); }));
}

Result<ClusterDescription> Admin::describe_cluster(int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  const tidemark::Status status = call.check();
  if (!status.ok()) {
    return to_public(status);
  }
  // An empty list would ask for every topic; one name, there or not, makes the answer small.
  const Reply reply = client_core::ask_metadata(call, {"-"});
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  auto out = call.client().on_io_thread<ClusterDescription>([](client_core::Runtime& runtime) {
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
  const auto* table = &table_of<fbs::MetadataReply>(reply);
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
