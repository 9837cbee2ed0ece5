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

// Opaque of messages that only bring the connections and the producer id about.
constexpr uint64_t kWarmUp = 0;

// Runs once per batch on the client's thread. The opaque of a message is the time that it counts
// from.
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

}  // namespace

Sender::Sender(const client::Client& client, const Globals& globals, const BenchOptions& options,
               AckCounts& counts, std::atomic<uint64_t>& sent)
    : globals_(globals),
      options_(options),
      counts_(counts),
      sent_(sent),
      producer_(
          require(client::Producer::create(client, producer_options(globals, options, counts)),
                  "producer")),
      topic_(require(producer_.topic(options.topic), fmt::format("topic {}", options.topic))) {
  warm_up();
}

// A message without a value to each partition, answered before the measurement begins: what it
// takes to connect is not the latency of a message.
void Sender::warm_up() {
  for (uint32_t partition = 0; partition < options_.partitions; ++partition) {
    client::Message message;
    message.value = std::nullopt;
    message.partition = partition;
    require(producer_.send(topic_, message, kWarmUp), "sending");
  }
  require(producer_.flush(globals_.timeout_ms).status, fmt::format("topic {}", options_.topic));
}

bool Sender::stopped() const {
  return interrupted() || counts_.failed.load(std::memory_order_relaxed) > 0;
}

// False when sending has to stop.
bool Sender::send_one(const client::Message& message, uint64_t intended_ns) {
  for (;;) {
    const client::Status accepted = producer_.send(topic_, message, intended_ns);
    if (accepted.ok()) {
      return true;
    }
    if (accepted.code() != client::ErrorCode::kOverloaded) {
      throw command_error(accepted, "sending");
    }
    if (stopped()) {
      return false;
    }
  }
}

MonotonicTime Sender::send(const SendLimits& send_limits, const MakeValue& make_value,
                           Progress& progress) {
  constexpr uint64_t kMessagesBetweenLooks = 256;
  const MonotonicTime started = system_clock().monotonic();
  const auto deadline_ns =
      send_limits.seconds > 0 ? static_cast<int64_t>(send_limits.seconds * 1e9) : INT64_MAX;
  Pacer pacer(options_.rate, started);
  client::Message message;
  for (uint64_t index = 0; send_limits.count == 0 || index < send_limits.count; ++index) {
    const MonotonicTime intended = pacer.wait(index);
    if (intended.ns - started.ns >= deadline_ns || stopped()) {
      break;
    }
    message.value = make_value(next_index_, intended);
    message.partition = static_cast<uint32_t>(next_index_ % options_.partitions);
    if (!send_one(message, static_cast<uint64_t>(intended.ns))) {
      break;
    }
    ++next_index_;
    sent_.fetch_add(1, std::memory_order_relaxed);
    if (options_.rate > 0 || index % kMessagesBetweenLooks == 0) {
      const uint64_t acked = counts_.acked.load(std::memory_order_relaxed);
      progress.update(acked, acked * options_.size);
    }
  }
  return started;
}

void Sender::check(const client::FlushResult& answered) const {
  if (counts_.acked == 0 && !answered.status.ok()) {
    throw command_error(counts_.failed > 0 ? counts_.first_error : answered.status,
                        "nothing was stored");
  }
}

void Sender::flush() { check(producer_.flush(3 * globals_.timeout_ms + 1'000)); }

void Sender::close() { check(producer_.close(3 * globals_.timeout_ms + 1'000)); }

uint64_t expected_messages(const BenchOptions& options, const SendLimits& send_limits) {
  const double by_time = send_limits.seconds * options.rate;
  return send_limits.count > 0 ? send_limits.count : static_cast<uint64_t>(by_time);
}

}  // namespace tidemark::tools
