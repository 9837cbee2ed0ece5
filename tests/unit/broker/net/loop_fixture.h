// A loop on the test's own thread, turned until something is so.
#pragma once

#include <memory>

#include <doctest/doctest.h>

#include "broker/net/event_loop.h"
#include "broker/net/listener.h"

namespace tidemark::net {

class LoopFixture {
 public:
  LoopFixture() : loop_(make()), ticker_(std::make_unique<Timer>(*loop_, [] {})) {
    ticker_->start(1, 1);
  }

  LoopFixture(const LoopFixture&) = delete;
  LoopFixture& operator=(const LoopFixture&) = delete;

  EventLoop& loop() { return *loop_; }

  // Turns until `done()`, about five seconds at most.
  template <typename Done>
  [[nodiscard]] bool run_until(Done done) {
    for (int turn = 0; turn < 5000; ++turn) {
      if (done()) {
        return true;
      }
      loop_->turn(/*wait=*/true);
    }
    return done();
  }

  void turns(int count) {
    for (int turn = 0; turn < count; ++turn) {
      loop_->turn(/*wait=*/true);
    }
  }

  std::unique_ptr<Listener> listen() {
    auto listener = Listener::bind(*loop_, {"127.0.0.1", 0});
    REQUIRE_MESSAGE(listener.ok(), listener.status().to_string());
    return std::move(*listener);
  }

 private:
  static std::unique_ptr<EventLoop> make() {
    auto loop = EventLoop::create();
    REQUIRE(loop.ok());
    return std::move(*loop);
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Timer> ticker_;  // wakes each turn, so that nothing waits for ever
};

}  // namespace tidemark::net
