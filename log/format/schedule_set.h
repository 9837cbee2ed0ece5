// A schedule set: delayed messages of one partition that travel and are stored together. Each
// message is a record batch of its own (one record), so that each can be delivered by reference.
//
//   offset bytes field (little-endian)
//        0     4 topic id
//        4     4 partition
//        8     8 received at (ms, log time)        0 on the wire
//       16     8 delay id of the first item        0 on the wire; items count on from it
//       24     8 producer id (-1: none)
//       32     2 producer epoch (-1: none)
//       34     2 flags = 0
//       36     4 base sequence (-1: none); items count as messages
//       40     4 items, 1 to kScheduleItemsMax
//       44     4 check: CRC-32C of the set with   0 in the log, where the entry's hash covers it
//                these four bytes as zeros
//       48       items
//   An item:
//        0     4 item bytes, this header included
//        4     1 due kind: 0 after, 1 at             always 1 in the log
//        5     1 flags: bit 0 has a key, bit 1 replace what is pending under the key (else the item
//                is refused), bit 2 recurring
//        6     2 extension bytes
//        8     8 due: a delay in ms (after), or ms since 1970 (at; in the log: log time)
//       16       extension: with a key: u8 bytes and key; recurring: u8 kind (1 every, 2 cron),
//                i64 the occurrence after due (0 on the wire), then of every: i64 ms, of cron:
//                u8 bytes and time zone, u8 bytes and cron fields
//                record batch of one record, without a producer
//
// The broker takes a set as it came and writes log time, ids and due times into it, all at fixed
// places.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "log/base/bytes.h"
#include "log/base/growing_buffer.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"

namespace tidemark::format {

inline constexpr size_t kScheduleHeaderBytes = 48;
inline constexpr size_t kScheduleItemHeaderBytes = 16;
inline constexpr uint32_t kScheduleItemsMax = 4096;
inline constexpr size_t kDelayKeyBytesMax = 255;

enum class DueKind : uint8_t { kAfter = 0, kAt = 1 };
enum class RecurrenceKind : uint8_t { kNone = 0, kEvery = 1, kCron = 2 };

// Views into the set they were read from, or into what add() takes.
struct ScheduleItem {
  DueKind due_kind = DueKind::kAfter;
  int64_t due_ms = 0;
  std::string_view key = {};  // empty: none
  bool replace = false;
  RecurrenceKind recurrence = RecurrenceKind::kNone;
  int64_t every_ms = 0;
  std::string_view zone = {};
  std::string_view cron = {};
  int64_t next_due_ms = 0;  // of a recurring one, in the log
  ByteView batch = {};
  // Places within the set, when read.
  uint32_t due_offset = 0;
  uint32_t next_due_offset = 0;
  uint32_t batch_offset = 0;
};

struct ScheduleHeader {
  PartitionId partition;
  int64_t received_ms = 0;
  uint64_t first_id = 0;
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  int32_t base_sequence = -1;
  uint32_t items = 0;
};

// Walks a set, which stays alive. Checks every length before it believes it; neither the check word
// nor the batches are looked at. next() gives false at the end or on damage, then for ever
// (status(): kMalformed, or kUnsupportedVersion for unknown flags and kinds).
class ScheduleReader {
 public:
  // kMalformed: cut, no or too many items, a producer without epoch or sequence.
  static Result<ScheduleReader> open(ByteView set);

  [[nodiscard]] const ScheduleHeader& header() const { return header_; }

  bool next(ScheduleItem& out);

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  ScheduleReader() = default;
  Status read(ScheduleItem& out);
  Status read_extension(ByteView extension, uint8_t flags, ScheduleItem& out);

  ByteView set_;
  size_t at_ = kScheduleHeaderBytes;
  uint32_t read_ = 0;
  ScheduleHeader header_;
  Status status_;
};

// kCorrupted if the check word of a set from the wire, or of a sealed one, is wrong.
Status verify_schedule_check(ByteView set);

// What the broker decides about a set, written into its copy in the log. `due_offset` and
// `next_due_offset` are those of the item. The check word is wrong from here to seal_schedule().
void stamp_schedule(MutableByteView set, int64_t received_ms, uint64_t first_id);
void stamp_schedule_item(MutableByteView set, const ScheduleItem& item, int64_t due_ms,
                         int64_t next_due_ms);
// Behind all stamps: a set can be read from the log without the rest of its entry, which has a hash
// only as a whole.
void seal_schedule(MutableByteView set);

// The header's producer fields in the form in which producer tables judge batches.
BatchHeader sequence_header(const ScheduleHeader& header, size_t set_bytes);

// Builds a set for the wire. Thread: one. Keeps its memory between sets; in steady state the only
// allocation is the finished set.
class ScheduleBuilder {
 public:
  // Bytes that append() would add; add kScheduleHeaderBytes for an empty builder.
  [[nodiscard]] size_t item_bytes(const ScheduleItem& item, const RecordInput& record) const;
  // Encodes the record as a batch of its own (item.batch is not looked at). On an error nothing
  // changes: as BatchBuilder::append, and kInvalidArgument for a key, zone or cron text that is too
  // long, kLimitExceeded when the set is full (finish it first). A message within its own limits
  // always fits an empty builder.
  Status append(const ScheduleItem& item, const RecordInput& record);

  [[nodiscard]] uint32_t item_count() const { return count_; }

  // Of the set so far, header included; 0 when empty.
  [[nodiscard]] size_t bytes() const { return bytes_.size(); }

  // Completes header and check. Requires: item_count() > 0. Afterwards the builder is empty.
  Buffer finish(PartitionId partition, BatchBuilder::Producer producer);
  void reset();

 private:
  BatchBuilder record_;
  GrowingBuffer bytes_;
  uint32_t count_ = 0;
};

// Sets topic, partition and producer of a finished, not yet sent set and recomputes the check.
void set_schedule_producer(MutableByteView set, PartitionId partition,
                           BatchBuilder::Producer producer);

}  // namespace tidemark::format
