// Clients of a topic that is compacted by key: a producer that gives its messages keys, and a
// reader that goes over whole partitions again and again.
#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/keyed_model.h"
#include "tests/simulation/producer.h"

namespace tidemark::sim {

class KeyedProducer final : public Producer {
 public:
  KeyedProducer(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
                const Options& options, uint64_t seed, KeyedModel& keyed)
      : Producer(scheduler, network, model, directory, options, seed), keyed_(keyed) {}

 private:
  Encoded encode(PartitionId partition, uint64_t first_uid, size_t count,
                 format::BatchBuilder::Producer producer) override;
  void on_stored(PartitionId partition, uint64_t first_uid, size_t count,
                 const testing::ProducePartResult& result) override;

  KeyedModel& keyed_;
};

class KeyedReader final : public Client {
 public:
  KeyedReader(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
              const Options& options, uint64_t seed, KeyedModel& keyed)
      : Client(scheduler, network, model, directory, options, seed), keyed_(keyed) {}

  void start() { schedule(); }

  // One pass over each partition, which begins now; then it is idle.
  void read_all();

  [[nodiscard]] bool idle() const override { return reading_all_ && left_ == 0; }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  void on_lost(uint64_t connection) override;
  void schedule();
  void begin();
  void ask();
  void take(const testing::FetchPartResult& result);

  KeyedModel& keyed_;
  KeyedModel::Pass pass_;
  bool passing_ = false;
  int64_t rests_until_ns_ = 0;  // between two passes
  bool reading_all_ = false;
  size_t left_ = 0;          // partitions, of read_all()
  uint64_t connection_ = 0;  // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
  int64_t sent_ns_ = 0;
};

}  // namespace tidemark::sim
