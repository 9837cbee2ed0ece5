#include "broker/shard/thread_executor.h"

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace tidemark::shard {
namespace {

// What the jobs of a test report. Wakes are counted in a semaphore, so the owner sleeps until there
// is something.
struct Record {
  std::counting_semaphore<> wakes{0};
  std::atomic<int> run{0};
  std::atomic<int> alive{0};
  std::vector<int> finished;  // owner's thread
  std::thread::id owner = std::this_thread::get_id();
  bool on_owner = true;
};

class CountingJob final : public Job {
 public:
  CountingJob(Record& record, int number, std::binary_semaphore* gate = nullptr)
      : record_(record), number_(number), gate_(gate) {
    ++record_.alive;
  }

  ~CountingJob() override { --record_.alive; }

  CountingJob(const CountingJob&) = delete;
  CountingJob& operator=(const CountingJob&) = delete;

  void run() override {
    if (gate_ != nullptr) {
      gate_->acquire();
    }
    ran_elsewhere_ = std::this_thread::get_id() != record_.owner;
    ++record_.run;
  }

  void finish() override {
    record_.on_owner =
        record_.on_owner && ran_elsewhere_ && std::this_thread::get_id() == record_.owner;
    record_.finished.push_back(number_);
  }

 private:
  Record& record_;
  const int number_;
  std::binary_semaphore* gate_;
  bool ran_elsewhere_ = false;
};

void finish_all(ThreadExecutor& executor, Record& record) {
  while (executor.pending() > 0) {
    record.wakes.acquire();
    executor.finish_completed();
  }
}

TEST_CASE("one worker runs and finishes jobs in order, also beyond its queue") {
  Record record;
  ThreadExecutor executor({.name = "test", .jobs_in_flight_max = 4},
                          [&record] { record.wakes.release(); });
  for (int i = 0; i < 100; ++i) {
    executor.submit(std::make_unique<CountingJob>(record, i));
  }
  CHECK(record.finished.empty());
  finish_all(executor, record);
  REQUIRE(record.finished.size() == 100);
  for (int i = 0; i < 100; ++i) {
    CHECK(record.finished[static_cast<size_t>(i)] == i);
  }
  CHECK(record.on_owner);
  CHECK(record.alive == 0);
}

TEST_CASE("a pool is not held up by one slow job") {
  Record record;
  std::binary_semaphore gate{0};
  ThreadExecutor executor({.name = "pool", .threads = 2, .jobs_in_flight_max = 1},
                          [&record] { record.wakes.release(); });
  executor.submit(std::make_unique<CountingJob>(record, 0, &gate));
  for (int i = 1; i < 10; ++i) {
    executor.submit(std::make_unique<CountingJob>(record, i));
  }
  while (record.finished.size() < 9) {
    record.wakes.acquire();
    executor.finish_completed();
  }
  CHECK(executor.pending() == 1);
  gate.release();
  finish_all(executor, record);
  CHECK(record.finished.size() == 10);
  CHECK(record.finished.back() == 0);
  CHECK(record.on_owner);
}

TEST_CASE("destruction runs what was submitted and finishes nothing") {
  Record record;
  {
    ThreadExecutor executor({.name = "test", .jobs_in_flight_max = 2},
                            [&record] { record.wakes.release(); });
    for (int i = 0; i < 20; ++i) {
      executor.submit(std::make_unique<CountingJob>(record, i));
    }
  }
  CHECK(record.run == 20);
  CHECK(record.finished.empty());
  CHECK(record.alive == 0);
}

// Submits its successor from finish(), as the disk worker's group commit does.
class ChainJob final : public Job {
 public:
  ChainJob(ThreadExecutor& executor, int left, int& finished)
      : executor_(executor), left_(left), finished_(finished) {}

  void run() override {}

  void finish() override {
    ++finished_;
    if (left_ > 0) {
      executor_.submit(std::make_unique<ChainJob>(executor_, left_ - 1, finished_));
    }
  }

 private:
  ThreadExecutor& executor_;
  const int left_;
  int& finished_;
};

TEST_CASE("a job may submit another when it finishes") {
  Record record;
  ThreadExecutor executor({.name = "chain", .jobs_in_flight_max = 1},
                          [&record] { record.wakes.release(); });
  int finished = 0;
  executor.submit(std::make_unique<ChainJob>(executor, 50, finished));
  finish_all(executor, record);
  CHECK(finished == 51);
}

}  // namespace
}  // namespace tidemark::shard
