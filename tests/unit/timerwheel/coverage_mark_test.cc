#include "timerwheel/coverage_mark.h"

#include <set>
#include <string>

#include <doctest/doctest.h>

#include "timerwheel/timing_wheel.h"

namespace tidemark::timerwheel {
namespace {

TEST_CASE("every mark of the wheel has a name of its own") {
  const std::set<std::string> names(kMarkNames.begin(), kMarkNames.end());
  CHECK(names.size() == kMarkNames.size());
  for (const std::string& name : names) {
    CHECK(name.starts_with("wheel_"));
  }
}

TEST_CASE("a mark of the wheel counts") {
  const auto& hits = mark_hits[static_cast<size_t>(Mark::kLateOutOfOrder)];
  TimingWheel wheel(100);
  std::vector<Entry> out;
  REQUIRE(wheel.pop(last_key(100), 1, out));
  const uint64_t before = hits.load();
  wheel.add({50, 1, 0, 0});
  CHECK(hits.load() == before);  // in order
  wheel.add({40, 2, 0, 0});
  CHECK(hits.load() == before + 1);
  REQUIRE(wheel.pop(last_key(100), 10, out));
  REQUIRE(out.size() == 2);
  CHECK(out.front().due == 40);
}

}  // namespace
}  // namespace tidemark::timerwheel
