// Executor: the seam to another thread. Work that may block (write, sync, LMDB commit, cold read)
// is a Job: run() happens on a worker, finish() afterwards on the thread that owns the executor
// (the shard's loop).
//
// Real: ThreadExecutor (broker/shard). Simulation: a seeded scheduler that runs both on one thread
// at simulated times. Tests: InlineExecutor below.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>

namespace tidemark {

class Job {
 public:
  virtual ~Job() = default;
  // On the worker. Touches only what the job owns or what its comment says is safe to share.
  virtual void run() = 0;
  // On the owner's thread, after run(); jobs of an ordered executor finish in the order of
  // submission.
  virtual void finish() = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Never blocks and never runs anything inside the call. The number of jobs under way is bounded
  // by the caller (each user has at most a few jobs out; see limits.h).
  virtual void submit(std::unique_ptr<Job> job) = 0;
};

// Runs jobs when the test says so.
class InlineExecutor final : public Executor {
 public:
  void submit(std::unique_ptr<Job> job) override { jobs_.push_back(std::move(job)); }

  // Runs and finishes the oldest job; false if there is none.
  bool run_one() {
    if (jobs_.empty()) {
      return false;
    }
    std::unique_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    job->run();
    job->finish();
    return true;
  }

  // Runs until nothing is left, including jobs submitted meanwhile.
  void run_all() {
    while (run_one()) {
    }
  }

  [[nodiscard]] size_t pending() const { return jobs_.size(); }

 private:
  std::deque<std::unique_ptr<Job>> jobs_;
};

}  // namespace tidemark
