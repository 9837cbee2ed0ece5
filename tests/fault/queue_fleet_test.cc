// A fleet of consumers on one topic, of a queue and of groups that read, that join and leave at
// random while messages come. Some are slow, some never settle what they take, one reader does not
// go on: every message is delivered to every group, and the others never wait for these.
//
// TIDEMARK_CONSUMERS=1000 and TIDEMARK_FLEET_MESSAGES=1000000 make the big run.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/queue_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 8;
constexpr size_t kMessageBytes = 100;
constexpr uint64_t kSeed = 20261129;
constexpr int kChunks = 20;
constexpr size_t kChurners = 8;
constexpr size_t kConsumersPerClient = 20;
constexpr size_t kSlowOfEachKind = 3;
constexpr size_t kSlowInFlight = 8;
constexpr uint64_t kHeldBySlowMax = 3 * kSlowOfEachKind * kSlowInFlight;
constexpr double kMemoryBytesMax = 256.0 * 1024 * 1024;

// Groups, by their place in Deliveries.
constexpr std::array<const char*, 3> kGroups = {"queue", "churned", "blocked"};
constexpr size_t kQueue = 0;
constexpr size_t kChurned = 1;
constexpr size_t kBlocked = 2;  // four members, one of which does not go on
constexpr size_t kMembersOfBlocked = 4;

// Which messages the groups have been given.
class Deliveries {
 public:
  explicit Deliveries(uint64_t count) {
    for (std::vector<bool>& group : seen_) {
      group.resize(count);
    }
  }

  void add(size_t group, std::string_view value) {
    const uint64_t number = number_of(value);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (number >= seen_[group].size()) {
      ++strange_;
    } else if (!seen_[group][number]) {
      seen_[group][number] = true;
      ++distinct_[group];
      grown_.notify_all();
    } else {
      ++again_;
    }
  }

  void note_error(const client::Status& status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    error_ = error_.ok() ? status : error_;
  }

  // False if the group does not come to so many different messages in time.
  bool wait_for(size_t group, uint64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                           [&] { return distinct_[group] >= count; });
  }

  // The same for all messages of these partitions.
  bool wait_for_partitions(size_t group, const std::set<uint32_t>& partitions) {
    std::unique_lock<std::mutex> lock(mutex_);
    return grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs), [&] {
      for (uint64_t number = 0; number < seen_[group].size(); ++number) {
        if (partitions.contains(static_cast<uint32_t>(number % kPartitions)) &&
            !seen_[group][number]) {
          return false;
        }
      }
      return true;
    });
  }

  uint64_t distinct(size_t group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return distinct_[group];
  }

  uint64_t again() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return again_;
  }

  uint64_t strange() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return strange_;
  }

  client::Status error() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable grown_;
  std::array<std::vector<bool>, kGroups.size()> seen_;
  std::array<uint64_t, kGroups.size()> distinct_{};
  uint64_t again_ = 0;
  uint64_t strange_ = 0;
  client::Status error_;
};

// Opens once; handlers wait for it.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }

  // True: it is open.
  bool wait(int64_t ms_max) {
    std::unique_lock<std::mutex> lock(mutex_);
    return opened_.wait_for(lock, std::chrono::milliseconds(ms_max), [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

client::QueueOptions queue_options(size_t in_flight) {
  client::QueueOptions options;
  options.group = kGroups[kQueue];
  options.topics = {"t"};
  options.in_flight_max = in_flight;
  options.receive_wait_ms = 200;
  return options;
}

client::QueueConsumer open_queue(const client::Client& client,
                                 const client::QueueOptions& options) {
  auto consumer = client::QueueConsumer::create(client, options);
  REQUIRE_MESSAGE(consumer.ok(), consumer.status().to_string());
  return std::move(*consumer);
}

// A place for one consumer at a time. Thread: one.
class Slot {
 public:
  Slot(const client::Client& client, size_t group, Deliveries& deliveries)
      : client_(client), group_(group), deliveries_(deliveries) {}

  [[nodiscard]] bool taken() const { return queue_ != nullptr || stream_ != nullptr; }

  void join() {
    if (group_ == kQueue) {
      client::QueueOptions options = queue_options(32);
      options.on_message = [this](client::QueueMessage& message) {
        deliveries_.add(kQueue, message.value().value_or(""));
        return true;
      };
      auto made = client::QueueConsumer::create(client_, options);
      if (made.ok()) {
        queue_ = std::make_unique<client::QueueConsumer>(std::move(*made));
      } else {
        deliveries_.note_error(made.status());
      }
      return;
    }
    client::GroupOptions options;
    options.group = kGroups[group_];
    options.topics = {"t"};
    options.reading.on_messages = [this](const client::Result<client::MessageBatch>& batch) {
      if (!batch.ok()) {
        return deliveries_.note_error(batch.status());
      }
      for (const client::ReceivedMessage& message : batch->messages) {
        deliveries_.add(group_, message.value.value_or(""));
      }
    };
    auto made = client::GroupConsumer::create(client_, options);
    if (made.ok()) {
      stream_ = std::make_unique<client::GroupConsumer>(std::move(*made));
    } else {
      deliveries_.note_error(made.status());
    }
  }

  void leave() {
    client::Status status;
    if (queue_ != nullptr) {
      status = queue_->close(kTrafficDeadlineMs);
      queue_.reset();
    }
    if (stream_ != nullptr) {
      status = stream_->close(kTrafficDeadlineMs);
      stream_.reset();
    }
    if (!status.ok()) {
      deliveries_.note_error(status);
    }
  }

 private:
  client::Client client_;
  const size_t group_;
  Deliveries& deliveries_;
  std::unique_ptr<client::QueueConsumer> queue_;
  std::unique_ptr<client::GroupConsumer> stream_;
};

// Consumers that come and go. The first of each group stays.
class Fleet {
 public:
  Fleet(const std::string& address, size_t consumers, Deliveries& deliveries) {
    for (size_t i = 0; i < consumers; ++i) {
      if (i % kConsumersPerClient == 0) {
        clients_.push_back(connect(address));
      }
      // Of four, three work on the queue.
      const size_t group = i % 4 != 3 ? kQueue : kChurned;
      slots_.push_back(std::make_unique<Slot>(clients_.back(), group, deliveries));
    }
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (i < kStaying || i % 2 == 0) {
        slots_[i]->join();
      }
    }
    for (size_t i = 0; i < kChurners; ++i) {
      churners_.emplace_back([this, i] { churn(i); });
    }
  }

  ~Fleet() { leave(); }

  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  // Nobody comes or goes any more.
  void settle_down() {
    quiet_.open();
    for (std::thread& churner : churners_) {
      churner.join();
    }
    churners_.clear();
  }

  // Each waits for a request that the broker holds, so they do it together.
  void leave() {
    settle_down();
    std::vector<std::thread> leaving;
    for (size_t first = 0; first < slots_.size(); first += kConsumersPerClient) {
      leaving.emplace_back([this, first] {
        for (size_t i = first; i < std::min(first + kConsumersPerClient, slots_.size()); ++i) {
          slots_[i]->leave();
        }
      });
    }
    for (std::thread& thread : leaving) {
      thread.join();
    }
  }

  [[nodiscard]] uint64_t changes() const { return changes_.load(); }

  [[nodiscard]] size_t clients() const { return clients_.size(); }

 private:
  static constexpr size_t kStaying = 8;  // two that read are among them

  // Each has slots of its own.
  void churn(size_t churner) {
    Random random(kSeed + churner);
    std::vector<Slot*> mine;
    for (size_t i = kStaying + churner; i < slots_.size(); i += kChurners) {
      mine.push_back(slots_[i].get());
    }
    while (!mine.empty() && !quiet_.wait(static_cast<int64_t>(random.below(20)))) {
      Slot& slot = *mine[random.below(mine.size())];
      if (slot.taken()) {
        slot.leave();
      } else {
        slot.join();
      }
      changes_.fetch_add(1);
    }
  }

  std::vector<client::Client> clients_;
  std::vector<std::unique_ptr<Slot>> slots_;
  Gate quiet_;
  std::atomic<uint64_t> changes_{0};
  std::vector<std::thread> churners_;
};

// Consumers of the queue that take long, that do not come back from their handler, or that keep
// what they got; and a reader that does not go on.
class SlowOnes {
 public:
  SlowOnes(const std::string& address, Deliveries& deliveries)
      : deliveries_(deliveries), client_(connect(address)) {
    client::QueueOptions options = queue_options(kSlowInFlight);
    for (size_t i = 0; i < kSlowOfEachKind; ++i) {
      options.visibility_ms = 10'000;
      options.on_message = [this](client::QueueMessage& message) {
        (void)gate_.wait(100);
        deliveries_.add(kQueue, message.value().value_or(""));
        return true;
      };
      consumers_.push_back(open_queue(client_, options));
      options.visibility_ms = 1'000;
      options.on_message = [this](client::QueueMessage&) {
        stuck_.fetch_add(1);
        (void)gate_.wait(5 * kTrafficDeadlineMs);
        return false;
      };
      consumers_.push_back(open_queue(client_, options));
      options.on_message = {};
      keepers_.push_back(open_queue(client_, options));
    }
    block_reader();
  }

  ~SlowOnes() { leave(); }

  SlowOnes(const SlowOnes&) = delete;
  SlowOnes& operator=(const SlowOnes&) = delete;

  // The keepers have messages now, and do nothing with them. Requires: plenty is stored.
  void take_messages() {
    for (client::QueueConsumer& keeper : keepers_) {
      auto message = keeper.receive(kTrafficDeadlineMs);
      REQUIRE_MESSAGE(message.ok(), message.status().to_string());
      REQUIRE(message->has_value());
      kept_.push_back(std::move(**message));
    }
  }

  // Of the group kBlocked, what nobody else gets.
  [[nodiscard]] std::set<uint32_t> partitions_of_reader() const {
    std::set<uint32_t> partitions;
    for (const client::TopicPartition& one : reader_->assignment()) {
      partitions.insert(one.partition);
    }
    return partitions;
  }

  [[nodiscard]] size_t stuck() const { return stuck_.load(); }

  void release() {
    gate_.open();
    kept_.clear();
    keepers_.clear();
    consumers_.clear();
    reader_.reset();
  }

  // Those that were not slow, too.
  void leave() {
    release();
    companions_.clear();
  }

 private:
  // The reader gets its part of the partitions, and never polls again. Requires: nothing is stored.
  void block_reader() {
    client::GroupOptions reading;
    reading.group = kGroups[kBlocked];
    reading.topics = {"t"};
    auto reader = client::GroupConsumer::create(client_, reading);
    REQUIRE(reader.ok());
    reader_ = std::make_unique<client::GroupConsumer>(std::move(*reader));
    wait_for_share(kPartitions);
    while (companions_.size() + 1 < kMembersOfBlocked) {
      companions_.push_back(std::make_unique<Slot>(client_, kBlocked, deliveries_));
      companions_.back()->join();
    }
    wait_for_share(kPartitions / kMembersOfBlocked);
  }

  void wait_for_share(size_t partitions) {
    const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
    while (reader_->assignment().size() != partitions) {
      REQUIRE(wall_now_ms() < until_ms);
      REQUIRE(reader_->poll(10).ok());
    }
  }

  Deliveries& deliveries_;
  client::Client client_;
  Gate gate_;
  std::atomic<size_t> stuck_{0};
  std::vector<client::QueueConsumer> consumers_;
  std::vector<client::QueueConsumer> keepers_;
  std::vector<client::QueueMessage> kept_;
  std::unique_ptr<client::GroupConsumer> reader_;
  std::vector<std::unique_ptr<Slot>> companions_;
};

void create_topic(const client::Client& client) {
  client::TopicConfig config;
  config.retry_delays_ms = {20};
  config.retry_factor_percent = 100;
  client::Admin admin(client);
  REQUIRE(admin.create_topic("t", kPartitions, config, kTrafficDeadlineMs).ok());
}

double megabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1024 / 1024; }

}  // namespace

TEST_CASE("a fleet of consumers comes and goes: all is delivered, and slow ones stop nobody") {
  const size_t consumers = full_size("TIDEMARK_CONSUMERS", 100);
  const uint64_t count = full_size("TIDEMARK_FLEET_MESSAGES", 20'000) / kChunks * kChunks;
  ToolFixture broker;
  const client::Client client = connect(broker.daemon().address());
  create_topic(client);
  const uint64_t memory_before = process_memory(broker.daemon().pid(), "VmRSS");
  const int64_t began_ms = wall_now_ms();
  Deliveries deliveries(count);
  SlowOnes slow(broker.daemon().address(), deliveries);
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, count / kChunks);
  sender.flush();
  slow.take_messages();
  Fleet fleet(broker.daemon().address(), consumers, deliveries);
  int64_t longest_ms = 0;
  for (uint64_t chunk = 1; chunk < kChunks; ++chunk) {
    sender.send_all(chunk * (count / kChunks), count / kChunks);
    sender.flush();
    // What the slow ones have now is all that may be missing.
    const uint64_t sent = (chunk + 1) * (count / kChunks);
    const int64_t from_ms = wall_now_ms();
    REQUIRE(deliveries.wait_for(kQueue, sent - std::min(sent, kHeldBySlowMax)));
    longest_ms = std::max(longest_ms, wall_now_ms() - from_ms);
  }
  fleet.settle_down();
  const uint64_t memory_peak = process_memory(broker.daemon().pid(), "VmHWM");

  // They are still at it, and everything is delivered and acked: leases that end go to others.
  CHECK(slow.stuck() > 0);
  CHECK(deliveries.wait_for(kQueue, count));
  const QueueSums sums = wait_until_settled(client, kGroups[kQueue], count);
  CHECK(deliveries.wait_for(kChurned, count));
  std::set<uint32_t> others;
  const std::set<uint32_t> blocked = slow.partitions_of_reader();
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    if (!blocked.contains(partition)) {
      others.insert(partition);
    }
  }
  CHECK(others.size() == kPartitions - kPartitions / kMembersOfBlocked);
  CHECK(deliveries.wait_for_partitions(kBlocked, others));
  // And what the reader had goes to the others.
  slow.release();
  CHECK(deliveries.wait_for(kBlocked, count));
  const double connections = metric_sum(broker.daemon().http_port(), "tidemark_connections");
  fleet.leave();
  slow.leave();

  MESSAGE(consumers << " consumers on " << fleet.clients() << " clients, " << fleet.changes()
                    << " came or went in " << wall_now_ms() - began_ms << " ms; " << count
                    << " messages to three groups, " << deliveries.again()
                    << " more than once; a chunk took at most " << longest_ms << " ms; "
                    << sums.failed << " leases or handlers failed; broker: " << connections
                    << " connections, memory " << megabytes(memory_before) << " MiB before, "
                    << megabytes(memory_peak) << " MiB at most");
  CHECK(deliveries.strange() == 0);
  CHECK_MESSAGE(deliveries.error().ok(), deliveries.error().to_string());
  CHECK(fleet.changes() > 0);
  CHECK(sums.failed > 0);
  CHECK(static_cast<double>(memory_peak - memory_before) <= kMemoryBytesMax);
  CHECK(broker.daemon().terminate() == 0);
}

}  // namespace tidemark::testing
