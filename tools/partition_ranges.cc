#include "tools/partition_ranges.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/errors.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using At = client::OffsetQuery::At;

std::vector<uint32_t> chosen_partitions(Session& session, const std::string& topic,
                                        std::vector<uint32_t> partitions) {
  const client::TopicDescription description = session.describe_topic(topic);
  const size_t count = description.partitions.size();
  for (const uint32_t partition : partitions) {
    if (partition >= count) {
      throw CommandError(ExitCode::kNotFound, "UnknownPartition",
                         fmt::format("topic {} has {} partitions, there is no partition {}", topic,
                                     count, partition));
    }
  }
  if (partitions.empty()) {
    for (const client::PartitionPlace& place : description.partitions) {
      partitions.push_back(place.partition);
    }
  }
  std::ranges::sort(partitions);
  // Not std::ranges::unique: clang 14 cannot use the one of libstdc++ 12.
  partitions.erase(std::unique(partitions.begin(), partitions.end()), partitions.end());
  return partitions;
}

// One offset for each partition, in the same order.
std::vector<uint64_t> list_offsets(Session& session, const std::string& topic,
                                   const std::vector<uint32_t>& partitions, At at,
                                   int64_t time_ms = 0) {
  std::vector<client::OffsetQuery> queries;
  queries.reserve(partitions.size());
  for (const uint32_t partition : partitions) {
    queries.push_back({.partition = partition, .at = at, .timestamp_ms = time_ms});
  }
  const auto answers = require(session.admin().list_offsets(topic, queries, session.deadline_ms()),
                               fmt::format("offsets of topic {}", topic));
  std::vector<uint64_t> offsets;
  offsets.reserve(answers.size());
  for (const client::OffsetAnswer& answer : answers) {
    require(answer.status, fmt::format("topic {} partition {}", topic, answer.partition));
    offsets.push_back(answer.offset);
  }
  return offsets;
}

void check_stored(const std::string& topic, uint32_t partition, uint64_t offset, uint64_t start,
                  uint64_t end) {
  if (offset < start || offset > end) {
    throw CommandError(
        ExitCode::kFailed, "OffsetOutOfRange",
        fmt::format(
            "topic {} partition {}: offset {} is not stored, only {} to {} (and {} is the next)",
            topic, partition, offset, start, end == start ? start : end - 1, end));
  }
}

}  // namespace

PartitionRanges::PartitionRanges(std::vector<Range> ranges) : ranges_(std::move(ranges)) {
  open_ = static_cast<size_t>(
      std::ranges::count_if(ranges_, [](const Range& range) { return range.next < range.end; }));
}

const PartitionRanges::Range* PartitionRanges::find(uint32_t partition) const {
  const auto at = std::ranges::lower_bound(ranges_, partition, {}, &Range::partition);
  return at != ranges_.end() && at->partition == partition ? &*at : nullptr;
}

bool PartitionRanges::contains(uint32_t partition, uint64_t offset) const {
  const Range* range = find(partition);
  return range != nullptr && offset >= range->next && offset < range->end;
}

bool PartitionRanges::advance(uint32_t partition, uint64_t next_offset) {
  const auto at = std::ranges::lower_bound(ranges_, partition, {}, &Range::partition);
  if (at == ranges_.end() || at->partition != partition || next_offset <= at->next) {
    return false;
  }
  const bool was_open = at->next < at->end;
  at->next = next_offset;
  if (was_open && next_offset >= at->end) {
    --open_;
  }
  return true;
}

bool PartitionRanges::advance(const client::Consumer& consumer, const std::string& topic) {
  bool moved = false;
  for (const Range& range : ranges_) {
    if (range.next < range.end) {
      const auto position = consumer.position(topic, range.partition);
      moved = (position.ok() && advance(range.partition, *position)) || moved;
    }
  }
  return moved;
}

uint64_t PartitionRanges::messages_left() const {
  uint64_t left = 0;
  for (const Range& range : ranges_) {
    left += range.next < range.end ? range.end - range.next : 0;
  }
  return left;
}

std::vector<client::Assignment> PartitionRanges::assignment(const std::string& topic,
                                                            bool only_unread) const {
  std::vector<client::Assignment> out;
  for (const Range& range : ranges_) {
    if (!only_unread || range.next < range.end) {
      out.push_back({.topic = topic,
                     .partition = range.partition,
                     .from = client::Position::offset(range.next)});
    }
  }
  return out;
}

PartitionRanges resolve_ranges(Session& session, const std::string& topic,
                               const std::vector<uint32_t>& partitions, const StartPoint& from) {
  const std::vector<uint32_t> chosen = chosen_partitions(session, topic, partitions);
  // The start first: retention may move it meanwhile, the end only grows.
  const std::vector<uint64_t> starts =
      from.kind == StartPoint::Kind::kTime
          ? list_offsets(session, topic, chosen, At::kTimestamp, from.time_ms)
          : list_offsets(session, topic, chosen, At::kStart);
  const std::vector<uint64_t> ends = list_offsets(session, topic, chosen, At::kEnd);
  std::vector<PartitionRanges::Range> ranges;
  for (size_t i = 0; i < chosen.size(); ++i) {
    uint64_t next = starts[i];
    if (from.kind == StartPoint::Kind::kEnd) {
      next = ends[i];
    } else if (from.kind == StartPoint::Kind::kOffset) {
      check_stored(topic, chosen[i], from.offset, starts[i], ends[i]);
      next = from.offset;
    }
    ranges.push_back({.partition = chosen[i], .next = next, .end = ends[i]});
  }
  return PartitionRanges(std::move(ranges));
}

}  // namespace tidemark::tools
