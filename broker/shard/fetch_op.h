// Requests that read, while they are under way.
//
//   kCollecting --enough--> kReplying          kCollecting --index not in memory--> kFinding -->
//   kCollecting kCollecting --too little, time left--> parked --data or deadline--> kCollecting
//   kCollecting --bytes not in memory--> kReading --> kReplying
//
// With a filter, a time to live or reference batches the size of what is sent shows only when the
// bytes are there. Such a fetch goes in rounds:
//
//   kCollecting --> kReading --> kSelecting (on a worker) --settled: too little--> kCollecting
//   kSelecting --enough, or walked too far--> kReplying
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "broker/filter/filter.h"
#include "broker/partition/batch_ref.h"
#include "broker/shard/session.h"
#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/status.h"

namespace tidemark::shard {

struct FetchOp {
  // One batch to be sent; without bytes it must be read first.
  struct Piece {
    partition::BatchRef ref;
    std::optional<SharedBytes> bytes;
    Status damage = {};       // why a read gave no bytes
    bool walk = false;        // each message has to be looked at
    bool outlived = false;    // the time to live of all of its messages has passed: never read
    uint32_t messages = 0;    // that are sent
    uint32_t filtered = 0;    // left out: not wanted
    uint32_t expired = 0;     // left out: their time to live has passed
    size_t walked_bytes = 0;  // of the message that a reference batch stands for, likewise
  };

  struct Part {
    PartitionId partition;
    Offset offset;
    size_t bytes_max = 0;
    Status status = {};
    Offset high_watermark = {};
    Offset start = {};
    Offset next = {};
    std::optional<std::vector<partition::BatchRef>> found = {};  // by a cold find for `resume`
    Status find_error = {};                                      // why the cold find gave nothing
    std::vector<Piece> pieces = {};
    // Of the rounds before: what is behind `offset` and before `resume` is settled.
    Offset resume = {};
    size_t settled = 0;        // pieces, as they are sent
    size_t settled_bytes = 0;  // of them
    uint32_t filtered = 0;
    uint32_t expired = 0;
    // What messages that name no time to live have; -1: they do not expire. Only those before
    // `ttl_end` may name one.
    int64_t ttl_ms = -1;
    Offset ttl_end = {};
  };

  uint64_t id = 0;
  ReplyTo to;
  MonotonicTime deadline;
  size_t bytes_min = 0;
  size_t bytes_max = 0;
  std::shared_ptr<const filter::Filter> filter;  // none: everything is wanted
  std::vector<Part> parts;
  size_t bytes = 0;      // of all pieces
  bool failed = false;   // some part has an error, or has no room for more
  bool unread = false;   // some piece has no bytes yet
  size_t find_part = 0;  // part that needs a cold find

  size_t settled_bytes = 0;  // of the rounds before
  size_t walked_bytes = 0;   // read or passed over by them
  size_t rounds = 0;         // so many
  bool in_round = false;     // some piece is not sent as it is stored
  bool walk = false;         // some piece has to be walked
  int64_t now_ms = 0;        // log time of the round

  // How many bytes may be collected. A round takes in as much as all before it, however few are
  // wanted: a long stretch of what is left out costs few reads.
  [[nodiscard]] size_t collected_max() const {
    return std::max(bytes_max, settled_bytes + walked_bytes);
  }

  // Of one part, more than the rounds before have settled.
  [[nodiscard]] size_t collected_max(const Part& part) const {
    return std::max(part.bytes_max - std::min(part.bytes_max, part.settled_bytes), walked_bytes);
  }

  // Of the round's pieces: looks at each message that may have to be left out. Touches nothing but
  // the operation; on a worker.
  void select();
  // Everything of the round has its bytes: takes it in. What is beyond `bytes_max` is left for the
  // next request.
  void settle();

 private:
  void select(const Part& part, Piece& piece) const;
  bool settle(Part& part, Piece& piece);
};

struct ListOffsetsOp {
  struct Part {
    Status status;
    Offset offset;
    int64_t time_ms = -1;
  };

  ReplyTo to;
  std::vector<Part> parts;
  size_t unanswered = 0;
};

}  // namespace tidemark::shard
