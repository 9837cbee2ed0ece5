// tidemark topic create|list|describe|alter|delete
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/limits.h"
#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/confirm.h"
#include "tools/errors.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"
#include "tools/topic_queue.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

struct TopicOptions {
  std::string name;
  std::optional<uint32_t> partitions;
  std::optional<int64_t> retention_ms;
  std::optional<int64_t> retention_bytes;
  std::optional<int64_t> delay_pending_max;
  std::optional<int64_t> delay_bytes_max;
  std::optional<client::LatePolicy> late_policy;
  std::optional<int64_t> late_max_ms;
  std::optional<std::string> late_topic;
  TopicQueueOptions queue;
  bool if_not_exists = false;
  bool yes = false;
};

constexpr std::array<std::string_view, 3> kLateNames = {"deliver", "skip", "dead-letter"};

std::string_view late_name(client::LatePolicy policy) {
  return kLateNames.at(static_cast<size_t>(policy));
}

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
  object["delay_pending_max"] = topic.config.delay_pending_max;
  object["delay_bytes_max"] = topic.config.delay_bytes_max;
  object["late_policy"] = late_name(topic.config.late_policy);
  object["late_max_ms"] = topic.config.late_max_ms;
  object["late_topic"] = topic.config.late_topic.empty() ? Json() : Json(topic.config.late_topic);
  add_topic_queue_json(topic.config, object);
  object["partitions"] = std::move(partitions);
  return object;
}

std::string retention_bytes_text(int64_t bytes) {
  return bytes < 0 ? "unlimited" : format_bytes(static_cast<uint64_t>(bytes));
}

std::string pending_max_text(int64_t messages) {
  return messages < 0 ? "unlimited" : format_count(static_cast<uint64_t>(messages));
}

// "deliver", "skip after 1h", "dead-letter after 1h to late-orders".
std::string late_text(const client::TopicConfig& config) {
  std::string text(late_name(config.late_policy));
  if (config.late_policy == client::LatePolicy::kDeliver) {
    return text;
  }
  text += config.late_max_ms < 0 ? " never" : " after " + format_duration(config.late_max_ms);
  return config.late_topic.empty() ? text : text + " to " + config.late_topic;
}

Table topic_table() {
  return Table({{"TOPIC"},
                {"PARTITIONS", Table::Align::kRight},
                {"RETENTION", Table::Align::kRight},
                {"BYTES/PARTITION", Table::Align::kRight},
                {"DELAYED/PARTITION", Table::Align::kRight},
                {"DELAYED BYTES", Table::Align::kRight},
                {"LATE"},
                {"CREATED"}});
}

void add_row(Table& table, const client::TopicDescription& topic) {
  table.add({topic.name, fmt::format("{}", topic.partitions.size()),
             format_duration(topic.config.retention_ms),
             retention_bytes_text(topic.config.retention_bytes),
             pending_max_text(topic.config.delay_pending_max),
             retention_bytes_text(topic.config.delay_bytes_max), late_text(topic.config),
             format_time(topic.created_ms)});
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
  config.delay_pending_max = options.delay_pending_max.value_or(-1);
  config.delay_bytes_max = options.delay_bytes_max.value_or(-1);
  config.late_policy = options.late_policy.value_or(client::LatePolicy::kDeliver);
  config.late_max_ms = options.late_max_ms.value_or(-1);
  config.late_topic = options.late_topic.value_or("");
  options.queue.apply_to(config);
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
      "partition\ndelayed     {} messages, {} per partition\nlate        {}\n{}partitions  {}\n\n",
      topic.name, topic.id, format_time(topic.created_ms),
      format_duration(topic.config.retention_ms),
      retention_bytes_text(topic.config.retention_bytes),
      pending_max_text(topic.config.delay_pending_max),
      retention_bytes_text(topic.config.delay_bytes_max), late_text(topic.config),
      topic_queue_text(topic.config), topic.partitions.size());
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
  if (!options.partitions && !options.retention_ms && !options.retention_bytes &&
      !options.delay_pending_max && !options.delay_bytes_max && !options.late_policy &&
      !options.late_max_ms && !options.late_topic && !options.queue.any()) {
    throw usage_error(
        fmt::format("nothing to change: give one of --partitions, --retention, --retention-bytes, "
                    "--delay-pending-max, --delay-bytes-max, --late, --late-max, --late-topic, {}",
                    kTopicQueueOptionNames));
  }
  Session session(globals);
  client::TopicChange change;
  change.partitions = options.partitions;
  change.retention_ms = options.retention_ms;
  change.retention_bytes = options.retention_bytes;
  change.delay_pending_max = options.delay_pending_max;
  change.delay_bytes_max = options.delay_bytes_max;
  change.late_policy = options.late_policy;
  change.late_max_ms = options.late_max_ms;
  change.late_topic = options.late_topic;
  options.queue.apply_to(change);
  print_topic(globals,
              require(session.admin().alter_topic(options.name, change, session.deadline_ms()),
                      fmt::format("topic {}", options.name)));
  return 0;
}

int delete_topic(const Globals& globals, const TopicOptions& options) {
  if (!options.yes) {
    confirm(fmt::format("topic delete {} deletes all its messages", options.name),
            fmt::format("Delete topic {} and all its messages? Type its name to confirm: ",
                        options.name),
            options.name, fmt::format("topic {} was not deleted", options.name));
  }
  Session session(globals);
  const auto deleted = require(session.admin().delete_topic(options.name, session.deadline_ms()),
                               fmt::format("topic {}", options.name));
  Json object = to_json(deleted);
  object["deleted"] = true;
  print_result(globals, fmt::format("deleted {}\n", deleted.name), object.dump());
  return 0;
}

// An option that takes what `parse` reads, or a word for "no bound", which is -1.
void add_bound(CLI::App& command, const std::string& name, std::optional<int64_t>& out,
               Result<int64_t> (*parse)(std::string_view), const std::string& unbounded,
               const std::string& type, const std::string& help) {
  const auto set = [&out, name, parse, unbounded](const std::string& text) {
    const Result<int64_t> parsed = text == unbounded ? Result<int64_t>(-1) : parse(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(
          name, fmt::format("{} or {}", std::string(parsed.error().context()), unbounded));
    }
    out = *parsed;
  };
  command.add_option_function<std::string>(name, set, help)->type_name(type);
}

Result<int64_t> parse_bytes_signed(std::string_view text) {
  const Result<uint64_t> parsed = parse_bytes(text);
  if (!parsed.ok()) {
    return parsed.error();
  }
  return static_cast<int64_t>(*parsed);  // parse_bytes() gives no more than fits
}

Result<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return Status(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is not a number; write 1000000", text));
  }
  return value;
}

void add_delay_config_options(CLI::App& command, TopicOptions& options) {
  add_bound(command, "--delay-pending-max", options.delay_pending_max, parse_number, "unlimited",
            "N", "At most this many pending delayed messages per partition: 1000000, unlimited");
  add_bound(command, "--delay-bytes-max", options.delay_bytes_max, parse_bytes_signed, "unlimited",
            "BYTES", "At most this much in pending delayed messages per partition: 1GiB");
  const auto set_late = [&options](const std::string& text) {
    options.late_policy =
        static_cast<client::LatePolicy>(std::ranges::find(kLateNames, text) - kLateNames.begin());
  };
  command
      .add_option_function<std::string>(
          "--late", set_late,
          "Delayed messages that are later than --late-max, after an outage: deliver, skip or "
          "dead-letter")
      ->check(CLI::IsMember(std::vector<std::string>(kLateNames.begin(), kLateNames.end())))
      ->type_name("POLICY");
  add_bound(command, "--late-max", options.late_max_ms, parse_duration_ms, "never", "TIME",
            "How late a delayed message may be before --late says what becomes of it: 1h, never");
  command
      .add_option("--late-topic", options.late_topic,
                  "Topic that --late dead-letter puts messages into")
      ->type_name("TOPIC");
}

void add_config_options(CLI::App& command, TopicOptions& options,
                        const std::string& partitions_help) {
  command.add_option("--partitions", options.partitions, partitions_help)
      ->check(CLI::Range(uint32_t{1}, limits::kPartitionsPerTopicMax))
      ->type_name("N");
  add_bound(command, "--retention", options.retention_ms, parse_duration_ms, "forever", "TIME",
            "Keep messages this long: 12h, 7d, forever");
  add_bound(command, "--retention-bytes", options.retention_bytes, parse_bytes_signed, "unlimited",
            "BYTES", "Keep at most this much per partition: 10GiB, unlimited");
  add_delay_config_options(command, options);
  add_topic_queue_options(command, options.queue);
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
      "Examples:\n"
      "  tidemark topic create orders --partitions 8 --retention 7d --retention-bytes 10GiB\n"
      "  tidemark topic create mails-dead --partitions 8\n"
      "  tidemark topic create mails --partitions 8 --retry-delays 1s,10s,1m --max-deliveries 5 "
      "--dead-letter-topic mails-dead\n"
      "  tidemark topic create payments --dedupe 2m --ttl 1h");
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
      topic->add_subcommand("alter", "Change the settings of a topic or add partitions");
  add_topic_name(*alter, options->name);
  add_config_options(
      *alter, *options,
      "New number of partitions; it may only grow, and keys may move to other partitions");
  alter->footer(
      "What is not named stays as it is.\n"
      "Examples:\n"
      "  tidemark topic alter orders --retention 30d\n"
      "  tidemark topic alter mails --max-deliveries 0 --dead-letter-topic ''");
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
