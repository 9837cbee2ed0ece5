// Delayed messages of the scripted broker: kept, listed, changed; delivered only when a test says
// so.
#include <algorithm>
#include <tuple>

#include "log/base/check.h"
#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

constexpr uint32_t kTag = 0xABCD;

// Opaque to clients, and different from the id.
uint64_t position_of(uint64_t id) { return id * 1000; }

std::string value_of(ByteView batch) {
  auto reader = format::BatchReader::open(batch);
  format::RecordView record;
  TIDEMARK_CHECK(reader.ok() && reader->next(record));
  return std::string(as_text(record.value));
}

flatbuffers::Offset<fbs::DelayInfo> build_info(flatbuffers::FlatBufferBuilder& builder,
                                               uint32_t topic, uint32_t partition,
                                               const PendingMessage& message) {
  const auto key = message.key.empty() ? 0 : builder.CreateString(message.key);
  const auto zone = message.zone.empty() ? 0 : builder.CreateString(message.zone);
  const auto cron = message.cron.empty() ? 0 : builder.CreateString(message.cron);
  return fbs::CreateDelayInfo(
      builder, topic, partition, message.id, message.due_ms, position_of(message.id), kTag,
      static_cast<uint32_t>(message.batch.size()), key, message.every_ms, zone, cron);
}

}  // namespace

FakePartition::Verdict FakePartition::append_schedule(ByteView set, int64_t now_ms,
                                                      uint64_t& next_id) {
  if (!format::verify_schedule_check(set).ok()) {
    return {.error = ErrorCode::kCorrupted};
  }
  auto reader = format::ScheduleReader::open(set);
  TIDEMARK_CHECK(reader.ok());
  const format::ScheduleHeader set_header = reader->header();
  if (auto verdict = judge(format::sequence_header(set_header, set.size()))) {
    return *verdict;
  }
  Verdict verdict;
  format::ScheduleItem item;
  while (reader->next(item)) {
    TIDEMARK_CHECK(format::validate_produced_batch(item.batch).ok());
    verdict.receipts.push_back(schedule(item, set_header.producer_id, now_ms, next_id));
  }
  TIDEMARK_CHECK(reader->status().ok());
  if (set_header.producer_id >= 0) {
    producers_[set_header.producer_id].last.front().receipts = verdict.receipts;
  }
  return verdict;
}

fbs::DelayReceipt FakePartition::schedule(const format::ScheduleItem& item, int64_t producer_id,
                                          int64_t now_ms, uint64_t& next_id) {
  const auto refuse = [](ErrorCode code) {
    return fbs::DelayReceipt(0, 0, 0, 0, static_cast<uint16_t>(code), 0);
  };
  const auto taken = std::find_if(pending.begin(), pending.end(), [&](const PendingMessage& each) {
    return !item.key.empty() && each.key == item.key;
  });
  if (taken != pending.end() && !item.replace) {
    return refuse(ErrorCode::kAlreadyExists);
  }
  if (pending.size() >= pending_max) {
    return refuse(ErrorCode::kLimitExceeded);
  }
  if (taken != pending.end()) {
    pending.erase(taken);
  }
  applied.push_back(value_of(item.batch));
  const int64_t due = item.due_kind == format::DueKind::kAfter ? now_ms + item.due_ms : item.due_ms;
  const uint64_t id = ++next_id;
  pending.push_back({.id = id,
                     .due_ms = due,
                     .key = std::string(item.key),
                     .every_ms = item.every_ms,
                     .zone = std::string(item.zone),
                     .cron = std::string(item.cron),
                     .value = value_of(item.batch),
                     .producer_id = producer_id,
                     .batch = SharedBytes(Buffer::copy_of(item.batch))});
  return {id, due, position_of(id), kTag, 0, 0};
}

void FakeNetwork::on_delay(FakeChannel& channel, const protocol::Frame& frame) {
  ++delay_requests;
  const auto type = static_cast<FrameType>(frame.header.type);
  if (type == FrameType::kDelayList) {
    on_delay_list(channel, frame);
  } else if (type == FrameType::kDelayShow) {
    on_delay_show(channel, frame);
  } else if (type == FrameType::kDelayStats) {
    on_delay_stats(channel, frame);
  } else {
    on_delay_change(channel, frame);
  }
}

FakeNetwork::Found FakeNetwork::find_pending(const fbs::DelayRef& ref, uint16_t shard) {
  const fbs::DelayHandle* const handle = ref.handle();
  const uint32_t topic_id = handle != nullptr ? handle->topic() : ref.topic();
  Found found;
  for (auto& [name, topic] : topics_) {
    for (uint32_t p = 0; topic.id == topic_id && p < topic.partitions.size(); ++p) {
      FakePartition& partition = topic.partitions[p];
      if (p % shards != shard || (handle == nullptr && p != ref.partition())) {
        continue;
      }
      for (size_t i = 0; i < partition.pending.size(); ++i) {
        const PendingMessage& each = partition.pending[i];
        if (handle != nullptr
                ? each.id == handle->id() && each.due_ms == handle->due_ms() &&
                      position_of(each.id) == handle->position() && kTag == handle->tag()
                : each.key == protocol::view(ref.key())) {
          return {&partition, p, i, true, false};
        }
      }
      found.delivered =
          found.delivered || (handle != nullptr && partition.delivered.contains(handle->id()));
    }
  }
  return found;
}

void FakeNetwork::on_delay_change(FakeChannel& channel, const protocol::Frame& frame) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::DelayChangeResult>> results;
  const bool moves = frame.header.type == static_cast<uint16_t>(FrameType::kDelayReschedule);
  const fbs::DelayReschedule* const move =
      moves ? &read_reply<fbs::DelayReschedule>(frame) : nullptr;
  const auto& items = moves ? *move->items() : *read_reply<fbs::DelayCancel>(frame).items();
  delay_refs_max = std::max<size_t>(delay_refs_max, items.size());
  for (const fbs::DelayRef* ref : items) {
    const Status status = on_delay_ref ? on_delay_ref() : Status();
    if (!status.ok()) {
      results.push_back(
          fbs::CreateDelayChangeResult(builder, protocol::build_error(builder, status)));
      continue;
    }
    const Found found = find_pending(*ref, frame.header.shard);
    if (!found.pending) {
      results.push_back(fbs::CreateDelayChangeResult(
          builder, 0,
          found.delivered ? fbs::DelayOutcome::kAlreadyDelivered : fbs::DelayOutcome::kNotFound));
      continue;
    }
    std::vector<PendingMessage>& pending = found.partition->pending;
    if (!moves) {
      pending.erase(pending.begin() + static_cast<ptrdiff_t>(found.at));
      results.push_back(fbs::CreateDelayChangeResult(builder, 0, fbs::DelayOutcome::kCancelled));
      continue;
    }
    PendingMessage& message = pending[found.at];
    message.id = ++next_delay_id_[frame.header.shard];
    message.due_ms = move->due_kind() == 0 ? clock_.wall().ms + move->due_ms() : move->due_ms();
    const fbs::DelayReceipt receipt(message.id, message.due_ms, position_of(message.id), kTag, 0,
                                    0);
    results.push_back(
        fbs::CreateDelayChangeResult(builder, 0, fbs::DelayOutcome::kRescheduled, &receipt));
  }
  builder.Finish(fbs::CreateDelayChangeReply(builder, 0, builder.CreateVector(results)));
  reply(channel, frame, builder);
}

void FakeNetwork::on_delay_list(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::DelayList>(frame);
  if (request.limit() < 1 || request.limit() > 10'000) {
    violations.emplace_back("DelayList with a wrong limit");
  }
  std::vector<std::pair<uint32_t, PendingMessage>> found;
  for (auto& [name, topic] : topics_) {
    for (uint32_t p = 0; topic.id == request.topic() && p < topic.partitions.size(); ++p) {
      const bool asked = request.partition() < 0 || request.partition() == static_cast<int32_t>(p);
      if (p % shards != frame.header.shard || !asked) {
        continue;
      }
      for (const PendingMessage& each : topic.partitions[p].pending) {
        if (std::tuple(each.due_ms, each.id) >
                std::tuple(request.after_due_ms(), request.after_id()) &&
            each.due_ms <= request.due_to_ms()) {
          found.emplace_back(p, each);
        }
      }
    }
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.second.due_ms, a.second.id) < std::tuple(b.second.due_ms, b.second.id);
  });
  const size_t count = std::min<size_t>({found.size(), request.limit(), delay_page_max});
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::DelayInfo>> infos;
  for (size_t i = 0; i < count; ++i) {
    infos.push_back(build_info(builder, request.topic(), found[i].first, found[i].second));
  }
  builder.Finish(
      fbs::CreateDelayListReply(builder, 0, builder.CreateVector(infos), count < found.size()));
  reply(channel, frame, builder);
}

void FakeNetwork::on_delay_show(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& ref = *read_reply<fbs::DelayShow>(frame).item();
  const Found found = find_pending(ref, frame.header.shard);
  flatbuffers::FlatBufferBuilder builder;
  if (!found.pending) {
    builder.Finish(fbs::CreateDelayShowReply(
        builder, 0,
        found.delivered ? fbs::DelayOutcome::kAlreadyDelivered : fbs::DelayOutcome::kNotFound));
    return reply(channel, frame, builder);
  }
  const PendingMessage& message = found.partition->pending[found.at];
  const uint32_t topic = ref.handle() != nullptr ? ref.handle()->topic() : ref.topic();
  const auto info = build_info(builder, topic, found.index, message);
  builder.Finish(fbs::CreateDelayShowReply(builder, 0, fbs::DelayOutcome::kNotFound, info));
  reply(channel, frame, builder, {message.batch});
}

void FakeNetwork::on_delay_stats(FakeChannel& channel, const protocol::Frame& frame) {
  constexpr int64_t kBucketMs = 65'536;
  const uint32_t asked = read_reply<fbs::DelayStats>(frame).topic();
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::DelayTopicStats>> topics;
  for (auto& [name, topic] : topics_) {
    uint64_t pending = 0;
    uint64_t bytes = 0;
    uint64_t overdue = 0;
    std::map<int64_t, uint64_t> counts;
    for (uint32_t p = frame.header.shard; p < topic.partitions.size(); p += shards) {
      for (const PendingMessage& each : topic.partitions[p].pending) {
        ++pending;
        bytes += each.batch.size();
        overdue += each.due_ms <= clock_.wall().ms ? 1 : 0;
        ++counts[each.due_ms / kBucketMs * kBucketMs];
      }
    }
    if (pending == 0 || (asked != 0 && asked != topic.id)) {
      continue;
    }
    std::vector<fbs::DelayBucket> buckets;
    for (const auto& [from, count] : counts) {
      buckets.emplace_back(from, count);
    }
    topics.push_back(fbs::CreateDelayTopicStats(builder, topic.id, pending, bytes, overdue,
                                                builder.CreateVectorOfStructs(buckets)));
  }
  builder.Finish(
      fbs::CreateDelayStatsReply(builder, 0, clock_.wall().ms, builder.CreateVector(topics)));
  reply(channel, frame, builder);
}

}  // namespace tidemark::testing
