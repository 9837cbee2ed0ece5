// Queues of the scripted broker: one group, leases that end with the clock, no back-off of its own.
#include <algorithm>
#include <utility>

#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

FakeReceive read_receive(const fbs::QueueReceive& request, uint16_t shard) {
  FakeReceive out{.group = std::string(protocol::view(request.group())),
                  .shard = shard,
                  .messages_max = request.messages_max(),
                  .bytes_max = request.bytes_max(),
                  .wait_ms = request.wait_ms_max(),
                  .visibility_ms = request.visibility_ms(),
                  .filter = std::string(protocol::view(request.filter())),
                  .ordered = request.ordered(),
                  .from_end = request.from_end()};
  for (const fbs::QueuePartition* part : *request.parts()) {
    out.parts.emplace_back(part->topic(), part->partition());
  }
  for (uint32_t i = 0; request.tags() != nullptr && i < request.tags()->size(); ++i) {
    out.tags.push_back(request.tags()->Get(i)->str());
  }
  return out;
}

// Whether the message can be leased now; a lease that is over is a failure.
bool is_ready(FakeQueued& message, MonotonicTime now) {
  if (!message.settled && message.token != 0 && now >= message.leased_until) {
    message.token = 0;
    ++message.failures;
  }
  return !message.settled && message.token == 0 && now >= message.ready_at;
}

SharedBytes damaged(const SharedBytes& batch) {
  Buffer bytes = Buffer::copy_of(batch.view());
  bytes.mutable_view().back() ^= 0xFFU;
  return SharedBytes(std::move(bytes));
}

}  // namespace

size_t FakeNetwork::leased() const {
  size_t count = 0;
  for (const auto& [place, messages] : queues) {
    count += static_cast<size_t>(std::count_if(
        messages.begin(), messages.end(), [](const auto& each) { return each.second.token != 0; }));
  }
  return count;
}

void FakeNetwork::on_queue(FakeChannel& channel, const protocol::Frame& frame) {
  const auto type = static_cast<FrameType>(frame.header.type);
  if (type == FrameType::kQueueSettle) {
    on_queue_settle(channel, frame);
  } else if (type == FrameType::kQueueDescribe) {
    on_queue_describe(channel, frame);
  } else if (type == FrameType::kQueueRedrive) {
    on_queue_redrive(channel, frame);
  } else if (type == FrameType::kQueueUnsettled) {
    on_queue_unsettled(channel, frame);
  } else {
    receives.push_back(read_receive(read_reply<fbs::QueueReceive>(frame), frame.header.shard));
    if (on_receive) {
      on_receive(receives.back());
    }
    const uint32_t wait = receives.back().wait_ms;
    if (!on_queue_receive(channel, frame, wait == 0)) {
      hold(channel, frame, wait);
    }
  }
}

bool FakeNetwork::on_queue_receive(FakeChannel& channel, const protocol::Frame& frame,
                                   bool last_chance) {
  const FakeReceive request =
      read_receive(read_reply<fbs::QueueReceive>(frame), frame.header.shard);
  const MonotonicTime now = clock_.monotonic();
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::QueuePartReply>> parts;
  std::vector<SharedBytes> payload;
  size_t given = 0;
  size_t given_bytes = 0;
  bool anything = last_chance;
  for (const auto& [topic, index] : request.parts) {
    FakePartition* const partition = find(topic, index);
    Status status =
        partition != nullptr ? Status() : Status(ErrorCode::kUnknownPartition, "not here");
    if (index % shards != frame.header.shard) {
      status = Status(ErrorCode::kWrongShard, "not here");
    }
    if (status.ok() && on_queue_part) {
      status = on_queue_part(index);
    }
    std::vector<fbs::QueueLease> leases;
    uint32_t bytes = 0;
    for (size_t b = 0; status.ok() && b < partition->batches().size(); ++b) {
      const StoredBatch& batch = partition->batches()[b];
      const size_t before = leases.size();
      auto reader = format::BatchReader::open(batch.bytes.view());
      format::RecordView record;
      while (reader->next(record) && given < request.messages_max &&
             (given == 0 || given_bytes + record.value.size() <= request.bytes_max)) {
        const uint64_t offset = batch.base + record.offset_delta;
        FakeQueued& message = queues[{topic, index}][offset];
        if (is_ready(message, now)) {
          message.token = next_lease_token_++;
          message.leased_until = {now.ns + int64_t{request.visibility_ms} * 1'000'000};
          leases.emplace_back(offset, message.token, message.failures + 1, 0);
          ++given;
          given_bytes += record.value.size();
        }
      }
      if (leases.size() > before) {
        payload.push_back(std::exchange(damage_queued, false) ? damaged(batch.bytes) : batch.bytes);
        bytes += static_cast<uint32_t>(batch.bytes.size());
      }
    }
    anything = anything || !leases.empty() || !status.ok();
    const auto error = protocol::build_error(builder, status);
    parts.push_back(
        fbs::CreateQueuePartReply(builder, error, bytes, builder.CreateVectorOfStructs(leases)));
  }
  if (!anything) {
    return false;
  }
  const auto list = builder.CreateVector(parts);
  builder.Finish(fbs::CreateQueueReceiveReply(builder, 0, list));
  reply(channel, frame, builder, std::move(payload));
  return true;
}

void FakeNetwork::on_queue_settle(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::QueueSettle>(frame);
  std::vector<FakeSettle>& items = settles.emplace_back();
  std::vector<fbs::QueueSettleResult> results;
  for (const fbs::QueueSettleItem* item : *request.items()) {
    items.push_back({.topic = item->topic(),
                     .partition = item->partition(),
                     .offset = item->offset(),
                     .token = item->token(),
                     .delay_ms = item->delay_ms(),
                     .count = item->count(),
                     .action = item->action(),
                     .reason = std::string(protocol::view(request.reason()))});
    ErrorCode error = on_settle ? on_settle(items.back()) : ErrorCode::kOk;
    if (error == ErrorCode::kOk) {
      error = settle(items.back(), frame.header.shard);
    }
    results.emplace_back(static_cast<uint16_t>(error));
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto list = builder.CreateVectorOfStructs(results);
  builder.Finish(fbs::CreateQueueSettleReply(builder, 0, list));
  reply(channel, frame, builder);
}

ErrorCode FakeNetwork::settle(const FakeSettle& item, uint16_t shard) {
  FakePartition* const partition = find(item.topic, item.partition);
  if (partition == nullptr) {
    return ErrorCode::kUnknownPartition;
  }
  if (item.partition % shards != shard) {
    return ErrorCode::kWrongShard;
  }
  const MonotonicTime now = clock_.monotonic();
  auto& messages = queues[{item.topic, item.partition}];
  for (uint64_t offset = item.offset; offset < item.offset + item.count; ++offset) {
    FakeQueued& message = messages[offset];
    static_cast<void>(is_ready(message, now));
    if (message.token != 0 && message.token != item.token) {
      return ErrorCode::kFenced;
    }
    if (item.action == fbs::QueueAction::kAck) {
      message.settled = true;
      message.token = 0;
      continue;
    }
    if (message.token == 0) {
      return ErrorCode::kNotFound;
    }
    switch (item.action) {
      case fbs::QueueAction::kNack:
        message.token = 0;
        ++message.failures;
        message.ready_at = {now.ns + std::max<int64_t>(item.delay_ms, 0) * 1'000'000};
        break;
      case fbs::QueueAction::kExtend:
        message.leased_until = {now.ns + item.delay_ms * 1'000'000};
        break;
      case fbs::QueueAction::kDeadLetter:
        message.settled = true;
        message.token = 0;
        break;
      case fbs::QueueAction::kRelease:
        message.token = 0;
        break;
      case fbs::QueueAction::kAck:
        break;
    }
  }
  return ErrorCode::kOk;
}

void FakeNetwork::on_queue_describe(FakeChannel& channel, const protocol::Frame& frame) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::QueueInfo>> infos;
  for (const auto& [place, messages] : queues) {
    if (place.second % shards != frame.header.shard) {
      continue;
    }
    uint64_t settled = 0;
    for (const auto& [offset, message] : messages) {
      settled += message.settled ? 1 : 0;
    }
    const uint64_t end = find(place.first, place.second)->end();
    infos.push_back(fbs::CreateQueueInfo(builder, place.first, place.second, 3, end, end - settled,
                                         4, 5, 6, settled, 7, 8, 9, 10,
                                         place.second == 0 ? 1234 : -1));
  }
  const auto list = builder.CreateVector(infos);
  builder.Finish(fbs::CreateQueueDescribeReply(builder, 0, list));
  reply(channel, frame, builder);
}

void FakeNetwork::on_queue_redrive(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::QueueRedrive>(frame);
  std::vector<fbs::QueueSettleResult> results;
  for (const uint64_t offset : *request.offsets()) {
    const bool known = std::find(redriven.begin(), redriven.end(), offset) != redriven.end();
    results.emplace_back(static_cast<uint16_t>(known ? ErrorCode::kNotFound : ErrorCode::kOk));
    if (!known) {
      redriven.push_back(offset);
    }
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto list = builder.CreateVectorOfStructs(results);
  builder.Finish(fbs::CreateQueueRedriveReply(builder, 0, list));
  reply(channel, frame, builder);
}

void FakeNetwork::on_queue_unsettled(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::QueueUnsettled>(frame);
  const FakePartition& partition = *find(request.topic(), request.partition());
  auto& messages = queues[{request.topic(), request.partition()}];
  std::vector<fbs::QueueRange> ranges;
  bool more = false;
  for (uint64_t offset = request.from(); offset < partition.end(); ++offset) {
    if (messages[offset].settled) {
      continue;
    }
    if (!ranges.empty() && ranges.back().first() + ranges.back().count() == offset) {
      ranges.back() = {ranges.back().first(), ranges.back().count() + 1};
    } else if (ranges.size() == std::min(request.limit(), unsettled_page_max)) {
      more = true;
      break;
    } else {
      ranges.emplace_back(offset, 1);
    }
  }
  if (!unsettled_lie.empty()) {
    ranges = unsettled_lie;
  }
  flatbuffers::FlatBufferBuilder builder;
  const auto list = builder.CreateVectorOfStructs(ranges);
  builder.Finish(fbs::CreateQueueUnsettledReply(builder, 0, list, partition.end(), more));
  reply(channel, frame, builder);
}

}  // namespace tidemark::testing
