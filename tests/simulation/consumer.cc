#include "tests/simulation/consumer.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryUs = 100'000;

// Messages of whole batches; those before the asked offset are not new.
void check_order(const testing::FetchPartResult& result, Offset asked) {
  Offset expected = result.messages.empty() ? asked : result.messages.front().offset;
  require(expected <= asked, "I6: asked for offset " + std::to_string(asked.value()) +
                                 ", got the first one at " + std::to_string(expected.value()));
  for (const testing::Message& message : result.messages) {
    require(message.offset == expected, [&] {
      return "I5, I6: expected offset " + std::to_string(expected.value()) + ", got " +
             std::to_string(message.offset.value());
    });
    ++expected;
  }
  if (result.status.ok()) {
    require(result.next == expected || result.messages.empty(),
            "a fetch that skips: next is " + std::to_string(result.next.value()) + ", expected " +
                std::to_string(expected.value()));
  }
}

}  // namespace

// --- Reader
// -------------------------------------------------------------------------------------------------------------

Offset Reader::read_part(PartitionId partition, Offset asked, int64_t sent_ns,
                         const testing::FetchPartResult& result) {
  const std::string where = "topic " + std::to_string(partition.topic.value()) + " partition " +
                            std::to_string(partition.index.value()) + " offset " +
                            std::to_string(asked.value()) + ": " + result.status.to_string();
  const bool retention = directory_.find(partition.topic)->retention;
  if (result.status.code() == ErrorCode::kOffsetOutOfRange) {
    require(retention && asked < result.start, "I7: what was known is gone: " + where);
    return result.start;
  }
  if (result.status.code() == ErrorCode::kUnknownPartition) {
    require(!model_.used(partition), "a partition is gone: " + where);
    return asked;
  }
  if (result.status.code() == ErrorCode::kNotFound) {
    // Retention dropped the segment between the look-up and the read; the next fetch says out of
    // range.
    require(retention, "what was known cannot be read: " + where);
    return asked;
  }
  require(result.status.ok() || is_transient(result.status.code()), "a fetch failed: " + where);
  check_order(result, asked);
  for (const testing::Message& message : result.messages) {
    see(partition, message);
  }
  if (!result.status.ok()) {
    return asked;
  }
  model_.groups().watermark(partition, result.high_watermark, sent_ns, network_.reply_left_ns());
  require(result.next >= asked, "a fetch leads back: " + where);
  return result.next;
}

// --- Consumer
// -----------------------------------------------------------------------------------------------------------

void Consumer::schedule(int64_t us) {
  scheduler_.after_us(us, [this] {
    if (connection_ == 0 && !finishing_) {
      if (positions_.empty() || random_.chance(1, 20)) {
        choose();
      }
      ask();
    }
    schedule(static_cast<int64_t>(random_.between(1'000, 50'000)));
  });
}

// One to three partitions of one shard, from the beginning or somewhere.
void Consumer::choose() {
  positions_.clear();
  PartitionId partition;
  for (uint64_t i = random_.between(1, 3); i > 0; --i) {
    if (!directory_.pick(random_, partition)) {
      return;
    }
    if (positions_.empty() ||
        directory_.shard_of(partition) == directory_.shard_of(positions_[0].partition)) {
      const uint64_t end = model_.end_of(partition).value();
      positions_.push_back({partition, Offset{random_.chance(1, 3) ? 0 : random_.below(end + 1)}});
    }
  }
}

void Consumer::ask() {
  std::erase_if(positions_,
                [&](const Position& position) { return !directory_.alive(position.partition); });
  if (positions_.empty()) {
    return;
  }
  connection_ = connection_to(directory_.shard_of(positions_[0].partition));
  if (connection_ == 0) {
    return;
  }
  std::vector<testing::FetchInput> parts;
  for (const Position& position : positions_) {
    parts.push_back(
        {position.partition, position.offset, static_cast<uint32_t>(random_.between(1, 100'000))});
  }
  correlation_ = next_correlation();
  sent_ns_ = scheduler_.now_ns();
  const testing::FetchLimits bounds{
      static_cast<uint32_t>(random_.below(2'000)),
      static_cast<uint32_t>(random_.chance(1, 2) ? 1 : random_.below(10'000)),
      static_cast<uint32_t>(random_.between(1, 200'000))};
  network_.send(connection_, testing::fetch_request(parts, bounds, correlation_));
}

void Consumer::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
    return;
  }
  const auto results = testing::read_fetch_reply(frame);
  require(results.size() == positions_.size(),
          "a fetch reply with another number of parts than its request");
  for (size_t i = 0; i < results.size(); ++i) {
    Position& position = positions_[i];
    if (directory_.alive(position.partition)) {
      position.offset = read_part(position.partition, position.offset, sent_ns_, results[i]);
    }
  }
}

void Consumer::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
  }
}

// --- Drainer
// ------------------------------------------------------------------------------------------------------------

void Drainer::start() {
  for (const KnownTopic& topic : directory_.topics) {
    for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
      partitions_.push_back(topic.partition(i));
    }
  }
  ask();
}

std::string Drainer::describe() const {
  return "drain: " + std::to_string(next_) + " of " + std::to_string(partitions_.size()) +
         " partitions, at offset " + std::to_string(offset_.value());
}

void Drainer::ask() {
  if (idle()) {
    return;
  }
  connection_ = connection_to(directory_.shard_of(partitions_[next_]));
  if (connection_ == 0) {
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  const testing::FetchInput part{partitions_[next_], offset_, 1 << 20};
  correlation_ = next_correlation();
  network_.send(connection_, testing::fetch_request({&part, 1}, {0, 1, 1 << 20}, correlation_));
}

void Drainer::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "the drain was refused: " + error.to_string());
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  const testing::FetchPartResult result = testing::read_fetch_reply(frame).at(0);
  const PartitionId partition = partitions_[next_];
  const bool retention = directory_.find(partition.topic)->retention;
  if (result.status.code() == ErrorCode::kOffsetOutOfRange ||
      result.status.code() == ErrorCode::kNotFound) {
    require(retention, "I1: the drain is out of range: " + result.status.to_string());
    start_ = offset_ = result.start;
    messages_.clear();
    delayed_.clear();
    uids_.clear();
    return ask();
  }
  require(result.status.ok(), "the drain failed: " + result.status.to_string());
  check_order(result, offset_);
  for (const testing::Message& message : result.messages) {
    if (message.offset >= offset_) {
      messages_.push_back({message.offset, message.value});
      uids_.push_back(see(partition, message));
      if (model_.is_delayed(uids_.back())) {
        delayed_.push_back({message.offset, uids_.back()});
      }
    }
  }
  offset_ = result.next;
  if (offset_ == result.high_watermark) {
    model_.check_drained(partition, start_, retention, messages_);
    const ShardId shard = directory_.shard_of(partition);
    model_.delays().check_drained(partition, retention,
                                  model_.delays().log_ms(shard, network_.reply_left_ns()),
                                  options_.lateness_ms_max(), delayed_);
    model_.txns().drained(partition, retention, uids_);
    drained_ += messages_.size();
    messages_.clear();
    delayed_.clear();
    uids_.clear();
    start_ = offset_ = Offset{};
    ++next_;
  }
  ask();
}

void Drainer::on_lost(uint64_t connection) {
  if (connection != connection_) {
    return;
  }
  scheduler_.after_us(kRetryUs, [this] { ask(); });
}

}  // namespace tidemark::sim
