// The raw write+fdatasync baseline of one benchmark run: how long it writes, how much per sync, and
// what it found.
//
// Thread: one. Blocking.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/bench.h"
#include "tools/broker_metrics.h"
#include "tools/raw_write.h"

namespace tidemark::client {
struct ClusterDescription;
}

namespace tidemark::tools {

class Baseline {
 public:
  Baseline(const BenchOptions& options, const client::ClusterDescription& cluster);

  [[nodiscard]] bool wanted() const { return wanted_; }

  // Writes for about `seconds`. Nothing if it is not wanted or an interrupt came. Throws
  // CommandError.
  void measure(double seconds);

  // Around a piece of the workload: from then on as many bytes are written per sync as the broker's
  // logs wrote in it, if --baseline-bytes does not say how many and the broker's /metrics can be
  // read.
  void workload_begins();
  void workload_ends();

  // Removes the files. Throws CommandError.
  void end();

  [[nodiscard]] const RawWriteResult& result() const { return writer_.result(); }

 private:
  [[nodiscard]] std::optional<LogWrites> log_writes() const;

  bool wanted_;
  bool learns_;
  uint64_t bytes_per_sync_;
  MetricsPlace metrics_place_;
  uint64_t cluster_id_;
  uint64_t node_;
  std::optional<LogWrites> before_;
  RawWriter writer_;
};

}  // namespace tidemark::tools
