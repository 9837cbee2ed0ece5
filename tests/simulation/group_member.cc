#include "tests/simulation/group_member.h"

#include <algorithm>
#include <utility>

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryMs = 100;
constexpr size_t kBeatsMax = 3;  // under way
constexpr uint64_t kLateMsMax = 3'000;

}  // namespace

void GroupMember::die() {
  dead_ = true;
  works_.clear();
  late_.clear();
  beats_.clear();
  fetches_.clear();
  forget_requests();
  hang_up();
}

std::string GroupMember::describe() const {
  std::string text = "member " + identity_.member + " of " + identity_.group;
  for (const auto& [partition, work] : works_) {
    text += ", topic " + std::to_string(partition.topic.value()) + " partition " +
            std::to_string(partition.index.value()) + " at " +
            std::to_string(work.position.value()) + "/" + std::to_string(work.committed.value()) +
            (work.closing ? " closing" : "");
  }
  return text;
}

std::vector<PartitionId> GroupMember::works_on() const {
  std::vector<PartitionId> all;
  for (const auto& [partition, work] : works_) {
    all.push_back(partition);
  }
  return all;
}

GroupMember::Work* GroupMember::find(PartitionId partition, uint32_t epoch) {
  const auto it = works_.find(partition);
  return it == works_.end() || it->second.epoch != epoch ? nullptr : &it->second;
}

void GroupMember::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(1'000, 30'000)), [this] {
    if (!dead_) {
      if (scheduler_.now_ms() >= hung_until_ms_) {
        work();
      }
      schedule();
    }
  });
}

// Commits go first: after a pause they still carry the old epochs.
void GroupMember::work() {
  std::erase_if(works_, [&](const auto& entry) { return !directory_.alive(entry.first); });
  if (scheduler_.now_ms() >= commit_at_ms_) {
    commit_all();
    commit_at_ms_ =
        scheduler_.now_ms() +
        static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.group_commit_us_max))) /
            1'000;
  }
  commit_late();
  for (auto& [partition, work] : works_) {
    work.closing = work.closing || leaving_;
    go_on(partition, work);
  }
  give_up_closed();
  if (scheduler_.now_ms() >= beat_not_before_ms_ && beats_.size() < kBeatsMax &&
      (beats_.empty() || beat_wanted_)) {
    send_beat();
  }
}

// --- heartbeats

void GroupMember::send_beat() {
  const uint64_t connection = connection_to(ShardId{0});
  if (connection == 0) {
    return;
  }
  testing::HeartbeatInput input;
  input.group = identity_.group;
  input.member = identity_.member;
  input.instance = identity_.instance;
  input.topics = identity_.topics;
  input.session_timeout_ms = options_.group_session_ms;
  input.wait_ms = static_cast<uint32_t>(random_.below(options_.group_session_ms));
  input.generation = generation_;
  input.leave = leaving_ && works_.empty();
  for (const auto& [partition, work] : works_) {
    input.owned.push_back({partition, work.epoch});
  }
  const uint64_t correlation = next_correlation();
  const uint64_t beat =
      model_.groups().members().sent({input.group, input.member, input.instance,
                                      input.session_timeout_ms, input.owned, input.leave});
  beats_[correlation] = {connection, beat, input.leave};
  beat_wanted_ = false;
  network_.send(connection, testing::group_heartbeat_request(input, correlation));
}

void GroupMember::on_arrival(uint64_t connection, uint64_t correlation) {
  if (const auto it = beats_.find(correlation); it != beats_.end()) {
    model_.groups().members().arrived(it->second.beat, scheduler_.now_ns());
  }
  GroupClient::on_arrival(connection, correlation);
}

void GroupMember::on_beat(const BeatRequest& request, const protocol::Frame& frame) {
  using BeatAnswer = MemberModel::Answer;
  MemberModel& members = model_.groups().members();
  const Status error = testing::error_of(frame);
  if (error.code() == ErrorCode::kFenced) {
    members.answered(request.beat, BeatAnswer::kFenced, {}, network_.reply_left_ns());
    return die();
  }
  if (!error.ok()) {
    require(is_transient(error.code()), "a heartbeat was refused: " + error.to_string());
    members.answered(request.beat, BeatAnswer::kUnsure, {}, network_.reply_left_ns());
    beat_not_before_ms_ = scheduler_.now_ms() + kRetryMs;
    beat_wanted_ = true;
    return;
  }
  const testing::HeartbeatResult result = testing::read_heartbeat_reply(frame);
  members.answered(request.beat, BeatAnswer::kOk, result, network_.reply_left_ns());
  for (const testing::GroupShare& share : result.assigned) {
    model_.groups().leased({identity_.group, share.partition}, share.epoch,
                           network_.reply_left_ns());
  }
  if (request.leave) {
    return die();
  }
  take(result);
}

void GroupMember::take(const testing::HeartbeatResult& result) {
  if (result.generation != generation_) {
    beat_wanted_ = true;
  }
  generation_ = result.generation;
  for (auto& [partition, work] : works_) {
    work.closing = true;
  }
  for (const testing::GroupShare& share : result.assigned) {
    const auto gone = given_up_.find(share.partition);
    if (leaving_ || !directory_.alive(share.partition) ||
        (gone != given_up_.end() && share.epoch <= gone->second)) {
      continue;
    }
    if (Work* work = find(share.partition, share.epoch); work != nullptr) {
      work->closing = false;
      continue;
    }
    Work fresh;
    fresh.epoch = share.epoch;
    works_[share.partition] = fresh;
    beat_wanted_ = true;
  }
}

// --- partitions

void GroupMember::go_on(PartitionId partition, Work& work) {
  if (work.closing || scheduler_.now_ms() < work.not_before_ms) {
    return;
  }
  if (!work.known) {
    work.asking =
        work.asking || send_look(directory_.shard_of(partition), identity_.group, {partition});
    return;
  }
  if (!finishing_ && work.position > Offset{0} && random_.chance(1, 500)) {
    work.position = Offset{random_.below(work.position.value())};
    work.rewind = true;
  }
  if (!finishing_ && random_.chance(1, 200)) {
    commit_later(partition, work);
  }
  if (!work.fetching) {
    fetch(partition, work);
  }
}

void GroupMember::on_look(const std::vector<testing::GroupOffsetResult>& results) {
  for (const testing::GroupOffsetResult& result : results) {
    const auto it = works_.find(result.partition);
    if (it == works_.end() || !it->second.asking) {
      continue;
    }
    it->second.asking = false;
    if (result.status.ok() && !it->second.known) {
      it->second.known = true;
      it->second.position = result.position();
      it->second.committed = result.committed.value_or(Offset{0});
    }
  }
}

void GroupMember::on_look_failed(const std::vector<PartitionId>& partitions) {
  for (const PartitionId partition : partitions) {
    if (const auto it = works_.find(partition); it != works_.end()) {
      it->second.asking = false;
      it->second.not_before_ms = scheduler_.now_ms() + kRetryMs;
    }
  }
}

void GroupMember::fetch(PartitionId partition, Work& work) {
  const uint64_t connection = connection_to(directory_.shard_of(partition));
  if (connection == 0) {
    return;
  }
  const testing::FetchInput part{
      partition, work.position,
      random_.chance(1, 4) ? static_cast<uint32_t>(random_.between(1, 10'000)) : 1u << 20};
  const testing::FetchLimits bounds{static_cast<uint32_t>(random_.below(500)), 1, 1 << 20};
  const uint64_t correlation = next_correlation();
  fetches_[correlation] = {connection, partition, work.epoch, work.position, scheduler_.now_ns()};
  work.fetching = true;
  network_.send(connection, testing::fetch_request({&part, 1}, bounds, correlation));
}

void GroupMember::on_fetched(const FetchRequest& request, const protocol::Frame& frame) {
  Work* const work = find(request.partition, request.epoch);
  if (work != nullptr) {
    work->fetching = false;
  }
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a valid fetch was refused: " + error.to_string());
    if (work != nullptr) {
      work->not_before_ms = scheduler_.now_ms() + kRetryMs;
    }
    return;
  }
  if (!directory_.alive(request.partition)) {
    return;
  }
  const testing::FetchPartResult result = testing::read_fetch_reply(frame).at(0);
  const Offset next = read_part(request.partition, request.offset, request.sent_ns, result);
  if (work == nullptr || work->position != request.offset) {
    return;  // it went, or a seek came between
  }
  for (const testing::Message& message : result.messages) {
    if (message.offset >= request.offset) {
      model_.groups().delivered({identity_.group, request.partition}, message.offset);
    }
  }
  work->position = next;
}

// --- commits

void GroupMember::commit_all() {
  std::map<std::pair<ShardId, Kind>, std::vector<testing::CommitInput>> wanted;
  for (const auto& [partition, work] : works_) {
    if (work.to_commit() && !work.committing) {
      wanted[{directory_.shard_of(partition), work.rewind ? Kind::kRewind : Kind::kCommit}]
          .push_back({partition, work.epoch, work.position});
    }
  }
  for (const auto& [where, items] : wanted) {
    if (!send_commits(where.first, identity_.group, where.second, items)) {
      continue;
    }
    for (const testing::CommitInput& item : items) {
      Work& work = works_.at(item.partition);
      work.committing = true;
      work.rewind = false;
    }
  }
}

void GroupMember::on_commit(Kind kind, const testing::CommitInput& item, Answer answer,
                            Offset recorded) {
  Work* const work = find(item.partition, item.epoch);
  if (work == nullptr) {
    return;
  }
  work->committing = false;
  if (answer == Answer::kOk) {
    work->committed = recorded;
  } else if (answer == Answer::kFenced) {
    given_up_[item.partition] = item.epoch;
    works_.erase(item.partition);
    beat_wanted_ = true;
  } else {
    work->rewind = work->rewind || kind == Kind::kRewind;
  }
}

void GroupMember::commit_later(PartitionId partition, const Work& work) {
  late_.push_back({{partition, work.epoch, work.position},
                   scheduler_.now_ms() + static_cast<int64_t>(random_.below(kLateMsMax))});
}

void GroupMember::commit_late() {
  for (auto it = late_.begin(); it != late_.end();) {
    if (!directory_.alive(it->item.partition)) {
      it = late_.erase(it);
    } else if (it->at_ms <= scheduler_.now_ms()) {
      send_commits(directory_.shard_of(it->item.partition), identity_.group, Kind::kCommit,
                   {it->item});
      it = late_.erase(it);
    } else {
      ++it;
    }
  }
}

void GroupMember::give_up_closed() {
  for (auto it = works_.begin(); it != works_.end();) {
    const auto work = it++;
    if (!work->second.closing || work->second.committing) {
      continue;
    }
    // One in four goes without its last commit, or with one that comes late.
    if (!work->second.to_commit() || (!finishing_ && random_.chance(1, 4))) {
      give_up(work);
    }
  }
}

void GroupMember::give_up(std::map<PartitionId, Work>::iterator work) {
  if (work->second.to_commit() && !work->second.rewind && random_.chance(1, 2)) {
    commit_later(work->first, work->second);
  }
  given_up_[work->first] = work->second.epoch;
  works_.erase(work);
  beat_wanted_ = true;
}

// --- answers

void GroupMember::on_other(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (const auto beat = beats_.find(frame.header.correlation); beat != beats_.end()) {
    const BeatRequest request = beat->second;
    beats_.erase(beat);
    return on_beat(request, frame);
  }
  if (const auto fetch = fetches_.find(frame.header.correlation); fetch != fetches_.end()) {
    const FetchRequest request = fetch->second;
    fetches_.erase(fetch);
    on_fetched(request, frame);
  }
}

void GroupMember::on_other_lost(uint64_t connection) {
  if (hung_until_lost_) {
    wake();
  }
  std::erase_if(beats_, [&](const auto& entry) { return entry.second.connection == connection; });
  for (auto it = fetches_.begin(); it != fetches_.end();) {
    if (it->second.connection != connection) {
      ++it;
      continue;
    }
    if (Work* work = find(it->second.partition, it->second.epoch); work != nullptr) {
      work->fetching = false;
    }
    it = fetches_.erase(it);
  }
}

}  // namespace tidemark::sim
