#include "broker/net/event_loop.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "log/base/check.h"

namespace tidemark::net {

namespace {

// uv_*_init of these handles cannot fail for a loop that was initialised.
void must(int result) { TIDEMARK_CHECK(result == 0, std::string("libuv: ") + uv_strerror(result)); }

ErrorCode code_of(int error) {
  if (error == UV_EADDRINUSE) {
    return ErrorCode::kConflict;
  }
  if (error == UV_EACCES || error == UV_EPERM) {
    return ErrorCode::kNotAllowed;
  }
  if (error == UV_ENOENT || error == UV_EAI_NONAME) {
    return ErrorCode::kNotFound;
  }
  return ErrorCode::kUnavailable;
}

}  // namespace

Status uv_status(int error, std::string_view subject) {
  if (error >= 0) {
    return {};
  }
  return {code_of(error), std::string(subject) + ": " + uv_strerror(error)};
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop());
  RETURN_IF_ERROR(loop->init());
  return loop;
}

Status EventLoop::init() {
  RETURN_IF_ERROR(uv_status(uv_loop_init(&loop_), "event loop"));
  loop_ready_ = true;

  ASSIGN_OR_RETURN(wake_, WakeFd::create());
  auto poll = std::make_unique<uv_poll_t>();
  RETURN_IF_ERROR(
      uv_status(uv_poll_init(&loop_, poll.get(), wake_->fd()), "wake-up of the event loop"));
  wake_poll_.reset(poll.release());
  wake_poll_->data = this;
  must(uv_poll_start(wake_poll_.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (auto* self = owner_of<EventLoop>(handle); self != nullptr) {
      self->wake_->accept();
      if (self->client_ != nullptr) {
        self->client_->woken();
      }
    }
  }));

  auto prepare = std::make_unique<uv_prepare_t>();
  must(uv_prepare_init(&loop_, prepare.get()));
  prepare_.reset(prepare.release());
  prepare_->data = this;
  must(uv_prepare_start(prepare_.get(), [](uv_prepare_t* handle) {
    if (auto* self = owner_of<EventLoop>(handle); self != nullptr && self->client_ != nullptr) {
      self->client_->turn_ended();
    }
  }));

  auto idle = std::make_unique<uv_idle_t>();
  must(uv_idle_init(&loop_, idle.get()));
  idle_.reset(idle.release());
  idle_->data = this;
  return {};
}

EventLoop::~EventLoop() {
  client_ = nullptr;
  wake_poll_.reset();
  prepare_.reset();
  idle_.reset();
  if (!loop_ready_) {
    return;
  }
  uv_walk(
      &loop_,
      [](uv_handle_t* handle, void*) {
        TIDEMARK_CHECK(uv_is_closing(handle), "a handle outlives its loop");
      },
      nullptr);
  // This turns until the close callbacks have freed the handles.
  uv_run(&loop_, UV_RUN_DEFAULT);
  const int result = uv_loop_close(&loop_);
  TIDEMARK_CHECK(result == 0, "the loop still has work");
}

void EventLoop::run() { uv_run(&loop_, UV_RUN_DEFAULT); }

void EventLoop::turn(bool wait) { uv_run(&loop_, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT); }

void EventLoop::stop() { uv_stop(&loop_); }

void EventLoop::wake() { wake_->notify(); }

void EventLoop::set_busy(bool busy) {
  if (busy == busy_) {
    return;
  }
  busy_ = busy;
  if (busy) {
    // An active idle handle makes the poll return at once; there is nothing to do in its callback.
    must(uv_idle_start(idle_.get(), [](uv_idle_t*) {}));
  } else {
    must(uv_idle_stop(idle_.get()));
  }
}

Timer::Timer(EventLoop& loop, MoveOnlyFunction<void()> callback) : callback_(std::move(callback)) {
  auto handle = std::make_unique<uv_timer_t>();
  must(uv_timer_init(loop.uv(), handle.get()));
  handle_.reset(handle.release());
  handle_->data = this;
}

void Timer::start(uint64_t delay_ms, uint64_t repeat_ms) {
  must(uv_timer_start(
      handle_.get(),
      [](uv_timer_t* timer) {
        if (auto* self = owner_of<Timer>(timer); self != nullptr) {
          self->callback_();
        }
      },
      delay_ms, repeat_ms));
}

void Timer::stop() { must(uv_timer_stop(handle_.get())); }

Result<std::unique_ptr<Alarm>> Alarm::create(EventLoop& loop) {
  const int fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd < 0) {
    return Status(ErrorCode::kUnavailable,
                  std::string(Status::from_errno(errno, "timerfd").context()));
  }
  std::unique_ptr<Alarm> alarm(new Alarm(fd));
  auto poll = std::make_unique<uv_poll_t>();
  RETURN_IF_ERROR(uv_status(uv_poll_init(loop.uv(), poll.get(), fd), "timerfd"));
  alarm->poll_.reset(poll.release());
  alarm->poll_->data = alarm.get();
  must(uv_poll_start(alarm->poll_.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (auto* self = owner_of<Alarm>(handle); self != nullptr) {
      uint64_t rung = 0;
      const ssize_t bytes = ::read(self->fd_, &rung, sizeof rung);
      TIDEMARK_CHECK(bytes == sizeof rung || errno == EAGAIN, "a timerfd can be read");
      self->set_to_.reset();
    }
  }));
  return alarm;
}

Alarm::~Alarm() {
  poll_.reset();  // before what it polls
  ::close(fd_);
}

void Alarm::set(MonotonicTime at, MonotonicTime now) {
  if (set_to_ == at) {
    return;
  }
  set_to_ = at;
  constexpr int64_t kNsPerS = 1'000'000'000;
  const int64_t wait_ns = std::max<int64_t>(at.ns - now.ns, 1);  // 0 would mean never
  itimerspec time{};
  time.it_value.tv_sec = wait_ns / kNsPerS;
  time.it_value.tv_nsec = wait_ns % kNsPerS;
  const int result = ::timerfd_settime(fd_, 0, &time, nullptr);
  TIDEMARK_CHECK(result == 0, "any time may be set");
}

Result<std::unique_ptr<SignalWatcher>> SignalWatcher::create(EventLoop& loop, int signal,
                                                             MoveOnlyFunction<void()> callback) {
  std::unique_ptr<SignalWatcher> watcher(new SignalWatcher());
  watcher->callback_ = std::move(callback);
  auto handle = std::make_unique<uv_signal_t>();
  RETURN_IF_ERROR(uv_status(uv_signal_init(loop.uv(), handle.get()), "signal watcher"));
  watcher->handle_.reset(handle.release());
  watcher->handle_->data = watcher.get();
  const int started = uv_signal_start(
      watcher->handle_.get(),
      [](uv_signal_t* signalled, int) {
        if (auto* self = owner_of<SignalWatcher>(signalled); self != nullptr) {
          self->callback_();
        }
      },
      signal);
  RETURN_IF_ERROR(uv_status(started, "signal " + std::to_string(signal)));
  return watcher;
}

}  // namespace tidemark::net
