// A history of anybody: what is malformed is said with its line; what is not is judged, each
// violation by lines that are there, and the same history is judged in the same way again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "tests/checker/rules.h"

namespace tidemark::checker {
namespace {

// A check of our own: the checker is without code of the product.
void require(bool holds) {
  if (!holds) {
    __builtin_trap();
  }
}

// How often each invariant was judged and violated; empty: malformed.
std::vector<uint64_t> judge(const std::string& text) {
  History history;
  std::istringstream in(text);
  history.read(in, "fuzz");
  history.finish();
  require(history.errors().size() <= History::kErrorsMax + 1);
  require(history.size() <= static_cast<size_t>(std::ranges::count(text, '\n')) + 1);
  if (history.errors().empty()) {
    const Facts facts(history);
    if (history.errors().empty()) {
      Report report;
      for (auto* const rule : {check_records, check_order, check_groups, check_delays,
                               check_transactions, check_fencing, check_queues, check_retention}) {
        rule(facts, report);
      }
      std::vector<uint64_t> counts;
      for (const Invariant invariant : kInvariants) {
        const Report::Verdict& verdict = report.of(invariant);
        require(verdict.first.size() <= verdict.violated);
        for (const Report::Violation& violation : verdict.first) {
          require(!violation.what.empty());
          for (const EventIndex event : violation.events) {
            require(event < history.size() && history.place_of(event).starts_with("fuzz:"));
          }
        }
        counts.push_back(verdict.judged);
        counts.push_back(verdict.violated);
      }
      return counts;
    }
  }
  for (const std::string& error : history.errors()) {
    require(!error.empty());
  }
  return {};
}

}  // namespace
}  // namespace tidemark::checker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  tidemark::checker::require(tidemark::checker::judge(text) == tidemark::checker::judge(text));
  return 0;
}
