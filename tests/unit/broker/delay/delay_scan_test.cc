#include "broker/delay/delay_scan.h"

#include <algorithm>
#include <map>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/unit/broker/delay/delay_bench.h"

namespace tidemark::delay {
namespace {

using timerwheel::Entry;
using timerwheel::Key;

constexpr int64_t kNow = 1'700'000'000'000;
constexpr timerwheel::Tick kEver = UINT64_MAX;

DelayScan scan(DelayBench& bench, const ScanQuery& query) {
  DelayScan scan(bench.delays->wheel(), query);
  const Status done = scan.run(*bench.store.read().value());
  REQUIRE(done.ok());
  return scan;
}

std::vector<uint64_t> ids(const DelayScan& scan) {
  std::vector<uint64_t> found;
  for (const Entry& entry : scan.found()) {
    found.push_back(entry.id);
  }
  return found;
}

// Ids 1 to 20, due one after the other.
void add_twenty(DelayBench& bench) {
  for (uint64_t id = 1; id <= 20; ++id) {
    bench.delays->add(new_delay(id, kNow + static_cast<int64_t>(id)));
  }
}

TEST_CASE("scan: a page has the first ones, in order, and says whether there is more") {
  DelayBench bench;
  add_twenty(bench);
  ScanQuery query{TopicId{1}, {}, {}, kEver, 8};
  const DelayScan first = scan(bench, query);
  CHECK(ids(first) == std::vector<uint64_t>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(first.more());
  query.after = first.found().back().key();
  query.limit = 12;
  const DelayScan rest = scan(bench, query);
  CHECK(rest.found().size() == 12);
  CHECK(rest.found().back().id == 20);
  CHECK_FALSE(rest.more());
  query.after = rest.found().back().key();
  CHECK(scan(bench, query).found().empty());
  CHECK_FALSE(scan(bench, query).more());
}

TEST_CASE("scan: by topic, by partition and up to a due time") {
  DelayBench bench;
  add_twenty(bench);
  NewDelay other = new_delay(21, kNow);
  other.tag.partition = {TopicId{2}, PartitionIndex{0}};
  bench.delays->add(other);
  other = new_delay(22, kNow);
  other.tag.partition.index = PartitionIndex{5};
  bench.delays->add(other);
  const Key from_start;
  CHECK(scan(bench, {TopicId{1}, {}, from_start, kEver, 100}).found().size() == 21);
  CHECK(ids(scan(bench, {TopicId{2}, {}, from_start, kEver, 100})) == std::vector<uint64_t>{21});
  CHECK(ids(scan(bench, {TopicId{1}, PartitionIndex{5}, from_start, kEver, 100})) ==
        std::vector<uint64_t>{22});
  const auto to = static_cast<timerwheel::Tick>(kNow + 3);
  CHECK(ids(scan(bench, {TopicId{1}, PartitionIndex{0}, from_start, to, 100})) ==
        std::vector<uint64_t>{1, 2, 3});
  CHECK(scan(bench, {TopicId{3}, {}, from_start, kEver, 100}).found().empty());
}

TEST_CASE("scan: memory and store are one list, each message once") {
  DelayBench bench({.memory_entries_max = 8, .chunk_entries_max = 4, .lookahead = 50});
  add_twenty(bench);
  bench.reach({static_cast<timerwheel::Tick>(kNow), 0});
  bench.checkpoint();
  for (uint64_t id = 21; id <= 30; ++id) {
    bench.delays->add(new_delay(id, kNow + 90'000'000));
  }
  bench.checkpoint();
  bench.delays->add(new_delay(31, kNow + 5));
  const DelayScan all = scan(bench, {TopicId{1}, {}, {}, kEver, 100});
  CHECK(all.found().size() == 31);
  CHECK(std::is_sorted(all.found().begin(), all.found().end(),
                       [](const Entry& a, const Entry& b) { return a.key() < b.key(); }));
  CHECK_FALSE(all.more());
  const DelayScan page = scan(bench, {TopicId{1}, {}, {}, kEver, 20});
  CHECK(page.found().size() == 20);
  CHECK(page.more());  // the slots behind the page are not even read
}

TEST_CASE("scan: cancelled messages are found too, their states tell") {
  DelayBench bench;
  add_twenty(bench);
  for (uint64_t id = 1; id <= 10; ++id) {
    bench.delays->cancel(name_of(new_delay(id, kNow + static_cast<int64_t>(id))));
  }
  const DelayScan page = scan(bench, {TopicId{1}, {}, {}, kEver, 5});
  CHECK(page.found().size() == 5);
  CHECK(page.more());
  for (const Entry& entry : page.found()) {
    CHECK(bench.delays->state(entry.id) == DelayState::kCancelled);
  }
}

TEST_CASE("scan: a damaged chunk is named as such") {
  DelayBench bench({.memory_entries_max = 4, .chunk_entries_max = 4, .lookahead = 50});
  for (uint64_t id = 1; id <= 20; ++id) {
    bench.delays->add(new_delay(id, kNow + 90'000'000));
  }
  bench.checkpoint();
  std::string key(bench.store.read().value()->seek("W").value()->key);
  kv::WriteBatch damage;
  damage.put(key, "no chunk");
  REQUIRE(bench.store.commit(damage).ok());
  DelayScan scan(bench.delays->wheel(), {TopicId{1}, {}, {}, kEver, 5});
  CHECK(scan.run(*bench.store.read().value()).code() == ErrorCode::kCorrupted);
}

TEST_CASE("scan: pages put together are all that is pending, whatever lies where") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    DelayBench bench({.memory_entries_max = 60, .chunk_entries_max = 8, .lookahead = 300});
    std::map<Key, uint64_t> pending;
    int64_t now = kNow;
    for (uint64_t id = 1; id <= 600; ++id) {
      const uint64_t spread = random.chance(1, 4) ? 100'000'000 : 2000;
      const NewDelay delay = new_delay(id, now + static_cast<int64_t>(random.below(spread)));
      const int64_t due = bench.delays->add(delay).due_ms;
      pending[{static_cast<timerwheel::Tick>(due), id}] = id;
      if (random.chance(1, 40)) {
        bench.checkpoint();
      }
      if (random.chance(1, 20)) {
        now += static_cast<int64_t>(random.below(300));
        for (const uint64_t taken : ids_of(bench.take(now))) {
          std::erase_if(pending, [&](const auto& each) { return each.second == taken; });
        }
      }
    }
    std::vector<uint64_t> found;
    ScanQuery query{TopicId{1}, {}, {}, kEver, random.between(1, 50)};
    for (bool more = true; more;) {
      const DelayScan page = scan(bench, query);
      REQUIRE(page.found().size() <= query.limit);
      // The store may still have what has left.
      for (const Entry& entry : page.found()) {
        if (bench.delays->state(entry.id) == DelayState::kPending) {
          found.push_back(entry.id);
        }
      }
      more = page.more();
      REQUIRE((!more || !page.found().empty()));
      query.after = more ? page.found().back().key() : query.after;
    }
    std::vector<uint64_t> expected;
    for (const auto& [key, id] : pending) {
      expected.push_back(id);
    }
    REQUIRE(found == expected);
  }
}

}  // namespace
}  // namespace tidemark::delay
