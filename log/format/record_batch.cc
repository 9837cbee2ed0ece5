#include "log/format/record_batch.h"

#include <algorithm>
#include <string>
#include <utility>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/compression.h"
#include "log/format/batch_layout.h"
#include "log/format/varint.h"

namespace tidemark::format {
namespace {

static_assert(limits::kBatchBytesMax <= INT32_MAX, "lengths are 32 bits, signed");

std::string number(uint64_t value) { return std::to_string(value); }

Status malformed(std::string context) { return Status(ErrorCode::kMalformed, std::move(context)); }

// Why a record is refused, in words that fit behind "record N: "; nullptr if it is not. A plain
// pointer keeps strings and Statuses out of the loop over records.
using Damage = const char*;

// Decodes one record and moves the scanner behind it. The header region is delimited, not walked.
Damage scan_record(RecordScanner& in, int64_t base_timestamp_ms, RecordView& out) {
  int32_t length = 0;
  if (!in.varint32(length)) {
    return "bad varint in its length";
  }
  ByteView body;
  if (length < 0 || !in.bytes(static_cast<size_t>(length), body)) {
    return "its length exceeds the batch";
  }
  RecordScanner fields(body);
  uint8_t attributes = 0;  // none is defined
  int64_t timestamp_delta = 0;
  int32_t offset_delta = 0;
  int32_t key_bytes = 0;
  if (!fields.byte(attributes) || !fields.varint64(timestamp_delta) ||
      !fields.varint32(offset_delta) || !fields.varint32(key_bytes)) {
    return "bad varint before the key";
  }
  out.offset_delta = static_cast<uint32_t>(offset_delta);
  if (__builtin_add_overflow(base_timestamp_ms, timestamp_delta, &out.timestamp_ms)) {
    return "its timestamp does not fit 64 bits";
  }
  out.has_key = key_bytes >= 0;
  out.key = {};
  if (key_bytes < -1 || (out.has_key && !fields.bytes(static_cast<size_t>(key_bytes), out.key))) {
    return "its key length exceeds the record";
  }
  int32_t value_bytes = 0;
  if (!fields.varint32(value_bytes)) {
    return "bad varint before the value";
  }
  out.has_value = value_bytes >= 0;
  out.value = {};
  if (value_bytes < -1 ||
      (out.has_value && !fields.bytes(static_cast<size_t>(value_bytes), out.value))) {
    return "its value length exceeds the record";
  }
  int32_t header_count = 0;
  if (!fields.varint32(header_count)) {
    return "bad varint before the headers";
  }
  // A header takes at least its two lengths.
  if (header_count < 0 || static_cast<size_t>(header_count) > fields.remaining() / 2) {
    return "its header count exceeds the record";
  }
  if (header_count == 0 && fields.remaining() != 0) {
    return "bytes after its last field";
  }
  out.header_count = static_cast<uint32_t>(header_count);
  out.headers = fields.rest();
  return nullptr;
}

Status record_damage(uint32_t ordinal, Damage damage) {
  return malformed("record " + number(ordinal) + ": " + damage);
}

// Decodes record `ordinal` of a batch. Its offset delta is at least `lowest_delta`, and leaves room
// for the records behind it; so in a batch from which nothing was left out it is `ordinal`.
Damage scan_record_in_order(RecordScanner& in, const BatchHeader& header, uint32_t ordinal,
                            uint32_t lowest_delta, RecordView& out) {
  const Damage damage = scan_record(in, header.base_timestamp_ms, out);
  if (damage != nullptr) {
    return damage;
  }
  const uint32_t records_behind = header.record_count - 1 - ordinal;
  if (out.offset_delta < lowest_delta ||
      out.offset_delta > header.last_offset_delta - records_behind) {
    return "its offset delta is out of order";
  }
  if (header.log_append_time) {
    out.timestamp_ms = header.max_timestamp_ms;
  }
  return nullptr;
}

// The headers of a record whose region is delimited; adds the bytes of keys and values to
// `message_bytes`.
Status validate_headers(uint32_t ordinal, const RecordView& record, size_t& message_bytes) {
  if (record.header_count > limits::kHeadersPerMessageMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "record " + number(ordinal) + " has " + number(record.header_count) +
                      " headers; the limit is " + number(limits::kHeadersPerMessageMax));
  }
  HeaderCursor cursor(record.headers, record.header_count);
  HeaderView header;
  while (cursor.next(header)) {
    message_bytes += header.key.size() + header.value.size();
  }
  return cursor.failed() ? record_damage(ordinal, "bad headers") : Status();
}

// Every record of a producer's batch; `records` is the plain block.
Status validate_records(const BatchHeader& header, ByteView records) {
  RecordScanner in(records);
  RecordView record;
  int64_t max_timestamp_ms = INT64_MIN;
  for (uint32_t ordinal = 0; ordinal < header.record_count; ++ordinal) {
    const Damage damage = scan_record_in_order(in, header, ordinal, ordinal, record);
    if (damage != nullptr) {
      return record_damage(ordinal, damage);
    }
    size_t message_bytes = record.key.size() + record.value.size();
    if (record.header_count != 0) {
      RETURN_IF_ERROR(validate_headers(ordinal, record, message_bytes));
    }
    if (message_bytes > limits::kMessageBytesMax) {
      return message_too_large("record " + number(ordinal), message_bytes);
    }
    max_timestamp_ms = std::max(max_timestamp_ms, record.timestamp_ms);
  }
  if (in.remaining() != 0) {
    return malformed(number(in.remaining()) + " bytes after the last of " +
                     number(header.record_count) + " records");
  }
  if (max_timestamp_ms != header.max_timestamp_ms) {
    return malformed("max timestamp " + std::to_string(header.max_timestamp_ms) +
                     " in the header, " + std::to_string(max_timestamp_ms) + " in the records");
  }
  return {};
}

// What only a broker may write, and producer fields that contradict each other.
Status validate_producer_header(const BatchHeader& header) {
  if (header.control) {
    return Status(ErrorCode::kNotAllowed, "control batch from a producer");
  }
  if (header.log_append_time) {
    return Status(ErrorCode::kNotAllowed, "batch with log append time from a producer");
  }
  if (header.producer_id < -1) {
    return malformed("producer id " + std::to_string(header.producer_id) +
                     "; allowed are -1 (none) and above");
  }
  if (header.producer_id >= 0 && (header.producer_epoch < 0 || header.base_sequence < 0)) {
    return malformed("producer id " + std::to_string(header.producer_id) + " with epoch " +
                     std::to_string(header.producer_epoch) + " and base sequence " +
                     std::to_string(header.base_sequence) + "; both must be at least 0");
  }
  return {};
}

Status check_size(ByteView batch) {
  if (batch.size() < kBatchHeaderBytes) {
    return malformed("batch of " + number(batch.size()) + " bytes; its header alone has " +
                     number(kBatchHeaderBytes));
  }
  if (batch.size() > limits::kBatchBytesMax) {
    return Status(ErrorCode::kTooLarge, "batch of " + number(batch.size()) +
                                            " bytes; the limit is " +
                                            number(limits::kBatchBytesMax));
  }
  const uint64_t promised =
      uint64_t{load_be<uint32_t>(batch.data() + kLengthAt)} + kLengthCoversFrom;
  if (promised != batch.size()) {
    return malformed("batch of " + number(batch.size()) + " bytes; its length field says " +
                     number(promised));
  }
  const auto magic = batch[kMagicAt];
  if (magic != kMagic) {
    return Status(ErrorCode::kUnsupportedVersion,
                  "batch with magic " + number(magic) + "; supported is 2");
  }
  return {};
}

Status check_attributes(uint16_t attributes) {
  const uint16_t codec = attributes & kCodecMask;
  if (codec > static_cast<uint16_t>(Codec::kZstd)) {
    return Status(ErrorCode::kUnsupportedType, "batch with unknown codec " + number(codec));
  }
  if ((attributes & ~kKnownAttributes) != 0) {
    return Status(ErrorCode::kUnsupportedVersion,
                  "batch with unknown attributes " + number(attributes));
  }
  return {};
}

Status contradicting_delta(uint32_t count, uint32_t last_delta) {
  return malformed("batch of " + number(count) + " records with last offset delta " +
                   number(last_delta));
}

}  // namespace

Result<BatchHeader> decode_batch_header(ByteView batch) {
  RETURN_IF_ERROR(check_size(batch));
  const uint8_t* const at = batch.data();
  const auto attributes = load_be<uint16_t>(at + kAttributesAt);
  RETURN_IF_ERROR(check_attributes(attributes));
  const auto count = load_be<uint32_t>(at + kRecordCountAt);
  const auto last_delta = load_be<uint32_t>(at + kLastOffsetDeltaAt);
  if (count == 0) {
    return malformed("batch without records");
  }
  if (count > limits::kRecordsPerBatchMax) {
    return Status(ErrorCode::kLimitExceeded, "batch of " + number(count) +
                                                 " records; the limit is " +
                                                 number(limits::kRecordsPerBatchMax));
  }
  if (last_delta < count - 1 || last_delta >= limits::kRecordsPerBatchMax) {
    return contradicting_delta(count, last_delta);
  }
  return BatchHeader{.base_offset = load_be<uint64_t>(at + kBaseOffsetAt),
                     .batch_bytes = static_cast<uint32_t>(batch.size()),
                     .codec = static_cast<Codec>(attributes & kCodecMask),
                     .transactional = (attributes & kTransactionalBit) != 0,
                     .control = (attributes & kControlBit) != 0,
                     .log_append_time = (attributes & kLogAppendTimeBit) != 0,
                     .record_count = count,
                     .last_offset_delta = last_delta,
                     .base_timestamp_ms = load_be<int64_t>(at + kBaseTimestampAt),
                     .max_timestamp_ms = load_be<int64_t>(at + kMaxTimestampAt),
                     .producer_id = load_be<int64_t>(at + kProducerIdAt),
                     .producer_epoch = load_be<int16_t>(at + kProducerEpochAt),
                     .base_sequence = load_be<int32_t>(at + kBaseSequenceAt)};
}

Result<uint32_t> batch_bytes_from_prefix(ByteView prefix) {
  if (prefix.size() < kLengthCoversFrom) {
    return malformed("batch prefix of " + number(prefix.size()) + " bytes; needed are " +
                     number(kLengthCoversFrom));
  }
  const uint64_t promised =
      uint64_t{load_be<uint32_t>(prefix.data() + kLengthAt)} + kLengthCoversFrom;
  if (promised < kBatchHeaderBytes || promised > limits::kBatchBytesMax) {
    return malformed("batch length field says " + number(promised) + " bytes; allowed are " +
                     number(kBatchHeaderBytes) + " to " + number(limits::kBatchBytesMax));
  }
  return static_cast<uint32_t>(promised);
}

Result<BatchHeader> verify_batch(ByteView batch) {
  ASSIGN_OR_RETURN(const BatchHeader header, decode_batch_header(batch));
  if (crc32c(batch.subspan(kCrcCoversFrom)) != load_be<uint32_t>(batch.data() + kCrcAt)) {
    return Status(ErrorCode::kCorrupted,
                  "batch of " + number(batch.size()) + " bytes: wrong checksum");
  }
  return header;
}

Result<BatchHeader> verify_whole_batch(ByteView batch) {
  ASSIGN_OR_RETURN(const BatchHeader header, verify_batch(batch));
  if (header.last_offset_delta != header.record_count - 1) {
    return contradicting_delta(header.record_count, header.last_offset_delta);
  }
  return header;
}

Result<BatchHeader> validate_produced_batch(ByteView batch) {
  ASSIGN_OR_RETURN(const BatchHeader header, verify_whole_batch(batch));
  RETURN_IF_ERROR(validate_producer_header(header));
  const ByteView block = batch.subspan(kBatchHeaderBytes);
  switch (header.codec) {
    case Codec::kNone:
      RETURN_IF_ERROR(validate_records(header, block));
      break;
    case Codec::kZstd: {
      ASSIGN_OR_RETURN(const Buffer inflated, zstd_inflate(block, limits::kInflatedBatchBytesMax));
      RETURN_IF_ERROR(validate_records(header, inflated.view()));
      break;
    }
    case Codec::kGzip:
    case Codec::kSnappy:
    case Codec::kLz4:
      break;
  }
  return header;
}

void stamp_batch(MutableByteView first_bytes, uint64_t base_offset, uint32_t batch_bytes,
                 uint32_t leader_epoch) {
  TIDEMARK_CHECK(first_bytes.size() >= kBatchStampBytes);
  TIDEMARK_CHECK(batch_bytes >= kBatchHeaderBytes);
  store_be(first_bytes.data() + kBaseOffsetAt, base_offset);
  store_be(first_bytes.data() + kLengthAt, static_cast<uint32_t>(batch_bytes - kLengthCoversFrom));
  store_be(first_bytes.data() + kLeaderEpochAt, leader_epoch);
}

bool HeaderCursor::next(HeaderView& out) {
  if (failed_) {
    return false;
  }
  if (left_ == 0) {
    failed_ = !rest_.empty();
    return false;
  }
  RecordScanner in(rest_);
  int32_t key_bytes = 0;
  int32_t value_bytes = 0;
  ByteView key;
  ByteView value;
  const bool good = in.varint32(key_bytes) && key_bytes >= 0 &&
                    in.bytes(static_cast<size_t>(key_bytes), key) && in.varint32(value_bytes) &&
                    value_bytes >= -1 &&
                    (value_bytes == -1 || in.bytes(static_cast<size_t>(value_bytes), value));
  if (!good) {
    failed_ = true;
    return false;
  }
  out = HeaderView{.key = as_text(key), .value = value, .has_value = value_bytes >= 0};
  rest_ = in.rest();
  --left_;
  return true;
}

Result<BatchReader> BatchReader::open(ByteView batch) {
  BatchReader reader;
  ASSIGN_OR_RETURN(reader.header_, decode_batch_header(batch));
  const ByteView block = batch.subspan(kBatchHeaderBytes);
  switch (reader.header_.codec) {
    case Codec::kNone:
      reader.rest_ = block;
      break;
    case Codec::kZstd: {
      ASSIGN_OR_RETURN(reader.inflated_, zstd_inflate(block, limits::kInflatedBatchBytesMax));
      reader.rest_ = reader.inflated_.view();
      break;
    }
    case Codec::kGzip:
    case Codec::kSnappy:
    case Codec::kLz4:
      return Status(ErrorCode::kUnsupportedType,
                    "batch with codec " + number(static_cast<uint8_t>(reader.header_.codec)) +
                        "; readable are 0 (none) and 4 (zstd)");
  }
  return reader;
}

bool BatchReader::next(RecordView& out) {
  if (!status_.ok()) {
    return false;
  }
  if (read_ == header_.record_count) {
    if (!rest_.empty()) {
      status_ = malformed(number(rest_.size()) + " bytes after the last of " + number(read_) +
                          " records");
    }
    return false;
  }
  RecordScanner in(rest_);
  const Damage damage = scan_record_in_order(in, header_, read_, lowest_delta_, out);
  if (damage != nullptr) {
    status_ = record_damage(read_, damage);
    return false;
  }
  rest_ = in.rest();
  lowest_delta_ = out.offset_delta + 1;
  ++read_;
  return true;
}

}  // namespace tidemark::format
