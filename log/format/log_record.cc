#include "log/format/log_record.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "log/base/check.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark::format {
namespace {

constexpr size_t kBodyBytesAt = 0;
constexpr size_t kKindAt = 4;
constexpr size_t kVersionAt = 5;
constexpr size_t kReservedAt = 6;
constexpr uint8_t kVersion = 1;

// Within the body of kProduce.
constexpr size_t kTopicAt = 0;
constexpr size_t kPartitionAt = 4;
constexpr size_t kReceivedAt = 8;
constexpr size_t kFlagsAt = 16;
constexpr size_t kSequencesAt = 20;
constexpr uint32_t kTtlFlag = 1;

// Within the body of kRelocate; topic and partition as above.
constexpr size_t kRelocatedIdAt = 8;
constexpr size_t kRelocatedDueAt = 16;

// Within the body of kCompact; topic and partition as above.
constexpr size_t kCompactBaseAt = 8;
constexpr size_t kCompactReplacedAt = 16;
constexpr size_t kCompactReplacedBytesAt = 24;
constexpr size_t kCompactReservedAt = 28;

// Within the body of kHalf and kRelocateHalf; topic, partition and received at as in kProduce.
constexpr size_t kHalfProducerAt = 16;
constexpr size_t kHalfNumberAt = 24;
constexpr size_t kHalfCoordinatorAt = 32;
constexpr size_t kHalfPayloadKindAt = 34;
constexpr size_t kHalfGroupBytesAt = 35;
constexpr size_t kHalfIndexAt = 36;
constexpr size_t kHalfTimeoutAt = 40;
constexpr size_t kHalfReferenceBytesAt = 44;
constexpr size_t kHalfTextBytesMax = 255;

static_assert(limits::kEntryPayloadBytesMax <= UINT32_MAX, "places within a payload are 32 bits");
static_assert(record_bytes(kProduceHeaderBytes + limits::kBatchBytesMax) <=
                  limits::kEntryPayloadBytesMax,
              "a largest batch fits an entry");
static_assert(record_bytes(kCompactHeaderBytes + limits::kBatchBytesMax) <=
                  limits::kEntryPayloadBytesMax,
              "so does what is left of one");
static_assert(record_bytes(half_body_bytes(kHalfTextBytesMax, kHalfTextBytesMax,
                                           limits::kBatchBytesMax)) <=
                  limits::kEntryPayloadBytesMax,
              "a largest half message fits an entry");

Status damaged(size_t at, const std::string& why) {
  return Status(ErrorCode::kMalformed, "record at byte " + std::to_string(at) + ": " + why);
}

bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

bool is_known_kind(uint8_t kind) {
  switch (static_cast<RecordKind>(kind)) {
    case RecordKind::kProduce:
    case RecordKind::kSchedule:
    case RecordKind::kRelocate:
    case RecordKind::kHalf:
    case RecordKind::kRelocateHalf:
    case RecordKind::kCompact:
    case RecordKind::kTopicCreate:
    case RecordKind::kTopicAlter:
    case RecordKind::kTopicDelete:
    case RecordKind::kTopicProgress:
    case RecordKind::kProducerIds:
    case RecordKind::kProducerName:
    case RecordKind::kProducerFenced:
    case RecordKind::kPartitionOpen:
    case RecordKind::kPartitionDrop:
    case RecordKind::kTrim:
    case RecordKind::kAdvance:
    case RecordKind::kDelayCancel:
    case RecordKind::kDelayReschedule:
    case RecordKind::kDelayNext:
    case RecordKind::kRelocated:
    case RecordKind::kCompacted:
    case RecordKind::kTxnEnd:
    case RecordKind::kTxnSettle:
    case RecordKind::kTxnJoin:
    case RecordKind::kTxnConfirm:
    case RecordKind::kTxnChecked:
    case RecordKind::kTxnParked:
    case RecordKind::kTxnRecheck:
    case RecordKind::kTxnForget:
    case RecordKind::kProducerFence:
    case RecordKind::kGroupCommit:
    case RecordKind::kGroupLease:
    case RecordKind::kGroupDrop:
    case RecordKind::kQueueSettle:
    case RecordKind::kMessageIds:
      return true;
  }
  return false;
}

uint8_t* RecordListBuilder::grow(RecordKind kind, size_t body_bytes) {
  TIDEMARK_CHECK(body_bytes <= limits::kEntryPayloadBytesMax, "a record larger than an entry");
  const size_t total = record_bytes(body_bytes);
  TIDEMARK_CHECK(bytes_.size() + total <= limits::kEntryPayloadBytesMax,
                 "an entry beyond its limit");
  uint8_t* const at = bytes_.extend(total);
  store_le(at + kBodyBytesAt, static_cast<uint32_t>(body_bytes));
  at[kKindAt] = static_cast<uint8_t>(kind);
  at[kVersionAt] = kVersion;
  store_le(at + kReservedAt, uint16_t{0});
  uint8_t* const body = at + kRecordHeaderBytes;
  std::memset(body + body_bytes, 0, total - kRecordHeaderBytes - body_bytes);
  return body;
}

void RecordListBuilder::add(RecordKind kind, ByteView body) {
  uint8_t* const at = grow(kind, body.size());
  if (!body.empty()) {
    std::memcpy(at, body.data(), body.size());
  }
}

void RecordListBuilder::add_produce(PartitionId partition, int64_t received_ms, ByteView batch,
                                    bool ttl, uint32_t sequences) {
  uint8_t* const at = grow(RecordKind::kProduce, kProduceHeaderBytes + batch.size());
  store_le(at + kTopicAt, partition.topic.value());
  store_le(at + kPartitionAt, partition.index.value());
  store_le(at + kReceivedAt, received_ms);
  store_le(at + kFlagsAt, ttl ? kTtlFlag : 0);
  store_le(at + kSequencesAt, sequences);
  if (!batch.empty()) {
    std::memcpy(at + kProduceHeaderBytes, batch.data(), batch.size());
  }
}

MutableByteView RecordListBuilder::add_schedule(ByteView set) {
  uint8_t* const at = grow(RecordKind::kSchedule, set.size());
  std::memcpy(at, set.data(), set.size());
  return {at, set.size()};
}

void RecordListBuilder::add_relocate(const RelocateRecord& record) {
  uint8_t* const at = grow(RecordKind::kRelocate, kRelocateHeaderBytes + record.batch.size());
  store_le(at + kTopicAt, record.partition.topic.value());
  store_le(at + kPartitionAt, record.partition.index.value());
  store_le(at + kRelocatedIdAt, record.id);
  store_le(at + kRelocatedDueAt, record.due_ms);
  if (!record.batch.empty()) {
    std::memcpy(at + kRelocateHeaderBytes, record.batch.data(), record.batch.size());
  }
}

void RecordListBuilder::add_compact(const CompactRecord& record) {
  uint8_t* const at = grow(RecordKind::kCompact, kCompactHeaderBytes + record.batch.size());
  store_le(at + kTopicAt, record.partition.topic.value());
  store_le(at + kPartitionAt, record.partition.index.value());
  store_le(at + kCompactBaseAt, record.base.value());
  store_le(at + kCompactReplacedAt, record.replaced.value());
  store_le(at + kCompactReplacedBytesAt, record.replaced_bytes);
  store_le(at + kCompactReservedAt, uint32_t{0});
  if (!record.batch.empty()) {
    std::memcpy(at + kCompactHeaderBytes, record.batch.data(), record.batch.size());
  }
}

void RecordListBuilder::add_half(RecordKind kind, const HalfRecord& record) {
  TIDEMARK_CHECK(
      record.group.size() <= kHalfTextBytesMax && record.reference.size() <= kHalfTextBytesMax,
      "texts of a half message");
  const size_t body_bytes =
      half_body_bytes(record.group.size(), record.reference.size(), record.payload.size());
  uint8_t* const at = grow(kind, body_bytes);
  std::memset(at, 0, body_bytes - record.payload.size());
  store_le(at + kTopicAt, record.partition.topic.value());
  store_le(at + kPartitionAt, record.partition.index.value());
  store_le(at + kReceivedAt, record.received_ms);
  store_le(at + kHalfProducerAt, record.producer);
  store_le(at + kHalfNumberAt, record.number);
  store_le(at + kHalfCoordinatorAt, record.coordinator.value());
  at[kHalfPayloadKindAt] = record.schedule ? 1 : 0;
  at[kHalfGroupBytesAt] = static_cast<uint8_t>(record.group.size());
  store_le(at + kHalfIndexAt, record.index);
  store_le(at + kHalfTimeoutAt, record.timeout_ms);
  at[kHalfReferenceBytesAt] = static_cast<uint8_t>(record.reference.size());
  std::copy(record.group.begin(), record.group.end(), at + kHalfHeaderBytes);
  std::copy(record.reference.begin(), record.reference.end(),
            at + kHalfHeaderBytes + record.group.size());
  if (!record.payload.empty()) {
    std::memcpy(at + body_bytes - record.payload.size(), record.payload.data(),
                record.payload.size());
  }
}

SharedBytes RecordListBuilder::take() { return SharedBytes(bytes_.take()); }

bool RecordListReader::next(LogRecord& out) {
  if (!status_.ok() || at_ == payload_.size()) {
    return false;
  }
  status_ = read(out);
  return status_.ok();
}

Status RecordListReader::read(LogRecord& out) {
  if (payload_.size() > limits::kEntryPayloadBytesMax) {
    return damaged(at_, "a payload of " + std::to_string(payload_.size()) +
                            " bytes; the limit is " +
                            std::to_string(limits::kEntryPayloadBytesMax));
  }
  const ByteView rest = payload_.subspan(at_);
  if (rest.size() < kRecordHeaderBytes) {
    return damaged(at_, std::to_string(rest.size()) + " bytes; a record header has " +
                            std::to_string(kRecordHeaderBytes));
  }
  const uint8_t kind = rest[kKindAt];
  const uint8_t version = rest[kVersionAt];
  if (version != kVersion) {
    return Status(ErrorCode::kUnsupportedVersion, "record at byte " + std::to_string(at_) +
                                                      ": version " + std::to_string(version) +
                                                      "; supported is 1");
  }
  if (!is_known_kind(kind)) {
    return Status(ErrorCode::kUnsupportedType, "record at byte " + std::to_string(at_) +
                                                   ": unknown kind " + std::to_string(kind));
  }
  if (load_le<uint16_t>(rest.data() + kReservedAt) != 0) {
    return damaged(at_, "reserved bytes are not zero");
  }
  const size_t body_bytes = load_le<uint32_t>(rest.data() + kBodyBytesAt);
  const size_t total = record_bytes(body_bytes);
  if (total > rest.size()) {
    return damaged(at_, "a body of " + std::to_string(body_bytes) +
                            " bytes and padding; left are " +
                            std::to_string(rest.size() - kRecordHeaderBytes));
  }
  if (!all_zero(rest.first(total).subspan(kRecordHeaderBytes + body_bytes))) {
    return damaged(at_, "padding is not zero");
  }
  out = LogRecord{.kind = static_cast<RecordKind>(kind),
                  .body = rest.subspan(kRecordHeaderBytes, body_bytes),
                  .body_offset = static_cast<uint32_t>(at_ + kRecordHeaderBytes)};
  at_ += total;
  return {};
}

Result<ProduceRecord> decode_produce(const LogRecord& record) {
  if (record.kind != RecordKind::kProduce) {
    return Status(ErrorCode::kMalformed, "record kind " +
                                             std::to_string(static_cast<int>(record.kind)) +
                                             " where a produce record is expected");
  }
  if (record.body.size() < kProduceHeaderBytes) {
    return Status(ErrorCode::kMalformed, "produce record of " + std::to_string(record.body.size()) +
                                             " bytes; its header alone has " +
                                             std::to_string(kProduceHeaderBytes));
  }
  const uint8_t* const at = record.body.data();
  const auto flags = load_le<uint32_t>(at + kFlagsAt);
  if ((flags & ~kTtlFlag) != 0) {
    return Status(ErrorCode::kUnsupportedVersion, "produce record with unknown flags");
  }
  return ProduceRecord{
      .partition = {TopicId(load_le<uint32_t>(at + kTopicAt)),
                    PartitionIndex(load_le<uint32_t>(at + kPartitionAt))},
      .received_ms = load_le<int64_t>(at + kReceivedAt),
      .batch_offset = static_cast<uint32_t>(record.body_offset + kProduceHeaderBytes),
      .batch = record.body.subspan(kProduceHeaderBytes),
      .ttl = (flags & kTtlFlag) != 0,
      .sequences = load_le<uint32_t>(at + kSequencesAt)};
}

Result<RelocateRecord> decode_relocate(const LogRecord& record) {
  if (record.kind != RecordKind::kRelocate || record.body.size() < kRelocateHeaderBytes) {
    return Status(ErrorCode::kMalformed,
                  "relocate record of kind " + std::to_string(static_cast<int>(record.kind)) +
                      " and " + std::to_string(record.body.size()) + " bytes");
  }
  const uint8_t* const at = record.body.data();
  return RelocateRecord{
      .partition = {TopicId(load_le<uint32_t>(at + kTopicAt)),
                    PartitionIndex(load_le<uint32_t>(at + kPartitionAt))},
      .id = load_le<uint64_t>(at + kRelocatedIdAt),
      .due_ms = load_le<int64_t>(at + kRelocatedDueAt),
      .batch_offset = static_cast<uint32_t>(record.body_offset + kRelocateHeaderBytes),
      .batch = record.body.subspan(kRelocateHeaderBytes)};
}

Result<CompactRecord> decode_compact(const LogRecord& record) {
  if (record.kind != RecordKind::kCompact || record.body.size() < kCompactHeaderBytes) {
    return Status(ErrorCode::kMalformed,
                  "compact record of kind " + std::to_string(static_cast<int>(record.kind)) +
                      " and " + std::to_string(record.body.size()) + " bytes");
  }
  const uint8_t* const at = record.body.data();
  if (load_le<uint32_t>(at + kCompactReservedAt) != 0) {
    return Status(ErrorCode::kMalformed, "reserved bytes of a compact record are not zero");
  }
  return CompactRecord{
      .partition = {TopicId(load_le<uint32_t>(at + kTopicAt)),
                    PartitionIndex(load_le<uint32_t>(at + kPartitionAt))},
      .base = Offset(load_le<uint64_t>(at + kCompactBaseAt)),
      .replaced = LogPosition(load_le<uint64_t>(at + kCompactReplacedAt)),
      .replaced_bytes = load_le<uint32_t>(at + kCompactReplacedBytesAt),
      .batch_offset = static_cast<uint32_t>(record.body_offset + kCompactHeaderBytes),
      .batch = record.body.subspan(kCompactHeaderBytes)};
}

Result<HalfRecord> decode_half(const LogRecord& record) {
  const bool half = record.kind == RecordKind::kHalf || record.kind == RecordKind::kRelocateHalf;
  if (!half || record.body.size() < kHalfHeaderBytes) {
    return Status(ErrorCode::kMalformed,
                  "half message of kind " + std::to_string(static_cast<int>(record.kind)) +
                      " and " + std::to_string(record.body.size()) + " bytes");
  }
  const uint8_t* const at = record.body.data();
  const size_t group_bytes = at[kHalfGroupBytesAt];
  const size_t reference_bytes = at[kHalfReferenceBytesAt];
  const size_t head_bytes = half_body_bytes(group_bytes, reference_bytes, 0);
  const size_t texts_end = kHalfHeaderBytes + group_bytes + reference_bytes;
  if (head_bytes > record.body.size()) {
    return Status(ErrorCode::kMalformed, "the texts of a half message do not fit its " +
                                             std::to_string(record.body.size()) + " bytes");
  }
  if (at[kHalfPayloadKindAt] > 1) {
    return Status(ErrorCode::kUnsupportedVersion,
                  "half message with payload " + std::to_string(at[kHalfPayloadKindAt]));
  }
  constexpr size_t kZerosAt = kHalfReferenceBytesAt + 1;
  if (!all_zero(record.body.subspan(kZerosAt, kHalfHeaderBytes - kZerosAt)) ||
      !all_zero(record.body.subspan(texts_end, head_bytes - texts_end))) {
    return Status(ErrorCode::kMalformed, "reserved bytes of a half message are not zero");
  }
  const std::string_view texts = as_text(record.body).substr(kHalfHeaderBytes);
  return HalfRecord{.partition = {TopicId(load_le<uint32_t>(at + kTopicAt)),
                                  PartitionIndex(load_le<uint32_t>(at + kPartitionAt))},
                    .received_ms = load_le<int64_t>(at + kReceivedAt),
                    .producer = load_le<uint64_t>(at + kHalfProducerAt),
                    .number = load_le<uint64_t>(at + kHalfNumberAt),
                    .coordinator = ShardId(load_le<uint16_t>(at + kHalfCoordinatorAt)),
                    .schedule = at[kHalfPayloadKindAt] == 1,
                    .index = load_le<uint32_t>(at + kHalfIndexAt),
                    .timeout_ms = load_le<uint32_t>(at + kHalfTimeoutAt),
                    .group = texts.substr(0, group_bytes),
                    .reference = texts.substr(group_bytes, reference_bytes),
                    .payload_offset = static_cast<uint32_t>(record.body_offset + head_bytes),
                    .payload = record.body.subspan(head_bytes)};
}

}  // namespace tidemark::format
