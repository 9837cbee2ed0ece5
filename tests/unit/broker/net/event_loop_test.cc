#include "broker/net/event_loop.h"

#include <signal.h>

#include <memory>
#include <thread>

#include <doctest/doctest.h>

#include "tests/unit/broker/net/loop_fixture.h"

namespace tidemark::net {
namespace {

class CountingClient final : public LoopClient {
 public:
  explicit CountingClient(EventLoop& loop) : loop_(loop) { loop.set_client(this); }

  ~CountingClient() override { loop_.set_client(nullptr); }

  CountingClient(const CountingClient&) = delete;
  CountingClient& operator=(const CountingClient&) = delete;

  void woken() override {
    ++wakes;
    ends_at_wake = ends;
  }

  void turn_ended() override { ++ends; }

  int wakes = 0;
  int ends = 0;
  int ends_at_wake = 0;

 private:
  EventLoop& loop_;
};

TEST_CASE("a wake-up from another thread is followed by the end of a turn") {
  LoopFixture fixture;
  CountingClient client(fixture.loop());
  std::thread other([&fixture] { fixture.loop().wake(); });
  REQUIRE(fixture.run_until([&] { return client.wakes > 0; }));
  other.join();
  REQUIRE(fixture.run_until([&] { return client.ends > client.ends_at_wake; }));
}

TEST_CASE("many wake-ups may become one, none is lost") {
  LoopFixture fixture;
  CountingClient client(fixture.loop());
  for (int round = 1; round <= 10; ++round) {
    for (int i = 0; i < 100; ++i) {
      fixture.loop().wake();
    }
    REQUIRE(fixture.run_until([&] { return client.wakes >= round; }));
  }
  CHECK(client.wakes <= 1000);
}

TEST_CASE("a busy loop does not sleep, a quiet one does") {
  auto loop = EventLoop::create();
  REQUIRE(loop.ok());
  CountingClient client(**loop);
  (*loop)->set_busy(true);
  (*loop)->set_busy(true);
  // With nothing to wait for this would hang if it slept.
  for (int turn = 0; turn < 100; ++turn) {
    (*loop)->turn(/*wait=*/true);
  }
  CHECK(client.ends == 100);
  (*loop)->set_busy(false);
  int fired = 0;
  Timer timer(**loop, [&fired] { ++fired; });
  timer.start(20);
  while (fired == 0) {
    (*loop)->turn(/*wait=*/true);
  }
  CHECK(client.ends <= 103);
}

TEST_CASE("timers fire once or again, and not after they were stopped or destroyed") {
  LoopFixture fixture;
  int once = 0;
  int again = 0;
  Timer first(fixture.loop(), [&once] { ++once; });
  std::unique_ptr<Timer> second;
  second = std::make_unique<Timer>(fixture.loop(), [&again, &second] {
    if (++again == 3) {
      second->stop();
    }
  });
  first.start(1);
  second->start(1, 1);
  REQUIRE(fixture.run_until([&] { return once == 1 && again == 3; }));
  fixture.turns(5);
  CHECK(once == 1);
  CHECK(again == 3);
  second->start(1, 1);
  second.reset();
  fixture.turns(5);
  CHECK(again == 3);
}

TEST_CASE("an alarm makes the loop turn at its time, not before, and again when it is set again") {
  auto loop = EventLoop::create();
  REQUIRE(loop.ok());
  CountingClient client(**loop);
  auto alarm = Alarm::create(**loop);
  REQUIRE(alarm.ok());
  Clock& clock = system_clock();
  for (int round = 0; round < 3; ++round) {
    const MonotonicTime before = clock.monotonic();
    const MonotonicTime late{before.ns + 3'600'000'000'000};
    const MonotonicTime at{before.ns + 2'300'000};
    (*alarm)->set(late, before);
    (*alarm)->set(at, before);
    (*alarm)->set(at, before);
    const int ends = client.ends;
    // Without the alarm the loop would wait for ever.
    (*loop)->turn(/*wait=*/true);
    CHECK(client.ends == ends + 1);
    CHECK(clock.monotonic() >= at);
  }
  (*alarm)->set(MonotonicTime{0}, clock.monotonic());
  (*loop)->turn(/*wait=*/true);
  CHECK(client.ends == 4);
}

TEST_CASE("run ends with stop") {
  LoopFixture fixture;
  Timer timer(fixture.loop(), [&fixture] { fixture.loop().stop(); });
  timer.start(1);
  fixture.loop().run();
  CHECK(true);
}

TEST_CASE("signals arrive on the loop") {
  LoopFixture fixture;
  int caught = 0;
  auto watcher = SignalWatcher::create(fixture.loop(), SIGUSR1, [&caught] { ++caught; });
  REQUIRE(watcher.ok());
  ::raise(SIGUSR1);
  CHECK(fixture.run_until([&] { return caught == 1; }));
}

TEST_CASE("errors of libuv name their subject") {
  CHECK(uv_status(0, "x").ok());
  const Status taken = uv_status(UV_EADDRINUSE, "listen on 127.0.0.1:1");
  CHECK(taken.code() == ErrorCode::kConflict);
  CHECK(taken.context() == "listen on 127.0.0.1:1: address already in use");
  CHECK(uv_status(UV_EACCES, "x").code() == ErrorCode::kNotAllowed);
  CHECK(uv_status(UV_EMFILE, "x").code() == ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace tidemark::net
