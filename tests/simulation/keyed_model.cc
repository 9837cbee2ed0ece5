#include "tests/simulation/keyed_model.h"

#include <algorithm>

#include "log/base/random.h"
#include "tests/simulation/delay_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr uint64_t kKeylessOf = 16;
constexpr uint64_t kTombstoneOf = 6;

}  // namespace

std::string KeyedModel::key_of(uint64_t uid) const {
  Random random(seed_ * 31 + uid);
  if (random.chance(1, kKeylessOf)) {
    return {};
  }
  return "key-" + std::to_string(random.below(rules_.keys));
}

bool KeyedModel::is_tombstone(uint64_t uid) const {
  return Random(seed_ * 37 + uid).chance(1, kTombstoneOf) && !key_of(uid).empty();
}

std::string KeyedModel::place(PartitionId id, Offset offset) const {
  return "topic " + std::to_string(id.topic.value()) + " partition " +
         std::to_string(id.index.value()) + " offset " + std::to_string(offset.value());
}

void KeyedModel::sent(PartitionId partition, uint64_t uid) {
  if (is_tombstone(uid)) {
    partitions_[partition].unsure[key_of(uid)].insert(uid);
  }
}

KeyedModel::Message& KeyedModel::know(PartitionId partition, Offset offset, uint64_t uid) {
  Partition& state = partitions_[partition];
  Message& message = state.messages[offset];
  if (message.uid == 0) {
    message.uid = uid;
    const std::string key = key_of(uid);
    if (!key.empty()) {
      state.by_key[key].insert(offset);
    }
    if (const auto it = state.unsure.find(key); it != state.unsure.end()) {
      it->second.erase(uid);
    }
  }
  return message;
}

void KeyedModel::stored(PartitionId partition, Offset offset, uint64_t uid, int64_t received_ms) {
  Message& message = know(partition, offset, uid);
  message.received_ms = std::max(message.received_ms, received_ms);
}

KeyedModel::Pass KeyedModel::begin_pass(PartitionId partition) const {
  Pass pass;
  pass.partition = partition;
  const auto state = partitions_.find(partition);
  if (state == partitions_.end()) {
    return pass;
  }
  for (const auto& [key, offsets] : state->second.by_key) {
    pass.wanted[key] = *offsets.rbegin();
  }
  for (const auto& [offset, message] : state->second.messages) {
    if (key_of(message.uid).empty()) {
      pass.keyless.insert(offset);
    }
  }
  return pass;
}

void KeyedModel::seen(Pass& pass, Offset offset, uint64_t uid, int64_t sent_ns) {
  const Message& message = know(pass.partition, offset, uid);
  const std::string what =
      place(pass.partition, offset) + ", read by a request of " + std::to_string(sent_ns);
  require(offset >= pass.next, "I25: read again in one pass: " + what);
  pass.next = offset + 1;
  require(message.gone_ns >= sent_ns,
          "I25: came back, gone at " + std::to_string(message.gone_ns) + ": " + what);
  const std::string key = key_of(uid);
  if (key.empty()) {
    pass.keyless.erase(offset);
    return;
  }
  pass.seen[key] = offset;
  check_outlived(pass, key, offset, sent_ns);
}

// An older one than one that is gone.
void KeyedModel::check_outlived(Pass& pass, const std::string& key, Offset offset,
                                int64_t sent_ns) const {
  pass.outlived_ns.erase(key);
  const Partition& state = partitions_.at(pass.partition);
  const auto gone = state.gone.find(key);
  if (gone == state.gone.end() || offset >= gone->second ||
      state.messages.at(gone->second).gone_ns >= sent_ns) {
    return;
  }
  require(rules_.unreadable, "I25: a later one of " + key + ", at offset " +
                                 std::to_string(gone->second.value()) +
                                 ", is gone: " + place(pass.partition, offset) +
                                 ", read by a request of " + std::to_string(sent_ns));
  pass.outlived_ns[key] = sent_ns;
}

void KeyedModel::check_gone(const Partition& partition, PartitionId id, Offset offset,
                            int64_t log_ms) const {
  const Message& message = partition.messages.at(offset);
  const std::string what = place(id, offset) + ", received at " +
                           std::to_string(message.received_ms) + ", gone at " +
                           std::to_string(log_ms);
  require(!key_of(message.uid).empty(), "I25: a message without a key is gone: " + what);
  require(message.received_ms < 0 ||
              message.received_ms + rules_.after_ms <= log_ms + DelayModel::kLeadMs,
          "I25: gone before its time: " + what);
}

void KeyedModel::passed(Pass& pass, Offset next, int64_t left_ns, int64_t log_ms) {
  Partition& state = partitions_[pass.partition];
  // What a request of this pass saw lies before pass.next; the rest was left out.
  auto it = state.messages.lower_bound(pass.next);
  for (; it != state.messages.end() && it->first < next; ++it) {
    check_gone(state, pass.partition, it->first, log_ms);
    if (it->second.gone_ns == INT64_MAX) {
      it->second.gone_ns = left_ns;
      ++counters_.gone;
      Offset& newest = state.gone[key_of(it->second.uid)];
      newest = std::max(newest, it->first);
    }
  }
  pass.next = std::max(pass.next, next);
}

// A tombstone, known or not, may have taken the key with it.
bool KeyedModel::may_be_gone_whole(const Partition& partition, const std::string& key, Offset from,
                                   int64_t log_ms) const {
  if (const auto unsure = partition.unsure.find(key);
      unsure != partition.unsure.end() && !unsure->second.empty()) {
    return true;
  }
  const std::set<Offset>& offsets = partition.by_key.at(key);
  return std::any_of(offsets.lower_bound(from), offsets.end(), [&](Offset offset) {
    return is_old_tombstone(partition.messages.at(offset), log_ms);
  });
}

bool KeyedModel::is_old_tombstone(const Message& message, int64_t log_ms) const {
  const int64_t after_ms = std::max(rules_.after_ms, rules_.tombstone_ms);
  return is_tombstone(message.uid) && (message.received_ms < 0 || message.received_ms + after_ms <=
                                                                      log_ms + DelayModel::kLeadMs);
}

bool KeyedModel::may_have_gone_since(const Pass& pass, const std::string& key, Offset from,
                                     int64_t sent_ns, int64_t log_ms) const {
  const Partition& partition = partitions_.at(pass.partition);
  if (const auto unsure = partition.unsure.find(key);
      unsure != partition.unsure.end() && !unsure->second.empty()) {
    return true;
  }
  const std::set<Offset>& offsets = partition.by_key.at(key);
  return std::any_of(offsets.upper_bound(from), offsets.lower_bound(pass.next), [&](Offset offset) {
    return partition.messages.at(offset).gone_ns >= sent_ns &&
           is_old_tombstone(partition.messages.at(offset), log_ms);
  });
}

void KeyedModel::end_pass(const Pass& pass, int64_t log_ms) {
  ++counters_.passes;
  require(
      pass.keyless.empty(),
      "I25: a message without a key is gone: " +
          (pass.keyless.empty() ? std::string() : place(pass.partition, *pass.keyless.begin())));
  for (const auto& [key, newest] : pass.wanted) {
    const auto seen = pass.seen.find(key);
    if (seen != pass.seen.end() && seen->second >= newest) {
      continue;
    }
    require(may_be_gone_whole(partitions_.at(pass.partition), key, newest, log_ms),
            "I25: the newest of " + key + " is gone: " + place(pass.partition, newest) +
                " at log time " + std::to_string(log_ms));
    ++counters_.gone_keys;
  }
  for (const auto& [key, sent_ns] : pass.outlived_ns) {
    const Offset last = pass.seen.at(key);
    require(may_have_gone_since(pass, key, last, sent_ns, log_ms),
            "I25: " + key +
                " came up again, all that is newer is gone: " + place(pass.partition, last));
  }
}

}  // namespace tidemark::sim
