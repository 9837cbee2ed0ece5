// The recorded load on a real broker, from fresh topics to the checker's verdict: producers that
// try for ever and that give up soon, delayed messages and cancels, transactions, a reader, a
// group, and a queue with dead letters.
//
// What goes wrong with the broker itself (kills, cuts, pauses) is the owner's to do, and to write
// into the history as `fault`. Thread: of the owner; the load has threads of its own.
#pragma once

#include <array>
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
#include "tests/blackbox/recorded_queue.h"
#include "tests/blackbox/recorded_transactions.h"

namespace tidemark::testing {

struct WorkloadOptions {
  std::string name = {};            // its topics and groups end in it
  uint64_t seed = 1;                // of the mixture
  uint64_t first_uid = 1;           // uids of a run are used once
  uint32_t messages_per_s = 1'500;  // as far as the broker takes them
  int64_t max_late_ms = 5'000;      // for a machine that has other work
  int64_t recovery_ms = 10'000;     // after each fault
  int64_t progress_ms = 60'000;     // for a group to come to the end
};

class Workload {
 public:
  static constexpr uint32_t kPartitions = 3;
  static constexpr uint32_t kQueuePartitions = 2;
  static constexpr uint64_t kDelayMsMax = 900;

  // `history` and `clock` outlive it.
  Workload(client::Client client, History& history, const BrokerClock& clock,
           WorkloadOptions options);
  // Stops the load; nothing is judged.
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // Creates the topics and begins. "", or what went wrong.
  std::string start();

  // So far, over all producers. Thread: any.
  [[nodiscard]] uint64_t acknowledged() const;
  [[nodiscard]] uint64_t unknown() const;
  // Unknown, or not sent in time.
  [[nodiscard]] uint64_t given_up() const;
  [[nodiscard]] uint64_t in_flight() const;

  // False: it does not come to so many in time.
  bool wait_for_acknowledged(uint64_t count, int64_t ms_max) const;
  bool wait_for_given_up(uint64_t count, int64_t ms_max) const;

  // Ends the load, waits until all is quiet, and reads what is there: the end of the history.
  // Requires: the broker is well. "", or what did not come to its end.
  std::string finish();
  // Its topics are deleted. "", or what went wrong.
  std::string remove();

  [[nodiscard]] uint64_t next_uid() const { return next_uid_.load(); }

  // What the checker must have something to judge of, for --require.
  static std::string invariants();

 private:
  [[nodiscard]] std::array<const RecordedProducer*, 4> producers() const {
    return {patient_.get(), delaying_.get(), impatient_.get(), queueing_.get()};
  }

  void load();
  void send_one(Random& random, uint64_t i);
  void cancel_some();
  void cancel(uint64_t uid, const client::DelayHandle& handle);
  void look_at_positions();
  void stop_load();
  std::string send_last();
  std::string end_pending();
  std::string create_topics();
  std::string drain(const Place& place, std::map<uint32_t, uint64_t>& ends);
  // Waits; false when the load is to end.
  bool pause(int64_t ms);

  const client::Client client_;
  History& history_;
  const BrokerClock& clock_;
  const WorkloadOptions options_;
  const Place place_;
  const Place queue_place_;
  const std::string dead_topic_;
  const std::string group_;
  std::unique_ptr<RecordedProducer> patient_;
  std::unique_ptr<RecordedProducer> delaying_;
  std::unique_ptr<RecordedProducer> impatient_;
  std::unique_ptr<RecordedProducer> queueing_;
  std::unique_ptr<RecordedReader> reader_;
  std::unique_ptr<RecordedMember> member_;
  std::atomic<uint64_t> next_uid_;
  std::unique_ptr<RecordedTransactions> transactions_;
  std::unique_ptr<RecordedQueue> queue_;
  std::mutex mutex_;
  std::condition_variable ending_;
  bool stopping_ = false;
  std::thread load_;
  std::thread canceller_;
  std::thread looker_;
};

// What check_history said of a file.
struct Verdict {
  bool accepted = false;
  std::string summary;  // its last line
  std::string text;     // all of it
};

// Requires: $CHECK_HISTORY names the checker, and the history is closed.
Verdict judge_history(const std::string& path, const std::string& invariants);

}  // namespace tidemark::testing
