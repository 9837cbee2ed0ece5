// What is measured while nothing is wrong: how late delayed messages come, and how many are
// pending.
#pragma once

#include <optional>

#include "tests/simulation/client.h"
#include "tests/simulation/delay_frames.h"

namespace tidemark::sim {

// Follows the partitions of one shard to their ends, with long polls, from now on.
//   I14  a delayed message comes within Options::lateness_ms_max() of its due time, once the
//   backlog
//        of what became due while the process was down or the clock jumped is done
class DelayWatcher final : public Client {
 public:
  using Client::Client;

  void start();

  [[nodiscard]] bool idle() const override { return true; }

  [[nodiscard]] std::string describe() const override { return "delay watcher"; }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

  // The latest of `judged()` messages.
  [[nodiscard]] int64_t lateness_ms_max() const { return lateness_ms_max_; }

  [[nodiscard]] uint64_t judged() const { return judged_; }

 private:
  void on_lost(uint64_t connection) override;
  void ask();
  // nullopt: it is not to be judged.
  [[nodiscard]] std::optional<int64_t> lateness(uint64_t uid, int64_t log_ms) const;
  // All of a reply, and how late the latest was.
  void judge(uint64_t messages, int64_t late_ms);

  ShardId shard_;
  std::vector<testing::FetchInput> parts_;
  std::vector<bool> at_end_;  // was once, of each part
  int64_t since_ms_ = 0;      // log time; what is due later is judged
  uint64_t connection_ = 0;   // of the fetch under way; 0: none
  uint64_t correlation_ = 0;
  bool caught_up_ = false;
  int64_t lateness_ms_max_ = 0;
  uint64_t judged_ = 0;
};

// Asks every shard how many messages are pending, and compares with the model. What is overdue, for
// the process was down or the clock jumped, may take its time, but must become less within some
// lateness_ms_max().
class DelayAuditor final : public Client {
 public:
  using Client::Client;

  // Nobody may change anything meanwhile.
  void start();

  [[nodiscard]] bool idle() const override { return next_ == options_.shards; }

  [[nodiscard]] std::string describe() const override {
    return "delay audit of shard " + std::to_string(next_);
  }

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

  // On the last shard asked.
  [[nodiscard]] uint64_t pending() const { return pending_; }

 private:
  void on_lost(uint64_t connection) override;
  void ask();
  // False: ask again later.
  bool check(ShardId shard, const protocol::fbs::DelayStatsReply& stats);

  uint16_t next_ = 0;
  uint64_t connection_ = 0;
  uint64_t correlation_ = 0;
  uint64_t pending_ = 0;
  std::optional<uint64_t> before_;  // in the last answer of the shard
  int stalled_ = 0;                 // answers in a row that were the same
};

}  // namespace tidemark::sim
