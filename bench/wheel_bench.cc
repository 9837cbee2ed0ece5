// Timer structures side by side: insert everything, then pop everything in order, 1,024 at a time.
//
//   wheel_bench [ENTRIES [DAYS]]     default: 10,000,000 entries with dues uniform over 7 days
//
// TimingWheel, std::priority_queue, a wheel of 6 levels of 64 linked lists (which promises no order
// within a tick), and TieredWheel over a store in memory. All hold the same entries of 32 bytes.
// Prints nanoseconds an entry, and each sum as a multiple of TimingWheel's.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "log/base/check.h"
#include "log/base/clock.h"
#include "log/base/random.h"
#include "timerwheel/tiered_wheel.h"
#include "timerwheel/timing_wheel.h"

namespace tidemark::timerwheel {
namespace {

constexpr Tick kStart = 1'700'000'000'000;
constexpr Tick kDay = 86'400'000;
constexpr size_t kPopMax = 1024;
constexpr uint64_t kTopic = uint64_t{7} << 32;

// Sees to it that everything comes out, in order.
class Sink {
 public:
  void take(std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
      in_order_ = in_order_ && entry.due >= due_;
      due_ = entry.due;
      ids_ += entry.id;
    }
    count_ += entries.size();
    entries.clear();
  }

  void check(size_t count) const {
    TIDEMARK_CHECK(in_order_ && count_ == count && ids_ == count * (count - 1) / 2);
  }

 private:
  bool in_order_ = true;
  Tick due_ = 0;
  uint64_t ids_ = 0;
  size_t count_ = 0;
};

struct Later {
  bool operator()(const Entry& a, const Entry& b) const { return a.key() > b.key(); }
};

// Six levels of 64 lists, bitmaps, nodes from one array: the usual way to build a wheel.
class LinkedWheel {
 public:
  explicit LinkedWheel(Tick now) : now_(now) {
    for (auto& level : heads_) {
      level.fill(kNone);
    }
  }

  void reserve(size_t entries) { nodes_.reserve(entries); }

  void add(const Entry& entry) {
    nodes_.push_back({entry, kNone});
    link(static_cast<uint32_t>(nodes_.size() - 1));
  }

  // Up to the first tick that takes `out` to `limit` entries; false when empty.
  bool pop(size_t limit, std::vector<Entry>& out) {
    while (out.size() < limit) {
      unsigned level = 0;
      while (level < kLevelCount && occupied_[level] == 0) {
        ++level;
      }
      if (level == kLevelCount) {
        return false;
      }
      const auto slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
      occupied_[level] &= occupied_[level] - 1;
      uint32_t node = std::exchange(heads_[level][slot], kNone);
      const unsigned shift = 6 * level;
      now_ = ((now_ >> shift & ~Tick{63}) | slot) << shift;
      while (node != kNone) {
        const uint32_t next = nodes_[node].next;
        if (level == 0) {
          out.push_back(nodes_[node].entry);
        } else {
          link(node);
        }
        node = next;
      }
    }
    return true;
  }

 private:
  static constexpr unsigned kLevelCount = 6;
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Node {
    Entry entry;
    uint32_t next;
  };

  void link(uint32_t node) {
    const Tick due = nodes_[node].entry.due;
    const Tick differing = due ^ now_;
    const unsigned level =
        differing == 0 ? 0 : static_cast<unsigned>(std::bit_width(differing) - 1) / 6;
    TIDEMARK_CHECK(level < kLevelCount);
    const auto slot = static_cast<unsigned>(due >> (6 * level)) & 63;
    nodes_[node].next = std::exchange(heads_[level][slot], node);
    occupied_[level] |= uint64_t{1} << slot;
  }

  Tick now_;
  std::vector<Node> nodes_;
  std::array<std::array<uint32_t, 64>, kLevelCount> heads_{};
  std::array<uint64_t, kLevelCount> occupied_{};
};

class MapStore : public SlotStore {
 public:
  [[nodiscard]] Failure read(SlotId slot, const Visit& visit) override {
    for (const auto& [sequence, chunk] : slots_[slot]) {
      if (!visit(sequence, chunk)) {
        break;
      }
    }
    return std::nullopt;
  }

  void append(SlotId slot, uint64_t sequence, uint32_t entries, std::string chunk) override {
    bytes_ += chunk.size();
    entries_ += entries;
    slots_[slot][sequence] = std::move(chunk);
  }

  void drop(SlotId slot, uint64_t sequence) override {
    auto& chunks = slots_[slot];
    chunks.erase(chunks.begin(), chunks.upper_bound(sequence));
    if (chunks.empty()) {
      slots_.erase(slot);
    }
  }

  [[nodiscard]] double bytes_per_entry() const {
    return static_cast<double>(bytes_) / static_cast<double>(entries_);
  }

 private:
  std::map<SlotId, std::map<uint64_t, std::string>> slots_;
  uint64_t bytes_ = 0;
  uint64_t entries_ = 0;
};

class Bench {
 public:
  Bench(size_t count, Tick span) : count_(count), span_(span), end_(last_key(kStart + span)) {}

  void run() {
    std::printf("%zu entries over %.1f days\n%-24s %8s %8s %8s %7s\n", count_,
                static_cast<double>(span_) / static_cast<double>(kDay), "ns an entry", "insert",
                "pop", "sum", "ratio");
    timing_wheel();
    heap();
    linked_wheel();
    tiered_wheel();
  }

 private:
  // The dues are drawn as they are added, for each structure the same ones.
  template <class Add>
  void insert(Add&& add) {
    Random random(42);
    begin_ns_ = system_clock().monotonic().ns;
    for (uint64_t id = 0; id < count_; ++id) {
      add(Entry{kStart + 1 + random.below(span_), id, id, kTopic | (id & 15)});
    }
    inserted_ns_ = system_clock().monotonic().ns;
  }

  void report(const char* name) {
    const auto each = [this](int64_t ns) {
      return static_cast<double>(ns) / static_cast<double>(count_);
    };
    const int64_t end_ns = system_clock().monotonic().ns;
    const double sum = each(end_ns - begin_ns_);
    first_sum_ = first_sum_ == 0 ? sum : first_sum_;
    std::printf("%-24s %8.1f %8.1f %8.1f %6.2fx\n", name, each(inserted_ns_ - begin_ns_),
                each(end_ns - inserted_ns_), sum, sum / first_sum_);
    std::fflush(stdout);
    sink_.check(count_);
    sink_ = {};
  }

  void timing_wheel() {
    TimingWheel wheel(kStart);
    insert([&](const Entry& entry) { wheel.add(entry); });
    const size_t bytes = wheel.memory_bytes();
    while (!wheel.pop(end_, kPopMax, out_)) {
      sink_.take(out_);
    }
    sink_.take(out_);
    report("TimingWheel");
    std::printf("  bytes in memory an entry: %.1f\n",
                static_cast<double>(bytes) / static_cast<double>(count_));
  }

  void heap() {
    std::priority_queue<Entry, std::vector<Entry>, Later> queue;
    insert([&](const Entry& entry) { queue.push(entry); });
    while (!queue.empty()) {
      for (; !queue.empty() && out_.size() < kPopMax; queue.pop()) {
        out_.push_back(queue.top());
      }
      sink_.take(out_);
    }
    report("std::priority_queue");
  }

  void linked_wheel() {
    LinkedWheel wheel(kStart);
    wheel.reserve(count_);
    insert([&](const Entry& entry) { wheel.add(entry); });
    while (wheel.pop(kPopMax, out_)) {
      sink_.take(out_);
    }
    sink_.take(out_);
    report("linked 6x64 wheel");
  }

  void spill(TieredWheel& wheel) {
    TieredWheel::Spill spill = wheel.freeze();
    TIDEMARK_CHECK(!spill.write(store_));
    wheel.spill_done(spill);
  }

  // A spill at every quarter of a million entries, a pop a second; all that workers do counts.
  void tiered_wheel() {
    TieredWheel wheel({kStart, 0});
    size_t bytes_max = 0;
    insert([&](const Entry& entry) {
      wheel.add(entry);
      if (wheel.unspilled_entries() >= 1U << 18) {
        bytes_max = std::max(bytes_max, wheel.memory_bytes());
        spill(wheel);
      }
    });
    const double bytes_per_entry = store_.bytes_per_entry();
    for (Tick now = kStart; wheel.size() > 0;) {
      if (auto plan = wheel.plan_load(now)) {
        TIDEMARK_CHECK(!plan->run(store_));
        wheel.finish_load(*plan);
      } else if (wheel.wants_split()) {
        spill(wheel);
      }
      now = std::max(now, wheel.next_due().value_or(now + 60'000)) + 1000;
      const Key until = std::min(last_key(now), previous_key(wheel.horizon()));
      bytes_max = std::max(bytes_max, wheel.memory_bytes());
      if (until >= wheel.watermark()) {
        while (!wheel.pop(until, kPopMax, out_)) {
          sink_.take(out_);
        }
        sink_.take(out_);
      }
    }
    report("TieredWheel");
    std::printf("  bytes in store an entry: %.1f; largest in memory: %.1f MB\n", bytes_per_entry,
                static_cast<double>(bytes_max) / 1e6);
  }

  size_t count_;
  Tick span_;
  Key end_;
  int64_t begin_ns_ = 0;
  int64_t inserted_ns_ = 0;
  double first_sum_ = 0;
  std::vector<Entry> out_;
  Sink sink_;
  MapStore store_;
};

}  // namespace
}  // namespace tidemark::timerwheel

int main(int argc, char** argv) {
  const size_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
  const uint64_t days = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 7;
  if (count == 0 || count > UINT32_MAX || days == 0 || days > 700) {
    std::fprintf(stderr, "usage: wheel_bench [ENTRIES [DAYS]]\n");
    return 2;
  }
  tidemark::timerwheel::Bench(count, days * tidemark::timerwheel::kDay).run();
  return 0;
}
