// TxnFleet: the processes that make transactions. Each name is taken by one process after the
// other: the one before has died, or goes on for a while as a zombie. There may be none for a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/txn_client.h"

namespace tidemark::sim {

class TxnFleet {
 public:
  TxnFleet(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
           const Options& options, uint64_t seed);

  void start();
  // No new work, and no more deaths: the zombies are gone, each name has its process, and the
  // database answers.
  void finish();
  void set_silent(bool silent);
  [[nodiscard]] bool idle() const;
  [[nodiscard]] std::string describe() const;

  [[nodiscard]] uint64_t processes() const { return processes_.size(); }

 private:
  struct Seat {
    TxnClient::Identity identity;
    TxnClient* current = nullptr;  // nullptr: nobody
    TxnClient* zombie = nullptr;
  };

  void schedule();
  void change(Seat& seat);
  void spawn(Seat& seat);

  Scheduler& scheduler_;
  SimNetwork& network_;
  Model& model_;
  Directory& directory_;
  const Options& options_;
  Random random_;
  bool finishing_ = false;
  std::vector<Seat> seats_;
  std::vector<std::unique_ptr<TxnClient>> processes_;  // dead ones, too: the network knows them
};

}  // namespace tidemark::sim
