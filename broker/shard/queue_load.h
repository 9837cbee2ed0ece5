// What queue mode reads out of batches. Pure: any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "broker/filter/filter.h"
#include "broker/partition/batch_ref.h"
#include "broker/queue/dispatcher.h"
#include "log/base/bytes.h"
#include "log/base/result.h"

namespace tidemark::shard {

struct QueueMessage {
  queue::LoadedMessage message;
  int64_t expires_ms = INT64_MAX;  // log time; not delivered from then on
  bool wanted = true;              // by the filter
};

struct QueueDamage {
  partition::BatchRef ref;
  Status status;
};

struct ParsedBatches {
  std::vector<QueueMessage> messages;  // in order of offset
  std::vector<QueueDamage> damaged;    // nothing of them is in `messages`
};

struct ParseWanted {
  const filter::Filter* filter = nullptr;  // nullptr: everything is wanted
  int64_t ttl_ms = -1;                     // of messages that name none; -1: they do not expire
};

// True if it takes no longer than handing it to a worker would: a few small batches without
// compression, of which only the frames of records are walked.
bool is_quick_to_parse(std::span<const Result<SharedBytes>> batches);

// `batches` as MessageReader gives them, one for each of `refs`.
ParsedBatches parse_batches(std::span<const partition::BatchRef> refs,
                            std::span<const Result<SharedBytes>> batches,
                            const ParseWanted& wanted);

}  // namespace tidemark::shard
