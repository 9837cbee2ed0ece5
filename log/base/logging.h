// Log lines of the daemon and its parts: `level event key=value ...`. Libraries log through this
// seam; the daemon installs a sink (spdlog), tests and the simulator another or none.
#pragma once

#include <string>
#include <string_view>

namespace tidemark {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Thread-safe sink: called from any thread.
using LogSink = void (*)(LogLevel level, std::string_view line);
// nullptr drops every line (the default). Set before threads start.
void set_log_sink(LogSink sink);
void log_line(LogLevel level, std::string_view line);

}  // namespace tidemark
