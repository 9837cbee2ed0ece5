#include "tests/simulation/delay_frames.h"

#include <utility>

namespace tidemark::sim {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fbs::DelayRef>>> build_refs(
    flatbuffers::FlatBufferBuilder& builder, std::span<const DelayTarget> targets) {
  std::vector<flatbuffers::Offset<fbs::DelayRef>> refs;
  for (const DelayTarget& target : targets) {
    const auto key = target.handle ? flatbuffers::Offset<flatbuffers::String>()
                                   : builder.CreateString(target.key);
    fbs::DelayRefBuilder ref(builder);
    if (target.handle) {
      ref.add_handle(&*target.handle);
    } else {
      ref.add_topic(target.partition.topic.value());
      ref.add_partition(target.partition.index.value());
      ref.add_key(key);
    }
    refs.push_back(ref.Finish());
  }
  return builder.CreateVector(refs);
}

}  // namespace

protocol::Frame schedule_request(PartitionId partition, SharedBytes set, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto part =
      fbs::CreateProducePart(builder, partition.topic.value(), partition.index.value(),
                             static_cast<uint32_t>(set.size()), fbs::ProduceKind::kSchedule);
  const auto all = builder.CreateVector(&part, 1);
  return testing::request_frame(builder, fbs::CreateProduce(builder, all), FrameType::kProduce,
                                correlation, {std::move(set)});
}

protocol::Frame delay_cancel_request(std::span<const DelayTarget> targets, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = build_refs(builder, targets);
  return testing::request_frame(builder, fbs::CreateDelayCancel(builder, refs),
                                FrameType::kDelayCancel, correlation);
}

protocol::Frame delay_reschedule_request(std::span<const DelayTarget> targets, format::DueKind kind,
                                         int64_t due_ms, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = build_refs(builder, targets);
  return testing::request_frame(
      builder, fbs::CreateDelayReschedule(builder, refs, static_cast<uint8_t>(kind), due_ms),
      FrameType::kDelayReschedule, correlation);
}

protocol::Frame delay_stats_request(uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return testing::request_frame(builder, fbs::CreateDelayStats(builder, 0), FrameType::kDelayStats,
                                correlation);
}

std::vector<fbs::DelayReceipt> read_receipts(const protocol::Frame& reply) {
  std::vector<fbs::DelayReceipt> out;
  const auto* parts = testing::read_reply<fbs::ProduceReply>(reply).parts();
  if (parts != nullptr && parts->size() == 1 && parts->Get(0)->receipts() != nullptr) {
    for (const fbs::DelayReceipt* receipt : *parts->Get(0)->receipts()) {
      out.push_back(*receipt);
    }
  }
  return out;
}

}  // namespace tidemark::sim
