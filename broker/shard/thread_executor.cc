#include "broker/shard/thread_executor.h"

#include <pthread.h>

#include <atomic>
#include <optional>
#include <semaphore>
#include <thread>
#include <utility>

#include "log/base/check.h"
#include "log/base/spsc_queue.h"

namespace tidemark::shard {

// The queue of finished jobs holds as many as may be under way, so a worker always has room to put
// one.
class ThreadExecutor::Worker {
 public:
  Worker(const std::string& name, size_t jobs_max, MoveOnlyFunction<void()>& wake)
      : todo_(jobs_max), done_(jobs_max), jobs_max_(jobs_max), wake_(wake), thread_([this] {
          work();
        }) {
    // A name that does not fit is a cosmetic loss.
    static_cast<void>(::pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str()));
  }

  ~Worker() {
    stopping_.store(true, std::memory_order_release);
    ready_.release();
    thread_.join();
  }

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] bool has_room() const { return under_way_ < jobs_max_; }

  void give(std::unique_ptr<Job> job) {
    TIDEMARK_CHECK(has_room());
    ++under_way_;
    const bool pushed = todo_.try_push(std::move(job));
    TIDEMARK_CHECK(pushed, "the queue holds as many jobs as may be under way");
    ready_.release();
  }

  std::unique_ptr<Job> take_done() {
    std::optional<std::unique_ptr<Job>> job = done_.pop();
    if (!job) {
      return nullptr;
    }
    --under_way_;
    return std::move(*job);
  }

  [[nodiscard]] size_t under_way() const { return under_way_; }

 private:
  void work() {
    while (true) {
      ready_.acquire();
      std::optional<std::unique_ptr<Job>> job = todo_.pop();
      if (!job) {
        // The semaphore counts jobs and the one release of the destructor.
        TIDEMARK_CHECK(stopping_.load(std::memory_order_acquire));
        return;
      }
      (*job)->run();
      const bool pushed = done_.try_push(std::move(*job));
      TIDEMARK_CHECK(pushed, "the queue holds as many jobs as may be under way");
      wake_();
    }
  }

  SpscQueue<std::unique_ptr<Job>> todo_;
  SpscQueue<std::unique_ptr<Job>> done_;
  const size_t jobs_max_;
  size_t under_way_ = 0;  // owner's
  MoveOnlyFunction<void()>& wake_;
  std::atomic<bool> stopping_{false};
  std::counting_semaphore<> ready_{0};
  std::thread thread_;  // last: starts when the rest is built
};

ThreadExecutor::ThreadExecutor(Options options, MoveOnlyFunction<void()> wake)
    : wake_(std::move(wake)) {
  TIDEMARK_CHECK(options.threads > 0 && options.jobs_in_flight_max > 0);
  workers_.reserve(options.threads);
  for (size_t i = 0; i < options.threads; ++i) {
    const std::string name =
        options.threads == 1 ? options.name : options.name + "-" + std::to_string(i);
    workers_.push_back(std::make_unique<Worker>(name, options.jobs_in_flight_max, wake_));
  }
}

ThreadExecutor::~ThreadExecutor() {
  // What waits here was submitted too: it runs before the threads end.
  for (size_t i = 0; !waiting_.empty(); i = (i + 1) % workers_.size()) {
    while (workers_[i]->take_done() != nullptr) {
    }
    deal();
    std::this_thread::yield();
  }
}

void ThreadExecutor::submit(std::unique_ptr<Job> job) {
  TIDEMARK_CHECK(job != nullptr);
  waiting_.push_back(std::move(job));
  deal();
}

void ThreadExecutor::deal() {
  for (size_t full = 0; !waiting_.empty() && full < workers_.size();) {
    Worker& worker = *workers_[next_worker_];
    next_worker_ = (next_worker_ + 1) % workers_.size();
    if (!worker.has_room()) {
      ++full;
      continue;
    }
    full = 0;
    worker.give(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

bool ThreadExecutor::finish_completed() {
  bool any = false;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    while (std::unique_ptr<Job> job = worker->take_done()) {
      any = true;
      deal();
      job->finish();
    }
  }
  return any;
}

size_t ThreadExecutor::pending() const {
  size_t total = waiting_.size();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    total += worker->under_way();
  }
  return total;
}

}  // namespace tidemark::shard
