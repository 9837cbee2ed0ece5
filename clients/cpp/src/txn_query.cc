// Looking at transactions: list, show, statistics; and where the shards of the cluster are.
#include <algorithm>
#include <tuple>

#include "clients/cpp/src/txn_calls.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

using Infos = std::vector<client::TransactionInfo>;

client::TransactionId to_id(const fbs::TxnId* id) {
  return id == nullptr
             ? client::TransactionId{}
             : client::TransactionId{
                   .producer = id->producer(), .number = id->number(), .shard = id->shard()};
}

void take_parts(const fbs::TxnInfo& info, uint16_t shard,
                const std::map<uint32_t, std::string>& names, client::TransactionInfo& out) {
  if (info.halves() == nullptr) {
    return;
  }
  for (const fbs::TxnHalf* half : *info.halves()) {
    const auto name = names.find(half->topic());
    out.parts.push_back(
        {.topic = name != names.end() ? name->second : "#" + std::to_string(half->topic()),
         .partition = half->partition(),
         .shard = shard,
         .index = half->index(),
         .messages = half->messages(),
         .bytes = half->bytes(),
         .delayed = half->delayed()});
  }
}

client::TransactionInfo to_info(const fbs::TxnInfo& info, uint16_t shard,
                                const std::map<uint32_t, std::string>& names) {
  client::TransactionInfo out;
  out.id = to_id(info.txn());
  out.state = to_state(info.state());
  out.group = protocol::view(info.group());
  out.reference = protocol::view(info.reference());
  out.born_ms = info.born_ms();
  out.timeout_ms = info.timeout_ms();
  out.checks = info.checks();
  if (info.next_check_ms() >= 0) {
    out.next_check_ms = info.next_check_ms();
  }
  if (info.shards() != nullptr) {
    out.shards.assign(info.shards()->begin(), info.shards()->end());
  }
  take_parts(info, shard, names, out);
  return out;
}

// --- list ---

// How far one shard has been listed.
struct Page {
  client::TransactionId after;
  bool more = true;
  size_t count = 0;
};

fbs::TxnState wire_state(client::TransactionStateKind state) {
  switch (state) {
    case client::TransactionStateKind::kOpen:
      return fbs::TxnState::kOpen;
    case client::TransactionStateKind::kParked:
      return fbs::TxnState::kParked;
    case client::TransactionStateKind::kNone:
    case client::TransactionStateKind::kCommitted:
    case client::TransactionStateKind::kRolledBack:
      break;
  }
  return fbs::TxnState::kNone;
}

Buffer build_list(const client::TransactionQuery& query, uint32_t topic, const Page& page) {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto group = builder.CreateString(query.group);
  const fbs::TxnId after = to_wire(page.after);
  const auto wanted = static_cast<uint32_t>(query.limit - page.count);
  builder.Finish(fbs::CreateTxnList(builder, group, wire_state(query.state), topic,
                                    query.born_before_ms, page.after.empty() ? nullptr : &after,
                                    wanted));
  return finished_copy(builder);
}

Status take_page(const Reply& reply, uint16_t shard, const std::map<uint32_t, std::string>& names,
                 Page& page, Infos& out) {
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::TxnListReply>(reply);
  if (table.items() != nullptr) {
    for (const fbs::TxnInfo* info : *table.items()) {
      out.push_back(to_info(*info, shard, names));
      ++page.count;
    }
  }
  const client::TransactionId next = to_id(table.next());
  const bool further =
      std::tie(next.producer, next.number) > std::tie(page.after.producer, page.after.number);
  page.more = table.more();
  if (page.more && !further) {
    return {ErrorCode::kMalformed, "TxnListReply promises more and does not go on"};
  }
  page.after = next;
  return {};
}

Result<uint32_t> topic_id(const std::map<uint32_t, std::string>& names, const std::string& topic) {
  if (topic.empty()) {
    return 0u;
  }
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&](const auto& each) { return each.second == topic; });
  if (found == names.end()) {
    return Status(ErrorCode::kUnknownTopic, "topic \"" + topic + "\" does not exist");
  }
  return found->first;
}

Result<Infos> list_once(Asker& asker, const client::TransactionQuery& query) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  ASSIGN_OR_RETURN(const uint32_t topic, topic_id(shards.names, query.topic));
  std::vector<Page> pages(shards.homes.size());
  Infos out;
  while (true) {
    std::map<Home, Buffer> tables;
    for (size_t i = 0; i < pages.size(); ++i) {
      if (pages[i].more && pages[i].count < query.limit) {
        tables[shards.homes[i]] = build_list(query, topic, pages[i]);
      }
    }
    if (tables.empty()) {
      break;
    }
    for (const auto& [home, reply] : asker.ask_homes(FrameType::kTxnList, std::move(tables))) {
      RETURN_IF_ERROR(take_page(reply, home.second, shards.names, pages[home.second], out));
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tie(a.born_ms, a.id) < std::tie(b.born_ms, b.id);
  });
  out.resize(std::min<size_t>(out.size(), query.limit));
  return out;
}

// --- show ---

std::map<Home, Buffer> show_tables(const client::TransactionId& id,
                                   const std::vector<Home>& homes) {
  flatbuffers::FlatBufferBuilder builder(64);
  const fbs::TxnId wire = to_wire(id);
  builder.Finish(fbs::CreateTxnShow(builder, &wire));
  std::map<Home, Buffer> tables;
  for (const Home& home : homes) {
    tables[home] = finished_copy(builder);
  }
  return tables;
}

// What a shard knows; null: nothing.
Result<const fbs::TxnInfo*> info_of(const Reply& reply) {
  if (reply.status.code() == ErrorCode::kNotFound) {
    return nullptr;
  }
  RETURN_IF_ERROR(reply.status);
  return table_of<fbs::TxnShowReply>(reply).info();
}

Result<client::TransactionInfo> show_once(Asker& asker, const client::TransactionId& id) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  const Status unknown(ErrorCode::kNotFound, "no transaction " + id.to_string() + " is known");
  if (id.shard >= shards.homes.size()) {
    return unknown;
  }
  // The coordinating shard first: what the others have is read when it is known how it stands.
  const auto first =
      asker.ask_homes(FrameType::kTxnShow, show_tables(id, {shards.homes[id.shard]}));
  ASSIGN_OR_RETURN(const fbs::TxnInfo* const info, info_of(first.begin()->second));
  client::TransactionInfo out;
  if (info != nullptr) {
    out = to_info(*info, id.shard, shards.names);
  }
  out.id = id;
  std::vector<Home> others = shards.homes;
  others.erase(others.begin() + id.shard);
  const auto replies = asker.ask_homes(FrameType::kTxnShow, show_tables(id, others));
  for (const auto& [home, reply] : replies) {
    ASSIGN_OR_RETURN(const fbs::TxnInfo* const part, info_of(reply));
    if (part == nullptr || part->halves() == nullptr || part->halves()->size() == 0) {
      continue;
    }
    take_parts(*part, home.second, shards.names, out);
    if (std::find(out.shards.begin(), out.shards.end(), home.second) == out.shards.end()) {
      out.shards.push_back(home.second);
    }
  }
  if (info == nullptr && out.parts.empty()) {
    return unknown;
  }
  std::sort(out.parts.begin(), out.parts.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
  std::sort(out.shards.begin(), out.shards.end());
  return out;
}

// --- statistics ---

void add_groups(const fbs::TxnStatsReply& table,
                std::map<std::string, client::TransactionGroupStats>& groups) {
  if (table.groups() == nullptr) {
    return;
  }
  for (const fbs::TxnGroupStats* from : *table.groups()) {
    client::TransactionGroupStats& sum = groups[std::string(protocol::view(from->group()))];
    sum.open += from->open();
    sum.parked += from->parked();
    // Each producer has a poll at every shard.
    sum.producers = std::max(sum.producers, from->producers());
    if (from->oldest_born_ms() >= 0) {
      sum.oldest_born_ms = std::min(sum.oldest_born_ms.value_or(INT64_MAX), from->oldest_born_ms());
    }
  }
}

void add_totals(const fbs::TxnStatsReply& table, client::TransactionTotals& sum) {
  sum.now_ms = std::max(sum.now_ms, table.now_ms());
  sum.open += table.open();
  sum.parked += table.parked();
  sum.halves += table.halves();
  sum.half_bytes += table.half_bytes();
  sum.unconfirmed += table.unconfirmed();
  sum.begun += table.begun();
  sum.committed += table.committed();
  sum.rolled_back += table.rolled_back();
  sum.checks += table.checks();
  sum.parkings += table.parkings();
  sum.refused += table.refused();
}

Result<client::TransactionTotals> totals_once(Asker& asker) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  flatbuffers::FlatBufferBuilder builder(64);
  builder.Finish(fbs::CreateTxnStats(builder));
  std::map<Home, Buffer> tables;
  for (const Home& home : shards.homes) {
    tables[home] = finished_copy(builder);
  }
  const auto replies = asker.ask_homes(FrameType::kTxnStats, std::move(tables));
  RETURN_IF_ERROR(first_failure(replies));
  client::TransactionTotals out;
  std::map<std::string, client::TransactionGroupStats> groups;
  for (const auto& [home, reply] : replies) {
    const auto& table = table_of<fbs::TxnStatsReply>(reply);
    add_totals(table, out);
    add_groups(table, groups);
  }
  for (auto& [name, group] : groups) {
    group.group = name;
    out.groups.push_back(std::move(group));
  }
  return out;
}

}  // namespace

Result<ClusterShards> find_shards(Asker& asker) {
  // Its answer names the brokers, and with it there was a handshake.
  ASSIGN_OR_RETURN(const std::vector<client::TopicDescription> topics, find_all_topics(asker));
  const BrokerFacts facts = asker.facts();
  ClusterShards out;
  for (uint16_t shard = 0; shard < facts.shards; ++shard) {
    out.homes.emplace_back(facts.node_id, shard);
  }
  for (const client::TopicDescription& topic : topics) {
    out.names[topic.id] = topic.name;
    for (const client::PartitionPlace& place : topic.partitions) {
      if (place.shard < out.homes.size()) {
        out.homes[place.shard] = home_of(place);
      }
    }
  }
  return out;
}

client::TransactionStateKind to_state(fbs::TxnState state) {
  switch (state) {
    case fbs::TxnState::kOpen:
      return client::TransactionStateKind::kOpen;
    case fbs::TxnState::kParked:
      return client::TransactionStateKind::kParked;
    case fbs::TxnState::kCommitted:
      return client::TransactionStateKind::kCommitted;
    case fbs::TxnState::kRolledBack:
      return client::TransactionStateKind::kRolledBack;
    case fbs::TxnState::kNone:
      break;
  }
  return client::TransactionStateKind::kNone;
}

Result<Infos> list_transactions(Asker& asker, const client::TransactionQuery& query) {
  if (query.limit < 1 || query.limit > limits::kTxnListMax) {
    return Status(ErrorCode::kInvalidArgument, "limit is " + std::to_string(query.limit) +
                                                   "; allowed are 1 to " +
                                                   std::to_string(limits::kTxnListMax));
  }
  if (query.state == client::TransactionStateKind::kCommitted ||
      query.state == client::TransactionStateKind::kRolledBack) {
    return Status(ErrorCode::kInvalidArgument,
                  "listed are transactions that have not ended: open or parked ones");
  }
  return until_answered<Infos>(asker, [&] { return list_once(asker, query); });
}

Result<client::TransactionInfo> show_transaction(Asker& asker, const client::TransactionId& id) {
  return until_answered<client::TransactionInfo>(asker, [&] { return show_once(asker, id); });
}

Result<client::TransactionTotals> transaction_totals(Asker& asker) {
  return until_answered<client::TransactionTotals>(asker, [&] { return totals_once(asker); });
}

}  // namespace tidemark::client_core
