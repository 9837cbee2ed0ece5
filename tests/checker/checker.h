// The checker: files of a history in, a verdict out. No code of the product is in it.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/checker/history.h"
#include "tests/checker/report.h"

namespace tidemark::checker {

enum class Outcome : int { kAccepted = 0, kViolated = 1, kMalformed = 2 };

struct Options {
  std::vector<std::string> files;
  // These must have had something to judge, or the history is as good as violated: one that says
  // nothing is no evidence.
  std::vector<Invariant> required;
  bool verbose = false;  // how much each invariant had to judge
};

struct Result {
  Outcome outcome = Outcome::kMalformed;
  Report report;
  // What is to be printed: violations with their lines, or what is malformed; then the summary,
  // "N events, M invariants checked, V violated", unless it is malformed.
  std::string text;
};

Result check_history(const Options& options);

}  // namespace tidemark::checker
