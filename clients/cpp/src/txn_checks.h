// Check-backs: keeps a poll waiting at every shard of the cluster, asks the program's check
// function about what the broker wants to know, and tells the broker what it said.
//
//   poll (waits up to 30 s) --> queue --> check function, one call at a time --> TxnEnd by kCheck
//    ^_______________|  at once                 \__ unknown, or too late: nothing is sent
//
// An answer that gets lost is not sent again: the broker will ask again.
//
// Thread: the I/O thread; no libuv. The check function runs where `run` says.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/cluster.h"
#include "tidemark/transaction.h"

namespace tidemark::client_core {

// Lets one check run at a time, until it is closed. Thread: any.
class CheckGate {
 public:
  // False: closed, nothing may run any more.
  bool enter();
  void leave();
  // No check begins from now on; waits for the one that runs (unless this is called by it). False:
  // it still runs after this time.
  bool close(int64_t timeout_ms);

 private:
  std::mutex mutex_;
  std::condition_variable left_;
  bool closed_ = false;
  bool running_ = false;
  std::thread::id runner_;
};

// Runs tasks one after the other on a thread of its own. Thread: any.
class CheckThread {
 public:
  CheckThread();
  // Waits for the task that runs, unless this is called by it; what waits is dropped.
  ~CheckThread();
  CheckThread(const CheckThread&) = delete;
  CheckThread& operator=(const CheckThread&) = delete;

  void run(std::function<void()> task);
  // The destructor will not wait.
  void detach();

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> tasks;
    bool stopping = false;
  };

  static void loop(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

struct TxnCheckOptions {
  std::string group;
  client::CheckFunction check;
  int64_t deadline_ms = 5'000;
  uint32_t wait_ms = 30'000;
  uint32_t checks_max = 64;  // of one poll
  size_t queue_max = 4'096;  // beyond it no poll is sent, and checks are dropped
};

class TxnChecks final : public Component, public std::enable_shared_from_this<TxnChecks> {
 public:
  using Task = std::function<void()>;

  struct Hooks {
    std::function<void(Task)> run;   // runs the task once, somewhere, never inside the call
    std::function<void(Task)> post;  // runs it on the I/O thread; from any thread
    std::function<void(bool unknown)> count;
  };

  TxnChecks(TxnCheckOptions options, Cluster& cluster, std::shared_ptr<CheckGate> gate, Hooks hooks,
            uint64_t seed);

  MonotonicTime run(MonotonicTime now) override;
  // No more polls, checks or answers.
  void stop();

 private:
  struct Shard {
    bool polling = false;
    MonotonicTime poll_at{};
    Backoff backoff{50 * kNsPerMs, 5'000 * kNsPerMs};
    std::vector<std::pair<client::TransactionId, bool>> answers;  // to be sent
  };

  void poll(uint16_t number, Shard& shard, MonotonicTime now);
  void on_poll(uint16_t number, Reply reply);
  Status take_checks(uint16_t number, const Reply& reply);
  void start_next();
  void on_answer(const client::TransactionId& id, client::CheckAnswer answer, bool late);
  void send_answers(uint16_t number, Shard& shard, MonotonicTime now);

  TxnCheckOptions options_;
  Cluster& cluster_;
  Clock& clock_;  // also used where checks run
  std::shared_ptr<CheckGate> gate_;
  Hooks hooks_;
  Random random_;
  bool stopped_ = false;
  bool running_ = false;  // a check
  std::vector<Shard> shards_;
  std::deque<client::CheckRequest> queue_;
  std::set<client::TransactionId> known_;  // in the queue, or running
};

}  // namespace tidemark::client_core
