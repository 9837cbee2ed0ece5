// GroupFleet: the processes of all consumer groups. Each seat of a group is taken by one after the
// other: the one before has crashed, left, or goes on as a zombie; some hang. Static members keep
// the name of their instance.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/group_member.h"

namespace tidemark::sim {

class GroupFleet {
 public:
  GroupFleet(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
             const Options& options, uint64_t seed);

  void start();
  // No more deaths: the zombies are gone, nobody hangs, and each seat is taken.
  void finish();
  // Nobody reads any more.
  void stop();

  // Empty once each partition is worked on by one member of each group, and the loads of members
  // that want the same differ by at most one.
  [[nodiscard]] std::string not_shared() const;

  [[nodiscard]] std::string describe() const;

  [[nodiscard]] uint64_t processes() const { return processes_.size(); }

 private:
  struct Seat {
    GroupMember::Identity identity;
    bool wants_all = true;
    GroupMember* current = nullptr;  // nullptr: nobody
    GroupMember* zombie = nullptr;
  };

  void schedule();
  void change(Seat& seat);
  void spawn(Seat& seat);
  void hang(GroupMember& member);
  void keep_up();
  static void bury(Seat& seat);

  Scheduler& scheduler_;
  SimNetwork& network_;
  Model& model_;
  Directory& directory_;
  const Options& options_;
  Random random_;
  bool finishing_ = false;
  std::vector<Seat> seats_;
  std::vector<std::unique_ptr<GroupMember>> processes_;  // dead ones, too: the network knows them
};

}  // namespace tidemark::sim
