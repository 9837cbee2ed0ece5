// Walks pending messages in the order of their due times, in memory and in the store.
//
// Made on the loop (copies what memory has), run on a worker (adds what the store has), read on the
// loop again. The store may have entries that memory has too, and some whose messages have ended:
// who reads asks for their states.
#pragma once

#include <optional>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "timerwheel/tiered_wheel.h"

namespace tidemark::delay {

struct ScanQuery {
  TopicId topic;
  std::optional<PartitionIndex> partition;
  timerwheel::Key after = {};  // what is found comes behind this
  timerwheel::Tick to = 0;     // and is due no later
  size_t limit = 0;
};

class DelayScan {
 public:
  DelayScan(const timerwheel::TieredWheel& wheel, const ScanQuery& query);

  // On a worker.
  Status run(kv::ReadView& view);

  [[nodiscard]] const ScanQuery& query() const { return query_; }

  // At most `limit`, in order, each once.
  [[nodiscard]] const std::vector<timerwheel::Entry>& found() const { return found_; }

  // There may be more behind the last one.
  [[nodiscard]] bool more() const { return more_; }

 private:
  [[nodiscard]] bool wanted(const timerwheel::Entry& entry) const;
  // Keeps the smallest `limit`, sorted.
  void reduce();

  ScanQuery query_;
  std::vector<timerwheel::SlotId> slots_;
  std::vector<timerwheel::Entry> found_;
  bool more_ = false;
};

}  // namespace tidemark::delay
