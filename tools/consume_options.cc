#include <algorithm>

#include <fmt/format.h>

#include "tools/consume.h"
#include "tools/errors.h"

namespace tidemark::tools {
namespace {

constexpr size_t kInFlightDefault = 256;

}  // namespace

void check_group_start(const ConsumeOptions& options) {
  if (!options.partitions.empty()) {
    throw usage_error("--partition: the group says who reads which partition");
  }
  if (options.from != "start" && options.from != "end") {
    throw usage_error(fmt::format(
        "--from: with --group it is start or end, and counts where the group has no position; "
        "`tidemark group reset {} --topic {} --to {}` sets positions",
        options.group, options.topics.front(), options.from));
  }
}

size_t queue_in_flight(const ConsumeOptions& options) {
  const size_t wanted = options.in_flight.value_or(kInFlightDefault);
  if (options.count == 0) {
    return wanted;
  }
  if (!options.ack) {
    return std::min<uint64_t>(wanted, options.count);
  }
  // The next message of a key comes when the one before is acked.
  return options.ordered ? 1 : std::clamp<uint64_t>(options.count / 2, 1, wanted);
}

}  // namespace tidemark::tools
