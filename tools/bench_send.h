// The sending half of a benchmark: messages at a pace (or as fast as they are taken), each with the
// time that it counts from.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "log/base/clock.h"
#include "tidemark/producer.h"
#include "tools/bench.h"

namespace tidemark::tools {

// What has been answered. Written on the client's thread; counters may be read at any time, the
// rest after close().
struct AckCounts {
  std::atomic<uint64_t> acked{0};
  std::atomic<uint64_t> failed{0};
  MonotonicTime last_ack;
  Histogram latency_ns;
  client::Status first_error;
};

struct SendLimits {
  uint64_t count = 0;  // 0: no bound
  double seconds = 0;  // 0: no bound
};

// Makes the value of message `index`, which counts from `intended`; valid until the next call.
using MakeValue = std::function<std::string_view(uint64_t index, MonotonicTime intended)>;

// Sends until a limit is reached, something fails or an interrupt comes; then waits for all
// answers. Throws CommandError when nothing at all could be stored. `sent` counts up while it runs.
// Gives the time the first message counts from.
MonotonicTime send_messages(const client::Client& client, const Globals& globals,
                            const BenchOptions& options, const SendLimits& send_limits,
                            const MakeValue& make_value, AckCounts& counts,
                            std::atomic<uint64_t>& sent);

}  // namespace tidemark::tools
