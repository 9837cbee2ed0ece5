// Offsets, packed: what a QueueSettle record says was acked.
//
//   varint number of ranges, then for each, ascending and apart: varint gap from the end of the
//   range before (the first: from 0), varint offsets - 1
//
// An ack at load costs 2 to 4 bytes. The largest offset is the one before the last 64-bit number,
// so that the end of every range is a number, too.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::queue {

struct AckRange {
  Offset first;
  uint64_t count = 1;

  friend bool operator==(const AckRange&, const AckRange&) = default;
};

// Behind the last offset of [first, first + count); what is beyond the largest offset is cut off.
constexpr Offset end_of(Offset first, uint64_t count) {
  return Offset{count > UINT64_MAX - first.value() ? UINT64_MAX : first.value() + count};
}

// Sorts and joins them first; leaves out what is empty, and cuts off what is beyond the largest
// offset. Gives the bytes.
std::vector<uint8_t> pack_ranges(std::vector<AckRange> ranges);
// kMalformed: not what pack_ranges() writes, or beyond the largest offset.
Result<std::vector<AckRange>> unpack_ranges(ByteView packed);

}  // namespace tidemark::queue
