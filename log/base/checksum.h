// Checksums. XXH3-64 (xxHash) guards our own structures; CRC32C (ISA-L) is part of RecordBatch v2.
#pragma once

#include <cstdint>

#include "log/base/bytes.h"

namespace tidemark {

uint64_t xxh3(ByteView bytes, uint64_t seed = 0);
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
