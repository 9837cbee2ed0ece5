// Seeded generator (xoshiro256++, public domain algorithm by Blackman and Vigna). The same seed
// gives the same sequence on every platform; nothing in Tidemark draws randomness from anywhere
// else.
#pragma once

#include <cstdint>

namespace tidemark {

class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t next();
  // Uniform in [0, bound). Requires: bound > 0.
  uint64_t below(uint64_t bound);

  // Uniform in [low, high], both included.
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }

  // True with probability numerator / denominator.
  bool chance(uint64_t numerator, uint64_t denominator) { return below(denominator) < numerator; }

  // Uniform in [0, 1).
  double unit();

 private:
  uint64_t state_[4];
};

// A seed from the operating system, for production use.
uint64_t seed_from_system();

}  // namespace tidemark
