#include "clients/cpp/src/batcher.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "clients/cpp/src/delay_item.h"
#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

client::DeliveryCallback take_callback(Batch& batch, size_t index) {
  return index < batch.callbacks.size() ? std::move(batch.callbacks[index])
                                        : client::DeliveryCallback();
}

// Adds what goes beside the record that was just appended.
void note_record(Batch& batch, size_t charge, uint64_t opaque, client::DeliveryCallback callback) {
  ++batch.records;
  batch.charged_bytes += charge;
  batch.opaques.push_back(opaque);
  if (callback || !batch.callbacks.empty()) {
    batch.callbacks.resize(batch.records);
    batch.callbacks.back() = std::move(callback);
  }
}

}  // namespace

Batcher::Batcher(const BatcherOptions& options, Clock& clock, std::function<void()> wake)
    : options_(options), clock_(clock), wake_(std::move(wake)) {}

Result<TopicQueue*> Batcher::topic(std::string_view name) {
  const Lock lock(mutex_);
  return find_or_add_topic(topics_, name);
}

Status Batcher::append(TopicQueue& topic, const client::Message& message, uint64_t opaque,
                       client::DeliveryCallback* callback, bool may_block) {
  Lock lock(mutex_);
  ASSIGN_OR_RETURN(const format::RecordInput record,
                   to_record(message, clock_.wall().ms, headers_));
  format::ScheduleItem item;
  if (message.delay) {
    ASSIGN_OR_RETURN(item, to_item(*message.delay, clock_.wall().ms));
  }
  const format::ScheduleItem* const delayed = message.delay ? &item : nullptr;
  const Entry entry{record, delayed, charge_of(record, delayed)};
  RETURN_IF_ERROR(make_room(lock, entry.charge, may_block));

  bool news = false;
  ASSIGN_OR_RETURN(Batch* const batch,
                   place(topic, entry, message.partition.value_or(kAnyPartition), news));
  note_record(*batch, entry.charge, opaque,
              callback != nullptr ? std::move(*callback) : client::DeliveryCallback());
  ++stats_.buffered_messages;
  stats_.buffered_bytes += entry.charge;
  lock.unlock();
  if (news) {
    wake_();
  }
  return {};
}

// Encodes the message into the batch where it belongs.
Result<Batch*> Batcher::place(TopicQueue& topic, const Entry& entry, uint32_t asked_partition,
                              bool& news) {
  const Origin origin{generation_, {}};
  if (!topic.partitions.empty()) {
    ASSIGN_OR_RETURN(PartitionQueue* const queue, choose(topic, asked_partition, entry));
    ASSIGN_OR_RETURN(news, encode(queue->open, queue->sealed, entry, origin));
    announce(*queue);
    return queue->open.get();
  }
  ASSIGN_OR_RETURN(news, encode(topic.unresolved_open, topic.unresolved, entry, origin));
  topic.unresolved_open->asked_partitions.push_back(asked_partition);
  if (!topic.announced) {
    topic.announced = true;
    news_unresolved_.push_back(&topic);
    news = true;
  }
  return topic.unresolved_open.get();
}

Status Batcher::make_room(Lock& lock, size_t bytes, bool may_block) {
  if (bytes > options_.buffer_bytes_max) {
    return {ErrorCode::kTooLarge, "message of " + std::to_string(bytes) +
                                      " bytes with its overhead does not fit the write buffer of " +
                                      std::to_string(options_.buffer_bytes_max)};
  }
  const auto has_room = [&] {
    return stats_.buffered_bytes + bytes <= options_.buffer_bytes_max &&
           stats_.buffered_messages < options_.buffer_messages_max;
  };
  if (!closed_ && !has_room()) {
    switch (options_.overflow.kind) {
      case client::Overflow::Kind::kFail:
        break;
      case client::Overflow::Kind::kDropOldest:
        while (!has_room() && drop_oldest()) {
        }
        break;
      case client::Overflow::Kind::kBlockFor:
        if (may_block) {
          ++waiting_for_room_;
          room_.wait_for(lock, std::chrono::milliseconds(options_.overflow.block_ms),
                         [&] { return closed_ || has_room(); });
          --waiting_for_room_;
        }
        break;
    }
  }
  if (closed_) {
    return {ErrorCode::kShuttingDown, "the producer is closed"};
  }
  if (!has_room()) {
    return {ErrorCode::kOverloaded,
            "write buffer full: " + std::to_string(stats_.buffered_messages) + " messages, " +
                std::to_string(stats_.buffered_bytes) + " of " +
                std::to_string(options_.buffer_bytes_max) + " bytes"};
  }
  return {};
}

bool Batcher::drop_oldest() {
  std::unique_ptr<Batch>* oldest = nullptr;
  std::deque<std::unique_ptr<Batch>>* list = nullptr;
  TopicQueue* topic = nullptr;
  uint32_t partition = 0;
  const auto consider = [&](TopicQueue& t, uint32_t p, std::deque<std::unique_ptr<Batch>>& sealed,
                            std::unique_ptr<Batch>& open) {
    std::unique_ptr<Batch>& first = sealed.empty() ? open : sealed.front();
    if (first != nullptr && (oldest == nullptr || first->created < (*oldest)->created)) {
      oldest = &first;
      list = sealed.empty() ? nullptr : &sealed;
      topic = &t;
      partition = p;
    }
  };
  for (auto& [name, each] : topics_) {
    consider(*each, 0, each->unresolved, each->unresolved_open);
    for (PartitionQueue& queue : each->partitions) {
      consider(*each, queue.partition, queue.sealed, queue.open);
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  std::unique_ptr<Batch> batch = std::move(*oldest);
  if (list != nullptr) {
    list->pop_front();
  }
  // Its share is free from now on; free_room() will find nothing left to give back.
  stats_.buffered_messages -= batch->records;
  stats_.buffered_bytes -= batch->charged_bytes;
  batch->charged_bytes = 0;
  builders_.take_back(*batch);  // a report needs no bytes, and they are not ours any more
  batch->encoded = {};
  failed_.push_back({topic->name, partition, std::move(batch),
                     Status(ErrorCode::kOverloaded,
                            "dropped: the write buffer was full and newer messages came")});
  wake_();
  return true;
}

bool Batcher::suits(const Batch& batch, const Entry& entry) const {
  return suits_batch(batch, entry.item != nullptr, entry.charge, options_.batch_bytes);
}

Result<PartitionQueue*> Batcher::choose(TopicQueue& topic, uint32_t asked_partition,
                                        const Entry& entry) {
  ASSIGN_OR_RETURN(const std::optional<uint32_t> named,
                   named_partition(topic.name, topic.partitions.size(), asked_partition,
                                   entry.record, entry.item));
  return &topic.partitions[named ? *named : choose_sticky(topic, entry)];
}

// Without a key a partition gets a whole batch, then it is the next one's turn. Plain and delayed
// messages take their turns apart, so that they do not end each other's batches while there is more
// than one partition.
uint32_t Batcher::choose_sticky(TopicQueue& topic, const Entry& entry) {
  const auto count = static_cast<uint32_t>(topic.partitions.size());
  uint32_t& sticky = topic.sticky[entry.item != nullptr ? 1 : 0];
  PartitionQueue& now = topic.partitions[sticky % count];
  const bool mine = now.open != nullptr && now.open->delayed == (entry.item != nullptr);
  if (mine && !suits(*now.open, entry)) {
    now.sealed.push_back(std::move(now.open));
    announce(now);
  }
  if (now.open == nullptr || !mine) {
    sticky = (sticky + 1) % count;
  }
  return sticky % count;
}

Result<bool> Batcher::encode(std::unique_ptr<Batch>& open,
                             std::deque<std::unique_ptr<Batch>>& sealed, const Entry& entry,
                             Origin origin) {
  bool news = false;
  const auto begin = [&] {
    if (open != nullptr) {
      sealed.push_back(std::move(open));
    }
    open = new_batch(origin, entry.item != nullptr);
    news = true;
  };
  if (open == nullptr || open->generation != origin.generation || !suits(*open, entry)) {
    begin();
  }
  Status status = append_to(*open, entry.record, entry.item);
  if (!status.ok() && open->records > 0) {
    // Something about this batch, e.g. a timestamp too far from its first one: a fresh one may do.
    begin();
    status = append_to(*open, entry.record, entry.item);
  }
  if (!status.ok()) {
    discard(std::move(open));
    return status;
  }
  return news;
}

std::unique_ptr<Batch> Batcher::new_batch(Origin origin, bool delayed) {
  auto batch = std::make_unique<Batch>();
  batch->delayed = delayed;
  builders_.give(*batch);
  batch->generation = origin.generation;
  batch->created = origin.created.ns != 0 ? origin.created : clock_.monotonic();
  ++generations_[batch->generation];
  return batch;
}

// Of an empty batch, or one whose records were moved.
void Batcher::discard(std::unique_ptr<Batch> batch) {
  leave_generation(batch->generation);
  builders_.take_back(*batch);
}

void Batcher::announce(PartitionQueue& queue) {
  if (!queue.announced) {
    queue.announced = true;
    news_ready_.push_back(&queue);
  }
}

uint64_t Batcher::flush_point() {
  Lock lock(mutex_);
  for (auto& [name, topic] : topics_) {
    if (topic->unresolved_open != nullptr) {
      topic->unresolved.push_back(std::move(topic->unresolved_open));
    }
    for (PartitionQueue& queue : topic->partitions) {
      if (queue.open != nullptr) {
        queue.sealed.push_back(std::move(queue.open));
      }
    }
  }
  const uint64_t point = generation_++;
  lock.unlock();
  wake_();
  return point;
}

bool Batcher::wait_released(uint64_t generation, int64_t timeout_ms) {
  Lock lock(mutex_);
  return released_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
    return generations_.empty() || generations_.begin()->first > generation;
  });
}

void Batcher::close() {
  const Lock lock(mutex_);
  closed_ = true;
  room_.notify_all();
}

client::ProducerStats Batcher::stats() const {
  const Lock lock(mutex_);
  return stats_;
}

Batcher::Failures Batcher::take_failures() {
  const Lock lock(mutex_);
  return std::exchange(failures_, {});
}

void Batcher::take_news(std::vector<TopicQueue*>& unresolved, std::vector<PartitionQueue*>& ready) {
  const Lock lock(mutex_);
  unresolved.insert(unresolved.end(), news_unresolved_.begin(), news_unresolved_.end());
  ready.insert(ready.end(), news_ready_.begin(), news_ready_.end());
  news_unresolved_.clear();
  news_ready_.clear();
}

void Batcher::resolve(TopicQueue& topic, uint32_t partitions) {
  const Lock lock(mutex_);
  while (topic.partitions.size() < partitions) {
    PartitionQueue& queue = topic.partitions.emplace_back();
    queue.topic = &topic;
    queue.partition = static_cast<uint32_t>(topic.partitions.size() - 1);
  }
  topic.announced = false;
  if (topic.unresolved_open != nullptr) {
    topic.unresolved.push_back(std::move(topic.unresolved_open));
  }
  while (!topic.unresolved.empty()) {
    std::unique_ptr<Batch> batch = std::move(topic.unresolved.front());
    topic.unresolved.pop_front();
    move_batch(topic, std::move(batch));
  }
}

void Batcher::move_batch(TopicQueue& topic, std::unique_ptr<Batch> from) {
  const Status encoded = encode_plain(*from);
  TIDEMARK_CHECK(encoded.ok(),
                 "plain encoding of accepted records cannot fail: " + encoded.to_string());
  const Origin origin{from->generation, from->created};
  const Status read = for_each_message(
      *from, [&](size_t i, const format::RecordView& view, const format::ScheduleItem* item) {
        const format::RecordInput record = to_record(view, headers_);
        const uint32_t asked = from->asked_partitions[i];
        const Entry entry{record, item, charge_of(record, item)};
        const Result<PartitionQueue*> queue = choose(topic, asked, entry);
        if (!queue.ok()) {
          fail_entry(topic, asked, entry, *from, i,
                     Status(ErrorCode::kUnknownPartition, std::string(queue.error().context())));
          return;
        }
        PartitionQueue& to = **queue;
        const Result<bool> news = encode(to.open, to.sealed, entry, origin);
        TIDEMARK_CHECK(news.ok(), "a record that was accepted once fits an empty batch");
        note_record(*to.open, entry.charge, from->opaques[i], take_callback(*from, i));
        announce(to);
      });
  TIDEMARK_CHECK(read.ok(), "a batch that was just encoded can be read: " + read.to_string());
  discard(std::move(from));
}

void Batcher::fail_entry(TopicQueue& topic, uint32_t partition, const Entry& entry, Batch& from,
                         size_t index, Status why) {
  std::unique_ptr<Batch> single = new_batch({from.generation, from.created}, entry.item != nullptr);
  const Status status = append_to(*single, entry.record, entry.item);
  TIDEMARK_CHECK(status.ok(), "a record that was accepted once fits an empty batch");
  note_record(*single, entry.charge, from.opaques[index], take_callback(from, index));
  failed_.push_back({topic.name, partition, std::move(single), std::move(why)});
}

void Batcher::fail_unresolved(TopicQueue& topic, const Status& why, MonotonicTime created_until) {
  const Lock lock(mutex_);
  if (topic.unresolved_open != nullptr && topic.unresolved_open->created <= created_until) {
    topic.unresolved.push_back(std::move(topic.unresolved_open));
  }
  while (!topic.unresolved.empty() && topic.unresolved.front()->created <= created_until) {
    failed_.push_back({topic.name, 0, std::move(topic.unresolved.front()), why});
    topic.unresolved.pop_front();
  }
  // What comes later asks again.
  topic.announced = !topic.unresolved.empty() || topic.unresolved_open != nullptr;
}

Batcher::Next Batcher::take(PartitionQueue& queue, MonotonicTime now) {
  const Lock lock(mutex_);
  if (!queue.sealed.empty()) {
    Next next{std::move(queue.sealed.front()), now};
    queue.sealed.pop_front();
    return next;
  }
  if (queue.open == nullptr) {
    queue.announced = false;
    return {nullptr, kNever};
  }
  const MonotonicTime ready_at{queue.open->created.ns + options_.linger_ns};
  if (now < ready_at) {
    return {nullptr, ready_at};
  }
  return {std::move(queue.open), now};
}

void Batcher::take_older(PartitionQueue& queue, MonotonicTime created_until,
                         std::vector<std::unique_ptr<Batch>>& out) {
  const Lock lock(mutex_);
  while (!queue.sealed.empty() && queue.sealed.front()->created <= created_until) {
    out.push_back(std::move(queue.sealed.front()));
    queue.sealed.pop_front();
  }
  if (queue.sealed.empty() && queue.open != nullptr && queue.open->created <= created_until) {
    out.push_back(std::move(queue.open));
  }
}

MonotonicTime Batcher::seal_aged(PartitionQueue& queue, MonotonicTime now) {
  const Lock lock(mutex_);
  if (queue.open == nullptr) {
    return kNever;
  }
  const MonotonicTime at{queue.open->created.ns + options_.batch_age_ns_max};
  if (now < at) {
    return at;
  }
  queue.sealed.push_back(std::move(queue.open));
  return kNever;
}

std::vector<FailedBatch> Batcher::take_failed() {
  const Lock lock(mutex_);
  return std::exchange(failed_, {});
}

void Batcher::free_room(Batch& batch) {
  const Lock lock(mutex_);
  if (batch.charged_bytes == 0) {
    return;  // given back when it was dropped
  }
  stats_.buffered_messages -= batch.records;
  stats_.buffered_bytes -= batch.charged_bytes;
  batch.charged_bytes = 0;
  if (waiting_for_room_ > 0) {
    room_.notify_all();
  }
}

void Batcher::release(const Batch& batch, const Status& outcome) {
  const Lock lock(mutex_);
  const uint32_t failed = outcome.ok() ? batch.refused : batch.records;
  stats_.delivered += batch.records - failed;
  stats_.failed += failed;
  if (failed > 0 && failures_.count == 0) {
    failures_.first = outcome.ok() ? batch.refusal : outcome;
  }
  failures_.count += failed;
  leave_generation(batch.generation);
}

void Batcher::leave_generation(uint64_t generation) {
  const auto found = generations_.find(generation);
  TIDEMARK_CHECK(found != generations_.end() && found->second > 0,
                 "a batch leaves its generation once");
  if (--found->second == 0) {
    generations_.erase(found);
    released_.notify_all();
  }
}

void Batcher::recycle(Batch& batch) {
  const Lock lock(mutex_);
  builders_.take_back(batch);
}

void Batcher::count_sent(bool again) {
  const Lock lock(mutex_);
  ++stats_.batches_sent;
  stats_.batches_retried += again ? 1 : 0;
}

void Batcher::count_duplicate() {
  const Lock lock(mutex_);
  ++stats_.duplicates;
}

void Batcher::for_each_waiting(
    const std::function<void(const std::string&, std::optional<uint32_t>, Batch&)>& visit) {
  const Lock lock(mutex_);
  for (auto& [name, topic] : topics_) {
    if (topic->unresolved_open != nullptr) {
      topic->unresolved.push_back(std::move(topic->unresolved_open));
    }
    for (auto& batch : topic->unresolved) {
      visit(name, std::nullopt, *batch);
    }
    for (PartitionQueue& queue : topic->partitions) {
      if (queue.open != nullptr) {
        queue.sealed.push_back(std::move(queue.open));
      }
      for (auto& batch : queue.sealed) {
        visit(name, queue.partition, *batch);
      }
    }
  }
}

}  // namespace tidemark::client_core
