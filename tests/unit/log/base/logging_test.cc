#include "log/base/logging.h"

#include <vector>

#include <doctest/doctest.h>

namespace tidemark {

namespace {

std::vector<std::string>& lines() {
  static std::vector<std::string> all;
  return all;
}

void keep(LogLevel level, std::string_view line) {
  lines().push_back(std::to_string(static_cast<int>(level)) + " " + std::string(line));
}

}  // namespace

TEST_CASE("logging: lines go to the sink, or nowhere") {
  log_line(LogLevel::kError, "lost");
  set_log_sink(keep);
  log_line(LogLevel::kInfo, "ready port=9470");
  set_log_sink(nullptr);
  log_line(LogLevel::kError, "lost");
  CHECK(lines() == std::vector<std::string>{"1 ready port=9470"});
}

}  // namespace tidemark
