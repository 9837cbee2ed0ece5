// What operators ask about transactions, against a scripted broker, in one thread.
#include "clients/cpp/src/txn_calls.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/txn_rig.h"

namespace tidemark::client_core {
namespace {

using client::TransactionId;
using client::TransactionInfo;
using client::TransactionStateKind;
using testing::FakeEnd;
using testing::RigAsker;
using testing::TxnRig;

// Prepared transactions, a second apart; the i-th one starts at partition i and has another part
// behind it.
std::vector<TransactionId> prepare(TxnRig& rig, size_t count) {
  if (!rig.network.has_topic("t")) {
    rig.network.add_topic("t", 4);
    rig.network.add_topic("u", 1);
  }
  std::vector<TransactionId> ids;
  for (size_t i = 0; i < count; ++i) {
    const auto txn = rig.begin("order " + std::to_string(i));
    REQUIRE(rig.send(txn, static_cast<uint32_t>(i % 4), "a").ok());
    REQUIRE(rig.send(txn, static_cast<uint32_t>((i + 1) % 4), "b").ok());
    REQUIRE(rig.prepared(txn).ok());
    ids.push_back(TxnBuffer::id(*txn));
    rig.clock.advance_ms(1'000);
  }
  return ids;
}

std::vector<TransactionId> ids_of(const std::vector<TransactionInfo>& infos) {
  std::vector<TransactionId> ids;
  for (const TransactionInfo& info : infos) {
    ids.push_back(info.id);
  }
  return ids;
}

TEST_CASE("list: all shards, page by page, oldest first") {
  TxnRig rig(1);
  rig.network.txn_page_max = 3;
  const auto ids = prepare(rig, 20);
  RigAsker asker(rig);
  const auto all = list_transactions(asker, {});
  REQUIRE(all.ok());
  CHECK(ids_of(*all) == ids);
  const TransactionInfo& first = all->front();
  CHECK(first.state == TransactionStateKind::kOpen);
  CHECK(first.group == "orders");
  CHECK(first.reference == "order 0");
  CHECK(first.timeout_ms == 6'000);
  CHECK(first.next_check_ms == first.born_ms + 6'000);
  REQUIRE(first.parts.size() == 1);
  CHECK(first.parts[0].topic == "t");
  CHECK(first.parts[0].shard == 0);
  CHECK(first.parts[0].messages == 1);

  const auto few = list_transactions(asker, {.limit = 5});
  REQUIRE(few.ok());
  CHECK(ids_of(*few) == std::vector<TransactionId>(ids.begin(), ids.begin() + 5));
  const auto old = list_transactions(asker, {.born_before_ms = (*all)[2].born_ms});
  REQUIRE(old.ok());
  CHECK(old->size() == 2);
  CHECK(list_transactions(asker, {.group = "others"})->empty());
  CHECK(list_transactions(asker, {.topic = "u"})->empty());
  CHECK(list_transactions(asker, {.topic = "t"})->size() == 20);
  rig.network.txns.at(ids[7]).state = protocol::fbs::TxnState::kParked;
  CHECK(ids_of(*list_transactions(asker, {.state = TransactionStateKind::kParked})) ==
        std::vector{ids[7]});
}

TEST_CASE("list: what is wrong with a query") {
  TxnRig rig(2);
  prepare(rig, 1);
  RigAsker asker(rig);
  const auto code = [&](const client::TransactionQuery& query) {
    return list_transactions(asker, query).status().code();
  };
  CHECK(code({.limit = 0}) == ErrorCode::kInvalidArgument);
  CHECK(code({.limit = 10'001}) == ErrorCode::kInvalidArgument);
  CHECK(code({.state = TransactionStateKind::kCommitted}) == ErrorCode::kInvalidArgument);
  CHECK(code({.topic = "nowhere"}) == ErrorCode::kUnknownTopic);
}

TEST_CASE("show: parts of all shards") {
  TxnRig rig(3);
  const auto ids = prepare(rig, 3);
  RigAsker asker(rig);
  const auto info = show_transaction(asker, ids[1]);
  REQUIRE(info.ok());
  CHECK(info->reference == "order 1");
  REQUIRE(info->parts.size() == 2);
  CHECK(info->parts[0].shard == 1);
  CHECK(info->parts[1].shard == 0);
  CHECK(info->parts[1].index == 1);
  CHECK(info->shards == std::vector<uint16_t>{0});
  rig.network.remove_topic("t");
  CHECK(show_transaction(asker, ids[1])->parts[0].topic == "#1");

  rig.network.txns.at(ids[0]).state = protocol::fbs::TxnState::kRolledBack;
  const auto ended = show_transaction(asker, ids[0]);
  REQUIRE(ended.ok());
  CHECK(ended->state == TransactionStateKind::kRolledBack);
  CHECK(ended->id == ids[0]);
  for (const TransactionId& nobody : {TransactionId{.producer = 1, .number = 99, .shard = 0},
                                      TransactionId{.producer = 1, .number = 99, .shard = 9}}) {
    CHECK(show_transaction(asker, nobody).status().code() == ErrorCode::kNotFound);
  }
}

TEST_CASE("commit and rollback: each id has its own answer, in order") {
  TxnRig rig(4);
  const auto ids = prepare(rig, 4);
  RigAsker asker(rig);
  const auto rolled_back = end_transactions(asker, {ids[0], ids[1]}, false);
  REQUIRE(rolled_back.ok());
  CHECK((*rolled_back)[0].status.ok());
  CHECK((*rolled_back)[0].state == TransactionStateKind::kRolledBack);
  const TransactionId nobody{.producer = 1, .number = 99, .shard = 1};
  const TransactionId nowhere{.producer = 1, .number = 99, .shard = 9};
  const auto changes = end_transactions(asker, {nobody, ids[3], ids[0], nowhere, ids[2], {}}, true);
  REQUIRE(changes.ok());
  REQUIRE(changes->size() == 6);
  CHECK((*changes)[0].status.code() == client::ErrorCode::kNotFound);
  CHECK((*changes)[1].status.ok());
  CHECK((*changes)[2].status.code() == client::ErrorCode::kConflict);
  CHECK((*changes)[2].status.to_string().find("recorded as rolled back") != std::string::npos);
  CHECK((*changes)[2].state == TransactionStateKind::kRolledBack);
  CHECK((*changes)[3].status.code() == client::ErrorCode::kNotFound);
  CHECK((*changes)[4].state == TransactionStateKind::kCommitted);
  CHECK((*changes)[5].status.code() == client::ErrorCode::kNotFound);
  for (const FakeEnd& end : rig.network.ends) {
    CHECK(end.by == protocol::fbs::TxnEndBy::kOperator);
    CHECK(end.halves == UINT32_MAX);
  }
  CHECK(end_transactions(asker, {}, true)->empty());
  CHECK(rig.network.violations.empty());
}

TEST_CASE("many ids travel in several requests, and what may pass is asked again") {
  TxnRig rig(5);
  rig.network.add_topic("t", 2);
  std::vector<TransactionId> ids;
  for (uint64_t i = 1; i <= 3'000; ++i) {
    ids.push_back({.producer = 5, .number = i, .shard = static_cast<uint16_t>(i % 2)});
  }
  size_t asked = 0;
  rig.network.on_txn_end = [&](const FakeEnd&) {
    ++asked;
    return asked % 3 == 0 ? Status(ErrorCode::kOutcomeUnknown, "drawn") : Status();
  };
  RigAsker asker(rig);
  const auto changes = end_transactions(asker, ids, false);
  REQUIRE(changes.ok());
  CHECK(std::all_of(changes->begin(), changes->end(),
                    [](const auto& change) { return change.status.ok(); }));
  CHECK(rig.network.ends_max == 1'024);
  CHECK(asker.pauses > 0);
}

TEST_CASE("a shard that does not answer: its ids say so, and may have been carried out") {
  TxnRig rig(6);
  const auto ids = prepare(rig, 2);
  rig.network.on_txn_end = [&](const FakeEnd& end) {
    return end.id.shard == 1 ? Status(ErrorCode::kTimedOut, "slow") : Status();
  };
  RigAsker asker(rig, 500);
  const auto changes = end_transactions(asker, ids, true);
  REQUIRE(changes.ok());
  CHECK((*changes)[0].status.ok());
  CHECK(client::outcome_unknown((*changes)[1].status.code()));
  rig.network.reachable = false;
  rig.network.cut_all();
  RigAsker nobody(rig, 500);
  CHECK(end_transactions(nobody, ids, true).status().code() == ErrorCode::kUnavailable);
}

TEST_CASE("recheck: parked ones are open again") {
  TxnRig rig(7);
  const auto ids = prepare(rig, 2);
  rig.network.txns.at(ids[0]).state = protocol::fbs::TxnState::kParked;
  RigAsker asker(rig);
  const auto changes = recheck_transactions(asker, ids);
  REQUIRE(changes.ok());
  CHECK((*changes)[0].status.ok());
  CHECK((*changes)[0].state == TransactionStateKind::kOpen);
  std::sort(rig.network.checks_due.begin(), rig.network.checks_due.end(),
            [](const auto& a, const auto& b) { return a.number < b.number; });
  CHECK(rig.network.checks_due == ids);
}

TEST_CASE("statistics: sums over shards, groups by name") {
  TxnRig rig(8);
  const auto ids = prepare(rig, 5);
  rig.network.txns.at(ids[1]).state = protocol::fbs::TxnState::kParked;
  rig.network.txns.at(ids[2]).group = "bills";
  RigAsker asker(rig);
  const auto totals = transaction_totals(asker);
  REQUIRE(totals.ok());
  CHECK(totals->open == 4);
  CHECK(totals->parked == 1);
  REQUIRE(totals->groups.size() == 2);
  CHECK(totals->groups[0].group == "bills");
  CHECK(totals->groups[0].open == 1);
  CHECK(totals->groups[1].open == 3);
  CHECK(totals->groups[1].parked == 1);
  CHECK(totals->groups[1].producers == 1);
  CHECK(totals->groups[1].oldest_born_ms == rig.network.txns.at(ids[0]).born_ms);
}

}  // namespace
}  // namespace tidemark::client_core
