// Clients of a topic whose messages have headers that the broker looks at: a producer, a reader
// with filters, a worker of a group in queue mode, and an auditor that asks what is settled.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/simulation/label_model.h"
#include "tests/simulation/producer.h"
#include "tests/support/queue_requests.h"

namespace tidemark::sim {

inline std::string label_group_name(uint32_t group) { return "pickers-" + std::to_string(group); }

class LabelProducer final : public Producer {
 public:
  LabelProducer(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
                const Options& options, uint64_t seed, LabelModel& labels)
      : Producer(scheduler, network, model, directory, options, seed), labels_(labels) {}

 private:
  Encoded encode(PartitionId partition, uint64_t first_uid, size_t count,
                 format::BatchBuilder::Producer producer) override;
  void on_stored(PartitionId partition, uint64_t first_uid, size_t count,
                 const testing::ProducePartResult& result) override;

  LabelModel& labels_;
};

class LabelReader final : public Client {
 public:
  LabelReader(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
              const Options& options, uint64_t seed, LabelModel& labels)
      : Client(scheduler, network, model, directory, options, seed), labels_(labels) {}

  void start() { schedule(); }

  // Each partition once from the beginning, with any filter; then it is idle.
  void read_all();

  [[nodiscard]] bool idle() const override { return reading_all_ && left_ == 0; }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 private:
  void on_lost(uint64_t connection) override;
  void schedule();
  void choose();
  void ask();
  void take(const testing::FetchPartResult& result);

  LabelModel& labels_;
  PartitionId partition_;
  Offset offset_;
  size_t filter_ = 0;
  bool chosen_ = false;
  bool reading_all_ = false;
  size_t left_ = 0;          // partitions, of read_all()
  uint64_t connection_ = 0;  // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
  int64_t arrived_ns_ = 0;
};

// Acks what it gets, sometimes late or never; then somebody gets it again.
class LabelWorker final : public Client {
 public:
  LabelWorker(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
              const Options& options, uint64_t seed, LabelModel& labels, std::string group,
              const LabelModel::Group& what)
      : Client(scheduler, network, model, directory, options, seed),
        labels_(labels),
        group_(std::move(group)),
        what_(what) {}

  void start() { schedule(); }

  void stop() { stopped_ = true; }

  [[nodiscard]] bool idle() const override { return true; }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 private:
  struct Receive {
    uint64_t connection = 0;
    PartitionId partition;
    int64_t arrived_ns = 0;
  };

  struct Settle {
    uint64_t connection = 0;
    std::vector<testing::QueueSettleInput> items;
  };

  void on_lost(uint64_t connection) override;
  void schedule();
  void receive();
  void settle();
  void on_received(const Receive& receive, const protocol::Frame& frame);
  void on_settled(const Settle& settle, const protocol::Frame& frame);
  void plan(PartitionId partition, const testing::LeasedMessage& message);

  LabelModel& labels_;
  const std::string group_;
  const LabelModel::Group what_;
  bool stopped_ = false;
  std::multimap<int64_t, testing::QueueSettleInput> todo_;  // by time in ms
  std::map<uint64_t, Receive> receives_;                    // by correlation
  std::map<uint64_t, Settle> settles_;                      // by correlation
};

// Asks until all groups have settled everything.
class LabelAuditor final : public Client {
 public:
  LabelAuditor(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
               const Options& options, uint64_t seed, LabelModel& labels)
      : Client(scheduler, network, model, directory, options, seed), labels_(labels) {}

  void start();

  [[nodiscard]] bool idle() const override { return left_ == 0; }

  [[nodiscard]] std::string describe() const override {
    return "groups with filters: " + std::to_string(left_) + " questions left" + text_;
  }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  void on_lost(uint64_t connection) override;
  void ask();
  // All of the shard's partitions are settled.
  bool judge(const std::vector<testing::QueueInfoResult>& infos);

  LabelModel& labels_;
  uint64_t left_ = 0;        // a group and a shard each
  std::string text_;         // what is not settled
  uint64_t connection_ = 0;  // of the question under way; 0: none
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
