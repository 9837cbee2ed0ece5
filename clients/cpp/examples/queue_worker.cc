// Works on the messages of a topic together with any number of other workers of its group.
//
//   queue_worker TOPIC GROUP [BROKERS]
//
// Prints the value of each message and acks it; one that begins with "bad" is nacked, and comes
// again as the topic's settings say. Ends when nothing came for two seconds. BROKERS defaults to
// $TIDEMARK_BROKERS. Exit code: 0 everything was settled, 1 an error, 2 wrong usage.
#include <iostream>
#include <string_view>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

int fail(const mq::Status& status) {
  std::cerr << status.to_string() << "\n";
  return 1;
}

bool work(const mq::QueueMessage& message) {
  const std::string_view text = message.value().value_or("");
  std::cout << text << "\n";
  return !text.starts_with("bad");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: queue_worker TOPIC GROUP [BROKERS]\n";
    return 2;
  }
  const auto client = mq::Client::create(
      {.brokers = argc == 4 ? mq::split_brokers(argv[3]) : mq::brokers_from_environment(),
       .client_name = "example-queue-worker"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }
  auto consumer = mq::QueueConsumer::create(*client, {.group = argv[2], .topics = {argv[1]}});
  if (!consumer.ok()) {
    return fail(consumer.status());
  }
  while (true) {
    auto message = consumer->receive(2'000);
    if (!message.ok()) {
      return fail(message.status());
    }
    if (!*message) {
      break;
    }
    if (work(**message)) {
      (*message)->ack();
    } else {
      (*message)->nack("cannot be worked on");
    }
  }
  const mq::Status status = consumer->close(5'000);
  return status.ok() ? 0 : fail(status);
}
