#include "tests/support/txn_requests.h"

#include <utility>

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

protocol::Frame init_named_producer_request(const std::string& group, const std::string& instance,
                                            uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto group_text = builder.CreateString(group);
  const auto instance_text = builder.CreateString(instance);
  return finish_request(builder, fbs::CreateInitProducer(builder, group_text, instance_text),
                        FrameType::kInitProducer, correlation);
}

protocol::Frame half_request(const TxnBirth& birth, std::span<const HalfInput> parts,
                             uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ProducePart>> tables;
  std::vector<SharedBytes> payload;
  for (const HalfInput& part : parts) {
    const auto group = builder.CreateString(birth.group);
    const auto reference = builder.CreateString(birth.reference);
    const auto half =
        fbs::CreateHalfInfo(builder, &birth.txn, part.index, group, birth.timeout_ms, reference);
    tables.push_back(fbs::CreateProducePart(
        builder, part.partition.topic.value(), part.partition.index.value(),
        static_cast<uint32_t>(part.bytes.size()),
        part.schedule ? fbs::ProduceKind::kHalfSchedule : fbs::ProduceKind::kHalf, half));
    payload.push_back(part.bytes);
  }
  const auto all = builder.CreateVector(tables);
  return finish_request(builder, fbs::CreateProduce(builder, all), FrameType::kProduce, correlation,
                        std::move(payload));
}

protocol::Frame txn_end_request(std::span<const TxnEndInput> items, fbs::TxnEndBy by,
                                uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnEndItem>> tables;
  for (const TxnEndInput& item : items) {
    const auto shards = builder.CreateVector(item.shards);
    tables.push_back(fbs::CreateTxnEndItem(builder, &item.txn, item.commit, item.halves, shards));
  }
  const auto all = builder.CreateVector(tables);
  return finish_request(builder, fbs::CreateTxnEnd(builder, all, by), FrameType::kTxnEnd,
                        correlation);
}

protocol::Frame txn_poll_request(const std::string& group, uint32_t wait_ms, uint32_t checks_max,
                                 uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString(group);
  return finish_request(builder, fbs::CreateTxnPoll(builder, text, wait_ms, checks_max),
                        FrameType::kTxnPoll, correlation);
}

protocol::Frame txn_list_request(const TxnListInput& wanted, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto group = builder.CreateString(wanted.group);
  fbs::TxnListBuilder list(builder);
  list.add_group(group);
  list.add_state(wanted.state);
  list.add_after(&wanted.after);
  list.add_limit(wanted.limit);
  return finish_request(builder, list.Finish(), FrameType::kTxnList, correlation);
}

protocol::Frame txn_show_request(const fbs::TxnId& txn, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return finish_request(builder, fbs::CreateTxnShow(builder, &txn), FrameType::kTxnShow,
                        correlation);
}

protocol::Frame txn_recheck_request(std::span<const fbs::TxnId> items, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto all = builder.CreateVectorOfStructs(items.data(), items.size());
  return finish_request(builder, fbs::CreateTxnRecheck(builder, all), FrameType::kTxnRecheck,
                        correlation);
}

protocol::Frame txn_stats_request(uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return finish_request(builder, fbs::CreateTxnStats(builder), FrameType::kTxnStats, correlation);
}

}  // namespace tidemark::testing
