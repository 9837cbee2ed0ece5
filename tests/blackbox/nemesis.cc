#include "tests/blackbox/nemesis.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tidemark::testing {

namespace {

// So much of a second, minute or hour that nothing hides in round numbers.
constexpr std::array<int64_t, 8> kClockSteps = {-3'601, -31, -2, -1, 1, 2, 31, 3'601};
constexpr int64_t kClockSecondsMax = 7'200;
constexpr int kStrobes = 10;
constexpr int64_t kStrobeMs = 100;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // libfaketime and a sanitizer do not go together
#else
constexpr bool kSanitized = false;
#endif

bool clock_steps() { return !kSanitized && !FakeWallClock::library().empty(); }

// A line when it begins and one when it is over.
class Fault {
 public:
  Fault(History& history, const char* kind) : history_(history), id_(history.next_id()) {
    history_.invoke("nemesis", "fault", id_, {{"kind", kind}});
  }

  ~Fault() { history_.end("nemesis", "fault", id_, "ok"); }

  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;

 private:
  History& history_;
  const uint64_t id_;
};

std::vector<std::string> environment(const FakeWallClock& clock) {
  return clock_steps() ? clock.environment() : std::vector<std::string>();
}

}  // namespace

Nemesis::Nemesis(LoopDisk& disk, const std::string& folder, BrokerClock& clock,
                 int64_t pause_ms_max, uint64_t seed)
    : disk_(disk),
      broker_clock_(clock),
      pause_ms_max_(pause_ms_max),
      random_(seed),
      wall_clock_(folder + "/faketime"),
      slow_disk_(disk),
      daemon_(disk.path() + "/data",
              {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"},
              environment(wall_clock_)) {}

std::string Nemesis::start() {
  trouble_.check(daemon_.start() ? "" : "the broker does not start: " + daemon_.errors());
  return trouble_.text();
}

std::string Nemesis::strike(History& history) {
  struct Choice {
    const char* name;
    void (Nemesis::*strike)(History&);
    uint64_t weight;
  };

  constexpr std::array<Choice, 7> kChoices = {{{"kill", &Nemesis::kill_and_start, 8},
                                               {"crash loop", &Nemesis::crash_loop, 2},
                                               {"restart", &Nemesis::restart, 2},
                                               {"pause", &Nemesis::pause, 3},
                                               {"full disk", &Nemesis::fill_disk, 3},
                                               {"slow disk", &Nemesis::slow_down, 2},
                                               {"clock step", &Nemesis::step_clock, 4}}};
  uint64_t drawn = random_.below(24);
  for (const Choice& choice : kChoices) {
    if (drawn < choice.weight) {
      ++counts_[choice.name];
      (this->*choice.strike)(history);
      break;
    }
    drawn -= choice.weight;
  }
  return trouble_.text();
}

std::string Nemesis::stop() {
  return daemon_.terminate() == 0 ? "" : "the broker did not stop in order: " + daemon_.errors();
}

std::string Nemesis::counts() const {
  std::string text;
  for (const auto& [name, count] : counts_) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  }
  return text;
}

std::string Nemesis::remarks() const {
  return fmt::format(
      "slow disk: {}{}", slow_disk_.method(),
      clock_steps() ? "" : "; no clock steps without libfaketime, or with a sanitizer");
}

void Nemesis::kill() {
  const pid_t killed = daemon_.pid();
  daemon_.kill();
  FakeWallClock::forget(killed);
  ++kills_;
}

// A start begins the broker's time anew. Of how much it is ahead then, the checker has to know.
void Nemesis::tell_clock(History& history) {
  const int64_t ahead_s = wall_clock_.seconds() - started_at_s_;
  if (ahead_s > 0) {
    history.observe("nemesis", "clock", {{"skew_ms", ahead_s * 1'000}});
  }
  started_at_s_ = wall_clock_.seconds();
}

void Nemesis::start_again(History& history) {
  tell_clock(history);
  trouble_.check(daemon_.start() ? "" : "the broker does not start: " + daemon_.errors());
}

void Nemesis::kill_and_start(History& history) {
  const Fault fault(history, "kill");
  kill();
  if (random_.chance(1, 3)) {  // else at once
    wait_ms(static_cast<int64_t>(random_.below(300)));
  }
  start_again(history);
}

void Nemesis::crash_loop(History& history) {
  const Fault fault(history, "crash loop");
  kill();
  tell_clock(history);
  for (uint64_t left = random_.between(1, 4); left > 0; --left) {
    daemon_.launch();
    if (daemon_.wait_exit(static_cast<int>(random_.below(60))).has_value()) {
      trouble_.check("the broker does not start: " + daemon_.errors());
      return;
    }
    kill();
  }
  start_again(history);
}

void Nemesis::restart(History& history) {
  const Fault fault(history, "restart");
  trouble_.check(stop());
  start_again(history);
}

void Nemesis::pause(History& history) {
  const Fault fault(history, "pause");
  // As many short ones as long ones, counted by powers of two.
  int64_t ms = pause_ms_max_;
  while (ms > 200 && random_.chance(2, 3)) {
    ms /= 2;
  }
  daemon_.send_signal(SIGSTOP);
  wait_ms(static_cast<int64_t>(
      random_.between(static_cast<uint64_t>(ms) / 2, static_cast<uint64_t>(ms))));
  if (random_.chance(1, 5)) {
    kill();
    start_again(history);
  } else {
    daemon_.send_signal(SIGCONT);
  }
}

void Nemesis::fill_disk(History& history) {
  const Fault fault(history, "full disk");
  disk_.fill();
  wait_ms(static_cast<int64_t>(random_.between(100, 2'000)));
  const bool die_full = random_.chance(1, 2);
  if (die_full) {
    kill();
  }
  if (die_full && random_.chance(1, 2)) {  // it starts on the full disk
    ++counts_["start on a full disk"];
    start_again(history);
    wait_ms(static_cast<int64_t>(random_.below(500)));
  }
  disk_.free();
  if (!daemon_.running()) {
    start_again(history);
  }
}

void Nemesis::slow_down(History& history) {
  const Fault fault(history, "slow disk");
  slow_disk_.begin(daemon_.pid(), random_.between(5, 100));
  wait_ms(static_cast<int64_t>(random_.between(200, 2'000)));
  const bool die_slow = random_.chance(1, 4);
  slow_disk_.end();
  if (die_slow) {
    kill();
    start_again(history);
  }
}

void Nemesis::set_clock(int64_t seconds) {
  // First what it may show, then what it shows.
  broker_clock_.ahead_ms = std::max(broker_clock_.ahead_ms.load(), seconds * 1'000);
  wall_clock_.set(seconds);
  broker_clock_.offset_ms = seconds * 1'000;
}

// No fault: what is under way is neither early nor late for it.
void Nemesis::step_clock(History& history) {
  if (!clock_steps()) {
    return;
  }
  const int64_t step = kClockSteps[random_.below(kClockSteps.size())];
  const int64_t before = wall_clock_.seconds();
  const int64_t after = std::clamp(before + step, -kClockSecondsMax, kClockSecondsMax);
  history.observe("nemesis", "note",
                  {{"text", fmt::format("the wall clock goes from {} s to {} s", before, after)}});
  const int strobes = random_.chance(1, 4) ? kStrobes : 0;
  set_clock(after);
  for (int i = 0; i < strobes; ++i) {
    wait_ms(kStrobeMs);
    set_clock(i % 2 == 0 ? before : after);
  }
}

}  // namespace tidemark::testing
