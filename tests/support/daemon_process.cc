#include "tests/support/daemon_process.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "log/base/check.h"
#include "tests/support/raw_client.h"

namespace tidemark::testing {

namespace {

std::string daemon_path() {
  const char* path = ::getenv("TIDEMARKD");
  TIDEMARK_CHECK(path != nullptr, "TIDEMARKD must name the daemon's binary");
  return path;
}

uint16_t port_of(const std::string& address) {
  const size_t colon = address.rfind(':');
  return colon == std::string::npos ? uint16_t{0}
                                    : static_cast<uint16_t>(std::stoi(address.substr(colon + 1)));
}

}  // namespace

DaemonProcess::DaemonProcess(std::string data_dir, std::vector<std::string> flags,
                             std::vector<std::string> environment)
    : data_dir_(std::move(data_dir)),
      error_file_(data_dir_ + ".stderr"),
      flags_(std::move(flags)),
      environment_(std::move(environment)) {}

void DaemonProcess::launch() {
  ready_line_.clear();
  ChildProcess::Start start;
  start.arguments = {daemon_path(),
                     "--data-dir",
                     data_dir_,
                     "--listen",
                     address(),
                     "--http-listen",
                     "127.0.0.1:" + std::to_string(http_port_)};
  start.arguments.insert(start.arguments.end(), flags_.begin(), flags_.end());
  start.environment = environment_;
  start.error_file = error_file_;
  child_.launch(start);
}

bool DaemonProcess::start(int ms_max) {
  launch();
  if (!read_ready_line(ms_max)) {
    return false;
  }
  port_ = port_of(ready_value("listen"));
  http_port_ = port_of(ready_value("http"));
  return true;
}

bool DaemonProcess::read_ready_line(int ms_max) {
  std::string line;
  while (line.find('\n') == std::string::npos) {
    char piece[256];
    const ssize_t got =
        readable(child_.output(), ms_max) ? ::read(child_.output(), piece, sizeof piece) : -1;
    if (got <= 0) {
      return false;
    }
    line.append(piece, static_cast<size_t>(got));
  }
  ready_line_ = line.substr(0, line.find('\n'));
  return ready_line_.starts_with("ready ");
}

std::string DaemonProcess::ready_value(const std::string& key) const {
  const std::string wanted = " " + key + "=";
  const size_t at = ready_line_.find(wanted);
  if (at == std::string::npos) {
    return "";
  }
  const size_t begin = at + wanted.size();
  return ready_line_.substr(begin, ready_line_.find(' ', begin) - begin);
}

std::optional<int> DaemonProcess::terminate(int ms_max) {
  send_signal(SIGTERM);
  return wait_exit(ms_max);
}

std::string DaemonProcess::errors() const { return file_text(error_file_); }

HttpAnswer http_get(uint16_t port, const std::string& path) {
  RawClient client(port);
  HttpAnswer answer;
  if (!client.send(as_bytes("GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n"))) {
    return answer;
  }
  const std::string text = client.wait_text();
  const size_t body = text.find("\r\n\r\n");
  if (text.starts_with("HTTP/1.1 ") && body != std::string::npos) {
    answer.status = std::stoi(text.substr(9, 3));
    answer.body = text.substr(body + 4);
  }
  return answer;
}

}  // namespace tidemark::testing
