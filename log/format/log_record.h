// The payload of a kCommand entry: one or more records of the shard, each applied in order.
//
//   offset bytes field (little-endian)
//        0     4 body bytes
//        4     1 kind
//        5     1 version = 1
//        6     2 reserved = 0
//        8       body, then zeros up to a multiple of 8
//   Body of kProduce: u32 topic id, u32 partition, i64 received at (ms, log time of the leader),
//   u32 flags (bit 0: some message has a time to live of its own), u32 sequences (of its producer
//   that the batch stands for; 0: as many as it has messages; more if duplicates were left out),
//   then the record batch verbatim. Bodies of all other kinds are FlatBuffers tables
//   (log/format/schema/control.fbs), always verified before a field is read, but
//   kSchedule: a schedule set (schedule_set.h), and
//   kRelocate: u32 topic id, u32 partition, u64 delay id, i64 due (ms, log time), then the record
//   batch of a delayed message, verbatim, and
//   kHalf, kRelocateHalf: a part of a transaction (HalfRecord):
//     0 u32 topic id, 4 u32 partition, 8 i64 received at (ms, log time), 16 u64 producer id,
//     24 u64 number (epoch in the high 16 bits), 32 u16 coordinating shard, 34 u8 payload (0 batch,
//     1 schedule set), 35 u8 group bytes, 36 u32 index, 40 u32 timeout ms, 44 u8 reference bytes,
//     45 three zeros, 48 group, reference, zeros up to a multiple of 8, then the batch or the set,
//     verbatim. In a set times and ids are still as on the wire: they count from the commit, and
//   kCompact: u32 topic id, u32 partition, u64 base offset, u64 log position of the batch that is
//   replaced, u32 its bytes, u32 reserved = 0, then what is left of it (batch_select.h), or all of
//   it, which is only moved then.
#pragma once

#include <cstdint>
#include <string_view>

#include "log/base/bytes.h"
#include "log/base/growing_buffer.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::format {

enum class RecordKind : uint8_t {
  kProduce = 1,
  kSchedule = 2,      // delayed messages
  kRelocate = 3,      // a pending message again, so that the log before it can go
  kHalf = 4,          // a part of a transaction
  kRelocateHalf = 5,  // the same again
  kCompact = 6,       // a batch again, without the messages that later ones of their keys replace
  // Metadata shard.
  kTopicCreate = 16,
  kTopicAlter = 17,
  kTopicDelete = 18,
  kTopicProgress = 19,  // a shard confirmed that it opened, changed or dropped its partitions
  kProducerIds = 20,    // a block of producer ids is taken
  kProducerName = 21,
  kProducerFenced = 22,
  // Every shard.
  kPartitionOpen = 32,
  kPartitionDrop = 33,
  kTrim = 34,
  kAdvance = 48,
  kDelayCancel = 49,
  kDelayReschedule = 50,
  kDelayNext = 51,
  kRelocated = 52,
  kCompacted = 53,  // a compaction begins, ends, or found batches of which nothing is left
  kTxnEnd = 64,
  kTxnSettle = 65,
  kTxnJoin = 66,
  kTxnConfirm = 67,
  kTxnChecked = 68,
  kTxnParked = 69,
  kTxnRecheck = 70,
  kTxnForget = 71,
  kProducerFence = 72,
  kGroupCommit = 80,
  kGroupLease = 81,
  kGroupDrop = 82,
  kQueueSettle = 88,
  kMessageIds = 96,
};

inline constexpr size_t kRecordHeaderBytes = 8;
inline constexpr size_t kProduceHeaderBytes = 24;
inline constexpr size_t kRelocateHeaderBytes = 24;
inline constexpr size_t kHalfHeaderBytes = 48;  // without group and reference
inline constexpr size_t kCompactHeaderBytes = 32;

// Bytes of a record with this body, padding included.
constexpr size_t record_bytes(size_t body_bytes) {
  return kRecordHeaderBytes + ((body_bytes + 7) & ~size_t{7});
}

struct ProduceRecord {
  PartitionId partition;
  int64_t received_ms = 0;
  uint32_t batch_offset = 0;  // of the batch within the entry payload
  ByteView batch;
  bool ttl = false;  // some message has a time to live of its own
  uint32_t sequences = 0;
};

struct RelocateRecord {
  PartitionId partition;
  uint64_t id = 0;
  int64_t due_ms = 0;
  uint32_t batch_offset = 0;  // of the batch within the entry payload
  ByteView batch;
};

struct CompactRecord {
  PartitionId partition;
  Offset base;
  LogPosition replaced;  // where the batch lay
  uint32_t replaced_bytes = 0;
  uint32_t batch_offset = 0;  // of the batch within the entry payload; when read
  ByteView batch = {};
};

struct HalfRecord {
  PartitionId partition;
  int64_t received_ms = 0;
  uint64_t producer = 0;
  uint64_t number = 0;
  ShardId coordinator;
  bool schedule = false;  // `payload` is a schedule set
  uint32_t index = 0;
  uint32_t timeout_ms = 0;
  std::string_view group = {};      // at most 255 bytes
  std::string_view reference = {};  // likewise
  uint32_t payload_offset = 0;      // within the entry payload; when read
  ByteView payload = {};
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
  void add_produce(PartitionId partition, int64_t received_ms, ByteView batch, bool ttl = false,
                   uint32_t sequences = 0);
  // The body to be changed in place; valid until the next call.
  MutableByteView add_schedule(ByteView set);
  void add_relocate(const RelocateRecord& record);
  void add_compact(const CompactRecord& record);
  // kHalf or kRelocateHalf.
  void add_half(RecordKind kind, const HalfRecord& record);
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
// The same for kCompact. kMalformed also for reserved bytes that are not zero.
Result<CompactRecord> decode_compact(const LogRecord& record);
// The same for kHalf and kRelocateHalf. kMalformed: texts that do not fit, bytes that must be zero.
Result<HalfRecord> decode_half(const LogRecord& record);

// Bytes of the body of a part with these texts and this payload.
constexpr size_t half_body_bytes(size_t group_bytes, size_t reference_bytes, size_t payload_bytes) {
  return kHalfHeaderBytes + ((group_bytes + reference_bytes + 7) & ~size_t{7}) + payload_bytes;
}

}  // namespace tidemark::format
