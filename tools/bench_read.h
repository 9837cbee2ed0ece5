// The reading half of a benchmark: ranges of a topic, to their end.
//
// Thread: one. Blocking.
#pragma once

#include <functional>
#include <string>

#include "tidemark/consumer.h"
#include "tools/partition_ranges.h"

namespace tidemark::tools {

struct Globals;

// Looks at what came, an empty batch included; false: that is enough.
using SeeBatch = std::function<bool(const client::MessageBatch& batch)>;

// False when `see` had enough. Throws CommandError when nothing comes for the time of --timeout.
bool read_ranges(const Globals& globals, const std::string& topic, client::Consumer& consumer,
                 PartitionRanges ranges, const SeeBatch& see);

}  // namespace tidemark::tools
