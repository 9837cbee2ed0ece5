// Makes a disk slow for one process: by a limit of its control group where the kernel has one for
// block devices, else by others that write and sync on the same disk all the time.
//
// Needs root. Thread: one; the other writers have threads of their own.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/loop_disk.h"

namespace tidemark::testing {

class SlowDisk {
 public:
  explicit SlowDisk(const LoopDisk& disk);
  // Requires: the process has ended, else its group stays behind.
  ~SlowDisk();
  SlowDisk(const SlowDisk&) = delete;
  SlowDisk& operator=(const SlowDisk&) = delete;

  // So many writes a second for the process, until end(). Other writers know no measure.
  void begin(pid_t process, uint64_t writes_per_s);
  void end();

  // The folder of the control group, "": none.
  [[nodiscard]] const std::string& group() const { return group_; }

  // What it does, in words.
  [[nodiscard]] std::string method() const;

 private:
  enum class Method { kGroup2, kGroup1, kWriters };

  void limit(uint64_t writes_per_s) const;
  void write_and_sync(size_t number) const;

  const LoopDisk& disk_;
  std::string group_;  // its folder
  Method method_ = Method::kWriters;
  std::atomic<bool> writing_{false};
  std::vector<std::thread> writers_;
};

}  // namespace tidemark::testing
