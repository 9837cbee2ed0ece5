// The wall clock of a program that is started with libfaketime, which may be set at any time. Its
// monotonic clock is the real one, and so are all clocks of this process.
//
// Thread: one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tidemark::testing {

class FakeWallClock {
 public:
  // The library; "" if it is not installed.
  static std::string library();

  // Removes what the library keeps in shared memory for a program that was killed.
  static void forget(pid_t program);

  // `file` holds the difference to the real clock; the program reads it at every look at the clock.
  explicit FakeWallClock(std::string file) : file_(std::move(file)) { set(0); }

  // That many seconds ahead of the real one, in one step: nobody reads half of it.
  void set(int64_t seconds);

  [[nodiscard]] int64_t now_ms() const;

  [[nodiscard]] int64_t seconds() const { return seconds_; }

  // What the program is to be started with. Requires: the library is installed.
  [[nodiscard]] std::vector<std::string> environment() const;

 private:
  const std::string file_;
  int64_t seconds_ = 0;
};

}  // namespace tidemark::testing
