#include "tests/support/queue_requests.h"

#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "log/base/check.h"
#include "log/format/message_properties.h"
#include "log/format/record_batch.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

// `visit`(offset, record) for each message of whole batches. A batch may lack some of its messages.
template <typename Visit>
void for_each_message(ByteView bytes, Visit visit) {
  while (!bytes.empty()) {
    const Result<uint32_t> size = format::batch_bytes_from_prefix(bytes);
    TIDEMARK_CHECK(size.ok() && *size <= bytes.size(), "a payload has whole batches");
    const ByteView batch = bytes.first(*size);
    bytes = bytes.subspan(*size);
    const Result<format::BatchHeader> header = format::verify_batch(batch);
    TIDEMARK_CHECK(header.ok(), header.status().to_string());
    Result<format::BatchReader> reader = format::BatchReader::open(batch);
    TIDEMARK_CHECK(reader.ok(), reader.status().to_string());
    format::RecordView record;
    while (reader->next(record)) {
      visit(Offset{header->base_offset + record.offset_delta}, record);
    }
    TIDEMARK_CHECK(reader->status().ok(), reader->status().to_string());
  }
}

LeasedMessage message_of(Offset offset, const format::RecordView& record) {
  LeasedMessage message;
  message.offset = offset;
  message.value = as_text(record.value);
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    message.headers.emplace_back(header.key, as_text(header.value));
  }
  TIDEMARK_CHECK(!cursor.failed(), "headers are well formed");
  return message;
}

template <typename T>
T number_of(const std::map<std::string, std::string, std::less<>>& headers, std::string_view key) {
  const auto it = headers.find(key);
  TIDEMARK_CHECK(it != headers.end(), "a dead letter has the header " + std::string(key));
  T value{};
  const char* const end = it->second.data() + it->second.size();
  const auto parsed = std::from_chars(it->second.data(), end, value);
  TIDEMARK_CHECK(parsed.ec == std::errc() && parsed.ptr == end,
                 std::string(key) + " is a number: " + it->second);
  return value;
}

// Later headers hide earlier ones of the same name: a message may have died before.
DeadLetterResult dead_letter_of(Offset offset, const format::RecordView& record) {
  std::map<std::string, std::string, std::less<>> headers;
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    headers[std::string(header.key)] = std::string(as_text(header.value));
  }
  TIDEMARK_CHECK(!cursor.failed(), "headers are well formed");
  DeadLetterResult letter;
  letter.offset = offset;
  letter.value = std::string(as_text(record.value));
  letter.from = {TopicId{number_of<uint32_t>(headers, format::kDeadTopicIdHeader)},
                 PartitionIndex{number_of<uint32_t>(headers, format::kDeadPartitionHeader)}};
  letter.from_offset = Offset{number_of<uint64_t>(headers, format::kDeadOffsetHeader)};
  letter.group = headers[std::string(format::kDeadGroupHeader)];
  letter.reason = headers[std::string(format::kDeadReasonHeader)];
  letter.deliveries = number_of<uint32_t>(headers, format::kDeadDeliveriesHeader);
  letter.time_ms = number_of<int64_t>(headers, format::kDeadTimeHeader);
  return letter;
}

}  // namespace

std::string LeasedMessage::header(std::string_view name) const {
  for (auto it = headers.rbegin(); it != headers.rend(); ++it) {
    if (it->first == name) {
      return it->second;
    }
  }
  return "-";
}

// --- requests
// -----------------------------------------------------------------------------------------------------------

protocol::Frame queue_topic_create_request(const TopicInput& topic, const QueueTopicInput& queue,
                                           uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(topic.name);
  flatbuffers::Offset<flatbuffers::Vector<int64_t>> delays;
  if (!queue.retry_delays_ms.empty()) {
    delays = builder.CreateVector(queue.retry_delays_ms);
  }
  flatbuffers::Offset<flatbuffers::String> dead_letter_topic;
  if (!queue.dead_letter_topic.empty()) {
    dead_letter_topic = builder.CreateString(queue.dead_letter_topic);
  }
  fbs::TopicConfigBuilder config(builder);
  config.add_retention_ms(topic.retention_ms);
  config.add_retention_bytes(topic.retention_bytes);
  config.add_retry_delays_ms(delays);
  config.add_retry_factor_percent(queue.retry_factor_percent);
  config.add_retry_max_ms(queue.retry_max_ms);
  config.add_max_deliveries(queue.max_deliveries);
  config.add_dead_letter_topic(dead_letter_topic);
  const auto finished = config.Finish();
  return request_frame(builder, fbs::CreateTopicCreate(builder, name, topic.partitions, finished),
                       FrameType::kTopicCreate, correlation);
}

protocol::Frame queue_receive_request(const QueueReceiveInput& input, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<fbs::QueuePartition> parts;
  for (const PartitionId& part : input.parts) {
    parts.emplace_back(part.topic.value(), part.index.value());
  }
  const auto group = builder.CreateString(input.group);
  const auto all = builder.CreateVectorOfStructs(parts);
  const auto tags = builder.CreateVectorOfStrings(input.tags);
  const auto filter = builder.CreateString(input.filter);
  return request_frame(builder,
                       fbs::CreateQueueReceive(builder, group, all, input.messages_max,
                                               input.bytes_max, input.wait_ms, input.visibility_ms,
                                               tags, filter, input.ordered, input.from_end),
                       FrameType::kQueueReceive, correlation);
}

protocol::Frame queue_settle_request(std::string_view group,
                                     std::span<const QueueSettleInput> items,
                                     std::string_view reason, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<fbs::QueueSettleItem> wanted;
  for (const QueueSettleInput& item : items) {
    wanted.emplace_back(item.partition.topic.value(), item.partition.index.value(),
                        item.offset.value(), item.token, item.delay_ms, item.count, item.action);
  }
  const auto name = builder.CreateString(group.data(), group.size());
  const auto all = builder.CreateVectorOfStructs(wanted);
  const auto text = builder.CreateString(reason.data(), reason.size());
  return request_frame(builder, fbs::CreateQueueSettle(builder, name, all, text),
                       FrameType::kQueueSettle, correlation);
}

protocol::Frame queue_describe_request(std::string_view group, TopicId topic,
                                       uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(group.data(), group.size());
  return request_frame(builder, fbs::CreateQueueDescribe(builder, name, topic.value()),
                       FrameType::kQueueDescribe, correlation);
}

protocol::Frame queue_unsettled_request(std::string_view group, PartitionId partition,
                                        uint64_t from, uint32_t limit) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(group.data(), group.size());
  return request_frame(builder,
                       fbs::CreateQueueUnsettled(builder, name, partition.topic.value(),
                                                 partition.index.value(), from, limit),
                       FrameType::kQueueUnsettled);
}

protocol::Frame queue_redrive_request(PartitionId partition, std::span<const uint64_t> offsets) {
  flatbuffers::FlatBufferBuilder builder;
  const auto all = builder.CreateVector(offsets.data(), offsets.size());
  return request_frame(
      builder,
      fbs::CreateQueueRedrive(builder, partition.topic.value(), partition.index.value(), all),
      FrameType::kQueueRedrive);
}

// --- replies
// ------------------------------------------------------------------------------------------------------------

std::vector<QueuePartResult> read_queue_receive_reply(const protocol::Frame& reply) {
  check_type(reply, FrameType::kQueueReceive);
  const auto& table = read_reply<fbs::QueueReceiveReply>(reply);
  ByteView payload = reply.payload();
  std::vector<QueuePartResult> results;
  for (uint32_t i = 0; table.parts() != nullptr && i < table.parts()->size(); ++i) {
    const fbs::QueuePartReply& part = *table.parts()->Get(i);
    TIDEMARK_CHECK(part.bytes() <= payload.size(), "parts announce what the payload has");
    std::map<Offset, LeasedMessage> found;
    for_each_message(payload.first(part.bytes()), [&](Offset offset, const auto& record) {
      found[offset] = message_of(offset, record);
    });
    payload = payload.subspan(part.bytes());
    QueuePartResult result;
    result.status = protocol::to_status(part.error());
    result.records = found.size();
    result.bytes = part.bytes();
    for (uint32_t j = 0; part.leases() != nullptr && j < part.leases()->size(); ++j) {
      const fbs::QueueLease& lease = *part.leases()->Get(j);
      const auto message = found.find(Offset{lease.offset()});
      TIDEMARK_CHECK(message != found.end(), "a leased message is in the payload, offset " +
                                                 std::to_string(lease.offset()));
      TIDEMARK_CHECK(lease.token() != 0, "a lease has a token");
      message->second.token = lease.token();
      message->second.deliveries = lease.deliveries();
      result.messages.push_back(message->second);
    }
    results.push_back(std::move(result));
  }
  TIDEMARK_CHECK(payload.empty(), "nothing lies behind the last part");
  return results;
}

std::vector<ErrorCode> read_queue_settle_reply(const protocol::Frame& reply) {
  const auto read = [](const auto& table) {
    std::vector<ErrorCode> codes;
    for (uint32_t i = 0; table.results() != nullptr && i < table.results()->size(); ++i) {
      codes.push_back(error_from_wire(table.results()->Get(i)->error()));
    }
    return codes;
  };
  if (reply.header.type == static_cast<uint16_t>(FrameType::kQueueRedrive)) {
    return read(read_reply<fbs::QueueRedriveReply>(reply));
  }
  check_type(reply, FrameType::kQueueSettle);
  return read(read_reply<fbs::QueueSettleReply>(reply));
}

std::vector<QueueInfoResult> read_queue_describe_reply(const protocol::Frame& reply) {
  check_type(reply, FrameType::kQueueDescribe);
  const auto& table = read_reply<fbs::QueueDescribeReply>(reply);
  std::vector<QueueInfoResult> results;
  for (uint32_t i = 0; table.queues() != nullptr && i < table.queues()->size(); ++i) {
    const fbs::QueueInfo& one = *table.queues()->Get(i);
    QueueInfoResult result;
    result.partition = {TopicId{one.topic()}, PartitionIndex{one.partition()}};
    result.floor = one.floor();
    result.end = one.end_offset();
    result.unsettled = one.unsettled();
    result.leased = one.leased();
    result.retrying = one.retrying();
    result.receivers = one.receivers();
    result.acked = one.acked();
    result.failed = one.failed();
    result.dead_lettered = one.dead_lettered();
    result.expired = one.expired();
    result.filtered = one.filtered();
    result.oldest_ms = one.oldest_unsettled_ms();
    results.push_back(result);
  }
  return results;
}

QueueUnsettledResult read_queue_unsettled_reply(const protocol::Frame& reply) {
  check_type(reply, FrameType::kQueueUnsettled);
  const auto& table = read_reply<fbs::QueueUnsettledReply>(reply);
  QueueUnsettledResult result;
  for (uint32_t i = 0; table.ranges() != nullptr && i < table.ranges()->size(); ++i) {
    result.ranges.emplace_back(table.ranges()->Get(i)->first(), table.ranges()->Get(i)->count());
  }
  result.end = table.end_offset();
  result.more = table.more();
  return result;
}

std::vector<DeadLetterResult> read_dead_letters(const protocol::Frame& fetch_reply) {
  check_type(fetch_reply, FrameType::kFetch);
  std::vector<DeadLetterResult> letters;
  for_each_message(fetch_reply.payload(), [&](Offset offset, const auto& record) {
    letters.push_back(dead_letter_of(offset, record));
  });
  return letters;
}

}  // namespace tidemark::testing
