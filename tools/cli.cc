#include "tools/cli.h"

#include <csignal>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/output.h"

namespace tidemark::tools {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  tidemark topic create orders --partitions 8 --retention 7d\n"
    "  tidemark produce orders < orders.txt\n"
    "  tidemark consume orders --from start -n 10 --format '%p %o %v\\n'\n"
    "  tidemark produce orders --message 'call back' --after 90s\n"
    "  tidemark delay list orders\n"
    "  tidemark txn list --state parked\n"
    "  tidemark consume orders --group billing\n"
    "  tidemark group lag billing\n"
    "  tidemark consume mails --group mailer --queue --ack\n"
    "  tidemark dlq list\n"
    "  tidemark bench produce orders --size 1024 --seconds 10\n"
    "\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 unavailable or timed out,\n"
    "            6 conflict, 7 partly done.\n"
    "Data goes to standard output; progress, summaries and errors go to standard error.";

void report(const Globals& globals, const std::string& name, const std::string& message) {
  if (globals.json) {
    nlohmann::ordered_json object;
    object["error"] = {{"code", name}, {"message", message}};
    // The message may quote bytes from the command line that are not UTF-8.
    const std::string line =
        object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    std::fputs(line.c_str(), stderr);
    return;
  }
  std::fputs(fmt::format("tidemark: {} ({})\n", message, name).c_str(), stderr);
}

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--brokers", globals.brokers, "Brokers to connect to, host:port, comma separated")
      ->envname("TIDEMARK_BROKERS")
      ->capture_default_str()
      ->type_name("LIST");
  add_duration(app, "--timeout", globals.timeout_ms,
               "Give up on a request after this time (default 10s)");
  app.add_option_function<std::string>(
         "-o,--output", [&globals](const std::string& format) { globals.json = format == "json"; },
         "How results are printed: table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->type_name("FORMAT");
  app.add_flag("-q,--quiet", globals.quiet, "No progress and no summaries on standard error");
}

// Options of the parent may follow a command: `tidemark topic list -o json`.
void inherit_globals(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    command->fallthrough();
    inherit_globals(*command);
  }
}

// What CLI11 has to say about a command line: help and version are not errors.
int report_parse_result(const CLI::App& app, const CLI::ParseError& error, const Globals& globals) {
  if (error.get_exit_code() == 0) {
    return app.exit(error);
  }
  // CLI11 only says that a command is missing when the one given is not known.
  const std::vector<std::string> unknown = app.remaining(true);
  const bool misspelt = error.get_name() == "RequiredError" && !unknown.empty();
  report(globals, "Usage",
         misspelt ? fmt::format("unknown command or option '{}'", unknown.front()) : error.what());
  if (!globals.json) {
    std::fputs("Run with --help for the options.\n", stderr);
  }
  return static_cast<int>(ExitCode::kUsage);
}

// The last word of the command line may already say how errors are to be printed when parsing fails
// early.
bool asks_for_json(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    const std::string_view next(i + 1 < argc ? argv[i + 1] : "");
    if (((word == "-o" || word == "--output") && next == "json") || word == "-ojson" ||
        word == "--output=json") {
      return true;
    }
  }
  return false;
}

int run_action(const Globals& globals) {
  try {
    return globals.action();
  } catch (const OutputClosed&) {
    // `tidemark consume t | head`: the reader has what it wanted.
    return static_cast<int>(ExitCode::kOk);
  } catch (const CommandError& error) {
    report(globals, error.name(), error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    report(globals, "Internal", error.what());
    return static_cast<int>(ExitCode::kFailed);
  }
}

}  // namespace

std::unique_ptr<CLI::App> make_app(Globals& globals) {
  auto app = std::make_unique<CLI::App>(
      "Tidemark's admin tool: topics, messages, logs, measurements.", "tidemark");
  app->set_version_flag("--version", "tidemark " TIDEMARK_VERSION);
  app->set_help_flag("-h,--help", "Show help; each command has its own");
  app->footer(kFooter);
  app->require_subcommand(1);
  add_globals(*app, globals);
  add_topic_commands(*app, globals);
  add_produce_command(*app, globals);
  add_consume_command(*app, globals);
  add_partition_commands(*app, globals);
  add_delay_commands(*app, globals);
  add_txn_commands(*app, globals);
  add_group_commands(*app, globals);
  add_dlq_commands(*app, globals);
  add_top_command(*app, globals);
  add_check_command(*app, globals);
  add_log_commands(*app, globals);
  add_bench_commands(*app, globals);
  add_completion_command(*app, globals);
  inherit_globals(*app);
  return app;
}

int run_tool(int argc, const char* const* argv) {
  // A closed pipe shows as an error of write(), which ends the command in order.
  std::signal(SIGPIPE, SIG_IGN);
  Globals globals;
  globals.json = asks_for_json(argc, argv);
  const std::unique_ptr<CLI::App> app = make_app(globals);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_parse_result(*app, error, globals);
  }
  set_quiet(globals.quiet);
  return run_action(globals);
}

}  // namespace tidemark::tools
