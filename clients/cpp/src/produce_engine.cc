#include "clients/cpp/src/produce_engine.h"

#include <algorithm>
#include <utility>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/delay_item.h"
#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

// The answer says that what the client knows about the partition's place is old.
bool is_about_place(ErrorCode code) {
  return code == ErrorCode::kNotLeader || code == ErrorCode::kWrongShard ||
         code == ErrorCode::kUnknownTopic || code == ErrorCode::kUnknownPartition;
}

void run_callbacks(const client::DeliveryBatchCallback& on_delivery, const std::string& topic,
                   uint32_t partition, Batch& batch, const client::Status& status,
                   client::DeliveryBatch report) {
  report.topic = topic;
  report.partition = partition;
  report.status = status;
  report.opaques = batch.opaques;
  report.receipts = batch.receipts;
  report.offsets = batch.offsets;
  if (on_delivery) {
    on_delivery(report);
  }
  for (size_t i = 0; i < batch.callbacks.size(); ++i) {
    if (!batch.callbacks[i]) {
      continue;
    }
    client::Delivery delivery{.status = status,
                              .partition = partition,
                              .received_ms = report.received_ms,
                              .outcome_unknown = report.outcome_unknown,
                              .opaque = batch.opaques[i]};
    if (i < report.receipts.size()) {
      delivery.status = report.receipts[i].status;
      delivery.handle = report.receipts[i].handle;
      delivery.due_ms = report.receipts[i].due_ms;
    } else if (status.ok()) {
      delivery.offset = i < report.offsets.size() ? report.offsets[i] : report.base_offset + i;
    }
    batch.callbacks[i](delivery);
  }
}

// Takes the receipts of a set that is stored. Requires: one per message.
void take_receipts(Batch& batch, uint16_t shard, const fbs::ProducePartReply& reply) {
  batch.receipts.reserve(batch.records);
  for (const fbs::DelayReceipt* receipt : *reply.receipts()) {
    batch.receipts.push_back(to_receipt(*receipt, shard, batch.target.topic.value()));
    const client::Status& status = batch.receipts.back().status;
    if (!status.ok() && ++batch.refused == 1) {
      batch.refusal = Status(static_cast<ErrorCode>(status.code()), std::string(status.context()));
    }
  }
}

}  // namespace

ProduceEngine::ProduceEngine(EngineOptions options, std::shared_ptr<Batcher> batcher,
                             Cluster& cluster, Dispatcher dispatch, uint64_t seed)
    : options_(std::move(options)),
      batcher_(std::move(batcher)),
      cluster_(cluster),
      dispatch_(std::move(dispatch)),
      random_(seed) {}

MonotonicTime ProduceEngine::run(MonotonicTime now) {
  for (FailedBatch& failed : batcher_->take_failed()) {
    report(failed.topic, failed.partition, std::move(failed.batch), {.status = failed.why});
  }
  take_news();
  resolve_topics(now);
  for (size_t i = 0; i < busy_.size(); ++i) {
    if (now >= busy_[i]->check_at) {
      check_late(*busy_[i], now);
    }
  }
  give_identities();
  fill(now);
  send_groups();
  std::erase_if(busy_, [](Lane* lane) {
    // take() said that the queue is empty; what comes later is announced.
    lane->busy = !(lane->window.empty() && lane->ready_at == kNever);
    return !lane->busy;
  });
  return next_run(now);
}

ProduceEngine::TopicState& ProduceEngine::state_of(TopicQueue& queue) {
  std::unique_ptr<TopicState>& state = topics_[&queue];
  if (state == nullptr) {
    state = std::make_unique<TopicState>();
    state->queue = &queue;
  }
  return *state;
}

ProduceEngine::Lane& ProduceEngine::lane_of(PartitionQueue& queue) {
  std::unique_ptr<Lane>& lane = lanes_[&queue];
  if (lane == nullptr) {
    lane = std::make_unique<Lane>(queue, state_of(*queue.topic), options_.window);
  }
  return *lane;
}

void ProduceEngine::take_news() {
  std::vector<TopicQueue*> unresolved;
  std::vector<PartitionQueue*> ready;
  batcher_->take_news(unresolved, ready);
  for (TopicQueue* queue : unresolved) {
    TopicState& topic = state_of(*queue);
    if (topic.meta == nullptr) {
      topic.meta = cluster_.find(queue->name);
    }
    // What is known may be an old "no such topic".
    refresh(topic);
    if (std::find(unresolved_.begin(), unresolved_.end(), &topic) == unresolved_.end()) {
      unresolved_.push_back(&topic);
    }
  }
  for (PartitionQueue* queue : ready) {
    Lane& lane = lane_of(*queue);
    lane.ready_at = {};
    if (lane.topic.meta != nullptr && !lane.topic.meta->status.ok()) {
      refresh(lane.topic);  // that there is no such topic may be old news
    }
    if (!lane.busy) {
      lane.busy = true;
      busy_.push_back(&lane);
    }
  }
}

void ProduceEngine::refresh(TopicState& topic) {
  if (topic.meta != nullptr) {
    topic.need_version = topic.meta->version + 1;
  }
  cluster_.want(topic.queue->name);
}

void ProduceEngine::resolve_topics(MonotonicTime now) {
  const size_t before = unresolved_.size();
  std::erase_if(unresolved_, [&](TopicState* topic) { return resolve_topic(*topic, now); });
  if (unresolved_.size() != before) {
    take_news();  // the partitions that got what had waited
    for (FailedBatch& failed : batcher_->take_failed()) {
      report(failed.topic, failed.partition, std::move(failed.batch), {.status = failed.why});
    }
  }
}

// True when nothing of the topic waits for metadata any more.
bool ProduceEngine::resolve_topic(TopicState& topic, MonotonicTime now) {
  if (topic.meta == nullptr) {
    topic.meta = cluster_.find(topic.queue->name);
  }
  const TopicMeta* meta = topic.meta;
  if (meta != nullptr && meta->status.ok()) {
    topic.topic_id = meta->id;
    batcher_->resolve(*topic.queue, static_cast<uint32_t>(meta->partitions.size()));
    return true;
  }
  if (meta != nullptr && meta->version >= topic.need_version &&
      !error_is_retryable(meta->status.code())) {
    batcher_->fail_unresolved(*topic.queue, meta->status, kNever);
    return true;
  }
  if (!cluster_.metadata_error().ok()) {
    last_error_ = cluster_.metadata_error();
  }
  batcher_->fail_unresolved(*topic.queue, Status(ErrorCode::kTimedOut, late_text()),
                            {now.ns - options_.delivery_timeout_ns});
  return false;
}

void ProduceEngine::give_up_topic(TopicState& topic, const Status& why) {
  for (auto& [queue, lane] : lanes_) {
    if (&lane->topic != &topic) {
      continue;
    }
    std::vector<SendWindow::Settled> settled;
    lane->window.give_up(why, settled);
    for (auto& each : settled) {
      report(topic.queue->name, queue->partition, std::move(each.batch),
             {.status = each.status, .outcome_unknown = each.outcome_unknown});
    }
  }
}

Session* ProduceEngine::route(Lane& lane) {
  TopicState& topic = lane.topic;
  const TopicMeta* meta = topic.meta;
  if (meta == nullptr || meta->version < topic.need_version) {
    return nullptr;
  }
  if (meta->status.ok() && meta->id != topic.topic_id) {
    // Deleted and created again: what was under way belonged to the old one; what waits goes to the
    // new one.
    give_up_topic(
        topic, Status(ErrorCode::kUnknownTopic, "topic \"" + topic.queue->name + "\" was deleted"));
    topic.topic_id = meta->id;
  }
  if (meta->status.ok() && meta->partitions.size() > topic.queue->partitions.size()) {
    batcher_->resolve(*topic.queue, static_cast<uint32_t>(meta->partitions.size()));
  }
  Status gone = meta->status;
  if (gone.ok() && lane.queue.partition >= meta->partitions.size()) {
    gone = Status(ErrorCode::kUnknownPartition,
                  "topic \"" + topic.queue->name + "\" has no partition " +
                      std::to_string(lane.queue.partition) + " any more");
  }
  if (!gone.ok()) {
    if (error_is_retryable(gone.code())) {
      cluster_.want(topic.queue->name);
      return nullptr;
    }
    std::vector<SendWindow::Settled> settled;
    lane.window.give_up(gone, settled);
    std::vector<std::unique_ptr<Batch>> waiting;
    batcher_->take_older(lane.queue, kNever, waiting);
    for (auto& batch : waiting) {
      settled.push_back({std::move(batch), gone, false});
    }
    for (auto& each : settled) {
      report(topic.queue->name, lane.queue.partition, std::move(each.batch),
             {.status = each.status, .outcome_unknown = each.outcome_unknown});
    }
    if (!settled.empty()) {
      refresh(topic);  // the next message asks again
    }
    return nullptr;
  }
  Session* const session = cluster_.session_of(meta->partitions[lane.queue.partition]);
  if (session == nullptr) {
    cluster_.want(topic.queue->name);
  }
  return session;
}

void ProduceEngine::check_late(Lane& lane, MonotonicTime now) {
  const int64_t pause =
      std::clamp<int64_t>(options_.delivery_timeout_ns / 32, 5 * kNsPerMs, 500 * kNsPerMs);
  lane.check_at = {now.ns + pause};
  const MonotonicTime created_until{now.ns - options_.delivery_timeout_ns};
  std::vector<SendWindow::Settled> settled;
  lane.window.expire(created_until, options_.delivery_timeout_ns / kNsPerMs, settled);
  for (auto& each : settled) {
    report(lane.topic.queue->name, lane.queue.partition, std::move(each.batch),
           {.status = each.status, .outcome_unknown = each.outcome_unknown});
  }
  std::vector<std::unique_ptr<Batch>> waiting;
  batcher_->take_older(lane.queue, created_until, waiting);
  for (auto& batch : waiting) {
    report_late(lane.topic.queue->name, lane.queue.partition, std::move(batch));
  }
  static_cast<void>(batcher_->seal_aged(lane.queue, now));
}

std::string ProduceEngine::late_text() const {
  std::string text =
      "not sent within " + std::to_string(options_.delivery_timeout_ns / kNsPerMs) + " ms";
  return last_error_.ok() ? text : text + "; last error: " + last_error_.to_string();
}

void ProduceEngine::report_late(const std::string& topic, uint32_t partition,
                                std::unique_ptr<Batch> batch) {
  report(topic, partition, std::move(batch), {.status = Status(ErrorCode::kTimedOut, late_text())});
}

void ProduceEngine::fill(MonotonicTime now) {
  // One batch per lane and round, so that a request carries many partitions rather than many
  // batches of one.
  for (bool more = true; more;) {
    more = false;
    for (Lane* lane : busy_) {
      more = fill_one(*lane, now) || more;
    }
  }
}

bool ProduceEngine::fill_one(Lane& lane, MonotonicTime now) {
  Session* const session = route(lane);
  if (session == nullptr) {
    return false;
  }
  size_t& in_flight = in_flight_bytes_[session];
  if (in_flight >= options_.in_flight_bytes_per_session_max) {
    return false;
  }
  Batch* batch = lane.window.next_to_send(now);
  if (batch == nullptr) {
    if (!lane.window.has_room() || now < lane.window.retry_at()) {
      return false;
    }
    Batcher::Next next = batcher_->take(lane.queue, now);
    lane.ready_at = next.ready_at;
    if (next.batch == nullptr) {
      return false;
    }
    next.batch->target = {TopicId{lane.topic.topic_id}, PartitionIndex{lane.queue.partition}};
    const Status taken = lane.window.take(next.batch, next_serial_++);
    if (!taken.ok()) {
      report(lane.topic.queue->name, lane.queue.partition, std::move(next.batch),
             {.status = taken});
      return true;
    }
    Batch& last = *lane.window.batches().back();
    batcher_->recycle(last);
    batch = lane.window.next_to_send(now);
    TIDEMARK_CHECK(batch == &last, "a window with room sends what it takes");
  }
  batcher_->count_sent(batch->attempts > 0);
  lane.window.on_sent(*batch);
  in_flight += batch->encoded.size();
  auto group = std::find_if(groups_.begin(), groups_.end(),
                            [&](const Group& g) { return g.session == session; });
  if (group == groups_.end()) {
    group = groups_.insert(groups_.end(), Group{session, {}});
  }
  group->parts.push_back({&lane, batch});
  return true;
}

void ProduceEngine::send_groups() {
  for (Group& group : groups_) {
    size_t from = 0;
    size_t bytes = 0;
    uint64_t frame = next_frame_++;
    for (size_t i = 0; i < group.parts.size(); ++i) {
      const Part& part = group.parts[i];
      const size_t size = part.batch->encoded.size();
      const bool full =
          bytes + size > options_.request_bytes_target || i - from >= limits::kPartsPerRequestMax;
      if (i > from && (full || part.lane->frame == frame)) {
        send_request(*group.session, group.parts, from, i);
        from = i;
        bytes = 0;
        frame = next_frame_++;
      }
      part.lane->frame = frame;
      bytes += size;
    }
    send_request(*group.session, group.parts, from, group.parts.size());
  }
  groups_.clear();
}

void ProduceEngine::send_request(Session& session, const std::vector<Part>& parts, size_t from,
                                 size_t to) {
  builder_.Clear();
  std::vector<flatbuffers::Offset<fbs::ProducePart>> offsets;
  std::vector<SharedBytes> payload;
  std::vector<SentPart> sent;
  size_t bytes = 0;
  for (size_t i = from; i < to; ++i) {
    Lane& lane = *parts[i].lane;
    const Batch& batch = *parts[i].batch;
    offsets.push_back(fbs::CreateProducePart(
        builder_, batch.target.topic.value(), batch.target.index.value(),
        static_cast<uint32_t>(batch.encoded.size()),
        batch.delayed ? fbs::ProduceKind::kSchedule : fbs::ProduceKind::kBatch, /*half=*/0,
        batch.ttl));
    payload.push_back(batch.encoded);
    sent.push_back({&lane, batch.serial, batch.delayed ? batch.records : 0});
    bytes += batch.encoded.size();
  }
  const auto list = builder_.CreateVector(offsets);
  builder_.Finish(fbs::CreateProduce(builder_, list));
  const MonotonicTime deadline{cluster_.clock().monotonic().ns +
                               cluster_.options().request_timeout_ns};
  session.request(FrameType::kProduce, session.shard(), protocol::finished(builder_),
                  std::move(payload), deadline,
                  [self = shared_from_this(), to_session = &session, bytes, sent = std::move(sent)](
                      Reply reply) { self->on_reply(to_session, bytes, sent, std::move(reply)); });
}

void ProduceEngine::on_reply(Session* session, size_t bytes, const std::vector<SentPart>& sent,
                             Reply reply) {
  in_flight_bytes_[session] -= bytes;
  const fbs::ProduceReply* table = nullptr;
  if (reply.status.ok()) {
    const auto read = protocol::read_table<fbs::ProduceReply>(reply.frame.table(), "ProduceReply");
    if (!read.ok()) {
      reply.status = Status(ErrorCode::kOutcomeUnknown, std::string(read.error().context()));
    } else {
      table = *read;
      reply.status = protocol::to_status(table->error());
      reply.retry_after_ms = protocol::retry_after_ms(table->error());
    }
  }
  if (reply.status.ok() && (table->parts() == nullptr || table->parts()->size() != sent.size())) {
    reply.status = Status(ErrorCode::kOutcomeUnknown, "ProduceReply does not answer every part");
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    if (!reply.status.ok()) {
      on_part(sent[i], session->shard(), reply.status, reply.retry_after_ms, nullptr);
      continue;
    }
    const fbs::ProducePartReply* part = table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i));
    Status status = protocol::to_status(part->error());
    if (status.ok() && sent[i].items > 0 &&
        (part->receipts() == nullptr || part->receipts()->size() != sent[i].items)) {
      status = Status(ErrorCode::kOutcomeUnknown,
                      "ProduceReply does not have a receipt for every delayed message");
    }
    on_part(sent[i], session->shard(), status, protocol::retry_after_ms(part->error()), part);
  }
}

void ProduceEngine::on_part(const SentPart& part, uint16_t shard, const Status& status,
                            uint32_t retry_after_ms, const fbs::ProducePartReply* table) {
  Lane& lane = *part.lane;
  if (!status.ok()) {
    last_error_ = status;
    if (is_about_place(status.code())) {
      refresh(lane.topic);
    } else if (status.code() == ErrorCode::kUnavailable) {
      cluster_.want(lane.topic.queue->name);  // the leader may have moved
    }
  }
  auto settled = lane.window.on_answer(part.serial, status, retry_after_ms,
                                       cluster_.clock().monotonic(), random_);
  if (!settled) {
    return;
  }
  Outcome outcome{.status = settled->status, .outcome_unknown = settled->outcome_unknown};
  if (settled->status.ok()) {
    last_error_ = Status();
    outcome.base_offset = table->base_offset();
    outcome.received_ms = table->received_ms();
    outcome.duplicate = table->duplicate();
    if (part.items > 0) {
      take_receipts(*settled->batch, shard, *table);
    }
    if (table->offsets() != nullptr && table->offsets()->size() == settled->batch->records) {
      settled->batch->offsets.assign(table->offsets()->begin(), table->offsets()->end());
    }
    if (outcome.duplicate) {
      batcher_->count_duplicate();
    }
  }
  report(lane.topic.queue->name, lane.queue.partition, std::move(settled->batch),
         std::move(outcome));
}

void ProduceEngine::give_identities() {
  for (Lane* lane : busy_) {
    if (!lane->window.wants_identity()) {
      continue;
    }
    if (identity_.id != 0 && lane->window.identity() != identity_) {
      lane->window.set_identity(identity_);
    } else {
      ask_identity();
    }
  }
}

void ProduceEngine::ask_identity() {
  const MonotonicTime now = cluster_.clock().monotonic();
  if (asking_identity_ || now < ask_identity_at_) {
    return;
  }
  asking_identity_ = true;
  builder_.Clear();
  builder_.Finish(fbs::CreateInitProducer(builder_));
  cluster_.call(FrameType::kInitProducer, protocol::finished(builder_),
                {now.ns + cluster_.options().request_timeout_ns}, Cluster::Repeat::kAlways,
                [self = shared_from_this()](Reply reply) {
                  self->asking_identity_ = false;
                  if (reply.status.ok()) {
                    const auto* table = *protocol::read_table<fbs::InitProducerReply>(
                        reply.frame.table(), "InitProducerReply");
                    self->identity_ = {.id = table->producer_id(), .epoch = table->epoch()};
                    if (table->producer_id() != 0 && table->epoch() >= 0) {
                      self->identity_backoff_.reset();
                      return;
                    }
                    self->identity_ = {};
                    reply.status = Status(ErrorCode::kMalformed, "InitProducer gave no identity");
                  }
                  self->last_error_ = reply.status;
                  const int64_t pause = self->identity_backoff_.next_ns(self->random_);
                  self->ask_identity_at_ = {self->cluster_.clock().monotonic().ns + pause};
                });
}

MonotonicTime ProduceEngine::next_run(MonotonicTime now) const {
  MonotonicTime next = kNever;
  const auto consider = [&](MonotonicTime at) {
    if (at > now) {
      next = std::min(next, at);
    }
  };
  for (const Lane* lane : busy_) {
    consider(lane->check_at);
    consider(lane->ready_at);
    consider(lane->window.retry_at());
  }
  if (!busy_.empty() && !asking_identity_) {
    consider(ask_identity_at_);
  }
  if (!unresolved_.empty()) {
    consider({now.ns + std::max<int64_t>(options_.delivery_timeout_ns / 32, 5 * kNsPerMs)});
  }
  return next;
}

void ProduceEngine::report(const std::string& topic, uint32_t partition,
                           std::unique_ptr<Batch> batch, Outcome outcome) {
  batcher_->free_room(*batch);
  batch->encoded = {};
  batch->builder.reset();
  batch->schedule.reset();
  client::Status status;
  if (!outcome.status.ok()) {
    status = client::Status(static_cast<client::ErrorCode>(outcome.status.code()),
                            std::string(outcome.status.context()));
  }
  client::DeliveryBatch out;
  out.base_offset = outcome.base_offset;
  out.received_ms = outcome.received_ms;
  out.duplicate = outcome.duplicate;
  out.outcome_unknown = outcome.outcome_unknown;
  const bool anybody = options_.on_delivery || !batch->callbacks.empty();
  if (dispatch_ && anybody) {
    std::shared_ptr<Batch> shared = std::move(batch);
    dispatch_([self = shared_from_this(), topic, partition, shared, status, out,
               result = outcome.status] {
      run_callbacks(self->options_.on_delivery, topic, partition, *shared, status, out);
      self->batcher_->release(*shared, result);
    });
    return;
  }
  if (anybody) {
    run_callbacks(options_.on_delivery, topic, partition, *batch, status, out);
  }
  batcher_->release(*batch, outcome.status);
}

std::vector<client::Undelivered> ProduceEngine::hand_back(uint64_t generation, bool give_up) {
  std::vector<client::Undelivered> out;
  const auto copy = [&](const std::string& topic, std::optional<uint32_t> partition, Batch& batch) {
    if (batch.generation > generation) {
      return;
    }
    std::vector<client::OwnedMessage> messages;
    const Status copied = copy_messages(batch, topic, partition, messages);
    TIDEMARK_CHECK(copied.ok(), "our own batch can be read: " + copied.to_string());
    Status why = batch.last_error.ok() ? last_error_ : batch.last_error;
    if (why.ok()) {
      why = cluster_.metadata_error();
    }
    if (why.ok()) {
      why = Status(ErrorCode::kTimedOut, "not answered before the deadline");
    }
    const client::Status status(static_cast<client::ErrorCode>(why.code()),
                                std::string(why.context()));
    for (auto& message : messages) {
      out.push_back({std::move(message), status, batch.in_flight || batch.maybe_applied});
    }
  };
  for (auto& [queue, lane] : lanes_) {
    for (const auto& batch : lane->window.batches()) {
      copy(lane->topic.queue->name, queue->partition, *batch);
    }
  }
  batcher_->for_each_waiting(copy);
  if (!give_up) {
    return out;
  }
  const Status cancelled(ErrorCode::kCancelled, "the producer was closed");
  for (auto& [queue, topic] : topics_) {
    give_up_topic(*topic, cancelled);
    batcher_->fail_unresolved(*queue, cancelled, kNever);
    for (PartitionQueue& partition : queue->partitions) {
      std::vector<std::unique_ptr<Batch>> waiting;
      batcher_->take_older(partition, kNever, waiting);
      for (auto& batch : waiting) {
        report(queue->name, partition.partition, std::move(batch), {.status = cancelled});
      }
    }
  }
  for (FailedBatch& failed : batcher_->take_failed()) {
    report(failed.topic, failed.partition, std::move(failed.batch), {.status = failed.why});
  }
  return out;
}

}  // namespace tidemark::client_core
