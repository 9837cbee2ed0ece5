// tidemark topic create|list|describe|alter|delete
#include <unistd.h>

#include <cstdio>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/limits.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

struct TopicOptions {
  std::string name;
  std::optional<uint32_t> partitions;
  std::optional<int64_t> retention_ms;
  std::optional<int64_t> retention_bytes;
  bool if_not_exists = false;
  bool yes = false;
};

Json to_json(const client::TopicDescription& topic) {
  Json partitions = Json::array();
  for (const client::PartitionPlace& place : topic.partitions) {
    partitions.push_back(
        {{"partition", place.partition}, {"shard", place.shard}, {"leader", place.leader}});
  }
  Json object = Json::object();
  object["name"] = topic.name;
  object["id"] = topic.id;
  object["created_ms"] = topic.created_ms;
  object["retention_ms"] = topic.config.retention_ms;
  object["retention_bytes"] = topic.config.retention_bytes;
  object["partitions"] = std::move(partitions);
  return object;
}

std::string retention_bytes_text(int64_t bytes) {
  return bytes < 0 ? "unlimited" : format_bytes(static_cast<uint64_t>(bytes));
}

Table topic_table() {
  return Table({{"TOPIC"},
                {"PARTITIONS", Table::Align::kRight},
                {"RETENTION", Table::Align::kRight},
                {"BYTES/PARTITION", Table::Align::kRight},
                {"CREATED"}});
}

void add_row(Table& table, const client::TopicDescription& topic) {
  table.add({topic.name, fmt::format("{}", topic.partitions.size()),
             format_duration(topic.config.retention_ms),
             retention_bytes_text(topic.config.retention_bytes), format_time(topic.created_ms)});
}

void print_topic(const Globals& globals, const client::TopicDescription& topic) {
  Table table = topic_table();
  add_row(table, topic);
  print_result(globals, table.to_string(), to_json(topic).dump());
}

int create_topic(const Globals& globals, const TopicOptions& options) {
  Session session(globals);
  client::TopicConfig config;
  config.retention_ms = options.retention_ms.value_or(-1);
  config.retention_bytes = options.retention_bytes.value_or(-1);
  auto created = session.admin().create_topic(options.name, options.partitions.value_or(1), config,
                                              session.deadline_ms());
  if (!created.ok() && created.status().code() == client::ErrorCode::kAlreadyExists &&
      options.if_not_exists) {
    const client::TopicDescription there = session.describe_topic(options.name);
    note(fmt::format("topic {} exists already, nothing was changed", options.name));
    print_topic(globals, there);
    return 0;
  }
  print_topic(globals, require(std::move(created), fmt::format("topic {}", options.name)));
  return 0;
}

int list_topics(const Globals& globals) {
  Session session(globals);
  const auto topics =
      require(session.admin().list_topics(session.deadline_ms()), "listing the topics");
  Table table = topic_table();
  Json list = Json::array();
  for (const client::TopicDescription& topic : topics) {
    add_row(table, topic);
    list.push_back(to_json(topic));
  }
  print_result(globals, table.to_string(), Json{{"topics", std::move(list)}}.dump());
  return 0;
}

int describe_topic(const Globals& globals, const TopicOptions& options) {
  Session session(globals);
  const client::TopicDescription topic = session.describe_topic(options.name);
  std::string text = fmt::format(
      "topic       {}\nid          {}\ncreated     {}\nretention   {}\nbytes       {} per "
      "partition\npartitions  {}\n\n",
      topic.name, topic.id, format_time(topic.created_ms),
      format_duration(topic.config.retention_ms),
      retention_bytes_text(topic.config.retention_bytes), topic.partitions.size());
  Table places({{"PARTITION", Table::Align::kRight},
                {"SHARD", Table::Align::kRight},
                {"LEADER", Table::Align::kRight}});
  for (const client::PartitionPlace& place : topic.partitions) {
    places.add({fmt::format("{}", place.partition), fmt::format("{}", place.shard),
                place.leader == 0 ? "none" : fmt::format("{}", place.leader)});
  }
  print_result(globals, text + places.to_string(), to_json(topic).dump());
  return 0;
}

int alter_topic(const Globals& globals, const TopicOptions& options) {
  if (!options.partitions && !options.retention_ms && !options.retention_bytes) {
    throw usage_error("nothing to change: give --partitions, --retention or --retention-bytes");
  }
  Session session(globals);
  client::TopicChange change;
  change.partitions = options.partitions;
  change.retention_ms = options.retention_ms;
  change.retention_bytes = options.retention_bytes;
  print_topic(globals,
              require(session.admin().alter_topic(options.name, change, session.deadline_ms()),
                      fmt::format("topic {}", options.name)));
  return 0;
}

// Asks on a terminal; without one the answer must have been given as --yes.
void confirm_delete(const TopicOptions& options) {
  if (options.yes) {
    return;
  }
  if (isatty(0) != 1 || isatty(2) != 1) {
    throw usage_error(
        fmt::format("topic delete {} deletes all its messages: confirm with --yes", options.name));
  }
  std::fputs(
      fmt::format("Delete topic {} and all its messages? Type its name to confirm: ", options.name)
          .c_str(),
      stderr);
  std::string answer;
  for (int c = std::getchar(); c != EOF && c != '\n'; c = std::getchar()) {
    answer += static_cast<char>(c);
  }
  if (answer != options.name) {
    throw CommandError(ExitCode::kFailed, "Cancelled",
                       fmt::format("topic {} was not deleted", options.name));
  }
}

int delete_topic(const Globals& globals, const TopicOptions& options) {
  confirm_delete(options);
  Session session(globals);
  const auto deleted = require(session.admin().delete_topic(options.name, session.deadline_ms()),
                               fmt::format("topic {}", options.name));
  Json object = to_json(deleted);
  object["deleted"] = true;
  print_result(globals, fmt::format("deleted {}\n", deleted.name), object.dump());
  return 0;
}

void add_config_options(CLI::App& command, TopicOptions& options,
                        const std::string& partitions_help) {
  command.add_option("--partitions", options.partitions, partitions_help)
      ->check(CLI::Range(uint32_t{1}, limits::kPartitionsPerTopicMax))
      ->type_name("N");
  const auto set_retention = [&options](const std::string& text) {
    const Result<int64_t> parsed =
        text == "forever" ? Result<int64_t>(-1) : parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError("--retention",
                                 std::string(parsed.error().context()) + " or forever");
    }
    options.retention_ms = *parsed;
  };
  command
      .add_option_function<std::string>("--retention", set_retention,
                                        "Keep messages this long: 12h, 7d, forever")
      ->type_name("TIME");
  const auto set_bytes = [&options](const std::string& text) {
    const Result<uint64_t> parsed = text == "unlimited" ? Result<uint64_t>(0) : parse_bytes(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError("--retention-bytes",
                                 std::string(parsed.error().context()) + " or unlimited");
    }
    options.retention_bytes = text == "unlimited" ? -1 : static_cast<int64_t>(*parsed);
  };
  command
      .add_option_function<std::string>("--retention-bytes", set_bytes,
                                        "Keep at most this much per partition: 10GiB, unlimited")
      ->type_name("BYTES");
}

}  // namespace

void add_topic_commands(CLI::App& app, Globals& globals) {
  CLI::App* topic = app.add_subcommand("topic", "Create, list, change and delete topics");
  topic->require_subcommand(1);
  const auto options = std::make_shared<TopicOptions>();

  CLI::App* create = topic->add_subcommand("create", "Create a topic");
  add_topic_name(*create, options->name);
  add_config_options(*create, *options, "Number of partitions (default 1)");
  create->add_flag("--if-not-exists", options->if_not_exists,
                   "Succeed if the topic is there already, whatever its settings");
  create->footer(
      "Example:\n  tidemark topic create orders --partitions 8 --retention 7d --retention-bytes "
      "10GiB");
  create->callback([&globals, options] {
    globals.action = [&globals, options] { return create_topic(globals, *options); };
  });

  CLI::App* list = topic->add_subcommand("list", "List all topics");
  list->callback([&globals] { globals.action = [&globals] { return list_topics(globals); }; });

  CLI::App* describe =
      topic->add_subcommand("describe", "Show a topic and where its partitions are");
  add_topic_name(*describe, options->name);
  describe->callback([&globals, options] {
    globals.action = [&globals, options] { return describe_topic(globals, *options); };
  });

  CLI::App* alter =
      topic->add_subcommand("alter", "Change the retention of a topic or add partitions");
  add_topic_name(*alter, options->name);
  add_config_options(
      *alter, *options,
      "New number of partitions; it may only grow, and keys may move to other partitions");
  alter->footer("Example:\n  tidemark topic alter orders --retention 30d");
  alter->callback([&globals, options] {
    globals.action = [&globals, options] { return alter_topic(globals, *options); };
  });

  CLI::App* remove = topic->add_subcommand("delete", "Delete a topic and all its messages");
  add_topic_name(*remove, options->name);
  remove->add_flag("-y,--yes", options->yes, "Do not ask; required without a terminal");
  remove->callback([&globals, options] {
    globals.action = [&globals, options] { return delete_topic(globals, *options); };
  });
}

}  // namespace tidemark::tools
