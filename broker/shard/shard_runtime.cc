#include "broker/shard/shard_runtime.h"

#include <utility>

#include "broker/delay/kv_slot_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/store_keys.h"
#include "broker/shard/shard.h"
#include "broker/shard/stored_source.h"
#include "log/base/coverage_mark.h"
#include "log/base/logging.h"

namespace tidemark::shard {

namespace {

constexpr int64_t kCheckpointRetryNs = 1'000'000'000;

}  // namespace

// Checkpoints:
//
//   idle --pace or stop--> committing (delta frozen, job on the worker) --ok--> idle, raft told
//                                                     \--no space--> idle, again in a second
//                                                      \--other error--> broken: no more
//                                                      checkpoints, the log keeps everything
class ShardRuntime::Impl {
 public:
  Impl(Environment environment, ShardOptions options)
      : environment_(std::move(environment)),
        options_(options),
        shard_(options, environment_.outbox) {}

  Status open(log::RecoveryReport* report) {
    {
      ASSIGN_OR_RETURN(const auto view, environment_.store->read());
      RETURN_IF_ERROR(shard_.views().load(*view));
    }
    const Covered covered = shard_.views().applied();
    log::LogOptions log_options;
    log_options.directory = options_.log_directory;
    log_options.cluster_id = options_.cluster_id;
    log_options.shard = options_.shard;
    log_options.segment_bytes = options_.segment_bytes;
    log_options.fsync = options_.fsync;
    log_options.tail_cache_bytes = options_.tail_cache_bytes;
    ASSIGN_OR_RETURN(log_,
                     log::Log::open(environment_.file_system, environment_.disk, environment_.clock,
                                    log_options, covered.next_position, report));
    source_.emplace(*log_, environment_.file_system, options_.log_directory, *environment_.store,
                    environment_.reads);
    shard_.views().set_slot_loader([this](timerwheel::TieredWheel::LoadPlan& plan) -> Status {
      ASSIGN_OR_RETURN(const auto view, environment_.store->read());
      delay::KvSlotStore slots(*view, nullptr);
      if (const timerwheel::Failure failure = plan.run(slots); failure.has_value()) {
        return Status(ErrorCode::kCorrupted, *failure);
      }
      return delay::PendingDelays::patch(*view, plan.loaded());
    });
    replica::RaftOptions raft;
    raft.cluster_id = options_.cluster_id;
    raft.shard = options_.shard;
    raft.node = options_.node;
    raft.initial_members = {
        {options_.node, options_.advertised_host + ":" + std::to_string(options_.advertised_port)}};
    raft.random_seed = options_.random_seed;
    ASSIGN_OR_RETURN(
        engine_, replica::RaftEngine::start(*log_, environment_.clock, environment_.deferrer,
                                            shard_, raft, covered.index, covered.next_position));
    if (shard_.views().applied().index > covered.index) {
      mark_replayed(covered);
    }
    shard_.views().set_slot_loader(nullptr);
    shard_.attach(*engine_, *source_);
    checkpoint_position_ = covered.next_position;
    checkpoint_index_ = covered.index;
    checkpoint_time_ = environment_.clock.monotonic();
    return Status();
  }

  [[nodiscard]] Now now() { return Now::of(environment_.clock); }

  void tick() {
    const Now time = now();
    log_->tick(time.monotonic);
    engine_->tick(time.monotonic);
    shard_.tick(time);
    if (checkpoint_due(time.monotonic)) {
      start_checkpoint();
    }
    if (stop_done_) {
      advance_stop();
    }
  }

  void stop(MoveOnlyFunction<void(Status)> done) {
    stop_done_ = std::move(done);
    shard_.begin_stop();
    advance_stop();
  }

  ShardStats stats() const {
    ShardStats stats;
    shard_.add_stats(stats);
    stats.disk_full = log_->disk_full();
    stats.checkpoint_index = checkpoint_index_.value();
    stats.checkpoints = checkpoints_;
    stats.unsynced_bytes = log_->unsynced_bytes();
    stats.log_first_position = log_->first_position().value();
    stats.log_next_position = log_->next_position().value();
    for (const log::Log::SegmentInfo& segment : log_->segments()) {
      ++stats.log_segments;
      stats.log_file_bytes += segment.file_bytes;
    }
    const log::Log::Counters& counters = log_->counters();
    stats.syncs = counters.syncs;
    stats.sync_ns_total = counters.sync_ns_total;
    stats.sync_ns_max = counters.sync_ns_max;
    stats.bytes_written = counters.bytes_written;
    stats.store_bytes = environment_.store->size_bytes();
    stats.resident_entries = engine_->resident_entries();
    return stats;
  }

  Shard& shard() { return shard_; }

  [[nodiscard]] const Shard& shard() const { return shard_; }

  [[nodiscard]] bool ready() const {
    return engine_->role() == replica::Role::kLeader && engine_->failure().ok();
  }

 private:
  class CheckpointJob final : public Job {
   public:
    CheckpointJob(Impl& owner, Views::Delta delta) : owner_(owner), delta_(std::move(delta)) {}

    void run() override { status_ = commit(); }

    void finish() override { owner_.checkpoint_finished(delta_, status_); }

   private:
    Status commit() {
      {
        ASSIGN_OR_RETURN(const auto view, owner_.environment_.store->read());
        delay::KvSlotStore slots(*view, &delta_.batch);
        if (const timerwheel::Failure failure = delta_.spill.write(slots); failure.has_value()) {
          return Status(ErrorCode::kCorrupted, *failure);
        }
        RETURN_IF_ERROR(delta_.write_moved(*view));
      }
      // Chunks before the one that has the new start are no longer needed; which one that is only
      // the store knows.
      if (!delta_.trimmed.empty()) {
        ASSIGN_OR_RETURN(const auto view, owner_.environment_.store->read());
        for (const Views::Trimmed& trimmed : delta_.trimmed) {
          ASSIGN_OR_RETURN(auto key, partition::chunk_key_at(*view, trimmed.id, trimmed.start));
          if (key.has_value()) {
            TIDEMARK_COVERAGE_MARK(checkpoint_removes_trimmed_chunks);
            delta_.batch.remove_range(partition::keys::of('I', trimmed.id), std::move(*key));
          }
        }
      }
      return owner_.environment_.store->commit(delta_.batch);
    }

    Impl& owner_;
    Views::Delta delta_;
    Status status_;
  };

  // The checkpoint did not cover all of the log; or there is none, as it was lost or never made.
  static void mark_replayed(const Covered& covered) {
    if (covered.index > LogIndex{0}) {
      TIDEMARK_COVERAGE_MARK(start_views_behind_log);
    } else {
      TIDEMARK_COVERAGE_MARK(start_views_from_log_alone);
    }
  }

  [[nodiscard]] bool checkpoint_due(MonotonicTime time) const {
    const Covered& applied = shard_.views().applied();
    if (checkpointing_ || broken_ || shard_.loading() || time < checkpoint_not_before_) {
      return false;
    }
    const timerwheel::TieredWheel& wheel = shard_.views().delays().wheel();
    if (wheel.wants_split()) {
      TIDEMARK_COVERAGE_MARK(checkpoint_for_split);
      return true;  // also when nothing new was applied: what is due waits for it
    }
    if (applied.index == checkpoint_index_) {
      return false;
    }
    return shard_.wants_checkpoint() ||
           wheel.unspilled_entries() >= options_.wheel.memory_entries_max / 2 ||
           applied.next_position - checkpoint_position_ >= options_.checkpoint_log_bytes ||
           shard_.records_applied() - checkpoint_records_ >= limits::kCheckpointRecordsMax ||
           time.ns - checkpoint_time_.ns >= options_.checkpoint_interval_ms * 1'000'000;
  }

  void start_checkpoint() {
    checkpointing_ = true;
    shard_.set_checkpointing(true);
    checkpoint_time_ = environment_.clock.monotonic();
    checkpoint_records_ = shard_.records_applied();
    auto job = std::make_unique<CheckpointJob>(*this, shard_.views().freeze());
    if (options_.fsync.mode == log::FsyncPolicy::Mode::kBatch) {
      return environment_.checkpoint.submit(std::move(job));
    }
    // A checkpoint must never cover more than the log has on stable storage: entries that a power
    // cut takes would be known to the views and to nobody else.
    syncing_ = true;
    log_->sync([this, job = std::move(job)]() mutable {
      syncing_ = false;
      environment_.checkpoint.submit(std::move(job));
    });
  }

  void checkpoint_finished(Views::Delta& delta, const Status& status) {
    checkpointing_ = false;
    if (status.ok()) {
      ++checkpoints_;
      const bool covers_more = delta.covered.index > checkpoint_index_;
      checkpoint_index_ = delta.covered.index;
      checkpoint_position_ = delta.covered.next_position;
      shard_.views().commit_done(delta, tail_begin(), shard_.advancing_to());
      if (covers_more) {
        engine_->checkpointed(delta.covered.index, delta.low_position);
      }
    } else {
      shard_.views().commit_failed(delta);
      broken_ = status.code() != ErrorCode::kDiskFull;
      if (broken_) {
        TIDEMARK_COVERAGE_MARK(checkpoint_broken);
      } else {
        TIDEMARK_COVERAGE_MARK(checkpoint_without_space);
      }
      checkpoint_not_before_ =
          MonotonicTime{environment_.clock.monotonic().ns + kCheckpointRetryNs};
      log_line(broken_ ? LogLevel::kError : LogLevel::kWarning,
               "checkpoint_failed shard=" + std::to_string(options_.shard.value()) + " error=\"" +
                   status.to_string() + "\"");
    }
    // Lists that waited look at the wheel again, which knows now where everything is.
    shard_.set_checkpointing(false);
    if (stop_done_) {
      advance_stop();
    }
  }

  // References to what the tail cache still has stay in memory with it.
  [[nodiscard]] LogPosition tail_begin() const {
    const uint64_t next = log_->next_position().value();
    return LogPosition{next > options_.tail_cache_bytes ? next - options_.tail_cache_bytes : 0};
  }

  // Drained, then checkpointed once, then raft closed. Called again whenever one of these may have
  // come about.
  void advance_stop() {
    const bool failed = !engine_->failure().ok();
    // A log that failed never calls back about its sync.
    if (stopping_engine_ || (checkpointing_ && !(syncing_ && failed))) {
      return;
    }
    if (!shard_.drained() && !failed) {
      return;
    }
    const bool covered = checkpoint_index_ == shard_.views().applied().index;
    if (!covered && shard_.loading() && !broken_ && !failed) {
      return;  // the next tick tries again
    }
    if (!covered && !broken_ && !failed && !final_checkpoint_tried_) {
      final_checkpoint_tried_ = true;
      return start_checkpoint();
    }
    stopping_engine_ = true;
    const Status result = failed ? engine_->failure() : Status();
    if (failed) {
      TIDEMARK_COVERAGE_MARK(stop_of_failed_shard);
    }
    engine_->stop([this, result] { std::exchange(stop_done_, nullptr)(result); });
  }

  Environment environment_;
  const ShardOptions options_;
  Shard shard_;
  std::unique_ptr<log::Log> log_;
  std::optional<StoredSource> source_;
  std::unique_ptr<replica::RaftEngine> engine_;

  bool checkpointing_ = false;
  bool syncing_ = false;  // the log, ahead of the checkpoint
  bool broken_ = false;
  bool final_checkpoint_tried_ = false;
  bool stopping_engine_ = false;
  uint64_t checkpoints_ = 0;
  uint64_t checkpoint_records_ = 0;
  LogIndex checkpoint_index_;
  LogPosition checkpoint_position_;
  MonotonicTime checkpoint_time_;
  MonotonicTime checkpoint_not_before_;
  MoveOnlyFunction<void(Status)> stop_done_;
};

ShardRuntime::ShardRuntime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ShardRuntime::~ShardRuntime() = default;

Result<std::unique_ptr<ShardRuntime>> ShardRuntime::open(Environment environment,
                                                         ShardOptions options,
                                                         log::RecoveryReport* report) {
  auto impl = std::make_unique<Impl>(std::move(environment), std::move(options));
  RETURN_IF_ERROR(impl->open(report));
  return std::unique_ptr<ShardRuntime>(new ShardRuntime(std::move(impl)));
}

void ShardRuntime::receive(const ReplyTo& from, protocol::Frame frame) {
  impl_->shard().receive(from, frame, impl_->now());
}

void ShardRuntime::receive_mail(const ShardMail& mail) {
  impl_->shard().receive_mail(mail, impl_->now());
}

void ShardRuntime::connection_closed(uint32_t loop, uint64_t connection) {
  impl_->shard().connection_closed(loop, connection);
}

void ShardRuntime::flush() { impl_->shard().flush(impl_->now()); }

void ShardRuntime::tick() { impl_->tick(); }

void ShardRuntime::stop(MoveOnlyFunction<void(Status)> done) { impl_->stop(std::move(done)); }

ShardStats ShardRuntime::stats() const { return impl_->stats(); }

bool ShardRuntime::ready() const { return impl_->ready(); }

std::optional<MonotonicTime> ShardRuntime::next_wake() const { return impl_->shard().next_wake(); }

uint64_t ShardRuntime::state_hash() const { return impl_->shard().views().hash(); }

LogIndex ShardRuntime::applied_index() const { return impl_->shard().views().applied().index; }

}  // namespace tidemark::shard
