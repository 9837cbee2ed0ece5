#include "tests/simulation/txn_operator.h"

#include <utility>

namespace tidemark::sim {

namespace fbs = protocol::fbs;

namespace {

constexpr size_t kShownMax = 32;

}  // namespace

TxnModel::Shown read_shown(const fbs::TxnInfo& info) {
  require(info.txn() != nullptr, "a transaction without a name");
  TxnModel::Shown shown;
  shown.name = from_wire(*info.txn());
  shown.state = static_cast<TxnModel::State>(info.state());
  shown.group = std::string(protocol::view(info.group()));
  shown.reference = std::string(protocol::view(info.reference()));
  shown.born_ms = info.born_ms();
  shown.timeout_ms = info.timeout_ms();
  shown.checks = info.checks();
  shown.next_check_ms = info.next_check_ms();
  for (uint32_t i = 0; info.halves() != nullptr && i < info.halves()->size(); ++i) {
    const fbs::TxnHalf& half = *info.halves()->Get(i);
    shown.halves.push_back({PartitionId{TopicId{half.topic()}, PartitionIndex{half.partition()}},
                            half.index(), half.messages(), half.delayed()});
  }
  for (uint32_t i = 0; info.shards() != nullptr && i < info.shards()->size(); ++i) {
    shown.shards.push_back(ShardId{info.shards()->Get(i)});
  }
  return shown;
}

// --- TxnReader

bool TxnReader::send(ShardId shard, Kind kind, const protocol::Frame& frame) {
  connection_ = connection_to(shard);
  if (connection_ == 0) {
    return false;
  }
  kind_ = kind;
  shard_ = shard;
  correlation_ = frame.header.correlation;
  sent_ns_ = scheduler_.now_ns();
  network_.send(connection_, frame);
  return true;
}

bool TxnReader::ask_list(ShardId shard, const testing::TxnListInput& wanted) {
  wanted_ = wanted;
  return send(shard, Kind::kList, testing::txn_list_request(wanted, next_correlation()));
}

bool TxnReader::ask_show(ShardId shard, uint64_t txn) {
  txn_ = txn;
  return send(shard, Kind::kShow,
              testing::txn_show_request(to_wire(model_.txns().at(txn).name), next_correlation()));
}

bool TxnReader::ask_recheck(uint64_t txn) {
  txn_ = txn;
  const fbs::TxnId id = to_wire(model_.txns().at(txn).name);
  return send(model_.txns().at(txn).name.shard, Kind::kRecheck,
              testing::txn_recheck_request({&id, 1}, next_correlation()));
}

bool TxnReader::ask_stats(ShardId shard) {
  return send(shard, Kind::kStats, testing::txn_stats_request(next_correlation()));
}

void TxnReader::on_arrival(uint64_t connection, uint64_t correlation) {
  if (connection == connection_ && correlation == correlation_ && kind_ == Kind::kRecheck) {
    model_.txns().recheck_arrived(txn_, scheduler_.now_ns());
  }
  TxnEnder::on_arrival(connection, correlation);
}

void TxnReader::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (take_end_reply(frame)) {
    return;
  }
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  const Status error = testing::error_of(frame);
  if (error.code() == ErrorCode::kNotFound && kind_ == Kind::kShow) {
    model_.txns().not_known(shard_, txn_, sent_ns_, network_.reply_left_ns());
    return on_answered();
  }
  if (!error.ok()) {
    require(is_transient(error.code()), "a question was refused: " + error.to_string());
    return on_failed();
  }
  switch (kind_) {
    case Kind::kList:
      read_list(frame);
      break;
    case Kind::kShow:
      read_show(frame);
      break;
    case Kind::kRecheck:
      read_recheck(frame);
      break;
    case Kind::kStats:
      read_stats(frame);
      break;
  }
  on_answered();
}

void TxnReader::read_list(const protocol::Frame& frame) {
  const auto& reply = testing::read_reply<fbs::TxnListReply>(frame);
  std::vector<TxnModel::Shown> items;
  std::pair<uint64_t, uint64_t> last{wanted_.after.producer(), wanted_.after.number()};
  for (uint32_t i = 0; reply.items() != nullptr && i < reply.items()->size(); ++i) {
    items.push_back(read_shown(*reply.items()->Get(i)));
    const TxnModel::Shown& item = items.back();
    model_.txns().shown(shard_, item, sent_ns_, network_.reply_left_ns());
    const std::pair<uint64_t, uint64_t> key{item.name.producer, item.name.number};
    require(key > last, "I18: a list out of order");
    last = key;
    require(item.name.shard == shard_, "I18: a list with transactions of another shard");
    const bool wanted = (wanted_.group.empty() || item.group == wanted_.group) &&
                        (wanted_.state == fbs::TxnState::kNone ||
                         item.state == static_cast<TxnModel::State>(wanted_.state));
    require(wanted, "I18: a list with what was not asked for");
  }
  require(items.size() <= wanted_.limit, "a list longer than was asked for");
  require(!reply.more() || reply.next() != nullptr, "a list that goes on nowhere");
  on_list(items, reply.more(), reply.next() == nullptr ? fbs::TxnId() : *reply.next());
}

void TxnReader::read_show(const protocol::Frame& frame) {
  const auto& reply = testing::read_reply<fbs::TxnShowReply>(frame);
  require(reply.info() != nullptr, "a transaction is not shown");
  const TxnModel::Shown shown = read_shown(*reply.info());
  require(shown.name == model_.txns().at(txn_).name, "another transaction is shown");
  model_.txns().shown(shard_, shown, sent_ns_, network_.reply_left_ns());
}

void TxnReader::read_recheck(const protocol::Frame& frame) {
  const auto* results = testing::read_reply<fbs::TxnResultReply>(frame).results();
  require(results != nullptr && results->size() == 1, "one transaction was to be rechecked");
  const fbs::TxnResult& result = *results->Get(0);
  model_.txns().recheck_answered(txn_, to_answer(protocol::to_status(result.error()), "a recheck"),
                                 static_cast<TxnModel::State>(result.state()), sent_ns_,
                                 network_.reply_left_ns());
}

void TxnReader::read_stats(const protocol::Frame& frame) {
  const auto& stats = testing::read_reply<fbs::TxnStatsReply>(frame);
  const int64_t log_ms = model_.delays().log_ms(shard_, network_.reply_left_ns());
  const std::string where =
      " on shard " + std::to_string(shard_.value()) + " at log time " + std::to_string(log_ms);
  require(stats.now_ms() == log_ms, "I12: log time is " + std::to_string(stats.now_ms()) + where);
  uint64_t open = 0;
  uint64_t parked = 0;
  for (uint32_t i = 0; stats.groups() != nullptr && i < stats.groups()->size(); ++i) {
    open += stats.groups()->Get(i)->open();
    parked += stats.groups()->Get(i)->parked();
  }
  require(open == stats.open() && parked == stats.parked(),
          "I18: the groups have " + std::to_string(open) + " open and " + std::to_string(parked) +
              " parked, in all are " + std::to_string(stats.open()) + " and " +
              std::to_string(stats.parked()) + where);
  const TxnModel::Range range = model_.txns().open(shard_, sent_ns_, network_.reply_left_ns());
  require(range.low <= open + parked && open + parked <= range.high,
          "I18: " + std::to_string(open + parked) + " have not ended, not " +
              std::to_string(range.low) + " to " + std::to_string(range.high) + where);
  on_stats(stats);
}

void TxnReader::on_lost(uint64_t connection) {
  lose_ends(connection);
  if (connection == connection_) {
    connection_ = 0;
    on_failed();
  }
}

// --- TxnOperator

void TxnOperator::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(10'000, 400'000)), [this] {
    if (!finishing_) {
      work();
      schedule();
    }
  });
}

void TxnOperator::on_list(const std::vector<TxnModel::Shown>& items, bool /*more*/,
                          const fbs::TxnId& /*next*/) {
  for (const TxnModel::Shown& item : items) {
    shown_.push_back(model_.txns().find(item.name));
    if (shown_.size() > kShownMax) {
      shown_.pop_front();
    }
  }
}

uint64_t TxnOperator::pick_txn() {
  if (!shown_.empty() && random_.chance(2, 3)) {
    return shown_[random_.below(shown_.size())];
  }
  return model_.txns().count() == 0 ? 0 : random_.between(1, model_.txns().count());
}

void TxnOperator::work() {
  const ShardId shard{static_cast<uint16_t>(random_.below(options_.shards))};
  if (random_.chance(1, 4)) {
    interfere();
  }
  if (asking()) {
    return;
  }
  switch (random_.below(4)) {
    case 0:
      ask_stats(shard);
      return;
    case 1:
      if (const uint64_t txn = pick_txn(); txn != 0) {
        ask_show(random_.chance(1, 2) ? shard : model_.txns().at(txn).name.shard, txn);
      }
      return;
    default:
      break;
  }
  testing::TxnListInput wanted;
  wanted.limit = random_.chance(1, 2) ? 100 : 2;
  if (random_.chance(1, 4)) {
    wanted.group = "group-0";
  }
  if (random_.chance(1, 4)) {
    wanted.state = random_.chance(1, 2) ? fbs::TxnState::kOpen : fbs::TxnState::kParked;
  }
  ask_list(shard, wanted);
}

void TxnOperator::interfere() {
  const uint64_t txn = pick_txn();
  if (txn == 0) {
    return;
  }
  if (random_.chance(1, 2)) {
    if (!asking()) {
      ask_recheck(txn);
    }
    return;
  }
  send_ends({{txn, random_.chance(1, 2)}}, TxnModel::By::kOperator);
}

}  // namespace tidemark::sim
