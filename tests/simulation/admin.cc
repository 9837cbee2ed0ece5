#include "tests/simulation/admin.h"

#include <iterator>

#include "tests/support/queue_requests.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryUs = 200'000;
constexpr int64_t kRetentionBytes = 20'000;
constexpr const char* kDeadLetters = "dead-letters";

}  // namespace

void Admin::start() { schedule(); }

std::string Admin::describe() const {
  return "admin: " + std::to_string(created_) + " topics created, " +
         (change_ ? "busy with " + change_->topic.name + (change_->done ? ", done" : "") : "idle");
}

void Admin::schedule() {
  plan();
  if (change_ && connection_ == 0) {
    send();
  }
  scheduler_.after_us(kRetryUs, [this] { schedule(); });
}

void Admin::plan() {
  if (change_) {
    return;
  }
  using Kind = Change::Kind;
  if (lacks_dead_letters()) {
    Change change;
    change.topic.name = kDeadLetters;
    change.topic.partitions = options_.shards;
    change_ = change;
    return;
  }
  if (created_ < options_.topics) {
    Change change;
    change.topic.name = "topic-" + std::to_string(created_);
    change.topic.partitions = static_cast<uint32_t>(random_.between(1, options_.partitions_max));
    if (options_.retention && random_.chance(1, 2)) {
      change.topic.retention_bytes = kRetentionBytes;
    }
    change_ = change;
    return;
  }
  PartitionId partition;
  if (finishing_ || !options_.topic_changes || !random_.chance(1, 20) ||
      !directory_.pick(random_, partition)) {
    return;
  }
  KnownTopic& topic = *directory_.find(partition.topic);
  Change change;
  change.kind = random_.chance(1, 3) ? Kind::kDelete : Kind::kAlter;
  change.id = topic.id;
  change.topic.name = topic.name;
  if (change.kind == Kind::kDelete) {
    topic.deleting = true;
    model_.forget(topic.id);
  } else {
    change.topic.partitions = static_cast<uint32_t>(topic.shards.size() + random_.below(3));
  }
  change_ = change;
}

void Admin::send() {
  connection_ = connection_to(ShardId{0});
  if (connection_ == 0) {
    return;
  }
  correlation_ = next_correlation();
  if (change_->done) {
    const std::vector<std::string> names = {change_->topic.name};
    return network_.send(connection_, testing::metadata_request(names, correlation_));
  }
  switch (change_->kind) {
    case Change::Kind::kCreate:
      return network_.send(connection_, create_request());
    case Change::Kind::kAlter: {
      const std::vector<std::string> set = {"partitions"};
      return network_.send(connection_,
                           testing::topic_alter_request(change_->topic, set, correlation_));
    }
    case Change::Kind::kDelete:
      return network_.send(connection_,
                           testing::topic_delete_request(change_->topic.name, correlation_));
  }
}

protocol::Frame Admin::create_request() {
  testing::QueueTopicInput queue;
  queue.retry_delays_ms.assign(std::begin(kQueueRetryMs), std::end(kQueueRetryMs));
  queue.retry_factor_percent = kQueueRetryFactorPercent;
  queue.retry_max_ms = kQueueRetryMsMax;
  if (directory_.dead_letters.has_value() && change_->topic.name != kDeadLetters) {
    queue.max_deliveries = options_.queue_max_deliveries;
    queue.dead_letter_topic = kDeadLetters;
  }
  return testing::queue_topic_create_request(change_->topic, queue, correlation_);
}

void Admin::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  const Status error = testing::error_of(frame);
  if (!change_->done) {
    return on_outcome(error);
  }
  if (!error.ok()) {
    require(is_transient(error.code()), "metadata was refused: " + error.to_string());
    return;
  }
  const auto* topics = testing::read_reply<protocol::fbs::MetadataReply>(frame).topics();
  require(topics != nullptr && topics->size() == 1, "metadata of one topic was asked for");
  const Status known = protocol::to_status(topics->Get(0)->error());
  if (change_->kind == Change::Kind::kDelete) {
    require(known.code() == ErrorCode::kUnknownTopic,
            "a deleted topic is still there: " + known.to_string());
    change_->kind = Change::Kind::kCreate;  // the name is free: a new topic takes it
    change_->done = change_->unsure = false;
    change_->topic.partitions = static_cast<uint32_t>(random_.between(1, options_.partitions_max));
    --created_;
    return;
  }
  require(known.ok(), "a topic that was acknowledged is not there: " + known.to_string());
  learn(*topics->Get(0));
}

void Admin::on_outcome(const Status& status) {
  using Kind = Change::Kind;
  const bool done_before =
      change_->unsure &&
      ((change_->kind == Kind::kCreate && status.code() == ErrorCode::kAlreadyExists) ||
       (change_->kind == Kind::kDelete && status.code() == ErrorCode::kUnknownTopic));
  if (status.ok() || done_before) {
    change_->done = true;
    return;
  }
  require(is_transient(status.code()),
          "a change of topic " + change_->topic.name + " was refused: " + status.to_string());
  change_->unsure = true;
}

void Admin::learn(const protocol::fbs::TopicInfo& info) {
  const TopicId id{info.id()};
  KnownTopic* topic = directory_.find(id);
  if (lacks_dead_letters()) {
    topic = &directory_.dead_letters.emplace();
    topic->name = kDeadLetters;
    topic->id = id;
  } else if (topic == nullptr) {
    require(change_->kind == Change::Kind::kCreate, "an altered topic has another id now");
    directory_.topics.emplace_back();
    topic = &directory_.topics.back();
    topic->name = change_->topic.name;
    topic->id = id;
    topic->retention = change_->topic.retention_bytes >= 0;
    ++created_;
  }
  require(info.partitions()->size() == change_->topic.partitions,
          "topic " + topic->name + " has " + std::to_string(info.partitions()->size()) +
              " partitions, asked for were " + std::to_string(change_->topic.partitions));
  for (size_t i = 0; i < info.partitions()->size(); ++i) {
    const ShardId shard{info.partitions()->Get(static_cast<uint32_t>(i))->shard()};
    if (i < topic->shards.size()) {
      require(topic->shards[i] == shard, "a partition moved to another shard");
    } else {
      topic->shards.push_back(shard);
    }
  }
  change_.reset();
}

void Admin::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    change_->unsure = true;
  }
}

}  // namespace tidemark::sim
