// QueueWorker: a process that takes messages of a queue one by one. It acks, nacks, extends, acks
// too late or never, says that a message is of no use, and may die at any time. Now and then it
// settles as an operator would, without a lease.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/simulation/client.h"
#include "tests/support/queue_requests.h"

namespace tidemark::sim {

inline std::string queue_group_name(uint32_t group) { return "workers-" + std::to_string(group); }

class QueueWorker final : public Client {
 public:
  QueueWorker(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
              const Options& options, uint64_t seed, std::string group)
      : Client(scheduler, network, model, directory, options, seed), group_(std::move(group)) {}

  void start() { schedule(); }

  // For ever, without a word.
  void die();

  [[nodiscard]] bool dead() const { return dead_; }

  [[nodiscard]] bool idle() const override { return true; }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 private:
  using Action = protocol::fbs::QueueAction;

  struct ReceiveRequest {
    uint64_t connection = 0;
    uint64_t receive = 0;  // of the model
    std::vector<PartitionId> parts;
    uint32_t visibility_ms = 0;
  };

  struct SettleRequest {
    uint64_t connection = 0;
    ShardId shard;
    std::vector<testing::QueueSettleInput> items;
    std::vector<uint64_t> settles;  // of the model
  };

  void on_lost(uint64_t connection) override;
  void schedule();
  void work();
  void receive();
  void on_received(const ReceiveRequest& request, const protocol::Frame& frame);
  // Decides what becomes of a message that was just leased.
  void plan(PartitionId partition, const testing::LeasedMessage& message, uint32_t visibility_ms);
  void later(testing::QueueSettleInput item, Action action, uint64_t after_ms);
  void settle_as_operator();
  void settle_due();
  void send_settle(ShardId shard, std::vector<testing::QueueSettleInput> items);
  void on_settled(const SettleRequest& request, const protocol::Frame& frame);
  void on_settle_failed(const SettleRequest& request);
  // Acks that may not have been done are sent again, or forgotten.
  void maybe_again(const testing::QueueSettleInput& item);
  [[nodiscard]] QueueModel::Answer answer_of(const testing::QueueSettleInput& item, ErrorCode code);

  const std::string group_;
  bool dead_ = false;
  std::multimap<int64_t, testing::QueueSettleInput> todo_;  // by time in ms
  std::map<uint64_t, ReceiveRequest> receives_;             // by correlation
  std::map<uint64_t, SettleRequest> settles_;               // by correlation
};

}  // namespace tidemark::sim
