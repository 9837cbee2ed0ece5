// Whatever happens to members, mails, topics and the coordinator itself, a partition has one owner.
#include <algorithm>
#include <deque>
#include <set>

#include <doctest/doctest.h>

#include "broker/group/coordinator.h"
#include "log/base/clock.h"
#include "log/base/random.h"
#include "tests/unit/broker/group/group_bench.h"

namespace tidemark::group {
namespace {

// A member with the partitions that it takes itself to be working on.
struct Player {
  Player(Worker is, bool replaces) : worker(std::move(is)), is_replacement(replaces) {}

  Worker worker;
  bool is_replacement;
  bool is_running = true;
  std::optional<Coordinator::Ticket> waits;
  // What it said when it was heard last, without what it may not be working on any more: it was
  // not a member for a while and others could get that.
  std::map<PartitionId, uint32_t> said;
  std::deque<Heartbeat> sent;  // any may arrive again
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), bench_(seed % 3 == 0 ? 0 : 3'000) {
    bench_.set_topic("t", 1, 6);
    bench_.set_topic("u", 2, 5);
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      CAPTURE(i);
      step();
      notice_who_is_gone();
      check_owners();
    }
    calm_down();
  }

 private:
  void step() {
    bench_.pass(static_cast<int64_t>(random_.below(400)));
    const uint64_t dice = random_.below(100);
    if (dice < 3) {
      join();
    } else if (dice < 5) {
      leave_or_die();
    } else if (dice < 6) {
      rare();
    } else if (dice < 7) {
      change_topics();
    } else if (dice < 25) {
      bench_.coordinator.tick(bench_.now);
    } else if (dice < 45) {
      lease();
    } else if (Player* const player = any_player(); player != nullptr) {
      act(*player);
    }
    take_answers();
  }

  void join() {
    if (players_.size() > 40) {
      return;
    }
    std::vector<std::string> topics = {"t"};
    if (random_.chance(1, 2)) {
      topics.emplace_back("u");
    }
    const bool is_static = random_.chance(1, 3);
    const std::string instance = is_static ? "i" + std::to_string(random_.below(3)) : "";
    players_.emplace_back(Worker("m" + std::to_string(next_member_++), topics, instance),
                          is_static);
    players_.back().worker.beat.session_timeout_ms = 6'000;
  }

  void leave_or_die() {
    Player* const player = any_player();
    if (player == nullptr) {
      return;
    }
    if (random_.chance(1, 2)) {
      player->worker.beat.owned.clear();
      player->worker.beat.leave = true;
      send(*player);
    }
    player->is_running = false;
  }

  void rare() {
    switch (random_.below(4)) {
      case 0:
        bench_.coordinator.fail_all(Status(ErrorCode::kNotLeader, "lost"));
        break;
      case 1:  // everybody is cut off for a while
        bench_.pass(7'000);
        bench_.coordinator.tick(bench_.now);
        break;
      case 2:
        if (!bench_.epochs.empty()) {  // an operator's reset
          auto it = bench_.epochs.begin();
          std::advance(it, static_cast<long>(random_.below(bench_.epochs.size())));
          ++it->second;
        }
        break;
      default:
        if (Player* const player = any_player(); player != nullptr) {
          player->worker.beat.topics = {random_.chance(1, 2) ? "t" : "u"};
        }
    }
  }

  void change_topics() {
    // A topic only grows; the same name can be another topic.
    const std::vector<PartitionId> before = bench_.partitions("t");
    if (before.size() > 8) {
      bench_.set_topic("t", next_topic_++, 5);
    } else {
      bench_.set_topic("t", before[0].topic.value(), static_cast<uint32_t>(before.size()) + 1);
    }
    if (random_.chance(1, 4)) {
      bench_.topics.erase("u");
    } else if (bench_.partitions("u").empty()) {
      bench_.set_topic("u", next_topic_++, 5);
    }
    bench_.coordinator.topics_changed(bench_.now);
  }

  // Shards apply leases in order; the mails to them and back may be lost, or be under way for long.
  void lease() {
    for (const LeaseWanted& wanted : bench_.coordinator.take_leases(bench_.now)) {
      check_nobody_works_on(wanted.partition);
      if (!random_.chance(1, 5)) {
        mails_.push_back({wanted, ++bench_.epochs[{"g", wanted.partition}]});
      }
    }
    while (!mails_.empty() && random_.chance(3, 4)) {
      const auto [wanted, epoch] = mails_.front();
      mails_.pop_front();
      if (!random_.chance(1, 8)) {
        bench_.coordinator.leased(wanted.group, wanted.partition, epoch, bench_.now);
      }
    }
  }

  void act(Player& player) {
    Worker& worker = player.worker;
    switch (random_.below(8)) {
      case 0:
      case 1:
        worker.give_up();
        break;
      case 2:
        if (!worker.beat.owned.empty() && random_.chance(1, 2)) {
          commit(player);
        }
        break;
      case 3:
        if (!player.is_replacement && !player.sent.empty() && random_.chance(1, 3)) {
          hear(player, player.sent[random_.below(player.sent.size())], std::nullopt);
        }
        break;
      case 4:
        worker.follow();
        break;
      default:
        break;
    }
    send(player);
  }

  // What the shard refuses is lost.
  void commit(Player& player) {
    std::erase_if(player.worker.beat.owned, [this](const OwnedPartition& one) {
      return one.epoch != bench_.epochs[{"g", one.partition}];
    });
  }

  void send(Player& player) {
    Heartbeat beat = player.worker.beat;
    beat.wait_ms = random_.chance(1, 2) ? 2'000 : 0;
    player.sent.push_back(beat);
    if (player.sent.size() > 3) {
      player.sent.pop_front();
    }
    if (!random_.chance(1, 20)) {  // lost
      player.waits = bench_.last_ticket + 1;
      hear(player, beat, player.waits);
    }
  }

  void hear(Player& player, const Heartbeat& beat, std::optional<Coordinator::Ticket> ticket) {
    const bool was_member = is_member(player);
    bench_.coordinator.heartbeat(beat, ++bench_.last_ticket, bench_.now);
    if (!ticket.has_value()) {
      bench_.coordinator.forget(bench_.last_ticket);
    }
    std::map<PartitionId, uint32_t> said;
    for (const OwnedPartition& one : beat.owned) {
      // Of a new member only what it is told to keep counts.
      const auto before = player.said.find(one.partition);
      const bool kept = was_member && before != player.said.end() && before->second == one.epoch;
      if (kept || is_assigned(player, one)) {
        said[one.partition] = one.epoch;
      }
    }
    player.said = beat.leave ? std::map<PartitionId, uint32_t>() : said;
  }

  void take_answers() {
    bench_.collect();
    for (Player& player : players_) {
      if (!player.waits.has_value()) {
        continue;
      }
      const auto got = bench_.answer(*player.waits);
      if (got.has_value() && !random_.chance(1, 20)) {
        player.worker.learn(*got);
        if (player.worker.last.code() == ErrorCode::kFenced) {
          player.is_running = false;
          player.worker.beat.owned.clear();
        }
        if (random_.chance(1, 2)) {
          take_up(player.worker);
        }
      }
    }
    bench_.answers.clear();
  }

  // Begins with what is new, goes on with the rest, and does not yet give anything up.
  static void take_up(Worker& worker) {
    for (const OwnedPartition& one : worker.assigned) {
      std::erase_if(worker.beat.owned, [&one](const OwnedPartition& other) {
        return other.partition == one.partition;
      });
      worker.beat.owned.push_back(one);
    }
  }

  // --- checks

  [[nodiscard]] std::vector<MemberInfo> members() const {
    const auto info = bench_.coordinator.describe("g", bench_.now);
    return info.has_value() ? info->members : std::vector<MemberInfo>();
  }

  [[nodiscard]] bool is_member(const Player& player) const {
    const auto all = members();
    return std::any_of(all.begin(), all.end(), [&player](const MemberInfo& member) {
      return member.member == player.worker.beat.member;
    });
  }

  [[nodiscard]] bool is_assigned(const Player& player, const OwnedPartition& one) const {
    for (const MemberInfo& member : members()) {
      if (member.member == player.worker.beat.member) {
        return std::find(member.assigned.begin(), member.assigned.end(), one) !=
               member.assigned.end();
      }
    }
    return false;
  }

  void notice_who_is_gone() {
    std::set<std::string> present;
    for (const MemberInfo& member : members()) {
      present.insert(member.member);
    }
    for (Player& player : players_) {
      if (!present.contains(player.worker.beat.member)) {
        player.said.clear();
      }
    }
    std::erase_if(players_, [&present](const Player& player) {
      return !player.is_running && !present.contains(player.worker.beat.member);
    });
  }

  // A lease takes the partition from whoever has it: no member said that it still works on it.
  void check_nobody_works_on(PartitionId id) {
    for (const Player& player : players_) {
      const auto it = player.said.find(id);
      CAPTURE(player.worker.beat.member);
      CAPTURE(id.topic.value());
      CAPTURE(id.index.value());
      CHECK((it == player.said.end() || it->second != bench_.epochs[{"g", id}]));
    }
  }

  void check_owners() {
    std::set<PartitionId> assigned;
    for (const MemberInfo& member : members()) {
      for (const OwnedPartition& one : member.assigned) {
        CHECK(assigned.insert(one.partition).second);
      }
    }
    std::set<PartitionId> owned;
    for (const Player& player : players_) {
      for (const OwnedPartition& one : player.worker.beat.owned) {
        if (one.epoch == bench_.epochs[{"g", one.partition}]) {
          CHECK(owned.insert(one.partition).second);
        }
      }
    }
  }

  Player* any_player() {
    std::vector<Player*> running;
    for (Player& player : players_) {
      if (player.is_running) {
        running.push_back(&player);
      }
    }
    return running.empty() ? nullptr : running[random_.below(running.size())];
  }

  // Nothing goes wrong any more: everything has an owner, and the loads are even.
  void calm_down() {
    if (any_player() == nullptr) {
      join();
    }
    mails_.clear();
    for (int i = 0; i < 60; ++i) {
      bench_.pass(500);
      bench_.coordinator.tick(bench_.now);
      for (Player& player : players_) {
        if (player.is_running) {
          commit(player);
          bench_.poll(player.worker);
          player.is_running = player.worker.last.ok();
          player.worker.follow();
        }
      }
      bench_.lease();
    }
    std::map<PartitionId, uint32_t> owners;
    std::map<std::vector<std::string>, std::set<size_t>> loads;
    std::set<std::string> topics;
    for (const Player& player : players_) {
      if (!player.is_running) {
        continue;
      }
      loads[player.worker.beat.topics].insert(player.worker.assigned.size());
      topics.insert(player.worker.beat.topics.begin(), player.worker.beat.topics.end());
      for (const OwnedPartition& one : player.worker.assigned) {
        CHECK(one.epoch == bench_.epochs[{"g", one.partition}]);
        ++owners[one.partition];
      }
    }
    for (const auto& [subscription, sizes] : loads) {
      CHECK(*sizes.rbegin() - *sizes.begin() <= 1);
    }
    size_t partitions = 0;
    for (const std::string& topic : topics) {
      for (const PartitionId id : bench_.partitions(topic)) {
        ++partitions;
        CHECK(owners[id] == 1);
      }
    }
    CHECK(owners.size() == partitions);
  }

  Random random_;
  GroupBench bench_;
  std::deque<Player> players_;
  std::deque<std::pair<LeaseWanted, uint32_t>> mails_;
  int next_member_ = 0;
  uint32_t next_topic_ = 10;
};

TEST_CASE("random events never give a partition to two, and in the end all is even") {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    World(seed).run(600);
  }
}

// --- many

// Milliseconds of `work`, printed: how long it takes is no matter of right or wrong.
template <typename Work>
void measure(const char* what, Work work) {
  const MonotonicTime before = system_clock().monotonic();
  work();
  const double ms = static_cast<double>(system_clock().monotonic().ns - before.ns) / 1e6;
  MESSAGE(std::string(what) << ": " << ms << " ms");
}

// All that is assigned, once and with the present epochs.
size_t check_assigned(const GroupBench& bench) {
  std::set<PartitionId> assigned;
  const auto info = bench.coordinator.describe("g", bench.now);
  REQUIRE(info.has_value());
  for (const MemberInfo& member : info->members) {
    for (const OwnedPartition& one : member.assigned) {
      REQUIRE(assigned.insert(one.partition).second);
      REQUIRE(one.epoch == bench.epoch(one.partition));
    }
  }
  return assigned.size();
}

std::vector<Worker> many_workers(size_t count) {
  std::vector<Worker> workers;
  for (size_t i = 0; i < count; ++i) {
    workers.emplace_back("m" + std::to_string(i), std::vector<std::string>{"t"});
  }
  return workers;
}

TEST_CASE("a thousand members join and leave over a thousand partitions") {
  GroupBench bench;
  bench.set_topic("t", 1, 1'000);
  std::vector<Worker> workers = many_workers(1'000);
  measure("1,000 members join", [&] {
    for (Worker& worker : workers) {
      bench.poll(worker);
    }
  });
  const auto everybody = [&workers](size_t from) {
    std::vector<Worker*> all;
    for (size_t i = from; i < workers.size(); ++i) {
      all.push_back(&workers[i]);
    }
    return all;
  };
  measure("until each has one", [&] { bench.settle(everybody(0)); });
  CHECK(check_assigned(bench) == 1'000);
  for (const Worker& worker : workers) {
    REQUIRE(worker.assigned.size() == 1);
  }
  measure("500 of them leave", [&] {
    for (size_t i = 0; i < 500; ++i) {
      bench.leave(workers[i]);
    }
  });
  bench.settle(everybody(500));
  CHECK(check_assigned(bench) == 1'000);
  for (size_t i = 500; i < 1'000; ++i) {
    REQUIRE(workers[i].assigned.size() == 2);
  }
  bench.pass(60'000);
  measure("500 time out", [&] { bench.coordinator.tick(bench.now); });
  CHECK(bench.coordinator.members() == 0);
}

TEST_CASE("a rebalance of a thousand members and ten thousand partitions") {
  GroupBench bench(3'000);
  for (uint32_t topic = 0; topic < 10; ++topic) {
    bench.set_topic("t" + std::to_string(topic), topic + 1, 1'000);
  }
  std::vector<std::string> topics;
  for (const auto& [name, partitions] : bench.topics) {
    topics.push_back(name);
  }
  std::vector<Worker> workers = many_workers(1'000);
  std::vector<Worker*> everybody;
  for (Worker& worker : workers) {
    worker.beat.topics = topics;
    bench.poll(worker);
    everybody.push_back(&worker);
  }
  bench.pass(3'000);
  measure("the first plan", [&] { bench.coordinator.tick(bench.now); });
  measure("10,000 leases", [&] { CHECK(bench.lease() == 10'000); });
  bench.settle(everybody);
  CHECK(check_assigned(bench) == 10'000);
  Worker one_more("one more", topics);
  measure("one joins", [&] { bench.poll(one_more); });
  measure("one leaves", [&] { bench.leave(workers[500]); });
  everybody.erase(everybody.begin() + 500);
  everybody.push_back(&one_more);
  bench.settle(everybody);
  CHECK(check_assigned(bench) == 10'000);
  for (const Worker* const worker : everybody) {
    REQUIRE(worker->assigned.size() == 10);
  }
  Worker other("other", {"t0"});
  measure("one joins with another subscription", [&] { bench.poll(other); });
  bench.pass(60'000);
  measure("all time out", [&] { bench.coordinator.tick(bench.now); });
}

}  // namespace
}  // namespace tidemark::group
