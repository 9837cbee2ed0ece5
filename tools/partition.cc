// tidemark partition describe
#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/cli.h"
#include "tools/cli_options.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

struct PartitionOptions {
  std::string topic;
  std::vector<uint32_t> partitions;
};

Json to_json(const client::PartitionDescription& partition) {
  Json object = Json::object();
  object["partition"] = partition.partition;
  if (!partition.status.ok()) {
    object["error"] = {{"code", client::error_name(partition.status.code())},
                       {"message", partition.status.to_string()}};
    return object;
  }
  object["shard"] = partition.shard;
  object["leader"] = partition.leader;
  object["start_offset"] = partition.start_offset;
  object["end_offset"] = partition.end_offset;
  object["messages"] = partition.end_offset - partition.start_offset;
  object["bytes"] = partition.bytes;
  object["batches"] = partition.batches;
  object["producers"] = partition.producers;
  object["last_received_ms"] = partition.last_received_ms;
  return object;
}

void add_row(Table& table, const client::PartitionDescription& partition) {
  if (!partition.status.ok()) {
    table.add({fmt::format("{}", partition.partition), "", "", "", "", "", "", "",
               partition.status.to_string()});
    return;
  }
  table.add({fmt::format("{}", partition.partition), fmt::format("{}", partition.shard),
             fmt::format("{}", partition.start_offset), fmt::format("{}", partition.end_offset),
             fmt::format("{}", partition.end_offset - partition.start_offset),
             format_bytes(partition.bytes), fmt::format("{}", partition.batches),
             fmt::format("{}", partition.producers),
             partition.last_received_ms > 0 ? format_time(partition.last_received_ms) : "never"});
}

int describe_partitions(const Globals& globals, const PartitionOptions& options) {
  Session session(globals);
  const auto all =
      require(session.admin().describe_partitions(options.topic, session.deadline_ms()),
              fmt::format("topic {}", options.topic));
  const auto right = Table::Align::kRight;
  Table table({{"PARTITION", right},
               {"SHARD", right},
               {"START", right},
               {"END", right},
               {"MESSAGES", right},
               {"SIZE", right},
               {"BATCHES", right},
               {"PRODUCERS", right},
               {"LAST RECEIVED"}});
  Json list = Json::array();
  bool failed = false;
  for (const uint32_t wanted : options.partitions) {
    if (wanted >= all.size()) {
      throw CommandError(ExitCode::kNotFound, "UnknownPartition",
                         fmt::format("topic {} has no partition {}, only 0 to {}", options.topic,
                                     wanted, all.size() - 1));
    }
  }
  for (const client::PartitionDescription& partition : all) {
    if (!options.partitions.empty() &&
        std::ranges::count(options.partitions, partition.partition) == 0) {
      continue;
    }
    failed = failed || !partition.status.ok();
    add_row(table, partition);
    list.push_back(to_json(partition));
  }
  print_result(globals, table.to_string(),
               Json{{"topic", options.topic}, {"partitions", std::move(list)}}.dump());
  return static_cast<int>(failed ? ExitCode::kPartlyDone : ExitCode::kOk);
}

}  // namespace

void add_partition_commands(CLI::App& app, Globals& globals) {
  CLI::App* partition = app.add_subcommand("partition", "Offsets and sizes of partitions");
  partition->require_subcommand(1);
  const auto options = std::make_shared<PartitionOptions>();
  CLI::App* describe =
      partition->add_subcommand("describe", "Show offsets and sizes of a topic's partitions");
  add_topic_name(*describe, options->topic);
  describe
      ->add_option("--partition", options->partitions,
                   "Only this partition; may be given several times")
      ->allow_extra_args(false)
      ->type_name("N");
  describe->callback([&globals, options] {
    globals.action = [&globals, options] { return describe_partitions(globals, *options); };
  });
}

}  // namespace tidemark::tools
