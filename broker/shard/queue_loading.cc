// Queue mode: messages are loaded ahead of what receivers ask for.
//
//   index in memory | cold look-up --> MessageReader --> parsed here | on a worker --> dispatcher
#include <algorithm>
#include <utility>

#include "broker/shard/queue_desk.h"
#include "log/base/coverage_mark.h"
#include "log/base/logging.h"

namespace tidemark::shard {

namespace {

constexpr size_t kLoadBytes = 1 * limits::kMiB;
// Loading goes on until so many are ready: priority holds within them.
constexpr size_t kReadyAhead = 16'384;
constexpr int64_t kLoadRetryMs = 100;
// What cannot be read for so long is damaged for good: the messages behind it wait no longer.
constexpr int64_t kUnreadableMs = 10'000;

}  // namespace

// What is loaded is chosen by the group's filter, and what that leaves out is settled: so only
// while somebody of the group is there, who holds the filter.
bool QueueDesk::may_load(const Queue& queue) const {
  const bool used = !queue.waiting.empty() || queue.dispatcher.leased() > 0;
  return used && !queue.loading && !queue.beginning && queue.begin_failure.ok() &&
         queue.dispatcher.ready() < kReadyAhead && now_ms_ >= queue.load_from_ms &&
         !unloaded_acks_.contains({queue.group.name, queue.partition});
}

// One step. True if it is done and another may follow at once.
bool QueueDesk::load(Queue& queue) {
  const partition::Partition* const partition = views_.find(queue.partition);
  const std::optional<Offset> wanted = queue.dispatcher.wants_load();
  if (partition == nullptr || !wanted.has_value() || !may_load(queue)) {
    return false;
  }
  Offset from = std::max(*wanted, partition->start());
  if (const auto* state = views_.queues().find(queue.group.name, queue.partition)) {
    from = std::max(from, state->acks.next_unsettled(from));
  }
  // What is delivered ahead of its time is not there yet.
  if (from >= host_.visible_end(*partition)) {
    return false;
  }
  if (loads_ >= limits::kColdReadsInFlightPerShardMax) {
    starved_.insert(queue.serial);
    return false;
  }
  std::optional<std::vector<partition::BatchRef>> refs =
      partition->index().find(from, kLoadBytes, partition->start());
  if (!refs.has_value()) {
    find_cold(queue, from);
    return false;
  }
  return read(queue, from, std::move(*refs));
}

void QueueDesk::find_cold(Queue& queue, Offset from) {
  queue.loading = true;
  ++loads_;
  source_->find(queue.partition, from, kLoadBytes,
                [this, serial = queue.serial, from](Result<std::vector<partition::BatchRef>> refs) {
                  load_ended();
                  Queue* const waiting = find(serial);
                  if (waiting == nullptr) {
                    return;
                  }
                  now_ms_ = host_.queue_time();
                  waiting->loading = false;
                  mark(*waiting);
                  if (!refs.ok()) {
                    return load_failed(*waiting, refs.error());
                  }
                  const partition::Partition* const there = views_.find(waiting->partition);
                  if (there != nullptr) {
                    there->index().amend(*refs);
                  }
                  (void)read(*waiting, from, std::move(*refs));
                });
}

// The look-up failed, not the messages: the same again a little later.
void QueueDesk::load_failed(Queue& queue, const Status& status) {
  queue.damage = status;
  queue.load_from_ms = now_ms_ + kLoadRetryMs;
  note_wake(queue);
}

void QueueDesk::load_ended() {
  --loads_;
  dirty_.insert(starved_.begin(), starved_.end());
  starved_.clear();
}

bool QueueDesk::read(Queue& queue, Offset from, std::vector<partition::BatchRef> refs) {
  const partition::Partition* const partition = views_.find(queue.partition);
  if (partition == nullptr) {
    return false;
  }
  const queue::QueueState* const state = views_.queues().find(queue.group.name, queue.partition);
  const Offset visible = host_.visible_end(*partition);
  const auto load = std::make_shared<Load>();
  load->next = from;
  for (const partition::BatchRef& ref : refs) {
    if (ref.base >= visible) {
      break;
    }
    load->next = ref.end();
    // A batch that is settled whole need not be read; nor one of which nothing is left.
    if (ref.is_dead()) {
      continue;
    }
    if (state == nullptr ||
        state->acks.next_unsettled(std::max(ref.base, state->acks.floor())) < ref.end()) {
      load->refs.push_back(ref);
    }
  }
  if (load->next == from) {
    // Trimmed while it was looked up.
    queue.load_from_ms = now_ms_ + kLoadRetryMs;
    return false;
  }
  queue.loading = true;
  ++loads_;
  if (load->refs.empty()) {
    finish_load(queue.serial, *load);
    return true;
  }
  load->filter = queue.group.filter;
  load->ttl_ms = partition->config().queue.ttl_ms;
  const uint64_t serial = queue.serial;
  reader_->read(load->refs, kLoadBytes,
                [this, serial, load](std::vector<Result<SharedBytes>> batches) {
                  load->batches = std::move(batches);
                  take_read(serial, load);
                });
  return !queue.loading;
}

void QueueDesk::take_read(uint64_t serial, const std::shared_ptr<Load>& load) {
  // Messages that references stand for are larger than the references: some were left out.
  if (load->batches.size() < load->refs.size()) {
    load->next = load->refs[load->batches.size()].base;
    load->refs.resize(load->batches.size());
  }
  const auto parse = [load] {
    load->parsed = parse_batches(load->refs, load->batches, {load->filter.get(), load->ttl_ms});
  };
  if (is_quick_to_parse(load->batches)) {
    parse();
    return finish_load(serial, *load);
  }
  source_->run(parse, [this, serial, load] { finish_load(serial, *load); });
}

void QueueDesk::finish_load(uint64_t serial, Load& load) {
  load_ended();
  Queue* const queue = find(serial);
  if (queue == nullptr) {
    return;
  }
  now_ms_ = host_.queue_time();
  queue->loading = false;
  mark(*queue);
  if (unloaded_acks_.contains({queue->group.name, queue->partition})) {
    return;  // some of these are being acked: loaded again afterwards
  }
  judge_damage(*queue, load);
  take_messages(*queue, load);
}

// What cannot be read may be readable the next time, a flipped bit of a cable and a disk that is
// back: until then nothing behind it is given, which may be of a key that is in it.
void QueueDesk::judge_damage(Queue& queue, Load& load) {
  if (load.parsed.damaged.empty()) {
    queue.unread_since_ms.reset();
    return;
  }
  const QueueDamage& first = load.parsed.damaged.front();
  const bool known = queue.unread_since_ms.has_value();
  const int64_t since_ms = queue.unread_since_ms.value_or(now_ms_);
  queue.unread_since_ms = since_ms;
  const bool passed_over = now_ms_ - since_ms >= kUnreadableMs;
  if (!known || passed_over) {
    queue.damage =
        Status(first.status.code(),
               "offsets " + std::to_string(first.ref.base.value()) + " to " +
                   std::to_string(first.ref.end().value() - 1) + " of topic id " +
                   std::to_string(queue.partition.topic.value()) + " partition " +
                   std::to_string(queue.partition.index.value()) + ": " + first.status.to_string());
    log_line(LogLevel::kError,
             std::string(passed_over ? "queue_batch_passed_over" : "queue_batch_unreadable") +
                 " shard=" + std::to_string(options_.shard.value()) + " group=\"" +
                 queue.group.name + "\" error=\"" + queue.damage.to_string() + "\"");
  }
  if (!passed_over) {
    TIDEMARK_COVERAGE_MARK(queue_load_read_again);
    load.next = first.ref.base;
    std::erase_if(load.parsed.messages,
                  [&](const QueueMessage& one) { return one.message.offset >= load.next; });
    queue.load_from_ms = now_ms_ + kLoadRetryMs;
    note_wake(queue);
  }
}

void QueueDesk::take_messages(Queue& queue, const Load& load) {
  const partition::Partition* const partition = views_.find(queue.partition);
  if (partition == nullptr) {
    return;
  }
  const queue::QueueState* const state = views_.queues().find(queue.group.name, queue.partition);
  const Offset from = std::max(queue.dispatcher.loaded_to(), partition->start());
  std::vector<queue::LoadedMessage> messages;
  auto ref = load.refs.begin();
  for (const QueueMessage& one : load.parsed.messages) {
    const Offset offset = one.message.offset;
    if (offset < from || (state != nullptr && state->acks.contains(offset))) {
      continue;
    }
    if (!one.wanted || one.expires_ms <= now_ms_) {
      add_unseen(queue, offset, one.wanted);
      continue;
    }
    while (ref->end() <= offset) {
      ++ref;
    }
    LoadedBatch& batch = queue.batches[ref->base];
    batch.ref = *ref;
    ++batch.unsettled;
    if (one.expires_ms != INT64_MAX) {
      queue.expires.emplace(offset, one.expires_ms);
    }
    messages.push_back(one.message);
  }
  queue.dispatcher.load(messages, std::max(load.next, from), state, now_ms_);
}

}  // namespace tidemark::shard
