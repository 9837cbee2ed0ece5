#include "log/base/logging.h"

#include <atomic>

namespace tidemark {

namespace {

std::atomic<LogSink> g_sink{nullptr};

}  // namespace

void set_log_sink(LogSink sink) { g_sink.store(sink, std::memory_order_release); }

void log_line(LogLevel level, std::string_view line) {
  if (LogSink sink = g_sink.load(std::memory_order_acquire); sink != nullptr) {
    sink(level, line);
  }
}

}  // namespace tidemark
