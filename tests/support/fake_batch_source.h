// FakeBatchSource: the stored part of a shard for tests: batches come from a FakeConsensus' log,
// the index from a MemoryStore, and both arrive when the test says so.
#pragma once

#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/shard/batch_source.h"
#include "broker/shard/stored_source.h"
#include "log/format/record_batch.h"
#include "tests/support/fake_consensus.h"

namespace tidemark::testing {

class FakeBatchSource final : public shard::BatchSource {
 public:
  FakeBatchSource(const FakeConsensus& log, kv::MemoryStore& store) : log_(log), store_(store) {}

  // Batches before this position are not in memory.
  LogPosition cached_from;
  // Batches whose bytes on disk are bad, and what reading them fails with.
  std::set<LogPosition> damaged;
  ErrorCode damage = ErrorCode::kCorrupted;
  // Of a read of the log of more bytes than this, one bit in the middle is wrong.
  size_t flip_logs_above = SIZE_MAX;
  // The next look-up in the index fails with this.
  Status find_failure;
  size_t finds = 0;

  [[nodiscard]] std::optional<SharedBytes> cached(const partition::BatchRef& ref) const override {
    if (ref.position < cached_from) {
      return std::nullopt;
    }
    return log_.bytes_at(ref.position, ref.bytes);
  }

  void read(std::vector<partition::BatchRef> refs, BatchesRead done) override {
    jobs_.push_back([this, refs = std::move(refs), done = std::move(done)]() mutable {
      std::vector<Result<SharedBytes>> batches;
      for (const partition::BatchRef& ref : refs) {
        if (damaged.contains(ref.position)) {
          batches.emplace_back(Status(damage, "test"));
        } else {
          batches.emplace_back(log_.bytes_at(ref.position, ref.bytes));
        }
      }
      done(std::move(batches));
    });
  }

  void read_log(LogPosition position, size_t size, LogRead done) override {
    jobs_.push_back([this, position, size, done = std::move(done)]() mutable {
      Result<SharedBytes> bytes = log_.bytes_at(position, size);
      if (bytes.ok() && size > flip_logs_above) {
        Buffer flipped = Buffer::copy_of(bytes->view());
        flipped.mutable_view()[size / 2] ^= 1;
        bytes = SharedBytes(std::move(flipped));
      }
      done(std::move(bytes));
    });
  }

  // Where the oldest segment ends, if there is a newer one. It begins at `segment_begin`.
  std::optional<LogPosition> segment_end;
  LogPosition segment_begin;

  [[nodiscard]] std::optional<LogPosition> oldest_segment_end() const override {
    return segment_end;
  }

  void read_delays(shard::DelayCursor, size_t, DelaysRead done) override {
    jobs_.push_back([this, done = std::move(done)]() mutable {
      shard::DelaysFound found;
      size_t bytes = 0;
      for (const replica::CommittedEntry& entry : log_.log) {
        if (entry.position >= segment_begin && entry.position < segment_end) {
          const Status status = shard::find_delays(
              entry.payload.view(), entry.position + log::kEntryHeaderBytes, found.delays, bytes);
          TIDEMARK_CHECK(status.ok(), status.to_string());
        }
      }
      found.next.end = true;
      done(std::move(found));
    });
  }

  void with_store(StoreWork work, StoreDone done) override {
    jobs_.push_back([this, work = std::move(work), done = std::move(done)]() mutable {
      done(work(*store_.read().value()));
    });
  }

  void run(Work work, Work done) override {
    jobs_.push_back([work = std::move(work), done = std::move(done)]() mutable {
      work();
      done();
    });
  }

  void find(PartitionId id, Offset from, size_t bytes_max, RefsFound done) override {
    ++finds;
    jobs_.push_back([this, id, from, bytes_max, done = std::move(done)]() mutable {
      if (!find_failure.ok()) {
        return done(std::exchange(find_failure, Status()));
      }
      done(partition::find_stored(*store_.read().value(), id, from, bytes_max));
    });
  }

  void find_time(PartitionId id, Offset start, Offset end, int64_t time_ms,
                 RefFound done) override {
    jobs_.push_back([this, id, start, end, time_ms, done = std::move(done)]() mutable {
      done(partition::find_stored_time(*store_.read().value(), id, start, end, time_ms));
    });
  }

  void plan_trim(PartitionId id, Offset start, Offset until, shard::TrimGoal goal,
                 TrimPlanned done) override {
    trims_planned.push_back(id);
    jobs_.push_back([this, id, start, until, goal, done = std::move(done)]() mutable {
      shard::TrimPlan plan;
      const Status walked = partition::walk_stored(
          *store_.read().value(), id, start, [&](const partition::BatchRef& ref) {
            return ref.base < until && plan.visit(ref, goal);
          });
      TIDEMARK_CHECK(walked.ok(), walked.to_string());
      done(plan);
    });
  }

  // Finishes the oldest job; false if there is none.
  bool run_one() {
    if (jobs_.empty()) {
      return false;
    }
    MoveOnlyFunction<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
    return true;
  }

  void run_all() {
    while (run_one()) {
    }
  }

  [[nodiscard]] size_t pending() const { return jobs_.size(); }

  // The process that wanted them is gone.
  void forget_jobs() { jobs_.clear(); }

  std::vector<PartitionId> trims_planned;

 private:
  const FakeConsensus& log_;
  kv::MemoryStore& store_;
  std::deque<MoveOnlyFunction<void()>> jobs_;
};

}  // namespace tidemark::testing
