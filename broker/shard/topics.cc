// Topics: requests to the metadata shard, and the mail by which the other shards follow it.
//
// A change is first committed in the metadata shard's log, then mailed to every shard concerned
// until each has committed it in its own log and said so. Both sides survive a crash at any point:
// mail is repeated from the catalog, and applying it twice changes nothing.
#include <algorithm>
#include <utility>

#include "broker/meta/topic_name.h"
#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr int64_t kTopicWaitNs = 10'000'000'000;

Status check_config(int64_t retention_ms, int64_t retention_bytes) {
  if (retention_ms < -1 || retention_bytes < -1) {
    return Status(ErrorCode::kInvalidArgument, "retention is -1 (no bound) or at least 0");
  }
  return Status();
}

}  // namespace

void Shard::on_topic_create(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TopicCreate*> request =
      protocol::read_table<fbs::TopicCreate>(frame.table(), "TopicCreate");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->name());
  const auto* config = (*request)->config();
  const uint32_t partitions = (*request)->partitions();
  Status status = options_.shard == ShardId{0}
                      ? may_write()
                      : Status(ErrorCode::kWrongShard, "topics are on shard 0");
  if (status.ok()) {
    status = meta::check_topic_name(name);
  }
  if (status.ok() && config != nullptr) {
    status = check_config(config->retention_ms(), config->retention_bytes());
  }
  if (status.ok() && (partitions < 1 || partitions > limits::kPartitionsPerTopicMax)) {
    status = Status(ErrorCode::kInvalidArgument,
                    std::to_string(partitions) + " partitions; allowed are 1 to " +
                        std::to_string(limits::kPartitionsPerTopicMax));
  }
  if (status.ok() && views_.catalog().find(name) != nullptr) {
    status = Status(ErrorCode::kAlreadyExists, "topic " + std::string(name));
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  std::vector<uint16_t> shards;
  for (const ShardId shard : views_.catalog().place(partitions, options_.shard_count)) {
    shards.push_back(shard.value());
  }
  flatbuffers::FlatBufferBuilder body;
  const auto text = body.CreateString(name.data(), name.size());
  const auto placed = body.CreateVector(shards);
  format::fbs::TopicCreateBuilder record(body);
  record.add_name(text);
  record.add_shards(placed);
  record.add_retention_ms(config ? config->retention_ms() : -1);
  record.add_retention_bytes(config ? config->retention_bytes() : -1);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kTopic;
  pending.topic = std::make_shared<TopicOp>();
  pending.topic->to = from;
  pending.topic->deadline = MonotonicTime{now.monotonic.ns + kTopicWaitNs};
  gather(format::RecordKind::kTopicCreate, body, std::move(pending));
}

void Shard::on_topic_alter(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TopicAlter*> request =
      protocol::read_table<fbs::TopicAlter>(frame.table(), "TopicAlter");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->name());
  const meta::Topic* topic = views_.catalog().find(name);
  Status status = options_.shard == ShardId{0}
                      ? may_write()
                      : Status(ErrorCode::kWrongShard, "topics are on shard 0");
  if (status.ok() && topic == nullptr) {
    status = Status(ErrorCode::kUnknownTopic, std::string(name));
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  meta::TopicConfig config = topic->config;
  uint32_t partitions = static_cast<uint32_t>(topic->shards.size());
  const fbs::TopicConfig* wanted = (*request)->config();
  for (uint32_t i = 0; (*request)->set() != nullptr && i < (*request)->set()->size(); ++i) {
    const std::string_view field = protocol::view((*request)->set()->Get(i));
    if (field == "partitions") {
      partitions = (*request)->partitions();
    } else if (field == "retention_ms" && wanted != nullptr) {
      config.retention_ms = wanted->retention_ms();
    } else if (field == "retention_bytes" && wanted != nullptr) {
      config.retention_bytes = wanted->retention_bytes();
    } else {
      return refuse(from, Status(ErrorCode::kInvalidArgument,
                                 "unknown setting '" + std::string(field) +
                                     "'; known are partitions, retention_ms, retention_bytes"));
    }
  }
  status = check_config(config.retention_ms, config.retention_bytes);
  if (status.ok() &&
      (partitions < topic->shards.size() || partitions > limits::kPartitionsPerTopicMax)) {
    status = Status(ErrorCode::kInvalidArgument,
                    "partitions can grow from " + std::to_string(topic->shards.size()) +
                        " to at most " + std::to_string(limits::kPartitionsPerTopicMax));
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  std::vector<uint16_t> shards;
  for (const ShardId shard : topic->shards) {
    shards.push_back(shard.value());
  }
  const auto more = views_.catalog().place(partitions - static_cast<uint32_t>(shards.size()),
                                           options_.shard_count);
  for (const ShardId shard : more) {
    shards.push_back(shard.value());
  }
  flatbuffers::FlatBufferBuilder body;
  const auto placed = body.CreateVector(shards);
  format::fbs::TopicAlterBuilder record(body);
  record.add_topic(topic->id.value());
  record.add_shards(placed);
  record.add_retention_ms(config.retention_ms);
  record.add_retention_bytes(config.retention_bytes);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kTopic;
  pending.topic = std::make_shared<TopicOp>();
  pending.topic->to = from;
  pending.topic->deadline = MonotonicTime{now.monotonic.ns + kTopicWaitNs};
  gather(format::RecordKind::kTopicAlter, body, std::move(pending));
}

void Shard::on_topic_delete(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TopicDelete*> request =
      protocol::read_table<fbs::TopicDelete>(frame.table(), "TopicDelete");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view name = protocol::view((*request)->name());
  const meta::Topic* topic = views_.catalog().find(name);
  Status status = options_.shard == ShardId{0}
                      ? may_write()
                      : Status(ErrorCode::kWrongShard, "topics are on shard 0");
  if (status.ok() && topic == nullptr) {
    status = Status(ErrorCode::kUnknownTopic, std::string(name));
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::TopicDeleteBuilder record(body);
  record.add_topic(topic->id.value());
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kTopic;
  pending.topic = std::make_shared<TopicOp>();
  pending.topic->to = from;
  pending.topic->deadline = MonotonicTime{now.monotonic.ns + kTopicWaitNs};
  gather(format::RecordKind::kTopicDelete, body, std::move(pending));
}

void Shard::settle_topic(PendingRecord& pending, const RecordOutcome& outcome) {
  const std::shared_ptr<TopicOp> op = std::move(pending.topic);
  op->topic = outcome.topic;
  op->version = outcome.version;
  if (outcome.error != ErrorCode::kOk) {
    const std::string what = outcome.error == ErrorCode::kLimitExceeded
                                 ? "a cluster has at most " + std::to_string(limits::kTopicsMax) +
                                       " topics and " + std::to_string(limits::kPartitionsMax) +
                                       " partitions"
                                 : "another request was faster";
    return reply_topic(*op, Status(outcome.error, what));
  }
  if (stopping_) {
    return reply_topic(
        *op, Status(ErrorCode::kShuttingDown, "the broker is stopping; the change is recorded"));
  }
  topic_waiters_.push_back(op);
  if (const meta::Topic* topic = views_.catalog().find(op->topic); topic != nullptr) {
    mail_unconfirmed(*topic);
  }
}

void Shard::check_topic_waiters() {
  std::vector<std::shared_ptr<TopicOp>> waiting;
  for (const auto& op : std::exchange(topic_waiters_, {})) {
    const meta::Topic* topic = views_.catalog().find(op->topic);
    const bool followed =
        topic == nullptr || (topic->version >= op->version && topic->unconfirmed.empty());
    if (followed) {
      reply_topic(*op, Status());
    } else if (now_.monotonic >= op->deadline) {
      reply_topic(*op, Status(ErrorCode::kTimedOut,
                              "the change is recorded, not all shards have followed yet"));
    } else {
      waiting.push_back(op);
    }
  }
  topic_waiters_.insert(topic_waiters_.end(), waiting.begin(), waiting.end());
}

void Shard::reply_topic(const TopicOp& op, const Status& status) {
  if (!status.ok()) {
    return refuse(op.to, status);
  }
  const meta::Topic* topic = views_.catalog().find(op.topic);
  flatbuffers::Offset<fbs::TopicInfo> info;
  if (topic != nullptr) {
    info = build_topic(*topic);
  }
  fbs::TopicReplyBuilder reply(builder_);
  if (topic != nullptr) {
    reply.add_topic(info);
  }
  send_reply(op.to, reply.Finish());
}

// --- metadata
// -----------------------------------------------------------------------------------------------------------

flatbuffers::Offset<fbs::TopicInfo> Shard::build_topic(const meta::Topic& topic) {
  std::vector<flatbuffers::Offset<fbs::PartitionInfo>> partitions;
  partitions.reserve(topic.shards.size());
  for (uint32_t i = 0; i < topic.shards.size(); ++i) {
    fbs::PartitionInfoBuilder partition(builder_);
    partition.add_index(i);
    partition.add_shard(topic.shards[i].value());
    partition.add_leader(options_.node.value());
    partitions.push_back(partition.Finish());
  }
  const auto all = builder_.CreateVector(partitions);
  const auto name = builder_.CreateString(topic.name);
  fbs::TopicConfigBuilder config(builder_);
  config.add_retention_ms(topic.config.retention_ms);
  config.add_retention_bytes(topic.config.retention_bytes);
  const auto settings = config.Finish();
  fbs::TopicInfoBuilder info(builder_);
  info.add_name(name);
  info.add_id(topic.id.value());
  info.add_created_ms(topic.created_ms);
  info.add_config(settings);
  info.add_partitions(all);
  return info.Finish();
}

flatbuffers::Offset<fbs::TopicInfo> Shard::build_unknown_topic(std::string_view name) {
  const auto error =
      protocol::build_error(builder_, Status(ErrorCode::kUnknownTopic, std::string(name)));
  const auto text = builder_.CreateString(name.data(), name.size());
  fbs::TopicInfoBuilder info(builder_);
  info.add_error(error);
  info.add_name(text);
  return info.Finish();
}

void Shard::on_metadata(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::Metadata*> request =
      protocol::read_table<fbs::Metadata>(frame.table(), "Metadata");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if (options_.shard != ShardId{0}) {
    return refuse(from, Status(ErrorCode::kWrongShard, "topics are on shard 0"));
  }
  const auto* names = (*request)->topics();
  if (names != nullptr && names->size() > limits::kPartsPerRequestMax) {
    return refuse(from, Status(ErrorCode::kInvalidArgument,
                               "at most " + std::to_string(limits::kPartsPerRequestMax) +
                                   " names, or none for all"));
  }
  std::vector<flatbuffers::Offset<fbs::TopicInfo>> topics;
  if (names != nullptr && names->size() > 0) {
    for (const auto* name : *names) {
      const meta::Topic* topic = views_.catalog().find(protocol::view(name));
      topics.push_back(topic ? build_topic(*topic) : build_unknown_topic(protocol::view(name)));
    }
  } else {
    for (const auto& [id, topic] : views_.catalog().topics()) {
      if (topic.state != meta::TopicState::kDropping) {
        topics.push_back(build_topic(topic));
      }
    }
  }
  const auto all = builder_.CreateVector(topics);
  const auto host = builder_.CreateString(options_.advertised_host);
  fbs::BrokerInfoBuilder self(builder_);
  self.add_id(options_.node.value());
  self.add_host(host);
  self.add_port(options_.advertised_port);
  const auto broker = self.Finish();
  const auto brokers = builder_.CreateVector(&broker, 1);
  fbs::MetadataReplyBuilder reply(builder_);
  reply.add_brokers(brokers);
  reply.add_topics(all);
  send_reply(from, reply.Finish());
}

// --- mail
// ---------------------------------------------------------------------------------------------------------------

void Shard::mail_unconfirmed(const meta::Topic& topic) {
  for (const ShardId shard : topic.unconfirmed) {
    ShardMail mail;
    mail.kind = ShardMail::Kind::kPartitions;
    mail.from = options_.shard;
    mail.to = shard;
    mail.topic = topic.id;
    mail.version = topic.version;
    mail.state = topic.state == meta::TopicState::kDropping ? ShardMail::State::kDropped
                                                            : ShardMail::State::kOpen;
    mail.partitions = topic.partitions_on(shard);
    mail.retention_ms = topic.config.retention_ms;
    mail.retention_bytes = topic.config.retention_bytes;
    outbox_.mail(std::move(mail));
  }
}

void Shard::on_partitions_mail(const ShardMail& mail, const Now& now) {
  if (!may_write().ok() || partitions_in_flight_.contains({mail.topic, mail.version})) {
    return;
  }
  partitions_in_flight_.insert({mail.topic, mail.version});
  flatbuffers::FlatBufferBuilder body;
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kPartitions;
  pending.topic_id = mail.topic;
  pending.version = mail.version;
  const bool drop = mail.state == ShardMail::State::kDropped;
  const bool done =
      drop ? views_.was_dropped(mail.topic)
           : std::all_of(mail.partitions.begin(), mail.partitions.end(), [&](uint32_t number) {
               const auto* partition = views_.find({mail.topic, PartitionIndex{number}});
               return partition != nullptr && partition->config().version >= mail.version;
             });
  if (done) {
    return settle(pending, RecordOutcome());
  }
  if (drop) {
    format::fbs::PartitionDropBuilder record(body);
    record.add_topic(mail.topic.value());
    record.add_version(mail.version);
    record.add_time_ms(log_time(now));
    body.Finish(record.Finish());
    return gather(format::RecordKind::kPartitionDrop, body, std::move(pending));
  }
  const auto numbers = body.CreateVector(mail.partitions);
  format::fbs::PartitionOpenBuilder record(body);
  record.add_topic(mail.topic.value());
  record.add_version(mail.version);
  record.add_partitions(numbers);
  record.add_retention_ms(mail.retention_ms);
  record.add_retention_bytes(mail.retention_bytes);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  gather(format::RecordKind::kPartitionOpen, body, std::move(pending));
}

void Shard::on_partitions_done(const ShardMail& mail) {
  const meta::Topic* topic = views_.catalog().find(mail.topic);
  const std::tuple key{mail.topic, mail.version, mail.from};
  if (topic == nullptr || topic->version != mail.version ||
      !topic->unconfirmed.contains(mail.from) || progress_in_flight_.contains(key) ||
      !may_write().ok()) {
    return;
  }
  progress_in_flight_.insert(key);
  flatbuffers::FlatBufferBuilder body;
  format::fbs::TopicProgressBuilder record(body);
  record.add_topic(mail.topic.value());
  record.add_version(mail.version);
  record.add_shard(mail.from.value());
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kProgress;
  pending.topic_id = mail.topic;
  pending.version = mail.version;
  pending.shard = mail.from;
  gather(format::RecordKind::kTopicProgress, body, std::move(pending));
}

}  // namespace tidemark::shard
