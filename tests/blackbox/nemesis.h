// What is done to a broker while clients work: kills, pauses, a full disk, a slow disk, steps of
// its wall clock, restarts; one at a time, or a kill inside of another.
//
// Each is written into the history: `fault` while something is wrong, `clock` where a start finds a
// later wall clock than the one before (tests/checker/HISTORY.md). Thread: of the owner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "log/base/random.h"
#include "tests/blackbox/program.h"
#include "tests/blackbox/recorded_clients.h"
#include "tests/blackbox/slow_disk.h"
#include "tests/support/daemon_process.h"
#include "tests/support/fake_wall_clock.h"
#include "tests/support/history.h"
#include "tests/support/loop_disk.h"

namespace tidemark::testing {

class Nemesis {
 public:
  // The broker's data is on `disk`; `folder` gets the file of its wall clock. The clock does not
  // step where libfaketime is not installed. Pauses take at most `pause_ms_max`.
  Nemesis(LoopDisk& disk, const std::string& folder, BrokerClock& clock, int64_t pause_ms_max,
          uint64_t seed);

  // "", or why the broker does not start.
  std::string start();
  // Does something, drawn at random, and undoes it. "", or what the broker did not survive.
  std::string strike(History& history);
  // In order; "" if its exit code was 0.
  std::string stop();

  [[nodiscard]] DaemonProcess& daemon() { return daemon_; }

  // The daemon's control group, "": none.
  [[nodiscard]] const std::string& group() const { return slow_disk_.group(); }

  [[nodiscard]] uint64_t kills() const { return kills_; }

  // How often what was done, in words.
  [[nodiscard]] std::string counts() const;
  // What is not done here, or differently; "" if there is nothing to say.
  [[nodiscard]] std::string remarks() const;

 private:
  void kill_and_start(History& history);
  void crash_loop(History& history);
  void restart(History& history);
  void pause(History& history);
  void fill_disk(History& history);
  void slow_down(History& history);
  void step_clock(History& history);

  void tell_clock(History& history);
  void start_again(History& history);
  void kill();
  void set_clock(int64_t seconds);

  LoopDisk& disk_;
  BrokerClock& broker_clock_;
  const int64_t pause_ms_max_;
  Random random_;
  FakeWallClock wall_clock_;
  SlowDisk slow_disk_;  // its group is removed when the daemon is gone
  DaemonProcess daemon_;
  int64_t started_at_s_ = 0;  // the clock's difference then
  uint64_t kills_ = 0;
  std::map<std::string, uint64_t> counts_;
  Trouble trouble_;
};

}  // namespace tidemark::testing
