#include "tests/support/daemon_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

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

bool readable(int fd, int ms_max) {
  pollfd wait = {fd, POLLIN, 0};
  return ::poll(&wait, 1, ms_max) > 0;
}

}  // namespace

DaemonProcess::DaemonProcess(std::string data_dir, std::vector<std::string> flags,
                             std::vector<std::string> environment)
    : data_dir_(std::move(data_dir)),
      error_file_(data_dir_ + ".stderr"),
      flags_(std::move(flags)),
      environment_(std::move(environment)) {}

DaemonProcess::~DaemonProcess() { kill(); }

void DaemonProcess::launch() {
  TIDEMARK_CHECK(!running());
  ready_line_.clear();
  std::vector<std::string> arguments = {daemon_path(),
                                        "--data-dir",
                                        data_dir_,
                                        "--listen",
                                        address(),
                                        "--http-listen",
                                        "127.0.0.1:" + std::to_string(http_port_)};
  arguments.insert(arguments.end(), flags_.begin(), flags_.end());
  std::vector<char*> pointers;
  for (std::string& argument : arguments) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  std::vector<std::string> environment = environment_;
  for (char** inherited = environ; *inherited != nullptr; ++inherited) {
    environment.emplace_back(*inherited);
  }
  std::vector<char*> environment_pointers;
  for (std::string& variable : environment) {
    environment_pointers.push_back(variable.data());
  }
  environment_pointers.push_back(nullptr);
  int out[2] = {-1, -1};
  TIDEMARK_CHECK(::pipe2(out, O_CLOEXEC) == 0);
  const int errors = ::open(error_file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  TIDEMARK_CHECK(errors >= 0, error_file_);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  TIDEMARK_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    // A test that crashes takes the daemon with it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent || ::dup2(out[1], STDOUT_FILENO) < 0 ||
        ::dup2(errors, STDERR_FILENO) < 0) {
      ::_exit(126);
    }
    ::execve(pointers[0], pointers.data(), environment_pointers.data());
    ::_exit(127);
  }
  ::close(out[1]);
  ::close(errors);
  stdout_ = out[0];
  // As a system call: the C library of Debian 12 has it, its headers for C++ tests may not.
  pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  TIDEMARK_CHECK(pid_fd_ >= 0);
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
    const ssize_t got = readable(stdout_, ms_max) ? ::read(stdout_, piece, sizeof piece) : -1;
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

void DaemonProcess::send_signal(int signal) {
  TIDEMARK_CHECK(running());
  TIDEMARK_CHECK(::kill(pid_, signal) == 0);
}

std::optional<int> DaemonProcess::wait_exit(int ms_max) {
  TIDEMARK_CHECK(running());
  if (!readable(pid_fd_, ms_max)) {
    return std::nullopt;
  }
  int status = 0;
  TIDEMARK_CHECK(::waitpid(pid_, &status, 0) == pid_);
  ::close(pid_fd_);
  ::close(stdout_);
  pid_ = -1;
  pid_fd_ = -1;
  stdout_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void DaemonProcess::kill() {
  if (running()) {
    send_signal(SIGKILL);
    TIDEMARK_CHECK(wait_exit(-1).has_value());
  }
}

std::optional<int> DaemonProcess::terminate(int ms_max) {
  send_signal(SIGTERM);
  return wait_exit(ms_max);
}

std::string DaemonProcess::errors() const {
  std::ifstream file(error_file_);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

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
