// Consumers of a group in queue mode that write down what they are given and what they say to it:
// most is acked, some is nacked until it dies, some is given back or buried at once.
//
// Thread: of the owner, where nothing else is said; each consumer has one of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "log/base/random.h"
#include "tests/blackbox/recorded_clients.h"
#include "tests/support/history.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

class RecordedQueue {
 public:
  static constexpr uint32_t kDeliveriesMax = 4;

  // Each shard needs one for the dead letters of its partitions.
  static constexpr uint32_t kDeadPartitions = 2;

  // How a topic with dead letters in `dead_topic` is to be made.
  static client::TopicConfig topic_config(const std::string& dead_topic);

  RecordedQueue(const client::Client& client, History& history, Place place, std::string dead_topic,
                std::string group, size_t consumers, uint64_t seed);

  ~RecordedQueue() { stop(); }

  RecordedQueue(const RecordedQueue&) = delete;
  RecordedQueue& operator=(const RecordedQueue&) = delete;

  // Waits until everything in the topic is settled, ends the consumers, and writes down what is
  // settled and what is dead. "", or what did not come to its end.
  std::string finish(int64_t ms_max);
  void stop();

 private:
  void run(size_t number, uint64_t seed);
  void settle(const std::string& member, client::QueueMessage message, Random& random);
  std::string write_dead(int64_t ms_max);

  const client::Client client_;
  History& history_;
  const Place place_;
  const std::string dead_topic_;
  const std::string group_;
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<client::QueueConsumer>> consumers_;
  std::vector<std::thread> threads_;
};

}  // namespace tidemark::testing
