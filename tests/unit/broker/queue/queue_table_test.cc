#include "broker/queue/queue_table.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/unit/broker/queue/queue_fixture.h"

namespace tidemark::queue {
namespace {

using testing::checkpoint;

TEST_CASE("there are no queues at first") {
  QueueTable table;
  CHECK(table.find("g") == nullptr);
  CHECK(table.find("g", kPartition) == nullptr);
  CHECK(table.groups().empty());
  CHECK(table.size() == 0);
  CHECK(table.failures() == 0);
  CHECK(table.hash() == 0);
  CHECK(table.memory_bytes() == 0);
  CHECK(table.drop_group("g") == 0);
  table.drop_partition(kPartition);
  table.trim(kPartition, Offset{5});
  kv::WriteBatch batch;
  table.freeze(batch);
  CHECK(batch.empty());
}

TEST_CASE("a queue begins at the partition's start, once") {
  OneQueue queue(100);
  CHECK(queue.state().acks.floor() == Offset{100});
  CHECK(queue.state().acked == 0);
  CHECK(queue.table.open("g", kPartition, Offset{200}).ok());
  CHECK(queue.state().acks.floor() == Offset{100});
  CHECK(queue.table.size() == 1);
  CHECK(queue.ack(99) == 0);
  CHECK(queue.ack(98, 5) == 3);
}

TEST_CASE("there are at most so many queues") {
  QueueTable table(2);
  CHECK(table.open("g", kPartition, Offset{0}).ok());
  CHECK(table.open("h", kPartition, Offset{0}).ok());
  const Status refused = table.open("g", kOther, Offset{0});
  CHECK(refused.code() == ErrorCode::kLimitExceeded);
  CHECK(refused.context() == "there are 2 queues on this shard");
  CHECK(table.open("i", kPartition, Offset{0}).code() == ErrorCode::kLimitExceeded);
  CHECK(table.find("i") == nullptr);
  CHECK(table.open("g", kPartition, Offset{0}).ok());
  CHECK(table.size() == 2);
  CHECK(table.drop_group("h") == 1);
  CHECK(table.open("g", kOther, Offset{0}).ok());
}

TEST_CASE("a group's name has 1 to 255 bytes") {
  QueueTable table;
  const std::string longest(255, '\xFF');
  CHECK(table.open(longest, kPartition, Offset{0}).ok());
  CHECK(table.open("", kPartition, Offset{0}).code() == ErrorCode::kInvalidArgument);
  const Status refused = table.open(longest + 'x', kPartition, Offset{0});
  CHECK(refused.code() == ErrorCode::kInvalidArgument);
  CHECK(refused.context() == "a group's name has 1 to 255 bytes");
  CHECK(table.size() == 1);
  table.ack(longest, kPartition, range_of(UINT64_MAX - 1));
  kv::MemoryStore store;
  checkpoint(table, store);
  check_loads_as(table, store);
}

TEST_CASE("what is acked is settled and counted, once") {
  OneQueue queue;
  CHECK(queue.ack(5, 3) == 3);
  CHECK(queue.ack(6, 4) == 2);
  CHECK(queue.ack(6, 4) == 0);
  CHECK(queue.state().acked == 5);
  CHECK(queue.state().acks.contains(Offset{9}));
  CHECK(!queue.state().acks.contains(Offset{4}));
}

TEST_CASE("failures are counted of what is not settled") {
  OneQueue queue;
  CHECK(queue.fail(3, 50));
  CHECK(queue.fail(3, 70));
  CHECK(queue.fail(4, 60));
  CHECK(queue.state().failures.at(Offset{3}) == Failures{2, 70});
  CHECK(queue.state().failed == 3);
  CHECK(queue.table.failures() == 2);
  queue.ack(4, 2);
  CHECK(queue.table.failures() == 1);
  CHECK(!queue.state().failures.contains(Offset{4}));
  const uint64_t hash = queue.table.hash();
  CHECK(!queue.fail(4));
  CHECK(!queue.fail(UINT64_MAX));
  CHECK(queue.table.hash() == hash);
  CHECK(queue.state().failed == 3);
}

TEST_CASE("there is room to remember failures of so many messages") {
  OneQueue queue(0, 2);
  REQUIRE(queue.table.open("h", kPartition, Offset{0}).ok());
  CHECK(queue.fail(1));
  CHECK(queue.table.fail("h", kPartition, Offset{1}, 5));
  const uint64_t hash = queue.table.hash();
  CHECK(!queue.fail(2));
  CHECK(queue.table.hash() == hash);
  CHECK(queue.fail(1));  // of those that are remembered there may be more
  CHECK(queue.state().failures.at(Offset{1}).count == 2);
  queue.table.ack("h", kPartition, range_of(1));
  CHECK(queue.fail(2));
}

TEST_CASE("a dead letter is settled, and counted for itself") {
  OneQueue queue;
  queue.fail(3);
  CHECK(queue.table.dead_letter("g", kPartition, Offset{3}));
  CHECK(!queue.table.dead_letter("g", kPartition, Offset{3}));
  CHECK(queue.state().dead_lettered == 1);
  CHECK(queue.state().acked == 0);
  CHECK(queue.state().acks.contains(Offset{3}));
  CHECK(queue.state().failures.empty());
  CHECK(queue.table.failures() == 0);
  queue.ack(4);
  CHECK(!queue.table.dead_letter("g", kPartition, Offset{4}));
  CHECK(queue.state().dead_lettered == 1);
}

TEST_CASE("kinds of acks are counted beside the acks") {
  OneQueue queue;
  queue.ack(0, 10);
  queue.table.count("g", kPartition, 3, 4);
  queue.table.count("g", kPartition, 1, 0);
  queue.table.count("g", kPartition, 0, 0);
  CHECK(queue.state().acked == 10);
  CHECK(queue.state().expired == 4);
  CHECK(queue.state().filtered == 4);
}

TEST_CASE("a trim raises the floors of a partition and forgets failures below") {
  OneQueue queue;
  REQUIRE(queue.table.open("h", kPartition, Offset{0}).ok());
  REQUIRE(queue.table.open("g", kOther, Offset{0}).ok());
  queue.fail(3);
  queue.fail(9);
  queue.fail(10);
  queue.ack(11);
  queue.table.fail("h", kPartition, Offset{4}, 5);
  queue.table.fail("g", kOther, Offset{4}, 5);
  queue.table.trim(kPartition, Offset{10});
  CHECK(queue.state().acks.floor() == Offset{10});
  CHECK(queue.state().acked == 1);
  CHECK(queue.state().failures.size() == 1);
  CHECK(queue.table.find("h", kPartition)->acks.floor() == Offset{10});
  CHECK(queue.table.find("g", kOther)->acks.floor() == Offset{0});
  CHECK(queue.table.failures() == 2);
  const uint64_t hash = queue.table.hash();
  queue.table.trim(kPartition, Offset{4});
  CHECK(queue.table.hash() == hash);
}

TEST_CASE("the hash tells queues apart, not the ways to them") {
  OneQueue one;
  one.ack(1);
  one.ack(9, 3);
  one.fail(4, 5);
  OneQueue other;
  other.fail(4, 5);
  other.ack(9, 3);
  other.ack(1);
  CHECK(one.table.hash() == other.table.hash());
  const uint64_t hash = one.table.hash();
  SUBCASE("acks") { one.ack(2); }
  SUBCASE("failures") { one.fail(4, 5); }
  SUBCASE("of which message") {
    OneQueue more;
    more.ack(1);
    more.ack(9, 3);
    more.fail(4 + kChunk, 5);
    CHECK(more.table.hash() != hash);
    return;
  }
  SUBCASE("counts") { one.table.count("g", kPartition, 1, 0); }
  SUBCASE("another queue") { REQUIRE(one.table.open("h", kPartition, Offset{0}).ok()); }
  SUBCASE("none") { one.table.drop_group("g"); }
  SUBCASE("the floor") { one.table.trim(kPartition, Offset{1}); }
  CHECK(one.table.hash() != hash);
}

TEST_CASE("memory is counted") {
  OneQueue queue;
  const size_t before = queue.table.memory_bytes();
  queue.ack(9000);
  CHECK(queue.table.memory_bytes() > before + 512);
  const size_t acked = queue.table.memory_bytes();
  queue.fail(9001);
  CHECK(queue.table.memory_bytes() >= acked + 64);
}

}  // namespace
}  // namespace tidemark::queue
