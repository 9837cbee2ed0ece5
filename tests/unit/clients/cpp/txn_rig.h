// A transactional producer's buffer and engine in a rig.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/txn_engine.h"
#include "tests/unit/clients/cpp/core_rig.h"

namespace tidemark::testing {

using client_core::Txn;
using client_core::TxnBuffer;
using client_core::TxnBufferOptions;
using client_core::TxnEngine;

// What a call was answered; at most once.
template <typename Outcome>
class Answer {
 public:
  [[nodiscard]] std::function<void(const Outcome&)> callback() {
    return [kept = kept_](const Outcome& outcome) {
      CHECK_MESSAGE(!kept->has_value(), "answered twice");
      *kept = outcome;
    };
  }

  [[nodiscard]] bool given() const { return kept_->has_value(); }

  const Outcome& operator*() const { return **kept_; }

  const Outcome* operator->() const { return &**kept_; }

 private:
  std::shared_ptr<std::optional<Outcome>> kept_ = std::make_shared<std::optional<Outcome>>();
};

using EndAnswer = Answer<client::TransactionEnd>;
using PrepareAnswer = Answer<client::Status>;

class TxnRig : public CoreRig {
 public:
  explicit TxnRig(uint64_t seed, TxnBufferOptions options = {}) : CoreRig(seed) {
    if (options.group.empty()) {
      options.group = "orders";
    }
    if (options.identity.id == 0) {
      options.identity = {.id = 7, .epoch = 0};
    }
    buffer = std::make_shared<TxnBuffer>(
        options, clock,
        TxnBuffer::Hooks{
            .wake = [this] { ++wakes; },
            .post = [this](std::function<void()> task) { posted.push_back(std::move(task)); },
            .dispatch = {}});
    engine =
        std::make_unique<TxnEngine>(client_core::TxnEngineOptions{}, buffer, cluster, seed + 1);
    components.push_back(engine.get());
  }

  std::shared_ptr<Txn> begin(std::string reference = {}) {
    return buffer->begin({.reference = std::move(reference)});
  }

  Status send(const std::shared_ptr<Txn>& txn, uint32_t partition, std::string_view value,
              const std::string& topic = "t") {
    return buffer->send(txn, topic, {.value = value, .partition = partition});
  }

  PrepareAnswer prepare(const std::shared_ptr<Txn>& txn, int64_t deadline_ms = -1) {
    PrepareAnswer answer;
    buffer->prepare(txn, {.callback = answer.callback()}, deadline_ms);
    return answer;
  }

  EndAnswer end(const std::shared_ptr<Txn>& txn, bool commit, int64_t deadline_ms = -1) {
    EndAnswer answer;
    buffer->end(txn, commit, {.callback = answer.callback()}, deadline_ms);
    return answer;
  }

  client::Status prepared(const std::shared_ptr<Txn>& txn, int64_t deadline_ms = -1) {
    const PrepareAnswer answer = prepare(txn, deadline_ms);
    REQUIRE(run_until([&] { return answer.given(); }, 120'000));
    return *answer;
  }

  client::TransactionEnd ended(const std::shared_ptr<Txn>& txn, bool commit,
                               int64_t deadline_ms = -1) {
    const EndAnswer answer = end(txn, commit, deadline_ms);
    REQUIRE(run_until([&] { return answer.given(); }, 120'000));
    return *answer;
  }

  // Until nothing more happens at once.
  void rest() {
    REQUIRE(!run_until([] { return false; }, 0));
  }

  // Values of a partition, in order, once they are visible.
  std::vector<std::string> visible(uint32_t partition, const std::string& topic = "t") {
    return network.topic(topic).partitions[partition].applied;
  }

  std::shared_ptr<TxnBuffer> buffer;
  std::unique_ptr<TxnEngine> engine;
  size_t wakes = 0;
};

}  // namespace tidemark::testing
