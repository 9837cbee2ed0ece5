#include "clients/cpp/src/queue_settler.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "broker/protocol/messages.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

namespace fbs = protocol::fbs;

bool has_reason(fbs::QueueAction action) {
  return action == fbs::QueueAction::kNack || action == fbs::QueueAction::kDeadLetter;
}

std::string text_of(const Settlement& settlement) {
  return "topic \"" + *settlement.place.topic + "\" partition " +
         std::to_string(settlement.place.partition) + " offset " +
         std::to_string(settlement.offset);
}

Buffer build_settle(const std::string& group, const std::vector<Settlement>& items) {
  flatbuffers::FlatBufferBuilder builder(128 + items.size() * sizeof(fbs::QueueSettleItem));
  std::vector<fbs::QueueSettleItem> list;
  list.reserve(items.size());
  std::string_view reason;
  for (const Settlement& each : items) {
    list.emplace_back(each.place.topic_id, each.place.partition, each.offset, each.token,
                      each.delay_ms, 1, each.action);
    reason = has_reason(each.action) ? each.reason : reason;
  }
  const auto name = builder.CreateString(group);
  const auto vector = builder.CreateVectorOfStructs(list);
  const auto text = reason.empty() ? 0 : builder.CreateString(reason.data(), reason.size());
  builder.Finish(fbs::CreateQueueSettle(builder, name, vector, text));
  return Buffer::copy_of(protocol::finished(builder));
}

}  // namespace

QueueSettler::QueueSettler(std::string group, uint64_t seed)
    : group_(std::move(group)), random_(seed) {}

void QueueSettler::add(Settlement settlement) { waiting_.push_back(std::move(settlement)); }

void QueueSettler::answer(Settlement settlement, Status status) {
  answered_.emplace_back(std::move(settlement), std::move(status));
}

void QueueSettler::give_up(Settlement settlement) {
  Status why = settlement.last_error;
  if (settlement.maybe_done) {
    why = Status(ErrorCode::kOutcomeUnknown, text_of(settlement) + ": " + why.to_string());
  } else if (why.ok()) {
    why = Status(ErrorCode::kTimedOut,
                 text_of(settlement) + ": the lease ended before a broker could be asked");
  }
  answer(std::move(settlement), std::move(why));
}

MonotonicTime QueueSettler::run(MonotonicTime now, Cluster& cluster, const Send& send) {
  MonotonicTime next = kNever;
  std::deque<Settlement> kept;
  for (Settlement& each : std::exchange(waiting_, {})) {
    if (now >= each.give_up) {
      give_up(std::move(each));
      continue;
    }
    bool answered = false;
    Lane* const lane = now >= each.retry_at ? route(each, cluster, answered) : nullptr;
    if (lane != nullptr) {
      lane->items.push_back(std::move(each));
    } else if (!answered) {
      next = std::min({next, each.give_up, each.retry_at > now ? each.retry_at : kNever});
      kept.push_back(std::move(each));
    }
  }
  waiting_ = std::move(kept);
  for (auto& [session, lane] : lanes_) {
    if (lane.in_flight) {
      continue;
    }
    std::vector<Settlement> batch = take_batch(lane, now);
    if (!batch.empty()) {
      lane.in_flight = true;
      const Buffer table = build_settle(group_, batch);
      send(*session, table.view(), std::move(batch));
    }
  }
  return next;
}

QueueSettler::Lane* QueueSettler::route(Settlement& settlement, Cluster& cluster, bool& answered) {
  const QueuePlace& place = settlement.place;
  const TopicMeta* const meta = cluster.find(*place.topic);
  if (meta == nullptr || meta->version < settlement.need_version) {
    cluster.want(*place.topic);
    if (!cluster.metadata_error().ok()) {
      settlement.last_error = cluster.metadata_error();
    }
    return nullptr;
  }
  Status status = meta->status;
  if (status.ok() && (meta->id != place.topic_id || place.partition >= meta->partitions.size())) {
    status = Status(ErrorCode::kUnknownTopic,
                    "topic \"" + *place.topic + "\" was deleted and created again");
  }
  if (!status.ok() && !error_is_retryable(status.code())) {
    answered = true;
    answer(std::move(settlement), std::move(status));
    return nullptr;
  }
  Session* const session =
      status.ok() ? cluster.session_of(meta->partitions[place.partition]) : nullptr;
  if (session == nullptr) {
    cluster.want(*place.topic);
    return nullptr;
  }
  return &lanes_[session];
}

std::vector<Settlement> QueueSettler::take_batch(Lane& lane, MonotonicTime now) {
  std::vector<Settlement> batch;
  std::optional<std::string> reason;
  while (!lane.items.empty() && batch.size() < limits::kQueueItemsPerRequestMax) {
    Settlement& first = lane.items.front();
    if (now >= first.give_up) {
      give_up(std::move(first));
      lane.items.pop_front();
      continue;
    }
    if (has_reason(first.action)) {
      if (reason && *reason != first.reason) {
        break;
      }
      reason = first.reason;
    }
    first.sent_at = now;
    batch.push_back(std::move(first));
    lane.items.pop_front();
  }
  return batch;
}

void QueueSettler::on_reply(Session* session, std::vector<Settlement> items, Reply reply,
                            Cluster& cluster) {
  Lane& lane = lanes_[session];
  lane.in_flight = false;
  const fbs::QueueSettleReply* table = nullptr;
  if (reply.status.ok()) {
    ReplyError error = error_of(reply.frame);
    reply.status = std::move(error.status);
    reply.retry_after_ms = error.retry_after_ms;
  }
  if (reply.status.ok()) {
    table = *protocol::read_table<fbs::QueueSettleReply>(reply.frame.table(), "QueueSettleReply");
    if (table->results() == nullptr || table->results()->size() != items.size()) {
      table = nullptr;
      reply.status = Status(ErrorCode::kMalformed, "QueueSettleReply does not answer every item");
    }
  }
  const int64_t asked_for = int64_t{reply.retry_after_ms} * kNsPerMs;
  const MonotonicTime retry_at{cluster.clock().monotonic().ns +
                               std::max(asked_for, lane.backoff.next_ns(random_))};
  for (size_t i = 0; i < items.size(); ++i) {
    Status status = reply.status;
    if (table != nullptr) {
      const uint16_t code = table->results()->Get(static_cast<flatbuffers::uoffset_t>(i))->error();
      status = code == 0 ? Status() : Status(static_cast<ErrorCode>(code), text_of(items[i]));
    }
    judge(std::move(items[i]), status, retry_at, cluster);
  }
  if (table != nullptr) {
    lane.backoff.reset();
  }
}

// Asking again is safe: an ack of what is acked is an ack, and whatever else is done ended the
// lease.
void QueueSettler::judge(Settlement settlement, const Status& status, MonotonicTime retry_at,
                         Cluster& cluster) {
  const ErrorCode code = status.code();
  const bool lease_is_over = code == ErrorCode::kNotFound || code == ErrorCode::kFenced;
  const bool gives_back = settlement.action == fbs::QueueAction::kNack ||
                          settlement.action == fbs::QueueAction::kRelease;
  if (settlement.maybe_done && lease_is_over && gives_back) {
    // By the first attempt or by the lease's end: it comes again.
    answer(std::move(settlement), {});
    return;
  }
  if (settlement.maybe_done && code == ErrorCode::kNotFound &&
      settlement.action == fbs::QueueAction::kDeadLetter) {
    const std::string text = text_of(settlement);
    answer(std::move(settlement),
           Status(ErrorCode::kOutcomeUnknown,
                  text + ": dead-lettered by an earlier attempt, or its lease ended"));
    return;
  }
  if (status.ok() || !error_is_retryable(code)) {
    answer(std::move(settlement), status);
    return;
  }
  settlement.maybe_done = settlement.maybe_done || error_outcome_unknown(code);
  settlement.last_error = status;
  settlement.retry_at = retry_at;
  const TopicMeta* const meta = cluster.find(*settlement.place.topic);
  if (meta != nullptr && (code == ErrorCode::kNotLeader || code == ErrorCode::kWrongShard)) {
    settlement.need_version = meta->version + 1;
  }
  waiting_.push_back(std::move(settlement));
}

void QueueSettler::abandon(const Status& why) {
  for (Settlement& each : std::exchange(waiting_, {})) {
    answer(std::move(each), why);
  }
  for (auto& [session, lane] : lanes_) {
    for (Settlement& each : std::exchange(lane.items, {})) {
      answer(std::move(each), why);
    }
  }
}

}  // namespace tidemark::client_core
