// tidemark txn list|show|commit|rollback|recheck|stats: the command tree; what they do is in
// txn_*.cc.
#include "tools/txn.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "log/base/clock.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/parse.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Action = std::function<int(const Globals&, const TxnCommand&)>;

CLI::App* add_command(CLI::App& txn, Globals& globals, const std::string& name,
                      const std::string& help, TxnCommand*& options, Action action) {
  const auto owned = std::make_shared<TxnCommand>();
  options = owned.get();
  CLI::App* command = txn.add_subcommand(name, help);
  command->callback([&globals, owned, action = std::move(action)] {
    globals.action = [&globals, owned, action] { return action(globals, *owned); };
  });
  return command;
}

void add_selection(CLI::App& command, TxnSelection& selection) {
  const auto set_age = [&selection](const std::string& text) {
    const Result<int64_t> parsed = parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError("--older-than", std::string(parsed.error().context()));
    }
    if (*parsed < 0) {
      throw CLI::ValidationError("--older-than", "no transaction is older than for ever");
    }
    selection.older_than_ms = *parsed;
  };
  command.add_option("--group", selection.group, "Only those of this producer group")
      ->type_name("PRODUCERS");
  command.add_option("--state", selection.state, "Only those that are open, or parked")
      ->check(CLI::IsMember({"open", "parked"}))
      ->type_name("STATE");
  add_topic_option(command, "--topic", selection.topic, "Only those with messages of this topic");
  command
      .add_option_function<std::string>("--older-than", set_age,
                                        "Only those begun at least this long ago: 90s, 1h30m, 2d")
      ->type_name("DURATION");
}

void add_reading_commands(CLI::App& txn, Globals& globals) {
  TxnCommand* options = nullptr;
  CLI::App* list =
      add_command(txn, globals, "list", "List transactions that have not ended, oldest first",
                  options, list_transactions);
  add_selection(*list, options->selection);
  list->add_option("--limit", options->limit, "At most this many")
      ->check(CLI::Range(uint32_t{1}, kTxnPage))
      ->capture_default_str()
      ->type_name("N");
  list->footer(
      "Examples:\n"
      "  tidemark txn list --state parked\n"
      "  tidemark txn list --group orders --older-than 1h -o json | jq -r '.transactions[].id' |\n"
      "    tidemark txn rollback -");

  CLI::App* show =
      add_command(txn, globals, "show", "Show one transaction", options, show_transaction);
  show->add_option("id", options->ids, "As `txn list` prints it")
      ->required()
      ->expected(1)
      ->type_name("ID");
  show->footer(
      "Of one that has ended only the outcome is known, and that for a while. Exit code 3 if it is "
      "not known.\n"
      "Example:\n  tidemark txn show 7-0-1234-1");

  CLI::App* stats = add_command(txn, globals, "stats", "Count transactions, by producer group",
                                options, show_transaction_stats);
  stats->footer("Example:\n  tidemark txn stats -o json | jq '.parked'");
}

struct ChangingCommand {
  TxnVerb verb;
  const char* help;
  const char* footer;
};

constexpr ChangingCommand kChangingCommands[] = {
    {TxnVerb::kCommit, "Make the messages of transactions visible",
     "One that was committed before stays so: exit code 0. One that was rolled back stays so: exit "
     "code 6.\n"
     "Example:\n  tidemark txn commit 7-0-1234-1"},
    {TxnVerb::kRollback, "End transactions without their messages",
     "Example:\n  tidemark txn rollback --group orders --older-than 2d --dry-run"},
    {TxnVerb::kRecheck, "Open parked transactions again and have a producer asked at once",
     "Example:\n  tidemark txn recheck --state parked --yes"},
};

void add_changing_commands(CLI::App& txn, Globals& globals) {
  constexpr const char* kCodes =
      "Transactions are named by their ids, or selected by --group, --state, --topic and "
      "--older-than.\n"
      "Exit code for one: 0 done, 3 not found, 6 had ended the other way, 5 no answer. For "
      "several: "
      "0 all done,\n7 some, else that of the failures.\n";
  for (const ChangingCommand& one : kChangingCommands) {
    TxnCommand* options = nullptr;
    CLI::App* command =
        add_command(txn, globals, std::string(verb_text(one.verb)), one.help, options,
                    [verb = one.verb](const Globals& given, const TxnCommand& asked) {
                      return change_transactions(given, asked, verb);
                    });
    command
        ->add_option("id", options->ids,
                     "As `txn list` prints them; - reads them from standard input, one on a line")
        ->type_name("ID");
    add_selection(*command, options->selection);
    command->add_flag("--dry-run", options->dry_run, "Only list what is selected");
    command->add_flag("-y,--yes", options->yes,
                      "Do not ask; required for a selection without a terminal");
    command->footer(std::string(kCodes) + one.footer);
  }
}

}  // namespace

client::Transactions transactions_of(const Session& session) {
  return require(client::Transactions::create(session.client()), "transactions");
}

client::TransactionId transaction_id_of(const std::string& text) {
  const auto id = client::TransactionId::parse(text);
  if (!id.ok()) {
    throw usage_error(fmt::format("'{}': {}", text, id.status().context()));
  }
  return *id;
}

client::TransactionQuery query_of(const TxnSelection& selection) {
  client::TransactionQuery query;
  query.group = selection.group;
  query.topic = selection.topic;
  query.limit = kTxnPage;
  if (!selection.state.empty()) {
    query.state = selection.state == "parked" ? client::TransactionStateKind::kParked
                                              : client::TransactionStateKind::kOpen;
  }
  if (selection.older_than_ms) {
    query.born_before_ms = system_clock().wall().ms - *selection.older_than_ms;
  }
  return query;
}

void add_txn_commands(CLI::App& app, Globals& globals) {
  CLI::App* txn = app.add_subcommand("txn", "See transactions, and end those that nobody ends");
  txn->require_subcommand(1);
  add_reading_commands(*txn, globals);
  add_changing_commands(*txn, globals);
}

}  // namespace tidemark::tools
