// The public classes of transactions: ids, options, and what they say when no broker is there.
#include "tidemark/transaction.h"

#include <string>

#include <doctest/doctest.h>

#include "tidemark/tidemark.h"

namespace tidemark::client {
namespace {

TEST_CASE("ids: as text and back") {
  const TransactionId id{.producer = 7, .number = (uint64_t{65'535} << 48) | 1'234, .shard = 3};
  CHECK(id.to_string() == "7-65535-1234-3");
  for (const TransactionId& each :
       {id,
        TransactionId{.producer = UINT64_MAX, .number = (uint64_t{1} << 48) - 1, .shard = 65'535},
        TransactionId{.producer = 1, .number = 1, .shard = 0}}) {
    const auto parsed = TransactionId::parse(each.to_string());
    REQUIRE(parsed.ok());
    CHECK(*parsed == each);
  }
  CHECK(TransactionId{}.to_string().empty());
}

TEST_CASE("ids: what is no id") {
  for (const char* text : {"",
                           "7",
                           "7-0-1",
                           "7-0-1-",
                           "-7-0-1-0",
                           "7-0-1-0-",
                           "7-0-1-0-2",
                           "7-0-1-0 ",
                           " 7-0-1-0",
                           "0-0-1-0",
                           "7-0-0-0",
                           "7-65536-1-0",
                           "7-0-281474976710656-0",
                           "7-0-1-65536",
                           "07-0-1-0",
                           "7-00-1-0",
                           "7-0-1-+1",
                           "a-0-1-0",
                           "7-0-1-x",
                           "18446744073709551616-0-1-0",
                           "7--0-1-0"}) {
    CAPTURE(text);
    CHECK(TransactionId::parse(text).status().code() == ErrorCode::kInvalidArgument);
  }
}

Client nowhere() {
  auto client = Client::create({.brokers = {"127.0.0.1:1"}, .reconnect_backoff_max_ms = 100});
  REQUIRE(client.ok());
  return *client;
}

TEST_CASE("options: each wrong one is named, with what is allowed") {
  const Client client = nowhere();
  const auto refused = [&](const TransactionOptions& options, const char* name) {
    const auto producer = TransactionProducer::create(client, options, 10);
    REQUIRE(!producer.ok());
    CHECK(producer.status().code() == ErrorCode::kInvalidArgument);
    CHECK_MESSAGE(producer.status().to_string().find(name) != std::string::npos,
                  producer.status().to_string());
  };
  refused({.group = ""}, "group");
  refused({.group = std::string(256, 'g')}, "group");
  refused({.group = "g", .instance = std::string(256, 'i')}, "instance");
  refused({.group = "g", .check_deadline_ms = 0}, "check_deadline_ms");
  refused({.group = "g", .timeout_ms = 99}, "timeout_ms");
  refused({.group = "g", .timeout_ms = 24 * 3'600'000 + 1}, "timeout_ms");
  refused({.group = "g", .buffer_bytes_max = 1}, "buffer_bytes_max");
  refused({.group = "g", .open_max = 0}, "open_max");
  refused({.group = "g", .batch_bytes = 100}, "batch_bytes");
  refused({.group = "g", .compression_level = 0}, "compression_level");
  refused({.group = "g", .delivery_timeout_ms = 0}, "delivery_timeout_ms");
  refused({.group = "g", .retry_backoff_min_ms = 5, .retry_backoff_max_ms = 4},
          "retry_backoff_max_ms");
  refused({.group = "g", .close_timeout_ms = -1}, "close_timeout_ms");
}

TEST_CASE("no broker: create says so, and operator calls too") {
  const Client client = nowhere();
  const auto producer = TransactionProducer::create(client, {.group = "g"}, 100);
  CHECK(producer.status().code() == ErrorCode::kUnavailable);
  auto transactions = Transactions::create(client);
  REQUIRE(transactions.ok());
  CHECK(transactions->list({}, 100).status().code() == ErrorCode::kUnavailable);
  const TransactionId id{.producer = 1, .number = 1, .shard = 0};
  CHECK(transactions->show(id, 100).status().code() == ErrorCode::kUnavailable);
  CHECK(transactions->commit({id}, 100).status().code() == ErrorCode::kUnavailable);
  CHECK(transactions->stats(100).status().code() == ErrorCode::kUnavailable);
}

TEST_CASE("states have stable names") {
  CHECK(transaction_state_text(TransactionStateKind::kNone) == "none");
  CHECK(transaction_state_text(TransactionStateKind::kOpen) == "open");
  CHECK(transaction_state_text(TransactionStateKind::kParked) == "parked");
  CHECK(transaction_state_text(TransactionStateKind::kCommitted) == "committed");
  CHECK(transaction_state_text(TransactionStateKind::kRolledBack) == "rolled_back");
}

}  // namespace
}  // namespace tidemark::client
