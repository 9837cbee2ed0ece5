#include "broker/shard/message_ids.h"

#include <string>

#include "log/base/check.h"
#include "log/base/limits.h"
#include "log/format/batch_builder.h"
#include "log/format/message_properties.h"

namespace tidemark::shard {

namespace {

constexpr int kZstdLevel = 1;

Result<MessageId> read_id(const format::RecordView& record) {
  format::HeaderCursor headers(record.headers, record.header_count);
  format::HeaderView header;
  while (headers.next(header)) {
    if (header.key != format::kMessageIdHeader) {
      continue;
    }
    if (header.value.size() > limits::kMessageIdBytesMax) {
      return Status(ErrorCode::kInvalidArgument,
                    "record " + std::to_string(record.offset_delta) + " has a message id of " +
                        std::to_string(header.value.size()) + " bytes; the limit is " +
                        std::to_string(limits::kMessageIdBytesMax));
    }
    return header.value.empty() ? MessageId() : MessageId(xxh3_128(header.value));
  }
  return MessageId();
}

}  // namespace

Result<std::vector<MessageId>> read_message_ids(ByteView batch) {
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::decode_batch_header(batch));
  if (header.codec != format::Codec::kNone && header.codec != format::Codec::kZstd) {
    return Status(ErrorCode::kInvalidArgument,
                  "a topic with dedupe_window_ms takes batches that are not compressed, or with "
                  "zstd: their message ids are read");
  }
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  std::vector<MessageId> ids;
  ids.reserve(header.record_count);
  bool any = false;
  format::RecordView record;
  while (reader.next(record)) {
    ASSIGN_OR_RETURN(const MessageId id, read_id(record));
    any = any || id.has_value();
    ids.push_back(id);
  }
  RETURN_IF_ERROR(reader.status());
  return any ? std::move(ids) : std::vector<MessageId>();
}

Result<Buffer> keep_messages(ByteView batch, const std::vector<bool>& kept) {
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  const format::BatchHeader& whole = reader.header();
  TIDEMARK_CHECK(kept.size() == whole.record_count, "one flag a message");
  format::BatchBuilder builder;
  std::vector<format::HeaderInput> inputs;
  format::RecordView record;
  while (reader.next(record)) {
    if (!kept[record.offset_delta]) {
      continue;
    }
    inputs.clear();
    format::HeaderCursor headers(record.headers, record.header_count);
    format::HeaderView header;
    while (headers.next(header)) {
      inputs.push_back({header.key, header.value, header.has_value});
    }
    const Status added = builder.append({.timestamp_ms = record.timestamp_ms,
                                         .has_key = record.has_key,
                                         .key = record.key,
                                         .has_value = record.has_value,
                                         .value = record.value,
                                         .headers = inputs});
    if (!added.ok()) {
      return Status(
          ErrorCode::kTooLarge,
          "some messages are duplicates, and the others do not fit a batch of their own: " +
              std::string(added.context()));
    }
  }
  RETURN_IF_ERROR(reader.status());
  return builder.finish(whole.codec, kZstdLevel,
                        {whole.producer_id, whole.producer_epoch, whole.base_sequence});
}

}  // namespace tidemark::shard
