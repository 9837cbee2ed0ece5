#include "clients/cpp/src/batch.h"

#include <utility>

#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

Status visit_records(ByteView batch, const format::ScheduleItem* item, size_t& index,
                     const MessageVisitor& visit) {
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  format::RecordView record;
  while (reader.next(record)) {
    visit(index++, record, item);
  }
  return reader.status();
}

client::OwnedDelay owned_delay(const format::ScheduleItem& item) {
  client::OwnedDelay delay;
  delay.kind = item.due_kind == format::DueKind::kAfter ? client::Delay::Kind::kAfter
                                                        : client::Delay::Kind::kAt;
  delay.ms = item.due_ms;
  switch (item.recurrence) {
    case format::RecurrenceKind::kNone:
      break;
    case format::RecurrenceKind::kEvery:
      delay.repeat = client::Delay::Repeat::kEvery;
      break;
    case format::RecurrenceKind::kCron:
      delay.repeat = client::Delay::Repeat::kCron;
      break;
  }
  delay.every_ms = item.every_ms;
  delay.cron = item.cron;
  delay.zone = item.zone;
  delay.key = item.key;
  delay.replace = item.replace;
  return delay;
}

client::OwnedMessage owned_message(const format::RecordView& record) {
  client::OwnedMessage message;
  if (record.has_key) {
    message.key = std::string(as_text(record.key));
  }
  if (record.has_value) {
    message.value = std::string(as_text(record.value));
  }
  format::HeaderCursor headers(record.headers, record.header_count);
  format::HeaderView header;
  while (headers.next(header)) {
    message.headers.emplace_back(
        std::string(header.key),
        header.has_value ? std::optional(std::string(as_text(header.value))) : std::nullopt);
  }
  message.timestamp_ms = record.timestamp_ms;
  return message;
}

}  // namespace

size_t open_bytes(const Batch& batch) {
  return batch.delayed ? batch.schedule->bytes() : batch.builder->bytes();
}

Status encode_batch(Batch& batch, format::Codec codec, int zstd_level,
                    format::BatchBuilder::Producer producer) {
  if (batch.delayed) {
    batch.encoded = SharedBytes(batch.schedule->finish(batch.target, producer));
    return {};
  }
  ASSIGN_OR_RETURN(Buffer bytes, batch.builder->finish(codec, zstd_level, producer));
  batch.encoded = SharedBytes(std::move(bytes));
  return {};
}

void renumber_batch(Batch& batch, format::BatchBuilder::Producer producer) {
  TIDEMARK_CHECK(!batch.encoded.empty(), "only an encoded batch has a number");
  Buffer bytes = Buffer::copy_of(batch.encoded.view());
  if (batch.delayed) {
    format::set_schedule_producer(bytes.mutable_view(), batch.target, producer);
  } else {
    format::set_producer(bytes.mutable_view(), producer);
  }
  batch.encoded = SharedBytes(std::move(bytes));
}

Status encode_plain(Batch& batch) {
  return batch.encoded.empty() ? encode_batch(batch, format::Codec::kNone, 0, {}) : Status();
}

Status for_each_message(const Batch& batch, const MessageVisitor& visit) {
  size_t index = 0;
  if (!batch.delayed) {
    return visit_records(batch.encoded.view(), nullptr, index, visit);
  }
  ASSIGN_OR_RETURN(format::ScheduleReader reader,
                   format::ScheduleReader::open(batch.encoded.view()));
  format::ScheduleItem item;
  while (reader.next(item)) {
    RETURN_IF_ERROR(visit_records(item.batch, &item, index, visit));
  }
  return reader.status();
}

Status copy_messages(Batch& batch, const std::string& topic, std::optional<uint32_t> partition,
                     std::vector<client::OwnedMessage>& out) {
  RETURN_IF_ERROR(encode_plain(batch));
  return for_each_message(
      batch, [&](size_t i, const format::RecordView& record, const format::ScheduleItem* item) {
        client::OwnedMessage message = owned_message(record);
        message.topic = topic;
        message.partition = partition;
        if (!partition && i < batch.asked_partitions.size() &&
            batch.asked_partitions[i] != kAnyPartition) {
          message.partition = batch.asked_partitions[i];
        }
        message.opaque = i < batch.opaques.size() ? batch.opaques[i] : 0;
        if (item != nullptr) {
          message.delay = owned_delay(*item);
        }
        out.push_back(std::move(message));
      });
}

}  // namespace tidemark::client_core
