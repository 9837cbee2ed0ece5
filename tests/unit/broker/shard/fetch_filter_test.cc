// Fetches whose reply is not what is stored: filters, time to live, reference batches.
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/filter/filter.h"
#include "broker/shard/shard.h"
#include "log/format/message_properties.h"
#include "log/format/reference_batch.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

using testing::build_batch_of;
using testing::build_messages;
using testing::FetchInput;
using testing::FetchLimits;
using testing::MessageInput;
using testing::ProduceInput;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;

MessageInput tagged(const std::string& value, const std::string& tag) {
  return {value, {{std::string(format::kTagHeader), tag}}};
}

MessageInput with_ttl(const std::string& value, int64_t ttl_ms) {
  return {value, {{std::string(format::kTtlHeader), std::to_string(ttl_ms)}}};
}

SharedBytes batch_of(const std::vector<MessageInput>& messages,
                     format::Codec codec = format::Codec::kNone) {
  return build_messages(messages, codec);
}

FetchLimits red(uint32_t wait_ms = 0) {
  return {.wait_ms = wait_ms, .bytes_min = 1, .bytes_max = 1 << 20, .tags = {"red"}, .filter = {}};
}

std::vector<std::string> values_of(const testing::FetchPartResult& result) {
  std::vector<std::string> values;
  for (const testing::Message& message : result.messages) {
    values.push_back(std::to_string(message.offset.value()) + "=" + message.value);
  }
  return values;
}

using Values = std::vector<std::string>;

ShardStats stats_of(const ShardHarness& harness) {
  ShardStats stats;
  harness.core->add_stats(stats);
  return stats;
}

// The partition's topic is given a time to live.
void set_ttl(ShardHarness& harness, PartitionId id, int64_t ttl_ms) {
  auto& partition = const_cast<partition::Partition&>(*harness.core->views().find(id));
  partition::PartitionConfig config = partition.config();
  config.queue.ttl_ms = ttl_ms;
  partition.set_config(config);
}

// Nothing that is stored is in memory from now on.
void forget(ShardHarness& harness) {
  harness.source.cached_from = harness.core->views().applied().next_position;
}

// --- filters
// ----------------------------------------------------------------------------------------------------------

TEST_CASE(
    "a filter that cannot be read is refused with its text, and too many tags with the limit") {
  ShardHarness harness;
  harness.open_partitions(1);
  const FetchInput part{kPartition, Offset{0}};
  FetchLimits bad;
  bad.filter = "(";
  const Status expected = filter::Filter::parse({}, bad.filter).status();
  REQUIRE(expected.code() == ErrorCode::kInvalidArgument);
  const Status refused = testing::error_of(harness.ask(testing::fetch_request({&part, 1}, bad)));
  CHECK(refused.code() == ErrorCode::kInvalidArgument);
  CHECK(refused.context() == expected.context());

  FetchLimits many;
  many.tags.assign(limits::kFilterTagsMax + 1, "t");
  const Status limit = testing::error_of(harness.ask(testing::fetch_request({&part, 1}, many)));
  CHECK(limit.code() == ErrorCode::kLimitExceeded);
  CHECK(limit.context().find(std::to_string(limits::kFilterTagsMax)) != std::string_view::npos);
  many.tags.pop_back();
  CHECK(testing::error_of(harness.ask(testing::fetch_request({&part, 1}, many))).ok());
}

TEST_CASE("a half-filtered batch keeps the offsets of what is left, compressed or not") {
  for (const auto codec : {format::Codec::kNone, format::Codec::kZstd}) {
    ShardHarness harness;
    harness.open_partitions(1);
    harness.produce(kPartition, batch_of({tagged("a", "blue")}, codec));
    harness.produce(kPartition, batch_of({tagged("b", "red"), tagged("c", "blue"),
                                          tagged("d", "red"), tagged("e", "blue")},
                                         codec));
    harness.produce(kPartition, batch_of({tagged("f", "red"), tagged("g", "red")}, codec));
    for (const bool cold : {false, true}) {
      CAPTURE(cold);
      if (cold) {
        forget(harness);
      }
      const auto result = harness.fetch(kPartition, 0, red());
      CHECK(result.status.ok());
      CHECK(values_of(result) == Values{"1=b", "3=d", "5=f", "6=g"});
      CHECK(result.batches == 2);  // the first has nothing
      CHECK(result.next == Offset{7});
      CHECK(result.filtered == 3);
      CHECK(result.expired == 0);
    }
    CHECK(stats_of(harness).fetch_filtered == 6);
    CHECK(stats_of(harness).messages_out == 8);
    // What lies before the asked offset is neither sent nor counted.
    const auto inside = harness.fetch(kPartition, 3, red());
    CHECK(values_of(inside) == Values{"3=d", "5=f", "6=g"});
    CHECK(inside.filtered == 1);
  }
}

TEST_CASE("a filter is never applied on the loop") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "red")}));
  harness.start_fetch(kPartition, 0, red());
  CHECK(harness.outbox.replies.empty());
  CHECK(harness.source.pending() == 1);
  harness.source.run_all();
  CHECK(values_of(harness.take_fetch().at(0)) == Values{"0=a"});
  CHECK(stats_of(harness).cold_reads == 0);
}

TEST_CASE("everything filtered: a long poll ends at its deadline, and its reader gets on") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "blue"), tagged("b", "blue")}));
  harness.start_fetch(kPartition, 0, red(1000));
  harness.source.run_all();
  CHECK(harness.outbox.replies.empty());
  CHECK(stats_of(harness).fetch_waiters == 1);
  // More that is not wanted comes: it is looked at alone, and the poll goes on.
  harness.produce(kPartition, batch_of({tagged("c", "blue")}));
  harness.source.run_all();
  CHECK(harness.outbox.replies.empty());
  CHECK(stats_of(harness).fetch_waiters == 1);
  harness.advance_ms(1000);
  harness.tick();
  const auto result = harness.take_fetch().at(0);
  CHECK(result.status.ok());
  CHECK(result.messages.empty());
  CHECK(result.bytes == 0);
  CHECK(result.next == Offset{3});
  CHECK(result.filtered == 3);
}

TEST_CASE("a long poll with a filter is answered by the first message that it wants") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "blue")}));
  harness.start_fetch(kPartition, 0, red(1000));
  harness.source.run_all();
  harness.produce(kPartition, batch_of({tagged("b", "blue"), tagged("c", "red")}));
  CHECK(harness.outbox.replies.empty());
  harness.source.run_all();
  const auto result = harness.take_fetch().at(0);
  CHECK(values_of(result) == Values{"2=c"});
  CHECK(result.next == Offset{3});
  CHECK(result.filtered == 2);
}

TEST_CASE("bytes_min counts what is left, and what was found is kept until there is enough") {
  ShardHarness harness;
  harness.open_partitions(1);
  FetchLimits wanted = red(1000);
  wanted.bytes_min = 300;
  harness.start_fetch(kPartition, 0, wanted);
  const std::string value(100, 'v');
  for (int i = 0; i < 2; ++i) {
    CHECK(harness.outbox.replies.empty());
    harness.produce(kPartition,
                    batch_of({tagged(std::string(5000, 'x'), "blue"), tagged(value, "red")}));
    harness.source.run_all();
  }
  const auto result = harness.take_fetch().at(0);
  CHECK(values_of(result) == Values{"1=" + value, "3=" + value});
  CHECK(result.filtered == 2);
}

TEST_CASE("nothing wanted for a long stretch: the same request reads on, but not for ever") {
  ShardHarness harness;
  harness.open_partitions(1);
  const size_t count = 2 * limits::kFetchBytesMax / limits::kMiB + 3;
  for (size_t i = 0; i < count; ++i) {
    harness.produce(kPartition, batch_of({tagged(std::string(limits::kMiB - 1000, 'x'), "blue")}));
  }
  harness.produce(kPartition, batch_of({tagged("found", "red")}));
  forget(harness);
  FetchLimits small = red(10'000);
  small.bytes_max = 1000;
  uint64_t next = 0;
  size_t requests = 0;
  uint64_t filtered = 0;
  for (;;) {
    const auto result = harness.fetch(kPartition, next, small);
    ++requests;
    REQUIRE(result.status.ok());
    REQUIRE(result.next > Offset{next});
    CHECK(result.next.value() - next <= 2 * limits::kFetchBytesMax / limits::kMiB + 1);
    next = result.next.value();
    filtered += result.filtered;
    if (!result.messages.empty()) {
      CHECK(values_of(result) == Values{std::to_string(count) + "=found"});
      break;
    }
  }
  CHECK(next == count + 1);
  CHECK(filtered == count);
  CHECK(requests >= 2);
  CHECK(requests <= 3);
}

TEST_CASE("what a filter lets through stays within bytes_max, and none of it is lost") {
  ShardHarness harness;
  harness.open_partitions(2);
  for (int i = 0; i < 20; ++i) {
    for (const PartitionId id : {kPartition, kOther}) {
      harness.produce(id, batch_of({tagged(std::string(3000, 'x'), "blue"),
                                    tagged("v" + std::to_string(i), "red")}));
    }
  }
  FetchLimits bounds = red();
  bounds.bytes_max = 800;
  bounds.bytes_min = 800;
  std::vector<FetchInput> parts = {{kPartition, Offset{0}}, {kOther, Offset{0}}};
  std::vector<int> seen(2);
  for (int requests = 0; seen[0] + seen[1] < 40; ++requests) {
    REQUIRE(requests < 40);
    harness.receive(testing::fetch_request(parts, bounds));
    harness.source.run_all();
    const auto results = harness.take_fetch();
    CHECK(results[0].bytes + results[1].bytes <= 800);
    for (size_t i = 0; i < 2; ++i) {
      for (const testing::Message& message : results[i].messages) {
        CHECK(message.value == "v" + std::to_string(seen[i]));
        CHECK(message.offset == Offset{static_cast<uint64_t>(2 * seen[i] + 1)});
        ++seen[i];
      }
      parts[i].offset = results[i].next;
    }
  }
}

TEST_CASE("damage under a filter: what was found comes first, then the error") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "red")}));
  harness.produce(kPartition, batch_of({tagged("b", "blue")}));
  harness.produce(kPartition, batch_of({tagged("c", "red")}));
  harness.produce(kPartition, batch_of({tagged("d", "red")}));
  forget(harness);
  harness.source.damaged.insert(harness.core->views().find(kPartition)->index().refs()[2].position);
  const auto before = harness.fetch(kPartition, 0, red(1000));
  CHECK(before.status.ok());
  CHECK(values_of(before) == Values{"0=a"});
  CHECK(before.next == Offset{2});
  // Nothing is left before it: still no error, but no waiting either.
  const auto left_out = harness.fetch(kPartition, 1, red(1000));
  CHECK(left_out.status.ok());
  CHECK(left_out.messages.empty());
  CHECK(left_out.next == Offset{2});
  const auto damaged = harness.fetch(kPartition, 2, red(1000));
  CHECK(damaged.status.code() == ErrorCode::kCorrupted);
  CHECK(damaged.next == Offset{3});
  CHECK(values_of(harness.fetch(kPartition, 3, red(1000))) == Values{"3=d"});
}

TEST_CASE("stopping answers a long poll with a filter empty-handed, as if nothing was looked at") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "blue")}));
  harness.start_fetch(kPartition, 0, red(1000));
  harness.source.run_all();
  harness.core->begin_stop();
  const auto result = harness.take_fetch().at(0);
  CHECK(result.status.ok());
  CHECK(result.next == Offset{0});
  CHECK(result.filtered == 0);
  CHECK(stats_of(harness).fetch_filtered == 0);
}

TEST_CASE("filters over the bound of work in flight wait for their turn") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({tagged("a", "red")}));
  const size_t count = 3 * limits::kColdReadsInFlightPerShardMax;
  for (size_t i = 0; i < count; ++i) {
    harness.start_fetch(kPartition, 0, red());
  }
  CHECK(harness.source.pending() == limits::kColdReadsInFlightPerShardMax);
  harness.source.run_all();
  CHECK(harness.outbox.replies.size() == count);
}

// --- time to live
// -----------------------------------------------------------------------------------------------------

TEST_CASE("a message is left out from the very millisecond that its time to live has passed") {
  ShardHarness harness;
  harness.open_partitions(1);
  harness.produce(kPartition, batch_of({with_ttl("a", 1000), {"b"}, with_ttl("c", 2000)}), true);
  const auto early = harness.fetch(kPartition, 0);
  CHECK(values_of(early) == Values{"0=a", "1=b", "2=c"});
  harness.advance_ms(999);
  CHECK(values_of(harness.fetch(kPartition, 0)) == Values{"0=a", "1=b", "2=c"});
  harness.advance_ms(1);
  const auto late = harness.fetch(kPartition, 0);
  CHECK(values_of(late) == Values{"1=b", "2=c"});
  CHECK(late.expired == 1);
  CHECK(late.filtered == 0);
  CHECK(late.next == Offset{3});
  CHECK(stats_of(harness).fetch_expired == 1);
}

TEST_CASE("only partitions that have such messages pay, and only as far as they reach") {
  ShardHarness harness;
  harness.open_partitions(2);
  harness.produce(kOther, batch_of({with_ttl("unmarked", 1)}));
  harness.produce(kPartition, batch_of({with_ttl("a", 1)}), true);
  harness.produce(kPartition, batch_of({{"b"}}));
  CHECK(harness.core->views().find(kPartition)->ttl_end() == Offset{1});
  CHECK(harness.core->views().find(kOther)->ttl_end() == Offset{0});
  harness.advance_ms(10);
  harness.start_fetch(kOther, 0, {});
  harness.start_fetch(kPartition, 1, {});
  CHECK(harness.source.pending() == 0);
  CHECK(harness.outbox.replies.size() == 2);
  harness.outbox.replies.clear();
  harness.start_fetch(kPartition, 0, {});
  CHECK(harness.source.pending() == 1);
  harness.source.run_all();
  CHECK(values_of(harness.take_fetch().at(0)) == Values{"1=b"});
}

TEST_CASE("a repeated batch marks nothing, and what is marked outlives a restart") {
  ShardHarness harness;
  harness.open_partitions(1);
  const SharedBytes batch = build_batch_of(2, 10, {5, 0, 0});
  harness.produce(kPartition, batch);
  CHECK(harness.produce(kPartition, batch, true).duplicate);
  CHECK(harness.core->views().find(kPartition)->ttl_end() == Offset{0});
  harness.produce(kPartition, batch_of({with_ttl("a", 1)}), true);
  harness.produce(kPartition, batch_of({{"b"}}));
  CHECK(harness.core->views().find(kPartition)->ttl_end() == Offset{3});
  harness.restart();
  CHECK(harness.core->views().find(kPartition)->ttl_end() == Offset{3});
  harness.checkpoint();
  harness.restart_from_checkpoint();
  CHECK(harness.core->views().find(kPartition)->ttl_end() == Offset{3});
}

TEST_CASE(
    "the topic's time to live is for messages that name none, and reads nothing that is over") {
  ShardHarness harness;
  harness.open_partitions(1);
  set_ttl(harness, kPartition, 1000);
  harness.produce(kPartition, batch_of({{"a"}, with_ttl("b", 5000), with_ttl("c", 10)}), true);
  harness.produce(kPartition, batch_of({{"d"}, {"e"}}));
  harness.advance_ms(500);
  harness.produce(kPartition, batch_of({{"f"}}));
  harness.advance_ms(500);
  forget(harness);
  const auto result = harness.fetch(kPartition, 0);
  CHECK(values_of(result) == Values{"1=b", "5=f"});
  CHECK(result.expired == 4);
  CHECK(result.next == Offset{6});
  // Within a batch that is over as a whole: what was asked for is counted.
  const uint64_t reads = stats_of(harness).cold_reads;
  const auto inside = harness.fetch(kPartition, 4);
  CHECK(inside.expired == 1);
  CHECK(values_of(inside) == Values{"5=f"});
  CHECK(stats_of(harness).cold_reads == reads + 1);
  harness.advance_ms(500);
  const auto none = harness.fetch(kPartition, 3);
  CHECK(none.messages.empty());
  CHECK(none.expired == 3);
  CHECK(none.next == Offset{6});
  CHECK(stats_of(harness).cold_reads == reads + 1);
}

TEST_CASE("a filter and a time to live: each message is counted once") {
  ShardHarness harness;
  harness.open_partitions(1);
  MessageInput both = tagged("a", "blue");
  both.headers.emplace_back(format::kTtlHeader, "10");
  harness.produce(kPartition, batch_of({both, tagged("b", "blue"), tagged("c", "red")}), true);
  harness.advance_ms(10);
  const auto result = harness.fetch(kPartition, 0, red());
  CHECK(values_of(result) == Values{"2=c"});
  CHECK(result.expired == 1);
  CHECK(result.filtered == 1);
}

TEST_CASE("a dead letter does not die again by its own header, but when it was sent back it does") {
  ShardHarness harness;
  harness.open_partitions(1);
  MessageInput dead = with_ttl("dead", 10);
  dead.headers.emplace_back(format::kDeadTopicHeader, "orders");
  MessageInput redriven = dead;
  redriven.value = "redriven";
  redriven.headers.emplace_back(format::kRedrivenHeader, "5");
  MessageInput again = redriven;
  again.value = "again";
  again.headers.emplace_back(format::kDeadTopicHeader, "orders");
  harness.produce(kPartition, batch_of({dead, redriven, again}), true);
  harness.advance_ms(10);
  const auto result = harness.fetch(kPartition, 0);
  CHECK(values_of(result) == Values{"0=dead", "2=again"});
  CHECK(result.expired == 1);
}

// --- reference batches
// ------------------------------------------------------------------------------------------------

// A reference to a record of the batch at offset `body` of kPartition becomes a message of kOther.
partition::BatchRef refer(ShardHarness& harness, size_t body, uint32_t record,
                          std::vector<std::pair<std::string, std::string>> headers = {}) {
  const partition::BatchRef ref = harness.core->views().find(kPartition)->index().refs()[body];
  Result<Buffer> batch = format::build_reference({ref.position, ref.bytes, record, headers}, 1000);
  REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
  // Only brokers write such batches: it goes into the log by the side door.
  format::RecordListBuilder records;
  records.add_produce(kOther, harness.now.wall.ms, batch->view());
  REQUIRE(harness.consensus.propose(records.take()).ok());
  harness.consensus.commit_all();
  harness.core->flush(harness.now);
  return harness.core->views().find(kOther)->index().refs().back();
}

TEST_CASE("a reference is read as the message that it stands for, from memory and from disk") {
  ShardHarness harness;
  harness.open_partitions(2);
  harness.produce(kPartition, batch_of({{"zero"}, {"one"}, {"two"}}, format::Codec::kZstd));
  harness.produce(kOther, batch_of({{"plain"}}));
  const uint32_t stored = refer(harness, 0, 2, {{"why", std::string(200, 'w')}}).bytes;
  harness.produce(kOther, batch_of({{"behind"}}));
  for (const bool cold : {false, true}) {
    CAPTURE(cold);
    if (cold) {
      forget(harness);
    }
    const auto result = harness.fetch(kOther, 0);
    CHECK(result.status.ok());
    CHECK(values_of(result) == Values{"0=plain", "1=two", "2=behind"});
    CHECK(result.next == Offset{3});
    CHECK(result.bytes != 2 * batch_of({{"plain"}}).size() + stored);
  }
  CHECK(stats_of(harness).cold_reads == 2);
}

TEST_CASE("the size of what a reference stands for counts, not that of the reference") {
  ShardHarness harness;
  harness.open_partitions(2);
  harness.produce(kPartition, batch_of({{std::string(5000, 'x')}}));
  for (int i = 0; i < 4; ++i) {
    refer(harness, 0, 0);
  }
  for (const bool cold : {false, true}) {
    CAPTURE(cold);
    if (cold) {
      forget(harness);
    }
    uint64_t next = 0;
    for (const uint64_t expected : {2, 4}) {
      const auto result = harness.fetch(kOther, next, {0, 1, 11'000});
      CHECK(result.bytes <= 11'000);
      CHECK(result.messages.size() == 2);
      CHECK(result.next == Offset{expected});
      next = expected;
    }
    CHECK(harness.fetch(kOther, 0, {0, 1, 100}).messages.size() == 1);  // one always comes
  }
  // A poll is answered by it, although the reference alone is too small.
  harness.source.cached_from = LogPosition{0};
  harness.start_fetch(kOther, 4, {1000, 4000, 100'000});
  refer(harness, 0, 0);
  harness.source.run_all();
  CHECK(harness.take_fetch().at(0).messages.size() == 1);
}

TEST_CASE("a damaged body is the error of the message that stands for it") {
  ShardHarness harness;
  harness.open_partitions(2);
  harness.produce(kPartition, batch_of({{"body"}}));
  const LogPosition body = harness.core->views().find(kPartition)->index().refs()[0].position;
  harness.produce(kOther, batch_of({{"before"}}));
  refer(harness, 0, 0);
  harness.produce(kOther, batch_of({{"behind"}}));
  forget(harness);
  harness.source.damaged.insert(body);
  const auto before = harness.fetch(kOther, 0);
  CHECK(before.status.ok());
  CHECK(values_of(before) == Values{"0=before"});
  CHECK(before.next == Offset{1});
  const auto damaged = harness.fetch(kOther, 1);
  CHECK(damaged.status.code() == ErrorCode::kCorrupted);
  CHECK(damaged.status.context().find("log position " + std::to_string(body.value())) !=
        std::string_view::npos);
  CHECK(damaged.next == Offset{2});
  CHECK(values_of(harness.fetch(kOther, 2)) == Values{"2=behind"});
}

TEST_CASE("a filter sees the headers of the message that a reference stands for") {
  ShardHarness harness;
  harness.open_partitions(2);
  harness.produce(kPartition, batch_of({tagged("a", "red"), tagged("b", "blue"), {"c"}}));
  refer(harness, 0, 0);
  refer(harness, 0, 1);
  refer(harness, 0, 2, {{std::string(format::kTagHeader), "red"}});
  const auto result = harness.fetch(kOther, 0, red());
  CHECK(values_of(result) == Values{"0=a", "2=c"});
  CHECK(result.filtered == 1);
}

// --- fan-out
// ----------------------------------------------------------------------------------------------------------

TEST_CASE("many readers at the tail share the memory of the log and read nothing from disk") {
  ShardHarness harness;
  harness.open_partitions(1);
  constexpr uint64_t kGroups = 8;
  for (uint64_t i = 0; i < kGroups; ++i) {
    harness.start_fetch(kPartition, 0, {1000, 1, 1 << 20}, i);
  }
  CHECK(stats_of(harness).fetch_waiters == kGroups);
  const ProduceInput part{kPartition, build_batch_of(1, 100'000)};
  harness.receive(testing::produce_request({&part, 1}));
  harness.settle();
  CHECK(harness.source.pending() == 0);
  CHECK(stats_of(harness).cold_reads == 0);
  CHECK(stats_of(harness).messages_out == kGroups);
  REQUIRE(harness.outbox.replies.size() == kGroups + 1);  // and that of the produce
  harness.outbox.replies.pop_front();
  const uint8_t* shared = harness.outbox.replies.front().payload.back().data();
  for (const auto& reply : harness.outbox.replies) {
    CHECK(reply.payload.back().size() > 100'000);
    CHECK(reply.payload.back().data() == shared);
  }
}

}  // namespace
}  // namespace tidemark::shard
