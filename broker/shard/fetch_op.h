// Requests that read, while they are under way.
//
//   kCollecting --enough--> kReplying          kCollecting --index not in memory--> kFinding -->
//   kCollecting kCollecting --too little, time left--> parked --data or deadline--> kCollecting
//   kCollecting --bytes not in memory--> kReading --> kReplying
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

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
    Status damage;  // why a read gave no bytes
  };

  struct Part {
    PartitionId partition;
    Offset offset;
    size_t bytes_max = 0;
    Status status;
    Offset high_watermark;
    Offset start;
    Offset next;
    std::optional<std::vector<partition::BatchRef>> found;  // by a cold find for `offset`
    Status find_error;                                      // why the cold find gave nothing
    std::vector<Piece> pieces;
  };

  uint64_t id = 0;
  ReplyTo to;
  MonotonicTime deadline;
  size_t bytes_min = 0;
  size_t bytes_max = 0;
  std::vector<Part> parts;
  size_t bytes = 0;      // of all pieces
  bool failed = false;   // some part has an error
  bool unread = false;   // some piece has no bytes yet
  size_t find_part = 0;  // part that needs a cold find
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
