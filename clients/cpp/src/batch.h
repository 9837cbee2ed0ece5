// A batch of a producer on its way: open (records are appended), sealed (waits), encoded (has its
// wire bytes).
//
// Owner: the Batcher while open or sealed, then the SendWindow of its partition.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/result.h"
#include "log/format/batch_builder.h"
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
  // While open or sealed; nullptr once encoded.
  std::unique_ptr<format::BatchBuilder> builder;
  // One per record.
  std::vector<uint64_t> opaques;
  // Empty, or one per record (null: none).
  std::vector<client::DeliveryCallback> callbacks;
  // One per record in a topic whose partitions are not known yet (kAnyPartition: none was asked
  // for); else empty.
  std::vector<uint32_t> asked_partitions;

  uint32_t records = 0;
  size_t charged_bytes = 0;  // of the write buffer
  uint64_t generation = 0;   // flush() waits for generations
  MonotonicTime created{};   // of the first record

  // From here on: I/O thread only.
  SharedBytes encoded;
  int32_t base_sequence = -1;
  uint64_t serial = 0;  // names the batch in requests under way
  bool in_flight = false;
  bool maybe_applied = false;  // an attempt ended without a known outcome
  uint32_t attempts = 0;
  Status last_error;
};

inline constexpr uint32_t kAnyPartition = 0xFFFF'FFFF;

}  // namespace tidemark::client_core
