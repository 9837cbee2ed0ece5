#include "tests/simulation/label_model.h"

#include <algorithm>
#include <array>

#include "log/base/random.h"
#include "tests/simulation/delay_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

// Log time is counted in whole ms, and a broker may be ahead of what is known of its clock.
constexpr int64_t kSlackMs = DelayModel::kLeadMs + 2;

bool has_tag(const Labels& labels, const char* tag) {
  return std::find(labels.tags.begin(), labels.tags.end(), tag) != labels.tags.end();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> Labels::headers() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const std::string& tag : tags) {
    all.emplace_back("tm-tag", tag);
  }
  if (!region.empty()) {
    all.emplace_back("region", region);
  }
  if (many || amount.has_value()) {
    all.emplace_back("amount", many ? "many" : std::to_string(*amount));
  }
  if (urgent.has_value()) {
    all.emplace_back("urgent", *urgent ? "true" : "false");
  }
  if (ttl_ms >= 0) {
    all.emplace_back("tm-ttl", std::to_string(ttl_ms));
  }
  if (priority > 0) {
    all.emplace_back("tm-priority", std::to_string(priority));
  }
  return all;
}

const std::vector<LabelFilter>& LabelModel::filters() {
  static const std::vector<LabelFilter> all = {
      {{}, "", [](const Labels&) { return true; }},
      {{"red"}, "", [](const Labels& l) { return has_tag(l, "red"); }},
      {{"green", "blue"},
       "",
       [](const Labels& l) { return has_tag(l, "green") || has_tag(l, "blue"); }},
      {{}, "region = 'eu'", [](const Labels& l) { return l.region == "eu"; }},
      {{}, "region != 'eu'", [](const Labels& l) { return !l.region.empty() && l.region != "eu"; }},
      {{}, "amount > 100", [](const Labels& l) { return !l.many && l.amount.value_or(0) > 100; }},
      {{},
       "not (amount >= 20 and amount < 150)",
       [](const Labels& l) {
         return l.many || !l.amount.has_value() || *l.amount < 20 || *l.amount >= 150;
       }},
      {{},
       "not exists urgent or region in ('us', 'ap')",
       [](const Labels& l) {
         return !l.urgent.has_value() || l.region == "us" || l.region == "ap";
       }},
      {{"red"},
       "amount <= 50 and urgent = true",
       [](const Labels& l) {
         return has_tag(l, "red") && !l.many && l.amount.has_value() && *l.amount <= 50 &&
                l.urgent.value_or(false);
       }},
      {{}, "region = 'nowhere'", [](const Labels&) { return false; }},
  };
  return all;
}

Labels LabelModel::labels_of(uint64_t uid) const {
  constexpr std::array<const char*, 3> kTags = {"red", "green", "blue"};
  constexpr std::array<const char*, 4> kRegions = {"", "eu", "us", "ap"};
  Random random(seed_ * 41 + uid);
  Labels labels;
  for (uint64_t i = random.below(3); i > 0; --i) {
    labels.tags.emplace_back(kTags[random.below(kTags.size())]);
  }
  labels.region = kRegions[random.below(kRegions.size())];
  if (random.chance(2, 3)) {
    labels.amount = static_cast<int>(random.below(200));
  }
  labels.many = random.chance(1, 10);
  if (random.chance(1, 2)) {
    labels.urgent = random.chance(1, 2);
  }
  if (random.chance(1, 4)) {
    labels.ttl_ms = static_cast<int64_t>(random.between(1, 6'000));
  }
  labels.priority = static_cast<int>(random.chance(1, 2) ? 0 : random.below(8));
  if (random.chance(3, 4)) {
    labels.key = "key-" + std::to_string(random.below(20));
  }
  return labels;
}

LabelModel::Message& LabelModel::know(PartitionId partition, Offset offset, uint64_t uid) {
  Message& message = partitions_[partition][offset];
  message.uid = uid;
  return message;
}

void LabelModel::stored(PartitionId partition, Offset offset, uint64_t uid, int64_t received_ms) {
  Message& message = know(partition, offset, uid);
  message.received_ms = std::max(message.received_ms, received_ms);
}

int64_t LabelModel::ttl_of(uint64_t uid) const {
  const int64_t own_ms = labels_of(uid).ttl_ms;
  return own_ms >= 0 ? own_ms : topic_ttl_ms_;
}

// Perhaps, if nobody knows when it was received.
bool LabelModel::has_expired(const Message& message, int64_t log_ms) const {
  const int64_t ttl_ms = ttl_of(message.uid);
  return ttl_ms >= 0 &&
         (message.received_ms < 0 || message.received_ms + ttl_ms <= log_ms + kSlackMs);
}

std::string LabelModel::place(PartitionId id, Offset offset, const Message& message) const {
  return "topic " + std::to_string(id.topic.value()) + " partition " +
         std::to_string(id.index.value()) + " offset " + std::to_string(offset.value()) +
         ", message " + std::to_string(message.uid) + " received at " +
         std::to_string(message.received_ms) + " with a time to live of " +
         std::to_string(ttl_of(message.uid)) + " ms";
}

// --- readers

void LabelModel::check_delivered(PartitionId partition, Offset offset, const Message& message,
                                 size_t filter, const Times& times) const {
  const std::string what = place(partition, offset, message) + ", delivered from " +
                           std::to_string(times.from_ms) + " to " + std::to_string(times.to_ms) +
                           " for filter " + std::to_string(filter);
  require(filters()[filter].wants(labels_of(message.uid)), "I27: not wanted: " + what);
  const int64_t ttl_ms = ttl_of(message.uid);
  require(ttl_ms < 0 || message.received_ms < 0 ||
              message.received_ms + ttl_ms > times.from_ms - kSlackMs,
          "I28: its time to live was over: " + what);
}

void LabelModel::read(PartitionId partition, Offset offset, uint64_t uid, size_t filter,
                      const Times& times) {
  ++counters_.read;
  check_delivered(partition, offset, know(partition, offset, uid), filter, times);
}

void LabelModel::left_out(PartitionId partition, Offset from, Offset to, size_t filter,
                          const Times& times) {
  if (from < to) {
    left_out_.push_back({partition, from, to, filter, times.to_ms});
    counters_.left_out += to - from;
  }
}

void LabelModel::check_left_out(const LeftOut& gap) const {
  const auto partition = partitions_.find(gap.partition);
  if (partition == partitions_.end()) {
    return;
  }
  auto it = partition->second.lower_bound(gap.from);
  for (; it != partition->second.end() && it->first < gap.to; ++it) {
    const Message& message = it->second;
    if (!filters()[gap.filter].wants(labels_of(message.uid))) {
      continue;
    }
    const std::string what = place(gap.partition, it->first, message) + ", left out at " +
                             std::to_string(gap.to_ms) + " for filter " +
                             std::to_string(gap.filter);
    require(ttl_of(message.uid) >= 0, "I27: wanted, but left out: " + what);
    require(has_expired(message, gap.to_ms), "I28: left out before its time: " + what);
  }
}

// --- queue mode

void LabelModel::leased(const Name& name, const std::vector<Lease>& leases, const Times& times,
                        int64_t left_ns) {
  Queue& queue = queues_[name];
  const size_t filter = groups_.at(name.group).filter;
  int priority = 8;
  Offset before;
  for (const Lease& lease : leases) {
    const Message& message = know(name.partition, lease.offset, lease.uid);
    check_delivered(name.partition, lease.offset, message, filter, times);
    const int own = labels_of(lease.uid).priority;
    require(own < priority || (own == priority && lease.offset > before),
            "I29: priority " + std::to_string(own) + " behind " + std::to_string(priority) +
                " at offset " + std::to_string(before.value()) + ": " +
                place(name.partition, lease.offset, message));
    priority = own;
    before = lease.offset;
    queue.leases.push_back({lease.offset, left_ns, times.to_ms});
    queue.leased.insert(lease.offset);
    ++counters_.leased;
  }
}

void LabelModel::acked(const Name& name, Offset offset, int64_t at_ns) {
  queues_[name].acked_ns.try_emplace(offset, at_ns);
}

void LabelModel::settled(const Name& name, int64_t log_ms) { queues_[name].settled_ms = log_ms; }

// Of each lease: all before it with the same key were acked, are not wanted, or had expired.
void LabelModel::check_order(const Name& name, const Group& group, const Queue& queue) const {
  std::map<std::string, std::vector<Offset>> by_key;
  const auto& messages = partitions_.at(name.partition);
  for (const auto& [offset, message] : messages) {
    const Labels labels = labels_of(message.uid);
    if (!labels.key.empty() && filters()[group.filter].wants(labels)) {
      by_key[labels.key].push_back(offset);
    }
  }
  for (const Given& lease : queue.leases) {
    const Message& given = messages.at(lease.offset);
    const std::string key = labels_of(given.uid).key;
    if (key.empty()) {
      continue;
    }
    for (const Offset offset : by_key.at(key)) {
      if (offset >= lease.offset) {
        break;
      }
      const auto ack = queue.acked_ns.find(offset);
      const bool acked = ack != queue.acked_ns.end() && ack->second <= lease.left_ns;
      require(acked || has_expired(messages.at(offset), lease.to_ms),
              "I29: leased at " + std::to_string(lease.left_ns) + " to group " + name.group +
                  " before offset " + std::to_string(offset.value()) + " of its key " + key +
                  " was settled: " + place(name.partition, lease.offset, given));
    }
  }
}

void LabelModel::check_all_leased(const Name& name, const Group& group, const Queue& queue) const {
  if (!queue.settled_ms.has_value()) {
    return;
  }
  for (const auto& [offset, message] : partitions_.at(name.partition)) {
    if (queue.leased.contains(offset) || !filters()[group.filter].wants(labels_of(message.uid))) {
      continue;
    }
    const std::string what = "group " + name.group + ": " + place(name.partition, offset, message);
    require(ttl_of(message.uid) >= 0, "I27: wanted, but settled unseen: " + what);
    require(has_expired(message, *queue.settled_ms),
            "I28: settled unseen before its time: " + what);
  }
}

void LabelModel::check() const {
  for (const LeftOut& gap : left_out_) {
    check_left_out(gap);
  }
  for (const auto& [name, queue] : queues_) {
    if (!partitions_.contains(name.partition)) {
      continue;
    }
    const Group& group = groups_.at(name.group);
    if (group.ordered) {
      check_order(name, group, queue);
    }
    check_all_leased(name, group, queue);
  }
}

}  // namespace tidemark::sim
