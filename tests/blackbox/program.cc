#include "tests/blackbox/program.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "log/base/check.h"
#include "log/base/clock.h"

namespace tidemark::testing {

namespace {

// Written by the handler, read by the thread that gives up.
int g_interrupted = -1;

void on_signal(int /*signal*/) {
  const uint64_t one = 1;
  (void)!::write(g_interrupted, &one, sizeof one);
}

// Its processes are ours: the daemon. A group with somebody in it cannot be removed.
void remove_group(const std::string& group) {
  for (int attempt = 0; attempt < 100 && ::rmdir(group.c_str()) != 0; ++attempt) {
    std::ifstream members(group + "/cgroup.procs");
    for (pid_t member = 0; members >> member;) {
      ::kill(member, SIGKILL);
    }
    wait_ms(10);
  }
}

std::string kept_folder(std::string_view program, uint64_t number) {
  const char* build = std::getenv("BUILD");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return fmt::format("{}/failed/{}-{}-{}", build == nullptr ? "build" : build, program,
                     system_clock().wall().ms, number);
}

}  // namespace

bool parse_numbers(int argc, char** argv, std::map<std::string_view, uint64_t>& numbers) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto found = name.starts_with("--") ? numbers.find(name.substr(2)) : numbers.end();
    char* end = nullptr;
    const uint64_t value = i + 1 < argc ? std::strtoull(argv[i + 1], &end, 10) : 0;
    if (found == numbers.end() || end == nullptr || end == argv[i + 1] || *end != '\0') {
      std::string usage;
      for (const auto& [known, fallback] : numbers) {
        usage += fmt::format(" [--{} {}]", known, fallback);
      }
      std::fputs(fmt::format("usage: {}{}\n", argv[0], usage).c_str(), stderr);
      return false;
    }
    found->second = value;
    ++i;
  }
  return true;
}

void give_up(int exit_code, const Leavings& leavings) {
  ::umount2(leavings.mounted.c_str(), MNT_DETACH);
  std::error_code error;
  std::filesystem::remove_all(leavings.folder, error);
  if (!leavings.group.empty()) {
    remove_group(leavings.group);
  }
  (void)std::fflush(nullptr);
  std::_Exit(exit_code);
}

void give_up_when_interrupted(const Leavings& leavings) {
  g_interrupted = ::eventfd(0, EFD_CLOEXEC);
  TIDEMARK_CHECK(g_interrupted >= 0);
  std::thread([leavings] {
    uint64_t count = 0;
    if (::read(g_interrupted, &count, sizeof count) == sizeof count) {
      fmt::print("interrupted: what was not judged is not\n");
      give_up(130, leavings);
    }
  }).detach();

  struct sigaction action {};

  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM}) {
    TIDEMARK_CHECK(::sigaction(signal, &action, nullptr) == 0);
  }
}

void wait_ms(int64_t ms) {
  const int64_t until_ns = system_clock().monotonic().ns + ms * 1'000'000;
  for (int64_t left_ms = ms; left_ms > 0;) {
    (void)::poll(nullptr, 0, static_cast<int>(left_ms));
    left_ms = (until_ns - system_clock().monotonic().ns + 999'999) / 1'000'000;
  }
}

Epoch::Epoch(const client::Client& client, const BrokerClock& clock, const std::string& folder,
             uint64_t number, WorkloadOptions options)
    : number_(number), path_(fmt::format("{}/history-{}.jsonl", folder, number)) {
  options.name = std::to_string(number);
  history_ = std::make_unique<History>(path_);
  workload_ = std::make_unique<Workload>(client, *history_, clock, std::move(options));
}

std::string Epoch::judge() {
  std::string wrong = workload_->finish();
  if (!wrong.empty()) {
    return wrong;
  }
  history_->close();
  const Verdict verdict = judge_history(path_, Workload::invariants());
  summary_ = verdict.summary;
  if (!verdict.accepted) {
    return verdict.text;
  }
  std::error_code error;
  std::filesystem::remove(path_, error);
  return workload_->remove();
}

std::string Epoch::keep(std::string_view program, const std::string& data, const std::string& why) {
  const std::string folder = kept_folder(program, number_);
  history_->flush();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::filesystem::copy(path_, folder, error);
  std::filesystem::copy(data, folder + "/data", std::filesystem::copy_options::recursive, error);
  std::filesystem::copy(data + ".stderr", folder, error);
  std::ofstream(folder + "/why.txt") << why << "\n";
  return folder;
}

client::Client eager_client(const std::string& address) {
  client::ClientOptions options;
  options.brokers = {address};
  options.reconnect_backoff_min_ms = 10;
  options.reconnect_backoff_max_ms = 100;
  auto connected = client::Client::create(options);
  TIDEMARK_CHECK(connected.ok(), connected.status().to_string());
  return std::move(*connected);
}

}  // namespace tidemark::testing
