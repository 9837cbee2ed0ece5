// A producer of transactions that writes down what it does and what it is asked: halves over
// several partitions, commit, rollback, and transactions that it leaves to the check-backs.
//
// How each ends is settled when it is begun, so that whoever is asked says the same. Transactions
// run in a thread of its own. Thread: of the owner, where nothing else is said.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "log/base/random.h"
#include "tests/blackbox/recorded_clients.h"
#include "tests/support/history.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

class RecordedTransactions {
 public:
  // Halves go to `place`, their uids are taken from `next_uid`. Begins at once if the broker
  // answers in time, else error() says why.
  RecordedTransactions(const client::Client& client, History& history, Place place,
                       std::string group, std::atomic<uint64_t>& next_uid, uint64_t seed);

  ~RecordedTransactions() { stop(); }

  RecordedTransactions(const RecordedTransactions&) = delete;
  RecordedTransactions& operator=(const RecordedTransactions&) = delete;

  [[nodiscard]] const std::string& error() const { return error_; }

  // Begins no more.
  void stop();
  // Waits until check-backs have ended what was left open, ends the rest as an operator would, and
  // writes down how each transaction stands. Calls stop(). "", or what did not come to its end.
  std::string finish(int64_t ms_max);

  // Thread: any.
  [[nodiscard]] uint64_t begun() const { return begun_.load(); }

  [[nodiscard]] uint64_t asked() const { return asked_.load(); }

 private:
  enum class Fate { kCommit, kRollback };

  struct Local {
    Fate fate = Fate::kRollback;
    bool settled = false;  // else: may still be under way
    client::TransactionId id;
  };

  void run(uint64_t seed);
  void one(Random& random);
  bool send_halves(client::Transaction& txn, const std::string& name, uint64_t count,
                   std::vector<uint64_t>& uids);
  void end(client::Transaction& txn, const std::string& name, Fate fate);
  void end_as_operator(const client::TransactionInfo& open, client::Transactions& transactions);
  void write_end(const char* op, uint64_t id, const client::Status& status);
  client::CheckAnswer check(const client::CheckRequest& request);
  void settle(const std::string& name, Fate fate, const client::TransactionId& id);
  std::string write_finals(client::Transactions& transactions);

  const client::Client client_;
  History& history_;
  const Place place_;
  const std::string group_;
  std::atomic<uint64_t>& next_uid_;
  std::atomic<uint64_t> begun_{0};
  std::atomic<uint64_t> asked_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable ending_;
  std::map<std::string, Local> locals_;  // by name, which is also the reference
  std::string error_;
  std::unique_ptr<client::TransactionProducer> producer_;
  // Kept: its end would roll them back.
  std::vector<client::Transaction> left_open_;
  std::thread thread_;
};

}  // namespace tidemark::testing
