// Runs a program to its end, for tests of binaries.
//
// Thread: any. Blocks until the program has ended and closed its outputs.
#pragma once

#include <string>
#include <vector>

namespace tidemark::testing {

struct CommandResult {
  int exit_code = -1;  // 128 + signal if it was killed by one
  std::string output;
  std::string errors;
};

// `arguments[0]` is a path. `input` is its standard input; a program that does not read it all is
// fine. `environment` are NAME=value and come before what this process has. CHECKs that the program
// could be started.
CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input = {},
                          const std::vector<std::string>& environment = {});

// Value of an environment variable that make sets; CHECKs that it is there.
std::string required_environment(const char* name);

}  // namespace tidemark::testing
