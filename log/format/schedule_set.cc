#include "log/format/schedule_set.h"

#include <cstring>
#include <string>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark::format {
namespace {

constexpr size_t kTopicAt = 0;
constexpr size_t kPartitionAt = 4;
constexpr size_t kReceivedAt = 8;
constexpr size_t kFirstIdAt = 16;
constexpr size_t kProducerIdAt = 24;
constexpr size_t kEpochAt = 32;
constexpr size_t kFlagsAt = 34;
constexpr size_t kSequenceAt = 36;
constexpr size_t kItemsAt = 40;
constexpr size_t kCheckAt = 44;

// Within an item.
constexpr size_t kItemBytesAt = 0;
constexpr size_t kDueKindAt = 4;
constexpr size_t kItemFlagsAt = 5;
constexpr size_t kExtensionBytesAt = 6;
constexpr size_t kDueAt = 8;

// Lengths and small fields around a largest message, its extension included.
constexpr size_t kFramingBytesMax = 2 * limits::kKiB;
static_assert(kScheduleHeaderBytes + kScheduleItemHeaderBytes + kBatchHeaderBytes +
                      limits::kMessageBytesMax + kFramingBytesMax + kDelayKeyBytesMax +
                      limits::kCronBytesMax + limits::kZoneNameBytesMax <=
                  limits::kBatchBytesMax,
              "a largest message fits an empty set");

constexpr uint8_t kHasKey = 1;
constexpr uint8_t kReplace = 2;
constexpr uint8_t kRecurring = 4;
constexpr uint8_t kKnownFlags = kHasKey | kReplace | kRecurring;

Status damaged(size_t at, const std::string& why) {
  return Status(ErrorCode::kMalformed,
                "item at byte " + std::to_string(at) + " of a schedule set: " + why);
}

uint32_t check_of(ByteView set) {
  static constexpr uint8_t kZero[4] = {};
  const uint32_t before = crc32c(kZero, crc32c(set.first(kCheckAt)));
  return crc32c(set.subspan(kCheckAt + sizeof kZero), before);
}

size_t extension_bytes(const ScheduleItem& item) {
  size_t bytes = item.key.empty() ? 0 : 1 + item.key.size();
  switch (item.recurrence) {
    case RecurrenceKind::kNone:
      return bytes;
    case RecurrenceKind::kEvery:
      return bytes + 1 + 8 + 8;
    case RecurrenceKind::kCron:
      return bytes + 1 + 8 + 1 + item.zone.size() + 1 + item.cron.size();
  }
  return bytes;
}

uint8_t* put_short_text(uint8_t* at, std::string_view text) {
  *at++ = static_cast<uint8_t>(text.size());
  if (!text.empty()) {
    std::memcpy(at, text.data(), text.size());
  }
  return at + text.size();
}

void put_extension(uint8_t* at, const ScheduleItem& item) {
  if (!item.key.empty()) {
    at = put_short_text(at, item.key);
  }
  if (item.recurrence == RecurrenceKind::kNone) {
    return;
  }
  *at++ = static_cast<uint8_t>(item.recurrence);
  store_le(at, item.next_due_ms);
  at += 8;
  if (item.recurrence == RecurrenceKind::kEvery) {
    store_le(at, item.every_ms);
    return;
  }
  at = put_short_text(at, item.zone);
  put_short_text(at, item.cron);
}

Status check_texts(const ScheduleItem& item) {
  const auto too_long = [](const char* what, size_t has, size_t limit) {
    return Status(ErrorCode::kInvalidArgument, std::string(what) + " of " + std::to_string(has) +
                                                   " bytes; the limit is " + std::to_string(limit));
  };
  if (item.key.size() > kDelayKeyBytesMax) {
    return too_long("a delay key", item.key.size(), kDelayKeyBytesMax);
  }
  if (item.zone.size() > limits::kZoneNameBytesMax) {
    return too_long("a time zone", item.zone.size(), limits::kZoneNameBytesMax);
  }
  if (item.cron.size() > limits::kCronBytesMax) {
    return too_long("a cron text", item.cron.size(), limits::kCronBytesMax);
  }
  return {};
}

}  // namespace

Result<ScheduleReader> ScheduleReader::open(ByteView set) {
  if (set.size() < kScheduleHeaderBytes) {
    return Status(ErrorCode::kMalformed, "a schedule set of " + std::to_string(set.size()) +
                                             " bytes; its header alone has " +
                                             std::to_string(kScheduleHeaderBytes));
  }
  ScheduleReader reader;
  const uint8_t* const at = set.data();
  reader.set_ = set;
  reader.header_.partition = {TopicId{load_le<uint32_t>(at + kTopicAt)},
                              PartitionIndex{load_le<uint32_t>(at + kPartitionAt)}};
  reader.header_.received_ms = load_le<int64_t>(at + kReceivedAt);
  reader.header_.first_id = load_le<uint64_t>(at + kFirstIdAt);
  reader.header_.producer_id = load_le<int64_t>(at + kProducerIdAt);
  reader.header_.producer_epoch = load_le<int16_t>(at + kEpochAt);
  reader.header_.base_sequence = load_le<int32_t>(at + kSequenceAt);
  reader.header_.items = load_le<uint32_t>(at + kItemsAt);
  if (load_le<uint16_t>(at + kFlagsAt) != 0) {
    return Status(ErrorCode::kUnsupportedVersion, "a schedule set with unknown flags");
  }
  if (reader.header_.items == 0 || reader.header_.items > kScheduleItemsMax) {
    return Status(ErrorCode::kMalformed,
                  "a schedule set of " + std::to_string(reader.header_.items) +
                      " items; it has 1 to " + std::to_string(kScheduleItemsMax));
  }
  if (reader.header_.producer_id >= 0 &&
      (reader.header_.producer_epoch < 0 || reader.header_.base_sequence < 0)) {
    return Status(ErrorCode::kMalformed, "a schedule set of producer " +
                                             std::to_string(reader.header_.producer_id) +
                                             " without epoch or sequence");
  }
  return reader;
}

bool ScheduleReader::next(ScheduleItem& out) {
  if (!status_.ok()) {
    return false;
  }
  if (read_ == header_.items) {
    if (at_ != set_.size()) {
      status_ = damaged(at_, "bytes behind the last item");
    }
    return false;
  }
  status_ = read(out);
  return status_.ok();
}

Status ScheduleReader::read(ScheduleItem& out) {
  const ByteView rest = set_.subspan(at_);
  if (rest.size() < kScheduleItemHeaderBytes) {
    return damaged(at_, "cut");
  }
  const size_t bytes = load_le<uint32_t>(rest.data() + kItemBytesAt);
  const uint8_t due_kind = rest[kDueKindAt];
  const uint8_t flags = rest[kItemFlagsAt];
  const size_t extension = load_le<uint16_t>(rest.data() + kExtensionBytesAt);
  if (bytes > rest.size() || bytes < kScheduleItemHeaderBytes + extension) {
    return damaged(at_, "a length that does not fit");
  }
  if (due_kind > static_cast<uint8_t>(DueKind::kAt) || (flags & ~kKnownFlags) != 0) {
    return Status(ErrorCode::kUnsupportedVersion, "item at byte " + std::to_string(at_) +
                                                      " of a schedule set: unknown kind or flags");
  }
  out = ScheduleItem();
  out.due_kind = static_cast<DueKind>(due_kind);
  out.due_ms = load_le<int64_t>(rest.data() + kDueAt);
  out.replace = (flags & kReplace) != 0;
  out.due_offset = static_cast<uint32_t>(at_ + kDueAt);
  out.batch_offset = static_cast<uint32_t>(at_ + kScheduleItemHeaderBytes + extension);
  out.batch = rest.subspan(kScheduleItemHeaderBytes + extension,
                           bytes - kScheduleItemHeaderBytes - extension);
  RETURN_IF_ERROR(read_extension(rest.subspan(kScheduleItemHeaderBytes, extension), flags, out));
  at_ += bytes;
  ++read_;
  return {};
}

Status ScheduleReader::read_extension(ByteView extension, uint8_t flags, ScheduleItem& out) {
  ByteReader reader(extension);
  if ((flags & kHasKey) != 0) {
    out.key = as_text(reader.bytes(reader.le<uint8_t>()));
    if (out.key.empty()) {
      return damaged(at_, "an empty key");
    }
  }
  if ((flags & kRecurring) != 0) {
    const auto kind = reader.le<uint8_t>();
    out.next_due_offset = static_cast<uint32_t>(at_ + kScheduleItemHeaderBytes + reader.consumed());
    out.next_due_ms = reader.le<int64_t>();
    if (kind == static_cast<uint8_t>(RecurrenceKind::kEvery)) {
      out.recurrence = RecurrenceKind::kEvery;
      out.every_ms = reader.le<int64_t>();
    } else if (kind == static_cast<uint8_t>(RecurrenceKind::kCron)) {
      out.recurrence = RecurrenceKind::kCron;
      out.zone = as_text(reader.bytes(reader.le<uint8_t>()));
      out.cron = as_text(reader.bytes(reader.le<uint8_t>()));
    } else {
      return damaged(at_, "an unknown kind of recurrence");
    }
  }
  if (reader.failed() || reader.remaining() != 0) {
    return damaged(at_, "an extension that does not hold together");
  }
  const Status texts = check_texts(out);
  return texts.ok() ? texts : damaged(at_, std::string(texts.context()));
}

Status verify_schedule_check(ByteView set) {
  if (set.size() < kScheduleHeaderBytes ||
      load_le<uint32_t>(set.data() + kCheckAt) != check_of(set)) {
    return Status(ErrorCode::kCorrupted, "check word of a schedule set");
  }
  return {};
}

void stamp_schedule(MutableByteView set, int64_t received_ms, uint64_t first_id) {
  TIDEMARK_CHECK(set.size() >= kScheduleHeaderBytes);
  store_le(set.data() + kReceivedAt, received_ms);
  store_le(set.data() + kFirstIdAt, first_id);
}

void seal_schedule(MutableByteView set) {
  TIDEMARK_CHECK(set.size() >= kScheduleHeaderBytes);
  store_le(set.data() + kCheckAt, check_of(set));
}

void stamp_schedule_item(MutableByteView set, const ScheduleItem& item, int64_t due_ms,
                         int64_t next_due_ms) {
  TIDEMARK_CHECK(item.due_offset >= kDueAt && item.due_offset + 8 <= set.size());
  store_le(set.data() + item.due_offset, due_ms);
  set[item.due_offset - kDueAt + kDueKindAt] = static_cast<uint8_t>(DueKind::kAt);
  if (item.recurrence != RecurrenceKind::kNone) {
    TIDEMARK_CHECK(item.next_due_offset + 8 <= set.size());
    store_le(set.data() + item.next_due_offset, next_due_ms);
  }
}

BatchHeader sequence_header(const ScheduleHeader& header, size_t set_bytes) {
  BatchHeader out;
  out.batch_bytes = static_cast<uint32_t>(set_bytes);
  out.record_count = header.items;
  out.last_offset_delta = header.items - 1;
  out.producer_id = header.producer_id;
  out.producer_epoch = header.producer_epoch;
  out.base_sequence = header.base_sequence;
  return out;
}

size_t ScheduleBuilder::item_bytes(const ScheduleItem& item, const RecordInput& record) const {
  return kScheduleItemHeaderBytes + extension_bytes(item) + kBatchHeaderBytes +
         record_.record_bytes(record);
}

Status ScheduleBuilder::append(const ScheduleItem& item, const RecordInput& record) {
  RETURN_IF_ERROR(check_texts(item));
  const size_t header = count_ == 0 ? kScheduleHeaderBytes : 0;
  const size_t added = header + item_bytes(item, record);
  if (count_ == kScheduleItemsMax ||
      (count_ > 0 && bytes_.size() + added > limits::kBatchBytesMax)) {
    return Status(ErrorCode::kLimitExceeded, "a schedule set of " + std::to_string(count_ + 1) +
                                                 " items and " +
                                                 std::to_string(bytes_.size() + added) + " bytes");
  }
  RETURN_IF_ERROR(record_.append(record));
  const size_t extension = extension_bytes(item);
  const size_t batch_at = kScheduleItemHeaderBytes + extension;
  const size_t bytes = batch_at + record_.bytes();
  TIDEMARK_CHECK(header + bytes == added, "an item is not as long as computed");
  uint8_t* const at = bytes_.extend(added) + header;
  store_le(at + kItemBytesAt, static_cast<uint32_t>(bytes));
  at[kDueKindAt] = static_cast<uint8_t>(item.due_kind);
  at[kItemFlagsAt] =
      static_cast<uint8_t>((item.key.empty() ? 0 : kHasKey) | (item.replace ? kReplace : 0) |
                           (item.recurrence == RecurrenceKind::kNone ? 0 : kRecurring));
  store_le(at + kExtensionBytesAt, static_cast<uint16_t>(extension));
  store_le(at + kDueAt, item.due_ms);
  put_extension(at + kScheduleItemHeaderBytes, item);
  record_.finish_plain({at + batch_at, record_.bytes()}, {});
  ++count_;
  return {};
}

Buffer ScheduleBuilder::finish(PartitionId partition, BatchBuilder::Producer producer) {
  TIDEMARK_CHECK(count_ > 0, "finish() of an empty set");
  std::memset(bytes_.data(), 0, kScheduleHeaderBytes);
  store_le(bytes_.data() + kItemsAt, count_);
  Buffer set = bytes_.take();
  set_schedule_producer(set.mutable_view(), partition, producer);
  reset();
  return set;
}

void ScheduleBuilder::reset() {
  bytes_.clear();
  record_.reset();
  count_ = 0;
}

void set_schedule_producer(MutableByteView set, PartitionId partition,
                           BatchBuilder::Producer producer) {
  TIDEMARK_CHECK(set.size() >= kScheduleHeaderBytes);
  uint8_t* const at = set.data();
  store_le(at + kTopicAt, partition.topic.value());
  store_le(at + kPartitionAt, partition.index.value());
  store_le(at + kProducerIdAt, producer.id);
  store_le(at + kEpochAt, producer.epoch);
  store_le(at + kSequenceAt, producer.base_sequence);
  store_le(at + kCheckAt, check_of(set));
}

}  // namespace tidemark::format
