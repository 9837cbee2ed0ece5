// TxnAuditor: looks at what is left of transactions while nothing is wrong, and treats what is
// parked.
#pragma once

#include <deque>
#include <set>
#include <vector>

#include "tests/simulation/txn_operator.h"
#include "tests/simulation/txn_sight.h"

namespace tidemark::sim {

class TxnAuditor final : public TxnReader {
 public:
  using TxnReader::TxnReader;

  // Asks all shards what they have: stats and the whole list.
  void look();

  // What was seen last. Requires: idle().
  [[nodiscard]] const TxnSight& sight() const { return sight_; }

  // Parked ones are ended, rechecked, or left alone.
  void treat_parked();
  // What became of those that nobody knows it of.
  void ask_unknown();

  [[nodiscard]] bool idle() const override { return tasks_.empty() && end_requests_.empty(); }

  [[nodiscard]] std::string describe() const override {
    return "audit of transactions: " + std::to_string(tasks_.size()) + " questions left, " +
           std::to_string(sight_.items.size()) + " transactions seen";
  }

 private:
  struct Task {
    enum class Kind : uint8_t { kStats, kList, kShow, kRecheck } kind = Kind::kStats;
    ShardId shard = {};  // kStats, kList
    uint64_t txn = 0;
  };

  void on_list(const std::vector<TxnModel::Shown>& items, bool more,
               const protocol::fbs::TxnId& next) override;
  void on_stats(const protocol::fbs::TxnStatsReply& stats) override;
  void on_failed() override;
  void on_answered() override;
  void go_on();
  void start(std::vector<Task> tasks);

  TxnSight sight_;
  std::deque<Task> tasks_;  // the first is asked
  testing::TxnListInput page_;
  bool more_ = false;  // pages of the list
  std::set<TxnName> treated_;
};

}  // namespace tidemark::sim
