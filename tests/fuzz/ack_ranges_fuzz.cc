// Packed offsets of a record or of the wire. What is accepted is in order and apart, ends within
// the offsets, and packs to the same bytes; an AckSet takes it, and has exactly that.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "broker/queue/ack_ranges.h"
#include "broker/queue/ack_set.h"
#include "log/base/check.h"

namespace tidemark::queue {
namespace {

void try_ranges(ByteView packed) {
  const Result<std::vector<AckRange>> ranges = unpack_ranges(packed);
  if (!ranges.ok()) {
    TIDEMARK_CHECK(ranges.error().code() == ErrorCode::kMalformed);
    return;
  }
  AckSet set;
  uint64_t offsets = 0;
  const AckRange* before = nullptr;
  for (const AckRange& range : *ranges) {
    TIDEMARK_CHECK(range.count > 0);
    TIDEMARK_CHECK(range.count <= UINT64_MAX - range.first.value());
    TIDEMARK_CHECK(before == nullptr || before->first + before->count < range.first);
    TIDEMARK_CHECK(set.add(range.first, range.count) == range.count);
    TIDEMARK_CHECK(set.next_unsettled(range.first) == range.first + range.count);
    offsets += range.count;
    before = &range;
  }
  TIDEMARK_CHECK(set.floor().value() + set.above_floor() == offsets);
  const std::vector<uint8_t> again = pack_ranges(*ranges);
  TIDEMARK_CHECK(std::equal(again.begin(), again.end(), packed.begin(), packed.end()));
}

}  // namespace
}  // namespace tidemark::queue

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::queue::try_ranges({data, size});
  return 0;
}
