// EventLoop: a uv_loop_t with the three things every loop of the broker needs: a wake-up from other
// threads, a hook at the end of each turn, and a way to ask for another turn at once.
//
// Turn: timers run, then turn_ended(), then the loop sleeps until something happens, then I/O
// callbacks run; that is the whole circle. So turn_ended() sees everything that timers and I/O have
// brought since it ran last, and the loop never sleeps on work that turn_ended() has not seen.
//
// Thread: the one that calls run() or turn(), for everything but wake().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "broker/net/uv_handle.h"
#include "log/base/clock.h"
#include "log/base/function.h"
#include "log/base/result.h"
#include "log/base/wake_fd.h"

namespace tidemark::net {

// What lives on a loop. Called on the loop's thread.
class LoopClient {
 public:
  virtual ~LoopClient() = default;
  // After one or more wake().
  virtual void woken() = 0;
  virtual void turn_ended() = 0;
};

class EventLoop {
 public:
  // kUnavailable if the system refuses (file descriptors).
  static Result<std::unique_ptr<EventLoop>> create();
  // Closes what is left. Requires: not inside run(); everything that stands on the loop (timers,
  // connections) is gone.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `client` outlives the loop or is replaced by nullptr before it goes.
  void set_client(LoopClient* client) { client_ = client; }

  // Turns until stop().
  void run();
  // One turn; waits for an event if `wait`. For tests.
  void turn(bool wait);
  void stop();

  // Any thread. The client's woken() runs soon; several calls may become one.
  void wake();
  // While set, the loop does not sleep between turns.
  void set_busy(bool busy);

  [[nodiscard]] uv_loop_t* uv() { return &loop_; }

 private:
  EventLoop() = default;
  Status init();

  uv_loop_t loop_ = {};
  bool loop_ready_ = false;
  std::unique_ptr<WakeFd> wake_;
  UvHandle<uv_poll_t> wake_poll_;
  UvHandle<uv_prepare_t> prepare_;
  UvHandle<uv_idle_t> idle_;
  bool busy_ = false;
  LoopClient* client_ = nullptr;
};

// Calls back after a while, once or again and again, at the loop's resolution of a millisecond.
class Timer {
 public:
  Timer(EventLoop& loop, MoveOnlyFunction<void()> callback);

  // Replaces an earlier start. repeat_ms 0: once.
  void start(uint64_t delay_ms, uint64_t repeat_ms = 0);
  void stop();

 private:
  UvHandle<uv_timer_t> handle_;
  MoveOnlyFunction<void()> callback_;
};

// Makes the loop turn at a time, to some microseconds; a Timer would be up to a millisecond late.
class Alarm {
 public:
  // kUnavailable if the system has no descriptor left.
  static Result<std::unique_ptr<Alarm>> create(EventLoop& loop);
  ~Alarm();
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  // Replaces an earlier time. Cheap if it is the same.
  void set(MonotonicTime at, MonotonicTime now);

 private:
  explicit Alarm(int fd) : fd_(fd) {}

  const int fd_;
  UvHandle<uv_poll_t> poll_;
  std::optional<MonotonicTime> set_to_;  // until it rings
};

// Calls back on the loop when the process gets a signal.
class SignalWatcher {
 public:
  static Result<std::unique_ptr<SignalWatcher>> create(EventLoop& loop, int signal,
                                                       MoveOnlyFunction<void()> callback);

 private:
  SignalWatcher() = default;

  UvHandle<uv_signal_t> handle_;
  MoveOnlyFunction<void()> callback_;
};

}  // namespace tidemark::net
