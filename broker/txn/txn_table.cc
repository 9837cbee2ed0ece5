#include "broker/txn/txn_table.h"

#include <algorithm>
#include <limits>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"

namespace tidemark::txn {

const Half* Transaction::find_half(uint32_t index) const {
  const auto at =
      std::lower_bound(halves.begin(), halves.end(), index,
                       [](const Half& half, uint32_t wanted) { return half.index < wanted; });
  return at != halves.end() && at->index == index ? &*at : nullptr;
}

// --- applying

// Takes the transaction up into what check-backs and parking go by.
void TxnTable::enlist(Transaction& txn) {
  if (txn.coordinator != shard_) {
    foreign_.insert(txn.key);
    return;
  }
  txn.group->by_birth.emplace(txn.born_ms, txn.key);
  if (txn.state == TxnState::kParked) {
    ++txn.group->parked;
    ++parked_;
    return;
  }
  ++txn.group->open;
  txn.group->checks.emplace(txn.next_check_ms, txn.key);
  by_age_.emplace(txn.pending_since_ms, txn.key);
}

void TxnTable::delist(Transaction& txn) {
  if (txn.coordinator != shard_) {
    foreign_.erase(txn.key);
    return;
  }
  txn.group->by_birth.erase({txn.born_ms, txn.key});
  if (txn.state == TxnState::kParked) {
    --txn.group->parked;
    --parked_;
    return;
  }
  --txn.group->open;
  txn.group->checks.erase({txn.next_check_ms, txn.key});
  by_age_.erase({txn.pending_since_ms, txn.key});
}

Group& TxnTable::use_group(std::string_view name) {
  auto it = groups_.find(name);
  if (it == groups_.end()) {
    it = groups_.emplace(std::string(name), std::make_unique<Group>()).first;
    it->second->name = name;
  }
  ++it->second->users;
  return *it->second;
}

Transaction& TxnTable::begin(const Birth& birth) {
  Transaction& txn = open_[birth.key];
  txn.key = birth.key;
  txn.coordinator = birth.coordinator;
  txn.group = &use_group(birth.group);
  txn.reference = birth.reference;
  txn.born_ms = txn.pending_since_ms = birth.born_ms;
  txn.timeout_ms = birth.timeout_ms;
  txn.next_check_ms = birth.born_ms + birth.timeout_ms;
  enlist(txn);
  return txn;
}

// The transaction, begun if it is not known; nullptr if it has ended or has another coordinator:
// `outcome` says so.
Transaction* TxnTable::open_or_begin(const Birth& birth, HalfOutcome& outcome) {
  if (const TxnState known = ended_state(birth.key); known != TxnState::kNone) {
    TIDEMARK_COVERAGE_MARK(txn_part_after_end);
    outcome.error = ErrorCode::kConflict;
    outcome.state = known;
    return nullptr;
  }
  const auto it = open_.find(birth.key);
  outcome.first = it == open_.end();
  Transaction& txn = outcome.first ? begin(birth) : it->second;
  outcome.state = txn.state;
  if (txn.coordinator != birth.coordinator) {
    outcome.error = ErrorCode::kConflict;
    return nullptr;
  }
  return &txn;
}

HalfOutcome TxnTable::add_half(const Birth& birth, Half half) {
  HalfOutcome outcome;
  Transaction* const txn = open_or_begin(birth, outcome);
  if (txn == nullptr) {
    return outcome;
  }
  if (txn->find_half(half.index) != nullptr) {
    TIDEMARK_COVERAGE_MARK(txn_part_twice);
    outcome.duplicate = true;
    return outcome;
  }
  const auto at = std::find_if(txn->halves.begin(), txn->halves.end(),
                               [&](const Half& stored) { return stored.index > half.index; });
  by_position_.emplace(half.position, Place{txn->key, half.index});
  half_bytes_ += half.bytes;
  delayed_ += half.items.size();
  txn->halves.insert(at, std::move(half));
  touch(txn->key);
  return outcome;
}

HalfOutcome TxnTable::join(const Birth& birth, ShardId participant) {
  HalfOutcome outcome;
  Transaction* const txn = open_or_begin(birth, outcome);
  if (txn == nullptr) {
    return outcome;
  }
  const auto at = std::lower_bound(txn->participants.begin(), txn->participants.end(), participant);
  if (at == txn->participants.end() || *at != participant) {
    txn->participants.insert(at, participant);
  }
  touch(txn->key);
  return outcome;
}

EndOutcome TxnTable::end(const End& end) {
  EndOutcome outcome;
  const TxnState wanted = end.commit ? TxnState::kCommitted : TxnState::kRolledBack;
  if (outcome.state = ended_state(end.key); outcome.state != TxnState::kNone) {
    outcome.error = outcome.state == wanted ? ErrorCode::kOk : ErrorCode::kConflict;
    if (outcome.state == wanted) {
      TIDEMARK_COVERAGE_MARK(txn_end_twice);
    } else {
      TIDEMARK_COVERAGE_MARK(txn_end_conflict);
    }
    return outcome;
  }
  const auto it = open_.find(end.key);
  if (it == open_.end() && end.commit && end.coordinator) {
    outcome.error = ErrorCode::kNotFound;
    return outcome;
  }
  outcome.participants = end.participants;
  if (it != open_.end()) {
    Transaction& txn = it->second;
    outcome.halves_stored = static_cast<uint32_t>(txn.halves.size());
    size_t delayed = 0;
    for (const Half& half : txn.halves) {
      delayed += half.items.size();
    }
    const bool as_named = end.halves == UINT32_MAX || end.halves == txn.halves.size();
    const bool own = txn.coordinator == shard_;
    if (own != end.coordinator || (end.commit && (!as_named || delayed > end.delayed))) {
      const bool same = own == end.coordinator && as_named;
      if (!same) {
        TIDEMARK_COVERAGE_MARK(txn_commit_of_other_parts);
      }
      outcome.error = same ? ErrorCode::kUnavailable : ErrorCode::kConflict;
      outcome.state = txn.state;
      return outcome;
    }
    outcome.participants.insert(outcome.participants.end(), txn.participants.begin(),
                                txn.participants.end());
    outcome.halves = std::move(txn.halves);
    for (const Half& half : outcome.halves) {
      by_position_.erase(half.position);
      half_bytes_ -= half.bytes;
    }
    delayed_ -= delayed;
    remove(it);
  }
  outcome.done = true;
  outcome.state = wanted;
  outcomes_.set(end.key, wanted, end.now_ms);
  std::sort(outcome.participants.begin(), outcome.participants.end());
  outcome.participants.erase(std::unique(outcome.participants.begin(), outcome.participants.end()),
                             outcome.participants.end());
  std::erase(outcome.participants, shard_);
  if (end.coordinator && !outcome.participants.empty()) {
    unconfirmed_[end.key] = {end.commit, outcome.participants};
    dirty_unconfirmed_.insert(end.key);
  }
  return outcome;
}

// Requires: its parts are out of the other tables.
void TxnTable::remove(std::map<TxnKey, Transaction>::iterator it) {
  Transaction& txn = it->second;
  const TxnKey key = txn.key;
  delist(txn);
  if (--txn.group->users == 0) {
    groups_.erase(groups_.find(txn.group->name));
  }
  open_.erase(it);
  // One that came and went between two checkpoints is nothing to the store.
  if (stored_.contains(key)) {
    touch(key);
  } else {
    dirty_.erase(key);
  }
}

void TxnTable::confirm(const TxnKey& key, ShardId participant) {
  const auto it = unconfirmed_.find(key);
  if (it == unconfirmed_.end()) {
    return;
  }
  std::erase(it->second.shards, participant);
  dirty_unconfirmed_.insert(key);
  if (it->second.shards.empty()) {
    unconfirmed_.erase(it);
  }
}

Transaction* TxnTable::find_own(const TxnKey& key) {
  const auto it = open_.find(key);
  return it == open_.end() || it->second.coordinator != shard_ ? nullptr : &it->second;
}

void TxnTable::checked(const TxnKey& key, int64_t now_ms) {
  Transaction* const txn = find_own(key);
  if (txn == nullptr || txn->state != TxnState::kOpen) {
    return;
  }
  delist(*txn);
  TIDEMARK_COVERAGE_MARK(txn_checked_back);
  ++txn->checks;
  txn->next_check_ms = now_ms + check_pause_ms(txn->timeout_ms, txn->checks);
  enlist(*txn);
  touch(key);
}

bool TxnTable::park(const TxnKey& key) {
  Transaction* const txn = find_own(key);
  if (txn == nullptr || txn->state != TxnState::kOpen) {
    return false;
  }
  TIDEMARK_COVERAGE_MARK(txn_parked);
  delist(*txn);
  txn->state = TxnState::kParked;
  enlist(*txn);
  touch(key);
  return true;
}

ErrorCode TxnTable::recheck(const TxnKey& key, int64_t now_ms) {
  Transaction* const txn = find_own(key);
  TIDEMARK_COVERAGE_MARK(txn_rechecked);
  if (txn == nullptr) {
    return ended_state(key) == TxnState::kNone ? ErrorCode::kNotFound : ErrorCode::kConflict;
  }
  delist(*txn);
  txn->state = TxnState::kOpen;
  txn->checks = 0;
  txn->pending_since_ms = now_ms;
  txn->next_check_ms = now_ms;
  enlist(*txn);
  touch(key);
  return ErrorCode::kOk;
}

void TxnTable::relocate(const TxnKey& key, uint32_t index, LogPosition position) {
  const auto it = open_.find(key);
  if (it == open_.end()) {
    return;
  }
  for (Half& half : it->second.halves) {
    if (half.index == index) {
      by_position_.erase(half.position);
      half.position = position;
      by_position_.emplace(position, Place{key, index});
      touch(key);
    }
  }
}

// --- looking

const Transaction* TxnTable::find(const TxnKey& key) const {
  const auto it = open_.find(key);
  return it == open_.end() ? nullptr : &it->second;
}

TxnState TxnTable::ended_state(const TxnKey& key) const {
  if (const auto it = unconfirmed_.find(key); it != unconfirmed_.end()) {
    return it->second.commit ? TxnState::kCommitted : TxnState::kRolledBack;
  }
  return outcomes_.get(key);
}

TxnState TxnTable::state(const TxnKey& key) const {
  const Transaction* const txn = find(key);
  return txn != nullptr ? txn->state : ended_state(key);
}

const Group* TxnTable::find_group(std::string_view name) const {
  const auto it = groups_.find(name);
  return it == groups_.end() ? nullptr : it->second.get();
}

LogPosition TxnTable::low_position() const {
  return by_position_.empty() ? LogPosition{std::numeric_limits<uint64_t>::max()}
                              : by_position_.begin()->first;
}

int64_t TxnTable::check_pause_ms(uint32_t timeout_ms, uint32_t checks) {
  const int64_t longest = std::max<int64_t>(limits::kTxnCheckBackoffMsMax, timeout_ms);
  int64_t pause = timeout_ms;
  for (uint32_t i = 0; i < checks && pause < longest; ++i) {
    pause += pause / 2;
  }
  return std::min(pause, longest);
}

}  // namespace tidemark::txn
