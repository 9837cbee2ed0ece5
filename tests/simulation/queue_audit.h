// Looks at queues from outside: what is not settled, and what lies in the dead-letter topic.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/simulation/client.h"
#include "tests/support/queue_requests.h"

namespace tidemark::sim {

// Asks each shard about each group.
class QueueAuditor final : public Client {
 public:
  using Client::Client;

  // From now on what lies before the end that a partition is seen to have next has to be settled.
  void begin() { goals_.clear(); }

  void look();

  [[nodiscard]] bool idle() const override { return left_ == 0; }

  // Queues that are not settled up to their goal, as seen last. Requires: idle().
  [[nodiscard]] uint64_t unsettled() const { return unsettled_; }

  // Everything before it is settled, as seen last.
  [[nodiscard]] const std::map<QueueModel::Name, Offset>& floors() const { return floors_; }

  [[nodiscard]] std::string describe() const override {
    return std::to_string(unsettled_) + " queues" + text_ + ", " + std::to_string(left_) +
           " questions left";
  }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  struct Question {
    std::string group;
    ShardId shard;
    std::map<PartitionId, Offset> known = {};  // ends when it was asked
  };

  void on_lost(uint64_t connection) override;
  void ask();
  void judge(const Question& question, const std::vector<testing::QueueInfoResult>& infos);

  std::vector<Question> questions_;  // the last is asked
  size_t left_ = 0;
  uint64_t connection_ = 0;  // of the question under way; 0: none
  uint64_t correlation_ = 0;
  uint64_t unsettled_ = 0;
  std::map<QueueModel::Name, Offset> goals_;
  std::map<QueueModel::Name, Offset> floors_;
  std::string text_;
};

// Reads the whole dead-letter topic and tells the model.
class DeadLetterReader final : public Client {
 public:
  using Client::Client;

  void start();

  [[nodiscard]] bool idle() const override { return left_ == 0; }

  [[nodiscard]] std::string describe() const override {
    return std::to_string(left_) + " partitions of dead letters left";
  }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 private:
  void on_lost(uint64_t connection) override;
  void ask();

  size_t left_ = 0;  // the last is read
  Offset offset_;
  uint64_t connection_ = 0;  // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
};

}  // namespace tidemark::sim
