// tidemark bench consume: how fast a topic is read from its start.
#include <fmt/format.h>

#include "log/base/clock.h"
#include "tidemark/consumer.h"
#include "tools/bench_read.h"
#include "tools/bench_send.h"
#include "tools/cli.h"
#include "tools/interrupt.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/partition_ranges.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

constexpr uint64_t kDefaultCount = 1'000'000;

// Fills the topic if it holds fewer messages than asked for (or none).
void fill_topic(const Globals& globals, Session& session, const BenchOptions& options) {
  const uint64_t there = resolve_ranges(session, options.topic, {}, StartPoint{}).messages_left();
  if (there > 0 && there >= options.count) {
    return;
  }
  const uint64_t missing = (options.count > 0 ? options.count : kDefaultCount) - there;
  note(fmt::format("filling topic {} with {} messages of {} bytes", options.topic,
                   format_count(missing), options.size));
  const Payloads payloads(options.size);
  AckCounts counts;
  std::atomic<uint64_t> sent{0};
  Sender sender(session.client(), globals, options, counts, sent);
  Progress progress("bench", missing, "messages", progress_wanted(globals.quiet));
  (void)sender.send(
      {.count = missing, .seconds = 0},
      [&payloads](uint64_t index, MonotonicTime) { return payloads.at(index); }, progress);
  sender.close();
  if (counts.acked < missing && !interrupted()) {
    throw command_error(counts.first_error, "filling the topic");
  }
}

struct Reading {
  uint64_t messages = 0;
  uint64_t value_bytes = 0;
  uint64_t messages_max = 0;  // 0: all
  int64_t deadline_ns = INT64_MAX;
};

// Reads the ranges once. False when a limit was reached.
bool read_once(const Globals& globals, const BenchOptions& options, client::Consumer& consumer,
               const PartitionRanges& ranges, Reading& reading, Progress& progress) {
  return read_ranges(
      globals, options.topic, consumer, ranges, [&](const client::MessageBatch& batch) {
        for (const client::ReceivedMessage& message : batch.messages) {
          // A message without a value is what `bench produce` connects with; it does not count
          // there either.
          reading.value_bytes += message.value ? message.value->size() : 0;
          reading.messages += message.value ? 1 : 0;
        }
        progress.update(reading.messages, reading.value_bytes);
        return !interrupted() && system_clock().monotonic().ns <= reading.deadline_ns &&
               (reading.messages_max == 0 || reading.messages < reading.messages_max);
      });
}

}  // namespace

BenchResult bench_consume(const Globals& globals, Session& session, const BenchOptions& asked,
                          Baseline& /*baseline*/) {
  BenchOptions options = asked;
  BenchResult result;
  result.what = "consume";
  options.partitions = ensure_topic(session, options);
  result.partitions = options.partitions;
  fill_topic(globals, session, options);
  const PartitionRanges ranges = resolve_ranges(session, options.topic, {}, StartPoint{});
  const uint64_t wanted =
      (options.count > 0 ? options.count : ranges.messages_left()) * options.repeat;
  client::Consumer consumer = require(client::Consumer::create(session.client()), "consumer");
  Progress progress("bench consume", wanted, "messages", progress_wanted(globals.quiet));
  Reading reading;
  const MonotonicTime started = system_clock().monotonic();
  if (options.seconds > 0) {
    reading.deadline_ns = started.ns + static_cast<int64_t>(options.seconds * 1e9);
  }
  for (uint32_t round = 0; round < options.repeat && !interrupted(); ++round) {
    reading.messages_max = options.count > 0 ? options.count * (round + 1) : 0;
    if (!read_once(globals, options, consumer, ranges, reading, progress) &&
        system_clock().monotonic().ns > reading.deadline_ns) {
      break;
    }
  }
  result.seconds = static_cast<double>(system_clock().monotonic().ns - started.ns) / 1e9;
  result.messages = reading.messages;
  result.value_bytes = reading.value_bytes;
  return result;
}

}  // namespace tidemark::tools
