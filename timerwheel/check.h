// The library's own check: it depends on nothing, so not on log/base/check.h either.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace tidemark::timerwheel {

// Ends the process when a caller or the library itself broke a rule. Stays on in release builds.
inline void require(bool holds, const char* what) {
  if (!holds) [[unlikely]] {
    std::fprintf(stderr, "timerwheel: does not hold: %s\n", what);
    std::abort();
  }
}

}  // namespace tidemark::timerwheel
