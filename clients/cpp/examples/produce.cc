// Sends lines from standard input to a topic and waits until all of them are stored.
//
//   produce TOPIC [BROKERS] < file
//
// A line "key<TAB>value" becomes a message with a key. BROKERS defaults to $TIDEMARK_BROKERS.
// Exit code: 0 all stored, 1 some were not, 2 wrong usage.
#include <cstdint>
#include <iostream>
#include <string>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: produce TOPIC [BROKERS] < file\n";
    return 2;
  }
  const auto client = mq::Client::create(
      {.brokers = argc == 3 ? mq::split_brokers(argv[2]) : mq::brokers_from_environment(),
       .client_name = "example-produce"});
  if (!client.ok()) {
    std::cerr << "client: " << client.status().to_string() << "\n";
    return 2;
  }

  // One callback for whole batches is the cheap way to hear about millions of messages.
  uint64_t stored = 0;
  uint64_t failed = 0;
  mq::ProducerOptions options;
  options.on_delivery = [&](const mq::DeliveryBatch& batch) {
    if (batch.status.ok()) {
      stored += batch.opaques.size();
      return;
    }
    failed += batch.opaques.size();
    std::cerr << "lines from " << batch.opaques.front() + 1 << ": " << batch.status.to_string()
              << "\n";
  };
  auto producer = mq::Producer::create(*client, options);
  if (!producer.ok()) {
    std::cerr << "producer: " << producer.status().to_string() << "\n";
    return 2;
  }
  const auto topic = producer->topic(argv[1]);
  if (!topic.ok()) {
    std::cerr << topic.status().to_string() << "\n";
    return 2;
  }

  std::string line;
  for (uint64_t number = 0; std::getline(std::cin, line); ++number) {
    mq::Message message;
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) {
      message.value = line;
    } else {
      message.key = std::string_view(line).substr(0, tab);
      message.value = std::string_view(line).substr(tab + 1);
    }
    // Waits when the write buffer is full; the line number comes back in the report.
    const mq::Status accepted = producer->send(*topic, message, number);
    if (!accepted.ok()) {
      std::cerr << "line " << number + 1 << ": " << accepted.to_string() << "\n";
      ++failed;
    }
  }

  const mq::FlushResult rest = producer->close(30'000);
  for (const mq::Undelivered& each : rest.undelivered) {
    std::cerr << "not delivered: line " << each.message.opaque + 1 << ": " << each.why.to_string()
              << (each.outcome_unknown ? " (may be stored)" : "") << "\n";
  }
  std::cout << "stored " << stored << " failed " << failed << "\n";
  return failed == 0 && rest.undelivered.empty() ? 0 : 1;
}
