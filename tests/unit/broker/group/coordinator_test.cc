#include "broker/group/coordinator.h"

#include <doctest/doctest.h>

#include "log/base/limits.h"
#include "tests/unit/broker/group/group_bench.h"

namespace tidemark::group {
namespace {

using Indexes = std::vector<uint32_t>;

// --- members come and go

TEST_CASE("the only member gets everything, with the epochs that the shards gave") {
  GroupBench bench;
  bench.set_topic("t", 1, 3);
  bench.epochs[{"g", partition_of(1, 1)}] = 7;
  Worker a("a", {"t"});
  const HeartbeatAnswer first = bench.poll(a);
  CHECK(first.status.ok());
  CHECK(first.generation > 0);
  CHECK(first.assigned.empty());  // nothing before it is leased
  CHECK(first.members == 1);
  CHECK(bench.lease() == 3);
  const HeartbeatAnswer second = bench.poll(a);
  CHECK(second.generation > first.generation);
  CHECK(second.assigned == std::vector<OwnedPartition>{{partition_of(1, 0), 1},
                                                       {partition_of(1, 1), 8},
                                                       {partition_of(1, 2), 1}});
  a.follow();
  CHECK(bench.poll(a).generation == second.generation);
  CHECK(bench.lease() == 0);
}

TEST_CASE("a second member gets its share when the first gave it up, not before") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.settle({&a});
  bench.poll(b);
  CHECK(b.assigned.empty());
  CHECK(bench.lease() == 0);

  bench.poll(a);  // hears of it, still works on all
  CHECK(a.indexes() == Indexes{0, 1});
  CHECK(a.members == 2);
  bench.poll(a);
  bench.pass(1'000);
  CHECK(bench.lease() == 0);
  CHECK(bench.poll(b).assigned.empty());

  a.beat.owned.pop_back();  // one of the two
  bench.poll(a);
  CHECK(bench.lease() == 1);
  bench.poll(b);
  CHECK(b.assigned == std::vector<OwnedPartition>{{partition_of(1, 3), 2}});

  a.give_up();
  bench.poll(a);
  CHECK(bench.lease() == 1);
  bench.poll(b);
  CHECK(b.indexes() == Indexes{2, 3});
  CHECK(a.assigned ==
        std::vector<OwnedPartition>{{partition_of(1, 0), 1}, {partition_of(1, 1), 1}});
}

TEST_CASE("who does not know yet that a partition is taken from it has not given it up") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.poll(a);
  bench.lease();
  const Heartbeat before = a.beat;  // of one that has not heard of its partitions
  bench.poll(a);
  bench.poll(b);
  // On its way since before; the member may begin to work on both at any time.
  bench.coordinator.heartbeat(before, ++bench.last_ticket, bench.now);
  CHECK(bench.lease() == 0);
  bench.poll(a);
  CHECK(a.indexes() == Indexes{0});
  a.follow();
  bench.poll(a);  // knows it and does not list the other
  CHECK(bench.lease() == 1);
}

TEST_CASE("a third member joins while the first still gives to the second") {
  GroupBench bench;
  bench.set_topic("t", 1, 6);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  Worker c("c", {"t"});
  bench.settle({&a});
  bench.poll(b);
  bench.poll(a);
  CHECK(a.indexes() == Indexes{0, 1, 2});
  bench.poll(c);
  bench.poll(a);
  CHECK(a.indexes() == Indexes{0, 1});  // what is on its way is not called back
  CHECK(bench.lease() == 0);
  a.give_up();
  bench.poll(a);
  CHECK(bench.lease() == 4);
  bench.poll(b);
  bench.poll(c);
  CHECK(b.assigned.size() == 2);
  CHECK(c.assigned.size() == 2);
  CHECK(a.indexes() == Indexes{0, 1});
  bench.settle({&a, &b, &c});
  CHECK(bench.epoch(partition_of(1, 0)) == 1);
  CHECK(bench.epoch(partition_of(1, 5)) == 2);
}

TEST_CASE("what is being taken away stays when there is nobody to get it any more") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.settle({&a});
  bench.poll(b);
  bench.poll(a);
  CHECK(a.indexes() == Indexes{0, 1});
  bench.leave(b);
  // Gave them up in the meantime, without knowing that they came back.
  a.give_up();
  bench.poll(a);
  CHECK(bench.lease() == 0);
  CHECK(a.assigned.size() == 4);
  CHECK(a.assigned[3].epoch == 1);
  bench.settle({&a});
  CHECK(a.assigned.size() == 4);
}

TEST_CASE("what a member leaves behind goes to the others at once") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.settle({&a, &b});
  const auto waits = bench.send(a, 3'000);
  const Indexes kept = a.indexes();
  bench.leave(b);
  CHECK(bench.coordinator.members("g") == 1);
  CHECK(!bench.take(a, waits));
  CHECK(bench.lease() == 2);
  CHECK(bench.take(a, waits));
  CHECK(a.members == 1);
  CHECK(a.assigned.size() == 4);
  for (const uint32_t index : kept) {
    CHECK(bench.epoch(partition_of(1, index)) == 1);
  }
}

TEST_CASE("the last one leaves: there is no group any more") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  bench.settle({&a});
  const auto waits = bench.send(a, 3'000);
  bench.leave(a);
  const auto last = bench.answer(waits);
  REQUIRE(last.has_value());
  CHECK(last->assigned.empty());
  CHECK(last->members == 0);
  CHECK(bench.coordinator.members() == 0);
  CHECK(bench.coordinator.list().empty());
  CHECK(!bench.coordinator.describe("g", bench.now).has_value());
  bench.leave(a);  // again, of one that is not there
  CHECK(bench.coordinator.list().empty());
  bench.coordinator.leased("g", partition_of(1, 0), 9, bench.now);
  bench.coordinator.tick(bench.now);
}

TEST_CASE("a member is gone when nothing was heard of it for its session timeout") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  a.beat.session_timeout_ms = 5'000;
  b.beat.session_timeout_ms = 300'000;
  bench.settle({&a, &b});
  const PartitionId moves = a.assigned[0].partition;
  const auto waits = bench.send(b, 60'000);
  bench.now.ns += 5'000 * kMs - 1;
  bench.coordinator.tick(bench.now);
  CHECK(bench.coordinator.members("g") == 2);
  CHECK(bench.lease() == 0);
  bench.now.ns += 1;
  bench.coordinator.tick(bench.now);
  CHECK(bench.coordinator.members("g") == 1);
  CHECK(bench.lease() == 1);
  CHECK(bench.take(b, waits));
  CHECK(b.has(moves));
  CHECK(bench.epoch(moves) == 2);

  // It comes back, and does not have it any more.
  bench.poll(a);
  CHECK(a.assigned.empty());
  CHECK(a.members == 2);
}

TEST_CASE("every heartbeat begins the session again, and may change its timeout") {
  GroupBench bench;
  Worker a("a", {"t"});
  a.beat.session_timeout_ms = 2'000;
  for (int i = 0; i < 5; ++i) {
    bench.poll(a);
    bench.pass(1'999);
    bench.coordinator.tick(bench.now);
    CHECK(bench.coordinator.members() == 1);
  }
  a.beat.session_timeout_ms = 6'000;
  bench.poll(a);
  bench.pass(5'999);
  bench.coordinator.tick(bench.now);
  CHECK(bench.coordinator.members() == 1);
  bench.pass(1);
  bench.coordinator.tick(bench.now);
  CHECK(bench.coordinator.members() == 0);
}

TEST_CASE("a member that was away too long hears that nothing is assigned to it") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  bench.settle({&a});
  const uint64_t before = a.beat.generation;
  const auto waits = bench.send(a, 3'000);
  bench.pass(10'000);  // the loop stood still
  bench.coordinator.tick(bench.now);
  CHECK(bench.take(a, waits));
  CHECK(a.last.ok());
  CHECK(a.assigned.empty());
  CHECK(a.beat.generation > before);
}

TEST_CASE("a member that was gone takes up what nobody got meanwhile") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  bench.settle({&a});
  bench.pass(10'000);
  bench.coordinator.tick(bench.now);
  CHECK(bench.coordinator.members() == 0);
  bench.poll(a);
  CHECK(a.assigned == a.beat.owned);
  CHECK(bench.lease() == 0);
}

// --- static members

TEST_CASE("a static member that comes back gets what it had, and nobody else is touched") {
  GroupBench bench;
  bench.set_topic("t", 1, 7);
  Worker a("x", {"t"}, "one");  // has one more than the other
  Worker b("b", {"t"}, "two");
  bench.settle({&a, &b});
  const Indexes had = a.indexes();
  const uint64_t generation = b.beat.generation;
  const auto old_waits = bench.send(a, 3'000);
  const auto other_waits = bench.send(b, 3'000);

  Worker again("y", {"t"}, "one");
  bench.poll(again);
  CHECK(again.last.ok());
  CHECK(again.assigned.empty());
  CHECK(again.members == 2);
  CHECK(bench.take(a, old_waits));
  CHECK(a.last.code() == ErrorCode::kFenced);
  CHECK(bench.lease() == 4);  // at once: the epochs fence the one before
  bench.poll(again);
  CHECK(again.indexes() == had);
  CHECK(bench.epoch(again.assigned[0].partition) == 2);
  CHECK(!bench.take(b, other_waits));
  bench.poll(b);
  CHECK(b.beat.generation == generation);

  // The one before stays out, however often it comes.
  bench.poll(a);
  CHECK(a.last.code() == ErrorCode::kFenced);
  a.beat.generation = 0;
  bench.poll(a);
  CHECK(a.last.code() == ErrorCode::kFenced);
  a.beat.leave = true;
  bench.poll(a);
  CHECK(bench.coordinator.members("g") == 2);
  again.follow();
  CHECK(bench.poll(again).status.ok());
}

TEST_CASE("a static member that was replaced twice does not come back") {
  GroupBench bench;
  Worker a("a", {"t"}, "one");
  Worker b("b", {"t"}, "one");
  Worker c("c", {"t"}, "one");
  for (Worker* const worker : {&a, &b, &c}) {
    bench.poll(*worker);
    CHECK(worker->last.ok());
  }
  CHECK(bench.coordinator.members("g") == 1);
  bench.poll(a);
  CHECK(a.last.code() == ErrorCode::kFenced);
  bench.poll(b);
  CHECK(b.last.code() == ErrorCode::kFenced);
  bench.poll(c);
  CHECK(c.last.ok());
}

TEST_CASE("a static member replaced while partitions are on their way to and from it") {
  GroupBench bench;
  bench.set_topic("t", 1, 4);
  Worker a("a", {"t"}, "one");
  Worker b("b", {"t"}, "two");
  bench.settle({&a});
  bench.poll(b);
  bench.poll(a);  // two are taken from it

  SUBCASE("it had them") {
    Worker again("a2", {"t"}, "one");
    bench.poll(again);
    CHECK(bench.lease() == 4);  // nobody has to be waited for
    bench.poll(again);
    bench.poll(b);
    CHECK(again.indexes() == Indexes{0, 1});
    CHECK(b.indexes() == Indexes{2, 3});
  }
  SUBCASE("it was to get them") {
    Worker again("b2", {"t"}, "two");
    bench.poll(again);
    CHECK(bench.lease() == 0);
    a.give_up();
    bench.poll(a);
    CHECK(bench.lease() == 2);
    bench.poll(again);
    CHECK(again.indexes() == Indexes{2, 3});
  }
}

TEST_CASE("an instance that left or timed out is free") {
  GroupBench bench;
  Worker a("a", {"t"}, "one");
  bench.poll(a);
  bench.leave(a);
  Worker b("b", {"t"}, "one");
  b.beat.generation = 3;
  bench.poll(b);
  CHECK(b.last.ok());
  bench.pass(10'000);
  bench.coordinator.tick(bench.now);
  Worker c("c", {"t"}, "one");
  bench.poll(c);
  CHECK(c.last.ok());
  CHECK(bench.coordinator.members() == 1);
}

TEST_CASE("instances are those of a group") {
  GroupBench bench;
  Worker a("a", {"t"}, "one");
  Worker b("b", {"t"}, "one");
  b.beat.group = "h";
  bench.poll(a);
  bench.poll(b);
  bench.poll(a);
  CHECK(a.last.ok());
  CHECK(bench.coordinator.members() == 2);
}

// --- long polls

TEST_CASE("a heartbeat is answered at once when there is something new") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  CHECK(bench.take(a, bench.send(a, 3'000)));  // that it is a member
  const auto waits = bench.send(a, 3'000);
  CHECK(!bench.take(a, waits));
  bench.lease();
  CHECK(bench.take(a, waits));
  CHECK(a.assigned.size() == 1);
  // It missed an answer.
  a.beat.generation -= 1;
  CHECK(bench.take(a, bench.send(a, 3'000)));
}

TEST_CASE("a heartbeat is answered after wait_ms, at most a third of the session timeout") {
  GroupBench bench;
  Worker a("a", {"t"});
  a.beat.session_timeout_ms = 9'000;
  bench.poll(a);
  for (const auto& [wait_ms, waited_ms] :
       {std::pair(500u, 500), std::pair(3'000u, 3'000), std::pair(60'000u, 3'000)}) {
    const auto waits = bench.send(a, wait_ms);
    bench.pass(waited_ms - 1);
    bench.coordinator.tick(bench.now);
    CHECK(!bench.take(a, waits));
    bench.pass(1);
    bench.coordinator.tick(bench.now);
    CHECK(bench.take(a, waits));
    CHECK(a.last.ok());
  }
}

TEST_CASE("a second heartbeat answers the one that waits, with the same news") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  bench.settle({&a});
  const auto first = bench.send(a, 3'000);
  const auto second = bench.send(a, 3'000);
  const auto answer = bench.answer(first);
  REQUIRE(answer.has_value());
  CHECK(answer->status.ok());
  CHECK(answer->generation == a.beat.generation);
  CHECK(answer->assigned == a.assigned);
  CHECK(!bench.answer(second).has_value());

  Worker changed = a;
  changed.beat.topics = {"other"};
  const auto third = bench.send(changed, 3'000);
  const auto to_second = bench.answer(second);
  const auto to_third = bench.answer(third);
  REQUIRE(to_second.has_value());
  REQUIRE(to_third.has_value());
  CHECK(to_second->generation == to_third->generation);
  CHECK(to_second->assigned.empty());
  CHECK(to_third->assigned.empty());
}

TEST_CASE("a heartbeat whose connection is gone is not answered, its member lives on") {
  GroupBench bench;
  Worker a("a", {"t"});
  bench.poll(a);
  const auto waits = bench.send(a, 3'000);
  bench.coordinator.forget(waits);
  bench.coordinator.forget(waits);
  bench.coordinator.forget(12'345);
  bench.pass(5'000);
  bench.coordinator.tick(bench.now);
  CHECK(!bench.answer(waits).has_value());
  CHECK(bench.coordinator.members() == 1);
  bench.pass(5'000);
  bench.coordinator.tick(bench.now);
  CHECK(!bench.answer(waits).has_value());
  CHECK(bench.coordinator.members() == 0);
}

TEST_CASE("all that wait are told when it is over, and nothing is known any more") {
  GroupBench bench(100);
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.poll(a);
  bench.pass(100);
  bench.settle({&a, &b});
  const auto waits = bench.send(a, 3'000);
  bench.coordinator.fail_all(Status(ErrorCode::kNotLeader, "lost"));
  CHECK(bench.take(a, waits));
  CHECK(a.last.code() == ErrorCode::kNotLeader);
  CHECK(bench.coordinator.members() == 0);
  CHECK(bench.coordinator.list().empty());
  CHECK(bench.coordinator.take_leases(bench.now).empty());
  bench.pass(60'000);
  // Another start.
  bench.poll(b);
  CHECK(b.assigned == b.beat.owned);
  CHECK(bench.lease() == 0);
  bench.pass(100);
  bench.coordinator.tick(bench.now);
  CHECK(bench.lease() == 1);
}

// --- leases

TEST_CASE("a lease is wanted again until it is given, at most twice a second") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  Worker a("a", {"t"});
  bench.poll(a);
  CHECK(bench.coordinator.take_leases(bench.now).size() == 2);
  CHECK(bench.coordinator.take_leases(bench.now).empty());
  bench.pass(499);
  CHECK(bench.coordinator.take_leases(bench.now).empty());
  bench.coordinator.leased("g", partition_of(1, 0), 1, bench.now);
  bench.pass(1);
  const auto wanted = bench.coordinator.take_leases(bench.now);
  REQUIRE(wanted.size() == 1);
  CHECK(wanted[0].group == "g");
  CHECK(wanted[0].partition == partition_of(1, 1));
  bench.pass(499);
  CHECK(bench.coordinator.take_leases(bench.now).empty());
  bench.pass(60'000);
  a.beat.session_timeout_ms = 300'000;
  bench.poll(a);
  CHECK(bench.coordinator.take_leases(bench.now).size() == 1);
}

TEST_CASE("a lease that was given twice raises the epoch of whoever has the partition") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  const PartitionId id = partition_of(1, 0);
  Worker a("a", {"t"});
  bench.poll(a);
  bench.coordinator.leased("g", id, 4, bench.now);
  bench.poll(a);
  a.follow();
  const auto waits = bench.send(a, 3'000);
  bench.coordinator.leased("g", id, 4, bench.now);
  bench.coordinator.leased("g", id, 3, bench.now);
  CHECK(!bench.take(a, waits));
  bench.coordinator.leased("g", id, 5, bench.now);
  CHECK(bench.take(a, waits));
  CHECK(a.assigned == std::vector<OwnedPartition>{{id, 5}});
  bench.poll(a);  // lists it with the epoch before
  CHECK(a.has(id));
  CHECK(bench.lease() == 0);
}

TEST_CASE("a lease that comes when the member that was to get it is gone") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  const PartitionId id = partition_of(1, 0);
  Worker a("a", {"t"});
  Worker b("b", {"t"});
  bench.poll(a);
  CHECK(bench.coordinator.take_leases(bench.now).size() == 1);

  SUBCASE("another one gets it") {
    bench.poll(b);
    bench.leave(a);
    CHECK(bench.coordinator.take_leases(bench.now).empty());  // it is asked for
    bench.coordinator.leased("g", id, 6, bench.now);
    bench.poll(b);
    CHECK(b.assigned == std::vector<OwnedPartition>{{id, 6}});
  }
  SUBCASE("nobody is there") {
    bench.leave(a);
    bench.coordinator.leased("g", id, 6, bench.now);
    bench.poll(b);
    CHECK(b.assigned.empty());
    CHECK(bench.coordinator.take_leases(bench.now).size() == 1);
    bench.coordinator.leased("g", id, 7, bench.now);
    bench.poll(b);
    CHECK(b.assigned == std::vector<OwnedPartition>{{id, 7}});
  }
  SUBCASE("nobody subscribes to it any more") {
    a.beat.topics = {};
    bench.poll(a);
    bench.coordinator.leased("g", id, 6, bench.now);
    bench.poll(a);
    CHECK(a.assigned.empty());
    bench.pass(1'000);
    CHECK(bench.coordinator.take_leases(bench.now).empty());
  }
}

TEST_CASE("leases of what is unknown change nothing") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  bench.poll(a);
  bench.coordinator.leased("other", partition_of(1, 0), 1, bench.now);
  bench.coordinator.leased("g", partition_of(1, 1), 1, bench.now);
  bench.coordinator.leased("g", partition_of(2, 0), 1, bench.now);
  bench.poll(a);
  CHECK(a.assigned.empty());
}

TEST_CASE("a member that lost a partition gets it again with another epoch") {
  GroupBench bench;
  bench.set_topic("t", 1, 2);
  const PartitionId id = partition_of(1, 0);
  Worker a("a", {"t"});
  bench.settle({&a});
  ++bench.epochs[{"g", id}];  // an operator's reset
  std::erase_if(a.beat.owned, [id](const OwnedPartition& one) { return one.partition == id; });
  bench.poll(a);
  CHECK(a.indexes() == Indexes{1});
  CHECK(bench.lease() == 1);
  bench.poll(a);
  CHECK(a.assigned == std::vector<OwnedPartition>{{id, 3}, {partition_of(1, 1), 1}});
}

TEST_CASE("a member that is slow to begin is waited for, for the length of its session") {
  GroupBench bench;
  bench.set_topic("t", 1, 1);
  Worker a("a", {"t"});
  bench.poll(a);
  bench.lease();
  bench.poll(a);
  for (int i = 0; i < 3; ++i) {
    bench.pass(3'000);
    bench.poll(a);
    CHECK(bench.lease() == 0);
  }
  bench.pass(1'000);
  bench.poll(a);
  CHECK(a.assigned.empty());
  CHECK(bench.lease() == 1);
  bench.poll(a);
  CHECK(a.assigned[0].epoch == 2);
}

}  // namespace
}  // namespace tidemark::group
