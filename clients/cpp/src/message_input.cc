#include "clients/cpp/src/message_input.h"

#include <algorithm>
#include <string>
#include <utility>

#include "clients/cpp/src/delay_item.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

// What a message costs beside its bytes: lengths in the record, its place in the batch's lists.
constexpr size_t kMessageOverheadBytes = 40;
constexpr size_t kHeaderOverheadBytes = 10;
// What a delayed message costs on top: its place in a set and a batch of its own.
constexpr size_t kDelayOverheadBytes =
    format::kScheduleItemHeaderBytes + format::kBatchHeaderBytes + 20;
constexpr size_t kSpareBuildersMax = 8;

size_t content_bytes(const format::RecordInput& record) {
  size_t bytes =
      (record.has_key ? record.key.size() : 0) + (record.has_value ? record.value.size() : 0);
  for (const format::HeaderInput& header : record.headers) {
    bytes += header.key.size() + (header.has_value ? header.value.size() : 0);
  }
  return bytes;
}

template <typename T>
void give_one(std::vector<std::unique_ptr<T>>& spares, std::unique_ptr<T>& out) {
  if (spares.empty()) {
    out = std::make_unique<T>();
    return;
  }
  out = std::move(spares.back());
  spares.pop_back();
}

template <typename T>
void keep_one(std::vector<std::unique_ptr<T>>& spares, std::unique_ptr<T> builder) {
  if (builder != nullptr && spares.size() < kSpareBuildersMax) {
    builder->reset();
    spares.push_back(std::move(builder));
  }
}

}  // namespace

Status check_topic_name(std::string_view name) {
  const bool allowed = !name.empty() && name.size() <= limits::kTopicNameBytesMax && name != "." &&
                       name != ".." && std::all_of(name.begin(), name.end(), [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                       });
  return allowed
             ? Status()
             : Status(ErrorCode::kInvalidArgument,
                      "topic name \"" + std::string(name.substr(0, 250)) +
                          "\": allowed are 1 to 200 of [A-Za-z0-9._-], but not \".\" or \"..\"");
}

Result<format::RecordInput> to_record(const client::Message& message, int64_t now_ms,
                                      std::vector<format::HeaderInput>& headers) {
  headers.clear();
  for (const client::Header& header : message.headers) {
    headers.push_back({.key = header.key,
                       .value = header.value ? as_bytes(*header.value) : ByteView(),
                       .has_value = header.value.has_value()});
  }
  const format::RecordInput record{
      .timestamp_ms = message.timestamp_ms ? *message.timestamp_ms : now_ms,
      .has_key = message.key.has_value(),
      .key = message.key ? as_bytes(*message.key) : ByteView(),
      .has_value = message.value.has_value(),
      .value = message.value ? as_bytes(*message.value) : ByteView(),
      .headers = headers};
  const size_t content = content_bytes(record);
  if (content > limits::kMessageBytesMax) {
    return Status(ErrorCode::kTooLarge, "message of " + std::to_string(content) +
                                            " bytes; the limit is " +
                                            std::to_string(limits::kMessageBytesMax));
  }
  return record;
}

format::RecordInput to_record(const format::RecordView& record,
                              std::vector<format::HeaderInput>& headers) {
  headers.clear();
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    headers.push_back({.key = header.key, .value = header.value, .has_value = header.has_value});
  }
  return {.timestamp_ms = record.timestamp_ms,
          .has_key = record.has_key,
          .key = record.key,
          .has_value = record.has_value,
          .value = record.value,
          .headers = headers};
}

size_t charge_of(const format::RecordInput& record, const format::ScheduleItem* item) {
  const size_t plain =
      content_bytes(record) + kMessageOverheadBytes + record.headers.size() * kHeaderOverheadBytes;
  return item == nullptr ? plain
                         : plain + kDelayOverheadBytes + item->key.size() + item->zone.size() +
                               item->cron.size();
}

bool suits_batch(const Batch& batch, bool delayed, size_t charge, size_t batch_bytes) {
  const uint32_t records_max =
      batch.delayed ? format::kScheduleItemsMax : limits::kRecordsPerBatchMax;
  return batch.delayed == delayed && batch.records < records_max &&
         open_bytes(batch) + charge <= batch_bytes;
}

Status append_to(Batch& batch, const format::RecordInput& record,
                 const format::ScheduleItem* item) {
  return item == nullptr ? batch.builder->append(record) : batch.schedule->append(*item, record);
}

Result<std::optional<uint32_t>> named_partition(std::string_view topic, size_t partitions,
                                                uint32_t asked, const format::RecordInput& record,
                                                const format::ScheduleItem* item) {
  if (asked != kAnyPartition) {
    if (asked >= partitions) {
      return Status(ErrorCode::kInvalidArgument, "partition " + std::to_string(asked) +
                                                     " of topic \"" + std::string(topic) +
                                                     "\", which has " + std::to_string(partitions));
    }
    return std::optional(asked);
  }
  if (item != nullptr && !item->key.empty()) {
    return std::optional(partition_of_key(as_bytes(item->key), partitions));
  }
  if (record.has_key) {
    return std::optional(partition_of_key(record.key, partitions));
  }
  return std::optional<uint32_t>();
}

client::OwnedMessage own_message(const client::Message& message, int64_t now_ms) {
  client::OwnedMessage out;
  out.partition = message.partition;
  out.key = message.key;
  out.value = message.value;
  for (const client::Header& header : message.headers) {
    out.headers.emplace_back(header.key, header.value);
  }
  out.timestamp_ms = message.timestamp_ms.value_or(now_ms);
  if (message.delay) {
    const client::Delay& delay = *message.delay;
    out.delay = client::OwnedDelay{.kind = delay.kind(),
                                   .ms = delay.ms(),
                                   .repeat = delay.repeat(),
                                   .every_ms = delay.every_ms(),
                                   .cron = std::string(delay.cron()),
                                   .zone = std::string(delay.zone()),
                                   .key = std::string(delay.key()),
                                   .replace = delay.replace()};
  }
  return out;
}

client::Message view_of(const client::OwnedMessage& message, std::vector<client::Header>& headers) {
  headers.clear();
  for (const auto& [key, value] : message.headers) {
    headers.push_back({.key = key, .value = value});
  }
  client::Message out{.key = message.key,
                      .value = message.value,
                      .headers = headers,
                      .timestamp_ms = message.timestamp_ms,
                      .partition = message.partition};
  if (message.delay) {
    out.delay = message.delay->view();
  }
  return out;
}

void BuilderPool::give(Batch& batch) {
  if (batch.delayed) {
    give_one(schedules_, batch.schedule);
  } else {
    give_one(builders_, batch.builder);
  }
}

void BuilderPool::take_back(Batch& batch) {
  keep_one(builders_, std::move(batch.builder));
  keep_one(schedules_, std::move(batch.schedule));
}

}  // namespace tidemark::client_core
