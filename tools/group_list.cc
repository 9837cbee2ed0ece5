// tidemark group list|describe|lag
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/group.h"
#include "tools/group_view.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using client::GroupDescription;
using client::GroupLag;
using client::GroupMemberInfo;
using client::QueuePartitionInfo;

constexpr auto kRight = Table::Align::kRight;

std::string committed_text(const GroupLag& one) {
  return one.committed ? fmt::format("{}", *one.committed) : "none";
}

Json lag_json(const GroupLag& one) {
  return Json{{"topic", one.partition.topic},
              {"partition", one.partition.partition},
              {"committed", one.committed ? Json(*one.committed) : Json()},
              {"start_offset", one.start_offset},
              {"end_offset", one.end_offset},
              {"lag", one.lag},
              {"member", one.member.empty() ? Json() : Json(one.member)}};
}

Json position_json(const GroupLag& one) {
  Json object = lag_json(one);
  object["committed_ms"] = one.committed_ms ? Json(*one.committed_ms) : Json();
  object["shard"] = one.shard;
  object["epoch"] = one.epoch;
  return object;
}

Json member_json(const GroupMemberInfo& member) {
  Json assigned = Json::array();
  for (const client::TopicPartition& one : member.assigned) {
    assigned.push_back(Json{{"topic", one.topic}, {"partition", one.partition}});
  }
  Json object = Json{{"member", member.member}};
  add_bytes_field(object, "instance",
                  member.instance.empty() ? std::nullopt : std::optional(member.instance));
  object["topics"] = member.topics;
  object["assigned"] = std::move(assigned);
  object["heard_ms_ago"] = member.heard_ms_ago;
  object["session_timeout_ms"] = member.session_timeout_ms;
  return object;
}

Json group_json(const GroupDescription& group) {
  Json object = Json::object();
  add_bytes_field(object, "group", group.group);
  return object;
}

std::string members_table(const GroupDescription& group) {
  if (group.members.empty()) {
    return "no members\n";
  }
  Table table({{"MEMBER"}, {"INSTANCE"}, {"HEARD", kRight}, {"TIMEOUT", kRight}, {"PARTITIONS"}});
  for (const GroupMemberInfo& member : group.members) {
    table.add({member.member, group_text(member.instance),
               format_duration(member.heard_ms_ago) + " ago",
               format_duration(member.session_timeout_ms), partitions_text(member.assigned)});
  }
  return table.to_string();
}

std::string positions_table(const GroupDescription& group) {
  Table table({{"TOPIC"},
               {"PARTITION", kRight},
               {"COMMITTED", kRight},
               {"START", kRight},
               {"END", kRight},
               {"LAG", kRight},
               {"EPOCH", kRight},
               {"WHEN"},
               {"MEMBER"}});
  for (const GroupLag& one : group.partitions) {
    table.add({one.partition.topic, fmt::format("{}", one.partition.partition), committed_text(one),
               fmt::format("{}", one.start_offset), fmt::format("{}", one.end_offset),
               fmt::format("{}", one.lag), fmt::format("{}", one.epoch),
               one.committed_ms ? format_time(*one.committed_ms) : "", one.member});
  }
  return table.to_string();
}

Json queue_lag_json(const QueuePartitionInfo& queue) {
  return Json{{"topic", queue.topic},
              {"partition", queue.partition},
              {"floor", queue.floor},
              {"end_offset", queue.end_offset},
              {"unsettled", queue.unsettled}};
}

Json queue_json(const QueuePartitionInfo& queue) {
  Json object = queue_lag_json(queue);
  object["leased"] = queue.leased;
  object["retrying"] = queue.retrying;
  object["receivers"] = queue.receivers;
  object["acked"] = queue.acked;
  object["failed"] = queue.failed;
  object["dead_lettered"] = queue.dead_lettered;
  object["expired"] = queue.expired;
  object["filtered"] = queue.filtered;
  object["oldest_unsettled_ms"] =
      queue.oldest_unsettled_ms ? Json(*queue.oldest_unsettled_ms) : Json();
  object["shard"] = queue.shard;
  return object;
}

template <typename ToJson>
Json queues_json(const std::vector<QueuePartitionInfo>& queues, ToJson to_json) {
  Json list = Json::array();
  for (const QueuePartitionInfo& queue : queues) {
    list.push_back(to_json(queue));
  }
  return list;
}

std::string queues_table(const std::vector<QueuePartitionInfo>& queues) {
  Table table({{"QUEUE"},
               {"PARTITION", kRight},
               {"FLOOR", kRight},
               {"END", kRight},
               {"UNSETTLED", kRight},
               {"LEASED", kRight},
               {"RETRYING", kRight},
               {"DEAD", kRight},
               {"RECEIVERS", kRight},
               {"OLDEST"}});
  for (const QueuePartitionInfo& queue : queues) {
    table.add({queue.topic, fmt::format("{}", queue.partition), fmt::format("{}", queue.floor),
               fmt::format("{}", queue.end_offset), fmt::format("{}", queue.unsettled),
               fmt::format("{}", queue.leased), fmt::format("{}", queue.retrying),
               fmt::format("{}", queue.dead_lettered), fmt::format("{}", queue.receivers),
               queue.oldest_unsettled_ms ? format_time(*queue.oldest_unsettled_ms) : ""});
  }
  return table.to_string();
}

// One row a partition; a queue is one that nobody has for itself.
std::string lag_table(const GroupWork& work) {
  const GroupDescription& group = work.stream;
  Table table({{"TOPIC"},
               {"PARTITION", kRight},
               {"COMMITTED", kRight},
               {"END", kRight},
               {"LAG", kRight},
               {"MEMBER"}});
  for (const GroupLag& one : group.partitions) {
    table.add({one.partition.topic, fmt::format("{}", one.partition.partition), committed_text(one),
               fmt::format("{}", one.end_offset), fmt::format("{}", one.lag), one.member});
  }
  for (const QueuePartitionInfo& queue : work.queues) {
    table.add({queue.topic, fmt::format("{}", queue.partition), "(queue)",
               fmt::format("{}", queue.end_offset), fmt::format("{}", queue.unsettled), ""});
  }
  table.add({"total", "", "", "", fmt::format("{}", work.lag()), ""});
  return table.to_string();
}

}  // namespace

int list_groups(const Globals& globals, const GroupCommand& /*command*/) {
  Session session(globals);
  const auto all = require(groups_of(session).list(session.deadline_ms()), "groups");
  Table table({{"GROUP"}, {"MEMBERS", kRight}, {"PARTITIONS", kRight}, {"QUEUES", kRight}});
  Json list = Json::array();
  for (const client::GroupSummary& group : all) {
    table.add({group_text(group.group), fmt::format("{}", group.members),
               fmt::format("{}", group.partitions), fmt::format("{}", group.queues)});
    Json object = Json::object();
    add_bytes_field(object, "group", group.group);
    object["members"] = group.members;
    object["partitions"] = group.partitions;
    object["queues"] = group.queues;
    list.push_back(std::move(object));
  }
  print_result(globals, table.to_string(), dump_json(Json{{"groups", std::move(list)}}));
  return 0;
}

int describe_group(const Globals& globals, const GroupCommand& command) {
  Session session(globals);
  const GroupWork work = require_group_work(session, command.group);
  const GroupDescription& group = work.stream;
  Json object = group_json(group);
  object["generation"] = group.generation;
  object["lag"] = work.lag();
  Json members = Json::array();
  for (const GroupMemberInfo& member : group.members) {
    members.push_back(member_json(member));
  }
  object["members"] = std::move(members);
  Json partitions = Json::array();
  for (const GroupLag& one : group.partitions) {
    partitions.push_back(position_json(one));
  }
  object["partitions"] = std::move(partitions);
  object["queues"] = queues_json(work.queues, queue_json);
  std::string text =
      fmt::format("group       {}\ngeneration  {}\nlag         {}\n", group_text(group.group),
                  group.generation, format_count(work.lag()));
  if (work.queues.empty() || !group.members.empty() || !group.partitions.empty()) {
    text += fmt::format("\n{}\n{}", members_table(group), positions_table(group));
  }
  if (!work.queues.empty()) {
    text += "\n" + queues_table(work.queues);
  }
  print_result(globals, text, dump_json(object));
  return 0;
}

int show_group_lag(const Globals& globals, const GroupCommand& command) {
  Session session(globals);
  const GroupWork work = require_group_work(session, command.group);
  const GroupDescription& group = work.stream;
  Json object = group_json(group);
  object["lag"] = work.lag();
  Json partitions = Json::array();
  for (const GroupLag& one : group.partitions) {
    partitions.push_back(lag_json(one));
  }
  object["partitions"] = std::move(partitions);
  object["queues"] = queues_json(work.queues, queue_lag_json);
  print_result(globals, lag_table(work), dump_json(object));
  return 0;
}

}  // namespace tidemark::tools
