#include "tools/baseline.h"

#include <algorithm>

#include "tidemark/admin.h"
#include "tools/errors.h"
#include "tools/interrupt.h"

namespace tidemark::tools {
namespace {

constexpr uint64_t kBytesPerSyncDefault = uint64_t{1} << 20;
constexpr uint64_t kBytesPerSyncStep = 4096;  // a page: what a file system writes

}  // namespace

Baseline::Baseline(const BenchOptions& options, const client::ClusterDescription& cluster)
    : wanted_(options.baseline),
      learns_(options.baseline && !options.baseline_bytes),
      bytes_per_sync_(options.baseline_bytes.value_or(kBytesPerSyncDefault)),
      cluster_id_(cluster.cluster_id),
      node_(cluster.node),
      writer_(options.baseline_dir) {
  std::string host;
  for (const client::BrokerPlace& place : cluster.brokers) {
    if (place.node == node_) {
      host = place.host;
    }
  }
  metrics_place_ = metrics_place(options.metrics, host);
}

void Baseline::measure(double seconds) {
  if (wanted_ && !interrupted()) {
    throw_if_error(writer_.write(seconds, bytes_per_sync_), "baseline");
  }
}

std::optional<LogWrites> Baseline::log_writes() const {
  if (!learns_) {
    return std::nullopt;
  }
  const std::optional<BrokerMetrics> metrics = read_metrics(metrics_place_);
  return metrics ? log_writes_of(*metrics, cluster_id_, node_) : std::nullopt;
}

void Baseline::workload_begins() {
  before_ = log_writes();
  learns_ = before_.has_value();
}

void Baseline::workload_ends() {
  const std::optional<LogWrites> after = log_writes();
  if (!after || !before_ || after->syncs <= before_->syncs || after->bytes <= before_->bytes) {
    return;
  }
  const uint64_t mean = (after->bytes - before_->bytes) / (after->syncs - before_->syncs);
  const uint64_t pages = std::max<uint64_t>(1, (mean + kBytesPerSyncStep / 2) / kBytesPerSyncStep);
  bytes_per_sync_ = std::min(pages * kBytesPerSyncStep, kBaselineBytesMax);
}

void Baseline::end() { throw_if_error(writer_.remove_files(), "baseline"); }

}  // namespace tidemark::tools
