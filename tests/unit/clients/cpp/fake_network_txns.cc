// Transactions of the scripted broker: half messages kept by index, outcomes remembered for ever,
// checks handed out when a test says so.
#include <algorithm>
#include <utility>

#include "log/base/check.h"
#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::testing {

namespace fbs = protocol::fbs;
using client::TransactionId;
using protocol::FrameType;

namespace {

TransactionId to_id(const fbs::TxnId& id) {
  return {.producer = id.producer(), .number = id.number(), .shard = id.shard()};
}

fbs::TxnId to_wire(const TransactionId& id) { return {id.producer, id.number, id.shard}; }

bool is_ended(fbs::TxnState state) {
  return state == fbs::TxnState::kCommitted || state == fbs::TxnState::kRolledBack;
}

}  // namespace

void FakeNetwork::on_init_producer(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::InitProducer>(frame);
  const std::string instance(protocol::view(request.instance()));
  std::pair<uint64_t, int16_t> given{next_producer_id_, int16_t{0}};
  if (!instance.empty()) {
    const auto [at, fresh] = producer_names_.try_emplace(
        {std::string(protocol::view(request.group())), instance}, given);
    if (!fresh) {
      ++at->second.second;
    }
    given = at->second;
    fences_[given.first] = static_cast<uint16_t>(given.second);
  }
  ++next_producer_id_;
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fbs::CreateInitProducerReply(builder, 0, given.first, given.second));
  reply(channel, frame, builder);
}

FakePartition::Verdict FakeNetwork::add_half(const fbs::ProducePart& part, ByteView bytes) {
  const fbs::HalfInfo* const half = part.half();
  if (half == nullptr || half->txn() == nullptr) {
    violations.emplace_back("a half message without a transaction");
    return {.error = ErrorCode::kMalformed};
  }
  const TransactionId id = to_id(*half->txn());
  const bool schedule = part.kind() == fbs::ProduceKind::kHalfSchedule;
  if (!schedule && format::validate_produced_batch(bytes)->producer_id >= 0) {
    violations.emplace_back("a half message with a producer of its own");
  }
  if (id.number >> 48 < fences_[id.producer]) {
    return {.error = ErrorCode::kFenced};
  }
  FakeTxn& txn = txns[id];
  if (is_ended(txn.state)) {
    return {.error = ErrorCode::kConflict};
  }
  if (txn.state == fbs::TxnState::kNone) {
    txn.state = fbs::TxnState::kOpen;
    txn.born_ms = clock_.wall().ms;
    txn.group = protocol::view(half->group());
    txn.reference = protocol::view(half->reference());
    txn.timeout_ms = half->timeout_ms();
  }
  const auto [at, fresh] = txn.halves.try_emplace(
      half->index(),
      FakeHalf{part.topic(), part.partition(), SharedBytes(Buffer::copy_of(bytes)), schedule});
  duplicate_halves += fresh ? 0 : 1;
  if (!fresh && !std::ranges::equal(at->second.bytes.view(), bytes)) {
    violations.emplace_back("another part under the same index");
  }
  return {.duplicate = !fresh};
}

Status FakeNetwork::end_txn(const FakeEnd& end) {
  if (end.by == fbs::TxnEndBy::kProducer && end.id.number >> 48 < fences_[end.id.producer]) {
    return {ErrorCode::kFenced, "a newer producer took over"};
  }
  FakeTxn& txn = txns[end.id];
  const fbs::TxnState asked = end.commit ? fbs::TxnState::kCommitted : fbs::TxnState::kRolledBack;
  if (is_ended(txn.state)) {
    return txn.state == asked ? Status() : Status(ErrorCode::kConflict, "ended");
  }
  if (!end.commit) {
    txn.state = asked;
    return {};
  }
  if (txn.state == fbs::TxnState::kNone) {
    return {ErrorCode::kNotFound, "not known"};
  }
  const auto here = std::count_if(txn.halves.begin(), txn.halves.end(), [&](const auto& each) {
    return each.second.partition % shards == end.id.shard;
  });
  if (end.halves != UINT32_MAX && end.halves != here) {
    return {ErrorCode::kConflict, std::to_string(here) + " parts are stored"};
  }
  txn.state = asked;
  for (const auto& [index, half] : txn.halves) {
    FakePartition* const partition = find(half.topic, half.partition);
    TIDEMARK_CHECK(partition != nullptr);
    const uint16_t shard = static_cast<uint16_t>(half.partition % shards);
    if (half.schedule) {
      partition->append_schedule(half.bytes.view(), clock_.wall().ms, next_delay_id_[shard]);
    } else {
      partition->append(half.bytes.view());
    }
  }
  return {};
}

void FakeNetwork::on_txn(FakeChannel& channel, const protocol::Frame& frame) {
  const auto type = static_cast<FrameType>(frame.header.type);
  if (type == FrameType::kTxnEnd) {
    on_txn_end_request(channel, frame);
  } else if (type == FrameType::kTxnList) {
    on_txn_list(channel, frame);
  } else if (type == FrameType::kTxnShow) {
    on_txn_show(channel, frame);
  } else if (type == FrameType::kTxnRecheck) {
    on_txn_recheck(channel, frame);
  } else {
    on_txn_stats(channel, frame);
  }
}

void FakeNetwork::on_txn_end_request(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::TxnEnd>(frame);
  ++end_requests;
  ends_max = std::max<size_t>(ends_max, request.items()->size());
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnResult>> results;
  for (const fbs::TxnEndItem* item : *request.items()) {
    FakeEnd end{.id = to_id(*item->txn()),
                .commit = item->commit(),
                .halves = item->halves(),
                .shards = {},
                .by = request.by()};
    if (item->shards() != nullptr) {
      end.shards.assign(item->shards()->begin(), item->shards()->end());
    }
    if (end.id.shard != frame.header.shard) {
      violations.emplace_back("an end at another shard than the coordinating one");
    }
    ends.push_back(end);
    Status status = on_txn_end ? on_txn_end(end) : Status();
    if (status.ok() && chance(faults.refuse)) {
      status = Status(ErrorCode::kOverloaded, "drawn");
    }
    if (status.ok()) {
      status = end_txn(end);
    }
    results.push_back(
        fbs::CreateTxnResult(builder, protocol::build_error(builder, status), txns[end.id].state));
  }
  builder.Finish(fbs::CreateTxnResultReply(builder, 0, builder.CreateVector(results)));
  reply(channel, frame, builder);
}

bool FakeNetwork::on_txn_poll(FakeChannel& channel, const protocol::Frame& frame,
                              bool last_chance) {
  const auto& request = read_reply<fbs::TxnPoll>(frame);
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnCheck>> checks;
  std::erase_if(checks_due, [&](const TransactionId& id) {
    if (id.shard != frame.header.shard || checks.size() >= request.checks_max()) {
      return false;
    }
    FakeTxn& txn = txns[id];
    const fbs::TxnId wire = to_wire(id);
    const auto reference = builder.CreateString(txn.reference);
    checks.push_back(fbs::CreateTxnCheck(builder, &wire, reference, txn.born_ms, ++txn.checks));
    return true;
  });
  if (checks.empty() && !last_chance) {
    return false;
  }
  builder.Finish(fbs::CreateTxnPollReply(builder, 0, builder.CreateVector(checks)));
  reply(channel, frame, builder);
  return true;
}

flatbuffers::Offset<fbs::TxnInfo> FakeNetwork::build_txn(flatbuffers::FlatBufferBuilder& builder,
                                                         const TransactionId& id,
                                                         uint16_t shard) const {
  const FakeTxn& txn = txns.at(id);
  const fbs::TxnId wire = to_wire(id);
  if (is_ended(txn.state)) {
    return fbs::CreateTxnInfo(builder, &wire, txn.state);
  }
  std::vector<flatbuffers::Offset<fbs::TxnHalf>> halves;
  for (const auto& [index, half] : txn.halves) {
    if (half.partition % shards == shard) {
      halves.push_back(fbs::CreateTxnHalf(builder, half.topic, half.partition, index, 1,
                                          static_cast<uint32_t>(half.bytes.size()), 0,
                                          half.schedule));
    }
  }
  const auto group = builder.CreateString(txn.group);
  const auto reference = builder.CreateString(txn.reference);
  const auto list = builder.CreateVector(halves);
  return fbs::CreateTxnInfo(builder, &wire, txn.state, group, reference, txn.born_ms,
                            txn.timeout_ms, txn.checks, txn.born_ms + txn.timeout_ms, list);
}

void FakeNetwork::on_txn_list(FakeChannel& channel, const protocol::Frame& frame) {
  const auto& request = read_reply<fbs::TxnList>(frame);
  const TransactionId after =
      request.after() != nullptr ? to_id(*request.after()) : TransactionId{};
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnInfo>> items;
  TransactionId last;
  bool more = false;
  for (const auto& [id, txn] : txns) {
    const bool has_topic = std::any_of(txn.halves.begin(), txn.halves.end(), [&](const auto& each) {
      return each.second.topic == request.topic();
    });
    const bool asked =
        id.shard == frame.header.shard && !is_ended(txn.state) && (after.empty() || after < id) &&
        (request.state() == fbs::TxnState::kNone || request.state() == txn.state) &&
        (protocol::view(request.group()).empty() || protocol::view(request.group()) == txn.group) &&
        (request.topic() == 0 || has_topic) && txn.born_ms < request.born_before_ms();
    if (!asked) {
      continue;
    }
    more = items.size() >= std::min(request.limit(), txn_page_max);
    if (more) {
      break;
    }
    last = id;
    items.push_back(build_txn(builder, id, frame.header.shard));
  }
  const fbs::TxnId next = to_wire(last);
  const auto list = builder.CreateVector(items);
  builder.Finish(fbs::CreateTxnListReply(builder, 0, list, more, &next));
  reply(channel, frame, builder);
}

void FakeNetwork::on_txn_show(FakeChannel& channel, const protocol::Frame& frame) {
  const TransactionId id = to_id(*read_reply<fbs::TxnShow>(frame).txn());
  flatbuffers::FlatBufferBuilder builder;
  const auto found = txns.find(id);
  if (found == txns.end()) {
    const auto error = protocol::build_error(builder, Status(ErrorCode::kNotFound, "not here"));
    builder.Finish(fbs::CreateTxnShowReply(builder, error));
  } else {
    const auto info = build_txn(builder, id, frame.header.shard);
    builder.Finish(fbs::CreateTxnShowReply(builder, 0, info));
  }
  reply(channel, frame, builder);
}

void FakeNetwork::on_txn_recheck(FakeChannel& channel, const protocol::Frame& frame) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnResult>> results;
  for (const fbs::TxnId* item : *read_reply<fbs::TxnRecheck>(frame).items()) {
    const TransactionId id = to_id(*item);
    Status status;
    if (!txns.contains(id)) {
      status = Status(ErrorCode::kNotFound, "not known");
    } else if (is_ended(txns[id].state)) {
      status = Status(ErrorCode::kConflict, "ended");
    } else {
      txns[id].state = fbs::TxnState::kOpen;
      checks_due.push_back(id);
    }
    const fbs::TxnState state = txns.contains(id) ? txns[id].state : fbs::TxnState::kNone;
    results.push_back(fbs::CreateTxnResult(builder, protocol::build_error(builder, status), state));
  }
  builder.Finish(fbs::CreateTxnResultReply(builder, 0, builder.CreateVector(results)));
  reply(channel, frame, builder);
}

void FakeNetwork::on_txn_stats(FakeChannel& channel, const protocol::Frame& frame) {
  struct Group {
    uint64_t open = 0;
    uint64_t parked = 0;
    int64_t oldest = -1;
  };

  std::map<std::string, Group> groups;
  uint64_t open = 0;
  uint64_t parked = 0;
  for (const auto& [id, txn] : txns) {
    if (id.shard != frame.header.shard || is_ended(txn.state)) {
      continue;
    }
    Group& group = groups[txn.group];
    const bool is_parked = txn.state == fbs::TxnState::kParked;
    ++(is_parked ? group.parked : group.open);
    ++(is_parked ? parked : open);
    group.oldest = group.oldest < 0 ? txn.born_ms : std::min(group.oldest, txn.born_ms);
  }
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::TxnGroupStats>> list;
  for (const auto& [name, group] : groups) {
    list.push_back(fbs::CreateTxnGroupStats(builder, builder.CreateString(name), group.open,
                                            group.parked, 1, group.oldest));
  }
  const auto offset = builder.CreateVector(list);
  builder.Finish(fbs::CreateTxnStatsReply(builder, 0, clock_.wall().ms, offset, open, parked));
  reply(channel, frame, builder);
}

}  // namespace tidemark::testing
