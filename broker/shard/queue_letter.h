// Dead letters and their way back: reference batches (log/format/reference_batch.h) with the
// history of the message in their headers. Pure: any thread.
#pragma once

#include <cstdint>
#include <string>

#include "broker/partition/batch_ref.h"
#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::shard {

// What a partition's index points at instead of a copy.
struct QueueLetter {
  PartitionId to;
  LogPosition body;  // of the batch that has the message
  Buffer batch;
};

struct QueueDeath {
  std::string topic;  // its name; its id as text where the name is not known
  PartitionId at;
  Offset offset;
  std::string group;
  std::string reason;
  uint32_t deliveries = 0;
  int64_t time_ms = 0;  // log time
};

// `batch` is what lies at `ref`. One that is a reference itself is taken over with its history, so
// a body is never referred to twice over. A history that has no room loses its oldest parts.
// Errors: those of reading the batch. `to` is left to the caller.
Result<QueueLetter> make_dead_letter(const partition::BatchRef& ref, ByteView batch,
                                     const QueueDeath& death);

// Of a dead letter: to where it died last. kNotFound: it is none.
Result<QueueLetter> make_redriven(ByteView batch, int64_t time_ms);

}  // namespace tidemark::shard
