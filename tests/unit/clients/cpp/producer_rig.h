// A producer's buffer and engine in a rig.
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
#include "tests/unit/clients/cpp/core_rig.h"

namespace tidemark::testing {

using client_core::Batcher;
using client_core::BatcherOptions;
using client_core::EngineOptions;
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

class Rig : public CoreRig {
 public:
  explicit Rig(uint64_t seed, BatcherOptions batcher = {}, EngineOptions options = {})
      : CoreRig(seed) {
    options.on_delivery = [this](const client::DeliveryBatch& batch) {
      CHECK((batch.receipts.empty() || batch.receipts.size() == batch.opaques.size()));
      for (size_t i = 0; i < batch.opaques.size(); ++i) {
        const client::DelayReceipt receipt = batch.receipts.empty()
                                                 ? client::DelayReceipt{.status = batch.status}
                                                 : batch.receipts[i];
        const auto [at, fresh] =
            reports.emplace(batch.opaques[i],
                            Report{receipt.status.code(), batch.outcome_unknown, batch.partition,
                                   batch.offsets.empty() ? batch.base_offset + i : batch.offsets[i],
                                   receipt.status.to_string(), receipt.handle, receipt.due_ms});
        CHECK_MESSAGE(fresh, "reported twice: ", batch.opaques[i]);
      }
    };
    buffer = std::make_shared<Batcher>(batcher, clock, [this] { ++wakes; });
    engine =
        std::make_shared<ProduceEngine>(std::move(options), buffer, cluster, nullptr, seed + 1);
    components.push_back(engine.get());
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

  bool drain(int64_t ms = 60'000) {
    buffer->flush_point();
    return run_until([this] { return buffer->stats().buffered_messages == 0; }, ms);
  }

  std::shared_ptr<Batcher> buffer;
  std::shared_ptr<ProduceEngine> engine;
  std::map<uint64_t, Report> reports;
  size_t wakes = 0;
};

}  // namespace tidemark::testing
