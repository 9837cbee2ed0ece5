// Consumer groups. The metadata shard coordinates who works on what (broker/group/coordinator.h);
// the shard of a partition records how far its groups are, and gives out the epochs that fence
// members who lost it.
//
//   metadata shard: lease wanted --kGroupLease mailed until--> shard: GroupLease committed
//                                <--kGroupLeased (epoch)--
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/format/message_properties.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr size_t kGroupsInListMax = 10'000;

Status check_name(std::string_view group) {
  if (group.empty() || group.size() > limits::kGroupNameBytesMax) {
    return Status(ErrorCode::kInvalidArgument, "a consumer group has a name of 1 to " +
                                                   std::to_string(limits::kGroupNameBytesMax) +
                                                   " bytes");
  }
  return Status();
}

PartitionId id_of(const fbs::GroupPartition& partition) {
  return {TopicId{partition.topic()}, PartitionIndex{partition.partition()}};
}

std::vector<fbs::GroupPartition> to_wire(const std::vector<group::OwnedPartition>& owned) {
  std::vector<fbs::GroupPartition> out;
  out.reserve(owned.size());
  for (const group::OwnedPartition& one : owned) {
    out.emplace_back(one.partition.topic.value(), one.partition.index.value(), one.epoch);
  }
  return out;
}

Status unknown(PartitionId id, ShardId shard) {
  return Status(ErrorCode::kUnknownPartition, "topic id " + std::to_string(id.topic.value()) +
                                                  " partition " + std::to_string(id.index.value()) +
                                                  " on shard " + std::to_string(shard.value()));
}

Status commit_status(const group::CommitOutcome& outcome) {
  if (outcome.error == ErrorCode::kOk) {
    return Status();
  }
  if (outcome.error == ErrorCode::kFenced) {
    return Status(outcome.error,
                  "the partition is leased with epoch " + std::to_string(outcome.position.epoch));
  }
  if (outcome.error == ErrorCode::kOffsetOutOfRange) {
    return Status(outcome.error, "a position lies at most at the end of its partition");
  }
  return Status(outcome.error, "position of a consumer group");
}

Status check_heartbeat(const fbs::GroupHeartbeat& request) {
  RETURN_IF_ERROR(check_name(protocol::view(request.group())));
  const size_t member_bytes = protocol::view(request.member()).size();
  if (member_bytes == 0 || member_bytes > limits::kGroupMemberBytesMax) {
    return Status(
        ErrorCode::kInvalidArgument,
        "a member has an id of 1 to " + std::to_string(limits::kGroupMemberBytesMax) + " bytes");
  }
  if (protocol::view(request.instance()).size() > limits::kGroupNameBytesMax) {
    return Status(ErrorCode::kInvalidArgument, "an instance has a name of at most " +
                                                   std::to_string(limits::kGroupNameBytesMax) +
                                                   " bytes");
  }
  if (request.topics() != nullptr && request.topics()->size() > limits::kGroupTopicsMax) {
    return Status(
        ErrorCode::kInvalidArgument,
        "a subscription has at most " + std::to_string(limits::kGroupTopicsMax) + " topics");
  }
  if (request.session_timeout_ms() < limits::kGroupSessionMsMin ||
      request.session_timeout_ms() > limits::kGroupSessionMsMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "a session timeout of " + std::to_string(request.session_timeout_ms()) +
                      " ms; allowed are " + std::to_string(limits::kGroupSessionMsMin) + " to " +
                      std::to_string(limits::kGroupSessionMsMax));
  }
  return Status();
}

group::Heartbeat read_heartbeat(const fbs::GroupHeartbeat& request) {
  group::Heartbeat heartbeat;
  heartbeat.group = protocol::view(request.group());
  heartbeat.member = protocol::view(request.member());
  heartbeat.instance = protocol::view(request.instance());
  if (request.topics() != nullptr) {
    for (const auto* topic : *request.topics()) {
      heartbeat.topics.emplace_back(protocol::view(topic));
    }
  }
  heartbeat.session_timeout_ms = request.session_timeout_ms();
  heartbeat.wait_ms = std::min(request.wait_ms_max(), request.session_timeout_ms() / 3);
  heartbeat.generation = request.generation();
  if (request.owned() != nullptr) {
    for (const fbs::GroupPartition* one : *request.owned()) {
      heartbeat.owned.push_back({id_of(*one), one->epoch()});
    }
  }
  heartbeat.leave = request.leave();
  return heartbeat;
}

}  // namespace

std::vector<PartitionId> Shard::partitions_of(std::string_view topic) const {
  std::vector<PartitionId> out;
  if (const meta::Topic* found = views_.catalog().find(topic);
      found != nullptr && found->state != meta::TopicState::kDropping) {
    for (uint32_t i = 0; i < found->shards.size(); ++i) {
      out.push_back({found->id, PartitionIndex{i}});
    }
  }
  return out;
}

// --- members

void Shard::on_group_heartbeat(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::GroupHeartbeat*> request =
      protocol::read_table<fbs::GroupHeartbeat>(frame.table(), "GroupHeartbeat");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  Status status = options_.shard == ShardId{0}
                      ? may_write()
                      : Status(ErrorCode::kWrongShard, "groups are coordinated by shard 0");
  if (status.ok()) {
    status = check_heartbeat(**request);
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  const uint64_t ticket = next_heartbeat_++;
  heartbeats_.emplace(ticket, from);
  coordinator_.heartbeat(read_heartbeat(**request), ticket, now.monotonic);
  answer_heartbeats();
  mail_leases(now);
}

void Shard::answer_heartbeats() {
  for (auto& [ticket, answer] : coordinator_.take_answers()) {
    const auto it = heartbeats_.find(ticket);
    if (it == heartbeats_.end()) {
      continue;
    }
    const ReplyTo to = it->second;
    heartbeats_.erase(it);
    if (!answer.status.ok()) {
      refuse(to, answer.status);
      continue;
    }
    const auto assigned = builder_.CreateVectorOfStructs(to_wire(answer.assigned));
    fbs::GroupHeartbeatReplyBuilder reply(builder_);
    reply.add_generation(answer.generation);
    reply.add_assigned(assigned);
    reply.add_members(answer.members);
    send_reply(to, reply.Finish());
  }
}

void Shard::mail_leases(const Now& now) {
  for (const group::LeaseWanted& wanted : coordinator_.take_leases(now.monotonic)) {
    const meta::Topic* topic = views_.catalog().find(wanted.partition.topic);
    if (topic == nullptr || wanted.partition.index.value() >= topic->shards.size()) {
      continue;
    }
    ShardMail mail =
        new_mail(ShardMail::Kind::kGroupLease, topic->shards[wanted.partition.index.value()]);
    mail.group = wanted.group;
    mail.partition = wanted.partition;
    outbox_.mail(std::move(mail));
  }
}

void Shard::drive_groups(const Now& now) {
  if (options_.shard != ShardId{0} || role_ != replica::Role::kLeader || stopping_) {
    return;
  }
  if (const uint64_t version = views_.catalog().changes(); version != topics_seen_) {
    topics_seen_ = version;
    coordinator_.topics_changed(now.monotonic);
  }
  coordinator_.tick(now.monotonic);
  answer_heartbeats();
  mail_leases(now);
}

void Shard::forget_heartbeats(uint32_t loop, uint64_t connection) {
  for (auto it = heartbeats_.begin(); it != heartbeats_.end();) {
    if (it->second.loop == loop && it->second.connection == connection) {
      coordinator_.forget(it->first);
      it = heartbeats_.erase(it);
    } else {
      ++it;
    }
  }
}

// --- leases

void Shard::on_group_lease_mail(const ShardMail& mail, const Now& now) {
  const LeaseName name{mail.group, mail.partition};
  if (views_.find(mail.partition) == nullptr || !may_write().ok() ||
      !leases_in_flight_.insert(name).second) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  const auto group = body.CreateString(mail.group);
  format::fbs::GroupLeaseBuilder record(body);
  record.add_group(group);
  record.add_topic(mail.partition.topic.value());
  record.add_partition(mail.partition.index.value());
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  GroupPending pending;
  pending.kind = GroupPending::Kind::kLease;
  pending.shard = mail.from;
  pending.lease = name;
  gather(format::RecordKind::kGroupLease, body, group_record(std::move(pending)));
}

Shard::PendingRecord Shard::group_record(GroupPending pending) {
  PendingRecord record;
  record.kind = PendingRecord::Kind::kGroup;
  record.group = std::make_unique<GroupPending>(std::move(pending));
  return record;
}

void Shard::on_group_leased_mail(const ShardMail& mail, const Now& now) {
  // Members are told at the end of the turn, of all leases that came in it.
  coordinator_.leased(mail.group, mail.partition, mail.group_epoch, now.monotonic);
  leases_came_ = true;
}

// --- positions

void Shard::on_group_commit(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::GroupCommit*> request =
      protocol::read_table<fbs::GroupCommit>(frame.table(), "GroupCommit");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const fbs::GroupCommit& commit = **request;
  Status status = check_name(protocol::view(commit.group()));
  const auto* items = commit.items();
  if (status.ok() && (items == nullptr || items->size() == 0 ||
                      items->size() > limits::kGroupItemsPerRequestMax)) {
    status = Status(
        ErrorCode::kInvalidArgument,
        "1 to " + std::to_string(limits::kGroupItemsPerRequestMax) + " positions are allowed");
  }
  if (status.ok() && commit.kind() > fbs::GroupCommitKind::kReset) {
    status = Status(ErrorCode::kInvalidArgument, "the kind of a commit is 0, 1 or 2");
  }
  if (status.ok()) {
    status = may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  flatbuffers::FlatBufferBuilder body;
  const auto group = body.CreateString(commit.group()->c_str(), commit.group()->size());
  std::vector<format::fbs::GroupPosition> positions;
  positions.reserve(items->size());
  for (const auto* item : *items) {
    positions.emplace_back(item->topic(), item->partition(), item->epoch(), item->offset());
  }
  const auto all = body.CreateVectorOfStructs(positions);
  format::fbs::GroupCommitBuilder record(body);
  record.add_group(group);
  record.add_kind(static_cast<uint8_t>(commit.kind()));
  record.add_positions(all);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  GroupPending pending;
  pending.kind = GroupPending::Kind::kCommit;
  pending.to = from;
  gather(format::RecordKind::kGroupCommit, body, group_record(std::move(pending)));
}

void Shard::reply_group_commit(const ReplyTo& to, const RecordOutcome& outcome) {
  const auto& commits = views_.group_commits();
  std::vector<flatbuffers::Offset<fbs::GroupCommitResult>> results;
  results.reserve(outcome.receipts);
  for (uint32_t i = 0; i < outcome.receipts; ++i) {
    const group::CommitOutcome& done = commits[outcome.first_receipt + i];
    const auto error = protocol::build_error(builder_, commit_status(done));
    fbs::GroupCommitResultBuilder result(builder_);
    if (done.error != ErrorCode::kOk) {
      result.add_error(error);
    }
    result.add_offset(done.position.offset.value());
    result.add_epoch(done.position.epoch);
    results.push_back(result.Finish());
  }
  const auto all = builder_.CreateVector(results);
  fbs::GroupCommitReplyBuilder reply(builder_);
  reply.add_results(all);
  send_reply(to, reply.Finish());
}

flatbuffers::Offset<fbs::GroupOffset> Shard::build_group_offset(PartitionId id,
                                                                const group::Position* position) {
  const partition::Partition* const partition = views_.find(id);
  flatbuffers::Offset<fbs::Error> error;
  if (partition == nullptr) {
    error = protocol::build_error(builder_, unknown(id, options_.shard));
  }
  fbs::GroupOffsetBuilder offset(builder_);
  offset.add_topic(id.topic.value());
  offset.add_partition(id.index.value());
  if (partition == nullptr) {
    offset.add_error(error);
    return offset.Finish();
  }
  if (position != nullptr) {
    offset.add_epoch(position->epoch);
    if (position->committed) {
      offset.add_committed(static_cast<int64_t>(position->offset.value()));
      offset.add_committed_ms(position->committed_ms);
    }
  }
  offset.add_start_offset(partition->start().value());
  offset.add_end_offset(std::max(visible_end(*partition), partition->start()).value());
  return offset.Finish();
}

void Shard::on_group_offsets(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::GroupOffsets*> request =
      protocol::read_table<fbs::GroupOffsets>(frame.table(), "GroupOffsets");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->group());
  const auto* wanted = (*request)->partitions();
  Status status = check_name(name);
  if (status.ok() && wanted != nullptr && wanted->size() > limits::kGroupItemsPerRequestMax) {
    status = Status(ErrorCode::kInvalidArgument,
                    "at most " + std::to_string(limits::kGroupItemsPerRequestMax) +
                        " partitions, or none for all");
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  std::vector<flatbuffers::Offset<fbs::GroupOffset>> offsets;
  if (wanted != nullptr && wanted->size() > 0) {
    for (const fbs::GroupPartition* one : *wanted) {
      const PartitionId id = id_of(*one);
      offsets.push_back(build_group_offset(id, views_.positions().find(name, id)));
    }
  } else if (const auto* all = views_.positions().find(name); all != nullptr) {
    for (const auto& [id, position] : *all) {
      offsets.push_back(build_group_offset(id, &position));
    }
  }
  const auto all = builder_.CreateVector(offsets);
  fbs::GroupOffsetsReplyBuilder reply(builder_);
  reply.add_offsets(all);
  send_reply(from, reply.Finish());
}

// --- operators

void Shard::on_group_list(const ReplyTo& from, const protocol::Frame& frame) {
  if (const auto request = protocol::read_table<fbs::GroupList>(frame.table(), "GroupList");
      !request.ok()) {
    return refuse(from, request.error());
  }

  struct Counts {
    size_t members = 0;
    size_t partitions = 0;
    size_t queues = 0;
  };

  std::map<std::string_view, Counts> found;
  const std::vector<std::pair<std::string, size_t>> coordinated = coordinator_.list();
  for (const auto& [name, members] : coordinated) {
    found[name].members = members;
  }
  for (const auto& [name, positions] : views_.positions().groups()) {
    found[name].partitions = positions.size();
  }
  for (const auto& [name, queues] : views_.queues().groups()) {
    // What is settled in dead-letter topics is no consumer group.
    if (name != format::kDeadLetterGroup) {
      found[name].queues = queues.size();
    }
  }
  std::vector<flatbuffers::Offset<fbs::GroupSummary>> groups;
  for (const auto& [name, counts] : found) {
    if (groups.size() >= kGroupsInListMax) {
      break;
    }
    const auto text = builder_.CreateString(name.data(), name.size());
    groups.push_back(fbs::CreateGroupSummary(builder_, text, static_cast<uint32_t>(counts.members),
                                             static_cast<uint32_t>(counts.partitions),
                                             static_cast<uint32_t>(counts.queues)));
  }
  const auto all = builder_.CreateVector(groups);
  fbs::GroupListReplyBuilder reply(builder_);
  reply.add_groups(all);
  send_reply(from, reply.Finish());
}

void Shard::on_group_describe(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::GroupDescribe*> request =
      protocol::read_table<fbs::GroupDescribe>(frame.table(), "GroupDescribe");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->group());
  const auto info = coordinator_.describe(name, now_.monotonic);
  if (!info.has_value() && views_.positions().find(name) == nullptr) {
    return refuse(from, Status(ErrorCode::kNotFound, "consumer group " + std::string(name)));
  }
  std::vector<flatbuffers::Offset<fbs::GroupMember>> members;
  for (const group::MemberInfo& member :
       info.has_value() ? info->members : std::vector<group::MemberInfo>()) {
    const auto id = builder_.CreateString(member.member);
    const auto instance = builder_.CreateString(member.instance);
    const auto topics = builder_.CreateVectorOfStrings(member.topics);
    const auto assigned = builder_.CreateVectorOfStructs(to_wire(member.assigned));
    members.push_back(
        fbs::CreateGroupMember(builder_, id, instance, topics, assigned,
                               static_cast<uint64_t>(std::max<int64_t>(member.heard_ms_ago, 0)),
                               member.session_timeout_ms));
  }
  const auto all = builder_.CreateVector(members);
  fbs::GroupDescribeReplyBuilder reply(builder_);
  reply.add_generation(info.has_value() ? info->generation : 0);
  reply.add_members(all);
  send_reply(from, reply.Finish());
}

void Shard::on_group_delete(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::GroupDelete*> request =
      protocol::read_table<fbs::GroupDelete>(frame.table(), "GroupDelete");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->group());
  Status status = check_name(name);
  if (status.ok() && name == format::kDeadLetterGroup) {
    status = Status(ErrorCode::kInvalidArgument,
                    std::string(name) + " says which dead letters are settled, and stays");
  }
  if (status.ok() && coordinator_.members(name) > 0) {
    status =
        Status(ErrorCode::kConflict, "consumer group " + std::string(name) + " has " +
                                         std::to_string(coordinator_.members(name)) + " members");
  }
  if (status.ok() && queue_desk_.leased(name) > 0) {
    status =
        Status(ErrorCode::kConflict, "consumer group " + std::string(name) + " leases " +
                                         std::to_string(queue_desk_.leased(name)) + " messages");
  }
  if (status.ok()) {
    status = may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  flatbuffers::FlatBufferBuilder body;
  const auto text = body.CreateString(name.data(), name.size());
  format::fbs::GroupDropBuilder record(body);
  record.add_group(text);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  GroupPending pending;
  pending.kind = GroupPending::Kind::kDrop;
  pending.to = from;
  pending.group = name;
  gather(format::RecordKind::kGroupDrop, body, group_record(std::move(pending)));
}

// --- applied

void Shard::settle_group(GroupPending& pending, const RecordOutcome& outcome) {
  switch (pending.kind) {
    case GroupPending::Kind::kCommit:
      return reply_group_commit(pending.to, outcome);
    case GroupPending::Kind::kDrop: {
      queue_desk_.group_dropped(pending.group);
      fbs::GroupDeleteReplyBuilder reply(builder_);
      reply.add_partitions(outcome.receipts);
      return send_reply(pending.to, reply.Finish());
    }
    case GroupPending::Kind::kLease: {
      leases_in_flight_.erase(pending.lease);
      if (outcome.error != ErrorCode::kOk) {
        return;  // the coordinator asks again
      }
      ShardMail mail = new_mail(ShardMail::Kind::kGroupLeased, pending.shard);
      mail.group = pending.lease.first;
      mail.partition = pending.lease.second;
      mail.group_epoch = outcome.group_epoch;
      return outbox_.mail(std::move(mail));
    }
  }
}

void Shard::fail_group(GroupPending& pending, const Status& status, uint32_t retry_after_ms) {
  if (pending.kind == GroupPending::Kind::kLease) {
    leases_in_flight_.erase(pending.lease);
    return;
  }
  refuse(pending.to, status, retry_after_ms);
}

}  // namespace tidemark::shard
