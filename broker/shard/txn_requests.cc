// Requests about transactions: their ends, and what operators look at.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

// Transactions that one list request looks at, so that it holds the loop for about a millisecond.
constexpr size_t kListScanMax = 10'000;
// Parts in one reply: a table each.
constexpr size_t kListPartsMax = 50'000;
constexpr size_t kGroupsInStatsMax = 10'000;

txn::TxnKey key_of(const fbs::TxnId& id) { return {id.producer(), id.number()}; }

fbs::TxnId id_of(const txn::Transaction& txn) {
  return {txn.key.producer, txn.key.number, txn.coordinator.value()};
}

fbs::TxnState wire(txn::TxnState state) { return static_cast<fbs::TxnState>(state); }

std::string recorded(txn::TxnState state) {
  switch (state) {
    case txn::TxnState::kCommitted:
      return "it is recorded as committed";
    case txn::TxnState::kRolledBack:
      return "it is recorded as rolled back";
    case txn::TxnState::kParked:
    case txn::TxnState::kOpen:
      return "it has not ended";
    case txn::TxnState::kNone:
      break;
  }
  return "nothing is known of it: it never was, or its outcome is no longer remembered";
}

// Why an end was not done; ok if it was.
Status end_status(ErrorCode error, txn::TxnState state) {
  if (error == ErrorCode::kOk) {
    return Status();
  }
  if (error == ErrorCode::kFenced) {
    return Status(error, "a newer producer has taken over the name of this one");
  }
  if (error == ErrorCode::kUnavailable) {
    return Status(error, "parts of it came meanwhile: try again");
  }
  return Status(error, recorded(state));
}

// Of a request with `items`, or why it is refused; `may_write` if nothing is wrong with it.
template <typename Request>
Status check_items(const Request& request, Status may_write) {
  const auto* items = request.items();
  if (items == nullptr || items->size() == 0 || items->size() > limits::kTxnItemsPerRequestMax) {
    return Status(
        ErrorCode::kInvalidArgument,
        "1 to " + std::to_string(limits::kTxnItemsPerRequestMax) + " transactions are allowed");
  }
  return may_write;
}

std::shared_ptr<TxnOp> new_op(const ReplyTo& from, size_t parts) {
  auto op = std::make_shared<TxnOp>();
  op->to = from;
  op->parts.resize(parts);
  op->unanswered = parts + 1;  // itself, until all parts are looked at
  return op;
}

}  // namespace

// --- ends

void Shard::on_txn_end(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TxnEnd*> request =
      protocol::read_table<fbs::TxnEnd>(frame.table(), "TxnEnd");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const Status status =
      (*request)->by() > fbs::TxnEndBy::kOperator
          ? Status(ErrorCode::kInvalidArgument, "who ends a transaction is 0, 1 or 2")
          : check_items(**request, may_write());
  if (!status.ok()) {
    return refuse(from, status);
  }
  const auto& items = *(*request)->items();
  const std::shared_ptr<TxnOp> op = new_op(from, items.size());
  for (uint32_t i = 0; i < items.size(); ++i) {
    take_end(op, i, *items.Get(i), (*request)->by(), now);
  }
  if (--op->unanswered == 0) {
    finish_txn_op(*op);
  }
}

void Shard::take_end(const std::shared_ptr<TxnOp>& op, size_t part, const fbs::TxnEndItem& item,
                     fbs::TxnEndBy by, const Now& now) {
  if (item.txn() == nullptr || item.txn()->producer() == 0 || item.txn()->number() == 0) {
    return answer_txn(*op, part,
                      Status(ErrorCode::kInvalidArgument, "an end names its transaction"),
                      txn::TxnState::kNone);
  }
  if (item.txn()->shard() != options_.shard.value()) {
    return answer_txn(*op, part,
                      Status(ErrorCode::kWrongShard, "the transaction is coordinated by shard " +
                                                         std::to_string(item.txn()->shard())),
                      txn::TxnState::kNone);
  }
  EndRecord record;
  record.key = key_of(*item.txn());
  record.commit = item.commit();
  record.by = static_cast<uint8_t>(by);
  record.halves = item.halves();
  if (item.shards() != nullptr) {
    // Bounds the record, too.
    if (item.shards()->size() > options_.shard_count) {
      return answer_txn(*op, part,
                        Status(ErrorCode::kInvalidArgument,
                               "an end names at most " + std::to_string(options_.shard_count) +
                                   " shards, as many as there are"),
                        txn::TxnState::kNone);
    }
    for (const uint16_t shard : *item.shards()) {
      if (shard >= options_.shard_count) {
        return answer_txn(
            *op, part,
            Status(ErrorCode::kInvalidArgument, "there is no shard " + std::to_string(shard)),
            txn::TxnState::kNone);
      }
      record.shards.push_back(shard);
    }
  }
  const txn::TxnState state = views_.txns().state(record.key);
  if (by == fbs::TxnEndBy::kProducer &&
      views_.fences().is_fenced(record.key.producer, record.key.epoch())) {
    return answer_txn(*op, part, end_status(ErrorCode::kFenced, state), state);
  }
  // What is decided already needs no record.
  const bool unknown_commit = state == txn::TxnState::kNone && record.commit;
  if (txn::is_ended(state) || unknown_commit) {
    const bool as_asked = (state == txn::TxnState::kCommitted) == record.commit;
    const ErrorCode error = unknown_commit ? ErrorCode::kNotFound
                            : as_asked     ? ErrorCode::kOk
                                           : ErrorCode::kConflict;
    counters_.txn_refused += error == ErrorCode::kConflict ? 1 : 0;
    return answer_txn(*op, part, end_status(error, state), state);
  }
  TxnPending pending;
  pending.kind = TxnPending::Kind::kEnd;
  pending.op = op;
  pending.part = part;
  pending.commit = record.commit;
  gather_end(format::RecordKind::kTxnEnd, record, std::move(pending), now);
}

// The end of what is open here has room kept for it.
void Shard::gather_end(format::RecordKind kind, const EndRecord& end, TxnPending pending,
                       const Now& now) {
  const txn::Transaction* const txn = views_.txns().find(end.key);
  uint32_t delayed = 0;
  if (txn != nullptr && end.commit) {
    for (const txn::Half& half : txn->halves) {
      delayed += static_cast<uint32_t>(half.items.size());
    }
  }
  next_delay_id_ = std::max(next_delay_id_, views_.delays().next_id());
  flatbuffers::FlatBufferBuilder body(256);
  flatbuffers::Offset<flatbuffers::Vector<uint16_t>> shards;
  if (!end.shards.empty()) {
    shards = body.CreateVector(end.shards);
  }
  format::fbs::TxnEndBuilder record(body);
  record.add_producer(end.key.producer);
  record.add_number(end.key.number);
  record.add_shard(txn != nullptr ? txn->coordinator.value() : options_.shard.value());
  record.add_commit(end.commit);
  record.add_by(end.by);
  record.add_halves(end.halves);
  record.add_shards(shards);
  if (delayed > 0) {
    record.add_first_delay_id(next_delay_id_);
    record.add_delay_ids(delayed);
    record.add_delays_from_ms(clock_.after(now, 0));
    record.add_wall_ahead_ms(clock_.at(now, now.wall.ms) - now.wall.ms);
  }
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  next_delay_id_ += delayed;
  gather(kind, body, txn_record(std::move(pending)),
         txn != nullptr ? log::Room::kReserved : log::Room::kOrdinary);
}

void Shard::on_txn_recheck(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TxnRecheck*> request =
      protocol::read_table<fbs::TxnRecheck>(frame.table(), "TxnRecheck");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if (const Status status = check_items(**request, may_write()); !status.ok()) {
    return refuse(from, status);
  }
  const auto& items = *(*request)->items();
  const std::shared_ptr<TxnOp> op = new_op(from, items.size());
  for (uint32_t i = 0; i < items.size(); ++i) {
    const txn::TxnKey key = key_of(*items.Get(i));
    if (views_.txns().find(key) == nullptr) {
      const txn::TxnState state = views_.txns().state(key);
      answer_txn(
          *op, i,
          end_status(txn::is_ended(state) ? ErrorCode::kConflict : ErrorCode::kNotFound, state),
          state);
      continue;
    }
    TxnPending pending;
    pending.kind = TxnPending::Kind::kRecheck;
    pending.op = op;
    pending.part = i;
    gather_names(format::RecordKind::kTxnRecheck, {&key, 1}, std::move(pending), now);
  }
  if (--op->unanswered == 0) {
    finish_txn_op(*op);
  }
}

void Shard::settle_txn_op(TxnPending& pending, const RecordOutcome& outcome) {
  if (pending.kind == TxnPending::Kind::kEnd) {
    counters_.txn_refused += outcome.error == ErrorCode::kConflict ? 1 : 0;
    if (outcome.txn_done) {
      ++(pending.commit ? counters_.txn_committed : counters_.txn_rolled_back);
    }
  }
  Status status = end_status(outcome.error, outcome.txn_state);
  if (outcome.error == ErrorCode::kConflict && !txn::is_ended(outcome.txn_state)) {
    status = Status(outcome.error, "the end names other parts than the " +
                                       std::to_string(outcome.halves_stored) + " stored here");
  }
  answer_txn(*pending.op, pending.part, status, outcome.txn_state);
}

void Shard::answer_txn(TxnOp& op, size_t part, const Status& status, txn::TxnState state) {
  op.parts[part] = {status, state};
  if (--op.unanswered == 0) {
    finish_txn_op(op);
  }
}

void Shard::finish_txn_op(TxnOp& op) {
  std::vector<flatbuffers::Offset<fbs::TxnResult>> results;
  results.reserve(op.parts.size());
  for (const TxnOp::Part& part : op.parts) {
    const auto error = protocol::build_error(builder_, part.status);
    fbs::TxnResultBuilder result(builder_);
    if (!part.status.ok()) {
      result.add_error(error);
    }
    result.add_state(wire(part.state));
    results.push_back(result.Finish());
  }
  const auto all = builder_.CreateVector(results);
  fbs::TxnResultReplyBuilder reply(builder_);
  reply.add_results(all);
  send_reply(op.to, reply.Finish());
}

// --- looking

flatbuffers::Offset<fbs::TxnInfo> Shard::build_txn(const txn::Transaction& txn) {
  std::vector<flatbuffers::Offset<fbs::TxnHalf>> halves;
  halves.reserve(txn.halves.size());
  for (const txn::Half& half : txn.halves) {
    halves.push_back(fbs::CreateTxnHalf(builder_, half.partition.topic.value(),
                                        half.partition.index.value(), half.index, half.messages,
                                        half.bytes, half.position.value(), !half.items.empty()));
  }
  const auto parts = builder_.CreateVector(halves);
  std::vector<uint16_t> others;
  for (const ShardId shard : txn.participants) {
    others.push_back(shard.value());
  }
  const auto shards = builder_.CreateVector(others);
  const auto group = builder_.CreateString(txn.group->name);
  const auto reference = builder_.CreateString(txn.reference);
  const fbs::TxnId id = id_of(txn);
  const bool checked = txn.state == txn::TxnState::kOpen && txn.coordinator == options_.shard;
  fbs::TxnInfoBuilder info(builder_);
  info.add_txn(&id);
  info.add_state(wire(txn.state));
  info.add_group(group);
  info.add_reference(reference);
  info.add_born_ms(txn.born_ms);
  info.add_timeout_ms(txn.timeout_ms);
  info.add_checks(txn.checks);
  info.add_next_check_ms(checked ? txn.next_check_ms : -1);
  info.add_halves(parts);
  info.add_shards(shards);
  return info.Finish();
}

void Shard::on_txn_list(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::TxnList*> request =
      protocol::read_table<fbs::TxnList>(frame.table(), "TxnList");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const fbs::TxnList& query = **request;
  if (query.limit() == 0 || query.limit() > limits::kTxnListMax) {
    return refuse(from, Status(ErrorCode::kInvalidArgument,
                               "limit is 1 to " + std::to_string(limits::kTxnListMax)));
  }
  const std::string_view group = protocol::view(query.group());
  const auto wanted = [&](const txn::Transaction& txn) {
    const bool of_topic =
        query.topic() == 0 ||
        std::any_of(txn.halves.begin(), txn.halves.end(), [&](const txn::Half& half) {
          return half.partition.topic.value() == query.topic();
        });
    return txn.coordinator == options_.shard && (group.empty() || txn.group->name == group) &&
           (query.state() == fbs::TxnState::kNone || wire(txn.state) == query.state()) &&
           txn.born_ms < query.born_before_ms() && of_topic;
  };
  const auto& all = views_.txns().all();
  auto it = query.after() == nullptr ? all.begin() : all.upper_bound(key_of(*query.after()));
  std::vector<flatbuffers::Offset<fbs::TxnInfo>> items;
  fbs::TxnId next;
  size_t parts = 0;
  for (size_t looked_at = 0; it != all.end() && looked_at < kListScanMax &&
                             items.size() < query.limit() && parts < kListPartsMax;
       ++it, ++looked_at) {
    next = id_of(it->second);
    if (wanted(it->second)) {
      items.push_back(build_txn(it->second));
      parts += 1 + it->second.halves.size();
    }
  }
  const auto found = builder_.CreateVector(items);
  fbs::TxnListReplyBuilder reply(builder_);
  reply.add_items(found);
  if (it != all.end()) {
    reply.add_more(true);
    reply.add_next(&next);
  }
  send_reply(from, reply.Finish());
}

void Shard::on_txn_show(const ReplyTo& from, const protocol::Frame& frame) {
  const Result<const fbs::TxnShow*> request =
      protocol::read_table<fbs::TxnShow>(frame.table(), "TxnShow");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  if ((*request)->txn() == nullptr) {
    return refuse(from, Status(ErrorCode::kInvalidArgument, "which transaction?"));
  }
  const txn::TxnKey key = key_of(*(*request)->txn());
  const txn::Transaction* const txn = views_.txns().find(key);
  const txn::TxnState state = views_.txns().state(key);
  if (state == txn::TxnState::kNone) {
    return refuse(from, Status(ErrorCode::kNotFound, recorded(state)));
  }
  flatbuffers::Offset<fbs::TxnInfo> info;
  if (txn != nullptr) {
    info = build_txn(*txn);
  } else {
    fbs::TxnInfoBuilder ended(builder_);
    ended.add_txn((*request)->txn());
    ended.add_state(wire(state));
    info = ended.Finish();
  }
  fbs::TxnShowReplyBuilder reply(builder_);
  reply.add_info(info);
  send_reply(from, reply.Finish());
}

void Shard::on_txn_stats(const ReplyTo& from, const protocol::Frame& frame) {
  if (const auto request = protocol::read_table<fbs::TxnStats>(frame.table(), "TxnStats");
      !request.ok()) {
    return refuse(from, request.error());
  }
  const txn::TxnTable& txns = views_.txns();
  std::vector<flatbuffers::Offset<fbs::TxnGroupStats>> groups;
  const auto add_group = [&](std::string_view name, const txn::Group* group) {
    const auto polls = polls_of_.find(name);
    const auto text = builder_.CreateString(name.data(), name.size());
    fbs::TxnGroupStatsBuilder stats(builder_);
    stats.add_group(text);
    stats.add_open(group ? group->open : 0);
    stats.add_parked(group ? group->parked : 0);
    stats.add_producers(polls == polls_of_.end() ? 0 : static_cast<uint32_t>(polls->second.size()));
    stats.add_oldest_born_ms(group && !group->by_birth.empty() ? group->by_birth.begin()->first
                                                               : -1);
    groups.push_back(stats.Finish());
  };
  for (const auto& [name, group] : txns.groups()) {
    if (groups.size() < kGroupsInStatsMax) {
      add_group(name, group.get());
    }
  }
  for (const auto& [name, polls] : polls_of_) {
    if (txns.find_group(name) == nullptr && groups.size() < kGroupsInStatsMax) {
      add_group(name, nullptr);
    }
  }
  const auto all = builder_.CreateVector(groups);
  ShardStats stats;
  add_txn_stats(stats);
  fbs::TxnStatsReplyBuilder reply(builder_);
  reply.add_now_ms(clock_.ms(now_));
  reply.add_groups(all);
  reply.add_open(stats.txn_open);
  reply.add_parked(stats.txn_parked);
  reply.add_halves(stats.txn_halves);
  reply.add_half_bytes(stats.txn_half_bytes);
  reply.add_unconfirmed(stats.txn_unconfirmed);
  reply.add_begun(stats.txn_begun);
  reply.add_committed(stats.txn_committed);
  reply.add_rolled_back(stats.txn_rolled_back);
  reply.add_checks(stats.txn_checks);
  reply.add_parkings(stats.txn_parkings);
  reply.add_refused(stats.txn_refused);
  send_reply(from, reply.Finish());
}

}  // namespace tidemark::shard
