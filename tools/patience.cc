#include "tools/patience.h"

#include <fmt/format.h>

#include "tools/output.h"
#include "tools/session.h"

namespace tidemark::tools {

void Patience::on_nothing(const client::Status& reason) {
  if (reason.ok()) {
    waiting_ = false;
    return;
  }
  const MonotonicTime now = system_clock().monotonic();
  if (!waiting_) {
    waiting_ = true;
    waiting_since_ = now;
    note(fmt::format("waiting: {}", reason.to_string()));
  }
  if (!endless_ && now.ns - waiting_since_.ns > timeout_ms_ * 1'000'000) {
    throw command_error(reason, "nothing could be read");
  }
}

}  // namespace tidemark::tools
