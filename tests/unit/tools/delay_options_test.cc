#include "tools/delay_options.h"

#include <algorithm>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

// Parses a command line with all the flags; false with the reason in `error`.
struct Line {
  CLI::App app{"test"};
  DelayOptions options;
  std::string error;

  bool parse(std::vector<std::string> words) {
    add_delay_options(app, options);
    std::ranges::reverse(words);  // as CLI11 wants them
    try {
      app.parse(words);
      return true;
    } catch (const CLI::ParseError& failure) {
      error = failure.what();
      return false;
    }
  }
};

TEST_CASE("each way to say when") {
  Line after;
  REQUIRE(after.parse({"--after", "1h30m"}));
  CHECK(after.options.delayed());
  CHECK(delay_of(after.options).kind() == client::Delay::Kind::kAfter);
  CHECK(delay_of(after.options).ms() == 5'400'000);
  CHECK(delay_of(after.options).every_ms() == 0);

  Line at;
  REQUIRE(at.parse({"--at", "@1735066800000"}));
  CHECK(delay_of(at.options).kind() == client::Delay::Kind::kAt);
  CHECK(delay_of(at.options).ms() == 1'735'066'800'000);

  Line every;
  REQUIRE(every.parse({"--every", "10m"}));
  CHECK(delay_of(every.options).every_ms() == 600'000);

  Line cron;
  REQUIRE(cron.parse({"--cron", "0 30 8 * * mon-fri", "--tz", "Europe/Berlin"}));
  CHECK(delay_of(cron.options).cron() == "0 30 8 * * mon-fri");
  CHECK(delay_of(cron.options).zone() == "Europe/Berlin");

  Line none;
  REQUIRE(none.parse({}));
  CHECK_FALSE(none.options.delayed());
  CHECK_FALSE(none.options.keyed());
}

TEST_CASE("what does not go together or cannot be is said") {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--after", "1s", "--at", "+1s"},
           {"--after", "1s", "--every", "1s"},
           {"--at", "+1s", "--cron", "* * * * * *"},
           {"--every", "1s", "--cron", "* * * * * *"},
           {"--tz", "UTC"},
           {"--after", "1s", "--tz", "UTC"},
           {"--after", "soon"},
           {"--after", "-1s"},
           {"--after", "40000d"},
           {"--at", "90s"},
           {"--every", "999ms"},
           {"--cron", "* * * * *"},
           {"--cron", ""},
           {"--delay-key", "", "--after", "1s"},
           {"--delay-key", std::string(256, 'k'), "--after", "1s"},
           {"--delay-key", "k", "--delay-key-from-key", "--after", "1s"}}) {
    CAPTURE(words.back());
    Line line;
    CHECK_FALSE(line.parse(words));
    CHECK(line.error.find("--") != std::string::npos);
  }
}

TEST_CASE("cron has six fields") {
  CHECK(check_cron("0 0 6 * * *").empty());
  CHECK(check_cron("  0  0\t6 * * MON ").empty());
  CHECK(check_cron("0 6 * * *").find("has 5 fields") != std::string::npos);
  CHECK(check_cron("").find("has 0 fields") != std::string::npos);
}

}  // namespace
}  // namespace tidemark::tools
