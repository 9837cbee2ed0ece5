// tidemark group reset|delete
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tools/change_counts.h"
#include "tools/confirm.h"
#include "tools/group.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/partition_ranges.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using client::GroupDescription;

StartPoint parse_target(const std::string& text) {
  const Result<StartPoint> to = parse_start_point(text, system_clock().wall().ms);
  if (!to.ok()) {
    throw usage_error(fmt::format("--to: {}", to.error().context()));
  }
  return *to;
}

client::Position position_of(const StartPoint& to) {
  switch (to.kind) {
    case StartPoint::Kind::kStart:
      return client::Position::start();
    case StartPoint::Kind::kEnd:
      return client::Position::end();
    case StartPoint::Kind::kOffset:
      return client::Position::offset(to.offset);
    case StartPoint::Kind::kTime:
      return client::Position::timestamp(to.time_ms);
  }
  return client::Position::start();
}

// Positions before, then after; as a table or as JSON.
class ResetReport {
 public:
  ResetReport(const GroupCommand& command, const GroupDescription& before)
      : command_(command),
        table_({{"PARTITION", Table::Align::kRight},
                {"BEFORE", Table::Align::kRight},
                {"AFTER", Table::Align::kRight},
                {"OUTCOME"}}) {
    for (const client::GroupLag& one : before.partitions) {
      if (one.partition.topic == command.topic && one.committed) {
        before_[one.partition.partition] = *one.committed;
      }
    }
  }

  // Of a dry run.
  void add_selected(uint32_t partition, uint64_t offset) {
    add_line(partition, offset, "selected");
    ++selected_;
  }

  void add(const client::GroupResetResult& result) {
    const client::ErrorCode code = result.status.code();
    if (result.status.ok()) {
      ++counts_.done;
      add_line(result.partition.partition, result.offset, "reset");
      return;
    }
    if (code == client::ErrorCode::kConflict) {
      counts_.add_conflict("in use by a member");
    } else {
      counts_.add_failure(code);
    }
    add_line(result.partition.partition, {}, "failed");
    results_.back()["error"] = {{"code", client::error_name(code)},
                                {"message", result.status.to_string()}};
  }

  void print_all(const Globals& globals) {
    Json object = Json::object();
    add_bytes_field(object, "group", command_.group);
    object["topic"] = command_.topic;
    if (command_.dry_run) {
      object["dry_run"] = true;
      object["matching"] = selected_;
    } else {
      object["reset"] = counts_.done;
      object["failed"] = counts_.total() - counts_.done;
    }
    object["results"] = std::move(results_);
    print_result(globals, table_.to_string(), dump_json(object));
  }

  [[nodiscard]] const ChangeCounts& counts() const { return counts_; }

 private:
  void add_line(uint32_t partition, std::optional<uint64_t> offset, const char* outcome) {
    const auto at = before_.find(partition);
    const bool had = at != before_.end();
    table_.add({fmt::format("{}", partition), had ? fmt::format("{}", at->second) : "none",
                offset ? fmt::format("{}", *offset) : "", outcome});
    results_.push_back(Json{{"partition", partition},
                            {"before", had ? Json(at->second) : Json()},
                            {"after", offset ? Json(*offset) : Json()},
                            {"outcome", outcome}});
  }

  const GroupCommand& command_;
  std::map<uint32_t, uint64_t> before_;
  Table table_;
  Json results_ = Json::array();
  ChangeCounts counts_;
  uint64_t selected_ = 0;
};

void refuse_members(const GroupDescription& group, const std::string& unless) {
  if (!group.members.empty()) {
    throw CommandError(ExitCode::kConflict, "Conflict",
                       fmt::format("group {} has {} member{}: stop {}{}", group_text(group.group),
                                   group.members.size(), group.members.size() == 1 ? "" : "s",
                                   group.members.size() == 1 ? "it" : "them", unless));
  }
}

}  // namespace

int reset_group(const Globals& globals, const GroupCommand& command) {
  const StartPoint to = parse_target(command.to);
  Session session(globals);
  const GroupWork work = require_group_work(session, command.group);
  const GroupDescription& group = work.stream;
  if (!work.queues.empty() && group.partitions.empty() && group.members.empty()) {
    throw CommandError(
        ExitCode::kNotFound, "NotFound",
        fmt::format("group {} works in queue mode and has no positions: group delete "
                    "makes everything unsettled again",
                    group_text(command.group)));
  }
  if (!command.force) {
    refuse_members(group, ", or use --force");
  }
  const PartitionRanges ranges = resolve_ranges(session, command.topic, command.partitions, to);
  ResetReport report(command, group);
  if (command.dry_run) {
    for (const PartitionRanges::Range& range : ranges.ranges()) {
      report.add_selected(range.partition, range.next);
    }
    report.print_all(globals);
    return 0;
  }
  const std::string name = group_text(command.group);
  if (!command.yes) {
    confirm(
        fmt::format("group reset {} moves {} positions", name, ranges.ranges().size()),
        fmt::format("Set {} positions of group {} in topic {} to {}? Type the name of the group "
                    "to confirm: ",
                    ranges.ranges().size(), name, command.topic, command.to),
        command.group, "nothing was changed");
  }
  std::vector<client::GroupReset> resets;
  for (const PartitionRanges::Range& range : ranges.ranges()) {
    resets.push_back({.partition = {command.topic, range.partition}, .to = position_of(to)});
  }
  const auto results =
      require(groups_of(session).reset(command.group, resets, command.force, session.deadline_ms()),
              fmt::format("group {}", name));
  for (const client::GroupResetResult& result : results) {
    report.add(result);
  }
  report.print_all(globals);
  throw_unless_all_done(report.counts(),
                        {.noun = "position", .done = "set", .conflict_name = "Conflict"});
  return 0;
}

int delete_group(const Globals& globals, const GroupCommand& command) {
  const std::string name = group_text(command.group);
  if (!command.yes) {
    confirm(fmt::format("group delete {} forgets its positions and what it acked", name),
            fmt::format("Delete group {}, its positions and what it acked? Type its name to "
                        "confirm: ",
                        name),
            command.group, fmt::format("group {} was not deleted", name));
  }
  Session session(globals);
  const uint64_t positions =
      require(groups_of(session).remove(command.group, session.deadline_ms()),
              fmt::format("group {}", name));
  Json object = Json::object();
  add_bytes_field(object, "group", command.group);
  object["deleted"] = true;
  object["positions"] = positions;
  print_result(globals, fmt::format("deleted {}, {} positions\n", name, format_count(positions)),
               dump_json(object));
  return 0;
}

}  // namespace tidemark::tools
