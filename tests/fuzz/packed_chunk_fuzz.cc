// A packed chunk from a damaged disk: the input as it is, and with its checksum made right so that
// the decoder behind it is reached. What is accepted is in order, and encodes to the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/check.h"
#include "timerwheel/packed_chunk.h"

namespace tidemark::timerwheel {
namespace {

void try_chunk(std::string_view chunk) {
  const std::vector<Entry> before = {{1, 2, 3, 4}};
  std::vector<Entry> out = before;
  if (unpack_chunk(chunk, out)) {
    TIDEMARK_CHECK(out == before);
    return;
  }
  TIDEMARK_CHECK(out.size() > 1 && out.front() == before.front());
  out.erase(out.begin());
  TIDEMARK_CHECK(std::adjacent_find(out.begin(), out.end(), [](const Entry& a, const Entry& b) {
                   return a.key() >= b.key();
                 }) == out.end());
  TIDEMARK_CHECK(pack_chunk(out) == chunk);
}

}  // namespace
}  // namespace tidemark::timerwheel

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace wheel = tidemark::timerwheel;
  std::string chunk(data, data + size);
  wheel::try_chunk(chunk);
  if (chunk.size() >= wheel::kChunkHeaderBytes) {
    const uint64_t checksum = wheel::chunk_checksum(chunk);
    for (size_t i = 0; i < sizeof(checksum); ++i) {
      chunk[wheel::kChunkChecksumAt + i] =
          static_cast<char>(static_cast<uint8_t>(checksum >> (8 * i)));
    }
    wheel::try_chunk(chunk);
  }
  return 0;
}
