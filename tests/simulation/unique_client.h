// UniqueClient: sends batches to a topic whose messages have ids that count. Ids come again, in the
// same batch, in a later one, from another client, or because an answer was lost. Some batches
// have a producer with sequences, others have none. One batch of a partition is under way at a
// time; now and then the client forgets all that it waits for, as a process that dies.
//
// UniqueReader: reads all of the topic in the end.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "tests/simulation/client.h"
#include "tests/simulation/unique_model.h"

namespace tidemark::sim {

class UniqueClient final : public Client {
 public:
  UniqueClient(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
               const Options& options, uint64_t seed, UniqueModel& unique)
      : Client(scheduler, network, model, directory, options, seed), unique_(unique) {}

  void start() { schedule(); }

  [[nodiscard]] bool idle() const override { return batches_.empty(); }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;
  void on_arrival(uint64_t connection, uint64_t correlation) override;

 private:
  struct Batch {
    std::vector<uint64_t> uids;
    SharedBytes bytes;
    bool sequenced = false;
    uint64_t sequence = 0;
    int64_t not_before_ns = 0;
  };

  struct Request {
    uint64_t connection = 0;
    PartitionId partition;
    std::vector<uint64_t> uids;
    bool sequenced = false;
    int64_t arrived_log_ms = 0;
  };

  void on_lost(uint64_t connection) override;
  void schedule();
  void work();
  void ask_for_id();
  void make_batch(PartitionId partition);
  uint64_t pick_id(PartitionId partition);
  void send(PartitionId partition, Batch& batch);
  void on_answer(const Request& request, const testing::ProducePartResult& result);
  void again(const Request& request);
  // Of this request; nullptr: it is done with, or forgotten.
  Batch* find(const Request& request);

  UniqueModel& unique_;
  uint64_t producer_ = 0;  // id; 0: not known
  uint64_t asking_on_ = 0;
  uint64_t asking_ = 0;                   // correlation; 0: nothing is asked
  std::map<PartitionId, uint64_t> next_;  // sequence
  std::map<PartitionId, Batch> batches_;  // without an answer
  std::map<uint64_t, Request> requests_;  // by correlation
};

class UniqueReader final : public Client {
 public:
  UniqueReader(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
               const Options& options, uint64_t seed, UniqueModel& unique)
      : Client(scheduler, network, model, directory, options, seed), unique_(unique) {}

  void read_all();

  [[nodiscard]] bool idle() const override { return left_ == 0; }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  void on_lost(uint64_t connection) override;
  void ask();

  UniqueModel& unique_;
  size_t left_ = 0;  // partitions
  Offset offset_;
  std::vector<UniqueModel::Stored> messages_;
  uint64_t connection_ = 0;  // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
