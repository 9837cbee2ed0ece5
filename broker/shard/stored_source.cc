#include "broker/shard/stored_source.h"

#include <utility>

#include "broker/partition/chunk_reader.h"
#include "log/format/record_batch.h"

namespace tidemark::shard {

namespace {

// `work` on a worker gives a T, `done` takes it on the loop.
template <typename T, typename Work, typename Done>
class ReadJob final : public Job {
 public:
  ReadJob(Work work, Done done) : work_(std::move(work)), done_(std::move(done)) {}

  void run() override { result_.emplace(work_()); }

  void finish() override { done_(std::move(*result_)); }

 private:
  Work work_;
  Done done_;
  std::optional<T> result_;
};

template <typename T, typename Work, typename Done>
void submit(Executor& executor, Work work, Done done) {
  executor.submit(std::make_unique<ReadJob<T, Work, Done>>(std::move(work), std::move(done)));
}

struct PlannedRead {
  partition::BatchRef ref;
  Result<log::ReadPlan> plan;
};

Result<SharedBytes> read_batch(const PlannedRead& planned) {
  if (!planned.plan.ok()) {
    return planned.plan.error();
  }
  Buffer bytes(planned.ref.bytes);
  RETURN_IF_ERROR(planned.plan->read(bytes.mutable_view()));
  const Result<format::BatchHeader> header = format::verify_batch(bytes.view());
  if (!header.ok() || header->record_count != planned.ref.count) {
    return Status(ErrorCode::kCorrupted,
                  "record batch at log position " + std::to_string(planned.ref.position.value()) +
                      " (offsets " + std::to_string(planned.ref.base.value()) + " to " +
                      std::to_string(planned.ref.end().value() - 1) + "): " +
                      (header.ok() ? "record count differs from the index"
                                   : std::string(header.error().context())));
  }
  return SharedBytes(std::move(bytes));
}

}  // namespace

std::optional<SharedBytes> StoredSource::cached(const partition::BatchRef& ref) const {
  return log_.cached(ref.position, ref.bytes);
}

void StoredSource::read(std::vector<partition::BatchRef> refs, BatchesRead done) {
  std::vector<PlannedRead> planned;
  planned.reserve(refs.size());
  for (const partition::BatchRef& ref : refs) {
    planned.push_back({ref, log_.locate(ref.position, ref.bytes)});
  }
  using Batches = std::vector<Result<SharedBytes>>;
  submit<Batches>(
      reads_,
      [planned = std::move(planned)] {
        Batches read;
        read.reserve(planned.size());
        for (const PlannedRead& one : planned) {
          read.push_back(read_batch(one));
        }
        return read;
      },
      std::move(done));
}

void StoredSource::read_log(LogPosition position, size_t size, LogRead done) {
  submit<Result<SharedBytes>>(
      reads_,
      [plan = log_.locate(position, size)]() -> Result<SharedBytes> {
        if (!plan.ok()) {
          return plan.error();
        }
        Buffer bytes(plan->size());
        RETURN_IF_ERROR(plan->read(bytes.mutable_view()));
        return SharedBytes(std::move(bytes));
      },
      std::move(done));
}

void StoredSource::with_store(StoreWork work, StoreDone done) {
  submit<Status>(
      reads_,
      [this, work = std::move(work)]() mutable -> Status {
        ASSIGN_OR_RETURN(const auto view, store_.read());
        return work(*view);
      },
      std::move(done));
}

void StoredSource::find(PartitionId id, Offset from, size_t bytes_max, RefsFound done) {
  using Refs = Result<std::vector<partition::BatchRef>>;
  submit<Refs>(
      reads_,
      [this, id, from, bytes_max]() -> Refs {
        ASSIGN_OR_RETURN(const auto view, store_.read());
        return partition::find_stored(*view, id, from, bytes_max);
      },
      std::move(done));
}

void StoredSource::find_time(PartitionId id, Offset start, Offset end, int64_t time_ms,
                             RefFound done) {
  using Ref = Result<std::optional<partition::BatchRef>>;
  submit<Ref>(
      reads_,
      [this, id, start, end, time_ms]() -> Ref {
        ASSIGN_OR_RETURN(const auto view, store_.read());
        return partition::find_stored_time(*view, id, start, end, time_ms);
      },
      std::move(done));
}

void StoredSource::plan_trim(PartitionId id, Offset start, Offset until, TrimGoal goal,
                             TrimPlanned done) {
  submit<Result<TrimPlan>>(
      reads_,
      [this, id, start, until, goal]() -> Result<TrimPlan> {
        ASSIGN_OR_RETURN(const auto view, store_.read());
        TrimPlan plan;
        RETURN_IF_ERROR(
            partition::walk_stored(*view, id, start, [&](const partition::BatchRef& ref) {
              return ref.base < until && plan.visit(ref, goal);
            }));
        return plan;
      },
      std::move(done));
}

}  // namespace tidemark::shard
