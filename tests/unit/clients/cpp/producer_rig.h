// Client core, scripted broker and simulated time in one thread.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "clients/cpp/src/produce_engine.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::testing {

using client_core::Batcher;
using client_core::BatcherOptions;
using client_core::Cluster;
using client_core::EngineOptions;
using client_core::kNever;
using client_core::kNsPerMs;
using client_core::ProduceEngine;

struct Report {
  client::ErrorCode code = client::ErrorCode::kOk;
  bool outcome_unknown = false;
  uint32_t partition = 0;
  uint64_t offset = 0;
  std::string text;
  client::DelayHandle handle;
  int64_t due_ms = 0;
};

// Client core, scripted broker and simulated time, driven step by step.
class Rig {
 public:
  explicit Rig(uint64_t seed, BatcherOptions batcher = {}, EngineOptions options = {})
      : network(clock, seed),
        cluster({.brokers = {{"seed", 1}}, .session = {.client_name = "test"}}, network, clock,
                seed) {
    options.on_delivery = [this](const client::DeliveryBatch& batch) {
      CHECK((batch.receipts.empty() || batch.receipts.size() == batch.opaques.size()));
      for (size_t i = 0; i < batch.opaques.size(); ++i) {
        const client::DelayReceipt receipt = batch.receipts.empty()
                                                 ? client::DelayReceipt{.status = batch.status}
                                                 : batch.receipts[i];
        const auto [at, fresh] = reports.emplace(
            batch.opaques[i], Report{receipt.status.code(), batch.outcome_unknown, batch.partition,
                                     batch.base_offset + i, receipt.status.to_string(),
                                     receipt.handle, receipt.due_ms});
        CHECK_MESSAGE(fresh, "reported twice: ", batch.opaques[i]);
      }
    };
    buffer = std::make_shared<Batcher>(batcher, clock, [this] { ++wakes; });
    engine =
        std::make_shared<ProduceEngine>(std::move(options), buffer, cluster, nullptr, seed + 1);
  }

  Status send(const std::string& topic, std::optional<uint32_t> partition, std::string_view value,
              uint64_t opaque) {
    return send(topic, {.value = value, .partition = partition}, opaque);
  }

  Status send(const std::string& topic, const client::Message& message, uint64_t opaque,
              client::DeliveryCallback callback = nullptr) {
    auto found = buffer->topic(topic);
    RETURN_IF_ERROR(found.status());
    return buffer->append(**found, message, opaque, &callback, false);
  }

  // One turn of the I/O loop.
  void turn() {
    const MonotonicTime now = clock.monotonic();
    MonotonicTime next = std::min(cluster.run(now), engine->run(now));
    next_run = std::min(next, cluster.run(now));
  }

  // Turns and network steps until nothing moves, then time goes on to the next deadline; until
  // `done` or `ms` have passed.
  template <typename Done>
  bool run_until(Done done, int64_t ms) {
    const int64_t end = clock.monotonic().ns + ms * kNsPerMs;
    while (true) {
      turn();
      if (done()) {
        return true;
      }
      if (network.step()) {
        continue;
      }
      if (clock.monotonic().ns >= end) {
        return false;
      }
      const int64_t next = std::min(next_run.ns, end);
      // Never less than the timer's resolution, as in the real loop.
      clock.advance_ns(std::max<int64_t>(next - clock.monotonic().ns, kNsPerMs));
    }
  }

  bool drain(int64_t ms = 60'000) {
    buffer->flush_point();
    return run_until([this] { return buffer->stats().buffered_messages == 0; }, ms);
  }

  SimClock clock;
  FakeNetwork network;
  Cluster cluster;
  std::shared_ptr<Batcher> buffer;
  std::shared_ptr<ProduceEngine> engine;
  std::map<uint64_t, Report> reports;
  size_t wakes = 0;
  MonotonicTime next_run = kNever;
};

}  // namespace tidemark::testing
