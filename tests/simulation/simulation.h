// One run: a broker, clients and a nemesis from a seed.
//
//   chaos (faults, work) -> healed: no faults, clients finish, transactions end, groups and queues
//   catch up -> power cut -> they catch up -> drain of everything from offset 0, and of dead
//   letters
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/admin.h"
#include "tests/simulation/broker.h"
#include "tests/simulation/consumer.h"
#include "tests/simulation/delay_audit.h"
#include "tests/simulation/delay_client.h"
#include "tests/simulation/features.h"
#include "tests/simulation/group_fleet.h"
#include "tests/simulation/group_operator.h"
#include "tests/simulation/nemesis.h"
#include "tests/simulation/producer.h"
#include "tests/simulation/queue_audit.h"
#include "tests/simulation/queue_fleet.h"
#include "tests/simulation/txn_audit.h"
#include "tests/simulation/txn_fleet.h"
#include "tests/simulation/txn_operator.h"

namespace tidemark::sim {

class Simulation {
 public:
  explicit Simulation(const Options& options);

  // Throws WrongResult or NoProgress. A failed CHECK of the code under test ends the process.
  void run();

  [[nodiscard]] uint64_t trace_hash() const { return scheduler_.trace_hash(); }

  // What happened, in one line.
  [[nodiscard]] std::string summary();

 private:
  void run_until_ms(int64_t ms);
  // Until `done` holds. Throws NoProgress with what everybody is waiting for.
  template <typename Done>
  void run_until(const char* what, int64_t ms_max, Done done);
  void start_clients();
  void start_senders();
  void finish_clients();
  // Producers that answer check-backs end every transaction that is not parked.
  void settle_transactions();
  void look_at_transactions();
  void until_settled();
  // The process ends and the next one has had the time to deliver what is overdue.
  void restart();
  // What is pending agrees with the model.
  void audit();
  // The time of all that is due within a month comes.
  void leap();
  // I10: members have read and committed all there is, and workers have settled it.
  void catch_up();
  void catch_up_groups();
  void catch_up_queues();
  void check_delivered();
  // I20.
  void check_queues();
  // I25 and what follows.
  void verify_features();
  void drain();
  [[nodiscard]] std::string delay_summary() const;
  [[nodiscard]] std::string txn_summary() const;
  [[nodiscard]] std::string group_summary();
  [[nodiscard]] std::string queue_summary() const;

  const Options options_;
  Scheduler scheduler_;
  Model model_;
  Directory directory_;
  SimNetwork network_;
  SimBroker broker_;
  Nemesis nemesis_;
  Admin admin_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::vector<std::unique_ptr<Consumer>> consumers_;
  std::vector<std::unique_ptr<DelayClient>> delay_clients_;
  TxnFleet fleet_;
  TxnOperator operator_;
  TxnAuditor txn_auditor_;
  std::set<TxnName> parked_;  // in the end
  GroupFleet group_fleet_;
  GroupOperator group_operator_;
  GroupAuditor group_auditor_;
  int64_t caught_up_ms_max_ = 0;
  QueueFleet queue_fleet_;
  QueueAuditor queue_auditor_;
  DeadLetterReader dead_letter_reader_;
  DelayWatcher watcher_;
  DelayAuditor auditor_;
  Drainer drainer_;
  Features features_;
  int64_t started_ms_ = 0;
};

}  // namespace tidemark::sim
