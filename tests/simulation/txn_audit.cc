#include "tests/simulation/txn_audit.h"

#include <utility>

namespace tidemark::sim {

namespace fbs = protocol::fbs;

namespace {

constexpr int64_t kRetryUs = 100'000;

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
  TxnSight::Numbers& numbers = sight_.shards.at(tasks_.front().shard.value());
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
  const std::set<TxnName> known = sight_.parked();
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
  for (const TxnName& name : sight_.parked()) {
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

}  // namespace tidemark::sim
