// The client's core, a scripted broker and simulated time in one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/call.h"
#include "clients/cpp/src/cluster.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::testing {

using client_core::Cluster;
using client_core::kNever;
using client_core::kNsPerMs;

// Driven step by step. What it runs is added by who derives from it, and outlives its turns.
class CoreRig {
 public:
  explicit CoreRig(uint64_t seed)
      : network(clock, seed),
        cluster({.brokers = {{"seed", 1}}, .session = {.client_name = "test"}}, network, clock,
                seed) {}

  // One turn of the I/O loop.
  void turn() {
    for (auto& task : std::exchange(posted, {})) {
      task();
    }
    const MonotonicTime now = clock.monotonic();
    MonotonicTime next = cluster.run(now);
    for (client_core::Component* component : components) {
      next = std::min(next, component->run(now));
    }
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
      if (!posted.empty() || network.step()) {
        continue;
      }
      if (clock.monotonic().ns >= end) {
        return false;
      }
      const int64_t next = std::min(next_run.ns, end);
      // Never less than the timer's resolution, as in the real loop.
      clock.advance_ns(std::clamp(next - clock.monotonic().ns, kNsPerMs, step_ns_max));
    }
  }

  SimClock clock;
  FakeNetwork network;
  Cluster cluster;
  std::vector<client_core::Component*> components;
  std::vector<std::function<void()>> posted;  // to the I/O thread
  MonotonicTime next_run = kNever;
  // For tests in which the broker does something when a time has come.
  int64_t step_ns_max = std::numeric_limits<int64_t>::max();
};

// A waiting call whose I/O thread is the rig.
class RigAsker final : public client_core::Asker {
 public:
  explicit RigAsker(CoreRig& rig, int64_t deadline_ms = 10'000)
      : rig_(rig), until_{rig.clock.monotonic().ns + deadline_ms * kNsPerMs} {}

  [[nodiscard]] Status check() const override { return {}; }

  client_core::Reply ask(protocol::FrameType type, Buffer table, Cluster::Repeat repeat) override {
    std::optional<client_core::Reply> answer;
    rig_.cluster.call(type, table.view(), until_, repeat,
                      [&](client_core::Reply reply) { answer = std::move(reply); });
    REQUIRE(rig_.run_until([&] { return answer.has_value(); }, 60'000));
    return std::move(*answer);
  }

  std::map<client_core::Home, client_core::Reply> ask_homes(
      protocol::FrameType type, std::map<client_core::Home, Buffer> tables) override {
    std::optional<std::map<client_core::Home, client_core::Reply>> answer;
    send_to_homes(rig_.cluster, type, tables, until_,
                  [&](auto replies) { answer = std::move(replies); });
    REQUIRE(rig_.run_until([&] { return answer.has_value(); }, 60'000));
    return std::move(*answer);
  }

  [[nodiscard]] client_core::BrokerFacts facts() override { return rig_.cluster.facts(); }

  bool pause() override {
    ++pauses;
    rig_.clock.advance_ms(50);
    return rig_.clock.monotonic() < until_;
  }

  size_t pauses = 0;

 private:
  CoreRig& rig_;
  MonotonicTime until_;
};

}  // namespace tidemark::testing
