// What a step of a compaction does with batches. Pure: on a worker.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "broker/partition/batch_ref.h"
#include "broker/partition/compaction_config.h"
#include "broker/shard/newest_offsets.h"
#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::shard {

inline constexpr LogPosition kNoPosition{std::numeric_limits<uint64_t>::max()};

// A batch that a step looks at.
struct CompactionItem {
  enum class Fate : uint8_t {
    kStays,      // as it is, where it is
    kRewritten,  // `left` goes to the log
    kDead,       // nothing is left of it
  };

  partition::BatchRef ref;
  bool look = false;                 // `bytes` are wanted
  std::optional<SharedBytes> bytes;  // none, though wanted: they could not be read
  Status unread = {};                // else why nobody knows its messages; not of references
  Fate fate = Fate::kStays;
  SharedBytes left = {};
  LogPosition low = kNoPosition;  // of the log that it needs, if it stays
};

// What a run knows of keys, and what it wants.
struct CompactionRules {
  // nullptr: nothing is taken out, batches are only moved.
  std::shared_ptr<NewestOffsets> keys = {};
  Offset scanned_from;                      // the keys are those from here on
  Offset scanned_to;                        // and before; 0 while they are gathered
  int64_t dead_before_ms = INT64_MIN;       // received before or at it: an older message goes
  int64_t tombstone_before_ms = INT64_MIN;  // likewise, a tombstone
  LogPosition move_below;                   // what lies below it is written again in any case
  LogPosition refers_from = kNoPosition;    // of the log, if some batch refers to another
  // An older message stays that cannot be taken out: no tombstone behind it goes.
  bool tombstones_stay = false;
  bool keeps_dead = false;  // some such message was found, which is not found another time
};

struct CompactionBatches {
  std::vector<CompactionItem> items;  // in order of offset
  CompactionRules rules;              // as the step before left them
  size_t scanned = 0;                 // scan_keys(): items taken in
};

// Takes the keys of messages in, batch by batch, until all are or the table is full.
void scan_keys(CompactionBatches& batches);

// Decides about each item that is to be looked at.
void select_live(CompactionBatches& batches);

}  // namespace tidemark::shard
