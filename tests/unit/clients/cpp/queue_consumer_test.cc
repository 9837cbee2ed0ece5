// The public part of queue consumers, without a broker.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "tidemark/queue.h"

namespace tidemark::client {
namespace {

Client no_broker() {
  auto client = Client::create({.brokers = {"127.0.0.1:1"}, .reconnect_backoff_max_ms = 100});
  REQUIRE(client.ok());
  return *client;
}

std::string refusal(const Client& client, QueueOptions options) {
  const auto consumer = QueueConsumer::create(client, std::move(options));
  return consumer.ok() ? "taken" : consumer.status().to_string();
}

QueueOptions good() { return {.group = "g", .topics = {"t"}}; }

TEST_CASE("queue options: each wrong one is named, with what is allowed") {
  const Client client = no_broker();
  const auto with = [&](auto change) {
    QueueOptions options = good();
    change(options);
    return refusal(client, std::move(options));
  };
  CHECK(with([](QueueOptions&) {}) == "taken");
  CHECK(with([](QueueOptions& o) { o.group = ""; }) ==
        "invalid argument: group has 0 bytes; allowed are 1 to 255");
  CHECK(with([](QueueOptions& o) { o.group = std::string(256, 'g'); }) ==
        "invalid argument: group has 256 bytes; allowed are 1 to 255");
  CHECK(with([](QueueOptions& o) { o.topics = {}; }) ==
        "invalid argument: topics has 0 entries; allowed are 1 to 256");
  CHECK(with([](QueueOptions& o) { o.topics = std::vector<std::string>(257, "t"); }) ==
        "invalid argument: topics has 257 entries; allowed are 1 to 256");
  CHECK(with([](QueueOptions& o) {
          o.topics = {"a", "b", "a"};
        }) == "invalid argument: topics has \"a\" twice");
  CHECK(with([](QueueOptions& o) { o.topics = {"a b"}; }).find("topic name \"a b\"") !=
        std::string::npos);
  CHECK(with([](QueueOptions& o) { o.visibility_ms = 999; }) ==
        "invalid argument: visibility_ms is 999; allowed are 1000 to 43200000");
  CHECK(with([](QueueOptions& o) { o.visibility_ms = 43'200'001; }) ==
        "invalid argument: visibility_ms is 43200001; allowed are 1000 to 43200000");
  CHECK(with([](QueueOptions& o) { o.in_flight_max = 0; }) ==
        "invalid argument: in_flight_max is 0; allowed are 1 to 65536");
  CHECK(with([](QueueOptions& o) { o.in_flight_max = 65'537; }) ==
        "invalid argument: in_flight_max is 65537; allowed are 1 to 65536");
  CHECK(with([](QueueOptions& o) { o.prefetch_bytes_max = 65'535; }) ==
        "invalid argument: prefetch_bytes_max is 65535; allowed are 65536 to 1073741824");
  CHECK(with([](QueueOptions& o) { o.auto_extend_ms = -1; }) ==
        "invalid argument: auto_extend_ms is -1; allowed are 0 to " +
            std::to_string(limits::kQueueDelayMsMax));
  CHECK(with([](QueueOptions& o) { o.receive_wait_ms = 60'001; }) ==
        "invalid argument: receive_wait_ms is 60001; allowed are 0 to 60000");
  CHECK(with([](QueueOptions& o) { o.handlers = 0; }) ==
        "invalid argument: handlers is 0; allowed are 1 to 256");
  CHECK(with([](QueueOptions& o) { o.handlers = 257; }) ==
        "invalid argument: handlers is 257; allowed are 1 to 256");
  CHECK(with([](QueueOptions& o) { o.tags = std::vector<std::string>(65, "t"); }) ==
        "invalid argument: tags has 65 entries; allowed are 0 to 64");
  CHECK(with([](QueueOptions& o) { o.tags = {""}; }) ==
        "invalid argument: one of tags has 0 bytes; allowed are 1 to 255");
  CHECK(with([](QueueOptions& o) { o.filter = std::string(4'097, 'f'); }) ==
        "invalid argument: filter has 4097 bytes; allowed are 0 to 4096");
}

TEST_CASE("no broker: receive waits no longer than asked; close ends in time and is idempotent") {
  const Client client = no_broker();
  auto consumer = QueueConsumer::create(client, good());
  REQUIRE(consumer.ok());
  const auto message = consumer->receive(20);
  REQUIRE(message.ok());
  CHECK(!message->has_value());
  CHECK(consumer->in_flight() == 0);
  CHECK(consumer->flush(1'000).ok());
  consumer->pause();
  consumer->resume();
  CHECK(consumer->close(5'000).ok());
  CHECK(consumer->close(0).ok());
  CHECK(consumer->receive(0).status().to_string() == "shutting down: the consumer is closed");
}

TEST_CASE("handlers: they end with the consumer; receive() is refused beside them") {
  const Client client = no_broker();
  QueueOptions options = good();
  options.on_message = [](QueueMessage&) { return true; };
  options.handlers = 4;
  auto consumer = QueueConsumer::create(client, options);
  REQUIRE(consumer.ok());
  CHECK(consumer->receive(0).status().to_string() ==
        "invalid argument: receive() cannot be used together with on_message");
  auto other = QueueConsumer::create(client, options);
  REQUIRE(other.ok());
  *consumer = std::move(*other);  // the first one's handlers have ended
  CHECK(consumer->close(5'000).ok());
}

TEST_CASE("no broker: Queues ends at its deadline with the reason") {
  const Client client = no_broker();
  auto queues = Queues::create(client);
  REQUIRE(queues.ok());
  CHECK(queues->describe("g", 50).status().code() == ErrorCode::kUnavailable);
  CHECK(queues->ack("g", "t", 0, {{.first = 1}}, 50).status().code() == ErrorCode::kUnavailable);
  CHECK(queues->redrive("t", 0, {1}, 50).status().code() == ErrorCode::kUnavailable);
  CHECK(queues->unsettled("g", "t", 0, 0, 10, 50).status().code() == ErrorCode::kUnavailable);
  CHECK(queues->ack("g", "t", 0, {{.first = 1, .count = 0}}, 50).status().code() ==
        ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tidemark::client
