// tidemark group list|describe|lag|reset|delete: the command tree; what they do is in group_*.cc.
#include "tools/group.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/dlq.h"
#include "tools/json_text.h"

namespace tidemark::tools {
namespace {

using Action = int (*)(const Globals&, const GroupCommand&);

CLI::App* add_command(CLI::App& group, Globals& globals, const std::string& name,
                      const std::string& help, GroupCommand*& options, Action action) {
  const auto owned = std::make_shared<GroupCommand>();
  options = owned.get();
  CLI::App* command = group.add_subcommand(name, help);
  command->callback([&globals, owned, action] {
    globals.action = [&globals, owned, action] { return action(globals, *owned); };
  });
  return command;
}

void add_group(CLI::App& command, GroupCommand& options) {
  add_group_name(command, "group", options.group, "Name of the group")->required();
}

void add_reading_commands(CLI::App& group, Globals& globals) {
  GroupCommand* options = nullptr;
  add_command(group, globals, "list", "List all consumer groups", options, list_groups)
      ->footer(
          "PARTITIONS are those that the group has a position in, QUEUES those that it works on in "
          "queue mode.\n"
          "Example:\n  tidemark group list -o json | jq -r '.groups[].group'");

  CLI::App* describe =
      add_command(group, globals, "describe", "Show members, positions and queues of a group",
                  options, describe_group);
  add_group(*describe, *options);
  describe->footer(
      "Exit code 3 if there is no such group.\nExample:\n  tidemark group describe billing");

  CLI::App* lag = add_command(group, globals, "lag",
                              "Count what is stored and a group has not committed or acked",
                              options, show_group_lag);
  add_group(*lag, *options);
  lag->footer(
      "The lag is that of both modes together: what is stored behind the committed positions, and "
      "what is not settled in\n"
      "queue mode. Exit code 3 if there is no such group.\n"
      "Examples:\n"
      "  tidemark group lag billing\n"
      "  tidemark group lag billing -o json | jq .lag\n"
      "  tidemark check --lag 'billing>1000'");
}

void add_changing_commands(CLI::App& group, Globals& globals) {
  GroupCommand* options = nullptr;
  CLI::App* reset = add_command(group, globals, "reset", "Set positions of a group in a topic",
                                options, reset_group);
  add_group(*reset, *options);
  add_topic_option(*reset, "--topic", options->topic, "The topic")->required();
  reset
      ->add_option("--partition", options->partitions,
                   "Only this partition; may be given several times (default: all)")
      ->allow_extra_args(false)
      ->type_name("N");
  reset
      ->add_option("--to", options->to,
                   "Where to: start, end, an offset, a time (2026-03-01T12:30:05Z, @<ms>) or back "
                   "from now (-10m)")
      ->required()
      ->type_name("WHERE");
  reset->add_flag("--dry-run", options->dry_run, "Only show what would be set");
  reset->add_flag("--force", options->force,
                  "Also when the group has members: they begin anew there");
  reset->add_flag("-y,--yes", options->yes, "Do not ask; required without a terminal");
  reset->footer(
      "Exit code 3 if there is no such group, 6 if it has members (without --force), 7 if only "
      "some "
      "positions were set.\n"
      "Examples:\n"
      "  tidemark group reset billing --topic orders --to -1h --dry-run\n"
      "  tidemark group reset billing --topic orders --partition 3 --to 4711 --yes");

  CLI::App* remove =
      add_command(group, globals, "delete", "Forget a group, its positions, and what it settled",
                  options, delete_group);
  add_group(*remove, *options);
  remove->add_flag("-y,--yes", options->yes, "Do not ask; required without a terminal");
  remove->footer(
      "In queue mode it forgets what the group has acked: consumers of that name begin anew.\n"
      "Exit code 3 if there is no such group, 6 if it has members.\n"
      "Example:\n  tidemark group delete billing --yes");
}

}  // namespace

client::Groups groups_of(const Session& session) {
  return require(client::Groups::create(session.client()), "groups");
}

uint64_t GroupWork::lag() const {
  uint64_t sum = stream.lag;
  for (const client::QueuePartitionInfo& queue : queues) {
    sum += queue.unsettled;
  }
  return sum;
}

client::Result<GroupWork> find_group(const Session& session, const std::string& group) {
  auto stream = groups_of(session).describe(group, session.deadline_ms());
  const bool in_queue_mode_alone = stream.status().code() == client::ErrorCode::kNotFound;
  if (!stream.ok() && !in_queue_mode_alone) {
    return stream.status();
  }
  auto queues = queues_of(session).describe(group, session.deadline_ms());
  if (!queues.ok()) {
    return queues.status();
  }
  if (in_queue_mode_alone && queues->empty()) {
    return stream.status();
  }
  GroupWork work;
  if (stream.ok()) {
    work.stream = *std::move(stream);
  }
  work.stream.group = group;
  work.queues = *std::move(queues);
  return work;
}

GroupWork require_group_work(const Session& session, const std::string& group) {
  return require(find_group(session, group), fmt::format("group {}", group_text(group)));
}

std::string group_text(std::string_view group) { return printable(std::string(group)); }

void add_group_commands(CLI::App& app, Globals& globals) {
  CLI::App* group =
      app.add_subcommand("group", "See consumer groups, their lag, and set positions");
  group->require_subcommand(1);
  add_reading_commands(*group, globals);
  add_changing_commands(*group, globals);
}

}  // namespace tidemark::tools
