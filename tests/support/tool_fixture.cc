#include "tests/support/tool_fixture.h"

#include <sstream>
#include <utility>

#include <doctest/doctest.h>

namespace tidemark::testing {
namespace {

Arguments daemon_flags(const Arguments& more) {
  Arguments flags = {"--shards", "2"};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

}  // namespace

std::string tool_path() { return required_environment("TIDEMARK_CLI"); }

CommandResult run_without_broker(Arguments arguments) {
  arguments.insert(arguments.begin(), tool_path());
  return run_command(arguments, {}, {"TIDEMARK_BROKERS=127.0.0.1:1"});
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

ToolFixture::ToolFixture(const Arguments& flags)
    : daemon_(directory_ / "data", daemon_flags(flags)) {
  REQUIRE_MESSAGE(daemon_.start(), daemon_.errors());
}

CommandResult ToolFixture::run(Arguments arguments, const std::string& input) {
  arguments.insert(arguments.begin(), tool_path());
  return run_command(arguments, input, {"TIDEMARK_BROKERS=" + daemon_.address()});
}

std::string ToolFixture::output(const Arguments& arguments, const std::string& input) {
  const CommandResult result = run(arguments, input);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return result.output;
}

nlohmann::json ToolFixture::output_json(Arguments arguments, const std::string& input) {
  arguments.insert(arguments.end(), {"-o", "json"});
  return nlohmann::json::parse(output(arguments, input));
}

CommandResult ToolFixture::shell(const std::string& line) {
  return run_command({"/bin/bash", "-c", line}, {},
                     {"TIDEMARK_BROKERS=" + daemon_.address(), "tidemark=" + tool_path()});
}

std::vector<std::string> ToolFixture::wait_for(const std::string& topic, int count) {
  return lines_of(output({"consume", topic, "-n", std::to_string(count), "-q"}));
}

}  // namespace tidemark::testing
