// RecordBatch v2 as published by Apache Kafka: the one body format, stored and served verbatim.
//
//   offset bytes field (big-endian)
//        0     8 base offset            stamped when served; outside the CRC
//        8     4 length of what follows (size - 12)
//       12     4 partition leader epoch outside the CRC
//       16     1 magic = 2
//       17     4 CRC-32C of bytes 21..end
//       21     2 attributes: bits 0-2 codec (0 none, 4 zstd), 3 timestamp type (1: log append),
//                4 transactional, 5 control
//       23     4 last offset delta = record count - 1; more if records were left out
//       (batch_select.h) 27     8 base timestamp, ms 35     8 max timestamp, ms 43     8 producer
//       id (-1: none) 51     2 producer epoch (-1: none) 53     4 base sequence (-1: none) 57     4
//       record count 61       records, compressed as one block if a codec is set
//
//   A record: varint length, i8 attributes, varint timestamp delta, varint offset delta,
//     varint key length (-1: no key) and key, varint value length (-1: no value) and value,
//     varint header count, headers.
//   A header: varint key length and key, varint value length (-1: no value) and value.
//   Varints are zigzag, in the fewest bytes; lengths and counts have 32 bits, timestamps 64.
#pragma once

#include <cstdint>
#include <string_view>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::format {

inline constexpr size_t kBatchHeaderBytes = 61;
// Bytes before the CRC's range that may be rewritten when a batch is served: base offset, length,
// leader epoch.
inline constexpr size_t kBatchStampBytes = 16;

enum class Codec : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

// The fixed header, decoded.
struct BatchHeader {
  uint64_t base_offset = 0;
  uint32_t batch_bytes = 0;  // whole batch, header included
  Codec codec = Codec::kNone;
  bool transactional = false;
  bool control = false;
  bool log_append_time = false;  // every record has the max timestamp
  uint32_t record_count = 0;
  // The batch stands for this many offsets, less one: at least record_count - 1.
  uint32_t last_offset_delta = 0;
  int64_t base_timestamp_ms = 0;
  int64_t max_timestamp_ms = 0;
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  int32_t base_sequence = -1;
};

struct HeaderView {
  std::string_view key;
  ByteView value;
  bool has_value = true;
};

// One record inside a batch; views into the batch (or into the inflated block of its BatchView).
struct RecordView {
  uint32_t offset_delta = 0;
  int64_t timestamp_ms = 0;
  bool has_key = false;
  ByteView key;
  bool has_value = true;
  ByteView value;
  ByteView headers;  // encoded; walk with HeaderCursor
  uint32_t header_count = 0;
};

// Checks the header alone: magic, length equal to batch.size(), count, last delta, known codec and
// attributes. Cheap; no CRC.
//   kMalformed            numbers that contradict each other or the size; a last offset delta of
//                         limits::kRecordsPerBatchMax or more
//   kTooLarge             more than limits::kBatchBytesMax bytes
//   kLimitExceeded        more than limits::kRecordsPerBatchMax records
//   kUnsupportedVersion   a magic other than 2, an attribute bit that this version does not know
//   kUnsupportedType      an unknown codec
Result<BatchHeader> decode_batch_header(ByteView batch);
// The length that the first 12 bytes promise (whole batch), for finding batch borders in a byte
// stream. kMalformed when it is smaller than a header or larger than limits::kBatchBytesMax.
Result<uint32_t> batch_bytes_from_prefix(ByteView prefix);

// Header and CRC (kCorrupted). What must hold before anything is believed (from the wire and from
// disk).
Result<BatchHeader> verify_batch(ByteView batch);
// The same, and no record was left out (kMalformed): every batch of the log is like that, only
// readers get others.
Result<BatchHeader> verify_whole_batch(ByteView batch);
// verify_whole_batch and a walk over every record, inflating if needed (at most
// limits::kInflatedBatchBytesMax bytes come out). What the broker asks of a producer's batch.
// Codecs other than none and zstd are passed through unwalked.
//   kNotAllowed      a control batch, or timestamps of the broker: only brokers write these
//   kMalformed       lengths do not add up, a varint is overlong, offset deltas do not run 0..n-1,
//                    a header has no key, the max timestamp is not the maximum, a producer id has
//                    no epoch or sequence
//   kTooLarge        a message (key, value, header keys and values) has more than
//                    limits::kMessageBytesMax bytes, a block inflates beyond its limit
//   kLimitExceeded   a record has more than limits::kHeadersPerMessageMax headers
//   kCorrupted       a bad zstd block
Result<BatchHeader> validate_produced_batch(ByteView batch);

// Writes base offset, length and leader epoch into the first kBatchStampBytes of a batch (or a copy
// of them). Requires: first_bytes.size() >= kBatchStampBytes; batch_bytes is the size of the whole
// batch.
void stamp_batch(MutableByteView first_bytes, uint64_t base_offset, uint32_t batch_bytes,
                 uint32_t leader_epoch);

// Walks the headers of a record. next() gives false at the end or on damage (failed()): a length
// beyond the bytes, a header without key, bytes left after the last header.
class HeaderCursor {
 public:
  HeaderCursor(ByteView encoded, uint32_t count) : rest_(encoded), left_(count) {}

  bool next(HeaderView& out);

  [[nodiscard]] bool failed() const { return failed_; }

 private:
  ByteView rest_;
  uint32_t left_;
  bool failed_ = false;
};

// Reads the records of a verified batch in order; records may have been left out, so offset deltas
// ascend and end at the last offset delta or before. Holds the inflated block of a compressed
// batch: views stay valid as long as the reader (also a moved one) lives. Checks what it reads like
// validate_produced_batch, except limits, the header region (HeaderCursor does) and the max
// timestamp.
class BatchReader {
 public:
  // `batch` stays alive and unchanged while the reader is used. kUnsupportedType for codecs other
  // than none and zstd. The header is checked (decode_batch_header), the CRC is not.
  static Result<BatchReader> open(ByteView batch);

  // False at the end (status() ok) or on damage (status() says what, kMalformed); then false for
  // ever.
  bool next(RecordView& out);

  // The records that next() has not given yet, encoded.
  [[nodiscard]] ByteView unread() const { return rest_; }

  [[nodiscard]] const BatchHeader& header() const { return header_; }

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  BatchReader() = default;
  BatchHeader header_;
  Buffer inflated_;
  ByteView rest_;
  uint32_t read_ = 0;
  uint32_t lowest_delta_ = 0;  // of the next record
  Status status_;
};

}  // namespace tidemark::format
