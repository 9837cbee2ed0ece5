#include "tests/simulation/delay_client.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryNs = 100'000'000;
constexpr int64_t kGentleUs = 500'000;
constexpr int64_t kDayMs = 86'400'000;
constexpr int64_t kNeverMs = 20 * 365 * kDayMs;
constexpr size_t kWaitingSetsMax = 4;  // per partition
constexpr size_t kKnownMax = 64;
constexpr uint32_t kSeriesMax = 5;
constexpr uint64_t kKeys = 5;  // per partition

ErrorCode code_of(const protocol::fbs::DelayReceipt& receipt) {
  return error_from_wire(receipt.error());
}

// It may have been done although the answer is an error.
bool maybe_done(ErrorCode code) {
  return error_outcome_unknown(code) || code == ErrorCode::kIoError || code == ErrorCode::kReadOnly;
}

std::string place(PartitionId partition) {
  return ", topic " + std::to_string(partition.topic.value()) + " partition " +
         std::to_string(partition.index.value());
}

bool same(const protocol::fbs::DelayReceipt& a, const protocol::fbs::DelayReceipt& b) {
  return a.id() == b.id() && a.due_ms() == b.due_ms() && a.position() == b.position() &&
         a.tag() == b.tag() && a.error() == b.error();
}

std::string text_of(const protocol::fbs::DelayReceipt& receipt) {
  return "(id " + std::to_string(receipt.id()) + " due " + std::to_string(receipt.due_ms()) +
         " position " + std::to_string(receipt.position()) + " tag " +
         std::to_string(receipt.tag()) + " error " + std::to_string(receipt.error()) + ")";
}

}  // namespace

bool DelayClient::idle() const {
  return (series_.empty() || !finishing_) && requests_.empty() &&
         std::all_of(streams_.begin(), streams_.end(),
                     [](const auto& entry) { return entry.second.sets.empty(); });
}

std::string DelayClient::describe() const {
  std::string text = "delay client " + std::to_string(producer_) + ": " +
                     std::to_string(requests_.size()) + " requests, " +
                     std::to_string(series_.size()) + " series";
  for (const auto& [partition, stream] : streams_) {
    if (!stream.sets.empty()) {
      text += place(partition) + ": " + std::to_string(stream.sets.size()) +
              " sets from sequence " + std::to_string(stream.sets.front().sequence);
    }
  }
  return text;
}

void DelayClient::schedule(int64_t us) {
  scheduler_.after_us(us, [this] {
    work();
    schedule(
        (gentle_ && !finishing_ ? kGentleUs : 0) +
        static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.delay_interval_us_max))) +
        1);
  });
}

void DelayClient::work() {
  if (producer_ == 0) {
    return ask_for_id();
  }
  if (!finishing_) {
    make_set();
    if (random_.chance(1, 2)) {
      make_change();
    }
    if (options_.connection_reset_ms != 0 && random_.chance(1, 1'000)) {
      return be_born_again();
    }
  } else {
    cancel_series();
  }
  for (auto& [partition, stream] : streams_) {
    send_stream(partition, stream);
  }
}

void DelayClient::ask_for_id() {
  if (asking_ || finishing_) {
    return;
  }
  asking_on_ = connection_to(ShardId{0});
  if (asking_on_ != 0) {
    asking_ = true;
    network_.send(asking_on_, testing::init_producer_request(next_correlation()));
  }
}

// Another process takes over: it knows no handles and uses other keys.
void DelayClient::be_born_again() {
  producer_ = 0;
  ++births_;
  streams_.clear();
  slots_.clear();
  known_.clear();
  series_.clear();
}

// --- sets

DelayClient::When DelayClient::random_when() {
  const int64_t wall_ms = scheduler_.clock().wall().ms;
  const auto soon_ms =
      static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.delay_ms_max)));
  switch (random_.below(10)) {
    case 0:
      return {format::DueKind::kAfter, 0};
    case 1:
      return {format::DueKind::kAt, wall_ms - static_cast<int64_t>(random_.below(100'000))};
    case 2:
    case 3:
      return {format::DueKind::kAt, wall_ms + soon_ms};
    case 4:
      return {format::DueKind::kAfter,
              static_cast<int64_t>(random_.below(static_cast<uint64_t>(30 * kDayMs)))};
    case 5:
      if (random_.chance(1, 4)) {
        return {format::DueKind::kAt, wall_ms + kNeverMs};
      }
      break;
    default:
      break;
  }
  return {format::DueKind::kAfter, soon_ms};
}

format::ScheduleItem DelayClient::random_item(PartitionId partition, const Set& set, Item& item) {
  DelayModel::Sent sent;
  sent.partition = partition;
  sent.shard = directory_.shard_of(partition);
  item.when = random_when();
  format::ScheduleItem out;
  out.due_kind = item.when.kind;
  out.due_ms = item.when.ms;
  if (series_made_ < kSeriesMax && random_.chance(1, 20)) {
    ++series_made_;
    out.recurrence = format::RecurrenceKind::kEvery;
    out.every_ms = sent.every_ms = static_cast<int64_t>(random_.between(1'000, 5'000));
  }
  const std::string key =
      "key-" + std::to_string(producer_) + "-" + std::to_string(random_.below(kKeys));
  Slot& slot = slots_[{partition, key}];
  const bool in_set = std::any_of(set.items.begin(), set.items.end(),
                                  [&](const Item& other) { return other.key == key; });
  if (slot.busy == 0 && !in_set && random_.chance(1, 4)) {
    item.key = key;
    ++slot.busy;
    sent.keyed = true;
    sent.replace = out.replace = random_.chance(1, 2);
    sent.previous = slot.current;
  }
  item.uid = model_.sent_delayed(partition,
                                 static_cast<uint32_t>(random_.below(options_.value_bytes_max)));
  model_.delays().sent(item.uid, sent);
  return out;
}

void DelayClient::make_set() {
  PartitionId partition;
  if (!directory_.pick(random_, partition)) {
    return;
  }
  Stream& stream = streams_[partition];
  if (stream.sets.size() >= kWaitingSetsMax) {
    return;
  }
  Set set;
  set.sequence = stream.next_sequence;
  format::ScheduleBuilder builder;
  const uint64_t count = random_.between(
      1, gentle_ ? std::min(2u, options_.delay_items_max) : options_.delay_items_max);
  for (uint64_t i = 0; i < count; ++i) {
    Item item;
    format::ScheduleItem wanted = random_item(partition, set, item);
    wanted.key = item.key;
    const std::string value = model_.value_of(item.uid);
    format::RecordInput record;
    record.timestamp_ms = scheduler_.clock().wall().ms;
    record.value = as_bytes(value);
    const Status added = builder.append(wanted, record);
    require(added.ok(), "a schedule set could not be built: " + added.to_string());
    set.items.push_back(std::move(item));
  }
  stream.next_sequence += count;
  set.bytes = SharedBytes(builder.finish(
      partition, {static_cast<int64_t>(producer_), 0, static_cast<int32_t>(set.sequence)}));
  stream.sets.push_back(std::move(set));
}

void DelayClient::send_stream(PartitionId partition, Stream& stream) {
  if (!directory_.alive(partition)) {
    stream.sets.clear();
    return;
  }
  const bool again = stream.last.has_value() && random_.chance(1, 30);
  const bool ready = !stream.sets.empty() && !stream.sets.front().in_flight &&
                     scheduler_.now_ns() >= stream.not_before_ns;
  if (!again && !ready) {
    return;
  }
  const uint64_t connection = connection_to(directory_.shard_of(partition));
  if (connection == 0) {
    return;
  }
  if (again && !finishing_) {
    send_set(connection, partition, *stream.last);
  }
  if (ready) {
    Set& set = stream.sets.front();
    set.in_flight = true;
    send_set(connection, partition, set);
    if (random_.chance(1, 20)) {
      send_set(connection, partition, set);  // the network repeats it
    }
  }
}

void DelayClient::send_set(uint64_t connection, PartitionId partition, const Set& set) {
  const uint64_t correlation = next_correlation();
  Request request;
  request.connection = connection;
  request.partition = partition;
  request.birth = births_;
  request.sequence = set.sequence;
  request.items = set.items;
  requests_[correlation] = std::move(request);
  network_.send(connection, schedule_request(partition, set.bytes, correlation));
}

void DelayClient::on_set_reply(const Request& request, const protocol::Frame& frame) {
  Stream& stream = streams_[request.partition];
  if (!directory_.alive(request.partition)) {
    return;
  }
  Status status = testing::error_of(frame);
  if (status.ok()) {
    status = testing::read_produce_reply(frame).at(0).status;
  }
  const bool waiting = !stream.sets.empty() && stream.sets.front().sequence == *request.sequence;
  if (!status.ok()) {
    return waiting ? on_set_refused(request.partition, stream, status) : void();
  }
  const Receipts receipts = read_receipts(frame);
  if (waiting) {
    return on_receipts(request.partition, stream, receipts);
  }
  if (!stream.last || stream.last->sequence != *request.sequence) {
    return;  // an answer older than the last one
  }
  for (size_t i = 0; i < stream.last_receipts.size(); ++i) {
    require(receipts.size() == stream.last_receipts.size() &&
                same(receipts[i], stream.last_receipts[i]),
            "I11: a repeated set has another receipt: item " + std::to_string(i) + " of " +
                std::to_string(receipts.size()) + " " +
                (i < receipts.size() ? text_of(receipts[i]) : "") + ", was " +
                text_of(stream.last_receipts[i]) + place(request.partition));
  }
}

void DelayClient::on_receipts(PartitionId partition, Stream& stream, const Receipts& receipts) {
  Set set = std::move(stream.sets.front());
  stream.sets.pop_front();
  stream.acknowledged_any = true;
  require(receipts.size() == set.items.size(),
          std::to_string(receipts.size()) + " receipts for a set of " +
              std::to_string(set.items.size()) + place(partition));
  for (size_t i = 0; i < set.items.size(); ++i) {
    on_taken(partition, set.items[i], receipts[i]);
  }
  stream.last_receipts = receipts;
  stream.last = std::move(set);
}

void DelayClient::on_taken(PartitionId partition, const Item& item,
                           const protocol::fbs::DelayReceipt& receipt) {
  DelayModel& model = model_.delays();
  Target target;
  target.uid = item.uid;
  target.partition = partition;
  target.key = item.key;
  Slot* slot = slot_of(target);
  if (slot != nullptr) {
    --slot->busy;
  }
  if (code_of(receipt) == ErrorCode::kAlreadyExists) {
    return model.key_taken(item.uid);
  }
  require(code_of(receipt) == ErrorCode::kOk,
          "an item was not taken: error " + std::to_string(receipt.error()));
  const int64_t log_ms = model.log_ms(directory_.shard_of(partition), network_.reply_left_ns());
  model.accepted(item.uid, receipt.id(), receipt.due_ms(), log_ms);
  if (slot != nullptr) {
    slot->current = item.uid;
  }
  target.handle = protocol::fbs::DelayHandle(receipt.id(), receipt.due_ms(), receipt.position(),
                                             partition.topic.value(), receipt.tag());
  remember(target);
  if (model.is_series(item.uid)) {
    if (random_.chance(1, 2)) {
      series_.push_back(target);
    }
  } else if (random_.chance(1, 4)) {
    change_at_due(target, receipt.due_ms());
  }
}

void DelayClient::on_set_refused(PartitionId partition, Stream& stream, const Status& status) {
  const std::string what = status.to_string() + ", sequence " +
                           std::to_string(stream.sets.front().sequence) + " of producer " +
                           std::to_string(producer_) + place(partition);
  if (status.code() == ErrorCode::kUnknownPartition) {
    require(!stream.acknowledged_any, "a partition is gone: " + what);
  } else {
    // Out of order, too: everything before it was acknowledged.
    require(is_transient(status.code()), "a valid set was refused: " + what);
  }
  stream.sets.front().in_flight = false;
  stream.not_before_ns = scheduler_.now_ns() + kRetryNs;
}

// --- changes

DelayClient::Slot* DelayClient::slot_of(const Target& target) {
  const auto it = target.key.empty() ? slots_.end() : slots_.find({target.partition, target.key});
  return it == slots_.end() ? nullptr : &it->second;
}

void DelayClient::remember(const Target& target) {
  known_.push_back(target);
  if (known_.size() > kKnownMax) {
    known_.erase(known_.begin() + static_cast<std::ptrdiff_t>(random_.below(known_.size())));
  }
}

bool DelayClient::may_change(const Target& target) {
  const Slot* slot = slot_of(target);
  return directory_.alive(target.partition) && (target.key.empty() || slot != nullptr) &&
         (slot == nullptr || slot->busy == 0);
}

// One to three messages of a shard, some of them by key.
void DelayClient::make_change() {
  if (known_.empty()) {
    return;
  }
  Request request;
  request.reschedule = random_.chance(1, 2);
  request.when = random_when();
  std::set<std::string> keys;
  for (uint64_t i = random_.between(1, 3); i > 0; --i) {
    Target target = known_[random_.below(known_.size())];
    const bool here =
        request.targets.empty() || (directory_.alive(target.partition) &&
                                    directory_.shard_of(target.partition) ==
                                        directory_.shard_of(request.targets[0].partition));
    if (!here || !may_change(target) || (!target.key.empty() && !keys.insert(target.key).second)) {
      continue;
    }
    if (!target.key.empty() && random_.chance(1, 2)) {
      target.handle.reset();
      target.uid = slot_of(target)->current;
    }
    request.targets.push_back(std::move(target));
  }
  if (!request.targets.empty()) {
    send_change(std::move(request));
  }
}

// So that it arrives about when the message is due.
void DelayClient::change_at_due(const Target& target, int64_t due_ms) {
  const ShardId shard = directory_.shard_of(target.partition);
  const int64_t in_us = (due_ms - model_.delays().log_ms(shard, scheduler_.now_ns())) * 1'000 -
                        options_.network_delay_us_max / 2 +
                        static_cast<int64_t>(random_.below(40'000)) - 20'000;
  if (in_us < 0 || in_us > 10'000'000) {
    return;
  }
  scheduler_.after_us(in_us, [this, target, births = births_] {
    if (births == births_ && !finishing_ && may_change(target)) {
      Request request;
      request.reschedule = random_.chance(1, 3);
      request.when = random_when();
      request.targets.push_back(target);
      send_change(std::move(request));
    }
  });
}

void DelayClient::cancel_series() {
  if (series_.empty()) {
    return;
  }
  const Target target = series_.front();
  if (!directory_.alive(target.partition)) {
    series_.pop_front();
  } else if (may_change(target) && requests_.empty()) {
    Request request;
    request.targets.push_back(target);
    send_change(std::move(request));
  }
}

void DelayClient::send_change(Request request) {
  const PartitionId first = request.targets[0].partition;
  const uint64_t connection = connection_to(directory_.shard_of(first));
  if (connection == 0) {
    return;
  }
  request.connection = connection;
  request.birth = births_;
  const int times = random_.chance(1, 20) ? 2 : 1;  // the network repeats it
  for (int i = 0; i < times; ++i) {
    std::vector<DelayTarget> named;
    for (Target& target : request.targets) {
      target.change = model_.delays().change_sent(
          target.uid, target.handle ? target.handle->id() : 0, request.reschedule);
      named.push_back({target.handle, target.partition, target.key});
      if (Slot* slot = slot_of(target); slot != nullptr) {
        ++slot->busy;
      }
    }
    const uint64_t correlation = next_correlation();
    requests_[correlation] = request;
    network_.send(connection, request.reschedule
                                  ? delay_reschedule_request(named, request.when.kind,
                                                             request.when.ms, correlation)
                                  : delay_cancel_request(named, correlation));
  }
}

void DelayClient::release(const Target& target) {
  if (Slot* slot = slot_of(target); slot != nullptr) {
    --slot->busy;
  }
}

void DelayClient::on_change_reply(Request& request, const protocol::Frame& frame) {
  for (const Target& target : request.targets) {
    release(target);
  }
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a change was refused: " + error.to_string());
    for (const Target& target : request.targets) {
      if (!maybe_done(error.code())) {
        model_.delays().change_refused(target.change);
      }
    }
    return;
  }
  const auto* results = testing::read_reply<protocol::fbs::DelayChangeReply>(frame).results();
  require(results != nullptr && results->size() == request.targets.size(),
          "a reply with another number of results than its request");
  for (size_t i = 0; i < request.targets.size(); ++i) {
    on_change_result(request, request.targets[i], *results->Get(static_cast<uint32_t>(i)));
  }
}

void DelayClient::on_change_result(const Request& request, Target& target,
                                   const protocol::fbs::DelayChangeResult& result) {
  DelayModel& model = model_.delays();
  if (!directory_.alive(target.partition)) {
    return;
  }
  if (const Status error = protocol::to_status(result.error()); !error.ok()) {
    const bool series = error.code() == ErrorCode::kNotAllowed && request.reschedule &&
                        target.uid != 0 && model.is_series(target.uid);
    require(series || is_transient(error.code()), "a change was refused: " + error.to_string());
    if (!maybe_done(error.code())) {
      model.change_refused(target.change);
    }
    return;
  }
  DelayModel::Answer answer;
  answer.outcome = static_cast<DelayModel::Outcome>(result.outcome());
  const bool moved = answer.outcome == DelayModel::Outcome::kRescheduled;
  require(moved == (result.receipt() != nullptr), "a receipt comes with `rescheduled` only");
  if (moved) {
    const protocol::fbs::DelayReceipt& receipt = *result.receipt();
    answer.new_id = receipt.id();
    answer.new_due_ms = receipt.due_ms();
    target.handle = protocol::fbs::DelayHandle(receipt.id(), receipt.due_ms(), receipt.position(),
                                               target.partition.topic.value(), receipt.tag());
    remember(target);
    if (random_.chance(1, 4)) {
      change_at_due(target, receipt.due_ms());
    }
  }
  model.change_answered(
      target.change, answer,
      model.log_ms(directory_.shard_of(target.partition), network_.reply_left_ns()));
  if (!request.reschedule) {
    std::erase_if(series_, [&](const Target& one) { return one.uid == target.uid; });
  }
}

// --- replies

void DelayClient::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (frame.header.type == static_cast<uint16_t>(protocol::FrameType::kInitProducer)) {
    if (asking_) {
      producer_ = testing::read_reply<protocol::fbs::InitProducerReply>(frame).producer_id();
      require(producer_ != 0, "producer id 0 was given");
    }
    asking_ = false;
    return;
  }
  const auto it = requests_.find(frame.header.correlation);
  if (it == requests_.end()) {
    asking_ = asking_ && testing::error_of(frame).ok();  // refused: ask again
    return;
  }
  Request request = std::move(it->second);
  requests_.erase(it);
  if (request.birth != births_) {
    return;  // of the process before
  }
  return request.sequence ? on_set_reply(request, frame) : on_change_reply(request, frame);
}

void DelayClient::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  const auto it = requests_.find(correlation);
  if (it == requests_.end()) {
    return;
  }
  DelayModel& model = model_.delays();
  const auto due_of = [&](PartitionId partition, const When& when) {
    const ShardId shard = directory_.shard_of(partition);
    const int64_t now_ns = scheduler_.now_ns();
    return when.kind == format::DueKind::kAfter
               ? model.due_after(shard, now_ns, when.ms)
               : model.due_at(shard, now_ns, scheduler_.clock().wall().ms, when.ms);
  };
  const Request& request = it->second;
  for (const Target& target : request.targets) {
    if (request.reschedule) {
      model.change_arrived(target.change, due_of(target.partition, request.when));
    }
  }
  for (const Item& item : request.items) {
    if (directory_.alive(request.partition)) {
      model.arrived(item.uid, due_of(request.partition, item.when));
    }
  }
}

void DelayClient::on_lost(uint64_t connection) {
  if (asking_on_ == connection) {
    asking_ = false;
  }
  std::vector<Request> lost;
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (it->second.connection == connection) {
      if (it->second.birth == births_) {
        lost.push_back(std::move(it->second));
      }
      it = requests_.erase(it);
    } else {
      ++it;
    }
  }
  for (Request& request : lost) {
    for (const Target& target : request.targets) {
      release(target);
    }
  }
  for (Request& request : lost) {
    if (request.sequence) {
      Stream& stream = streams_[request.partition];
      if (!stream.sets.empty() && stream.sets.front().sequence == *request.sequence) {
        stream.sets.front().in_flight = false;
        stream.not_before_ns = scheduler_.now_ns() + kRetryNs;
      }
    } else if (!finishing_ && random_.chance(1, 2) &&
               std::all_of(request.targets.begin(), request.targets.end(),
                           [this](const Target& target) { return may_change(target); })) {
      send_change(std::move(request));  // whatever came of the first one
    }
  }
}

}  // namespace tidemark::sim
