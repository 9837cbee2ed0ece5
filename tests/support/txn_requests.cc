#include "tests/support/txn_requests.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using protocol::FrameType;

protocol::Frame half_request(std::span<const HalfInput> parts, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::ProducePart>> tables;
  std::vector<SharedBytes> payload;
  for (const HalfInput& part : parts) {
    const auto group = builder.CreateString(part.group);
    const auto reference = builder.CreateString(part.reference);
    const auto half =
        fbs::CreateHalfInfo(builder, &part.txn, part.index, group, part.timeout_ms, reference);
    tables.push_back(fbs::CreateProducePart(
        builder, part.partition.topic.value(), part.partition.index.value(),
        static_cast<uint32_t>(part.payload.size()),
        part.schedule ? fbs::ProduceKind::kHalfSchedule : fbs::ProduceKind::kHalf, half));
    payload.push_back(part.payload);
  }
  const auto all = builder.CreateVector(tables);
  return request_frame(builder, fbs::CreateProduce(builder, all), FrameType::kProduce, correlation,
                       std::move(payload));
}

protocol::Frame txn_end_request(std::span<const EndInput> items, fbs::TxnEndBy by,
                                uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnEndItem>> tables;
  for (const EndInput& item : items) {
    const auto shards = builder.CreateVector(item.shards);
    tables.push_back(fbs::CreateTxnEndItem(builder, &item.txn, item.commit, item.halves, shards));
  }
  const auto all = builder.CreateVector(tables);
  return request_frame(builder, fbs::CreateTxnEnd(builder, all, by), FrameType::kTxnEnd,
                       correlation);
}

protocol::Frame txn_poll_request(const std::string& group, uint32_t wait_ms, uint32_t checks_max,
                                 uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString(group);
  return request_frame(builder, fbs::CreateTxnPoll(builder, text, wait_ms, checks_max),
                       FrameType::kTxnPoll, correlation);
}

protocol::Frame txn_list_request(const TxnListInput& query, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto group = builder.CreateString(query.group);
  return request_frame(
      builder,
      fbs::CreateTxnList(builder, group, query.state, query.topic, query.born_before_ms,
                         query.after.producer() == 0 ? nullptr : &query.after, query.limit),
      FrameType::kTxnList, correlation);
}

protocol::Frame txn_show_request(const fbs::TxnId& txn, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(builder, fbs::CreateTxnShow(builder, &txn), FrameType::kTxnShow,
                       correlation);
}

protocol::Frame txn_recheck_request(std::span<const fbs::TxnId> items, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto all = builder.CreateVectorOfStructs(items.data(), items.size());
  return request_frame(builder, fbs::CreateTxnRecheck(builder, all), FrameType::kTxnRecheck,
                       correlation);
}

protocol::Frame txn_stats_request(uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  return request_frame(builder, fbs::CreateTxnStats(builder), FrameType::kTxnStats, correlation);
}

protocol::Frame named_producer_request(const std::string& group, const std::string& instance,
                                       uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto group_text = builder.CreateString(group);
  const auto instance_text = builder.CreateString(instance);
  return request_frame(builder, fbs::CreateInitProducer(builder, group_text, instance_text),
                       FrameType::kInitProducer, correlation);
}

std::vector<TxnResult> read_txn_results(const protocol::Frame& reply) {
  std::vector<TxnResult> results;
  for (const auto* result : *read_reply<fbs::TxnResultReply>(reply).results()) {
    results.push_back({protocol::to_status(result->error()), result->state()});
  }
  return results;
}

std::vector<TxnCheck> read_txn_checks(const protocol::Frame& reply) {
  TIDEMARK_CHECK(reply.header.type == static_cast<uint16_t>(FrameType::kTxnPoll),
                 error_of(reply).to_string());
  std::vector<TxnCheck> checks;
  for (const auto* check : *read_reply<fbs::TxnPollReply>(reply).checks()) {
    checks.push_back({*check->txn(), std::string(protocol::view(check->reference())),
                      check->born_ms(), check->checks()});
  }
  return checks;
}

}  // namespace tidemark::testing
