// The programs of clients/cpp/examples, as a user runs them, and the state hash of the log that
// they leave.
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/support/daemon_process.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"

namespace tidemark::testing {
namespace {

std::string example(const std::string& name) {
  return required_environment("TIDEMARK_EXAMPLES") + "/" + name;
}

std::vector<std::string> sorted_lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

nlohmann::json verify(const std::string& data_dir) {
  const CommandResult result = run_command({required_environment("TIDEMARK_CLI"), "log", "verify",
                                            data_dir, "--state-hash", "-o", "json"});
  REQUIRE_MESSAGE(result.exit_code == 0, result.output << result.errors);
  return nlohmann::json::parse(result.output)["logs"];
}

}  // namespace

TEST_CASE("the examples produce, consume and administer; wrong usage ends with 2") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "2"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const std::vector<std::string> environment = {"TIDEMARK_BROKERS=" + daemon.address()};
  const CommandResult created = run_command(
      {required_environment("TIDEMARK_CLI"), "topic", "create", "lines", "--partitions", "3"}, {},
      environment);
  REQUIRE_MESSAGE(created.exit_code == 0, created.errors);

  std::string input;
  for (int i = 0; i < 1'000; ++i) {
    input += "value " + std::to_string(i) + "\n";
  }
  const CommandResult produced = run_command({example("produce"), "lines"}, input, environment);
  CHECK_MESSAGE(produced.exit_code == 0, produced.output << produced.errors);
  const CommandResult consumed = run_command({example("consume"), "lines", daemon.address()});
  CHECK_MESSAGE(consumed.exit_code == 0, consumed.errors);
  size_t found = 0;
  for (const std::string& line : sorted_lines(consumed.output)) {
    found += line.find("value ") != std::string::npos ? 1u : 0u;
  }
  CHECK(found == 1'000);
  const CommandResult administered =
      run_command({example("admin"), "lines-admin"}, {}, environment);
  CHECK_MESSAGE(administered.exit_code == 0, administered.output << administered.errors);
  for (const char* const name :
       {"produce", "consume", "admin", "delay", "transaction", "order_service"}) {
    CHECK(run_command({example(name)}, {}, environment).exit_code == 2);
  }

  // The views that the log gives are the same before and after a restart that checkpointed and
  // replayed them.
  daemon.kill();
  const nlohmann::json before = verify(daemon.data_dir());
  REQUIRE(before.size() == 2);
  REQUIRE(daemon.start());
  REQUIRE(daemon.terminate() == 0);
  const nlohmann::json after = verify(daemon.data_dir());
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(before[i]["state_hash"].get<std::string>().size() == 16);
    CHECK(before[i]["state_hash"] == after[i]["state_hash"]);
    CHECK(before[i]["state_index"] == after[i]["state_index"]);
  }
}

TEST_CASE("the delay example: one in time, one moved, one cancelled, one twice") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "2"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const std::vector<std::string> environment = {"TIDEMARK_BROKERS=" + daemon.address()};
  const CommandResult created = run_command(
      {required_environment("TIDEMARK_CLI"), "topic", "create", "reminders", "--partitions", "3"},
      {}, environment);
  REQUIRE_MESSAGE(created.exit_code == 0, created.errors);
  const CommandResult result = run_command({example("delay"), "reminders"}, {}, environment);
  CHECK_MESSAGE(result.exit_code == 0, result.output << result.errors);
  CHECK(result.output.find("received soon, ") != std::string::npos);
  CHECK(result.output.find("received never, ") == std::string::npos);
}

TEST_CASE("the transaction example: one committed, one rolled back, one asked about") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "2"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const std::vector<std::string> environment = {"TIDEMARK_BROKERS=" + daemon.address()};
  const std::string tool = required_environment("TIDEMARK_CLI");
  const CommandResult created =
      run_command({tool, "topic", "create", "orders", "--partitions", "3"}, {}, environment);
  REQUIRE_MESSAGE(created.exit_code == 0, created.errors);
  const CommandResult result = run_command({example("transaction"), "orders"}, {}, environment);
  CHECK_MESSAGE(result.exit_code == 0, result.output << result.errors);
  CHECK(result.output.find("committed by the check ") != std::string::npos);
  const CommandResult visible =
      run_command({tool, "consume", "orders", "-q", "--format", "%k\\n"}, {}, environment);
  CHECK(sorted_lines(visible.output) ==
        std::vector<std::string>{"order 1", "order 1", "order 3", "order 3"});
}

}  // namespace tidemark::testing
