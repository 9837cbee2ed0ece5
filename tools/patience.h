// How long a command that reads waits for a broker that is away.
//
// Thread: one.
#pragma once

#include <cstdint>

#include "log/base/clock.h"
#include "tidemark/error.h"

namespace tidemark::tools {

// Without an end in sight for ever; else for as long as one request may take.
class Patience {
 public:
  Patience(int64_t timeout_ms, bool endless) : timeout_ms_(timeout_ms), endless_(endless) {}

  void on_progress() { waiting_ = false; }

  // Nothing came. `reason`: what the client library says about it, ok if there was nothing to read.
  // Notes a reason once; throws it when it has lasted too long.
  void on_nothing(const client::Status& reason);

 private:
  int64_t timeout_ms_;
  bool endless_;
  bool waiting_ = false;
  MonotonicTime waiting_since_;
};

}  // namespace tidemark::tools
