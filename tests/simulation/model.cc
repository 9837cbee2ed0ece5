#include "tests/simulation/model.h"

#include <algorithm>
#include <set>

#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/random.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr size_t kValueHeadBytes = 16;
constexpr size_t kChecksumBytes = 4;

std::string place(PartitionId partition, Offset offset) {
  return "topic " + std::to_string(partition.topic.value()) + " partition " +
         std::to_string(partition.index.value()) + " offset " + std::to_string(offset.value());
}

}  // namespace

uint64_t Model::sent(PartitionId partition, uint64_t producer, uint64_t sequence,
                     uint32_t pad_bytes) {
  messages_.push_back({.partition = partition,
                       .producer = producer,
                       .sequence = sequence,
                       .pad_bytes = pad_bytes,
                       .floor = partitions_[partition].acknowledged_end});
  return messages_.size();
}

uint64_t Model::sent_delayed(PartitionId partition, uint32_t pad_bytes) {
  messages_.push_back({.partition = partition,
                       .pad_bytes = pad_bytes,
                       .delayed = true,
                       .floor = partitions_[partition].acknowledged_end});
  return messages_.size();
}

void Model::hidden_until_now(uint64_t uid) {
  MessageState& message = messages_.at(uid - 1);
  message.floor = std::max(message.floor, partitions_[message.partition].acknowledged_end);
}

std::string Model::value_of(uint64_t uid) const {
  const MessageState& message = messages_.at(uid - 1);
  std::string value(kValueHeadBytes + message.pad_bytes + kChecksumBytes, '\0');
  auto* const bytes = reinterpret_cast<uint8_t*>(value.data());
  store_le(bytes, uid);
  store_le(bytes + 8, message.partition.topic.value());
  store_le(bytes + 12, message.partition.index.value());
  Random noise(seed_ ^ uid);
  uint8_t* at = bytes + kValueHeadBytes;
  for (uint32_t i = 0; i < message.pad_bytes; ++i) {
    *at++ = static_cast<uint8_t>(noise.next());
  }
  store_le(at, crc32c(as_bytes(value).first(kValueHeadBytes + message.pad_bytes)));
  return value;
}

void Model::acknowledged(uint64_t first_uid, size_t count, Offset base) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t uid = first_uid + i;
    MessageState& message = messages_.at(uid - 1);
    const Offset offset = base + i;
    const auto what = [&] {
      return ": message " + std::to_string(uid) + ", " + place(message.partition, offset);
    };
    if (message.acknowledged) {
      require(message.offset == offset, [&] {
        return "I11: acknowledged again at another offset than " +
               std::to_string(message.offset.value()) + what();
      });
      continue;
    }
    require(offset >= message.floor, [&] {
      return "I5: sent after offset " + std::to_string(message.floor.value()) +
             " - 1 was acknowledged, but lies before it" + what();
    });
    message.acknowledged = true;
    message.offset = offset;
    ++acknowledged_;
    identify(message.partition, offset, uid);
    PartitionState& state = partitions_[message.partition];
    state.acknowledged_end = std::max(state.acknowledged_end, offset + 1);
  }
}

uint64_t Model::read(PartitionId partition, Offset offset, std::string_view value) {
  ++read_;
  const uint64_t uid = check_value(partition, offset, value);
  const MessageState& message = messages_[uid - 1];
  require(message.delayed || !message.acknowledged || message.offset == offset, [&] {
    return "I1: acknowledged at offset " + std::to_string(message.offset.value()) + ", read at " +
           place(partition, offset);
  });
  identify(partition, offset, uid);
  return uid;
}

uint64_t Model::check_value(PartitionId partition, Offset offset, std::string_view value) {
  const ByteView bytes = as_bytes(value);
  const auto check = [&](bool condition, const char* what) {
    require(condition, [&] { return what + (" at " + place(partition, offset)); });
  };
  check(bytes.size() >= kValueHeadBytes + kChecksumBytes, "I3: value too short");
  const auto body = bytes.first(bytes.size() - kChecksumBytes);
  check(load_le<uint32_t>(bytes.data() + body.size()) == crc32c(body), "I3: damaged value");
  const auto uid = load_le<uint64_t>(bytes.data());
  check(uid >= 1 && uid <= messages_.size(), "I2: a message that nobody sent");
  MessageState& message = messages_[uid - 1];
  require(message.partition == partition, [&] {
    return "I3: message " + std::to_string(uid) + " of topic " +
           std::to_string(message.partition.topic.value()) + " partition " +
           std::to_string(message.partition.index.value()) + " at " + place(partition, offset);
  });
  // Most messages are read many times; only the first time is the value made again.
  if (!message.value_hash) {
    message.value_hash = xxh3(as_bytes(value_of(uid)));
  }
  check(xxh3(bytes) == *message.value_hash, "I3: not the value that was sent");
  return uid;
}

void Model::identify(PartitionId partition, Offset offset, uint64_t uid) {
  std::vector<uint64_t>& uids = partitions_[partition].uids;
  if (uids.size() <= offset.value()) {
    uids.resize(offset.value() + 1);
  }
  uint64_t& known = uids[offset.value()];
  require(known == 0 || known == uid, [&] {
    return "I4: was message " + std::to_string(known) + ", is now message " + std::to_string(uid) +
           ": " + place(partition, offset);
  });
  known = uid;
}

void Model::forget(TopicId topic) {
  std::erase_if(partitions_, [&](const auto& entry) { return entry.first.topic == topic; });
  delays_.forget(topic);
  txns_.forget(topic);
  groups_.forget(topic);
  queues_.forget(topic);
}

std::vector<PartitionId> Model::partitions() const {
  std::vector<PartitionId> ids;
  for (const auto& [id, state] : partitions_) {
    ids.push_back(id);
  }
  return ids;
}

Offset Model::end_of(PartitionId partition) const {
  const auto it = partitions_.find(partition);
  return it == partitions_.end() ? Offset{} : Offset{it->second.uids.size()};
}

bool Model::used(PartitionId partition) const { return end_of(partition) > Offset{}; }

void Model::check_drained(PartitionId partition, Offset start, bool retention,
                          const std::vector<Stored>& messages) {
  require(retention || start == Offset{0},
          "I1: without retention, but begins at " + place(partition, start));
  std::set<uint64_t> seen;
  std::map<uint64_t, uint64_t> newest_sequence;  // by producer, + 1
  Offset expected = start;
  for (const Stored& stored : messages) {
    const auto at = [&] { return ": " + place(partition, stored.offset); };
    require(stored.offset == expected,
            [&] { return "I6: expected offset " + std::to_string(expected.value()) + at(); });
    ++expected;
    const uint64_t uid = read(partition, stored.offset, stored.value);
    const MessageState& message = messages_[uid - 1];
    require(seen.insert(uid).second || message.delayed,
            [&] { return "I11: stored twice, message " + std::to_string(uid) + " again" + at(); });
    require(stored.offset >= message.floor,
            [&] { return "I5: lies before what was acknowledged before it was sent" + at(); });
    if (message.delayed) {
      continue;  // how often and in which order is the delay model's
    }
    uint64_t& newest = newest_sequence[message.producer];
    require(message.sequence >= newest, [&] { return "I5: out of the producer's order" + at(); });
    newest = message.sequence + 1;
  }
  // Whatever was acknowledged or read lies below `expected`; what lies there has been compared
  // above.
  require(end_of(partition) <= expected, "I1, I7: ends at " + place(partition, expected) +
                                             ", but known is up to " +
                                             std::to_string(end_of(partition).value()));
}

}  // namespace tidemark::sim
