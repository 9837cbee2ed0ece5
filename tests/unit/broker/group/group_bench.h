// A Coordinator with what is around it, for tests: topics, shards that give out epochs, members.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/group/coordinator.h"

namespace tidemark::group {

inline constexpr int64_t kMs = 1'000'000;

inline PartitionId partition_of(uint32_t topic, uint32_t index) {
  return {TopicId{topic}, PartitionIndex{index}};
}

// What a member knows. `beat` is its next heartbeat.
struct Worker {
  Worker(std::string member, std::vector<std::string> topics, std::string instance = {}) {
    beat.group = "g";
    beat.member = std::move(member);
    beat.topics = std::move(topics);
    beat.instance = std::move(instance);
  }

  void learn(const HeartbeatAnswer& answer) {
    last = answer.status;
    if (!answer.status.ok()) {
      return;
    }
    beat.generation = answer.generation;
    assigned = answer.assigned;
    members = answer.members;
  }

  // Gives up what is not assigned any more.
  void give_up() {
    std::erase_if(beat.owned, [this](const OwnedPartition& one) {
      return std::none_of(assigned.begin(), assigned.end(), [&one](const OwnedPartition& other) {
        return other.partition == one.partition;
      });
    });
  }

  // Works on what is assigned and nothing else.
  void follow() { beat.owned = assigned; }

  [[nodiscard]] bool has(PartitionId id) const {
    return std::any_of(assigned.begin(), assigned.end(),
                       [id](const OwnedPartition& one) { return one.partition == id; });
  }

  // Of the one topic that it has partitions of.
  [[nodiscard]] std::vector<uint32_t> indexes() const {
    std::vector<uint32_t> out;
    for (const OwnedPartition& one : assigned) {
      out.push_back(one.partition.index.value());
    }
    return out;
  }

  Heartbeat beat;
  std::vector<OwnedPartition> assigned;
  uint32_t members = 0;
  Status last;
};

class GroupBench {
 public:
  explicit GroupBench(int64_t claims_ms = 0)
      : coordinator([this](std::string_view topic) { return partitions(topic); }, claims_ms) {}

  // A topic with the partitions first to first + count - 1.
  void set_topic(const std::string& name, uint32_t id, uint32_t count, uint32_t first = 0) {
    std::vector<PartitionId>& all = topics[name];
    all.clear();
    for (uint32_t i = 0; i < count; ++i) {
      all.push_back(partition_of(id, first + i));
    }
  }

  [[nodiscard]] std::vector<PartitionId> partitions(std::string_view topic) const {
    const auto it = topics.find(topic);
    return it == topics.end() ? std::vector<PartitionId>() : it->second;
  }

  void pass(int64_t ms) { now.ns += ms * kMs; }

  void collect() {
    for (auto& [ticket, answer] : coordinator.take_answers()) {
      CHECK(answers.emplace(ticket, std::move(answer)).second);
    }
  }

  // Whoever asks for it gets an answer once.
  std::optional<HeartbeatAnswer> answer(Coordinator::Ticket ticket) {
    collect();
    const auto it = answers.find(ticket);
    if (it == answers.end()) {
      return std::nullopt;
    }
    HeartbeatAnswer out = std::move(it->second);
    answers.erase(it);
    return out;
  }

  Coordinator::Ticket send(const Worker& worker, uint32_t wait_ms) {
    Heartbeat beat = worker.beat;
    beat.wait_ms = wait_ms;
    coordinator.heartbeat(beat, ++last_ticket, now);
    return last_ticket;
  }

  // Waits for nothing, and the answer is learnt.
  HeartbeatAnswer poll(Worker& worker) {
    const auto got = answer(send(worker, 0));
    REQUIRE(got.has_value());
    worker.learn(*got);
    return *got;
  }

  // The answer to a heartbeat that waited, if there is one; learnt.
  bool take(Worker& worker, Coordinator::Ticket ticket) {
    const auto got = answer(ticket);
    if (got.has_value()) {
      worker.learn(*got);
    }
    return got.has_value();
  }

  void leave(Worker& worker) {
    worker.beat.leave = true;
    const HeartbeatAnswer last = poll(worker);
    CHECK(last.status.ok());
    CHECK(last.assigned.empty());
  }

  // The shards give the leases that are wanted now. How many that were.
  size_t lease() {
    const std::vector<LeaseWanted> wanted = coordinator.take_leases(now);
    for (const LeaseWanted& one : wanted) {
      coordinator.leased(one.group, one.partition, ++epochs[{one.group, one.partition}], now);
    }
    return wanted.size();
  }

  uint32_t epoch(PartitionId id) const { return epochs.at({"g", id}); }

  // Until everybody works on what is planned for it.
  void settle(const std::vector<Worker*>& workers) {
    for (int quiet = 0; quiet < 2;) {
      bool changed = lease() > 0;
      for (Worker* const worker : workers) {
        const uint64_t before = worker->beat.generation;
        poll(*worker);
        worker->follow();
        changed = changed || worker->beat.generation != before;
      }
      quiet = changed ? 0 : quiet + 1;
    }
  }

  std::map<std::string, std::vector<PartitionId>, std::less<>> topics;
  std::map<std::pair<std::string, PartitionId>, uint32_t> epochs;
  std::map<Coordinator::Ticket, HeartbeatAnswer> answers;
  Coordinator::Ticket last_ticket = 0;
  MonotonicTime now{1'000 * kMs};
  Coordinator coordinator;
};

}  // namespace tidemark::group
