// What the benchmarks share: options, the payload, the report.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/histogram.h"
#include "tools/raw_write.h"

namespace tidemark::tools {

class Baseline;
struct Globals;
class Session;

// Where the workload does not say how long the baseline takes.
inline constexpr double kBaselineSecondsDefault = 2;
inline constexpr uint64_t kBaselineBytesMax = uint64_t{256} << 20;  // per sync

struct BenchOptions {
  std::string topic;
  uint64_t size = 1024;
  uint64_t count = 0;       // 0: as long as `seconds` says
  double seconds = 0;       // 0: as many as `count` says; both 0: the default of the command
  double rate = 0;          // 0: as fast as it goes (closed loop)
  uint32_t partitions = 1;  // to create the topic with; for send_messages(): those it has
  uint64_t in_flight = 0;   // messages; 0: default of the command
  uint64_t batch_bytes = uint64_t{256} << 10;
  std::optional<int64_t> linger_ms;
  std::string compress = "none";
  uint32_t repeat = 1;  // consume: how many times the topic is read
  bool baseline = true;
  // bench delay
  int64_t delay_ms = 5'000;
  bool fixed_delay = false;  // else within 50 % of delay_ms, evenly
  uint64_t backlog = 0;      // messages scheduled before the run
  int64_t spread_ms = 3'600'000;
  std::optional<int64_t> backlog_after_ms;  // when the backlog begins to fall due
  bool keep_backlog = false;
  // bench txn
  uint32_t open = 1'000;  // transactions at a time
  uint32_t rollback_percent = 0;
  std::optional<double> baseline_seconds;
  std::optional<uint64_t> baseline_bytes;  // per sync
  std::string baseline_dir = ".";
  std::string metrics;  // host:port, or empty for the broker's host and the default port
};

// The numbers of one run; to_json() gives exactly the documented field names.
struct BenchResult {
  std::string what;  // "produce", "consume", "e2e", "delay", "txn"
  uint64_t messages = 0;
  double seconds = 0;
  uint64_t size = 0;         // as asked for
  uint64_t value_bytes = 0;  // of all messages; 0: messages * size
  uint32_t partitions = 0;
  double rate = 0;
  std::string fsync;
  bool has_latency = false;
  Histogram latency_ns;
  bool counts_losses = false;
  uint64_t lost = 0;
  uint64_t duplicates = 0;
  uint64_t failed = 0;
  bool counts_lateness = false;
  Histogram lateness_ns;
  uint64_t early = 0;
  double fires_per_s = 0;  // median of the seconds in which messages came
  uint64_t backlog = 0;
  std::optional<uint64_t> backlog_pending;  // after the run
  bool of_transactions = false;             // then messages are transactions that ended
  uint64_t open = 0;
  uint64_t rolled_back = 0;
  uint64_t uncommitted = 0;  // visible, and rolled back
  double produce_messages_per_s = 0;
  bool has_baseline = false;
  RawWriteResult baseline;

  [[nodiscard]] double messages_per_s() const {
    return seconds > 0 ? static_cast<double>(messages) / seconds : 0;
  }

  [[nodiscard]] double mb_per_s() const;

  [[nodiscard]] double baseline_ratio() const;

  [[nodiscard]] double produce_ratio() const {
    return produce_messages_per_s > 0 ? messages_per_s() / produce_messages_per_s : 0;
  }
};

std::string bench_json(const BenchResult& result);
std::string bench_table(const BenchResult& result);

// Values that do not compress, cut from one pool: making a message costs nothing.
class Payloads {
 public:
  explicit Payloads(size_t size);

  [[nodiscard]] std::string_view at(uint64_t index) const {
    return {pool_.data() + index * kStep % (pool_.size() - size_ + 1), size_};
  }

 private:
  static constexpr uint64_t kStep = 4099;  // a prime, so that starts spread over the pool
  size_t size_;
  std::vector<char> pool_;
};

struct BenchTopic {
  uint32_t partitions = 0;
  bool created = false;
};

// Creates the topic if it is not there (with options.partitions).
BenchTopic open_topic(Session& session, const BenchOptions& options);

// The number of partitions of open_topic().
inline uint32_t ensure_topic(Session& session, const BenchOptions& options) {
  return open_topic(session, options).partitions;
}

// The runs; each prints nothing. Those that write measure the baseline as it suits them.
BenchResult bench_produce(const Globals& globals, Session& session, const BenchOptions& options,
                          Baseline& baseline);
BenchResult bench_consume(const Globals& globals, Session& session, const BenchOptions& options,
                          Baseline& baseline);
BenchResult bench_e2e(const Globals& globals, Session& session, const BenchOptions& options,
                      Baseline& baseline);
BenchResult bench_delay(const Globals& globals, Session& session, const BenchOptions& options,
                        Baseline& baseline);
BenchResult bench_txn(const Globals& globals, Session& session, const BenchOptions& options,
                      Baseline& baseline);

}  // namespace tidemark::tools
