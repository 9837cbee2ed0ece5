// tidemark txn list|show|stats
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tools/cli.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/session.h"
#include "tools/txn.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using client::TransactionInfo;
using client::TransactionPart;

bool has_ended(const TransactionInfo& info) {
  return info.state == client::TransactionStateKind::kCommitted ||
         info.state == client::TransactionStateKind::kRolledBack;
}

Json to_json(const TransactionPart& part) {
  return Json{{"topic", part.topic},    {"partition", part.partition}, {"shard", part.shard},
              {"index", part.index},    {"messages", part.messages},   {"bytes", part.bytes},
              {"delayed", part.delayed}};
}

// Of an ended one only id and state: nothing else is known.
Json to_json(const TransactionInfo& info, int64_t now_ms) {
  Json object = Json{{"id", info.id.to_string()},
                     {"state", std::string(client::transaction_state_text(info.state))}};
  if (has_ended(info)) {
    return object;
  }
  add_bytes_field(object, "group", info.group);
  add_bytes_field(object, "reference", info.reference);
  object["born_ms"] = info.born_ms;
  object["age_ms"] = now_ms - info.born_ms;
  object["timeout_ms"] = info.timeout_ms;
  object["checks"] = info.checks;
  object["next_check_ms"] = info.next_check_ms ? Json(*info.next_check_ms) : Json();
  object["messages"] = messages_of(info);
  object["bytes"] = bytes_of(info);
  Json parts = Json::array();
  for (const TransactionPart& part : info.parts) {
    parts.push_back(to_json(part));
  }
  object["parts"] = std::move(parts);
  object["shards"] = info.shards;
  return object;
}

std::string next_check_text(const TransactionInfo& info, int64_t now_ms) {
  return info.next_check_ms ? format_span(*info.next_check_ms - now_ms) : std::string();
}

std::string list_table(const std::vector<TransactionInfo>& all, int64_t now_ms) {
  const auto right = Table::Align::kRight;
  Table table({{"ID"},
               {"STATE"},
               {"GROUP"},
               {"REFERENCE"},
               {"AGE", right},
               {"CHECKS", right},
               {"NEXT CHECK", right},
               {"MESSAGES", right},
               {"BYTES", right},
               {"TOPICS"}});
  for (const TransactionInfo& info : all) {
    table.add({info.id.to_string(), std::string(client::transaction_state_text(info.state)),
               printable(info.group), printable(info.reference), format_span(now_ms - info.born_ms),
               fmt::format("{}", info.checks), next_check_text(info, now_ms),
               fmt::format("{}", messages_of(info)), fmt::format("{}", bytes_of(info)),
               topics_text(info)});
  }
  return table.to_string();
}

std::string show_table(const TransactionInfo& info, int64_t now_ms) {
  std::string text = fmt::format("id          {}\nstate       {}\n", info.id.to_string(),
                                 client::transaction_state_text(info.state));
  if (has_ended(info)) {
    return text;
  }
  const auto add = [&text](std::string_view name, const std::string& value) {
    text += value.empty() ? "" : fmt::format("{:<11} {}\n", name, value);
  };
  add("group", printable(info.group));
  add("reference", printable(info.reference));
  add("begun",
      fmt::format("{}, {} ago", format_time(info.born_ms), format_span(now_ms - info.born_ms)));
  add("timeout", format_duration(info.timeout_ms));
  add("checks", fmt::format("{}", info.checks));
  if (info.next_check_ms) {
    add("next check",
        fmt::format("{}, in {}", format_time(*info.next_check_ms), next_check_text(info, now_ms)));
  }
  add("messages",
      fmt::format("{} in {}", format_count(messages_of(info)), format_bytes(bytes_of(info))));
  std::string shards;
  for (const uint16_t shard : info.shards) {
    shards += fmt::format("{}{}", shards.empty() ? "" : ", ", shard);
  }
  add("shards", shards);
  const auto right = Table::Align::kRight;
  Table table({{"INDEX", right},
               {"TOPIC"},
               {"PARTITION", right},
               {"SHARD", right},
               {"MESSAGES", right},
               {"BYTES", right},
               {"DELAYED"}});
  for (const TransactionPart& part : info.parts) {
    table.add({fmt::format("{}", part.index), part.topic, fmt::format("{}", part.partition),
               fmt::format("{}", part.shard), fmt::format("{}", part.messages),
               fmt::format("{}", part.bytes), part.delayed ? "yes" : "no"});
  }
  return text + "\n" + table.to_string();
}

Json to_json(const client::TransactionTotals& totals) {
  Json groups = Json::array();
  for (const client::TransactionGroupStats& group : totals.groups) {
    Json object = Json::object();
    add_bytes_field(object, "group", group.group);
    object["open"] = group.open;
    object["parked"] = group.parked;
    object["producers"] = group.producers;
    object["oldest_born_ms"] = group.oldest_born_ms ? Json(*group.oldest_born_ms) : Json();
    groups.push_back(std::move(object));
  }
  Json object = Json{{"now_ms", totals.now_ms}, {"groups", std::move(groups)}};
  object["open"] = totals.open;
  object["parked"] = totals.parked;
  object["halves"] = totals.halves;
  object["half_bytes"] = totals.half_bytes;
  object["unconfirmed"] = totals.unconfirmed;
  object["begun"] = totals.begun;
  object["committed"] = totals.committed;
  object["rolled_back"] = totals.rolled_back;
  object["checks"] = totals.checks;
  object["parkings"] = totals.parkings;
  object["refused"] = totals.refused;
  return object;
}

std::string stats_table(const client::TransactionTotals& totals) {
  const auto right = Table::Align::kRight;
  Table table(
      {{"GROUP"}, {"OPEN", right}, {"PARKED", right}, {"PRODUCERS", right}, {"OLDEST", right}});
  for (const client::TransactionGroupStats& group : totals.groups) {
    table.add({printable(group.group), format_count(group.open), format_count(group.parked),
               format_count(group.producers),
               group.oldest_born_ms ? format_span(totals.now_ms - *group.oldest_born_ms) : ""});
  }
  std::string text = table.to_string() + "\n";
  text += fmt::format("open         {}, and {} parked\n", format_count(totals.open),
                      format_count(totals.parked));
  text += fmt::format("stored       {} batches of half messages, {}\n", format_count(totals.halves),
                      format_bytes(totals.half_bytes));
  text += fmt::format("unconfirmed  {} ended, some shard has yet to follow\n",
                      format_count(totals.unconfirmed));
  text += fmt::format(
      "since start  {} begun, {} committed, {} rolled back, {} checks, {} parkings, {} refused\n",
      format_count(totals.begun), format_count(totals.committed), format_count(totals.rolled_back),
      format_count(totals.checks), format_count(totals.parkings), format_count(totals.refused));
  return text;
}

}  // namespace

int list_transactions(const Globals& globals, const TxnCommand& command) {
  Session session(globals);
  client::Transactions transactions = transactions_of(session);
  client::TransactionQuery query = query_of(command.selection);
  // One more tells whether there are more; beyond the largest page nobody knows.
  query.limit = std::min(command.limit + 1, kTxnPage);
  auto all = require(transactions.list(query, session.deadline_ms()), "transactions");
  Json more = all.size() > command.limit;
  if (command.limit == kTxnPage && all.size() == kTxnPage) {
    more = nullptr;
  }
  all.resize(std::min<size_t>(all.size(), command.limit));
  const int64_t now_ms = system_clock().wall().ms;
  Json list = Json::array();
  for (const TransactionInfo& info : all) {
    list.push_back(to_json(info, now_ms));
  }
  print_result(globals, list_table(all, now_ms),
               dump_json(Json{{"transactions", std::move(list)}, {"more", more}}));
  if (!globals.json && more == true) {
    note(fmt::format("there are more than {}: see --limit", command.limit));
  }
  return 0;
}

int show_transaction(const Globals& globals, const TxnCommand& command) {
  const client::TransactionId id = transaction_id_of(command.ids.front());
  Session session(globals);
  client::Transactions transactions = transactions_of(session);
  const TransactionInfo info = require(transactions.show(id, session.deadline_ms()),
                                       fmt::format("transaction {}", id.to_string()));
  const int64_t now_ms = system_clock().wall().ms;
  print_result(globals, show_table(info, now_ms), dump_json(to_json(info, now_ms)));
  return 0;
}

int show_transaction_stats(const Globals& globals, const TxnCommand& /*command*/) {
  Session session(globals);
  client::Transactions transactions = transactions_of(session);
  const client::TransactionTotals totals =
      require(transactions.stats(session.deadline_ms()), "transactions");
  print_result(globals, stats_table(totals), dump_json(to_json(totals)));
  return 0;
}

}  // namespace tidemark::tools
