// Queue mode: what operators look at.
#include <algorithm>

#include "broker/shard/queue_desk.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr size_t kQueuesInReplyMax = 10'000;
constexpr uint32_t kRangesInReplyMax = 10'000;

}  // namespace

void QueueDesk::on_describe(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::QueueDescribe*> request =
      protocol::read_table<fbs::QueueDescribe>(frame.table(), "QueueDescribe");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view group = protocol::view((*request)->group());
  if (const Status status = check_queue_group(group); !status.ok()) {
    return refuse(from, status);
  }
  std::set<PartitionId> ids;
  if (const auto* recorded = views_.queues().find(group); recorded != nullptr) {
    for (const auto& [id, state] : *recorded) {
      ids.insert(id);
    }
  }
  if (const auto it = groups_.find(group); it != groups_.end()) {
    for (const auto& [id, queue] : it->second.queues) {
      ids.insert(id);
    }
  }
  const TopicId topic{(*request)->topic()};
  std::vector<flatbuffers::Offset<fbs::QueueInfo>> queues;
  for (const PartitionId id : ids) {
    if ((topic == TopicId{0} || id.topic == topic) && queues.size() < kQueuesInReplyMax) {
      queues.push_back(build_info(group, id));
    }
  }
  const auto all = builder_.CreateVector(queues);
  fbs::QueueDescribeReplyBuilder reply(builder_);
  reply.add_queues(all);
  send_reply(from, reply.Finish());
}

flatbuffers::Offset<fbs::QueueInfo> QueueDesk::build_info(std::string_view group, PartitionId id) {
  const partition::Partition& partition = *views_.find(id);
  const queue::QueueState* const state = views_.queues().find(group, id);
  const Queue* const queue = find(group, id);
  const Offset end = std::max(host_.visible_end(partition), partition.start());
  const Offset floor =
      state == nullptr ? partition.start() : std::max(state->acks.floor(), partition.start());
  const uint64_t above = state == nullptr ? 0 : state->acks.above_floor();
  const uint64_t open = end > floor ? end - floor : 0;
  const uint64_t unsettled = open > above ? open - above : 0;
  int64_t oldest_ms = -1;
  if (unsettled > 0) {
    // Of what lies in the store only this would be known later.
    if (const auto refs = partition.index().find(floor, 1, partition.start());
        refs.has_value() && !refs->empty()) {
      oldest_ms = refs->front().received_ms;
    } else if (queue != nullptr && !queue->batches.empty()) {
      oldest_ms = queue->batches.begin()->second.ref.received_ms;
    }
  }
  fbs::QueueInfoBuilder info(builder_);
  info.add_topic(id.topic.value());
  info.add_partition(id.index.value());
  info.add_floor(floor.value());
  info.add_end_offset(end.value());
  info.add_unsettled(unsettled);
  info.add_oldest_unsettled_ms(oldest_ms);
  if (queue != nullptr) {
    info.add_leased(queue->dispatcher.leased());
    info.add_receivers(static_cast<uint32_t>(queue->waiting.size()));
  }
  if (state != nullptr) {
    info.add_acked(state->acked);
    info.add_failed(state->failed);
    info.add_dead_lettered(state->dead_lettered);
    info.add_expired(state->expired);
    info.add_filtered(state->filtered);
  }
  if (queue != nullptr) {
    info.add_retrying(queue->dispatcher.retrying());
  } else if (state != nullptr) {
    // Nobody looks at their times.
    info.add_retrying(state->failures.size());
  }
  return info.Finish();
}

void QueueDesk::on_unsettled(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::QueueUnsettled*> request =
      protocol::read_table<fbs::QueueUnsettled>(frame.table(), "QueueUnsettled");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view group = protocol::view((*request)->group());
  const PartitionId id{TopicId{(*request)->topic()}, PartitionIndex{(*request)->partition()}};
  const partition::Partition* const partition = views_.find(id);
  const uint32_t limit = (*request)->limit();
  Status status = check_queue_group(group);
  if (status.ok() && (limit < 1 || limit > kRangesInReplyMax)) {
    status =
        Status(ErrorCode::kInvalidArgument, "limit is 1 to " + std::to_string(kRangesInReplyMax));
  }
  if (status.ok() && partition == nullptr) {
    status = unknown_partition(id);
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  const queue::QueueState* const state = views_.queues().find(group, id);
  const Offset end = std::max(host_.visible_end(*partition), partition->start());
  Offset at = std::max(Offset{(*request)->from()}, partition->start());
  std::vector<fbs::QueueRange> ranges;
  for (;;) {
    at = state == nullptr ? at : state->acks.next_unsettled(at);
    if (at >= end || ranges.size() == limit) {
      break;
    }
    Offset next = end;
    if (state != nullptr) {
      next = std::min(state->acks.next_settled(at).value_or(end), end);
    }
    ranges.emplace_back(at.value(), next - at);
    at = next;
  }
  const auto all = builder_.CreateVectorOfStructs(ranges);
  fbs::QueueUnsettledReplyBuilder reply(builder_);
  reply.add_ranges(all);
  reply.add_end_offset(end.value());
  reply.add_more(at < end);
  send_reply(from, reply.Finish());
}

}  // namespace tidemark::shard
