#include "broker/shard/stored_source.h"

#include <algorithm>
#include <utility>

#include "broker/partition/chunk_reader.h"
#include "log/file_names.h"
#include "log/format/log_record.h"
#include "log/format/record_batch.h"
#include "log/format/schedule_set.h"
#include "log/segment_reader.h"

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

// Batches that lie close together in the log are read in one go: delayed messages that were
// scheduled together lie between the heads of their items.
constexpr uint64_t kGapBytesMax = 4 * limits::kKiB;
constexpr uint64_t kRunBytesMax = 1 * limits::kMiB;

struct PlannedRead {
  std::vector<partition::BatchRef> refs;  // ascending in the log
  Result<log::ReadPlan> plan;             // of all of them
  // Of each, for when reading all of them failed: a bad place spoils its own batch only.
  std::vector<Result<log::ReadPlan>> single;
};

LogPosition end_of(const partition::BatchRef& ref) { return ref.position + ref.bytes; }

std::vector<PlannedRead> plan_reads(const log::Log& log,
                                    const std::vector<partition::BatchRef>& refs) {
  std::vector<PlannedRead> planned;
  for (size_t i = 0; i < refs.size();) {
    size_t end = i + 1;
    while (end < refs.size() && refs[end].position >= end_of(refs[end - 1]) &&
           refs[end].position - end_of(refs[end - 1]) <= kGapBytesMax &&
           end_of(refs[end]) - refs[i].position <= kRunBytesMax) {
      ++end;
    }
    const auto first = refs.begin() + static_cast<std::ptrdiff_t>(i);
    Result<log::ReadPlan> plan =
        log.locate(refs[i].position, end_of(refs[end - 1]) - refs[i].position);
    if (!plan.ok() && end - i > 1) {
      // Not in one piece on disk, or one of them is not there: each for itself.
      end = i + 1;
      plan = log.locate(refs[i].position, refs[i].bytes);
    }
    std::vector<partition::BatchRef> run(first, first + static_cast<std::ptrdiff_t>(end - i));
    std::vector<Result<log::ReadPlan>> single;
    single.reserve(run.size());
    for (const partition::BatchRef& ref : run) {
      single.push_back(log.locate(ref.position, ref.bytes));
    }
    planned.push_back({std::move(run), std::move(plan), std::move(single)});
    i = end;
  }
  return planned;
}

Status damaged_batch(const partition::BatchRef& ref, std::string_view why) {
  std::string text = "record batch at log position " + std::to_string(ref.position.value());
  if (ref.count > 0) {
    text += " (offsets " + std::to_string(ref.base.value()) + " to " +
            std::to_string(ref.end().value() - 1) + ")";
  }
  return Status(ErrorCode::kCorrupted, text + ": " + std::string(why));
}

Result<SharedBytes> check_batch(const partition::BatchRef& ref, SharedBytes bytes) {
  const Result<format::BatchHeader> header = format::verify_batch(bytes.view());
  if (!header.ok()) {
    return damaged_batch(ref, header.error().context());
  }
  // Compaction leaves records out, and the offsets as they are.
  if (ref.count > 0 && header->last_offset_delta + 1 != ref.count) {
    return damaged_batch(ref, "number of offsets differs from the index");
  }
  return bytes;
}

Result<SharedBytes> read_plan(const Result<log::ReadPlan>& plan) {
  if (!plan.ok()) {
    return plan.error();
  }
  Buffer bytes(plan->size());
  RETURN_IF_ERROR(plan->read(bytes.mutable_view()));
  return SharedBytes(std::move(bytes));
}

void read_run(const PlannedRead& planned, std::vector<Result<SharedBytes>>& out) {
  const Result<SharedBytes> run = read_plan(planned.plan);
  for (size_t i = 0; i < planned.refs.size(); ++i) {
    const partition::BatchRef& ref = planned.refs[i];
    const Result<SharedBytes> bytes =
        run.ok() ? run->slice(ref.position - planned.refs.front().position, ref.bytes)
                 : read_plan(planned.single[i]);
    out.push_back(bytes.ok() ? check_batch(ref, *bytes) : bytes);
  }
}

}  // namespace

Status find_delays(ByteView payload, LogPosition payload_position, std::vector<StoredDelay>& found,
                   size_t& bytes) {
  format::RecordListReader list(payload);
  format::LogRecord record;
  const auto add = [&](uint64_t id, int64_t due_ms, PartitionId partition, uint32_t batch_offset,
                       ByteView batch) {
    found.push_back(
        {id, due_ms, partition, payload_position + batch_offset, Buffer::copy_of(batch)});
    bytes += batch.size();
  };
  // Ids count on from that of the set, by `step`.
  const auto add_set = [&](ByteView bytes_of_set, uint32_t offset, uint64_t step) -> Status {
    ASSIGN_OR_RETURN(format::ScheduleReader set, format::ScheduleReader::open(bytes_of_set));
    format::ScheduleItem item;
    for (uint64_t id = step == 0 ? 0 : set.header().first_id; set.next(item); id += step) {
      add(id, item.due_ms, set.header().partition, offset + item.batch_offset, item.batch);
    }
    return set.status();
  };
  while (list.next(record)) {
    if (record.kind == format::RecordKind::kHalf ||
        record.kind == format::RecordKind::kRelocateHalf) {
      // Its delayed messages got their ids from the commit: their positions tell who they are.
      ASSIGN_OR_RETURN(const format::HalfRecord half, format::decode_half(record));
      RETURN_IF_ERROR(half.schedule ? add_set(half.payload, half.payload_offset, 0) : Status());
    } else if (record.kind == format::RecordKind::kRelocate) {
      ASSIGN_OR_RETURN(const format::RelocateRecord moved, format::decode_relocate(record));
      add(moved.id, moved.due_ms, moved.partition, moved.batch_offset, moved.batch);
    } else if (record.kind == format::RecordKind::kSchedule) {
      RETURN_IF_ERROR(add_set(record.body, record.body_offset, 1));
    }
  }
  return list.status();
}

namespace {

Result<DelaysFound> walk_segment(FileSystem& fs, const std::string& directory, DelayCursor from,
                                 size_t bytes_max) {
  ASSIGN_OR_RETURN(const auto files, log::list_segment_files(fs, directory));
  const auto file = std::find_if(files.begin(), files.end(), [&](const auto& one) {
    return from.segment == 0 || one.sequence == from.segment;
  });
  if (file == files.end()) {
    return Status(ErrorCode::kNotFound, "segment " + std::to_string(from.segment));
  }
  ASSIGN_OR_RETURN(auto reader, log::SegmentReader::open(fs, directory + "/" + file->name));
  if (from.file_offset != 0) {
    reader.seek(from.file_offset);
  }
  DelaysFound found;
  size_t bytes = 0;
  while (bytes < bytes_max) {
    log::SegmentEntry entry;
    ASSIGN_OR_RETURN(const auto step, reader.next(entry, LogPosition{0}));
    if (step == log::SegmentReader::Step::kDamaged) {
      return Status(
          ErrorCode::kCorrupted,
          reader.name() + " at offset " + std::to_string(reader.offset()) + ": " + reader.damage());
    }
    if (step == log::SegmentReader::Step::kEnd) {
      found.next.end = true;
      break;
    }
    if (entry.header().kind == log::EntryKind::kCommand) {
      ASSIGN_OR_RETURN(const ByteView payload, reader.payload(entry));
      RETURN_IF_ERROR(find_delays(payload, entry.header().position + log::kEntryHeaderBytes,
                                  found.delays, bytes));
    }
  }
  found.next.segment = file->sequence;
  found.next.file_offset = reader.offset();
  return found;
}

}  // namespace

std::optional<LogPosition> StoredSource::oldest_segment_end() const {
  const std::vector<log::Log::SegmentInfo> segments = log_.segments();
  if (segments.empty() || !segments.front().sealed) {
    return std::nullopt;
  }
  return segments.front().end;
}

void StoredSource::read_delays(DelayCursor from, size_t bytes_max, DelaysRead done) {
  submit<Result<DelaysFound>>(
      reads_,
      [this, from, bytes_max] {
        return walk_segment(file_system_, log_directory_, from, bytes_max);
      },
      std::move(done));
}

std::optional<SharedBytes> StoredSource::cached(const partition::BatchRef& ref) const {
  return log_.cached(ref.position, ref.bytes);
}

void StoredSource::read(std::vector<partition::BatchRef> refs, BatchesRead done) {
  using Batches = std::vector<Result<SharedBytes>>;
  submit<Batches>(
      reads_,
      [planned = plan_reads(log_, refs), count = refs.size()] {
        Batches read;
        read.reserve(count);
        for (const PlannedRead& one : planned) {
          read_run(one, read);
        }
        return read;
      },
      std::move(done));
}

void StoredSource::read_log(LogPosition position, size_t size, LogRead done) {
  submit<Result<SharedBytes>>(
      reads_, [plan = log_.locate(position, size)] { return read_plan(plan); }, std::move(done));
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

void StoredSource::run(Work work, Work done) {
  submit<bool>(
      reads_,
      [work = std::move(work)]() mutable {
        work();
        return true;
      },
      [done = std::move(done)](bool) mutable { done(); });
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
