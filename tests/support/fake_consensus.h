// FakeConsensus: one voter without disk or raft. Keeps what was proposed as the log of the shard
// and commits when told, so that a test decides what lies between acceptance and apply. The log
// outlives the state machine: replay() rebuilds one.
#pragma once

#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "broker/replica/consensus.h"
#include "log/base/check.h"
#include "log/log.h"

namespace tidemark::testing {

class FakeConsensus final : public replica::Consensus {
 public:
  // What was ever committed, in order; positions as a log would give them.
  std::vector<replica::CommittedEntry> log;

  void join(replica::StateMachine& machine) {
    machine_ = &machine;
    machine.on_role(role_, term_);
  }

  Result<LogIndex> propose(SharedBytes payload, log::Room room = log::Room::kOrdinary) override {
    if (!failure_.ok()) {
      return failure_;
    }
    if (!refusal_.ok() && !(room == log::Room::kReserved && reserve_kept_)) {
      return refusal_;
    }
    if (role_ != replica::Role::kLeader) {
      return Status(ErrorCode::kNotLeader, "test");
    }
    replica::CommittedEntry entry;
    entry.index = ++next_index_;
    entry.term = term_;
    entry.position = next_position_;
    next_position_ = next_position_ + log::entry_bytes(payload.size());
    entry.payload = std::move(payload);
    proposed_.push_back(entry);
    return entry.index;
  }

  // Commits and applies the oldest proposal; false if there is none.
  bool commit_one() {
    if (proposed_.empty()) {
      return false;
    }
    log.push_back(std::move(proposed_.front()));
    proposed_.pop_front();
    const replica::CommittedEntry entry = log.back();
    machine_->apply(entry);
    return true;
  }

  void commit_all() {
    while (commit_one()) {
    }
  }

  // Proposals that were not committed are lost, as after a crash.
  void lose_proposed() {
    if (!proposed_.empty()) {
      next_index_ = LogIndex{proposed_.front().index.value() - 1};
      next_position_ = proposed_.front().position;
      proposed_.clear();
    }
  }

  // Applies the log behind `covered` to a new state machine and makes it the leader's.
  void replay(replica::StateMachine& machine, LogIndex covered = {}) {
    for (const replica::CommittedEntry& entry : log) {
      if (entry.index > covered) {
        machine.apply(entry);
      }
    }
    join(machine);
  }

  void set_role(replica::Role role) {
    role_ = role;
    ++term_;
    machine_->on_role(role_, term_);
  }

  // From now on propose() gives this to ordinary proposals, and to reserved ones if the reserve is
  // not kept; ok ends it.
  void refuse_with(Status status) { refusal_ = std::move(status); }

  void reserve(uint64_t bytes) override { reserve_ = bytes; }

  [[nodiscard]] uint64_t reserve() const { return reserve_; }

  void keep_reserve(bool kept) { reserve_kept_ = kept; }

  [[nodiscard]] bool reserve_kept() const override { return reserve_kept_; }

  void fail_with(Status status) { failure_ = std::move(status); }

  [[nodiscard]] size_t proposed() const { return proposed_.size(); }

  // Bytes of a batch, as a log would give them back.
  [[nodiscard]] SharedBytes bytes_at(LogPosition position, size_t size) const {
    for (const replica::CommittedEntry& entry : log) {
      const uint64_t payload = entry.position.value() + log::kEntryHeaderBytes;
      if (position.value() >= payload &&
          position.value() + size <= payload + entry.payload.size()) {
        return entry.payload.slice(static_cast<size_t>(position.value() - payload), size);
      }
    }
    TIDEMARK_CHECK(false, "position " + std::to_string(position.value()) + " is not in the log");
    return {};
  }

  [[nodiscard]] replica::Role role() const override { return role_; }

  [[nodiscard]] Term term() const override { return term_; }

  [[nodiscard]] LogIndex last_applied() const override {
    return log.empty() ? LogIndex{} : log.back().index;
  }

  void tick(MonotonicTime /*now*/) override {}

  void checkpointed(LogIndex /*covered*/, LogPosition /*low_position*/) override {}

  [[nodiscard]] const Status& failure() const override { return failure_; }

  void stop(MoveOnlyFunction<void()> done) override { done(); }

 private:
  replica::StateMachine* machine_ = nullptr;
  replica::Role role_ = replica::Role::kLeader;
  Term term_{1};
  LogIndex next_index_;
  LogPosition next_position_;
  std::deque<replica::CommittedEntry> proposed_;
  Status refusal_;
  uint64_t reserve_ = 0;
  bool reserve_kept_ = true;
  Status failure_;
};

}  // namespace tidemark::testing
