#include "tests/simulation/marks.h"

#include "log/base/coverage_mark.h"
#include "timerwheel/coverage_mark.h"

namespace tidemark::sim {

namespace {

template <typename Visit>
void for_each_mark(Visit visit) {
  for (const CoverageMark* const mark : coverage_marks()) {
    visit(std::string(mark->name()), mark->hits());
  }
  for (size_t i = 0; i < timerwheel::kMarkNames.size(); ++i) {
    visit(timerwheel::kMarkNames[i], timerwheel::mark_hits[i].load(std::memory_order_relaxed));
  }
}

}  // namespace

MarkCounts::MarkCounts() {
  for_each_mark([this](const std::string& name, uint64_t hits) { counts_[name].before = hits; });
}

void MarkCounts::count_seed() {
  for_each_mark([this](const std::string& name, uint64_t hits) {
    Count& count = counts_[name];
    count.seeds += hits > count.before ? 1 : 0;
    count.hits += hits - count.before;
    count.before = hits;
  });
}

std::string MarkCounts::report() const {
  std::string lines;
  std::string never;
  size_t hit = 0;
  for (const auto& [name, count] : counts_) {
    lines += "mark " + name + " " + std::to_string(count.hits) + " " + std::to_string(count.seeds) +
             "\n";
    if (count.hits > 0) {
      ++hit;
    } else {
      never += "\nnever hit: " + name;
    }
  }
  return lines + std::to_string(hit) + " of " + std::to_string(counts_.size()) + " marks hit" +
         never;
}

}  // namespace tidemark::sim
