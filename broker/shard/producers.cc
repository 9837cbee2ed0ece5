// Producer ids. A named producer of transactions gets the next epoch of its id, and its answer when
// every shard has committed that it takes nothing of the epochs before.
//
//   ProducerName committed --> kFence mailed to each shard until --> kFenced --> ProducerFenced
//   committed --> all shards: answered
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr int64_t kFenceWaitNs = 10'000'000'000;
constexpr int64_t kFenceMailIntervalNs = 500'000'000;

txn::TxnKey epoch_key(uint64_t producer, uint16_t epoch) { return {producer, epoch}; }

}  // namespace

void Shard::on_init_producer(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::InitProducer*> request =
      protocol::read_table<fbs::InitProducer>(frame.table(), "InitProducer");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if (options_.shard != ShardId{0}) {
    return refuse(from,
                  Status(ErrorCode::kWrongShard, "producer ids are given by the metadata shard"));
  }
  if (const Status status = may_write(); !status.ok()) {
    return refuse(from, status);
  }
  const std::string_view group = protocol::view((*request)->group());
  const std::string_view instance = protocol::view((*request)->instance());
  if (group.size() > limits::kTxnTextBytesMax || instance.size() > limits::kTxnTextBytesMax ||
      (group.empty() && !instance.empty())) {
    return refuse(
        from, Status(ErrorCode::kInvalidArgument,
                     "group and instance have at most " + std::to_string(limits::kTxnTextBytesMax) +
                         " bytes, and an instance belongs to a group"));
  }
  flatbuffers::FlatBufferBuilder body;
  if (instance.empty()) {
    format::fbs::ProducerIdsBuilder record(body);
    record.add_count(1);
    body.Finish(record.Finish());
    PendingRecord pending;
    pending.kind = PendingRecord::Kind::kInitProducer;
    pending.to = from;
    return gather(format::RecordKind::kProducerIds, body, std::move(pending));
  }
  const std::string name = std::string(group) + '\0' + std::string(instance);
  const auto text = body.CreateString(name);
  format::fbs::ProducerNameBuilder record(body);
  record.add_name(text);
  record.add_shards(options_.shard_count);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kName;
  pending.to = from;
  gather(format::RecordKind::kProducerName, body, txn_record(std::move(pending)));
}

void Shard::reply_producer(const ReplyTo& to, uint64_t producer, uint16_t epoch) {
  fbs::InitProducerReplyBuilder reply(builder_);
  reply.add_producer_id(producer);
  reply.add_epoch(static_cast<int16_t>(epoch));
  send_reply(to, reply.Finish());
}

void Shard::settle_producer_name(const TxnPending& pending, const RecordOutcome& outcome) {
  fence_waiters_.push_back({pending.to, outcome.first_producer_id, outcome.producer_epoch,
                            MonotonicTime{now_.monotonic.ns + kFenceWaitNs}});
  // The others are mailed in their turn.
  if (const auto* named = views_.producer_names().find(outcome.first_producer_id);
      named != nullptr) {
    mail_fences(*named);
  }
  check_fence_waiters();
}

// kFence or kFenced.
void Shard::mail_fence(ShardMail::Kind kind, ShardId to, uint64_t producer, uint16_t epoch) {
  ShardMail mail = new_mail(kind, to);
  mail.txn.producer = producer;
  mail.epoch = epoch;
  outbox_.mail(std::move(mail));
}

void Shard::mail_fences(const meta::NamedProducer& named) {
  for (const ShardId shard : named.unfenced) {
    mail_fence(ShardMail::Kind::kFence, shard, named.producer, named.epoch);
  }
}

void Shard::mail_unsettled_fences() {
  if (now_.monotonic < next_fence_mail_) {
    return;
  }
  next_fence_mail_ = MonotonicTime{now_.monotonic.ns + kFenceMailIntervalNs};
  for (const meta::NamedProducer& named : views_.producer_names().unsettled()) {
    mail_fences(named);
  }
}

void Shard::check_fence_waiters() {
  for (const FenceWaiter& waiter : std::exchange(fence_waiters_, {})) {
    if (views_.producer_names().is_settled(waiter.producer, waiter.epoch)) {
      reply_producer(waiter.to, waiter.producer, waiter.epoch);
    } else if (stopping_) {
      refuse(waiter.to, Status(ErrorCode::kShuttingDown, "the broker is stopping"),
             limits::kRetryAfterMsDefault);
    } else if (now_.monotonic >= waiter.deadline) {
      refuse(waiter.to,
             Status(ErrorCode::kTimedOut, "not all shards have fenced the producer yet"));
    } else {
      fence_waiters_.push_back(waiter);
    }
  }
}

void Shard::on_fence_mail(const ShardMail& mail, const Now& now) {
  const uint64_t producer = mail.txn.producer;
  if (views_.fences().lowest_epoch(producer) >= mail.epoch) {
    return mail_fence(ShardMail::Kind::kFenced, mail.from, producer, mail.epoch);
  }
  const OfShard name{epoch_key(producer, mail.epoch), mail.from};
  if (!may_write().ok() || !fences_in_flight_.insert(name).second) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::ProducerFenceBuilder record(body);
  record.add_producer(producer);
  record.add_epoch(mail.epoch);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kFence;
  pending.key = name.key;
  pending.shard = mail.from;
  gather(format::RecordKind::kProducerFence, body, txn_record(std::move(pending)));
}

void Shard::on_fenced_mail(const ShardMail& mail) {
  const OfShard name{epoch_key(mail.txn.producer, mail.epoch), mail.from};
  if (views_.producer_names().is_settled(mail.txn.producer, mail.epoch) || !may_write().ok() ||
      !fenced_in_flight_.insert(name).second) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::ProducerFencedBuilder record(body);
  record.add_producer(mail.txn.producer);
  record.add_epoch(mail.epoch);
  record.add_shard(mail.from.value());
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kFenced;
  pending.key = name.key;
  pending.shard = mail.from;
  gather(format::RecordKind::kProducerFenced, body, txn_record(std::move(pending)));
}

}  // namespace tidemark::shard
