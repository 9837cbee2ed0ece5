// Requests of every type from anybody, as a shard handles them: each is answered once, in its own
// type or with an error, by a table that verifies; what they wrote to the log is applied again to
// the same state, and so is what a checkpoint covers and the log behind it.
//
// The input is a sequence of requests: a byte for the type, a byte for the time before it (in steps
// of 50 ms), table and payload, each with its size (two bytes) in front. Topics 1 (delays, queue
// mode, message ids) and 2 (its dead letters) are there.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/cluster.h"
#include "log/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

using protocol::FrameType;

constexpr FrameType kTypes[] = {
    FrameType::kProduce,        FrameType::kFetch,           FrameType::kListOffsets,
    FrameType::kInitProducer,   FrameType::kMetadata,        FrameType::kTopicCreate,
    FrameType::kTopicAlter,     FrameType::kTopicDelete,     FrameType::kPartitionDescribe,
    FrameType::kDelayCancel,    FrameType::kDelayReschedule, FrameType::kDelayList,
    FrameType::kDelayShow,      FrameType::kDelayStats,      FrameType::kTxnEnd,
    FrameType::kTxnPoll,        FrameType::kTxnList,         FrameType::kTxnShow,
    FrameType::kTxnRecheck,     FrameType::kTxnStats,        FrameType::kGroupHeartbeat,
    FrameType::kGroupCommit,    FrameType::kGroupOffsets,    FrameType::kGroupList,
    FrameType::kGroupDescribe,  FrameType::kGroupDelete,     FrameType::kQueueReceive,
    FrameType::kQueueSettle,    FrameType::kQueueDescribe,   FrameType::kQueueRedrive,
    FrameType::kQueueUnsettled,
};

constexpr size_t kRequestsMax = 24;
constexpr int64_t kStepMs = 50;
constexpr int kTurnsMax = 10'000;

class Run {
 public:
  Run() {
    partition::QueueConfig queue;
    queue.dead_letter_topic = TopicId{2};
    queue.max_deliveries = 2;
    queue.dedupe_window_ms = 60'000;
    harness_.open_partitions_of(TopicId{2}, 1);
    harness_.open_partitions_of(TopicId{1}, 2, {}, -1, -1, queue);
    prepared_ = harness_.consensus.log.size();
  }

  void send(FrameType type, ByteView table, ByteView payload) {
    std::vector<SharedBytes> pieces;
    if (!payload.empty()) {
      pieces.emplace_back(Buffer::copy_of(payload));
    }
    sent_.push_back(type);
    harness_.receive(testing::to_frame(protocol::make_frame(
        type, /*reply=*/false, protocol::kNoShard, sent_.size(), table, std::move(pieces))));
    work();
  }

  void advance(int64_t ms) {
    harness_.advance_ms(ms);
    harness_.core->tick(harness_.now);
    work();
  }

  // Nothing is left under way: every request has its answer.
  void stop() {
    harness_.core->begin_stop();
    work();
    TIDEMARK_CHECK(answered_.size() == sent_.size(),
                   std::to_string(sent_.size() - answered_.size()) + " requests without an answer");
  }

  // Costs more than all requests; of the state that every run begins with there is nothing to
  // learn.
  void check_state() {
    if (harness_.consensus.log.size() == prepared_) {
      return;
    }
    const uint64_t hash = harness_.core->views().hash();
    harness_.restart();
    TIDEMARK_CHECK(harness_.core->views().hash() == hash, "the log gives the same state");
    harness_.checkpoint();
    harness_.restart_from_checkpoint();
    TIDEMARK_CHECK(harness_.core->views().hash() == hash, "the checkpoint has the same state");
  }

 private:
  void work() {
    int turns = 0;
    do {
      TIDEMARK_CHECK(++turns < kTurnsMax, "a shard that never comes to rest");
      harness_.settle();
      for (const ShardMail& letter : harness_.outbox.take_mail()) {
        harness_.core->receive_mail(letter, harness_.now);
      }
    } while (harness_.source.run_one() || !harness_.outbox.letters.empty() ||
             harness_.consensus.proposed() != 0);
    harness_.settle();
    take_replies();
  }

  void take_replies() {
    for (; !harness_.outbox.replies.empty(); harness_.outbox.replies.pop_front()) {
      const protocol::FrameHeader& header = harness_.outbox.replies.front().frame.header;
      TIDEMARK_CHECK(header.reply && header.correlation <= sent_.size());
      TIDEMARK_CHECK(answered_.insert(header.correlation).second, "answered twice");
      const auto type = static_cast<FrameType>(header.type);
      TIDEMARK_CHECK(type == FrameType::kError || type == sent_[header.correlation - 1]);
      // As a client reads it.
      const protocol::Frame& frame = harness_.outbox.replies.front().frame;
      if (type == FrameType::kError) {
        TIDEMARK_CHECK(!testing::error_of(frame).ok());
      } else {
        const Status status = client_core::error_of(frame).status;
        TIDEMARK_CHECK(!status.context().ends_with("does not verify"), status.to_string());
      }
    }
  }

  ShardHarness harness_;
  size_t prepared_ = 0;          // entries
  std::vector<FrameType> sent_;  // by correlation, from 1
  std::set<uint64_t> answered_;
};

void try_requests(ByteView bytes) {
  testing::FuzzInput input(bytes);
  Run run;
  for (size_t i = 0; i < kRequestsMax && !input.done(); ++i) {
    const FrameType type = kTypes[input.number<uint8_t>() % std::size(kTypes)];
    if (const auto steps = input.number<uint8_t>(); steps > 0) {
      run.advance(steps * kStepMs);
    }
    const ByteView table = input.sized();
    run.send(type, table, input.sized());
  }
  run.stop();
  run.check_state();
}

}  // namespace
}  // namespace tidemark::shard

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::shard::try_requests({data, size});
  return 0;
}
