#include "tools/bench_send.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/interrupt.h"
#include "tools/pacer.h"
#include "tools/progress.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

// Runs once per batch on the client's thread. The opaque of a message is the time that it counts
// from.
// Opaque of messages that only bring the connections and the producer id about.
constexpr uint64_t kWarmUp = 0;

void on_delivery(const client::DeliveryBatch& batch, AckCounts& counts) {
  const MonotonicTime now = system_clock().monotonic();
  if (batch.opaques.front() == kWarmUp) {
    return;
  }
  const uint64_t count = batch.opaques.size();
  if (!batch.status.ok()) {
    if (counts.failed.load(std::memory_order_relaxed) == 0) {
      counts.first_error = batch.status;
    }
    counts.failed.fetch_add(count, std::memory_order_relaxed);
    return;
  }
  const auto now_ns = static_cast<uint64_t>(now.ns);
  for (const uint64_t intended_ns : batch.opaques) {
    counts.latency_ns.record(now_ns > intended_ns ? now_ns - intended_ns : 0);
  }
  counts.last_ack = now;
  counts.acked.fetch_add(count, std::memory_order_relaxed);
}

client::ProducerOptions producer_options(const Globals& globals, const BenchOptions& options,
                                         AckCounts& counts) {
  client::ProducerOptions out;
  out.batch_bytes = options.batch_bytes;
  out.linger_ms = options.linger_ms.value_or(options.rate > 0 ? 0 : 5);
  out.compression =
      options.compress == "zstd" ? client::Compression::kZstd : client::Compression::kNone;
  if (options.in_flight > 0) {
    out.buffer_messages_max = options.in_flight;
  }
  out.overflow = client::Overflow::block_for(200);
  out.delivery_timeout_ms = std::max<int64_t>(globals.timeout_ms, 1'000);
  out.on_delivery = [&counts](const client::DeliveryBatch& batch) { on_delivery(batch, counts); };
  return out;
}

// A message without a value to each partition, answered before the measurement begins: what it
// takes to connect is not the latency of a message.
void warm_up(client::Producer& producer, const client::Topic& topic, const Globals& globals,
             const BenchOptions& options) {
  for (uint32_t partition = 0; partition < options.partitions; ++partition) {
    client::Message message;
    message.value = std::nullopt;
    message.partition = partition;
    require(producer.send(topic, message, kWarmUp), "sending");
  }
  require(producer.flush(globals.timeout_ms).status, fmt::format("topic {}", options.topic));
}

// False when sending has to stop.
bool send_one(client::Producer& producer, const client::Topic& topic,
              const client::Message& message, uint64_t intended_ns, const AckCounts& counts) {
  for (;;) {
    const client::Status accepted = producer.send(topic, message, intended_ns);
    if (accepted.ok()) {
      return true;
    }
    if (accepted.code() != client::ErrorCode::kOverloaded) {
      throw command_error(accepted, "sending");
    }
    if (interrupted() || counts.failed.load(std::memory_order_relaxed) > 0) {
      return false;
    }
  }
}

}  // namespace

MonotonicTime send_messages(const client::Client& client, const Globals& globals,
                            const BenchOptions& options, const SendLimits& send_limits,
                            const MakeValue& make_value, AckCounts& counts,
                            std::atomic<uint64_t>& sent) {
  constexpr uint64_t kMessagesBetweenLooks = 256;
  client::Producer producer = require(
      client::Producer::create(client, producer_options(globals, options, counts)), "producer");
  const client::Topic topic =
      require(producer.topic(options.topic), fmt::format("topic {}", options.topic));
  warm_up(producer, topic, globals, options);
  const MonotonicTime started = system_clock().monotonic();
  const auto deadline_ns =
      send_limits.seconds > 0 ? static_cast<int64_t>(send_limits.seconds * 1e9) : INT64_MAX;
  Pacer pacer(options.rate, started);
  const double by_time = send_limits.seconds * options.rate;
  const uint64_t expected =
      send_limits.count > 0 ? send_limits.count : static_cast<uint64_t>(by_time);
  Progress progress("bench", expected, "messages", progress_wanted(globals.quiet));
  client::Message message;
  for (uint64_t index = 0; send_limits.count == 0 || index < send_limits.count; ++index) {
    const MonotonicTime intended = pacer.wait(index);
    if (intended.ns - started.ns >= deadline_ns || interrupted() ||
        counts.failed.load(std::memory_order_relaxed) > 0) {
      break;
    }
    message.value = make_value(index, intended);
    message.partition = static_cast<uint32_t>(index % options.partitions);
    if (!send_one(producer, topic, message, static_cast<uint64_t>(intended.ns), counts)) {
      break;
    }
    sent.fetch_add(1, std::memory_order_relaxed);
    if (options.rate > 0 || index % kMessagesBetweenLooks == 0) {
      const uint64_t acked = counts.acked.load(std::memory_order_relaxed);
      progress.update(acked, acked * options.size);
    }
  }
  const client::FlushResult closed = producer.close(3 * globals.timeout_ms + 1'000);
  if (counts.acked == 0 && !closed.status.ok()) {
    throw command_error(counts.failed > 0 ? counts.first_error : closed.status,
                        "nothing was stored");
  }
  return started;
}

}  // namespace tidemark::tools
