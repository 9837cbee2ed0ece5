#include "clients/cpp/src/chunk_reader.h"

#include <string>
#include <utility>

namespace tidemark::client_core {

void ChunkReader::open(SharedBytes bytes, uint64_t from) {
  bytes_ = std::move(bytes);
  at_ = 0;
  next_offset_ = from;
}

Status ChunkReader::read(size_t enough) {
  messages_.clear();
  headers_.clear();
  ranges_.clear();
  readers_.clear();
  Status status;
  while (status.ok() && !done() && messages_.size() < enough) {
    const ByteView rest = bytes_.view().subspan(at_);
    const Result<uint32_t> size = format::batch_bytes_from_prefix(rest);
    if (!size.ok()) {
      status = size.error();
    } else if (*size > rest.size()) {
      status =
          Status(ErrorCode::kMalformed, "a batch of " + std::to_string(*size) + " bytes, only " +
                                            std::to_string(rest.size()) + " were sent");
    } else {
      status = read_batch(rest.first(*size));
      at_ += *size;
    }
  }
  for (const HeaderRange& range : ranges_) {
    messages_[range.message].headers = {headers_.data() + range.first, range.count};
  }
  if (!status.ok()) {
    at_ = bytes_.size();
  }
  return status;
}

Status ChunkReader::read_batch(ByteView batch) {
  const Result<format::BatchHeader> verified = format::verify_batch(batch);
  if (!verified.ok()) {
    return verified.error();
  }
  const uint64_t base = verified->base_offset;
  const uint64_t end = base + verified->last_offset_delta + 1;
  if (end <= next_offset_) {
    return {};
  }
  if (verified->control) {
    next_offset_ = end;
    return {};
  }
  Result<format::BatchReader> opened = format::BatchReader::open(batch);
  if (!opened.ok()) {
    return opened.error();
  }
  readers_.push_back(std::move(opened).value());
  format::BatchReader& reader = readers_.back();
  format::RecordView record;
  while (reader.next(record)) {
    const uint64_t offset = base + record.offset_delta;
    if (offset < next_offset_) {
      continue;
    }
    client::ReceivedMessage& message = messages_.emplace_back();
    message.offset = offset;
    message.timestamp_ms = record.timestamp_ms;
    if (record.has_key) {
      message.key = as_text(record.key);
    }
    if (record.has_value) {
      message.value = as_text(record.value);
    }
    next_offset_ = offset + 1;
    if (record.header_count == 0) {
      continue;
    }
    ranges_.push_back({messages_.size() - 1, headers_.size(), record.header_count});
    format::HeaderCursor cursor(record.headers, record.header_count);
    format::HeaderView header;
    while (cursor.next(header)) {
      headers_.push_back(
          {.key = header.key,
           .value = header.has_value ? std::optional(as_text(header.value)) : std::nullopt});
    }
    if (cursor.failed()) {
      ranges_.pop_back();
      messages_.pop_back();
      next_offset_ = offset;
      return {ErrorCode::kCorrupted, "headers of a record are damaged"};
    }
  }
  if (reader.status().ok()) {
    next_offset_ = end;  // the broker may have left out the last ones
  }
  return reader.status();
}

}  // namespace tidemark::client_core
