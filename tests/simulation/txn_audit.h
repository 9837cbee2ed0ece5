// TxnAuditor: what is left of transactions while nothing is wrong.
//
//   I18  without a producer nothing is counted; with one, everybody whose time has come is asked
//        about, and ends; what began is what ended, and what is open or parked
#pragma once

#include <deque>
#include <map>
#include <set>
#include <vector>

#include "tests/simulation/txn_operator.h"

namespace tidemark::sim {

class TxnAuditor final : public TxnReader {
 public:
  using TxnReader::TxnReader;

  // Asks all shards what they have: stats and the whole list.
  void look();

  [[nodiscard]] bool idle() const override { return tasks_.empty() && end_requests_.empty(); }

  [[nodiscard]] std::string describe() const override {
    return "audit of transactions: " + std::to_string(tasks_.size()) + " questions left, " +
           std::to_string(sight_.items.size()) + " transactions seen";
  }

  // --- of what was seen last
  // Nobody was asked meanwhile.
  void remember();
  void check_nothing_counted() const;
  // No open ones, and all shards have followed.
  [[nodiscard]] bool settled() const;
  // Whoever is open still has time to be asked about.
  void check_in_time();
  // Parked ones are ended, rechecked, or left alone.
  void treat_parked();
  // What became of those that nobody knows it of.
  void ask_unknown();
  // All that began since remember() has ended or is there.
  void check_conserved() const;
  // Nothing but these is there.
  void check_left(const std::set<TxnName>& parked) const;

  [[nodiscard]] std::set<TxnName> parked() const;

 private:
  struct Numbers {
    int64_t now_ms = 0;
    uint64_t open = 0;
    uint64_t parked = 0;
    uint64_t halves = 0;
    uint64_t unconfirmed = 0;
    uint64_t begun = 0;
    uint64_t ended = 0;
    uint64_t checks = 0;
  };

  struct Sight {
    std::vector<Numbers> shards;
    std::map<TxnName, TxnModel::Shown> items;
  };

  struct Deadline {
    uint32_t checks = 0;
    uint32_t times = 0;  // asked about since
    int64_t log_ms = 0;
  };

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

  Sight sight_;
  Sight before_;
  std::deque<Task> tasks_;  // the first is asked
  testing::TxnListInput page_;
  bool more_ = false;  // pages of the list
  std::set<TxnName> treated_;
  std::map<TxnName, Deadline> deadlines_;
};

}  // namespace tidemark::sim
