// tidemark delay list|show|cancel|reschedule|fire-now|purge|stats|histogram: the command tree; what
// they do is in delay_*.cc.
#include "tools/delay.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/errors.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Action = int (*)(const Globals&, const DelayCommand&);

CLI::App* add_command(CLI::App& delay, Globals& globals, const std::string& name,
                      const std::string& help, DelayCommand*& options, Action action) {
  const auto owned = std::make_shared<DelayCommand>();
  options = owned.get();
  CLI::App* command = delay.add_subcommand(name, help);
  command->callback([&globals, owned, action] {
    globals.action = [&globals, owned, action] { return action(globals, *owned); };
  });
  return command;
}

CLI::Option* add_partition(CLI::App& command, DelayCommand& options, const std::string& help) {
  return command.add_option("--partition", options.partition, help)->type_name("N");
}

// Handles, or --key with --partition.
void add_targets(CLI::App& command, DelayCommand& options, bool several) {
  CLI::Option* handles =
      command
          .add_option("handle", options.handles,
                      several
                          ? "Handles as produce printed them; - reads them from standard input, "
                            "one on a line"
                          : "Handle as produce printed it")
          ->type_name("HANDLE");
  CLI::Option* keys =
      command
          .add_option("--key", options.keys,
                      several ? "The pending message of this delay key; may be given several times"
                              : "The pending message of this delay key")
          ->allow_extra_args(false)
          ->excludes(handles)
          ->type_name("KEY");
  add_partition(command, options, "Partition of --key, if the message was sent to a named one")
      ->needs(keys);
}

void add_reading_commands(CLI::App& delay, Globals& globals) {
  DelayCommand* options = nullptr;
  CLI::App* list = add_command(delay, globals, "list", "List pending messages in the order of due",
                               options, list_delays);
  add_topic_name(*list, options->topic);
  add_partition(*list, *options, "Only this partition");
  list->add_option("--key", options->keys, "Only the message of this delay key")
      ->expected(1)
      ->type_name("KEY");
  add_due_range(*list, options->due_from_ms, options->due_to_ms);
  list->add_option("--limit", options->limit, "At most this many")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000}))
      ->capture_default_str()
      ->type_name("N");
  list->footer(
      "Example:\n"
      "  tidemark delay list orders --due-to +1h -o json | jq -r '.messages[].handle' |\n"
      "    tidemark delay cancel orders -");

  CLI::App* show =
      add_command(delay, globals, "show", "Show one pending message", options, show_delay);
  add_topic_name(*show, options->topic);
  add_targets(*show, *options, false);

  CLI::App* stats =
      add_command(delay, globals, "stats", "Count pending messages by how far away they are",
                  options, show_delay_stats);
  add_topic_name(*stats, options->topic)->required(false);

  CLI::App* histogram =
      add_command(delay, globals, "histogram", "Draw when pending messages are due", options,
                  show_delay_histogram);
  add_topic_name(*histogram, options->topic);
  histogram->add_option("--bins", options->bins, "At most this many bars")
      ->check(CLI::Range(size_t{1}, size_t{1'000}))
      ->capture_default_str()
      ->type_name("N");
  histogram->footer(
      "Up to 10,000 pending messages are counted to the millisecond; above, the broker tells them "
      "by spans of\n65.5 s, which are shared out over the bars.");
}

void add_changing_commands(CLI::App& delay, Globals& globals) {
  constexpr const char* kCodes =
      "Exit code for one message: 0 done, 3 not found, 6 delivered already, 5 no answer. For "
      "several: 0 all done,\n7 some, else that of the failures.\n";
  DelayCommand* options = nullptr;
  CLI::App* cancel =
      add_command(delay, globals, "cancel", "Cancel pending messages", options, cancel_delays);
  add_topic_name(*cancel, options->topic);
  add_targets(*cancel, *options, true);
  cancel->footer(std::string(kCodes) +
                 "Example:\n  tidemark delay cancel orders --key callback-17");

  CLI::App* reschedule =
      add_command(delay, globals, "reschedule", "Give pending messages another due time", options,
                  reschedule_delays);
  add_topic_name(*reschedule, options->topic);
  add_targets(*reschedule, *options, true);
  add_after_and_at(*reschedule, options->when);
  reschedule->footer(std::string(kCodes) +
                     "A message that was moved has a new handle, the old one is void.\n"
                     "Example:\n  tidemark delay reschedule orders --key callback-17 --after 1h");

  CLI::App* fire = add_command(delay, globals, "fire-now", "Deliver pending messages at once",
                               options, fire_delays_now);
  add_topic_name(*fire, options->topic);
  add_targets(*fire, *options, true);
  fire->footer(kCodes);

  CLI::App* purge = add_command(delay, globals, "purge", "Cancel all pending messages, or some",
                                options, purge_delays);
  add_topic_name(*purge, options->topic);
  add_partition(*purge, *options, "Only this partition");
  add_due_range(*purge, options->due_from_ms, options->due_to_ms);
  purge->add_option("--key-prefix", options->key_prefix, "Only delay keys that begin with this")
      ->type_name("TEXT");
  purge->add_flag("--dry-run", options->dry_run, "Only count what would be cancelled");
  purge->add_flag("-y,--yes", options->yes, "Do not ask; required without a terminal");
  purge->footer("Example:\n  tidemark delay purge orders --due-to +1h --dry-run");
}

}  // namespace

client::Delays delays_of(const Session& session) {
  return require(client::Delays::create(session.client()), "delayed messages");
}

client::DelayTarget target_of_handle(const std::string& text) {
  const auto handle = client::DelayHandle::parse(text);
  if (!handle.ok()) {
    throw usage_error(fmt::format("'{}': {}", text, handle.status().context()));
  }
  return client::DelayTarget::of(*handle);
}

client::DelayTarget single_target(const DelayCommand& command) {
  if (command.handles.size() + command.keys.size() != 1) {
    throw usage_error("name one message by its handle or by --key");
  }
  return command.keys.empty()
             ? target_of_handle(command.handles.front())
             : client::DelayTarget::of_key(command.keys.front(), command.partition);
}

client::DelayQuery query_of(const DelayCommand& command) {
  client::DelayQuery query;
  query.partition = command.partition;
  query.due_from_ms = command.due_from_ms.value_or(0);
  query.due_to_ms = command.due_to_ms.value_or(INT64_MAX);
  query.key = command.keys.empty() ? std::string() : command.keys.front();
  query.limit = kDelayPage;
  return query;
}

void add_delay_commands(CLI::App& app, Globals& globals) {
  CLI::App* delay = app.add_subcommand("delay", "See and change messages that wait for their time");
  delay->require_subcommand(1);
  add_reading_commands(*delay, globals);
  add_changing_commands(*delay, globals);
}

}  // namespace tidemark::tools
