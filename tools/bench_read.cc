#include "tools/bench_read.h"

#include <fmt/format.h>

#include "log/base/clock.h"
#include "tools/cli.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kPollMs = 100;

}  // namespace

bool read_ranges(const Globals& globals, const std::string& topic, client::Consumer& consumer,
                 PartitionRanges ranges, const SeeBatch& see) {
  require(consumer.assign(ranges.assignment(topic, true)), fmt::format("topic {}", topic));
  int64_t last_progress_ns = system_clock().monotonic().ns;
  while (!ranges.finished()) {
    const auto batch = consumer.poll(kPollMs);
    require(batch.status(), fmt::format("topic {}", topic));
    const int64_t now_ns = system_clock().monotonic().ns;
    if (batch->messages.empty() && now_ns - last_progress_ns > globals.timeout_ms * 1'000'000) {
      const client::Status reason = consumer.last_error();
      require(reason, "nothing could be read");
      throw CommandError(ExitCode::kUnavailable, "TimedOut",
                         "nothing could be read for the time of --timeout");
    }
    if (!batch->messages.empty()) {
      last_progress_ns = now_ns;
    }
    (void)(batch->messages.empty() ? ranges.advance(consumer, topic)
                                   : ranges.advance(batch->partition, batch->next_offset));
    if (!see(*batch)) {
      return false;
    }
  }
  return true;
}

}  // namespace tidemark::tools
