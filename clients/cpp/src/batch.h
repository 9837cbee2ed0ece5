// A batch of a producer on its way: open (records are appended), sealed (waits), encoded (has its
// wire bytes). Plain messages travel as a record batch, delayed ones as a schedule set; a Batch
// holds one kind only, and apart from its encoding both are treated alike.
//
// Owner: the Batcher while open or sealed, then the SendWindow of its partition.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"
#include "log/format/schedule_set.h"
#include "tidemark/producer.h"

namespace tidemark::client_core {

// Who numbers batches: what InitProducer gave. id 0: none.
struct Identity {
  uint64_t id = 0;
  int16_t epoch = -1;

  friend bool operator==(const Identity&, const Identity&) = default;
};

// The number after `sequence`, `count` records on: 0 follows 2^31 - 1.
constexpr int32_t sequence_after(int32_t sequence, uint32_t count) {
  return static_cast<int32_t>((static_cast<uint32_t>(sequence) + count) & 0x7FFF'FFFFu);
}

struct Batch {
  bool delayed = false;
  // While open or sealed, the one of its kind; nullptr once encoded.
  std::unique_ptr<format::BatchBuilder> builder;
  std::unique_ptr<format::ScheduleBuilder> schedule;
  // One per record.
  std::vector<uint64_t> opaques;
  // Empty, or one per record (null: none).
  std::vector<client::DeliveryCallback> callbacks;
  // One per record in a topic whose partitions are not known yet (kAnyPartition: none was asked
  // for); else empty.
  std::vector<uint32_t> asked_partitions;

  uint32_t records = 0;
  bool ttl = false;          // one of them has a time to live
  size_t charged_bytes = 0;  // of the write buffer
  uint64_t generation = 0;   // flush() waits for generations
  MonotonicTime created{};   // of the first record

  // From here on: I/O thread only.
  SharedBytes encoded;
  PartitionId target;  // where it was sent; a schedule set carries it
  int32_t base_sequence = -1;
  uint64_t number = 0;  // of the batches under its identity
  uint64_t serial = 0;  // names the batch in requests under way
  bool in_flight = false;
  bool maybe_applied = false;  // an attempt ended without a known outcome
  uint32_t attempts = 0;
  Status last_error;

  // What was answered about delayed messages: one per record, once the batch is stored.
  std::vector<client::DelayReceipt> receipts;
  uint32_t refused = 0;  // of them
  Status refusal;        // the first one
  // Where each record is, if the broker knew the ids of some.
  std::vector<uint64_t> offsets;
};

inline constexpr uint32_t kAnyPartition = 0xFFFF'FFFF;

// Bytes of an open batch so far.
size_t open_bytes(const Batch& batch);
// Gives an open batch its wire bytes; a set goes to batch.target. On an error nothing changes.
// Compression is for plain batches.
Status encode_batch(Batch& batch, format::Codec codec, int zstd_level,
                    format::BatchBuilder::Producer producer);
// Gives an encoded batch another producer, and a set its target. The old bytes stay as they are:
// they may still lie in a write queue.
void renumber_batch(Batch& batch, format::BatchBuilder::Producer producer);
// As encode_batch, without compression or producer, if it has no bytes yet.
Status encode_plain(Batch& batch);

// One message of an encoded batch; `item` is null for a plain one. Views into the batch.
using MessageVisitor = std::function<void(size_t index, const format::RecordView& record,
                                          const format::ScheduleItem* item)>;
// Calls `visit` with every message, in order. Requires: encoded.
Status for_each_message(const Batch& batch, const MessageVisitor& visit);
// Appends copies of the messages; encodes the batch if it is not.
Status copy_messages(Batch& batch, const std::string& topic, std::optional<uint32_t> partition,
                     std::vector<client::OwnedMessage>& out);

}  // namespace tidemark::client_core
