#include "log/base/coverage_mark.h"

#include <string>
#include <thread>

#include <doctest/doctest.h>

namespace tidemark {
namespace {

const CoverageMark* find(std::string_view name) {
  const CoverageMark* found = nullptr;
  for (const CoverageMark* const mark : coverage_marks()) {
    if (mark->name() == name) {
      REQUIRE(found == nullptr);
      found = mark;
    }
  }
  return found;
}

int half_of(int number) {
  if (number % 2 != 0) {
    TIDEMARK_COVERAGE_MARK(test_odd);
    return number / 2 + 1;
  }
  return number / 2;
}

// Both stand for one mark.
void hit_here() { TIDEMARK_COVERAGE_MARK(test_shared); }

template <typename T>
void hit_there(const T&) {
  TIDEMARK_COVERAGE_MARK(test_shared);
}

void never_called(bool really) {
  if (really) {
    TIDEMARK_COVERAGE_MARK(test_never);
  }
}

TEST_CASE("a mark counts how often its branch was taken, and changes nothing") {
  const CoverageMark* const odd = find("test_odd");
  REQUIRE(odd != nullptr);
  const uint64_t before = odd->hits();
  CHECK(half_of(4) == 2);
  CHECK(odd->hits() == before);
  CHECK(half_of(5) == 3);
  CHECK(half_of(7) == 4);
  CHECK(odd->hits() == before + 2);
}

TEST_CASE("a mark that is never hit is known") {
  never_called(false);
  const CoverageMark* const never = find("test_never");
  REQUIRE(never != nullptr);
  CHECK(never->hits() == 0);
}

TEST_CASE("marks of one name are one mark, also in templates and lambdas") {
  const CoverageMark* const shared = find("test_shared");
  REQUIRE(shared != nullptr);
  const uint64_t before = shared->hits();
  hit_here();
  hit_there(1);
  hit_there(std::string("x"));
  [] { TIDEMARK_COVERAGE_MARK(test_shared); }();
  CHECK(shared->hits() == before + 4);
}

TEST_CASE("marks are listed by name") {
  const std::vector<const CoverageMark*> marks = coverage_marks();
  REQUIRE(marks.size() >= 3);
  CHECK(std::is_sorted(marks.begin(), marks.end(),
                       [](const auto* a, const auto* b) { return a->name() < b->name(); }));
}

TEST_CASE("threads may hit the same mark at the same time") {
  const auto hit_often = [] {
    for (int i = 0; i < 1'000; ++i) {
      TIDEMARK_COVERAGE_MARK(test_threads);
    }
  };
  std::thread other(hit_often);
  hit_often();
  other.join();
  const uint64_t hits = find("test_threads")->hits();
  CHECK(hits >= 1);
  CHECK(hits <= 2'000);
}

}  // namespace
}  // namespace tidemark
