#include "log/base/checksum.h"

#include <algorithm>

#include <isa-l/crc.h>
#include <xxhash.h>

#include "log/base/check.h"

namespace tidemark {
namespace {

// ISA-L counts bytes in an int; larger inputs are taken in parts.
constexpr size_t kCrcPartBytesMax = size_t{1} << 30;

}  // namespace

uint64_t xxh3(ByteView bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

Hash128 xxh3_128(ByteView bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

uint32_t crc32c(ByteView bytes, uint32_t before) {
  // crc32_iscsi inverts neither its initial value nor its result. It never writes to the buffer;
  // the parameter is not const for historical reasons only.
  uint32_t crc = ~before;
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), kCrcPartBytesMax);
    crc = crc32_iscsi(const_cast<unsigned char*>(bytes.data()), static_cast<int>(part), crc);
    bytes = bytes.subspan(part);
  }
  return ~crc;
}

Xxh3Stream::Xxh3Stream(uint64_t seed) : state_(XXH3_createState()) {
  TIDEMARK_CHECK(state_ != nullptr, "out of memory");
  TIDEMARK_CHECK(XXH3_64bits_reset_withSeed(static_cast<XXH3_state_t*>(state_), seed) == XXH_OK);
}

Xxh3Stream::~Xxh3Stream() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Xxh3Stream::update(ByteView bytes) {
  if (bytes.empty()) {
    return;
  }
  TIDEMARK_CHECK(
      XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), bytes.data(), bytes.size()) == XXH_OK);
}

uint64_t Xxh3Stream::digest() const {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_));
}

}  // namespace tidemark
