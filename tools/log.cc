#include "tools/log.h"

#include <CLI/CLI.hpp>

#include "tools/cli.h"
#include "tools/cli_options.h"

namespace tidemark::tools {

void add_log_commands(CLI::App& app, Globals& globals) {
  CLI::App* log = app.add_subcommand("log", "Look into log files, offline and read-only");
  log->require_subcommand(1);

  const auto dump_options = std::make_shared<LogDumpOptions>();
  CLI::App* dump = log->add_subcommand("dump", "Print the entries of a log");
  dump->add_option("path", dump_options->path,
                   "A segment file, the log directory of a shard, or a data directory")
      ->required()
      ->type_name("DIR");
  dump->add_option("--from", dump_options->from, "Begin at this log position")
      ->type_name("POSITION");
  dump->add_option("-n,--limit", dump_options->limit, "Stop after this many entries")
      ->check(check_positive)
      ->type_name("N");
  dump->add_flag("--stats", dump_options->stats,
                 "Print only how many entries, batches and messages there are");
  dump->footer(
      "Works on the files of a running broker, too: the end may then be in the middle of an "
      "entry.\n"
      "Examples:\n"
      "  tidemark log dump ./data --stats\n"
      "  tidemark log dump ./data --from 1048576 -n 10 -o json");
  dump->callback([&globals, dump_options] {
    globals.action = [&globals, dump_options] { return dump_log(globals, *dump_options); };
  });

  const auto verify_options = std::make_shared<LogVerifyOptions>();
  CLI::App* verify = log->add_subcommand("verify", "Check every hash and checksum of a log");
  verify
      ->add_option("path", verify_options->path, "A data directory or the log directory of a shard")
      ->required()
      ->type_name("DIR");
  verify->add_flag("--state-hash", verify_options->state_hash,
                   "Also rebuild the views from each log and print their hash");
  verify->footer(
      "Checks each segment, the hash of each entry and the checksum of each record batch. Damaged "
      "places are printed\n"
      "with file, offset and log position; what can be read behind them is checked, too. Says when "
      "the end of a log is an\n"
      "unacknowledged tail that the next start would cut. Changes nothing.\n"
      "Exit codes: 0 clean, 1 damage, 3 no such directory.");
  verify->callback([&globals, verify_options] {
    globals.action = [&globals, verify_options] { return verify_log(globals, *verify_options); };
  });
}

}  // namespace tidemark::tools
