// A test case that finds that it cannot run here says so and returns: the runner then counts it as
// skipped, not as passed.
//
// Thread: the test's.
#pragma once

#include <string_view>

namespace tidemark::testing {

// Prints the line that tools/dev/run_tests.py looks for. Call it before the first check, once, and
// return.
void skip_test(std::string_view reason);

}  // namespace tidemark::testing
