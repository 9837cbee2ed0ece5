#include "tests/simulation/txn_audit.h"

#include <utility>

namespace tidemark::sim {

namespace fbs = protocol::fbs;
using State = TxnModel::State;

namespace {

constexpr int64_t kRetryUs = 100'000;
// An end may be on its way when its transaction is asked about again.
constexpr uint32_t kTimesMax = 5;
// Until a producer waits, once it has got an answer.
constexpr int64_t kPollGapMs = 2'000;

std::string text_of(const TxnName& name) {
  return "transaction " + std::to_string(name.producer) + "-" + std::to_string(name.epoch()) + "-" +
         std::to_string(name.number & 0xFFFFFFFFFFFF) + "-" + std::to_string(name.shard.value());
}

}  // namespace

// --- questions

void TxnAuditor::start(std::vector<Task> tasks) {
  tasks_.assign(tasks.begin(), tasks.end());
  page_ = {};
  more_ = false;
  go_on();
}

void TxnAuditor::look() {
  sight_ = {};
  sight_.shards.resize(options_.shards);
  std::vector<Task> tasks;
  for (uint16_t shard = 0; shard < options_.shards; ++shard) {
    tasks.push_back({Task::Kind::kStats, ShardId{shard}, 0});
    tasks.push_back({Task::Kind::kList, ShardId{shard}, 0});
  }
  start(std::move(tasks));
}

void TxnAuditor::go_on() {
  if (tasks_.empty()) {
    return;
  }
  const Task task = tasks_.front();
  bool sent = false;
  switch (task.kind) {
    case Task::Kind::kStats:
      sent = ask_stats(task.shard);
      break;
    case Task::Kind::kList:
      page_.limit = static_cast<uint32_t>(random_.between(1, 20));
      sent = ask_list(task.shard, page_);
      break;
    case Task::Kind::kShow:
      sent = ask_show(model_.txns().at(task.txn).name.shard, task.txn);
      break;
    case Task::Kind::kRecheck:
      sent = ask_recheck(task.txn);
      break;
  }
  if (!sent) {
    on_failed();
  }
}

void TxnAuditor::on_failed() {
  scheduler_.after_us(kRetryUs, [this] { go_on(); });
}

void TxnAuditor::on_answered() {
  if (!more_) {
    tasks_.pop_front();
  }
  go_on();
}

void TxnAuditor::on_stats(const fbs::TxnStatsReply& stats) {
  Numbers& numbers = sight_.shards.at(tasks_.front().shard.value());
  numbers.now_ms = stats.now_ms();
  numbers.open = stats.open();
  numbers.parked = stats.parked();
  numbers.halves = stats.halves();
  numbers.unconfirmed = stats.unconfirmed();
  numbers.begun = stats.begun();
  numbers.ended = stats.committed() + stats.rolled_back();
  numbers.checks = stats.checks();
}

void TxnAuditor::on_list(const std::vector<TxnModel::Shown>& items, bool more,
                         const fbs::TxnId& next) {
  for (const TxnModel::Shown& item : items) {
    sight_.items[item.name] = item;
  }
  more_ = more;
  page_.after = more ? next : fbs::TxnId();
}

void TxnAuditor::ask_unknown() {
  const std::set<TxnName> known = parked();
  std::vector<Task> tasks;
  for (const uint64_t txn : model_.txns().unknown(scheduler_.now_ns())) {
    if (!known.contains(model_.txns().at(txn).name)) {
      tasks.push_back({Task::Kind::kShow, {}, txn});
    }
  }
  start(std::move(tasks));
}

void TxnAuditor::treat_parked() {
  std::vector<Task> tasks;
  for (const TxnName& name : parked()) {
    if (!treated_.insert(name).second) {
      continue;
    }
    const uint64_t txn = model_.txns().find(name);
    switch (random_.below(4)) {
      case 0:
        tasks.push_back({Task::Kind::kRecheck, {}, txn});
        break;
      case 1:
      case 2:
        send_ends({{txn, random_.chance(1, 2)}}, TxnModel::By::kOperator);
        break;
      default:
        break;
    }
  }
  start(std::move(tasks));
}

// --- what must hold

void TxnAuditor::remember() { before_ = sight_; }

std::set<TxnName> TxnAuditor::parked() const {
  std::set<TxnName> names;
  for (const auto& [name, item] : sight_.items) {
    if (item.state == State::kParked) {
      names.insert(name);
    }
  }
  return names;
}

void TxnAuditor::check_nothing_counted() const {
  for (size_t i = 0; i < sight_.shards.size(); ++i) {
    require(sight_.shards[i].checks == before_.shards[i].checks,
            "I18: checks without a producer on shard " + std::to_string(i) + ": " +
                std::to_string(before_.shards[i].checks) + ", then " +
                std::to_string(sight_.shards[i].checks));
  }
  for (const auto& [name, item] : before_.items) {
    const auto it = sight_.items.find(name);
    require(it != sight_.items.end(), "I18: ended by nobody: " + text_of(name));
    require(it->second.checks == item.checks,
            "I18: counted without a producer: " + text_of(name) + ", " +
                std::to_string(item.checks) + " checks, then " + std::to_string(it->second.checks));
  }
}

bool TxnAuditor::settled() const {
  const std::set<TxnName> left = parked();
  uint64_t halves = 0;
  for (const Numbers& numbers : sight_.shards) {
    if (numbers.open > 0 || numbers.unconfirmed > 0) {
      return false;
    }
    halves += numbers.halves;
  }
  return left.size() == sight_.items.size() && halves <= model_.txns().parts_of(left).high;
}

void TxnAuditor::check_in_time() {
  for (const auto& [name, item] : sight_.items) {
    if (item.state != State::kOpen) {
      continue;
    }
    const int64_t now_ms = sight_.shards.at(name.shard.value()).now_ms;
    const std::string what = text_of(name) + " with " + std::to_string(item.checks) +
                             " checks, born at " + std::to_string(item.born_ms) +
                             ", next check at " + std::to_string(item.next_check_ms) +
                             ", log time " + std::to_string(now_ms);
    const int64_t latest_ms = now_ms + TxnModel::pause_ms(item.timeout_ms, item.checks) +
                              kPollGapMs + options_.lateness_ms_max();
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

void TxnAuditor::check_conserved() const {
  const std::set<TxnName> left = parked();
  for (size_t i = 0; i < sight_.shards.size(); ++i) {
    const Numbers& now = sight_.shards[i];
    const Numbers& before = before_.shards[i];
    const std::string what =
        " on shard " + std::to_string(i) + ": " + std::to_string(now.begun - before.begun) +
        " begun and " + std::to_string(before.open + before.parked) + " there before, " +
        std::to_string(now.ended - before.ended) + " ended, " + std::to_string(now.open) +
        " open, " + std::to_string(now.parked) + " parked";
    require(before.open + before.parked + now.begun - before.begun ==
                now.ended - before.ended + now.open + now.parked,
            "I18: not conserved" + what);
  }
  uint64_t halves = 0;
  uint64_t parked = 0;
  for (const Numbers& numbers : sight_.shards) {
    halves += numbers.halves;
    parked += numbers.parked;
  }
  require(parked == left.size(), "I18: " + std::to_string(parked) + " are parked, listed are " +
                                     std::to_string(left.size()));
  const TxnModel::Range range = model_.txns().parts_of(left);
  require(range.low <= halves && halves <= range.high,
          "I18: " + std::to_string(halves) + " parts wait, not " + std::to_string(range.low) +
              " to " + std::to_string(range.high));
  for (const uint64_t txn : model_.txns().unknown(scheduler_.now_ns())) {
    const TxnName& name = model_.txns().at(txn).name;
    require(left.contains(name), "I18: neither ended nor there: " + text_of(name));
  }
}

void TxnAuditor::check_left(const std::set<TxnName>& expected) const {
  const std::set<TxnName> left = parked();
  for (const TxnName& name : expected) {
    require(left.contains(name), "I18: was parked, is not any more: " + text_of(name));
  }
  for (const auto& [name, item] : sight_.items) {
    require(expected.contains(name), "I18: had ended, is there again: " + text_of(name));
  }
}

}  // namespace tidemark::sim
