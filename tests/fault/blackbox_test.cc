// A short run of each black-box program: `make powercut` and `make torture` make the long ones.
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/run_command.h"
#include "tests/support/skip.h"

namespace tidemark::testing {

namespace {

// Of a program in $BUILD/tests. Exit code -1, and the test is skipped: it cannot do that here.
CommandResult run_program(const std::string& name, const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {required_environment("BUILD") + "/tests/" + name};
  command.insert(command.end(), arguments.begin(), arguments.end());
  CommandResult result = run_command(command);
  constexpr std::string_view kSkipped = "[skipped] ";
  if (result.output.starts_with(kSkipped)) {
    skip_test(result.output.substr(kSkipped.size(), result.output.find('\n') - kSkipped.size()));
    result.exit_code = -1;
  }
  return result;
}

}  // namespace

TEST_CASE("power cuts: what was acknowledged is there") {
  const CommandResult result = run_program("powercut", {"--rounds", "3", "--seed", "3"});
  if (result.exit_code == -1) {
    return;
  }
  CHECK_MESSAGE(result.exit_code == 0, result.output << result.errors);
  MESSAGE(result.output);
}

TEST_CASE("power cuts: a broker that acknowledges what is not on disk yet is found out") {
  const CommandResult result =
      run_program("powercut", {"--rounds", "2", "--seed", "3", "--fsync-late", "1"});
  if (result.exit_code == -1) {
    return;
  }
  CHECK_MESSAGE(result.exit_code == 1, result.output << result.errors);
  MESSAGE(result.output.substr(0, 500));
}

TEST_CASE("torture: kills, pauses, full and slow disk, clock steps") {
  const CommandResult result = run_program(
      "torture", {"--minutes", "0", "--kills", "2", "--seed", "1", "--pause-ms", "300"});
  if (result.exit_code == -1) {
    return;
  }
  CHECK_MESSAGE(result.exit_code == 0, result.output << result.errors);
  MESSAGE(result.output);
}

}  // namespace tidemark::testing
