// SimExecutor: an Executor whose jobs run, and later finish, at simulated times. Destroying it
// drops what has not happened yet: the death of a process, in which a job may have run without
// anybody hearing of it.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "log/base/executor.h"
#include "log/base/random.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

class SimExecutor final : public Executor {
 public:
  // `ordered`: one worker, jobs run and finish in the order they came; else each takes its own
  // time. `turn` is called after each finish(): the loop's turn ends there. Jobs that come now take
  // `slowness` times as long as others; it outlives the executor.
  SimExecutor(Scheduler& scheduler, uint64_t seed, int64_t latency_us_max, bool ordered,
              const int64_t& slowness, MoveOnlyFunction<void()> turn)
      : state_(std::make_shared<State>(State{scheduler,
                                             Random(seed),
                                             latency_us_max,
                                             ordered,
                                             slowness,
                                             std::move(turn),
                                             {},
                                             0,
                                             0})) {}

  SimExecutor(const SimExecutor&) = delete;
  SimExecutor& operator=(const SimExecutor&) = delete;

  void submit(std::unique_ptr<Job> job) override {
    State& state = *state_;
    const uint64_t id = state.next_id++;
    state.jobs.emplace(id, std::move(job));
    const auto delay = [&] {
      return 1'000 * state.slowness *
             static_cast<int64_t>(state.random.below(static_cast<uint64_t>(state.latency_us_max)) +
                                  1);
    };
    int64_t run_at = state.scheduler.now_ns() + delay();
    if (state.ordered) {
      run_at = std::max(run_at, state.free_at_ns + 1'000);
    }
    const int64_t finish_at = run_at + delay() / 4;
    state.free_at_ns = std::max(state.free_at_ns, finish_at);
    const std::weak_ptr<State> weak = state_;
    state.scheduler.at_ns(run_at, [weak, id] {
      if (const auto alive = weak.lock()) {
        alive->jobs.at(id)->run();
      }
    });
    state.scheduler.at_ns(finish_at, [weak, id] {
      if (const auto alive = weak.lock()) {
        const auto it = alive->jobs.find(id);
        const std::unique_ptr<Job> done = std::move(it->second);
        alive->jobs.erase(it);
        done->finish();
        alive->turn();
      }
    });
  }

 private:
  struct State {
    Scheduler& scheduler;
    Random random;
    int64_t latency_us_max;
    bool ordered;
    const int64_t& slowness;
    MoveOnlyFunction<void()> turn;
    std::map<uint64_t, std::unique_ptr<Job>> jobs;
    uint64_t next_id;
    int64_t free_at_ns;
  };

  std::shared_ptr<State> state_;
};

}  // namespace tidemark::sim
