// The main of every doctest binary.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#ifdef __SANITIZE_THREAD__
// libuv closes descriptors with a bare system call, which the sanitizer does not see, and
// timerfd_create() is not known to it either: the number of a connection that is gone, got again
// for a timer, looks to it as if the client still used it.
// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer's name
extern "C" const char* __tsan_default_suppressions();

// NOLINTNEXTLINE(bugprone-reserved-identifier): likewise
extern "C" const char* __tsan_default_suppressions() {
  return "race:tidemark::testing::wait_for_wall\n";
}
#endif
