// Steps of the wall clock under the real daemon, by libfaketime: relative delays go by the
// monotonic clock, absolute ones by the new wall clock. The clocks of this process are not touched.
#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/fake_wall_clock.h"
#include "tests/support/skip.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

using client::Delay;

constexpr uint64_t kMessages = 3'000;
constexpr int64_t kNsPerMs = 1'000'000;
// Of what is due on a busy machine. A step that is taken for time gone by would be much more.
constexpr int64_t kLateMsMax = 5'000;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Relative delays of 0 to 3 s, in thirds that begin at multiples of kMessages / 3.
void send_third(Schedules& schedules, uint64_t third, std::vector<int64_t>& delays_ms) {
  for (uint64_t i = 0; i < kMessages / 3; ++i) {
    const auto delay_ms = static_cast<int64_t>(i * 7'919 % 3'000);
    delays_ms.push_back(delay_ms);
    schedules.send(third * (kMessages / 3) + i, Delay::after(delay_ms));
  }
  schedules.flush();
}

struct Times {
  size_t early = 0;
  size_t late = 0;
  int64_t latest_ms = 0;
};

Times check_times(const Schedules& schedules, const std::vector<Arrival>& arrivals,
                  const std::vector<int64_t>& delays_ms) {
  Times times;
  for (const Arrival& arrival : arrivals) {
    const Scheduled& one = schedules.of(arrival.number);
    const int64_t delay_ns = delays_ms.at(arrival.number) * kNsPerMs;
    times.early += arrival.monotonic_ns < one.sent_ns + delay_ns ? 1U : 0U;
    const int64_t late_ms = (arrival.monotonic_ns - one.acked_ns - delay_ns) / kNsPerMs;
    times.latest_ms = std::max(times.latest_ms, late_ms);
    times.late += late_ms > kLateMsMax ? 1U : 0U;
  }
  return times;
}

// A message for a time of the daemon's wall clock comes after as much time as is left until then:
// neither at once nor in a day. So the daemon has seen the step.
void check_absolute(Schedules& absolute, Arrivals& arrivals, uint64_t number,
                    const FakeWallClock& clock) {
  constexpr int64_t kAheadMs = 700;
  absolute.send(number, Delay::at(clock.now_ms() + kAheadMs));
  absolute.flush();
  REQUIRE_MESSAGE(arrivals.wait_for_number(number, 30'000), "the daemon's clock did not step");
  const int64_t after_ms = (monotonic_now_ns() - absolute.of(number).sent_ns) / kNsPerMs;
  CHECK(after_ms >= kAheadMs - 2);
  CHECK(after_ms <= kAheadMs + kLateMsMax);
}

}  // namespace

TEST_CASE("steps of the wall clock make no relative delay early, late or lost") {
  const std::string library = FakeWallClock::library();
  if (library.empty() || kSanitized) {
    skip_test(kSanitized ? "clock steps: libfaketime and a sanitizer do not go together"
                         : "clock steps: libfaketime is not installed");
    return;
  }
  const TempDirectory directory;
  FakeWallClock clock(directory / "faketime");
  DaemonProcess daemon(directory / "data", {"--shards", "1"}, clock.environment());
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  REQUIRE(admin.create_topic("relative", 1, {}, kTrafficDeadlineMs).ok());
  REQUIRE(admin.create_topic("absolute", 1, {}, kTrafficDeadlineMs).ok());
  Arrivals arrivals(client, "relative", 1);
  Arrivals absolute_arrivals(client, "absolute", 1);
  Schedules schedules(client, "relative", 100);
  Schedules absolute(client, "absolute", 100);
  std::vector<int64_t> delays_ms;

  check_absolute(absolute, absolute_arrivals, 0, clock);
  send_third(schedules, 0, delays_ms);
  REQUIRE(arrivals.wait_for(100));
  clock.set(-30);
  send_third(schedules, 1, delays_ms);
  check_absolute(absolute, absolute_arrivals, 1, clock);
  CHECK(arrivals.count() < kMessages * 2 / 3);  // under way when the clock steps
  clock.set(-30 + 86'400);
  send_third(schedules, 2, delays_ms);
  check_absolute(absolute, absolute_arrivals, 2, clock);
  REQUIRE(arrivals.wait_for(kMessages));

  const Times times = check_times(schedules, arrivals.stop(), delays_ms);
  MESSAGE(kMessages << " relative delays, steps of -30 s and +86,400 s: the latest came "
                    << times.latest_ms << " ms after its time");
  CHECK(arrivals.times().size() == kMessages);
  CHECK(arrivals.damaged() == 0);
  CHECK(times.early == 0);
  CHECK(times.late == 0);
  CHECK(daemon.terminate() == 0);
}

TEST_CASE("a wall clock that was set back while the broker was down loses nothing") {
  const std::string library = FakeWallClock::library();
  if (library.empty() || kSanitized) {
    skip_test(kSanitized ? "clock steps: libfaketime and a sanitizer do not go together"
                         : "clock steps: libfaketime is not installed");
    return;
  }
  const TempDirectory directory;
  FakeWallClock clock(directory / "faketime");
  DaemonProcess daemon(directory / "data", {"--shards", "1"}, clock.environment());
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  REQUIRE(admin.create_topic("t", 1, {}, kTrafficDeadlineMs).ok());
  Arrivals arrivals(client, "t", 1);
  Schedules schedules(client, "t", 100);
  for (uint64_t number = 0; number < 100; ++number) {
    schedules.send(number, Delay::after(1'500));
  }
  schedules.flush();
  const pid_t killed = daemon.pid();
  daemon.kill();
  FakeWallClock::forget(killed);
  // The time of the log does not go back with it: a delay is not prolonged by half a minute.
  clock.set(-30);
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  REQUIRE(arrivals.wait_for(100));
  const std::vector<int64_t> delays_ms(100, 1'500);
  const Times times = check_times(schedules, arrivals.stop(), delays_ms);
  CHECK(times.early == 0);
  CHECK(times.late == 0);
  CHECK(arrivals.times().size() == 100);
  CHECK(daemon.terminate() == 0);
}

}  // namespace tidemark::testing
