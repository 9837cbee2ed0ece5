// How long a message whose delivery failed waits before it is delivered again.
#pragma once

#include <cstdint>

#include "broker/partition/queue_config.h"

namespace tidemark::queue {

// After the n-th failure (n >= 1): the n-th of config.retry_delays_ms; behind its end each is
// retry_factor_percent of the one before, at most retry_max_ms (which bounds the list, too). Never
// negative, never overflows.
int64_t retry_delay_ms(const partition::QueueConfig& config, uint32_t failures);

}  // namespace tidemark::queue
