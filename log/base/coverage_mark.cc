#include "log/base/coverage_mark.h"

namespace tidemark {

namespace {

// Newest first. Set before the first mark is enlisted: it needs no code to be initialized.
constinit const CoverageMark* g_first = nullptr;

}  // namespace

bool CoverageMark::enlist() {
  next_ = g_first;
  g_first = this;
  return true;
}

std::vector<const CoverageMark*> coverage_marks() {
  std::vector<const CoverageMark*> marks;
  for (const CoverageMark* mark = g_first; mark != nullptr; mark = mark->next_) {
    marks.push_back(mark);
  }
  std::sort(marks.begin(), marks.end(),
            [](const CoverageMark* a, const CoverageMark* b) { return a->name() < b->name(); });
  return marks;
}

}  // namespace tidemark
