// Queue mode at the shard: queues in memory, turns, and what the log says of them.
#include "broker/shard/queue_desk.h"

#include <algorithm>

#include "log/base/random.h"

namespace tidemark::shard {

namespace {

// Messages of all queues that may be loaded, shared by those there are; see window_for().
constexpr size_t kLoadedMessagesShared = 1'000'000;
constexpr size_t kWindowMin = 64;
// A step loads at most 1 MiB or what is in one batch.
constexpr int kStepsPerTurn = 4;
constexpr size_t kEndedLeasesPerTurn = 1024;
constexpr int64_t kIdleNs = 60'000'000'000;
constexpr int64_t kIdleCheckNs = 1'000'000'000;
// So many tokens can be given in a millisecond before they could come again in another queue.
constexpr int kTokensPerMsBits = 20;
constexpr int kTokenRoomBits = 3;  // for the time, beside where a process begins

// Log time alone would not do: leases are not in the log, so a process that finds the wall clock
// set back may begin where the one before was already. Where the tokens of a process begin differs.
uint64_t first_token(int64_t now_ms, uint64_t seed) {
  return (static_cast<uint64_t>(now_ms) << kTokensPerMsBits) +
         (Random(seed).next() >> kTokenRoomBits);
}

// Each new queue gets its part of what may be loaded if all had the same. Those that came early
// keep what they have: with n queues it is at most 1 + ln(n) times kLoadedMessagesShared.
size_t window_for(size_t queues) {
  return std::clamp(kLoadedMessagesShared / (queues + 1), kWindowMin, limits::kQueueWindow);
}

}  // namespace

void QueueDesk::attach(BatchSource& source) {
  source_ = &source;
  reader_ = std::make_unique<MessageReader>(source);
}

Status QueueDesk::unknown_partition(PartitionId id) const {
  return Status(ErrorCode::kUnknownPartition, "topic id " + std::to_string(id.topic.value()) +
                                                  " partition " + std::to_string(id.index.value()) +
                                                  " on shard " +
                                                  std::to_string(options_.shard.value()));
}

void QueueDesk::refuse(const ReplyTo& to, const Status& status) {
  outbox_.reply(to, protocol::make_error_frame(to.correlation, status));
}

// --- queues

QueueDesk::Queue* QueueDesk::find(uint64_t serial) const {
  const auto it = queues_.find(serial);
  return it == queues_.end() ? nullptr : it->second;
}

QueueDesk::Queue* QueueDesk::find(std::string_view group, PartitionId partition) const {
  const auto found = groups_.find(group);
  if (found == groups_.end()) {
    return nullptr;
  }
  const auto it = found->second.queues.find(partition);
  return it == found->second.queues.end() ? nullptr : it->second.get();
}

Result<QueueDesk::Queue*> QueueDesk::open(Group& group, PartitionId id, bool from_end) {
  if (const partition::Partition* const there = views_.find(id);
      there != nullptr && (there->config().compaction.on() || there->compaction().changes > 0)) {
    return Status(ErrorCode::kNotAllowed,
                  "topic id " + std::to_string(id.topic.value()) + " partition " +
                      std::to_string(id.index.value()) +
                      " is compacted, or was: it can be consumed as a stream, not in queue mode");
  }
  if (const auto it = group.queues.find(id); it != group.queues.end()) {
    return it->second.get();
  }
  const partition::Partition* const partition = views_.find(id);
  if (partition == nullptr) {
    return unknown_partition(id);
  }
  const queue::QueueState* const state = views_.queues().find(group.name, id);
  if (queues_.size() >= limits::kQueuesPerShardMax ||
      (state == nullptr && views_.queues().size() >= limits::kQueuesPerShardMax)) {
    return Status(ErrorCode::kLimitExceeded, "shard " + std::to_string(options_.shard.value()) +
                                                 " has " +
                                                 std::to_string(limits::kQueuesPerShardMax) +
                                                 " queues (a consumer group and a partition each)");
  }
  queue::Dispatcher::Options options;
  options.ordered = group.ordered;
  options.window = window_for(queues_.size());
  const Offset floor = state == nullptr ? partition->start() : state->acks.floor();
  next_token_ = std::max(next_token_, first_token(now_ms_, options_.random_seed));
  auto made = std::make_unique<Queue>(group, id, next_serial_++, options,
                                      std::max(floor, partition->start()), next_token_);
  next_token_ += uint64_t{1} << kTokensPerMsBits;
  Queue& queue = *made;
  queue.used = now_;
  queues_.emplace(queue.serial, &queue);
  queues_of_[id].insert(queue.serial);
  group.queues.emplace(id, std::move(made));
  if (from_end && state == nullptr) {
    begin_at_end(queue, *partition);
  }
  return &queue;
}

// The group is new here and wants what comes from now on: that is written down before anything is
// given to it. With nothing stored the record only says that the group has begun.
void QueueDesk::begin_at_end(Queue& queue, const partition::Partition& partition) {
  queue.beginning = true;
  QueuePending& record = record_for(queue.group.name, queue.partition, 16);
  const Offset end = std::max(host_.visible_end(partition), partition.start());
  if (end > partition.start()) {
    record.acks.push_back({partition.start(), end - partition.start()});
  }
}

// Requires: no receiver waits for it.
void QueueDesk::drop(Queue& queue) {
  Group& group = queue.group;
  if (queue.wake_ms.has_value()) {
    wakes_.erase({*queue.wake_ms, queue.serial});
  }
  dirty_.erase(queue.serial);
  starved_.erase(queue.serial);
  const auto of = queues_of_.find(queue.partition);
  of->second.erase(queue.serial);
  if (of->second.empty()) {
    queues_of_.erase(of);
  }
  queues_.erase(queue.serial);
  group.queues.erase(queue.partition);
}

void QueueDesk::drop_queues(Group& group) {
  while (!group.queues.empty()) {
    drop(*group.queues.begin()->second);
  }
}

void QueueDesk::drop_group_if_idle(Group& group) {
  if (group.receivers == 0 && group.queues.empty()) {
    groups_.erase(group.name);
  }
}

// Queues that nobody has used for a while and that have nothing under way leave memory; what they
// were about is in the log.
void QueueDesk::drop_idle(MonotonicTime now) {
  if (now < next_idle_check_) {
    return;
  }
  next_idle_check_ = {now.ns + kIdleCheckNs};
  std::vector<Queue*> idle;
  for (const auto& [serial, queue] : queues_) {
    if (queue->waiting.empty() && queue->dispatcher.leased() == 0 && queue->under_way == 0 &&
        !queue->loading && !queue->beginning && now.ns - queue->used.ns >= kIdleNs) {
      idle.push_back(queue);
    }
  }
  for (Queue* queue : idle) {
    Group& group = queue->group;
    drop(*queue);
    drop_group_if_idle(group);
  }
}

// --- turns

void QueueDesk::flush(MonotonicTime now, std::span<const PartitionId> changed) {
  now_ = now;
  if (!stopping_ && !groups_.empty() && host_.may_write().ok()) {
    now_ms_ = host_.queue_time();
    for (const PartitionId id : changed) {
      if (const auto it = queues_of_.find(id); it != queues_of_.end()) {
        dirty_.insert(it->second.begin(), it->second.end());
      }
    }
    wake_due();
    const std::set<uint64_t> dirty = std::exchange(dirty_, {});
    // All have something first, so that a receiver of several gets its share of each.
    for (const uint64_t serial : dirty) {
      Queue* const queue = find(serial);
      if (queue != nullptr && !queue->waiting.empty() && !queue->dispatcher.has_ready()) {
        (void)load(*queue);
      }
    }
    for (const uint64_t serial : dirty) {
      if (Queue* const queue = find(serial); queue != nullptr) {
        work(*queue);
      }
    }
    expire_receivers(now);
  }
  write_gathered();
}

void QueueDesk::tick(MonotonicTime now) {
  now_ = now;
  if (!groups_.empty()) {
    now_ms_ = host_.queue_time();
  }
  expire_receivers(now);
  drop_idle(now);
}

void QueueDesk::work(Queue& queue) {
  if (!queue.begin_failure.ok()) {
    return tell_begin_failure(queue);
  }
  if (!queue.unseen.empty() && queue.load_from_ms <= now_ms_) {
    write_unseen(queue);
  }
  bool more = true;
  give(queue);
  for (int steps = 0; more && steps < kStepsPerTurn; ++steps) {
    more = load(queue);
    give(queue);
  }
  if (more) {
    mark(queue);  // the next turn goes on
  } else {
    dirty_.erase(queue.serial);
  }
  note_wake(queue);
}

void QueueDesk::note_wake(Queue& queue) {
  std::optional<int64_t> wake = queue.dispatcher.next_wake();
  if (queue.load_from_ms > now_ms_ && !queue.loading) {
    wake = std::min(wake.value_or(queue.load_from_ms), queue.load_from_ms);
  }
  if (wake == queue.wake_ms) {
    return;
  }
  if (queue.wake_ms.has_value()) {
    wakes_.erase({*queue.wake_ms, queue.serial});
  }
  if (wake.has_value()) {
    wakes_.emplace(*wake, queue.serial);
  }
  queue.wake_ms = wake;
}

// What waited for its time is ready; a lease that has ended is a delivery that failed.
void QueueDesk::wake_due() {
  std::vector<uint64_t> due;
  for (auto it = wakes_.begin(); it != wakes_.end() && it->first <= now_ms_; ++it) {
    due.push_back(it->second);
  }
  std::vector<Offset> ended;
  for (const uint64_t serial : due) {
    Queue& queue = *find(serial);
    ended.clear();
    queue.dispatcher.expire(now_ms_, kEndedLeasesPerTurn, ended);
    for (const Offset offset : ended) {
      fail_delivery(queue, offset, -1, "lease ended", {});
    }
    mark(queue);
  }
}

std::optional<int64_t> QueueDesk::next_wake_ms() const {
  if (stopping_ || !host_.may_write().ok()) {
    return std::nullopt;
  }
  if (!dirty_.empty() || !gathered_.empty()) {
    return now_ms_;
  }
  return wakes_.empty() ? std::nullopt : std::optional(wakes_.begin()->first);
}

// --- the log

void QueueDesk::applied(const RecordOutcome& outcome) {
  if (queues_.empty()) {
    return;
  }
  if (outcome.kind == format::RecordKind::kTrim && outcome.error == ErrorCode::kOk) {
    return trim(outcome.partition);
  }
  if (outcome.kind == format::RecordKind::kPartitionDrop) {
    drop_partitions(outcome.topic);
  }
}

void QueueDesk::trim(PartitionId id) {
  const auto it = queues_of_.find(id);
  if (it == queues_of_.end()) {
    return;
  }
  const Offset start = views_.find(id)->start();
  for (const uint64_t serial : it->second) {
    Queue& queue = *find(serial);
    queue.dispatcher.trim(start);
    while (!queue.batches.empty() && queue.batches.begin()->second.ref.end() <= start) {
      queue.batches.erase(queue.batches.begin());
    }
    queue.expires.erase(queue.expires.begin(), queue.expires.lower_bound(start));
    mark(queue);
  }
}

void QueueDesk::drop_partitions(TopicId topic) {
  std::vector<uint64_t> gone;
  for (auto it = queues_of_.lower_bound({topic, PartitionIndex{0}});
       it != queues_of_.end() && it->first.topic == topic; ++it) {
    gone.insert(gone.end(), it->second.begin(), it->second.end());
  }
  for (const uint64_t serial : gone) {
    Queue& queue = *find(serial);
    Group& group = queue.group;
    for (const uint64_t id : std::exchange(queue.waiting, {})) {
      for (ReceivePart& part : receivers_.at(id)->parts) {
        if (part.queue == serial) {
          part.status = unknown_partition(part.partition);
        }
      }
      (void)try_answer(id, true);
    }
    drop(queue);
    drop_group_if_idle(group);
  }
}

// What it had settled is unsettled again: whoever comes next begins anew.
void QueueDesk::group_dropped(std::string_view name) {
  const auto it = groups_.find(name);
  if (it == groups_.end()) {
    return;
  }
  Group& group = it->second;
  std::set<uint64_t> waiting;
  for (const auto& [id, queue] : group.queues) {
    waiting.insert(queue->waiting.begin(), queue->waiting.end());
  }
  for (const uint64_t id : waiting) {
    const std::unique_ptr<Receiver> receiver = leave(id);
    Delivery nothing;
    nothing.to = receiver->to;
    nothing.parts.resize(receiver->parts.size());
    reply_delivery(nothing);
  }
  drop_queues(group);
  drop_group_if_idle(group);
}

void QueueDesk::connection_closed(uint32_t loop, uint64_t connection) {
  const auto is_gone = [&](const ReplyTo& to) {
    return to.loop == loop && to.connection == connection;
  };
  std::vector<uint64_t> gone;
  for (const auto& [id, receiver] : receivers_) {
    if (is_gone(receiver->to)) {
      gone.push_back(id);
    }
  }
  for (const uint64_t id : gone) {
    const std::unique_ptr<Receiver> receiver = leave(id);
    drop_group_if_idle(*receiver->group);
  }
  for (const auto& [id, delivery] : deliveries_) {
    delivery->gone = delivery->gone || is_gone(delivery->to);
  }
}

void QueueDesk::begin_stop() {
  stopping_ = true;
  while (!receivers_.empty()) {
    const std::unique_ptr<Receiver> receiver = leave(receivers_.begin()->first);
    Delivery nothing;
    nothing.to = receiver->to;
    nothing.parts.resize(receiver->parts.size());
    reply_delivery(nothing);
  }
  write_gathered();
}

void QueueDesk::forget_all(const Status& status) {
  while (!receivers_.empty()) {
    const std::unique_ptr<Receiver> receiver = leave(receivers_.begin()->first);
    refuse(receiver->to, status);
  }
  for (const auto& [id, delivery] : deliveries_) {
    delivery->refusal = status;
  }
  // Nothing of these was proposed.
  for (auto& [name, record] : std::exchange(gathered_, {})) {
    fail(*record, status);
  }
  gathered_.clear();
  while (!groups_.empty()) {
    drop_queues(groups_.begin()->second);
    groups_.erase(groups_.begin());
  }
}

size_t QueueDesk::leased(std::string_view group) const {
  size_t leased = 0;
  if (const auto it = groups_.find(group); it != groups_.end()) {
    for (const auto& [id, queue] : it->second.queues) {
      leased += queue->dispatcher.leased();
    }
  }
  return leased;
}

void QueueDesk::add_stats(ShardStats& stats) const {
  const Views::QueueCounts& counts = views_.queue_counts();
  stats.queues = views_.queues().size();
  stats.queue_memory_bytes = views_.queues().memory_bytes();
  stats.queue_acked = counts.acked;
  stats.queue_failed = counts.failed;
  stats.queue_dead_lettered = counts.dead_lettered;
  stats.queue_redriven = counts.redriven;
  stats.queue_expired = counts.expired;
  stats.queue_filtered = counts.filtered;
  stats.queue_receivers = receivers_.size();
  for (const auto& [serial, queue] : queues_) {
    stats.queue_leased += queue->dispatcher.leased();
    stats.queue_ready += queue->dispatcher.ready();
    stats.queue_retrying += queue->dispatcher.retrying();
  }
  stats.messages_out += messages_out_;
  stats.bytes_out += bytes_out_;
}

}  // namespace tidemark::shard
