// check_history: judges a history of what clients asked and were told. HISTORY.md is the manual.
//
//   check_history [--require I1,I7] [--verbose] FILE...
//
// Exit code: 0 accepted, 1 an invariant is violated (or a required one had nothing to judge), 2 the
// history is malformed or the call is wrong.
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tests/checker/checker.h"

namespace checker = tidemark::checker;

int main(int argc, char** argv) {
  CLI::App app("Judges a history of what clients asked and were told.", "check_history");
  checker::Options options;
  std::vector<std::string> required;
  app.add_option("FILE", options.files, "JSON lines, one file for each process or one for all")
      ->required();
  app.add_option("--require", required, "Invariants that must have something to judge: I1,I7")
      ->delimiter(',');
  app.add_flag("--verbose", options.verbose, "Say how much each invariant had to judge");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(checker::Outcome::kMalformed);
  }
  for (const std::string& name : required) {
    const auto invariant = checker::invariant_by_name(name);
    if (!invariant.has_value()) {
      std::fprintf(stderr, "check_history: there is no invariant %s\n", name.c_str());
      return static_cast<int>(checker::Outcome::kMalformed);
    }
    options.required.push_back(*invariant);
  }
  const checker::Result result = checker::check_history(options);
  std::fputs(result.text.c_str(), result.outcome == checker::Outcome::kMalformed ? stderr : stdout);
  return static_cast<int>(result.outcome);
}
