#include "tests/blackbox/recorded_transactions.h"

#include <poll.h>

#include <chrono>
#include <utility>

#include "log/base/clock.h"
#include "tests/support/numbered_value.h"

namespace tidemark::testing {

namespace {

constexpr const char* kProcess = "x";
constexpr const char* kDecider = "decider";  // its ids are not uids
constexpr int64_t kTimeoutMs = 500;          // then somebody is asked
constexpr int64_t kEveryMs = 20;
constexpr int64_t kCreateDeadlineMs = 30'000;
constexpr int64_t kAdminDeadlineMs = 60'000;
constexpr uint64_t kHalvesMax = 4;

}  // namespace

RecordedTransactions::RecordedTransactions(const client::Client& client, History& history,
                                           Place place, std::string group,
                                           std::atomic<uint64_t>& next_uid, uint64_t seed)
    : client_(client),
      history_(history),
      place_(std::move(place)),
      group_(std::move(group)),
      next_uid_(next_uid) {
  client::TransactionOptions options;
  options.group = group_;
  options.timeout_ms = kTimeoutMs;
  options.check = [this](const client::CheckRequest& request) { return check(request); };
  auto created = client::TransactionProducer::create(client, options, kCreateDeadlineMs);
  if (!created.ok()) {
    error_ = created.status().to_string();
    return;
  }
  producer_ = std::make_unique<client::TransactionProducer>(std::move(*created));
  thread_ = std::thread([this, seed] { run(seed); });
}

void RecordedTransactions::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  ending_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void RecordedTransactions::run(uint64_t seed) {
  Random random(seed);
  while (!stopping_.load()) {
    one(random);
    std::unique_lock<std::mutex> lock(mutex_);
    ending_.wait_for(lock, std::chrono::milliseconds(kEveryMs), [&] { return stopping_.load(); });
  }
}

void RecordedTransactions::one(Random& random) {
  const std::string name = group_ + "-" + std::to_string(++begun_);
  const Fate fate = random.chance(2, 3) ? Fate::kCommit : Fate::kRollback;
  const bool leaves = random.chance(1, 5);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    locals_[name] = {};
  }
  history_.observe(kProcess, "txn_begin",
                   {{"txn", name}, {"timeout_ms", kTimeoutMs}, {"group", group_}});
  client::Transaction txn = producer_->begin({.reference = name, .timeout_ms = {}});
  std::vector<uint64_t> uids;
  bool stored = send_halves(txn, name, random.between(1, kHalvesMax), uids);
  const client::Status prepared = txn.prepare();
  stored = stored && prepared.ok();
  for (const uint64_t uid : uids) {
    history_.end(kProcess, "send", uid, prepared.ok() ? "ok" : "info");
  }
  settle(name, stored ? fate : Fate::kRollback, txn.id());
  if (stored && leaves) {
    left_open_.push_back(std::move(txn));
  } else {
    end(txn, name, stored ? fate : Fate::kRollback);
  }
}

// False: one was not taken, and it can only be rolled back.
bool RecordedTransactions::send_halves(client::Transaction& txn, const std::string& name,
                                       uint64_t count, std::vector<uint64_t>& uids) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t uid = next_uid_++;
    const std::string value = numbered_value(uid, RecordedProducer::kValueBytes);
    client::Message message;
    message.value = value;
    message.partition = place_.partition_of(uid);
    history_.invoke(kProcess, "send", uid,
                    {{"topic", place_.topic},
                     {"part", place_.partition_of(uid)},
                     {"uid", uid},
                     {"crc", crc_of(value)},
                     {"txn", name}});
    if (const client::Status sent = txn.send(place_.topic, message); !sent.ok()) {
      history_.end(kProcess, "send", uid, "fail", {{"err", sent.to_string()}});
      return false;
    }
    uids.push_back(uid);
  }
  return true;
}

void RecordedTransactions::end(client::Transaction& txn, const std::string& name, Fate fate) {
  const char* const op = fate == Fate::kCommit ? "txn_commit" : "txn_rollback";
  const uint64_t id = history_.next_id();
  history_.invoke(kDecider, op, id, {{"txn", name}, {"how", "producer"}});
  write_end(op, id, (fate == Fate::kCommit ? txn.commit() : txn.rollback()).status);
}

void RecordedTransactions::write_end(const char* op, uint64_t id, const client::Status& status) {
  if (status.ok()) {
    history_.end(kDecider, op, id, "ok");
    return;
  }
  const bool refused = status.code() == client::ErrorCode::kConflict ||
                       status.code() == client::ErrorCode::kNotFound ||
                       status.code() == client::ErrorCode::kFenced;
  history_.end(kDecider, op, id, refused ? "fail" : "info", {{"err", status.to_string()}});
}

void RecordedTransactions::settle(const std::string& name, Fate fate,
                                  const client::TransactionId& id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  locals_[name] = {fate, true, id};
}

client::CheckAnswer RecordedTransactions::check(const client::CheckRequest& request) {
  Local local;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = locals_.find(request.reference); found != locals_.end()) {
      local = found->second;
    }
  }
  ++asked_;
  const bool commits = local.fate == Fate::kCommit;
  history_.observe(kProcess, "txn_check",
                   {{"txn", request.reference},
                    {"group", group_},
                    {"how", !local.settled ? "unknown" : (commits ? "commit" : "rollback")}});
  if (!local.settled) {
    return client::CheckAnswer::kUnknown;
  }
  return commits ? client::CheckAnswer::kCommitted : client::CheckAnswer::kNotCommitted;
}

// --- the end

std::string RecordedTransactions::finish(int64_t ms_max) {
  stop();
  auto transactions = client::Transactions::create(client_);
  const client::TransactionQuery query = {.group = group_, .limit = 10'000};
  const int64_t until_ns = system_clock().monotonic().ns + ms_max * 1'000'000;
  auto open = transactions->list(query, kAdminDeadlineMs);
  while (open.ok() && !open->empty() && system_clock().monotonic().ns < until_ns) {
    (void)::poll(nullptr, 0, static_cast<int>(kEveryMs));
    open = transactions->list(query, kAdminDeadlineMs);
  }
  if (!open.ok()) {
    return "listing transactions: " + open.status().to_string();
  }
  // Those that were asked about while nothing was known wait for their next turn: minutes.
  for (const client::TransactionInfo& one : *open) {
    end_as_operator(one, *transactions);
  }
  return write_finals(*transactions);
}

void RecordedTransactions::end_as_operator(const client::TransactionInfo& open,
                                           client::Transactions& transactions) {
  Fate fate = Fate::kRollback;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = locals_.find(open.reference); found != locals_.end()) {
      fate = found->second.fate;
    }
  }
  const char* const op = fate == Fate::kCommit ? "txn_commit" : "txn_rollback";
  const uint64_t id = history_.next_id();
  history_.invoke(kDecider, op, id, {{"txn", open.reference}, {"how", "operator"}});
  const auto changed = fate == Fate::kCommit ? transactions.commit({open.id}, kAdminDeadlineMs)
                                             : transactions.rollback({open.id}, kAdminDeadlineMs);
  write_end(op, id, changed.ok() ? changed->front().status : changed.status());
}

std::string RecordedTransactions::write_finals(client::Transactions& transactions) {
  for (const auto& [name, local] : locals_) {
    if (local.id.empty()) {
      continue;  // never prepared: nobody was told that it is stored
    }
    const auto shown = transactions.show(local.id, kAdminDeadlineMs);
    if (!shown.ok() && shown.status().code() != client::ErrorCode::kNotFound) {
      return "looking at " + name + ": " + shown.status().to_string();
    }
    const auto state = shown.ok() ? shown->state : client::TransactionStateKind::kNone;
    history_.observe("test", "txn_final",
                     {{"txn", name}, {"state", client::transaction_state_text(state)}});
  }
  return "";
}

}  // namespace tidemark::testing
