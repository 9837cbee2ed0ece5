// The payload of a reply: record batches one behind the other, with the offsets of this partition.
#pragma once

#include <span>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"

namespace tidemark::shard {

struct ServedBatch {
  Offset base;
  SharedBytes bytes;  // one whole batch, as the log has it
};

// Base offsets are stamped here: bytes in the log stay as the producer sent them. Small batches are
// copied behind one another; large ones share memory with the log tail and get a stamped head of
// their own.
void append_batches(std::span<const ServedBatch> batches, std::vector<SharedBytes>& out);

}  // namespace tidemark::shard
