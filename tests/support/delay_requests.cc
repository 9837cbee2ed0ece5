#include "tests/support/delay_requests.h"

#include <utility>

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

namespace {

flatbuffers::Offset<fbs::DelayRef> build_ref(flatbuffers::FlatBufferBuilder& builder,
                                             const DelayTarget& target) {
  const auto key = target.key.empty() ? flatbuffers::Offset<flatbuffers::String>()
                                      : builder.CreateString(target.key);
  fbs::DelayRefBuilder ref(builder);
  if (target.handle.has_value()) {
    ref.add_handle(&*target.handle);
  }
  ref.add_topic(target.partition.topic.value());
  ref.add_partition(target.partition.index.value());
  ref.add_key(key);
  return ref.Finish();
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fbs::DelayRef>>> build_refs(
    flatbuffers::FlatBufferBuilder& builder, std::span<const DelayTarget> targets) {
  std::vector<flatbuffers::Offset<fbs::DelayRef>> refs;
  for (const DelayTarget& target : targets) {
    refs.push_back(build_ref(builder, target));
  }
  return builder.CreateVector(refs);
}

}  // namespace

SharedBytes build_schedule(PartitionId partition, std::span<const DelayInput> items,
                           format::BatchBuilder::Producer producer) {
  format::ScheduleBuilder builder;
  for (const DelayInput& input : items) {
    format::ScheduleItem item;
    item.due_kind = input.at ? format::DueKind::kAt : format::DueKind::kAfter;
    item.due_ms = input.due_ms;
    item.key = input.key;
    item.replace = input.replace;
    item.every_ms = input.every_ms;
    item.cron = input.cron;
    item.zone = input.zone;
    item.recurrence = input.every_ms > 0    ? format::RecurrenceKind::kEvery
                      : !input.cron.empty() ? format::RecurrenceKind::kCron
                                            : format::RecurrenceKind::kNone;
    format::RecordInput record;
    record.timestamp_ms = 1000;
    record.value = as_bytes(input.value);
    const Status added = builder.append(item, record);
    TIDEMARK_CHECK(added.ok(), added.to_string());
  }
  return SharedBytes(builder.finish(partition, producer));
}

protocol::Frame schedule_request(PartitionId partition, SharedBytes set, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  fbs::ProducePartBuilder part(builder);
  part.add_topic(partition.topic.value());
  part.add_partition(partition.index.value());
  part.add_bytes(static_cast<uint32_t>(set.size()));
  part.add_kind(fbs::ProduceKind::kSchedule);
  const auto only = part.Finish();
  const auto all = builder.CreateVector(&only, 1);
  return request_frame(builder, fbs::CreateProduce(builder, all), FrameType::kProduce, correlation,
                       {std::move(set)});
}

DelayTarget by_handle(PartitionId partition, const fbs::DelayReceipt& receipt) {
  return {fbs::DelayHandle(receipt.id(), receipt.due_ms(), receipt.position(),
                           partition.topic.value(), receipt.tag()),
          {},
          {}};
}

DelayTarget by_key(PartitionId partition, std::string key) {
  return {std::nullopt, partition, std::move(key)};
}

protocol::Frame delay_cancel_request(std::span<const DelayTarget> items) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = build_refs(builder, items);
  return request_frame(builder, fbs::CreateDelayCancel(builder, refs), FrameType::kDelayCancel);
}

protocol::Frame delay_reschedule_request(std::span<const DelayTarget> items, bool at,
                                         int64_t due_ms) {
  flatbuffers::FlatBufferBuilder builder;
  const auto refs = build_refs(builder, items);
  return request_frame(
      builder, fbs::CreateDelayReschedule(builder, refs, at ? uint8_t{1} : uint8_t{0}, due_ms),
      FrameType::kDelayReschedule);
}

protocol::Frame delay_list_request(const DelayListInput& query) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(
      builder,
      fbs::CreateDelayList(builder, query.topic.value(), query.partition, query.due_to_ms,
                           query.after_due_ms, query.after_id, query.limit),
      FrameType::kDelayList);
}

protocol::Frame delay_show_request(const DelayTarget& item) {
  flatbuffers::FlatBufferBuilder builder;
  const auto ref = build_ref(builder, item);
  return request_frame(builder, fbs::CreateDelayShow(builder, ref), FrameType::kDelayShow);
}

protocol::Frame delay_stats_request(TopicId topic) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(builder, fbs::CreateDelayStats(builder, topic.value()),
                       FrameType::kDelayStats);
}

}  // namespace tidemark::testing
