// How much longer than usual the random tests of the timer wheel run: TIDEMARK_WHEEL_OPS,
// default 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace tidemark::timerwheel {

inline uint64_t wheel_scale() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a test has one thread.
  const char* text = std::getenv("TIDEMARK_WHEEL_OPS");
  return text == nullptr ? 1 : std::max<uint64_t>(1, std::strtoull(text, nullptr, 10));
}

}  // namespace tidemark::timerwheel
