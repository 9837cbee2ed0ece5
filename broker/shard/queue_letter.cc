#include "broker/shard/queue_letter.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "log/format/message_properties.h"
#include "log/format/reference_batch.h"

namespace tidemark::shard {

namespace {

using format::BatchReference;

// The oldest set of the history goes, if there is a newer one.
bool forget_oldest(BatchReference& reference) {
  auto& headers = reference.headers;
  const auto begins = [](const auto& header) { return header.first == format::kDeadTopicHeader; };
  const auto first = std::find_if(headers.begin(), headers.end(), begins);
  if (first == headers.end()) {
    return false;
  }
  const auto second = std::find_if(first + 1, headers.end(), begins);
  if (second == headers.end()) {
    return false;
  }
  headers.erase(headers.begin(), second);
  return true;
}

Result<QueueLetter> build(BatchReference reference, int64_t timestamp_ms) {
  for (;;) {
    Result<Buffer> batch = format::build_reference(reference, timestamp_ms);
    if (batch.ok()) {
      QueueLetter letter;
      letter.body = reference.position;
      letter.batch = std::move(*batch);
      return letter;
    }
    if (batch.error().code() != ErrorCode::kLimitExceeded || !forget_oldest(reference)) {
      return batch.error();
    }
  }
}

Result<int64_t> timestamp_of(ByteView batch, uint32_t number) {
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  format::RecordView record;
  while (reader.next(record)) {
    if (record.offset_delta == number) {
      return record.timestamp_ms;
    }
  }
  RETURN_IF_ERROR(reader.status());
  return Status(ErrorCode::kCorrupted, "a batch without message " + std::to_string(number));
}

std::optional<uint32_t> newest_number(const BatchReference& reference, std::string_view key) {
  for (auto it = reference.headers.rbegin(); it != reference.headers.rend(); ++it) {
    if (it->first != key) {
      continue;
    }
    uint32_t value = 0;
    const char* const end = it->second.data() + it->second.size();
    const auto [at, error] = std::from_chars(it->second.data(), end, value);
    return error == std::errc() && at == end ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Result<QueueLetter> make_dead_letter(const partition::BatchRef& ref, ByteView batch,
                                     const QueueDeath& death) {
  BatchReference reference;
  int64_t timestamp_ms = 0;
  if (format::is_reference(batch)) {
    ASSIGN_OR_RETURN(reference, format::read_reference(batch));
    ASSIGN_OR_RETURN(const format::BatchHeader header, format::decode_batch_header(batch));
    timestamp_ms = header.base_timestamp_ms;
  } else {
    reference.position = ref.position;
    reference.bytes = ref.bytes;
    reference.record = static_cast<uint32_t>(death.offset - ref.base);
    ASSIGN_OR_RETURN(timestamp_ms, timestamp_of(batch, reference.record));
  }
  const auto add = [&](std::string_view key, std::string value) {
    reference.headers.emplace_back(std::string(key), std::move(value));
  };
  add(format::kDeadTopicHeader, death.topic);
  add(format::kDeadTopicIdHeader, std::to_string(death.at.topic.value()));
  add(format::kDeadPartitionHeader, std::to_string(death.at.index.value()));
  add(format::kDeadOffsetHeader, std::to_string(death.offset.value()));
  add(format::kDeadGroupHeader, death.group);
  add(format::kDeadReasonHeader, death.reason);
  add(format::kDeadDeliveriesHeader, std::to_string(death.deliveries));
  add(format::kDeadTimeHeader, std::to_string(death.time_ms));
  return build(std::move(reference), timestamp_ms);
}

Result<QueueLetter> make_redriven(ByteView batch, int64_t time_ms) {
  const Status none(ErrorCode::kNotFound, "no dead letter");
  if (!format::is_reference(batch)) {
    return none;
  }
  ASSIGN_OR_RETURN(BatchReference reference, format::read_reference(batch));
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::decode_batch_header(batch));
  // Whether it died behind the last time when it was sent back.
  bool dead = false;
  for (const auto& [key, value] : reference.headers) {
    dead = key == format::kDeadTopicHeader || (dead && key != format::kRedrivenHeader);
  }
  if (!dead) {
    return none;
  }
  const auto topic = newest_number(reference, format::kDeadTopicIdHeader);
  const auto partition = newest_number(reference, format::kDeadPartitionHeader);
  if (!topic.has_value() || !partition.has_value()) {
    return none;
  }
  reference.headers.emplace_back(std::string(format::kRedrivenHeader), std::to_string(time_ms));
  ASSIGN_OR_RETURN(QueueLetter letter, build(std::move(reference), header.base_timestamp_ms));
  letter.to = {TopicId{*topic}, PartitionIndex{*partition}};
  return letter;
}

}  // namespace tidemark::shard
