#include "tests/simulation/group_fleet.h"

#include <algorithm>
#include <map>

namespace tidemark::sim {

namespace {

constexpr int64_t kKeepUpUs = 200'000;

}  // namespace

GroupFleet::GroupFleet(Scheduler& scheduler, SimNetwork& network, Model& model,
                       Directory& directory, const Options& options, uint64_t seed)
    : scheduler_(scheduler),
      network_(network),
      model_(model),
      directory_(directory),
      options_(options),
      random_(seed) {
  for (uint32_t i = 0; i < options.groups * options.group_members; ++i) {
    Seat seat;
    seat.identity.group = "readers-" + std::to_string(i / options.group_members);
    seat.identity.instance = random_.chance(1, 2) ? "" : "seat-" + std::to_string(i);
    // The first of a group wants everything.
    seat.wants_all = i % options.group_members == 0 || random_.chance(3, 4);
    for (uint32_t topic = 0; topic < options.topics; ++topic) {
      if (seat.wants_all || random_.chance(1, 2)) {
        seat.identity.topics.push_back("topic-" + std::to_string(topic));
      }
    }
    seats_.push_back(std::move(seat));
  }
}

void GroupFleet::start() {
  for (Seat& seat : seats_) {
    spawn(seat);
  }
  if (!seats_.empty()) {
    schedule();
    keep_up();
  }
}

void GroupFleet::spawn(Seat& seat) {
  GroupMember::Identity identity = seat.identity;
  identity.member = "member-" + std::to_string(processes_.size());
  processes_.push_back(std::make_unique<GroupMember>(scheduler_, network_, model_, directory_,
                                                     options_, random_.next(), identity));
  seat.current = processes_.back().get();
  seat.current->start();
  if (finishing_) {
    seat.current->finish();
  }
}

void GroupFleet::schedule() {
  const auto mean_us = static_cast<uint64_t>(options_.group_change_ms) * 1'000;
  const auto wait_us = random_.below(2 * mean_us) + 1;
  scheduler_.after_us(static_cast<int64_t>(wait_us), [this] {
    if (!finishing_) {
      change(seats_[random_.below(seats_.size())]);
      schedule();
    }
  });
}

void GroupFleet::bury(Seat& seat) {
  if (seat.zombie != nullptr) {
    seat.zombie->die();
    seat.zombie = nullptr;
  }
}

// Those that were replaced, although they were the last to come, come again.
void GroupFleet::keep_up() {
  for (Seat& seat : seats_) {
    if (seat.current != nullptr && seat.current->dead()) {
      seat.current = nullptr;
    }
    if (finishing_ && seat.current == nullptr) {
      spawn(seat);
    }
  }
  scheduler_.after_us(kKeepUpUs, [this] { keep_up(); });
}

void GroupFleet::change(Seat& seat) {
  if (seat.zombie != nullptr) {
    return bury(seat);
  }
  if (seat.current == nullptr) {
    return spawn(seat);
  }
  switch (random_.below(6)) {
    case 0:  // nobody for a while
      seat.current->die();
      seat.current = nullptr;
      return;
    case 1:
      seat.current->die();
      return spawn(seat);
    case 2:
      seat.current->leave();
      seat.current = nullptr;
      return;
    case 3:
      seat.zombie = seat.current;
      return spawn(seat);
    case 4:  // hangs while another comes
      hang(*seat.current);
      seat.zombie = seat.current;
      return spawn(seat);
    default:
      hang(*seat.current);
      return;
  }
}

// For up to three sessions; or for up to ten, but no longer than its connections hold: it may then
// be the first to tell the next coordinator of what others work on since.
void GroupFleet::hang(GroupMember& member) {
  const bool until_lost = random_.chance(1, 2);
  const uint64_t sessions = until_lost ? 10 : 3;
  member.hang(static_cast<int64_t>(random_.below(sessions * options_.group_session_ms)),
              until_lost);
}

void GroupFleet::finish() {
  finishing_ = true;
  for (const auto& process : processes_) {
    process->wake();
    process->finish();
  }
  for (Seat& seat : seats_) {
    bury(seat);
    if (seat.current == nullptr) {
      spawn(seat);
    }
  }
}

void GroupFleet::stop() {
  finishing_ = false;
  for (const auto& process : processes_) {
    process->die();
  }
}

std::string GroupFleet::not_shared() const {
  struct Load {
    size_t least = SIZE_MAX;
    size_t most = 0;
    bool equal = true;  // all want the same
    std::map<PartitionId, size_t> members;
  };

  std::map<std::string, Load> loads;
  for (const Seat& seat : seats_) {
    Load& load = loads[seat.identity.group];
    const std::vector<PartitionId> mine =
        seat.current == nullptr ? std::vector<PartitionId>() : seat.current->works_on();
    load.least = std::min(load.least, mine.size());
    load.most = std::max(load.most, mine.size());
    load.equal = load.equal && seat.wants_all;
    for (const PartitionId partition : mine) {
      ++load.members[partition];
    }
  }
  for (const auto& [group, load] : loads) {
    for (const KnownTopic& topic : directory_.topics) {
      for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
        const auto it = load.members.find(topic.partition(i));
        const size_t members = it == load.members.end() ? 0 : it->second;
        if (members != 1) {
          return std::to_string(members) + " members of " + group + " work on " + topic.name +
                 " partition " + std::to_string(i);
        }
      }
    }
    if (load.equal && load.most - load.least > 1) {
      return group + " is out of balance";
    }
  }
  return {};
}

std::string GroupFleet::describe() const {
  std::string text;
  for (const auto& process : processes_) {
    text += process->dead() ? "" : "; " + process->describe();
  }
  return text;
}

}  // namespace tidemark::sim
