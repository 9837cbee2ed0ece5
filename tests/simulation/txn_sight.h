// What all shards show of transactions at one time while nothing is wrong, and what must hold of
// it.
//
//   I18  without a producer nothing is counted; with one, everybody whose time has come is asked
//        about, and ends; what began is what ended, and what is open or parked
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/txn_model.h"

namespace tidemark::sim {

struct TxnSight {
  // Of a shard.
  struct Numbers {
    int64_t now_ms = 0;  // log time
    uint64_t open = 0;
    uint64_t parked = 0;
    uint64_t halves = 0;
    uint64_t unconfirmed = 0;
    uint64_t begun = 0;
    uint64_t ended = 0;
    uint64_t checks = 0;
  };

  std::vector<Numbers> shards;
  std::map<TxnName, TxnModel::Shown> items;  // open and parked

  [[nodiscard]] std::set<TxnName> parked() const;
  // No open ones, and all shards have followed.
  [[nodiscard]] bool settled(const TxnModel& model) const;
};

// Nobody was asked between the two.
void check_nothing_counted(const TxnSight& before, const TxnSight& now);

// All that began since `before` has ended or is there; no process ended in between. All ends are
// known to the model.
void check_conserved(const TxnSight& before, const TxnSight& now, const TxnModel& model,
                     int64_t now_ns);

// Nothing but these is there, parked.
void check_left(const TxnSight& now, const std::set<TxnName>& parked);

// Of open transactions whose producers wait for check-backs and know all answers.
class TxnDeadlines {
 public:
  // `slack_ms`: how late a check may be.
  explicit TxnDeadlines(int64_t slack_ms) : slack_ms_(slack_ms) {}

  void check(const TxnSight& now);

 private:
  struct Deadline {
    uint32_t checks = 0;
    uint32_t times = 0;  // asked about since
    int64_t log_ms = 0;
  };

  const int64_t slack_ms_;
  std::map<TxnName, Deadline> deadlines_;
};

}  // namespace tidemark::sim
