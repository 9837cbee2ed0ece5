// Nemesis: makes everything happen that may go wrong, at random times, and heals it all at the end.
#pragma once

#include "tests/simulation/broker.h"

namespace tidemark::sim {

class Nemesis {
 public:
  Nemesis(Scheduler& scheduler, SimNetwork& network, SimBroker& broker, const Options& options);

  void start();
  // No more faults. If the process is broken or dying it ends now and starts again on a healthy
  // machine.
  void heal();

  [[nodiscard]] uint64_t faults() const { return faults_; }

 private:
  void every(int64_t mean_ms, MoveOnlyFunction<void()> fault);
  void die(SimBroker::Death how, bool lose_checkpoints = false);
  void cut_power();
  void stop();
  void fill_disk();
  void fail(SimCall call);
  void jump_clock();
  void slow_disk();
  void flip_reads();

  Scheduler& scheduler_;
  SimNetwork& network_;
  SimBroker& broker_;
  const Options& options_;
  Random random_;
  bool healed_ = false;
  uint64_t faults_ = 0;
};

}  // namespace tidemark::sim
