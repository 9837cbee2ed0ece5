// Histories of consumer groups, each with one fault.
#include <utility>
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/group_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNs = 1'000'000;  // of a millisecond
constexpr uint32_t kSessionMs = 1'000;
constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};

using Answer = GroupModel::Answer;
using BeatAnswer = MemberModel::Answer;
using Kind = GroupModel::Kind;
using Shares = std::vector<MemberModel::Share>;

Shares share(uint32_t epoch) { return {{kPartition, epoch}}; }

// A partition that was leased in epoch 1 to member "a" of a group, which has committed 10 at 20 ms
// and lists it since 4020 ms, when nothing is claimed any more.
struct GroupHistory {
  GroupModel model;
  GroupModel::Name name{"group", kPartition};

  GroupHistory() {
    model.broker_started(0);
    beat("a", {}, 4'000, {share(1), 1});
    model.leased(name, 1, 1 * kNs);
    commit(Kind::kCommit, 1, 10, 20, {Offset{10}, 1});
    beat("a", share(1), 4'020, {share(1), 1});
  }

  uint64_t send(Kind kind, uint32_t epoch, uint64_t offset, int64_t at_ms) {
    const uint64_t commit = model.commit_sent(name, kind, epoch, Offset{offset});
    model.commit_arrived(commit, at_ms * kNs);
    return commit;
  }

  void commit(Kind kind, uint32_t epoch, uint64_t offset, int64_t at_ms,
              GroupModel::Recorded recorded, Answer answer = Answer::kOk) {
    model.commit_answered(send(kind, epoch, offset, at_ms), answer, recorded, (at_ms + 1) * kNs);
  }

  void look(uint64_t committed, int64_t at_ms, uint32_t epoch = 1, uint64_t end = 100) {
    model.looked(name, {Offset{committed}, epoch, Offset{0}, Offset{end}}, at_ms * kNs);
  }

  void restart(GroupModel::Position position, uint32_t epoch, int64_t at_ms = 6'000) {
    model.recovered(name, position, epoch);
    model.broker_started(at_ms * kNs);
  }

  struct Told {
    Shares assigned;
    uint64_t generation = 1;
  };

  // Answered at once.
  void beat(const std::string& member, Shares owned, int64_t at_ms, Told told,
            const std::string& instance = {}, bool leave = false) {
    const uint64_t id =
        model.members().sent({"group", member, instance, kSessionMs, std::move(owned), leave});
    model.members().arrived(id, at_ms * kNs);
    model.members().answered(id, BeatAnswer::kOk, {told.generation, told.assigned, 1}, at_ms * kNs);
  }

  void deliver(uint64_t from, uint64_t to) {
    for (uint64_t offset = from; offset < to; ++offset) {
      model.delivered(name, Offset{offset});
    }
  }
};

using BadHistory = JudgedHistory<GroupHistory>;

std::vector<BadHistory> positions() {
  return {
      {"forward, a rewind, forward", "",
       [](GroupHistory& h) {
         h.commit(Kind::kCommit, 1, 20, 30, {Offset{20}, 1});
         h.commit(Kind::kRewind, 1, 5, 40, {Offset{5}, 1});
         h.look(5, 50);
         h.commit(Kind::kCommit, 1, 3, 60, {Offset{5}, 1});
       }},
      {"a commit that may have failed is seen", "",
       [](GroupHistory& h) {
         h.send(Kind::kCommit, 1, 20, 30);
         h.look(10, 40);
         h.look(20, 50);
       }},
      {"where it ends goes back", "I7",
       [](GroupHistory& h) {
         h.look(10, 30, 1, 100);
         h.look(10, 40, 1, 99);
       }},
      {"a consumer is told of an end that goes back", "I7",
       [](GroupHistory& h) {
         h.model.watermark(kPartition, Offset{100}, 30 * kNs, 31 * kNs);
         h.model.watermark(kPartition, Offset{99}, 32 * kNs, 33 * kNs);
       }},
      {"negative lag", "I8", [](GroupHistory& h) { h.look(10, 30, 1, 9); }},
      {"less than was acknowledged", "I8", [](GroupHistory& h) { h.look(9, 30); }},
      {"what nobody committed", "I8", [](GroupHistory& h) { h.look(11, 30); }},
      {"back without a rewind", "I8",
       [](GroupHistory& h) {
         h.send(Kind::kCommit, 1, 20, 30);
         h.look(20, 40);
         h.look(10, 50);
       }},
      {"a commit that goes back", "I8",
       [](GroupHistory& h) {
         h.commit(Kind::kCommit, 1, 5, 30, {Offset{5}, 1});
       }},
      {"a rewind that does nothing", "I8",
       [](GroupHistory& h) {
         h.commit(Kind::kRewind, 1, 5, 30, {Offset{10}, 1});
       }},
      {"another position than it had when a commit is refused", "I8",
       [](GroupHistory& h) {
         h.commit(Kind::kCommit, 1, 20, 30, {Offset{7}, 2}, Answer::kFenced);
       }},
  };
}

std::vector<BadHistory> restarts() {
  return {
      {"all is there after a restart", "", [](GroupHistory& h) { h.restart(Offset{10}, 1); }},
      {"a commit without an answer may be there or not", "",
       [](GroupHistory& h) {
         h.send(Kind::kCommit, 1, 20, 30);
         h.restart(Offset{20}, 2);
         h.send(Kind::kCommit, 2, 30, 6'030);
         h.restart(Offset{20}, 2, 7'000);
       }},
      {"a position is gone", "I8", [](GroupHistory& h) { h.restart(std::nullopt, 1); }},
      {"a position is lower", "I8", [](GroupHistory& h) { h.restart(Offset{9}, 1); }},
      {"a position is higher", "I8", [](GroupHistory& h) { h.restart(Offset{11}, 1); }},
      {"a rewind is undone", "I8",
       [](GroupHistory& h) {
         h.commit(Kind::kRewind, 1, 5, 30, {Offset{5}, 1});
         h.restart(Offset{10}, 1);
       }},
      {"a partition is gone", "I8", [](GroupHistory& h) { h.model.broker_started(6'000 * kNs); }},
      {"of a group that nobody is in", "I8",
       [](GroupHistory& h) {
         h.model.recovered({"other", kPartition}, Offset{1}, 1);
       }},
      {"an epoch is forgotten", "I9",
       [](GroupHistory& h) {
         h.model.leased(h.name, 2, 30 * kNs);
         h.restart(Offset{10}, 1);
       }},
  };
}

std::vector<BadHistory> epochs() {
  return {
      {"an old epoch is refused", "",
       [](GroupHistory& h) {
         h.model.leased(h.name, 2, 30 * kNs);
         h.commit(Kind::kCommit, 1, 20, 40, {Offset{10}, 2}, Answer::kFenced);
         h.commit(Kind::kCommit, 2, 20, 50, {Offset{20}, 2});
       }},
      {"a reset fences", "",
       [](GroupHistory& h) {
         h.commit(Kind::kReset, 0, 0, 30, {Offset{0}, 2});
         h.commit(Kind::kCommit, 1, 20, 40, {Offset{0}, 2}, Answer::kFenced);
       }},
      {"an old epoch after a lease", "I9",
       [](GroupHistory& h) {
         h.model.leased(h.name, 2, 30 * kNs);
         h.commit(Kind::kCommit, 1, 20, 40, {Offset{20}, 1});
       }},
      {"an old epoch after a reset", "I9",
       [](GroupHistory& h) {
         h.commit(Kind::kReset, 0, 0, 30, {Offset{0}, 2});
         h.commit(Kind::kCommit, 1, 20, 40, {Offset{20}, 1});
       }},
      {"an old epoch that works without an answer", "I8",
       [](GroupHistory& h) {
         h.model.leased(h.name, 2, 30 * kNs);
         h.send(Kind::kCommit, 1, 20, 40);
         h.look(20, 50, 2);
       }},
      {"a reset fences nobody", "I9",
       [](GroupHistory& h) {
         h.commit(Kind::kReset, 0, 0, 30, {Offset{0}, 1});
       }},
      {"the present epoch is refused", "I9",
       [](GroupHistory& h) {
         h.commit(Kind::kCommit, 1, 20, 30, {Offset{10}, 1}, Answer::kFenced);
       }},
      {"an epoch that goes back", "I9",
       [](GroupHistory& h) {
         h.look(10, 30, 2);
         h.look(10, 40, 1);
       }},
      {"all is delivered, or reset over", "",
       [](GroupHistory& h) {
         h.commit(Kind::kReset, 0, 20, 30, {Offset{20}, 2});
         h.deliver(20, 30);
         h.model.check_delivered(h.name, Offset{0}, Offset{30});
       }},
      {"a message is not delivered", "I9",
       [](GroupHistory& h) {
         h.deliver(0, 7);
         h.deliver(8, 10);
         h.model.check_delivered(h.name, Offset{0}, Offset{10});
       }},
  };
}

std::vector<BadHistory> moves() {
  return {
      {"given up, then given away", "",
       [](GroupHistory& h) {
         h.beat("b", {}, 4'100, {{}, 2});
         h.beat("a", share(1), 4'200, {{}, 2});
         h.beat("a", {}, 4'300, {{}, 2});
         h.beat("b", {}, 4'400, {share(2), 3});
       }},
      {"silent for a session, then given away", "",
       [](GroupHistory& h) {
         h.beat("b", {}, 5'020, {share(2), 2});
         h.beat("a", share(1), 5'030, {{}, 3});
       }},
      {"left, then given away", "",
       [](GroupHistory& h) {
         h.beat("a", share(1), 4'100, {{}, 2}, "", true);
         h.beat("b", {}, 4'110, {share(2), 3});
       }},
      {"not claimed after a restart", "",
       [](GroupHistory& h) {
         h.restart(Offset{10}, 1);
         h.beat("b", {}, 9'000, {share(2), 1});
         h.beat("a", share(1), 9'100, {{}, 2});
         h.beat("b", share(2), 9'200, {share(2), 1});
       }},
      {"claimed after a restart, claimed with a newer epoch, and listed by who was slow to hear",
       "",
       [](GroupHistory& h) {
         h.restart(Offset{10}, 1);
         h.beat("a", share(1), 6'100, {share(1), 1});
         MemberModel& members = h.model.members();
         const uint64_t waits = members.sent({"group", "b", "", kSessionMs, share(2), false});
         members.arrived(waits, 6'110 * kNs);
         h.beat("a", share(1), 6'120, {{}, 2});
         members.answered(waits, BeatAnswer::kOk, {3, share(2), 2}, 6'130 * kNs);
       }},
      {"claimed after a restart, and given to who claims an older epoch", "I9",
       [](GroupHistory& h) {
         h.restart(Offset{10}, 1);
         h.beat("b", share(2), 6'100, {share(2), 1});
         h.beat("a", share(1), 6'110, {share(1), 2});
       }},
      {"given away while it is worked on", "I9",
       [](GroupHistory& h) {
         h.beat("b", {}, 4'100, {share(2), 2});
       }},
      {"given away while it is asked for", "I9",
       [](GroupHistory& h) {
         h.beat("a", share(1), 4'200, {{}, 2});
         h.beat("b", {}, 4'300, {share(2), 3});
       }},
      {"claimed after a restart, and given away", "I9",
       [](GroupHistory& h) {
         h.restart(Offset{10}, 1);
         h.beat("a", share(1), 6'100, {share(1), 1});
         h.beat("b", {}, 7'000, {share(2), 2});
       }},
      {"two members in one epoch", "I9",
       [](GroupHistory& h) {
         h.beat("a", {}, 4'100, {{}, 2});
         h.beat("b", {}, 4'200, {share(1), 3});
       }},
      {"told twice", "I9",
       [](GroupHistory& h) {
         h.beat("a", share(1), 4'100, {{{kPartition, 1}, {kPartition, 2}}, 2});
       }},
      {"a generation that goes back", "I9",
       [](GroupHistory& h) {
         h.beat("a", share(1), 4'100, {share(1), 0});
       }},
      {"a change without a generation", "I9",
       [](GroupHistory& h) {
         h.beat("a", share(1), 4'100, {{}, 1});
       }},
      {"a member without an instance is replaced", "I9",
       [](GroupHistory& h) {
         const uint64_t id =
             h.model.members().sent({"group", "a", "", kSessionMs, share(1), false});
         h.model.members().arrived(id, 4'100 * kNs);
         h.model.members().answered(id, BeatAnswer::kFenced, {}, 4'100 * kNs);
       }},
  };
}

}  // namespace

std::string find_blind_group_checker() {
  return find_misjudged<GroupHistory>({positions(), restarts(), epochs(), moves()},
                                      [](GroupHistory& history) { history.model.check(); });
}

}  // namespace tidemark::sim
