#include "clients/cpp/src/group_calls.h"

#include <algorithm>
#include <set>

#include "clients/cpp/src/txn_calls.h"

namespace tidemark::client_core {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

constexpr uint16_t kMetadataShard = 0;

template <typename Item>
std::map<Home, std::vector<size_t>> by_home(const std::vector<Item>& items) {
  std::map<Home, std::vector<size_t>> out;
  for (size_t i = 0; i < items.size(); ++i) {
    if constexpr (std::is_same_v<Item, GroupPlace>) {
      out[items[i].home].push_back(i);
    } else {
      out[items[i].place.home].push_back(i);
    }
  }
  return out;
}

void take_offset(const fbs::GroupOffset& table, GroupOffset& out) {
  out.status = protocol::to_status(table.error());
  out.place.topic = table.topic();
  out.place.partition = table.partition();
  if (table.committed() >= 0) {
    out.committed = static_cast<uint64_t>(table.committed());
    out.committed_ms = table.committed_ms();
  }
  out.epoch = table.epoch();
  out.start_offset = table.start_offset();
  out.end_offset = table.end_offset();
}

Buffer build_offsets(std::string_view group, const std::vector<fbs::GroupPartition>& partitions) {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto name = builder.CreateString(group.data(), group.size());
  const auto wanted = builder.CreateVectorOfStructs(partitions);
  builder.Finish(fbs::CreateGroupOffsets(builder, name, wanted));
  return finished_copy(builder);
}

Buffer build_describe(std::string_view group) {
  flatbuffers::FlatBufferBuilder builder(128);
  const auto name = builder.CreateString(group.data(), group.size());
  builder.Finish(fbs::CreateGroupDescribe(builder, name));
  return finished_copy(builder);
}

client::TopicPartition named(const std::map<uint32_t, std::string>& names, uint32_t topic,
                             uint32_t partition) {
  const auto name = names.find(topic);
  return {name != names.end() ? name->second : "#" + std::to_string(topic), partition};
}

void take_members(const fbs::GroupDescribeReply& reply,
                  const std::map<uint32_t, std::string>& names, client::GroupDescription& out) {
  out.generation = reply.generation();
  if (reply.members() == nullptr) {
    return;
  }
  for (const fbs::GroupMember* member : *reply.members()) {
    client::GroupMemberInfo info;
    info.member = protocol::view(member->member());
    info.instance = protocol::view(member->instance());
    if (member->topics() != nullptr) {
      for (const auto* topic : *member->topics()) {
        info.topics.emplace_back(protocol::view(topic));
      }
    }
    if (member->assigned() != nullptr) {
      for (const fbs::GroupPartition* one : *member->assigned()) {
        info.assigned.push_back(named(names, one->topic(), one->partition()));
      }
    }
    info.heard_ms_ago = static_cast<int64_t>(member->heard_ms_ago());
    info.session_timeout_ms = member->session_timeout_ms();
    out.members.push_back(std::move(info));
  }
}

// Everything of one group that the shards know: positions, and partitions that members have.
struct Positions {
  std::vector<GroupOffset> all;
  bool known = false;
};

Result<Positions> all_positions(Asker& asker, std::string_view group, const ClusterShards& shards) {
  std::map<Home, Buffer> tables;
  for (const Home& home : shards.homes) {
    tables[home] = build_offsets(group, {});
  }
  Positions out;
  for (const auto& [home, reply] : asker.ask_homes(FrameType::kGroupOffsets, std::move(tables))) {
    RETURN_IF_ERROR(reply.status);
    const auto& table = table_of<fbs::GroupOffsetsReply>(reply);
    if (table.offsets() == nullptr) {
      continue;
    }
    for (const fbs::GroupOffset* offset : *table.offsets()) {
      take_offset(*offset, out.all.emplace_back());
      out.all.back().place.home = home;
      out.known = true;
    }
  }
  return out;
}

// Partitions that members have and that the group has no position in yet.
Status add_unread(Asker& asker, std::string_view group, const client::GroupDescription& described,
                  std::vector<GroupOffset>& all) {
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (const GroupOffset& one : all) {
    seen.emplace(one.place.topic, one.place.partition);
  }
  std::map<std::string, client::TopicDescription> topics;
  std::vector<GroupPlace> unread;
  for (const client::GroupMemberInfo& member : described.members) {
    for (const client::TopicPartition& one : member.assigned) {
      auto topic = topics.find(one.topic);
      if (topic == topics.end()) {
        ASSIGN_OR_RETURN(auto found, find_topic(asker, one.topic));
        topic = topics.emplace(one.topic, std::move(found)).first;
      }
      const client::TopicDescription& about = topic->second;
      if (one.partition < about.partitions.size() && seen.emplace(about.id, one.partition).second) {
        unread.push_back({about.id, one.partition, home_of(about.partitions[one.partition])});
      }
    }
  }
  for (GroupOffset& offset : group_offsets(asker, group, unread)) {
    RETURN_IF_ERROR(offset.status);
    all.push_back(std::move(offset));
  }
  return Status();
}

Result<client::GroupDescription> describe_once(Asker& asker, std::string_view group) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  std::map<Home, Buffer> ask;
  ask[shards.homes.at(kMetadataShard)] = build_describe(group);
  const auto replies = asker.ask_homes(FrameType::kGroupDescribe, std::move(ask));
  const Reply& described = replies.begin()->second;
  const bool no_members = described.status.code() == ErrorCode::kNotFound;
  client::GroupDescription out;
  out.group = group;
  if (!no_members) {
    RETURN_IF_ERROR(described.status);
    take_members(table_of<fbs::GroupDescribeReply>(described), shards.names, out);
  }
  ASSIGN_OR_RETURN(Positions positions, all_positions(asker, group, shards));
  if (no_members && !positions.known) {
    return Status(ErrorCode::kNotFound, "consumer group \"" + std::string(group) + "\"");
  }
  RETURN_IF_ERROR(add_unread(asker, group, out, positions.all));
  for (const GroupOffset& offset : positions.all) {
    if (!offset.status.ok()) {
      continue;  // its topic is being dropped
    }
    client::GroupLag lag;
    lag.partition = named(shards.names, offset.place.topic, offset.place.partition);
    lag.shard = offset.place.home.second;
    lag.committed = offset.committed;
    lag.committed_ms = offset.committed_ms;
    lag.epoch = offset.epoch;
    lag.start_offset = offset.start_offset;
    lag.end_offset = offset.end_offset;
    lag.lag = offset.lag();
    for (const client::GroupMemberInfo& member : out.members) {
      if (std::find(member.assigned.begin(), member.assigned.end(), lag.partition) !=
          member.assigned.end()) {
        lag.member = member.member;
      }
    }
    out.lag += lag.lag;
    out.partitions.push_back(std::move(lag));
  }
  std::sort(out.partitions.begin(), out.partitions.end(),
            [](const client::GroupLag& a, const client::GroupLag& b) {
              return a.partition < b.partition;
            });
  return out;
}

Result<std::vector<client::GroupSummary>> list_once(Asker& asker) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  flatbuffers::FlatBufferBuilder builder(64);
  builder.Finish(fbs::CreateGroupList(builder));
  std::map<Home, Buffer> tables;
  for (const Home& home : shards.homes) {
    tables[home] = finished_copy(builder);
  }
  std::map<std::string, client::GroupSummary> found;
  for (const auto& [home, reply] : asker.ask_homes(FrameType::kGroupList, std::move(tables))) {
    RETURN_IF_ERROR(reply.status);
    const auto& table = table_of<fbs::GroupListReply>(reply);
    if (table.groups() == nullptr) {
      continue;
    }
    for (const fbs::GroupSummary* one : *table.groups()) {
      client::GroupSummary& summary = found[std::string(protocol::view(one->group()))];
      summary.members += one->members();
      summary.partitions += one->partitions();
      summary.queues += one->queues();
    }
  }
  std::vector<client::GroupSummary> out;
  for (auto& [name, summary] : found) {
    summary.group = name;
    out.push_back(std::move(summary));
  }
  return out;
}

// The offset that a position means; asked of the partition.
Result<uint64_t> offset_of(Asker& asker, const GroupPlace& place, const client::Position& to) {
  if (to.kind() == client::Position::Kind::kOffset) {
    return static_cast<uint64_t>(to.value());
  }
  const int64_t time_ms = to.kind() == client::Position::Kind::kStart ? -2
                          : to.kind() == client::Position::Kind::kEnd ? -1
                                                                      : to.value();
  flatbuffers::FlatBufferBuilder builder(128);
  const auto part = fbs::CreateListOffsetsPart(builder, place.topic, place.partition, time_ms);
  const auto parts = builder.CreateVector(&part, 1);
  builder.Finish(fbs::CreateListOffsets(builder, parts));
  std::map<Home, Buffer> tables;
  tables[place.home] = finished_copy(builder);
  const auto replies = asker.ask_homes(FrameType::kListOffsets, std::move(tables));
  const Reply& reply = replies.begin()->second;
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::ListOffsetsReply>(reply);
  if (table.parts() == nullptr || table.parts()->size() != 1) {
    return Status(ErrorCode::kMalformed, "ListOffsetsReply without its part");
  }
  RETURN_IF_ERROR(protocol::to_status(table.parts()->Get(0)->error()));
  return table.parts()->Get(0)->offset();
}

Result<uint64_t> remove_once(Asker& asker, std::string_view group) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  flatbuffers::FlatBufferBuilder builder(128);
  const auto name = builder.CreateString(group.data(), group.size());
  builder.Finish(fbs::CreateGroupDelete(builder, name));
  uint64_t forgotten = 0;
  // The metadata shard first: it knows whether there are members.
  for (size_t i = 0; i < shards.homes.size(); ++i) {
    std::map<Home, Buffer> tables;
    tables[shards.homes[i]] = finished_copy(builder);
    const auto replies = asker.ask_homes(FrameType::kGroupDelete, std::move(tables));
    const Reply& reply = replies.begin()->second;
    RETURN_IF_ERROR(reply.status);
    forgotten += table_of<fbs::GroupDeleteReply>(reply).partitions();
  }
  return forgotten;
}

}  // namespace

std::vector<GroupCommitted> commit_group(Asker& asker, std::string_view group,
                                         fbs::GroupCommitKind kind,
                                         const std::vector<GroupCommitItem>& items) {
  std::vector<GroupCommitted> out(items.size());
  const auto build = [&](const std::vector<size_t>& chosen) {
    flatbuffers::FlatBufferBuilder builder(512);
    const auto name = builder.CreateString(group.data(), group.size());
    std::vector<fbs::GroupCommitItem> positions;
    positions.reserve(chosen.size());
    for (const size_t i : chosen) {
      positions.emplace_back(items[i].place.topic, items[i].place.partition, items[i].epoch,
                             items[i].offset);
    }
    const auto all = builder.CreateVectorOfStructs(positions);
    builder.Finish(fbs::CreateGroupCommit(builder, name, kind, all));
    return finished_copy(builder);
  };
  const auto take = [&](Home /*home*/, const std::vector<size_t>& chosen, const Reply& reply) {
    const auto* results =
        reply.status.ok() ? table_of<fbs::GroupCommitReply>(reply).results() : nullptr;
    for (size_t i = 0; i < chosen.size(); ++i) {
      GroupCommitted& one = out[chosen[i]];
      if (results == nullptr || results->size() != chosen.size()) {
        one.status =
            reply.status.ok() ? Status(ErrorCode::kMalformed, "GroupCommitReply") : reply.status;
        continue;
      }
      const fbs::GroupCommitResult& result = *results->Get(static_cast<uint32_t>(i));
      one = {protocol::to_status(result.error()), result.offset(), result.epoch()};
    }
  };
  ask_in_chunks(asker, FrameType::kGroupCommit, by_home(items), kGroupItemsPerRequestMax, build,
                take);
  return out;
}

std::vector<GroupOffset> group_offsets(Asker& asker, std::string_view group,
                                       const std::vector<GroupPlace>& places) {
  std::vector<GroupOffset> out(places.size());
  if (places.empty()) {
    return out;
  }
  const auto build = [&](const std::vector<size_t>& chosen) {
    std::vector<fbs::GroupPartition> wanted;
    wanted.reserve(chosen.size());
    for (const size_t i : chosen) {
      wanted.emplace_back(places[i].topic, places[i].partition, 0);
    }
    return build_offsets(group, wanted);
  };
  const auto take = [&](Home /*home*/, const std::vector<size_t>& chosen, const Reply& reply) {
    const auto* offsets =
        reply.status.ok() ? table_of<fbs::GroupOffsetsReply>(reply).offsets() : nullptr;
    for (size_t i = 0; i < chosen.size(); ++i) {
      GroupOffset& one = out[chosen[i]];
      if (offsets == nullptr || offsets->size() != chosen.size()) {
        one.status =
            reply.status.ok() ? Status(ErrorCode::kMalformed, "GroupOffsetsReply") : reply.status;
      } else {
        take_offset(*offsets->Get(static_cast<uint32_t>(i)), one);
      }
      one.place = places[chosen[i]];
    }
  };
  ask_in_chunks(asker, FrameType::kGroupOffsets, by_home(places), kGroupItemsPerRequestMax, build,
                take);
  return out;
}

Result<std::vector<client::GroupSummary>> list_groups(Asker& asker) {
  return until_answered<std::vector<client::GroupSummary>>(asker, [&] { return list_once(asker); });
}

Result<client::GroupDescription> describe_group(Asker& asker, std::string_view group) {
  return until_answered<client::GroupDescription>(asker,
                                                  [&] { return describe_once(asker, group); });
}

Result<std::vector<client::GroupResetResult>> reset_group(
    Asker& asker, std::string_view group, const std::vector<client::GroupReset>& resets,
    bool force) {
  RETURN_IF_ERROR(asker.check());
  if (!force) {
    const Result<client::GroupDescription> present = describe_group(asker, group);
    if (present.ok() && !present->members.empty()) {
      return Status(ErrorCode::kConflict, "consumer group \"" + std::string(group) + "\" has " +
                                              std::to_string(present->members.size()) + " members");
    }
    if (!present.ok() && present.error().code() != ErrorCode::kNotFound) {
      return present.error();
    }
  }
  std::vector<client::GroupResetResult> out(resets.size());
  std::vector<GroupCommitItem> items;
  std::vector<size_t> which;
  for (size_t i = 0; i < resets.size(); ++i) {
    out[i].partition = resets[i].partition;
    ASSIGN_OR_RETURN(const auto topic, find_topic(asker, resets[i].partition.topic));
    if (resets[i].partition.partition >= topic.partitions.size()) {
      return Status(ErrorCode::kInvalidArgument, "topic \"" + topic.name + "\" has " +
                                                     std::to_string(topic.partitions.size()) +
                                                     " partitions");
    }
    GroupCommitItem item;
    item.place = {topic.id, resets[i].partition.partition,
                  home_of(topic.partitions[resets[i].partition.partition])};
    const Result<uint64_t> offset = offset_of(asker, item.place, resets[i].to);
    if (!offset.ok()) {
      out[i].status = to_public(offset.error());
      continue;
    }
    item.offset = *offset;
    items.push_back(item);
    which.push_back(i);
  }
  const auto done = commit_group(asker, group, fbs::GroupCommitKind::kReset, items);
  for (size_t i = 0; i < which.size(); ++i) {
    out[which[i]].status = to_public(done[i].status);
    out[which[i]].offset = done[i].offset;
  }
  return out;
}

Result<uint64_t> remove_group(Asker& asker, std::string_view group) {
  // A group that works in queue mode alone has neither members nor positions.
  const Result<client::GroupDescription> present = describe_group(asker, group);
  if (!present.ok() && present.error().code() != ErrorCode::kNotFound) {
    return present.error();
  }
  const Result<uint64_t> removed =
      until_answered<uint64_t>(asker, [&] { return remove_once(asker, group); });
  if (!present.ok() && removed.ok() && *removed == 0) {
    return present.error();
  }
  return removed;
}

}  // namespace tidemark::client_core
