// What the broker answered to `tidemark produce` so far.
//
// Thread: on_delivery() on the client's thread, everything else on the command's.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "tidemark/producer.h"

namespace tidemark::tools {

// The answer to one delayed message.
struct DelayedDelivery {
  uint64_t line = 0;
  uint32_t partition = 0;
  client::DelayReceipt receipt;
};

class DeliveryLog {
 public:
  struct PartitionResult {
    uint64_t messages = 0;
    uint64_t last_offset = 0;  // of plain messages
  };

  // `keeps_each`: the answer to each delayed message is kept for take_each().
  explicit DeliveryLog(bool keeps_each) : keeps_each_(keeps_each) {}

  void on_delivery(const client::DeliveryBatch& batch);

  // A batch failed: the messages after it are not to be sent. Cheap; asked for every message. A
  // delayed message that was refused by itself (its key is taken) does not stop the others.
  [[nodiscard]] bool any_failed() const { return any_failed_.load(std::memory_order_relaxed); }

  [[nodiscard]] uint64_t acked() const {
    const std::lock_guard<std::mutex> guard(mutex_);
    return acked_;
  }

  // What came since the last call.
  [[nodiscard]] std::vector<DelayedDelivery> take_each();

  // After the producer was closed: no callback runs any more.
  [[nodiscard]] uint64_t failed() const { return failed_; }

  [[nodiscard]] uint64_t unknown() const { return unknown_; }

  [[nodiscard]] uint64_t first_failed_message() const { return first_failed_message_; }

  // The first one; one that is no refusal of a taken key comes before those that are.
  [[nodiscard]] const client::Status& first_error() const { return first_error_; }

  [[nodiscard]] const std::map<uint32_t, PartitionResult>& partitions() const {
    return partitions_;
  }

 private:
  void add_failure(const client::Status& status, uint64_t line, uint64_t count, bool unknown);
  void keep(const client::DeliveryBatch& batch, size_t index, const client::DelayReceipt& receipt);

  const bool keeps_each_;
  mutable std::mutex mutex_;
  std::atomic<bool> any_failed_{false};
  uint64_t acked_ = 0;
  uint64_t failed_ = 0;
  uint64_t unknown_ = 0;
  uint64_t first_failed_message_ = 0;
  client::Status first_error_;
  std::map<uint32_t, PartitionResult> partitions_;
  std::vector<DelayedDelivery> each_;
};

}  // namespace tidemark::tools
