#include "tools/top_view.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

uint64_t whole(double value) { return to_count(value + 0.5); }

std::string span_text(double seconds) {
  return format_span(static_cast<int64_t>(to_count(std::floor(seconds) * 1e3)));
}

std::string count_text(double value) { return format_count(whole(value)); }

std::string state_text(const TopView& view) {
  std::string out;
  const auto add = [&out](double shards, const char* what) {
    if (shards > 0) {
      out += fmt::format("{}{} shard{} {}", out.empty() ? "" : ", ", count_text(shards),
                         shards == 1 ? "" : "s", what);
    }
  };
  add(view.not_ready, "not ready");
  add(view.read_only, "read-only");
  add(view.disk_full, "with a full disk");
  return out.empty() ? "ready" : out;
}

std::string groups_table(const std::vector<GroupState>& groups, size_t groups_max) {
  std::vector<GroupState> shown = groups;
  std::ranges::stable_sort(shown, std::ranges::greater(), &GroupState::lag);
  shown.resize(std::min(shown.size(), groups_max));
  const auto right = Table::Align::kRight;
  Table table({{"GROUP"}, {"MEMBERS", right}, {"PARTITIONS", right}, {"LAG", right}});
  for (const GroupState& one : shown) {
    table.add({printable(one.group), format_count(one.members), format_count(one.partitions),
               format_count(one.lag)});
  }
  return "\n" + table.to_string();
}

uint64_t total_letters(const std::vector<DeadLetters>& topics) {
  uint64_t sum = 0;
  for (const DeadLetters& one : topics) {
    sum += one.letters;
  }
  return sum;
}

// ": mails-dead 3, orders-dead 1"; those with the most.
std::string where_text(const std::vector<DeadLetters>& topics) {
  constexpr size_t kTopicsShown = 3;
  std::vector<DeadLetters> shown = topics;
  std::ranges::stable_sort(shown, std::ranges::greater(), &DeadLetters::letters);
  std::string out;
  for (size_t i = 0; i < std::min(shown.size(), kTopicsShown) && shown[i].letters > 0; ++i) {
    out +=
        fmt::format("{} {} {}", i == 0 ? ":" : ",", shown[i].topic, format_count(shown[i].letters));
  }
  return out;
}

Json letters_json(const std::vector<DeadLetters>& topics) {
  Json list = Json::array();
  for (const DeadLetters& one : topics) {
    list.push_back(Json{{"topic", one.topic}, {"letters", one.letters}});
  }
  return list;
}

}  // namespace

TopView compare(const BrokerMetrics& before, const BrokerMetrics& after, double seconds) {
  TopView view;
  view.seconds = seconds;
  const auto now = [&after](std::string_view name) { return after.sum(name).value_or(0); };
  // A broker that was started in between counts from 0 again.
  const auto grown = [&before, &now](std::string_view name) {
    return std::max(0.0, now(name) - before.sum(name).value_or(0));
  };
  const auto rate = [&grown, seconds](std::string_view name) {
    return seconds > 0 ? grown(name) / seconds : 0;
  };
  view.messages_in = rate("tidemark_messages_in_total");
  view.bytes_in = rate("tidemark_bytes_in_total");
  view.messages_out = rate("tidemark_messages_out_total");
  view.bytes_out = rate("tidemark_bytes_out_total");
  view.delays_fired = rate("tidemark_delays_fired_total");
  view.log_written = rate("tidemark_log_written_bytes_total");
  view.syncs = rate("tidemark_log_syncs_total");
  const double syncs = grown("tidemark_log_syncs_total");
  view.sync_ms = syncs > 0 ? grown("tidemark_log_sync_seconds_total") * 1'000 / syncs : 0;
  view.sync_ms_max = after.max("tidemark_log_sync_seconds_max").value_or(0) * 1'000;
  view.delays_pending = now("tidemark_delays_pending");
  view.delays_overdue = now("tidemark_delays_overdue");
  view.txn_open = now("tidemark_txn_open");
  view.txn_parked = now("tidemark_txn_parked");
  view.txn_oldest_s = after.max("tidemark_txn_oldest_age_seconds").value_or(0);
  view.connections = now("tidemark_connections");
  view.log_bytes = now("tidemark_log_file_bytes");
  view.uptime_s = now("tidemark_uptime_seconds");
  view.memory_bytes = now("tidemark_resident_memory_bytes");
  view.not_ready = after.zeros("tidemark_shard_ready").value_or(0);
  view.read_only = now("tidemark_shard_read_only");
  view.disk_full = now("tidemark_shard_disk_full");
  return view;
}

uint64_t total_lag(const std::vector<GroupState>& groups) {
  uint64_t sum = 0;
  for (const GroupState& one : groups) {
    sum += one.lag;
  }
  return sum;
}

std::string top_text(const TopView& view, size_t groups_max) {
  std::string text =
      fmt::format("broker   {}, up {}, {} connections, {} of memory\n", state_text(view),
                  span_text(view.uptime_s), count_text(view.connections),
                  format_bytes(whole(view.memory_bytes)));
  text += fmt::format("in       {} messages/s, {}/s\n", count_text(view.messages_in),
                      format_megabytes(view.bytes_in));
  text += fmt::format("out      {} messages/s, {}/s\n", count_text(view.messages_out),
                      format_megabytes(view.bytes_out));
  text += fmt::format("delays   {} pending, {} overdue, {} delivered/s\n",
                      count_text(view.delays_pending), count_text(view.delays_overdue),
                      count_text(view.delays_fired));
  text += fmt::format("txns     {} open, {} parked, oldest {}\n", count_text(view.txn_open),
                      count_text(view.txn_parked), span_text(view.txn_oldest_s));
  text += fmt::format("log      {}, {}/s written, {} syncs/s of {:.2f} ms, longest {:.2f} ms\n",
                      format_bytes(whole(view.log_bytes)), format_megabytes(view.log_written),
                      count_text(view.syncs), view.sync_ms, view.sync_ms_max);
  if (!view.dead_letters) {
    text += "dead     no answer\n";
  } else if (!view.dead_letters->empty()) {
    text += fmt::format("dead     {} letters{}\n", format_count(total_letters(*view.dead_letters)),
                        where_text(*view.dead_letters));
  }
  if (!view.groups) {
    return text + "groups   no answer\n";
  }
  text += fmt::format("groups   {}, lag {}\n", format_count(view.groups->size()),
                      format_count(total_lag(*view.groups)));
  return view.groups->empty() ? text : text + groups_table(*view.groups, groups_max);
}

Json top_json(const TopView& view) {
  Json object = Json{{"seconds", view.seconds}};
  object["broker"] = {
      {"uptime_seconds", view.uptime_s},           {"memory_bytes", whole(view.memory_bytes)},
      {"connections", whole(view.connections)},    {"shards_not_ready", whole(view.not_ready)},
      {"shards_read_only", whole(view.read_only)}, {"shards_disk_full", whole(view.disk_full)}};
  object["in"] = {{"messages_per_second", view.messages_in}, {"bytes_per_second", view.bytes_in}};
  object["out"] = {{"messages_per_second", view.messages_out},
                   {"bytes_per_second", view.bytes_out}};
  object["delays"] = {{"pending", whole(view.delays_pending)},
                      {"overdue", whole(view.delays_overdue)},
                      {"fired_per_second", view.delays_fired}};
  object["transactions"] = {{"open", whole(view.txn_open)},
                            {"parked", whole(view.txn_parked)},
                            {"oldest_age_ms", whole(view.txn_oldest_s * 1'000)}};
  object["log"] = {{"bytes", whole(view.log_bytes)},
                   {"written_bytes_per_second", view.log_written},
                   {"syncs_per_second", view.syncs},
                   {"sync_ms", view.sync_ms},
                   {"sync_ms_max", view.sync_ms_max}};
  object["dead_letters"] = view.dead_letters ? letters_json(*view.dead_letters) : Json();
  if (!view.groups) {
    object["lag"] = nullptr;
    object["groups"] = nullptr;
    return object;
  }
  object["lag"] = total_lag(*view.groups);
  Json groups = Json::array();
  for (const GroupState& one : *view.groups) {
    Json group = Json::object();
    add_bytes_field(group, "group", one.group);
    group["members"] = one.members;
    group["partitions"] = one.partitions;
    group["lag"] = one.lag;
    groups.push_back(std::move(group));
  }
  object["groups"] = std::move(groups);
  return object;
}

}  // namespace tidemark::tools
