// LabelModel: what must hold for a topic whose messages have headers that the broker looks at:
// tags and others for filters, times to live, priorities. What is read was sent, and an offset
// means one message for ever: that is the model's (I2 to I4).
//
//   I27 a reader with a filter gets all that the filter wants, and nothing else; so do the
//       consumers of a queue
//   I28 a message with a time to live is not delivered when it is over, and is left out by nobody
//       before
//   I29 in queue mode a higher priority goes first; in a group with order by key a message is
//       leased when all earlier ones with its key are settled
//
// What the filters want is worked out here from the message's id, without any code of the broker.
// Much is judged in the end, when what lies where is known.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "log/base/ids.h"

namespace tidemark::sim {

// What a message says, which follows from its id.
struct Labels {
  std::vector<std::string> tags;
  std::string region;  // empty: no such header
  std::optional<int> amount;
  bool many = false;  // its amount is no number
  std::optional<bool> urgent;
  int64_t ttl_ms = -1;  // -1: none of its own
  int priority = 0;
  std::string key;  // empty: none

  [[nodiscard]] std::vector<std::pair<std::string, std::string>> headers() const;
};

struct LabelFilter {
  std::vector<std::string> tags;
  std::string text;
  bool (*wants)(const Labels&);
};

class LabelModel {
 public:
  LabelModel(uint64_t seed, int64_t topic_ttl_ms) : seed_(seed), topic_ttl_ms_(topic_ttl_ms) {}

  // Of a fixed number; the first one wants everything.
  static const std::vector<LabelFilter>& filters();

  [[nodiscard]] Labels labels_of(uint64_t uid) const;

  // Acknowledged, as received at log time `received_ms`; -1: that is not known.
  void stored(PartitionId partition, Offset offset, uint64_t uid, int64_t received_ms);

  // --- readers
  // Answers that were worked out between two log times.
  struct Times {
    int64_t from_ms = 0;
    int64_t to_ms = 0;
  };

  void read(PartitionId partition, Offset offset, uint64_t uid, size_t filter, const Times& times);
  // The offsets from `from` to `to` - 1 were left out.
  void left_out(PartitionId partition, Offset from, Offset to, size_t filter, const Times& times);

  // --- queue mode
  struct Name {
    std::string group;
    PartitionId partition;

    friend auto operator<=>(const Name&, const Name&) = default;
  };

  struct Group {
    size_t filter = 0;
    bool ordered = false;
  };

  void open(const std::string& group, const Group& what) { groups_[group] = what; }

  // In the order of a reply, which left at `left_ns`.
  struct Lease {
    Offset offset;
    uint64_t uid = 0;
  };

  void leased(const Name& name, const std::vector<Lease>& leases, const Times& times,
              int64_t left_ns);
  // An ack reached the broker.
  void acked(const Name& name, Offset offset, int64_t at_ns);
  // All is settled at log time `log_ms`.
  void settled(const Name& name, int64_t log_ms);

  // In the end.
  void check() const;

  struct Counters {
    uint64_t read = 0;
    uint64_t left_out = 0;
    uint64_t leased = 0;
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Message {
    uint64_t uid = 0;
    int64_t received_ms = -1;
  };

  struct LeftOut {
    PartitionId partition;
    Offset from;
    Offset to;
    size_t filter = 0;
    int64_t to_ms = 0;
  };

  struct Given {
    Offset offset;
    int64_t left_ns = 0;
    int64_t to_ms = 0;
  };

  struct Queue {
    std::map<Offset, int64_t> acked_ns;  // first
    std::vector<Given> leases;
    std::set<Offset> leased;
    std::optional<int64_t> settled_ms;
  };

  Message& know(PartitionId partition, Offset offset, uint64_t uid);
  [[nodiscard]] int64_t ttl_of(uint64_t uid) const;
  [[nodiscard]] bool has_expired(const Message& message, int64_t log_ms) const;
  void check_delivered(PartitionId partition, Offset offset, const Message& message, size_t filter,
                       const Times& times) const;
  void check_left_out(const LeftOut& gap) const;
  void check_order(const Name& name, const Group& group, const Queue& queue) const;
  void check_all_leased(const Name& name, const Group& group, const Queue& queue) const;
  [[nodiscard]] std::string place(PartitionId id, Offset offset, const Message& message) const;

  const uint64_t seed_;
  const int64_t topic_ttl_ms_;
  std::map<PartitionId, std::map<Offset, Message>> partitions_;
  std::vector<LeftOut> left_out_;
  std::map<std::string, Group> groups_;
  std::map<Name, Queue> queues_;
  Counters counters_;
};

}  // namespace tidemark::sim
