#include "broker/partition/partition.h"

#include <limits>

#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/coverage_mark.h"

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
  if (!(config.compaction == config_.compaction)) {
    compaction_.next_run_ms = 0;
  }
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
    TIDEMARK_COVERAGE_MARK(produce_duplicate_found_at_apply);
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
  if (tail_begin() == end_) {
    first_position_ = position;
  }
  index_.append(ref);
  index_hash_ = hash_reference(ref, index_hash_);
  end_ = ref.end();
  bytes_ += bytes;
  ++batches_;
  compaction_.dirty_bytes += bytes;
  compaction_.run_appended += bytes;
  dirty_ = true;
}

Offset Partition::append_reference(LogPosition position, uint32_t count, uint32_t bytes,
                                   int64_t received_ms, LogPosition low) {
  const Offset offset = end_;
  append_ref(position, count, bytes, received_ms);
  compaction_.has_references = compaction_.has_references || low < position;
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
  if (to.start <= start_ || to.start > end_ || to.bytes > bytes_ || to.batches > batches_ ||
      to.compactions != compaction_.changes) {
    return false;
  }
  if (to.start == end_) {
    TIDEMARK_COVERAGE_MARK(partition_trimmed_to_its_end);
  }
  start_ = to.start;
  if (start_ >= prefix_end_) {
    first_position_ = to.position;
  }
  low_blocks_.erase(low_blocks_.begin(),
                    start_ == end_ ? low_blocks_.end()
                                   : low_blocks_.lower_bound(start_.value() / kOffsetsPerBlock));
  bytes_ -= to.bytes;
  batches_ -= to.batches;
  index_.trim(start_);
  dirty_ = true;
  trimmed_ = true;
  return true;
}

void Partition::begin_compaction() {
  // Until it ends nothing more is known of where all of it lies.
  prefix_low_ = low_position();
  prefix_end_ = end_;
  low_blocks_.clear();
  compaction_.running = true;
  compaction_.cursor = start_;
  compaction_.run_end = end_;
  compaction_.run_appended = 0;
  ++compaction_.changes;
  dirty_ = true;
}

bool Partition::compact(const MovedBatch& moved, uint32_t count, uint32_t replaced_bytes) {
  const Offset end = moved.base + count;
  if (!compaction_.running || moved.base < std::max(compaction_.cursor, start_) || count == 0 ||
      end > compaction_.run_end || replaced_bytes == 0 || replaced_bytes > bytes_ ||
      batches_ == 0) {
    return false;
  }
  index_.move(moved);
  index_hash_ = hash_reference({.base = moved.base,
                                .count = count,
                                .bytes = moved.bytes,
                                .position = moved.position,
                                .received_ms = 0},
                               index_hash_);
  bytes_ = bytes_ - replaced_bytes + moved.bytes;
  batches_ -= moved.bytes == 0 ? 1 : 0;
  compaction_.cursor = end;
  ++compaction_.changes;
  dirty_ = true;
  return true;
}

bool Partition::end_compaction(const CompactionEnd& end) {
  if (!compaction_.running || end.scan_from > compaction_.run_end) {
    return false;
  }
  prefix_low_ = end.low;
  compaction_.running = false;
  compaction_.scan_from = end.scan_from;
  compaction_.dirty_bytes = end.dirty_bytes + compaction_.run_appended;
  compaction_.next_run_ms = end.next_run_ms;
  compaction_.keeps_dead = compaction_.keeps_dead || end.keeps_dead;
  ++compaction_.changes;
  dirty_ = true;
  return true;
}

LogPosition Partition::low_position() const {
  LogPosition low{std::numeric_limits<uint64_t>::max()};
  if (start_ < prefix_end_) {
    low = prefix_low_;
  }
  if (tail_begin() < end_) {
    low = std::min(low, first_position_);
  }
  for (const auto& [block, position] : low_blocks_) {
    low = std::min(low, position);
  }
  return low;
}

void Partition::encode_compaction(ByteWriter& writer) const {
  config_.compaction.write(writer);
  writer.le(prefix_end_.value());
  writer.le(prefix_low_.value());
  writer.le(compaction_.changes);
  writer.le(compaction_.scan_from.value());
  writer.le(compaction_.dirty_bytes);
  writer.le(compaction_.next_run_ms);
  writer.le(static_cast<uint8_t>((compaction_.keeps_dead ? 1 : 0) |
                                 (compaction_.has_references ? 2 : 0) |
                                 (compaction_.running ? 4 : 0)));
  writer.le(compaction_.cursor.value());
  writer.le(compaction_.run_end.value());
  writer.le(compaction_.run_appended);
}

void Partition::read_compaction(ByteReader& reader, Partition& partition) {
  CompactionState& state = partition.compaction_;
  partition.config_.compaction = CompactionConfig::read(reader);
  partition.prefix_end_ = Offset{reader.le<uint64_t>()};
  partition.prefix_low_ = LogPosition{reader.le<uint64_t>()};
  state.changes = reader.le<uint64_t>();
  state.scan_from = Offset{reader.le<uint64_t>()};
  state.dirty_bytes = reader.le<uint64_t>();
  state.next_run_ms = reader.le<int64_t>();
  const auto flags = reader.le<uint8_t>();
  state.keeps_dead = (flags & 1) != 0;
  state.has_references = (flags & 2) != 0;
  state.running = (flags & 4) != 0;
  state.cursor = Offset{reader.le<uint64_t>()};
  state.run_end = Offset{reader.le<uint64_t>()};
  state.run_appended = reader.le<uint64_t>();
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
  encode_compaction(writer);
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
    read_compaction(reader, partition);
  } else {
    // All of it is yet to be looked at; some of it may refer to more than itself.
    partition.compaction_.dirty_bytes = partition.bytes_;
    partition.compaction_.has_references = blocks > 0;
  }
  if (version < 1 || version > 3 || !config.queue.is_readable() || reader.failed() ||
      reader.remaining() != 0) {
    return damaged;
  }
  return partition;
}

}  // namespace tidemark::partition
