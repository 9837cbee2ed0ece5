// Checksums. XXH3-64 (xxHash) guards our own structures; CRC32C (ISA-L) is part of RecordBatch v2.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "log/base/bytes.h"

namespace tidemark {

uint64_t xxh3(ByteView bytes, uint64_t seed = 0);

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  friend auto operator<=>(const Hash128&, const Hash128&) = default;

  // For hash tables: all of its bits are as good as any.
  struct Hasher {
    size_t operator()(const Hash128& hash) const { return hash.low; }
  };
};

// XXH3-128 with seed 0: two of 2^32 texts have the same one with a chance below 2^-64.
Hash128 xxh3_128(ByteView bytes);
// CRC-32C (Castagnoli) as in RecordBatch v2: initial value and final xor of all ones; of
// "123456789" it is 0xE3069283. `before`: that of the bytes in front of these, so that pieces may
// be checked one after the other.
uint32_t crc32c(ByteView bytes, uint32_t before = 0);

// XXH3-64 over several parts, equal to xxh3() of their concatenation.
class Xxh3Stream {
 public:
  explicit Xxh3Stream(uint64_t seed = 0);
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;
  void update(ByteView bytes);
  [[nodiscard]] uint64_t digest() const;

 private:
  void* state_;
};

}  // namespace tidemark
