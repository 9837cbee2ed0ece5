// A histogram of durations in buckets that grow with the value: each power of two is cut into 128
// equal parts, so a reported percentile is at most 0.8 % above the true one, from 1 ns to 292
// years, in 60 KiB. record() is a few instructions.
//
// Thread: one. Merge histograms of several threads with add().
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemark::tools {

class Histogram {
 public:
  Histogram() : counts_(kBuckets, 0) {}

  void record(uint64_t value, uint64_t times = 1) {
    counts_[bucket_of(value)] += times;
    count_ += times;
    max_ = std::max(max_, value);
  }

  void add(const Histogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) {
      counts_[i] += other.counts_[i];
    }
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
  }

  void reset() { *this = Histogram(); }

  [[nodiscard]] uint64_t count() const { return count_; }

  [[nodiscard]] uint64_t max() const { return max_; }

  // The smallest value (to bucket precision, never above max()) that `fraction` of the recorded
  // ones do not exceed; 0 when nothing was recorded. `fraction` is within [0, 1].
  [[nodiscard]] uint64_t percentile(double fraction) const {
    if (count_ == 0) {
      return 0;
    }
    // The rank is the ceiling: p50 of two values is the first, p99 of 100 values the 99th.
    const double exact = fraction * static_cast<double>(count_);
    auto rank = static_cast<uint64_t>(exact);
    rank += static_cast<double>(rank) < exact - 1e-9 * exact ? 1 : 0;
    rank = std::clamp<uint64_t>(rank, 1, count_);
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (seen >= rank) {
        return std::min(last_of(i), max_);
      }
    }
    return max_;
  }

 private:
  static constexpr unsigned kPartBits = 7;  // 128 parts for each power of two
  static constexpr uint64_t kParts = uint64_t{1} << kPartBits;
  // Values below 2 * kParts have a bucket of their own; then kParts buckets for each further power
  // of two.
  static constexpr size_t kBuckets = (64 - kPartBits + 1) * kParts;

  static size_t bucket_of(uint64_t value) {
    if (value < 2 * kParts) {
      return value;
    }
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - (kPartBits + 1);
    return shift * kParts + (value >> shift);
  }

  // The largest value of a bucket.
  static uint64_t last_of(size_t bucket) {
    if (bucket < 2 * kParts) {
      return bucket;
    }
    const auto shift = static_cast<unsigned>(bucket / kParts - 1);
    const uint64_t part = bucket - shift * kParts;
    return ((part + 1) << shift) - 1;
  }

  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace tidemark::tools
