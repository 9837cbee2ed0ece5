#include "tools/baseline.h"

#include <algorithm>

#include "tidemark/admin.h"
#include "tools/errors.h"
#include "tools/interrupt.h"

namespace tidemark::tools {
namespace {

constexpr uint64_t kBytesPerSyncDefault = uint64_t{1} << 20;
constexpr uint64_t kBytesPerSyncStep = 4096;  // a page: what a file system writes
constexpr const char* kHttpPortDefault = "9471";

}  // namespace

Baseline::Baseline(const BenchOptions& options, const client::ClusterDescription& cluster)
    : wanted_(options.baseline),
      learns_(options.baseline && !options.baseline_bytes),
      bytes_per_sync_(options.baseline_bytes.value_or(kBytesPerSyncDefault)),
      port_(kHttpPortDefault),
      cluster_id_(cluster.cluster_id),
      node_(cluster.node),
      writer_(options.baseline_dir) {
  for (const client::BrokerPlace& place : cluster.brokers) {
    if (place.node == node_) {
      host_ = place.host;
    }
  }
  if (!options.metrics.empty()) {
    const size_t colon = options.metrics.rfind(':');
    host_ = options.metrics.substr(0, colon);
    port_ = colon == std::string::npos ? port_ : options.metrics.substr(colon + 1);
  }
}

void Baseline::measure(double seconds) {
  if (wanted_ && !interrupted()) {
    throw_if_error(writer_.write(seconds, bytes_per_sync_), "baseline");
  }
}

std::optional<LogWrites> Baseline::log_writes() const {
  return learns_ ? read_log_writes(host_, port_, cluster_id_, node_) : std::nullopt;
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
