// Clients of a real broker that write down what they ask and are told: a producer, a reader and a
// member of a group. Messages are numbered_value()s, and their number is their uid.
//
// Each is a process of the history. Whatever goes wrong is in the history or in what stop() says;
// only what cannot be (a client that cannot be made) ends the program. Thread: of the owner, where
// nothing else is said.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/history.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

// Where they send to and read from.
struct Place {
  std::string topic;
  uint32_t partitions = 1;

  [[nodiscard]] uint32_t partition_of(uint64_t uid) const {
    return static_cast<uint32_t>(uid % partitions);
  }
};

// The broker's wall clock, as differences to that of this process in ms.
struct BrokerClock {
  std::atomic<int64_t> offset_ms{0};  // now
  std::atomic<int64_t> ahead_ms{0};   // at most, so far: time in the log does not go back
};

uint32_t crc_of(std::string_view value);
std::vector<client::Assignment> all_partitions(const Place& place);
// A line about a message that was read; `more`: fields besides those that every message has.
void record(History& history, std::string_view process, std::string_view op,
            const std::string& topic, uint32_t partition, const client::ReceivedMessage& message,
            const History::Fields& more);

// The id of a send is the uid of its message.
class RecordedProducer {
 public:
  static constexpr size_t kValueBytes = 100;

  // `number` is the `pid` of the history. Of `options` linger, buffer and reports are its own.
  RecordedProducer(const client::Client& client, History& history, Place place, int number,
                   client::ProducerOptions options);

  // At once. Waits while the buffer is full.
  void send(uint64_t uid);
  // After so long, or at a wall time of the broker.
  void send_after(uint64_t uid, uint64_t delay_ms);
  void send_at(uint64_t uid, int64_t wall_ms);

  // False if some of what was sent has no report in time.
  bool wait_for_reports(int64_t ms_max);
  // As Producer::close(), then wait_for_reports().
  bool close(int64_t ms_max);

  // Handles of delayed messages, by uid; empties the list. Thread: any, like the counts.
  std::map<uint64_t, client::DelayHandle> take_handles();
  // Stored delayed messages so far.
  std::set<uint64_t> delayed();

  [[nodiscard]] uint64_t acknowledged() const { return acknowledged_.load(); }

  [[nodiscard]] uint64_t unknown() const { return unknown_.load(); }

  [[nodiscard]] uint64_t refused() const { return refused_.load(); }

  // Sent and without a report.
  [[nodiscard]] uint64_t open() const { return open_.load(); }

 private:
  void send(uint64_t uid, const std::string& value, const std::optional<client::Delay>& delay);
  void take(const client::DeliveryBatch& batch);

  History& history_;
  const Place place_;
  const std::string name_;
  const int number_;
  std::map<uint32_t, uint64_t> next_;  // seq, by partition
  std::mutex mutex_;
  std::map<uint64_t, client::DelayHandle> handles_;
  std::set<uint64_t> delayed_;
  std::condition_variable reported_;
  std::atomic<uint64_t> open_{0};
  std::atomic<uint64_t> acknowledged_{0};
  std::atomic<uint64_t> unknown_{0};
  std::atomic<uint64_t> refused_{0};
  std::unique_ptr<client::Producer> producer_;
  client::Topic topic_;
};

// Reads along in a thread of its own. A disk that cannot be read while its power goes does not end
// it.
class RecordedReader {
 public:
  RecordedReader(const client::Client& client, History& history, Place place,
                 const BrokerClock& clock);

  ~RecordedReader() { stop(); }

  RecordedReader(const RecordedReader&) = delete;
  RecordedReader& operator=(const RecordedReader&) = delete;

  // False if they do not all come in time, or reading ended.
  bool wait_for(const std::set<uint64_t>& uids, int64_t ms_max);
  // What ended the reading, "" if nothing did.
  std::string stop();

 private:
  void run();
  // Asks again for what could not be read: an error ends the reading of its partition.
  void read_on();

  History& history_;
  const Place place_;
  const BrokerClock& clock_;
  std::map<uint32_t, uint64_t> next_;  // offsets to be read, by partition
  client::Consumer consumer_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards seen_, error_
  std::condition_variable grown_;
  std::set<uint64_t> seen_;
  std::string error_;
  std::thread thread_;
};

// A member of a group that commits each batch when it has it, in a thread of its own.
class RecordedMember {
 public:
  RecordedMember(const client::Client& client, History& history, Place place, std::string group);

  ~RecordedMember() { stop(); }

  RecordedMember(const RecordedMember&) = delete;
  RecordedMember& operator=(const RecordedMember&) = delete;

  // False if the group has not committed that far in time, or reading ended.
  bool wait_for(const std::map<uint32_t, uint64_t>& ends, int64_t ms_max);
  // What ended the reading, "" if nothing did.
  std::string stop();

 private:
  void run();
  // As that of the reader.
  void read_on();
  void commit(uint32_t partition, uint64_t offset);

  History& history_;
  const Place place_;
  const std::string group_;
  std::map<uint32_t, uint64_t> next_;  // offsets to be read, of assigned partitions
  std::unique_ptr<client::GroupConsumer> consumer_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards committed_, error_
  std::condition_variable grown_;
  std::map<uint32_t, uint64_t> committed_;
  std::string error_;
  std::thread thread_;
};

}  // namespace tidemark::testing
