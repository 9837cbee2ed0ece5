// Sends messages that become visible together with a local transaction, or not at all.
//
//   transaction TOPIC [BROKERS]
//
// The "database" is a set of the ids of orders that were booked. One order is booked and committed,
// one is refused and rolled back, and one is forgotten by the program after its local transaction,
// so that the broker asks about it. TOPIC must exist. BROKERS defaults to $TIDEMARK_BROKERS.
// Exit code: 0 all as told, 1 not, 2 wrong usage.
#include <chrono>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

// What the program would keep in its database, in the same local transaction as its own data.
class Orders {
 public:
  void book(const std::string& transaction) {
    const std::lock_guard lock(mutex_);
    booked_.insert(transaction);
  }

  // Asked on a thread of the producer's own, for whatever transaction of its group is undecided; it
  // may have been begun by a process that is gone.
  mq::CheckAnswer check(const mq::CheckRequest& request) {
    const std::lock_guard lock(mutex_);
    std::cout << "asked about " << request.id.to_string() << " (" << request.reference << ")\n";
    checked_ = true;
    changed_.notify_all();
    return booked_.contains(request.id.to_string()) ? mq::CheckAnswer::kCommitted
                                                    : mq::CheckAnswer::kNotCommitted;
  }

  bool wait_for_check() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [this] { return checked_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> booked_;
  bool checked_ = false;
};

// Sends the messages of an order and waits until the broker has them.
bool prepare(mq::Transaction& txn, const char* topic, const std::string& order) {
  mq::Status status = txn.send(topic, {.key = order, .value = "created"});
  if (status.ok()) {
    status = txn.send(topic, {.key = order, .value = "to be paid"});
  }
  if (status.ok()) {
    status = txn.prepare();
  }
  if (!status.ok()) {
    std::cerr << order << ": " << status.to_string() << "\n";
  }
  return status.ok();
}

bool ended(const mq::TransactionEnd& end, const char* how) {
  if (!end.status.ok()) {
    std::cerr << how << ": " << end.status.to_string() << "\n";
    return false;
  }
  std::cout << how << " " << end.id.to_string() << "\n";
  return true;
}

// An order whose process is gone after its local transaction: nobody tells the broker.
std::string forget(const mq::Client& client, Orders& orders, const char* topic) {
  auto producer = mq::TransactionProducer::create(client, {.group = "example-orders"});
  if (!producer.ok()) {
    return {};
  }
  mq::Transaction txn = producer->begin({.reference = "order 3", .timeout_ms = 500});
  if (!prepare(txn, topic, "order 3")) {
    return {};
  }
  const std::string id = txn.id().to_string();
  orders.book(id);
  static_cast<void>(producer->close(1'000));  // its transactions stay as they are
  std::cout << "forgot " << id << "\n";
  return id;
}

// Waits until the answer to the check has arrived at the broker.
bool committed_by_check(const mq::Client& client, const std::string& text) {
  const auto id = mq::TransactionId::parse(text);
  auto transactions = mq::Transactions::create(client);
  for (int i = 0; i < 100 && id.ok() && transactions.ok(); ++i) {
    const auto info = transactions->show(*id);
    if (!info.ok()) {
      std::cerr << text << ": " << info.status().to_string() << "\n";
      return false;
    }
    if (info->state == mq::TransactionStateKind::kCommitted) {
      std::cout << "committed by the check " << text << "\n";
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::cerr << text << " was not committed\n";
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: transaction TOPIC [BROKERS]\n";
    return 2;
  }
  const char* const topic = argv[1];
  const auto client = mq::Client::create(
      {.brokers = argc == 3 ? mq::split_brokers(argv[2]) : mq::brokers_from_environment(),
       .client_name = "example-transaction"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }

  Orders orders;
  auto producer = mq::TransactionProducer::create(
      *client, {.group = "example-orders",
                .check = [&](const mq::CheckRequest& request) { return orders.check(request); }});
  if (!producer.ok()) {
    std::cerr << producer.status().to_string() << "\n";
    return 1;
  }

  // Booked: the messages become visible.
  mq::Transaction first = producer->begin({.reference = "order 1"});
  if (!prepare(first, topic, "order 1")) {
    return 1;
  }
  orders.book(first.id().to_string());  // with the order, in one local transaction
  if (!ended(first.commit(), "committed")) {
    return 1;
  }

  // Not booked: nobody ever sees them.
  mq::Transaction second = producer->begin({.reference = "order 2"});
  if (!prepare(second, topic, "order 2") || !ended(second.rollback(), "rolled back")) {
    return 1;
  }

  // Booked, and then the process was gone: the broker asks, and the answer commits.
  const std::string third = forget(*client, orders, topic);
  if (third.empty() || !orders.wait_for_check()) {
    std::cerr << "nobody asked\n";
    return 1;
  }
  return committed_by_check(*client, third) ? 0 : 1;
}
