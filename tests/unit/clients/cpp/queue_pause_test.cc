// Queue consumers that pause, stop, extend and are refused, against a scripted broker.
#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/queue_engine.h"
#include "tests/unit/clients/cpp/queue_rig.h"

namespace tidemark::client_core {
namespace {

using client::QueueMessage;
using testing::FakeReceive;
using testing::FakeSettle;
using testing::Outcome;
using testing::QueueRig;
using Action = protocol::fbs::QueueAction;

TEST_CASE("pause: nothing comes until resume; what was leased ahead waits as long as its leases") {
  QueueRig rig(19, {.visibility_ms = 4'000, .in_flight_max = 4});
  rig.network.add_topic("t", 1);
  rig.fill(0, 10);
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 4; }, 5'000));
  rig.engine->pause(true);
  CHECK(!rig.receive(1'000).has_value());
  CHECK(rig.engine->in_flight() == 4);
  const size_t asked = rig.network.receives.size();
  rig.engine->pause(false);
  auto message = rig.receive();
  REQUIRE(message.has_value());
  CHECK(message->offset() == 0);
  CHECK(message->deliveries() == 1);
  rig.engine->pause(true);
  rig.run_for(5'000);  // leases ahead are over
  CHECK(rig.engine->in_flight() == 1);
  CHECK(rig.network.receives.size() == asked);
  rig.engine->pause(false);
  message = rig.receive();
  REQUIRE(message.has_value());
  CHECK(rig.network.receives.size() > asked);
}

TEST_CASE("a lease ahead that is over is not given out") {
  QueueRig rig(20, {.visibility_ms = 2'000, .in_flight_max = 2});
  rig.network.add_topic("t", 1);
  rig.fill(0, 2);
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 2; }, 5'000));
  rig.clock.advance_ms(2'000);
  const auto late = rig.engine->next(0);
  REQUIRE(late.ok());
  CHECK(*late == nullptr);
  auto message = rig.receive();
  REQUIRE(message.has_value());
  CHECK(message->deliveries() == 2);
}

TEST_CASE("stop gives back what was leased ahead and what still comes; taken ones can be settled") {
  QueueRig rig(21, {.in_flight_max = 4});
  rig.network.shards = 2;
  rig.network.add_topic("t", 2);
  rig.fill(0, 10);
  auto taken = rig.receive();
  REQUIRE(taken.has_value());
  rig.run_for(100);
  const size_t ahead = rig.engine->in_flight() - 1;
  REQUIRE(ahead >= 1);
  rig.engine->stop();
  CHECK(rig.engine->next(0).error().to_string() == "shutting down: the consumer is closed");
  CHECK(!rig.engine->drained());
  rig.fill(1, 1);  // for the request that is under way
  Outcome acked;
  taken->ack(acked.callback());
  REQUIRE(rig.run_until([&] { return rig.engine->drained(); }, 5'000));
  REQUIRE(rig.answered(acked));
  CHECK(acked.code() == client::ErrorCode::kOk);
  // Nobody saw them: that is no failed delivery (they were nacked, and with a single delivery
  // allowed a consumer that was stopped turned them into dead letters).
  size_t released = 0;
  for (const auto& request : rig.network.settles) {
    for (const FakeSettle& item : request) {
      CHECK(item.action != Action::kNack);
      released += item.action == Action::kRelease ? 1 : 0;
    }
  }
  CHECK(released == ahead + 1);
  CHECK(rig.network.leased() == 0);
  CHECK(rig.engine->in_flight() == 0);
  const size_t asked = rig.network.receives.size();
  rig.run_for(2'000);
  CHECK(rig.network.receives.size() == asked);
}

// Found by killing a broker: what was leased ahead was shown although another consumer, who got it
// from the broker that came back, had acked it.
TEST_CASE(
    "what was leased ahead is given back when the connection is lost, what was taken is not") {
  QueueRig rig(23, {.in_flight_max = 4});
  rig.network.add_topic("t", 1);
  rig.fill(0, 4);
  auto taken = rig.receive();
  REQUIRE(taken.has_value());
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 4; }, 1'000));
  rig.engine->pause(true);
  rig.network.cut_all();
  REQUIRE(rig.run_until([&] { return rig.engine->in_flight() == 1; }, 10'000));
  CHECK(*rig.engine->next(0) == nullptr);
  CHECK(rig.network.leased() == 1);
  for (const auto& request : rig.network.settles) {
    for (const FakeSettle& item : request) {
      CHECK(item.action == Action::kRelease);
    }
  }
  Outcome acked;
  taken->ack(acked.callback());
  REQUIRE(rig.answered(acked));
  CHECK(acked.code() == client::ErrorCode::kOk);
  rig.engine->pause(false);
  auto again = rig.receive();
  REQUIRE(again.has_value());
  CHECK(again->deliveries() == 1);
}

TEST_CASE("close: what was not answered and what comes later is told kShuttingDown") {
  QueueRig rig(22);
  rig.network.add_topic("t", 1);
  rig.fill(0, 3);
  auto messages = rig.receive_all(3);
  rig.network.reachable = false;
  rig.network.cut_all();
  Outcome queued;
  messages[0].ack(queued.callback());
  rig.run_for(100);
  CHECK(!queued.given());
  rig.engine->stop();
  rig.engine->close();
  REQUIRE(rig.answered(queued));
  CHECK(queued.text() == "shutting down: the consumer is closed");
  Outcome late;
  messages[1].ack(late.callback());
  REQUIRE(rig.answered(late));
  CHECK(late.code() == client::ErrorCode::kShuttingDown);
  CHECK(rig.engine->in_flight() == 0);
  CHECK(messages[2].lease_left_ms() == 0);
  rig.components.clear();
  rig.engine.reset();
  Outcome orphan;
  messages[2].ack(orphan.callback());
  REQUIRE(orphan.given());
  CHECK(orphan.text() == "shutting down: the consumer is closed");
}

TEST_CASE("callbacks are posted, never run inside a call or an answer") {
  QueueRig rig(23);
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  auto message = rig.receive();
  Outcome outcome;
  Outcome again;
  message->ack(outcome.callback());
  message->ack(again.callback());
  CHECK(!again.given());
  CHECK(rig.posted.size() == 1);
  rig.turn();
  CHECK(again.given());
  CHECK(!outcome.given());
  while (rig.network.step()) {
  }
  CHECK(!outcome.given());
  CHECK(rig.posted.size() == 1);
  rig.turn();
  CHECK(outcome.given());
}

TEST_CASE("leases that the program has are extended by themselves, up to the bound") {
  QueueRig rig(24, {.visibility_ms = 10'000, .auto_extend_ms = 35'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  auto message = rig.receive();
  REQUIRE(message.has_value());
  for (int i = 0; i < 33; ++i) {
    rig.run_for(1'000);
    CHECK(message->lease_left_ms() > 0);
  }
  CHECK(rig.queued(0, 0).token != 0);
  CHECK(rig.queued(0, 0).failures == 0);
  for (const auto& request : rig.network.settles) {
    CHECK(request[0].action == Action::kExtend);
    CHECK(request[0].delay_ms <= 10'000);
  }
  const size_t extended = rig.network.settles.size();
  CHECK(extended >= 3);
  CHECK(extended <= 10);
  rig.run_for(10'000);
  CHECK(message->lease_left_ms() == 0);
  CHECK(rig.queued(0, 0).failures == 1);  // it is over, and came again
}

TEST_CASE("messages leased ahead are not extended, nor those that are settled or lost") {
  QueueRig rig(25, {.visibility_ms = 4'000, .in_flight_max = 3, .auto_extend_ms = 60'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 3);
  auto first = rig.receive();
  auto second = rig.receive();
  REQUIRE(second.has_value());
  size_t extensions = 0;
  rig.network.on_settle = [&](const FakeSettle& item) {
    extensions += item.action == Action::kExtend ? 1 : 0;
    CHECK((item.action != Action::kExtend || item.offset == 1));
    return item.action == Action::kExtend ? ErrorCode::kFenced : ErrorCode::kOk;
  };
  first->ack();
  rig.run_for(3'500);
  CHECK(extensions == 1);  // and not again
  CHECK(second->lease_left_ms() == 0);
  rig.run_for(1'000);
  CHECK(extensions == 1);
}

TEST_CASE("extend: the lease ends later; an extension that fails is told") {
  QueueRig rig(26, {.visibility_ms = 5'000});
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  auto message = rig.receive();
  REQUIRE(message.has_value());
  Outcome outcome;
  message->extend(60'000, outcome.callback());
  REQUIRE(rig.answered(outcome));
  CHECK(outcome.code() == client::ErrorCode::kOk);
  CHECK(message->lease_left_ms() > 59'000);
  CHECK(message->lease_left_ms() <= 60'000);
  CHECK(rig.network.settles[0][0].delay_ms == 60'000);
  Outcome shortest;
  message->extend(-1, shortest.callback());
  REQUIRE(rig.answered(shortest));
  CHECK(rig.network.settles[1][0].delay_ms == 1'000);
  rig.network.on_settle = [](const FakeSettle&) { return ErrorCode::kNotFound; };
  Outcome lost;
  message->extend(10'000, lost.callback());
  REQUIRE(rig.answered(lost));
  CHECK(lost.code() == client::ErrorCode::kNotFound);
  CHECK(message->lease_left_ms() == 0);
}

TEST_CASE("another filter in the group: told for each refusal, and over when the others are gone") {
  QueueRig rig(27, {.filter = "b = 2"});
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  rig.network.on_queue_part = [](uint32_t) {
    return Status(ErrorCode::kConflict, "others have the filter \"a = 1\"");
  };
  CHECK(!rig.receive(1'000).has_value());  // ended by the error
  REQUIRE(rig.run_until(
      [&] {
        const auto state = rig.engine->next(0);
        return !state.ok() &&
               state.error().to_string() ==
                   "conflict: topic \"t\" partition 0: others have the filter \"a = 1\"";
      },
      5'000));
  CHECK(rig.engine->next(0).ok());  // until it is refused again
  rig.network.on_queue_part = nullptr;
  CHECK(rig.receive().has_value());
  CHECK(rig.engine->last_error().ok());
}

TEST_CASE("a filter that the broker does not understand is an error for good") {
  for (const bool whole : {false, true}) {
    QueueRig rig(28, {.filter = "((("});
    rig.network.add_topic("t", 1);
    if (whole) {
      rig.network.on_request = [](protocol::FrameType type) {
        return type == protocol::FrameType::kQueueReceive
                   ? Status(ErrorCode::kInvalidArgument, "filter: unexpected end")
                   : Status();
      };
    } else {
      rig.network.on_queue_part = [](uint32_t) {
        return Status(ErrorCode::kInvalidArgument, "filter: unexpected end");
      };
    }
    CHECK(!rig.receive(1'000).has_value());
    for (int i = 0; i < 2; ++i) {
      const auto state = rig.engine->next(0);
      REQUIRE(!state.ok());
      CHECK(state.error().code() == ErrorCode::kInvalidArgument);
      CHECK(state.error().to_string().find("filter: unexpected end") != std::string::npos);
    }
    CHECK(rig.engine->last_error().code() == ErrorCode::kInvalidArgument);
    const size_t asked = rig.network.receives.size();
    rig.run_for(5'000);
    CHECK(rig.network.receives.size() == asked);
  }
}

TEST_CASE("a refused request is asked again after a pause") {
  QueueRig rig(29);
  rig.network.add_topic("t", 1);
  rig.fill(0, 1);
  size_t refused = 0;
  rig.network.on_request = [&](protocol::FrameType type) {
    if (type != protocol::FrameType::kQueueReceive) {
      return Status();
    }
    ++refused;
    return Status(ErrorCode::kOverloaded, "too many receivers");
  };
  rig.run_for(5'000);
  CHECK(refused >= 5);
  CHECK(refused <= 20);
  CHECK(rig.engine->last_error().code() == ErrorCode::kOverloaded);
  CHECK(rig.engine->next(0).ok());
  rig.network.on_request = nullptr;
  CHECK(rig.receive().has_value());
}

TEST_CASE("a short visibility time shortens how long the broker may hold a request") {
  QueueRig rig(30, {.visibility_ms = 1'000, .receive_wait_ms = 60'000});
  rig.network.add_topic("t", 1);
  rig.run_for(1'000);
  CHECK(rig.network.receives.front().wait_ms == 250);
}

TEST_CASE("all partitions of a shard are in one request, at most 256") {
  QueueRig rig(31);
  rig.network.shards = 2;
  rig.network.add_topic("t", 600);
  rig.run_for(5'000);
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (const FakeReceive& each : rig.network.receives) {
    CHECK(each.parts.size() == 256);
    seen.insert(each.parts.begin(), each.parts.end());
  }
  CHECK(seen.size() == 600);  // they take turns
}

// The I/O thread is this one; handlers take and settle at the same time.
TEST_CASE("several threads take and settle; each message goes to one of them") {
  QueueRig rig(32, {.in_flight_max = 32, .receive_wait_ms = 0});
  std::mutex mutex;
  std::vector<std::function<void()>> calls;
  auto engine = std::make_shared<QueueEngine>(
      QueueEngineOptions{.group = "g", .topics = {"t"}, .in_flight_max = 32},
      QueueEngineHooks{.wake = [] {},
                       .post =
                           [&](std::function<void()> call) {
                             const std::lock_guard lock(mutex);
                             calls.push_back(std::move(call));
                           }},
      rig.cluster, 5);
  rig.components = {engine.get()};
  rig.network.add_topic("t", 4);
  for (uint32_t i = 0; i < 4; ++i) {
    rig.fill(i, 100);
  }
  std::vector<std::set<std::pair<uint32_t, uint64_t>>> taken(4);
  std::vector<std::thread> threads;
  for (auto& mine : taken) {
    threads.emplace_back([&engine, &mine] {
      while (true) {
        auto state = engine->next(60'000);
        if (!state.ok()) {
          return;
        }
        if (*state != nullptr) {
          QueueMessage message = client::QueueMessageState::give(std::move(*state));
          mine.emplace(message.partition(), message.offset());
          message.ack([](const client::Status& status) { CHECK(status.ok()); });
        }
      }
    });
  }
  const auto all_settled = [&] {
    size_t settled = 0;
    for (const auto& [place, messages] : rig.network.queues) {
      for (const auto& [offset, message] : messages) {
        settled += message.settled ? 1 : 0;
      }
    }
    return settled == 400 && engine->in_flight() == 0;
  };
  while (!all_settled()) {
    rig.turn();  // the clock stands still: only what was asked for happens
    while (rig.network.step()) {
    }
    std::this_thread::yield();
  }
  engine->stop();
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::set<std::pair<uint32_t, uint64_t>> all;
  size_t sum = 0;
  for (const auto& mine : taken) {
    sum += mine.size();
    all.insert(mine.begin(), mine.end());
  }
  CHECK(sum == 400);
  CHECK(all.size() == 400);
  for (const auto& call : calls) {
    call();
  }
}

}  // namespace
}  // namespace tidemark::client_core
