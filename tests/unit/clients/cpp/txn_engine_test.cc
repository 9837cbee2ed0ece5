// Transactions from begin to their end, against a scripted broker.
#include "clients/cpp/src/txn_engine.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/txn_rig.h"

namespace tidemark::client_core {
namespace {

using client::Delay;
using client::TransactionEnd;
using testing::EndAnswer;
using testing::FakeEnd;
using testing::PrepareAnswer;
using testing::TxnRig;
using Texts = std::vector<std::string>;

constexpr uint64_t kFirst = 1;

TEST_CASE("messages are visible after the commit, not before, in the order of send") {
  TxnRig rig(1);
  rig.network.add_topic("t", 2);
  const auto txn = rig.begin("order 17");
  for (const char* value : {"a", "b", "c"}) {
    REQUIRE(rig.send(txn, 0, value).ok());
  }
  REQUIRE(rig.send(txn, 1, "d").ok());
  CHECK(TxnBuffer::id(*txn).empty());
  REQUIRE(rig.prepared(txn).ok());
  const client::TransactionId id = TxnBuffer::id(*txn);
  CHECK(id == client::TransactionId{.producer = 7, .number = kFirst, .shard = 0});
  CHECK(rig.visible(0).empty());
  const testing::FakeTxn& stored = rig.network.txns.at(id);
  CHECK(stored.halves.size() == 2);
  CHECK(stored.group == "orders");
  CHECK(stored.reference == "order 17");
  CHECK(stored.timeout_ms == 6'000);

  const TransactionEnd end = rig.ended(txn, true);
  CHECK(end.status.ok());
  CHECK(end.id == id);
  CHECK(rig.visible(0) == Texts{"a", "b", "c"});
  CHECK(rig.visible(1) == Texts{"d"});
  const auto stats = rig.buffer->stats();
  CHECK(stats.begun == 1);
  CHECK(stats.committed == 1);
  CHECK(stats.open == 0);
  CHECK(rig.network.violations.empty());
}

TEST_CASE("the first message's shard coordinates; the commit names what the others have") {
  TxnRig rig(2);
  rig.network.shards = 3;
  rig.network.add_topic("t", 6);
  const auto txn = rig.begin();
  for (const uint32_t partition : {4u, 1u, 3u, 2u}) {
    REQUIRE(rig.send(txn, partition, "v").ok());
  }
  CHECK(rig.ended(txn, true).status.ok());
  REQUIRE(rig.network.ends.size() == 1);
  const FakeEnd& end = rig.network.ends.front();
  CHECK(end.id.shard == 1);
  CHECK(end.halves == 2);
  std::vector<uint16_t> others = end.shards;
  std::sort(others.begin(), others.end());
  CHECK(others == std::vector<uint16_t>{0, 2});
  CHECK(end.by == protocol::fbs::TxnEndBy::kProducer);
  CHECK(rig.network.violations.empty());
}

TEST_CASE("a transaction without messages ends here") {
  TxnRig rig(3);
  rig.network.add_topic("t", 1);
  const auto committed = rig.begin();
  CHECK(rig.prepared(committed).ok());
  const TransactionEnd end = rig.ended(committed, true);
  CHECK(end.status.ok());
  CHECK(end.id.empty());
  const auto rolled_back = rig.begin();
  REQUIRE(rig.send(rolled_back, 0, "never sent").ok());
  CHECK(rig.ended(rolled_back, false).status.ok());
  rig.buffer->drop(rig.begin());
  rig.rest();
  CHECK(rig.network.produce_requests == 0);
  CHECK(rig.network.end_requests == 0);
  CHECK(rig.buffer->stats().open == 0);
}

TEST_CASE("rolled back: never visible, and a commit afterwards is refused with what is recorded") {
  TxnRig rig(4);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "v").ok());
  REQUIRE(rig.prepared(txn).ok());
  CHECK(rig.ended(txn, false).status.ok());
  CHECK(rig.visible(0).empty());
  CHECK(rig.ended(txn, false).status.ok());
  const TransactionEnd commit = rig.ended(txn, true);
  CHECK(commit.status.code() == client::ErrorCode::kConflict);
  CHECK(commit.status.to_string().find("7-0-1-0 is recorded as rolled back") != std::string::npos);
  CHECK(rig.send(txn, 0, "late").code() == ErrorCode::kConflict);
  CHECK(rig.network.ends.size() == 1);
}

TEST_CASE("an end that the broker recorded the other way is a conflict and says so") {
  TxnRig rig(5);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "v").ok());
  REQUIRE(rig.prepared(txn).ok());
  rig.network.txns.begin()->second.state = protocol::fbs::TxnState::kRolledBack;
  const TransactionEnd commit = rig.ended(txn, true);
  CHECK(commit.status.code() == client::ErrorCode::kConflict);
  CHECK(commit.status.to_string().find("recorded as rolled back") != std::string::npos);
  CHECK(rig.buffer->stats().failed == 1);
  CHECK(rig.buffer->stats().open == 0);
}

TEST_CASE("parts of many transactions share requests, and so do ends") {
  TxnRig rig(6);
  rig.network.shards = 1;
  rig.network.add_topic("t", 4);
  // The first one teaches where the topic is.
  const auto first = rig.begin();
  REQUIRE(rig.send(first, 0, "v").ok());
  REQUIRE(rig.ended(first, true).status.ok());
  const size_t before = rig.network.produce_requests;
  const size_t ends_before = rig.network.end_requests;

  std::vector<std::shared_ptr<Txn>> txns;
  std::vector<PrepareAnswer> prepares;
  for (uint32_t i = 0; i < 512; ++i) {
    txns.push_back(rig.begin());
    REQUIRE(rig.send(txns.back(), i % 4, std::string(1000, 'x')).ok());
    prepares.push_back(rig.prepare(txns.back()));
  }
  const auto all = [](const auto& answers) {
    return std::all_of(answers.begin(), answers.end(), [](const auto& a) { return a.given(); });
  };
  REQUIRE(rig.run_until([&] { return all(prepares); }, 10'000));
  CHECK(rig.network.produce_requests - before == 2);
  CHECK(rig.network.produce_parts_max == 256);
  std::vector<EndAnswer> ends;
  for (const auto& txn : txns) {
    ends.push_back(rig.end(txn, true));
  }
  REQUIRE(rig.run_until([&] { return all(ends); }, 10'000));
  CHECK(rig.network.end_requests - ends_before == 1);
  CHECK(rig.network.ends_max == 512);
  CHECK(rig.visible(0).size() == 129);
}

TEST_CASE("plain and delayed messages of a partition: parts in the order in which they began") {
  TxnRig rig(7);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  const auto delayed = [&](const char* value, const Delay& delay) {
    return rig.buffer->send(txn, "t", {.value = value, .partition = 0, .delay = delay});
  };
  REQUIRE(rig.send(txn, 0, "a").ok());
  REQUIRE(delayed("b", Delay::after(1'000)).ok());
  REQUIRE(delayed("c", Delay::at(rig.clock.wall().ms + 500)).ok());
  REQUIRE(rig.send(txn, 0, "d").ok());
  REQUIRE(rig.prepared(txn).ok());
  const auto& halves = rig.network.txns.begin()->second.halves;
  REQUIRE(halves.size() == 3);
  CHECK(!halves.at(0).schedule);
  CHECK(halves.at(1).schedule);
  CHECK(!halves.at(2).schedule);
  REQUIRE(rig.ended(txn, true).status.ok());
  CHECK(rig.visible(0) == Texts{"a", "b", "c", "d"});
  CHECK(rig.network.topic("t").partitions[0].pending.size() == 2);

  SUBCASE("delays that depend on others are refused, and then it can only be rolled back") {
    const auto other = rig.begin();
    REQUIRE(rig.send(other, 0, "x").ok());
    const auto refused = [&](const Delay& delay) {
      return rig.buffer->send(other, "t", {.value = "y", .partition = 0, .delay = delay});
    };
    CHECK(refused(Delay::after(5).with_key("k")).code() == ErrorCode::kInvalidArgument);
    CHECK(rig.send(other, 0, "z").code() == ErrorCode::kInvalidArgument);
    CHECK(rig.prepared(other).code() == client::ErrorCode::kInvalidArgument);
    CHECK(rig.ended(other, true).status.code() == client::ErrorCode::kInvalidArgument);
    const auto third = rig.begin();
    CHECK(rig.buffer->send(third, "t", {.delay = Delay::every(5'000)}).code() ==
          ErrorCode::kInvalidArgument);
    CHECK(rig.ended(third, false).status.ok());
    CHECK(rig.buffer->stats().open == 0);
  }
}

TEST_CASE("full batches leave before prepare; keys choose partitions, the rest takes turns") {
  TxnRig rig(8, {.batch_bytes = 2'000, .codec = format::Codec::kZstd});
  rig.network.shards = 1;
  rig.network.add_topic("t", 4);
  const auto txn = rig.begin();
  Texts sent;
  for (int i = 0; i < 100; ++i) {
    sent.push_back(std::to_string(i));
    const std::string value = sent.back() + std::string(97, ' ');
    REQUIRE(rig.buffer->send(txn, "t", {.key = "k", .value = value}).ok());
  }
  rig.rest();
  CHECK(rig.network.txns.begin()->second.halves.size() > 3);
  REQUIRE(rig.ended(txn, true).status.ok());
  size_t partitions = 0;
  for (uint32_t p = 0; p < 4; ++p) {
    const Texts values = rig.visible(p);
    if (values.empty()) {
      continue;
    }
    ++partitions;
    REQUIRE(values.size() == sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      CHECK(values[i].starts_with(sent[i] + " "));
    }
  }
  CHECK(partitions == 1);
  // Without a key, one transaction fills one part; the next one is for the next partition.
  for (int i = 0; i < 4; ++i) {
    const auto next = rig.begin();
    REQUIRE(rig.buffer->send(next, "t", {.value = "1"}).ok());
    REQUIRE(rig.buffer->send(next, "t", {.value = "2"}).ok());
    REQUIRE(rig.ended(next, true).status.ok());
    CHECK(rig.network.txns.rbegin()->second.halves.size() == 1);
  }
  size_t with_pair = 0;
  for (uint32_t p = 0; p < 4; ++p) {
    const Texts values = rig.visible(p);
    with_pair += values.size() >= 2 && values[values.size() - 1] == "2" ? 1 : 0;
  }
  CHECK(with_pair == 4);
}

TEST_CASE("an unknown topic is reported by prepare; later its name may be known") {
  TxnRig rig(9);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "a").ok());
  REQUIRE(rig.send(txn, 0, "b", "nowhere").ok());
  REQUIRE(rig.send(txn, 0, "c").ok());
  CHECK(rig.prepared(txn).code() == client::ErrorCode::kUnknownTopic);
  CHECK(rig.send(txn, 0, "d").code() == ErrorCode::kUnknownTopic);
  const TransactionEnd end = rig.ended(txn, true);
  CHECK(end.status.code() == client::ErrorCode::kUnknownTopic);
  rig.rest();
  CHECK(rig.buffer->stats().open == 0);
  CHECK(rig.visible(0).empty());

  rig.network.add_topic("nowhere", 1);
  const auto next = rig.begin();
  REQUIRE(rig.send(next, 0, "e", "nowhere").ok());
  CHECK(rig.ended(next, true).status.ok());
  CHECK(rig.visible(0, "nowhere") == Texts{"e"});
  // A partition that does not exist.
  const auto wrong = rig.begin();
  CHECK(rig.send(wrong, 5, "f").code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("a topic that is deleted fails what was on its way to it") {
  TxnRig rig(10);
  rig.network.add_topic("t", 1);
  const auto first = rig.begin();
  REQUIRE(rig.send(first, 0, "a").ok());
  REQUIRE(rig.ended(first, true).status.ok());
  const auto second = rig.begin();
  REQUIRE(rig.send(second, 0, "b").ok());
  rig.network.remove_topic("t");
  SUBCASE("gone") { CHECK(rig.prepared(second).code() == client::ErrorCode::kUnknownTopic); }
  SUBCASE("created again") {
    rig.network.add_topic("t", 1);
    CHECK(rig.prepared(second).code() == client::ErrorCode::kUnknownTopic);
    const auto third = rig.begin();
    REQUIRE(rig.send(third, 0, "c").ok());
    CHECK(rig.ended(third, true).status.ok());
    CHECK(rig.visible(0) == Texts{"c"});
  }
}

TEST_CASE("lost answers: parts and ends are sent again and take effect once") {
  TxnRig rig(11);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "v").ok());
  size_t produced = 0;
  rig.network.on_produce_part = [&](uint32_t) {
    ++produced;
    return produced < 3 ? Status(ErrorCode::kNotLeader, "moved") : Status();
  };
  CHECK(rig.prepared(txn).ok());
  CHECK(produced == 3);
  size_t asked = 0;
  rig.network.on_txn_end = [&](const FakeEnd&) {
    ++asked;
    if (asked == 1) {
      return Status(ErrorCode::kOverloaded, "busy");
    }
    if (asked == 2) {
      return Status(ErrorCode::kOutcomeUnknown, "who knows");
    }
    return Status();
  };
  CHECK(rig.ended(txn, true).status.ok());
  CHECK(asked == 3);
  CHECK(rig.visible(0) == Texts{"v"});
}

TEST_CASE("a deadline: what may have taken effect is told apart from what was never sent") {
  TxnRig rig(12);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "v").ok());
  REQUIRE(rig.prepared(txn).ok());
  SUBCASE("the answer to the commit is lost") {
    rig.network.on_txn_end = [](const FakeEnd&) {
      return Status(ErrorCode::kOutcomeUnknown, "who knows");
    };
    const TransactionEnd end = rig.ended(txn, true, 300);
    CHECK(end.status.code() == client::ErrorCode::kTimedOut);
    CHECK(client::outcome_unknown(end.status.code()));
    CHECK(end.status.to_string().find("who knows") != std::string::npos);
    CHECK(rig.buffer->stats().failed == 1);
    // The program asked for a commit: letting go does not roll it back.
    const size_t asked = rig.network.ends.size();
    SUBCASE("the same call may be repeated") {
      rig.network.on_txn_end = nullptr;
      CHECK(rig.ended(txn, true).status.ok());
      CHECK(rig.visible(0) == Texts{"v"});
    }
    SUBCASE("or be left to the check-backs") {
      rig.buffer->drop(txn);
      rig.rest();
      CHECK(rig.network.ends.size() == asked);
      CHECK(rig.buffer->stats().open == 0);
    }
  }
  SUBCASE("refused all the time") {
    rig.network.on_txn_end = [](const FakeEnd&) { return Status(ErrorCode::kDiskFull, "full"); };
    const TransactionEnd end = rig.ended(txn, true, 300);
    CHECK(end.status.code() == client::ErrorCode::kUnavailable);
    CHECK(!client::outcome_unknown(end.status.code()));
  }
  SUBCASE("parts that do not get through: only a rollback is left") {
    const auto next = rig.begin();
    REQUIRE(rig.send(next, 0, "w").ok());
    rig.network.on_produce_part = [](uint32_t) { return Status(ErrorCode::kDiskFull, "full"); };
    CHECK(rig.prepared(next, 300).code() == client::ErrorCode::kTimedOut);
    rig.network.on_produce_part = nullptr;
    CHECK(rig.ended(next, true).status.code() == client::ErrorCode::kTimedOut);
    rig.rest();
    CHECK(rig.network.ends.back().id.number == kFirst + 1);
    CHECK(!rig.network.ends.back().commit);
    CHECK(rig.visible(0).empty());
  }
}

TEST_CASE("commit prepares first; if that fails it rolls back and reports why") {
  TxnRig rig(13);
  rig.network.add_topic("t", 2);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "a").ok());
  REQUIRE(rig.send(txn, 1, "b").ok());
  rig.network.on_produce_part = [](uint32_t partition) {
    return partition == 1 ? Status(ErrorCode::kLimitExceeded, "too many") : Status();
  };
  const TransactionEnd end = rig.ended(txn, true);
  CHECK(end.status.code() == client::ErrorCode::kLimitExceeded);
  REQUIRE(rig.run_until([&] { return rig.buffer->stats().rolled_back == 1; }, 1'000));
  CHECK(rig.network.txns.at(end.id).state == protocol::fbs::TxnState::kRolledBack);
  CHECK(rig.ended(txn, false).status.ok());
  CHECK(rig.ended(txn, true).status.code() == client::ErrorCode::kLimitExceeded);
  CHECK(rig.visible(0).empty());
}

TEST_CASE("letting go of a transaction rolls it back, without waiting") {
  TxnRig rig(14);
  rig.network.add_topic("t", 2);
  auto prepared = rig.begin();
  REQUIRE(rig.send(prepared, 0, "a").ok());
  REQUIRE(rig.prepared(prepared).ok());
  auto on_its_way = rig.begin();
  REQUIRE(rig.send(on_its_way, 1, "b").ok());
  const PrepareAnswer answer = rig.prepare(on_its_way);
  rig.turn();
  rig.buffer->drop(prepared);
  rig.buffer->drop(on_its_way);
  prepared.reset();
  on_its_way.reset();
  CHECK(rig.buffer->stats().open == 2);
  REQUIRE(rig.run_until([&] { return rig.buffer->stats().open == 0; }, 1'000));
  CHECK(rig.buffer->stats().rolled_back == 2);
  CHECK(answer->code() == client::ErrorCode::kConflict);
  for (const auto& [id, txn] : rig.network.txns) {
    CHECK(txn.state == protocol::fbs::TxnState::kRolledBack);
  }
  CHECK(rig.buffer->wait_ends(0));
}

TEST_CASE("fenced: reported, and the producer sends no more") {
  TxnRig rig(15);
  rig.network.add_topic("t", 1);
  const auto prepared = rig.begin();
  REQUIRE(rig.send(prepared, 0, "a").ok());
  REQUIRE(rig.prepared(prepared).ok());
  const auto open = rig.begin();
  REQUIRE(rig.send(open, 0, "b").ok());
  rig.network.on_txn_end = [](const FakeEnd&) { return Status(ErrorCode::kFenced, "newer"); };
  rig.network.on_produce_part = [](uint32_t) { return Status(ErrorCode::kFenced, "newer"); };
  SUBCASE("by an end") {
    CHECK(rig.ended(prepared, true).status.code() == client::ErrorCode::kFenced);
  }
  SUBCASE("by a half message") {
    CHECK(rig.ended(open, true).status.code() == client::ErrorCode::kFenced);
    CHECK(rig.ended(prepared, true).status.code() == client::ErrorCode::kFenced);
  }
  CHECK(rig.send(open, 0, "c").code() == ErrorCode::kFenced);
  CHECK(rig.ended(rig.begin(), true).status.code() == client::ErrorCode::kFenced);
  const size_t asked = rig.network.ends.size();
  rig.buffer->drop(open);
  rig.buffer->drop(prepared);
  rig.rest();
  CHECK(rig.network.ends.size() == asked);
  CHECK(rig.buffer->stats().open == 0);
}

TEST_CASE("bounds: bytes, open transactions, parts, texts") {
  TxnRig rig(16, {.buffer_bytes_max = 100'000, .open_max = 2, .batch_bytes = 1'024});
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, std::string(60'000, 'x')).ok());
  CHECK(rig.send(txn, 0, std::string(200'000, 'x')).code() == ErrorCode::kTooLarge);
  REQUIRE(rig.ended(txn, false).status.ok());
  const auto first = rig.begin();
  const auto second = rig.begin();
  const auto third = rig.begin();
  CHECK(rig.send(third, 0, "v").code() == ErrorCode::kOverloaded);
  CHECK(rig.ended(third, true).status.code() == client::ErrorCode::kOverloaded);
  REQUIRE(rig.send(first, 0, std::string(60'000, 'x')).ok());
  CHECK(rig.send(second, 0, std::string(60'000, 'x')).code() == ErrorCode::kOverloaded);
  // What is stored makes room.
  REQUIRE(rig.prepared(first).ok());
  REQUIRE(rig.ended(first, true).status.ok());
  const auto many = rig.begin();
  Status status;
  for (int i = 0; i <= 1024 && status.ok(); ++i) {
    status = rig.send(many, 0, std::string(1'000, 'x'));
    rig.rest();
  }
  CHECK(status.code() == ErrorCode::kLimitExceeded);
  CHECK(rig.ended(second, false).status.ok());
  CHECK(rig.send(rig.buffer->begin({.reference = std::string(256, 'r')}), 0, "v").code() ==
        ErrorCode::kInvalidArgument);
  CHECK(rig.send(rig.buffer->begin({.timeout_ms = 99}), 0, "v").code() ==
        ErrorCode::kInvalidArgument);
}

TEST_CASE("closing: ends under way are reported, nothing new is taken") {
  TxnRig rig(17);
  rig.network.add_topic("t", 1);
  const auto txn = rig.begin();
  REQUIRE(rig.send(txn, 0, "v").ok());
  REQUIRE(rig.prepared(txn).ok());
  const auto open = rig.begin();
  REQUIRE(rig.send(open, 0, "w").ok());
  rig.network.silent = true;
  const EndAnswer end = rig.end(txn, true);
  rig.turn();
  const PrepareAnswer prepare = rig.prepare(open);
  rig.buffer->close();
  CHECK(!rig.buffer->wait_ends(0));
  CHECK(rig.engine->give_up() == 1);
  REQUIRE(end.given());
  CHECK(end->status.code() == client::ErrorCode::kOutcomeUnknown);
  CHECK(prepare->code() == client::ErrorCode::kCancelled);
  CHECK(rig.buffer->wait_ends(0));
  CHECK(rig.send(open, 0, "x").code() == ErrorCode::kShuttingDown);
  CHECK(rig.ended(txn, true).status.code() == client::ErrorCode::kShuttingDown);
  CHECK(rig.prepared(rig.begin()).code() == client::ErrorCode::kShuttingDown);
}

struct Seen {
  size_t committed = 0;
  size_t rolled_back = 0;
  size_t unknown = 0;
  size_t duplicates = 0;
};

// Whatever gets lost: all of a transaction is visible once, in order, or nothing of it; and what
// was answered holds.
void property_run(uint64_t seed, Seen& seen) {
  CAPTURE(seed);
  Random random(seed);
  constexpr uint32_t kPartitions = 3;
  TxnRig rig(seed, {.batch_bytes = 1'024, .delivery_timeout_ms = 4'000});
  rig.network.faults = {.refuse_connect = 100, .lose_before = 20, .lose_after = 20, .refuse = 50};
  rig.network.add_topic("t", kPartitions);

  struct Run {
    std::shared_ptr<Txn> txn;
    std::vector<Texts> sent = std::vector<Texts>(kPartitions);
    bool commit = false;
    EndAnswer end = {};
  };

  std::vector<Run> runs;
  for (size_t i = 0; i < 60; ++i) {
    Run run{.txn = rig.begin(), .commit = random.chance(2, 3)};
    const uint64_t messages = 1 + random.below(12);
    for (uint64_t m = 0; m < messages; ++m) {
      const auto partition = static_cast<uint32_t>(random.below(kPartitions));
      const std::string value =
          std::to_string(i) + "/" + std::to_string(m) + std::string(random.below(600), ' ');
      REQUIRE(rig.send(run.txn, partition, value).ok());
      run.sent[partition].push_back(value);
    }
    run.end = rig.end(run.txn, run.commit);
    runs.push_back(std::move(run));
    for (uint64_t steps = random.below(20); steps > 0; --steps) {
      rig.turn();
      rig.network.step();
    }
  }
  REQUIRE(rig.run_until([&] { return rig.buffer->wait_ends(0); }, 60'000));
  for (size_t i = 0; i < runs.size(); ++i) {
    CAPTURE(i);
    const Run& run = runs[i];
    size_t visible = 0;
    size_t expected = 0;
    for (uint32_t p = 0; p < kPartitions; ++p) {
      Texts mine;
      for (const std::string& value : rig.visible(p)) {
        if (value.starts_with(std::to_string(i) + "/")) {
          mine.push_back(value);
        }
      }
      visible += mine.size();
      expected += run.sent[p].size();
      CHECK((mine.empty() || mine == run.sent[p]));
    }
    CHECK((visible == 0 || visible == expected));
    REQUIRE(run.end.given());
    if (run.end->status.ok()) {
      CHECK((visible > 0) == run.commit);
      ++(run.commit ? seen.committed : seen.rolled_back);
    } else {
      CHECK((visible == 0 || client::outcome_unknown(run.end->status.code())));
      ++seen.unknown;
    }
  }
  seen.duplicates += rig.network.duplicate_halves;
  CHECK(rig.network.violations.empty());
}

TEST_CASE("property: all or nothing, once, in order, whatever gets lost") {
  Seen seen;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    property_run(seed, seen);
  }
  CHECK(seen.committed > 500);
  CHECK(seen.rolled_back > 200);
  CHECK(seen.duplicates > 10);
}

}  // namespace
}  // namespace tidemark::client_core
