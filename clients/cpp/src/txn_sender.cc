#include "clients/cpp/src/txn_sender.h"

#include <algorithm>
#include <utility>

#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

constexpr size_t kPartRequestsMax = 8;
constexpr size_t kEndRequestsMax = 4;
constexpr size_t kRequestBytesTarget = 1 * limits::kMiB;
constexpr size_t kInFlightBytesMax = 8 * limits::kMiB;

fbs::TxnId wire_id(const Txn& txn) { return {txn.producer, txn.number, txn.home_shard}; }

// The table of an ok reply; null: reply.status says why there is none.
template <typename Table>
const Table* read_answers(Reply& reply, std::string_view name) {
  if (!reply.status.ok()) {
    return nullptr;
  }
  const auto read = protocol::read_table<Table>(reply.frame.table(), name);
  if (!read.ok()) {
    reply.status = Status(ErrorCode::kOutcomeUnknown, std::string(read.error().context()));
    return nullptr;
  }
  reply.status = protocol::to_status((*read)->error());
  reply.retry_after_ms = protocol::retry_after_ms((*read)->error());
  return reply.status.ok() ? *read : nullptr;
}

Status not_every_answer(std::string_view name) {
  return {ErrorCode::kOutcomeUnknown, std::string(name) + " does not answer every item"};
}

void note_sent(Txn& txn, TxnPart& part, uint16_t shard) {
  txn.sent = true;
  part.shard = shard;
  ++part.batch.attempts;
  if (shard != txn.home_shard &&
      std::find(txn.shards.begin(), txn.shards.end(), shard) == txn.shards.end()) {
    txn.shards.push_back(shard);
  }
}

Status cancelled() { return {ErrorCode::kCancelled, "not wanted any more"}; }

}  // namespace

TxnSender::TxnSender(Cluster& cluster, std::string group, Answers answers)
    : cluster_(cluster), group_(std::move(group)), answers_(std::move(answers)) {}

void TxnSender::add(Session& session, PartJob job) {
  lanes_[&session].parts.push_back(std::move(job));
}

void TxnSender::add(Session& session, EndJob job) {
  lanes_[&session].ends.push_back(std::move(job));
}

void TxnSender::flush() {
  for (auto& [session, lane] : lanes_) {
    while (!lane.parts.empty() && lane.part_requests < kPartRequestsMax &&
           lane.part_bytes < kInFlightBytesMax) {
      send_parts(*session, lane);
    }
    while (!lane.ends.empty() && lane.end_requests < kEndRequestsMax) {
      send_ends(*session, lane);
    }
  }
}

void TxnSender::stop() { stopped_ = true; }

MonotonicTime TxnSender::request_deadline() const {
  return {cluster_.clock().monotonic().ns + cluster_.options().request_timeout_ns};
}

void TxnSender::send_parts(Session& session, Lane& lane) {
  builder_.Clear();
  const auto group = builder_.CreateString(group_);
  std::vector<flatbuffers::Offset<fbs::ProducePart>> offsets;
  std::vector<SharedBytes> payload;
  std::vector<PartJob> sent;
  size_t bytes = 0;
  while (!lane.parts.empty() && sent.size() < limits::kPartsPerRequestMax) {
    PartJob& job = lane.parts.front();
    Txn& txn = *job.txn;
    if (!txn.parts_wanted) {
      PartJob dropped = std::move(job);
      lane.parts.pop_front();
      answers_.part(std::move(dropped), cancelled(), 0);
      continue;
    }
    Batch& batch = job.part->batch;
    if (!sent.empty() && bytes + batch.encoded.size() > kRequestBytesTarget) {
      break;
    }
    const fbs::TxnId id = wire_id(txn);
    const auto reference = builder_.CreateString(txn.reference);
    const auto half =
        fbs::CreateHalfInfo(builder_, &id, job.part->index, group, txn.timeout_ms, reference);
    offsets.push_back(fbs::CreateProducePart(
        builder_, batch.target.topic.value(), batch.target.index.value(),
        static_cast<uint32_t>(batch.encoded.size()),
        batch.delayed ? fbs::ProduceKind::kHalfSchedule : fbs::ProduceKind::kHalf, half,
        batch.ttl));
    payload.push_back(batch.encoded);
    bytes += batch.encoded.size();
    note_sent(txn, *job.part, session.shard());
    sent.push_back(std::move(job));
    lane.parts.pop_front();
  }
  if (sent.empty()) {
    return;
  }
  builder_.Finish(fbs::CreateProduce(builder_, builder_.CreateVector(offsets)));
  ++lane.part_requests;
  lane.part_bytes += bytes;
  session.request(
      FrameType::kProduce, session.shard(), protocol::finished(builder_), std::move(payload),
      request_deadline(),
      [self = shared_from_this(), &lane, bytes, sent = std::move(sent)](Reply reply) mutable {
        self->on_parts(lane, bytes, sent, std::move(reply));
      });
}

void TxnSender::on_parts(Lane& lane, size_t bytes, std::vector<PartJob>& sent, Reply reply) {
  --lane.part_requests;
  lane.part_bytes -= bytes;
  if (stopped_) {
    return;
  }
  const auto* const table = read_answers<fbs::ProduceReply>(reply, "ProduceReply");
  if (table != nullptr && (table->parts() == nullptr || table->parts()->size() != sent.size())) {
    reply.status = not_every_answer("ProduceReply");
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    if (!reply.status.ok()) {
      answers_.part(std::move(sent[i]), reply.status, reply.retry_after_ms);
      continue;
    }
    const fbs::Error* const error =
        table->parts()->Get(static_cast<flatbuffers::uoffset_t>(i))->error();
    answers_.part(std::move(sent[i]), protocol::to_status(error), protocol::retry_after_ms(error));
  }
}

void TxnSender::send_ends(Session& session, Lane& lane) {
  builder_.Clear();
  std::vector<flatbuffers::Offset<fbs::TxnEndItem>> offsets;
  std::vector<EndJob> sent;
  while (!lane.ends.empty() && sent.size() < limits::kTxnItemsPerRequestMax) {
    EndJob job = std::move(lane.ends.front());
    lane.ends.pop_front();
    Txn& txn = *job.txn;
    if (job.serial != txn.end_serial) {
      answers_.end(std::move(job), cancelled(), fbs::TxnState::kNone, 0);
      continue;
    }
    const fbs::TxnId id = wire_id(txn);
    const auto shards = txn.shards.empty() ? 0 : builder_.CreateVector(txn.shards);
    // A rollback takes whatever there is; parts may still be on their way.
    offsets.push_back(fbs::CreateTxnEndItem(builder_, &id, txn.end_commit,
                                            txn.end_commit ? txn.home_halves : UINT32_MAX, shards));
    txn.end_in_flight = true;
    ++txn.end_attempts;
    sent.push_back(std::move(job));
  }
  if (sent.empty()) {
    return;
  }
  const auto items = builder_.CreateVector(offsets);
  builder_.Finish(fbs::CreateTxnEnd(builder_, items, fbs::TxnEndBy::kProducer));
  ++lane.end_requests;
  session.request(FrameType::kTxnEnd, session.shard(), protocol::finished(builder_), {},
                  request_deadline(),
                  [self = shared_from_this(), &lane, sent = std::move(sent)](Reply reply) mutable {
                    self->on_ends(lane, sent, std::move(reply));
                  });
}

void TxnSender::on_ends(Lane& lane, std::vector<EndJob>& sent, Reply reply) {
  --lane.end_requests;
  if (stopped_) {
    return;
  }
  const auto* const table = read_answers<fbs::TxnResultReply>(reply, "TxnResultReply");
  if (table != nullptr &&
      (table->results() == nullptr || table->results()->size() != sent.size())) {
    reply.status = not_every_answer("TxnResultReply");
  }
  for (size_t i = 0; i < sent.size(); ++i) {
    if (!reply.status.ok()) {
      answers_.end(std::move(sent[i]), reply.status, fbs::TxnState::kNone, reply.retry_after_ms);
      continue;
    }
    const fbs::TxnResult& result = *table->results()->Get(static_cast<flatbuffers::uoffset_t>(i));
    answers_.end(std::move(sent[i]), protocol::to_status(result.error()), result.state(),
                 protocol::retry_after_ms(result.error()));
  }
}

}  // namespace tidemark::client_core
