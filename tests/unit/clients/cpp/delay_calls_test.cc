// Cancel, reschedule, list, show and statistics against a scripted broker, in one thread.
#include "clients/cpp/src/delay_calls.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/producer_rig.h"
#include "tidemark/tidemark.h"

namespace tidemark::client_core {
namespace {

using client::Delay;
using client::DelayHandle;
using client::DelayOutcome;
using client::DelayTarget;
using testing::Rig;
using testing::RigAsker;

constexpr uint32_t kPartitions = 5;

// A topic with `count` pending messages, spread over its partitions; due after 1, 2, 3 ... seconds.
std::vector<DelayHandle> schedule(Rig& rig, uint64_t count, const std::string& topic = "t") {
  if (!rig.network.has_topic(topic)) {
    rig.network.add_topic(topic, kPartitions);
  }
  std::vector<DelayHandle> handles(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::string value = std::to_string(i);
    const auto take = [&handles, i](const client::Delivery& delivery) {
      handles[i] = delivery.handle;
    };
    REQUIRE(rig.send(topic,
                     {.value = value,
                      .partition = static_cast<uint32_t>(i % kPartitions),
                      .delay = Delay::after(static_cast<int64_t>(i + 1) * 1'000)},
                     i, take)
                .ok());
  }
  REQUIRE(rig.drain());
  for (const DelayHandle& handle : handles) {
    REQUIRE(!handle.empty());
  }
  rig.reports.clear();
  return handles;
}

size_t pending_of(Rig& rig, const std::string& topic = "t") {
  size_t count = 0;
  for (const auto& partition : rig.network.topic(topic).partitions) {
    count += partition.pending.size();
  }
  return count;
}

std::vector<DelayTarget> targets_of(const std::vector<DelayHandle>& handles) {
  std::vector<DelayTarget> targets;
  for (const DelayHandle& handle : handles) {
    targets.push_back(DelayTarget::of(handle));
  }
  return targets;
}

TEST_CASE("cancel: each target has its own answer, in order") {
  Rig rig(1);
  const auto handles = schedule(rig, 10);
  REQUIRE(rig.send("t", {.value = "k", .delay = Delay::after(1'000).with_key("order-17")}, 0).ok());
  REQUIRE(rig.drain());
  auto& first = rig.network.topic("t").partitions[0];
  first.delivered.insert(handles[0].id);
  std::erase_if(first.pending, [&](const auto& each) { return each.id == handles[0].id; });
  DelayHandle other_topic = handles[3];
  other_topic.topic += 1;
  DelayHandle wrong_tag = handles[3];
  wrong_tag.tag += 1;

  RigAsker asker(rig);
  const auto changes = cancel_delayed(
      asker, "t",
      {DelayTarget::of(handles[1]), DelayTarget::of(handles[0]), DelayTarget::of(other_topic),
       DelayTarget::of_key("order-17"), DelayTarget::of_key("nothing"), DelayTarget{},
       DelayTarget::of_key("x", kPartitions), DelayTarget::of_key(std::string(256, 'x')),
       DelayTarget::of(wrong_tag), DelayTarget::of(handles[2])});
  REQUIRE_MESSAGE(changes.ok(), changes.error().to_string());
  REQUIRE(changes->size() == 10);
  const auto outcome = [&](size_t i) {
    REQUIRE_MESSAGE((*changes)[i].status.ok(), (*changes)[i].status.to_string());
    return (*changes)[i].outcome;
  };
  CHECK(outcome(0) == DelayOutcome::kCancelled);
  CHECK(outcome(1) == DelayOutcome::kAlreadyDelivered);
  CHECK(outcome(3) == DelayOutcome::kCancelled);
  CHECK(outcome(4) == DelayOutcome::kNotFound);
  CHECK(outcome(8) == DelayOutcome::kNotFound);
  CHECK(outcome(9) == DelayOutcome::kCancelled);
  for (const size_t i : {2u, 5u, 6u, 7u}) {
    CHECK((*changes)[i].status.code() == client::ErrorCode::kInvalidArgument);
  }
  CHECK(pending_of(rig) == 7);
  CHECK(rig.network.violations.empty());
  CHECK(asker.pauses == 0);
}

TEST_CASE("cancel by key in the partition where it was sent") {
  Rig rig(2);
  schedule(rig, 1);
  for (const uint32_t partition : {0u, 4u}) {
    REQUIRE(rig.send("t",
                     {.value = "k",
                      .partition = partition,
                      .delay = Delay::after(1'000).with_key("same")},
                     partition)
                .ok());
  }
  REQUIRE(rig.drain());
  RigAsker asker(rig);
  const auto changes = cancel_delayed(asker, "t", {DelayTarget::of_key("same", 4)});
  REQUIRE(changes.ok());
  CHECK(changes->front().outcome == DelayOutcome::kCancelled);
  CHECK(rig.network.topic("t").partitions[4].pending.empty());
  CHECK(rig.network.topic("t").partitions[0].pending.size() == 2);
}

TEST_CASE("many targets travel in requests of 1,024") {
  Rig rig(3);
  const auto handles = schedule(rig, 6'000);
  RigAsker asker(rig);
  const auto changes = cancel_delayed(asker, "t", targets_of(handles));
  REQUIRE(changes.ok());
  CHECK(std::all_of(changes->begin(), changes->end(), [](const client::DelayChange& each) {
    return each.status.ok() && each.outcome == DelayOutcome::kCancelled;
  }));
  CHECK(pending_of(rig) == 0);
  CHECK(rig.network.delay_refs_max == kDelayRefsPerRequestMax);
  CHECK(rig.network.delay_requests == 4 + 3);  // 3,600 at one shard, 2,400 at the other
}

TEST_CASE("reschedule: the receipt names the message from now on") {
  Rig rig(4);
  const auto handles = schedule(rig, 3);
  RigAsker asker(rig);
  const int64_t due = rig.clock.wall().ms + 500'000;
  const auto changes =
      reschedule_delayed(asker, "t", targets_of(handles), Delay::at(due), rig.clock.wall().ms);
  REQUIRE(changes.ok());
  std::vector<DelayHandle> fresh;
  for (const client::DelayChange& change : *changes) {
    REQUIRE(change.status.ok());
    CHECK(change.outcome == DelayOutcome::kRescheduled);
    CHECK(change.receipt.due_ms == due);
    fresh.push_back(change.receipt.handle);
  }
  const auto old = cancel_delayed(asker, "t", targets_of(handles));
  const auto now = cancel_delayed(asker, "t", targets_of(fresh));
  for (size_t i = 0; i < 3; ++i) {
    CHECK((*old)[i].outcome == DelayOutcome::kNotFound);
    CHECK((*now)[i].outcome == DelayOutcome::kCancelled);
  }
  for (const Delay& wrong : {Delay::every(5'000), Delay::cron("* * * * * *"), Delay::after(-1),
                             Delay::after(5).with_key("k")}) {
    CHECK(reschedule_delayed(asker, "t", targets_of(handles), wrong, rig.clock.wall().ms)
              .status()
              .code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("a connection that breaks after the request: outcome unknown, and not asked again") {
  Rig rig(5);
  const auto handles = schedule(rig, 1);
  rig.network.on_request = [&](protocol::FrameType type) {
    if (type == protocol::FrameType::kDelayCancel) {
      rig.network.faults.lose_after = 1'000;
    }
    return Status();
  };
  RigAsker asker(rig);
  const auto changes = cancel_delayed(asker, "t", targets_of(handles));
  REQUIRE(changes.ok());
  CHECK(changes->front().status.code() == client::ErrorCode::kOutcomeUnknown);
  CHECK(client::outcome_unknown(changes->front().status.code()));
  CHECK(rig.network.delay_requests == 1);
  CHECK(pending_of(rig) == 0);
}

TEST_CASE("what is refused for now is asked for again until it is done or time is over") {
  Rig rig(6);
  const auto handles = schedule(rig, 4);
  int refusals = 5;
  rig.network.on_delay_ref = [&] {
    return refusals-- > 0 ? Status(ErrorCode::kOverloaded, "full") : Status();
  };
  RigAsker asker(rig);
  auto changes = cancel_delayed(asker, "t", targets_of(handles));
  REQUIRE(changes.ok());
  for (const client::DelayChange& change : *changes) {
    CHECK(change.status.ok());
    CHECK(change.outcome == DelayOutcome::kCancelled);
  }
  CHECK(asker.pauses > 0);

  // Not done in time: the whole call fails if that is so of all, else each one says so.
  rig.network.on_delay_ref = [] { return Status(ErrorCode::kOverloaded, "full"); };
  RigAsker short_asker(rig, 500);
  CHECK(cancel_delayed(short_asker, "t", targets_of(handles)).status().code() ==
        ErrorCode::kOverloaded);
  RigAsker third(rig, 500);
  changes = cancel_delayed(third, "t", {DelayTarget::of(handles[0]), DelayTarget{}});
  REQUIRE(changes.ok());
  CHECK((*changes)[0].status.code() == client::ErrorCode::kOverloaded);
  CHECK((*changes)[1].status.code() == client::ErrorCode::kInvalidArgument);

  rig.network.on_delay_ref = [] { return Status(ErrorCode::kReadOnly, "broken"); };
  RigAsker last(rig);
  changes = cancel_delayed(last, "t", targets_of(handles));
  REQUIRE(changes.ok());
  CHECK((*changes)[0].status.code() == client::ErrorCode::kReadOnly);
  CHECK(last.pauses == 0);
}

TEST_CASE("calls about an unknown topic, or without a broker, fail as a whole") {
  Rig rig(7);
  const auto handles = schedule(rig, 1);
  RigAsker asker(rig);
  CHECK(cancel_delayed(asker, "u", targets_of(handles)).status().code() ==
        ErrorCode::kUnknownTopic);
  CHECK(list_delayed(asker, "u", {}).status().code() == ErrorCode::kUnknownTopic);
  CHECK(show_delayed(asker, "u", DelayTarget::of(handles[0])).status().code() ==
        ErrorCode::kUnknownTopic);
  CHECK(delay_stats(asker, "u").status().code() == ErrorCode::kUnknownTopic);
  rig.network.reachable = false;
  rig.network.cut_all();
  RigAsker short_asker(rig, 300);
  CHECK(cancel_delayed(short_asker, "t", targets_of(handles)).status().code() ==
        ErrorCode::kUnavailable);
  CHECK(pending_of(rig) == 1);
}

TEST_CASE("list: merged over shards, in pages of any size, nothing twice and nothing missing") {
  Rig rig(8);
  const auto handles = schedule(rig, 200);
  // Equal times and equal ids on both shards.
  auto& partitions = rig.network.topic("t").partitions;
  for (auto& partition : partitions) {
    for (size_t i = 0; i < partition.pending.size(); ++i) {
      partition.pending[i].due_ms -= partition.pending[i].due_ms % 7'000;
    }
  }
  RigAsker asker(rig);
  const auto order = [](const client::DelayedMessage& a, const client::DelayedMessage& b) {
    return std::tuple(a.due_ms, a.handle.id, a.handle.shard) <
           std::tuple(b.due_ms, b.handle.id, b.handle.shard);
  };
  for (const uint32_t limit : {1u, 7u, 100u, 200u, 10'000u}) {
    for (const uint32_t page : {1u, 3u, 1'000u}) {
      CAPTURE(limit);
      CAPTURE(page);
      rig.network.delay_page_max = page;
      std::vector<client::DelayedMessage> all;
      client::DelayQuery query{.limit = limit};
      while (true) {
        const auto some = list_delayed(asker, "t", query);
        REQUIRE_MESSAGE(some.ok(), some.error().to_string());
        REQUIRE(some->size() <= limit);
        if (some->empty()) {
          break;
        }
        all.insert(all.end(), some->begin(), some->end());
        query.after = all.back().handle;
      }
      CHECK(all.size() == 200);
      CHECK(std::adjacent_find(all.begin(), all.end(), [&](const auto& a, const auto& b) {
              return !order(a, b);
            }) == all.end());
    }
  }
  CHECK(rig.network.violations.empty());
}

TEST_CASE("list: bounds, partition, key; what it tells of a message") {
  Rig rig(9);
  schedule(rig, 50);
  const int64_t now = rig.clock.wall().ms;
  REQUIRE(rig.send("t",
                   {.value = "v",
                    .delay = Delay::cron("0 0 9 * * *", "Europe/Paris").with_key("daily")},
                   0)
              .ok());
  REQUIRE(rig.drain());
  RigAsker asker(rig);
  auto listed = list_delayed(asker, "t", {.partition = 2});
  REQUIRE(listed.ok());
  CHECK(listed->size() >= 10);
  for (const auto& message : *listed) {
    CHECK(message.partition == 2);
  }
  const int64_t from = now + 20'000;
  const int64_t to = now + 30'000;
  listed = list_delayed(asker, "t", {.due_from_ms = from, .due_to_ms = to});
  REQUIRE(listed.ok());
  CHECK(!listed->empty());
  for (const auto& message : *listed) {
    CHECK(message.due_ms >= from);
    CHECK(message.due_ms <= to);
  }
  // Both bounds are included.
  const int64_t exact = listed->front().due_ms;
  CHECK(list_delayed(asker, "t", {.due_from_ms = exact, .due_to_ms = exact})->size() == 1);

  listed = list_delayed(asker, "t", {.key = "daily"});
  REQUIRE(listed.ok());
  REQUIRE(listed->size() == 1);
  CHECK(listed->front().key == "daily");
  CHECK(listed->front().cron == "0 0 9 * * *");
  CHECK(listed->front().zone == "Europe/Paris");
  CHECK(listed->front().bytes > 60);
  CHECK(!listed->front().message_value);
  CHECK(list_delayed(asker, "t", {.key = "daily", .after = listed->front().handle})->empty());
  CHECK(list_delayed(asker, "t", {.due_to_ms = 5, .key = "daily"})->empty());
  CHECK(list_delayed(asker, "t", {.key = "weekly"})->empty());
  for (const client::DelayQuery& wrong :
       {client::DelayQuery{.limit = 0}, client::DelayQuery{.limit = 10'001},
        client::DelayQuery{.partition = kPartitions}}) {
    CHECK(list_delayed(asker, "t", wrong).status().code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("reads are asked again when a connection breaks") {
  Rig rig(10);
  schedule(rig, 20);
  rig.network.faults = {.lose_before = 150, .lose_after = 150};
  rig.network.delay_page_max = 5;
  for (int i = 0; i < 20; ++i) {
    RigAsker asker(rig, 60'000);
    const auto listed = list_delayed(asker, "t", {});
    REQUIRE_MESSAGE(listed.ok(), listed.error().to_string());
    CHECK(listed->size() == 20);
  }
}

TEST_CASE("show: the message with its content, or why there is none") {
  Rig rig(11);
  const auto handles = schedule(rig, 2);
  const std::vector<client::Header> headers = {{"h", "x"}, {"null", std::nullopt}};
  REQUIRE(rig.send("t",
                   {.key = "mk",
                    .value = "content",
                    .headers = headers,
                    .delay = Delay::every(60'000).with_key("dk")},
                   0)
              .ok());
  REQUIRE(rig.drain());
  RigAsker asker(rig);
  auto shown = show_delayed(asker, "t", DelayTarget::of_key("dk"));
  REQUIRE_MESSAGE(shown.ok(), shown.error().to_string());
  CHECK(shown->key == "dk");
  CHECK(shown->every_ms == 60'000);
  CHECK(shown->message_key == "mk");
  CHECK(shown->message_value == "content");
  REQUIRE(shown->headers.size() == 2);
  CHECK(shown->headers[0].second == "x");
  CHECK(!shown->headers[1].second);
  CHECK(shown->handle == rig.reports.at(0).handle);
  shown = show_delayed(asker, "t", DelayTarget::of(handles[1]));
  REQUIRE(shown.ok());
  CHECK(shown->message_value == "1");
  CHECK(!shown->message_key);

  auto& partition = rig.network.topic("t").partitions[1];
  partition.pending.clear();
  CHECK(show_delayed(asker, "t", DelayTarget::of(handles[1])).error().to_string() ==
        "not found: no such message is pending");
  partition.delivered.insert(handles[1].id);
  CHECK(show_delayed(asker, "t", DelayTarget::of(handles[1])).error().to_string() ==
        "not found: the message was delivered already");
  CHECK(show_delayed(asker, "t", {}).status().code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("stats are summed over shards; of one topic or of all that have something pending") {
  Rig rig(12);
  schedule(rig, 300, "b");
  schedule(rig, 10, "a");
  rig.network.add_topic("idle", 3);
  RigAsker asker(rig);
  auto stats = delay_stats(asker, "b");
  REQUIRE(stats.ok());
  REQUIRE(stats->size() == 1);
  CHECK(stats->front().topic == "b");
  CHECK(stats->front().pending == 300);
  CHECK(stats->front().bytes > 300 * 60);
  CHECK(stats->front().now_ms > 0);
  uint64_t in_buckets = 0;
  int64_t last = -1;
  for (const auto& [from, count] : stats->front().buckets) {
    CHECK(from > last);
    last = from;
    in_buckets += count;
  }
  CHECK(in_buckets == 300);
  CHECK(stats->front().buckets.size() >= 5);
  CHECK(stats->front().buckets.size() <= 6);

  stats = delay_stats(asker, "idle");
  REQUIRE(stats.ok());
  REQUIRE(stats->size() == 1);
  CHECK(stats->front().pending == 0);
  stats = delay_stats(asker, {});
  REQUIRE(stats.ok());
  REQUIRE(stats->size() == 2);
  CHECK((*stats)[0].topic == "a");
  CHECK((*stats)[0].pending == 10);
  CHECK((*stats)[1].topic == "b");
  CHECK((*stats)[1].pending == 300);
}

TEST_CASE("topic settings for delayed messages are read as they are on the wire") {
  namespace fbs = protocol::fbs;
  flatbuffers::FlatBufferBuilder builder;
  const auto late = builder.CreateString("late");
  const auto config =
      fbs::CreateTopicConfig(builder, 1, 2, 3, 4, fbs::LatePolicy::kDeadLetter, 5, late);
  const auto name = builder.CreateString("t");
  builder.Finish(fbs::CreateTopicInfo(builder, 0, name, 9, 8, config));
  const auto topic = describe(*flatbuffers::GetRoot<fbs::TopicInfo>(builder.GetBufferPointer()));
  CHECK(topic.config.delay_pending_max == 3);
  CHECK(topic.config.delay_bytes_max == 4);
  CHECK(topic.config.late_policy == client::LatePolicy::kDeadLetter);
  CHECK(topic.config.late_max_ms == 5);
  CHECK(topic.config.late_topic == "late");
}

TEST_CASE("no broker: Delays ends at its deadline with the reason") {
  auto client =
      client::Client::create({.brokers = {"127.0.0.1:1"}, .reconnect_backoff_max_ms = 100});
  REQUIRE(client.ok());
  auto delays = client::Delays::create(*client);
  REQUIRE(delays.ok());
  const auto stats = delays->stats({}, 100);
  CHECK(stats.status().code() == client::ErrorCode::kUnavailable);
  CHECK(stats.status().to_string().find("127.0.0.1:1") != std::string::npos);
  CHECK(delays->cancel("t", {}, 50).status().code() == client::ErrorCode::kUnavailable);
  CHECK(delays->reschedule("t", {}, Delay::every(5'000), 50).status().code() ==
        client::ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tidemark::client_core
