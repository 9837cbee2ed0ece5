// Which offsets of which partitions a command reads, fixed when it begins: from the place asked for
// to the end that was seen then.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tidemark/consumer.h"
#include "tools/parse.h"

namespace tidemark::tools {

class Session;

class PartitionRanges {
 public:
  struct Range {
    uint32_t partition = 0;
    uint64_t next = 0;  // offset to read next
    uint64_t end = 0;   // first offset that is not read
  };

  explicit PartitionRanges(std::vector<Range> ranges);

  [[nodiscard]] bool contains(uint32_t partition, uint64_t offset) const;
  // Reading of `partition` goes on at `next_offset`. True if that was news.
  bool advance(uint32_t partition, uint64_t next_offset);
  // As far as `consumer` has read `topic`: what its filter leaves out comes as no message. True if
  // that was news.
  bool advance(const client::Consumer& consumer, const std::string& topic);

  // Everything was read.
  [[nodiscard]] bool finished() const { return open_ == 0; }

  // Offsets not read yet; messages are at most as many.
  [[nodiscard]] uint64_t messages_left() const;

  [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }

  // What to give to a consumer; `only_unread` leaves out partitions with nothing to read.
  [[nodiscard]] std::vector<client::Assignment> assignment(const std::string& topic,
                                                           bool only_unread) const;

 private:
  [[nodiscard]] const Range* find(uint32_t partition) const;

  std::vector<Range> ranges_;  // sorted by partition
  size_t open_ = 0;            // partitions with something left
};

// Asks the brokers where `from` lies in each of `partitions` (empty: all). Throws CommandError: no
// such topic or partition (not found), an offset that is not stored (names what is).
PartitionRanges resolve_ranges(Session& session, const std::string& topic,
                               const std::vector<uint32_t>& partitions, const StartPoint& from);

}  // namespace tidemark::tools
