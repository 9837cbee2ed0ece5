#include "broker/partition/partition.h"

#include <limits>

#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"

namespace tidemark::partition {

namespace {

uint64_t hash_reference(const BatchRef& ref, uint64_t seed) {
  uint8_t bytes[32];
  store_le(bytes, ref.base.value());
  store_le(bytes + 8, ref.position.value());
  store_le(bytes + 16, ref.count);
  store_le(bytes + 20, ref.bytes);
  store_le(bytes + 24, ref.received_ms);
  return xxh3(bytes, seed);
}

}  // namespace

void Partition::set_config(PartitionConfig config) {
  config_ = config;
  dirty_ = true;
}

AppendOutcome Partition::append(const format::BatchHeader& header, LogPosition position,
                                int64_t received_ms, uint64_t use, uint32_t sequences) {
  format::BatchHeader whole = header;
  whole.record_count = sequences > 0 ? sequences : header.record_count;
  AppendOutcome outcome = accept_sequence(whole, end_, received_ms, use);
  if (outcome.error != ErrorCode::kOk || outcome.duplicate) {
    return outcome;
  }
  outcome.base = end_;
  append_ref(position, header.record_count, header.batch_bytes, received_ms);
  outcome.received_ms = last_received_ms_;
  return outcome;
}

AppendOutcome Partition::accept_sequence(const format::BatchHeader& header, Offset base,
                                         int64_t received_ms, uint64_t use) {
  AppendOutcome outcome;
  outcome.received_ms = received_ms;
  if (header.producer_id < 0) {
    return outcome;
  }
  const SequenceVerdict verdict = producers_.judge(header);
  if (verdict.kind == SequenceVerdict::Kind::kRefuse) {
    outcome.error = verdict.error;
    outcome.expected_sequence = verdict.expected_sequence;
    return outcome;
  }
  if (verdict.kind == SequenceVerdict::Kind::kDuplicate) {
    outcome.duplicate = true;
    outcome.base = verdict.original_base;
    outcome.received_ms = last_received_ms_;
    return outcome;
  }
  producers_.accept(header, base, use);
  dirty_ = true;
  return outcome;
}

void Partition::append_ref(LogPosition position, uint32_t count, uint32_t bytes,
                           int64_t received_ms) {
  // Log time never goes back within a partition.
  last_received_ms_ = std::max(last_received_ms_, received_ms);
  const BatchRef ref{end_, count, bytes, position, last_received_ms_};
  if (start_ == end_) {
    first_position_ = position;
  }
  index_.append(ref);
  index_hash_ = hash_reference(ref, index_hash_);
  end_ = ref.end();
  bytes_ += bytes;
  ++batches_;
  dirty_ = true;
}

Offset Partition::append_reference(LogPosition position, uint32_t count, uint32_t bytes,
                                   int64_t received_ms, LogPosition low) {
  const Offset offset = end_;
  append_ref(position, count, bytes, received_ms);
  low = std::min(low, position);
  const auto [it, inserted] = low_blocks_.emplace(offset.value() / kOffsetsPerBlock, low);
  it->second = std::min(it->second, low);
  if (config_.queue.ttl_ms >= 0) {
    mark_ttl();
  }
  return offset;
}

void Partition::mark_ttl() {
  ttl_end_ = end_;
  dirty_ = true;
}

bool Partition::trim(const TrimTo& to) {
  if (to.start <= start_ || to.start > end_ || to.bytes > bytes_ || to.batches > batches_) {
    return false;
  }
  start_ = to.start;
  first_position_ = to.position;
  low_blocks_.erase(low_blocks_.begin(),
                    low_blocks_.lower_bound(start_.value() / kOffsetsPerBlock));
  bytes_ -= to.bytes;
  batches_ -= to.batches;
  index_.trim(start_);
  dirty_ = true;
  trimmed_ = true;
  return true;
}

LogPosition Partition::low_position() const {
  if (start_ == end_) {
    return LogPosition{std::numeric_limits<uint64_t>::max()};
  }
  LogPosition low = first_position_;
  for (const auto& [block, position] : low_blocks_) {
    low = std::min(low, position);
  }
  return low;
}

std::string Partition::encode() const {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le<uint8_t>(3);  // version
  writer.le(config_.version);
  writer.le(config_.retention_ms);
  writer.le(config_.retention_bytes);
  config_.delays.write(writer);
  writer.le(config_.late_partition.topic.value());
  writer.le(config_.late_partition.index.value());
  config_.queue.write(writer);
  writer.le(config_.dead_letter_partition.topic.value());
  writer.le(config_.dead_letter_partition.index.value());
  writer.sized_text(config_.topic_name);
  writer.le(start_.value());
  writer.le(end_.value());
  writer.le(first_position_.value());
  writer.le(bytes_);
  writer.le(batches_);
  writer.le(last_received_ms_);
  writer.le(index_hash_);
  writer.varint(low_blocks_.size());
  for (const auto& [block, position] : low_blocks_) {
    writer.varint(block);
    writer.varint(position.value());
  }
  writer.le(ttl_end_.value());
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

uint64_t Partition::hash() const {
  const uint64_t id = (uint64_t{id_.topic.value()} << 32) | id_.index.value();
  return xxh3(as_bytes(encode()), id) + producers_.hash() * 0x9E3779B97F4A7C15ull;
}

void Partition::freeze(kv::WriteBatch& batch) {
  index_.freeze(id_, batch);
  producers_.freeze(id_, batch);
  batch.put(keys::partition(id_), encode());
  dirty_ = false;
  trimmed_ = false;
}

void Partition::commit_done() {
  index_.commit_done();
  index_.trim(start_);
  producers_.commit_done();
}

void Partition::commit_failed() {
  index_.commit_failed();
  producers_.commit_failed();
  dirty_ = true;
  trimmed_ = true;
}

Result<Partition> Partition::load(PartitionId id, std::string_view value) {
  const Status damaged(ErrorCode::kCorrupted, "partition state in the checkpoint store");
  const ByteView all = as_bytes(value);
  if (all.size() < 9) {
    return damaged;
  }
  const ByteView body = all.first(all.size() - 8);
  if (load_le<uint64_t>(all.data() + body.size()) != xxh3(body)) {
    return damaged;
  }
  ByteReader reader(body);
  const auto version = reader.le<uint8_t>();
  PartitionConfig config;
  config.version = reader.le<uint64_t>();
  config.retention_ms = reader.le<int64_t>();
  config.retention_bytes = reader.le<int64_t>();
  if (version >= 2) {
    config.delays = DelayConfig::read(reader);
    config.late_partition.topic = TopicId{reader.le<uint32_t>()};
    config.late_partition.index = PartitionIndex{reader.le<uint32_t>()};
  }
  if (version >= 3) {
    config.queue = QueueConfig::read(reader);
    config.dead_letter_partition.topic = TopicId{reader.le<uint32_t>()};
    config.dead_letter_partition.index = PartitionIndex{reader.le<uint32_t>()};
    config.topic_name = reader.sized_text();
  }
  Partition partition(id, config);
  partition.start_ = Offset{reader.le<uint64_t>()};
  partition.end_ = Offset{reader.le<uint64_t>()};
  partition.first_position_ = LogPosition{reader.le<uint64_t>()};
  partition.bytes_ = reader.le<uint64_t>();
  partition.batches_ = reader.le<uint64_t>();
  partition.last_received_ms_ = reader.le<int64_t>();
  partition.index_hash_ = reader.le<uint64_t>();
  partition.dirty_ = false;
  const uint64_t blocks = version >= 2 ? reader.varint() : 0;
  for (uint64_t i = 0; i < blocks && !reader.failed(); ++i) {
    const uint64_t block = reader.varint();
    partition.low_blocks_.emplace(block, LogPosition{reader.varint()});
  }
  if (version >= 3) {
    partition.ttl_end_ = Offset{reader.le<uint64_t>()};
  }
  if (version < 1 || version > 3 || !config.queue.is_readable() || reader.failed() ||
      reader.remaining() != 0) {
    return damaged;
  }
  return partition;
}

}  // namespace tidemark::partition
