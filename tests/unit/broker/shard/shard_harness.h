// A shard on fakes: its log commits when the test says so, cold reads finish when the test says so,
// time stands still.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/delay/kv_slot_store.h"
#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/store_keys.h"
#include "broker/shard/shard.h"
#include "log/format/schema/control_generated.h"
#include "tests/support/fake_batch_source.h"
#include "tests/support/fake_consensus.h"
#include "tests/support/recording_outbox.h"
#include "tests/support/request_builder.h"

namespace tidemark::shard {

class ShardHarness {
 public:
  static constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};
  static constexpr PartitionId kOther{TopicId{1}, PartitionIndex{1}};

  explicit ShardHarness(uint16_t shard = 0, uint16_t shard_count = 1) {
    options.shard = ShardId{shard};
    options.shard_count = shard_count;
    options.node = NodeId{1};
    now = {MonotonicTime{1'000'000'000}, WallTime{1'700'000'000'000}};
    start();
  }

  // The process ended and begins anew: what was committed in the log is applied again.
  void restart() {
    end_process();
    start();
  }

  // The same from the checkpoint store and the log behind what it covers.
  void restart_from_checkpoint() {
    end_process();
    core = std::make_unique<Shard>(options, outbox);
    TIDEMARK_CHECK(core->views().load(*store.read().value()).ok());
    replay();
  }

  // Opens partitions 0 to `count` - 1 of topic 1.
  void open_partitions(uint32_t count, int64_t retention_ms = -1, int64_t retention_bytes = -1) {
    open_partitions_of(TopicId{1}, count, {}, retention_ms, retention_bytes);
  }

  void open_partitions_of(TopicId topic, uint32_t count, const partition::DelayConfig& delays = {},
                          int64_t retention_ms = -1, int64_t retention_bytes = -1,
                          const partition::QueueConfig& queue = {},
                          const partition::CompactionConfig& compaction = {},
                          uint64_t version = 1) {
    ShardMail mail;
    mail.to = options.shard;
    mail.topic = topic;
    mail.name = "topic-" + std::to_string(topic.value());
    mail.version = version;
    for (uint32_t i = 0; i < count; ++i) {
      mail.partitions.push_back(i);
    }
    mail.retention_ms = retention_ms;
    mail.retention_bytes = retention_bytes;
    mail.delays = delays;
    mail.queue = queue;
    mail.compaction = compaction;
    core->receive_mail(mail, now);
    settle();
    outbox.letters.clear();
  }

  void receive(const protocol::Frame& frame, uint64_t connection = 1) {
    const ReplyTo to{0, connection, frame.header.correlation,
                     static_cast<protocol::FrameType>(frame.header.type)};
    core->receive(to, frame, now);
  }

  // Ends turns until nothing is left to commit.
  void settle() {
    core->flush(now);
    while (consensus.commit_one()) {
      core->flush(now);
    }
  }

  // A request that is answered when its record is committed.
  protocol::Frame ask(const protocol::Frame& frame) {
    receive(frame);
    settle();
    return outbox.take();
  }

  testing::ProducePartResult produce(PartitionId partition, SharedBytes batch, bool ttl = false) {
    const testing::ProduceInput part{partition, std::move(batch), ttl};
    return testing::read_produce_reply(ask(testing::produce_request({&part, 1}))).at(0);
  }

  testing::FetchPartResult fetch(PartitionId partition, uint64_t offset,
                                 testing::FetchLimits bounds = {}) {
    start_fetch(partition, offset, bounds);
    source.run_all();
    return take_fetch().at(0);
  }

  void start_fetch(PartitionId partition, uint64_t offset, testing::FetchLimits bounds,
                   uint64_t connection = 1) {
    const testing::FetchInput part{partition, Offset{offset}};
    receive(testing::fetch_request({&part, 1}, bounds), connection);
  }

  std::vector<testing::FetchPartResult> take_fetch() {
    return testing::read_fetch_reply(outbox.take());
  }

  void advance_ms(int64_t ms) { advance_ns(ms * 1'000'000); }

  // The wall clock shows whole milliseconds.
  void advance_ns(int64_t ns) {
    now.monotonic.ns += ns;
    wall_ns += ns;
    now.wall.ms += wall_ns / 1'000'000;
    wall_ns %= 1'000'000;
  }

  int64_t wall_ns = 0;

  void tick() {
    core->tick(now);
    settle();
  }

  // A loop that has nothing to do but to wake when the shard wants to, and for ticks.
  void run_ms(int64_t ms) {
    constexpr int64_t kTickNs = 100'000'000;
    const int64_t end_ns = now.monotonic.ns + ms * 1'000'000;
    int idle = 0;  // turns in which no time passed
    for (;;) {
      do {
        settle();
      } while (source.run_one());
      if (now.monotonic.ns >= end_ns) {
        return;
      }
      int64_t wake_ns = std::min(end_ns, now.monotonic.ns + kTickNs);
      if (const auto wake = core->next_wake(); wake.has_value()) {
        wake_ns = std::clamp(wake->ns, now.monotonic.ns, wake_ns);
      }
      idle = wake_ns == now.monotonic.ns ? idle + 1 : 0;
      TIDEMARK_CHECK(idle < 10, "a shard that wakes for nothing");
      advance_ns(wake_ns - now.monotonic.ns);
    }
  }

  // Everything so far is checkpointed, and whatever is allowed to leaves memory.
  void checkpoint() {
    core->set_checkpointing(true);
    Views::Delta delta = core->views().freeze();
    write_spill(delta);
    TIDEMARK_CHECK(store.commit(delta.batch).ok());
    core->views().commit_done(delta, core->views().applied().next_position, core->advancing_to());
    core->set_checkpointing(false);
  }

  // What a worker does before it commits.
  void write_spill(Views::Delta& delta) {
    const auto view = std::move(store.read()).value();
    delay::KvSlotStore slots(*view, &delta.batch);
    const timerwheel::Failure failure = delta.spill.write(slots);
    TIDEMARK_CHECK(!failure.has_value(), failure.value_or(""));
    const Status moved = delta.write_moved(*view);
    TIDEMARK_CHECK(moved.ok(), moved.to_string());
    for (const Views::Trimmed& trimmed : delta.trimmed) {
      auto key = partition::chunk_key_at(*view, trimmed.id, trimmed.start).value();
      if (key.has_value()) {
        delta.batch.remove_range(partition::keys::of('I', trimmed.id), std::move(*key));
      }
    }
  }

  ShardOptions options;
  Now now;
  testing::RecordingOutbox outbox;
  testing::FakeConsensus consensus;
  kv::MemoryStore store;
  testing::FakeBatchSource source{consensus, store};
  std::unique_ptr<Shard> core;

 private:
  void end_process() {
    consensus.lose_proposed();
    outbox.replies.clear();
    outbox.letters.clear();
    source.forget_jobs();
  }

  void start() {
    core = std::make_unique<Shard>(options, outbox);
    replay();
  }

  void replay() {
    core->attach(consensus, source);
    core->views().set_slot_loader([this](timerwheel::TieredWheel::LoadPlan& plan) {
      const auto view = std::move(store.read()).value();
      delay::KvSlotStore slots(*view, nullptr);
      const timerwheel::Failure failure = plan.run(slots);
      return failure ? Status(ErrorCode::kCorrupted, *failure)
                     : delay::PendingDelays::patch(*view, plan.loaded());
    });
    consensus.replay(*core, core->views().applied().index);
    core->views().set_slot_loader(nullptr);
  }
};

}  // namespace tidemark::shard
