#include "tests/simulation/delay_audit.h"

#include <algorithm>
#include <map>

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryUs = 100'000;
constexpr uint32_t kWaitMs = 200;
constexpr size_t kPartsMax = 8;
// A slot of thousands is split by some hundreds in each checkpoint, until the first can be loaded.
constexpr int kStalledMax = 5;

}  // namespace

// --- DelayWatcher

void DelayWatcher::start() {
  PartitionId any;
  if (!directory_.pick(random_, any)) {
    return;
  }
  shard_ = directory_.shard_of(any);
  for (const KnownTopic& topic : directory_.topics) {
    for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
      if (topic.shards[i] == shard_ && parts_.size() < kPartsMax) {
        parts_.push_back({topic.partition(i), model_.end_of(topic.partition(i)), 1 << 20});
      }
    }
  }
  at_end_.resize(parts_.size());
  since_ms_ = model_.delays().log_ms(shard_, scheduler_.now_ns());
  ask();
}

void DelayWatcher::ask() {
  const bool gone = std::any_of(parts_.begin(), parts_.end(), [this](const auto& part) {
    return !directory_.alive(part.partition);
  });
  if (finishing_ || gone) {
    return;
  }
  connection_ = connection_to(shard_);
  if (connection_ == 0) {
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  correlation_ = next_correlation();
  network_.send(connection_, testing::fetch_request(parts_, {kWaitMs, 1, 1 << 20}, correlation_));
}

void DelayWatcher::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  const auto results = testing::read_fetch_reply(frame);
  const int64_t log_ms = model_.delays().log_ms(shard_, network_.reply_left_ns());
  uint64_t messages = 0;
  int64_t late_ms = 0;
  for (size_t i = 0; i < results.size() && directory_.alive(parts_[i].partition); ++i) {
    const testing::FetchPartResult& result = results[i];
    if (result.status.code() == ErrorCode::kOffsetOutOfRange) {
      parts_[i].offset = std::max(parts_[i].offset, result.start);
      continue;
    }
    for (const testing::Message& message : result.messages) {
      const uint64_t uid = see(parts_[i].partition, message);
      if (at_end_[i] && message.offset >= parts_[i].offset && model_.is_delayed(uid)) {
        const std::optional<int64_t> late = lateness(uid, log_ms);
        messages += late ? 1 : 0;
        late_ms = std::max(late_ms, late.value_or(0));
      }
    }
    if (result.status.ok()) {
      parts_[i].offset = result.next;
      at_end_[i] = at_end_[i] || result.next == result.high_watermark;
    }
  }
  judge(messages, late_ms);
  ask();
}

// What is due only now was acknowledged in time, or its receipt would say so.
std::optional<int64_t> DelayWatcher::lateness(uint64_t uid, int64_t log_ms) const {
  const std::optional<int64_t> due_ms = model_.delays().certain_due(uid);
  if (!due_ms || *due_ms <= since_ms_ || model_.delays().is_series(uid)) {
    return std::nullopt;
  }
  return log_ms - *due_ms;
}

// Messages come in the order of their due times: once all of a reply are in time, no backlog is
// left.
void DelayWatcher::judge(uint64_t messages, int64_t late_ms) {
  if (!caught_up_) {
    caught_up_ = messages > 0 && late_ms <= options_.lateness_ms_max() / 2;
    return;
  }
  judged_ += messages;
  lateness_ms_max_ = std::max(lateness_ms_max_, late_ms);
  require(late_ms <= options_.lateness_ms_max(), "I14: late by " + std::to_string(late_ms) +
                                                     " ms, allowed are " +
                                                     std::to_string(options_.lateness_ms_max()) +
                                                     " on shard " + std::to_string(shard_.value()));
}

void DelayWatcher::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

// --- DelayAuditor

void DelayAuditor::start() {
  next_ = 0;
  before_.reset();
  pending_ = 0;
  ask();
}

void DelayAuditor::ask() {
  if (idle()) {
    return;
  }
  connection_ = connection_to(ShardId{next_});
  if (connection_ == 0) {
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  correlation_ = next_correlation();
  network_.send(connection_, delay_stats_request(correlation_));
}

void DelayAuditor::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "an audit was refused: " + error.to_string());
    scheduler_.after_us(kRetryUs, [this] { ask(); });
    return;
  }
  if (!check(ShardId{next_}, testing::read_reply<protocol::fbs::DelayStatsReply>(frame))) {
    scheduler_.after_us(options_.lateness_ms_max() * 1'000, [this] { ask(); });
    return;
  }
  before_.reset();
  ++next_;
  ask();
}

bool DelayAuditor::check(ShardId shard, const protocol::fbs::DelayStatsReply& stats) {
  const int64_t log_ms = model_.delays().log_ms(shard, network_.reply_left_ns());
  const std::string where = " on shard " + std::to_string(shard.value());
  require(stats.now_ms() == log_ms, "I12: log time is " + std::to_string(stats.now_ms()) +
                                        ", not " + std::to_string(log_ms) + where);
  std::map<TopicId, uint64_t> pending;
  for (const auto* topic : *stats.topics()) {
    pending[TopicId{topic->topic()}] = topic->pending();
    uint64_t in_buckets = 0;
    for (const auto* bucket : *topic->buckets()) {
      in_buckets += bucket->count();
    }
    require(in_buckets == topic->pending(), "I13: topic " + std::to_string(topic->topic()) +
                                                " has " + std::to_string(topic->pending()) +
                                                " pending, " + std::to_string(in_buckets) +
                                                " in its buckets" + where);
  }
  DelayModel::Range all;
  uint64_t total = 0;
  for (const KnownTopic& topic : directory_.topics) {
    const uint64_t count = pending[topic.id];
    const DelayModel::Range range =
        topic.deleting
            ? DelayModel::Range{}
            : model_.delays().pending(topic.id, shard, log_ms, options_.lateness_ms_max());
    require(count >= range.low,
            "I13: topic " + std::to_string(topic.id.value()) + " has " + std::to_string(count) +
                " delayed messages pending, not at least " + std::to_string(range.low) + where);
    total += count;
    all.low += range.low;
    all.high += range.high;
  }
  // What is overdue becomes less; and the last of it may be taken for messages of which nobody
  // knows whether they are there.
  // Cancelled ones, and those of deleted topics, are in its way and leave with it.
  const uint64_t left = total + stats.wheel_entries();
  const bool same = before_ && *before_ == left;
  stalled_ = same ? stalled_ + 1 : 0;
  require(total <= all.high || stalled_ < kStalledMax,
          "I13, I14: " + std::to_string(total) + " delayed messages pending, not " +
              std::to_string(all.low) + " to " + std::to_string(all.high) + where +
              " at log time " + std::to_string(log_ms));
  before_ = left;
  pending_ = total;
  return total == all.low || (total <= all.high && same);
}

void DelayAuditor::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

}  // namespace tidemark::sim
