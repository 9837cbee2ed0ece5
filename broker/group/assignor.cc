#include "broker/group/assignor.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

namespace tidemark::group {

namespace {

// Members with the same subscription are one class: who of them is the least loaded is looked up
// once for all.
class Assignment {
 public:
  Assignment(const std::vector<Subscription>& members, const std::vector<Assignable>& partitions)
      : members_(members),
        partitions_(partitions),
        loads_(members.size()),
        held_(members.size()),
        class_of_(members.size()),
        wanted_(partitions.size(), kNobody) {}

  std::vector<uint32_t> run() {
    keep();
    classify();
    deal();
    balance();
    return std::move(wanted_);
  }

 private:
  using Load = std::pair<uint32_t, uint32_t>;  // partitions, member

  struct Less {
    bool operator()(Subscription a, Subscription b) const {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };

  struct Move {
    uint32_t topic = 0;
    Load to;
  };

  void keep();
  void classify();
  void deal();
  void balance();
  bool balance_once();
  [[nodiscard]] std::optional<Load> least_loaded(uint32_t topic) const;
  [[nodiscard]] std::optional<Move> best_move(uint32_t from) const;
  [[nodiscard]] bool is_loose(uint32_t partition, uint32_t member) const;
  void hold(uint32_t partition, uint32_t member);
  void set_load(uint32_t member, uint32_t load);

  const std::vector<Subscription>& members_;
  const std::vector<Assignable>& partitions_;
  std::vector<uint32_t> loads_;
  // Of each member, by topic. Those at the back go first.
  std::vector<std::map<uint32_t, std::vector<uint32_t>>> held_;
  std::vector<uint32_t> class_of_;
  std::vector<std::set<Load>> by_load_;               // of each class
  std::vector<std::vector<uint32_t>> topic_classes_;  // that subscribe to it
  std::vector<uint32_t> topic_members_;               // how many do
  std::vector<uint32_t> wanted_;
};

// Partitions stay where they are, if they may be there. The firm ones lie in front.
void Assignment::keep() {
  for (const bool firm : {true, false}) {
    for (uint32_t i = 0; i < partitions_.size(); ++i) {
      const Assignable& partition = partitions_[i];
      if (partition.present == kNobody || partition.firm != firm) {
        continue;
      }
      const Subscription topics = members_[partition.present];
      if (std::binary_search(topics.begin(), topics.end(), partition.topic)) {
        hold(i, partition.present);
        ++loads_[partition.present];
      }
    }
  }
}

void Assignment::classify() {
  uint32_t topics = 0;
  for (const Assignable& partition : partitions_) {
    topics = std::max(topics, partition.topic + 1);
  }
  topic_classes_.resize(topics);
  topic_members_.resize(topics);
  std::map<Subscription, uint32_t, Less> classes;
  for (uint32_t member = 0; member < members_.size(); ++member) {
    const auto [it, is_new] =
        classes.emplace(members_[member], static_cast<uint32_t>(classes.size()));
    class_of_[member] = it->second;
    if (is_new) {
      by_load_.emplace_back();
    }
    by_load_[it->second].emplace(loads_[member], member);
  }
  for (const auto& [subscription, number] : classes) {
    for (const uint32_t topic : subscription) {
      if (topic < topics) {
        topic_classes_[topic].push_back(number);
        topic_members_[topic] += static_cast<uint32_t>(by_load_[number].size());
      }
    }
  }
}

// What nobody has goes to whoever has least; topics that few subscribe to first.
void Assignment::deal() {
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < partitions_.size(); ++i) {
    if (wanted_[i] == kNobody) {
      free.push_back(i);
    }
  }
  std::stable_sort(free.begin(), free.end(), [this](uint32_t a, uint32_t b) {
    return topic_members_[partitions_[a].topic] < topic_members_[partitions_[b].topic];
  });
  for (const uint32_t i : free) {
    if (const auto to = least_loaded(partitions_[i].topic)) {
      hold(i, to->second);
      set_load(to->second, to->first + 1);
    }
  }
}

// Every move makes the sum of the squares of the loads smaller, so there is an end.
void Assignment::balance() {
  while (balance_once()) {
  }
}

// From the most to the least loaded as long as that helps: with one class of members this is the
// fewest moves. A member that cannot give to anyone is left alone; with several classes it may be
// able to when others gave something: true if it is worth another look.
bool Assignment::balance_once() {
  std::set<Load> givers;
  for (uint32_t member = 0; member < members_.size(); ++member) {
    if (loads_[member] >= 2) {
      givers.emplace(loads_[member], member);
    }
  }
  bool moved = false;
  while (!givers.empty()) {
    const Load from = *givers.rbegin();
    givers.erase(from);
    const auto move = best_move(from.second);
    if (!move) {
      if (by_load_.size() == 1) {
        return false;
      }
      continue;
    }
    std::vector<uint32_t>& held = held_[from.second].find(move->topic)->second;
    const uint32_t partition = held.back();
    held.pop_back();
    hold(partition, move->to.second);
    set_load(from.second, from.first - 1);
    set_load(move->to.second, move->to.first + 1);
    givers.emplace(from.first - 1, from.second);
    if (givers.erase(move->to) > 0) {
      givers.emplace(move->to.first + 1, move->to.second);
    }
    moved = true;
  }
  return moved;
}

std::optional<Assignment::Load> Assignment::least_loaded(uint32_t topic) const {
  std::optional<Load> least;
  for (const uint32_t number : topic_classes_[topic]) {
    const Load& candidate = *by_load_[number].begin();
    if (!least || candidate < *least) {
      least = candidate;
    }
  }
  return least;
}

// To the least loaded; from a topic with something loose, and of those from the one with the most.
std::optional<Assignment::Move> Assignment::best_move(uint32_t from) const {
  std::optional<Move> best;
  std::tuple<uint32_t, bool, size_t> best_cost;
  for (const auto& [topic, held] : held_[from]) {
    if (held.empty()) {
      continue;
    }
    const auto to = least_loaded(topic);
    if (!to || to->first + 2 > loads_[from]) {
      continue;
    }
    const std::tuple cost(to->first, !is_loose(held.back(), from), SIZE_MAX - held.size());
    if (!best || cost < best_cost) {
      best = Move{topic, *to};
      best_cost = cost;
    }
  }
  return best;
}

bool Assignment::is_loose(uint32_t partition, uint32_t member) const {
  return !partitions_[partition].firm || partitions_[partition].present != member;
}

void Assignment::hold(uint32_t partition, uint32_t member) {
  wanted_[partition] = member;
  held_[member][partitions_[partition].topic].push_back(partition);
}

void Assignment::set_load(uint32_t member, uint32_t load) {
  std::set<Load>& members = by_load_[class_of_[member]];
  members.erase({loads_[member], member});
  members.emplace(load, member);
  loads_[member] = load;
}

}  // namespace

std::vector<uint32_t> assign(const std::vector<Subscription>& members,
                             const std::vector<Assignable>& partitions) {
  return Assignment(members, partitions).run();
}

}  // namespace tidemark::group
