#include "broker/queue/retry_policy.h"

#include <algorithm>
#include <cstddef>

#include "log/base/check.h"

namespace tidemark::queue {

namespace {

// `delay` * percent / 100, at most `bound`. Requires: delay and bound are not negative.
int64_t grown(int64_t delay, uint32_t percent, int64_t bound) {
  if (percent > 0 && delay / 100 > bound / percent) {
    return bound;
  }
  const int64_t hundreds = delay / 100 * percent;
  const int64_t rest = delay % 100 * percent / 100;
  return rest > bound - std::min(hundreds, bound) ? bound : hundreds + rest;
}

}  // namespace

int64_t retry_delay_ms(const partition::QueueConfig& config, uint32_t failures) {
  TIDEMARK_CHECK(failures >= 1, "what did not fail waits for nothing");
  const int64_t bound = std::max<int64_t>(config.retry_max_ms, 0);
  const size_t listed =
      std::clamp<size_t>(config.retry_delays, 1, partition::QueueConfig::kRetryDelaysMax);
  const size_t at = std::min<size_t>(failures, listed) - 1;
  int64_t delay = std::clamp<int64_t>(config.retry_delays_ms[at], 0, bound);
  for (uint32_t left = failures - static_cast<uint32_t>(at + 1); left > 0; --left) {
    const int64_t next = grown(delay, config.retry_factor_percent, bound);
    if (next == delay) {
      break;  // and stays so, however often it failed
    }
    delay = next;
  }
  return delay;
}

}  // namespace tidemark::queue
