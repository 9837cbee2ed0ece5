// KeyedModel: what must hold for a topic that is compacted by key. That a message lies where it was
// acknowledged, and that an offset means one message for ever, is the model's (I1 to I4).
//
//   I25 a reader that goes from the beginning to the end sees for each key the newest message that
//       was known when it set out, or a later one; only a tombstone that is old enough takes its
//       key along. A message without a key never goes. Nothing goes before its time, what is gone
//       does not come back, and of a key the older one goes before the newer one. Where batches
//       may be unreadable for a while, an older one may stay longer, but not as the last that a
//       reader sees of its key: then a deleted key, or a value of old, would come up again.
//
// A pass is one such journey. Key, and whether a message is a tombstone, follow from its id.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "log/base/ids.h"

namespace tidemark::sim {

class KeyedModel {
 public:
  struct Rules {
    uint32_t keys = 1;
    int64_t after_ms = 0;      // compact_after_ms
    int64_t tombstone_ms = 0;  // as asked for
    bool unreadable = false;   // batches may be, for compaction, when it goes over them
  };

  KeyedModel(uint64_t seed, const Rules& rules) : seed_(seed), rules_(rules) {}

  // Empty: the message has no key.
  [[nodiscard]] std::string key_of(uint64_t uid) const;
  // It has a key, and no value.
  [[nodiscard]] bool is_tombstone(uint64_t uid) const;

  void sent(PartitionId partition, uint64_t uid);
  // Acknowledged, as received at `received_ms`; -1: that is not known.
  void stored(PartitionId partition, Offset offset, uint64_t uid, int64_t received_ms);

  struct Pass {
    PartitionId partition;
    std::map<std::string, Offset> wanted;  // newest offset known of each key at the beginning
    std::map<std::string, Offset> seen;    // newest
    std::set<Offset> keyless;              // known at the beginning
    // Keys of which the last one seen is older than one that was gone then: when it was asked for.
    std::map<std::string, int64_t> outlived_ns;
    Offset next;
  };

  [[nodiscard]] Pass begin_pass(PartitionId partition) const;
  // The message at `offset`, in an answer to a request that was sent at `sent_ns`.
  void seen(Pass& pass, Offset offset, uint64_t uid, int64_t sent_ns);
  // The answer, which left at `left_ns` and log time `log_ms`, has nothing else before `next`.
  void passed(Pass& pass, Offset next, int64_t left_ns, int64_t log_ms);
  // The pass has reached the end of the partition at `log_ms`.
  void end_pass(const Pass& pass, int64_t log_ms);

  struct Counters {
    uint64_t passes = 0;
    uint64_t gone = 0;       // messages, as seen by readers
    uint64_t gone_keys = 0;  // by a tombstone
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Message {
    uint64_t uid = 0;
    int64_t received_ms = -1;
    int64_t gone_ns = INT64_MAX;  // when an answer left that lacked it
  };

  struct Partition {
    std::map<Offset, Message> messages;  // known to be, or have been, there
    std::map<std::string, std::set<Offset>> by_key;
    std::map<std::string, Offset> gone;                // newest that is gone, by key
    std::map<std::string, std::set<uint64_t>> unsure;  // tombstones that may be anywhere
  };

  void check_outlived(Pass& pass, const std::string& key, Offset offset, int64_t sent_ns) const;
  // A tombstone took what was newer than `from` while the pass was on its way.
  [[nodiscard]] bool may_have_gone_since(const Pass& pass, const std::string& key, Offset from,
                                         int64_t sent_ns, int64_t log_ms) const;
  [[nodiscard]] bool is_old_tombstone(const Message& message, int64_t log_ms) const;
  Message& know(PartitionId partition, Offset offset, uint64_t uid);
  void check_gone(const Partition& partition, PartitionId id, Offset offset, int64_t log_ms) const;
  [[nodiscard]] bool may_be_gone_whole(const Partition& partition, const std::string& key,
                                       Offset from, int64_t log_ms) const;
  [[nodiscard]] std::string place(PartitionId id, Offset offset) const;

  const uint64_t seed_;
  const Rules rules_;
  std::map<PartitionId, Partition> partitions_;
  Counters counters_;
};

}  // namespace tidemark::sim
