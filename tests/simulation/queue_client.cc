#include "tests/simulation/queue_client.h"

#include <algorithm>
#include <utility>

namespace tidemark::sim {

namespace {

constexpr size_t kHeldMax = 2'000;
constexpr size_t kReceivesMax = 2;  // under way
constexpr uint64_t kItemsMax = 200;
constexpr int64_t kAgainMs = 50;
constexpr uint64_t kWorkMsMax = 200;

}  // namespace

void QueueWorker::die() {
  dead_ = true;
  todo_.clear();
  receives_.clear();
  settles_.clear();
  hang_up();
}

std::string QueueWorker::describe() const {
  return "worker of " + group_ + ": " + std::to_string(todo_.size()) + " to settle, " +
         std::to_string(settles_.size()) + " settlements and " + std::to_string(receives_.size()) +
         " receives under way";
}

void QueueWorker::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(1'000, 30'000)), [this] {
    if (!dead_) {
      work();
      schedule();
    }
  });
}

void QueueWorker::work() {
  std::erase_if(todo_,
                [&](const auto& entry) { return !directory_.alive(entry.second.partition); });
  if (!finishing_ && random_.chance(1, 400)) {
    settle_as_operator();
  }
  settle_due();
  if (receives_.size() < kReceivesMax && todo_.size() < kHeldMax) {
    receive();
  }
}

// --- taking

void QueueWorker::receive() {
  testing::QueueReceiveInput input;
  PartitionId partition;
  for (uint64_t i = random_.between(1, 4); i > 0 && directory_.pick(random_, partition); --i) {
    const bool fits =
        input.parts.empty() ||
        (directory_.shard_of(partition) == directory_.shard_of(input.parts.front()) &&
         std::find(input.parts.begin(), input.parts.end(), partition) == input.parts.end());
    if (fits) {
      input.parts.push_back(partition);
    }
  }
  if (input.parts.empty()) {
    return;
  }
  const uint64_t connection = connection_to(directory_.shard_of(input.parts.front()));
  if (connection == 0) {
    return;
  }
  input.group = group_;
  input.messages_max = static_cast<uint32_t>(finishing_ ? 1'000 : random_.between(1, 100));
  input.bytes_max = static_cast<uint32_t>(random_.chance(1, 4) ? 1 : random_.between(1, 200'000));
  input.wait_ms = static_cast<uint32_t>(finishing_ ? random_.below(50) : random_.below(1'500));
  input.visibility_ms = static_cast<uint32_t>(random_.between(1'000, options_.queue_visibility_ms));
  if (finishing_) {
    input.bytes_max = 1 << 20;
  }
  const uint64_t correlation = next_correlation();
  const uint64_t receive =
      model_.queues().receive_sent(group_, input.parts, int64_t{input.visibility_ms});
  receives_[correlation] = {connection, receive, input.parts, input.visibility_ms};
  network_.send(connection, testing::queue_receive_request(input, correlation));
}

void QueueWorker::on_received(const ReceiveRequest& request, const protocol::Frame& frame) {
  if (const Status error = testing::error_of(frame); !error.ok()) {
    return require(is_transient(error.code()), "a receive was refused: " + error.to_string());
  }
  const auto results = testing::read_queue_receive_reply(frame);
  require(results.size() == request.parts.size(),
          "a receive reply with another number of parts than its request");
  for (size_t i = 0; i < results.size(); ++i) {
    const PartitionId partition = request.parts[i];
    if (!directory_.alive(partition)) {
      continue;
    }
    const Status& status = results[i].status;
    require(status.ok() || is_transient(status.code()) ||
                (status.code() == ErrorCode::kUnknownPartition && !model_.used(partition)),
            "a part of a receive was refused: " + status.to_string());
    const int64_t left_ns = network_.reply_left_ns();
    const int64_t log_ms = model_.delays().log_ms(directory_.shard_of(partition), left_ns);
    for (const testing::LeasedMessage& message : results[i].messages) {
      model_.queues().leased(request.receive, partition,
                             {message.offset, message.token, message.deliveries}, left_ns, log_ms);
      see(partition, {message.offset, message.value});
      plan(partition, message, request.visibility_ms);
    }
  }
  model_.queues().receive_answered(request.receive);
}

void QueueWorker::plan(PartitionId partition, const testing::LeasedMessage& message,
                       uint32_t visibility_ms) {
  testing::QueueSettleInput item;
  item.partition = partition;
  item.offset = message.offset;
  item.token = message.token;
  if (finishing_) {
    return later(item, Action::kAck, 0);
  }
  if (random_.chance(options_.queue_nack_percent, 100)) {
    const int64_t delays_ms[] = {-1, 0, static_cast<int64_t>(random_.below(1'000))};
    item.delay_ms = delays_ms[random_.below(3)];
    return later(item, Action::kNack, random_.below(kWorkMsMax));
  }
  switch (random_.below(25)) {
    case 0:  // never
      return;
    case 1:  // perhaps somebody else has it by then
      return later(item, Action::kAck, visibility_ms + random_.below(1'000));
    case 2: {  // the extension may be shorter than what is left, or come too late
      const uint64_t at_ms = random_.below(visibility_ms + 100);
      item.delay_ms = static_cast<int64_t>(random_.below(2 * visibility_ms));
      later(item, Action::kExtend, at_ms);
      const auto extension_ms = static_cast<uint64_t>(item.delay_ms);
      return later(item, Action::kAck, at_ms + random_.below(extension_ms + 200));
    }
    case 3:  // twice
      later(item, Action::kAck, random_.below(kWorkMsMax));
      return later(item, Action::kAck, random_.below(kWorkMsMax));
    case 4:
      return later(item, Action::kRelease, random_.below(visibility_ms));
    case 5:
      if (options_.queue_max_deliveries > 0) {
        return later(item, Action::kDeadLetter, random_.below(kWorkMsMax));
      }
      break;
    default:
      break;
  }
  later(item, Action::kAck, random_.below(kWorkMsMax));
}

// --- settling

void QueueWorker::later(testing::QueueSettleInput item, Action action, uint64_t after_ms) {
  item.action = action;
  todo_.emplace(scheduler_.now_ms() + static_cast<int64_t>(after_ms), item);
}

// Of what is certainly stored.
void QueueWorker::settle_as_operator() {
  PartitionId partition;
  if (!directory_.pick(random_, partition) || !model_.used(partition)) {
    return;
  }
  const uint64_t end = model_.end_of(partition).value();
  testing::QueueSettleInput item;
  item.partition = partition;
  item.offset = Offset{random_.below(end)};
  item.count =
      static_cast<uint32_t>(random_.between(1, std::min<uint64_t>(10, end - item.offset.value())));
  send_settle(directory_.shard_of(partition), {item});
}

void QueueWorker::settle_due() {
  std::map<ShardId, std::vector<testing::QueueSettleInput>> due;
  for (uint64_t i = 0; i < kItemsMax && !todo_.empty(); ++i) {
    if (todo_.begin()->first > scheduler_.now_ms()) {
      break;
    }
    const testing::QueueSettleInput item = todo_.begin()->second;
    due[directory_.shard_of(item.partition)].push_back(item);
    todo_.erase(todo_.begin());
  }
  for (auto& [shard, items] : due) {
    send_settle(shard, std::move(items));
  }
}

void QueueWorker::send_settle(ShardId shard, std::vector<testing::QueueSettleInput> items) {
  const uint64_t connection = connection_to(shard);
  if (connection == 0) {
    for (const testing::QueueSettleInput& item : items) {
      maybe_again(item);
    }
    return;
  }
  const uint64_t correlation = next_correlation();
  SettleRequest& request = settles_[correlation];
  request = {connection, shard, std::move(items), {}};
  for (const testing::QueueSettleInput& item : request.items) {
    const KnownTopic* const topic = directory_.find(item.partition.topic);
    request.settles.push_back(
        model_.queues().settle_sent({{group_, item.partition},
                                     item.offset,
                                     item.token,
                                     item.count,
                                     static_cast<QueueModel::Action>(item.action),
                                     item.delay_ms,
                                     topic == nullptr || topic->retention}));
  }
  network_.send(connection,
                testing::queue_settle_request(group_, request.items, "simulated", correlation));
}

void QueueWorker::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  const int64_t now_ns = scheduler_.now_ns();
  if (const auto it = receives_.find(correlation); it != receives_.end()) {
    model_.queues().receive_arrived(it->second.receive, now_ns);
  }
  if (const auto it = settles_.find(correlation); it != settles_.end()) {
    for (const uint64_t settle : it->second.settles) {
      model_.queues().settle_arrived(settle, now_ns,
                                     model_.delays().log_ms(it->second.shard, now_ns));
    }
  }
}

void QueueWorker::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (const auto it = receives_.find(frame.header.correlation); it != receives_.end()) {
    const ReceiveRequest request = std::move(it->second);
    receives_.erase(it);
    return on_received(request, frame);
  }
  if (const auto it = settles_.find(frame.header.correlation); it != settles_.end()) {
    const SettleRequest request = std::move(it->second);
    settles_.erase(it);
    on_settled(request, frame);
  }
}

QueueModel::Answer QueueWorker::answer_of(const testing::QueueSettleInput& item, ErrorCode code) {
  using Answer = QueueModel::Answer;
  if (code == ErrorCode::kOk) {
    return Answer::kOk;
  }
  if (code == ErrorCode::kFenced) {
    return Answer::kFenced;
  }
  const bool alive = directory_.alive(item.partition);
  if (code == ErrorCode::kNotFound) {
    require(
        item.action != Action::kAck || !alive || directory_.find(item.partition.topic)->retention,
        "I20: an ack of what is stored found nothing, offset " +
            std::to_string(item.offset.value()));
    return Answer::kNotFound;
  }
  require(is_transient(code) || (code == ErrorCode::kUnknownPartition && !alive),
          "a settlement was refused: " + Status(code, "").to_string());
  return Answer::kUnsure;
}

void QueueWorker::on_settled(const SettleRequest& request, const protocol::Frame& frame) {
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a settlement was refused: " + error.to_string());
    return on_settle_failed(request);
  }
  const std::vector<ErrorCode> results = testing::read_queue_settle_reply(frame);
  require(results.size() == request.items.size(),
          "a settlement with another number of results than items");
  const int64_t left_ns = network_.reply_left_ns();
  const int64_t log_ms = model_.delays().log_ms(request.shard, left_ns);
  for (size_t i = 0; i < results.size(); ++i) {
    const QueueModel::Answer answer = answer_of(request.items[i], results[i]);
    // Of several messages some may have been settled.
    const bool unsure = answer == QueueModel::Answer::kFenced && request.items[i].count > 1;
    model_.queues().settle_answered(request.settles[i],
                                    unsure ? QueueModel::Answer::kUnsure : answer, left_ns, log_ms);
    if (answer == QueueModel::Answer::kUnsure) {
      maybe_again(request.items[i]);
    }
  }
}

void QueueWorker::on_settle_failed(const SettleRequest& request) {
  for (const testing::QueueSettleInput& item : request.items) {
    maybe_again(item);
  }
}

void QueueWorker::maybe_again(const testing::QueueSettleInput& item) {
  if (item.action == Action::kAck && item.token != 0 && (finishing_ || random_.chance(1, 2))) {
    todo_.emplace(scheduler_.now_ms() + kAgainMs, item);
  }
}

void QueueWorker::on_lost(uint64_t connection) {
  std::erase_if(receives_,
                [&](const auto& entry) { return entry.second.connection == connection; });
  for (auto it = settles_.begin(); it != settles_.end();) {
    if (it->second.connection == connection) {
      on_settle_failed(it->second);
      it = settles_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace tidemark::sim
