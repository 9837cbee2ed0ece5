// The payload of a kCommand entry: one or more records of the shard, each applied in order.
//
//   offset bytes field (little-endian)
//        0     4 body bytes
//        4     1 kind
//        5     1 version = 1
//        6     2 reserved = 0
//        8       body, then zeros up to a multiple of 8
//   Body of kProduce: u32 topic id, u32 partition, i64 received at (ms, log time of the leader),
//   u32 flags = 0, u32 reserved = 0, then the record batch verbatim. Bodies of all other kinds are
//   FlatBuffers tables (log/format/schema/control.fbs), always verified before a field is read, but
//   kSchedule: a schedule set (schedule_set.h), and
//   kRelocate: u32 topic id, u32 partition, u64 delay id, i64 due (ms, log time), then the record
//   batch of a delayed message, verbatim.
#pragma once

#include <cstdint>

#include "log/base/bytes.h"
#include "log/base/growing_buffer.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::format {

enum class RecordKind : uint8_t {
  kProduce = 1,
  kSchedule = 2,  // delayed messages
  kRelocate = 3,  // a pending message again, so that the log before it can go
  // Metadata shard.
  kTopicCreate = 16,
  kTopicAlter = 17,
  kTopicDelete = 18,
  kTopicProgress = 19,  // a shard confirmed that it opened, changed or dropped its partitions
  kProducerIds = 20,    // a block of producer ids is taken
  // Every shard.
  kPartitionOpen = 32,
  kPartitionDrop = 33,
  kTrim = 34,
  kAdvance = 48,
  kDelayCancel = 49,
  kDelayReschedule = 50,
  kDelayNext = 51,
  kRelocated = 52,
};

inline constexpr size_t kRecordHeaderBytes = 8;
inline constexpr size_t kProduceHeaderBytes = 24;
inline constexpr size_t kRelocateHeaderBytes = 24;

// Bytes of a record with this body, padding included.
constexpr size_t record_bytes(size_t body_bytes) {
  return kRecordHeaderBytes + ((body_bytes + 7) & ~size_t{7});
}

struct ProduceRecord {
  PartitionId partition;
  int64_t received_ms = 0;
  uint32_t batch_offset = 0;  // of the batch within the entry payload
  ByteView batch;
};

struct RelocateRecord {
  PartitionId partition;
  uint64_t id = 0;
  int64_t due_ms = 0;
  uint32_t batch_offset = 0;  // of the batch within the entry payload
  ByteView batch;
};

struct LogRecord {
  RecordKind kind = RecordKind::kProduce;
  ByteView body;
  uint32_t body_offset = 0;  // within the entry payload
};

// True for the kinds above.
bool is_known_kind(uint8_t kind);

// Gathers records into one entry payload. Thread: one. Keeps its memory between payloads.
class RecordListBuilder {
 public:
  [[nodiscard]] size_t bytes() const { return bytes_.size(); }

  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  // All copy the bytes. Requires: the payload stays within limits::kEntryPayloadBytesMax
  // (record_bytes() tells before).
  void add(RecordKind kind, ByteView body);
  void add_produce(PartitionId partition, int64_t received_ms, ByteView batch);
  // The body to be changed in place; valid until the next call.
  MutableByteView add_schedule(ByteView set);
  void add_relocate(const RelocateRecord& record);
  // The payload; the builder is empty afterwards.
  SharedBytes take();

 private:
  uint8_t* grow(RecordKind kind, size_t body_bytes);
  GrowingBuffer bytes_;
};

// Walks the records of a payload, which stays alive. next() gives false at the end or on damage,
// then for ever. status():
//   kMalformed           a length beyond the payload, an oversized payload, padding or reserved
//                        bytes that are not zero
//   kUnsupportedVersion  a record version other than 1
//   kUnsupportedType     a kind that this version does not know
class RecordListReader {
 public:
  explicit RecordListReader(ByteView payload) : payload_(payload) {}

  bool next(LogRecord& out);

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  Status read(LogRecord& out);

  ByteView payload_;
  size_t at_ = 0;
  Status status_;
};

// The fixed header of a kProduce body; the batch itself is not checked. kMalformed for a short body
// or another kind, kUnsupportedVersion for flags that this version does not know.
Result<ProduceRecord> decode_produce(const LogRecord& record);
// The same for kRelocate.
Result<RelocateRecord> decode_relocate(const LogRecord& record);

}  // namespace tidemark::format
