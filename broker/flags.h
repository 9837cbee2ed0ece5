// The command line of tidemarkd.
#pragma once

#include <string>
#include <string_view>

#include "broker/config.h"

namespace tidemark::broker {

// What the command line asks for.
struct Invocation {
  enum class Action { kRun, kExit };
  Action action = Action::kExit;
  Config config;      // kRun
  int exit_code = 0;  // kExit: 0 ok, 1 the configuration is wrong, 2 usage
  std::string out;    // kExit: for stdout
  std::string error;  // kExit: for stderr
};

// Reads the flags and the file that --config names, and checks everything. Prints nothing.
Invocation read_command_line(FileSystem& fs, int argc, const char* const* argv);

}  // namespace tidemark::broker
