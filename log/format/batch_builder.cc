#include "log/format/batch_builder.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/base/compression.h"
#include "log/format/batch_layout.h"
#include "log/format/varint.h"

namespace tidemark::format {
namespace {

// Length and other small fields of a record around a largest message, and the two lengths of each
// of its headers.
constexpr size_t kFramingBytesMax = 64 + limits::kHeadersPerMessageMax * 2 * kVarint32BytesMax;
static_assert(kBatchHeaderBytes + limits::kMessageBytesMax + kFramingBytesMax <=
                  limits::kBatchBytesMax,
              "a largest message fits an empty builder");

// Lengths of absent fields are -1 on the wire.
int64_t wire_length(bool present, ByteView bytes) {
  return present ? static_cast<int64_t>(bytes.size()) : -1;
}

size_t field_bytes(bool present, ByteView bytes) {
  return varint_bytes(wire_length(present, bytes)) + (present ? bytes.size() : 0);
}

// Bytes of a record behind its length.
size_t body_bytes(const RecordInput& record, int64_t timestamp_delta, uint32_t ordinal) {
  size_t bytes = 1 + varint_bytes(timestamp_delta) + varint_bytes(ordinal) +
                 field_bytes(record.has_key, record.key) +
                 field_bytes(record.has_value, record.value) +
                 varint_bytes(static_cast<int64_t>(record.headers.size()));
  for (const HeaderInput& header : record.headers) {
    bytes += field_bytes(true, as_bytes(header.key)) + field_bytes(header.has_value, header.value);
  }
  return bytes;
}

size_t message_bytes(const RecordInput& record) {
  size_t bytes =
      (record.has_key ? record.key.size() : 0) + (record.has_value ? record.value.size() : 0);
  for (const HeaderInput& header : record.headers) {
    bytes += header.key.size() + (header.has_value ? header.value.size() : 0);
  }
  return bytes;
}

uint8_t* put_field(uint8_t* at, bool present, ByteView bytes) {
  at = put_varint(at, wire_length(present, bytes));
  if (present && !bytes.empty()) {
    std::memcpy(at, bytes.data(), bytes.size());
    at += bytes.size();
  }
  return at;
}

uint8_t* put_record(uint8_t* at, const RecordInput& record, size_t body, int64_t timestamp_delta,
                    uint32_t ordinal) {
  at = put_varint(at, static_cast<int64_t>(body));
  *at++ = 0;  // attributes: none is defined
  at = put_varint(at, timestamp_delta);
  at = put_varint(at, ordinal);
  at = put_field(at, record.has_key, record.key);
  at = put_field(at, record.has_value, record.value);
  at = put_varint(at, static_cast<int64_t>(record.headers.size()));
  for (const HeaderInput& header : record.headers) {
    at = put_field(at, true, as_bytes(header.key));
    at = put_field(at, header.has_value, header.value);
  }
  return at;
}

void put_producer(MutableByteView batch, BatchBuilder::Producer producer) {
  store_be(batch.data() + kProducerIdAt, producer.id);
  store_be(batch.data() + kProducerEpochAt, producer.epoch);
  store_be(batch.data() + kBaseSequenceAt, producer.base_sequence);
}

Status batch_full(const std::string& has, const std::string& limit) {
  return Status(ErrorCode::kLimitExceeded, "batch of " + has + "; the limit is " + limit);
}

}  // namespace

size_t BatchBuilder::record_bytes(const RecordInput& record) const {
  int64_t timestamp_delta = 0;
  if (count_ != 0 &&
      __builtin_sub_overflow(record.timestamp_ms, base_timestamp_ms_, &timestamp_delta)) {
    timestamp_delta = INT64_MIN;  // append() refuses it; count the longest
  }
  const size_t body = body_bytes(record, timestamp_delta, count_);
  return varint_bytes(static_cast<int64_t>(body)) + body;
}

Status BatchBuilder::append(const RecordInput& record) {
  if (record.headers.size() > limits::kHeadersPerMessageMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "a message with " + std::to_string(record.headers.size()) +
                      " headers; the limit is " + std::to_string(limits::kHeadersPerMessageMax));
  }
  const size_t message = message_bytes(record);
  if (message > limits::kMessageBytesMax) {
    return message_too_large("append", message);
  }
  if (count_ == limits::kRecordsPerBatchMax) {
    return batch_full(std::to_string(count_ + 1) + " records",
                      std::to_string(limits::kRecordsPerBatchMax));
  }
  int64_t timestamp_delta = 0;
  if (count_ != 0 &&
      __builtin_sub_overflow(record.timestamp_ms, base_timestamp_ms_, &timestamp_delta)) {
    return Status(ErrorCode::kInvalidArgument, "timestamp " + std::to_string(record.timestamp_ms) +
                                                   " is too far from the first one of the batch, " +
                                                   std::to_string(base_timestamp_ms_));
  }
  const size_t body = body_bytes(record, timestamp_delta, count_);
  const size_t header = count_ == 0 ? kBatchHeaderBytes : 0;
  const size_t added = header + varint_bytes(static_cast<int64_t>(body)) + body;
  if (bytes_.size() + added > limits::kBatchBytesMax) {
    return batch_full(std::to_string(bytes_.size() + added) + " bytes",
                      std::to_string(limits::kBatchBytesMax));
  }
  uint8_t* const at = bytes_.extend(added);
  uint8_t* const end = put_record(at + header, record, body, timestamp_delta, count_);
  TIDEMARK_CHECK(end == at + added, "a record is not as long as computed");
  if (count_ == 0) {
    base_timestamp_ms_ = record.timestamp_ms;
    max_timestamp_ms_ = record.timestamp_ms;
  } else {
    max_timestamp_ms_ = std::max(max_timestamp_ms_, record.timestamp_ms);
  }
  ++count_;
  return {};
}

Result<Buffer> BatchBuilder::finish(Codec codec, int zstd_level, Producer producer) {
  TIDEMARK_CHECK(count_ > 0, "finish() of an empty batch");
  if (codec != Codec::kNone && codec != Codec::kZstd) {
    return Status(ErrorCode::kUnsupportedType,
                  "codec " + std::to_string(static_cast<int>(codec)) +
                      "; batches are written with 0 (none) or 4 (zstd)");
  }
  ByteView block = bytes_.view().subspan(kBatchHeaderBytes);
  Codec used = Codec::kNone;
  if (codec == Codec::kZstd) {
    if (compressed_.size() < block.size()) {
      compressed_ = Buffer(bytes_.capacity());
    }
    // One byte less than the plain block: what does not become smaller does not fit.
    const Result<size_t> size =
        zstd_compress_into(block, zstd_level, compressed_.mutable_view().first(block.size() - 1));
    if (size.ok()) {
      block = compressed_.view().first(*size);
      used = Codec::kZstd;
    } else if (size.error().code() != ErrorCode::kTooLarge) {
      return size.error();
    }
  }
  TIDEMARK_CHECK(block.size() <= limits::kBatchBytesMax - kBatchHeaderBytes,
                 "append() keeps the limit");
  Buffer batch(kBatchHeaderBytes + block.size());
  std::memcpy(batch.data() + kBatchHeaderBytes, block.data(), block.size());
  put_header(batch.mutable_view(), used, producer);
  reset();
  return batch;
}

void BatchBuilder::finish_plain(MutableByteView out, Producer producer) {
  TIDEMARK_CHECK(count_ > 0, "finish_plain() of an empty batch");
  TIDEMARK_CHECK(out.size() == bytes_.size(), "finish_plain() needs bytes() bytes");
  std::memcpy(out.data() + kBatchHeaderBytes, bytes_.view().data() + kBatchHeaderBytes,
              out.size() - kBatchHeaderBytes);
  put_header(out, Codec::kNone, producer);
  reset();
}

void BatchBuilder::put_header(MutableByteView batch, Codec codec, Producer producer) const {
  uint8_t* const at = batch.data();
  stamp_batch(batch, 0, static_cast<uint32_t>(batch.size()), 0);
  at[kMagicAt] = kMagic;
  store_be(at + kAttributesAt, static_cast<uint16_t>(codec));
  store_be(at + kLastOffsetDeltaAt, count_ - 1);
  store_be(at + kBaseTimestampAt, base_timestamp_ms_);
  store_be(at + kMaxTimestampAt, max_timestamp_ms_);
  put_producer(batch, producer);
  store_be(at + kRecordCountAt, count_);
  put_crc(batch);
}

void BatchBuilder::reset() {
  bytes_.clear();
  count_ = 0;
}

void set_producer(MutableByteView batch, BatchBuilder::Producer producer) {
  TIDEMARK_CHECK(decode_batch_header(batch).ok(), "set_producer() needs a valid batch");
  put_producer(batch, producer);
  put_crc(batch);
}

}  // namespace tidemark::format
