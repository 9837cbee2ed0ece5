#include "tests/simulation/txn_client.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "log/format/schedule_set.h"

namespace tidemark::sim {

namespace fbs = protocol::fbs;
using Answer = TxnModel::Answer;
using By = TxnModel::By;

namespace {

constexpr int64_t kRetryNs = 100'000'000;
constexpr size_t kWorksMax = 4;
constexpr size_t kOverMax = 32;
constexpr size_t kPartitionsMax = 4;
constexpr int64_t kDelayMsMax = 3'000;

}  // namespace

fbs::TxnId to_wire(const TxnName& name) { return {name.producer, name.number, name.shard.value()}; }

TxnName from_wire(const fbs::TxnId& id) {
  return {id.producer(), id.number(), ShardId{id.shard()}};
}

Answer to_answer(const Status& status, const std::string& what) {
  static constexpr std::array<std::pair<ErrorCode, Answer>, 5> kAnswers = {{
      {ErrorCode::kOk, Answer::kOk},
      {ErrorCode::kConflict, Answer::kConflict},
      {ErrorCode::kNotFound, Answer::kNotFound},
      {ErrorCode::kFenced, Answer::kFenced},
      {ErrorCode::kUnknownPartition, Answer::kUnknownPartition},
  }};
  for (const auto& [code, answer] : kAnswers) {
    if (code == status.code()) {
      return answer;
    }
  }
  require(is_transient(status.code()), what + " was refused: " + status.to_string());
  return Answer::kUnsure;
}

// --- TxnEnder

bool TxnEnder::send_ends(const std::vector<Wanted>& wanted, By by, uint64_t work) {
  const uint64_t connection = connection_to(model_.txns().at(wanted.at(0).txn).name.shard);
  if (connection == 0) {
    return false;
  }
  const int times = random_.chance(1, 20) ? 2 : 1;  // the network repeats it
  for (int i = 0; i < times; ++i) {
    std::vector<testing::EndInput> items;
    TxnEndRequest request;
    request.connection = connection;
    request.work = work;
    for (const Wanted& one : wanted) {
      request.ends.push_back(model_.txns().end_sent(one.txn, one.commit, by, one.halves));
      items.push_back(
          {to_wire(model_.txns().at(one.txn).name), one.commit, one.halves, one.shards});
    }
    const uint64_t correlation = next_correlation();
    end_requests_[correlation] = std::move(request);
    network_.send(connection,
                  testing::txn_end_request(items, static_cast<fbs::TxnEndBy>(by), correlation));
  }
  return true;
}

void TxnEnder::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  const auto it = end_requests_.find(correlation);
  if (it == end_requests_.end()) {
    return;
  }
  for (const uint64_t end : it->second.ends) {
    for (const uint64_t uid : model_.txns().end_arrived(end, scheduler_.now_ns())) {
      model_.hidden_until_now(uid);
    }
  }
}

bool TxnEnder::take_end_reply(const protocol::Frame& frame) {
  const auto it = end_requests_.find(frame.header.correlation);
  if (it == end_requests_.end()) {
    return false;
  }
  const TxnEndRequest request = std::move(it->second);
  end_requests_.erase(it);
  const Status error = testing::error_of(frame);
  const flatbuffers::Vector<flatbuffers::Offset<fbs::TxnResult>>* results = nullptr;
  if (error.ok()) {
    results = testing::read_reply<fbs::TxnResultReply>(frame).results();
    require(results != nullptr && results->size() == request.ends.size(),
            "a reply with another number of results than its request");
  }
  for (size_t i = 0; i < request.ends.size(); ++i) {
    const fbs::TxnResult* result =
        results == nullptr ? nullptr : results->Get(static_cast<uint32_t>(i));
    const Status status = result == nullptr ? error : protocol::to_status(result->error());
    const Answer answer = to_answer(status, "an end");
    const auto state =
        result == nullptr ? TxnModel::State::kNone : static_cast<TxnModel::State>(result->state());
    model_.txns().end_answered(request.ends[i], answer, state, network_.reply_left_ns());
    on_end(request.work, answer);
  }
  return true;
}

std::vector<uint64_t> TxnEnder::lose_ends(uint64_t connection) {
  std::vector<uint64_t> works;
  for (const auto& [correlation, request] : end_requests_) {
    if (request.connection == connection) {
      works.push_back(request.work);
    }
  }
  std::erase_if(end_requests_,
                [&](const auto& entry) { return entry.second.connection == connection; });
  return works;
}

// --- TxnClient

std::string TxnClient::describe() const {
  std::string text = "transaction client " + identity_.name() + ", producer " +
                     std::to_string(producer_) + " epoch " + std::to_string(epoch_);
  for (const auto& [txn, work] : works_) {
    text += ", transaction " + std::to_string(txn) + " in stage " +
            std::to_string(static_cast<int>(work.stage));
  }
  return text;
}

void TxnClient::die() {
  dead_ = true;
  while (!works_.empty()) {
    give_up(works_.begin()->first);
  }
  part_requests_.clear();
  poll_requests_.clear();
  hang_up();
}

void TxnClient::schedule(int64_t us) {
  scheduler_.after_us(us, [this] {
    if (!dead_) {
      work();
      schedule(
          static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.txn_interval_us_max))) +
          1);
    }
  });
}

void TxnClient::work() {
  if (!silent_) {
    poll();
  }
  if (producer_ == 0) {
    return ask_for_id();
  }
  if (!finishing_) {
    if (works_.size() < kWorksMax && random_.chance(1, fenced_ ? 20 : 2)) {
      begin();
    }
    if (random_.chance(1, 10)) {
      make_mischief();
    }
    if (plain_.correlation == 0 && random_.chance(1, 4)) {
      send_plain();
    }
  }
  std::vector<uint64_t> txns;
  for (const auto& [txn, work] : works_) {
    txns.push_back(txn);
  }
  for (const uint64_t txn : txns) {
    if (!progress(txn, works_.at(txn))) {
      give_up(txn);
    }
  }
}

void TxnClient::ask_for_id() {
  if (asking_ || finishing_) {
    return;
  }
  asking_on_ = connection_to(ShardId{0});
  if (asking_on_ != 0) {
    asking_ = true;
    asking_correlation_ = next_correlation();
    network_.send(asking_on_, testing::named_producer_request(identity_.group, identity_.instance,
                                                              asking_correlation_));
  }
}

void TxnClient::send_plain() {
  PartitionId partition;
  if (!directory_.pick(random_, partition) || plain_over_.contains(partition)) {
    return;
  }
  const uint64_t connection = connection_to(directory_.shard_of(partition));
  if (connection == 0) {
    return;
  }
  const uint64_t sequence = plain_sent_[partition]++;
  // The order is that of this process and nobody else's.
  const uint64_t order = (uint64_t{1} << 62) | producer_ << 16 | epoch_;
  const uint64_t uid = model_.sent(partition, order, sequence, 1);
  const std::string value = model_.value_of(uid);
  const testing::ProduceInput part{partition, testing::build_batch({&value, 1},
                                                                   {static_cast<int64_t>(producer_),
                                                                    static_cast<int16_t>(epoch_),
                                                                    static_cast<int32_t>(sequence)},
                                                                   scheduler_.clock().wall().ms)};
  plain_ = {connection, next_correlation(), partition, uid, INT64_MAX};
  network_.send(connection, testing::produce_request({&part, 1}, plain_.correlation));
}

void TxnClient::on_plain_reply(const protocol::Frame& frame) {
  const PlainRequest plain = std::exchange(plain_, {});
  Status status = testing::error_of(frame);
  Offset base;
  if (status.ok()) {
    const testing::ProducePartResult result = testing::read_produce_reply(frame).at(0);
    status = result.status;
    base = result.base;
  }
  const std::string what = "message " + std::to_string(plain.uid) + " of producer " +
                           std::to_string(producer_) + " epoch " + std::to_string(epoch_);
  const Answer answer = to_answer(status, what);
  require(answer != Answer::kConflict && answer != Answer::kNotFound,
          what + " was refused: " + status.to_string());
  if (answer == Answer::kOk) {
    model_.txns().fences().check_taken(producer_, epoch_, plain.arrived_ns, what);
    if (directory_.alive(plain.partition)) {
      model_.acknowledged(plain.uid, 1, base);
    }
    return;
  }
  plain_over_.insert(plain.partition);
  if (answer == Answer::kFenced) {
    model_.txns().fences().check_fenced(producer_, epoch_, what);
    fenced_ = true;
  }
}

void TxnClient::give_up(uint64_t txn) {
  works_.erase(txn);
  model_.txns().let_go(txn);
}

// --- a transaction

void TxnClient::begin() {
  PartitionId first;
  if (!directory_.pick(random_, first)) {
    return;
  }
  std::vector<PartitionId> partitions = {first};
  for (uint64_t i = random_.below(kPartitionsMax); i > 0; --i) {
    PartitionId more;
    if (directory_.pick(random_, more)) {
      partitions.push_back(more);
    }
  }
  const TxnName name{producer_, (uint64_t{epoch_} << 48) | ++begun_, directory_.shard_of(first)};
  const std::string reference =
      random_.chance(1, 10) ? "" : "order " + std::to_string(model_.txns().count());
  const auto timeout_ms = static_cast<uint32_t>(random_.between(100, options_.txn_timeout_ms_max));
  const uint64_t txn = model_.txns().begin(name, identity_.group, reference, timeout_ms);
  Work& work = works_[txn];
  work.one_by_one = random_.chance(1, 2);
  add_part(txn, work, first);
  const uint64_t parts = random_.below(partitions.size() * options_.txn_parts_max);
  for (uint64_t i = 0; i < parts; ++i) {
    add_part(txn, work, partitions[random_.below(partitions.size())]);
  }
}

void TxnClient::add_part(uint64_t txn, Work& work, PartitionId partition) {
  TxnModel::Part part;
  part.partition = partition;
  part.shard = directory_.shard_of(partition);
  Piece piece;
  piece.schedule = random_.chance(1, 4);
  const uint64_t count = random_.between(1, std::min(options_.batch_messages_max, 5u));
  std::vector<std::string> values;
  format::ScheduleBuilder schedule;
  uint64_t sequence = 0;
  for (const TxnModel::Part& before : model_.txns().at(txn).parts) {
    sequence += before.partition == partition ? before.uids.size() : 0;
  }
  for (uint64_t i = 0; i < count; ++i) {
    const auto pad = static_cast<uint32_t>(random_.below(options_.value_bytes_max));
    // No plain producer has such an id: the order is that of the transaction alone.
    const uint64_t uid = piece.schedule
                             ? model_.sent_delayed(partition, pad)
                             : model_.sent(partition, (uint64_t{1} << 63) | txn, sequence++, pad);
    part.uids.push_back(uid);
    values.push_back(model_.value_of(uid));
    if (piece.schedule) {
      format::ScheduleItem item;
      item.due_kind = format::DueKind::kAfter;
      item.due_ms = static_cast<int64_t>(random_.below(kDelayMsMax));
      part.delays_ms.push_back(item.due_ms);
      format::RecordInput record;
      record.timestamp_ms = scheduler_.clock().wall().ms;
      record.value = as_bytes(values.back());
      require(schedule.append(item, record).ok(), "a schedule set could not be built");
    }
  }
  piece.bytes = piece.schedule ? SharedBytes(schedule.finish(partition, {}))
                               : testing::build_batch(values, {}, scheduler_.clock().wall().ms);
  model_.txns().add_part(txn, std::move(part));
  work.pieces.push_back(std::move(piece));
}

bool TxnClient::progress(uint64_t txn, Work& work) {
  if (!finishing_ && random_.chance(1, 60)) {
    return false;
  }
  switch (work.stage) {
    case Stage::kSending: {
      const bool stored = std::all_of(work.pieces.begin(), work.pieces.end(),
                                      [](const Piece& one) { return one.step == Step::kStored; });
      if (stored) {
        work.stage = Stage::kPrepared;
      } else if (random_.chance(1, 60)) {
        decide(txn, work, false);
      } else {
        send_parts(txn, work);
      }
      return true;
    }
    case Stage::kPrepared:
      if (random_.chance(1, 3)) {
        return true;  // the local transaction takes its time
      }
      decide(txn, work, random_.chance(3, 4));
      return finishing_ || !random_.chance(1, 12);
    case Stage::kEnding:
      send_end(txn, work);
      return true;
  }
  return true;
}

// The database may have been told before that it was not done.
void TxnClient::decide(uint64_t txn, Work& work, bool commit) {
  work.commit = model_.txns().decide(txn, commit);
  work.stage = Stage::kEnding;
}

void TxnClient::send_parts(uint64_t txn, Work& work) {
  if (scheduler_.now_ns() < work.not_before_ns) {
    return;
  }
  const std::vector<TxnModel::Part>& parts = model_.txns().at(txn).parts;
  std::map<ShardId, std::vector<uint32_t>> ready;  // by shard
  for (uint32_t i = 0; i < work.pieces.size(); ++i) {
    if (work.pieces[i].step == Step::kWaiting) {
      ready[parts[i].shard].push_back(i);
    }
    if (work.pieces[i].step != Step::kStored && work.one_by_one) {
      break;
    }
  }
  for (const auto& [shard, indexes] : ready) {
    send_some(txn, work, shard, indexes);
  }
}

void TxnClient::send_some(uint64_t txn, Work& work, ShardId shard,
                          const std::vector<uint32_t>& indexes) {
  const uint64_t connection = connection_to(shard);
  if (connection == 0) {
    return;
  }
  const TxnModel::Txn& known = model_.txns().at(txn);
  std::vector<testing::HalfInput> parts;
  for (const uint32_t index : indexes) {
    Piece& piece = work.pieces[index];
    piece.step = Step::kInFlight;
    parts.push_back({to_wire(known.name), known.parts[index].partition, index, piece.bytes,
                     piece.schedule, known.group, known.timeout_ms, known.reference});
  }
  const int times = random_.chance(1, 20) ? 2 : 1;  // the network repeats it
  for (int i = 0; i < times; ++i) {
    const uint64_t correlation = next_correlation();
    part_requests_[correlation] = {connection, txn, indexes, INT64_MAX};
    network_.send(connection, testing::half_request(parts, correlation));
  }
}

void TxnClient::send_end(uint64_t txn, Work& work) {
  if (work.ending || scheduler_.now_ns() < work.not_before_ns) {
    return;
  }
  const TxnModel::Txn& known = model_.txns().at(txn);
  Wanted wanted;
  wanted.txn = txn;
  wanted.commit = work.commit;
  std::set<uint16_t> shards;
  uint32_t halves = 0;
  for (size_t i = 0; i < known.parts.size(); ++i) {
    const bool here = known.parts[i].shard == known.name.shard;
    halves += here && work.pieces[i].step == Step::kStored ? 1 : 0;
    if (!here) {
      shards.insert(known.parts[i].shard.value());
    }
  }
  if (work.commit) {
    wanted.halves = halves;
  }
  wanted.shards.assign(shards.begin(), shards.end());
  work.ending = send_ends({wanted}, By::kProducer, txn);
}

void TxnClient::make_mischief() {
  if (!works_.empty() && random_.chance(1, 6)) {
    const uint64_t txn = works_.begin()->first;
    send_ends({{txn, true, static_cast<uint32_t>(random_.between(40, 60))}}, By::kProducer);
    return;
  }
  if (over_.empty()) {
    return;
  }
  const uint64_t txn = over_[random_.below(over_.size())];
  const bool commit = random_.chance(1, 2);
  send_ends({{txn, commit}}, static_cast<By>(random_.below(3)));
}

// --- check-backs

void TxnClient::poll() {
  std::set<ShardId> waiting;
  for (const auto& [correlation, request] : poll_requests_) {
    waiting.insert(request.shard);
  }
  for (uint16_t i = 0; i < options_.shards; ++i) {
    const ShardId shard{i};
    if (waiting.contains(shard) || (!finishing_ && random_.chance(1, 2))) {
      continue;
    }
    const uint64_t connection = connection_to(shard);
    if (connection == 0) {
      continue;
    }
    const uint64_t correlation = next_correlation();
    poll_requests_[correlation] = {connection, shard, scheduler_.now_ns()};
    network_.send(connection, testing::txn_poll_request(
                                  identity_.group, static_cast<uint32_t>(random_.below(kPollMsMax)),
                                  static_cast<uint32_t>(random_.between(1, 8)), correlation));
  }
}

bool TxnClient::look_up(uint64_t txn, bool& commit) {
  const TxnModel::Txn& known = model_.txns().at(txn);
  if (!finishing_ && random_.chance(1, 5)) {
    return false;  // the database does not answer
  }
  if (known.local == TxnModel::Local::kUndecided) {
    // Under way; or not there, and then it never will be.
    if (known.in_hands ? !random_.chance(1, 10) : !finishing_ && random_.chance(1, 2)) {
      return false;
    }
  }
  commit = model_.txns().decide(txn, false);
  return true;
}

void TxnClient::on_checks(const PollRequest& request, const fbs::TxnPollReply& reply) {
  std::vector<Wanted> answers;
  for (uint32_t i = 0; reply.checks() != nullptr && i < reply.checks()->size(); ++i) {
    const fbs::TxnCheck& check = *reply.checks()->Get(i);
    require(check.txn() != nullptr, "a check that names no transaction");
    const uint64_t txn = model_.txns().asked(
        identity_.group, request.shard,
        {from_wire(*check.txn()), std::string(protocol::view(check.reference())), check.born_ms(),
         check.checks()},
        request.sent_ns, network_.reply_left_ns());
    Wanted answer;
    answer.txn = txn;
    if (look_up(txn, answer.commit)) {
      answers.push_back(answer);
    }
  }
  if (!answers.empty()) {
    send_ends(answers, By::kCheck);
  }
}

// --- replies

void TxnClient::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (dead_) {
    return;
  }
  const uint64_t correlation = frame.header.correlation;
  if (asking_ && correlation == asking_correlation_) {
    return on_init_reply(frame);
  }
  if (plain_.correlation != 0 && correlation == plain_.correlation) {
    return on_plain_reply(frame);
  }
  if (const auto part = part_requests_.find(correlation); part != part_requests_.end()) {
    const PartRequest request = std::move(part->second);
    part_requests_.erase(part);
    return on_part_reply(request, frame);
  }
  if (const auto poll = poll_requests_.find(correlation); poll != poll_requests_.end()) {
    const PollRequest request = poll->second;
    poll_requests_.erase(poll);
    const Status error = testing::error_of(frame);
    require(error.ok() || is_transient(error.code()), "a poll was refused: " + error.to_string());
    return error.ok() ? on_checks(request, testing::read_reply<fbs::TxnPollReply>(frame)) : void();
  }
  take_end_reply(frame);
}

void TxnClient::on_init_reply(const protocol::Frame& frame) {
  asking_ = false;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a producer got no id: " + error.to_string());
    return;
  }
  const auto& reply = testing::read_reply<fbs::InitProducerReply>(frame);
  producer_ = reply.producer_id();
  epoch_ = static_cast<uint16_t>(reply.epoch());
  model_.txns().fences().init_answered(identity_.name(), producer_, epoch_,
                                       network_.reply_left_ns());
}

void TxnClient::on_arrival(uint64_t connection, uint64_t correlation) {
  if (asking_ && correlation == asking_correlation_ && !identity_.instance.empty()) {
    model_.txns().fences().init_arrived(identity_.name());
  }
  if (plain_.correlation != 0 && correlation == plain_.correlation) {
    plain_.arrived_ns = scheduler_.now_ns();
  }
  if (const auto it = part_requests_.find(correlation); it != part_requests_.end()) {
    it->second.arrived_ns = scheduler_.now_ns();
    for (const uint32_t index : it->second.indexes) {
      model_.txns().part_arrived(it->second.txn, index, scheduler_.now_ns());
    }
  }
  TxnEnder::on_arrival(connection, correlation);
}

void TxnClient::on_part_reply(const PartRequest& request, const protocol::Frame& frame) {
  const Status error = testing::error_of(frame);
  std::vector<testing::ProducePartResult> results(request.indexes.size(),
                                                  {error, 0, Offset{}, 0, false});
  if (error.ok()) {
    results = testing::read_produce_reply(frame);
    require(results.size() == request.indexes.size(),
            "a produce reply with another number of parts than its request");
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const Answer answer = to_answer(results[i].status, "a part");
    model_.txns().part_answered(
        request.txn, request.indexes[i],
        {answer, results[i].duplicate, request.arrived_ns, network_.reply_left_ns()});
    on_part(request.txn, request.indexes[i], answer);
  }
}

void TxnClient::on_part(uint64_t txn, uint32_t index, Answer answer) {
  const auto it = works_.find(txn);
  if (it == works_.end()) {
    return;
  }
  Work& work = it->second;
  Piece& piece = work.pieces[index];
  const bool sending = work.stage == Stage::kSending;
  switch (answer) {
    case Answer::kOk:
      piece.step = Step::kStored;
      return;
    case Answer::kFenced:
      fenced_ = true;
      return give_up(txn);
    case Answer::kConflict:
      return sending ? decide(txn, work, false) : void();
    case Answer::kUnknownPartition:
      if (sending && !directory_.alive(model_.txns().at(txn).parts[index].partition)) {
        return decide(txn, work, false);
      }
      break;
    case Answer::kNotFound:
      throw WrongResult("a part was not found");
    case Answer::kUnsure:
      break;
  }
  if (piece.step == Step::kInFlight) {
    piece.step = Step::kWaiting;
    work.not_before_ns = scheduler_.now_ns() + kRetryNs;
  }
}

void TxnClient::on_end(uint64_t txn, Answer answer) {
  const auto it = works_.find(txn);
  if (it == works_.end()) {
    return;
  }
  it->second.ending = false;
  if (answer == Answer::kUnsure) {
    it->second.not_before_ns = scheduler_.now_ns() + kRetryNs;
    return;
  }
  fenced_ = fenced_ || answer == Answer::kFenced;
  if (answer != Answer::kFenced) {
    over_.push_back(txn);
    if (over_.size() > kOverMax) {
      over_.pop_front();
    }
  }
  give_up(txn);
}

void TxnClient::on_lost(uint64_t connection) {
  if (asking_on_ == connection) {
    asking_ = false;
  }
  if (plain_.correlation != 0 && plain_.connection == connection) {
    plain_over_.insert(std::exchange(plain_, {}).partition);
  }
  std::erase_if(poll_requests_,
                [&](const auto& entry) { return entry.second.connection == connection; });
  for (const uint64_t txn : lose_ends(connection)) {
    on_end(txn, Answer::kUnsure);
  }
  std::vector<PartRequest> lost;
  for (auto it = part_requests_.begin(); it != part_requests_.end();) {
    if (it->second.connection == connection) {
      lost.push_back(std::move(it->second));
      it = part_requests_.erase(it);
    } else {
      ++it;
    }
  }
  for (const PartRequest& request : lost) {
    for (const uint32_t index : request.indexes) {
      on_part(request.txn, index, Answer::kUnsure);
    }
  }
}

}  // namespace tidemark::sim
