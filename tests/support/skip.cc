#include "tests/support/skip.h"

#include <cstdio>

#include <fmt/format.h>

namespace tidemark::testing {

void skip_test(std::string_view reason) {
  std::fputs(fmt::format("[skipped] {}\n", reason).c_str(), stdout);
  (void)std::fflush(stdout);
}

}  // namespace tidemark::testing
