#include "broker/group/coordinator.h"

#include <algorithm>

#include "broker/group/coordinator_impl.h"
#include "log/base/check.h"
#include "log/base/coverage_mark.h"
#include "log/base/limits.h"

namespace tidemark::group {

namespace {

constexpr int64_t kLeasePauseNs = 500 * kNsPerMs;
// A generation above this was not counted by any coordinator.
constexpr uint64_t kGenerationMax = uint64_t{1} << 62;

std::vector<std::string> sorted_once(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::vector<OwnedPartition> assigned_to(const Member& member) {
  std::vector<OwnedPartition> assigned;
  for (const auto& [id, slot] : member.owns) {
    if (slot->target == &member) {
      assigned.push_back({id, slot->epoch});
    }
  }
  return assigned;
}

Status check(const Heartbeat& heartbeat) {
  if (heartbeat.topics.size() > limits::kGroupTopicsMax) {
    return Status(
        ErrorCode::kInvalidArgument,
        "a subscription has at most " + std::to_string(limits::kGroupTopicsMax) + " topics");
  }
  return Status();
}

}  // namespace

void Coordinator::Impl::begin(MonotonicTime at) {
  now = at;
  ++operation;
  if (!is_claiming) {
    return;
  }
  if (!claims_end.has_value()) {
    claims_end = after(now, claims_ms);
  }
  if (now >= *claims_end) {
    TIDEMARK_COVERAGE_MARK(group_claims_end);
    is_claiming = false;
    for (auto& [name, group] : groups) {
      mark_stale(group);
    }
  }
}

void Coordinator::Impl::settle() {
  for (Group* const group : stale) {
    plan(*group);
  }
  stale.clear();
}

// --- members

void Coordinator::Impl::heartbeat(const Heartbeat& heartbeat, Ticket ticket, MonotonicTime at) {
  begin(at);
  if (heartbeat.leave) {
    leave(heartbeat, ticket);
    return settle();
  }
  Status status = check(heartbeat);
  Member* member = nullptr;
  if (status.ok()) {
    const Result<Member*> admitted = admit(heartbeat);
    status = admitted.status();
    member = admitted.ok() ? *admitted : nullptr;
  }
  if (member == nullptr) {
    answers.emplace_back(ticket, HeartbeatAnswer{status, 0, {}, 0});
    return settle();
  }
  const std::optional<Ticket> superseded = member->ticket;
  stop_waiting(*member);
  hear(*member, heartbeat, at);
  wait(*member, ticket, heartbeat.wait_ms);
  settle();
  if (superseded.has_value()) {
    TIDEMARK_COVERAGE_MARK(group_heartbeat_superseded);
    answers.emplace_back(*superseded, answer_of(*member));
  }
  const bool has_news = member->generation != heartbeat.generation;
  if (has_news || heartbeat.wait_ms == 0) {
    ready.push_back(ticket);
  }
}

// The member that speaks: a known one, or a new one if there is room.
Result<Member*> Coordinator::Impl::admit(const Heartbeat& heartbeat) {
  const auto at = groups.find(heartbeat.group);
  Group* group = at == groups.end() ? nullptr : &at->second;
  Member* before = nullptr;  // who has its instance
  if (group != nullptr) {
    const auto known = group->members.find(heartbeat.member);
    if (known != group->members.end()) {
      return &known->second;
    }
    const auto holder = group->instances.find(heartbeat.instance);
    before = holder == group->instances.end() ? nullptr : holder->second;
  }
  // A new member has no generation yet: one that has is the one that was replaced.
  if (before != nullptr && (heartbeat.generation != 0 || before->replaced == heartbeat.member)) {
    TIDEMARK_COVERAGE_MARK(group_replaced_member_refused);
    return Status(ErrorCode::kFenced,
                  "another member took over the instance " + heartbeat.instance);
  }
  if (before == nullptr) {
    RETURN_IF_ERROR(check_room(group));
  }
  if (group == nullptr) {
    group = &groups[heartbeat.group];
    group->name = heartbeat.group;
  }
  if (heartbeat.generation < kGenerationMax) {
    group->generation = std::max(group->generation, heartbeat.generation);
  }
  Member& member = enter(*group, heartbeat);
  if (before != nullptr) {
    TIDEMARK_COVERAGE_MARK(group_static_member_returns);
    member.replaced = before->id;
    remove(
        *before, &member,
        Status(ErrorCode::kFenced, "another member took over the instance " + heartbeat.instance));
  }
  if (!member.instance.empty()) {
    group->instances[member.instance] = &member;
  }
  return &member;
}

Status Coordinator::Impl::check_room(const Group* group) const {
  if (group == nullptr && groups.size() >= limits::kGroupsMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "there are " + std::to_string(groups.size()) + " consumer groups with members");
  }
  if (group != nullptr && group->members.size() >= limits::kGroupMembersMax) {
    return Status(ErrorCode::kLimitExceeded, "consumer group " + group->name + " has " +
                                                 std::to_string(group->members.size()) +
                                                 " members");
  }
  if (member_count >= limits::kGroupMembersInAllMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "consumer groups have " + std::to_string(member_count) + " members in all");
  }
  return Status();
}

Member& Coordinator::Impl::enter(Group& group, const Heartbeat& heartbeat) {
  Member& member = group.members[heartbeat.member];
  member.group = &group;
  member.id = heartbeat.member;
  member.instance = heartbeat.instance;
  member.serial = next_serial++;
  ++member_count;
  touch(member);
  mark_stale(group);
  return member;
}

void Coordinator::Impl::leave(const Heartbeat& heartbeat, Ticket ticket) {
  HeartbeatAnswer last;
  last.generation = heartbeat.generation;
  if (const auto at = groups.find(heartbeat.group); at != groups.end()) {
    Group& group = at->second;
    const auto it = group.members.find(heartbeat.member);
    if (it != group.members.end()) {
      touch(it->second);
      last.generation = it->second.generation;
      last.members = static_cast<uint32_t>(group.members.size() - 1);
      remove(it->second, nullptr, Status());
    }
  }
  answers.emplace_back(ticket, std::move(last));
}

// Whoever waits for it hears `status`, and that nothing is assigned to it. `heir` gets what it had,
// with new epochs; without an heir that is free.
void Coordinator::Impl::remove(Member& member, Member* heir, const Status& status) {
  Group& group = *member.group;
  disown(member, heir);
  if (member.ticket.has_value()) {
    const auto others = static_cast<uint32_t>(group.members.size() - 1);
    answers.emplace_back(*member.ticket, HeartbeatAnswer{status, member.generation, {}, others});
    stop_waiting(member);
  }
  unsubscribe(member);
  sessions.erase({member.session_ends_ns, member.serial});
  if (!member.instance.empty()) {
    group.instances.erase(member.instance);
  }
  mark_stale(group);
  --member_count;
  group.members.erase(group.members.find(member.id));
  if (group.members.empty()) {
    std::erase(stale, &group);
    groups.erase(groups.find(group.name));
  }
}

void Coordinator::Impl::subscribe(Member& member, const std::vector<std::string>& topics) {
  if (member.topics_sent == topics) {
    return;
  }
  Group& group = *member.group;
  const std::vector<TopicEntry*> before = std::move(member.topics);
  member.topics.clear();
  member.topics_sent = topics;
  for (std::string& name : sorted_once(topics)) {
    const auto [it, is_new] = group.topics.try_emplace(std::move(name));
    if (is_new) {
      refresh(group, *it);
    }
    ++it->second.members;
    member.topics.push_back(&*it);
  }
  for (TopicEntry* const topic : before) {
    --topic->second.members;
  }
  prune_topics(group);
  mark_stale(group);
}

void Coordinator::Impl::unsubscribe(Member& member) {
  for (TopicEntry* const topic : member.topics) {
    --topic->second.members;
  }
  member.topics.clear();
}

void Coordinator::Impl::hear(Member& member, const Heartbeat& heartbeat, MonotonicTime at) {
  sessions.erase({member.session_ends_ns, member.serial});
  member.heard = at;
  member.session_timeout_ms = std::clamp(heartbeat.session_timeout_ms, limits::kGroupSessionMsMin,
                                         limits::kGroupSessionMsMax);
  member.session_ends_ns = after(at, member.session_timeout_ms).ns;
  sessions.emplace(Order(member.session_ends_ns, member.serial), &member);
  subscribe(member, heartbeat.topics);
  read_owned(member, heartbeat, at);
}

// --- answers

// What is assigned to the member changes: the first time in an operation it gets another
// generation.
void Coordinator::Impl::touch(Member& member) {
  if (member.changed_in == operation) {
    return;
  }
  member.changed_in = operation;
  Group& group = *member.group;
  if (group.counted_in != operation) {
    group.counted_in = operation;
    ++group.generation;
  }
  member.generation = group.generation;
  if (member.ticket.has_value()) {
    ready.push_back(*member.ticket);
  }
}

HeartbeatAnswer Coordinator::Impl::answer_of(const Member& member) const {
  return {Status(), member.generation, assigned_to(member),
          static_cast<uint32_t>(member.group->members.size())};
}

void Coordinator::Impl::wait(Member& member, Ticket ticket, uint32_t wait_ms) {
  member.ticket = ticket;
  member.wait_ends_ns = after(now, std::min(wait_ms, member.session_timeout_ms / 3)).ns;
  const bool is_new = waiting.emplace(ticket, &member).second;
  TIDEMARK_CHECK(is_new, "a ticket is used once");
  waits.emplace(Order(member.wait_ends_ns, member.serial), &member);
}

void Coordinator::Impl::stop_waiting(Member& member) {
  if (member.ticket.has_value()) {
    waiting.erase(*member.ticket);
    waits.erase({member.wait_ends_ns, member.serial});
    member.ticket.reset();
  }
}

// --- the public part

Coordinator::Coordinator(Partitions partitions, int64_t claims_ms)
    : impl_(std::make_unique<Impl>(std::move(partitions), claims_ms)) {}

Coordinator::~Coordinator() = default;

void Coordinator::heartbeat(const Heartbeat& heartbeat, Ticket ticket, MonotonicTime now) {
  impl_->heartbeat(heartbeat, ticket, now);
}

void Coordinator::forget(Ticket ticket) {
  const auto it = impl_->waiting.find(ticket);
  if (it != impl_->waiting.end()) {
    impl_->stop_waiting(*it->second);
  }
}

void Coordinator::leased(std::string_view group, PartitionId partition, uint32_t epoch,
                         MonotonicTime now) {
  impl_->begin(now);
  if (const auto at = impl_->groups.find(group); at != impl_->groups.end()) {
    const auto it = at->second.slots.find(partition);
    if (it != at->second.slots.end()) {
      impl_->leased(it->second, epoch);
    }
  }
  impl_->settle();
}

void Coordinator::topics_changed(MonotonicTime now) {
  impl_->begin(now);
  for (auto& [name, group] : impl_->groups) {
    for (TopicEntry& topic : group.topics) {
      if (impl_->refresh(group, topic)) {
        impl_->mark_stale(group);
      }
    }
  }
  impl_->settle();
}

void Coordinator::tick(MonotonicTime now) {
  impl_->begin(now);
  auto& sessions = impl_->sessions;
  while (!sessions.empty() && sessions.begin()->first.first <= now.ns) {
    TIDEMARK_COVERAGE_MARK(group_session_expired);
    Member& gone = *sessions.begin()->second;
    impl_->touch(gone);
    impl_->remove(gone, nullptr, Status());
  }
  impl_->settle();
  auto& waits = impl_->waits;
  while (!waits.empty() && waits.begin()->first.first <= now.ns) {
    impl_->ready.push_back(*waits.begin()->second->ticket);
    waits.erase(waits.begin());
  }
}

std::vector<std::pair<Coordinator::Ticket, HeartbeatAnswer>> Coordinator::take_answers() {
  for (const Ticket ticket : std::exchange(impl_->ready, {})) {
    const auto it = impl_->waiting.find(ticket);
    if (it != impl_->waiting.end()) {
      Member& member = *it->second;
      impl_->answers.emplace_back(ticket, impl_->answer_of(member));
      impl_->stop_waiting(member);
    }
  }
  return std::exchange(impl_->answers, {});
}

std::vector<LeaseWanted> Coordinator::take_leases(MonotonicTime now) {
  std::vector<LeaseWanted> wanted;
  auto& leases = impl_->leases;
  while (!leases.empty() && leases.begin()->first.first <= now.ns) {
    Slot& slot = *leases.begin()->second;
    wanted.push_back({slot.group->name, slot.id});
    impl_->set_asked(slot, now.ns + kLeasePauseNs);
  }
  return wanted;
}

void Coordinator::fail_all(const Status& status) {
  for (const auto& [ticket, member] : impl_->waiting) {
    impl_->answers.emplace_back(ticket, HeartbeatAnswer{status, 0, {}, 0});
  }
  impl_->waiting.clear();
  impl_->ready.clear();
  impl_->sessions.clear();
  impl_->waits.clear();
  impl_->leases.clear();
  impl_->groups.clear();
  impl_->member_count = 0;
  impl_->claims_end.reset();
  impl_->is_claiming = true;
}

size_t Coordinator::members(std::string_view group) const {
  const auto it = impl_->groups.find(group);
  return it == impl_->groups.end() ? 0 : it->second.members.size();
}

size_t Coordinator::members() const { return impl_->member_count; }

std::optional<Coordinator::GroupInfo> Coordinator::describe(std::string_view group,
                                                            MonotonicTime now) const {
  const auto it = impl_->groups.find(group);
  if (it == impl_->groups.end()) {
    return std::nullopt;
  }
  GroupInfo info;
  info.generation = it->second.generation;
  for (const auto& [id, member] : it->second.members) {
    MemberInfo& out = info.members.emplace_back();
    out.member = id;
    out.instance = member.instance;
    for (const TopicEntry* const topic : member.topics) {
      out.topics.push_back(topic->first);
    }
    out.assigned = assigned_to(member);
    out.heard_ms_ago = (now.ns - member.heard.ns) / kNsPerMs;
    out.session_timeout_ms = member.session_timeout_ms;
  }
  return info;
}

std::vector<std::pair<std::string, size_t>> Coordinator::list() const {
  std::vector<std::pair<std::string, size_t>> groups;
  for (const auto& [name, group] : impl_->groups) {
    groups.emplace_back(name, group.members.size());
  }
  return groups;
}

}  // namespace tidemark::group
