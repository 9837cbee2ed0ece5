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
  const auto& hits = mark_hits[static_cast<size_t>(Mark::kCoarseSlotOpened)];
  const uint64_t before = hits.load();
  TimingWheel wheel(100);
  wheel.add({200, 1, 0, 0});
  wheel.add({Tick{1} << 30, 2, 0, 0});
  std::vector<Entry> out;
  REQUIRE(wheel.pop(last_key(300), 10, out));
  CHECK(out.size() == 1);
  CHECK(hits.load() == before);
  REQUIRE(wheel.pop(last_key(Tick{1} << 30), 10, out));
  CHECK(out.size() == 2);
  CHECK(hits.load() == before + 1);
}

}  // namespace
}  // namespace tidemark::timerwheel
