// Builds one RecordBatch v2 by appending records straight into its final bytes.
//
// Thread: one. In steady state the only allocation is the finished batch: the builder keeps its
// memory (at most a few times limits::kBatchBytesMax) until it is destroyed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "log/base/bytes.h"
#include "log/base/growing_buffer.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::format {

struct HeaderInput {
  std::string_view key = {};
  ByteView value = {};
  bool has_value = true;
};

struct RecordInput {
  int64_t timestamp_ms = 0;
  bool has_key = false;
  ByteView key = {};
  bool has_value = true;
  ByteView value = {};
  std::span<const HeaderInput> headers = {};
};

class BatchBuilder {
 public:
  // Exact bytes that append() would add; add kBatchHeaderBytes for an empty builder.
  [[nodiscard]] size_t record_bytes(const RecordInput& record) const;
  // Copies the record in. On an error nothing changes:
  //   kTooLarge         the message (key, value, header keys and values) exceeds
  //                     limits::kMessageBytesMax
  //   kLimitExceeded    too many headers; or the batch has limits::kRecordsPerBatchMax records or
  //                     would exceed limits::kBatchBytesMax: finish it first. A message within its
  //                     own limits always fits an empty builder.
  //   kInvalidArgument  the distance to the first timestamp does not fit 64 bits
  Status append(const RecordInput& record);

  [[nodiscard]] uint32_t record_count() const { return count_; }

  // Uncompressed size of the batch so far, header included; 0 when empty.
  [[nodiscard]] size_t bytes() const { return bytes_.size(); }

  struct Producer {
    int64_t id = -1;
    int16_t epoch = -1;
    int32_t base_sequence = -1;
  };

  // Completes header and CRC; compresses with zstd if asked and smaller. Base offset and leader
  // epoch are 0. Requires: record_count() > 0. Afterwards the builder is empty. On an error it is
  // unchanged:
  //   kUnsupportedType  a codec other than none and zstd
  //   kInvalidArgument  zstd with a level outside 1 to 19
  Result<Buffer> finish(Codec codec, int zstd_level, Producer producer);
  // The same without compression, written to `out`. Requires: record_count() > 0, and that `out`
  // has bytes() bytes.
  void finish_plain(MutableByteView out, Producer producer);
  // Forgets the records.
  void reset();

 private:
  // Completes header and CRC of a batch whose records (or their compressed block) are in place.
  void put_header(MutableByteView batch, Codec codec, Producer producer) const;

  GrowingBuffer bytes_;  // room for the header, then records
  Buffer compressed_;
  uint32_t count_ = 0;
  int64_t base_timestamp_ms_ = 0;
  int64_t max_timestamp_ms_ = 0;
};

// Sets producer fields of a finished, not yet sent batch and recomputes the CRC (a client that only
// learns its producer id later). Requires: a batch that decode_batch_header accepts.
void set_producer(MutableByteView batch, BatchBuilder::Producer producer);

}  // namespace tidemark::format
