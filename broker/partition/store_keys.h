// Keys of a shard's checkpoint store. One letter says what it is; numbers are big-endian, so that
// bytewise order is numeric order.
//
//   M  what the checkpoint covers           V  head of the delayed messages
//   T  topic                                W  slots of the timing wheel
//   P  partition                            S  their states
//   I  chunk of a partition's index         N Y B X  counts: per partition, time, part of the log
//   D  producer of a partition              K  pending under a key
//                                           L  place of a relocated one
//   A  named producer (metadata shard)      R  rescheduled one
//   F  fence of a producer                  E  recurring one
//   H  transaction that has not ended
//   O  outcomes of 256 transactions
//   U  end that another shard has yet to follow
//   G  position of a consumer group in a partition
//   Q  queue (partition, group with its size before it); with a number behind it: a chunk of it
//   J  message ids of a partition: its head; with a number behind it: 1024 of them
#pragma once

#include <string>
#include <string_view>

#include "log/base/ids.h"

namespace tidemark::partition::keys {

inline std::string number32(uint32_t value) {
  std::string out(4, '\0');
  for (int i = 0; i < 4; ++i) {
    out[static_cast<size_t>(i)] = static_cast<char>(value >> (24 - 8 * i));
  }
  return out;
}

inline std::string number64(uint64_t value) {
  return number32(static_cast<uint32_t>(value >> 32)) + number32(static_cast<uint32_t>(value));
}

// "M": applied index, term, next position, log time: what the checkpoint covers.
inline std::string meta() { return "M"; }

inline std::string topic_prefix() { return "T"; }

inline std::string topic(TopicId id) { return "T" + number32(id.value()); }

inline std::string partition_prefix() { return "P"; }

inline std::string of(char letter, PartitionId id) {
  return letter + number32(id.topic.value()) + number32(id.index.value());
}

inline std::string partition(PartitionId id) { return of('P', id); }

// Index chunk, by the base offset of its first batch.
inline std::string chunk(PartitionId id, Offset base) {
  return of('I', id) + number64(base.value());
}

inline std::string producer(PartitionId id, ProducerId producer) {
  return of('D', id) + number64(producer.value());
}

// A queue: its group may have 255 bytes. The size in front of it sets its chunks apart from other
// queues.
inline std::string queue(PartitionId id, std::string_view group) {
  return of('Q', id).append(1, static_cast<char>(group.size())).append(group);
}

// What is settled from 4096 * `chunk` on.
inline std::string queue_chunk(PartitionId id, std::string_view group, uint64_t chunk) {
  return queue(id, group) + number64(chunk);
}

// Message ids number 1024 * `chunk` to 1024 * `chunk` + 1023 of a partition.
inline std::string message_ids(PartitionId id, uint64_t chunk) {
  return of('J', id) + number64(chunk);
}

// The first key behind all keys that begin with `prefix`.
inline std::string after(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xFF) {
    prefix.pop_back();
  }
  if (!prefix.empty()) {
    prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  }
  return prefix;
}

}  // namespace tidemark::partition::keys
