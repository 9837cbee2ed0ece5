// MarkCounts: which coverage marks (log/base/coverage_mark.h) the runs so far have hit, those of
// the timing wheel included.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tidemark::sim {

class MarkCounts {
 public:
  // Everything linked in is known from here on; what was hit before does not count.
  MarkCounts();

  // A seed has run.
  void count_seed();

  // One line `mark NAME HITS SEEDS` for each, by name, then how many were hit, then one line `never
  // hit: NAME` for each of the others. tools/dev/run_tests.py reads the first ones.
  [[nodiscard]] std::string report() const;

 private:
  struct Count {
    uint64_t before = 0;  // in this process
    uint64_t hits = 0;
    uint64_t seeds = 0;
  };

  std::map<std::string, Count> counts_;
};

}  // namespace tidemark::sim
