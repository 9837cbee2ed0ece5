// The frame of the tool: global options, the command tree, and running the chosen command.
//
// Each noun has a file with an add_*_commands() that hangs its commands into the tree. Parsing only
// stores options; the command itself runs afterwards, so that a wrong flag never leaves half a
// thing done.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}  // namespace CLI

namespace tidemark::tools {

struct Globals {
  std::string brokers = "127.0.0.1:9470";
  int64_t timeout_ms = 10'000;
  bool json = false;
  bool quiet = false;
  // Set by the chosen command; gives the exit code, or throws CommandError.
  std::function<int()> action;
};

// The whole tree; `globals` outlives it.
std::unique_ptr<CLI::App> make_app(Globals& globals);
// Parses, runs, reports errors on standard error; returns the exit code. Never throws.
int run_tool(int argc, const char* const* argv);

void add_topic_commands(CLI::App& app, Globals& globals);
void add_produce_command(CLI::App& app, Globals& globals);
void add_consume_command(CLI::App& app, Globals& globals);
void add_partition_commands(CLI::App& app, Globals& globals);
void add_delay_commands(CLI::App& app, Globals& globals);
void add_txn_commands(CLI::App& app, Globals& globals);
void add_group_commands(CLI::App& app, Globals& globals);
void add_dlq_commands(CLI::App& app, Globals& globals);
void add_top_command(CLI::App& app, Globals& globals);
void add_check_command(CLI::App& app, Globals& globals);
void add_log_commands(CLI::App& app, Globals& globals);
void add_bench_commands(CLI::App& app, Globals& globals);
void add_completion_command(CLI::App& app, Globals& globals);

}  // namespace tidemark::tools
