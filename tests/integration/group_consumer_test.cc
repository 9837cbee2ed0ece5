// Members of consumer groups through the C++ client against a real broker.
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

#include "log/base/clock.h"
#include "tests/support/connect.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/group.h"

namespace tidemark {
namespace {

// Calls `condition` until it is true; false if it is not within `ms`.
template <typename Condition>
bool comes_true(int64_t ms, Condition condition) {
  const int64_t deadline_ns = system_clock().monotonic().ns + ms * 1'000'000;
  while (system_clock().monotonic().ns < deadline_ns) {
    if (condition()) {
      return true;
    }
  }
  return false;
}

// Runs callbacks off the I/O thread, which has to go on.
class CallbackThread {
 public:
  CallbackThread() : thread_([this] { run(); }) {}

  ~CallbackThread() {
    post({});
    thread_.join();
  }

  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  // An empty task is the last one.
  void post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    came_.notify_one();
  }

 private:
  void run() {
    while (true) {
      std::unique_lock lock(mutex_);
      came_.wait(lock, [this] { return !tasks_.empty(); });
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      if (!task) {
        return;
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> tasks_;
  std::thread thread_;
};

TEST_CASE("a member whose handler takes longer than its session timeout stays a member") {
  constexpr int64_t kSessionMs = 1'000;
  testing::ToolFixture fixture;
  fixture.output({"topic", "create", "t"});
  fixture.output({"produce", "t", "--message", "slow", "-q"});
  CallbackThread callbacks;
  client::ClientOptions client_options;
  client_options.brokers = {fixture.daemon().address()};
  client_options.executor = [&callbacks](std::function<void()> task) {
    callbacks.post(std::move(task));
  };
  const auto client = client::Client::create(client_options);
  REQUIRE(client.ok());
  std::promise<void> entered;
  std::promise<void> leave;
  std::atomic<int> calls{0};
  client::GroupOptions options;
  options.group = "g";
  options.topics = {"t"};
  options.session_timeout_ms = kSessionMs;
  options.reading.on_messages = [&](const client::Result<client::MessageBatch>& batch) {
    if (batch.ok() && calls.fetch_add(1) == 0) {
      entered.set_value();
      leave.get_future().wait();
    }
  };
  auto member = client::GroupConsumer::create(*client, options);
  REQUIRE(member.ok());
  entered.get_future().wait();

  const client::Client other = testing::connect(fixture.daemon().address());
  client::Groups groups = *client::Groups::create(other);
  const bool gone = comes_true(2 * kSessionMs, [&] {
    const auto group = groups.describe("g");
    return group.ok() && group->members.empty();
  });
  CHECK_FALSE(gone);
  leave.set_value();
  CHECK(comes_true(testing::DaemonProcess::kWaitMs, [&] {
    const auto group = groups.describe("g");
    return group.ok() && group->lag == 0 && group->partitions.at(0).committed == 1u;
  }));
  CHECK(groups.describe("g")->partitions.at(0).epoch == 1);
  CHECK(calls == 1);
}

}  // namespace
}  // namespace tidemark
