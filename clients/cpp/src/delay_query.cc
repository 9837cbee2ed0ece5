// Looking at pending messages: list, show, statistics; and which shard a target belongs to.
#include <algorithm>
#include <limits>
#include <tuple>

#include "clients/cpp/src/delay_calls.h"
#include "clients/cpp/src/delay_item.h"
#include "log/format/record_batch.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;
using Messages = std::vector<client::DelayedMessage>;

client::DelayedMessage to_message(const fbs::DelayInfo& info, uint16_t shard) {
  client::DelayedMessage out;
  out.partition = info.partition();
  out.handle.shard = shard;
  out.handle.topic = info.topic();
  out.handle.tag = info.tag();
  out.handle.due_ms = info.due_ms();
  out.handle.id = info.id();
  out.handle.position = info.position();
  out.due_ms = info.due_ms();
  out.bytes = info.bytes();
  out.key = protocol::view(info.key());
  out.every_ms = info.every_ms();
  out.cron = protocol::view(info.cron());
  out.zone = protocol::view(info.zone());
  return out;
}

// Ids are those of a shard: two shards may have the same one.
auto order_of(const client::DelayHandle& handle) {
  return std::tuple(handle.due_ms, handle.id, handle.shard);
}

// --- list ---

// What one shard has listed so far and not given to the caller, and from where it goes on.
struct Cursor {
  Home home;
  int64_t after_due_ms = -1;
  uint64_t after_id = 0;
  bool more = true;
  Messages items;
  size_t next = 0;

  [[nodiscard]] bool empty() const { return next == items.size(); }

  [[nodiscard]] const client::DelayedMessage& front() const { return items[next]; }
};

Cursor first_page(const Home& home, const client::DelayQuery& query) {
  Cursor cursor{.home = home, .items = {}};
  cursor.after_due_ms = std::max<int64_t>(query.due_from_ms, 0) - 1;
  cursor.after_id = std::numeric_limits<uint64_t>::max();
  if (query.after && !query.after->empty() && query.after->due_ms > cursor.after_due_ms) {
    // Of equal messages on several shards, those of higher shards come behind.
    cursor.after_due_ms = query.after->due_ms;
    cursor.after_id = home.second > query.after->shard ? query.after->id - 1 : query.after->id;
  }
  return cursor;
}

Status take_page(Cursor& cursor, const Reply& reply) {
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::DelayListReply>(reply);
  cursor.items.clear();
  cursor.next = 0;
  cursor.more = table.more();
  if (table.items() != nullptr) {
    for (const fbs::DelayInfo* info : *table.items()) {
      if (std::tuple(info->due_ms(), info->id()) <=
          std::tuple(cursor.after_due_ms, cursor.after_id)) {
        return Status(ErrorCode::kMalformed, "DelayListReply is not in order");
      }
      cursor.after_due_ms = info->due_ms();
      cursor.after_id = info->id();
      cursor.items.push_back(to_message(*info, cursor.home.second));
    }
  }
  if (cursor.more && cursor.items.empty()) {
    return Status(ErrorCode::kMalformed, "DelayListReply promises more and has nothing");
  }
  return {};
}

// Asks every shard that may have more and has nothing to give.
Status fill_cursors(Asker& asker, const client::TopicDescription& topic,
                    const client::DelayQuery& query, uint32_t limit, std::vector<Cursor>& cursors) {
  std::map<Home, Buffer> tables;
  for (const Cursor& cursor : cursors) {
    if (!cursor.empty() || !cursor.more) {
      continue;
    }
    flatbuffers::FlatBufferBuilder builder(64);
    builder.Finish(fbs::CreateDelayList(
        builder, topic.id, query.partition ? static_cast<int32_t>(*query.partition) : -1,
        query.due_to_ms, cursor.after_due_ms, cursor.after_id, limit));
    tables[cursor.home] = finished_copy(builder);
  }
  if (tables.empty()) {
    return {};
  }
  const auto replies = asker.ask_homes(FrameType::kDelayList, std::move(tables));
  for (Cursor& cursor : cursors) {
    const auto reply = replies.find(cursor.home);
    if (reply != replies.end()) {
      RETURN_IF_ERROR(take_page(cursor, reply->second));
    }
  }
  return {};
}

Result<Messages> list_once(Asker& asker, const client::TopicDescription& topic,
                           const client::DelayQuery& query) {
  std::vector<Cursor> cursors;
  if (query.partition) {
    ASSIGN_OR_RETURN(const client::PartitionPlace place, place_of(topic, query.partition, {}));
    cursors.push_back(first_page(home_of(place), query));
  } else {
    for (const Home& home : homes_of(topic)) {
      cursors.push_back(first_page(home, query));
    }
  }
  Messages out;
  while (out.size() < query.limit) {
    const auto wanted = static_cast<uint32_t>(query.limit - out.size());
    RETURN_IF_ERROR(fill_cursors(asker, topic, query, wanted, cursors));
    Cursor* first = nullptr;
    for (Cursor& cursor : cursors) {
      if (!cursor.empty() &&
          (first == nullptr || order_of(cursor.front().handle) < order_of(first->front().handle))) {
        first = &cursor;
      }
    }
    if (first == nullptr) {
      break;
    }
    out.push_back(std::move(first->items[first->next++]));
  }
  return out;
}

// --- show ---

Status not_pending(fbs::DelayOutcome outcome) {
  return {ErrorCode::kNotFound, outcome == fbs::DelayOutcome::kAlreadyDelivered
                                    ? "the message was delivered already"
                                    : "no such message is pending"};
}

Status take_content(ByteView batch, client::DelayedMessage& out) {
  RETURN_IF_ERROR(format::verify_batch(batch).status());
  ASSIGN_OR_RETURN(format::BatchReader reader, format::BatchReader::open(batch));
  format::RecordView record;
  if (!reader.next(record)) {
    return {ErrorCode::kMalformed, "the batch of a delayed message has no message"};
  }
  if (record.has_key) {
    out.message_key = std::string(as_text(record.key));
  }
  if (record.has_value) {
    out.message_value = std::string(as_text(record.value));
  }
  format::HeaderCursor headers(record.headers, record.header_count);
  format::HeaderView header;
  while (headers.next(header)) {
    out.headers.emplace_back(
        std::string(header.key),
        header.has_value ? std::optional(std::string(as_text(header.value))) : std::nullopt);
  }
  return {};
}

Result<client::DelayedMessage> show_once(Asker& asker, const client::TopicDescription& topic,
                                         const client::DelayTarget& target) {
  ASSIGN_OR_RETURN(const Home home, home_of(topic, target));
  flatbuffers::FlatBufferBuilder builder(256);
  builder.Finish(fbs::CreateDelayShow(builder, build_ref(builder, topic, target)));
  std::map<Home, Buffer> tables;
  tables[home] = finished_copy(builder);
  const auto replies = asker.ask_homes(FrameType::kDelayShow, std::move(tables));
  const Reply& reply = replies.at(home);
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::DelayShowReply>(reply);
  if (table.info() == nullptr) {
    return not_pending(table.outcome());
  }
  client::DelayedMessage out = to_message(*table.info(), home.second);
  RETURN_IF_ERROR(take_content(reply.frame.payload(), out));
  return out;
}

// A key names at most one message: the shard looks it up instead of listing.
Result<Messages> list_key_once(Asker& asker, const client::TopicDescription& topic,
                               const client::DelayQuery& query) {
  Result<client::DelayedMessage> found =
      show_once(asker, topic, client::DelayTarget::of_key(query.key, query.partition));
  if (!found.ok() && found.error().code() == ErrorCode::kNotFound) {
    return Messages();
  }
  RETURN_IF_ERROR(found.status());
  const bool before = query.after && order_of(found->handle) <= order_of(*query.after);
  if (before || found->due_ms < query.due_from_ms || found->due_ms > query.due_to_ms) {
    return Messages();
  }
  found->message_key.reset();
  found->message_value.reset();
  found->headers.clear();
  return Messages{std::move(found).value()};
}

// --- statistics ---

// Adds what one shard says; topics that are not in `names` were deleted.
void add_stats(const fbs::DelayStatsReply& table, const std::map<uint32_t, std::string>& names,
               std::map<uint32_t, client::DelayStats>& sums,
               std::map<uint32_t, std::map<int64_t, uint64_t>>& buckets) {
  if (table.topics() == nullptr) {
    return;
  }
  for (const fbs::DelayTopicStats* topic : *table.topics()) {
    if (!names.contains(topic->topic())) {
      continue;
    }
    client::DelayStats& sum = sums[topic->topic()];
    sum.pending += topic->pending();
    sum.bytes += topic->bytes();
    sum.overdue += topic->overdue();
    if (topic->buckets() != nullptr) {
      for (const fbs::DelayBucket* bucket : *topic->buckets()) {
        buckets[topic->topic()][bucket->from_ms()] += bucket->count();
      }
    }
  }
}

Result<std::vector<client::DelayStats>> stats_once(
    Asker& asker, const std::vector<client::TopicDescription>& topics, bool all) {
  flatbuffers::FlatBufferBuilder builder(64);
  builder.Finish(fbs::CreateDelayStats(builder, all ? 0 : topics.front().id));
  std::map<Home, Buffer> tables;
  std::map<uint32_t, std::string> names;
  std::map<uint32_t, client::DelayStats> sums;
  for (const client::TopicDescription& topic : topics) {
    names[topic.id] = topic.name;
    for (const Home& home : homes_of(topic)) {
      tables[home] = finished_copy(builder);
    }
    if (!all) {
      sums[topic.id];  // there is an answer also when nothing is pending
    }
  }
  const auto replies = asker.ask_homes(FrameType::kDelayStats, std::move(tables));
  RETURN_IF_ERROR(first_failure(replies));
  int64_t now_ms = 0;
  std::map<uint32_t, std::map<int64_t, uint64_t>> buckets;
  for (const auto& [home, reply] : replies) {
    const auto& table = table_of<fbs::DelayStatsReply>(reply);
    now_ms = std::max(now_ms, table.now_ms());
    add_stats(table, names, sums, buckets);
  }
  std::vector<client::DelayStats> out;
  for (auto& [id, stats] : sums) {
    stats.topic = names[id];
    stats.now_ms = now_ms;
    stats.buckets.assign(buckets[id].begin(), buckets[id].end());
    if (!all || stats.pending > 0) {
      out.push_back(std::move(stats));
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.topic < b.topic; });
  return out;
}

}  // namespace

Result<client::PartitionPlace> place_of(const client::TopicDescription& topic,
                                        std::optional<uint32_t> partition, std::string_view key) {
  const size_t count = topic.partitions.size();
  if (count == 0 || (partition && *partition >= count)) {
    return Status(ErrorCode::kInvalidArgument,
                  "partition " + std::to_string(partition.value_or(0)) + " of topic \"" +
                      topic.name + "\", which has " + std::to_string(count));
  }
  return topic.partitions[partition ? *partition : partition_of_key(as_bytes(key), count)];
}

Result<Home> home_of(const client::TopicDescription& topic, const client::DelayTarget& target) {
  if (!target.handle.empty()) {
    const auto place = std::find_if(
        topic.partitions.begin(), topic.partitions.end(),
        [&](const client::PartitionPlace& each) { return each.shard == target.handle.shard; });
    if (target.handle.topic != topic.id || place == topic.partitions.end()) {
      return Status(ErrorCode::kInvalidArgument,
                    "the handle is of another topic than \"" + topic.name + "\"");
    }
    return home_of(*place);
  }
  if (target.key.empty() || target.key.size() > format::kDelayKeyBytesMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "a pending message is named by a handle or by a key of 1 to " +
                      std::to_string(format::kDelayKeyBytesMax) + " bytes; this key has " +
                      std::to_string(target.key.size()));
  }
  ASSIGN_OR_RETURN(const client::PartitionPlace place,
                   place_of(topic, target.partition, target.key));
  return home_of(place);
}

flatbuffers::Offset<fbs::DelayRef> build_ref(flatbuffers::FlatBufferBuilder& builder,
                                             const client::TopicDescription& topic,
                                             const client::DelayTarget& target) {
  if (!target.handle.empty()) {
    const client::DelayHandle& from = target.handle;
    const fbs::DelayHandle handle(from.id, from.due_ms, from.position, from.topic, from.tag);
    return fbs::CreateDelayRef(builder, &handle);
  }
  const auto key = builder.CreateString(target.key);
  return fbs::CreateDelayRef(builder, 0, topic.id,
                             place_of(topic, target.partition, target.key)->partition, key);
}

Result<Messages> list_delayed(Asker& asker, std::string_view topic,
                              const client::DelayQuery& query) {
  if (query.limit < 1 || query.limit > kDelayListMax) {
    return Status(ErrorCode::kInvalidArgument, "limit is " + std::to_string(query.limit) +
                                                   "; allowed are 1 to " +
                                                   std::to_string(kDelayListMax));
  }
  return until_answered<Messages>(asker, topic, [&](const client::TopicDescription& found) {
    return query.key.empty() ? list_once(asker, found, query) : list_key_once(asker, found, query);
  });
}

Result<client::DelayedMessage> show_delayed(Asker& asker, std::string_view topic,
                                            const client::DelayTarget& target) {
  return until_answered<client::DelayedMessage>(
      asker, topic,
      [&](const client::TopicDescription& found) { return show_once(asker, found, target); });
}

Result<std::vector<client::DelayStats>> delay_stats(Asker& asker, std::string_view topic) {
  using List = std::vector<client::DelayStats>;
  if (!topic.empty()) {
    return until_answered<List>(asker, topic, [&](const client::TopicDescription& found) {
      return stats_once(asker, {found}, false);
    });
  }
  return until_answered<List>(asker, [&]() -> Result<List> {
    ASSIGN_OR_RETURN(const std::vector<client::TopicDescription> topics, find_all_topics(asker));
    return stats_once(asker, topics, true);
  });
}

}  // namespace tidemark::client_core
