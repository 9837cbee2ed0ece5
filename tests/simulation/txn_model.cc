#include "tests/simulation/txn_model.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

std::string word_of(TxnModel::State state) {
  static constexpr std::array<const char*, 5> kWords = {"none", "open", "parked", "committed",
                                                        "rolled back"};
  return kWords.at(static_cast<size_t>(state));
}

}  // namespace

// --- transactions

bool TxnModel::Txn::any_gone() const {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.gone; });
}

uint32_t TxnModel::Txn::stored_here(int64_t ns) const {
  return static_cast<uint32_t>(std::count_if(parts.begin(), parts.end(), [&](const Part& part) {
    return part.stored(ns) && part.shard == name.shard;
  }));
}

uint32_t TxnModel::Txn::arrived_here() const {
  return static_cast<uint32_t>(std::count_if(parts.begin(), parts.end(), [this](const Part& part) {
    return part.arrivals > 0 && part.shard == name.shard;
  }));
}

bool TxnModel::Txn::any_stored() const {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.stored(); });
}

bool TxnModel::Txn::one_shard() const {
  return std::all_of(parts.begin(), parts.end(),
                     [this](const Part& part) { return part.shard == name.shard; });
}

std::string text_of(const TxnName& name) {
  return "transaction " + std::to_string(name.producer) + "-" + std::to_string(name.epoch()) + "-" +
         std::to_string(name.number & 0xFFFFFFFFFFFF) + "-" + std::to_string(name.shard.value());
}

std::string TxnModel::describe(const Txn& txn) {
  return text_of(txn.name) + " (" + std::to_string(txn.parts.size()) + " parts, " +
         std::to_string(txn.stored_here()) + " stored at its coordinator, outcome " +
         word_of(txn.outcome) + (txn.forgotten ? ", forgotten" : "") + ")";
}

uint64_t TxnModel::begin(const TxnName& name, const std::string& group,
                         const std::string& reference, uint32_t timeout_ms) {
  Txn txn;
  txn.name = name;
  txn.group = group;
  txn.reference = reference;
  txn.timeout_ms = timeout_ms;
  txns_.push_back(std::move(txn));
  require(by_name_.emplace(std::pair(name.producer, name.number), txns_.size()).second,
          "I19: two processes have the same producer id and epoch: " + describe(txns_.back()));
  return txns_.size();
}

void TxnModel::add_part(uint64_t number, Part part) {
  Txn& txn = txns_.at(number - 1);
  const auto index = static_cast<uint32_t>(txn.parts.size());
  for (const uint64_t uid : part.uids) {
    by_uid_[uid] = {number, index};
    if (!part.delays_ms.empty()) {
      DelayModel::Sent sent;
      sent.partition = part.partition;
      sent.shard = part.shard;
      delays_.sent(uid, sent);
    }
  }
  txn.parts.push_back(std::move(part));
}

uint64_t TxnModel::find(const TxnName& name) const {
  const auto it = by_name_.find({name.producer, name.number});
  return it == by_name_.end() || at(it->second).name.shard != name.shard ? 0 : it->second;
}

bool TxnModel::decide(uint64_t number, bool commit) {
  Txn& txn = txns_.at(number - 1);
  if (txn.local == Local::kUndecided) {
    txn.local = commit ? Local::kCommitted : Local::kRolledBack;
  }
  return txn.local == Local::kCommitted;
}

bool TxnModel::is_old(const Txn& txn, int64_t ns) const {
  return std::any_of(txn.ended_low_ms.begin(), txn.ended_low_ms.end(), [&](const auto& entry) {
    return delays_.log_ms(entry.first, ns) - entry.second >= ages_.outcome_ms;
  });
}

void TxnModel::note_arrival(Txn& txn, int64_t ns) {
  if (!txn.forgotten && is_old(txn, ns)) {
    txn.forgotten = true;
    ++counters_.forgotten;
  }
}

void TxnModel::forget(TopicId topic) {
  for (Txn& txn : txns_) {
    for (Part& part : txn.parts) {
      part.gone = part.gone || part.partition.topic == topic;
    }
  }
}

// --- parts

void TxnModel::part_arrived(uint64_t number, uint32_t index, int64_t ns) {
  Txn& txn = txns_.at(number - 1);
  Part& part = txn.parts.at(index);
  note_arrival(txn, ns);
  ++part.arrivals;
  txn.born_low_ms = std::min(txn.born_low_ms, delays_.log_ms(part.shard, ns));
}

void TxnModel::part_answered(uint64_t number, uint32_t index, const PartAnswer& answer) {
  Txn& txn = txns_.at(number - 1);
  Part& part = txn.parts.at(index);
  const std::string what = "part " + std::to_string(index) + " of " + describe(txn);
  switch (answer.answer) {
    case Answer::kOk:
      break;
    case Answer::kConflict:
      ++counters_.conflicts;
      return require(txn.end_arrived(), "I17: refused, but nobody asked for its end: " + what);
    case Answer::kFenced:
      ++counters_.fenced;
      return fences_.check_fenced(txn.name.producer, txn.name.epoch(), what);
    case Answer::kUnknownPartition:
      return require(!part.stored() || part.gone, "I17: its partition is gone: " + what);
    case Answer::kNotFound:
    case Answer::kUnsure:
      return;
  }
  fences_.check_taken(txn.name.producer, txn.name.epoch(), answer.arrived_ns, what);
  require(part.arrivals > 0, "I17: acknowledged, but never arrived: " + what);
  const bool ended_before = txn.ended() && txn.outcome_ns <= answer.arrived_ns;
  require(!ended_before || part.shard != txn.name.shard || txn.forgotten,
          "I17: taken after the end: " + what);
  require(answer.duplicate || !part.stored() || txn.forgotten, "I11, I17: stored again: " + what);
  require(!answer.duplicate || part.arrivals > 1 || txn.forgotten,
          "I11, I17: said to be there already, but came once: " + what);
  counters_.parts_stored += part.stored() ? 0 : 1;
  part.stored_ns = std::min(part.stored_ns, answer.left_ns);
}

// --- ends

std::string TxnModel::describe(const End& end) const {
  static constexpr std::array<const char*, 3> kWords = {"producer", "check-back", "operator"};
  return std::string(end.commit ? "commit" : "rollback") + " by " +
         kWords.at(static_cast<size_t>(end.by)) +
         (end.halves == kAnyHalves ? "" : " with " + std::to_string(end.halves) + " halves") +
         " of " + describe(at(end.txn));
}

uint64_t TxnModel::end_sent(uint64_t number, bool commit, By by, uint32_t halves) {
  const Txn& txn = at(number);
  ends_.push_back({number, commit, by, halves, txn.stored_here(), txn.ended(), INT64_MAX});
  return ends_.size() - 1;
}

std::vector<uint64_t> TxnModel::end_arrived(uint64_t number, int64_t ns) {
  End& end = ends_.at(number);
  Txn& txn = txns_.at(end.txn - 1);
  end.arrived_ns = ns;
  note_arrival(txn, ns);
  note_end(txn, txn.name.shard, ns);
  for (const Part& part : txn.parts) {
    note_end(txn, part.shard, ns);
  }
  if (!end.commit) {
    txn.rollback_ns = std::min(txn.rollback_ns, ns);
    return {};
  }
  const bool first = txn.commit_ns == INT64_MAX;
  txn.commit_ns = std::min(txn.commit_ns, ns);
  ++txn.commits;
  std::vector<uint64_t> uids;
  for (const Part& part : txn.parts) {
    count_delays(part, ns);
    if (first && !part.gone) {
      uids.insert(uids.end(), part.uids.begin(), part.uids.end());
    }
  }
  return uids;
}

void TxnModel::count_delays(const Part& part, int64_t ns) {
  for (size_t i = 0; i < part.delays_ms.size() && !part.gone; ++i) {
    delays_.arrived(part.uids[i], delays_.due_after(part.shard, ns, part.delays_ms[i]));
  }
}

void TxnModel::note_end(Txn& txn, ShardId shard, int64_t ns) {
  const int64_t log_ms = delays_.log_ms(shard, ns);
  const auto [low, first] = txn.ended_low_ms.emplace(shard, log_ms);
  low->second = std::min(low->second, log_ms);
}

void TxnModel::broker_started(ShardId shard, int64_t ns) {
  for (Txn& txn : txns_) {
    if (txn.ended_low_ms.contains(shard)) {
      note_end(txn, shard, ns);
    }
    for (const Part& part : txn.parts) {
      if (txn.commit_ns != INT64_MAX && part.shard == shard) {
        count_delays(part, ns);
      }
    }
  }
}

void TxnModel::end_answered(uint64_t number, Answer answer, State state, int64_t left_ns) {
  const End& end = ends_.at(number);
  Txn& txn = txns_.at(end.txn - 1);
  const std::string what = describe(end) + ", answered with state " + word_of(state);
  switch (answer) {
    case Answer::kOk:
      return end_done(end, txn, state, left_ns, what);
    case Answer::kConflict:
      ++counters_.conflicts;
      return end_refused(end, txn, state, left_ns, what);
    case Answer::kNotFound:
      require(end.commit, "I17: a rollback needs nothing to be there: " + what);
      return require(txn.forgotten || is_old(txn, left_ns) || txn.any_gone() ||
                         (end.stored == 0 && !end.was_ended),
                     "I17, I18: lost: " + what);
    case Answer::kFenced:
      ++counters_.fenced;
      require(end.by == By::kProducer, "I19: only producers are fenced: " + what);
      return fences_.check_fenced(txn.name.producer, txn.name.epoch(), what);
    case Answer::kUnknownPartition:
    case Answer::kUnsure:
      return;
  }
}

void TxnModel::end_done(const End& end, Txn& txn, State state, int64_t left_ns,
                        const std::string& what) {
  require(end.arrived_ns != INT64_MAX, "I17: answered, but never arrived: " + what);
  if (end.by == By::kProducer) {
    fences_.check_taken(txn.name.producer, txn.name.epoch(), end.arrived_ns, what);
  }
  require(state == (end.commit ? State::kCommitted : State::kRolledBack),
          "I17: done, but its state is another: " + what);
  const bool decided_now = txn.commits == 1 && !end.was_ended && !txn.any_gone() && !txn.forgotten;
  if (end.commit && decided_now && end.halves != kAnyHalves) {
    require(end.stored <= end.halves && end.halves <= txn.arrived_here(),
            "I17: committed with another number of halves than there are: " + what);
  }
  if (!txn.ended()) {
    counters_.by_check += end.by == By::kCheck ? 1 : 0;
    counters_.by_operator += end.by == By::kOperator ? 1 : 0;
  }
  learn(txn, state, left_ns, what);
}

void TxnModel::end_refused(const End& end, Txn& txn, State state, int64_t left_ns,
                           const std::string& what) {
  if (state == State::kCommitted || state == State::kRolledBack) {
    require((state == State::kCommitted) != end.commit,
            "I17: refused, but it ended as asked: " + what);
    return learn(txn, state, left_ns, what);
  }
  const bool exact = end.stored == end.halves && txn.arrived_here() == end.halves;
  require(end.commit && end.halves != kAnyHalves && (!exact || txn.any_gone() || txn.forgotten),
          "I17: refused, but nothing is wrong with it: " + what);
}

void TxnModel::learn(Txn& txn, State state, int64_t left_ns, const std::string& what) {
  const bool commit = state == State::kCommitted;
  require((commit ? txn.commit_ns : txn.rollback_ns) < INT64_MAX,
          std::string(commit ? "I16, I17: committed" : "I17: rolled back") +
              ", but nobody asked for that: " + what);
  if (txn.ended()) {
    return require(txn.outcome == state || txn.forgotten || is_old(txn, left_ns),
                   "I17: ended the other way before: " + what);
  }
  txn.outcome = state;
  txn.outcome_ns = left_ns;
  ++(commit ? counters_.committed : counters_.rolled_back);
}

// --- check-backs

int64_t TxnModel::pause_ms(uint32_t timeout_ms, uint32_t checks) {
  constexpr int64_t kPauseMsMax = 300'000;
  int64_t pause = timeout_ms;
  const int64_t longest = std::max(kPauseMsMax, pause);
  for (uint32_t i = 0; i < checks && pause < longest; ++i) {
    pause = pause * 3 / 2;
  }
  return std::min(pause, longest);
}

uint64_t TxnModel::asked(const std::string& group, ShardId shard, const Check& check,
                         int64_t sent_ns, int64_t left_ns) {
  const uint64_t number = find(check.name);
  require(number != 0, "I18: asked about a transaction that nobody began: " +
                           std::to_string(check.name.producer) + "-" +
                           std::to_string(check.name.number));
  Txn& txn = txns_.at(number - 1);
  const int64_t log_ms = delays_.log_ms(shard, left_ns);
  const std::string what = "check " + std::to_string(check.checks) + " at log time " +
                           std::to_string(log_ms) + " of " + describe(txn) + ", born at " +
                           std::to_string(check.born_ms);
  require(txn.born_low_ms != INT64_MAX, "I18: none of its parts arrived: " + what);
  require(txn.name.shard == shard, "I18: asked by a shard that does not coordinate it: " + what);
  require(txn.group == group && txn.reference == check.reference,
          "I18: not as it was begun, or another group is asked: " + what);
  ++counters_.checks;
  if (txn.forgotten || is_old(txn, left_ns)) {
    return number;
  }
  require(!txn.ended() || txn.outcome_ns > sent_ns, "I17, I18: asked about after its end: " + what);
  // Log times of two shards may be far apart.
  require(check.checks >= 1 && (check.born_ms >= txn.born_low_ms || !txn.one_shard()),
          "I18: asked about before it began, at " + std::to_string(txn.born_low_ms) + ": " + what);
  if (txn.rechecked) {
    return number;
  }
  int64_t due_ms = check.born_ms;
  for (uint32_t i = 0; i < check.checks; ++i) {
    due_ms += pause_ms(txn.timeout_ms, i) - 1;  // each may be rounded down
  }
  require(log_ms >= due_ms, "I18: asked too early, due at " + std::to_string(due_ms) + ": " + what);
  return number;
}

void TxnModel::recheck_arrived(uint64_t number, int64_t ns) {
  Txn& txn = txns_.at(number - 1);
  note_arrival(txn, ns);
  txn.rechecked = true;
}

void TxnModel::recheck_answered(uint64_t number, Answer answer, State state, int64_t sent_ns,
                                int64_t left_ns) {
  Txn& txn = txns_.at(number - 1);
  const std::string what =
      "recheck of " + describe(txn) + ", answered with state " + word_of(state);
  const bool old = txn.forgotten || is_old(txn, left_ns);
  if (answer == Answer::kOk) {
    ++counters_.rechecks;
    require(state == State::kOpen, "I18: rechecked, but not open: " + what);
    require(old || !txn.ended() || txn.outcome_ns > sent_ns,
            "I17: rechecked after its end: " + what);
  } else if (answer == Answer::kConflict) {
    require(state == State::kCommitted || state == State::kRolledBack,
            "I18: a recheck was refused, but it has not ended: " + what);
    learn(txn, state, left_ns, what);
  } else if (answer == Answer::kNotFound) {
    not_known(txn.name.shard, number, sent_ns, left_ns);
  }
}

}  // namespace tidemark::sim
