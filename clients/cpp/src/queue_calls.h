// What Queues asks of the shards, and what the answers mean.
//
// Each function is one waiting call; what may pass is tried again until the Asker's time is over.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "clients/cpp/src/call.h"
#include "tidemark/queue.h"

namespace tidemark::client_core {

// By topic and partition.
Result<std::vector<client::QueuePartitionInfo>> describe_queues(Asker& asker,
                                                                std::string_view group);
// One status per range, in order. An error: nothing could be asked.
Result<std::vector<client::Status>> ack_ranges(Asker& asker, std::string_view group,
                                               std::string_view topic, uint32_t partition,
                                               const std::vector<client::OffsetRange>& ranges);
// One status per offset, in order. An error: nothing could be asked.
Result<std::vector<client::Status>> redrive_offsets(Asker& asker, std::string_view topic,
                                                    uint32_t partition,
                                                    const std::vector<uint64_t>& offsets);
Result<std::vector<client::OffsetRange>> unsettled_ranges(Asker& asker, std::string_view group,
                                                          std::string_view topic,
                                                          uint32_t partition, uint64_t from,
                                                          size_t max);

}  // namespace tidemark::client_core
