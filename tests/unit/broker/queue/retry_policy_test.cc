#include "broker/queue/retry_policy.h"

#include <initializer_list>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::queue {
namespace {

using partition::QueueConfig;

QueueConfig config_of(std::initializer_list<int64_t> delays, uint32_t factor_percent,
                      int64_t max_ms) {
  QueueConfig config;
  config.retry_delays_ms = {};
  config.retry_delays = 0;
  for (const int64_t delay : delays) {
    config.retry_delays_ms[config.retry_delays++] = delay;
  }
  config.retry_factor_percent = factor_percent;
  config.retry_max_ms = max_ms;
  return config;
}

std::vector<int64_t> first_delays(const QueueConfig& config, uint32_t count) {
  std::vector<int64_t> delays;
  for (uint32_t n = 1; n <= count; ++n) {
    delays.push_back(retry_delay_ms(config, n));
  }
  return delays;
}

TEST_CASE("by default each wait is twice the one before, up to five minutes") {
  CHECK(first_delays(QueueConfig{}, 11) == std::vector<int64_t>{1000, 2000, 4000, 8000, 16000,
                                                                32000, 64000, 128000, 256000,
                                                                300000, 300000});
}

TEST_CASE("the list comes first, then the factor") {
  CHECK(first_delays(config_of({10, 500, 20}, 150, 60), 7) ==
        std::vector<int64_t>{10, 60, 20, 30, 45, 60, 60});
}

TEST_CASE("a factor of 100 percent keeps the last delay") {
  const QueueConfig config = config_of({10, 30}, 100, 1000);
  CHECK(first_delays(config, 4) == std::vector<int64_t>{10, 30, 30, 30});
  CHECK(retry_delay_ms(config, UINT32_MAX) == 30);
}

TEST_CASE("all sixteen delays of a list count") {
  QueueConfig config = config_of({}, 200, 1000);
  config.retry_delays = QueueConfig::kRetryDelaysMax;
  for (size_t i = 0; i < QueueConfig::kRetryDelaysMax; ++i) {
    config.retry_delays_ms[i] = static_cast<int64_t>(i) + 1;
  }
  CHECK(retry_delay_ms(config, 16) == 16);
  CHECK(retry_delay_ms(config, 17) == 32);
}

TEST_CASE("nothing overflows, and nothing is negative") {
  constexpr int64_t kMax = INT64_MAX;
  CHECK(retry_delay_ms(config_of({1}, 1000, kMax), UINT32_MAX) == kMax);
  CHECK(retry_delay_ms(config_of({kMax}, UINT32_MAX, kMax), 2) == kMax);
  CHECK(retry_delay_ms(config_of({kMax - 1}, 101, kMax), 2) == kMax);
  CHECK(retry_delay_ms(config_of({kMax}, 100, kMax), 9) == kMax);
  CHECK(retry_delay_ms(config_of({99}, UINT32_MAX, kMax), 2) == 4'252'017'622);
  CHECK(first_delays(config_of({-5, INT64_MIN}, 200, 1000), 3) == std::vector<int64_t>{0, 0, 0});
  CHECK(first_delays(config_of({10}, 200, -1), 3) == std::vector<int64_t>{0, 0, 0});
  CHECK(first_delays(config_of({1000}, 50, 5000), 4) == std::vector<int64_t>{1000, 500, 250, 125});
  CHECK(retry_delay_ms(config_of({1000}, 0, 5000), 2) == 0);
  CHECK(retry_delay_ms(config_of({0}, 1000, 5000), UINT32_MAX) == 0);
}

TEST_CASE("an empty list, or one longer than there can be, is no fault") {
  QueueConfig config = config_of({}, 200, 1000);
  CHECK(retry_delay_ms(config, 1) == 0);
  config.retry_delays = 255;
  config.retry_delays_ms.back() = 7;
  CHECK(retry_delay_ms(config, 16) == 7);
  CHECK(retry_delay_ms(config, 17) == 14);
}

TEST_CASE("whatever is configured, a delay is within its bound") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    QueueConfig config;
    for (int64_t& delay : config.retry_delays_ms) {
      delay = static_cast<int64_t>(random.next() >> random.below(64));
    }
    config.retry_delays = static_cast<uint8_t>(random.below(20));
    config.retry_factor_percent = static_cast<uint32_t>(random.next() >> (32 + random.below(32)));
    config.retry_max_ms = static_cast<int64_t>(random.next() >> (1 + random.below(63)));
    for (int i = 0; i < 20; ++i) {
      const auto failures = static_cast<uint32_t>(1 + (random.next() >> (33 + random.below(31))));
      const int64_t delay = retry_delay_ms(config, failures);
      CHECK(delay >= 0);
      CHECK(delay <= config.retry_max_ms);
      if (config.retry_factor_percent >= 100 && failures > QueueConfig::kRetryDelaysMax) {
        CHECK(retry_delay_ms(config, failures + 1) >= delay);
      }
    }
  }
}

}  // namespace
}  // namespace tidemark::queue
