// A shard with delayed messages, as a client and the clocks see it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/delay_requests.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {

using protocol::fbs::DelayOutcome;
using WireReceipt = protocol::fbs::DelayReceipt;  // as a client sees it
using testing::DelayInput;
using testing::DelayTarget;

class DelayHarness : public ShardHarness {
 public:
  using Values = std::vector<std::string>;

  explicit DelayHarness(const partition::DelayConfig& config = {}, uint16_t shard = 0,
                        uint16_t shard_count = 1)
      : ShardHarness(shard, shard_count) {
    open_partitions_of(TopicId{1}, 2, config);
  }

  testing::ProducePartResult schedule(const std::vector<DelayInput>& items,
                                      PartitionId partition = kPartition,
                                      format::BatchBuilder::Producer producer = {}) {
    return send(testing::build_schedule(partition, items, producer), partition);
  }

  testing::ProducePartResult send(const SharedBytes& set, PartitionId partition = kPartition) {
    receive(testing::schedule_request(partition, set));
    settle();
    run_jobs();
    return testing::read_produce_reply(outbox.take()).at(0);
  }

  // Schedules and gives the receipts of what has to be taken.
  std::vector<WireReceipt> take_in(const std::vector<DelayInput>& items,
                                   PartitionId partition = kPartition) {
    auto result = schedule(items, partition);
    REQUIRE_MESSAGE(result.status.ok(), result.status.to_string());
    REQUIRE(result.receipts.size() == items.size());
    return std::move(result.receipts);
  }

  // What a consumer sees now.
  Values values(PartitionId partition = kPartition) {
    Values out;
    for (;;) {
      const auto page = fetch(partition, out.size());
      for (const testing::Message& message : page.messages) {
        out.push_back(message.value);
      }
      if (page.messages.empty()) {
        return out;
      }
    }
  }

  // A request about delays, with what it has to read.
  protocol::Frame ask_delays(const protocol::Frame& frame) {
    receive(frame);
    settle();
    run_jobs();
    return outbox.take();
  }

  struct Change {
    Status status;
    DelayOutcome outcome = DelayOutcome::kNotFound;
    WireReceipt receipt;
  };

  static std::vector<Change> read_changes(const protocol::Frame& reply) {
    std::vector<Change> changes;
    const auto& table = testing::read_reply<protocol::fbs::DelayChangeReply>(reply);
    for (const auto* result : *table.results()) {
      changes.push_back({protocol::to_status(result->error()), result->outcome(),
                         result->receipt() ? *result->receipt() : WireReceipt()});
    }
    return changes;
  }

  Change cancel(const DelayTarget& target) {
    return read_changes(ask_delays(testing::delay_cancel_request({&target, 1}))).at(0);
  }

  Change reschedule(const DelayTarget& target, int64_t after_ms) {
    return read_changes(
               ask_delays(testing::delay_reschedule_request({&target, 1}, false, after_ms)))
        .at(0);
  }

  void run_jobs() {
    while (source.pending() > 0) {
      source.run_all();
      settle();
    }
  }

  ShardStats stats() const {
    ShardStats stats;
    core->add_stats(stats);
    return stats;
  }

  [[nodiscard]] uint64_t pending() const { return core->views().delays().pending(kPartition); }
};

}  // namespace tidemark::shard
