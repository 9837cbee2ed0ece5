// Numbered delayed messages against a real broker: Schedules sends them and keeps what the broker
// said of each, Arrivals reads them and keeps what came when.
//
// A number is 0 or more and belongs to one message of a test; its value is numbered_value(). Times
// are of this process: wall in ms since 1970, monotonic in ns.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/support/numbered_value.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

inline constexpr int64_t kTrafficDeadlineMs = 120'000;

int64_t wall_now_ms();
int64_t monotonic_now_ns();
// Returns when the wall clock shows it: the event that is waited for is a timer's.
void wait_for_wall(int64_t wall_ms);
// The value of an environment variable, or `fallback`.
uint64_t full_size(const char* variable, uint64_t fallback);
// Of /proc/PID/status, in bytes: "VmRSS", "VmHWM". 0 if it cannot be read.
uint64_t process_memory(int pid, std::string_view field);
// VmHWM begins anew. False if the kernel does not let us.
bool reset_peak_memory(int pid);
// The sum over all shards of a metric; REQUIREs that the broker has it.
double metric_sum(uint16_t http_port, std::string_view name);

// What the broker said of one message.
struct Scheduled {
  client::DelayHandle handle;
  int64_t due_ms = 0;
  int64_t sent_ns = 0;   // before send()
  int64_t acked_ns = 0;  // when the report came
  client::Status status;
  bool acked = false;
};

// Thread: of the test.
class Schedules {
 public:
  Schedules(const client::Client& client, std::string topic, size_t bytes);

  void send(uint64_t number, const client::Delay& delay);
  // False if it does not come to that many reports in time.
  bool wait_for_acks(size_t count);
  // Sends what is buffered and waits; REQUIREs that every message was taken.
  void flush();

  [[nodiscard]] size_t acks();

  // By number; call it after flush().
  [[nodiscard]] const std::unordered_map<uint64_t, Scheduled>& all() const { return all_; }

  // At any time; nothing of a number that was not sent.
  [[nodiscard]] std::optional<Scheduled> find(uint64_t number);

  [[nodiscard]] const Scheduled& of(uint64_t number) const { return all_.at(number); }

  // The handles of these numbers as targets.
  [[nodiscard]] std::vector<client::DelayTarget> targets(
      const std::vector<uint64_t>& numbers) const;

 private:
  void take(const client::DeliveryBatch& batch);

  const size_t bytes_;
  std::mutex mutex_;
  std::condition_variable grown_;
  std::unordered_map<uint64_t, Scheduled> all_;
  size_t acks_ = 0;
  std::unique_ptr<client::Producer> producer_;
  client::Topic topic_;
};

struct Arrival {
  uint64_t number = 0;
  uint32_t partition = 0;
  uint64_t offset = 0;
  int64_t wall_ms = 0;
  int64_t monotonic_ns = 0;
};

// Reads every partition of a topic from its start on, in a thread of its own, until it is stopped.
class Arrivals {
 public:
  Arrivals(const client::Client& client, std::string topic, uint32_t partitions);
  ~Arrivals();
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // False if it does not come to that many messages, repeated ones included, in time.
  bool wait_for(size_t count, int64_t ms_max = kTrafficDeadlineMs);
  // False if no message with this number comes in time.
  bool wait_for_number(uint64_t number, int64_t ms_max = kTrafficDeadlineMs);
  [[nodiscard]] size_t count();

  // What ended the reading; "" if nothing did.
  [[nodiscard]] std::string error();

  // Ends the reading; gives all that came, in order for each partition.
  const std::vector<Arrival>& stop();

  // After stop().
  [[nodiscard]] std::unordered_map<uint64_t, size_t> times() const;

  // Messages whose value was not as sent, and errors of reading. After stop().
  [[nodiscard]] size_t damaged() const { return damaged_; }

  [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }

 private:
  void run();

  client::Consumer consumer_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable grown_;
  std::vector<Arrival> arrivals_;
  std::unordered_map<uint64_t, size_t> times_;
  size_t damaged_ = 0;
  std::vector<std::string> errors_;
  std::thread thread_;
};

}  // namespace tidemark::testing
