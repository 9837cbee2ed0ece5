#include "tests/simulation/label_client.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kRetryUs = 100'000;
// Between the look at times to live and the moment when the answer leaves the disk is read, once or
// several times.
constexpr int64_t kServeNs = 2'000 * kNsPerMs;
constexpr size_t kTodoMax = 500;
constexpr size_t kItemsMax = 200;

LabelModel::Times times_of(const DelayModel& clock, ShardId shard, int64_t arrived_ns,
                           int64_t left_ns) {
  return {clock.log_ms(shard, std::max(arrived_ns, left_ns - kServeNs)),
          clock.log_ms(shard, left_ns)};
}

}  // namespace

// --- LabelProducer

Producer::Encoded LabelProducer::encode(PartitionId /*partition*/, uint64_t first_uid, size_t count,
                                        format::BatchBuilder::Producer producer) {
  format::BatchBuilder builder;
  bool ttl = false;
  for (uint64_t uid = first_uid; uid < first_uid + count; ++uid) {
    const Labels labels = labels_.labels_of(uid);
    const std::string value = model_.value_of(uid);
    const auto pairs = labels.headers();
    std::vector<format::HeaderInput> headers;
    for (const auto& [name, text] : pairs) {
      headers.push_back({.key = name, .value = as_bytes(text)});
    }
    format::RecordInput record{.timestamp_ms = scheduler_.clock().wall().ms};
    record.has_key = !labels.key.empty();
    record.key = as_bytes(labels.key);
    record.value = as_bytes(value);
    record.headers = headers;
    const Status added = builder.append(record);
    TIDEMARK_CHECK(added.ok(), added.to_string());
    ttl = ttl || labels.ttl_ms >= 0;
  }
  const bool compressed = random_.chance(1, 4);
  Result<Buffer> batch =
      builder.finish(compressed ? format::Codec::kZstd : format::Codec::kNone, 1, producer);
  TIDEMARK_CHECK(batch.ok(), batch.status().to_string());
  return {SharedBytes(std::move(*batch)), ttl};
}

void LabelProducer::on_stored(PartitionId partition, uint64_t first_uid, size_t count,
                              const testing::ProducePartResult& result) {
  for (size_t i = 0; i < count; ++i) {
    labels_.stored(partition, result.base + i, first_uid + i,
                   result.duplicate ? -1 : result.received_ms);
  }
}

// --- LabelReader

void LabelReader::read_all() {
  reading_all_ = true;
  chosen_ = false;
  connection_ = 0;
  left_ = directory_.topics.at(0).shards.size();
}

std::string LabelReader::describe() const {
  return "reader with filters: " + std::to_string(left_) + " partitions left, at offset " +
         std::to_string(offset_.value());
}

void LabelReader::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(1'000, 50'000)), [this] {
    const bool wanted = reading_all_ ? left_ > 0 : !finishing_;
    if (connection_ == 0 && wanted && !directory_.topics.empty()) {
      choose();
      ask();
    }
    schedule();
  });
}

void LabelReader::choose() {
  if (chosen_ && (reading_all_ || !random_.chance(1, 10))) {
    return;
  }
  chosen_ = true;
  filter_ = random_.below(LabelModel::filters().size());
  if (reading_all_) {
    partition_ = directory_.topics.at(0).partition(left_ - 1);
    offset_ = Offset{0};
  } else if (directory_.pick(random_, partition_)) {
    offset_ = Offset{random_.below(model_.end_of(partition_).value() + 1)};
  }
}

void LabelReader::ask() {
  connection_ = connection_to(directory_.shard_of(partition_));
  if (connection_ == 0) {
    return;
  }
  correlation_ = next_correlation();
  const bool large = reading_all_ || random_.chance(1, 2);
  const auto bytes_max = static_cast<uint32_t>(large ? 1 << 20 : random_.between(1, 20'000));
  testing::FetchLimits bounds{static_cast<uint32_t>(reading_all_ ? 0 : random_.below(1'000)), 1,
                              bytes_max};
  bounds.tags = LabelModel::filters()[filter_].tags;
  bounds.filter = LabelModel::filters()[filter_].text;
  const testing::FetchInput part{partition_, offset_, bytes_max};
  network_.send(connection_, testing::fetch_request({&part, 1}, bounds, correlation_));
}

void LabelReader::on_arrival(uint64_t connection, uint64_t correlation) {
  if (connection == connection_ && correlation == correlation_) {
    arrived_ns_ = scheduler_.now_ns();
  }
}

void LabelReader::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    return require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
  }
  take(testing::read_fetch_reply(frame).at(0));
}

void LabelReader::take(const testing::FetchPartResult& result) {
  if (!result.status.ok()) {
    return require(
        is_transient(result.status.code()) ||
            (result.status.code() == ErrorCode::kUnknownPartition && !model_.used(partition_)),
        "a fetch with a filter failed: " + result.status.to_string());
  }
  const LabelModel::Times times = times_of(model_.delays(), directory_.shard_of(partition_),
                                           arrived_ns_, network_.reply_left_ns());
  require(result.next >= offset_ && result.next <= result.high_watermark,
          "a fetch leads to " + std::to_string(result.next.value()));
  const Offset asked = offset_;
  uint64_t count = result.filtered + result.expired;
  for (const testing::Message& message : result.messages) {
    const uint64_t uid = model_.read(partition_, message.offset, message.value);
    if (message.offset < asked) {
      continue;
    }
    require(message.offset >= offset_ && message.offset < result.next,
            "I6: a message out of order at offset " + std::to_string(message.offset.value()));
    labels_.left_out(partition_, offset_, message.offset, filter_, times);
    labels_.read(partition_, message.offset, uid, filter_, times);
    offset_ = message.offset + 1;
    ++count;
  }
  labels_.left_out(partition_, offset_, result.next, filter_, times);
  offset_ = result.next;
  require(count == result.next - asked, "I27: from offset " + std::to_string(asked.value()) +
                                            " to " + std::to_string(result.next.value()) +
                                            ", but " + std::to_string(count) +
                                            " messages came or were counted");
  if (reading_all_ && result.next == result.high_watermark) {
    chosen_ = false;
    --left_;
  }
}

void LabelReader::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
  }
}

// --- LabelWorker

std::string LabelWorker::describe() const {
  return "worker of " + group_ + ": " + std::to_string(todo_.size()) + " to ack, " +
         std::to_string(settles_.size()) + " acks and " + std::to_string(receives_.size()) +
         " receives under way";
}

void LabelWorker::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(1'000, 30'000)), [this] {
    if (stopped_) {
      return;
    }
    settle();
    if (receives_.size() < 2 && todo_.size() < kTodoMax) {
      receive();
    }
    schedule();
  });
}

void LabelWorker::receive() {
  testing::QueueReceiveInput input;
  PartitionId partition;
  if (!directory_.pick(random_, partition)) {
    return;
  }
  const uint64_t connection = connection_to(directory_.shard_of(partition));
  if (connection == 0) {
    return;
  }
  const LabelFilter& filter = LabelModel::filters()[what_.filter];
  input.parts = {partition};
  input.group = group_;
  input.messages_max = static_cast<uint32_t>(finishing_ ? 1'000 : random_.between(1, 50));
  input.wait_ms = static_cast<uint32_t>(random_.below(finishing_ ? 50 : 1'000));
  input.visibility_ms = static_cast<uint32_t>(random_.between(1'000, 2'000));
  input.tags = filter.tags;
  input.filter = filter.text;
  input.ordered = what_.ordered;
  const uint64_t correlation = next_correlation();
  receives_[correlation] = {connection, partition, 0};
  network_.send(connection, testing::queue_receive_request(input, correlation));
}

void LabelWorker::on_received(const Receive& receive, const protocol::Frame& frame) {
  if (const Status error = testing::error_of(frame); !error.ok()) {
    return require(is_transient(error.code()), "a receive was refused: " + error.to_string());
  }
  const testing::QueuePartResult result = testing::read_queue_receive_reply(frame).at(0);
  const PartitionId partition = receive.partition;
  require(result.status.ok() || is_transient(result.status.code()) ||
              (result.status.code() == ErrorCode::kUnknownPartition && !model_.used(partition)),
          "a part of a receive was refused: " + result.status.to_string());
  const int64_t left_ns = network_.reply_left_ns();
  std::vector<LabelModel::Lease> leases;
  for (const testing::LeasedMessage& message : result.messages) {
    leases.push_back({message.offset, model_.read(partition, message.offset, message.value)});
    plan(partition, message);
  }
  labels_.leased(
      {group_, partition}, leases,
      times_of(model_.delays(), directory_.shard_of(partition), receive.arrived_ns, left_ns),
      left_ns);
}

void LabelWorker::plan(PartitionId partition, const testing::LeasedMessage& message) {
  testing::QueueSettleInput item;
  item.partition = partition;
  item.offset = message.offset;
  item.token = message.token;
  uint64_t after_ms = finishing_ ? 0 : random_.below(200);
  if (!finishing_) {
    switch (random_.below(20)) {
      case 0:  // never
        return;
      case 1:  // when somebody else may have it
        after_ms += 2'000;
        break;
      case 2:
        item.action = protocol::fbs::QueueAction::kNack;
        item.delay_ms = static_cast<int64_t>(random_.below(500));
        break;
      default:
        break;
    }
  }
  todo_.emplace(scheduler_.now_ms() + static_cast<int64_t>(after_ms), item);
}

void LabelWorker::settle() {
  std::map<ShardId, std::vector<testing::QueueSettleInput>> due;
  for (size_t i = 0; i < kItemsMax && !todo_.empty(); ++i) {
    const auto first = todo_.begin();
    if (first->first > scheduler_.now_ms()) {
      break;
    }
    due[directory_.shard_of(first->second.partition)].push_back(first->second);
    todo_.erase(first);
  }
  for (auto& [shard, items] : due) {
    const uint64_t connection = connection_to(shard);
    if (connection != 0) {
      const uint64_t correlation = next_correlation();
      settles_[correlation] = {connection, items};
      network_.send(connection, testing::queue_settle_request(group_, items, "", correlation));
    }
  }
}

void LabelWorker::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  if (const auto it = receives_.find(correlation); it != receives_.end()) {
    it->second.arrived_ns = scheduler_.now_ns();
  }
  if (const auto it = settles_.find(correlation); it != settles_.end()) {
    for (const testing::QueueSettleInput& item : it->second.items) {
      if (item.action == protocol::fbs::QueueAction::kAck) {
        labels_.acked({group_, item.partition}, item.offset, scheduler_.now_ns());
      }
    }
  }
}

void LabelWorker::on_settled(const Settle& settle, const protocol::Frame& frame) {
  if (const Status error = testing::error_of(frame); !error.ok()) {
    return require(is_transient(error.code()), "acks were refused: " + error.to_string());
  }
  const std::vector<ErrorCode> results = testing::read_queue_settle_reply(frame);
  require(results.size() == settle.items.size(), "a settlement with another number of results");
  for (const ErrorCode code : results) {
    const bool known = code == ErrorCode::kOk || code == ErrorCode::kFenced ||
                       code == ErrorCode::kNotFound || is_transient(code);
    require(known, "an ack was refused: error " + std::to_string(static_cast<int>(code)));
  }
}

void LabelWorker::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (const auto it = receives_.find(frame.header.correlation); it != receives_.end()) {
    const Receive receive = it->second;
    receives_.erase(it);
    return on_received(receive, frame);
  }
  if (const auto it = settles_.find(frame.header.correlation); it != settles_.end()) {
    const Settle settle = std::move(it->second);
    settles_.erase(it);
    on_settled(settle, frame);
  }
}

void LabelWorker::on_lost(uint64_t connection) {
  const auto gone = [&](const auto& entry) { return entry.second.connection == connection; };
  std::erase_if(receives_, gone);
  std::erase_if(settles_, gone);
}

// --- LabelAuditor

void LabelAuditor::start() {
  left_ = uint64_t{options_.label_groups} * options_.shards;
  ask();
}

void LabelAuditor::ask() {
  if (idle()) {
    return;
  }
  connection_ = connection_to(ShardId{static_cast<uint16_t>((left_ - 1) % options_.shards)});
  if (connection_ == 0) {
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  correlation_ = next_correlation();
  const auto group = static_cast<uint32_t>((left_ - 1) / options_.shards);
  network_.send(connection_,
                testing::queue_describe_request(label_group_name(group), directory_.topics.at(0).id,
                                                correlation_));
}

bool LabelAuditor::judge(const std::vector<testing::QueueInfoResult>& infos) {
  const KnownTopic& topic = directory_.topics.at(0);
  const ShardId shard{static_cast<uint16_t>((left_ - 1) % options_.shards)};
  const std::string group = label_group_name(static_cast<uint32_t>((left_ - 1) / options_.shards));
  text_.clear();
  for (size_t i = 0; i < topic.shards.size(); ++i) {
    const PartitionId partition = topic.partition(i);
    if (topic.shards[i] != shard || !model_.used(partition)) {
      continue;
    }
    const auto info = std::find_if(infos.begin(), infos.end(),
                                   [&](const auto& one) { return one.partition == partition; });
    if (info == infos.end() || info->unsettled > 0) {
      text_ = ", " + group + " partition " + std::to_string(i) + ": " +
              (info == infos.end() ? "not known" : std::to_string(info->unsettled));
      return false;
    }
    require(Offset{info->end} >= model_.end_of(partition), "I7: a queue ends too early");
    labels_.settled({group, partition}, model_.delays().log_ms(shard, network_.reply_left_ns()));
  }
  return true;
}

void LabelAuditor::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a description was refused: " + error.to_string());
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  if (judge(testing::read_queue_describe_reply(frame))) {
    --left_;
    return ask();
  }
  scheduler_.after_us(kRetryUs, [this] { ask(); });
}

void LabelAuditor::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

}  // namespace tidemark::sim
