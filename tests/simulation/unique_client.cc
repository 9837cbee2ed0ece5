#include "tests/simulation/unique_client.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryUs = 100'000;
constexpr int64_t kRetryNs = kRetryUs * 1'000;
constexpr uint64_t kMessagesMax = 5;

}  // namespace

// --- UniqueClient

std::string UniqueClient::describe() const {
  std::string text = "client with ids";
  for (const auto& [partition, batch] : batches_) {
    text += ", partition " + std::to_string(partition.index.value()) + ": delivery " +
            std::to_string(batch.uids.front());
  }
  return text;
}

void UniqueClient::schedule() {
  const auto wait_us = static_cast<uint64_t>(options_.produce_interval_us_max);
  scheduler_.after_us(static_cast<int64_t>(random_.below(wait_us)) + 1, [this] {
    work();
    schedule();
  });
}

void UniqueClient::work() {
  ask_for_id();
  PartitionId partition;
  if (!finishing_ && directory_.pick(random_, partition)) {
    if (random_.chance(1, 2'000)) {
      hang_up();
      producer_ = asking_ = 0;
      next_.clear();
      batches_.clear();
      requests_.clear();
      return;
    }
    if (!batches_.contains(partition)) {
      make_batch(partition);
    }
  }
  for (auto& [to, batch] : batches_) {
    if (scheduler_.now_ns() >= batch.not_before_ns) {
      send(to, batch);
    }
  }
}

void UniqueClient::ask_for_id() {
  if (producer_ != 0 || asking_ != 0 || finishing_) {
    return;
  }
  asking_on_ = connection_to(ShardId{0});
  if (asking_on_ != 0) {
    asking_ = next_correlation();
    network_.send(asking_on_, testing::init_producer_request(asking_));
  }
}

// New, of this partition's last ones, or none.
uint64_t UniqueClient::pick_id(PartitionId partition) {
  if (random_.chance(1, 8)) {
    return 0;
  }
  return unique_.pick_id(partition, random_);
}

void UniqueClient::make_batch(PartitionId partition) {
  Batch batch;
  batch.sequenced = producer_ != 0 && random_.chance(1, 2);
  format::BatchBuilder builder;
  for (uint64_t i = random_.between(1, kMessagesMax); i > 0; --i) {
    const uint64_t id = pick_id(partition);
    const auto pad = static_cast<uint32_t>(random_.below(options_.value_bytes_max));
    const uint64_t uid = model_.sent(partition, 0, 0, pad);
    unique_.sent(partition, uid, id, batch.sequenced);
    batch.uids.push_back(uid);
    const std::string value = model_.value_of(uid);
    const std::string name = std::to_string(id);
    const format::HeaderInput header{.key = "tm-id", .value = as_bytes(name)};
    format::RecordInput record{.timestamp_ms = scheduler_.clock().wall().ms};
    record.value = as_bytes(value);
    if (id != 0) {
      record.headers = {&header, 1};
    }
    const Status added = builder.append(record);
    TIDEMARK_CHECK(added.ok(), added.to_string());
  }
  format::BatchBuilder::Producer producer;
  if (batch.sequenced) {
    batch.sequence = next_[partition];
    producer = {static_cast<int64_t>(producer_), 0, static_cast<int32_t>(batch.sequence)};
    next_[partition] += batch.uids.size();
  }
  const bool compressed = random_.chance(1, 4);
  Result<Buffer> bytes =
      builder.finish(compressed ? format::Codec::kZstd : format::Codec::kNone, 1, producer);
  TIDEMARK_CHECK(bytes.ok(), bytes.status().to_string());
  batch.bytes = SharedBytes(std::move(*bytes));
  batches_[partition] = std::move(batch);
}

void UniqueClient::send(PartitionId partition, Batch& batch) {
  const uint64_t connection = connection_to(directory_.shard_of(partition));
  if (connection == 0) {
    return;
  }
  batch.not_before_ns = INT64_MAX;
  // The network repeats some.
  for (int copies = random_.chance(1, 20) ? 2 : 1; copies > 0; --copies) {
    const uint64_t correlation = next_correlation();
    requests_[correlation] = {connection, partition, batch.uids, batch.sequenced, 0};
    const testing::ProduceInput part{partition, batch.bytes};
    network_.send(connection, testing::produce_request({&part, 1}, correlation));
  }
}

void UniqueClient::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  const auto it = requests_.find(correlation);
  if (it == requests_.end()) {
    return;
  }
  Request& request = it->second;
  request.arrived_log_ms =
      model_.delays().log_ms(directory_.shard_of(request.partition), scheduler_.now_ns());
  for (const uint64_t uid : request.uids) {
    unique_.arrived(uid, request.arrived_log_ms);
  }
}

void UniqueClient::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  const Status error = testing::error_of(frame);
  if (asking_ != 0 && frame.header.correlation == asking_) {
    asking_ = 0;
    if (error.ok()) {
      producer_ = testing::read_reply<protocol::fbs::InitProducerReply>(frame).producer_id();
    }
    return;
  }
  const auto it = requests_.find(frame.header.correlation);
  if (it == requests_.end()) {
    return;
  }
  const Request request = std::move(it->second);
  requests_.erase(it);
  if (!error.ok()) {
    require(is_transient(error.code()), "a valid batch was refused: " + error.to_string());
    return again(request);
  }
  on_answer(request, testing::read_produce_reply(frame).at(0));
}

void UniqueClient::on_answer(const Request& request, const testing::ProducePartResult& result) {
  if (!result.status.ok()) {
    require(is_transient(result.status.code()) ||
                (result.status.code() == ErrorCode::kUnknownPartition &&
                 !model_.used(request.partition)),
            "a valid batch with ids was refused: " + result.status.to_string());
    return again(request);
  }
  const size_t count = request.uids.size();
  require(result.offsets.empty() || result.offsets.size() == count,
          "I26: " + std::to_string(result.offsets.size()) + " offsets for " +
              std::to_string(count) + " messages");
  require(result.offsets.empty() || !result.duplicate || result.base == Offset{result.offsets[0]},
          "I26: a batch of duplicates begins elsewhere than its first message");
  for (size_t i = 0; i < count; ++i) {
    if (!result.offsets.empty()) {
      unique_.answered(request.uids[i], Offset{result.offsets[i]}, request.arrived_log_ms);
    } else if (result.duplicate) {
      unique_.acknowledged(request.uids[i]);
    } else {
      unique_.answered(request.uids[i], result.base + i, request.arrived_log_ms);
    }
  }
  if (find(request) != nullptr) {
    batches_.erase(request.partition);
  }
}

UniqueClient::Batch* UniqueClient::find(const Request& request) {
  const auto it = batches_.find(request.partition);
  return it != batches_.end() && it->second.uids == request.uids ? &it->second : nullptr;
}

// Unless a copy is still under way.
void UniqueClient::again(const Request& request) {
  const bool under_way = std::any_of(requests_.begin(), requests_.end(), [&](const auto& entry) {
    return entry.second.uids == request.uids;
  });
  if (Batch* const batch = find(request); batch != nullptr && !under_way) {
    batch->not_before_ns = scheduler_.now_ns() + kRetryNs;
  }
}

void UniqueClient::on_lost(uint64_t connection) {
  asking_ = asking_on_ == connection ? 0 : asking_;
  std::vector<Request> lost;
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (it->second.connection == connection) {
      lost.push_back(std::move(it->second));
      it = requests_.erase(it);
    } else {
      ++it;
    }
  }
  for (const Request& request : lost) {
    again(request);
  }
}

// --- UniqueReader

void UniqueReader::read_all() {
  left_ = directory_.topics.at(0).shards.size();
  ask();
}

std::string UniqueReader::describe() const {
  return "reader of ids: " + std::to_string(left_) + " partitions left, at offset " +
         std::to_string(offset_.value());
}

void UniqueReader::ask() {
  if (idle()) {
    return;
  }
  const PartitionId partition = directory_.topics.at(0).partition(left_ - 1);
  connection_ = connection_to(directory_.shard_of(partition));
  if (connection_ == 0) {
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  correlation_ = next_correlation();
  const testing::FetchInput part{partition, offset_};
  network_.send(connection_, testing::fetch_request({&part, 1}, {}, correlation_));
}

void UniqueReader::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  const testing::FetchPartResult result = testing::read_fetch_reply(frame).at(0);
  require(result.status.ok(), "a fetch of all failed: " + result.status.to_string());
  const PartitionId partition = directory_.topics.at(0).partition(left_ - 1);
  for (const testing::Message& message : result.messages) {
    if (message.offset >= offset_) {
      require(message.offset == offset_, "I6: expected offset " + std::to_string(offset_.value()) +
                                             ", got " + std::to_string(message.offset.value()));
      ++offset_;
      messages_.push_back({message.offset, model_.read(partition, message.offset, message.value)});
    }
  }
  require(result.next == offset_, "I6: a fetch that skips");
  if (offset_ == result.high_watermark) {
    unique_.check_drained(partition, messages_);
    messages_.clear();
    offset_ = Offset{0};
    --left_;
  }
  ask();
}

void UniqueReader::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

}  // namespace tidemark::sim
