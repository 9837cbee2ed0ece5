// A queue consumer's engine in a rig.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/queue_engine.h"
#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/core_rig.h"

namespace tidemark::testing {

using client_core::QueueEngine;
using client_core::QueueEngineOptions;

// What a call was answered; at most once.
class Outcome {
 public:
  [[nodiscard]] client::QueueMessage::Settled callback() {
    return [kept = kept_](const client::Status& status) {
      CHECK_MESSAGE(!kept->has_value(), "answered twice");
      *kept = status;
    };
  }

  [[nodiscard]] bool given() const { return kept_->has_value(); }

  [[nodiscard]] client::ErrorCode code() const { return (*kept_)->code(); }

  [[nodiscard]] std::string text() const { return (*kept_)->to_string(); }

 private:
  std::shared_ptr<std::optional<client::Status>> kept_ =
      std::make_shared<std::optional<client::Status>>();
};

class QueueRig : public CoreRig {
 public:
  explicit QueueRig(uint64_t seed, QueueEngineOptions options = {}) : CoreRig(seed) {
    if (options.group.empty()) {
      options.group = "g";
    }
    if (options.topics.empty()) {
      options.topics = {"t"};
    }
    step_ns_max = 10 * kNsPerMs;
    engine = std::make_shared<QueueEngine>(
        std::move(options),
        client_core::QueueEngineHooks{
            .wake = [this] { ++wakes; },
            .post = [this](std::function<void()> task) { posted.push_back(std::move(task)); }},
        cluster, seed + 1);
    components.push_back(engine.get());
  }

  void fill(uint32_t partition, const std::vector<std::string>& values,
            const std::string& topic = "t") {
    REQUIRE(network.topic(topic).partitions[partition].append(build_batch(values).view()).error ==
            ErrorCode::kOk);
  }

  void fill(uint32_t partition, size_t count) {
    std::vector<std::string> values;
    for (size_t i = 0; i < count; ++i) {
      values.push_back(std::to_string(i));
    }
    fill(partition, values);
  }

  // The next message, if one comes within the time.
  std::optional<client::QueueMessage> receive(int64_t ms = 5'000) {
    std::optional<client::QueueMessage> out;
    run_until(
        [&] {
          auto state = engine->next(0);
          if (state.ok() && *state != nullptr) {
            out = client::QueueMessageState::give(std::move(*state));
          }
          return out.has_value() || !state.ok();
        },
        ms);
    return out;
  }

  std::vector<client::QueueMessage> receive_all(size_t count) {
    std::vector<client::QueueMessage> out;
    while (out.size() < count) {
      auto message = receive();
      REQUIRE(message.has_value());
      out.push_back(std::move(*message));
    }
    return out;
  }

  bool answered(const Outcome& outcome, int64_t ms = 60'000) {
    return run_until([&] { return outcome.given(); }, ms);
  }

  void run_for(int64_t ms) {
    static_cast<void>(run_until([] { return false; }, ms));
  }

  FakeQueued& queued(uint32_t partition, uint64_t offset, const std::string& topic = "t") {
    return network.queues[{network.topic(topic).id, partition}][offset];
  }

  std::shared_ptr<QueueEngine> engine;
  size_t wakes = 0;
};

}  // namespace tidemark::testing
