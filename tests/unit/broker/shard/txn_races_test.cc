// Transactions whose requests and shards do not keep step.
#include <doctest/doctest.h>

#include "tests/support/delay_requests.h"
#include "tests/support/txn_requests.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;
using testing::DelayInput;

const fbs::TxnId kTxn{7, 1, 0};

protocol::Frame delayed_part(uint32_t index) {
  const std::vector<DelayInput> items = {{.value = "v", .due_ms = 100}};
  const testing::HalfInput part{kTxn, ShardHarness::kPartition, index,
                                testing::build_schedule(ShardHarness::kPartition, items), true};
  return testing::half_request({&part, 1});
}

protocol::Frame commit_of_whatever_there_is() {
  const testing::EndInput end{kTxn, true};
  return testing::txn_end_request({&end, 1}, fbs::TxnEndBy::kOperator);
}

const fbs::TxnResult& result_of(const protocol::Frame& reply) {
  return *testing::read_reply<fbs::TxnResultReply>(reply).results()->Get(0);
}

TEST_CASE("a commit of whatever there is that a delayed part overtakes is to be tried again") {
  ShardHarness harness;
  harness.open_partitions(1);
  static_cast<void>(harness.ask(delayed_part(0)));
  // Not applied yet when ids are taken for what the commit makes visible.
  harness.receive(delayed_part(1));
  harness.receive(commit_of_whatever_there_is());
  harness.settle();
  static_cast<void>(harness.outbox.take());
  const protocol::Frame first = harness.outbox.take();
  CHECK(protocol::to_status(result_of(first).error()).code() == ErrorCode::kUnavailable);
  CHECK(result_of(first).state() == fbs::TxnState::kOpen);
  const protocol::Frame second = harness.ask(commit_of_whatever_there_is());
  CHECK(protocol::to_status(result_of(second).error()).ok());
  CHECK(result_of(second).state() == fbs::TxnState::kCommitted);
}

TEST_CASE("a transaction that another shard makes known is as old as it is there") {
  ShardHarness harness(0, 2);
  ShardMail mail;
  mail.kind = ShardMail::Kind::kTxnAsk;
  mail.from = ShardId{1};
  mail.txn = {kTxn.producer(), kTxn.number()};
  mail.group = "orders";
  mail.timeout_ms = 1'000;
  mail.age_ms = 5'000;  // whatever its log time is
  harness.core->receive_mail(mail, harness.now);
  harness.settle();
  const protocol::Frame reply = harness.ask(testing::txn_show_request(kTxn));
  const fbs::TxnInfo& info = *testing::read_reply<fbs::TxnShowReply>(reply).info();
  CHECK(info.born_ms() == harness.now.wall.ms - 5'000);
  CHECK(info.next_check_ms() == info.born_ms() + 1'000);
}

TEST_CASE("a message is rescheduled by the clocks as they stand when it is asked for") {
  ShardHarness harness;
  harness.open_partitions(1);
  const std::vector<DelayInput> items = {{.value = "v", .due_ms = 60'000}};
  const auto taken = testing::read_produce_reply(harness.ask(testing::schedule_request(
      ShardHarness::kPartition, testing::build_schedule(ShardHarness::kPartition, items))));
  const fbs::DelayReceipt receipt = taken.at(0).receipts.at(0);
  // As if its segment had been relocated: where the message lies is looked up in the store.
  format::RecordListBuilder moved;
  const SharedBytes batch = testing::build_batch(std::vector<std::string>{"v"});
  moved.add_relocate({ShardHarness::kPartition, receipt.id(), receipt.due_ms(), 0, batch.view()});
  REQUIRE(harness.consensus.propose(moved.take()).ok());
  harness.settle();
  const testing::DelayTarget target = testing::by_handle(ShardHarness::kPartition, receipt);
  const int64_t wall_ms = harness.now.wall.ms + 30'000;
  harness.receive(testing::delay_reschedule_request({&target, 1}, /*at=*/true, wall_ms));
  harness.advance_ms(1);
  harness.now.wall.ms += 20'000;  // the wall clock steps while it is looked up
  harness.core->flush(harness.now);
  harness.source.run_all();
  harness.settle();
  const protocol::Frame reply = harness.outbox.take();
  const auto& change = testing::read_reply<fbs::DelayChangeReply>(reply);
  REQUIRE(change.results()->Get(0)->receipt() != nullptr);
  CHECK(change.results()->Get(0)->receipt()->due_ms() == wall_ms);
}

}  // namespace
}  // namespace tidemark::shard
