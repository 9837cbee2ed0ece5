// Reference batch: a record batch that stands for one message of another batch of the same log. The
// index of a dead-letter partition points at such batches; readers get the message that it stands
// for, with more headers.
//
// It is a control batch (attribute bit 5; producers cannot send one) of one record: key "tm-ref",
// value 24 bytes little-endian (u64 log position of the body's batch, u32 its bytes, u32 number of
// the record in it from 0, u64 reserved = 0), headers: what is added behind those of the message.
// Base timestamp: the message's. Codec none, no producer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::format {

struct BatchReference {
  LogPosition position{0};  // of the batch that has the message; never a reference itself
  uint32_t bytes = 0;
  uint32_t record = 0;
  // Added headers, in order. A key may come again.
  std::vector<std::pair<std::string, std::string>> headers;
};

// True for a batch (header at least) that is a reference batch. Cheap: looks at the attributes.
bool is_reference(ByteView batch);

// kLimitExceeded: more headers than a message may have, or too large. Requires: `bytes` is a size
// that a batch may have, `record` is below limits::kRecordsPerBatchMax.
Result<Buffer> build_reference(const BatchReference& reference, int64_t timestamp_ms);
// Of a verified batch. kMalformed: not what build_reference() writes, byte for byte (but the base
// offset and the leader epoch, which are stamped).
Result<BatchReference> read_reference(ByteView batch);

// The batch that readers get: one record, with key, value, timestamp and headers of the message in
// `body`, then the reference's. Codec none, no producer, base offset 0.
// kCorrupted: `body` (verified here) has no such record, is a reference itself or cannot be read.
// Headers beyond the limit of a message
// (64 or 1 MiB in all): the oldest of the added ones are left out.
Result<Buffer> resolve_reference(const BatchReference& reference, ByteView body);

}  // namespace tidemark::format
