#include "clients/cpp/src/txn_buffer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "clients/cpp/src/client_impl.h"
#include "clients/cpp/src/delay_item.h"
#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

constexpr unsigned kEpochShift = 48;

std::string name_of(const Txn& txn) {
  const std::string id = txn.id().to_string();
  return id.empty() ? "the transaction" : "transaction " + id;
}

Status check_delay(const client::Message& message) {
  if (!message.delay) {
    return {};
  }
  if (message.delay->repeat() != client::Delay::Repeat::kNever) {
    return {ErrorCode::kInvalidArgument, "a recurring message cannot be part of a transaction"};
  }
  if (!message.delay->key().empty() && !message.delay->replace()) {
    return {ErrorCode::kInvalidArgument,
            "a delay with a key in a transaction must replace what is pending under the key"};
  }
  return {};
}

client::Status conflict(const Txn& txn, const char* what) {
  return {client::ErrorCode::kConflict, name_of(txn) + " " + what};
}

}  // namespace

Status check_txn_text(std::string_view name, std::string_view value, size_t bytes_min) {
  if (value.size() >= bytes_min && value.size() <= limits::kTxnTextBytesMax) {
    return {};
  }
  return {ErrorCode::kInvalidArgument, std::string(name) + " has " + std::to_string(value.size()) +
                                           " bytes; allowed are " + std::to_string(bytes_min) +
                                           " to " + std::to_string(limits::kTxnTextBytesMax)};
}

TxnBuffer::TxnBuffer(TxnBufferOptions options, Clock& clock, Hooks hooks)
    : options_(std::move(options)), clock_(clock), hooks_(std::move(hooks)) {}

// --- the program's calls ---

std::shared_ptr<Txn> TxnBuffer::begin(client::BeginOptions options) {
  auto txn = std::make_shared<Txn>();
  const int64_t timeout_ms = options.timeout_ms.value_or(options_.timeout_ms);
  txn->failure = check_txn_text("reference", options.reference, 0);
  if (txn->failure.ok() &&
      (timeout_ms < limits::kTxnTimeoutMsMin || timeout_ms > limits::kTxnTimeoutMsMax)) {
    txn->failure = Status(ErrorCode::kInvalidArgument,
                          "timeout_ms is " + std::to_string(timeout_ms) + "; allowed are " +
                              std::to_string(limits::kTxnTimeoutMsMin) + " to " +
                              std::to_string(limits::kTxnTimeoutMsMax));
  }
  const Lock lock(mutex_);
  if (txn->failure.ok()) {
    txn->failure = gate();
  }
  if (txn->failure.ok() && stats_.open >= options_.open_max) {
    txn->failure = Status(ErrorCode::kOverloaded, std::to_string(stats_.open) +
                                                      " transactions are open, as many as allowed");
  }
  if (!txn->failure.ok()) {
    return txn;
  }
  txn->producer = options_.identity.id;
  txn->number =
      uint64_t{static_cast<uint16_t>(options_.identity.epoch)} << kEpochShift | next_count_++;
  txn->reference = std::move(options.reference);
  txn->timeout_ms = static_cast<uint32_t>(timeout_ms);
  txn->counted = true;
  ++stats_.open;
  ++stats_.begun;
  return txn;
}

Status TxnBuffer::send(const std::shared_ptr<Txn>& txn, std::string_view topic,
                       const client::Message& message) {
  TxnNews news{.kind = TxnNews::Kind::kParts, .txn = txn};
  Status status;
  {
    const Lock lock(txn->mutex);
    RETURN_IF_ERROR(txn->failure);
    {
      const Lock inner(mutex_);
      RETURN_IF_ERROR(gate());
    }
    if (txn->asked || txn->committed) {
      return {ErrorCode::kConflict, name_of(*txn) + " was committed or rolled back"};
    }
    const Result<bool> first_held = take(*txn, topic, message, news.parts);
    if (!first_held.ok()) {
      status = first_held.error();
      txn->failure = status;
    } else if (*first_held) {
      news.kind = TxnNews::Kind::kHeld;
    }
    txn->given += static_cast<uint32_t>(news.parts.size());
  }
  if (!news.parts.empty() || news.kind == TxnNews::Kind::kHeld) {
    push(std::move(news));
  }
  return status;
}

void TxnBuffer::prepare(const std::shared_ptr<Txn>& txn, PrepareWaiter waiter,
                        int64_t deadline_ms) {
  set_deadline(waiter, deadline_ms);
  TxnNews news{.kind = TxnNews::Kind::kPrepare, .txn = txn};
  Status status;
  {
    const Lock lock(txn->mutex);
    status = txn->failure;
    if (status.ok()) {
      const Lock inner(mutex_);
      status = gate();
    }
    if (status.ok() && (txn->asked || txn->committed)) {
      status = Status(ErrorCode::kConflict, name_of(*txn) + " was committed or rolled back");
    }
    news.unsealed = !txn->held.empty();
    if (status.ok() && !news.unsealed) {
      status = seal_all(*txn, news.parts);
      txn->failure = status;
    }
    txn->given += static_cast<uint32_t>(news.parts.size());
  }
  if (!status.ok()) {
    return answer_here(std::move(waiter), to_public(status));
  }
  news.prepare = std::move(waiter);
  push(std::move(news));
}

void TxnBuffer::end(const std::shared_ptr<Txn>& txn, bool commit, EndWaiter waiter,
                    int64_t deadline_ms) {
  set_deadline(waiter, deadline_ms);
  TxnNews news{.kind = commit ? TxnNews::Kind::kCommit : TxnNews::Kind::kRollback, .txn = txn};
  std::optional<client::TransactionEnd> answer;
  {
    const Lock lock(txn->mutex);
    answer = end_here(*txn, commit);
    if (!answer) {
      txn->asked = commit;
      txn->ending = true;
      if (!commit) {
        const Lock inner(mutex_);
        discard(*txn);
      } else if (news.unsealed = !txn->held.empty(); txn->failure.ok() && !news.unsealed) {
        txn->failure = seal_all(*txn, news.parts);
      }
      news.failure = txn->failure;
      txn->given += static_cast<uint32_t>(news.parts.size());
      const Lock inner(mutex_);
      ++ends_under_way_;
    }
  }
  if (answer) {
    return answer_here(std::move(waiter), std::move(*answer));
  }
  news.end = std::move(waiter);
  push(std::move(news));
}

std::optional<client::TransactionEnd> TxnBuffer::end_here(Txn& txn, bool commit) {
  client::TransactionEnd out{.status = {},
                             .id = txn.given > 0 ? txn.id() : client::TransactionId{}};
  if (txn.number == 0) {
    out.status = to_public(txn.failure);
    return out;
  }
  if (txn.committed) {
    if (*txn.committed != commit) {
      out.status = to_public(
          commit && !txn.failure.ok() ? txn.failure : recorded_otherwise(txn.id(), *txn.committed));
    }
    return out;
  }
  const Lock lock(mutex_);
  const Status open = gate();
  if (!open.ok()) {
    out.status = to_public(open);
    return out;
  }
  if (txn.ending && *txn.asked != commit) {
    out.status = commit && !txn.failure.ok()
                     ? to_public(txn.failure)
                     : conflict(txn, commit ? "is being rolled back" : "is being committed");
    return out;
  }
  const bool empty = txn.open.empty() && txn.held.empty();
  if (txn.given > 0 || (commit && txn.failure.ok() && !empty)) {
    return std::nullopt;
  }
  // The broker never heard of it.
  discard(txn);
  out.status = commit ? to_public(txn.failure) : client::Status();
  txn.committed = commit && out.status.ok();
  ++(!out.status.ok() ? stats_.failed : *txn.committed ? stats_.committed : stats_.rolled_back);
  leave(txn);
  return out;
}

void TxnBuffer::drop(const std::shared_ptr<Txn>& txn) {
  {
    const Lock lock(txn->mutex);
    txn->dropped = true;
    if (txn->number == 0 || txn->committed || txn->ending) {
      return;
    }
    const Lock inner(mutex_);
    discard(*txn);
    if (txn->asked || !gate().ok() || txn->given == 0) {
      leave(*txn);
      return;
    }
    txn->asked = false;
    txn->ending = true;
    ++ends_under_way_;
  }
  push({.kind = TxnNews::Kind::kDrop, .txn = txn});
}

client::TransactionId TxnBuffer::id(Txn& txn) {
  const Lock lock(txn.mutex);
  return txn.prepared ? txn.id() : client::TransactionId{};
}

// --- encoding; with txn.mutex held ---

Status TxnBuffer::gate() const {
  if (closed_) {
    return {ErrorCode::kShuttingDown, "the producer is closed"};
  }
  return fenced_;
}

Result<TxnTopic*> TxnBuffer::topic(std::string_view name) {
  const Lock lock(mutex_);
  return find_or_add_topic(topics_, name);
}

Status TxnBuffer::reserve(size_t bytes) {
  const Lock lock(mutex_);
  if (bytes > options_.buffer_bytes_max) {
    return {ErrorCode::kTooLarge, "message of " + std::to_string(bytes) +
                                      " bytes with its overhead does not fit the buffer of " +
                                      std::to_string(options_.buffer_bytes_max)};
  }
  if (buffered_bytes_ + bytes > options_.buffer_bytes_max) {
    return {ErrorCode::kOverloaded, "buffer full: " + std::to_string(buffered_bytes_) + " of " +
                                        std::to_string(options_.buffer_bytes_max) + " bytes"};
  }
  buffered_bytes_ += bytes;
  return {};
}

Status TxnBuffer::fill(const client::Message& message, Entry& entry) const {
  const int64_t now_ms = clock_.wall().ms;
  ASSIGN_OR_RETURN(entry.record, to_record(message, now_ms, entry.headers));
  if (message.delay) {
    ASSIGN_OR_RETURN(entry.item, to_item(*message.delay, now_ms));
    entry.delayed = true;
  }
  entry.charge = charge_of(entry.record, entry.scheduled());
  return {};
}

Result<bool> TxnBuffer::take(Txn& txn, std::string_view name, const client::Message& message,
                             TxnParts& out) {
  ASSIGN_OR_RETURN(TxnTopic* const to, topic(name));
  RETURN_IF_ERROR(check_delay(message));
  Entry entry;
  RETURN_IF_ERROR(fill(message, entry));
  RETURN_IF_ERROR(reserve(entry.charge));
  bool known = false;
  if (txn.held.empty()) {
    const Lock lock(mutex_);
    known = !to->shards.empty();
  }
  if (!known) {
    txn.held.push_back({to, own_message(message, entry.record.timestamp_ms), entry.charge});
    return txn.held.size() == 1;
  }
  const Status placed = place(txn, *to, entry, message.partition, out);
  if (!placed.ok()) {
    const Lock lock(mutex_);
    buffered_bytes_ -= entry.charge;
    return placed;
  }
  return false;
}

bool TxnBuffer::suits(const TxnPart& part, const Entry& entry) const {
  return suits_batch(part.batch, entry.delayed, entry.charge, options_.batch_bytes);
}

// Appends the message to the open part of its partition, sealing that first when it does not suit.
Status TxnBuffer::place(Txn& txn, TxnTopic& topic, const Entry& entry,
                        std::optional<uint32_t> asked, TxnParts& out) {
  size_t partitions = 0;
  {
    const Lock lock(mutex_);
    partitions = topic.shards.size();
  }
  if (partitions == 0) {
    return {ErrorCode::kUnknownTopic, "topic \"" + topic.name + "\" was deleted"};
  }
  ASSIGN_OR_RETURN(std::optional<uint32_t> partition,
                   named_partition(topic.name, partitions, asked.value_or(kAnyPartition),
                                   entry.record, entry.scheduled()));
  const bool in_turn = !partition;
  if (in_turn) {
    ASSIGN_OR_RETURN(partition, take_turn(txn, topic, entry, out));
  }
  const auto find = [&] {
    return std::find_if(txn.open.begin(), txn.open.end(), [&](const auto& part) {
      return part->topic == &topic && part->batch.target.index.value() == *partition;
    });
  };
  auto at = find();
  const auto begin_anew = [&]() -> Status {
    if (at != txn.open.end()) {
      RETURN_IF_ERROR(seal_one(txn, static_cast<size_t>(at - txn.open.begin()), out));
    }
    RETURN_IF_ERROR(begin_part(txn, topic, *partition, entry));
    at = txn.open.end() - 1;
    (*at)->in_turn = in_turn;
    return {};
  };
  if (at == txn.open.end() || !suits(**at, entry)) {
    RETURN_IF_ERROR(begin_anew());
  }
  Status status = append_to((*at)->batch, entry.record, entry.scheduled());
  if (!status.ok() && (*at)->batch.records > 0) {
    // Something about this batch, e.g. a timestamp too far from its first one: a fresh one may do.
    RETURN_IF_ERROR(begin_anew());
    status = append_to((*at)->batch, entry.record, entry.scheduled());
  }
  if (!status.ok()) {
    txn.open.erase(at);
    return status;
  }
  ++(*at)->batch.records;
  (*at)->batch.charged_bytes += entry.charge;
  return {};
}

// Messages without a key of one transaction go to one partition as long as its part grows, so that
// there are few parts; then it is the next partition's turn.
Result<uint32_t> TxnBuffer::take_turn(Txn& txn, TxnTopic& topic, const Entry& entry,
                                      TxnParts& out) {
  for (size_t i = 0; i < txn.open.size(); ++i) {
    const TxnPart& part = *txn.open[i];
    if (part.topic != &topic || !part.in_turn || part.batch.delayed != entry.delayed) {
      continue;
    }
    if (suits(part, entry)) {
      return part.batch.target.index.value();
    }
    RETURN_IF_ERROR(seal_one(txn, i, out));
    break;
  }
  const Lock lock(mutex_);
  return static_cast<uint32_t>(topic.turn++ % std::max<size_t>(topic.shards.size(), 1));
}

Status TxnBuffer::begin_part(Txn& txn, TxnTopic& topic, uint32_t partition, const Entry& entry) {
  if (txn.next_index >= limits::kTxnHalvesMax) {
    return {ErrorCode::kLimitExceeded, "a transaction has at most " +
                                           std::to_string(limits::kTxnHalvesMax) +
                                           " batches; messages of one partition share them"};
  }
  auto part = std::make_unique<TxnPart>();
  part->topic = &topic;
  part->batch.delayed = entry.delayed;
  const Lock lock(mutex_);
  if (partition >= topic.shards.size()) {
    return {ErrorCode::kUnknownTopic, "topic \"" + topic.name + "\" was deleted"};
  }
  part->batch.target = {TopicId{topic.id}, PartitionIndex{partition}};
  builders_.give(part->batch);
  part->index = txn.next_index++;
  if (txn.home_topic == nullptr) {
    txn.home_topic = &topic;
    txn.home_partition = partition;
    txn.home_shard = topic.shards[partition];
  }
  txn.open.push_back(std::move(part));
  return {};
}

Status TxnBuffer::seal_one(Txn& txn, size_t at, TxnParts& out) {
  Batch& batch = txn.open[at]->batch;
  RETURN_IF_ERROR(encode_batch(batch, options_.codec, options_.zstd_level, {}));
  {
    const Lock lock(mutex_);
    builders_.take_back(batch);
  }
  out.push_back(std::move(txn.open[at]));
  txn.open.erase(txn.open.begin() + static_cast<ptrdiff_t>(at));
  return {};
}

Status TxnBuffer::seal_all(Txn& txn, TxnParts& out) {
  while (!txn.open.empty()) {
    RETURN_IF_ERROR(seal_one(txn, 0, out));
  }
  return {};
}

// With both mutexes held.
void TxnBuffer::discard(Txn& txn) {
  for (const auto& part : txn.open) {
    buffered_bytes_ -= part->batch.charged_bytes;
    builders_.take_back(part->batch);
  }
  txn.open.clear();
  for (const Txn::Held& held : txn.held) {
    buffered_bytes_ -= held.charge;
  }
  txn.held.clear();
}

void TxnBuffer::push(TxnNews news) {
  {
    const Lock lock(mutex_);
    news_.push_back(std::move(news));
  }
  hooks_.wake();
}

// With both mutexes held.
void TxnBuffer::leave(Txn& txn) {
  if (std::exchange(txn.counted, false)) {
    --stats_.open;
  }
}

template <typename Waiter>
void TxnBuffer::set_deadline(Waiter& waiter, int64_t deadline_ms) const {
  waiter.timeout_ms = deadline_ms < 0 ? options_.delivery_timeout_ms : deadline_ms;
  waiter.deadline = {clock_.monotonic().ns + waiter.timeout_ms * kNsPerMs};
}

template <typename Waiter, typename Outcome>
void TxnBuffer::answer_here(Waiter waiter, Outcome outcome) {
  if (waiter.direct) {
    waiter.callback(outcome);
    return;
  }
  hooks_.post([self = shared_from_this(), callback = std::move(waiter.callback),
               outcome = std::move(outcome)] {
    if (!self->hooks_.dispatch) {
      callback(outcome);
      return;
    }
    self->hooks_.dispatch([callback, outcome] { callback(outcome); });
  });
}

// --- closing ---

void TxnBuffer::close() {
  const Lock lock(mutex_);
  closed_ = true;
}

bool TxnBuffer::wait_ends(int64_t timeout_ms) {
  Lock lock(mutex_);
  return ended_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                         [this] { return ends_under_way_ == 0; });
}

void TxnBuffer::silence() {
  const Lock lock(mutex_);
  silent_ = true;
}

client::TransactionStats TxnBuffer::stats() const {
  const Lock lock(mutex_);
  return stats_;
}

// --- I/O ---

std::vector<TxnNews> TxnBuffer::take_news() {
  const Lock lock(mutex_);
  return std::exchange(news_, {});
}

void TxnBuffer::learn(TxnTopic& topic, uint32_t id, std::vector<uint16_t> shards) {
  const Lock lock(mutex_);
  topic.id = id;
  topic.shards = std::move(shards);
}

Result<TxnTopic*> TxnBuffer::place_held(Txn& txn, TxnParts& out) {
  const Lock lock(txn.mutex);
  const size_t before = out.size();
  Result<TxnTopic*> next = nullptr;
  std::vector<client::Header> headers;
  while (next.ok() && !txn.held.empty()) {
    Txn::Held& held = txn.held.front();
    {
      const Lock inner(mutex_);
      if (held.topic->shards.empty()) {
        next = held.topic;
        break;
      }
    }
    const client::Message message = view_of(held.message, headers);
    Entry entry;
    Status placed = fill(message, entry);
    if (placed.ok()) {
      placed = place(txn, *held.topic, entry, message.partition, out);
    }
    if (!placed.ok()) {
      next = placed;
      break;
    }
    txn.held.pop_front();
  }
  txn.given += static_cast<uint32_t>(out.size() - before);
  return next;
}

Status TxnBuffer::seal_open(Txn& txn, TxnParts& out) {
  const Lock lock(txn.mutex);
  const size_t before = out.size();
  const Status status = seal_all(txn, out);
  txn.given += static_cast<uint32_t>(out.size() - before);
  return status;
}

void TxnBuffer::release(TxnPart& part) {
  const Lock lock(mutex_);
  buffered_bytes_ -= std::exchange(part.batch.charged_bytes, 0);
}

void TxnBuffer::set_failure(Txn& txn, const Status& why) {
  const Lock lock(txn.mutex);
  if (txn.failure.ok()) {
    txn.failure = why;
  }
  const Lock inner(mutex_);
  discard(txn);
}

void TxnBuffer::set_prepared(Txn& txn) {
  const Lock lock(txn.mutex);
  txn.prepared = true;
}

void TxnBuffer::begin_background_end(Txn& txn) {
  const Lock lock(txn.mutex);
  txn.asked = false;
  txn.ending = true;
  const Lock inner(mutex_);
  ++ends_under_way_;
}

void TxnBuffer::set_ended(Txn& txn, std::optional<bool> committed, bool forget) {
  const Lock lock(txn.mutex);
  txn.ending = false;
  txn.committed = committed;
  if (committed || forget || txn.dropped) {
    const Lock inner(mutex_);
    leave(txn);
  }
}

void TxnBuffer::end_done() {
  const Lock lock(mutex_);
  if (--ends_under_way_ == 0) {
    ended_.notify_all();
  }
}

void TxnBuffer::count_end(bool commit, bool ok) {
  const Lock lock(mutex_);
  ++(!ok ? stats_.failed : commit ? stats_.committed : stats_.rolled_back);
}

void TxnBuffer::count_check(bool unknown) {
  const Lock lock(mutex_);
  ++stats_.checks;
  stats_.checks_unknown += unknown ? 1 : 0;
}

void TxnBuffer::fence(const Status& why) {
  const Lock lock(mutex_);
  fenced_ = why;
}

void TxnBuffer::run(bool direct, std::function<void()> callback) {
  if (direct || !hooks_.dispatch) {
    callback();
    return;
  }
  hooks_.dispatch(std::move(callback));
}

bool TxnBuffer::silent() const {
  const Lock lock(mutex_);
  return silent_;
}

void TxnBuffer::report(PrepareWaiter waiter, const client::Status& status) {
  const bool direct = waiter.direct;
  run(direct, [self = shared_from_this(), waiter = std::move(waiter), status] {
    if (waiter.direct || !self->silent()) {
      waiter.callback(status);
    }
  });
}

void TxnBuffer::report(EndWaiter waiter, const client::TransactionEnd& end) {
  const bool direct = waiter.direct;
  run(direct, [self = shared_from_this(), waiter = std::move(waiter), end] {
    if (waiter.direct || !self->silent()) {
      waiter.callback(end);
    }
    self->end_done();
  });
}

}  // namespace tidemark::client_core
