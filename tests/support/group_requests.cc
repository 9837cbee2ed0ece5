#include "tests/support/group_requests.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

PartitionId partition_of(uint32_t topic, uint32_t index) {
  return {TopicId{topic}, PartitionIndex{index}};
}

}  // namespace

protocol::Frame group_heartbeat_request(const HeartbeatInput& input, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<fbs::GroupPartition> owned;
  for (const GroupShare& share : input.owned) {
    owned.emplace_back(share.partition.topic.value(), share.partition.index.value(), share.epoch);
  }
  const auto group = builder.CreateString(input.group);
  const auto member = builder.CreateString(input.member);
  const auto instance = builder.CreateString(input.instance);
  const auto topics = builder.CreateVectorOfStrings(input.topics);
  const auto shares = builder.CreateVectorOfStructs(owned);
  return request_frame(
      builder,
      fbs::CreateGroupHeartbeat(builder, group, member, instance, topics, input.session_timeout_ms,
                                input.wait_ms, input.generation, shares, input.leave),
      FrameType::kGroupHeartbeat, correlation);
}

protocol::Frame group_commit_request(std::string_view group, std::span<const CommitInput> items,
                                     fbs::GroupCommitKind kind, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<fbs::GroupCommitItem> wanted;
  for (const CommitInput& item : items) {
    wanted.emplace_back(item.partition.topic.value(), item.partition.index.value(), item.epoch,
                        item.offset.value());
  }
  const auto name = builder.CreateString(group.data(), group.size());
  const auto all = builder.CreateVectorOfStructs(wanted);
  return request_frame(builder, fbs::CreateGroupCommit(builder, name, kind, all),
                       FrameType::kGroupCommit, correlation);
}

protocol::Frame group_offsets_request(std::string_view group,
                                      std::span<const PartitionId> partitions,
                                      uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<fbs::GroupPartition> wanted;
  for (const PartitionId& id : partitions) {
    wanted.emplace_back(id.topic.value(), id.index.value(), 0);
  }
  const auto name = builder.CreateString(group.data(), group.size());
  const auto all = builder.CreateVectorOfStructs(wanted);
  return request_frame(builder, fbs::CreateGroupOffsets(builder, name, all),
                       FrameType::kGroupOffsets, correlation);
}

protocol::Frame group_list_request(uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(builder, fbs::CreateGroupList(builder), FrameType::kGroupList, correlation);
}

protocol::Frame group_describe_request(std::string_view group, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(group.data(), group.size());
  return request_frame(builder, fbs::CreateGroupDescribe(builder, name), FrameType::kGroupDescribe,
                       correlation);
}

protocol::Frame group_delete_request(std::string_view group, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(group.data(), group.size());
  return request_frame(builder, fbs::CreateGroupDelete(builder, name), FrameType::kGroupDelete,
                       correlation);
}

HeartbeatResult read_heartbeat_reply(const protocol::Frame& reply) {
  const auto& table = read_reply<fbs::GroupHeartbeatReply>(reply);
  HeartbeatResult result{table.generation(), {}, table.members()};
  for (uint32_t i = 0; table.assigned() != nullptr && i < table.assigned()->size(); ++i) {
    const fbs::GroupPartition& one = *table.assigned()->Get(i);
    result.assigned.push_back({partition_of(one.topic(), one.partition()), one.epoch()});
  }
  return result;
}

std::vector<GroupCommitOutcome> read_group_commit_reply(const protocol::Frame& reply) {
  const auto& table = read_reply<fbs::GroupCommitReply>(reply);
  std::vector<GroupCommitOutcome> results;
  for (uint32_t i = 0; table.results() != nullptr && i < table.results()->size(); ++i) {
    const fbs::GroupCommitResult& one = *table.results()->Get(i);
    results.push_back({protocol::to_status(one.error()), Offset{one.offset()}, one.epoch()});
  }
  return results;
}

std::vector<GroupOffsetResult> read_group_offsets_reply(const protocol::Frame& reply) {
  const auto& table = read_reply<fbs::GroupOffsetsReply>(reply);
  std::vector<GroupOffsetResult> results;
  for (uint32_t i = 0; table.offsets() != nullptr && i < table.offsets()->size(); ++i) {
    const fbs::GroupOffset& one = *table.offsets()->Get(i);
    GroupOffsetResult result;
    result.status = protocol::to_status(one.error());
    result.partition = partition_of(one.topic(), one.partition());
    if (one.committed() >= 0) {
      result.committed = Offset{static_cast<uint64_t>(one.committed())};
    }
    result.epoch = one.epoch();
    result.committed_ms = one.committed_ms();
    result.start = Offset{one.start_offset()};
    result.end = Offset{one.end_offset()};
    results.push_back(result);
  }
  return results;
}

}  // namespace tidemark::testing
