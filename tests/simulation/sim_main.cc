// The simulation: `simulation [--seed N | --seeds FROM COUNT] [--chaos-ms N] [--log]`.
//
// Runs whole brokers on a simulated clock, disk and network; without arguments a few dozen seeds, the first of them twice to see that a seed
// gives the same run each time. Prints what each seed expanded to, the hash of its trace and the verdict.
//
// Exit codes: 0 all passed, 127 a CHECK failed, 128 no progress, 129 a wrong result, 2 bad arguments.
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "log/base/check.h"
#include "log/base/logging.h"
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
  bool log = false;
};

struct Outcome {
  int exit_code = 0;
  uint64_t trace_hash = 0;
};

void on_check_failed(std::string_view message) {
  std::cout << "verdict: CHECK failed: " << message << std::endl;
  std::_Exit(kExitCheck);
}

void print_log_line(LogLevel level, std::string_view line) {
  std::cout << (level == LogLevel::kError ? "  E " : "  - ") << line << '\n';
}

Outcome run_once(const Options& options) {
  Simulation simulation(options);
  Outcome outcome;
  try {
    simulation.run();
  } catch (const WrongResult& wrong) {
    std::cout << "verdict: wrong result: " << wrong.what() << '\n';
    outcome.exit_code = kExitWrongResult;
  } catch (const NoProgress& stuck) {
    std::cout << "verdict: no progress: " << stuck.what() << '\n';
    outcome.exit_code = kExitNoProgress;
  }
  outcome.trace_hash = simulation.trace_hash();
  std::cout << simulation.summary() << "\ntrace " << std::hex << outcome.trace_hash << std::dec << std::endl;
  return outcome;
}

int run_seed(uint64_t seed, const Arguments& arguments) {
  Options options = Options::from_seed(seed);
  options.chaos_ms = arguments.chaos_ms.value_or(options.chaos_ms);
  std::cout << options.to_string() << std::endl;
  const Outcome outcome = run_once(options);
  if (outcome.exit_code != 0) {
    return outcome.exit_code;
  }
  if (seed % kRepeatedEvery == 1 && run_once(options).trace_hash != outcome.trace_hash) {
    std::cout << "verdict: wrong result: the same seed gave another run\n";
    return kExitWrongResult;
  }
  std::cout << "verdict: ok" << std::endl;
  return 0;
}

std::optional<Arguments> parse(const std::vector<std::string>& words) {
  Arguments arguments;
  const auto number = [](const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); };
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
    std::cerr << "usage: simulation [--seed N | --seeds FROM COUNT] [--chaos-ms N] [--log]\n";
    return kExitUsage;
  }
  set_check_fail_hook(on_check_failed);
  set_log_sink(arguments->log ? print_log_line : nullptr);
  uint64_t failed = 0;
  int exit_code = 0;
  for (uint64_t i = 0; i < arguments->count; ++i) {
    const int code = run_seed(arguments->first + i, *arguments);
    if (code != 0) {
      ++failed;
      exit_code = code;
      std::cout << "again with: simulation --seed " << arguments->first + i << '\n';
    }
  }
  std::cout << arguments->count - failed << " passed, " << failed << " failed" << std::endl;
  return exit_code;
}

}  // namespace
}  // namespace tidemark::sim

int main(int argc, char** argv) { return tidemark::sim::run({argv + 1, argv + argc}); }
