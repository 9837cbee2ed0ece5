#include "log/base/random.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>

#include "log/base/check.h"

namespace tidemark {

namespace {

// SplitMix64 (public domain, Vigna): spreads one word over the state; never gives an all-zero
// state.
uint64_t split_mix(uint64_t& state) {
  state += 0x9E3779B97F4A7C15ull;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace

Random::Random(uint64_t seed) : state_{} {
  for (uint64_t& word : state_) {
    word = split_mix(seed);
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Random::below(uint64_t bound) {
  TIDEMARK_CHECK(bound > 0, "a range needs at least one value");
  // Values below this threshold would make the first remainders likelier than the others.
  const uint64_t threshold = (0 - bound) % bound;
  while (true) {
    const uint64_t value = next();
    if (value >= threshold) {
      return value % bound;
    }
  }
}

double Random::unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

uint64_t seed_from_system() {
  uint64_t seed = 0;
  while (true) {
    const ssize_t got = ::getrandom(&seed, sizeof seed, 0);
    if (got == static_cast<ssize_t>(sizeof seed)) {
      return seed;
    }
    // Reads of up to 256 bytes are never cut once the pool is ready; before that a signal may
    // interrupt.
    TIDEMARK_CHECK(got < 0 && errno == EINTR, "getrandom is always there");
  }
}

}  // namespace tidemark
