// Coordinator: who works on which partitions, and who is to.
#include <algorithm>

#include "broker/group/assignor.h"
#include "broker/group/coordinator_impl.h"
#include "log/base/check.h"
#include "log/base/coverage_mark.h"

namespace tidemark::group {

namespace {

bool contains(const std::vector<OwnedPartition>& sorted, PartitionId id) {
  const auto it = std::lower_bound(sorted.begin(), sorted.end(), OwnedPartition{id, 0});
  return it != sorted.end() && it->partition == id;
}

}  // namespace

// --- what they work on

void Coordinator::Impl::read_owned(Member& member, const Heartbeat& heartbeat, MonotonicTime at) {
  std::vector<OwnedPartition> owned = heartbeat.owned;
  std::sort(owned.begin(), owned.end());
  std::vector<Slot*> left_out;
  for (const auto& [id, slot] : member.owns) {
    if (contains(owned, id)) {
      slot->listed = true;
    } else if (heartbeat.generation >= slot->told) {
      left_out.push_back(slot);
    }
  }
  for (Slot* const slot : left_out) {
    if (slot->target != &member) {
      release(*slot);
    } else if (slot->listed || at >= after(slot->told_at, member.session_timeout_ms)) {
      TIDEMARK_COVERAGE_MARK(group_partition_lost_by_owner);
      // It lost what it should have: its epoch was refused, so it gets another one. Before it
      // listed it for the first time it may only have been slow to begin.
      release(*slot);
      touch(member);
    }
  }
  for (const OwnedPartition& one : owned) {
    const auto it = member.group->slots.find(one.partition);
    if (it != member.group->slots.end()) {
      claim(member, it->second, one.epoch);
    }
  }
}

// The member says that it works on the partition.
void Coordinator::Impl::claim(Member& member, Slot& slot, uint32_t epoch) {
  if (slot.owner == &member) {
    if (epoch > slot.epoch) {
      slot.epoch = epoch;
      tell(slot);
    }
    return;
  }
  const bool is_free = slot.owner == nullptr && slot.target == nullptr;
  if (epoch == 0 || epoch < slot.epoch || (!is_free && slot.owner == nullptr) ||
      (!is_free && epoch == slot.epoch)) {
    TIDEMARK_COVERAGE_MARK(group_stale_claim_ignored);
    return;  // it lost it
  }
  if (slot.owner != nullptr) {
    TIDEMARK_COVERAGE_MARK(group_claim_with_newer_epoch);
    Member& loser = *slot.owner;
    const bool was_assigned = slot.target == &loser;
    release(slot);
    if (was_assigned) {
      touch(loser);
    }
  }
  if (is_free) {
    TIDEMARK_COVERAGE_MARK(group_claim_after_restart);
  }
  grant(slot, member, epoch);
  slot.listed = true;
  mark_stale(*member.group);
}

void Coordinator::Impl::grant(Slot& slot, Member& member, uint32_t epoch) {
  TIDEMARK_CHECK(slot.owner == nullptr, "a partition has one owner");
  place(slot, &member, &member);
  slot.epoch = epoch;
  slot.listed = false;
  tell(slot);
}

// Its owner does not work on it any more.
void Coordinator::Impl::release(Slot& slot) { place(slot, nullptr, slot.target); }

// The member is gone: its heir is to have what it had and waited for, or nobody.
void Coordinator::Impl::disown(Member& member, Member* heir) {
  while (!member.awaits.empty()) {
    Slot& slot = *member.awaits.begin()->second;
    retarget(slot, heir);
  }
  while (!member.owns.empty()) {
    Slot& slot = *member.owns.begin()->second;
    place(slot, nullptr, slot.target == &member ? heir : slot.target);
  }
}

void Coordinator::Impl::retarget(Slot& slot, Member* target) {
  Member* const before = slot.target;
  if (before == target) {
    return;
  }
  place(slot, slot.owner, target);
  if (slot.owner != nullptr && (slot.owner == before || slot.owner == target)) {
    slot.listed = false;
    TIDEMARK_COVERAGE_MARK(group_partition_revoked);
    tell(slot);  // revoked, or not revoked any more
  }
}

void Coordinator::Impl::place(Slot& slot, Member* owner, Member* target) {
  const Order order(slot.ask_after_ns, slot.serial);
  leases.erase(order);
  if (slot.owner != nullptr) {
    slot.owner->owns.erase(slot.id);
  }
  if (slot.target != nullptr) {
    slot.target->awaits.erase(slot.id);
  }
  slot.owner = owner;
  slot.target = target;
  if (owner != nullptr) {
    owner->owns.emplace(slot.id, &slot);
  }
  if (target != nullptr && target != owner) {
    target->awaits.emplace(slot.id, &slot);
  }
  if (target != nullptr && owner == nullptr) {
    leases.emplace(order, &slot);
  }
}

// The owner is to hear of the present state.
void Coordinator::Impl::tell(Slot& slot) {
  touch(*slot.owner);
  slot.told = slot.owner->generation;
  slot.told_at = now;
}

// Its lease is not to be asked for before this time.
void Coordinator::Impl::set_asked(Slot& slot, int64_t ask_after_ns) {
  if (leases.erase({slot.ask_after_ns, slot.serial}) > 0) {
    leases.emplace(Order(ask_after_ns, slot.serial), &slot);
  }
  slot.ask_after_ns = ask_after_ns;
}

// A lease may be asked for twice and so given twice: the highest epoch is the present one.
void Coordinator::Impl::leased(Slot& slot, uint32_t epoch) {
  if (slot.owner == nullptr && slot.target != nullptr) {
    set_asked(slot, INT64_MIN);  // the next one is another one
    return grant(slot, *slot.target, epoch);
  }
  if (epoch <= slot.epoch) {
    return;
  }
  TIDEMARK_COVERAGE_MARK(group_leased_twice);
  slot.epoch = epoch;
  if (slot.owner != nullptr && slot.owner == slot.target) {
    slot.listed = false;
    tell(slot);
  }
}

// --- plans

void Coordinator::Impl::mark_stale(Group& group) {
  if (!is_claiming && !group.is_stale) {
    group.is_stale = true;
    stale.push_back(&group);
  }
}

void Coordinator::Impl::plan(Group& group) {
  group.is_stale = false;
  uint32_t topics = 0;
  for (auto& [name, topic] : group.topics) {
    topic.number = topics++;
  }
  std::vector<Member*> members;
  std::vector<std::vector<uint32_t>> numbers;
  for (auto& [id, member] : group.members) {
    member.number = static_cast<uint32_t>(members.size());
    members.push_back(&member);
    std::vector<uint32_t>& of_member = numbers.emplace_back();
    for (const TopicEntry* const topic : member.topics) {
      of_member.push_back(topic->second.number);
    }
  }
  std::vector<Assignable> assignables;
  assignables.reserve(group.slots.size());
  for (const auto& [id, slot] : group.slots) {
    const Member* const present = slot.owner != nullptr ? slot.owner : slot.target;
    assignables.push_back({slot.topic->second.number, present ? present->number : kNobody,
                           slot.owner != nullptr && slot.owner == slot.target});
  }
  const std::vector<uint32_t> wanted = assign({numbers.begin(), numbers.end()}, assignables);
  size_t at = 0;
  for (auto& [id, slot] : group.slots) {
    const uint32_t number = wanted[at++];
    retarget(slot, number == kNobody ? nullptr : members[number]);
  }
  prune_topics(group);
}

// True if the topic has other partitions than before.
bool Coordinator::Impl::refresh(Group& group, TopicEntry& topic) {
  std::vector<PartitionId> present = partitions(topic.first);
  std::sort(present.begin(), present.end());
  std::vector<PartitionId>& before = topic.second.partitions;
  if (present == before) {
    return false;
  }
  for (const PartitionId id : before) {
    if (!std::binary_search(present.begin(), present.end(), id)) {
      drop(group, id);
    }
  }
  for (const PartitionId id : present) {
    Slot& slot = group.slots[id];
    if (slot.group == nullptr) {
      slot.group = &group;
      slot.topic = &topic;
      slot.id = id;
      slot.serial = next_serial++;
    }
  }
  before = std::move(present);
  return true;
}

// The partition is no longer there for the group: nobody needs to be waited for.
void Coordinator::Impl::drop(Group& group, PartitionId id) {
  const auto it = group.slots.find(id);
  Slot& slot = it->second;
  if (slot.owner != nullptr && slot.owner == slot.target) {
    touch(*slot.owner);
  }
  place(slot, nullptr, nullptr);
  group.slots.erase(it);
}

// Topics that nobody subscribes to and nobody works on are forgotten.
void Coordinator::Impl::prune_topics(Group& group) {
  for (auto it = group.topics.begin(); it != group.topics.end();) {
    const Topic& topic = it->second;
    const bool is_used =
        topic.members > 0 ||
        std::any_of(topic.partitions.begin(), topic.partitions.end(), [&group](PartitionId id) {
          return group.slots.find(id)->second.owner != nullptr;
        });
    if (is_used) {
      ++it;
      continue;
    }
    for (const PartitionId id : topic.partitions) {
      drop(group, id);
    }
    it = group.topics.erase(it);
  }
}

}  // namespace tidemark::group
