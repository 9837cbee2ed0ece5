#include "broker/meta/topic_catalog.h"

#include <algorithm>
#include <compare>

#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"

namespace tidemark::meta {

std::vector<uint32_t> Topic::partitions_on(ShardId shard) const {
  std::vector<uint32_t> found;
  for (uint32_t i = 0; i < shards.size(); ++i) {
    if (shards[i] == shard) {
      found.push_back(i);
    }
  }
  return found;
}

TopicOutcome TopicCatalog::create(std::string_view name, TopicConfig config,
                                  std::vector<ShardId> shards, int64_t now_ms) {
  if (by_name_.find(name) != by_name_.end()) {
    return {ErrorCode::kAlreadyExists, by_name_.find(name)->second, 0};
  }
  if (topics_.size() >= limits::kTopicsMax ||
      partition_count() + shards.size() > limits::kPartitionsMax) {
    return {ErrorCode::kLimitExceeded, TopicId{}, 0};
  }
  Topic topic;
  topic.id = next_id_;
  ++next_id_;
  topic.name = std::string(name);
  topic.created_ms = now_ms;
  topic.config = config;
  topic.unconfirmed.insert(shards.begin(), shards.end());
  topic.shards = std::move(shards);
  const TopicId id = topic.id;
  by_name_.emplace(topic.name, id);
  topics_.emplace(id, std::move(topic));
  dirty_.insert(id);
  ++changes_;
  return {ErrorCode::kOk, id, 1};
}

TopicOutcome TopicCatalog::alter(TopicId id, TopicConfig config, std::vector<ShardId> shards) {
  const auto it = topics_.find(id);
  if (it == topics_.end() || it->second.state == TopicState::kDropping) {
    return {ErrorCode::kUnknownTopic, id, 0};
  }
  Topic& topic = it->second;
  if (shards.size() < topic.shards.size() ||
      !std::equal(topic.shards.begin(), topic.shards.end(), shards.begin())) {
    return {ErrorCode::kConflict, id, 0};
  }
  if (partition_count() + shards.size() - topic.shards.size() > limits::kPartitionsMax) {
    return {ErrorCode::kLimitExceeded, id, 0};
  }
  topic.config = config;
  topic.shards = std::move(shards);
  topic.unconfirmed.insert(topic.shards.begin(), topic.shards.end());
  topic.state = TopicState::kOpening;
  ++topic.version;
  dirty_.insert(id);
  ++changes_;
  return {ErrorCode::kOk, id, topic.version};
}

TopicOutcome TopicCatalog::remove(TopicId id) {
  const auto it = topics_.find(id);
  if (it == topics_.end() || it->second.state == TopicState::kDropping) {
    return {ErrorCode::kUnknownTopic, id, 0};
  }
  Topic& topic = it->second;
  by_name_.erase(topic.name);
  topic.state = TopicState::kDropping;
  topic.unconfirmed.insert(topic.shards.begin(), topic.shards.end());
  ++topic.version;
  dirty_.insert(id);
  ++changes_;
  return {ErrorCode::kOk, id, topic.version};
}

void TopicCatalog::progress(TopicId id, uint64_t version, ShardId shard) {
  const auto it = topics_.find(id);
  if (it == topics_.end() || it->second.version != version) {
    return;
  }
  Topic& topic = it->second;
  topic.unconfirmed.erase(shard);
  dirty_.insert(id);
  if (!topic.unconfirmed.empty()) {
    return;
  }
  if (topic.state == TopicState::kDropping) {
    topics_.erase(it);
  } else {
    topic.state = TopicState::kReady;
  }
}

const Topic* TopicCatalog::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &topics_.at(it->second);
}

const Topic* TopicCatalog::find(TopicId id) const {
  const auto it = topics_.find(id);
  return it == topics_.end() ? nullptr : &it->second;
}

size_t TopicCatalog::partition_count() const {
  size_t count = 0;
  for (const auto& [id, topic] : topics_) {
    count += topic.shards.size();
  }
  return count;
}

std::vector<ShardId> TopicCatalog::place(uint32_t count, uint16_t shard_count,
                                         const std::vector<ShardId>& present) const {
  struct Load {
    uint32_t of_topic = 0;
    uint64_t of_all = 0;
    uint16_t shard = 0;

    auto operator<=>(const Load&) const = default;
  };

  std::vector<Load> loads(shard_count);
  for (uint16_t i = 0; i < shard_count; ++i) {
    loads[i].shard = i;
  }
  for (const auto& [id, topic] : topics_) {
    for (const ShardId shard : topic.shards) {
      if (shard.value() < shard_count) {
        ++loads[shard.value()].of_all;
      }
    }
  }
  for (const ShardId shard : present) {
    if (shard.value() < shard_count) {
      ++loads[shard.value()].of_topic;
    }
  }
  std::vector<ShardId> placed;
  placed.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    Load& least = *std::min_element(loads.begin(), loads.end());
    ++least.of_topic;
    ++least.of_all;
    placed.emplace_back(least.shard);
  }
  return placed;
}

std::string TopicCatalog::encode(const Topic& topic) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le<uint8_t>(4);  // version of this encoding
  writer.sized_text(topic.name);
  writer.le(static_cast<uint8_t>(topic.state));
  writer.le(topic.version);
  writer.le(topic.created_ms);
  writer.le(topic.config.retention_ms);
  writer.le(topic.config.retention_bytes);
  topic.config.delays.write(writer);
  topic.config.queue.write(writer);
  topic.config.compaction.write(writer);
  writer.varint(topic.shards.size());
  for (const ShardId shard : topic.shards) {
    writer.le(shard.value());
  }
  writer.varint(topic.unconfirmed.size());
  for (const ShardId shard : topic.unconfirmed) {
    writer.le(shard.value());
  }
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

uint64_t TopicCatalog::hash() const {
  uint64_t hash = next_id_.value();
  for (const auto& [id, topic] : topics_) {
    hash = xxh3(as_bytes(encode(topic)), hash ^ id.value());
  }
  return hash;
}

void TopicCatalog::freeze(kv::WriteBatch& batch) {
  for (const TopicId id : dirty_) {
    const auto it = topics_.find(id);
    if (it == topics_.end()) {
      batch.remove(partition::keys::topic(id));
    } else {
      batch.put(partition::keys::topic(id), encode(it->second));
    }
  }
  frozen_.merge(dirty_);
  dirty_.clear();
}

void TopicCatalog::commit_failed() {
  dirty_.merge(frozen_);
  frozen_.clear();
}

Status TopicCatalog::load(TopicId id, std::string_view value) {
  const Status damaged(ErrorCode::kCorrupted, "topic in the checkpoint store");
  const ByteView all = as_bytes(value);
  if (all.size() < 9) {
    return damaged;
  }
  const ByteView body = all.first(all.size() - 8);
  if (load_le<uint64_t>(all.data() + body.size()) != xxh3(body)) {
    return damaged;
  }
  ByteReader reader(body);
  const auto encoding = reader.le<uint8_t>();
  Topic topic;
  topic.id = id;
  topic.name = std::string(reader.sized_text());
  topic.state = static_cast<TopicState>(reader.le<uint8_t>());
  topic.version = reader.le<uint64_t>();
  topic.created_ms = reader.le<int64_t>();
  topic.config.retention_ms = reader.le<int64_t>();
  topic.config.retention_bytes = reader.le<int64_t>();
  if (encoding >= 2) {
    topic.config.delays = partition::DelayConfig::read(reader);
  }
  if (encoding >= 3) {
    topic.config.queue = partition::QueueConfig::read(reader);
  }
  if (encoding >= 4) {
    topic.config.compaction = partition::CompactionConfig::read(reader);
  }
  const uint64_t shards = reader.varint();
  for (uint64_t i = 0; i < shards && !reader.failed(); ++i) {
    topic.shards.emplace_back(reader.le<uint16_t>());
  }
  const uint64_t unconfirmed = reader.varint();
  for (uint64_t i = 0; i < unconfirmed && !reader.failed(); ++i) {
    topic.unconfirmed.insert(ShardId{reader.le<uint16_t>()});
  }
  if (encoding < 1 || encoding > 4 || !topic.config.queue.is_readable() || reader.failed() ||
      reader.remaining() != 0) {
    return damaged;
  }
  if (topic.state != TopicState::kDropping) {
    by_name_.emplace(topic.name, id);
  }
  topics_.emplace(id, std::move(topic));
  return Status();
}

}  // namespace tidemark::meta
