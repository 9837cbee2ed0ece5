// What a comparison prints: all of it as JSON, and tables for people.
//
// Thread: value types.
#pragma once

#include <string>
#include <vector>

#include "bench/peers/workload.h"

namespace tidemark::bench {

// One system in one mode, and what each run of it found.
struct SystemResult {
  std::string peer;  // "kafka"
  std::string mode;  // "durable", "default", "relaxed"
  std::string version;
  std::string settings;
  std::string notes;
  std::string failure;  // it could not be run: why
  std::vector<std::vector<Row>> runs;
};

struct Comparison {
  WorkloadOptions options;
  std::string commit;
  std::string date;
  std::string machine;
  Loopback loopback;
  std::vector<SystemResult> systems;
};

std::string comparison_json(const Comparison& comparison);
// Of several runs each row is the median one: by messages per second, or p99 where there is a
// latency.
std::string comparison_markdown(const Comparison& comparison);

}  // namespace tidemark::bench
