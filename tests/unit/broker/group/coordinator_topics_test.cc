// Topics that change, what members say after a restart, bounds, what operators see.
#include <algorithm>

#include <doctest/doctest.h>

#include "broker/group/coordinator.h"
#include "log/base/limits.h"
#include "tests/unit/broker/group/group_bench.h"

namespace tidemark::group {
namespace {

using Indexes = std::vector<uint32_t>;

// --- topics

TEST_CASE("a topic that does not exist yet is no error, and is there when it appears") {
  GroupBench bench;
  Worker a("a", {"t"});
  bench.poll(a);
  CHECK(a.last.ok());
  const auto waits = bench.send(a, 3'000);
  CHECK(bench.lease() == 0);
  bench.set_topic("t", 1, 2);
  bench.coordinator.topics_changed(bench.now);
  CHECK(!bench.take(a, waits));
  CHECK(bench.lease() == 2);
  CHECK(bench.take(a, waits));
  CHECK(a.indexes() == Indexes{0, 1});
}

TEST_CASE("a topic that grows gives its new partitions to the one with fewer") {
  GroupBench bench;
  bench.set_topic("t", 1, 3);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.settle({&a, &b});
  bench.set_topic("t", 1, 6);
  bench.coordinator.topics_changed(bench.now);
  bench.coordinator.topics_changed(bench.now);
  bench.settle({&a, &b});
  CHECK(a.assigned.size() == 3);
  CHECK(b.assigned.size() == 3);
  for (uint32_t i = 0; i < 6; ++i) {
    CHECK(bench.epoch(partition_of(1, i)) <= 2);
  }
  const uint64_t generation = a.beat.generation;
  bench.coordinator.topics_changed(bench.now);
  bench.poll(a);
  CHECK(a.beat.generation == generation);
}

TEST_CASE("a topic that vanishes takes its partitions with it, in whatever state they are") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  bench.set_topic("u", 2, 1);
  Worker a("a", {"t", "u"});
  Worker b("b", {"t", "u"});
  bench.settle({&a});
  bench.poll(b);
  bench.poll(a);
  CHECK(a.assigned.size() == 3);
  const OwnedPartition kept = a.beat.owned[3];
  a.give_up();
  a.beat.owned.push_back(kept);
  bench.poll(a);
  CHECK(bench.coordinator.take_leases(bench.now).size() == 1);
  bench.topics.erase("t");
  bench.coordinator.topics_changed(bench.now);
  bench.pass(1'000);
  bench.coordinator.leased("g", partition_of(1, 3), 9, bench.now);
  bench.settle({&a, &b});
  CHECK(a.assigned.size() + b.assigned.size() == 1);
  CHECK((a.has(partition_of(2, 0)) || b.has(partition_of(2, 0))));

  // The same name again is another topic.
  bench.set_topic("t", 3, 2);
  bench.coordinator.topics_changed(bench.now);
  bench.settle({&a, &b});
  CHECK(a.assigned.size() + b.assigned.size() == 3);
  CHECK((a.has(partition_of(3, 0)) || b.has(partition_of(3, 0))));
}

TEST_CASE("a topic whose partitions are all others at once") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  bench.settle({&a});
  bench.set_topic("t", 2, 2);
  bench.coordinator.topics_changed(bench.now);
  bench.poll(a);
  CHECK(a.assigned.empty());
  bench.poll(a);  // still lists those before
  bench.settle({&a});
  CHECK(a.has(partition_of(2, 0)));
  CHECK(a.assigned.size() == 2);
}

TEST_CASE("a member that changes its subscription gives up what it does not want") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  bench.set_topic("u", 2, 2);
  Worker a("a", {"t"});
  bench.settle({&a});
  a.beat.topics = {"u", "u"};
  bench.poll(a);
  CHECK(a.assigned.empty());
  CHECK(bench.lease() == 2);
  bench.poll(a);
  CHECK(a.assigned.size() == 2);
  CHECK(a.has(partition_of(2, 0)));

  // Somebody else wants it while the first still works on it.
  Worker b("b", {"t"});
  bench.poll(b);
  bench.pass(1'000);
  CHECK(bench.lease() == 0);
  a.follow();
  bench.poll(a);
  CHECK(bench.lease() == 2);
  bench.poll(b);
  CHECK(b.assigned.size() == 2);
  CHECK(bench.epoch(partition_of(1, 0)) == 2);
}

TEST_CASE("members with different subscriptions get of what they subscribe to") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  bench.set_topic("u", 2, 2);
  Worker a("a", {"t"});
  Worker b("b", {"t", "u"});
  Worker c("c", {"u"});
  bench.settle({&a, &b, &c});
  CHECK(a.assigned.size() + b.assigned.size() + c.assigned.size() == 6);
  CHECK(a.assigned.size() >= 2);
  CHECK(b.assigned.size() == 2);
  CHECK(!c.assigned.empty());
  CHECK(std::all_of(a.assigned.begin(), a.assigned.end(),
                    [](const OwnedPartition& one) { return one.partition.topic == TopicId{1}; }));
  CHECK(std::all_of(c.assigned.begin(), c.assigned.end(),
                    [](const OwnedPartition& one) { return one.partition.topic == TopicId{2}; }));
}

TEST_CASE("groups do not know of each other") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  Worker b("a", {"t"});
  b.beat.group = "h";
  bench.settle({&a, &b});
  CHECK(a.assigned.size() == 2);
  CHECK(b.assigned.size() == 2);
  bench.leave(b);
  bench.poll(a);
  CHECK(a.assigned.size() == 2);
}

// --- after a restart

Worker with_claim(const std::string& member, std::vector<OwnedPartition> owned,
                  uint64_t generation = 50) {
  Worker worker(member, {"t"});
  worker.beat.owned = std::move(owned);
  worker.beat.generation = generation;
  return worker;
}

TEST_CASE("after a restart members keep what they work on, the rest is given out later") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 4);
  bench.coordinator.tick(bench.now);
  bench.pass(1'000);
  Worker a = with_claim("a", {{partition_of(1, 0), 5}, {partition_of(1, 1), 2}}, 70);
  Worker b = with_claim("b", {{partition_of(1, 2), 9}}, 60);
  Worker fresh("c", {"t"});
  for (Worker* const worker : {&a, &b, &fresh}) {
    const uint64_t before = worker->beat.generation;
    bench.poll(*worker);
    CHECK(worker->last.ok());
    CHECK(worker->beat.generation > before);
  }
  CHECK(a.assigned == a.beat.owned);
  CHECK(b.assigned == b.beat.owned);
  CHECK(fresh.assigned.empty());
  bench.now.ns += 2'000 * kMs - 1;
  bench.coordinator.tick(bench.now);
  CHECK(bench.lease() == 0);
  bench.now.ns += 1;
  bench.coordinator.tick(bench.now);
  CHECK(bench.lease() == 1);
  bench.settle({&a, &b, &fresh});
  CHECK(fresh.has(partition_of(1, 3)));
  CHECK(b.assigned == std::vector<OwnedPartition>{{partition_of(1, 2), 9}});
  CHECK(a.assigned.size() == 2);
}

TEST_CASE("a member that goes within the time for claims leaves nothing behind") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 2);
  Worker a = with_claim("a", {{partition_of(1, 0), 5}});
  Worker b = with_claim("b", {{partition_of(1, 1), 5}});
  bench.poll(a);
  bench.poll(b);
  bench.leave(a);
  bench.pass(3'000);
  bench.coordinator.tick(bench.now);
  bench.settle({&b});
  CHECK(b.assigned.size() == 2);
}

TEST_CASE("of two that claim a partition the one with the higher epoch has it") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 1);
  const PartitionId id = partition_of(1, 0);
  Worker low = with_claim("low", {{id, 5}});
  Worker high = with_claim("high", {{id, 6}});

  SUBCASE("which comes second") {
    bench.poll(low);
    CHECK(low.has(id));
    const auto waits = bench.send(low, 3'000);
    bench.poll(high);
    CHECK(high.has(id));
    CHECK(bench.take(low, waits));
    CHECK(low.assigned.empty());
  }
  SUBCASE("which comes first") {
    bench.poll(high);
    bench.poll(low);
    CHECK(high.has(id));
    CHECK(low.assigned.empty());
  }
  SUBCASE("which comes long after the restart") {
    bench.poll(low);
    bench.pass(5'000);
    low.follow();
    bench.poll(low);
    bench.poll(high);
    CHECK(high.has(id));
    bench.poll(low);
    CHECK(low.assigned.empty());
  }
  low.follow();
  bench.pass(3'000);
  bench.settle({&low, &high});
  CHECK(high.assigned == std::vector<OwnedPartition>{{id, 6}});
}

TEST_CASE("claims to what is not there, without an epoch, or of an equal one are not heard") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 2);
  Worker a = with_claim("a", {{partition_of(1, 7), 5},
                              {partition_of(9, 0), 5},
                              {partition_of(1, 0), 0},
                              {partition_of(1, 1), 3}});
  bench.poll(a);
  CHECK(a.assigned == std::vector<OwnedPartition>{{partition_of(1, 1), 3}});
  Worker b = with_claim("b", {{partition_of(1, 1), 3}});
  bench.poll(b);
  CHECK(b.assigned.empty());
}

TEST_CASE("a claim to a topic that the member no longer subscribes to keeps others away from it") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 1);
  const PartitionId id = partition_of(1, 0);
  Worker other("other", {"t"});
  bench.poll(other);
  Worker a = with_claim("a", {{id, 5}});
  a.beat.topics = {"u"};
  bench.poll(a);
  bench.pass(3'000);
  bench.poll(a);
  CHECK(a.assigned.empty());
  CHECK(bench.lease() == 0);
  a.follow();
  bench.poll(a);
  CHECK(bench.lease() == 1);
}

TEST_CASE("a claim comes too late when the partition is being leased to another") {
  GroupBench bench(1'000);
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  bench.poll(a);
  bench.pass(1'000);
  bench.poll(a);
  CHECK(bench.coordinator.take_leases(bench.now).size() == 1);
  Worker late = with_claim("late", {{partition_of(1, 0), 5}});
  bench.poll(late);
  CHECK(late.assigned.empty());
  bench.coordinator.leased("g", partition_of(1, 0), 6, bench.now);
  bench.poll(a);
  CHECK(a.assigned == std::vector<OwnedPartition>{{partition_of(1, 0), 6}});
}

TEST_CASE("without a restart nobody waits for claims longer than once") {
  GroupBench bench(3'000);
  bench.set_topic("t", 1, 1);
  bench.coordinator.tick(bench.now);
  bench.pass(3'000);
  Worker a("a", {"t"});
  bench.poll(a);
  CHECK(bench.lease() == 1);
}

TEST_CASE("generations that no coordinator counted are not gone on from") {
  GroupBench bench;
  Worker a("a", {"t"});
  a.beat.generation = UINT64_MAX;
  bench.poll(a);
  CHECK(a.last.ok());
  CHECK(a.beat.generation == 1);
}

// --- bounds

TEST_CASE("there is a bound to the members of a group") {
  GroupBench bench(3'000);
  for (size_t i = 0; i < limits::kGroupMembersMax; ++i) {
    Worker worker(std::to_string(i), {}, i == 0 ? "one" : "");
    bench.send(worker, 0);
  }
  CHECK(bench.coordinator.members("g") == limits::kGroupMembersMax);
  Worker more("more", {});
  bench.poll(more);
  CHECK(more.last.code() == ErrorCode::kLimitExceeded);
  // One that is there, and one that takes another's place.
  Worker known("5", {});
  bench.poll(known);
  CHECK(known.last.ok());
  Worker instead("instead", {}, "one");
  bench.poll(instead);
  CHECK(instead.last.ok());
  CHECK(bench.coordinator.members("g") == limits::kGroupMembersMax);
  bench.leave(known);
  bench.poll(more);
  CHECK(more.last.ok());
}

TEST_CASE("there is a bound to groups, and to members in all") {
  GroupBench bench(3'000);
  const auto group_of = [](size_t i) { return "g" + std::to_string(i); };
  for (size_t i = 0; i < limits::kGroupsMax; ++i) {
    Worker worker("m", {});
    worker.beat.group = group_of(i);
    bench.send(worker, 0);
  }
  CHECK(bench.coordinator.list().size() == limits::kGroupsMax);
  Worker more("m", {});
  bench.poll(more);
  CHECK(more.last.code() == ErrorCode::kLimitExceeded);
  CHECK(bench.coordinator.members("g") == 0);

  for (size_t i = limits::kGroupsMax; i < limits::kGroupMembersInAllMax; ++i) {
    Worker worker(std::to_string(i), {});
    worker.beat.group = group_of(i % limits::kGroupsMax);
    bench.send(worker, 0);
  }
  CHECK(bench.coordinator.members() == limits::kGroupMembersInAllMax);
  more.beat.member = "another";
  more.beat.group = group_of(0);
  bench.poll(more);
  CHECK(more.last.code() == ErrorCode::kLimitExceeded);
}

TEST_CASE("there is a bound to the topics of a subscription") {
  GroupBench bench;
  std::vector<std::string> topics;
  for (size_t i = 0; i < limits::kGroupTopicsMax; ++i) {
    topics.push_back("t" + std::to_string(i));
  }
  Worker a("a", topics);
  bench.poll(a);
  CHECK(a.last.ok());
  a.beat.topics.push_back("one more");
  bench.poll(a);
  CHECK(a.last.code() == ErrorCode::kInvalidArgument);
}

// --- what operators see

TEST_CASE("a group tells of its members") {
  GroupBench bench;
  bench.set_topic("t", 1, 3);
  Worker a("a", {"u", "t"}, "one");
  Worker b("b", {"t"});
  b.beat.session_timeout_ms = 20'000;
  bench.settle({&a, &b});
  bench.pass(1'500);
  const auto info = bench.coordinator.describe("g", bench.now);
  REQUIRE(info.has_value());
  CHECK(info->generation == std::max(a.beat.generation, b.beat.generation));
  REQUIRE(info->members.size() == 2);
  CHECK(info->members[0].member == "a");
  CHECK(info->members[0].instance == "one");
  CHECK(info->members[0].topics == std::vector<std::string>{"t", "u"});
  CHECK(info->members[0].assigned == a.assigned);
  CHECK(info->members[0].heard_ms_ago == 1'500);
  CHECK(info->members[0].session_timeout_ms == 10'000);
  CHECK(info->members[1].session_timeout_ms == 20'000);
  CHECK(info->members[1].assigned.size() + info->members[0].assigned.size() == 3);

  Worker c("c", {"t"});
  c.beat.group = "f";
  bench.poll(c);
  CHECK(bench.coordinator.list() ==
        std::vector<std::pair<std::string, size_t>>{{"f", 1}, {"g", 2}});
  CHECK(bench.coordinator.members("g") == 2);
  CHECK(bench.coordinator.members("nobody") == 0);
  CHECK(bench.coordinator.members() == 3);
}

}  // namespace
}  // namespace tidemark::group
