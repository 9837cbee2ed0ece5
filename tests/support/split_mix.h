// SplitMix64 (public domain, Vigna), for tests and benchmarks of libraries below log/base, which
// cannot use its Random. The same seed gives the same sequence.
#pragma once

#include <cstdint>

namespace tidemark {

class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  // In [0, bound). Requires: bound > 0.
  uint64_t below(uint64_t bound) { return next() % bound; }

  bool chance(uint64_t numerator, uint64_t denominator) { return below(denominator) < numerator; }

 private:
  uint64_t state_;
};

}  // namespace tidemark
