// kill -9 of the real daemon under load: nothing acknowledged is lost, nothing is stored twice, the
// log is clean.
//
// TIDEMARK_KILL_ROUNDS=100 makes the long run; the default is short enough for every build.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

using client::Assignment;
using client::Position;

constexpr uint32_t kPartitions = 4;
constexpr int64_t kDeadlineMs = 60'000;

int rounds() {
  const char* text =
      std::getenv("TIDEMARK_KILL_ROUNDS");  // NOLINT(concurrency-mt-unsafe): set before the test
  return text != nullptr ? std::atoi(text) : 12;
}

// What the producer was told, by uid.
class Acks {
 public:
  void take(const client::DeliveryBatch& batch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < batch.opaques.size(); ++i) {
      if (batch.status.ok()) {
        acked_[batch.opaques[i]] = {batch.partition, batch.base_offset + i};
      } else if (!batch.outcome_unknown) {
        refused_.insert(batch.opaques[i]);
      }
    }
    grown_.notify_all();
  }

  // False if `more` further acknowledgements do not come within the deadline.
  bool wait_for(size_t more) {
    std::unique_lock<std::mutex> lock(mutex_);
    const size_t until = acked_.size() + more;
    return grown_.wait_for(lock, std::chrono::milliseconds(kDeadlineMs),
                           [&] { return acked_.size() >= until; });
  }

  [[nodiscard]] const std::map<uint64_t, std::pair<uint32_t, uint64_t>>& acked() const {
    return acked_;
  }

  [[nodiscard]] const std::set<uint64_t>& refused() const { return refused_; }

 private:
  std::mutex mutex_;
  std::map<uint64_t, std::pair<uint32_t, uint64_t>> acked_;
  std::set<uint64_t> refused_;
  std::condition_variable grown_;
};

// Sends numbered messages until it is told to stop.
class Load {
 public:
  Load(const client::Client& client, Acks& acks) {
    client::ProducerOptions options;
    options.linger_ms = 1;
    options.batch_bytes = 8 * 1024;
    options.delivery_timeout_ms = 5 * kDeadlineMs;
    options.on_delivery = [&acks](const client::DeliveryBatch& batch) { acks.take(batch); };
    auto created = client::Producer::create(client, options);
    REQUIRE_MESSAGE(created.ok(), created.status().to_string());
    producer_ = std::make_unique<client::Producer>(std::move(*created));
    topic_ = *producer_->topic("load");
    thread_ = std::thread([this] { run(); });
  }

  // Everything sent so far is acknowledged when this returns ok.
  client::FlushResult stop() {
    stopping_.store(true);
    thread_.join();
    return producer_->close(kDeadlineMs);
  }

  [[nodiscard]] uint64_t sent() const { return sent_.load(); }

 private:
  void run() {
    const std::string filler(100, 'x');
    while (!stopping_.load()) {
      const uint64_t uid = sent_.load() + 1;
      const std::string key = std::to_string(uid % 97);
      const std::string value = std::to_string(uid) + ":" + filler;
      client::Message message;
      message.key = key;
      message.value = value;
      if (producer_->send(topic_, message, uid).ok()) {
        sent_.store(uid);
      }
    }
  }

  std::unique_ptr<client::Producer> producer_;
  client::Topic topic_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> sent_{0};
};

struct Stored {
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> uid_at;
  std::map<uint64_t, int> times;
  bool in_order_per_key = true;
};

Stored drain(const client::Client& client) {
  Stored stored;
  auto consumer = client::Consumer::create(client, {});
  REQUIRE(consumer.ok());
  std::vector<Assignment> all;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    all.push_back({"load", partition, Position::start()});
  }
  REQUIRE(consumer->assign(all).ok());
  std::map<uint32_t, uint64_t> next;
  std::map<uint32_t, uint64_t> end;
  std::map<std::string, uint64_t> last_of_key;
  const auto complete = [&] {
    if (end.size() < kPartitions) {
      return false;
    }
    for (const auto& [partition, offset] : end) {
      if (next[partition] < offset) {
        return false;
      }
    }
    return true;
  };
  while (!complete()) {
    auto batch = consumer->poll(kDeadlineMs);
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    REQUIRE_FALSE(batch->messages.empty());
    end[batch->partition] = batch->high_watermark;
    next[batch->partition] = batch->next_offset;
    for (const client::ReceivedMessage& message : batch->messages) {
      const uint64_t uid = std::strtoull(std::string(*message.value).c_str(), nullptr, 10);
      stored.uid_at[{batch->partition, message.offset}] = uid;
      ++stored.times[uid];
      uint64_t& last = last_of_key[std::string(*message.key)];
      stored.in_order_per_key = stored.in_order_per_key && last < uid;
      last = uid;
    }
  }
  return stored;
}

}  // namespace

TEST_CASE("kill -9 under load loses nothing acknowledged and stores nothing twice") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data",
                       {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  const auto created = admin.create_topic("load", kPartitions, {}, kDeadlineMs);
  REQUIRE_MESSAGE(created.ok(), created.status().to_string());

  Acks acks;
  Load load(client, acks);
  Random random(20261122);
  for (int round = 0; round < rounds(); ++round) {
    CAPTURE(round);
    // The kill falls after a random number of further acknowledgements: while requests, writes and
    // syncs are under way.
    REQUIRE(acks.wait_for(random.between(1, 20'000)));
    daemon.kill();
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  }
  const client::FlushResult rest = load.stop();
  REQUIRE_MESSAGE(rest.status.ok(), rest.status.to_string());
  CHECK(rest.undelivered.empty());
  CHECK(acks.acked().size() == load.sent());

  const Stored stored = drain(client);
  size_t lost = 0;
  for (const auto& [uid, place] : acks.acked()) {
    const auto at = stored.uid_at.find(place);
    lost += at == stored.uid_at.end() || at->second != uid ? 1u : 0u;
  }
  size_t twice = 0;
  size_t refused_but_stored = 0;
  for (const auto& [uid, times] : stored.times) {
    twice += times > 1 ? 1u : 0u;
    refused_but_stored += acks.refused().contains(uid) ? 1u : 0u;
  }
  MESSAGE("rounds " << rounds() << ", acknowledged " << acks.acked().size() << ", stored "
                    << stored.times.size());
  CHECK(lost == 0);
  CHECK(twice == 0);
  CHECK(refused_but_stored == 0);
  CHECK(stored.in_order_per_key);

  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace tidemark::testing
