#include "broker/flags.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/posix_file_system.h"
#include "tests/support/temp_directory.h"

namespace tidemark::broker {
namespace {

Invocation invoke(std::vector<const char*> arguments) {
  PosixFileSystem fs;
  arguments.insert(arguments.begin(), "tidemarkd");
  return read_command_line(fs, static_cast<int>(arguments.size()), arguments.data());
}

std::string config_file(testing::TempDirectory& directory, const std::string& text) {
  PosixFileSystem fs;
  auto file = fs.open(directory / "tidemarkd.toml", OpenMode::kCreateNew);
  REQUIRE(file.ok());
  const ByteView part = as_bytes(text);
  REQUIRE((*file)->write(0, {&part, 1}).ok());
  return directory / "tidemarkd.toml";
}

TEST_CASE("without flags the defaults run") {
  const Invocation invocation = invoke({});
  CHECK(invocation.action == Invocation::Action::kRun);
  CHECK(invocation.config.listen == "127.0.0.1:9470");
  CHECK(invocation.config.http_listen == "127.0.0.1:9471");
  CHECK(invocation.config.data_dir == "./data");
}

TEST_CASE("a flag beats the file, the file beats the default") {
  testing::TempDirectory directory;
  const std::string file = config_file(directory, "loops = 3\nshards = 6\n");
  const Invocation invocation =
      invoke({"--loops", "5", "--config", file.c_str(), "--segment-bytes=8MiB"});
  REQUIRE_MESSAGE(invocation.action == Invocation::Action::kRun, invocation.error);
  CHECK(invocation.config.loops == 5);
  CHECK(invocation.config.shards == 6);
  CHECK(invocation.config.segment_bytes == 8 * limits::kMiB);
}

TEST_CASE("http can be turned off") {
  const Invocation invocation = invoke({"--http-listen", "off"});
  REQUIRE_MESSAGE(invocation.action == Invocation::Action::kRun, invocation.error);
  CHECK(invocation.config.http_listen.empty());
}

TEST_CASE("wrong usage exits with 2 and says what is wrong") {
  const struct {
    std::vector<const char*> arguments;
    std::string named;
  } cases[] = {
      {{"--segment-bites", "4"}, "did you mean 'segment-bytes'?"},
      {{"--segment-bytes", "4"}, "4MiB to 2GiB"},
      {{"--listen", "nowhere"}, "HOST:PORT"},
      {{"--zzzzzzzzzz"}, "unknown flag '--zzzzzzzzzz'"},
      {{"extra"}, "unexpected argument 'extra'"},
      {{"--loops"}, "loops"},
      {{"--loops", "2", "--loops", "3"}, "loops"},
  };

  for (const auto& one : cases) {
    CAPTURE(one.named);
    const Invocation invocation = invoke(one.arguments);
    CHECK(invocation.action == Invocation::Action::kExit);
    CHECK(invocation.exit_code == 2);
    CHECK(invocation.out.empty());
    CHECK_MESSAGE(invocation.error.find(one.named) != std::string::npos, invocation.error);
  }
}

TEST_CASE("help, version, check and print exit with 0") {
  CHECK(invoke({"--version"}).out.starts_with("tidemarkd "));
  const Invocation help = invoke({"--help"});
  CHECK(help.exit_code == 0);
  for (const ConfigKey& key : config_keys()) {
    CHECK(help.out.find("--" + std::string(key.name)) != std::string::npos);
  }
  const Invocation check = invoke({"--check-config", "--loops", "2"});
  CHECK(check.exit_code == 0);
  CHECK(check.out == "configuration ok\n");
  const Invocation print = invoke({"--print-config", "--loops", "2"});
  CHECK(print.out.find("loops = \"2\"\n") != std::string::npos);
}

TEST_CASE("a bad configuration file fails with 1") {
  testing::TempDirectory directory;
  const std::string file = config_file(directory, "loop = 3\n");
  const Invocation bad = invoke({"--check-config", "--config", file.c_str()});
  CHECK(bad.exit_code == 1);
  CHECK(bad.error.find("tidemarkd.toml:1") != std::string::npos);
  CHECK(bad.error.find("did you mean 'loops'?") != std::string::npos);
  CHECK(invoke({"--config", "/nonexistent/file"}).exit_code == 1);
}

}  // namespace
}  // namespace tidemark::broker
