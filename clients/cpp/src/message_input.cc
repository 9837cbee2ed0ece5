#include "clients/cpp/src/message_input.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

#include "clients/cpp/src/delay_item.h"
#include "clients/cpp/src/option_range.h"
#include "log/base/limits.h"
#include "log/format/message_properties.h"

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

Status out_of_range(std::string_view what, std::string_view unit, int64_t low, int64_t high) {
  return {ErrorCode::kInvalidArgument, std::string(what) + std::string(unit) + "; allowed are " +
                                           std::to_string(low) + " to " + std::to_string(high)};
}

Status check_text(std::string_view what, std::string_view text, size_t bytes_max) {
  return !text.empty() && text.size() <= bytes_max
             ? Status()
             : out_of_range(std::string(what) + " has " + std::to_string(text.size()), " bytes", 1,
                            static_cast<int64_t>(bytes_max));
}

Status check_number(std::string_view what, int64_t value, int64_t low, int64_t high) {
  return value >= low && value <= high
             ? Status()
             : out_of_range(std::string(what) + " is " + std::to_string(value), "", low, high);
}

Status check_properties(const client::Message& message) {
  for (const std::string_view tag : message.tags) {
    RETURN_IF_ERROR(check_text("a tag", tag, kTagBytesMax));
  }
  if (message.id) {
    RETURN_IF_ERROR(check_text("id", *message.id, limits::kMessageIdBytesMax));
  }
  if (message.ttl_ms) {
    RETURN_IF_ERROR(check_number("ttl_ms", *message.ttl_ms, 1, limits::kDelayMsMax));
  }
  return message.priority ? check_number("priority", *message.priority, 0, format::kPriorityMax)
                          : Status();
}

// Requires: check_properties().
void add_properties(const client::Message& message, RecordHeaders& headers) {
  const auto add = [&](std::string_view key, std::string_view value) {
    headers.list.push_back({.key = key, .value = as_bytes(value)});
  };
  for (const std::string_view tag : message.tags) {
    add(format::kTagHeader, tag);
  }
  if (message.id) {
    add(format::kMessageIdHeader, *message.id);
  }
  if (message.ttl_ms) {
    char* const begin = headers.ttl.data();
    const std::to_chars_result end =
        std::to_chars(begin, begin + headers.ttl.size(), *message.ttl_ms);
    add(format::kTtlHeader, {begin, end.ptr});
  }
  if (message.priority) {
    headers.priority = static_cast<char>('0' + *message.priority);
    add(format::kPriorityHeader, {&headers.priority, 1});
  }
}

void fill_headers(const client::Message& message, RecordHeaders& headers) {
  headers.list.clear();
  for (const client::Header& header : message.headers) {
    headers.list.push_back({.key = header.key,
                            .value = header.value ? as_bytes(*header.value) : ByteView(),
                            .has_value = header.value.has_value()});
  }
  add_properties(message, headers);
}

bool has_ttl(const format::RecordInput& record) {
  return std::any_of(
      record.headers.begin(), record.headers.end(),
      [](const format::HeaderInput& header) { return header.key == format::kTtlHeader; });
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
                                      RecordHeaders& headers) {
  RETURN_IF_ERROR(check_properties(message));
  fill_headers(message, headers);
  if (headers.list.size() > limits::kHeadersPerMessageMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "a message with " + std::to_string(headers.list.size()) +
                      " headers; the limit is " + std::to_string(limits::kHeadersPerMessageMax));
  }
  const format::RecordInput record{
      .timestamp_ms = message.timestamp_ms ? *message.timestamp_ms : now_ms,
      .has_key = message.key.has_value(),
      .key = message.key ? as_bytes(*message.key) : ByteView(),
      .has_value = message.value.has_value(),
      .value = message.value ? as_bytes(*message.value) : ByteView(),
      .headers = headers.list};
  const size_t content = content_bytes(record);
  if (content > limits::kMessageBytesMax) {
    return Status(ErrorCode::kTooLarge, "message of " + std::to_string(content) +
                                            " bytes; the limit is " +
                                            std::to_string(limits::kMessageBytesMax));
  }
  return record;
}

format::RecordInput to_record(const format::RecordView& record, RecordHeaders& headers) {
  headers.list.clear();
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    headers.list.push_back(
        {.key = header.key, .value = header.value, .has_value = header.has_value});
  }
  return {.timestamp_ms = record.timestamp_ms,
          .has_key = record.has_key,
          .key = record.key,
          .has_value = record.has_value,
          .value = record.value,
          .headers = headers.list};
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
  RETURN_IF_ERROR(item == nullptr ? batch.builder->append(record)
                                  : batch.schedule->append(*item, record));
  batch.ttl = batch.ttl || has_ttl(record);
  return {};
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
  RecordHeaders headers;
  fill_headers(message, headers);
  for (const format::HeaderInput& header : headers.list) {
    out.headers.emplace_back(header.key, header.has_value
                                             ? std::optional(std::string(as_text(header.value)))
                                             : std::nullopt);
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
