// A shard on fakes: its log commits when the test says so, cold reads finish when the test says so,
// time stands still.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "broker/kv/memory_store.h"
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
    consensus.lose_proposed();
    outbox.replies.clear();
    outbox.letters.clear();
    start();
  }

  // Opens partitions 0 to `count` - 1 of topic 1.
  void open_partitions(uint32_t count, int64_t retention_ms = -1, int64_t retention_bytes = -1) {
    ShardMail mail;
    mail.to = options.shard;
    mail.topic = TopicId{1};
    mail.version = 1;
    for (uint32_t i = 0; i < count; ++i) {
      mail.partitions.push_back(i);
    }
    mail.retention_ms = retention_ms;
    mail.retention_bytes = retention_bytes;
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

  testing::ProducePartResult produce(PartitionId partition, SharedBytes batch) {
    const testing::ProduceInput part{partition, std::move(batch)};
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

  void advance_ms(int64_t ms) {
    now.monotonic.ns += ms * 1'000'000;
    now.wall.ms += ms;
  }

  void tick() {
    core->tick(now);
    settle();
  }

  // Everything so far is checkpointed, and whatever is allowed to leaves memory.
  void checkpoint() {
    const Views::Delta delta = core->views().freeze();
    TIDEMARK_CHECK(store.commit(delta.batch).ok());
    core->views().commit_done(core->views().applied().next_position);
  }

  ShardOptions options;
  Now now;
  testing::RecordingOutbox outbox;
  testing::FakeConsensus consensus;
  kv::MemoryStore store;
  testing::FakeBatchSource source{consensus, store};
  std::unique_ptr<Shard> core;

 private:
  void start() {
    core = std::make_unique<Shard>(options, outbox);
    core->attach(consensus, source);
    consensus.replay(*core);
  }
};

}  // namespace tidemark::shard
