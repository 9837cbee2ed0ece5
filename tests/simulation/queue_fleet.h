// QueueFleet: the workers of all groups in queue mode. A seat is taken by one worker after the
// other; each dies without a word, with all that it has leased.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/queue_client.h"

namespace tidemark::sim {

class QueueFleet {
 public:
  QueueFleet(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
             const Options& options, uint64_t seed);

  void start();
  // No more deaths, each seat is taken, and everything is acked.
  void finish();
  // Nobody works any more.
  void stop();

  [[nodiscard]] std::string describe() const;

  [[nodiscard]] uint64_t processes() const { return processes_.size(); }

 private:
  struct Seat {
    std::string group;
    QueueWorker* current = nullptr;  // nullptr: nobody
  };

  void schedule();
  void spawn(Seat& seat);

  Scheduler& scheduler_;
  SimNetwork& network_;
  Model& model_;
  Directory& directory_;
  const Options& options_;
  Random random_;
  bool finishing_ = false;
  std::vector<Seat> seats_;
  std::vector<std::unique_ptr<QueueWorker>> processes_;  // dead ones, too: the network knows them
};

}  // namespace tidemark::sim
