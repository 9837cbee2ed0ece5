// TIDEMARK_CHECK: states what must hold if our own code is right. Always on, also in release
// builds. A failure prints the expression, the message and the place, then calls the hook, then
// aborts: a broker that goes on with a broken invariant destroys data. Conditions of the world are
// Statuses, not CHECKs.
#pragma once

#include <string>
#include <string_view>

namespace tidemark {

// Replaces what happens on failure (tests, simulator). The hook may throw or longjmp; if it
// returns, the process aborts. nullptr restores the default (message on stderr, abort). Not
// thread-safe: set it first.
using CheckFailHook = void (*)(std::string_view message);
void set_check_fail_hook(CheckFailHook hook);

[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               std::string_view message);

}  // namespace tidemark

// TIDEMARK_CHECK(condition) or TIDEMARK_CHECK(condition, "message" + details); the message is only
// built on failure.
#define TIDEMARK_CHECK(condition, ...)                                                      \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      ::tidemark::check_failed(__FILE__, __LINE__, #condition, ::std::string{__VA_ARGS__}); \
    }                                                                                       \
  } while (false)

// For checks that cost more than a comparison or two: only in builds without NDEBUG.
#ifdef NDEBUG
#define TIDEMARK_DCHECK(condition, ...) \
  do {                                  \
  } while (false)
#else
#define TIDEMARK_DCHECK(condition, ...) TIDEMARK_CHECK(condition, ##__VA_ARGS__)
#endif
