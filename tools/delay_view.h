// Pending messages in numbers and pictures: by horizon, as a histogram; what a change came to.
//
// Thread: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tidemark/delay.h"
#include "tools/change_counts.h"

namespace tidemark::tools {

// So many messages are due within [from_ms, to_ms), nobody knows where exactly.
struct DueSpan {
  int64_t from_ms = 0;
  int64_t to_ms = 0;
  uint64_t messages = 0;
};

// The spans of the broker's buckets, each up to the next multiple of 65,536 ms.
std::vector<DueSpan> spans_of(const client::DelayStats& stats);
// Exact ones: a span of 1 ms for each message.
std::vector<DueSpan> spans_of(const std::vector<client::DelayedMessage>& messages);

// How many messages are due how far from now; what is overdue counts as within a minute. A span
// that lies across a border counts in proportion on either side; the sum is that of the spans.
struct Horizons {
  uint64_t minute = 0;  // due in less than a minute
  uint64_t hour = 0;    // in less than an hour, and so on
  uint64_t day = 0;
  uint64_t month = 0;  // 30 days
  uint64_t more = 0;
};

Horizons horizons_of(const std::vector<DueSpan>& spans, int64_t now_ms);

// Equal bins from now to the last due time, borders at multiples of the width (in UTC).
struct DueBins {
  struct Bin {
    int64_t from_ms = 0;
    int64_t to_ms = 0;
    uint64_t messages = 0;
  };

  int64_t width_ms = 0;
  uint64_t overdue = 0;  // before now: in no bin
  std::vector<Bin> bins;
};

// The narrowest width that people can read off (1s, 2s, 5s ... 1h, 2h ... 1d ...) with at most
// `bins_max` bins. Requires: bins_max > 0. No bin when nothing is due after now.
DueBins bins_of(const std::vector<DueSpan>& spans, int64_t now_ms, size_t bins_max);
// A line for each bin, with a bar of at most `bar_width` characters.
std::string draw_bins(const DueBins& bins, size_t bar_width);

// "", "every 10m", "0 30 8 * * * Europe/Berlin".
std::string recurring_text(const client::DelayedMessage& message);

// Counts what came of cancelling or moving a message; `outcome` means nothing when `code` is not
// kOk.
void add_change(ChangeCounts& counts, client::ErrorCode code, client::DelayOutcome outcome);

}  // namespace tidemark::tools
