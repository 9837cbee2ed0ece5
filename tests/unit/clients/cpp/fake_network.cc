#include "tests/unit/clients/cpp/fake_network.h"

#include <algorithm>

#include "log/base/check.h"
#include "log/format/message_properties.h"
#include "tests/support/request_builder.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

bool batch_has_ttl(ByteView batch) {
  auto reader = format::BatchReader::open(batch);
  format::RecordView record;
  bool found = false;
  while (reader.ok() && reader->next(record)) {
    format::HeaderCursor headers(record.headers, record.header_count);
    format::HeaderView header;
    while (headers.next(header)) {
      found = found || header.key == format::kTtlHeader;
    }
  }
  return found;
}

bool has_ttl(const fbs::ProducePart& part, ByteView bytes) {
  if (part.kind() == fbs::ProduceKind::kBatch || part.kind() == fbs::ProduceKind::kHalf) {
    return batch_has_ttl(bytes);
  }
  auto reader = format::ScheduleReader::open(bytes);
  format::ScheduleItem item;
  bool found = false;
  while (reader.ok() && reader->next(item)) {
    found = found || batch_has_ttl(item.batch);
  }
  return found;
}

}  // namespace

class FakeChannel final : public client_core::Channel {
 public:
  FakeChannel(FakeNetwork& network, client_core::Address to, client_core::ChannelEvents& sink)
      : network_(network), address(std::move(to)), events(sink) {}

  ~FakeChannel() override { network_.forget(this); }

  void send(protocol::OutFrame frame) override {
    TIDEMARK_CHECK(opened, "sent before on_open");
    to_broker.push_back(to_frame(frame));
  }

 private:
  FakeNetwork& network_;

 public:
  client_core::Address address;
  client_core::ChannelEvents& events;
  bool opened = false;
  bool greeted = false;
  bool lost = false;
  std::deque<protocol::Frame> to_broker;
  std::deque<protocol::Frame> to_client;
};

// --- partition ---

FakePartition::Verdict FakePartition::append(ByteView batch) {
  const auto header = format::validate_produced_batch(batch);
  if (!header.ok()) {
    return {header.error().code(), 0, false};
  }
  if (auto verdict = judge(*header)) {
    return *verdict;
  }
  Buffer bytes = Buffer::copy_of(batch);
  format::stamp_batch(bytes.mutable_view(), end_, static_cast<uint32_t>(bytes.size()), 0);
  batches_.push_back({end_, SharedBytes(std::move(bytes)), *header});
  auto reader = format::BatchReader::open(batches_.back().bytes.view());
  format::RecordView record;
  while (reader->next(record)) {
    applied.emplace_back(as_text(record.value));
  }
  const uint64_t base = end_;
  end_ += header->record_count;
  return {ErrorCode::kOk, base, false};
}

std::optional<FakePartition::Verdict> FakePartition::judge(const format::BatchHeader& header) {
  if (header.producer_id < 0) {
    return std::nullopt;
  }
  const auto found = producers_.find(header.producer_id);
  if (found == producers_.end() && header.base_sequence != 0) {
    return Verdict{.error = ErrorCode::kUnknownProducer};
  }
  Producer& producer = producers_[header.producer_id];
  if (found != producers_.end() && header.base_sequence != producer.next) {
    for (const Remembered& each : producer.last) {
      if (each.first == header.base_sequence && each.count == header.record_count) {
        return Verdict{ErrorCode::kOk, each.base, true, each.receipts};
      }
    }
    return Verdict{.error = ErrorCode::kOutOfOrderSequence};
  }
  producer.next = static_cast<int32_t>(
      (static_cast<uint32_t>(header.base_sequence) + header.record_count) & 0x7FFFFFFF);
  ++producer.batches;
  producer.last.push_front({header.base_sequence, header.record_count, end_, {}});
  if (producer.last.size() > limits::kProducerBatchesRemembered) {
    producer.last.pop_back();
  }
  return std::nullopt;
}

void FakePartition::forget_producers() {
  std::erase_if(producers_, [](const auto& each) {
    return each.second.batches > 2 * limits::kProducerBatchesRemembered;
  });
}

void FakePartition::trim(uint64_t offset) {
  while (!batches_.empty() &&
         batches_.front().base + batches_.front().header.record_count <= offset) {
    batches_.pop_front();
  }
}

std::vector<StoredMessage> FakePartition::messages() const {
  std::vector<StoredMessage> out;
  for (const StoredBatch& batch : batches_) {
    auto reader = format::BatchReader::open(batch.bytes.view());
    TIDEMARK_CHECK(reader.ok());
    format::RecordView record;
    while (reader->next(record)) {
      out.push_back({batch.base + record.offset_delta, std::string(as_text(record.key)),
                     std::string(as_text(record.value)), batch.header.producer_id});
    }
  }
  return out;
}

// --- network ---

std::unique_ptr<client_core::Channel> FakeNetwork::open(const client_core::Address& address,
                                                        client_core::ChannelEvents& events) {
  ++connects;
  auto channel = std::make_unique<FakeChannel>(*this, address, events);
  channels_.push_back(channel.get());
  return channel;
}

FakeTopic& FakeNetwork::add_topic(const std::string& name, uint32_t partitions) {
  FakeTopic& topic = topics_[name];
  topic.id = next_topic_id_++;
  topic.partitions.resize(partitions);
  return topic;
}

void FakeNetwork::forget(FakeChannel* channel) {
  std::erase(channels_, channel);
  std::erase_if(long_polls_, [channel](const LongPoll& poll) { return poll.channel == channel; });
}

void FakeNetwork::lose(FakeChannel& channel, const std::string& why) {
  channel.lost = true;
  channel.to_broker.clear();
  channel.to_client.clear();
  std::erase_if(long_polls_, [&](const LongPoll& poll) { return poll.channel == &channel; });
  channel.events.on_closed(Status(ErrorCode::kUnavailable, channel.address.text() + ": " + why));
}

void FakeNetwork::cut_all() {
  const std::vector<FakeChannel*> all = channels_;
  for (FakeChannel* channel : all) {
    if (!channel->lost) {
      lose(*channel, "cut");
    }
  }
}

bool FakeNetwork::step() {
  std::vector<FakeChannel*> ready;
  for (FakeChannel* channel : channels_) {
    const bool has_work =
        !channel->opened || (!silent && !channel->to_broker.empty()) || !channel->to_client.empty();
    if (!channel->lost && has_work) {
      ready.push_back(channel);
    }
  }
  if (ready.empty()) {
    return step_long_polls();
  }
  FakeChannel& channel = *ready[random_.below(ready.size())];
  if (!channel.opened) {
    if (!reachable || chance(faults.refuse_connect)) {
      lose(channel, "connect: connection refused");
    } else {
      channel.opened = true;
      channel.events.on_open();
    }
    return true;
  }
  const bool handles =
      !silent && !channel.to_broker.empty() && (channel.to_client.empty() || random_.chance(1, 2));
  if (!handles) {
    protocol::Frame frame = channel.to_client.front();
    channel.to_client.pop_front();
    channel.events.on_frame(std::move(frame));
    return true;
  }
  const protocol::Frame frame = channel.to_broker.front();
  channel.to_broker.pop_front();
  if (chance(faults.lose_before)) {
    lose(channel, "lost before");
    return true;
  }
  handle(channel, frame);
  if (chance(faults.lose_after)) {
    lose(channel, "lost after");
  }
  return true;
}

bool FakeNetwork::step_long_polls() {
  for (auto at = long_polls_.begin(); at != long_polls_.end(); ++at) {
    const LongPoll poll = *at;
    const bool last_chance = clock_.monotonic() >= poll.until;
    const auto type = static_cast<FrameType>(poll.request.header.type);
    const bool answered = type == FrameType::kFetch
                              ? on_fetch(*poll.channel, poll.request, last_chance)
                          : type == FrameType::kQueueReceive
                              ? on_queue_receive(*poll.channel, poll.request, last_chance)
                              : on_txn_poll(*poll.channel, poll.request, last_chance);
    if (answered) {
      long_polls_.erase(at);
      return true;
    }
  }
  return false;
}

void FakeNetwork::hold(FakeChannel& channel, const protocol::Frame& request, uint32_t wait_ms) {
  long_polls_.push_back(
      {&channel, request, {clock_.monotonic().ns + int64_t{wait_ms} * 1'000'000}});
}

void FakeNetwork::reply(FakeChannel& channel, const protocol::Frame& request,
                        flatbuffers::FlatBufferBuilder& builder, std::vector<SharedBytes> payload) {
  channel.to_client.push_back(to_frame(protocol::make_frame(
      static_cast<FrameType>(request.header.type), true, request.header.shard,
      request.header.correlation, protocol::finished(builder), std::move(payload))));
}

void FakeNetwork::handle(FakeChannel& channel, const protocol::Frame& frame) {
  const auto type = static_cast<FrameType>(frame.header.type);
  flatbuffers::FlatBufferBuilder builder;
  if (on_request) {
    const Status status = on_request(type);
    if (!status.ok()) {
      channel.to_client.push_back(
          to_frame(protocol::make_error_frame(frame.header.correlation, status, 10)));
      return;
    }
  }
  if (type == FrameType::kHello) {
    channel.greeted = true;
    const auto fsync = builder.CreateString("batch");
    const auto version = builder.CreateString("0.0.1");
    builder.Finish(fbs::CreateHelloReply(builder, 0, cluster_id, 1, shards, 1 << 20,
                                         limits::kBatchBytesMax, limits::kFrameBytesMax, fsync,
                                         version));
    return reply(channel, frame, builder);
  }
  if (!channel.greeted) {
    violations.emplace_back("a request before Hello");
  }
  switch (type) {
    case FrameType::kMetadata:
      return on_metadata(channel, frame);
    case FrameType::kInitProducer:
      return on_init_producer(channel, frame);
    case FrameType::kProduce:
      return on_produce(channel, frame);
    case FrameType::kFetch: {
      ++fetch_requests;
      const auto& request = read_reply<fbs::Fetch>(frame);
      const auto wait = request.wait_ms_max();
      fetch_filter = protocol::view(request.filter());
      fetch_tags.clear();
      for (uint32_t i = 0; request.tags() != nullptr && i < request.tags()->size(); ++i) {
        fetch_tags.push_back(request.tags()->Get(i)->str());
      }
      if (!on_fetch(channel, frame, wait == 0)) {
        hold(channel, frame, wait);
      }
      return;
    }
    case FrameType::kListOffsets:
      return on_list_offsets(channel, frame);
    case FrameType::kTxnPoll: {
      const auto wait = read_reply<fbs::TxnPoll>(frame).wait_ms_max();
      ++txn_polls;
      if (!on_txn_poll(channel, frame, wait == 0)) {
        hold(channel, frame, wait);
      }
      return;
    }
    case FrameType::kTxnEnd:
    case FrameType::kTxnList:
    case FrameType::kTxnShow:
    case FrameType::kTxnRecheck:
    case FrameType::kTxnStats:
      return on_txn(channel, frame);
    case FrameType::kQueueReceive:
    case FrameType::kQueueSettle:
    case FrameType::kQueueDescribe:
    case FrameType::kQueueRedrive:
    case FrameType::kQueueUnsettled:
      return on_queue(channel, frame);
    case FrameType::kHello:
    case FrameType::kTopicCreate:
    case FrameType::kTopicAlter:
    case FrameType::kTopicDelete:
    case FrameType::kDelayCancel:
    case FrameType::kDelayReschedule:
    case FrameType::kDelayList:
    case FrameType::kDelayShow:
    case FrameType::kDelayStats:
      return on_delay(channel, frame);
    case FrameType::kPartitionDescribe:
    case FrameType::kGroupHeartbeat:
    case FrameType::kGroupCommit:
    case FrameType::kGroupOffsets:
    case FrameType::kGroupList:
    case FrameType::kGroupDescribe:
    case FrameType::kGroupDelete:
    case FrameType::kError:
      violations.emplace_back("unexpected frame type");
  }
}

void FakeNetwork::on_metadata(FakeChannel& channel, const protocol::Frame& frame) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TopicInfo>> infos;
  std::vector<std::string> names;
  for (const auto* name : *read_reply<fbs::Metadata>(frame).topics()) {
    names.push_back(name->str());
  }
  if (names.empty()) {
    for (const auto& [name, topic] : topics_) {
      names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    const auto text = builder.CreateString(name);
    const auto found = topics_.find(name);
    if (found == topics_.end()) {
      const auto error = protocol::build_error(builder, Status(ErrorCode::kUnknownTopic, name));
      infos.push_back(fbs::CreateTopicInfo(builder, error, text));
      continue;
    }
    std::vector<flatbuffers::Offset<fbs::PartitionInfo>> partitions;
    for (uint32_t i = 0; i < found->second.partitions.size(); ++i) {
      partitions.push_back(
          fbs::CreatePartitionInfo(builder, i, static_cast<uint16_t>(i % shards), 1));
    }
    const auto list = builder.CreateVector(partitions);
    infos.push_back(fbs::CreateTopicInfo(builder, 0, text, found->second.id, 0, 0, list));
  }
  const std::vector<flatbuffers::Offset<fbs::BrokerInfo>> brokers = {
      fbs::CreateBrokerInfo(builder, 1, builder.CreateString("broker"), 9470)};
  const auto broker_list = builder.CreateVector(brokers);
  const auto topic_list = builder.CreateVector(infos);
  builder.Finish(fbs::CreateMetadataReply(builder, 0, broker_list, topic_list));
  reply(channel, frame, builder);
}

FakePartition* FakeNetwork::find(uint32_t topic, uint32_t partition) {
  for (auto& [name, each] : topics_) {
    if (each.id == topic && partition < each.partitions.size()) {
      return &each.partitions[partition];
    }
  }
  return nullptr;
}

FakePartition::Verdict FakeNetwork::append_set(FakePartition& partition,
                                               const fbs::ProducePart& part, ByteView set) {
  const auto reader = format::ScheduleReader::open(set);
  if (!reader.ok() || reader->header().partition.topic.value() != part.topic() ||
      reader->header().partition.index.value() != part.partition()) {
    violations.emplace_back("a set that is not for its part's partition");
  }
  uint64_t& next_id = next_delay_id_[static_cast<uint16_t>(part.partition() % shards)];
  return partition.append_schedule(set, clock_.wall().ms, next_id);
}

void FakeNetwork::on_produce(FakeChannel& channel, const protocol::Frame& frame) {
  ++produce_requests;
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ProducePartReply>> parts;
  const auto& request = read_reply<fbs::Produce>(frame);
  produce_parts_max = std::max<size_t>(produce_parts_max, request.parts()->size());
  ByteView payload = frame.payload();
  for (const auto* part : *request.parts()) {
    const ByteView batch = payload.first(part->bytes());
    payload = payload.subspan(part->bytes());
    if (part->ttl() != has_ttl(*part, batch)) {
      violations.emplace_back("a part that does not say whether its messages have a time to live");
    }
    FakePartition* const partition = find(part->topic(), part->partition());
    Status status =
        partition != nullptr ? Status() : Status(ErrorCode::kUnknownPartition, "not here");
    if (status.ok() && frame.header.shard != part->partition() % shards) {
      violations.emplace_back("a batch at the wrong shard");
    }
    if (status.ok() && on_produce_part) {
      status = on_produce_part(part->partition());
    }
    if (status.ok() && chance(faults.refuse)) {
      const ErrorCode codes[] = {ErrorCode::kOverloaded, ErrorCode::kDiskFull,
                                 ErrorCode::kNotLeader};
      status = Status(codes[random_.below(3)], "drawn");
    }
    FakePartition::Verdict verdict;
    if (status.ok()) {
      if (chance(faults.forget)) {
        partition->forget_producers();
      }
      switch (part->kind()) {
        case fbs::ProduceKind::kBatch:
          verdict = partition->append(batch);
          break;
        case fbs::ProduceKind::kSchedule:
          verdict = append_set(*partition, *part, batch);
          break;
        case fbs::ProduceKind::kHalf:
        case fbs::ProduceKind::kHalfSchedule:
          verdict = add_half(*part, batch);
          break;
      }
      if (verdict.error != ErrorCode::kOk) {
        status = Status(verdict.error, "refused");
      }
    }
    const auto error =
        protocol::build_error(builder, status, status.code() == ErrorCode::kOverloaded ? 50 : 0);
    const auto receipts = verdict.receipts.empty() || chance(faults.lose_receipts)
                              ? 0
                              : builder.CreateVectorOfStructs(verdict.receipts);
    const auto offsets = produce_offsets.empty() ? 0 : builder.CreateVector(produce_offsets);
    parts.push_back(fbs::CreateProducePartReply(builder, error, verdict.base, clock_.wall().ms,
                                                verdict.duplicate, receipts, offsets));
  }
  if (!payload.empty()) {
    violations.emplace_back("bytes behind the last part");
  }
  const auto list = builder.CreateVector(parts);
  builder.Finish(fbs::CreateProduceReply(builder, 0, list));
  reply(channel, frame, builder);
}

bool FakeNetwork::on_fetch(FakeChannel& channel, const protocol::Frame& frame, bool last_chance) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::FetchPartReply>> parts;
  std::vector<SharedBytes> payload;
  bool anything = last_chance;
  for (const auto* part : *read_reply<fbs::Fetch>(frame).parts()) {
    FakePartition* const partition = find(part->topic(), part->partition());
    Status status =
        partition != nullptr ? Status() : Status(ErrorCode::kUnknownPartition, "not here");
    uint32_t bytes = 0;
    uint64_t next = part->offset();
    if (partition != nullptr &&
        (part->offset() < partition->start() || part->offset() > partition->end())) {
      status =
          Status(ErrorCode::kOffsetOutOfRange, "stored are " + std::to_string(partition->start()) +
                                                   " to " + std::to_string(partition->end()));
    }
    if (status.ok()) {
      for (const StoredBatch& batch : partition->batches()) {
        const uint64_t end = batch.base + batch.header.record_count;
        if (end <= part->offset()) {
          continue;
        }
        if (bytes > 0 && bytes + batch.bytes.size() > part->bytes_max()) {
          break;
        }
        bytes += static_cast<uint32_t>(batch.bytes.size());
        payload.push_back(batch.bytes);
        next = end;
      }
    }
    anything = anything || bytes > 0 || !status.ok();
    const auto error = protocol::build_error(builder, status);
    parts.push_back(fbs::CreateFetchPartReply(builder, error, bytes,
                                              partition != nullptr ? partition->end() : 0,
                                              partition != nullptr ? partition->start() : 0, next));
  }
  if (!anything) {
    return false;
  }
  const auto list = builder.CreateVector(parts);
  builder.Finish(fbs::CreateFetchReply(builder, 0, list));
  reply(channel, frame, builder, std::move(payload));
  return true;
}

void FakeNetwork::on_list_offsets(FakeChannel& channel, const protocol::Frame& frame) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ListOffsetsPartReply>> parts;
  for (const auto* part : *read_reply<fbs::ListOffsets>(frame).parts()) {
    FakePartition* const partition = find(part->topic(), part->partition());
    const Status status =
        partition != nullptr ? Status() : Status(ErrorCode::kUnknownPartition, "not here");
    const uint64_t offset = partition == nullptr    ? 0
                            : part->time_ms() == -2 ? partition->start()
                                                    : partition->end();
    parts.push_back(fbs::CreateListOffsetsPartReply(builder, protocol::build_error(builder, status),
                                                    offset, -1));
  }
  const auto list = builder.CreateVector(parts);
  builder.Finish(fbs::CreateListOffsetsReply(builder, 0, list));
  reply(channel, frame, builder);
}

}  // namespace tidemark::testing
