// Eight groups read a topic while it is written: everything comes out of memory, and nothing is
// read from disk.
//
// TIDEMARK_FAN_OUT_MB=20000 makes the big run: megabytes that all groups read together.
#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 4;
constexpr size_t kGroups = 8;
constexpr size_t kMessageBytes = 1'024;
// The writer waits for a group that is so far behind: well inside the broker's tail cache, which is
// what is to be seen here.
constexpr uint64_t kAheadMessagesMax = 32 * 1'024;
constexpr double kMegabyte = 1e6;

// How many messages each group has read.
class Progress {
 public:
  void add(size_t group, uint64_t messages) {
    const std::lock_guard<std::mutex> lock(mutex_);
    read_[group] += messages;
    grown_.notify_all();
  }

  // False if not all groups have read so many in time.
  bool wait_for_all(uint64_t messages) {
    std::unique_lock<std::mutex> lock(mutex_);
    return grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                           [&] { return *std::ranges::min_element(read_) >= messages; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable grown_;
  std::array<uint64_t, kGroups> read_{};
};

std::string value_of(uint64_t number) {
  std::string value(kMessageBytes, 'x');
  std::memcpy(value.data(), &number, sizeof number);
  return value;
}

// One group with one member, in a thread of its own, until it has read `messages`.
class Reader {
 public:
  Reader(const std::string& address, size_t group, uint64_t messages, Progress& progress)
      : client_(connect(address)), group_(group), messages_(messages), progress_(progress) {
    client::GroupOptions options;
    options.group = "group-" + std::to_string(group);
    options.topics = {"t"};
    auto consumer = client::GroupConsumer::create(client_, options);
    REQUIRE_MESSAGE(consumer.ok(), consumer.status().to_string());
    consumer_ = std::make_unique<client::GroupConsumer>(std::move(*consumer));
    thread_ = std::thread([this] { run(); });
  }

  ~Reader() { join(); }

  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void join() {
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  [[nodiscard]] bool has_all() const { return consumer_->assignment().size() == kPartitions; }

  // After join(). Messages that were not the next of their partition, or not as sent.
  uint64_t wrong = 0;
  client::Status error;

 private:
  void run() {
    read_all();
    (void)consumer_->close(kTrafficDeadlineMs);
  }

  void read_all() {
    std::array<uint64_t, kPartitions> next{};
    uint64_t read = 0;
    const int64_t until_ms = wall_now_ms() + 5 * kTrafficDeadlineMs;
    while (read < messages_ && wall_now_ms() < until_ms) {
      const auto batch = consumer_->poll(100);
      if (!batch.ok()) {
        error = batch.status();
        return;
      }
      for (const client::ReceivedMessage& message : batch->messages) {
        uint64_t& offset = next.at(batch->partition);
        wrong += is_right(message, offset * kPartitions + batch->partition, offset) ? 0U : 1U;
        offset = message.offset + 1;
      }
      read += batch->messages.size();
      if (!batch->messages.empty()) {
        progress_.add(group_, batch->messages.size());
      }
    }
  }

  static bool is_right(const client::ReceivedMessage& message, uint64_t number, uint64_t offset) {
    const std::string_view value = message.value.value_or("");
    return message.offset == offset && value.size() == kMessageBytes &&
           std::memcmp(value.data(), &number, sizeof number) == 0;
  }

  client::Client client_;
  const size_t group_;
  const uint64_t messages_;
  Progress& progress_;
  std::unique_ptr<client::GroupConsumer> consumer_;
  std::thread thread_;
};

void wait_for_assignments(const std::vector<std::unique_ptr<Reader>>& readers) {
  const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
  for (const std::unique_ptr<Reader>& reader : readers) {
    while (!reader->has_all()) {
      REQUIRE(wall_now_ms() < until_ms);
      wait_for_wall(wall_now_ms() + 5);
    }
  }
}

}  // namespace

TEST_CASE("eight groups read a topic while it is written: nothing is read from disk") {
  const uint64_t megabytes = full_size("TIDEMARK_FAN_OUT_MB", 200);
  const uint64_t count = megabytes * 1'000'000 / kMessageBytes / kGroups;
  ToolFixture broker;
  broker.output({"topic", "create", "t", "--partitions", std::to_string(kPartitions)});
  const std::string address = broker.daemon().address();
  Progress progress;
  std::vector<std::unique_ptr<Reader>> readers;
  for (size_t group = 0; group < kGroups; ++group) {
    readers.push_back(std::make_unique<Reader>(address, group, count, progress));
  }
  wait_for_assignments(readers);
  const double before = metric_sum(broker.daemon().http_port(), "tidemark_cold_reads_total");

  auto producer = client::Producer::create(connect(address), {});
  REQUIRE(producer.ok());
  const client::Topic topic = *producer->topic("t");
  const int64_t began_ns = monotonic_now_ns();
  for (uint64_t number = 0; number < count; ++number) {
    if (number % 1'024 == 0 && number > kAheadMessagesMax) {
      REQUIRE(progress.wait_for_all(number - kAheadMessagesMax));
    }
    const std::string value = value_of(number);
    client::Message message;
    message.value = value;
    message.partition = static_cast<uint32_t>(number % kPartitions);
    REQUIRE(producer->send(topic, message).ok());
  }
  REQUIRE(producer->flush(kTrafficDeadlineMs).status.ok());
  const bool all = progress.wait_for_all(count);
  const double seconds = static_cast<double>(monotonic_now_ns() - began_ns) / 1e9;
  for (const std::unique_ptr<Reader>& reader : readers) {
    reader->join();
    CHECK_MESSAGE(reader->error.ok(), reader->error.to_string());
    CHECK(reader->wrong == 0);
  }
  CHECK(all);
  const double cold = metric_sum(broker.daemon().http_port(), "tidemark_cold_reads_total") - before;
  const double read = static_cast<double>(count * kMessageBytes * kGroups) / kMegabyte;
  MESSAGE(kGroups << " groups: " << read << " MB read in " << seconds << " s, " << read / seconds
                  << " MB/s in total, " << read / seconds / kGroups << " MB/s written; " << cold
                  << " reads from disk");
  CHECK(cold == 0);
}

}  // namespace tidemark::testing
