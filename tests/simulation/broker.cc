#include "tests/simulation/broker.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "broker/delay/kv_slot_store.h"
#include "broker/shard/rebuild.h"
#include "broker/shard/views.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kTickUs = 10'000;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kStartRetryUs = 1'000'000;
constexpr int64_t kMailUs = 5;
constexpr uint64_t kLateUsMax = 2'000'000;
constexpr uint32_t kLateFromPercent = 10;

std::string directory_of(size_t shard) { return "data/shard-" + std::to_string(shard); }

// What a runtime owns of a store that outlives it.
class SharedStore final : public kv::KeyValueStore {
 public:
  explicit SharedStore(kv::MemoryStore& store) : store_(store) {}

  Status commit(const kv::WriteBatch& batch) override { return store_.commit(batch); }

  Result<std::unique_ptr<kv::ReadView>> read() override { return store_.read(); }

  uint64_t size_bytes() override { return store_.size_bytes(); }

 private:
  kv::MemoryStore& store_;
};

}  // namespace

// One shard's loop and workers within one process. Destroying it is their death.
class SimBroker::Loop final : public replica::Deferrer, public shard::Outbox {
 public:
  Loop(SimBroker& broker, size_t shard)
      : broker_(broker),
        shard_(shard),
        disk_(broker.scheduler_, broker.random_.next(), broker.options_.disk_latency_us_max, true,
              broker.disk_slowness_, [this] { turn(); }),
        checkpoint_(broker.scheduler_, broker.random_.next(),
                    4 * broker.options_.disk_latency_us_max, true, broker.disk_slowness_,
                    [this] { turn(); }),
        reads_(broker.scheduler_, broker.random_.next(), 2 * broker.options_.disk_latency_us_max,
               false, broker.read_slowness_, [this] { turn(); }) {}

  Status open() {
    const Options& wanted = broker_.options_;
    shard::ShardOptions options;
    options.log_directory = directory_of(shard_);
    options.cluster_id = 7;
    options.shard = ShardId{static_cast<uint16_t>(shard_)};
    options.shard_count = wanted.shards;
    options.node = NodeId{1};
    options.advertised_host = "127.0.0.1";
    options.advertised_port = 9470;
    options.segment_bytes = wanted.segment_bytes;
    options.fsync.mode =
        wanted.fsync ? log::FsyncPolicy::Mode::kBatch : log::FsyncPolicy::Mode::kNever;
    options.write_buffer_bytes = wanted.write_buffer_bytes;
    options.tail_cache_bytes = wanted.tail_cache_bytes;
    options.checkpoint_log_bytes = wanted.checkpoint_log_bytes;
    options.checkpoint_interval_ms = wanted.checkpoint_interval_ms;
    options.wheel = {.memory_entries_max = wanted.wheel_entries_max,
                     .chunk_entries_max = wanted.wheel_chunk_entries,
                     .lookahead = wanted.wheel_lookahead,
                     .split_entries_max = wanted.wheel_split_entries};
    options.txn_pending_age_ms = wanted.txn_pending_age_ms;
    options.txn_outcome_age_ms = wanted.txn_outcome_age_ms;
    options.retention_interval_ms = wanted.retention_interval_ms;
    if (wanted.keyed_producers > 0) {
      options.compaction_bytes_min = wanted.compaction_bytes_min;
      options.compaction_keys_max = wanted.compaction_keys_max;
      options.compaction_moves_max = wanted.compaction_moves_max;
    }
    options.random_seed = broker_.random_.next();
    shard::Environment environment{
        broker_.disk_, broker_.scheduler_.clock(),
        disk_,         checkpoint_,
        reads_,        *this,
        *this,         std::make_unique<SharedStore>(*broker_.stores_[shard_])};
    log::RecoveryReport report;
    ASSIGN_OR_RETURN(
        runtime_, shard::ShardRuntime::open(std::move(environment), std::move(options), &report));
    broker_.counters_.torn_bytes += report.torn_bytes_cut;
    return {};
  }

  shard::ShardRuntime& runtime() { return *runtime_; }

  // What the loop does at the end of each of its turns.
  void turn() {
    while (!deferred_.empty()) {
      MoveOnlyFunction<void()> callback = std::move(deferred_.front());
      deferred_.pop_front();
      callback();
    }
    if (!stopped_) {
      runtime_->flush();
      arm_wake();
    }
  }

  void tick() {
    if (!stopped_) {
      runtime_->tick();
      turn();
    }
  }

  void set_stopped() { stopped_ = true; }

  void defer(MoveOnlyFunction<void()> callback) override {
    deferred_.push_back(std::move(callback));
    // At the latest in a turn of its own.
    broker_.scheduler_.after_us(
        1, [&broker = broker_, shard = shard_, generation = broker_.generation_] {
          if (generation == broker.generation_ && !broker.loops_.empty()) {
            broker.loops_[shard]->turn();
          }
        });
  }

  void reply(const shard::ReplyTo& to, protocol::OutFrame frame) override {
    broker_.network_.reply(to, frame);
  }

  void mail(shard::ShardMail mail) override {
    if (broker_.loses(mail)) {
      return;
    }
    const int64_t after_us = broker_.mail_takes_us(mail);
    broker_.scheduler_.after_us(
        after_us, [&broker = broker_, mail = std::move(mail), generation = broker_.generation_] {
          if (generation == broker.generation_ && !broker.loops_.empty()) {
            Loop& loop = *broker.loops_[mail.to.value()];
            if (!loop.stopped_) {
              loop.runtime_->receive_mail(mail);
              loop.turn();
            }
          }
        });
  }

 private:
  // A turn between two ticks, when a delayed message comes due; as the reactor does.
  void arm_wake() {
    const auto wake = runtime_->next_wake();
    if (!wake.has_value()) {
      return;
    }
    const int64_t now_ns = broker_.scheduler_.now_ns();
    const int64_t wait_ms = std::max<int64_t>((wake->ns - now_ns + kNsPerMs - 1) / kNsPerMs, 1);
    const int64_t at_ns = now_ns + wait_ms * kNsPerMs;
    if (wait_ms * 1'000 >= kTickUs || (wake_ns_ > now_ns && wake_ns_ <= at_ns)) {
      return;
    }
    wake_ns_ = at_ns;
    broker_.scheduler_.at_ns(at_ns,
                             [&broker = broker_, shard = shard_, generation = broker_.generation_] {
                               if (generation == broker.generation_ && !broker.loops_.empty()) {
                                 broker.loops_[shard]->turn();
                               }
                             });
  }

  SimBroker& broker_;
  const size_t shard_;
  int64_t wake_ns_ = 0;
  SimExecutor disk_;
  SimExecutor checkpoint_;
  SimExecutor reads_;
  std::deque<MoveOnlyFunction<void()>> deferred_;
  bool stopped_ = false;
  std::unique_ptr<shard::ShardRuntime> runtime_;  // first to go
};

SimBroker::SimBroker(Scheduler& scheduler, SimNetwork& network, Model& model,
                     const Options& options)
    : scheduler_(scheduler),
      network_(network),
      model_(model),
      options_(options),
      random_(options.seed + 2),
      mail_random_(options.seed + 11),
      disk_(options.seed + 3) {
  last_states_.resize(options.shards);
  for (size_t shard = 0; shard < options.shards; ++shard) {
    require(disk_.create_directories(directory_of(shard)).ok(),
            "a simulated directory could not be made");
    stores_.push_back(std::make_unique<kv::MemoryStore>());
  }
}

SimBroker::~SimBroker() { end_process(); }

// --- life
// ---------------------------------------------------------------------------------------------------------------

void SimBroker::start() {
  require(state_ == State::kDown, "started twice");
  ++generation_;
  const Status opened = open_all();
  if (!opened.ok()) {
    const bool excused =
        opened.code() == ErrorCode::kDiskFull || opened.code() == ErrorCode::kIoError;
    require(excused, "I1: the broker does not start: " + opened.to_string());
    ++counters_.failed_starts;
    end_process();
    scheduler_.after_us(kStartRetryUs, [this, generation = generation_] {
      if (generation == generation_) {
        start();
      }
    });
    return;
  }
  ++counters_.starts;
  state_ = State::kRunning;
  check_recovered();

  struct Ticker {
    SimBroker& broker;
    uint64_t generation;

    void operator()() const {
      if (generation != broker.generation_) {
        return;
      }
      for (const auto& loop : broker.loops_) {
        loop->tick();
      }
      broker.scheduler_.after_us(kTickUs, Ticker(*this));
    }
  };

  Ticker{*this, generation_}();
}

Status SimBroker::open_all() {
  for (size_t shard = 0; shard < options_.shards; ++shard) {
    loops_.push_back(std::make_unique<Loop>(*this, shard));
    RETURN_IF_ERROR(loops_.back()->open());
  }
  return {};
}

void SimBroker::die(Death how) {
  disk_.flip_reads(0);
  if (state_ != State::kDown) {
    count_process();
    end_process();
  }
  if (how == Death::kPowerCut || disk_distrusted_) {
    disk_.crash();
    disk_.heal();
    disk_distrusted_ = false;
  }
  for (const auto& store : stores_) {
    store->crash();
  }
}

void SimBroker::end_process() {
  ++generation_;
  state_ = State::kDown;
  loops_.clear();
  network_.break_all();
}

void SimBroker::stop() {
  if (state_ != State::kRunning) {
    return;
  }
  state_ = State::kStopping;
  stopping_ = loops_.size();
  for (const auto& loop : loops_) {
    loop->runtime().stop([this, &loop = *loop, generation = generation_](const Status&) {
      loop.set_stopped();
      if (--stopping_ == 0) {
        scheduler_.after_us(1, [this, generation] {
          if (generation == generation_) {
            die(Death::kKill);
          }
        });
      }
    });
    loop->turn();
  }
}

void SimBroker::lose_checkpoints() {
  require(state_ == State::kDown, "checkpoints are lost while nobody uses them");
  if (counters_.dropped_prefixes == 0) {
    for (const auto& store : stores_) {
      store->erase();
    }
  }
}

void SimBroker::count_process() {
  for (const auto& loop : loops_) {
    const shard::ShardStats stats = loop->runtime().stats();
    counters_.checkpoints += stats.checkpoints;
    counters_.cold_reads += stats.cold_reads;
    counters_.duplicates += stats.duplicates;
    counters_.dropped_prefixes += stats.log_first_position > 0 ? 1 : 0;
    counters_.delays_fired += stats.delays_fired;
    counters_.compactions += stats.compactions;
    counters_.compaction_freed_bytes += stats.compaction_freed_bytes;
    counters_.duplicate_messages += stats.duplicate_messages;
    last_states_[stats.shard] = {loop->runtime().applied_index(), loop->runtime().state_hash()};
    model_.delays().broker_ended(ShardId{stats.shard}, scheduler_.now_ns());
  }
}

bool SimBroker::loses(const shard::ShardMail& mail) {
  using Kind = shard::ShardMail::Kind;
  return (mail.kind == Kind::kGroupLease || mail.kind == Kind::kGroupLeased) &&
         mail_random_.chance(mail_loss_percent_, 100);
}

// Where much of it is lost, what arrives may be so late that it was asked for again.
int64_t SimBroker::mail_takes_us(const shard::ShardMail& mail) {
  using Kind = shard::ShardMail::Kind;
  const bool late = mail_loss_percent_ >= kLateFromPercent &&
                    (mail.kind == Kind::kGroupLease || mail.kind == Kind::kGroupLeased);
  return late && mail_random_.chance(1, 2) ? static_cast<int64_t>(mail_random_.below(kLateUsMax))
                                           : kMailUs;
}

bool SimBroker::healthy() const {
  if (state_ != State::kRunning) {
    return false;
  }
  for (const auto& loop : loops_) {
    if (!loop->runtime().ready()) {
      return false;
    }
  }
  return true;
}

std::string SimBroker::describe() const {
  std::string text;
  for (const auto& loop : loops_) {
    const shard::ShardStats stats = loop->runtime().stats();
    text += " shard " + std::to_string(stats.shard) + ": leader " + std::to_string(stats.leader) +
            " read_only " + std::to_string(stats.read_only) + " disk_full " +
            std::to_string(stats.disk_full) + " unsynced " + std::to_string(stats.unsynced_bytes) +
            " applied " + std::to_string(stats.applied_index) + ";";
  }
  return text.empty() ? " no process" : text;
}

// --- service
// ------------------------------------------------------------------------------------------------------------

void SimBroker::on_request(ShardId shard, const shard::ReplyTo& from,
                           const protocol::Frame& frame) {
  loops_[shard.value()]->runtime().receive(from, frame);
  loops_[shard.value()]->turn();
}

void SimBroker::on_connection_closed(ShardId shard, uint64_t connection) {
  loops_[shard.value()]->runtime().connection_closed(0, connection);
}

// --- what must hold after every start
// -----------------------------------------------------------------------------------

void SimBroker::check_recovered() {
  for (size_t shard = 0; shard < loops_.size(); ++shard) {
    require(loops_[shard]->runtime().ready(), "the only voter does not lead after its start");
    check_replay(shard);
  }
  model_.groups().broker_started(scheduler_.now_ns());
  model_.queues().broker_started(scheduler_.now_ns());
}

// The same state comes from the log alone, as far as the log reaches back; else from the checkpoint
// and the log, again.
void SimBroker::check_replay(size_t shard) {
  shard::ShardRuntime& runtime = loops_[shard]->runtime();
  // With a wheel of another size: what is loaded and stored must not show.
  shard::Views views(ShardId{static_cast<uint16_t>(shard)});
  views.set_slot_loader([&](timerwheel::TieredWheel::LoadPlan& plan) -> Status {
    ASSIGN_OR_RETURN(const auto view, stores_[shard]->read());
    delay::KvSlotStore slots(*view, nullptr);
    const timerwheel::Failure failure = plan.run(slots);
    return failure ? Status(ErrorCode::kCorrupted, *failure)
                   : delay::PendingDelays::patch(*view, plan.loaded());
  });
  const shard::ShardStats stats = runtime.stats();
  if (stats.log_first_position > 0) {
    const Status loaded = views.load(*stores_[shard]->read().value());
    require(loaded.ok(), "I21: a checkpoint cannot be loaded twice: " + loaded.to_string());
  }
  const Status replayed = shard::replay_log(disk_, directory_of(shard), views);
  require(replayed.ok(), "I1: the log of shard " + std::to_string(shard) +
                             " cannot be replayed: " + replayed.to_string());
  require(views.applied().index == runtime.applied_index() && views.hash() == runtime.state_hash(),
          "I21: shard " + std::to_string(shard) + " recovered to another state (entry " +
              std::to_string(runtime.applied_index().value()) + ") than its log gives (entry " +
              std::to_string(views.applied().index.value()) + ")");
  ++counters_.replays_checked;
  if (last_states_[shard].index == runtime.applied_index() &&
      runtime.applied_index() > LogIndex{0}) {
    require(
        last_states_[shard].hash == runtime.state_hash(),
        "I21: shard " + std::to_string(shard) + " recovered to another state than it had before");
    ++counters_.hashes_compared;
  }
  check_delays(shard, views);
  check_transactions(shard, views);
  check_groups(views);
  for (const auto& [id, partition] : views.partitions()) {
    require(partition.end() >= model_.end_of(id),
            "I1, I7: after a restart topic " + std::to_string(id.topic.value()) + " partition " +
                std::to_string(id.index.value()) + " ends at " +
                std::to_string(partition.end().value()) + ", but known is up to " +
                std::to_string(model_.end_of(id).value()));
  }
}

// What was promised about delayed messages is in the state recovered. Log time begins here.
void SimBroker::check_delays(size_t shard, const shard::Views& views) {
  using Standing = DelayModel::Standing;
  const ShardId id{static_cast<uint16_t>(shard)};
  const int64_t log_ms = views.log_time_ms();
  DelayModel& model = model_.delays();
  model.broker_started(id, scheduler_.now_ns(), scheduler_.clock().wall().ms, log_ms);
  model.check_states(id, log_ms, [&](uint64_t delay) {
    switch (views.delays().state(delay)) {
      case delay::DelayState::kNone:
        return Standing::kNone;
      case delay::DelayState::kPending:
        return Standing::kPending;
      case delay::DelayState::kDelivered:
        return Standing::kDelivered;
      case delay::DelayState::kCancelled:
        return Standing::kCancelled;
    }
    return Standing::kNone;
  });
  std::map<TopicId, uint64_t> pending;
  for (const auto& [partition, state] : views.partitions()) {
    pending[partition.topic] += views.delays().pending(partition);
  }
  for (const auto& [topic, count] : pending) {
    const DelayModel::Range range = model.pending(topic, id, log_ms, INT64_MAX / 2);
    require((count >= range.low && count <= range.high) || !model.knows(topic),
            "I13: after a restart " + std::to_string(count) + " delayed messages of topic " +
                std::to_string(topic.value()) + " are pending on shard " + std::to_string(shard) +
                ", not " + std::to_string(range.low) + " to " + std::to_string(range.high));
  }
}

void SimBroker::check_groups(const shard::Views& views) {
  std::vector<GroupModel::Name> names = model_.groups().names();
  for (const auto& [group, positions] : views.positions().groups()) {
    for (const auto& [partition, position] : positions) {
      names.push_back({group, partition});
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const GroupModel::Name& name : names) {
    if (views.find(name.partition) == nullptr) {
      continue;
    }
    const group::Position* const position = views.positions().find(name.group, name.partition);
    GroupModel::Position committed;
    if (position != nullptr && position->committed) {
      committed = position->offset;
    }
    model_.groups().recovered(name, committed, position != nullptr ? position->epoch : 0);
  }
}

void SimBroker::check_transactions(size_t shard, const shard::Views& views) {
  const txn::TxnTable& table = views.txns();
  const auto key_of = [](const TxnName& name) { return txn::TxnKey{name.producer, name.number}; };
  TxnModel::Recovered recovered;
  recovered.state = [&](const TxnName& name) {
    return static_cast<TxnModel::State>(table.state(key_of(name)));
  };
  recovered.has_part = [&](const TxnName& name, uint32_t index) {
    const txn::Transaction* const found = table.find(key_of(name));
    return found != nullptr && found->find_half(index) != nullptr;
  };
  const ShardId id{static_cast<uint16_t>(shard)};
  model_.txns().broker_started(id, scheduler_.now_ns());
  model_.txns().check_states(id, scheduler_.now_ns(), recovered);
}

}  // namespace tidemark::sim
