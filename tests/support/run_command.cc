#include "tests/support/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "log/base/check.h"

namespace tidemark::testing {
namespace {

// One end is given to the child, the other is ours and is closed on exec.
class Pipe {
 public:
  explicit Pipe(bool child_reads) : ours_(child_reads ? 1 : 0) {
    TIDEMARK_CHECK(::pipe2(ends_.data(), O_CLOEXEC) == 0, "pipe2");
    ::fcntl(ends_[ours_], F_SETFL, O_NONBLOCK);
  }

  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }

  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] int ours() const { return ends_[ours_]; }

  [[nodiscard]] int childs() const { return ends_[1 - ours_]; }

  [[nodiscard]] bool open() const { return ours() >= 0; }

  void close_ours() { close(ends_[ours_]); }

  void close_childs() { close(ends_[1 - ours_]); }

 private:
  static void close(int& end) {
    if (end >= 0) {
      ::close(end);
      end = -1;
    }
  }

  size_t ours_;
  std::array<int, 2> ends_{};
};

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (std::string& word : words) {
    out.push_back(word.data());
  }
  out.push_back(nullptr);
  return out;
}

pid_t spawn(std::vector<std::string> arguments, std::vector<std::string> environment,
            const std::array<int, 3>& standard) {
  for (char** variable = environ; *variable != nullptr; ++variable) {
    // What the test sets takes the place of what it was started with.
    const std::string_view inherited(*variable);
    const std::string_view name = inherited.substr(0, inherited.find('=') + 1);
    if (std::none_of(environment.begin(), environment.end(),
                     [name](const std::string& set) { return set.starts_with(name); })) {
      environment.emplace_back(inherited);
    }
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int i = 0; i < 3; ++i) {
    posix_spawn_file_actions_adddup2(&actions, standard[static_cast<size_t>(i)], i);
  }
  // What this process ignores, a child would ignore, too.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, arguments[0].c_str(), &actions, &attributes,
                                  pointers(arguments).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  TIDEMARK_CHECK(error == 0, "cannot start " + arguments[0]);
  return pid;
}

void drain(Pipe& pipe, short events, std::string& text) {
  if (!pipe.open() || events == 0) {
    return;
  }
  std::array<char, 65536> buffer;
  const ssize_t got = ::read(pipe.ours(), buffer.data(), buffer.size());
  if (got > 0) {
    text.append(buffer.data(), static_cast<size_t>(got));
  } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
    pipe.close_ours();
  }
}

void feed(Pipe& pipe, short events, const std::string& input, size_t& written) {
  if (!pipe.open() || events == 0) {
    return;
  }
  const ssize_t taken = ::write(pipe.ours(), input.data() + written, input.size() - written);
  if (taken >= 0) {
    written += static_cast<size_t>(taken);
  } else if (errno != EINTR && errno != EAGAIN) {
    pipe.close_ours();  // the program does not read on
  }
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input,
                          const std::vector<std::string>& environment) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe in(true);
  Pipe out(false);
  Pipe err(false);
  const pid_t pid = spawn(arguments, environment, {in.childs(), out.childs(), err.childs()});
  for (Pipe* pipe : {&in, &out, &err}) {
    pipe->close_childs();
  }
  CommandResult result;
  size_t written = 0;
  while (out.open() || err.open()) {
    if (written == input.size()) {
      in.close_ours();
    }
    std::array<pollfd, 3> waits = {
        {{in.ours(), POLLOUT, 0}, {out.ours(), POLLIN, 0}, {err.ours(), POLLIN, 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0) {
      TIDEMARK_CHECK(errno == EINTR, "poll");
      continue;
    }
    feed(in, waits[0].revents, input, written);
    drain(out, waits[1].revents, result.output);
    drain(err, waits[2].revents, result.errors);
  }
  result.exit_code = wait_for(pid);
  return result;
}

std::string required_environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  TIDEMARK_CHECK(value != nullptr && *value != '\0',
                 std::string(name) + " is not set; run the tests by make");
  return value;
}

}  // namespace tidemark::testing
