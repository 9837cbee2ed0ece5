#include "clients/cpp/src/queue_calls.h"
#include "tidemark/queue.h"

namespace tidemark::client {

using client_core::Call;
using client_core::to_public;

Result<Queues> Queues::create(const Client& client) { return Queues(client); }

Result<std::vector<QueuePartitionInfo>> Queues::describe(std::string_view group,
                                                         int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::describe_queues(call, group));
}

Result<std::vector<Status>> Queues::ack(std::string_view group, std::string_view topic,
                                        uint32_t partition, const std::vector<OffsetRange>& ranges,
                                        int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::ack_ranges(call, group, topic, partition, ranges));
}

Result<std::vector<Status>> Queues::redrive(std::string_view topic, uint32_t partition,
                                            const std::vector<uint64_t>& offsets,
                                            int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::redrive_offsets(call, topic, partition, offsets));
}

Result<std::vector<OffsetRange>> Queues::unsettled(std::string_view group, std::string_view topic,
                                                   uint32_t partition, uint64_t from, size_t max,
                                                   int64_t deadline_ms) {
  Call call(client_, deadline_ms);
  return to_public(client_core::unsettled_ranges(call, group, topic, partition, from, max));
}

}  // namespace tidemark::client
