#include "tools/histogram.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::tools {
namespace {

// What a percentile is by definition, on all the values.
uint64_t true_percentile(std::vector<uint64_t> values, double fraction) {
  std::ranges::sort(values);
  const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
  return values[std::max<size_t>(rank, 1) - 1];
}

TEST_CASE("an empty histogram says zero") {
  const Histogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.max() == 0);
  CHECK(histogram.percentile(0.5) == 0);
}

TEST_CASE("small values are exact") {
  Histogram histogram;
  for (uint64_t value = 1; value <= 100; ++value) {
    histogram.record(value);
  }
  CHECK(histogram.percentile(0) == 1);
  CHECK(histogram.percentile(0.5) == 50);
  CHECK(histogram.percentile(0.9) == 90);
  CHECK(histogram.percentile(0.99) == 99);
  CHECK(histogram.percentile(0.999) == 100);
  CHECK(histogram.percentile(1) == 100);
}

TEST_CASE("the largest values fit") {
  Histogram histogram;
  histogram.record(UINT64_MAX);
  histogram.record(0);
  CHECK(histogram.percentile(0.5) == 0);
  CHECK(histogram.percentile(1) == UINT64_MAX);
  CHECK(histogram.max() == UINT64_MAX);
}

TEST_CASE("percentiles are never below the true value and less than one percent above") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    Histogram histogram;
    std::vector<uint64_t> values;
    const uint64_t count = random.between(1, 3000);
    for (uint64_t i = 0; i < count; ++i) {
      // All magnitudes from nanoseconds to hours.
      values.push_back(random.below(uint64_t{1} << random.between(1, 43)));
      histogram.record(values.back());
    }
    CHECK(histogram.count() == count);
    CHECK(histogram.max() == *std::ranges::max_element(values));
    for (const double fraction : {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
      CAPTURE(fraction);
      const uint64_t exact = true_percentile(values, fraction);
      const uint64_t reported = histogram.percentile(fraction);
      CHECK(reported >= exact);
      CHECK(static_cast<double>(reported) <= static_cast<double>(exact) * 1.01);
    }
  }
}

TEST_CASE("adding histograms is recording into one") {
  Random random(7);
  Histogram one;
  Histogram first;
  Histogram second;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.below(1'000'000);
    one.record(value, 3);
    (i % 2 == 0 ? first : second).record(value, 3);
  }
  first.add(second);
  CHECK(first.count() == one.count());
  CHECK(first.max() == one.max());
  for (const double fraction : {0.1, 0.5, 0.99}) {
    CHECK(first.percentile(fraction) == one.percentile(fraction));
  }
}

}  // namespace
}  // namespace tidemark::tools
