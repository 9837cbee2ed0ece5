// The rows of the comparison: the same steps for every system.
//
// Thread: the caller's, and one more for the consumer of a row that needs both sides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/peers/adapter.h"
#include "tools/histogram.h"
#include "tools/raw_write.h"

namespace tidemark::bench {

struct WorkloadOptions {
  double warm_up_seconds = 10;                // before the rows, not counted
  double seconds = 5;                         // each row writes, or reads, for at most this long
  uint64_t count_max = 2'000'000;             // and at most so many messages
  uint32_t in_flight = 1'000;                 // sent and not acknowledged
  std::vector<double> rates = {500, 10'000};  // end to end: messages a second, a row each
  size_t e2e_bytes = 100;
  uint64_t delayed_count = 10'000;
  size_t delayed_bytes = 100;
  int64_t delay_min_ms = 1'000;
  int64_t delay_window_ms = 10'000;  // delays are drawn from delay_min_ms on, evenly
  size_t transaction_bytes = 1'024;
};

// What one row found. What it does not measure is 0.
struct Row {
  std::string name;     // "produce_100", ...
  std::string why_not;  // not measured: why
  uint64_t bytes = 0;   // of one message
  uint64_t messages = 0;
  double seconds = 0;
  bool cut = false;  // the time of the row was over before all was read
  uint64_t lost = 0;
  uint64_t duplicates = 0;
  uint64_t early = 0;
  tools::Histogram latency_ns;  // end to end, or lateness of delayed ones
  double rate = 0;              // as asked for
  int64_t delay_step_ms = 0;
  tools::RawWriteResult baseline;  // beside what is produced

  [[nodiscard]] bool measured() const { return why_not.empty(); }

  [[nodiscard]] double per_s() const {
    return seconds > 0 ? static_cast<double>(messages) / seconds : 0;
  }

  [[nodiscard]] double mb_per_s() const { return per_s() * static_cast<double>(bytes) / 1e6; }
};

// "e2e_500", for one rate of the options.
std::string e2e_name(double rate);

// All rows of one system, each on a queue of its own. A row that fails ends with its text in
// `why_not`; the others still run. `baseline` writes on the disk of the system's data; one for all
// systems, so that it does not write again what it just gave back.
std::vector<Row> run_rows(Adapter& adapter, const WorkloadOptions& options,
                          tools::RawWriter& baseline);

// What the loopback interface gives: the time of a round trip of 100 bytes, and bytes per second of
// one connection.
struct Loopback {
  double round_trip_us_p50 = 0;
  double mb_per_s = 0;
};

Loopback measure_loopback();

}  // namespace tidemark::bench
