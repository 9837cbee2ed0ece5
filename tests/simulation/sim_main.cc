// The simulation:
// `simulation [--seed N | --seeds FROM COUNT] [--chaos-ms N] [--no-fsync] [--marks] [--log]`.
//
// Runs whole brokers on a simulated clock, disk and network; without arguments a few dozen seeds,
// the first of them twice to see that a seed gives the same run each time. First the checkers are
// checked: each must reject histories made for it. --no-fsync breaks the broker's promise on
// purpose: seeds with power cuts have to fail then. --marks prints at the end which coverage marks
// the seeds hit, and which none did. Prints what each seed expanded to, the hash of its trace and
// the verdict.
//
// Exit codes: 0 all passed, 127 a CHECK failed, 128 no progress, 129 a wrong result, 2 bad
// arguments.
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "log/base/check.h"
#include "log/base/logging.h"
#include "tests/simulation/checker_test.h"
#include "tests/simulation/marks.h"
#include "tests/simulation/simulation.h"

namespace tidemark::sim {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitCheck = 127;
constexpr int kExitNoProgress = 128;
constexpr int kExitWrongResult = 129;
constexpr uint64_t kDefaultSeeds = 40;
// A seed of this remainder runs twice.
constexpr uint64_t kRepeatedEvery = 10;

struct Arguments {
  uint64_t first = 1;
  uint64_t count = kDefaultSeeds;
  std::optional<int64_t> chaos_ms;
  bool fsync = true;
  bool marks = false;
  bool log = false;
};

struct Outcome {
  int exit_code = 0;
  uint64_t trace_hash = 0;
};

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);  // a CHECK ends the process without doing it
}

void on_check_failed(std::string_view message) {
  say("verdict: CHECK failed: " + std::string(message));
  std::_Exit(kExitCheck);
}

void print_log_line(LogLevel level, std::string_view line) {
  say((level == LogLevel::kError ? "  E " : "  - ") + std::string(line));
}

Outcome run_once(const Options& options) {
  Simulation simulation(options);
  Outcome outcome;
  try {
    simulation.run();
  } catch (const WrongResult& wrong) {
    say(std::string("verdict: wrong result: ") + wrong.what());
    outcome.exit_code = kExitWrongResult;
  } catch (const NoProgress& stuck) {
    say(std::string("verdict: no progress: ") + stuck.what());
    outcome.exit_code = kExitNoProgress;
  }
  outcome.trace_hash = simulation.trace_hash();
  say(simulation.summary() + "\ntrace " + std::to_string(outcome.trace_hash));
  return outcome;
}

int run_seed(uint64_t seed, const Arguments& arguments) {
  Options options = Options::from_seed(seed);
  options.chaos_ms = arguments.chaos_ms.value_or(options.chaos_ms);
  options.fsync = arguments.fsync;
  say(options.to_string());
  const Outcome outcome = run_once(options);
  if (outcome.exit_code != 0) {
    return outcome.exit_code;
  }
  if (seed % kRepeatedEvery == 1 && run_once(options).trace_hash != outcome.trace_hash) {
    say("verdict: wrong result: the same seed gave another run");
    return kExitWrongResult;
  }
  say("verdict: ok");
  return 0;
}

std::optional<Arguments> parse(const std::vector<std::string>& words) {
  Arguments arguments;
  const auto number = [](const std::string& text) {
    return std::strtoull(text.c_str(), nullptr, 10);
  };
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t left = words.size() - i - 1;
    if (words[i] == "--seed" && left >= 1) {
      arguments.first = number(words[++i]);
      arguments.count = 1;
    } else if (words[i] == "--seeds" && left >= 2) {
      arguments.first = number(words[++i]);
      arguments.count = number(words[++i]);
    } else if (words[i] == "--chaos-ms" && left >= 1) {
      arguments.chaos_ms = static_cast<int64_t>(number(words[++i]));
    } else if (words[i] == "--no-fsync") {
      arguments.fsync = false;
    } else if (words[i] == "--marks") {
      arguments.marks = true;
    } else if (words[i] == "--log") {
      arguments.log = true;
    } else {
      return std::nullopt;
    }
  }
  return arguments;
}

int run(const std::vector<std::string>& words) {
  const std::optional<Arguments> arguments = parse(words);
  if (!arguments) {
    say("usage: simulation [--seed N | --seeds FROM COUNT] [--chaos-ms N] [--no-fsync] [--marks] "
        "[--log]");
    return kExitUsage;
  }
  set_check_fail_hook(on_check_failed);
  set_log_sink(arguments->log ? print_log_line : nullptr);
  for (const std::string& blind :
       {find_blind_checker(), find_blind_delay_checker(), find_blind_txn_checker(),
        find_blind_group_checker(), find_blind_queue_checker()}) {
    if (!blind.empty()) {
      say("verdict: wrong result: a checker accepts what it must reject: " + blind);
      return kExitWrongResult;
    }
  }
  uint64_t failed = 0;
  int exit_code = 0;
  MarkCounts marks;
  for (uint64_t i = 0; i < arguments->count; ++i) {
    const int code = run_seed(arguments->first + i, *arguments);
    marks.count_seed();
    // What a seed freed lies in pieces between what lives on; without this a process of many seeds
    // grows by some MB with each.
    malloc_trim(0);
    if (code != 0) {
      ++failed;
      exit_code = code;
      say("again with: simulation --seed " + std::to_string(arguments->first + i));
    }
  }
  if (arguments->marks) {
    say(marks.report());
  }
  say(std::to_string(arguments->count - failed) + " passed, " + std::to_string(failed) + " failed");
  return exit_code;
}

}  // namespace
}  // namespace tidemark::sim

int main(int argc, char** argv) { return tidemark::sim::run({argv + 1, argv + argc}); }
