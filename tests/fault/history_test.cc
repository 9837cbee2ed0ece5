// Everything at once under kill -9, and a judge that knows nothing of the broker: the recorded load
// of the black-box programs, whose history the checker accepts.
//
// TIDEMARK_KILL_ROUNDS=100 makes the long run.
#include "tests/support/history.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/blackbox/workload.h"
#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint64_t kPerRound = 2'000;

// The same history is refused when the drain lacks one message: what is recorded is evidence.
void judge_without_a_message(const std::string& path) {
  std::ifstream in(path);
  const std::string shorter = path + ".shorter";
  std::ofstream out(shorter);
  bool left_out = false;
  for (std::string line; std::getline(in, line);) {
    if (!left_out && line.find("\"op\":\"drain\",") != std::string::npos) {
      left_out = true;
    } else {
      out << line << "\n";
    }
  }
  out.close();
  const Verdict verdict = judge_history(shorter, "I1");
  CHECK_FALSE(verdict.accepted);
  CHECK_MESSAGE(verdict.text.find("I7 violated 1 time: ") != std::string::npos, verdict.text);
}

}  // namespace

TEST_CASE("the history of a run with kill -9 is accepted by the checker") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data",
                       {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  const BrokerClock clock;
  const std::string path = directory / "history.jsonl";
  History history(path);
  WorkloadOptions options;
  options.messages_per_s = 4'000;
  Workload load(client, history, clock, options);
  REQUIRE(load.start() == "");
  Random random(20261129);
  const uint64_t rounds = full_size("TIDEMARK_KILL_ROUNDS", 4);
  for (uint64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    REQUIRE(load.wait_for_acknowledged(
        load.acknowledged() + random.between(kPerRound / 4, kPerRound - 1), kTrafficDeadlineMs));
    const uint64_t given_up = load.given_up();
    const uint64_t id = history.next_id();
    history.invoke("nemesis", "fault", id, {{"kind", "kill"}});
    daemon.kill();
    // The broker stays away until somebody has given up.
    CHECK(load.wait_for_given_up(given_up + 1, kTrafficDeadlineMs));
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
    history.end("nemesis", "fault", id, "ok");
  }
  REQUIRE(load.finish() == "");
  MESSAGE("rounds " << rounds << ", acknowledged " << load.acknowledged() << ", unknown outcomes "
                    << load.unknown());
  history.close();
  const Verdict verdict = judge_history(path, Workload::invariants());
  CHECK_MESSAGE(verdict.accepted, verdict.text);
  MESSAGE(verdict.summary);
  judge_without_a_message(path);
  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace tidemark::testing
