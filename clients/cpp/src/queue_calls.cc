#include "clients/cpp/src/queue_calls.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <utility>

#include "clients/cpp/src/txn_calls.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

using client::OffsetRange;
using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr size_t kUnsettledPageMax = 10'000;

// A partition as the wire names it, and where it is.
struct Place {
  uint32_t topic = 0;
  Home home;
};

Result<Place> find_place(Asker& asker, std::string_view topic, uint32_t partition) {
  RETURN_IF_ERROR(asker.check());
  ASSIGN_OR_RETURN(const client::TopicDescription found, find_topic(asker, topic));
  if (partition >= found.partitions.size()) {
    return Status(ErrorCode::kUnknownPartition,
                  "topic \"" + found.name + "\" has " + std::to_string(found.partitions.size()) +
                      " partitions, asked was " + std::to_string(partition));
  }
  return Place{found.id, home_of(found.partitions[partition])};
}

// Items of one partition that are answered one by one with error codes.
struct Items {
  std::string_view topic;
  uint32_t partition = 0;
  FrameType type = FrameType::kQueueSettle;
  std::function<Buffer(uint32_t topic, const std::vector<size_t>& chosen)> build;
  std::function<const flatbuffers::Vector<const fbs::QueueSettleResult*>*(const Reply&)> results;
  std::function<std::string(size_t item)> text;
};

// Asks once about what has no outcome yet.
void ask_items(Asker& asker, const Place& place, const Items& items, std::vector<size_t> open,
               std::vector<Status>& out) {
  const auto build = [&](const std::vector<size_t>& chosen) {
    return items.build(place.topic, chosen);
  };
  const auto take = [&](Home /*home*/, const std::vector<size_t>& chosen, const Reply& reply) {
    const auto* results = reply.status.ok() ? items.results(reply) : nullptr;
    const bool fits = results != nullptr && results->size() == chosen.size();
    for (size_t i = 0; i < chosen.size(); ++i) {
      Status& status = out[chosen[i]];
      if (!fits) {
        status = reply.status.ok()
                     ? Status(ErrorCode::kMalformed, "the reply does not answer every item")
                     : reply.status;
        continue;
      }
      const uint16_t code = results->Get(static_cast<flatbuffers::uoffset_t>(i))->error();
      status = code == 0
                   ? Status()
                   : Status(static_cast<ErrorCode>(code),
                            "topic \"" + std::string(items.topic) + "\" partition " +
                                std::to_string(items.partition) + " " + items.text(chosen[i]));
    }
  };
  ask_in_chunks(asker, items.type, {{place.home, std::move(open)}},
                limits::kQueueItemsPerRequestMax, build, take);
}

// Until each item has an outcome that will not pass, or there is no time. `unknown`: items whose
// first attempt may have taken effect.
Result<std::vector<Status>> ask_until_settled(Asker& asker, size_t count, const Items& items,
                                              std::vector<bool>& unknown) {
  std::vector<Status> out(count);
  std::vector<size_t> open(count);
  for (size_t i = 0; i < count; ++i) {
    open[i] = i;
  }
  unknown.assign(count, false);
  while (true) {
    const Result<Place> place = find_place(asker, items.topic, items.partition);
    RETURN_IF_ERROR(place.status());
    ask_items(asker, *place, items, open, out);
    std::erase_if(open, [&](size_t i) {
      unknown[i] = unknown[i] || error_outcome_unknown(out[i].code());
      return out[i].ok() || !may_ask_again(out[i]);
    });
    if (open.empty() || !asker.pause()) {
      return out;
    }
  }
}

std::vector<client::Status> all_public(const std::vector<Status>& statuses) {
  std::vector<client::Status> out;
  out.reserve(statuses.size());
  for (const Status& status : statuses) {
    out.push_back(to_public(status));
  }
  return out;
}

client::QueuePartitionInfo to_info(const fbs::QueueInfo& queue, uint16_t shard,
                                   const ClusterShards& shards) {
  const auto name = shards.names.find(queue.topic());
  client::QueuePartitionInfo out{
      .topic = name != shards.names.end() ? name->second : "#" + std::to_string(queue.topic()),
      .partition = queue.partition(),
      .shard = shard,
      .floor = queue.floor(),
      .end_offset = queue.end_offset(),
      .unsettled = queue.unsettled(),
      .leased = queue.leased(),
      .retrying = queue.retrying(),
      .receivers = queue.receivers(),
      .acked = queue.acked(),
      .failed = queue.failed(),
      .dead_lettered = queue.dead_lettered(),
      .expired = queue.expired(),
      .filtered = queue.filtered()};
  if (queue.oldest_unsettled_ms() >= 0) {
    out.oldest_unsettled_ms = queue.oldest_unsettled_ms();
  }
  return out;
}

Result<std::vector<client::QueuePartitionInfo>> describe_once(Asker& asker,
                                                              std::string_view group) {
  ASSIGN_OR_RETURN(const ClusterShards shards, find_shards(asker));
  flatbuffers::FlatBufferBuilder builder(128);
  const auto name = builder.CreateString(group.data(), group.size());
  builder.Finish(fbs::CreateQueueDescribe(builder, name));
  std::map<Home, Buffer> tables;
  for (const Home& home : shards.homes) {
    tables[home] = finished_copy(builder);
  }
  std::vector<client::QueuePartitionInfo> out;
  for (const auto& [home, reply] : asker.ask_homes(FrameType::kQueueDescribe, std::move(tables))) {
    if (reply.status.code() == ErrorCode::kNotFound) {
      continue;  // no queue of the group there
    }
    RETURN_IF_ERROR(reply.status);
    const auto* queues = table_of<fbs::QueueDescribeReply>(reply).queues();
    if (queues == nullptr) {
      continue;
    }
    for (const fbs::QueueInfo* queue : *queues) {
      out.push_back(to_info(*queue, home.second, shards));
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tie(a.topic, a.partition) < std::tie(b.topic, b.partition);
  });
  return out;
}

// Appends a page; true: there is more behind it.
Result<bool> unsettled_page(Asker& asker, std::string_view group, uint32_t partition,
                            const Place& place, uint64_t from, size_t limit,
                            std::vector<OffsetRange>& out) {
  flatbuffers::FlatBufferBuilder builder(128);
  const auto name = builder.CreateString(group.data(), group.size());
  builder.Finish(fbs::CreateQueueUnsettled(builder, name, place.topic, partition, from,
                                           static_cast<uint32_t>(limit)));
  std::map<Home, Buffer> tables;
  tables[place.home] = finished_copy(builder);
  const auto replies = asker.ask_homes(FrameType::kQueueUnsettled, std::move(tables));
  const Reply& reply = replies.begin()->second;
  RETURN_IF_ERROR(reply.status);
  const auto& table = table_of<fbs::QueueUnsettledReply>(reply);
  if (table.ranges() == nullptr || table.ranges()->size() == 0) {
    return false;
  }
  for (const fbs::QueueRange* range : *table.ranges()) {
    if (range->count() == 0 || range->first() < from ||
        range->count() > std::numeric_limits<uint64_t>::max() - range->first()) {
      return Status(ErrorCode::kMalformed, "QueueUnsettledReply: ranges out of order");
    }
    from = range->first() + range->count();
    if (out.size() < limit) {
      out.push_back({range->first(), range->count()});
    }
  }
  return table.more();
}

}  // namespace

Result<std::vector<client::QueuePartitionInfo>> describe_queues(Asker& asker,
                                                                std::string_view group) {
  return until_answered<std::vector<client::QueuePartitionInfo>>(
      asker, [&] { return describe_once(asker, group); });
}

Result<std::vector<client::Status>> ack_ranges(Asker& asker, std::string_view group,
                                               std::string_view topic, uint32_t partition,
                                               const std::vector<OffsetRange>& ranges) {
  for (const OffsetRange& range : ranges) {
    constexpr uint64_t kCountMax = std::numeric_limits<uint32_t>::max();
    if (range.count == 0 || range.count > kCountMax) {
      return Status(ErrorCode::kInvalidArgument, "a range has " + std::to_string(range.count) +
                                                     " offsets; allowed are 1 to " +
                                                     std::to_string(kCountMax));
    }
  }
  const Items items{
      .topic = topic,
      .partition = partition,
      .type = FrameType::kQueueSettle,
      .build =
          [&](uint32_t topic_id, const std::vector<size_t>& chosen) {
            flatbuffers::FlatBufferBuilder builder(128 +
                                                   chosen.size() * sizeof(fbs::QueueSettleItem));
            std::vector<fbs::QueueSettleItem> list;
            list.reserve(chosen.size());
            for (const size_t i : chosen) {
              list.emplace_back(topic_id, partition, ranges[i].first, /*token=*/0, /*delay_ms=*/0,
                                static_cast<uint32_t>(ranges[i].count), fbs::QueueAction::kAck);
            }
            const auto name = builder.CreateString(group.data(), group.size());
            const auto vector = builder.CreateVectorOfStructs(list);
            builder.Finish(fbs::CreateQueueSettle(builder, name, vector));
            return finished_copy(builder);
          },
      .results =
          [](const Reply& reply) { return table_of<fbs::QueueSettleReply>(reply).results(); },
      .text =
          [&](size_t i) {
            return "offsets " + std::to_string(ranges[i].first) + " to " +
                   std::to_string(ranges[i].first + ranges[i].count - 1);
          }};
  std::vector<bool> unknown;
  ASSIGN_OR_RETURN(const std::vector<Status> out,
                   ask_until_settled(asker, ranges.size(), items, unknown));
  return all_public(out);
}

Result<std::vector<client::Status>> redrive_offsets(Asker& asker, std::string_view topic,
                                                    uint32_t partition,
                                                    const std::vector<uint64_t>& offsets) {
  const Items items{
      .topic = topic,
      .partition = partition,
      .type = FrameType::kQueueRedrive,
      .build =
          [&](uint32_t topic_id, const std::vector<size_t>& chosen) {
            flatbuffers::FlatBufferBuilder builder(128 + chosen.size() * sizeof(uint64_t));
            std::vector<uint64_t> list;
            list.reserve(chosen.size());
            for (const size_t i : chosen) {
              list.push_back(offsets[i]);
            }
            const auto vector = builder.CreateVector(list);
            builder.Finish(fbs::CreateQueueRedrive(builder, topic_id, partition, vector));
            return finished_copy(builder);
          },
      .results =
          [](const Reply& reply) { return table_of<fbs::QueueRedriveReply>(reply).results(); },
      .text = [&](size_t i) { return "offset " + std::to_string(offsets[i]); }};
  std::vector<bool> unknown;
  ASSIGN_OR_RETURN(std::vector<Status> out,
                   ask_until_settled(asker, offsets.size(), items, unknown));
  for (size_t i = 0; i < out.size(); ++i) {
    if (unknown[i] && out[i].code() == ErrorCode::kNotFound) {
      out[i] = Status(ErrorCode::kOutcomeUnknown,
                      std::string(out[i].context()) + ": settled, maybe by an earlier attempt");
    }
  }
  return all_public(out);
}

Result<std::vector<OffsetRange>> unsettled_ranges(Asker& asker, std::string_view group,
                                                  std::string_view topic, uint32_t partition,
                                                  uint64_t from, size_t max) {
  std::vector<OffsetRange> all;
  bool more = max > 0;
  RETURN_IF_ERROR(asker.check());
  while (more && all.size() < max) {
    std::vector<OffsetRange> page;
    const Result<bool> read = until_answered<bool>(asker, [&]() -> Result<bool> {
      page.clear();
      ASSIGN_OR_RETURN(const Place place, find_place(asker, topic, partition));
      return unsettled_page(asker, group, partition, place, from,
                            std::min(max - all.size(), kUnsettledPageMax), page);
    });
    RETURN_IF_ERROR(read.status());
    more = *read;
    all.insert(all.end(), page.begin(), page.end());
    from = all.empty() ? from : all.back().first + all.back().count;
  }
  return all;
}

}  // namespace tidemark::client_core
