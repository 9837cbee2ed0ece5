// Bugs that the simulation found in what is answered about delayed messages.
#include <doctest/doctest.h>

#include "log/format/schedule_set.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {

namespace {

namespace fbs = protocol::fbs;
using protocol::FrameType;

constexpr PartitionId kPartition = ShardHarness::kPartition;

template <typename Table>
protocol::Frame frame_of(flatbuffers::FlatBufferBuilder& builder, flatbuffers::Offset<Table> root,
                         FrameType type, std::vector<SharedBytes> payload = {}) {
  builder.Finish(root);
  return testing::to_frame(protocol::make_frame(type, false, protocol::kNoShard, 0,
                                                protocol::finished(builder), std::move(payload)));
}

// A set of producer 9 from `sequence` on.
protocol::Frame schedule(const std::vector<format::ScheduleItem>& items, int32_t sequence) {
  format::ScheduleBuilder set;
  for (const format::ScheduleItem& item : items) {
    format::RecordInput record;
    record.value = as_bytes("value");
    REQUIRE(set.append(item, record).ok());
  }
  SharedBytes bytes(set.finish(kPartition, {9, 0, sequence}));
  flatbuffers::FlatBufferBuilder builder;
  const auto part =
      fbs::CreateProducePart(builder, kPartition.topic.value(), kPartition.index.value(),
                             static_cast<uint32_t>(bytes.size()), fbs::ProduceKind::kSchedule);
  const auto parts = builder.CreateVector(&part, 1);
  return frame_of(builder, fbs::CreateProduce(builder, parts), FrameType::kProduce, {bytes});
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fbs::DelayRef>>> by_key(
    flatbuffers::FlatBufferBuilder& builder, const char* key) {
  const auto text = builder.CreateString(key);
  const auto ref = fbs::CreateDelayRef(builder, nullptr, kPartition.topic.value(),
                                       kPartition.index.value(), text);
  return builder.CreateVector(&ref, 1);
}

protocol::Frame cancel_key(const char* key) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = by_key(builder, key);
  return frame_of(builder, fbs::CreateDelayCancel(builder, refs), FrameType::kDelayCancel);
}

protocol::Frame reschedule_key(const char* key, int64_t delay_ms) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = by_key(builder, key);
  return frame_of(builder, fbs::CreateDelayReschedule(builder, refs, 0, delay_ms),
                  FrameType::kDelayReschedule);
}

std::vector<fbs::DelayReceipt> receipts_of(const protocol::Frame& reply) {
  std::vector<fbs::DelayReceipt> out;
  for (const auto* receipt :
       *testing::read_reply<fbs::ProduceReply>(reply).parts()->Get(0)->receipts()) {
    out.push_back(*receipt);
  }
  return out;
}

fbs::DelayOutcome outcome_of(const protocol::Frame& reply) {
  return testing::read_reply<fbs::DelayChangeReply>(reply).results()->Get(0)->outcome();
}

format::ScheduleItem after(int64_t delay_ms, std::string_view key = {}) {
  format::ScheduleItem item;
  item.due_ms = delay_ms;
  item.key = key;
  return item;
}

}  // namespace

TEST_CASE("shard: a repeated schedule set is answered with the receipts it had") {
  ShardHarness harness;
  harness.open_partitions(1);
  // Something is delivered, so that what is overdue afterwards is due behind that.
  harness.ask(schedule({after(0)}, 0));
  harness.advance_ms(20);
  harness.settle();

  format::ScheduleItem overdue;
  overdue.due_kind = format::DueKind::kAt;
  overdue.due_ms = harness.now.wall.ms - 60'000;
  const protocol::Frame set = schedule({overdue, after(60'000, "k"), after(0)}, 1);
  const auto first = receipts_of(harness.ask(set));
  const auto refused = receipts_of(harness.ask(schedule({after(60'000, "k")}, 4)));
  CHECK(refused.at(0).error() == static_cast<uint16_t>(ErrorCode::kAlreadyExists));

  for (const auto& [frame, receipts] :
       {std::pair(set, first), std::pair(schedule({after(60'000, "k")}, 4), refused)}) {
    harness.receive(frame);
    harness.source.run_all();
    harness.settle();
    const auto again = receipts_of(harness.outbox.take());
    REQUIRE(again.size() == receipts.size());
    for (size_t i = 0; i < again.size(); ++i) {
      CHECK(again[i].id() == receipts[i].id());
      CHECK(again[i].due_ms() == receipts[i].due_ms());
      CHECK(again[i].position() == receipts[i].position());
      CHECK(again[i].tag() == receipts[i].tag());
      CHECK(again[i].error() == receipts[i].error());
    }
  }
}

TEST_CASE("shard: receipts that were read wrong are not given") {
  ShardHarness harness;
  harness.open_partitions(1);
  const protocol::Frame set = schedule({after(60'000)}, 0);
  const auto first = receipts_of(harness.ask(set));
  harness.source.flip_logs_above = format::kScheduleHeaderBytes;
  harness.receive(set);
  harness.source.run_all();
  const auto results = testing::read_produce_reply(harness.outbox.take());
  CHECK(results.at(0).status.code() == ErrorCode::kOutcomeUnknown);  // so it is asked again
  harness.source.flip_logs_above = SIZE_MAX;
  harness.receive(set);
  harness.source.run_all();
  CHECK(receipts_of(harness.outbox.take()).at(0).due_ms() == first.at(0).due_ms());
}

TEST_CASE("shard: what is overdue when it arrives is due at its receipt") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.advance_ms(5'000);
  format::ScheduleItem overdue;
  overdue.due_kind = format::DueKind::kAt;
  overdue.due_ms = harness.now.wall.ms - 60'000;
  const auto receipts = receipts_of(harness.ask(schedule({overdue}, 0)));
  CHECK(receipts.at(0).due_ms() >= harness.now.wall.ms);
  CHECK(receipts.at(0).due_ms() < harness.now.wall.ms + 10);
}

TEST_CASE("shard: what a key names is decided in log order") {
  ShardHarness harness;
  harness.open_partitions(1);
  // All three arrive before the first is applied.
  harness.receive(schedule({after(60'000, "k")}, 0));
  harness.receive(reschedule_key("k", 90'000));
  harness.receive(cancel_key("k"));
  harness.settle();
  REQUIRE(harness.outbox.replies.size() == 3);
  harness.outbox.take();
  CHECK(outcome_of(harness.outbox.take()) == fbs::DelayOutcome::kRescheduled);
  CHECK(outcome_of(harness.outbox.take()) == fbs::DelayOutcome::kCancelled);
  CHECK(outcome_of(harness.ask(cancel_key("k"))) == fbs::DelayOutcome::kNotFound);
}

}  // namespace tidemark::shard
