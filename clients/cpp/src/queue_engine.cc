#include "clients/cpp/src/queue_engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/client_impl.h"
#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

using client::QueueMessage;
using protocol::FrameType;
namespace fbs = protocol::fbs;

// An ack holds without a lease, so it is worth trying for a while longer.
constexpr int64_t kAckTriesNs = 30'000 * kNsPerMs;
// A shard that had nothing lately asks for this part of its share.
constexpr size_t kColdPart = 8;
// How long the last free part of the budget may be held for one of several shards.
constexpr int64_t kScarceWaitMs = 50;

bool is_about_place(ErrorCode code) {
  return code == ErrorCode::kNotLeader || code == ErrorCode::kWrongShard ||
         code == ErrorCode::kUnknownTopic || code == ErrorCode::kUnknownPartition;
}

std::string place_text(const QueuePlace& place) {
  return "topic \"" + *place.topic + "\" partition " + std::to_string(place.partition);
}

std::tuple<uint32_t, uint32_t, uint64_t> key_of(const QueuePlace& place, uint64_t offset) {
  return {place.topic_id, place.partition, offset};
}

MonotonicTime after(MonotonicTime from, int64_t ns) { return {from.ns + ns}; }

// Whether the reply has the form that it should have; fills its table.
Status check_reply(Reply& reply, size_t parts, size_t messages,
                   const fbs::QueueReceiveReply*& table) {
  RETURN_IF_ERROR(reply.status);
  ReplyError error = error_of(reply.frame);
  reply.retry_after_ms = error.retry_after_ms;
  RETURN_IF_ERROR(error.status);
  table = *protocol::read_table<fbs::QueueReceiveReply>(reply.frame.table(), "QueueReceiveReply");
  if (table->parts() == nullptr || table->parts()->size() != parts) {
    return {ErrorCode::kMalformed, "QueueReceiveReply does not answer every part"};
  }
  uint64_t bytes = 0;
  size_t leases = 0;
  for (const fbs::QueuePartReply* part : *table->parts()) {
    bytes += part->bytes();
    leases += part->leases() != nullptr ? part->leases()->size() : 0;
  }
  if (bytes != reply.frame.payload().size()) {
    return {ErrorCode::kMalformed, "QueueReceiveReply does not fit its payload"};
  }
  if (leases > messages) {
    return {ErrorCode::kMalformed, "QueueReceiveReply has " + std::to_string(leases) +
                                       " messages, asked was for " + std::to_string(messages)};
  }
  return {};
}

}  // namespace

QueueEngine::QueueEngine(QueueEngineOptions options, QueueEngineHooks hooks, Cluster& cluster,
                         uint64_t seed)
    : options_(std::move(options)),
      hooks_(std::move(hooks)),
      cluster_(cluster),
      clock_(cluster.clock()),
      random_(seed),
      settler_(options_.group, random_.next()) {
  for (const std::string& topic : options_.topics) {
    topics_.emplace_back().name = std::make_shared<const std::string>(topic);
  }
}

// --- I/O thread ---

MonotonicTime QueueEngine::run(MonotonicTime now) {
  Lock lock(mutex_);
  if (closed_) {
    return kNever;
  }
  give_back_lost();
  drop_ended(now);
  extend_taken(now);
  look_up(now);
  // First, so that an ack is with the broker before its message could be leased again.
  const MonotonicTime settle_at =
      settler_.run(now, cluster_, [this](Session& session, ByteView table, auto items) {
        send_settle(session, table, std::move(items));
      });
  take_answers();
  ask(now);
  const MonotonicTime next = std::min(settle_at, next_run(now));
  unlock_and_tell(lock);
  return next;
}

MonotonicTime QueueEngine::next_run(MonotonicTime now) const {
  MonotonicTime next = next_extend_;
  const auto at = [&](MonotonicTime time) {
    if (time > now) {
      next = std::min(next, time);
    }
  };
  if (!ready_.empty()) {
    at(leases_.at(ready_.front()->lease).ends);
  }
  if (stopped_ || paused_) {
    return next;
  }
  for (const TopicState& topic : topics_) {
    at(topic.retry_at);
    for (const auto& partition : topic.partitions) {
      at(partition->retry_at);
    }
  }
  for (const auto& [session, source] : sources_) {
    at(source.retry_at);
  }
  return next;
}

void QueueEngine::look_up(MonotonicTime now) {
  if (stopped_ || !refusal_.ok()) {
    return;
  }
  for (TopicState& topic : topics_) {
    if (now >= topic.retry_at) {
      look_up_topic(topic, now);
    }
  }
}

void QueueEngine::look_up_topic(TopicState& topic, MonotonicTime now) {
  const TopicMeta* const meta = cluster_.find(*topic.name);
  if (meta == nullptr || meta->version < topic.need_version) {
    cluster_.want(*topic.name);
    if (!cluster_.metadata_error().ok()) {
      note_error(cluster_.metadata_error());
    }
    return;
  }
  if (!meta->status.ok()) {
    note_error(meta->status);
    topic.partitions.clear();
    topic.version = 0;
    topic.need_version = meta->version + 1;
    topic.retry_at = after(now, topic.backoff.next_ns(random_));
    return;
  }
  if (topic.version == meta->version) {
    return;
  }
  topic.version = meta->version;
  topic.backoff.reset();
  if (std::exchange(topic.id, meta->id) != meta->id) {
    topic.partitions.clear();
  }
  topic.partitions.resize(meta->partitions.size());
  for (size_t i = 0; i < topic.partitions.size(); ++i) {
    auto& partition = topic.partitions[i];
    if (partition == nullptr) {
      partition = std::make_shared<Partition>();
      partition->place = {
          .topic = topic.name, .topic_id = topic.id, .partition = static_cast<uint32_t>(i)};
    }
    partition->home = meta->partitions[i];
  }
}

void QueueEngine::ask(MonotonicTime now) {
  if (stopped_ || paused_ || !refusal_.ok() || free_messages() == 0 || free_bytes() == 0) {
    return;
  }
  std::vector<std::shared_ptr<Partition>> all;
  for (const TopicState& topic : topics_) {
    all.insert(all.end(), topic.partitions.begin(), topic.partitions.end());
  }
  std::vector<Asked> groups;
  ++turn_;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& partition = all[(turn_ + i) % all.size()];
    if (now < partition->retry_at) {
      continue;
    }
    Session* const session = cluster_.session_of(partition->home);
    if (session == nullptr) {
      cluster_.want(*partition->place.topic);
      continue;
    }
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const Asked& each) { return each.session == session; });
    if (group == groups.end()) {
      group = groups.emplace(groups.end());
      group->session = session;
    }
    if (group->partitions.size() < limits::kPartsPerRequestMax) {
      group->partitions.push_back(partition);
    }
  }
  ask_shares(groups, now);
}

void QueueEngine::ask_shares(std::vector<Asked>& groups, MonotonicTime now) {
  const size_t shards = groups.size();
  const auto hot = static_cast<size_t>(std::count_if(
      groups.begin(), groups.end(), [&](const Asked& each) { return sources_[each.session].hot; }));
  for (Asked& group : groups) {
    Source& source = sources_[group.session];
    if (source.busy || now < source.retry_at || free_messages() == 0 || free_bytes() == 0) {
      continue;
    }
    size_t part = 1;
    if (shards > 1) {
      part = source.hot ? std::min(hot + 1, shards) : shards * kColdPart;
    }
    group.messages = std::min({limits::kQueueMessagesPerReceiveMax, free_messages(),
                               std::max<size_t>(1, options_.in_flight_max / part)});
    group.bytes = std::min({limits::kFetchBytesMax, free_bytes(),
                            std::max<size_t>(1, options_.prefetch_bytes_max / part)});
    const bool scarce =
        shards > 1 && (group.messages == free_messages() || group.bytes == free_bytes());
    group.wait_ms = std::min({options_.receive_wait_ms, options_.visibility_ms / 4,
                              scarce ? kScarceWaitMs : options_.receive_wait_ms});
    group.sent_at = now;
    source.busy = true;
    asked_messages_ += group.messages;
    asked_bytes_ += group.bytes;
    send_receive(std::move(group));
  }
}

void QueueEngine::send_receive(Asked asked) {
  flatbuffers::FlatBufferBuilder builder(256 + asked.partitions.size() * 8);
  std::vector<fbs::QueuePartition> parts;
  parts.reserve(asked.partitions.size());
  for (const auto& partition : asked.partitions) {
    parts.emplace_back(partition->place.topic_id, partition->place.partition);
  }
  const auto group = builder.CreateString(options_.group);
  const auto list = builder.CreateVectorOfStructs(parts);
  const auto tags = options_.tags.empty() ? 0 : builder.CreateVectorOfStrings(options_.tags);
  const auto filter = options_.filter.empty() ? 0 : builder.CreateString(options_.filter);
  builder.Finish(fbs::CreateQueueReceive(
      builder, group, list, static_cast<uint32_t>(asked.messages),
      static_cast<uint32_t>(asked.bytes), static_cast<uint32_t>(asked.wait_ms),
      static_cast<uint32_t>(options_.visibility_ms), tags, filter, options_.ordered,
      options_.from_end));
  const MonotonicTime deadline =
      after(asked.sent_at, cluster_.options().request_timeout_ns + asked.wait_ms * kNsPerMs);
  Session& session = *asked.session;
  session.request(FrameType::kQueueReceive, session.shard(), protocol::finished(builder), {},
                  deadline, [self = shared_from_this(), asked = std::move(asked)](Reply reply) {
                    self->on_receive(asked, std::move(reply));
                  });
}

void QueueEngine::on_receive(const Asked& asked, Reply reply) {
  Lock lock(mutex_);
  Source& source = sources_[asked.session];
  source.busy = false;
  source.hot = false;
  asked_messages_ -= asked.messages;
  asked_bytes_ -= asked.bytes;
  changed_.notify_all();
  if (closed_) {
    return;
  }
  const fbs::QueueReceiveReply* table = nullptr;
  const Status status = check_reply(reply, asked.partitions.size(), asked.messages, table);
  if (!status.ok()) {
    if (is_about_place(status.code())) {
      for (const auto& partition : asked.partitions) {
        on_error(*partition, status, reply.retry_after_ms);
      }
      return;
    }
    note_error(status);
    const int64_t asked_for = int64_t{reply.retry_after_ms} * kNsPerMs;
    source.retry_at =
        after(clock_.monotonic(), std::max(asked_for, source.backoff.next_ns(random_)));
    return;
  }
  source.backoff.reset();
  last_error_ = Status();
  ByteView payload = reply.frame.payload();
  for (size_t i = 0; i < asked.partitions.size(); ++i) {
    const fbs::QueuePartReply& part = *table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i));
    source.hot = source.hot || (part.leases() != nullptr && part.leases()->size() > 0);
    take_part(asked, i, part, payload.first(part.bytes()));
    payload = payload.subspan(part.bytes());
  }
  unlock_and_tell(lock);
}

void QueueEngine::take_part(const Asked& asked, size_t index, const fbs::QueuePartReply& part,
                            ByteView batches) {
  Partition& partition = *asked.partitions[index];
  LeasedMessages leased = read_leased(batches, part);
  Status status = protocol::to_status(part.error());
  if (status.ok()) {
    partition.backoff.reset();
  } else {
    on_error(
        partition,
        Status(status.code(), place_text(partition.place) + ": " + std::string(status.context())),
        protocol::retry_after_ms(part.error()));
  }
  if (!leased.status.ok()) {
    note_error(Status(leased.status.code(),
                      place_text(partition.place) + ": " + std::string(leased.status.context())));
  }
  for (LeasedMessage& message : leased.messages) {
    take_message(asked, partition, std::move(message), leased.status.to_string());
  }
}

void QueueEngine::take_message(const Asked& asked, Partition& partition, LeasedMessage message,
                               const std::string& damage) {
  if (renew_acked(asked, partition.place, message.lease)) {
    return;
  }
  const uint64_t number = next_lease_++;
  Lease& lease = leases_[number];
  lease.place = partition.place;
  lease.offset = message.lease.offset();
  lease.token = message.lease.token();
  lease.ends = after(asked.sent_at, options_.visibility_ms * kNsPerMs);
  lease.came = clock_.monotonic();
  lease.from = asked.session;
  if (message.content == nullptr || stopped_) {
    // A message that cannot be read comes again, or dies, as the topic has it. One that came too
    // late goes back at once.
    Settlement back;
    back.automatic = true;
    if (message.content == nullptr) {
      back.action = fbs::QueueAction::kNack;
      back.delay_ms = -1;
      back.reason = damage.substr(0, limits::kQueueReasonBytesMax);
    } else {
      back.action = fbs::QueueAction::kRelease;
    }
    queue_settlement(number, lease, std::move(back));
    return;
  }
  lease.bytes = message.content->bytes.size();
  leased_bytes_ += lease.bytes;
  message.content->engine = weak_from_this();
  message.content->lease = number;
  message.content->topic = partition.place.topic;
  message.content->partition = partition.place.partition;
  ready_.push_back(std::move(message.content));
}

bool QueueEngine::renew_acked(const Asked& asked, const QueuePlace& place,
                              const fbs::QueueLease& lease) {
  const auto found = acking_.find(key_of(place, lease.offset()));
  if (found == acking_.end()) {
    return false;
  }
  Lease& acked = leases_.at(found->second);
  acked.token = lease.token();
  acked.ends = after(asked.sent_at, options_.visibility_ms * kNsPerMs);
  return true;
}

bool QueueEngine::take_newer_lease(Settlement& settlement, const Status& status) {
  const auto found = leases_.find(settlement.lease);
  if (settlement.action != fbs::QueueAction::kAck || status.code() != ErrorCode::kFenced ||
      found == leases_.end() || found->second.token == settlement.token) {
    return false;
  }
  settlement.token = found->second.token;
  settlement.give_up = std::max(settlement.give_up, found->second.ends);
  return true;
}

void QueueEngine::on_error(Partition& partition, const Status& status, uint32_t retry_after_ms) {
  note_error(status);
  if (is_about_place(status.code())) {
    const TopicMeta* const meta = cluster_.find(*partition.place.topic);
    for (TopicState& topic : topics_) {
      if (topic.name == partition.place.topic && meta != nullptr) {
        topic.need_version = meta->version + 1;
      }
    }
    cluster_.want(*partition.place.topic);
  }
  const int64_t asked_for = int64_t{retry_after_ms} * kNsPerMs;
  partition.retry_at =
      after(clock_.monotonic(), std::max(asked_for, partition.backoff.next_ns(random_)));
}

void QueueEngine::note_error(const Status& status) {
  last_error_ = status;
  if (status.code() == ErrorCode::kInvalidArgument) {
    refusal_ = status;
  } else if (status.code() == ErrorCode::kConflict) {
    conflict_ = status;
  } else {
    return;
  }
  changed_.notify_all();
}

// --- leases ---

void QueueEngine::drop_ended(MonotonicTime now) {
  while (!ready_.empty() && now >= leases_.at(ready_.front()->lease).ends) {
    forget(ready_.front()->lease);
    ready_.pop_front();
  }
}

// A broker that restarted knows no leases and gives the messages to others, who may be done with
// them before they are shown here. One that did not restart has them at once for whoever asks.
void QueueEngine::give_back_lost() {
  for (auto& [session, source] : sources_) {
    if (session->losses() == source.losses) {
      continue;
    }
    source.losses = session->losses();
    std::deque<State> kept;
    for (State& state : ready_) {
      Lease& lease = leases_.at(state->lease);
      if (lease.from != session) {
        kept.push_back(std::move(state));
        continue;
      }
      Settlement back;
      back.action = fbs::QueueAction::kRelease;
      back.automatic = true;
      queue_settlement(state->lease, lease, std::move(back));
    }
    ready_ = std::move(kept);
  }
}

// Half of the visibility time before its end.
void QueueEngine::extend_taken(MonotonicTime now) {
  if (now < next_extend_) {
    return;
  }
  next_extend_ = kNever;
  const int64_t visibility_ns = options_.visibility_ms * kNsPerMs;
  for (auto& [number, lease] : leases_) {
    const MonotonicTime limit = after(lease.came, options_.auto_extend_ms * kNsPerMs);
    if (lease.stage != Stage::kTaken || lease.lost || lease.extending || limit <= lease.ends ||
        now >= lease.ends) {
      continue;
    }
    const MonotonicTime due = after(lease.ends, -visibility_ns / 2);
    if (now < due) {
      next_extend_ = std::min(next_extend_, due);
      continue;
    }
    const int64_t ns = std::min(visibility_ns, limit.ns - now.ns);
    Settlement extension;
    extension.action = fbs::QueueAction::kExtend;
    extension.automatic = true;
    extension.delay_ms = std::max<int64_t>(limits::kQueueVisibilityMsMin, ns / kNsPerMs);
    lease.extending = true;
    queue_settlement(number, lease, std::move(extension));
  }
}

void QueueEngine::queue_settlement(uint64_t number, Lease& lease, Settlement settlement) {
  settlement.lease = number;
  settlement.place = lease.place;
  settlement.offset = lease.offset;
  settlement.token = lease.token;
  settlement.generation = generation_;
  settlement.give_up = lease.ends;
  if (settlement.action == fbs::QueueAction::kAck) {
    settlement.give_up = std::max(lease.ends, after(clock_.monotonic(), kAckTriesNs));
    acking_[key_of(lease.place, lease.offset)] = number;
  }
  if (settlement.action != fbs::QueueAction::kExtend) {
    lease.stage = Stage::kSettling;
  }
  ++unanswered_[generation_];
  settler_.add(std::move(settlement));
}

void QueueEngine::send_settle(Session& session, ByteView table, std::vector<Settlement> items) {
  const MonotonicTime deadline = after(clock_.monotonic(), cluster_.options().request_timeout_ns);
  session.request(
      FrameType::kQueueSettle, session.shard(), table, {}, deadline,
      [self = shared_from_this(), &session, items = std::move(items)](Reply reply) mutable {
        Lock lock(self->mutex_);
        self->settler_.on_reply(&session, std::move(items), std::move(reply), self->cluster_);
        if (self->closed_) {
          self->settler_.abandon(Status(ErrorCode::kShuttingDown, "the consumer is closed"));
        }
        self->take_answers();
        self->unlock_and_tell(lock);
      });
}

void QueueEngine::take_answers() {
  for (auto& [settlement, status] : settler_.take_answered()) {
    if (!closed_ && take_newer_lease(settlement, status)) {
      settler_.add(std::move(settlement));
      hooks_.wake();
      continue;
    }
    answer_lease(settlement, status);
    const auto generation = unanswered_.find(settlement.generation);
    TIDEMARK_CHECK(generation != unanswered_.end(), "a settlement that was never queued");
    if (--generation->second == 0) {
      unanswered_.erase(generation);
    }
    if (!status.ok() && !settlement.automatic && failure_.ok()) {
      failure_ = status;
    }
    tell(std::move(settlement.settled), status);
    changed_.notify_all();
  }
}

void QueueEngine::answer_lease(const Settlement& settlement, const Status& status) {
  if (settlement.action != fbs::QueueAction::kExtend) {
    forget(settlement.lease);
    return;
  }
  const auto found = leases_.find(settlement.lease);
  if (found == leases_.end()) {
    return;
  }
  Lease& lease = found->second;
  if (settlement.automatic) {
    lease.extending = false;
  }
  if (status.ok()) {
    lease.ends = after(settlement.sent_at, settlement.delay_ms * kNsPerMs);
  } else if (!error_is_retryable(status.code())) {
    lease.lost = true;
  }
  if (options_.auto_extend_ms > 0) {
    next_extend_ =
        std::min(next_extend_, after(lease.ends, -options_.visibility_ms * kNsPerMs / 2));
  }
}

void QueueEngine::forget(uint64_t number) {
  const auto found = leases_.find(number);
  if (found != leases_.end()) {
    leased_bytes_ -= found->second.bytes;
    const auto acking = acking_.find(key_of(found->second.place, found->second.offset));
    if (acking != acking_.end() && acking->second == number) {
      acking_.erase(acking);
    }
    leases_.erase(found);
  }
}

size_t QueueEngine::free_messages() const {
  const size_t used = leases_.size() + asked_messages_;
  return used < options_.in_flight_max ? options_.in_flight_max - used : 0;
}

size_t QueueEngine::free_bytes() const {
  const size_t used = leased_bytes_ + asked_bytes_;
  return used < options_.prefetch_bytes_max ? options_.prefetch_bytes_max - used : 0;
}

void QueueEngine::tell(QueueMessage::Settled settled, const Status& outcome) {
  if (settled) {
    calls_.emplace_back(
        [settled = std::move(settled), outcome = to_public(outcome)] { settled(outcome); });
  }
}

void QueueEngine::unlock_and_tell(Lock& lock) {
  auto calls = std::exchange(calls_, {});
  lock.unlock();
  if (calls.empty()) {
    return;
  }
  hooks_.post([calls = std::move(calls)] {
    for (const auto& call : calls) {
      call();
    }
  });
}

// --- any thread ---

QueueEngine::State QueueEngine::take_ready() {
  drop_ended(clock_.monotonic());
  if (ready_.empty()) {
    return nullptr;
  }
  State state = std::move(ready_.front());
  ready_.pop_front();
  Lease& lease = leases_.at(state->lease);
  lease.stage = Stage::kTaken;
  if (options_.auto_extend_ms > 0) {
    next_extend_ =
        std::min(next_extend_, after(lease.ends, -options_.visibility_ms * kNsPerMs / 2));
  }
  return state;
}

Result<QueueEngine::State> QueueEngine::next(int64_t timeout_ms) {
  Lock lock(mutex_);
  State taken;
  Status error;
  const auto take = [&] {
    if (stopped_) {
      error = Status(ErrorCode::kShuttingDown, "the consumer is closed");
      return true;
    }
    if (!paused_) {
      taken = take_ready();
    }
    if (taken == nullptr) {
      error = !refusal_.ok() ? refusal_ : std::exchange(conflict_, {});
    }
    return taken != nullptr || !error.ok();
  };
  if (timeout_ms > 0) {
    changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), take);
  } else {
    take();
  }
  lock.unlock();
  if (!error.ok()) {
    return error;
  }
  if (taken != nullptr && options_.auto_extend_ms > 0) {
    hooks_.wake();  // there is a time to be kept
  }
  return taken;
}

void QueueEngine::settle(uint64_t number, fbs::QueueAction action, int64_t delay_ms,
                         std::string reason, QueueMessage::Settled settled) {
  Lock lock(mutex_);
  const auto found = leases_.find(number);
  if (closed_) {
    tell(std::move(settled), Status(ErrorCode::kShuttingDown, "the consumer is closed"));
  } else if (found == leases_.end() || found->second.stage == Stage::kSettling) {
    tell(std::move(settled), Status(ErrorCode::kConflict, "the message was settled before"));
  } else {
    Settlement settlement;
    settlement.action = action;
    settlement.delay_ms = delay_ms;
    settlement.reason = std::move(reason);
    settlement.settled = std::move(settled);
    queue_settlement(number, found->second, std::move(settlement));
  }
  unlock_and_tell(lock);
  hooks_.wake();
}

void QueueEngine::drop(uint64_t number) {
  Lock lock(mutex_);
  const auto found = leases_.find(number);
  if (closed_ || found == leases_.end() || found->second.stage == Stage::kSettling) {
    return;
  }
  Settlement nack;
  nack.action = fbs::QueueAction::kNack;
  nack.automatic = true;
  queue_settlement(number, found->second, std::move(nack));
  lock.unlock();
  hooks_.wake();
}

int64_t QueueEngine::lease_left_ms(uint64_t number) const {
  const Lock lock(mutex_);
  const auto found = leases_.find(number);
  if (found == leases_.end() || found->second.lost || found->second.stage == Stage::kSettling) {
    return 0;
  }
  return std::max<int64_t>(0, (found->second.ends.ns - clock_.monotonic().ns) / kNsPerMs);
}

void QueueEngine::pause(bool paused) {
  Lock lock(mutex_);
  paused_ = paused;
  changed_.notify_all();
  lock.unlock();
  hooks_.wake();
}

size_t QueueEngine::in_flight() const {
  const Lock lock(mutex_);
  return leases_.size();
}

Status QueueEngine::last_error() const {
  const Lock lock(mutex_);
  return refusal_.ok() ? last_error_ : refusal_;
}

uint64_t QueueEngine::flush_point() {
  const Lock lock(mutex_);
  return generation_++;
}

bool QueueEngine::flushed(uint64_t point) const {
  const Lock lock(mutex_);
  return unanswered_.empty() || unanswered_.begin()->first > point;
}

bool QueueEngine::wait_flushed(uint64_t point, int64_t timeout_ms) {
  Lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
    return unanswered_.empty() || unanswered_.begin()->first > point;
  });
}

Status QueueEngine::take_failure() {
  const Lock lock(mutex_);
  return std::exchange(failure_, {});
}

void QueueEngine::stop() {
  Lock lock(mutex_);
  stopped_ = true;
  for (const State& state : std::exchange(ready_, {})) {
    Settlement back;
    back.action = fbs::QueueAction::kRelease;
    back.automatic = true;
    queue_settlement(state->lease, leases_.at(state->lease), std::move(back));
  }
  changed_.notify_all();
  lock.unlock();
  hooks_.wake();
}

bool QueueEngine::is_drained() const {
  return unanswered_.empty() && std::none_of(sources_.begin(), sources_.end(),
                                             [](const auto& at) { return at.second.busy; });
}

bool QueueEngine::drained() const {
  const Lock lock(mutex_);
  return is_drained();
}

bool QueueEngine::wait_drained(int64_t timeout_ms) {
  Lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return is_drained(); });
}

void QueueEngine::close() {
  Lock lock(mutex_);
  stopped_ = true;
  closed_ = true;
  settler_.abandon(Status(ErrorCode::kShuttingDown, "the consumer is closed"));
  take_answers();
  ready_.clear();
  leases_.clear();
  acking_.clear();
  leased_bytes_ = 0;
  changed_.notify_all();
  unlock_and_tell(lock);
}

}  // namespace tidemark::client_core
