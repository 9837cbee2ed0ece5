// Leases of queue consumers, from the request to the end, against a scripted broker.
#include "clients/cpp/src/queue_engine.h"

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/queue_rig.h"

namespace tidemark::client_core {
namespace {

using client::QueueMessage;
using testing::FakeReceive;
using testing::FakeSettle;
using testing::Outcome;
using testing::QueueRig;
using Action = protocol::fbs::QueueAction;

TEST_CASE("a leased message has everything that was stored; its ack is settled") {
  QueueRig rig(1, {.group = "mailer",
                   .visibility_ms = 20'000,
                   .tags = {"red"},
                   .filter = "a = 1",
                   .ordered = true,
                   .from_end = true});
  rig.network.add_topic("t", 1);
  format::BatchBuilder builder;
  const std::vector<format::HeaderInput> headers = {
      {.key = "h", .value = as_bytes(std::string_view("1"))}, {.key = "null", .has_value = false}};
  REQUIRE(builder.append({.timestamp_ms = 5}).ok());
  REQUIRE(builder
              .append({.timestamp_ms = 7,
                       .has_key = true,
                       .key = as_bytes(std::string_view("k")),
                       .has_value = false,
                       .headers = headers})
              .ok());
  const auto batch = builder.finish(format::Codec::kZstd, 1, {});
  REQUIRE(batch.ok());
  REQUIRE(rig.network.topic("t").partitions[0].append(batch->view()).error == ErrorCode::kOk);
  rig.queued(0, 1).failures = 2;

  auto first = rig.receive();
  auto second = rig.receive();
  REQUIRE(second.has_value());
  CHECK(first->key() == std::nullopt);
  CHECK(first->value() == "");
  CHECK(first->headers().empty());
  CHECK(first->deliveries() == 1);
  CHECK(second->topic() == "t");
  CHECK(second->partition() == 0);
  CHECK(second->offset() == 1);
  CHECK(second->timestamp_ms() == 7);
  CHECK(second->key() == "k");
  CHECK(second->value() == std::nullopt);
  REQUIRE(second->headers().size() == 2);
  CHECK(second->headers()[0].key == "h");
  CHECK(second->headers()[0].value == "1");
  CHECK(second->headers()[1].value == std::nullopt);
  CHECK(second->deliveries() == 3);
  CHECK(second->lease_left_ms() <= 20'000);
  CHECK(second->lease_left_ms() > 19'000);
  CHECK(rig.engine->in_flight() == 2);

  const FakeReceive& asked = rig.network.receives.front();
  CHECK(asked.group == "mailer");
  CHECK(asked.visibility_ms == 20'000);
  CHECK(asked.wait_ms == 500);
  CHECK(asked.tags == std::vector<std::string>{"red"});
  CHECK(asked.filter == "a = 1");
  CHECK(asked.ordered);
  CHECK(asked.from_end);

  Outcome outcome;
  second->ack(outcome.callback());
  CHECK(second->lease_left_ms() == 0);
  CHECK(!outcome.given());
  REQUIRE(rig.answered(outcome));
  CHECK(outcome.code() == client::ErrorCode::kOk);
  CHECK(rig.queued(0, 1).settled);
  CHECK(!rig.queued(0, 0).settled);
  CHECK(rig.engine->in_flight() == 1);
}

TEST_CASE("messages come in the order of the leases; acks travel together, one request at a time") {
  QueueRig rig(2);
  rig.network.add_topic("t", 1);
  rig.fill(0, 100);
  auto messages = rig.receive_all(100);
  for (size_t i = 0; i < messages.size(); ++i) {
    CHECK(messages[i].value() == std::to_string(i));
  }
  messages[0].ack();
  rig.turn();
  for (size_t i = 1; i < messages.size(); ++i) {
    messages[i].ack();
    rig.turn();  // the request before is not answered yet
  }
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 0; }, 5'000));
  REQUIRE(rig.network.settles.size() == 2);
  CHECK(rig.network.settles[0].size() == 1);
  REQUIRE(rig.network.settles[1].size() == 99);
  for (size_t i = 0; i < 99; ++i) {
    CHECK(rig.network.settles[1][i].offset == i + 1);
    CHECK(rig.network.settles[1][i].action == Action::kAck);
    CHECK(rig.network.settles[1][i].count == 1);
    CHECK(rig.network.settles[1][i].token != 0);
  }
  CHECK(rig.network.leased() == 0);
}

TEST_CASE("a request has at most 1024 settlements") {
  QueueRig rig(3, {.in_flight_max = 3'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 2'500);
  auto messages = rig.receive_all(2'500);
  for (QueueMessage& message : messages) {
    message.ack();
  }
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 0; }, 5'000));
  std::vector<size_t> sizes;
  for (const auto& request : rig.network.settles) {
    sizes.push_back(request.size());
  }
  CHECK(sizes == std::vector<size_t>{1'024, 1'024, 452});
}

TEST_CASE("nacks and dead letters carry delay and reason; items of a request share the reason") {
  QueueRig rig(4);
  rig.network.add_topic("t", 1);
  rig.fill(0, 7);
  auto messages = rig.receive_all(7);
  const std::string umlauts = "x" + std::string(254, 'y') + "\u00e4";
  messages[0].nack();
  messages[1].nack("", 0);
  messages[2].nack("broken", 1'500);
  messages[3].ack();
  messages[4].dead_letter("broken");
  messages[5].nack(umlauts, -7);
  messages[6].nack("late", limits::kQueueDelayMsMax + 1);
  REQUIRE(rig.run_until([&] { return rig.network.settles.size() == 4; }, 5'000));
  const auto& sent = rig.network.settles;
  REQUIRE(sent[0].size() == 2);
  CHECK(sent[0][0].delay_ms == -1);
  CHECK(sent[0][0].action == Action::kNack);
  CHECK(sent[0][1].delay_ms == 0);
  CHECK(sent[0][1].reason.empty());
  REQUIRE(sent[1].size() == 3);
  CHECK(sent[1][0].delay_ms == 1'500);
  CHECK(sent[1][0].reason == "broken");
  CHECK(sent[1][1].action == Action::kAck);
  CHECK(sent[1][2].action == Action::kDeadLetter);
  REQUIRE(sent[2].size() == 1);
  CHECK(sent[2][0].reason == "x" + std::string(254, 'y'));
  CHECK(sent[2][0].delay_ms == 0);
  CHECK(sent[3][0].reason == "late");
  CHECK(sent[3][0].delay_ms == limits::kQueueDelayMsMax);
  CHECK(rig.queued(0, 4).settled);
  // The nacked ones come again.
  auto again = rig.receive_all(3);
  CHECK(again[0].offset() == 0);
  CHECK(again[0].deliveries() == 2);
  CHECK(again[2].offset() == 5);
}

TEST_CASE("a message that is released comes again as it was") {
  QueueRig rig(5);
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  auto message = rig.receive();
  Outcome released;
  message->release(released.callback());
  REQUIRE(rig.answered(released));
  CHECK(released.code() == client::ErrorCode::kOk);
  auto again = rig.receive();
  CHECK(again->offset() == 0);
  CHECK(again->deliveries() == 1);
}

TEST_CASE("a reason is cut where a character ends") {
  QueueRig rig(5);
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  auto message = rig.receive();
  message->nack(std::string(254, 'y') + "\u00e4");
  REQUIRE(rig.run_until([&] { return rig.network.settles.size() == 1; }, 5'000));
  CHECK(rig.network.settles[0][0].reason == std::string(254, 'y'));
}

TEST_CASE("of several settlements the first one counts; a message thrown away is nacked") {
  QueueRig rig(6);
  rig.network.add_topic("t", 1);
  rig.fill(0, 3);
  {
    auto messages = rig.receive_all(3);
    Outcome first;
    Outcome second;
    messages[0].ack(first.callback());
    messages[0].nack("too late", {}, second.callback());
    REQUIRE(rig.answered(first));
    REQUIRE(rig.answered(second));
    CHECK(first.code() == client::ErrorCode::kOk);
    CHECK(second.text() == "conflict: the message was settled before");
    messages[1] = std::move(messages[2]);  // throws 1 away
    rig.run_for(100);
    REQUIRE(rig.network.settles.size() == 2);
    CHECK(rig.network.settles[1][0].offset == 1);
    CHECK(rig.network.settles[1][0].action == Action::kNack);
    CHECK(rig.network.settles[1][0].delay_ms == -1);
  }
  rig.run_for(100);
  REQUIRE(rig.network.settles.size() == 3);
  CHECK(rig.network.settles[2].size() == 1);
  CHECK(rig.network.settles[2][0].offset == 2);
  CHECK(rig.engine->take_failure().ok());
}

TEST_CASE("a lease that another has is told; flush tells the first failure once") {
  QueueRig rig(7);
  rig.network.add_topic("t", 1);
  rig.fill(0, 3);
  auto messages = rig.receive_all(3);
  rig.network.on_settle = [](const FakeSettle& item) {
    return item.offset == 0   ? ErrorCode::kFenced
           : item.offset == 1 ? ErrorCode::kNotAllowed
                              : ErrorCode::kOk;
  };
  Outcome fenced;
  Outcome refused;
  messages[0].ack(fenced.callback());
  messages[1].dead_letter("no", refused.callback());
  messages[2].ack();
  const uint64_t point = rig.engine->flush_point();
  CHECK(!rig.engine->flushed(point));
  REQUIRE(rig.run_until([&] { return rig.engine->flushed(point); }, 5'000));
  REQUIRE(rig.answered(refused));
  CHECK(fenced.text() == "fenced by a newer epoch: topic \"t\" partition 0 offset 0");
  CHECK(refused.code() == client::ErrorCode::kNotAllowed);
  CHECK(rig.engine->in_flight() == 0);
  CHECK(rig.engine->take_failure().code() == ErrorCode::kFenced);
  CHECK(rig.engine->take_failure().ok());
}

TEST_CASE("flush waits for what was settled before it, not for what follows") {
  QueueRig rig(8);
  rig.network.add_topic("t", 1);
  rig.fill(0, 2);
  auto messages = rig.receive_all(2);
  CHECK(rig.engine->flushed(rig.engine->flush_point()));
  messages[0].ack();
  rig.turn();
  const uint64_t point = rig.engine->flush_point();
  messages[1].ack();
  const uint64_t later = rig.engine->flush_point();
  REQUIRE(rig.run_until([&] { return rig.engine->flushed(point); }, 5'000));
  CHECK(!rig.engine->flushed(later));
  REQUIRE(rig.run_until([&] { return rig.engine->flushed(later); }, 5'000));
}

TEST_CASE("broker gone: acks are tried for 30 s, the rest until the lease ends") {
  QueueRig rig(9, {.visibility_ms = 10'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 4);
  auto messages = rig.receive_all(4);
  rig.network.reachable = false;
  rig.network.cut_all();
  const int64_t from = rig.clock.monotonic().ns;
  Outcome acked;
  Outcome nacked;
  Outcome extended;
  messages[0].ack(acked.callback());
  messages[1].nack("x", {}, nacked.callback());
  messages[2].extend(5'000, extended.callback());
  REQUIRE(rig.answered(nacked));
  CHECK((rig.clock.monotonic().ns - from) / kNsPerMs >= 9'000);
  // The last attempt may wait for the connection, which is tried every 5 s.
  CHECK((rig.clock.monotonic().ns - from) / kNsPerMs <= 15'500);
  CHECK(nacked.code() == client::ErrorCode::kUnavailable);
  REQUIRE(rig.answered(extended));
  CHECK(extended.code() == client::ErrorCode::kUnavailable);
  CHECK(rig.engine->last_error().code() == ErrorCode::kUnavailable);
  CHECK(!acked.given());
  REQUIRE(rig.answered(acked));
  CHECK((rig.clock.monotonic().ns - from) / kNsPerMs >= 29'900);
  CHECK((rig.clock.monotonic().ns - from) / kNsPerMs <= 35'500);
  CHECK(acked.code() == client::ErrorCode::kUnavailable);
}

TEST_CASE("broker back: an ack after the lease holds, and receiving goes on") {
  QueueRig rig(10, {.visibility_ms = 5'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 2);
  auto messages = rig.receive_all(2);
  rig.network.reachable = false;
  rig.network.cut_all();
  Outcome acked;
  messages[0].ack(acked.callback());
  rig.run_for(8'000);
  CHECK(!acked.given());
  CHECK(messages[1].lease_left_ms() == 0);
  rig.network.reachable = true;
  REQUIRE(rig.answered(acked));
  CHECK(acked.code() == client::ErrorCode::kOk);
  auto again = rig.receive(20'000);
  REQUIRE(again.has_value());
  CHECK(again->offset() == 1);
  CHECK(again->deliveries() == 2);
  CHECK(rig.engine->last_error().ok());
}

TEST_CASE("a message that comes again while its ack is on its way is not shown twice") {
  QueueRig rig(33, {.visibility_ms = 5'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 2);
  auto messages = rig.receive_all(2);
  rig.network.on_request = [](protocol::FrameType type) {
    return type == protocol::FrameType::kQueueSettle ? Status(ErrorCode::kOverloaded, "busy")
                                                     : Status();
  };
  Outcome acked;
  Outcome nacked;
  messages[0].ack(acked.callback());
  messages[1].nack("x", {}, nacked.callback());
  auto again = rig.receive(12'000);  // of the other one, whose lease is over
  REQUIRE(again.has_value());
  CHECK(again->offset() == 1);
  CHECK(nacked.given());
  CHECK(rig.queued(0, 0).failures == 1);
  CHECK(rig.queued(0, 0).token != 0);
  CHECK(!acked.given());
  rig.network.on_request = nullptr;
  REQUIRE(rig.answered(acked));
  CHECK(acked.code() == client::ErrorCode::kOk);
  CHECK(rig.queued(0, 0).settled);
  CHECK(rig.network.settles.size() == 2);  // refused for the newer lease, then sent with it
  CHECK(rig.engine->in_flight() == 1);
}

TEST_CASE(
    "an attempt whose answer was lost is not held against a nack, but told of a dead letter") {
  QueueRig rig(11);
  rig.network.add_topic("t", 1);
  rig.fill(0, 2);
  auto messages = rig.receive_all(2);
  Outcome nacked;
  Outcome dead;
  messages[0].nack("x", 60'000, nacked.callback());
  messages[1].dead_letter("x", dead.callback());
  rig.network.on_settle = [&](const FakeSettle&) {
    rig.network.faults.lose_after = 1'000;
    return ErrorCode::kOk;
  };
  rig.network.on_request = [&](protocol::FrameType type) {
    if (type == protocol::FrameType::kHello) {
      rig.network.faults.lose_after = 0;
      rig.network.on_settle = nullptr;
    }
    return Status();
  };
  REQUIRE(rig.answered(nacked));
  REQUIRE(rig.answered(dead));
  CHECK(nacked.code() == client::ErrorCode::kOk);
  CHECK(
      dead.text() ==
      "outcome unknown: topic \"t\" partition 0 offset 1: dead-lettered by an earlier attempt, or "
      "its lease ended");
}

TEST_CASE("a partition that moved is found again, for messages and settlements") {
  QueueRig rig(12);
  rig.network.shards = 1;
  rig.network.add_topic("t", 2);
  rig.fill(1, 2);
  auto first = rig.receive();
  REQUIRE(first.has_value());
  rig.network.shards = 2;  // partition 1 is on shard 1 now
  Outcome acked;
  first->ack(acked.callback());
  REQUIRE(rig.answered(acked));
  CHECK(acked.code() == client::ErrorCode::kOk);
  CHECK(rig.network.settles.size() == 2);
  rig.fill(1, 1);
  auto next = rig.receive_all(2);
  CHECK(next[0].offset() == 1);
  CHECK(next[1].offset() == 2);
  const bool moved = std::any_of(
      rig.network.receives.begin(), rig.network.receives.end(), [&](const FakeReceive& each) {
        return each.shard == 1 &&
               each.parts == std::vector{std::pair(rig.network.topic("t").id, 1U)};
      });
  CHECK(moved);
}

TEST_CASE("an error of one partition leaves the others alone and is told") {
  QueueRig rig(13);
  rig.network.shards = 1;
  rig.network.add_topic("t", 2);
  rig.fill(0, 1);
  rig.fill(1, 3);
  size_t asked = 0;
  rig.network.on_queue_part = [&](uint32_t partition) {
    asked += partition == 0 ? 1 : 0;
    return partition == 0 ? Status(ErrorCode::kCorrupted, "batch at 17") : Status();
  };
  auto messages = rig.receive_all(3);
  CHECK(messages[2].partition() == 1);
  CHECK(rig.engine->last_error().to_string() ==
        "corrupted data: topic \"t\" partition 0: batch at 17");
  rig.run_for(10'000);
  CHECK(asked <= 20);  // with pauses in between
  CHECK(asked >= 5);
  rig.network.on_queue_part = nullptr;
  auto last = rig.receive();
  REQUIRE(last.has_value());
  CHECK(last->partition() == 0);
}

TEST_CASE("topics: waited for, found with new partitions, followed when created anew") {
  QueueRig rig(14, {.topics = {"t", "u"}});
  CHECK(!rig.receive(3'000).has_value());
  CHECK(rig.engine->last_error().to_string() == "unknown topic: topic \"u\" does not exist");
  rig.network.add_topic("u", 1);
  rig.fill(0, {"a"}, "u");
  auto message = rig.receive(6'000);
  REQUIRE(message.has_value());
  CHECK(message->topic() == "u");
  message->ack();
  rig.network.topic("u").partitions.resize(2);
  rig.fill(1, {"b"}, "u");
  message = rig.receive(70'000);
  REQUIRE(message.has_value());
  CHECK(message->partition() == 1);

  rig.network.remove_topic("u");
  Outcome gone;
  message->ack(gone.callback());
  rig.network.add_topic("u", 1);
  rig.fill(0, {"new"}, "u");
  REQUIRE(rig.answered(gone));
  CHECK(gone.code() == client::ErrorCode::kUnknownPartition);
  message = rig.receive(70'000);
  REQUIRE(message.has_value());
  CHECK(message->value() == "new");
}

TEST_CASE("a topic that does not exist is looked for with growing pauses") {
  QueueRig rig(15);
  size_t asked = 0;
  rig.network.on_request = [&](protocol::FrameType type) {
    asked += type == protocol::FrameType::kMetadata ? 1 : 0;
    return Status();
  };
  rig.run_for(60'000);
  CHECK(asked >= 10);
  CHECK(asked <= 30);
}

TEST_CASE("damage: what cannot be read is nacked with the reason, the rest is given") {
  QueueRig rig(16);
  rig.network.add_topic("t", 1);
  rig.fill(0, {"bad"});
  rig.fill(0, {"good"});
  rig.network.damage_queued = true;
  auto message = rig.receive();
  REQUIRE(message.has_value());
  CHECK(message->value() == "good");
  REQUIRE(rig.run_until([&] { return rig.network.settles.size() == 1; }, 5'000));
  REQUIRE(rig.network.settles[0].size() == 1);
  CHECK(rig.network.settles[0][0].offset == 0);
  CHECK(rig.network.settles[0][0].action == Action::kNack);
  CHECK(rig.network.settles[0][0].delay_ms == -1);
  CHECK(rig.network.settles[0][0].reason.find("corrupted data") == 0);
}

TEST_CASE("the budget of messages and bytes is never exceeded") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    const size_t most = 1 + random.below(40);
    QueueRig rig(seed, {.in_flight_max = most, .prefetch_bytes_max = 2'000});
    rig.network.shards = 4;
    rig.network.add_topic("t", 8);
    const size_t count = 200;
    for (size_t i = 0; i < count; ++i) {
      rig.fill(static_cast<uint32_t>(random.below(8)), {std::string(random.below(100), 'v')});
    }
    size_t bytes_asked_max = 0;
    rig.network.on_receive = [&](const FakeReceive& asked) {
      CHECK(asked.messages_max >= 1);
      CHECK(asked.messages_max + rig.network.leased() <= most);
      bytes_asked_max = std::max<size_t>(bytes_asked_max, asked.bytes_max);
    };
    std::vector<QueueMessage> held;
    size_t acked = 0;
    const bool done = rig.run_until(
        [&] {
          CHECK(rig.engine->in_flight() <= most);
          auto state = rig.engine->next(0);
          REQUIRE(state.ok());
          if (*state != nullptr) {
            held.push_back(client::QueueMessageState::give(std::move(*state)));
          }
          if (!held.empty() && random.chance(1, 4)) {
            const size_t at = random.below(held.size());
            held[at].ack();
            held.erase(held.begin() + static_cast<ptrdiff_t>(at));
            ++acked;
          }
          return acked == count;
        },
        600'000);
    CHECK(done);
    CHECK(bytes_asked_max <= 2'000);
  }
}

TEST_CASE("property: lost connections and answers: every message is acked in the end") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    QueueRig rig(seed, {.visibility_ms = 5'000, .in_flight_max = 16});
    rig.network.shards = 3;
    rig.network.add_topic("t", 5);
    rig.network.faults = {.refuse_connect = 50, .lose_before = 20, .lose_after = 20};
    for (uint32_t i = 0; i < 5; ++i) {
      rig.fill(i, 20);
    }
    std::set<std::pair<uint32_t, uint64_t>> acked;
    const bool done = rig.run_until(
        [&] {
          auto state = rig.engine->next(0);
          REQUIRE(state.ok());
          if (*state != nullptr) {
            QueueMessage message = client::QueueMessageState::give(std::move(*state));
            const std::pair place(message.partition(), message.offset());
            message.ack([&acked, place](const client::Status& status) {
              if (status.ok()) {
                acked.insert(place);
              }
            });
          }
          return acked.size() == 100;
        },
        600'000);
    CHECK_MESSAGE(done, "seed ", seed);
    for (uint32_t i = 0; i < 5; ++i) {
      for (uint64_t offset = 0; offset < 20; ++offset) {
        CHECK(rig.queued(i, offset).settled);
      }
    }
    CHECK(rig.network.violations.empty());
  }
}

TEST_CASE("idle shards do not hold the budget, and few messages are shared by many shards") {
  QueueRig rig(17, {.in_flight_max = 64});
  rig.network.shards = 4;
  rig.network.add_topic("t", 4);
  rig.run_for(2'000);  // all are idle now
  rig.fill(2, 200);
  auto messages = rig.receive_all(61);  // three others ask for one each
  CHECK(messages.back().partition() == 2);

  QueueRig narrow(18, {.in_flight_max = 1, .receive_wait_ms = 10'000});
  narrow.network.shards = 4;
  narrow.network.add_topic("t", 4);
  narrow.run_for(2'000);
  narrow.fill(3, 1);
  const int64_t from = narrow.clock.monotonic().ns;
  REQUIRE(narrow.receive().has_value());
  CHECK(narrow.clock.monotonic().ns - from <= 1'000 * kNsPerMs);
}

}  // namespace
}  // namespace tidemark::client_core
