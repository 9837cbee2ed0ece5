#include "log/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tidemark {

namespace {

CheckFailHook g_hook = nullptr;

}  // namespace

void set_check_fail_hook(CheckFailHook hook) { g_hook = hook; }

void check_failed(const char* file, int line, const char* expression, std::string_view message) {
  // Static: a hook that throws skips the destructors of this function, which is built without
  // exceptions.
  thread_local std::string text;
  text = std::string("CHECK failed at ") + file + ":" + std::to_string(line) + ": " + expression;
  if (!message.empty()) {
    text += ": ";
    text += message;
  }
  // Straight to stderr: the log sink may be what is broken.
  std::fprintf(stderr, "%s\n", text.c_str());
  std::fflush(stderr);
  if (g_hook != nullptr) {
    g_hook(text);
  }
  std::abort();
}

}  // namespace tidemark
