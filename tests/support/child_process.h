// A program as a child process: started, waited for, killed.
//
// The child dies with the object (SIGKILL). Every wait has a bound; nothing here sleeps. Thread:
// the test's.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace tidemark::testing {

class ChildProcess {
 public:
  static constexpr int kWaitMs = 30'000;  // sanitizer builds on a busy machine are slow

  struct Start {
    std::vector<std::string> arguments;  // [0] is the path of the program
    // NAME=value; they come before what this process has.
    std::vector<std::string> environment = {};
    std::string output_file = {};  // appended to; "": a pipe, see output()
    std::string error_file = {};   // written anew
  };

  ChildProcess() = default;
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Requires: not running. That the program is not there shows as exit code 127.
  void launch(const Start& start);
  // Waits until it has exited; gives the exit code, or -signal if it was killed by one; nullopt if
  // it is still running. Negative: without a bound.
  std::optional<int> wait_exit(int ms_max = kWaitMs);
  // SIGKILL, and waits for the end. Nothing if it is not running.
  void kill();
  // Requires: running.
  void send_signal(int signal);

  [[nodiscard]] bool running() const { return pid_ > 0; }

  [[nodiscard]] pid_t pid() const { return pid_; }

  // Where its standard output can be read; -1 if that is a file, or it is not running.
  [[nodiscard]] int output() const { return output_; }

 private:
  pid_t pid_ = -1;
  int pid_fd_ = -1;  // readable when the process has exited
  int output_ = -1;
};

// True if reading from it would not wait, or it becomes so in time.
bool readable(int fd, int ms_max);
// "" if there is none.
std::string file_text(const std::string& path);

}  // namespace tidemark::testing
