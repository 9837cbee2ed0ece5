// WakeFd: wakes a thread that waits in epoll or poll. An eventfd with a flag: of many notify()
// before the thread looks, only the first is a system call.
//
// Not libuv's uv_async_t: up to libuv 1.44 a loop that is woken spins until uv_async_send() has
// returned in the other thread, and yields. Where the loop has taken the core of that very thread,
// which is common when there are few cores, each wake-up costs some 30 us of waiting.
#pragma once

#include <atomic>
#include <memory>

#include "log/base/result.h"

namespace tidemark {

class WakeFd {
 public:
  // kUnavailable if the system has no descriptor left.
  static Result<std::unique_ptr<WakeFd>> create();
  ~WakeFd();
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;

  // Any thread; never blocks. What it wrote before is seen after the next accept().
  void notify();
  // The thread that waits, when fd() is readable and before it looks for what there is to do: a
  // notify() from now on makes fd() readable again.
  void accept();

  // Readable from notify() to accept(). Stays ours.
  [[nodiscard]] int fd() const { return fd_; }

 private:
  explicit WakeFd(int fd) : fd_(fd) {}

  const int fd_;
  std::atomic<bool> notified_{false};
};

}  // namespace tidemark
