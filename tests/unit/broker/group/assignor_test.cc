#include "broker/group/assignor.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::group {
namespace {

using Topics = std::vector<uint32_t>;

struct Case {
  std::vector<Topics> members;
  std::vector<Assignable> partitions;

  [[nodiscard]] std::vector<uint32_t> run() const {
    return assign({members.begin(), members.end()}, partitions);
  }
};

std::vector<uint32_t> loads_of(const Case& all, const std::vector<uint32_t>& wanted) {
  std::vector<uint32_t> loads(all.members.size());
  for (const uint32_t member : wanted) {
    if (member != kNobody) {
      ++loads[member];
    }
  }
  return loads;
}

bool subscribes(const Case& all, uint32_t member, uint32_t topic) {
  return std::binary_search(all.members[member].begin(), all.members[member].end(), topic);
}

size_t moves_of(const Case& all, const std::vector<uint32_t>& wanted) {
  size_t moves = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const uint32_t present = all.partitions[i].present;
    moves += present != kNobody && present != wanted[i] ? 1 : 0;
  }
  return moves;
}

// What the header promises of every assignment.
void check_sound(const Case& all, const std::vector<uint32_t>& wanted) {
  REQUIRE(wanted.size() == all.partitions.size());
  const std::vector<uint32_t> loads = loads_of(all, wanted);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const uint32_t topic = all.partitions[i].topic;
    for (uint32_t member = 0; member < all.members.size(); ++member) {
      if (!subscribes(all, member, topic)) {
        CHECK(wanted[i] != member);
        continue;
      }
      REQUIRE(wanted[i] != kNobody);
      CHECK(loads[wanted[i]] <= loads[member] + 1);
    }
  }
  for (uint32_t a = 0; a < all.members.size(); ++a) {
    for (uint32_t b = 0; b < all.members.size(); ++b) {
      CHECK((all.members[a] != all.members[b] || loads[a] <= loads[b] + 1));
    }
  }
}

TEST_CASE("without members or partitions there is nothing to assign") {
  CHECK(Case{}.run().empty());
  CHECK(Case{{{0}}, {}}.run().empty());
  CHECK(Case{{}, {{0, kNobody, true}}}.run() == std::vector<uint32_t>{kNobody});
  CHECK(Case{{{}}, {{0, 0, true}}}.run() == std::vector<uint32_t>{kNobody});
  CHECK(Case{{{1}}, {{0, kNobody, true}}}.run() == std::vector<uint32_t>{kNobody});
}

TEST_CASE("free partitions are dealt in turn") {
  Case all;
  all.members = {{0}, {0}, {0}};
  all.partitions.assign(7, {});
  CHECK(all.run() == std::vector<uint32_t>{0, 1, 2, 0, 1, 2, 0});
}

TEST_CASE("a member that joins gets its share, and nothing else moves") {
  Case all;
  all.members = {{0}, {0}};
  all.partitions.assign(10, {0, 0, true});
  const std::vector<uint32_t> wanted = all.run();
  check_sound(all, wanted);
  CHECK(moves_of(all, wanted) == 5);
}

TEST_CASE("every topic gives its part") {
  Case all;
  all.members = {{0, 1}, {0, 1}};
  all.partitions.assign(10, {0, 0, true});
  all.partitions.insert(all.partitions.end(), 10, {1, 0, true});
  const std::vector<uint32_t> wanted = all.run();
  CHECK(std::count(wanted.begin(), wanted.begin() + 10, 0u) == 5);
  CHECK(std::count(wanted.begin() + 10, wanted.end(), 0u) == 5);
}

TEST_CASE("what is balanced stays as it is") {
  Case all;
  all.members = {{0}, {0}, {0}};
  for (const uint32_t present : {2u, 2u, 2u, 0u, 0u, 1u, 1u, 1u}) {
    all.partitions.push_back({0, present, true});
  }
  CHECK(moves_of(all, all.run()) == 0);
}

TEST_CASE("what interrupts nobody goes first") {
  Case all;
  all.members = {{0, 1}, {0, 1}};
  for (uint32_t i = 0; i < 12; ++i) {
    const bool firm = i != 1 && i != 4 && i != 7 && i != 8 && i != 10 && i != 11;
    all.partitions.push_back({i / 6, 0, firm});
  }
  CHECK(all.run() == std::vector<uint32_t>{0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 1});
}

TEST_CASE("a partition goes to those who subscribe, topics of few first") {
  Case all;
  all.members = {{0}, {0, 1}};
  all.partitions = {{0, kNobody, true}, {0, kNobody, true}, {1, kNobody, true}, {1, kNobody, true}};
  CHECK(all.run() == std::vector<uint32_t>{0, 0, 1, 1});
}

TEST_CASE("who unsubscribed loses it") {
  Case all;
  all.members = {{1}, {0}};
  all.partitions = {{0, 0, true}, {1, 0, true}};
  CHECK(all.run() == std::vector<uint32_t>{1, 0});
}

// The fewest moves that even loads need: what is too much somewhere, or missing elsewhere.
size_t fewest_moves(const Case& all) {
  const size_t members = all.members.size();
  std::vector<size_t> loads(members);
  size_t free = 0;
  for (const Assignable& partition : all.partitions) {
    if (partition.present == kNobody) {
      ++free;
    } else {
      ++loads[partition.present];
    }
  }
  const size_t low = all.partitions.size() / members;
  size_t high_left = all.partitions.size() % members;
  std::sort(loads.rbegin(), loads.rend());
  size_t moves = 0;
  for (const size_t load : loads) {
    const size_t share = low + (high_left > 0 ? 1 : 0);
    high_left -= high_left > 0 ? 1 : 0;
    moves += load > share ? load - share : 0;
  }
  return moves;
}

TEST_CASE("with one subscription there are no fewer moves, whatever was there before") {
  Random random(11);
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    Case all;
    const size_t members = random.between(1, 9);
    all.members.assign(members, {0, 1, 2});
    const uint64_t spread = random.between(1, members);
    const size_t partitions = random.below(40);
    for (size_t i = 0; i < partitions; ++i) {
      const bool is_free = random.chance(1, 4);
      all.partitions.push_back({static_cast<uint32_t>(random.below(3)),
                                is_free ? kNobody : static_cast<uint32_t>(random.below(spread)),
                                random.chance(3, 4)});
    }
    const std::vector<uint32_t> wanted = all.run();
    check_sound(all, wanted);
    CHECK(moves_of(all, wanted) == fewest_moves(all));
    CHECK(wanted == all.run());
  }
}

TEST_CASE("with any subscriptions the loads are as even as single moves make them") {
  Random random(12);
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    Case all;
    const size_t kinds = random.between(1, 4);
    std::vector<Topics> subscriptions(kinds);
    for (Topics& topics : subscriptions) {
      for (uint32_t topic = 0; topic < 5; ++topic) {
        if (random.chance(1, 2)) {
          topics.push_back(topic);
        }
      }
    }
    const size_t members = random.between(1, 8);
    for (size_t i = 0; i < members; ++i) {
      all.members.push_back(subscriptions[random.below(kinds)]);
    }
    const size_t partitions = random.below(60);
    for (size_t i = 0; i < partitions; ++i) {
      all.partitions.push_back(
          {static_cast<uint32_t>(random.below(5)),
           random.chance(1, 3) ? kNobody : static_cast<uint32_t>(random.below(members)),
           random.chance(3, 4)});
    }
    const std::vector<uint32_t> wanted = all.run();
    check_sound(all, wanted);
    // What came out is at rest.
    for (size_t i = 0; i < wanted.size(); ++i) {
      all.partitions[i].present = wanted[i];
      all.partitions[i].firm = true;
    }
    CHECK(moves_of(all, all.run()) == 0);
  }
}

}  // namespace
}  // namespace tidemark::group
