#include "tests/support/fake_wall_clock.h"

#include <semaphore.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "log/base/clock.h"

namespace tidemark::testing {

std::string FakeWallClock::library() {
  for (const char* const folder : {"x86_64-linux-gnu", "aarch64-linux-gnu"}) {
    const std::string path = std::string("/usr/lib/") + folder + "/faketime/libfaketimeMT.so.1";
    if (std::filesystem::exists(path)) {
      return path;
    }
  }
  return "";
}

void FakeWallClock::forget(pid_t program) {
  const std::string number = std::to_string(program);
  (void)::shm_unlink(("/faketime_shm_" + number).c_str());
  (void)::sem_unlink(("/faketime_sem_" + number).c_str());
}

void FakeWallClock::set(int64_t seconds) {
  {
    std::ofstream out(file_ + ".new");
    out << (seconds < 0 ? "" : "+") << seconds << "\n";
  }
  std::filesystem::rename(file_ + ".new", file_);
  seconds_ = seconds;
}

int64_t FakeWallClock::now_ms() const { return system_clock().wall().ms + seconds_ * 1'000; }

std::vector<std::string> FakeWallClock::environment() const {
  return {"LD_PRELOAD=" + library(), "FAKETIME_TIMESTAMP_FILE=" + file_, "FAKETIME_NO_CACHE=1",
          "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"};
}

}  // namespace tidemark::testing
