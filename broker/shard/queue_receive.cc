// Queue mode: receivers wait, and get messages with leases.
#include <algorithm>
#include <utility>

#include "broker/shard/batch_payload.h"
#include "broker/shard/queue_desk.h"
#include "log/base/check.h"
#include "log/format/batch_select.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

// A message that could not be read after it was loaded is tried again after this, so that it does
// not keep receivers from the others.
constexpr int64_t kUnreadRetryMs = 10'000;

Status out_of_range(std::string_view what, uint64_t from, uint64_t to) {
  return Status(ErrorCode::kInvalidArgument,
                std::string(what) + " is " + std::to_string(from) + " to " + std::to_string(to));
}

bool is_same(const filter::Filter* a, const filter::Filter* b) {
  return a == nullptr || b == nullptr ? a == b : a->same_as(*b);
}

}  // namespace

// --- requests

Status QueueDesk::check_receive(const fbs::QueueReceive& request) const {
  const std::string_view group = protocol::view(request.group());
  RETURN_IF_ERROR(check_queue_group(group));
  if (group.front() == '$') {
    return Status(ErrorCode::kInvalidArgument,
                  "names of consumer groups that begin with $ are reserved");
  }
  const auto* parts = request.parts();
  if (parts == nullptr || parts->size() == 0 || parts->size() > limits::kPartsPerRequestMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "a receive has 1 to " + std::to_string(limits::kPartsPerRequestMax) + " parts");
  }
  if (request.messages_max() < 1 || request.messages_max() > limits::kQueueMessagesPerReceiveMax) {
    return out_of_range("messages_max", 1, limits::kQueueMessagesPerReceiveMax);
  }
  if (request.visibility_ms() < limits::kQueueVisibilityMsMin ||
      request.visibility_ms() > limits::kQueueVisibilityMsMax) {
    return out_of_range("visibility_ms", limits::kQueueVisibilityMsMin,
                        limits::kQueueVisibilityMsMax);
  }
  return host_.may_write();
}

// The group, with what its receivers agree about.
Result<QueueDesk::Group*> QueueDesk::join(const fbs::QueueReceive& request) {
  std::vector<std::string_view> tags;
  if (request.tags() != nullptr) {
    for (const auto* tag : *request.tags()) {
      tags.push_back(protocol::view(tag));
    }
  }
  ASSIGN_OR_RETURN(auto wanted, filter::Filter::parse(tags, protocol::view(request.filter())));
  const std::string name(protocol::view(request.group()));
  const auto [it, inserted] = groups_.try_emplace(name);
  Group& group = it->second;
  if (!inserted && group.ordered == request.ordered() &&
      is_same(group.filter.get(), wanted.get())) {
    return &group;
  }
  const bool busy = std::any_of(group.queues.begin(), group.queues.end(), [](const auto& queue) {
    return queue.second->dispatcher.leased() > 0 || queue.second->under_way > 0;
  });
  if (group.receivers > 0 || busy) {
    return Status(ErrorCode::kConflict,
                  "consumer group " + name +
                      " has receivers, or leases messages, with another filter, tags or order");
  }
  // What is loaded was chosen by the filter before.
  drop_queues(group);
  group.name = name;
  group.filter = std::move(wanted);
  group.ordered = request.ordered();
  return &group;
}

void QueueDesk::on_receive(const ReplyTo& from, const protocol::Frame& frame, MonotonicTime now) {
  const Result<const fbs::QueueReceive*> request =
      protocol::read_table<fbs::QueueReceive>(frame.table(), "QueueReceive");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if (const Status status = check_receive(**request); !status.ok()) {
    return refuse(from, status);
  }
  now_ = now;
  now_ms_ = host_.queue_time();
  const Result<Group*> group = join(**request);
  if (!group.ok()) {
    return refuse(from, group.error());
  }
  auto receiver = std::make_unique<Receiver>();
  receiver->id = next_receiver_++;
  receiver->to = from;
  receiver->group = *group;
  receiver->messages_max = (*request)->messages_max();
  receiver->bytes_max = std::clamp<size_t>((*request)->bytes_max(), 1, limits::kFetchBytesMax);
  receiver->visibility_ms = (*request)->visibility_ms();
  const uint32_t wait_ms = std::min((*request)->wait_ms_max(), limits::kFetchWaitMsMax);
  receiver->deadline = MonotonicTime{now.ns + int64_t{wait_ms} * 1'000'000};
  for (const auto* part : *(*request)->parts()) {
    ReceivePart wanted;
    wanted.partition = {TopicId{part->topic()}, PartitionIndex{part->partition()}};
    const Result<Queue*> queue = open(**group, wanted.partition, (*request)->from_end());
    wanted.status = queue.status();
    if (queue.ok()) {
      wanted.queue = (*queue)->serial;
      (*queue)->used = now;
    } else {
      receiver->deadline = now;  // it is told with what there is
    }
    receiver->parts.push_back(std::move(wanted));
  }
  wait(std::move(receiver));
}

void QueueDesk::wait(std::unique_ptr<Receiver> receiver) {
  if (receivers_.size() >= limits::kQueueReceiversPerShardMax) {
    receiver->deadline = now_;  // too many wait already: what there is, at once
  }
  const uint64_t id = receiver->id;
  ++receiver->group->receivers;
  deadlines_.emplace(receiver->deadline.ns, id);
  for (const ReceivePart& part : receiver->parts) {
    if (Queue* const queue = find(part.queue); queue != nullptr) {
      queue->waiting.insert(id);
      mark(*queue);
    }
  }
  receivers_.emplace(id, std::move(receiver));
}

std::unique_ptr<QueueDesk::Receiver> QueueDesk::leave(uint64_t id) {
  const auto it = receivers_.find(id);
  std::unique_ptr<Receiver> receiver = std::move(it->second);
  receivers_.erase(it);
  --receiver->group->receivers;
  for (auto [at, end] = deadlines_.equal_range(receiver->deadline.ns); at != end; ++at) {
    if (at->second == id) {
      deadlines_.erase(at);
      break;
    }
  }
  for (const ReceivePart& part : receiver->parts) {
    if (Queue* const queue = find(part.queue); queue != nullptr) {
      queue->waiting.erase(id);
      queue->used = now_;
    }
  }
  return receiver;
}

// A receiver whose time is over gets what there is, once nothing is being loaded for it: one that
// does not wait at all would else never get what is not in memory.
void QueueDesk::expire_receivers(MonotonicTime now) {
  std::vector<uint64_t> over;
  for (auto it = deadlines_.begin(); it != deadlines_.end() && it->first <= now.ns; ++it) {
    const Receiver& receiver = *receivers_.at(it->second);
    const bool expects =
        std::any_of(receiver.parts.begin(), receiver.parts.end(), [this](const ReceivePart& part) {
          const Queue* const queue = find(part.queue);
          return queue != nullptr &&
                 (queue->loading || queue->beginning || dirty_.contains(queue->serial));
        });
    if (!expects || stopping_) {
      over.push_back(it->second);
    }
  }
  for (const uint64_t id : over) {
    (void)try_answer(id, true);
  }
}

// --- giving

void QueueDesk::give(Queue& queue) {
  while (!queue.waiting.empty() && (queue.dispatcher.has_ready() || !queue.damage.ok())) {
    const size_t ready = queue.dispatcher.ready();
    const bool damaged = !queue.damage.ok();
    if (!try_answer(*queue.waiting.begin(), false) && queue.dispatcher.ready() == ready &&
        queue.damage.ok() != damaged) {
      return;
    }
  }
}

// False: there is nothing for it, and it goes on waiting.
bool QueueDesk::try_answer(uint64_t id, bool anyway) {
  auto delivery = std::make_unique<Delivery>();
  const bool found = fill(*receivers_.at(id), *delivery);
  if (!found && !anyway) {
    return false;
  }
  const std::unique_ptr<Receiver> receiver = leave(id);
  delivery->to = receiver->to;
  delivery->bytes_max = receiver->bytes_max;
  deliver(std::move(delivery));
  drop_group_if_idle(*receiver->group);
  return true;
}

// The parts take turns: first each gets its share, then whoever has more. True if something is
// leased, or there is something to tell.
bool QueueDesk::fill(const Receiver& receiver, Delivery& delivery) {
  const size_t count = receiver.parts.size();
  const size_t first = receiver.group->turn++ % count;
  const size_t share = std::max<size_t>(receiver.messages_max / count, 1);
  size_t messages = receiver.messages_max;
  size_t bytes = receiver.bytes_max;
  bool found = false;
  bool leased = false;
  delivery.parts.resize(count);
  for (size_t i = 0; i < 2 * count && messages > 0 && bytes > 0; ++i) {
    const size_t number = (first + i) % count;
    Queue* const queue = find(receiver.parts[number].queue);
    Delivery::Part& part = delivery.parts[number];
    if (queue == nullptr || !part.status.ok() || !receiver.parts[number].status.ok()) {
      continue;
    }
    part.queue = queue->serial;
    if (!queue->damage.ok() && part.leases.empty()) {
      part.status = std::exchange(queue->damage, Status());
      found = true;
      continue;
    }
    const size_t leases = part.leases.size();
    const queue::Dispatcher::Wanted wanted{i < count ? std::min(share, messages) : messages, bytes,
                                           now_ms_ + receiver.visibility_ms, !leased};
    bytes -= std::min(take(*queue, wanted, part), bytes);
    messages -= part.leases.size() - leases;
    leased = leased || part.leases.size() > leases;
  }
  found = found || leased;
  for (size_t i = 0; i < count; ++i) {
    if (!receiver.parts[i].status.ok()) {
      delivery.parts[i].status = receiver.parts[i].status;
      found = true;
    }
  }
  return found;
}

// Gives the bytes. What expired while it waited is settled instead.
size_t QueueDesk::take(Queue& queue, const queue::Dispatcher::Wanted& wanted,
                       Delivery::Part& part) {
  if (!queue.dispatcher.has_ready()) {
    return 0;
  }
  std::vector<queue::Lease> leases;
  const size_t bytes = queue.dispatcher.take(wanted, leases);
  for (const queue::Lease& lease : leases) {
    const auto expires = queue.expires.find(lease.offset);
    if (expires == queue.expires.end() || expires->second > now_ms_) {
      part.leases.push_back(lease);
      continue;
    }
    TIDEMARK_CHECK(queue.dispatcher.begin_settle(lease.offset, lease.token) == ErrorCode::kOk,
                   "what was just taken is leased");
    add_unseen(queue, lease.offset, true);
  }
  note_wake(queue);
  return bytes;
}

// --- replies

void QueueDesk::deliver(std::unique_ptr<Delivery> delivery) {
  std::vector<partition::BatchRef> refs;
  for (Delivery::Part& part : delivery->parts) {
    const Queue* const queue = find(part.queue);
    std::map<Offset, Delivery::Batch> batches;
    for (const queue::Lease& lease : part.leases) {
      const LoadedBatch& loaded = std::prev(queue->batches.upper_bound(lease.offset))->second;
      Delivery::Batch& batch = batches[loaded.ref.base];
      batch.ref = loaded.ref;
      batch.wanted.push_back(lease.offset);
    }
    for (auto& [base, batch] : batches) {
      std::sort(batch.wanted.begin(), batch.wanted.end());
      refs.push_back(batch.ref);
      part.batches.push_back(std::move(batch));
    }
  }
  if (refs.empty()) {
    return reply_delivery(*delivery);
  }
  const uint64_t id = next_delivery_++;
  deliveries_.emplace(id, delivery.get());
  reader_->read(std::move(refs),
                [this, id, delivery = std::move(delivery)](std::vector<Result<SharedBytes>> read) {
                  deliveries_.erase(id);
                  finish_delivery(*delivery, std::move(read));
                });
}

void QueueDesk::finish_delivery(Delivery& delivery, std::vector<Result<SharedBytes>> read) {
  if (!delivery.refusal.ok()) {
    return refuse(delivery.to, delivery.refusal);
  }
  if (delivery.gone) {
    return return_leases(delivery);
  }
  size_t next = 0;
  size_t payload_bytes = 0;
  for (Delivery::Part& part : delivery.parts) {
    for (Delivery::Batch& batch : part.batches) {
      take_delivered(part, batch, read[next++], payload_bytes, delivery.bytes_max);
      payload_bytes += batch.bytes.size();
    }
  }
  reply_delivery(delivery);
}

// Of a batch of which little is leased only that is sent. This is done here and not on a worker: a
// batch has at most 1 MiB, most of what is skipped is not even looked at, and a compressed one
// costs less to inflate once here than to send whole to each of the consumers that share it.
void QueueDesk::take_delivered(Delivery::Part& part, Delivery::Batch& batch,
                               Result<SharedBytes>& read, size_t payload_bytes, size_t bytes_max) {
  Status status = read.status();
  if (status.ok()) {
    const bool few = batch.wanted.size() * 4 < batch.ref.count;
    // What is sent has at most about twice the bytes that were asked for.
    const bool much =
        batch.wanted.size() < batch.ref.count && payload_bytes + read->size() > bytes_max;
    if (!few && !much) {
      batch.bytes = std::move(*read);
      return;
    }
    Result<format::Selection> selected =
        format::select_records(read->view(), [&](const format::RecordView& record) {
          return std::binary_search(batch.wanted.begin(), batch.wanted.end(),
                                    batch.ref.base + record.offset_delta);
        });
    if (selected.ok()) {
      batch.bytes = selected->kept == batch.ref.count ? std::move(*read)
                                                      : SharedBytes(std::move(selected->batch));
      return;
    }
    status = selected.error();
  }
  part.status = Status(status.code(), "offset " + std::to_string(batch.wanted.front().value()) +
                                          ": " + std::string(status.context()));
  Queue* const queue = find(part.queue);
  for (const Offset offset : batch.wanted) {
    const auto lease = std::find_if(part.leases.begin(), part.leases.end(),
                                    [&](const queue::Lease& one) { return one.offset == offset; });
    if (queue != nullptr &&
        queue->dispatcher.begin_settle(offset, lease->token) == ErrorCode::kOk) {
      // Nobody saw it: this is no failure of a delivery.
      queue->dispatcher.failed(offset, queue->dispatcher.failures(offset), now_ms_ + kUnreadRetryMs,
                               now_ms_);
      mark(*queue);
    }
    part.leases.erase(lease);
  }
}

void QueueDesk::return_leases(Delivery& delivery) {
  for (const Delivery::Part& part : delivery.parts) {
    Queue* const queue = find(part.queue);
    if (queue == nullptr) {
      continue;
    }
    for (const queue::Lease& lease : part.leases) {
      if (queue->dispatcher.begin_settle(lease.offset, lease.token) == ErrorCode::kOk) {
        queue->dispatcher.put_back(lease.offset);
      }
    }
    mark(*queue);
  }
}

void QueueDesk::reply_delivery(const Delivery& delivery) {
  std::vector<flatbuffers::Offset<fbs::QueuePartReply>> parts;
  std::vector<SharedBytes> payload;
  for (const Delivery::Part& part : delivery.parts) {
    std::vector<ServedBatch> batches;
    size_t bytes = 0;
    for (const Delivery::Batch& batch : part.batches) {
      if (!batch.bytes.empty()) {
        batches.push_back({batch.ref.base, batch.bytes});
        bytes += batch.bytes.size();
      }
    }
    append_batches(batches, payload);
    messages_out_ += part.leases.size();
    bytes_out_ += bytes;
    std::vector<fbs::QueueLease> leases;
    for (const queue::Lease& lease : part.leases) {
      leases.emplace_back(lease.offset.value(), lease.token, lease.deliveries, 0);
    }
    const auto error = protocol::build_error(builder_, part.status);
    const auto all = builder_.CreateVectorOfStructs(leases);
    fbs::QueuePartReplyBuilder reply(builder_);
    if (!part.status.ok()) {
      reply.add_error(error);
    }
    reply.add_bytes(static_cast<uint32_t>(bytes));
    reply.add_leases(all);
    parts.push_back(reply.Finish());
  }
  const auto all = builder_.CreateVector(parts);
  fbs::QueueReceiveReplyBuilder reply(builder_);
  reply.add_parts(all);
  send_reply(delivery.to, reply.Finish(), std::move(payload));
}

}  // namespace tidemark::shard
