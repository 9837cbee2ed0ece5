// Numbered messages for queue mode against a real broker, and what the broker says of a group.
//
// A number is 0 or more; its value is numbered_value() (tests/support/delay_traffic.h). Message n
// goes to partition n % partitions, so that what is sent in turn from 0 on lies at offset n /
// partitions. Thread: of the test, where nothing else is said.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "tidemark/tidemark.h"

namespace tidemark::testing {

class NumberedSender {
 public:
  NumberedSender(const client::Client& client, const std::string& topic, uint32_t partitions,
                 size_t bytes, client::ProducerOptions options = {});

  // Does not wait for the broker, as long as there is room in the buffer.
  void send(uint64_t number);
  void send_all(uint64_t first, uint64_t count);
  // REQUIREs that everything sent is stored.
  void flush();

 private:
  const uint32_t partitions_;
  const size_t bytes_;
  std::unique_ptr<client::Producer> producer_;
  client::Topic topic_;
};

// Of a group in queue mode, over all of its partitions.
struct QueueSums {
  size_t partitions = 0;
  uint64_t messages = 0;  // stored so far
  uint64_t unsettled = 0;
  uint64_t leased = 0;
  uint64_t receivers = 0;
  uint64_t acked = 0;
  uint64_t failed = 0;
  uint64_t dead_lettered = 0;
  uint64_t filtered = 0;

  [[nodiscard]] std::string to_string() const;
};

// REQUIREs an answer.
QueueSums queue_sums(const client::Client& client, std::string_view group);
// Waits until the group has settled all of so many messages; REQUIREs that it comes to it.
QueueSums wait_until_settled(const client::Client& client, std::string_view group,
                             uint64_t messages);

// A message of a topic, with its content.
struct StoredMessage {
  uint32_t partition = 0;
  uint64_t offset = 0;
  std::string value;
  std::multimap<std::string, std::string> headers;

  // The value of the only header of this name; "" if there are none or several.
  [[nodiscard]] std::string header(const std::string& name) const;
};

// Everything that partitions 0 to partitions - 1 have, by partition and offset.
std::vector<StoredMessage> read_all(const client::Client& client, const std::string& topic,
                                    uint32_t partitions);

// The numbers of `tidemark log dump --stats`. Requires: no daemon runs on the directory.
nlohmann::json log_stats(const std::string& data_dir);

// `part` of 0 to 1: the value that so many of the others do not exceed; 0 of none. Sorts.
int64_t quantile(std::vector<int64_t>& values, double part);

}  // namespace tidemark::testing
