// One broker for a test case, and the tool pointed at it.
//
// Its binary is $TIDEMARK_CLI. Thread: the test's.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/daemon_process.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"

namespace tidemark::testing {

using Arguments = std::vector<std::string>;

std::string tool_path();
// Waits in vain for no broker.
CommandResult run_without_broker(Arguments arguments);
std::vector<std::string> lines_of(const std::string& text);

class ToolFixture {
 public:
  // REQUIREs that the daemon starts; `flags` are added to "--shards 2".
  explicit ToolFixture(const Arguments& flags = {});

  CommandResult run(Arguments arguments, const std::string& input = {});
  // The same, for what must succeed; gives its standard output.
  std::string output(const Arguments& arguments, const std::string& input = {});
  // The same with -o json.
  nlohmann::json output_json(Arguments arguments, const std::string& input = {});
  // A line for the shell, with $tidemark as the tool.
  CommandResult shell(const std::string& line);

  // Waits for `count` messages of the topic from its start on; gives their values.
  std::vector<std::string> wait_for(const std::string& topic, int count);

  DaemonProcess& daemon() { return daemon_; }

  TempDirectory& directory() { return directory_; }

 private:
  TempDirectory directory_;
  DaemonProcess daemon_;
};

}  // namespace tidemark::testing
