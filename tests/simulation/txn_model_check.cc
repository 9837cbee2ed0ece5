// What must hold of a whole transaction: as the broker shows it, as readers see it, and in the end.
#include <algorithm>

#include "tests/simulation/scheduler.h"
#include "tests/simulation/txn_model.h"

namespace tidemark::sim {

// --- what the broker shows

void TxnModel::shown(ShardId shard, const Shown& shown, int64_t sent_ns, int64_t left_ns) {
  const uint64_t number = find(shown.name);
  require(number != 0,
          "I18: shows a transaction that nobody began: " + std::to_string(shown.name.producer) +
              "-" + std::to_string(shown.name.number));
  Txn& txn = txns_.at(number - 1);
  const int64_t log_ms = delays_.log_ms(shard, left_ns);
  const std::string what = "shard " + std::to_string(shard.value()) + " shows at log time " +
                           std::to_string(log_ms) + " state " +
                           std::to_string(static_cast<int>(shown.state)) + " of " + describe(txn);
  if (shown.state == State::kCommitted || shown.state == State::kRolledBack) {
    return learn(txn, shown.state, left_ns, what);
  }
  require(shown.state == State::kOpen || shown.state == State::kParked,
          "I18: shows what it does not know: " + what);
  require(shown.group == txn.group && shown.reference == txn.reference &&
              shown.timeout_ms == txn.timeout_ms,
          "I18: not as it was begun: " + what);
  require((txn.born_low_ms <= shown.born_ms || !txn.one_shard()) &&
              shown.born_ms <= log_ms + DelayModel::kLeadMs,
          "I18: born at " + std::to_string(shown.born_ms) + ", not from " +
              std::to_string(txn.born_low_ms) + " on: " + what);
  if (shown.state == State::kParked) {
    require(log_ms - shown.born_ms >= ages_.pending_ms,
            "I18: parked too early, born at " + std::to_string(shown.born_ms) + ": " + what);
  }
  if (shard == txn.name.shard) {
    note_arrival(txn, left_ns);  // only the coordinator can begin it anew
  }
  if (txn.forgotten || is_old(txn, left_ns)) {
    return;
  }
  require(shard != txn.name.shard || !txn.ended() || txn.outcome_ns > sent_ns,
          "I17: shown after its end: " + what);
  check_halves(shard, txn, shown, sent_ns, what);
}

void TxnModel::check_halves(ShardId shard, const Txn& txn, const Shown& shown, int64_t sent_ns,
                            const std::string& what) {
  std::set<uint32_t> indexes;
  for (const ShownHalf& half : shown.halves) {
    const std::string which = "part " + std::to_string(half.index) + ", " + what;
    require(half.index < txn.parts.size() && indexes.insert(half.index).second,
            "I17: no such part, or twice: " + which);
    const Part& part = txn.parts[half.index];
    require(part.arrivals > 0 && part.shard == shard, "I17: not a part of this shard: " + which);
    require(part.partition == half.partition && part.uids.size() == half.messages &&
                half.delayed == !part.delays_ms.empty(),
            "I17: not as it was sent: " + which);
  }
  for (uint32_t i = 0; i < txn.parts.size() && !txn.end_arrived(); ++i) {
    const Part& part = txn.parts[i];
    require(!part.stored(sent_ns) || part.gone || part.shard != shard || indexes.contains(i),
            "I17: acknowledged, not there: part " + std::to_string(i) + ", " + what);
  }
}

void TxnModel::not_known(ShardId shard, uint64_t number, int64_t sent_ns, int64_t left_ns) {
  const Txn& txn = at(number);
  if (txn.forgotten || is_old(txn, left_ns) || txn.any_gone()) {
    return;
  }
  const std::string what =
      "shard " + std::to_string(shard.value()) + " does not know " + describe(txn);
  require(shard != txn.name.shard || !txn.ended() || txn.outcome_ns > sent_ns,
          "I17: its end is not known: " + what);
  const bool stored = std::any_of(txn.parts.begin(), txn.parts.end(), [&](const Part& part) {
    return part.stored(sent_ns) && part.shard == shard;
  });
  require(!stored, "I18: it is lost: " + what);
}

void TxnModel::check_states(ShardId shard, int64_t ns, const Recovered& recovered) const {
  for (const Txn& txn : txns_) {
    if (!txn.forgotten && !txn.any_gone()) {
      check_state(shard, txn, ns, recovered);
    }
  }
}

void TxnModel::check_state(ShardId shard, const Txn& txn, int64_t ns,
                           const Recovered& recovered) const {
  const State state = recovered.state(txn.name);
  const auto what = [&] {
    return "shard " + std::to_string(shard.value()) + " recovered state " +
           std::to_string(static_cast<int>(state)) + " of " + describe(txn);
  };
  require(state != State::kCommitted || txn.commit_ns != INT64_MAX,
          [&] { return "I16, I17: committed, but nobody asked for that: " + what(); });
  require(state != State::kRolledBack || txn.rollback_ns != INT64_MAX,
          [&] { return "I17: rolled back, but nobody asked for that: " + what(); });
  const bool ended = state == State::kCommitted || state == State::kRolledBack;
  if (txn.ended() && !is_old(txn, ns)) {
    require(ended || shard != txn.name.shard, [&] { return "I17: its end is lost: " + what(); });
    require(!ended || state == txn.outcome,
            [&] { return "I17: it ended the other way: " + what(); });
  }
  for (uint32_t i = 0; i < txn.parts.size() && !txn.end_arrived(); ++i) {
    const Part& part = txn.parts[i];
    require(!part.stored() || part.shard != shard || recovered.has_part(txn.name, i),
            [&] { return "I17: part " + std::to_string(i) + " is lost: " + what(); });
  }
}

TxnModel::Range TxnModel::open(ShardId shard, int64_t sent_ns, int64_t left_ns) const {
  Range range;
  for (const Txn& txn : txns_) {
    const bool arrived = txn.born_low_ms != INT64_MAX;
    if (txn.name.shard != shard || !arrived) {
      continue;
    }
    const bool old = txn.forgotten || is_old(txn, left_ns);
    if (txn.ended() && txn.outcome_ns <= sent_ns && !old) {
      continue;
    }
    ++range.high;
    range.low += txn.stored_here(sent_ns) > 0 && !txn.end_arrived() && !txn.any_gone() ? 1 : 0;
  }
  return range;
}

// --- messages

void TxnModel::seen(uint64_t uid, Offset offset, int64_t left_ns) {
  const auto it = by_uid_.find(uid);
  if (it == by_uid_.end()) {
    return;
  }
  Txn& txn = txns_.at(it->second.txn - 1);
  const Part& part = txn.parts.at(it->second.part);
  const auto what = [&] {
    return "message " + std::to_string(uid) + " of part " + std::to_string(it->second.part) +
           " seen at offset " + std::to_string(offset.value()) + ", " + describe(txn);
  };
  require(txn.commit_ns < left_ns,
          [&] { return "I16: seen before its commit was invoked: " + what(); });
  if (txn.forgotten || part.gone) {
    return;
  }
  require(part.arrivals > 0, [&] { return "I17: seen, but never arrived: " + what(); });
  require(txn.outcome != State::kRolledBack,
          [&] { return "I17: rolled back, but seen: " + what(); });
  if (txn.outcome != State::kCommitted) {
    learn(txn, State::kCommitted, left_ns, what());
  }
}

void TxnModel::drained(PartitionId partition, bool retention, const std::vector<uint64_t>& uids) {
  for (Txn& txn : txns_) {
    for (Part& part : txn.parts) {
      part.partly = part.partly || (retention && part.partition == partition);
    }
  }
  for (const uint64_t uid : uids) {
    if (const auto it = by_uid_.find(uid); it != by_uid_.end()) {
      txns_.at(it->second.txn - 1).parts.at(it->second.part).drained.insert(uid);
    }
  }
}

// --- the end

std::vector<uint64_t> TxnModel::unknown(int64_t ns) const {
  std::vector<uint64_t> numbers;
  for (uint64_t number = 1; number <= txns_.size(); ++number) {
    const Txn& txn = at(number);
    if (!txn.ended() && !txn.forgotten && txn.any_stored() && !is_old(txn, ns)) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

TxnModel::Range TxnModel::parts_of(const std::set<TxnName>& names) const {
  Range range;
  for (const TxnName& name : names) {
    const Txn& txn = at(find(name));
    for (const Part& part : txn.parts) {
      range.low += part.stored() && !part.gone && !txn.forgotten ? 1 : 0;
      range.high += part.arrivals > 0 ? 1 : 0;
    }
  }
  return range;
}

void TxnModel::check_end(const std::set<TxnName>& parked) const {
  for (const Txn& txn : txns_) {
    if (!txn.forgotten) {
      check_agrees(txn, parked.contains(txn.name));
    }
  }
}

// All or none.
void TxnModel::check_agrees(const Txn& txn, bool parked) const {
  const bool hidden = parked || txn.outcome == State::kRolledBack;
  const bool shows =
      !hidden && (txn.outcome == State::kCommitted ||
                  std::any_of(txn.parts.begin(), txn.parts.end(),
                              [](const Part& part) { return !part.drained.empty(); }));
  for (size_t i = 0; i < txn.parts.size(); ++i) {
    const Part& part = txn.parts[i];
    if (part.gone) {
      continue;
    }
    const auto what = [&] {
      return "part " + std::to_string(i) + " in topic " +
             std::to_string(part.partition.topic.value()) + " partition " +
             std::to_string(part.partition.index.value()) + " shard " +
             std::to_string(part.shard.value()) + ", " + std::to_string(part.drained.size()) +
             " of " + std::to_string(part.uids.size()) + " messages there" +
             (part.stored() ? "" : ", not acknowledged") + ", of " + describe(txn);
    };
    const bool all = part.drained.size() == part.uids.size();
    require(shows || part.drained.empty(),
            [&] { return "I17: there, but it was not committed: " + what(); });
    require(all || part.drained.empty() || part.partly,
            [&] { return "I17: a part in parts: " + what(); });
    require(all || !shows || !part.stored() || part.partly,
            [&] { return "I17: committed, but not there: " + what(); });
  }
}

}  // namespace tidemark::sim
