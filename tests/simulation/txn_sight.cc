#include "tests/simulation/txn_sight.h"

#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

using State = TxnModel::State;

namespace {

// An end may be on its way when its transaction is asked about again.
constexpr uint32_t kTimesMax = 5;

}  // namespace

std::set<TxnName> TxnSight::parked() const {
  std::set<TxnName> names;
  for (const auto& [name, item] : items) {
    if (item.state == State::kParked) {
      names.insert(name);
    }
  }
  return names;
}

void check_nothing_counted(const TxnSight& before, const TxnSight& now) {
  for (size_t i = 0; i < now.shards.size(); ++i) {
    require(now.shards[i].checks == before.shards[i].checks,
            "I18: checks without a producer on shard " + std::to_string(i) + ": " +
                std::to_string(before.shards[i].checks) + ", then " +
                std::to_string(now.shards[i].checks));
  }
  for (const auto& [name, item] : before.items) {
    const auto it = now.items.find(name);
    require(it != now.items.end(), "I18: ended by nobody: " + text_of(name));
    require(it->second.checks == item.checks,
            "I18: counted without a producer: " + text_of(name) + ", " +
                std::to_string(item.checks) + " checks, then " + std::to_string(it->second.checks));
  }
}

bool TxnSight::settled(const TxnModel& model) const {
  const std::set<TxnName> left = parked();
  uint64_t halves = 0;
  for (const Numbers& numbers : shards) {
    if (numbers.open > 0 || numbers.unconfirmed > 0) {
      return false;
    }
    halves += numbers.halves;
  }
  return left.size() == items.size() && halves <= model.parts_of(left).high;
}

void TxnDeadlines::check(const TxnSight& now) {
  for (const auto& [name, item] : now.items) {
    if (item.state != State::kOpen) {
      continue;
    }
    const int64_t now_ms = now.shards.at(name.shard.value()).now_ms;
    const std::string what = text_of(name) + " with " + std::to_string(item.checks) +
                             " checks, born at " + std::to_string(item.born_ms) +
                             ", next check at " + std::to_string(item.next_check_ms) +
                             ", log time " + std::to_string(now_ms);
    const int64_t latest_ms = now_ms + TxnModel::pause_ms(item.timeout_ms, item.checks) + slack_ms_;
    const auto [entry, first] = deadlines_.try_emplace(name);
    Deadline& deadline = entry->second;
    if (first || item.checks != deadline.checks) {
      deadline.times += first ? 0 : 1;
      deadline.checks = item.checks;
      deadline.log_ms = latest_ms;
    }
    require(item.next_check_ms <= latest_ms, "I18: to be asked about too late: " + what);
    require(now_ms <= deadline.log_ms, "I18: nobody was asked about " + what);
    require(deadline.times <= kTimesMax, "I18: it does not end: " + what);
  }
}

void check_conserved(const TxnSight& before, const TxnSight& now, const TxnModel& model,
                     int64_t now_ns) {
  const std::set<TxnName> left = now.parked();
  for (size_t i = 0; i < now.shards.size(); ++i) {
    const TxnSight::Numbers& after = now.shards[i];
    const TxnSight::Numbers& first = before.shards[i];
    const std::string what =
        " on shard " + std::to_string(i) + ": " + std::to_string(after.begun - first.begun) +
        " begun and " + std::to_string(first.open + first.parked) + " there before, " +
        std::to_string(after.ended - first.ended) + " ended, " + std::to_string(after.open) +
        " open, " + std::to_string(after.parked) + " parked";
    require(first.open + first.parked + after.begun - first.begun ==
                after.ended - first.ended + after.open + after.parked,
            "I18: not conserved" + what);
  }
  uint64_t halves = 0;
  uint64_t parked = 0;
  for (const TxnSight::Numbers& numbers : now.shards) {
    halves += numbers.halves;
    parked += numbers.parked;
  }
  require(parked == left.size(), "I18: " + std::to_string(parked) + " are parked, listed are " +
                                     std::to_string(left.size()));
  const TxnModel::Range range = model.parts_of(left);
  require(range.low <= halves && halves <= range.high,
          "I18: " + std::to_string(halves) + " parts wait, not " + std::to_string(range.low) +
              " to " + std::to_string(range.high));
  for (const uint64_t txn : model.unknown(now_ns)) {
    const TxnName& name = model.at(txn).name;
    require(left.contains(name), "I18: neither ended nor there: " + text_of(name));
  }
}

void check_left(const TxnSight& now, const std::set<TxnName>& expected) {
  const std::set<TxnName> left = now.parked();
  for (const TxnName& name : expected) {
    require(left.contains(name), "I18: was parked, is not any more: " + text_of(name));
  }
  for (const auto& [name, item] : now.items) {
    require(expected.contains(name), "I18: had ended, is there again: " + text_of(name));
  }
}

}  // namespace tidemark::sim
