// Queues as an operator sees them, against a scripted broker.
#include "clients/cpp/src/queue_calls.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/group_calls.h"
#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/core_rig.h"

namespace tidemark::client_core {
namespace {

using client::OffsetRange;
using testing::CoreRig;
using testing::FakeSettle;
using testing::RigAsker;

void fill(CoreRig& rig, const std::string& topic, uint32_t partition, size_t count) {
  const std::vector<std::string> values(count, "v");
  REQUIRE(rig.network.topic(topic)
              .partitions[partition]
              .append(testing::build_batch(values).view())
              .error == ErrorCode::kOk);
}

TEST_CASE("describe gathers the queues of all shards, by topic and partition") {
  CoreRig rig(1);
  rig.network.shards = 3;
  for (const char* name : {"b", "a"}) {
    rig.network.add_topic(name, 3);
    for (uint32_t i = 0; i < 3; ++i) {
      fill(rig, name, i, 10);
      rig.network.queues[{rig.network.topic(name).id, i}][0].settled = true;
    }
  }
  RigAsker asker(rig);
  const auto queues = describe_queues(asker, "g");
  REQUIRE(queues.ok());
  REQUIRE(queues->size() == 6);
  CHECK((*queues)[0].topic == "a");
  CHECK((*queues)[5].topic == "b");
  CHECK((*queues)[5].partition == 2);
  CHECK((*queues)[5].shard == 2);
  const client::QueuePartitionInfo& first = queues->front();
  CHECK(first.partition == 0);
  CHECK(first.floor == 3);
  CHECK(first.end_offset == 10);
  CHECK(first.unsettled == 9);
  CHECK(first.leased == 4);
  CHECK(first.retrying == 5);
  CHECK(first.receivers == 6);
  CHECK(first.acked == 1);
  CHECK(first.failed == 7);
  CHECK(first.dead_lettered == 8);
  CHECK(first.expired == 9);
  CHECK(first.filtered == 10);
  CHECK(first.oldest_unsettled_ms == 1234);
  CHECK((*queues)[1].oldest_unsettled_ms == std::nullopt);

  rig.network.queues.clear();
  const auto none = describe_queues(asker, "g");
  REQUIRE(none.ok());
  CHECK(none->empty());
}

TEST_CASE("ack: one outcome per range, at the shard of the partition, in requests of 1024") {
  CoreRig rig(2);
  rig.network.add_topic("t", 2);
  fill(rig, "t", 1, 3'000);
  auto& messages = rig.network.queues[{rig.network.topic("t").id, 1}];
  messages[7].token = 99;
  messages[7].leased_until = {rig.clock.monotonic().ns + 3'600'000 * kNsPerMs};
  RigAsker asker(rig);
  auto acked = ack_ranges(asker, "g", "t", 1, {{.first = 0, .count = 5}, {.first = 6, .count = 3}});
  REQUIRE(acked.ok());
  REQUIRE(acked->size() == 2);
  CHECK((*acked)[0].ok());
  CHECK((*acked)[1].to_string() ==
        "fenced by a newer epoch: topic \"t\" partition 1 offsets 6 to 8");
  const FakeSettle& item = rig.network.settles[0][0];
  CHECK(item.token == 0);
  CHECK(item.count == 5);
  CHECK(messages[4].settled);

  const std::vector<OffsetRange> many(1'500, OffsetRange{.first = 10, .count = 1});
  rig.network.settles.clear();
  acked = ack_ranges(asker, "g", "t", 1, many);
  REQUIRE(acked.ok());
  CHECK(acked->size() == 1'500);
  REQUIRE(rig.network.settles.size() == 2);
  CHECK(rig.network.settles[0].size() == 1'024);
}

TEST_CASE("ack: what may pass is asked again, alone; wrong ranges and places are named") {
  CoreRig rig(3);
  rig.network.add_topic("t", 1);
  fill(rig, "t", 0, 10);
  size_t refusals = 2;
  rig.network.on_settle = [&](const FakeSettle& item) {
    return item.offset == 1 && refusals-- > 0 ? ErrorCode::kOverloaded : ErrorCode::kOk;
  };
  RigAsker asker(rig);
  const auto acked = ack_ranges(asker, "g", "t", 0, {{.first = 0}, {.first = 1}, {.first = 2}});
  REQUIRE(acked.ok());
  CHECK((*acked)[1].ok());
  REQUIRE(rig.network.settles.size() == 3);
  CHECK(rig.network.settles[2].size() == 1);
  CHECK(asker.pauses == 2);

  CHECK(ack_ranges(asker, "g", "t", 0, {{.first = 0, .count = 0}}).error().to_string() ==
        "invalid argument: a range has 0 offsets; allowed are 1 to 4294967295");
  CHECK(ack_ranges(asker, "g", "t", 1, {{.first = 0}}).error().to_string() ==
        "unknown partition: topic \"t\" has 1 partitions, asked was 1");
  CHECK(ack_ranges(asker, "g", "u", 0, {{.first = 0}}).error().code() == ErrorCode::kUnknownTopic);
  CHECK(ack_ranges(asker, "g", "t", 0, {})->empty());
}

TEST_CASE("redrive: what was settled before is told; after a lost answer that is not known") {
  CoreRig rig(4);
  rig.network.add_topic("dead", 1);
  fill(rig, "dead", 0, 10);
  RigAsker asker(rig);
  auto done = redrive_offsets(asker, "dead", 0, {1, 2});
  REQUIRE(done.ok());
  CHECK((*done)[0].ok());
  CHECK(rig.network.redriven == std::vector<uint64_t>{1, 2});
  done = redrive_offsets(asker, "dead", 0, {2, 3});
  REQUIRE(done.ok());
  CHECK((*done)[0].to_string() == "not found: topic \"dead\" partition 0 offset 2");
  CHECK((*done)[1].ok());

  bool lose = true;
  rig.network.on_request = [&](protocol::FrameType type) {
    if (type == protocol::FrameType::kQueueRedrive && std::exchange(lose, false)) {
      rig.network.redriven.push_back(5);
      return Status(ErrorCode::kOutcomeUnknown, "lost");
    }
    return Status();
  };
  done = redrive_offsets(asker, "dead", 0, {5, 6});
  REQUIRE(done.ok());
  CHECK(
      (*done)[0].to_string() ==
      "outcome unknown: topic \"dead\" partition 0 offset 5: settled, maybe by an earlier attempt");
  CHECK((*done)[1].ok());
}

TEST_CASE("unsettled reads page by page up to the bound") {
  CoreRig rig(5);
  rig.network.add_topic("dead", 1);
  fill(rig, "dead", 0, 20);
  auto& messages = rig.network.queues[{rig.network.topic("dead").id, 0}];
  for (const uint64_t offset : {0u, 5u, 10u, 15u}) {
    messages[offset].settled = true;
  }
  rig.network.unsettled_page_max = 2;
  RigAsker asker(rig);
  const auto texts = [&](uint64_t from, size_t max) {
    const auto ranges = unsettled_ranges(asker, "$dlq", "dead", 0, from, max);
    REQUIRE(ranges.ok());
    std::string out;
    for (const OffsetRange& range : *ranges) {
      out += std::to_string(range.first) + "+" + std::to_string(range.count) + " ";
    }
    return out;
  };
  CHECK(texts(0, 100) == "1+4 6+4 11+4 16+4 ");
  CHECK(texts(0, 3) == "1+4 6+4 11+4 ");
  CHECK(texts(7, 1) == "7+3 ");
  CHECK(texts(20, 10).empty());
  CHECK(texts(0, 0).empty());
}

TEST_CASE("unsettled ranges that are out of order or end behind the last offset are refused") {
  CoreRig rig(6);
  rig.network.add_topic("dead", 1);
  RigAsker asker(rig);
  const auto refused = [&](std::vector<protocol::fbs::QueueRange> ranges) {
    rig.network.unsettled_lie = std::move(ranges);
    const auto read = unsettled_ranges(asker, "$dlq", "dead", 0, 3, 100);
    return !read.ok() && read.error().code() == ErrorCode::kMalformed;
  };
  CHECK(refused({{2, 1}}));
  CHECK(refused({{3, 0}}));
  CHECK(refused({{5, 3}, {7, 1}}));
  CHECK(refused({{5, UINT64_MAX}, {4, 1}}));
  CHECK(refused({{UINT64_MAX, 1}}));
  CHECK_FALSE(refused({{5, 3}, {8, UINT64_MAX - 8}}));
}

TEST_CASE("a broker that names no shards is refused before anything is asked of them") {
  CoreRig rig(7);
  rig.network.add_topic("t", 1);
  rig.network.shards = 0;
  RigAsker asker(rig);
  const auto queues = describe_queues(asker, "g");
  REQUIRE_FALSE(queues.ok());
  CHECK(queues.error().code() == ErrorCode::kMalformed);
  CHECK(queues.error().context().ends_with("handshake: HelloReply names no shards"));
  const auto group = describe_group(asker, "g");
  REQUIRE_FALSE(group.ok());
  CHECK(group.error().code() == ErrorCode::kMalformed);
}

}  // namespace
}  // namespace tidemark::client_core
