// What a broker tells by its /metrics: of all its shards together.
//
// Thread: any. Reading blocks for two seconds at most for each address of the host.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}  // namespace CLI

namespace tidemark::tools {

// The numbers of one answer. A metric that was not told has none.
class BrokerMetrics {
 public:
  // Lines that are none in the text format of Prometheus are passed over.
  static BrokerMetrics parse(std::string_view text);

  // Over all its labels.
  [[nodiscard]] std::optional<double> sum(std::string_view name) const;
  [[nodiscard]] std::optional<double> max(std::string_view name) const;
  // Of how many labels it is 0.
  [[nodiscard]] std::optional<double> zeros(std::string_view name) const;

  [[nodiscard]] bool is_of(uint64_t cluster_id, uint64_t node) const;

 private:
  struct Numbers {
    double sum = 0;
    double max = 0;
    double zeros = 0;
  };

  [[nodiscard]] std::optional<double> find(std::string_view name, double Numbers::*which) const;

  std::map<std::string, Numbers, std::less<>> numbers_;
  std::string build_;  // the line that says who answers
};

// What it counts, as a whole number, rounded down: at least 0, at most kCountMax. No number of a
// broker is beyond that, but what answers may be another program.
inline constexpr uint64_t kCountMax = uint64_t{1} << 62;
uint64_t to_count(double value);

// Where a broker serves it.
struct MetricsPlace {
  std::string host;
  std::string port;

  [[nodiscard]] std::string to_string() const { return host + ":" + port; }
};

// What --metrics says ("" if it was not given), else the default port of `host`.
MetricsPlace metrics_place(const std::string& given, const std::string& host);
// The same with the first of `brokers`, as --brokers has them.
MetricsPlace metrics_place_of(const std::string& given, const std::string& brokers);
void add_metrics_option(CLI::App& command, std::string& out);

// Nothing if nobody answers there.
std::optional<BrokerMetrics> read_metrics(const MetricsPlace& place);
// Throws CommandError (kUnavailable) instead.
BrokerMetrics require_metrics(const MetricsPlace& place);

// How much its logs wrote for each sync, since it was started.
struct LogWrites {
  uint64_t bytes = 0;
  uint64_t syncs = 0;
};

// Nothing if the numbers are not those of this node of this cluster.
std::optional<LogWrites> log_writes_of(const BrokerMetrics& metrics, uint64_t cluster_id,
                                       uint64_t node);

}  // namespace tidemark::tools
