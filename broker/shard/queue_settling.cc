// Queue mode: what is done with messages. Everything of a turn for a group and a partition becomes
// one record.
#include <algorithm>
#include <utility>

#include "broker/queue/retry_policy.h"
#include "broker/shard/queue_desk.h"
#include "log/base/coverage_mark.h"
#include "log/format/control_record.h"
#include "log/format/message_properties.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

// A record that is larger is written at once, and another one begins.
constexpr size_t kRecordBytes = 256 * limits::kKiB;
constexpr size_t kAckBytes = 12;  // packed; at most
constexpr int64_t kUnseenRetryMs = 100;
constexpr size_t kFailureBytes = sizeof(format::fbs::QueueFailure);

// Group names that begin with $ have no leases.
bool is_valid(const fbs::QueueSettleItem& item, std::string_view group) {
  const bool leased = item.token() != 0 && group.front() != '$';
  switch (item.action()) {
    case fbs::QueueAction::kAck:
      return leased || item.token() == 0;
    case fbs::QueueAction::kNack:
      return leased && item.delay_ms() >= -1 && item.delay_ms() <= limits::kQueueDelayMsMax;
    case fbs::QueueAction::kExtend:
      return leased && item.delay_ms() >= 0 &&
             item.delay_ms() <= int64_t{limits::kQueueVisibilityMsMax};
    case fbs::QueueAction::kDeadLetter:
    case fbs::QueueAction::kRelease:
      return leased;
  }
  return false;
}

bool has_dead_letters(const partition::PartitionConfig& config) {
  return config.queue.dead_letter_topic.value() != 0 &&
         config.dead_letter_partition.topic.value() != 0;
}

}  // namespace

Status check_queue_group(std::string_view group) {
  if (group.empty() || group.size() > limits::kGroupNameBytesMax) {
    return Status(ErrorCode::kInvalidArgument, "a consumer group has a name of 1 to " +
                                                   std::to_string(limits::kGroupNameBytesMax) +
                                                   " bytes");
  }
  return Status();
}

// --- gathering

// The record of this turn, with room for so many bytes more.
QueuePending& QueueDesk::record_for(std::string_view group, PartitionId id, size_t bytes) {
  auto& slot = gathered_[{std::string(group), id}];
  Queue* const queue = find(group, id);
  // One that was dropped and opened again gets a record of its own.
  const bool another =
      slot != nullptr && slot->queue != 0 && (queue == nullptr || slot->queue != queue->serial);
  if (slot != nullptr && (another || slot->bytes + bytes > kRecordBytes)) {
    write(std::exchange(slot, nullptr));
  }
  if (slot == nullptr) {
    slot = std::make_unique<QueuePending>();
    slot->group = group;
    slot->partition = id;
  }
  if (slot->queue == 0 && queue != nullptr) {
    slot->queue = queue->serial;
    ++queue->under_way;
  }
  slot->bytes += bytes;
  return *slot;
}

void QueueDesk::add_unseen(Queue& queue, Offset offset, bool expired) {
  QueuePending& record = record_for(queue.group.name, queue.partition, kAckBytes);
  ++(expired ? record.expired : record.filtered);
  if (!record.unseen.empty() && record.unseen.back().first + record.unseen.back().count == offset) {
    ++record.unseen.back().count;
  } else {
    record.unseen.push_back({offset, 1});
  }
}

void QueueDesk::write(std::unique_ptr<QueuePending> record) {
  flatbuffers::FlatBufferBuilder body;
  const auto group = body.CreateString(record->group);
  std::vector<queue::AckRange> ranges = record->acks;
  ranges.insert(ranges.end(), record->unseen.begin(), record->unseen.end());
  flatbuffers::Offset<flatbuffers::Vector<uint8_t>> acks;
  if (!ranges.empty()) {
    acks = body.CreateVector(queue::pack_ranges(std::move(ranges)));
  }
  std::vector<format::fbs::QueueFailure> failures;
  for (const QueuePending::Failure& failure : record->failures) {
    failures.emplace_back(failure.offset.value(), failure.retry_ms);
  }
  std::vector<flatbuffers::Offset<format::fbs::QueueLetter>> letters;
  for (const QueuePending::Letter& one : record->letters) {
    const auto batch = body.CreateVector(one.letter.batch.data(), one.letter.batch.size());
    letters.push_back(format::fbs::CreateQueueLetter(
        body, one.offset.value(), one.letter.to.topic.value(), one.letter.to.index.value(),
        one.letter.body.value(), batch));
  }
  flatbuffers::Offset<flatbuffers::Vector<const format::fbs::QueueFailure*>> all_failures;
  if (!failures.empty()) {
    all_failures = body.CreateVectorOfStructs(failures);
  }
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<format::fbs::QueueLetter>>>
      all_letters;
  if (!letters.empty()) {
    all_letters = body.CreateVector(letters);
  }
  format::fbs::QueueSettleBuilder settle(body);
  settle.add_group(group);
  settle.add_topic(record->partition.topic.value());
  settle.add_partition(record->partition.index.value());
  settle.add_acks(acks);
  settle.add_failures(all_failures);
  settle.add_letters(all_letters);
  settle.add_expired(record->expired);
  settle.add_filtered(record->filtered);
  settle.add_time_ms(host_.record_time());
  body.Finish(settle.Finish());
  host_.gather_settle(body, std::move(record));
}

void QueueDesk::write_gathered() {
  for (auto& [name, record] : std::exchange(gathered_, {})) {
    if (record != nullptr) {
      write(std::move(record));
    }
  }
}

// --- requests

void QueueDesk::on_settle(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::QueueSettle*> request =
      protocol::read_table<fbs::QueueSettle>(frame.table(), "QueueSettle");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view group = protocol::view((*request)->group());
  const std::string_view reason = protocol::view((*request)->reason());
  const auto* items = (*request)->items();
  Status status = check_queue_group(group);
  if (status.ok() && group.front() == '$' && group != format::kDeadLetterGroup) {
    status = Status(ErrorCode::kInvalidArgument,
                    "names of consumer groups that begin with $ are reserved");
  }
  if (status.ok() && (items == nullptr || items->size() == 0 ||
                      items->size() > limits::kQueueItemsPerRequestMax)) {
    status =
        Status(ErrorCode::kInvalidArgument,
               "1 to " + std::to_string(limits::kQueueItemsPerRequestMax) + " items are allowed");
  }
  if (status.ok() && reason.size() > limits::kQueueReasonBytesMax) {
    status =
        Status(ErrorCode::kInvalidArgument,
               "a reason has at most " + std::to_string(limits::kQueueReasonBytesMax) + " bytes");
  }
  if (status.ok()) {
    status = host_.may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  now_ms_ = host_.queue_time();
  auto op = std::make_shared<QueueSettleOp>();
  op->to = from;
  op->results.resize(items->size());
  op->unanswered = items->size() + 1;
  size_t done = 1;
  for (uint32_t i = 0; i < items->size(); ++i) {
    // kOk: answered when its record is applied, unless it was answered inside.
    const ErrorCode code = settle_item(op, i, group, *items->Get(i), reason);
    if (code != ErrorCode::kOk) {
      op->results[i] = code;
      ++done;
    }
  }
  answered(*op, done);
}

ErrorCode QueueDesk::settle_item(const std::shared_ptr<QueueSettleOp>& op, size_t item,
                                 std::string_view group, const fbs::QueueSettleItem& wanted,
                                 std::string_view reason) {
  if (!is_valid(wanted, group)) {
    return ErrorCode::kInvalidArgument;
  }
  const PartitionId id{TopicId{wanted.topic()}, PartitionIndex{wanted.partition()}};
  const partition::Partition* const partition = views_.find(id);
  if (partition == nullptr) {
    return ErrorCode::kUnknownPartition;
  }
  if (Offset{wanted.offset()} >= partition->end()) {
    return ErrorCode::kNotFound;
  }
  if (wanted.action() == fbs::QueueAction::kAck) {
    return ack(op, item, group, wanted);
  }
  Queue* const queue = find(group, id);
  if (queue == nullptr) {
    TIDEMARK_COVERAGE_MARK(queue_lease_of_leader_before);
    return ErrorCode::kNotFound;  // its lease went with the leader before
  }
  queue->used = now_;
  const Offset offset{wanted.offset()};
  if (wanted.action() == fbs::QueueAction::kExtend) {
    const ErrorCode code =
        queue->dispatcher.extend(offset, wanted.token(), now_ms_ + wanted.delay_ms());
    note_wake(*queue);
    if (code == ErrorCode::kOk) {
      answered(*op, 1);
    }
    return code;
  }
  if (wanted.action() == fbs::QueueAction::kDeadLetter && !has_dead_letters(partition->config())) {
    return ErrorCode::kNotAllowed;
  }
  const ErrorCode code = queue->dispatcher.begin_settle(offset, wanted.token());
  if (code != ErrorCode::kOk) {
    return code;
  }
  note_wake(*queue);
  if (wanted.action() == fbs::QueueAction::kRelease) {
    TIDEMARK_COVERAGE_MARK(queue_lease_released);
    queue->dispatcher.put_back(offset);
    mark(*queue);
    answered(*op, 1);
  } else if (wanted.action() == fbs::QueueAction::kDeadLetter) {
    begin_letter(*queue, offset, -1, reason, {op, item, offset});
  } else {
    fail_delivery(*queue, offset, wanted.delay_ms(), reason, {op, item, std::nullopt});
  }
  return ErrorCode::kOk;
}

ErrorCode QueueDesk::ack(const std::shared_ptr<QueueSettleOp>& op, size_t item,
                         std::string_view group, const fbs::QueueSettleItem& wanted) {
  const PartitionId id{TopicId{wanted.topic()}, PartitionIndex{wanted.partition()}};
  const partition::Partition& partition = *views_.find(id);
  Queue* const queue = find(group, id);
  const uint64_t count = wanted.token() == 0 ? std::max<uint64_t>(wanted.count(), 1) : 1;
  const Offset first = std::max(Offset{wanted.offset()}, partition.start());
  const Offset end{wanted.offset() + std::min(count, partition.end().value() - wanted.offset())};
  const queue::QueueState* const state = views_.queues().find(group, id);
  if (end <= first || (state != nullptr && state->acks.next_unsettled(first) >= end)) {
    answered(*op, 1);  // settled already
    return ErrorCode::kOk;
  }
  std::vector<queue::AckRange> acks{{first, 1}};
  ErrorCode result = ErrorCode::kOk;
  if (wanted.token() != 0 || count == 1) {
    const ErrorCode code = begin_ack(queue, first, wanted.token());
    if (code != ErrorCode::kOk) {
      return code;
    }
  } else {
    acks = free_ranges(queue, first, end);
    const bool all = acks.size() == 1 && acks.front() == queue::AckRange{first, end - first};
    result = all ? ErrorCode::kOk : ErrorCode::kFenced;
  }
  QueuePending& record = record_for(group, id, acks.size() * kAckBytes);
  record.acks.insert(record.acks.end(), acks.begin(), acks.end());
  record.waiters.push_back({op, item, std::nullopt, result});
  if (queue == nullptr || end > queue->dispatcher.loaded_to()) {
    hold_loading(record);
  }
  if (queue != nullptr) {
    queue->used = now_;
    note_wake(*queue);
  }
  return ErrorCode::kOk;
}

// An ack holds without a lease, unless another one has it.
ErrorCode QueueDesk::begin_ack(Queue* queue, Offset offset, uint64_t token) {
  if (queue == nullptr) {
    return ErrorCode::kOk;
  }
  ErrorCode code = queue->dispatcher.begin_settle(offset, token);
  if (code == ErrorCode::kNotFound && token != 0) {
    TIDEMARK_COVERAGE_MARK(queue_ack_without_lease);
    code = queue->dispatcher.begin_settle(offset, 0);
  }
  // Not loaded: nobody can have it.
  return code == ErrorCode::kNotFound ? ErrorCode::kOk : code;
}

// What is acked without being loaded must not be leased meanwhile.
void QueueDesk::hold_loading(QueuePending& record) {
  if (!std::exchange(record.unloaded, true)) {
    TIDEMARK_COVERAGE_MARK(queue_ack_holds_loading);
    ++unloaded_acks_[{record.group, record.partition}];
  }
}

void QueueDesk::release_loading(const QueuePending& record) {
  if (!record.unloaded) {
    return;
  }
  const auto held = unloaded_acks_.find({record.group, record.partition});
  if (--held->second == 0) {
    unloaded_acks_.erase(held);
  }
  if (Queue* const queue = find(record.group, record.partition); queue != nullptr) {
    mark(*queue);
  }
}

// What is not leased of [first, end), which nobody can get from then on.
std::vector<queue::AckRange> QueueDesk::free_ranges(Queue* queue, Offset first, Offset end) {
  std::vector<queue::AckRange> free;
  Offset from = first;
  const auto up_to = [&](Offset next) {
    if (next > from) {
      free.push_back({from, next - from});
    }
  };
  if (queue != nullptr) {
    auto batch = queue->batches.upper_bound(first);
    batch = batch == queue->batches.begin() ? batch : std::prev(batch);
    for (; batch != queue->batches.end() && batch->first < end; ++batch) {
      const partition::BatchRef& ref = batch->second.ref;
      for (Offset at = std::max(ref.base, first); at < std::min(ref.end(), end); ++at) {
        if (queue->dispatcher.begin_settle(at, 0) == ErrorCode::kFenced) {
          up_to(at);
          from = at + 1;
        }
      }
    }
  }
  up_to(end);
  return free;
}

// Requires: the message is being settled.
void QueueDesk::fail_delivery(Queue& queue, Offset offset, int64_t delay_ms,
                              std::string_view reason, QueuePending::Waiter waiter) {
  const partition::PartitionConfig& config = views_.find(queue.partition)->config();
  const uint32_t failures = queue.dispatcher.failures(offset) + 1;
  if (config.queue.max_deliveries > 0 && failures >= config.queue.max_deliveries &&
      has_dead_letters(config)) {
    TIDEMARK_COVERAGE_MARK(queue_deliveries_used_up);
    return begin_letter(queue, offset, delay_ms, reason, std::move(waiter));
  }
  add_failure(queue, offset, delay_ms, std::move(waiter));
}

void QueueDesk::add_failure(Queue& queue, Offset offset, int64_t delay_ms,
                            QueuePending::Waiter waiter) {
  if (delay_ms < 0) {
    delay_ms = queue::retry_delay_ms(views_.find(queue.partition)->config().queue,
                                     queue.dispatcher.failures(offset) + 1);
  }
  QueuePending& record = record_for(queue.group.name, queue.partition, kFailureBytes);
  record.failures.push_back({offset, host_.queue_time_after(delay_ms)});
  if (waiter.op != nullptr) {
    record.waiters.push_back(std::move(waiter));
  }
}

// --- applied

void QueueDesk::settle(QueuePending& pending, const RecordOutcome& outcome) {
  if (outcome.error != ErrorCode::kOk) {
    return fail(pending, Status(outcome.error, "queue of group " + pending.group));
  }
  release_loading(pending);
  now_ms_ = host_.queue_time();
  Queue* const queue = find(pending.group, pending.partition);
  if (queue != nullptr) {
    for (const queue::AckRange& range : pending.acks) {
      settle_range(*queue, range);
    }
    for (const queue::AckRange& range : pending.unseen) {
      settle_range(*queue, range);
    }
    mark(*queue);
  }
  if (Queue* const same = find(pending.queue); same != nullptr) {
    --same->under_way;
    same->beginning = false;
    settle_failures(*same, pending);
  }
  settle_letters(pending);
  if (queue != nullptr) {
    note_wake(*queue);
  }
}

void QueueDesk::settle_range(Queue& queue, queue::AckRange range) {
  const Offset end = range.first + range.count;
  if (range.count == 1) {
    return settle_one(queue, range.first);
  }
  auto batch = queue.batches.upper_bound(range.first);
  batch = batch == queue.batches.begin() ? batch : std::prev(batch);
  while (batch != queue.batches.end() && batch->first < end) {
    const partition::BatchRef ref = batch->second.ref;
    ++batch;  // settling may take it away
    for (Offset at = std::max(ref.base, range.first); at < std::min(ref.end(), end); ++at) {
      settle_one(queue, at);
    }
  }
}

void QueueDesk::settle_one(Queue& queue, Offset offset) {
  const size_t loaded = queue.dispatcher.size();
  queue.dispatcher.settled(offset);
  if (queue.dispatcher.size() == loaded) {
    return;
  }
  queue.expires.erase(offset);
  const auto batch = queue.batches.upper_bound(offset);
  if (batch != queue.batches.begin() && --std::prev(batch)->second.unsettled == 0) {
    queue.batches.erase(std::prev(batch));
  }
}

void QueueDesk::settle_failures(Queue& queue, const QueuePending& pending) {
  const queue::QueueState* const state = views_.queues().find(pending.group, pending.partition);
  for (const QueuePending::Failure& failure : pending.failures) {
    if (state != nullptr && state->acks.contains(failure.offset)) {
      settle_one(queue, failure.offset);
      continue;
    }
    uint32_t count = queue.dispatcher.failures(failure.offset);
    int64_t retry_ms = failure.retry_ms;
    // Where there is no room to remember it, it waits all the same, as long as this leader lives;
    // that it failed is not known afterwards.
    if (state != nullptr) {
      if (const auto it = state->failures.find(failure.offset); it != state->failures.end()) {
        count = it->second.count;
        retry_ms = it->second.retry_ms;
      }
    }
    queue.dispatcher.failed(failure.offset, count, retry_ms, now_ms_);
  }
}

// What did not move has no place to go any more: it is tried again here.
void QueueDesk::settle_letters(const QueuePending& pending) {
  const queue::QueueState* const state = views_.queues().find(pending.group, pending.partition);
  const auto has_moved = [&](Offset offset) {
    return state != nullptr && state->acks.contains(offset);
  };
  Queue* const queue = find(pending.queue);
  for (const QueuePending::Letter& letter : pending.letters) {
    redriving_.erase({pending.partition, letter.offset});
    if (queue == nullptr) {
      continue;
    }
    if (has_moved(letter.offset)) {
      settle_one(*queue, letter.offset);
      continue;
    }
    const uint32_t failures = queue->dispatcher.failures(letter.offset);
    const int64_t delay_ms =
        queue::retry_delay_ms(views_.find(pending.partition)->config().queue, failures + 1);
    queue->dispatcher.failed(letter.offset, failures, now_ms_ + delay_ms, now_ms_);
  }
  for (const QueuePending::Waiter& waiter : pending.waiters) {
    const bool lost = waiter.letter.has_value() && !has_moved(*waiter.letter);
    answer(waiter, lost ? ErrorCode::kUnknownPartition : waiter.result);
  }
}

// May be called inside write(): drops no queue.
void QueueDesk::fail(QueuePending& pending, const Status& status) {
  release_loading(pending);
  Queue* const queue = find(pending.queue);
  if (queue != nullptr) {
    --queue->under_way;
    for (const queue::AckRange& range : pending.acks) {
      put_back_range(*queue, range);
    }
    for (const QueuePending::Failure& failure : pending.failures) {
      queue->dispatcher.put_back(failure.offset);
    }
    for (const QueuePending::Letter& letter : pending.letters) {
      queue->dispatcher.put_back(letter.offset);
    }
    if (std::exchange(queue->beginning, false)) {
      queue->begin_failure = status;
      mark(*queue);
    } else {
      retry_unseen(*queue, pending);
    }
  }
  for (const QueuePending::Letter& letter : pending.letters) {
    redriving_.erase({pending.partition, letter.offset});
  }
  for (const QueuePending::Waiter& waiter : pending.waiters) {
    answer(waiter, status.code());
  }
}

void QueueDesk::put_back_range(Queue& queue, queue::AckRange range) {
  const Offset end = range.first + range.count;
  auto batch = queue.batches.upper_bound(range.first);
  batch = batch == queue.batches.begin() ? batch : std::prev(batch);
  for (; batch != queue.batches.end() && batch->first < end; ++batch) {
    const partition::BatchRef& ref = batch->second.ref;
    for (Offset at = std::max(ref.base, range.first); at < std::min(ref.end(), end); ++at) {
      queue.dispatcher.put_back(at);
    }
  }
  mark(queue);
}

// Nobody waits for these acks, and what they are about is not loaded again as long as this leader
// lives: they are written with the next ones.
void QueueDesk::retry_unseen(Queue& queue, const QueuePending& pending) {
  if (pending.unseen.empty() || stopping_ || !host_.may_write().ok()) {
    return;
  }
  queue.unseen.insert(queue.unseen.end(), pending.unseen.begin(), pending.unseen.end());
  queue.unseen_expired += pending.expired;
  queue.unseen_filtered += pending.filtered;
  queue.load_from_ms = now_ms_ + kUnseenRetryMs;
  note_wake(queue);
}

void QueueDesk::write_unseen(Queue& queue) {
  QueuePending& record =
      record_for(queue.group.name, queue.partition, queue.unseen.size() * kAckBytes);
  record.unseen.insert(record.unseen.end(), queue.unseen.begin(), queue.unseen.end());
  queue.unseen.clear();
  record.expired += std::exchange(queue.unseen_expired, 0);
  record.filtered += std::exchange(queue.unseen_filtered, 0);
}

// The group could not begin here: receivers are told, and the next one tries again.
void QueueDesk::tell_begin_failure(Queue& queue) {
  while (!queue.waiting.empty()) {
    const uint64_t id = *queue.waiting.begin();
    for (ReceivePart& part : receivers_.at(id)->parts) {
      if (part.queue == queue.serial) {
        part.status = queue.begin_failure;
      }
    }
    (void)try_answer(id, true);
  }
  Group& group = queue.group;
  drop(queue);
  drop_group_if_idle(group);
}

void QueueDesk::answer(const QueuePending::Waiter& waiter, ErrorCode code) {
  waiter.op->results[waiter.item] = code;
  answered(*waiter.op, 1);
}

void QueueDesk::answered(QueueSettleOp& op, size_t count) {
  op.unanswered -= count;
  if (op.unanswered > 0) {
    return;
  }
  std::vector<fbs::QueueSettleResult> results;
  for (const ErrorCode code : op.results) {
    results.emplace_back(static_cast<uint16_t>(code));
  }
  const auto all = builder_.CreateVectorOfStructs(results);
  if (op.to.type == protocol::FrameType::kQueueRedrive) {
    fbs::QueueRedriveReplyBuilder reply(builder_);
    reply.add_results(all);
    return send_reply(op.to, reply.Finish());
  }
  fbs::QueueSettleReplyBuilder reply(builder_);
  reply.add_results(all);
  send_reply(op.to, reply.Finish());
}

}  // namespace tidemark::shard
