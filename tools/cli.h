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
class Option;
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
void add_top_command(CLI::App& app, Globals& globals);
void add_check_command(CLI::App& app, Globals& globals);
void add_log_commands(CLI::App& app, Globals& globals);
void add_bench_commands(CLI::App& app, Globals& globals);
void add_completion_command(CLI::App& app, Globals& globals);

// Options whose text is parsed by tools/parse.h while the command line is read, so that a mistake
// names the option.
CLI::Option* add_duration(CLI::App& app, const std::string& names, int64_t& out_ms,
                          const std::string& help);
// The same within bounds.
CLI::Option* add_duration_within(CLI::App& app, const std::string& name, int64_t& out_ms,
                                 int64_t ms_min, int64_t ms_max, const std::string& help);
CLI::Option* add_duration_within(CLI::App& app, const std::string& name,
                                 std::optional<int64_t>& out_ms, int64_t ms_min, int64_t ms_max,
                                 const std::string& help);
CLI::Option* add_bytes(CLI::App& app, const std::string& names, uint64_t& out_bytes,
                       const std::string& help);
CLI::Option* add_bytes(CLI::App& app, const std::string& names, std::optional<uint64_t>& out_bytes,
                       const std::string& help);
// A check for options: "" if `text` is a number above 0, else what is wrong.
std::string check_positive(const std::string& text);
// A positional that must be the name of a topic.
CLI::Option* add_topic_name(CLI::App& app, std::string& out);
// The same as an option.
CLI::Option* add_topic_option(CLI::App& app, const std::string& name, std::string& out,
                              const std::string& help);
// An option, or a positional, that must be a name for a consumer group.
CLI::Option* add_group_name(CLI::App& app, const std::string& name, std::string& out,
                            const std::string& help);

}  // namespace tidemark::tools
