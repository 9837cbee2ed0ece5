#include "tests/simulation/keyed_client.h"

namespace tidemark::sim {

namespace {

// Where a message without a value has what tells it from others.
constexpr std::string_view kIdentityHeader = "identity";
constexpr uint64_t kCompressedOf = 4;
constexpr int64_t kRestNs = 100'000'000;  // after a pass, for each thousand offsets

std::string identity_of(const testing::Message& message) {
  for (const auto& [name, value] : message.headers) {
    if (name == kIdentityHeader) {
      return value;
    }
  }
  return message.value;
}

}  // namespace

// --- KeyedProducer

Producer::Encoded KeyedProducer::encode(PartitionId partition, uint64_t first_uid, size_t count,
                                        format::BatchBuilder::Producer producer) {
  format::BatchBuilder builder;
  for (uint64_t uid = first_uid; uid < first_uid + count; ++uid) {
    keyed_.sent(partition, uid);
    const std::string key = keyed_.key_of(uid);
    const std::string value = model_.value_of(uid);
    const format::HeaderInput header{.key = kIdentityHeader, .value = as_bytes(value)};
    format::RecordInput record{.timestamp_ms = scheduler_.clock().wall().ms};
    record.has_key = !key.empty();
    record.key = as_bytes(key);
    if (keyed_.is_tombstone(uid)) {
      record.has_value = false;
      record.headers = {&header, 1};
    } else {
      record.value = as_bytes(value);
    }
    const Status added = builder.append(record);
    TIDEMARK_CHECK(added.ok(), added.to_string());
  }
  const bool compressed = random_.chance(1, kCompressedOf);
  Result<Buffer> batch =
      builder.finish(compressed ? format::Codec::kZstd : format::Codec::kNone, 1, producer);
  TIDEMARK_CHECK(batch.ok(), batch.status().to_string());
  return {SharedBytes(std::move(*batch))};
}

void KeyedProducer::on_stored(PartitionId partition, uint64_t first_uid, size_t count,
                              const testing::ProducePartResult& result) {
  for (size_t i = 0; i < count; ++i) {
    keyed_.stored(partition, result.base + i, first_uid + i,
                  result.duplicate ? -1 : result.received_ms);
  }
}

// --- KeyedReader

void KeyedReader::read_all() {
  reading_all_ = true;
  passing_ = false;
  connection_ = 0;
  left_ = directory_.topics.at(0).shards.size();
}

std::string KeyedReader::describe() const {
  return "reader of keys: " + std::to_string(left_) + " partitions left, at offset " +
         std::to_string(pass_.next.value());
}

void KeyedReader::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(1'000, 50'000)), [this] {
    const bool rests = !passing_ && scheduler_.now_ns() < rests_until_ns_;
    const bool wanted = reading_all_ ? left_ > 0 : !finishing_ && !rests;
    if (connection_ == 0 && wanted && !directory_.topics.empty()) {
      begin();
      ask();
    }
    schedule();
  });
}

void KeyedReader::begin() {
  if (passing_) {
    return;
  }
  const KnownTopic& topic = directory_.topics.at(0);
  const size_t number = reading_all_ ? left_ - 1 : random_.below(topic.shards.size());
  pass_ = keyed_.begin_pass(topic.partition(number));
  passing_ = true;
}

void KeyedReader::ask() {
  connection_ = connection_to(directory_.shard_of(pass_.partition));
  if (connection_ == 0) {
    return;
  }
  correlation_ = next_correlation();
  sent_ns_ = scheduler_.now_ns();
  const auto bytes_max = static_cast<uint32_t>(
      reading_all_ || random_.chance(1, 2) ? 1 << 20 : random_.between(1, 50'000));
  const testing::FetchInput part{pass_.partition, pass_.next, bytes_max};
  network_.send(connection_, testing::fetch_request({&part, 1}, {0, 1, bytes_max}, correlation_));
}

void KeyedReader::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    return require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
  }
  take(testing::read_fetch_reply(frame).at(0));
  if (passing_) {
    ask();
  }
}

void KeyedReader::take(const testing::FetchPartResult& result) {
  const PartitionId partition = pass_.partition;
  const Offset asked = pass_.next;
  if (!result.status.ok()) {
    const bool new_partition =
        result.status.code() == ErrorCode::kUnknownPartition && !model_.used(partition);
    return require(new_partition || is_transient(result.status.code()),
                   "I25: a fetch of a compacted topic failed: " + result.status.to_string());
  }
  require(result.start == Offset{0},
          "I1: a compacted topic begins at offset " + std::to_string(result.start.value()));
  const int64_t left_ns = network_.reply_left_ns();
  const int64_t log_ms = model_.delays().log_ms(directory_.shard_of(partition), left_ns);
  for (const testing::Message& message : result.messages) {
    const uint64_t uid = model_.read(partition, message.offset, identity_of(message));
    require(message.key == keyed_.key_of(uid) && message.has_value != keyed_.is_tombstone(uid),
            "I3: another key, or no value, of message " + std::to_string(uid));
    if (message.offset >= asked) {
      require(message.offset < result.next, "I6: a message behind where the fetch leads to");
      keyed_.passed(pass_, message.offset, left_ns, log_ms);
      keyed_.seen(pass_, message.offset, uid, sent_ns_);
    }
  }
  require(result.next >= asked && result.next <= result.high_watermark,
          "a fetch leads to " + std::to_string(result.next.value()));
  keyed_.passed(pass_, result.next, left_ns, log_ms);
  if (result.next == result.high_watermark) {
    keyed_.end_pass(pass_, log_ms);
    passing_ = false;
    left_ -= reading_all_ ? 1 : 0;
    // Reads a long log less often, or the work grows with the square of what is produced.
    rests_until_ns_ =
        scheduler_.now_ns() + static_cast<int64_t>(result.next.value() / 1'000) * kRestNs;
  }
}

void KeyedReader::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
  }
}

}  // namespace tidemark::sim
