// The public classes: what they refuse, and what they say when no broker is there (nothing listens
// on port 1).
#include "tidemark/client.h"

#include <future>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "tidemark/tidemark.h"

namespace tidemark::client {
namespace {

Client nowhere() {
  auto client = Client::create({.brokers = {"127.0.0.1:1"}, .reconnect_backoff_max_ms = 100});
  REQUIRE(client.ok());
  return *client;
}

TEST_CASE("client options: each wrong one is named") {
  const auto refused = [](const ClientOptions& options, const std::string& name) {
    const auto client = Client::create(options);
    REQUIRE(!client.ok());
    CHECK(client.status().code() == ErrorCode::kInvalidArgument);
    CHECK_MESSAGE(client.status().to_string().find(name) != std::string::npos,
                  client.status().to_string());
  };
  refused({.brokers = {}}, "brokers");
  refused({.brokers = {"host:port"}}, "host:port");
  refused({.client_name = std::string(101, 'x')}, "client_name");
  refused({.connect_timeout_ms = 0}, "connect_timeout_ms");
  refused({.request_timeout_ms = -1}, "request_timeout_ms");
  refused({.reconnect_backoff_min_ms = 10, .reconnect_backoff_max_ms = 5},
          "reconnect_backoff_min_ms");
}

TEST_CASE("producer and consumer options: each wrong one is named, with what is allowed") {
  const Client client = nowhere();
  const auto producer_refused = [&](const ProducerOptions& options, const std::string& name) {
    const auto producer = Producer::create(client, options);
    REQUIRE(!producer.ok());
    CHECK(producer.status().code() == ErrorCode::kInvalidArgument);
    CHECK_MESSAGE(producer.status().to_string().find(name + " is ") != std::string::npos,
                  producer.status().to_string());
  };
  producer_refused({.buffer_bytes_max = 1}, "buffer_bytes_max");
  producer_refused({.buffer_messages_max = 0}, "buffer_messages_max");
  producer_refused({.overflow = Overflow::block_for(-1)}, "overflow.block_ms");
  producer_refused({.batch_bytes = 2 << 20}, "batch_bytes");
  producer_refused({.linger_ms = -1}, "linger_ms");
  producer_refused({.compression_level = 20}, "compression_level");
  producer_refused({.in_flight_per_partition_max = 6}, "in_flight_per_partition_max");
  producer_refused({.delivery_timeout_ms = 0}, "delivery_timeout_ms");
  producer_refused({.retry_backoff_min_ms = 5, .retry_backoff_max_ms = 4}, "retry_backoff_max_ms");
  for (const ConsumerOptions& options :
       {ConsumerOptions{.prefetch_bytes_max = 1}, ConsumerOptions{.fetch_bytes_per_partition = 1},
        ConsumerOptions{.fetch_wait_ms = 70'000}}) {
    CHECK(Consumer::create(client, options).status().code() == ErrorCode::kInvalidArgument);
  }
  const auto text = [&](const ConsumerOptions& options) {
    return Consumer::create(client, options).status().to_string();
  };
  CHECK(text({.tags = std::vector<std::string>(65, "a")}) ==
        "invalid argument: tags has 65 entries; allowed are 0 to 64");
  CHECK(text({.tags = {"a", std::string(256, 'a')}}) ==
        "invalid argument: one of tags has 256 bytes; allowed are 1 to 255");
  CHECK(text({.filter = std::string(4'097, 'f')}) ==
        "invalid argument: filter has 4097 bytes; allowed are 0 to 4096");
}

TEST_CASE("broker lists") {
  CHECK(split_brokers("a:1, b:2 ,,c") == std::vector<std::string>{"a:1", "b:2", "c"});
  CHECK(split_brokers("").empty());
}

TEST_CASE("errors have the names and texts of the table") {
  CHECK(error_name(ErrorCode::kDiskFull) == "DiskFull");
  CHECK(error_text(ErrorCode::kDiskFull) == "disk full");
  CHECK(is_retryable(ErrorCode::kDiskFull));
  CHECK(!outcome_unknown(ErrorCode::kDiskFull));
  CHECK(outcome_unknown(ErrorCode::kTimedOut));
  CHECK(Status().to_string() == "ok");
  CHECK(Status(ErrorCode::kTooLarge, "why").to_string() == "too large: why");
}

TEST_CASE("no broker: a message times out with a report that names the broker") {
  auto producer = Producer::create(nowhere(), {.delivery_timeout_ms = 100});
  REQUIRE(producer.ok());
  const Delivery delivery = producer->send_future("t", {.value = "v"}).get();
  CHECK(delivery.status.code() == ErrorCode::kTimedOut);
  CHECK(!delivery.outcome_unknown);
  CHECK_MESSAGE(delivery.status.to_string().find("127.0.0.1:1") != std::string::npos,
                delivery.status.to_string());
  const FlushResult result = producer->flush(1'000);
  CHECK(result.failed == 1);
  CHECK(result.status.code() == ErrorCode::kTimedOut);
  CHECK(result.undelivered.empty());
}

TEST_CASE("no broker: flush keeps what it hands back, close gives it up") {
  std::vector<std::pair<ErrorCode, size_t>> reports;
  ProducerOptions options;
  options.on_delivery = [&](const DeliveryBatch& batch) {
    reports.emplace_back(batch.status.code(), batch.opaques.size());
  };
  auto producer = Producer::create(nowhere(), options);
  REQUIRE(producer.ok());
  const auto topic = producer->topic("t");
  REQUIRE(topic.ok());
  for (uint64_t i = 0; i < 3; ++i) {
    REQUIRE(producer->send(*topic, {.key = "k", .value = "v"}, i).ok());
  }
  FlushResult result = producer->flush(50);
  CHECK(result.status.code() == ErrorCode::kTimedOut);
  REQUIRE(result.undelivered.size() == 3);
  CHECK(result.undelivered[2].message.opaque == 2);
  CHECK(result.undelivered[2].message.topic == "t");
  CHECK(result.undelivered[2].why.code() == ErrorCode::kUnavailable);
  CHECK(producer->stats().buffered_messages == 3);

  result = producer->close(0);
  CHECK(result.undelivered.size() == 3);
  CHECK(producer->stats().buffered_messages == 0);
  CHECK(reports == std::vector<std::pair<ErrorCode, size_t>>{{ErrorCode::kCancelled, 3}});
  CHECK(producer->send(*topic, {.value = "v"}).code() == ErrorCode::kShuttingDown);
  CHECK(producer->close(0).undelivered.empty());
}

TEST_CASE("no broker: admin calls end at their deadline with the reason") {
  Admin admin(nowhere());
  const auto topics = admin.list_topics(100);
  REQUIRE(!topics.ok());
  CHECK(topics.status().code() == ErrorCode::kUnavailable);
  CHECK(topics.status().to_string().find("127.0.0.1:1") != std::string::npos);
  CHECK(admin.create_topic("t", 1, {}, 50).status().code() == ErrorCode::kUnavailable);
  CHECK(admin.alter_topic("t", {}, 50).status().code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("no broker: poll waits no longer than asked, and says why nothing comes") {
  auto consumer = Consumer::create(nowhere());
  REQUIRE(consumer.ok());
  CHECK(consumer->poll(0).status().code() == ErrorCode::kInvalidArgument);  // nothing assigned
  REQUIRE(consumer->assign({{"t", 0, Position::end()}}).ok());
  const auto batch = consumer->poll(100);
  REQUIRE(batch.ok());
  CHECK(batch->messages.empty());
  CHECK(consumer->last_error().code() == ErrorCode::kUnavailable);
  consumer->close();
  CHECK(consumer->poll(10).status().code() == ErrorCode::kShuttingDown);
}

TEST_CASE("waiting calls are refused in a callback; handles may be dropped there") {
  std::promise<std::pair<ErrorCode, ErrorCode>> seen;
  auto client = std::make_unique<Client>(nowhere());
  auto producer = std::make_unique<Producer>(
      std::move(Producer::create(*client, {.delivery_timeout_ms = 20})).value());
  Producer* const raw = producer.get();
  Admin admin(*client);
  REQUIRE(raw->send("t", {.value = "v"},
                    [&](const Delivery&) {
                      seen.set_value(
                          {raw->flush(10).status.code(), admin.list_topics(10).status().code()});
                    })
              .ok());
  const auto codes = seen.get_future().get();
  CHECK(codes.first == ErrorCode::kInvalidArgument);
  CHECK(codes.second == ErrorCode::kInvalidArgument);

  // The last handles go on the I/O thread itself.
  std::promise<void> dropped;
  auto own_client = std::make_unique<Client>(nowhere());
  auto own = std::make_unique<Producer>(
      std::move(Producer::create(*own_client, {.delivery_timeout_ms = 20})).value());
  own_client.reset();
  Producer& last = *own;
  std::promise<void> returned;
  REQUIRE(last.send("t", {.value = "v"},
                    [&own, &dropped, sent = returned.get_future().share()](const Delivery&) {
                      sent.wait();  // nobody may still be inside a call of what is destroyed
                      own.reset();
                      dropped.set_value();
                    })
              .ok());
  returned.set_value();
  dropped.get_future().wait();
}

TEST_CASE("an executor runs the callbacks elsewhere, in order") {
  std::vector<std::function<void()>> tasks;
  std::promise<void> came;
  auto client =
      Client::create({.brokers = {"127.0.0.1:1"}, .executor = [&](std::function<void()> task) {
                        tasks.push_back(std::move(task));
                        came.set_value();
                      }});
  REQUIRE(client.ok());
  auto producer = Producer::create(*client, {.delivery_timeout_ms = 20});
  REQUIRE(producer.ok());
  bool reported = false;
  REQUIRE(producer->send("t", {.value = "v"}, [&](const Delivery&) { reported = true; }).ok());
  came.get_future().wait();
  CHECK(!reported);
  CHECK(producer->flush(0).status.code() ==
        ErrorCode::kOk);  // nothing is left to hand back, the report is just not out yet
  tasks.at(0)();
  CHECK(reported);
}

}  // namespace
}  // namespace tidemark::client
