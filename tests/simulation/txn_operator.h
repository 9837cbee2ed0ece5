// TxnOperator: looks at transactions, and now and then commits, rolls back or rechecks one. What it
// is shown must agree with the model.
#pragma once

#include <deque>

#include "tests/simulation/txn_client.h"

namespace tidemark::sim {

TxnModel::Shown read_shown(const protocol::fbs::TxnInfo& info);

// A client that asks about transactions, one request at a time besides ends.
class TxnReader : public TxnEnder {
 public:
  using TxnEnder::TxnEnder;

  void on_reply(uint64_t connection, const protocol::Frame& frame) final;
  void on_arrival(uint64_t connection, uint64_t correlation) final;

 protected:
  [[nodiscard]] bool asking() const { return connection_ != 0; }

  // False: not sent.
  bool ask_list(ShardId shard, const testing::TxnListInput& wanted);
  bool ask_show(ShardId shard, uint64_t txn);
  bool ask_recheck(uint64_t txn);
  bool ask_stats(ShardId shard);

  // After the model was told.
  virtual void on_list(const std::vector<TxnModel::Shown>& /*items*/, bool /*more*/,
                       const protocol::fbs::TxnId& /*next*/) {}

  virtual void on_stats(const protocol::fbs::TxnStatsReply& /*stats*/) {}

  // Refused for now, or the connection is lost.
  virtual void on_failed() {}

  virtual void on_answered() {}

 private:
  enum class Kind : uint8_t { kList, kShow, kRecheck, kStats };

  void on_lost(uint64_t connection) override;
  bool send(ShardId shard, Kind kind, const protocol::Frame& frame);
  void read_list(const protocol::Frame& frame);
  void read_show(const protocol::Frame& frame);
  void read_recheck(const protocol::Frame& frame);
  void read_stats(const protocol::Frame& frame);

  Kind kind_ = Kind::kList;
  ShardId shard_;
  testing::TxnListInput wanted_;
  uint64_t txn_ = 0;
  uint64_t connection_ = 0;  // of the request under way; 0: none
  uint64_t correlation_ = 0;
  int64_t sent_ns_ = 0;
};

class TxnOperator final : public TxnReader {
 public:
  using TxnReader::TxnReader;

  void start() { schedule(); }

  [[nodiscard]] bool idle() const override {
    return !finishing_ || (!asking() && end_requests_.empty());
  }

  [[nodiscard]] std::string describe() const override { return "operator"; }

 private:
  void on_list(const std::vector<TxnModel::Shown>& items, bool more,
               const protocol::fbs::TxnId& next) override;
  void schedule();
  void work();
  void interfere();
  // One that it was shown, or any.
  uint64_t pick_txn();

  std::deque<uint64_t> shown_;
};

}  // namespace tidemark::sim
