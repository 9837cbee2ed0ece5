// Prints the messages of a topic, from the start of every partition to where its end is now.
//
//   consume TOPIC [BROKERS]
//
// One line per message: partition, offset, key (or -), value, separated by tabs. BROKERS defaults
// to $TIDEMARK_BROKERS. Exit code: 0 read to the end, 1 an error, 2 wrong usage.
#include <cstdint>
#include <iostream>
#include <map>
#include <vector>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

int fail(const mq::Status& status) {
  std::cerr << status.to_string() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: consume TOPIC [BROKERS]\n";
    return 2;
  }
  const char* const topic = argv[1];
  const auto client = mq::Client::create(
      {.brokers = argc == 3 ? mq::split_brokers(argv[2]) : mq::brokers_from_environment(),
       .client_name = "example-consume"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }

  // Where each partition ends now.
  mq::Admin admin(*client);
  const auto partitions = admin.describe_partitions(topic);
  if (!partitions.ok()) {
    return fail(partitions.status());
  }
  std::map<uint32_t, uint64_t> unread;  // partition -> its end
  std::vector<mq::Assignment> assignment;
  for (const mq::PartitionDescription& partition : *partitions) {
    if (partition.end_offset > partition.start_offset) {
      unread[partition.partition] = partition.end_offset;
      assignment.push_back(
          {.topic = topic, .partition = partition.partition, .from = mq::Position::start()});
    }
  }
  if (unread.empty()) {
    return 0;
  }

  auto consumer = mq::Consumer::create(*client);
  if (!consumer.ok()) {
    return fail(consumer.status());
  }
  const mq::Status assigned = consumer->assign(assignment);
  if (!assigned.ok()) {
    return fail(assigned);
  }
  for (int silent_seconds = 0; !unread.empty();) {
    const auto batch = consumer->poll(1'000);
    if (!batch.ok()) {
      return fail(batch.status());
    }
    if (batch->messages.empty()) {
      if (++silent_seconds == 30) {
        std::cerr << "nothing came for 30 s: " << consumer->last_error().to_string() << "\n";
        return 1;
      }
      continue;
    }
    silent_seconds = 0;
    const auto end = unread.find(batch->partition);
    if (end == unread.end()) {
      continue;
    }
    for (const mq::ReceivedMessage& message : batch->messages) {
      if (message.offset < end->second) {
        std::cout << batch->partition << '\t' << message.offset << '\t' << message.key.value_or("-")
                  << '\t' << message.value.value_or("") << '\n';
      }
    }
    if (batch->next_offset >= end->second) {
      unread.erase(end);
    }
  }
  return std::cout.flush() ? 0 : 1;
}
