// What operators see of transactions: list, show, stats.
#include <doctest/doctest.h>

#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;
using testing::TxnListInput;

constexpr PartitionId kOther = ShardHarness::kOther;

std::vector<uint64_t> numbers(TxnHarness& harness, const TxnListInput& query) {
  std::vector<uint64_t> out;
  for (const auto* info :
       *harness.look<fbs::TxnListReply>(testing::txn_list_request(query)).items()) {
    out.push_back(info->txn()->number());
  }
  return out;
}

using Numbers = std::vector<uint64_t>;

HalfInput half_in(const TxnId& txn, const std::string& group,
                  PartitionId partition = ShardHarness::kPartition) {
  HalfInput part = TxnHarness::half(txn, 0, {"a"}, partition);
  part.group = group;
  return part;
}

TEST_CASE("the list shows what has not ended, filtered") {
  TxnHarness harness(0, 2);
  harness.options.txn_pending_age_ms = 60'000;
  harness.restart();
  harness.open_partitions_of(TopicId{2}, 1);
  harness.put(half_in(txn_id(1), "orders"));
  harness.put(half_in(txn_id(2), "payments"));
  harness.wait_ms(60'000);  // the first two are parked
  const int64_t later_ms = harness.log_ms();
  harness.advance_ms(1);
  harness.put(half_in(txn_id(3), "orders", {TopicId{2}, PartitionIndex{0}}));
  harness.put(half_in(txn_id(4), "orders"));
  harness.put(half_in(txn_id(5), "orders"));
  harness.put(half_in(txn_id(6, 1), "orders"));  // coordinated elsewhere
  harness.rollback(txn_id(5));
  CHECK(numbers(harness, {}) == Numbers{1, 2, 3, 4});
  CHECK(numbers(harness, {.group = "orders"}) == Numbers{1, 3, 4});
  CHECK(numbers(harness, {.group = "nobody"}).empty());
  CHECK(numbers(harness, {.state = TxnWireState::kOpen}) == Numbers{3, 4});
  CHECK(numbers(harness, {.state = TxnWireState::kParked}) == Numbers{1, 2});
  CHECK(numbers(harness, {.group = "orders", .state = TxnWireState::kParked}) == Numbers{1});
  CHECK(numbers(harness, {.topic = 2}) == Numbers{3});
  CHECK(numbers(harness, {.topic = 1}) == Numbers{1, 2, 4});
  CHECK(numbers(harness, {.born_before_ms = later_ms}) == Numbers{1, 2});
  CHECK(numbers(harness, {.born_before_ms = later_ms + 2}) == Numbers{1, 2, 3, 4});
  for (const uint32_t limit : {0u, limits::kTxnListMax + 1}) {
    CHECK(testing::error_of(harness.ask(testing::txn_list_request({.limit = limit}))).code() ==
          ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("pages follow each other without gap or overlap, whatever happens between them") {
  TxnHarness harness;
  for (uint64_t i = 1; i <= 25; ++i) {
    harness.put(half_in(txn_id(i, 0, 0, i % 2 + 1), i % 5 == 0 ? "fifth" : "orders"));
  }
  for (const std::string group : {"", "fifth"}) {
    TxnListInput query;
    query.group = group;
    query.limit = 4;
    std::vector<std::pair<uint64_t, uint64_t>> seen;
    for (bool more = true; more;) {
      const auto& reply = harness.look<fbs::TxnListReply>(testing::txn_list_request(query));
      CHECK(reply.items()->size() <= 4);
      for (const auto* info : *reply.items()) {
        seen.emplace_back(info->txn()->producer(), info->txn()->number());
      }
      more = reply.more();
      if (more) {
        query.after = *reply.next();
      }
    }
    CHECK(std::is_sorted(seen.begin(), seen.end()));
    CHECK(seen.size() == (group.empty() ? 25 : 5));
  }
  // The last one of a page ends before the next page.
  TxnListInput query;
  query.limit = 4;
  const auto& first = harness.look<fbs::TxnListReply>(testing::txn_list_request(query));
  query.after = *first.next();
  CHECK(harness.rollback(query.after).status.ok());
  CHECK(harness.look<fbs::TxnListReply>(testing::txn_list_request(query)).items()->size() == 4);
}

TEST_CASE("show tells all that is known of a transaction") {
  TxnHarness harness(0, 3);
  HalfInput part = TxnHarness::half(txn_id(), 1, {"a", "b"});
  part.timeout_ms = 1234;
  harness.put(part);
  harness.put(TxnHarness::delayed_half(txn_id(), 0, {{"x", 100}, {"y", 200}, {"z", 5}}, kOther));
  ShardMail ask;
  ask.kind = ShardMail::Kind::kTxnAsk;
  ask.from = ShardId{2};
  ask.txn = key_of(txn_id());
  ask.group = "orders";
  harness.core->receive_mail(ask, harness.now);
  harness.settle();
  harness.poll();
  const int64_t born_ms = harness.log_ms();
  harness.wait_ms(1234);
  CHECK(harness.take_checks().size() == 1);

  const auto& info = *harness.look<fbs::TxnShowReply>(testing::txn_show_request(txn_id())).info();
  CHECK(info.txn()->producer() == 7);
  CHECK(info.state() == TxnWireState::kOpen);
  CHECK(protocol::view(info.group()) == "orders");
  CHECK(protocol::view(info.reference()) == "order 17");
  CHECK(info.born_ms() == born_ms);
  CHECK(info.timeout_ms() == 1234);
  CHECK(info.checks() == 1);
  CHECK(info.next_check_ms() == born_ms + 1234 + 1851);
  REQUIRE(info.halves()->size() == 2);
  const auto* delayed = info.halves()->Get(0);
  CHECK(delayed->index() == 0);
  CHECK(delayed->delayed());
  CHECK(delayed->messages() == 3);
  CHECK(delayed->partition() == 1);
  const auto* plain = info.halves()->Get(1);
  CHECK_FALSE(plain->delayed());
  CHECK(plain->messages() == 2);
  CHECK(plain->bytes() == part.payload.size());
  CHECK(plain->topic() == 1);
  const LogPosition at{plain->position()};
  CHECK(harness.consensus.bytes_at(at, plain->bytes()).size() == plain->bytes());
  CHECK(format::verify_batch(harness.consensus.bytes_at(at, plain->bytes()).view()).ok());
  REQUIRE(info.shards()->size() == 1);
  CHECK(info.shards()->Get(0) == 2);
}

TEST_CASE("show of an ended transaction, of a foreign one, of one that never was") {
  TxnHarness harness(0, 2);
  harness.put(half_in(txn_id(1), "orders"));
  harness.put(half_in(txn_id(2, 1), "orders"));
  harness.commit(txn_id(1));
  harness.rollback(txn_id(3));
  const auto show = [&](const TxnId& id) {
    return harness.look<fbs::TxnShowReply>(testing::txn_show_request(id)).info();
  };
  CHECK(show(txn_id(1))->state() == TxnWireState::kCommitted);
  CHECK(show(txn_id(1))->halves() == nullptr);
  CHECK(show(txn_id(3))->state() == TxnWireState::kRolledBack);
  CHECK(show(txn_id(2, 1))->state() == TxnWireState::kOpen);
  CHECK(show(txn_id(2, 1))->txn()->shard() == 1);
  CHECK(show(txn_id(2, 1))->next_check_ms() == -1);  // the other shard does that
  CHECK(testing::error_of(harness.ask(testing::txn_show_request(txn_id(9)))).code() ==
        ErrorCode::kNotFound);
}

TEST_CASE("a transaction that several shards have parts of begins once, where it is coordinated") {
  TxnHarness harness(0, 2);
  harness.put(half_in(txn_id(1, 1), "orders"));
  CHECK(harness.stats().txn_begun == 0);
  ShardMail ask;
  ask.kind = ShardMail::Kind::kTxnAsk;
  ask.from = ShardId{1};
  ask.txn = key_of(txn_id(2));
  ask.group = "orders";
  harness.core->receive_mail(ask, harness.now);
  harness.settle();
  CHECK(harness.stats().txn_begun == 1);  // the others' part came first
  harness.put(half_in(txn_id(2), "orders"));
  CHECK(harness.stats().txn_begun == 1);
}

TEST_CASE("stats count what is there and what has been") {
  TxnHarness harness(0, 2);
  harness.options.txn_pending_age_ms = 60'000;
  harness.restart();
  const HalfInput old = half_in(txn_id(1), "orders");
  harness.put(old);
  const int64_t born_ms = harness.log_ms();
  harness.wait_ms(60'000);
  harness.put(half_in(txn_id(2), "orders"));
  harness.put(half_in(txn_id(3), "payments"));
  harness.put(half_in(txn_id(4, 1), "foreign"));
  harness.put(half_in(txn_id(5), "orders"));
  harness.put(half_in(txn_id(6), "orders"));
  harness.end({txn_id(5), true, 1, {1}});  // the other shard never answers
  harness.commit(txn_id(5));
  harness.rollback(txn_id(5));  // refused
  harness.rollback(txn_id(6));
  harness.poll("payments");
  harness.poll("idle");
  harness.poll("idle");
  harness.wait_ms(6000);
  CHECK(harness.take_checks().size() == 1);

  const auto& stats = harness.look<fbs::TxnStatsReply>(testing::txn_stats_request());
  CHECK(stats.now_ms() == born_ms + 66'000);
  CHECK(stats.open() == 2);
  CHECK(stats.parked() == 1);
  CHECK(stats.halves() == 4);
  CHECK(stats.half_bytes() == 4 * old.payload.size());
  CHECK(stats.unconfirmed() == 1);
  CHECK(stats.begun() == 5);
  CHECK(stats.committed() == 1);
  CHECK(stats.rolled_back() == 1);
  CHECK(stats.checks() == 1);
  CHECK(stats.parkings() == 1);
  CHECK(stats.refused() == 1);
  std::string groups;
  for (const auto* group : *stats.groups()) {
    groups +=
        std::string(protocol::view(group->group())) + " " + std::to_string(group->open()) + " " +
        std::to_string(group->parked()) + " " + std::to_string(group->producers()) + " " +
        std::to_string(group->oldest_born_ms() == -1 ? -1 : group->oldest_born_ms() - born_ms) +
        "; ";
  }
  CHECK(groups == "foreign 0 0 0 -1; orders 1 1 0 0; payments 1 0 0 60000; idle 0 0 2 -1; ");
  const ShardStats all = harness.stats();
  CHECK(all.txn_open == 2);
  CHECK(all.txn_oldest_age_ms == 66'000);
  CHECK(all.txn_producers == 2);
}

}  // namespace
}  // namespace tidemark::shard
