// The simulated world's time: events in order of their time, one after the other in one thread.
// Everything that happens, happens in an event.
//
// The trace hash covers every event's time and what note() was told: two runs of a seed that differ
// anywhere differ in it.
#pragma once

#include <concepts>
#include <cstdint>
#include <queue>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "log/base/checksum.h"
#include "log/base/function.h"
#include "tests/support/sim_clock.h"

namespace tidemark::sim {

// The system did what it must never do. Thrown at the level of events only, never through the code
// under test.
class WrongResult : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The system did not do in time what it has to do.
class NoProgress : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void require(bool condition, const std::string& what) {
  if (!condition) {
    throw WrongResult(what);
  }
}

inline void require(bool condition, const char* what) {
  if (!condition) {
    throw WrongResult(what);
  }
}

// For what is checked per message: `what` is a function, called if the condition does not hold.
template <std::invocable What>
void require(bool condition, const What& what) {
  if (!condition) {
    throw WrongResult(what());
  }
}

class Scheduler {
 public:
  void after_us(int64_t us, MoveOnlyFunction<void()> event) {
    at_ns(now_ns() + us * 1'000, std::move(event));
  }

  void at_ns(int64_t ns, MoveOnlyFunction<void()> event) {
    events_.push({std::max(ns, now_ns()), next_sequence_++, std::move(event)});
  }

  // False if there is nothing left to happen.
  bool run_one() {
    if (events_.empty()) {
      return false;
    }
    // The queue gives its top out as const; it is removed at once.
    Event event = std::move(const_cast<Event&>(events_.top()));
    events_.pop();
    clock_.advance_ns(event.at_ns - now_ns());
    note(static_cast<uint64_t>(event.at_ns));
    ++events_run_;
    event.callback();
    return true;
  }

  void note(uint64_t what) {
    uint8_t bytes[8];
    std::memcpy(bytes, &what, sizeof bytes);
    trace_hash_ = xxh3(bytes, trace_hash_);
  }

  [[nodiscard]] int64_t now_ns() { return clock_.monotonic().ns; }

  [[nodiscard]] int64_t now_ms() { return now_ns() / 1'000'000; }

  [[nodiscard]] SimClock& clock() { return clock_; }

  [[nodiscard]] uint64_t trace_hash() const { return trace_hash_; }

  [[nodiscard]] uint64_t events_run() const { return events_run_; }

 private:
  struct Event {
    int64_t at_ns;
    uint64_t sequence;
    MoveOnlyFunction<void()> callback;

    // The earliest is the largest: std::priority_queue gives that first.
    bool operator<(const Event& other) const {
      return std::pair(other.at_ns, other.sequence) < std::pair(at_ns, sequence);
    }
  };

  SimClock clock_;
  std::priority_queue<Event> events_;
  uint64_t next_sequence_ = 0;
  uint64_t events_run_ = 0;
  uint64_t trace_hash_ = 0;
};

}  // namespace tidemark::sim
