// ThreadExecutor: Executor on real threads. One worker makes it ordered (disk, checkpoint); several
// make a pool whose jobs finish in any order (cold reads).
//
// Bound: at most `jobs_in_flight_max` jobs are with a worker at a time; more than that wait on the
// owner's side.
//
// Thread: submit(), finish_completed() and the destructor belong to the owner (the loop). Each
// worker is joined to the owner by its own pair of bounded queues and a semaphore; a finished job
// wakes the owner, who then calls finish_completed().
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "log/base/executor.h"
#include "log/base/function.h"

namespace tidemark::shard {

class ThreadExecutor final : public Executor {
 public:
  struct Options {
    std::string name;  // of the threads, for the operator; the system keeps 15 characters
    size_t threads = 1;
    size_t jobs_in_flight_max = 256;  // per thread
  };

  // `wake` is called from the workers after each job; it must be thread-safe and outlive the
  // executor's threads.
  ThreadExecutor(Options options, MoveOnlyFunction<void()> wake);
  // Runs what was submitted to its end, joins the threads, and drops the jobs without finish().
  ~ThreadExecutor() override;
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  void submit(std::unique_ptr<Job> job) override;
  // Calls finish() of the jobs that have run. True if there was any.
  bool finish_completed();
  // Jobs submitted and not yet finished.
  [[nodiscard]] size_t pending() const;

 private:
  class Worker;

  // Gives waiting jobs to workers that have room.
  void deal();

  MoveOnlyFunction<void()> wake_;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t next_worker_ = 0;
  std::deque<std::unique_ptr<Job>> waiting_;
};

}  // namespace tidemark::shard
