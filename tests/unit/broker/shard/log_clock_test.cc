#include "broker/shard/log_clock.h"

#include <cstdlib>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::shard {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kWall = 1'700'000'000'000;

// Both clocks with all their nanoseconds; Now shows what a broker reads.
struct Clocks {
  int64_t monotonic_ns = 5'000'000'000;
  int64_t wall_ns = kWall * kNsPerMs;

  [[nodiscard]] Now now() const {
    return {MonotonicTime{monotonic_ns}, WallTime{wall_ns / kNsPerMs}};
  }

  void pass(int64_t ns) {
    monotonic_ns += ns;
    wall_ns += ns;
  }
};

TEST_CASE("log clock: begins at the wall clock, or at the log's time if that is later") {
  const Clocks clocks;
  LogClock clock;
  CHECK_FALSE(clock.started());
  clock.start(clocks.now(), 0);
  CHECK(clock.started());
  CHECK(clock.ms(clocks.now()) == kWall);
  clock.start(clocks.now(), kWall + 5000);
  CHECK(clock.ms(clocks.now()) == kWall + 5000);
  CHECK(clock.ahead_ms(clocks.now()) == 5000);
}

TEST_CASE("log clock: goes with the monotonic clock, whatever the wall clock does") {
  Clocks clocks;
  LogClock clock;
  clock.start(clocks.now(), 0);
  clocks.pass(1'500'000);
  CHECK(clock.ms(clocks.now()) == kWall + 1);
  clocks.wall_ns -= 30'000 * kNsPerMs;
  CHECK(clock.ms(clocks.now()) == kWall + 1);
  CHECK(clock.ahead_ms(clocks.now()) == 30'000);
  CHECK(clock.after(clocks.now(), 1000) == kWall + 1002);
  clocks.wall_ns += (30'000 + 86'400'000) * kNsPerMs;
  clocks.pass(500'000);
  CHECK(clock.ms(clocks.now()) == kWall + 2);
  CHECK(clock.after(clocks.now(), 1000) == kWall + 1002);
}

TEST_CASE("log clock: a millisecond begins at the monotonic time that the clock says") {
  Clocks clocks;
  LogClock clock;
  clock.start(clocks.now(), 0);
  clocks.pass(123'456'789);
  const int64_t due = clock.after(clocks.now(), 10);
  Clocks before = clocks;
  before.monotonic_ns = clock.monotonic(due).ns - 1;
  CHECK(clock.ms(before.now()) == due - 1);
  before.monotonic_ns += 1;
  CHECK(clock.ms(before.now()) == due);
}

TEST_CASE("log clock: a delay is never shorter than asked, and less than 1 ms longer") {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Clocks clocks;
    clocks.pass(static_cast<int64_t>(random.below(kNsPerMs)));
    LogClock clock;
    clock.start(clocks.now(), kWall + static_cast<int64_t>(random.below(3)) * 1000);
    clocks.pass(static_cast<int64_t>(random.below(100'000'000'000)));
    const auto delay_ms = static_cast<int64_t>(random.below(100'000));
    const int64_t begins_ns = clock.monotonic(clock.after(clocks.now(), delay_ms)).ns;
    const int64_t passed_ns = begins_ns - clocks.monotonic_ns;
    REQUIRE(passed_ns >= delay_ms * kNsPerMs);
    REQUIRE(passed_ns < (delay_ms + 1) * kNsPerMs);
  }
}

TEST_CASE("log clock: a wall time is never early as the clocks stand, and at most 2 ms late") {
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Clocks clocks;
    clocks.pass(static_cast<int64_t>(random.below(kNsPerMs)));
    LogClock clock;
    clock.start(clocks.now(), kWall + static_cast<int64_t>(random.below(3)) - 1);
    clocks.pass(static_cast<int64_t>(random.below(100'000'000'000)));
    // Steps of all sizes in both directions.
    const auto step =
        static_cast<int64_t>(random.below(random.chance(1, 2) ? 4'000'000 : 1ull << 50));
    const int64_t stepped_ns = random.chance(1, 3) ? 0 : random.chance(1, 2) ? step : -step;
    clocks.wall_ns += stepped_ns;
    const int64_t wall_ms = clocks.now().wall.ms + static_cast<int64_t>(random.below(100'000));
    const int64_t begins_ns = clock.monotonic(clock.at(clocks.now(), wall_ms)).ns;
    const int64_t shows_ns = clocks.wall_ns + begins_ns - clocks.monotonic_ns;
    // Nobody can tell a step of a fraction of a millisecond from rounding.
    const bool unnoticed = stepped_ns != 0 && std::abs(stepped_ns) < 2 * kNsPerMs;
    REQUIRE(shows_ns >= wall_ms * kNsPerMs - (unnoticed ? kNsPerMs : 0));
    REQUIRE(shows_ns <= (wall_ms + 2) * kNsPerMs);
  }
}

// Loses its processor for a while after each reading.
class SlowlyReadClock final : public Clock {
 public:
  SlowlyReadClock(Clocks& clocks, Random& random) : clocks_(clocks), random_(random) {}

  MonotonicTime monotonic() override {
    const MonotonicTime time = clocks_.now().monotonic;
    pause();
    return time;
  }

  WallTime wall() override {
    const WallTime time = clocks_.now().wall;
    pause();
    return time;
  }

 private:
  void pause() { clocks_.pass(static_cast<int64_t>(random_.below(5 * kNsPerMs))); }

  Clocks& clocks_;
  Random& random_;
};

TEST_CASE("log clock: a pause between the readings of the two clocks makes nothing early") {
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Clocks clocks;
    SlowlyReadClock slow(clocks, random);
    LogClock clock;
    clock.start(Now::of(slow), 0);
    clocks.pass(static_cast<int64_t>(random.below(100'000'000)));
    const int64_t wall_ms = clocks.now().wall.ms + 100;
    const int64_t begins_ns = clock.monotonic(clock.at(Now::of(slow), wall_ms)).ns;
    const int64_t shows_ns = clocks.wall_ns + begins_ns - clocks.monotonic_ns;
    REQUIRE(shows_ns >= wall_ms * kNsPerMs);
  }
}

TEST_CASE("log clock: without a step a wall time is its own millisecond") {
  Clocks clocks;
  clocks.pass(700'000);
  LogClock clock;
  clock.start(clocks.now(), 0);
  for (int i = 0; i < 100; ++i) {
    clocks.pass(333'333);
    REQUIRE(clock.at(clocks.now(), kWall + 1000) == kWall + 1000);
  }
}

}  // namespace
}  // namespace tidemark::shard
