#include "tests/simulation/unique_model.h"

#include <algorithm>
#include <set>

#include "tests/simulation/delay_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

// Log time is counted in whole ms, and a broker may be ahead of what is known of its clock.
constexpr int64_t kSlackMs = DelayModel::kLeadMs + 2;

constexpr size_t kRememberedIds = 40;

}  // namespace

uint64_t UniqueModel::pick_id(PartitionId partition, Random& random) {
  std::deque<uint64_t>& ids = ids_[partition];
  if (!ids.empty() && random.chance(1, 2)) {
    return ids[random.below(ids.size())];
  }
  if (ids.size() == kRememberedIds) {
    ids.pop_front();
  }
  ids.push_back(next_id_);
  return next_id_++;
}

void UniqueModel::sent(PartitionId partition, uint64_t uid, uint64_t id, bool sequenced) {
  deliveries_[uid] = {partition, id, sequenced, false, {}, {}};
  ++counters_.sent;
}

void UniqueModel::arrived(uint64_t uid, int64_t log_ms) {
  deliveries_.at(uid).arrived_ms.push_back(log_ms);
}

void UniqueModel::answered(uint64_t uid, Offset offset, int64_t log_ms) {
  Delivery& delivery = deliveries_.at(uid);
  delivery.acknowledged = true;
  delivery.answers.push_back({offset, log_ms});
  ++counters_.answered;
}

std::string UniqueModel::name(uint64_t uid) const {
  const Delivery& delivery = deliveries_.at(uid);
  return "delivery " + std::to_string(uid) + " of id " + std::to_string(delivery.id) + " (topic " +
         std::to_string(delivery.partition.topic.value()) + " partition " +
         std::to_string(delivery.partition.index.value()) + ", arrived from " +
         std::to_string(first_ms(uid)) + " to " + std::to_string(last_ms(uid)) + ")";
}

int64_t UniqueModel::first_ms(uint64_t uid) const {
  const auto& times = deliveries_.at(uid).arrived_ms;
  return times.empty() ? INT64_MAX / 2 : *std::min_element(times.begin(), times.end());
}

int64_t UniqueModel::last_ms(uint64_t uid) const {
  const auto& times = deliveries_.at(uid).arrived_ms;
  return times.empty() ? INT64_MIN / 2 : *std::max_element(times.begin(), times.end());
}

void UniqueModel::check_drained(PartitionId partition, const std::vector<Stored>& messages) {
  check_apart(messages);
  std::map<Offset, uint64_t> stored;
  std::set<uint64_t> uids;
  std::set<uint64_t> ids;
  for (const Stored& one : messages) {
    stored[one.offset] = one.uid;
    uids.insert(one.uid);
    ids.insert(deliveries_.at(one.uid).id);
  }
  for (const auto& [uid, delivery] : deliveries_) {
    if (delivery.partition != partition) {
      continue;
    }
    check_answers(uid, stored);
    const bool there = uids.contains(uid) || (delivery.id != 0 && ids.contains(delivery.id));
    require(there || !delivery.acknowledged, "I26: acknowledged, not stored: " + name(uid));
  }
}

void UniqueModel::check_apart(const std::vector<Stored>& messages) {
  std::map<uint64_t, uint64_t> newest;  // by id
  std::set<uint64_t> seen;
  for (const auto& [offset, uid] : messages) {
    const Delivery& delivery = deliveries_.at(uid);
    const std::string what = name(uid) + " at offset " + std::to_string(offset.value());
    require(!delivery.arrived_ms.empty(), "I2: it never arrived: " + what);
    require(seen.insert(uid).second || !delivery.sequenced, "I26: stored twice: " + what);
    if (delivery.id == 0) {
      continue;
    }
    const auto [it, is_first] = newest.try_emplace(delivery.id, uid);
    require(is_first || last_ms(uid) - first_ms(it->second) >= window_ms_ - kSlackMs,
            "I26: within the window another one was stored, " + name(it->second) + ": " + what);
    counters_.again += is_first ? 0 : 1;
    it->second = uid;
  }
}

void UniqueModel::check_answers(uint64_t uid, const std::map<Offset, uint64_t>& stored) {
  const Delivery& delivery = deliveries_.at(uid);
  for (const Answer& answer : delivery.answers) {
    const std::string what = name(uid) + ", answered with offset " +
                             std::to_string(answer.offset.value()) + " when it arrived at " +
                             std::to_string(answer.log_ms);
    const auto there = stored.find(answer.offset);
    require(there != stored.end(), "I26: nothing is there: " + what);
    const Delivery& other = deliveries_.at(there->second);
    if (there->second == uid) {
      continue;
    }
    require(delivery.id != 0 && other.id == delivery.id,
            "I26: that is " + name(there->second) + ": " + what);
    require(last_ms(there->second) + window_ms_ + kSlackMs >= answer.log_ms,
            "I26: its window was over, that is " + name(there->second) + ": " + what);
    ++counters_.repeated;
  }
}

}  // namespace tidemark::sim
