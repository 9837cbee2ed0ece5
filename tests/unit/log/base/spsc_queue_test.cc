#include "log/base/spsc_queue.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark {
namespace {

TEST_CASE("a full queue refuses and leaves the value alone") {
  SpscQueue<std::unique_ptr<int>> queue(3);
  REQUIRE(queue.capacity() == 4);
  for (int i = 0; i < 4; ++i) {
    REQUIRE(queue.try_push(std::make_unique<int>(i)));
  }
  auto fifth = std::make_unique<int>(4);
  CHECK_FALSE(queue.try_push(std::move(fifth)));
  REQUIRE(fifth != nullptr);
  CHECK(*fifth == 4);
  CHECK(queue.size() == 4);
  std::optional<std::unique_ptr<int>> first = queue.pop();
  REQUIRE(first.has_value());
  CHECK(**first == 0);
  CHECK(queue.try_push(std::move(fifth)));
}

TEST_CASE("values that were not popped are destroyed with the queue") {
  auto watched = std::make_shared<int>(7);
  {
    SpscQueue<std::shared_ptr<int>> queue(8);
    for (int i = 0; i < 5; ++i) {
      REQUIRE(queue.try_push(std::shared_ptr<int>(watched)));
    }
    CHECK(watched.use_count() == 6);
    CHECK(queue.pop().has_value());
    CHECK(watched.use_count() == 5);
  }
  CHECK(watched.use_count() == 1);
}

TEST_CASE("a queue behaves like a bounded deque") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    SpscQueue<uint64_t> queue(size_t{1} << random.below(5));
    std::deque<uint64_t> model;
    for (int step = 0; step < 2000; ++step) {
      if (random.chance(1, 2)) {
        uint64_t value = random.next();
        const bool pushed = queue.try_push(std::move(value));
        REQUIRE(pushed == (model.size() < queue.capacity()));
        if (pushed) {
          model.push_back(value);
        }
      } else {
        const std::optional<uint64_t> value = queue.pop();
        REQUIRE(value.has_value() == !model.empty());
        if (value) {
          REQUIRE(*value == model.front());
          model.pop_front();
        }
      }
      REQUIRE(queue.size() == model.size());
    }
  }
}

TEST_CASE("two threads see every value once and in order") {
  constexpr uint64_t kValues = 200'000;
  SpscQueue<uint64_t> queue(64);
  std::thread producer([&queue] {
    for (uint64_t i = 0; i < kValues; ++i) {
      uint64_t value = i;
      while (!queue.try_push(std::move(value))) {
        std::this_thread::yield();
      }
    }
  });
  uint64_t expected = 0;
  bool in_order = true;
  while (expected < kValues) {
    if (const std::optional<uint64_t> value = queue.pop()) {
      in_order = in_order && *value == expected;
      ++expected;
    } else {
      std::this_thread::yield();
    }
  }
  producer.join();
  CHECK(in_order);
  CHECK_FALSE(queue.pop().has_value());
}

}  // namespace
}  // namespace tidemark
