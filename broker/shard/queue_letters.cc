// Queue mode: messages that go to the dead-letter topic, and come back.
//
//   to be dead-lettered --> its batch, as stored --> reference batch built here | on a worker
//       --> letter of the turn's record
#include <utility>

#include "broker/shard/queue_desk.h"
#include "log/base/coverage_mark.h"
#include "log/base/logging.h"
#include "log/format/message_properties.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr size_t kLetterBytes = 128;  // of the record, beside the batch

}  // namespace

struct QueueDesk::LetterJob {
  uint64_t queue = 0;
  QueuePending::Waiter waiter;
  int64_t delay_ms = -1;
  PartitionId to;
  partition::BatchRef ref;
  QueueDeath death;
  SharedBytes batch;
  std::optional<Result<QueueLetter>> letter;
};

// Requires: the message is being settled, and the partition has one for dead letters.
// If the letter cannot be made it waits as after any failure, `delay_ms` (-1: the topic's).
void QueueDesk::begin_letter(Queue& queue, Offset offset, int64_t delay_ms, std::string_view reason,
                             QueuePending::Waiter waiter) {
  auto job = std::make_shared<LetterJob>();
  job->queue = queue.serial;
  job->waiter = std::move(waiter);
  job->delay_ms = delay_ms;
  const partition::PartitionConfig& config = views_.find(queue.partition)->config();
  job->to = config.dead_letter_partition;
  job->ref = std::prev(queue.batches.upper_bound(offset))->second.ref;
  job->death.topic =
      config.topic_name.empty() ? std::to_string(queue.partition.topic.value()) : config.topic_name;
  job->death.at = queue.partition;
  job->death.offset = offset;
  job->death.group = queue.group.name;
  job->death.reason = reason;
  job->death.deliveries = queue.dispatcher.failures(offset) + 1;
  job->death.time_ms = now_ms_;
  ++queue.under_way;
  if (const auto cached = source_->cached(job->ref); cached.has_value()) {
    return build_letter(job, *cached);
  }
  TIDEMARK_COVERAGE_MARK(queue_letter_from_disk);
  source_->read({job->ref}, [this, job](std::vector<Result<SharedBytes>> read) {
    build_letter(job, read.front());
  });
}

void QueueDesk::build_letter(const std::shared_ptr<LetterJob>& job,
                             const Result<SharedBytes>& batch) {
  if (!batch.ok()) {
    job->letter.emplace(batch.error());
    return finish_letter(*job);
  }
  job->batch = *batch;
  const auto build = [job] {
    job->letter.emplace(make_dead_letter(job->ref, job->batch.view(), job->death));
  };
  if (is_quick_to_parse({&batch, 1})) {
    build();
    return finish_letter(*job);
  }
  source_->run(build, [this, job] { finish_letter(*job); });
}

void QueueDesk::finish_letter(LetterJob& job) {
  Queue* const queue = find(job.queue);
  if (queue == nullptr) {
    // The leader's memory went meanwhile; the message is where it was.
    if (job.waiter.op != nullptr) {
      answer(job.waiter, ErrorCode::kNotLeader);
    }
    return;
  }
  now_ms_ = host_.queue_time();
  --queue->under_way;
  mark(*queue);
  const Offset offset = job.death.offset;
  if (!job.letter->ok()) {
    log_line(LogLevel::kError,
             "dead_letter_failed shard=" + std::to_string(options_.shard.value()) +
                 " topic=" + std::to_string(queue->partition.topic.value()) +
                 " partition=" + std::to_string(queue->partition.index.value()) +
                 " offset=" + std::to_string(offset.value()) + " error=\"" +
                 job.letter->error().to_string() + "\"");
    // It stays and is tried again; who asked for a dead letter is told.
    if (job.waiter.letter.has_value()) {
      job.waiter.letter.reset();
      job.waiter.result = job.letter->error().code();
    }
    return add_failure(*queue, offset, job.delay_ms, std::move(job.waiter));
  }
  QueueLetter letter = std::move(*job.letter).value();
  letter.to = job.to;
  QueuePending& record =
      record_for(queue->group.name, queue->partition, letter.batch.size() + kLetterBytes);
  record.letters.push_back({offset, std::move(letter)});
  if (job.waiter.op != nullptr) {
    record.waiters.push_back(std::move(job.waiter));
  }
}

// --- redrive, one offset after the other

struct QueueDesk::RedriveOp {
  std::shared_ptr<QueueSettleOp> op;
  PartitionId partition;
  std::vector<Offset> offsets;
  size_t next = 0;  // the one that is worked on
};

void QueueDesk::on_redrive(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::QueueRedrive*> request =
      protocol::read_table<fbs::QueueRedrive>(frame.table(), "QueueRedrive");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const PartitionId id{TopicId{(*request)->topic()}, PartitionIndex{(*request)->partition()}};
  const auto* offsets = (*request)->offsets();
  Status status;
  if (offsets == nullptr || offsets->size() == 0 ||
      offsets->size() > limits::kQueueItemsPerRequestMax) {
    status =
        Status(ErrorCode::kInvalidArgument,
               "1 to " + std::to_string(limits::kQueueItemsPerRequestMax) + " offsets are allowed");
  } else if (views_.find(id) == nullptr) {
    status = unknown_partition(id);
  } else {
    status = host_.may_write();
  }
  if (!status.ok()) {
    return refuse(from, status);
  }
  auto op = std::make_shared<RedriveOp>();
  op->op = std::make_shared<QueueSettleOp>();
  op->op->to = from;
  op->op->results.resize(offsets->size());
  op->op->unanswered = offsets->size();
  op->partition = id;
  for (const uint64_t offset : *offsets) {
    op->offsets.emplace_back(offset);
  }
  redrive_next(op);
}

void QueueDesk::redrive_next(const std::shared_ptr<RedriveOp>& op) {
  while (op->next < op->offsets.size()) {
    const Offset offset = op->offsets[op->next];
    if (const ErrorCode code = begin_redrive(*op, offset); code != ErrorCode::kOk) {
      end_redrive(*op, code);
      continue;
    }
    const partition::Partition& partition = *views_.find(op->partition);
    const auto refs = partition.index().find(offset, 1, partition.start());
    if (!refs.has_value()) {
      return source_->find(op->partition, offset, 1,
                           [this, op](Result<std::vector<partition::BatchRef>> found) {
                             const partition::Partition* const there = views_.find(op->partition);
                             if (there != nullptr && found.ok()) {
                               there->index().amend(*found);
                             }
                             if (redrive_found(op, found)) {
                               redrive_next(op);
                             }
                           });
    }
    if (!redrive_found(op, *refs)) {
      return;
    }
  }
}

ErrorCode QueueDesk::begin_redrive(const RedriveOp& op, Offset offset) {
  if (const Status status = host_.may_write(); !status.ok()) {
    return status.code();
  }
  const partition::Partition* const partition = views_.find(op.partition);
  if (partition == nullptr) {
    return ErrorCode::kUnknownPartition;
  }
  const auto* state = views_.queues().find(format::kDeadLetterGroup, op.partition);
  if (offset < partition->start() || offset >= host_.visible_end(*partition) ||
      (state != nullptr && state->acks.contains(offset))) {
    return ErrorCode::kNotFound;
  }
  return redriving_.emplace(op.partition, offset).second ? ErrorCode::kOk : ErrorCode::kFenced;
}

// False: redrive_next() goes on when the batch is read.
bool QueueDesk::redrive_found(const std::shared_ptr<RedriveOp>& op,
                              const Result<std::vector<partition::BatchRef>>& refs) {
  const Offset offset = op->offsets[op->next];
  if (!refs.ok() || refs->empty() || refs->front().base > offset || refs->front().count != 1 ||
      refs->front().is_dead()) {
    redriving_.erase({op->partition, offset});
    end_redrive(*op, refs.ok() ? ErrorCode::kNotFound : refs.error().code());
    return true;
  }
  if (const auto cached = source_->cached(refs->front()); cached.has_value()) {
    redrive_read(*op, *cached);
    return true;
  }
  source_->read({refs->front()}, [this, op](std::vector<Result<SharedBytes>> read) {
    redrive_read(*op, read.front());
    redrive_next(op);
  });
  return false;
}

void QueueDesk::redrive_read(RedriveOp& op, const Result<SharedBytes>& batch) {
  const Offset offset = op.offsets[op.next];
  const Status writable = host_.may_write();
  Result<QueueLetter> letter = !writable.ok() ? Result<QueueLetter>(writable)
                               : batch.ok()   ? make_redriven(batch->view(), host_.queue_time())
                                              : Result<QueueLetter>(batch.error());
  if (letter.ok() && views_.find(letter->to) == nullptr) {
    letter = unknown_partition(letter->to);
  }
  if (!letter.ok()) {
    redriving_.erase({op.partition, offset});
    return end_redrive(op, letter.error().code());
  }
  QueuePending& record =
      record_for(format::kDeadLetterGroup, op.partition, letter->batch.size() + kLetterBytes);
  record.waiters.push_back({op.op, op.next++, offset});
  record.letters.push_back({offset, std::move(*letter)});
}

void QueueDesk::end_redrive(RedriveOp& op, ErrorCode code) {
  op.op->results[op.next++] = code;
  answered(*op.op, 1);
}

}  // namespace tidemark::shard
