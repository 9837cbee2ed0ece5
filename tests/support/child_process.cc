#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "log/base/check.h"

namespace tidemark::testing {

namespace {

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

int open_to_write(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
  TIDEMARK_CHECK(fd >= 0, path);
  return fd;
}

}  // namespace

ChildProcess::~ChildProcess() { kill(); }

void ChildProcess::launch(const Start& start) {
  TIDEMARK_CHECK(!running());
  std::vector<std::string> arguments = start.arguments;
  const std::vector<char*> argument_pointers = pointers_to(arguments);
  std::vector<std::string> environment = start.environment;
  for (char** inherited = environ; *inherited != nullptr; ++inherited) {
    environment.emplace_back(*inherited);
  }
  const std::vector<char*> environment_pointers = pointers_to(environment);
  int out[2] = {-1, -1};
  if (start.output_file.empty()) {
    TIDEMARK_CHECK(::pipe2(out, O_CLOEXEC) == 0);
  } else {
    out[1] = open_to_write(start.output_file, O_APPEND);
  }
  const int errors = open_to_write(start.error_file, O_TRUNC);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  TIDEMARK_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    // A test that crashes takes the child with it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent || ::dup2(out[1], STDOUT_FILENO) < 0 ||
        ::dup2(errors, STDERR_FILENO) < 0) {
      ::_exit(126);
    }
    ::execve(argument_pointers[0], argument_pointers.data(), environment_pointers.data());
    ::_exit(127);
  }
  ::close(out[1]);
  ::close(errors);
  output_ = out[0];
  // As a system call: the C library of Debian 12 has it, its headers for C++ tests may not.
  pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  TIDEMARK_CHECK(pid_fd_ >= 0);
}

std::optional<int> ChildProcess::wait_exit(int ms_max) {
  TIDEMARK_CHECK(running());
  if (!readable(pid_fd_, ms_max)) {
    return std::nullopt;
  }
  int status = 0;
  TIDEMARK_CHECK(::waitpid(pid_, &status, 0) == pid_);
  ::close(pid_fd_);
  if (output_ >= 0) {
    ::close(output_);
  }
  pid_ = -1;
  pid_fd_ = -1;
  output_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void ChildProcess::kill() {
  if (running()) {
    send_signal(SIGKILL);
    TIDEMARK_CHECK(wait_exit(-1).has_value());
  }
}

void ChildProcess::send_signal(int signal) {
  TIDEMARK_CHECK(running());
  TIDEMARK_CHECK(::kill(pid_, signal) == 0);
}

bool readable(int fd, int ms_max) {
  pollfd wait = {fd, POLLIN, 0};
  return ::poll(&wait, 1, ms_max) > 0;
}

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace tidemark::testing
