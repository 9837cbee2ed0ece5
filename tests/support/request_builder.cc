#include "tests/support/request_builder.h"

#include <cstring>
#include <utility>

#include "log/base/check.h"
#include "log/format/record_batch.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

// Adds the messages of a part's batches to `out`.
void read_batches(ByteView bytes, FetchPartResult& out) {
  while (!bytes.empty()) {
    const Result<uint32_t> size = format::batch_bytes_from_prefix(bytes);
    TIDEMARK_CHECK(size.ok() && *size <= bytes.size(), "a fetch returns whole batches");
    const ByteView batch = bytes.first(*size);
    bytes = bytes.subspan(*size);
    const Result<format::BatchHeader> header = format::verify_batch(batch);
    TIDEMARK_CHECK(header.ok(), header.status().to_string());
    Result<format::BatchReader> reader = format::BatchReader::open(batch);
    TIDEMARK_CHECK(reader.ok(), reader.status().to_string());
    format::RecordView record;
    while (reader->next(record)) {
      out.messages.push_back({Offset{header->base_offset + record.offset_delta},
                              std::string(as_text(record.value)),
                              header->producer_id,
                              std::string(as_text(record.key)),
                              record.has_value,
                              {}});
      format::HeaderCursor cursor(record.headers, record.header_count);
      format::HeaderView one;
      while (cursor.next(one)) {
        out.messages.back().headers.emplace_back(one.key, as_text(one.value));
      }
      TIDEMARK_CHECK(!cursor.failed(), "headers are well formed");
    }
    TIDEMARK_CHECK(reader->status().ok(), reader->status().to_string());
    ++out.batches;
  }
}

}  // namespace

SharedBytes build_batch(std::span<const std::string> values,
                        format::BatchBuilder::Producer producer, int64_t timestamp_ms) {
  format::BatchBuilder builder;
  for (const std::string& value : values) {
    format::RecordInput record;
    record.timestamp_ms = timestamp_ms;
    record.value = as_bytes(value);
    const Status added = builder.append(record);
    TIDEMARK_CHECK(added.ok(), added.to_string());
  }
  Result<Buffer> batch = builder.finish(format::Codec::kNone, 0, producer);
  TIDEMARK_CHECK(batch.ok(), batch.status().to_string());
  return SharedBytes(std::move(*batch));
}

SharedBytes build_messages(std::span<const MessageInput> messages, format::Codec codec) {
  format::BatchBuilder builder;
  for (const MessageInput& message : messages) {
    std::vector<format::HeaderInput> headers;
    for (const auto& [name, value] : message.headers) {
      headers.push_back({.key = name, .value = as_bytes(value)});
    }
    const Status added = builder.append(
        {.timestamp_ms = 1000, .value = as_bytes(message.value), .headers = headers});
    TIDEMARK_CHECK(added.ok(), added.to_string());
  }
  Result<Buffer> batch = builder.finish(codec, 1, {});
  TIDEMARK_CHECK(batch.ok(), batch.status().to_string());
  return SharedBytes(std::move(*batch));
}

SharedBytes build_batch_of(size_t count, size_t value_bytes,
                           format::BatchBuilder::Producer producer) {
  const std::vector<std::string> values(count, std::string(value_bytes, 'v'));
  return build_batch(values, producer);
}

protocol::Frame to_frame(const protocol::OutFrame& out) {
  Buffer bytes(out.bytes());
  size_t at = out.head.size();
  std::memcpy(bytes.data(), out.head.data(), at);
  for (const SharedBytes& part : out.payload) {
    if (!part.empty()) {
      std::memcpy(bytes.data() + at, part.data(), part.size());
    }
    at += part.size();
  }
  protocol::Frame frame;
  const Result<protocol::FrameHeader> header = protocol::decode_frame_header(
      bytes.view().first(protocol::kFrameHeaderBytes), limits::kFrameBytesMax);
  TIDEMARK_CHECK(header.ok() && header->frame_bytes == at, "an outgoing frame is well formed");
  frame.header = *header;
  frame.bytes = SharedBytes(std::move(bytes));
  return frame;
}

// --- requests
// -----------------------------------------------------------------------------------------------------------

protocol::Frame produce_request(std::span<const ProduceInput> parts, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ProducePart>> tables;
  std::vector<SharedBytes> payload;
  for (const ProduceInput& part : parts) {
    tables.push_back(fbs::CreateProducePart(
        builder, part.partition.topic.value(), part.partition.index.value(),
        static_cast<uint32_t>(part.batch.size()), fbs::ProduceKind::kBatch, 0, part.ttl));
    payload.push_back(part.batch);
  }
  const auto all = builder.CreateVector(tables);
  return request_frame(builder, fbs::CreateProduce(builder, all), FrameType::kProduce, correlation,
                       std::move(payload));
}

protocol::Frame fetch_request(std::span<const FetchInput> parts, const FetchLimits& bounds,
                              uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::FetchPart>> tables;
  for (const FetchInput& part : parts) {
    tables.push_back(fbs::CreateFetchPart(builder, part.partition.topic.value(),
                                          part.partition.index.value(), part.offset.value(),
                                          part.bytes_max));
  }
  const auto all = builder.CreateVector(tables);
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>> tags;
  if (!bounds.tags.empty()) {
    tags = builder.CreateVectorOfStrings(bounds.tags);
  }
  flatbuffers::Offset<flatbuffers::String> filter;
  if (!bounds.filter.empty()) {
    filter = builder.CreateString(bounds.filter);
  }
  return request_frame(builder,
                       fbs::CreateFetch(builder, all, bounds.wait_ms, bounds.bytes_min,
                                        bounds.bytes_max, tags, filter),
                       FrameType::kFetch, correlation);
}

protocol::Frame init_producer_request(uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(builder, fbs::CreateInitProducer(builder), FrameType::kInitProducer,
                       correlation);
}

protocol::Frame list_offsets_request(PartitionId partition, int64_t time_ms, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto part = fbs::CreateListOffsetsPart(builder, partition.topic.value(),
                                               partition.index.value(), time_ms);
  const auto all = builder.CreateVector(&part, 1);
  return request_frame(builder, fbs::CreateListOffsets(builder, all), FrameType::kListOffsets,
                       correlation);
}

protocol::Frame describe_request(TopicId topic, std::span<const uint32_t> partitions,
                                 uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto numbers = builder.CreateVector(partitions.data(), partitions.size());
  return request_frame(builder, fbs::CreatePartitionDescribe(builder, topic.value(), numbers),
                       FrameType::kPartitionDescribe, correlation);
}

protocol::Frame metadata_request(std::span<const std::string> topics, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto names = builder.CreateVectorOfStrings(topics.begin(), topics.end());
  return request_frame(builder, fbs::CreateMetadata(builder, names), FrameType::kMetadata,
                       correlation);
}

protocol::Frame topic_create_request(const TopicInput& topic, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(topic.name);
  const auto config = fbs::CreateTopicConfig(builder, topic.retention_ms, topic.retention_bytes);
  return request_frame(builder, fbs::CreateTopicCreate(builder, name, topic.partitions, config),
                       FrameType::kTopicCreate, correlation);
}

protocol::Frame topic_alter_request(const TopicInput& topic, std::span<const std::string> set,
                                    uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(topic.name);
  const auto config = fbs::CreateTopicConfig(builder, topic.retention_ms, topic.retention_bytes);
  const auto fields = builder.CreateVectorOfStrings(set.begin(), set.end());
  return request_frame(builder,
                       fbs::CreateTopicAlter(builder, name, config, fields, topic.partitions),
                       FrameType::kTopicAlter, correlation);
}

protocol::Frame topic_delete_request(std::string_view name, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString(name.data(), name.size());
  return request_frame(builder, fbs::CreateTopicDelete(builder, text), FrameType::kTopicDelete,
                       correlation);
}

// --- replies
// ------------------------------------------------------------------------------------------------------------

void check_type(const protocol::Frame& reply, FrameType type) {
  TIDEMARK_CHECK(reply.header.reply, "a reply has the reply flag");
  TIDEMARK_CHECK(
      reply.header.type == static_cast<uint16_t>(type),
      "reply of type " + std::to_string(reply.header.type) + ": " + error_of(reply).to_string());
}

Status error_of(const protocol::Frame& reply) {
  if (reply.header.type != static_cast<uint16_t>(FrameType::kError)) {
    return {};
  }
  return protocol::to_status(read_reply<fbs::ErrorReply>(reply).error());
}

std::vector<ProducePartResult> read_produce_reply(const protocol::Frame& reply) {
  check_type(reply, FrameType::kProduce);
  std::vector<ProducePartResult> results;
  for (const auto* part : *read_reply<fbs::ProduceReply>(reply).parts()) {
    results.push_back({protocol::to_status(part->error()), protocol::retry_after_ms(part->error()),
                       Offset{part->base_offset()}, part->received_ms(), part->duplicate()});
    if (part->receipts() != nullptr) {
      for (const auto* receipt : *part->receipts()) {
        results.back().receipts.push_back(*receipt);
      }
    }
    if (part->offsets() != nullptr) {
      results.back().offsets.assign(part->offsets()->begin(), part->offsets()->end());
    }
  }
  return results;
}

std::vector<FetchPartResult> read_fetch_reply(const protocol::Frame& reply) {
  check_type(reply, FrameType::kFetch);
  std::vector<FetchPartResult> results;
  ByteView payload = reply.payload();
  for (const auto* part : *read_reply<fbs::FetchReply>(reply).parts()) {
    FetchPartResult result;
    result.status = protocol::to_status(part->error());
    result.high_watermark = Offset{part->high_watermark()};
    result.start = Offset{part->start_offset()};
    result.next = Offset{part->next_offset()};
    result.bytes = part->bytes();
    result.filtered = part->filtered();
    result.expired = part->expired();
    TIDEMARK_CHECK(part->bytes() <= payload.size(), "parts announce what the payload has");
    read_batches(payload.first(part->bytes()), result);
    payload = payload.subspan(part->bytes());
    results.push_back(std::move(result));
  }
  TIDEMARK_CHECK(payload.empty(), "nothing lies behind the last part");
  return results;
}

}  // namespace tidemark::testing
