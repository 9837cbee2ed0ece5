#include "log/base/wake_fd.h"

#include <poll.h>

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark {
namespace {

bool is_readable(const WakeFd& wake, int wait_ms = 0) {
  pollfd one{wake.fd(), POLLIN, 0};
  return ::poll(&one, 1, wait_ms) == 1;
}

TEST_CASE("wake fd: readable from the first notify() to accept()") {
  const auto wake = WakeFd::create();
  REQUIRE(wake.ok());
  CHECK(!is_readable(**wake));
  (*wake)->notify();
  (*wake)->notify();
  CHECK(is_readable(**wake));
  (*wake)->accept();
  CHECK(!is_readable(**wake));
  (*wake)->notify();
  CHECK(is_readable(**wake));
}

TEST_CASE("wake fd: accept() without a notify() is harmless, and the next one is not lost") {
  const auto wake = WakeFd::create();
  REQUIRE(wake.ok());
  (*wake)->accept();
  (*wake)->notify();
  CHECK(is_readable(**wake));
}

TEST_CASE("wake fd: whoever accepts sees all that was done before, from any thread") {
  const auto wake = WakeFd::create();
  REQUIRE(wake.ok());
  constexpr int kThreads = 3;
  constexpr int kEach = 20'000;
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        done.fetch_add(1, std::memory_order_relaxed);
        (*wake)->notify();
      }
    });
  }
  int seen = 0;
  while (seen < kThreads * kEach) {
    REQUIRE_MESSAGE(is_readable(**wake, 60'000), "a notification was lost after " << seen);
    (*wake)->accept();
    seen = done.load(std::memory_order_relaxed);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(seen == kThreads * kEach);
}

}  // namespace
}  // namespace tidemark
