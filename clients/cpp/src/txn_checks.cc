#include "clients/cpp/src/txn_checks.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "log/base/limits.h"

namespace tidemark::client_core {

using protocol::FrameType;
namespace fbs = protocol::fbs;

// --- gate ---

bool CheckGate::enter() {
  const std::lock_guard lock(mutex_);
  if (closed_) {
    return false;
  }
  running_ = true;
  runner_ = std::this_thread::get_id();
  return true;
}

void CheckGate::leave() {
  const std::lock_guard lock(mutex_);
  running_ = false;
  left_.notify_all();
}

bool CheckGate::close(int64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  closed_ = true;
  if (running_ && runner_ == std::this_thread::get_id()) {
    return true;
  }
  return left_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return !running_; });
}

// --- thread ---

CheckThread::CheckThread() : shared_(std::make_shared<Shared>()) {
  thread_ = std::thread([shared = shared_] { loop(shared); });
}

CheckThread::~CheckThread() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
    shared_->changed.notify_all();
  }
  if (!thread_.joinable()) {
    return;
  }
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void CheckThread::detach() {
  if (thread_.joinable()) {
    thread_.detach();
  }
}

void CheckThread::run(std::function<void()> task) {
  const std::lock_guard lock(shared_->mutex);
  shared_->tasks.push_back(std::move(task));
  shared_->changed.notify_one();
}

void CheckThread::loop(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (true) {
    shared->changed.wait(lock, [&] { return shared->stopping || !shared->tasks.empty(); });
    if (shared->stopping) {
      return;
    }
    const std::function<void()> task = std::move(shared->tasks.front());
    shared->tasks.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

// --- polls ---

TxnChecks::TxnChecks(TxnCheckOptions options, Cluster& cluster, std::shared_ptr<CheckGate> gate,
                     Hooks hooks, uint64_t seed)
    : options_(std::move(options)),
      cluster_(cluster),
      clock_(cluster.clock()),
      gate_(std::move(gate)),
      hooks_(std::move(hooks)),
      random_(seed) {}

MonotonicTime TxnChecks::run(MonotonicTime now) {
  if (stopped_) {
    return kNever;
  }
  if (cluster_.facts().shards > shards_.size()) {
    shards_.resize(cluster_.facts().shards);
  }
  MonotonicTime next = kNever;
  const bool room = queue_.size() + options_.checks_max <= options_.queue_max;
  for (size_t i = 0; i < shards_.size(); ++i) {
    Shard& shard = shards_[i];
    const auto number = static_cast<uint16_t>(i);
    send_answers(number, shard, now);
    if (shard.polling || !room) {
      continue;
    }
    if (now >= shard.poll_at) {
      poll(number, shard, now);
    } else {
      next = std::min(next, shard.poll_at);
    }
  }
  return next;
}

void TxnChecks::stop() {
  stopped_ = true;
  queue_.clear();
}

void TxnChecks::poll(uint16_t number, Shard& shard, MonotonicTime now) {
  Session* const session = cluster_.session_of_shard(number);
  if (session == nullptr) {
    return;  // there are no shards before the first handshake
  }
  flatbuffers::FlatBufferBuilder builder(128);
  const auto group = builder.CreateString(options_.group);
  builder.Finish(fbs::CreateTxnPoll(builder, group, options_.wait_ms, options_.checks_max));
  shard.polling = true;
  const MonotonicTime deadline{now.ns + int64_t{options_.wait_ms} * kNsPerMs +
                               cluster_.options().request_timeout_ns};
  session->request(FrameType::kTxnPoll, number, protocol::finished(builder), {}, deadline,
                   [self = shared_from_this(), number](Reply reply) {
                     self->on_poll(number, std::move(reply));
                   });
}

void TxnChecks::on_poll(uint16_t number, Reply reply) {
  Shard& shard = shards_[number];
  shard.polling = false;
  if (stopped_) {
    return;
  }
  if (reply.status.ok()) {
    ReplyError error = error_of(reply.frame);
    reply.status = std::move(error.status);
    reply.retry_after_ms = error.retry_after_ms;
  }
  if (reply.status.ok()) {
    reply.status = take_checks(number, reply);
  }
  if (reply.status.ok()) {
    shard.backoff.reset();
    return;
  }
  const int64_t pause =
      std::max(int64_t{reply.retry_after_ms} * kNsPerMs, shard.backoff.next_ns(random_));
  shard.poll_at = {clock_.monotonic().ns + pause};
}

Status TxnChecks::take_checks(uint16_t number, const Reply& reply) {
  const auto& table =
      **protocol::read_table<fbs::TxnPollReply>(reply.frame.table(), "TxnPollReply");
  if (table.checks() == nullptr) {
    return {};
  }
  for (const fbs::TxnCheck* check : *table.checks()) {
    if (check->txn() == nullptr || check->txn()->shard() != number) {
      return {ErrorCode::kMalformed, "TxnPollReply asks about a transaction of another shard"};
    }
    const client::TransactionId id{
        .producer = check->txn()->producer(), .number = check->txn()->number(), .shard = number};
    if (queue_.size() >= options_.queue_max || !known_.insert(id).second) {
      continue;
    }
    queue_.push_back({.id = id,
                      .reference = std::string(protocol::view(check->reference())),
                      .born_ms = check->born_ms(),
                      .checks = check->checks(),
                      .deadline_ms = options_.deadline_ms});
  }
  start_next();
  return {};
}

// --- checks ---

void TxnChecks::start_next() {
  if (running_ || queue_.empty()) {
    return;
  }
  running_ = true;
  client::CheckRequest request = std::move(queue_.front());
  queue_.pop_front();
  // Runs on another thread; of this object it uses only what never changes.
  hooks_.run([self = shared_from_this(), request = std::move(request)] {
    if (!self->gate_->enter()) {
      return;
    }
    Clock& clock = self->clock_;
    const int64_t until_ns = clock.monotonic().ns + request.deadline_ms * kNsPerMs;
    const client::CheckAnswer answer = self->options_.check(request);
    const bool late = clock.monotonic().ns > until_ns;
    self->gate_->leave();
    self->hooks_.post([self, id = request.id, answer, late] { self->on_answer(id, answer, late); });
  });
}

void TxnChecks::on_answer(const client::TransactionId& id, client::CheckAnswer answer, bool late) {
  running_ = false;
  known_.erase(id);
  const bool unknown = late || answer == client::CheckAnswer::kUnknown;
  hooks_.count(unknown);
  if (stopped_) {
    return;
  }
  if (!unknown) {
    shards_[id.shard].answers.emplace_back(id, answer == client::CheckAnswer::kCommitted);
  }
  start_next();
}

void TxnChecks::send_answers(uint16_t number, Shard& shard, MonotonicTime now) {
  Session* const session = shard.answers.empty() ? nullptr : cluster_.session_of_shard(number);
  if (session == nullptr) {
    return;
  }
  const auto answers = std::exchange(shard.answers, {});
  for (size_t from = 0; from < answers.size(); from += limits::kTxnItemsPerRequestMax) {
    const size_t to = std::min(answers.size(), from + limits::kTxnItemsPerRequestMax);
    flatbuffers::FlatBufferBuilder builder(1024);
    std::vector<flatbuffers::Offset<fbs::TxnEndItem>> items;
    for (size_t i = from; i < to; ++i) {
      const auto& [id, commit] = answers[i];
      const fbs::TxnId wire(id.producer, id.number, id.shard);
      items.push_back(fbs::CreateTxnEndItem(builder, &wire, commit));
    }
    const auto list = builder.CreateVector(items);
    builder.Finish(fbs::CreateTxnEnd(builder, list, fbs::TxnEndBy::kCheck));
    session->request(FrameType::kTxnEnd, number, protocol::finished(builder), {},
                     {now.ns + cluster_.options().request_timeout_ns}, [](const Reply&) {});
  }
}

}  // namespace tidemark::client_core
