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

bool is_delay(int64_t ms) { return ms >= 0 && ms <= limits::kQueueDelayMsMax; }

Status check_retries(const partition::QueueConfig& queue) {
  if (queue.retry_delays < 1 || queue.retry_delays > partition::QueueConfig::kRetryDelaysMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "retry_delays_ms has 1 to " +
                      std::to_string(partition::QueueConfig::kRetryDelaysMax) + " delays");
  }
  const auto* const delays = queue.retry_delays_ms.data();
  if (!std::all_of(delays, delays + queue.retry_delays, is_delay) ||
      !is_delay(queue.retry_max_ms)) {
    return Status(ErrorCode::kInvalidArgument, "delays of retries, and retry_max_ms, are 0 to " +
                                                   std::to_string(limits::kQueueDelayMsMax) +
                                                   " ms");
  }
  if (queue.retry_factor_percent < limits::kRetryFactorPercentMin ||
      queue.retry_factor_percent > limits::kRetryFactorPercentMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "retry_factor_percent is " + std::to_string(limits::kRetryFactorPercentMin) +
                      " to " + std::to_string(limits::kRetryFactorPercentMax));
  }
  return Status();
}

Status check_queue_config(const partition::QueueConfig& queue) {
  RETURN_IF_ERROR(check_retries(queue));
  if (queue.max_deliveries > limits::kQueueDeliveriesMax) {
    return Status(ErrorCode::kInvalidArgument, "max_deliveries is 0 (no bound) or at most " +
                                                   std::to_string(limits::kQueueDeliveriesMax));
  }
  if ((queue.max_deliveries > 0) != (queue.dead_letter_topic != TopicId{0})) {
    return Status(ErrorCode::kInvalidArgument,
                  "max_deliveries and dead_letter_topic go together: when a message is given up, "
                  "and where it goes then");
  }
  if (queue.ttl_ms != -1 && queue.ttl_ms < 1) {
    return Status(ErrorCode::kInvalidArgument,
                  "ttl_ms is -1 (messages do not expire) or at least 1");
  }
  if (queue.dedupe_window_ms != -1 && (queue.dedupe_window_ms < limits::kDedupeWindowMsMin ||
                                       queue.dedupe_window_ms > limits::kDedupeWindowMsMax)) {
    return Status(ErrorCode::kInvalidArgument,
                  "dedupe_window_ms is -1 (message ids mean nothing) or " +
                      std::to_string(limits::kDedupeWindowMsMin) + " to " +
                      std::to_string(limits::kDedupeWindowMsMax));
  }
  return Status();
}

Status check_compaction(const meta::TopicConfig& config) {
  const partition::CompactionConfig& compaction = config.compaction;
  if (compaction.after_ms < -1) {
    return Status(ErrorCode::kInvalidArgument,
                  "compact_after_ms is -1 (no compaction) or at least 0");
  }
  if (compaction.tombstone_ms < 0) {
    return Status(ErrorCode::kInvalidArgument, "tombstone_ms is at least 0");
  }
  if (compaction.on() && config.queue.max_deliveries > 0) {
    return Status(ErrorCode::kInvalidArgument,
                  "max_deliveries and dead_letter_topic are of queue mode, in which a topic with "
                  "compact_after_ms cannot be consumed");
  }
  return Status();
}

Status check_config(const meta::TopicConfig& config) {
  if (config.retention_ms < -1 || config.retention_bytes < -1) {
    return Status(ErrorCode::kInvalidArgument, "retention is -1 (no bound) or at least 0");
  }
  const partition::DelayConfig& delays = config.delays;
  if (delays.pending_max < -1 || delays.bytes_max < -1 || delays.late_max_ms < -1) {
    return Status(ErrorCode::kInvalidArgument,
                  "bounds of delayed messages are -1 (no bound) or at least 0");
  }
  if (delays.late_policy > partition::LatePolicy::kDeadLetter) {
    return Status(ErrorCode::kInvalidArgument,
                  "late policy " + std::to_string(static_cast<int>(delays.late_policy)) +
                      "; allowed are 0 (deliver), 1 (skip), 2 (dead letter)");
  }
  if (delays.late_policy != partition::LatePolicy::kDeliver && delays.late_max_ms < 0) {
    return Status(
        ErrorCode::kInvalidArgument,
        "a late policy other than deliver needs late_max_ms: late by how much is too late");
  }
  if ((delays.late_policy == partition::LatePolicy::kDeadLetter) !=
      (delays.late_topic != TopicId{0})) {
    return Status(ErrorCode::kInvalidArgument,
                  "late_topic goes with the late policy dead letter, and only with it");
  }
  RETURN_IF_ERROR(check_queue_config(config.queue));
  return check_compaction(config);
}

// No delays: the default. Too many: their number says so, which check_config() refuses.
void take_retry_delays(const fbs::TopicConfig& wanted, partition::QueueConfig& queue) {
  const auto* delays = wanted.retry_delays_ms();
  if (delays == nullptr || delays->size() == 0) {
    queue.retry_delays_ms = partition::QueueConfig().retry_delays_ms;
    queue.retry_delays = partition::QueueConfig().retry_delays;
    return;
  }
  const size_t most = partition::QueueConfig::kRetryDelaysMax;
  queue.retry_delays_ms = {};
  queue.retry_delays = static_cast<uint8_t>(std::min<size_t>(delays->size(), most + 1));
  for (uint32_t i = 0; i < std::min<size_t>(delays->size(), most); ++i) {
    queue.retry_delays_ms[i] = delays->Get(i);
  }
}

bool take_queue_field(const fbs::TopicConfig& wanted, std::string_view field,
                      partition::QueueConfig& queue) {
  if (field == "retry_delays_ms") {
    take_retry_delays(wanted, queue);
  } else if (field == "retry_factor_percent") {
    queue.retry_factor_percent = wanted.retry_factor_percent();
  } else if (field == "retry_max_ms") {
    queue.retry_max_ms = wanted.retry_max_ms();
  } else if (field == "max_deliveries") {
    queue.max_deliveries = wanted.max_deliveries();
  } else if (field == "ttl_ms") {
    queue.ttl_ms = wanted.ttl_ms();
  } else if (field == "dedupe_window_ms") {
    queue.dedupe_window_ms = wanted.dedupe_window_ms();
  } else {
    return false;
  }
  return true;
}

// Takes the field of this name over; false if there is none.
bool take_field(const fbs::TopicConfig& wanted, std::string_view field, meta::TopicConfig& config) {
  if (field == "retention_ms") {
    config.retention_ms = wanted.retention_ms();
  } else if (field == "retention_bytes") {
    config.retention_bytes = wanted.retention_bytes();
  } else if (field == "delay_pending_max") {
    config.delays.pending_max = wanted.delay_pending_max();
  } else if (field == "delay_bytes_max") {
    config.delays.bytes_max = wanted.delay_bytes_max();
  } else if (field == "late_policy") {
    config.delays.late_policy = static_cast<partition::LatePolicy>(wanted.late_policy());
  } else if (field == "late_max_ms") {
    config.delays.late_max_ms = wanted.late_max_ms();
  } else if (field == "compact_after_ms") {
    config.compaction.after_ms = wanted.compact_after_ms();
  } else if (field == "tombstone_ms") {
    config.compaction.tombstone_ms = wanted.tombstone_ms();
  } else {
    return take_queue_field(wanted, field, config.queue);
  }
  return true;
}

constexpr std::string_view kConfigFields[] = {
    "retention_ms", "retention_bytes",  "delay_pending_max",    "delay_bytes_max", "late_policy",
    "late_max_ms",  "retry_delays_ms",  "retry_factor_percent", "retry_max_ms",    "max_deliveries",
    "ttl_ms",       "dedupe_window_ms", "compact_after_ms",     "tombstone_ms"};

std::string known_settings() {
  std::string names = "partitions, late_topic, dead_letter_topic";
  for (const std::string_view field : kConfigFields) {
    names.append(", ").append(field);
  }
  return names;
}

flatbuffers::Offset<format::fbs::DelayConfig> build_delays(flatbuffers::FlatBufferBuilder& body,
                                                           const partition::DelayConfig& delays) {
  format::fbs::DelayConfigBuilder config(body);
  config.add_pending_max(delays.pending_max);
  config.add_bytes_max(delays.bytes_max);
  config.add_late_policy(static_cast<uint8_t>(delays.late_policy));
  config.add_late_max_ms(delays.late_max_ms);
  config.add_late_topic(delays.late_topic.value());
  return config.Finish();
}

flatbuffers::Offset<format::fbs::QueueConfig> build_queue(flatbuffers::FlatBufferBuilder& body,
                                                          const partition::QueueConfig& queue) {
  const auto delays = body.CreateVector(queue.retry_delays_ms.data(), queue.retry_delays);
  format::fbs::QueueConfigBuilder config(body);
  config.add_retry_delays_ms(delays);
  config.add_retry_factor_percent(queue.retry_factor_percent);
  config.add_retry_max_ms(queue.retry_max_ms);
  config.add_max_deliveries(queue.max_deliveries);
  config.add_dead_letter_topic(queue.dead_letter_topic.value());
  config.add_ttl_ms(queue.ttl_ms);
  config.add_dedupe_window_ms(queue.dedupe_window_ms);
  return config.Finish();
}

flatbuffers::Offset<format::fbs::CompactionConfig> build_compaction(
    flatbuffers::FlatBufferBuilder& body, const partition::CompactionConfig& compaction) {
  format::fbs::CompactionConfigBuilder config(body);
  config.add_after_ms(compaction.after_ms);
  config.add_tombstone_ms(compaction.tombstone_ms);
  return config.Finish();
}

}  // namespace

// Messages go to another topic by reference, so it needs a partition on every shard.
Status Shard::check_taker(TopicId id, std::string_view messages,
                          const std::vector<uint16_t>& shards) const {
  const meta::Topic* taker = views_.catalog().find(id);
  if (taker == nullptr) {
    return Status();
  }
  for (const uint16_t shard : shards) {
    if (taker->partitions_on(ShardId{shard}).empty()) {
      return Status(ErrorCode::kInvalidArgument,
                    "topic " + taker->name + " has no partition on shard " + std::to_string(shard) +
                        ", which it needs to take " + std::string(messages) +
                        "; give it more partitions (" + std::to_string(options_.shard_count) +
                        " shards)");
    }
  }
  return Status();
}

Status Shard::check_takers(const meta::TopicConfig& config,
                           const std::vector<uint16_t>& shards) const {
  RETURN_IF_ERROR(check_taker(config.delays.late_topic, "late messages", shards));
  const meta::Topic* const dead = views_.catalog().find(config.queue.dead_letter_topic);
  if (dead != nullptr && dead->config.compaction.on()) {
    return Status(ErrorCode::kInvalidArgument,
                  "topic " + dead->name +
                      " has compact_after_ms: the dead letters of a key would replace each other");
  }
  return check_taker(config.queue.dead_letter_topic, "dead letters", shards);
}

// A topic that is to be compacted takes no dead letters.
Status Shard::check_takes_none(const meta::Topic& topic, const meta::TopicConfig& config) const {
  for (const auto& [id, other] : views_.catalog().topics()) {
    if (config.compaction.on() && other.state != meta::TopicState::kDropping &&
        other.config.queue.dead_letter_topic == topic.id) {
      return Status(ErrorCode::kInvalidArgument,
                    "topic " + topic.name + " is the dead_letter_topic of topic " + other.name +
                        ": with compact_after_ms the dead letters of a key would replace each "
                        "other");
    }
  }
  return Status();
}

// No name: no topic.
Result<TopicId> Shard::find_taker(std::string_view field, std::string_view name) const {
  if (name.empty()) {
    return TopicId{0};
  }
  const meta::Topic* topic = views_.catalog().find(name);
  if (topic == nullptr) {
    return Status(ErrorCode::kUnknownTopic, std::string(field) + " " + std::string(name));
  }
  return topic->id;
}

Status Shard::take_config(const fbs::TopicConfig& wanted, meta::TopicConfig& config) const {
  for (const std::string_view field : kConfigFields) {
    take_field(wanted, field, config);
  }
  ASSIGN_OR_RETURN(config.delays.late_topic,
                   find_taker("late_topic", protocol::view(wanted.late_topic())));
  ASSIGN_OR_RETURN(config.queue.dead_letter_topic,
                   find_taker("dead_letter_topic", protocol::view(wanted.dead_letter_topic())));
  return Status();
}

// Answered when all shards have followed.
void Shard::gather_topic(const ReplyTo& from, format::RecordKind kind,
                         const flatbuffers::FlatBufferBuilder& body, const Now& now) {
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kTopic;
  pending.topic = std::make_shared<TopicOp>();
  pending.topic->to = from;
  pending.topic->deadline = MonotonicTime{now.monotonic.ns + kTopicWaitNs};
  gather(kind, body, std::move(pending));
}

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
  meta::TopicConfig settings;
  if (status.ok() && config != nullptr) {
    status = take_config(*config, settings);
  }
  if (status.ok()) {
    status = check_config(settings);
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
  for (const ShardId shard : views_.catalog().place(partitions, options_.shard_count, {})) {
    shards.push_back(shard.value());
  }
  if (status = check_takers(settings, shards); !status.ok()) {
    return refuse(from, status);
  }
  flatbuffers::FlatBufferBuilder body;
  const auto delays = build_delays(body, settings.delays);
  const auto queue = build_queue(body, settings.queue);
  const auto compaction = build_compaction(body, settings.compaction);
  const auto text = body.CreateString(name.data(), name.size());
  const auto placed = body.CreateVector(shards);
  format::fbs::TopicCreateBuilder record(body);
  record.add_name(text);
  record.add_shards(placed);
  record.add_retention_ms(settings.retention_ms);
  record.add_retention_bytes(settings.retention_bytes);
  record.add_delays(delays);
  record.add_queue(queue);
  record.add_compaction(compaction);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  gather_topic(from, format::RecordKind::kTopicCreate, body, now);
}

// The topic's configuration and number of partitions as the request wants them.
Status Shard::take_changes(const fbs::TopicAlter& request, meta::TopicConfig& config,
                           uint32_t& partitions) const {
  const uint32_t partitions_before = partitions;
  bool names_dead_letters = false;
  const fbs::TopicConfig* wanted = request.config();
  for (uint32_t i = 0; request.set() != nullptr && i < request.set()->size(); ++i) {
    const std::string_view field = protocol::view(request.set()->Get(i));
    if (field == "partitions") {
      partitions = request.partitions();
    } else if (field == "late_topic" && wanted != nullptr) {
      ASSIGN_OR_RETURN(config.delays.late_topic,
                       find_taker(field, protocol::view(wanted->late_topic())));
    } else if (field == "dead_letter_topic" && wanted != nullptr) {
      names_dead_letters = true;
      ASSIGN_OR_RETURN(config.queue.dead_letter_topic,
                       find_taker(field, protocol::view(wanted->dead_letter_topic())));
    } else if (wanted == nullptr || !take_field(*wanted, field, config)) {
      return Status(ErrorCode::kInvalidArgument,
                    "unknown setting '" + std::string(field) + "'; known are " + known_settings());
    }
  }
  if (config.delays.late_policy != partition::LatePolicy::kDeadLetter) {
    config.delays.late_topic = TopicId{0};
  }
  if (config.queue.max_deliveries == 0 && !names_dead_letters) {
    config.queue.dead_letter_topic = TopicId{0};
  }
  RETURN_IF_ERROR(check_config(config));
  if (partitions < partitions_before || partitions > limits::kPartitionsPerTopicMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "partitions can grow from " + std::to_string(partitions_before) + " to at most " +
                      std::to_string(limits::kPartitionsPerTopicMax));
  }
  return Status();
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
  auto partitions = static_cast<uint32_t>(topic->shards.size());
  status = take_changes(**request, config, partitions);
  if (status.ok() && config.queue.dead_letter_topic == topic->id) {
    status = Status(ErrorCode::kInvalidArgument, "a topic cannot be its own dead_letter_topic");
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  std::vector<uint16_t> shards;
  for (const ShardId shard : topic->shards) {
    shards.push_back(shard.value());
  }
  const auto more = views_.catalog().place(partitions - static_cast<uint32_t>(shards.size()),
                                           options_.shard_count, topic->shards);
  for (const ShardId shard : more) {
    shards.push_back(shard.value());
  }
  status = check_takers(config, shards);
  if (status.ok()) {
    status = check_takes_none(*topic, config);
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  flatbuffers::FlatBufferBuilder body;
  const auto delays = build_delays(body, config.delays);
  const auto queue = build_queue(body, config.queue);
  const auto compaction = build_compaction(body, config.compaction);
  const auto placed = body.CreateVector(shards);
  format::fbs::TopicAlterBuilder record(body);
  record.add_topic(topic->id.value());
  record.add_shards(placed);
  record.add_retention_ms(config.retention_ms);
  record.add_retention_bytes(config.retention_bytes);
  record.add_delays(delays);
  record.add_queue(queue);
  record.add_compaction(compaction);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  gather_topic(from, format::RecordKind::kTopicAlter, body, now);
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
  gather_topic(from, format::RecordKind::kTopicDelete, body, now);
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
  const partition::DelayConfig& delays = topic.config.delays;
  const meta::Topic* late = views_.catalog().find(delays.late_topic);
  const auto late_topic = builder_.CreateString(late ? late->name : std::string());
  const partition::QueueConfig& queue = topic.config.queue;
  const meta::Topic* dead = views_.catalog().find(queue.dead_letter_topic);
  const auto dead_letter_topic = builder_.CreateString(dead ? dead->name : std::string());
  const auto retry_delays = builder_.CreateVector(queue.retry_delays_ms.data(), queue.retry_delays);
  fbs::TopicConfigBuilder config(builder_);
  config.add_retention_ms(topic.config.retention_ms);
  config.add_retention_bytes(topic.config.retention_bytes);
  config.add_delay_pending_max(delays.pending_max);
  config.add_delay_bytes_max(delays.bytes_max);
  config.add_late_policy(static_cast<fbs::LatePolicy>(delays.late_policy));
  config.add_late_max_ms(delays.late_max_ms);
  config.add_late_topic(late_topic);
  config.add_retry_delays_ms(retry_delays);
  config.add_retry_factor_percent(queue.retry_factor_percent);
  config.add_retry_max_ms(queue.retry_max_ms);
  config.add_max_deliveries(queue.max_deliveries);
  config.add_dead_letter_topic(dead_letter_topic);
  config.add_ttl_ms(queue.ttl_ms);
  config.add_dedupe_window_ms(queue.dedupe_window_ms);
  config.add_compact_after_ms(topic.config.compaction.after_ms);
  config.add_tombstone_ms(topic.config.compaction.tombstone_ms);
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

// Of a topic that takes messages of others; 0 if it is gone.
uint32_t Shard::first_partition(TopicId id, ShardId shard) const {
  const meta::Topic* topic = views_.catalog().find(id);
  const std::vector<uint32_t> there = topic ? topic->partitions_on(shard) : std::vector<uint32_t>();
  return there.empty() ? 0 : there.front();
}

void Shard::mail_unconfirmed(const meta::Topic& topic) {
  for (const ShardId shard : topic.unconfirmed) {
    ShardMail mail = new_mail(ShardMail::Kind::kPartitions, shard);
    mail.topic = topic.id;
    mail.name = topic.name;
    mail.version = topic.version;
    mail.state = topic.state == meta::TopicState::kDropping ? ShardMail::State::kDropped
                                                            : ShardMail::State::kOpen;
    mail.partitions = topic.partitions_on(shard);
    mail.retention_ms = topic.config.retention_ms;
    mail.retention_bytes = topic.config.retention_bytes;
    mail.delays = topic.config.delays;
    mail.late_partition = first_partition(mail.delays.late_topic, shard);
    mail.queue = topic.config.queue;
    mail.compaction = topic.config.compaction;
    mail.dead_letter_partition = first_partition(mail.queue.dead_letter_topic, shard);
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
  const auto delays = build_delays(body, mail.delays);
  const auto queue = build_queue(body, mail.queue);
  const auto compaction = build_compaction(body, mail.compaction);
  const auto name = body.CreateString(mail.name);
  format::fbs::PartitionOpenBuilder record(body);
  record.add_topic(mail.topic.value());
  record.add_version(mail.version);
  record.add_partitions(numbers);
  record.add_retention_ms(mail.retention_ms);
  record.add_retention_bytes(mail.retention_bytes);
  record.add_delays(delays);
  record.add_late_partition(mail.late_partition);
  record.add_queue(queue);
  record.add_dead_letter_partition(mail.dead_letter_partition);
  record.add_compaction(compaction);
  record.add_name(name);
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
