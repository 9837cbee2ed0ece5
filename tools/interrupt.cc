#include "tools/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "tools/errors.h"

namespace tidemark::tools {
namespace {

std::atomic<bool> was_interrupted{false};
int pipe_ends[2] = {-1, -1};

static_assert(std::atomic<bool>::is_always_lock_free, "used in a signal handler");

void on_signal(int signal) {
  const int saved_errno = errno;
  if (was_interrupted.exchange(true)) {
    _exit(128 + signal);
  }
  [[maybe_unused]] const ssize_t written = ::write(pipe_ends[1], "!", 1);
  errno = saved_errno;
}

}  // namespace

void catch_interrupts() {
  if (pipe_ends[0] >= 0) {
    return;
  }
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw CommandError(Status::from_errno(errno, "pipe"), "preparing for signals");
  }
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return was_interrupted; }

int interrupt_descriptor() { return pipe_ends[0]; }

}  // namespace tidemark::tools
