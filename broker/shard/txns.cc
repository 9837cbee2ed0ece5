// Transactions as time goes by: check-backs, parking, forgetting, and the mail by which shards
// agree on outcomes.
//
//   coordinating shard: TxnEnd committed --kTxnOutcome--> shard with parts: TxnSettle committed
//                                        <--kTxnFollowed--
//   shard with parts of an undecided one: --kTxnAsk--> coordinating shard: TxnJoin, or the outcome
//
// Both sides repeat from what their logs have built, so any of it may get lost or come twice.
#include <algorithm>
#include <utility>

#include "broker/shard/shard.h"
#include "log/base/coverage_mark.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace fbs = protocol::fbs;

namespace {

constexpr uint8_t kEndByCoordinator = 3;
// How exact check-backs are.
constexpr int64_t kCheckIntervalNs = 20'000'000;
constexpr int64_t kCheckRetryNs = 1'000'000'000;
// Parts wait this long for an outcome before their shard asks: most are told sooner.
constexpr int64_t kAskIntervalNs = 250'000'000;
// Mails, or names in a record, of one round.
constexpr size_t kPerRoundMax = 1024;

}  // namespace

Shard::PendingRecord Shard::txn_record(TxnPending pending) {
  PendingRecord record;
  record.kind = PendingRecord::Kind::kTxn;
  record.txn = std::make_unique<TxnPending>(std::move(pending));
  return record;
}

void Shard::gather_names(format::RecordKind kind, std::span<const txn::TxnKey> keys,
                         TxnPending pending, const Now& now) {
  flatbuffers::FlatBufferBuilder body;
  std::vector<format::fbs::TxnName> names;
  names.reserve(keys.size());
  for (const txn::TxnKey& key : keys) {
    names.emplace_back(key.producer, key.number);
  }
  const auto all = body.CreateVectorOfStructs(names);
  format::fbs::TxnNamesBuilder record(body);
  record.add_names(all);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  gather(kind, body, txn_record(std::move(pending)));
}

// --- check-backs

void Shard::on_txn_poll(const ReplyTo& from, const protocol::Frame& frame, const Now& now) {
  const Result<const fbs::TxnPoll*> request =
      protocol::read_table<fbs::TxnPoll>(frame.table(), "TxnPoll");
  if (!request.ok()) {
    return refuse(from, request.error());
  }
  const std::string_view group = protocol::view((*request)->group());
  if (group.empty() || group.size() > limits::kTxnTextBytesMax) {
    return refuse(from, Status(ErrorCode::kInvalidArgument,
                               "a producer group has 1 to " +
                                   std::to_string(limits::kTxnTextBytesMax) + " bytes"));
  }
  if (polls_.size() >= limits::kTxnPollsPerShardMax) {
    return refuse(
        from,
        Status(ErrorCode::kOverloaded, "too many producers wait for check-backs; the limit is " +
                                           std::to_string(limits::kTxnPollsPerShardMax)),
        limits::kRetryAfterMsDefault);
  }
  if (const Status status = may_write(); !status.ok()) {
    return refuse(from, status);
  }
  TxnPoll poll;
  poll.to = from;
  poll.group = group;
  const uint32_t wait_ms = std::min((*request)->wait_ms_max(), limits::kFetchWaitMsMax);
  poll.deadline = MonotonicTime{now.monotonic.ns + int64_t{wait_ms} * 1'000'000};
  poll.checks_max = std::clamp<size_t>((*request)->checks_max(), 1, limits::kTxnItemsPerRequestMax);
  const uint64_t id = next_poll_++;
  poll_deadlines_.emplace(poll.deadline.ns, id);
  polls_of_[poll.group].push_back(id);
  polls_.emplace(id, std::move(poll));
}

TxnPoll Shard::take_poll(uint64_t id) {
  const auto it = polls_.find(id);
  TxnPoll poll = std::move(it->second);
  polls_.erase(it);
  for (auto [at, end] = poll_deadlines_.equal_range(poll.deadline.ns); at != end; ++at) {
    if (at->second == id) {
      poll_deadlines_.erase(at);
      break;
    }
  }
  const auto of_group = polls_of_.find(poll.group);
  std::erase(of_group->second, id);
  if (of_group->second.empty()) {
    polls_of_.erase(of_group);
  }
  return poll;
}

void Shard::answer_poll(uint64_t id, const std::vector<txn::TxnKey>& checks) {
  const TxnPoll poll = take_poll(id);
  std::vector<flatbuffers::Offset<fbs::TxnCheck>> wanted;
  for (const txn::TxnKey& key : checks) {
    const txn::Transaction& txn = *views_.txns().find(key);
    const auto reference = builder_.CreateString(txn.reference);
    const fbs::TxnId name(key.producer, key.number, txn.coordinator.value());
    fbs::TxnCheckBuilder check(builder_);
    check.add_txn(&name);
    check.add_reference(reference);
    check.add_born_ms(txn.born_ms);
    check.add_checks(txn.checks + 1);
    wanted.push_back(check.Finish());
  }
  const auto all = builder_.CreateVector(wanted);
  fbs::TxnPollReplyBuilder reply(builder_);
  reply.add_checks(all);
  send_reply(poll.to, reply.Finish());
}

// Asks the producers that wait about what is due. A group without one is asked when one comes, and
// nothing is counted until then.
void Shard::check_back(const Now& now) {
  const int64_t now_ms = clock_.ms(now);
  std::vector<std::pair<uint64_t, std::vector<txn::TxnKey>>> answers;
  for (const auto& [name, polls] : polls_of_) {
    const txn::Group* const group = views_.txns().find_group(name);
    if (group == nullptr) {
      continue;
    }
    auto due = group->checks.begin();
    for (const uint64_t id : polls) {
      std::vector<txn::TxnKey> checks;
      for (; due != group->checks.end() && due->first <= now_ms &&
             checks.size() < polls_.find(id)->second.checks_max;
           ++due) {
        if (!checks_in_flight_.contains(due->second)) {
          checks.push_back(due->second);
        }
      }
      if (checks.empty()) {
        break;
      }
      answers.emplace_back(id, std::move(checks));
    }
  }
  for (auto& [id, checks] : answers) {
    answer_poll(id, checks);
    counters_.txn_checks += checks.size();
    checks_in_flight_.insert(checks.begin(), checks.end());
    TxnPending pending;
    pending.kind = TxnPending::Kind::kChecked;
    pending.keys = checks;
    gather_names(format::RecordKind::kTxnChecked, checks, std::move(pending), now);
  }
}

void Shard::expire_polls(const Now& now) {
  while (!poll_deadlines_.empty() && poll_deadlines_.begin()->first <= now.monotonic.ns) {
    answer_poll(poll_deadlines_.begin()->second, {});
  }
}

void Shard::forget_polls(uint32_t loop, uint64_t connection) {
  std::vector<uint64_t> gone;
  for (const auto& [id, poll] : polls_) {
    if (poll.to.loop == loop && poll.to.connection == connection) {
      gone.push_back(id);
    }
  }
  for (const uint64_t id : gone) {
    static_cast<void>(take_poll(id));
  }
}

// --- rounds

void Shard::drive_txns(const Now& now) {
  mail_unsettled_fences();
  if (now.monotonic < next_check_ || !may_write().ok()) {
    return;
  }
  next_check_ = MonotonicTime{now.monotonic.ns + kCheckIntervalNs};
  check_back(now);
  park_old(now);
  if (now.monotonic >= next_ask_) {
    next_ask_ = MonotonicTime{now.monotonic.ns + kAskIntervalNs};
    tell_outcomes();
    ask_outcomes(now);
    forget_outcomes(now);
  }
}

void Shard::park_old(const Now& now) {
  if (parking_) {
    return;
  }
  const int64_t before_ms = clock_.ms(now) - options_.txn_pending_age_ms;
  std::vector<txn::TxnKey> old;
  for (const auto& [since_ms, key] : views_.txns().by_age()) {
    if (since_ms > before_ms || old.size() >= kPerRoundMax) {
      break;
    }
    old.push_back(key);
  }
  if (!old.empty()) {
    parking_ = true;
    TxnPending pending;
    pending.kind = TxnPending::Kind::kParked;
    gather_names(format::RecordKind::kTxnParked, old, std::move(pending), now);
  }
}

void Shard::forget_outcomes(const Now& now) {
  const int64_t before_ms = clock_.ms(now) - options_.txn_outcome_age_ms;
  if (forgetting_ || views_.txns().outcomes().oldest_ms() >= before_ms) {
    return;
  }
  forgetting_ = true;
  flatbuffers::FlatBufferBuilder body;
  format::fbs::TxnForgetBuilder record(body);
  record.add_ended_before_ms(before_ms);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kForget;
  gather(format::RecordKind::kTxnForget, body, txn_record(std::move(pending)));
}

// --- between shards

void Shard::mail_outcome(const txn::TxnKey& key, ShardId to, bool commit) {
  ShardMail mail = new_mail(ShardMail::Kind::kTxnOutcome, to);
  mail.txn = key;
  mail.commit = commit;
  outbox_.mail(std::move(mail));
}

void Shard::mail_followed(const txn::TxnKey& key, ShardId to) {
  ShardMail mail = new_mail(ShardMail::Kind::kTxnFollowed, to);
  mail.txn = key;
  outbox_.mail(std::move(mail));
}

// Those that ended in the entry just applied.
void Shard::tell_ended() {
  if (role_ != replica::Role::kLeader) {
    return;
  }
  for (const txn::TxnKey& key : views_.to_tell()) {
    const txn::TxnTable::Unconfirmed& ended = views_.txns().unconfirmed().at(key);
    for (const ShardId shard : ended.shards) {
      mail_outcome(key, shard, ended.commit);
    }
  }
}

// Calls visit(entry) for the next so many entries of a table, round and round.
template <typename Table, typename Visit>
void in_turn(const Table& table, txn::TxnKey& reached, Visit visit) {
  auto it = table.upper_bound(reached);
  for (size_t i = 0; i < std::min(table.size(), kPerRoundMax); ++i, ++it) {
    it = it == table.end() ? table.begin() : it;
    reached = visit(*it);
  }
}

void Shard::tell_outcomes() {
  in_turn(views_.txns().unconfirmed(), told_to_, [this](const auto& entry) {
    for (const ShardId shard : entry.second.shards) {
      mail_outcome(entry.first, shard, entry.second.commit);
    }
    return entry.first;
  });
}

void Shard::ask_outcomes(const Now& now) {
  const int64_t now_ms = clock_.ms(now);
  const int64_t born_before_ms = now_ms - kAskIntervalNs / 1'000'000;
  in_turn(views_.txns().foreign(), asked_to_, [&](const txn::TxnKey& key) {
    const txn::Transaction& txn = *views_.txns().find(key);
    if (txn.born_ms <= born_before_ms) {
      ShardMail mail = new_mail(ShardMail::Kind::kTxnAsk, txn.coordinator);
      mail.txn = key;
      mail.group = txn.group->name;
      mail.reference = txn.reference;
      mail.timeout_ms = txn.timeout_ms;
      mail.age_ms = now_ms - txn.born_ms;
      outbox_.mail(std::move(mail));
    }
    return key;
  });
}

void Shard::on_txn_outcome_mail(const ShardMail& mail, const Now& now) {
  const txn::Transaction* const txn = views_.txns().find(mail.txn);
  if (txn == nullptr) {
    TIDEMARK_COVERAGE_MARK(txn_outcome_told_again);
    // It has ended here, or has no parts here; one that is still on its way will ask.
    return mail_followed(mail.txn, mail.from);
  }
  if (txn->coordinator != mail.from || !may_write().ok() ||
      !settles_in_flight_.insert(mail.txn).second) {
    return;
  }
  EndRecord record;
  record.key = mail.txn;
  record.commit = mail.commit;
  record.by = kEndByCoordinator;
  TxnPending pending;
  pending.kind = TxnPending::Kind::kSettle;
  pending.key = mail.txn;
  pending.shard = mail.from;
  gather_end(format::RecordKind::kTxnSettle, record, std::move(pending), now);
}

void Shard::on_txn_ask_mail(const ShardMail& mail, const Now& now) {
  const txn::TxnState state = views_.txns().state(mail.txn);
  if (txn::is_ended(state)) {
    TIDEMARK_COVERAGE_MARK(txn_asked_after_end);
    return mail_outcome(mail.txn, mail.from, state == txn::TxnState::kCommitted);
  }
  const txn::Transaction* const txn = views_.txns().find(mail.txn);
  const bool joined = txn != nullptr && std::binary_search(txn->participants.begin(),
                                                           txn->participants.end(), mail.from);
  const OfShard name{mail.txn, mail.from};
  if (joined || !may_write().ok() || !joins_in_flight_.insert(name).second) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  const auto group = body.CreateString(mail.group);
  const auto reference = body.CreateString(mail.reference);
  format::fbs::TxnJoinBuilder record(body);
  record.add_producer(mail.txn.producer);
  record.add_number(mail.txn.number);
  record.add_participant(mail.from.value());
  record.add_group(group);
  record.add_reference(reference);
  record.add_timeout_ms(mail.timeout_ms);
  TIDEMARK_COVERAGE_MARK(txn_joined_by_asking);
  record.add_born_ms(clock_.ms(now) - mail.age_ms);
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kJoin;
  pending.key = mail.txn;
  pending.shard = mail.from;
  gather(format::RecordKind::kTxnJoin, body, txn_record(std::move(pending)));
}

void Shard::on_txn_followed_mail(const ShardMail& mail) {
  const auto it = views_.txns().unconfirmed().find(mail.txn);
  const bool waits = it != views_.txns().unconfirmed().end() &&
                     std::find(it->second.shards.begin(), it->second.shards.end(), mail.from) !=
                         it->second.shards.end();
  const OfShard name{mail.txn, mail.from};
  if (!waits || !may_write().ok() || !confirms_in_flight_.insert(name).second) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::TxnConfirmBuilder record(body);
  record.add_producer(mail.txn.producer);
  record.add_number(mail.txn.number);
  record.add_participant(mail.from.value());
  body.Finish(record.Finish());
  TxnPending pending;
  pending.kind = TxnPending::Kind::kConfirm;
  pending.key = mail.txn;
  pending.shard = mail.from;
  gather(format::RecordKind::kTxnConfirm, body, txn_record(std::move(pending)));
}

// --- applied

// What was guarded by an entry in a table of what is under way, or by a flag, may be tried again.
void Shard::no_longer_in_flight(const TxnPending& pending) {
  using Kind = TxnPending::Kind;
  switch (pending.kind) {
    case Kind::kEnd:
    case Kind::kRecheck:
    case Kind::kName:
      return;
    case Kind::kSettle:
      settles_in_flight_.erase(pending.key);
      return;
    case Kind::kJoin:
      joins_in_flight_.erase({pending.key, pending.shard});
      return;
    case Kind::kConfirm:
      confirms_in_flight_.erase({pending.key, pending.shard});
      return;
    case Kind::kChecked:
      for (const txn::TxnKey& key : pending.keys) {
        checks_in_flight_.erase(key);
      }
      return;
    case Kind::kParked:
      parking_ = false;
      return;
    case Kind::kForget:
      forgetting_ = false;
      return;
    case Kind::kFence:
      fences_in_flight_.erase({pending.key, pending.shard});
      return;
    case Kind::kFenced:
      fenced_in_flight_.erase({pending.key, pending.shard});
      return;
    case Kind::kRelocate:
      --relocating_halves_;
      return;
  }
}

void Shard::settle_txn(TxnPending& pending, const RecordOutcome& outcome) {
  using Kind = TxnPending::Kind;
  no_longer_in_flight(pending);
  switch (pending.kind) {
    case Kind::kEnd:
    case Kind::kRecheck:
      return settle_txn_op(pending, outcome);
    case Kind::kSettle:
      if (outcome.error != ErrorCode::kOk) {
        return;  // parts came in between; the coordinating shard tells it again
      }
      return mail_followed(pending.key, pending.shard);
    case Kind::kJoin:
      counters_.txn_begun += outcome.txn_first ? 1 : 0;
      if (txn::is_ended(outcome.txn_state)) {
        mail_outcome(pending.key, pending.shard, outcome.txn_state == txn::TxnState::kCommitted);
      }
      return;
    case Kind::kParked:
      counters_.txn_parkings += outcome.parked;
      return;
    case Kind::kName:
      return settle_producer_name(pending, outcome);
    case Kind::kFence:
      return mail_fence(ShardMail::Kind::kFenced, pending.shard, outcome.first_producer_id,
                        outcome.producer_epoch);
    case Kind::kFenced:
      return check_fence_waiters();
    case Kind::kConfirm:
    case Kind::kChecked:
    case Kind::kForget:
    case Kind::kRelocate:
      return;
  }
}

void Shard::fail_txn(TxnPending& pending, const Status& status, uint32_t retry_after_ms) {
  no_longer_in_flight(pending);
  if (pending.op != nullptr) {
    return answer_txn(*pending.op, pending.part, status, txn::TxnState::kNone);
  }
  if (pending.kind == TxnPending::Kind::kName) {
    refuse(pending.to, status, retry_after_ms);
  }
  if (pending.kind == TxnPending::Kind::kChecked || pending.kind == TxnPending::Kind::kParked) {
    // A full disk: what is not recorded is asked about again, but not at once.
    next_check_ = MonotonicTime{now_.monotonic.ns + kCheckRetryNs};
  }
}

void Shard::add_txn_stats(ShardStats& stats) const {
  const txn::TxnTable& txns = views_.txns();
  stats.txn_open = txns.by_age().size();
  stats.txn_parked = txns.parked();
  stats.txn_halves = txns.by_position().size();
  stats.txn_half_bytes = txns.half_bytes();
  stats.txn_unconfirmed = txns.unconfirmed().size();
  stats.txn_producers = polls_.size();
  int64_t oldest_ms = INT64_MAX;
  for (const auto& [name, group] : txns.groups()) {
    if (!group->by_birth.empty()) {
      oldest_ms = std::min(oldest_ms, group->by_birth.begin()->first);
    }
  }
  const int64_t now_ms = clock_.started() ? clock_.ms(now_) : views_.log_time_ms();
  stats.txn_oldest_age_ms = oldest_ms == INT64_MAX ? 0 : std::max<int64_t>(now_ms - oldest_ms, 0);
  stats.txn_begun = counters_.txn_begun;
  stats.txn_committed = counters_.txn_committed;
  stats.txn_rolled_back = counters_.txn_rolled_back;
  stats.txn_checks = counters_.txn_checks;
  stats.txn_parkings = counters_.txn_parkings;
  stats.txn_refused = counters_.txn_refused;
}

}  // namespace tidemark::shard
