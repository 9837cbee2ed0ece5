// Consumer: reads partitions by offset with long polls, now and then from another place, and tells
// the model what it saw.
#pragma once

#include "tests/simulation/client.h"

namespace tidemark::sim {

// A client that reads partitions.
class Reader : public Client {
 public:
  using Client::Client;

 protected:
  // Checks what a fetch gave for a partition and tells the model what was read. Gives where to go
  // on from.
  Offset read_part(PartitionId partition, Offset asked, int64_t sent_ns,
                   const testing::FetchPartResult& result);
};

class Consumer final : public Reader {
 public:
  using Reader::Reader;

  void start() { schedule(1'000); }

  [[nodiscard]] bool idle() const override { return true; }

  [[nodiscard]] std::string describe() const override { return "consumer"; }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  struct Position {
    PartitionId partition;
    Offset offset;
  };

  void on_lost(uint64_t connection) override;
  void schedule(int64_t us);
  void choose();
  void ask();

  std::vector<Position> positions_;  // on one shard
  uint64_t connection_ = 0;          // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
  int64_t sent_ns_ = 0;
};

// Reads whole partitions, one after the other; for the end of a run.
class Drainer final : public Client {
 public:
  using Client::Client;

  void start();

  [[nodiscard]] bool idle() const override { return next_ == partitions_.size(); }

  [[nodiscard]] std::string describe() const override;
  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

  [[nodiscard]] uint64_t drained() const { return drained_; }

 private:
  void on_lost(uint64_t connection) override;
  void ask();

  std::vector<PartitionId> partitions_;
  size_t next_ = 0;
  uint64_t connection_ = 0;  // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
  Offset start_;
  Offset offset_;
  std::vector<Model::Stored> messages_;
  std::vector<DelayModel::Drained> delayed_;
  std::vector<uint64_t> uids_;
  uint64_t drained_ = 0;
};

}  // namespace tidemark::sim
