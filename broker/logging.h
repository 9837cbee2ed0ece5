// Log lines of the daemon, on stderr: `2026-01-31T12:00:00.123Z info event key=value ...`.
#pragma once

#include "log/base/logging.h"

namespace tidemark::broker {

// Sends what log_line() gets from `least` on to stderr. Called once, before threads start.
void start_logging(LogLevel least);

}  // namespace tidemark::broker
