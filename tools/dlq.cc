// tidemark dlq list|peek|redrive|purge: the command tree; what they do is in dlq_*.cc.
#include "tools/dlq.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/cli_options.h"

namespace tidemark::tools {
namespace {

using Action = int (*)(const Globals&, const DlqCommand&);

CLI::App* add_command(CLI::App& dlq, Globals& globals, const std::string& name,
                      const std::string& help, DlqCommand*& options, Action action) {
  const auto owned = std::make_shared<DlqCommand>();
  options = owned.get();
  CLI::App* command = dlq.add_subcommand(name, help);
  command->callback([&globals, owned, action] {
    globals.action = [&globals, owned, action] { return action(globals, *owned); };
  });
  return command;
}

void add_selection(CLI::App& command, DlqCommand& options) {
  add_filter_options(command, options.filter, options.tags);
  command
      .add_option("--partition", options.partitions,
                  "Only this partition; may be given several times (default: all)")
      ->allow_extra_args(false)
      ->type_name("N");
}

void add_changes(CLI::App& command, DlqCommand& options) {
  command.add_option("--max", options.letters_max, "At most this many")
      ->check(check_positive)
      ->type_name("N");
  command.add_flag("--dry-run", options.dry_run, "Only count what would be changed");
  command.add_flag("-y,--yes", options.yes, "Do not ask; required without a terminal");
}

void add_reading_commands(CLI::App& dlq, Globals& globals) {
  DlqCommand* options = nullptr;
  CLI::App* list =
      add_command(dlq, globals, "list", "Count dead letters, by where they come from and why",
                  options, list_dead_letters);
  add_topic_name(*list, options->topic)->required(false);
  list->footer(
      "Without a topic: of all topics that are the dead-letter topic of another one. The letters "
      "are read for it.\n"
      "Examples:\n"
      "  tidemark dlq list\n"
      "  tidemark dlq list mails-dead -o json | jq .letters\n"
      "  tidemark check --dead-letters 'mails-dead>0'");

  CLI::App* peek = add_command(dlq, globals, "peek", "Print dead letters, and change nothing",
                               options, peek_dead_letters);
  add_topic_name(*peek, options->topic);
  add_selection(*peek, *options);
  peek->add_option("--from,--offset", options->from,
                   "Where to begin: start, an offset, a time (2026-03-01T12:30:05Z, @<ms>) or back "
                   "from now (-10m)")
      ->capture_default_str()
      ->type_name("WHERE");
  peek->add_option("-n,--count", options->count, "At most this many")
      ->check(check_positive)
      ->capture_default_str()
      ->type_name("N");
  peek->footer(
      "With -o json each letter is an object on a line: what consume prints of it, and "
      "source_topic, source_partition,\n"
      "source_offset, group, reason, deliveries and dead_ms of its last death; headers have those "
      "before.\n"
      "Examples:\n"
      "  tidemark dlq peek mails-dead -n 3\n"
      "  tidemark dlq peek mails-dead --from -1h -o json | jq '{key, reason}'");
}

void add_changing_commands(CLI::App& dlq, Globals& globals) {
  constexpr const char* kCodes =
      "A dead letter is redriven or purged once, whoever asks: a command that was interrupted may "
      "be given again.\n"
      "Letters that come meanwhile are left alone. Exit code 0 if all went well (also if there was "
      "none), 7 if only some\n"
      "did, else that of the failures.\n";
  DlqCommand* options = nullptr;
  CLI::App* redrive =
      add_command(dlq, globals, "redrive", "Send dead letters back to where they came from",
                  options, redrive_dead_letters);
  add_topic_name(*redrive, options->topic);
  add_selection(*redrive, *options);
  const auto set_rate = [options](const std::string& text) {
    const Result<double> rate = parse_rate(text);
    if (!rate.ok()) {
      throw CLI::ValidationError("--rate", std::string(rate.error().context()));
    }
    options->rate = *rate;
  };
  redrive
      ->add_option_function<std::string>("--rate", set_rate,
                                         "Letters per second: 500, 500/s (default: as fast as "
                                         "possible)")
      ->type_name("N/s");
  add_changes(*redrive, *options);
  redrive->footer(std::string(kCodes) +
                  "They go to the end of the partition where they were, with the history of their "
                  "deaths, and are new there for every\n"
                  "group.\n"
                  "Examples:\n"
                  "  tidemark dlq redrive mails-dead --dry-run\n"
                  "  tidemark dlq redrive mails-dead --tag promo --rate 500/s --max 10000 --yes");

  CLI::App* purge =
      add_command(dlq, globals, "purge", "Give dead letters up", options, purge_dead_letters);
  add_topic_name(*purge, options->topic);
  add_selection(*purge, *options);
  add_changes(*purge, *options);
  purge->footer(std::string(kCodes) +
                "They stay readable by `tidemark consume` until retention takes them.\n"
                "Examples:\n"
                "  tidemark dlq purge mails-dead --dry-run\n"
                "  tidemark dlq purge mails-dead --tag promo --yes");
}

}  // namespace

client::Queues queues_of(const Session& session) {
  return require(client::Queues::create(session.client()), "queues");
}

void add_dlq_commands(CLI::App& app, Globals& globals) {
  CLI::App* dlq = app.add_subcommand(
      "dlq", "See dead letters, send them back to where they came from, or give them up");
  dlq->require_subcommand(1);
  add_reading_commands(*dlq, globals);
  add_changing_commands(*dlq, globals);
}

}  // namespace tidemark::tools
