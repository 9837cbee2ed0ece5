// tidemark delay list|show|stats|histogram
#include <algorithm>
#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tools/cli.h"
#include "tools/delay.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;

// Pending messages of a topic that are listed to be counted exactly, and topics that this is done
// for.
constexpr uint64_t kExactMax = kDelayPage;
constexpr size_t kExactTopicsMax = 100;
constexpr size_t kBarWidth = 50;

Json to_json(const client::DelayedMessage& message, int64_t now_ms) {
  Json object = Json::object();
  object["due_ms"] = message.due_ms;
  object["due"] = format_time(message.due_ms);
  object["in_ms"] = message.due_ms - now_ms;
  object["partition"] = message.partition;
  object["bytes"] = message.bytes;
  add_bytes_field(object, "key",
                  message.key.empty() ? std::nullopt : std::optional<std::string>(message.key));
  object["every_ms"] = message.every_ms > 0 ? Json(message.every_ms) : Json();
  object["cron"] = message.cron.empty() ? Json() : Json(message.cron);
  object["zone"] = message.zone.empty() ? Json() : Json(message.zone);
  object["handle"] = message.handle.to_string();
  return object;
}

std::string list_table(const std::vector<client::DelayedMessage>& messages, int64_t now_ms) {
  const auto right = Table::Align::kRight;
  Table table({{"DUE"},
               {"IN", right},
               {"PARTITION", right},
               {"BYTES", right},
               {"KEY"},
               {"RECURRING"},
               {"HANDLE"}});
  for (const client::DelayedMessage& message : messages) {
    table.add({format_time(message.due_ms), format_span(message.due_ms - now_ms),
               fmt::format("{}", message.partition), fmt::format("{}", message.bytes),
               printable(message.key), recurring_text(message), message.handle.to_string()});
  }
  return table.to_string();
}

std::string show_table(const std::string& topic, const client::DelayedMessage& message,
                       int64_t now_ms) {
  std::string text = fmt::format(
      "topic      {}\npartition  {}\ndue        {}, in {}\nbytes      {}\nhandle     {}\n", topic,
      message.partition, format_time(message.due_ms), format_span(message.due_ms - now_ms),
      message.bytes, message.handle.to_string());
  const auto add = [&text](std::string_view name, const std::string& value) {
    text += value.empty() ? "" : fmt::format("{:<10} {}\n", name, value);
  };
  add("delay key", printable(message.key));
  add("recurring", recurring_text(message));
  add("key", printable(message.message_key));
  for (const auto& [name, value] : message.headers) {
    add("header", name + "=" + printable(value));
  }
  return text + fmt::format("value      {}\n", printable(message.message_value));
}

// Where the messages of a topic lie; exactly, if they are few.
std::vector<DueSpan> spans_of_topic(client::Delays& delays, const Session& session,
                                    const client::DelayStats& stats, bool may_list) {
  if (!may_list || stats.pending > kExactMax) {
    return spans_of(stats);
  }
  return spans_of(require(delays.list(stats.topic, {.limit = kDelayPage}, session.deadline_ms()),
                          fmt::format("topic {}", stats.topic)));
}

// Of the topic; one with nothing pending has no entry in the broker's answer.
client::DelayStats stats_of_topic(client::Delays& delays, const Session& session,
                                  const std::string& topic) {
  const auto all =
      require(delays.stats(topic, session.deadline_ms()), fmt::format("topic {}", topic));
  if (!all.empty()) {
    return all.front();
  }
  client::DelayStats none;
  none.topic = topic;
  none.now_ms = system_clock().wall().ms;
  return none;
}

Json to_json(const client::DelayStats& stats, const Horizons& horizons,
             std::optional<int64_t> next_due_ms) {
  Json object = Json::object();
  object["topic"] = stats.topic;
  object["pending"] = stats.pending;
  object["bytes"] = stats.bytes;
  object["overdue"] = stats.overdue;
  object["now_ms"] = stats.now_ms;
  object["next_due_ms"] = next_due_ms ? Json(*next_due_ms) : Json();
  object["horizons"] = {{"1m", horizons.minute},
                        {"1h", horizons.hour},
                        {"1d", horizons.day},
                        {"30d", horizons.month},
                        {"more", horizons.more}};
  return object;
}

}  // namespace

int list_delays(const Globals& globals, const DelayCommand& command) {
  Session session(globals);
  client::Delays delays = delays_of(session);
  client::DelayQuery query = query_of(command);
  std::vector<client::DelayedMessage> messages;
  while (messages.size() < command.limit) {
    query.limit =
        static_cast<uint32_t>(std::min<uint64_t>(kDelayPage, command.limit - messages.size()));
    auto page = require(delays.list(command.topic, query, session.deadline_ms()),
                        fmt::format("topic {}", command.topic));
    const bool last = page.size() < query.limit;
    std::ranges::move(page, std::back_inserter(messages));
    if (last) {
      break;
    }
    query.after = messages.back().handle;
  }
  const int64_t now_ms = system_clock().wall().ms;
  if (!globals.json) {
    print(list_table(messages, now_ms));
    return 0;
  }
  Json list = Json::array();
  for (const client::DelayedMessage& message : messages) {
    list.push_back(to_json(message, now_ms));
  }
  print(dump_json(Json{{"topic", command.topic}, {"messages", std::move(list)}}) + "\n");
  return 0;
}

int show_delay(const Globals& globals, const DelayCommand& command) {
  const client::DelayTarget target = single_target(command);
  Session session(globals);
  client::Delays delays = delays_of(session);
  const client::DelayedMessage message =
      require(delays.show(command.topic, target, session.deadline_ms()),
              fmt::format("topic {}", command.topic));
  const int64_t now_ms = system_clock().wall().ms;
  Json object = Json{{"topic", command.topic}};
  object.update(to_json(message, now_ms));
  add_bytes_field(object, "message_key", message.message_key);
  add_bytes_field(object, "message_value", message.message_value);
  Json headers = Json::array();
  for (const auto& [name, value] : message.headers) {
    Json header = Json{{"name", name}};
    add_bytes_field(header, "value", value);
    headers.push_back(std::move(header));
  }
  object["headers"] = std::move(headers);
  print_result(globals, show_table(command.topic, message, now_ms), dump_json(object));
  return 0;
}

int show_delay_stats(const Globals& globals, const DelayCommand& command) {
  Session session(globals);
  client::Delays delays = delays_of(session);
  std::vector<client::DelayStats> all;
  if (command.topic.empty()) {
    all = require(delays.stats({}, session.deadline_ms()), "delayed messages");
  } else {
    all.push_back(stats_of_topic(delays, session, command.topic));
  }
  const auto right = Table::Align::kRight;
  Table table({{"TOPIC"},
               {"PENDING", right},
               {"BYTES", right},
               {"OVERDUE", right},
               {"NEXT DUE"},
               {"<1M", right},
               {"<1H", right},
               {"<1D", right},
               {"<30D", right},
               {"MORE", right}});
  Json list = Json::array();
  for (const client::DelayStats& stats : all) {
    const std::vector<DueSpan> spans =
        spans_of_topic(delays, session, stats, all.size() <= kExactTopicsMax);
    const Horizons horizons = horizons_of(spans, stats.now_ms);
    std::optional<int64_t> next_due_ms;
    for (const DueSpan& span : spans) {
      next_due_ms = std::min(next_due_ms.value_or(span.from_ms), span.from_ms);
    }
    table.add({stats.topic, format_count(stats.pending), format_bytes(stats.bytes),
               format_count(stats.overdue), next_due_ms ? format_time(*next_due_ms) : "never",
               format_count(horizons.minute), format_count(horizons.hour),
               format_count(horizons.day), format_count(horizons.month),
               format_count(horizons.more)});
    list.push_back(to_json(stats, horizons, next_due_ms));
  }
  print_result(globals, table.to_string(), dump_json(Json{{"topics", std::move(list)}}));
  return 0;
}

int show_delay_histogram(const Globals& globals, const DelayCommand& command) {
  Session session(globals);
  client::Delays delays = delays_of(session);
  const client::DelayStats stats = stats_of_topic(delays, session, command.topic);
  const DueBins bins =
      bins_of(spans_of_topic(delays, session, stats, true), stats.now_ms, command.bins);
  Json list = Json::array();
  for (const DueBins::Bin& bin : bins.bins) {
    list.push_back({{"from_ms", bin.from_ms}, {"to_ms", bin.to_ms}, {"messages", bin.messages}});
  }
  Json object = Json{{"topic", command.topic}, {"now_ms", stats.now_ms}};
  object["pending"] = stats.pending;
  object["overdue"] = bins.overdue;
  object["bin_ms"] = bins.width_ms;
  object["bins"] = std::move(list);
  const std::string text =
      fmt::format("{}: {} pending{}\n", command.topic, format_count(stats.pending),
                  bins.bins.empty() ? "" : ", a line for each " + format_duration(bins.width_ms));
  print_result(globals, text + draw_bins(bins, kBarWidth), dump_json(object));
  return 0;
}

}  // namespace tidemark::tools
