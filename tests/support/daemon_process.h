// The real daemon as a child process: started on free ports, waited for, killed, started again.
//
// Its binary is $TIDEMARKD. stderr goes to a file beside the data directory, errors() reads it.
// Waits and ends are those of ChildProcess.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/child_process.h"

namespace tidemark::testing {

class DaemonProcess {
 public:
  static constexpr int kWaitMs = ChildProcess::kWaitMs;

  // `flags` are added to --data-dir, --listen and --http-listen; `environment` are NAME=value and
  // come before what this process has. Nothing is started yet.
  explicit DaemonProcess(std::string data_dir, std::vector<std::string> flags = {},
                         std::vector<std::string> environment = {});

  // Starts it and waits for the ready line; false if it exited or said nothing in time. The first
  // start takes free ports, later ones keep them, so clients find it again.
  bool start(int ms_max = kWaitMs);
  // Starts it without waiting: for starts that are expected to fail.
  void launch();

  std::optional<int> wait_exit(int ms_max = kWaitMs) { return child_.wait_exit(ms_max); }

  void kill() { child_.kill(); }

  // SIGTERM, and waits for the exit code.
  std::optional<int> terminate(int ms_max = kWaitMs);

  void send_signal(int signal) { child_.send_signal(signal); }

  [[nodiscard]] bool running() const { return child_.running(); }

  [[nodiscard]] pid_t pid() const { return child_.pid(); }

  [[nodiscard]] uint16_t port() const { return port_; }

  [[nodiscard]] uint16_t http_port() const { return http_port_; }

  // "127.0.0.1:port", for TIDEMARK_BROKERS and --brokers.
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  [[nodiscard]] const std::string& data_dir() const { return data_dir_; }

  [[nodiscard]] const std::string& ready_line() const { return ready_line_; }

  // The value of `key=` in the ready line, "" if it is not there.
  [[nodiscard]] std::string ready_value(const std::string& key) const;
  // What the last start wrote to stderr so far.
  [[nodiscard]] std::string errors() const;

 private:
  bool read_ready_line(int ms_max);

  const std::string data_dir_;
  const std::string error_file_;
  const std::vector<std::string> flags_;
  const std::vector<std::string> environment_;
  ChildProcess child_;
  uint16_t port_ = 0;
  uint16_t http_port_ = 0;
  std::string ready_line_;
};

// The body and status of a GET on 127.0.0.1.
struct HttpAnswer {
  int status = 0;
  std::string body;
};

HttpAnswer http_get(uint16_t port, const std::string& path);

}  // namespace tidemark::testing
