// Takes parts, commits and rollbacks from a TxnBuffer, brings them to the broker, and reports how
// they ended.
//
// Thread: the I/O thread; no libuv. Each run(): news are taken, held messages placed as far as
// topics are known, deadlines looked at, what has to be tried again put back, and requests sent
// (TxnSender). Reports go through the buffer; a callback may call everything, because the
// program's calls only leave news.
//
// Parts and ends are idempotent (by index, by state), so all that may pass is tried again until the
// deadline of who waits for it. A transaction one of whose parts fails can only be rolled back: a
// commit that waited for it reports the failure, and the rollback goes on in the background.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "clients/cpp/src/txn_buffer.h"
#include "clients/cpp/src/txn_sender.h"

namespace tidemark::client_core {

struct TxnEngineOptions {
  int64_t backoff_min_ns = 20 * kNsPerMs;
  int64_t backoff_max_ns = 1'000 * kNsPerMs;
};

class TxnEngine final : public Component {
 public:
  TxnEngine(TxnEngineOptions options, std::shared_ptr<TxnBuffer> buffer, Cluster& cluster,
            uint64_t seed);
  ~TxnEngine() override;
  TxnEngine(const TxnEngine&) = delete;
  TxnEngine& operator=(const TxnEngine&) = delete;

  MonotonicTime run(MonotonicTime now) override;

  // Reports everything that somebody waits for, as cancelled or of unknown outcome; the number of
  // commits and rollbacks among it.
  size_t give_up();

 private:
  // What is tried again later: a part, or (none) the end of its transaction.
  struct Retry {
    PartJob part;
    uint64_t end_serial = 0;
  };

  void take(TxnNews& news);
  void seal_late(TxnNews& news);
  void take_parts(const std::shared_ptr<Txn>& txn, TxnParts& parts);
  void on_commit(const std::shared_ptr<Txn>& txn, EndWaiter waiter, const Status& failure);
  void on_rollback(const std::shared_ptr<Txn>& txn, std::optional<EndWaiter> waiter);

  // --- metadata
  // For what is newer than what is known.
  void ask(TxnTopic& topic);
  void resolve_topics();
  bool place(const std::shared_ptr<Txn>& txn);
  bool is_known(TxnTopic& topic);
  Status wait_for(Txn& txn, TxnTopic& topic);
  // Why parts of the topic cannot be sent for good; ok otherwise. Takes what is new.
  Status learn(TxnTopic& topic);
  // Null: not now; or, with an error in `gone`, never.
  Session* route(const TxnPart& part, Status& gone);
  Session* route_end(const Txn& txn);

  // --- sending
  void send_part(PartJob job);
  // The part is stored or given up.
  void forget(PartJob& job);
  void send_end(const std::shared_ptr<Txn>& txn);
  void on_part(PartJob job, const Status& status, uint32_t retry_after_ms);
  void on_end(const EndJob& job, const Status& status, protocol::fbs::TxnState state,
              uint32_t retry_after_ms);
  void retry_part(PartJob job, uint32_t retry_after_ms);
  void retry_end(const std::shared_ptr<Txn>& txn, uint32_t retry_after_ms);
  [[nodiscard]] MonotonicTime retry_time(uint32_t attempts, uint32_t retry_after_ms);
  void take_retries(MonotonicTime now);

  // --- outcomes
  // Goes on when every part is stored.
  void settle(const std::shared_ptr<Txn>& txn);
  void fail(const std::shared_ptr<Txn>& txn, const Status& why);
  void start_end(const std::shared_ptr<Txn>& txn, bool commit);
  void roll_back_in_background(const std::shared_ptr<Txn>& txn);
  void finish(const std::shared_ptr<Txn>& txn, const Status& status, std::optional<bool> committed);
  void report_prepares(Txn& txn, const Status& status);
  void report_ends(Txn& txn, std::vector<EndWaiter> waiters, const client::Status& status);
  void stop_end(Txn& txn);

  // --- deadlines
  void list(const std::shared_ptr<Txn>& txn);
  void expire(MonotonicTime now);
  void expire_waiters(const std::shared_ptr<Txn>& txn, MonotonicTime now);
  [[nodiscard]] Status late(const Status& last_error, bool maybe_applied, int64_t timeout_ms) const;

  TxnEngineOptions options_;
  std::shared_ptr<TxnBuffer> buffer_;
  Cluster& cluster_;
  Random random_;
  std::shared_ptr<TxnSender> sender_;

  std::vector<TxnTopic*> unknown_;  // their metadata is waited for
  std::vector<std::shared_ptr<Txn>> holding_;
  std::multimap<int64_t, Retry> retries_;  // by time
  // Transactions that somebody waits for, by the first deadline.
  std::map<std::pair<int64_t, uint64_t>, std::shared_ptr<Txn>> listed_;
};

}  // namespace tidemark::client_core
