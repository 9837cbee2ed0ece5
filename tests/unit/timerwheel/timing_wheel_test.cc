#include "timerwheel/timing_wheel.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/split_mix.h"
#include "tests/support/wheel_scale.h"

namespace tidemark::timerwheel {
namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();
constexpr Tick kTickMax = std::numeric_limits<Tick>::max();

// Position and tag follow from the key, so that a model needs only keys.
Entry entry_of(Key key) { return {key.due, key.id, key.due * 31 + key.id, ~key.id}; }

std::vector<Entry> pop_all(TimingWheel& wheel, Key until, size_t limit = kAll) {
  std::vector<Entry> out;
  while (!wheel.pop(until, limit, out)) {
  }
  return out;
}

bool ascending(const std::vector<Entry>& entries) {
  return std::adjacent_find(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
           return a.key() >= b.key();
         }) == entries.end();
}

}  // namespace

TEST_CASE("timing wheel: gives what is due, in order of due and then of id") {
  TimingWheel wheel(1000);
  for (const Key key : {Key{1500, 2}, Key{1500, 1}, Key{1200, 9}, Key{90'000, 4}, Key{1000, 3}}) {
    wheel.add(entry_of(key));
  }
  CHECK(wheel.next_due() == 1000);
  std::vector<Entry> out;
  CHECK(wheel.pop({1500, 1}, kAll, out));
  CHECK(out == std::vector<Entry>{entry_of({1000, 3}), entry_of({1200, 9}), entry_of({1500, 1})});
  CHECK(wheel.next_due() == 1500);
  CHECK(wheel.size() == 2);
  out.clear();
  CHECK(wheel.pop({89'999, 0}, kAll, out));
  CHECK(out == std::vector<Entry>{entry_of({1500, 2})});
  CHECK(wheel.next_due() == 90'000);
  CHECK(pop_all(wheel, {90'000, 4}).size() == 1);
  CHECK(wheel.next_due() == std::nullopt);
  CHECK(wheel.empty());
}

TEST_CASE("timing wheel: a limit leaves the rest for the next call") {
  TimingWheel wheel;
  for (uint64_t id = 0; id < 10; ++id) {
    wheel.add(entry_of({5, id}));
  }
  std::vector<Entry> out;
  CHECK_FALSE(wheel.pop({7, 0}, 4, out));
  CHECK(out.size() == 4);
  CHECK_FALSE(wheel.pop({7, 0}, 6, out));
  CHECK(out.size() == 10);
  CHECK(wheel.pop({7, 0}, 1, out));
  CHECK_FALSE(wheel.pop({7, 0}, 0, out));
  CHECK(ascending(out));
}

TEST_CASE("timing wheel: what comes late leaves in key order among what is left") {
  TimingWheel wheel;
  for (uint64_t id = 10; id < 20; ++id) {
    wheel.add(entry_of({100, id}));
  }
  std::vector<Entry> out;
  CHECK_FALSE(wheel.pop({100, 50}, 3, out));
  for (const Key key : {Key{100, 15'000}, Key{100, 5}, Key{40, 1}, Key{99, 7}, Key{100, 45}}) {
    wheel.add(entry_of(key));
    wheel.check_invariants();
  }
  CHECK(wheel.next_due() == 40);
  out.clear();
  CHECK(wheel.pop({100, 50}, kAll, out));
  CHECK(ascending(out));
  CHECK(out.size() == 11);
  CHECK(out.front().key() == Key{40, 1});
  CHECK(wheel.size() == 1);
  CHECK(pop_all(wheel, {101, 0}).front().key() == Key{100, 15'000});
}

TEST_CASE("timing wheel: every 64-bit tick has its place") {
  TimingWheel wheel(1'700'000'000'000);
  std::set<Key> model;
  for (unsigned bit = 0; bit < 64; ++bit) {
    for (const Tick due : {Tick{1} << bit, (Tick{1} << bit) - 1, kTickMax - bit}) {
      if (model.insert({due, bit}).second) {
        wheel.add(entry_of({due, bit}));
      }
    }
  }
  wheel.check_invariants();
  const std::vector<Entry> out = pop_all(wheel, last_key(kTickMax), 7);
  wheel.check_invariants();
  REQUIRE(out.size() == model.size());
  CHECK(std::equal(out.begin(), out.end(), model.begin(),
                   [](const Entry& entry, const Key& key) { return entry == entry_of(key); }));
}

TEST_CASE("timing wheel: memory for the levels that are in use only") {
  constexpr size_t kLevelBytes = 13'000;
  TimingWheel wheel(1'000'000);
  const size_t empty = wheel.memory_bytes();
  CHECK(empty < kLevelBytes / 4);
  wheel.add(entry_of({1'000'001, 1}));
  CHECK(wheel.memory_bytes() < empty + kLevelBytes + 3'000);
  wheel.add(entry_of({1'000'001 + (Tick{1} << 40), 2}));
  CHECK(wheel.memory_bytes() > empty + kLevelBytes);
  CHECK(wheel.memory_bytes() < empty + 2 * kLevelBytes + 6'000);
  wheel.check_invariants();
  CHECK(pop_all(wheel, {Tick{1} << 50, 0}).size() == 2);
  wheel.check_invariants();
}

TEST_CASE("timing wheel: a tick filled in order is given without being copied") {
  TimingWheel wheel;
  constexpr uint64_t kCount = 200'000;
  for (uint64_t id = 0; id < kCount; ++id) {
    wheel.add(entry_of({1'000'000, id}));
  }
  const size_t filled = wheel.memory_bytes();
  CHECK(filled < kCount * sizeof(Entry) * 11 / 10 + (size_t{1} << 18));
  std::vector<Entry> out;
  CHECK_FALSE(wheel.pop({1'000'000, kCount}, 100, out));
  CHECK(wheel.memory_bytes() <= filled);
  CHECK(pop_all(wheel, {1'000'000, kCount}, 1000).size() == kCount - 100);
  CHECK(wheel.memory_bytes() < size_t{1} << 20);
}

TEST_CASE("timing wheel: a tick filled in any order takes no more than twice its size") {
  TimingWheel wheel;
  SplitMix random(11);
  constexpr uint64_t kCount = 200'000;
  for (uint64_t i = 0; i < kCount; ++i) {
    wheel.add(entry_of({1'000'000, random.next()}));
  }
  std::vector<Entry> out;
  size_t largest = 0;
  while (!wheel.pop(last_key(1'000'000), 1000, out)) {
    largest = std::max(largest, wheel.memory_bytes());
  }
  CHECK(out.size() == kCount);
  CHECK(ascending(out));
  CHECK(largest < 2 * kCount * sizeof(Entry));
  CHECK(wheel.memory_bytes() < size_t{1} << 20);
}

TEST_CASE("timing wheel: a million entries over a week take about their own size") {
  TimingWheel wheel(1'700'000'000'000);
  SplitMix random(12);
  constexpr uint64_t kCount = 1'000'000;
  for (uint64_t id = 0; id < kCount; ++id) {
    wheel.add(entry_of({1'700'000'000'000 + random.below(604'800'000), id}));
  }
  CHECK(wheel.memory_bytes() < kCount * sizeof(Entry) * 11 / 10);
  size_t largest = 0;
  std::vector<Entry> out;
  uint64_t popped = 0;
  while (!wheel.pop(last_key(1'700'604'800'000), 1000, out)) {
    largest = std::max(largest, wheel.memory_bytes());
    popped += out.size();
    out.clear();
  }
  CHECK(popped + out.size() == kCount);
  CHECK(largest < kCount * sizeof(Entry) * 12 / 10);
}

TEST_CASE("timing wheel: extract takes out what is due in a range, wherever it is") {
  TimingWheel wheel;
  std::set<Key> model;
  SplitMix random(5);
  for (int i = 0; i < 20'000; ++i) {
    const Key key{random.below(200'000), random.next()};
    model.insert(key);
    wheel.add(entry_of(key));
  }
  std::vector<Entry> out;
  CHECK_FALSE(wheel.pop(last_key(200'000), 5'000, out));
  const Tick now = out.back().due;
  for (const Entry& entry : out) {
    model.erase(entry.key());
  }
  out.clear();
  wheel.extract(now + 10, now + 70'000, out);
  wheel.check_invariants();
  const auto first = model.lower_bound({now + 10, 0});
  const auto last = model.upper_bound(last_key(now + 70'000));
  CHECK(out.size() == static_cast<size_t>(std::distance(first, last)));
  model.erase(first, last);
  const std::vector<Entry> rest = pop_all(wheel, last_key(200'000));
  CHECK(rest.size() == model.size());
  CHECK(std::equal(rest.begin(), rest.end(), model.begin(),
                   [](const Entry& entry, const Key& key) { return entry == entry_of(key); }));
}

TEST_CASE("timing wheel: a key near a rank") {
  SplitMix random(6);
  for (const Tick span : {Tick{1}, Tick{1000}, Tick{100'000'000}}) {
    TimingWheel wheel;
    std::set<Key> model;
    for (int i = 0; i < 10'000; ++i) {
      const Key key{500 + random.below(span), random.next()};
      model.insert(key);
      wheel.add(entry_of(key));
    }
    std::vector<Entry> out;
    CHECK_FALSE(wheel.pop(last_key(kTickMax), 100, out));
    for (const Entry& entry : out) {
      model.erase(entry.key());
    }
    for (const size_t rank : {size_t{1}, size_t{5'000}, size_t{9'899}}) {
      const Key key = wheel.key_near_rank(rank);
      CHECK(model.contains(key));
      CHECK(std::distance(model.begin(), model.find(key)) >= 1);
    }
  }
}

namespace {

// One random life of a wheel beside a std::set.
class Life {
 public:
  Life(uint64_t seed, size_t size_max, bool check_each)
      : random_(seed),
        now_(random_.chance(1, 4) ? random_.next() >> random_.below(64) : 1'700'000'000'000),
        size_max_(size_max),
        check_each_(check_each),
        wheel_(now_) {}

  // Returns the number of operations.
  uint64_t run(uint64_t operations) {
    uint64_t done = 0;
    while (done < operations) {
      const uint64_t what = random_.below(100);
      if (what < 50 && model_.size() < size_max_) {
        done += add_some();
      } else if (what < 98) {
        done += pop_some();
      } else {
        done += extract_some();
      }
      const bool agree =
          wheel_.size() == model_.size() &&
          wheel_.next_due() ==
              (model_.empty() ? std::nullopt : std::optional<Tick>(model_.begin()->due));
      REQUIRE(agree);
      if (check_each_) {
        wheel_.check_invariants();
      }
    }
    wheel_.check_invariants();
    pop_up_to(last_key(kTickMax), kAll);
    REQUIRE(wheel_.empty());
    return done;
  }

 private:
  // Somewhere between this tick and the end of time, each magnitude as likely as the others.
  Tick some_distance() {
    const uint64_t bits = random_.chance(1, 20) ? random_.below(64) : random_.below(34);
    return random_.next() & ((uint64_t{1} << bits) - 1);
  }

  uint64_t add_some() {
    const uint64_t count = random_.chance(1, 50) ? 1 + random_.below(6'000) : 1 + random_.below(30);
    const bool ascending_ids = random_.chance(1, 2);
    const uint64_t kind = random_.below(5);
    const Tick base = now_ + some_distance();
    const Tick span = 1 + (random_.next() >> (40 + random_.below(24)));
    for (uint64_t i = 0; i < count; ++i) {
      Tick due = base;
      if (kind == 1) {
        due = base + random_.below(span);
      } else if (kind == 2) {
        due = base + i * span / count;
      } else if (kind == 3) {
        due = now_ + some_distance();
      } else if (kind == 4 && random_.chance(1, 4)) {
        due = now_ - std::min(now_, random_.below(300));
      }
      const Key key{due, ascending_ids ? next_id_++ : random_.next()};
      if (model_.insert(key).second) {
        wheel_.add(entry_of(key));
      }
    }
    return count;
  }

  uint64_t pop_some() {
    Key until{now_, random_.next()};
    const uint64_t kind = random_.below(4);
    if (kind == 0 && !model_.empty()) {
      until = *model_.begin();
    } else if (kind == 1) {
      until.due += random_.below(3);
    } else if (kind == 2) {
      until.due += some_distance() >> 8;
    } else if (!model_.empty()) {
      until = model_.begin()->due <= now_ ? last_key(now_) : last_key(model_.begin()->due);
    }
    if (until.due < now_ && kind == 2) {
      until = last_key(kTickMax);  // the end of time was passed
    }
    return pop_up_to(until,
                     random_.chance(1, 4) ? 1 + random_.below(50) : 1 + random_.below(9'000));
  }

  uint64_t pop_up_to(Key until, size_t limit) {
    out_.clear();
    const bool done = wheel_.pop(until, limit, out_);
    auto expected = model_.begin();
    bool same = out_.size() <= limit && done == (out_.size() < limit);
    for (const Entry& entry : out_) {
      same = same && expected != model_.end() && entry == entry_of(*expected);
      ++expected;
    }
    same = same && (!done || expected == model_.end() || *expected > until) &&
           (out_.empty() || out_.back().key() <= until);
    REQUIRE(same);
    model_.erase(model_.begin(), expected);
    now_ = std::max(now_, done ? until.due : now_);
    return 1 + out_.size();
  }

  uint64_t extract_some() {
    const Tick first = random_.chance(1, 2) ? now_ + some_distance() : 0;
    const Tick last = random_.chance(1, 4) ? kTickMax : first + some_distance();
    out_.clear();
    wheel_.extract(first, std::max(first, last), out_);
    std::sort(out_.begin(), out_.end(),
              [](const Entry& a, const Entry& b) { return a.key() < b.key(); });
    const auto begin = model_.lower_bound(first_key(first));
    const auto end = model_.upper_bound(last_key(std::max(first, last)));
    const bool same = std::equal(out_.begin(), out_.end(), begin, end,
                                 [](const Entry& e, const Key& k) { return e == entry_of(k); });
    REQUIRE(same);
    // Half of the time it goes back, as a range that was only looked at.
    if (random_.chance(1, 2)) {
      for (const Entry& entry : out_) {
        wheel_.add(entry);
      }
    } else {
      model_.erase(begin, end);
    }
    return 1 + out_.size();
  }

  SplitMix random_;
  Tick now_;
  uint64_t next_id_ = 0;
  size_t size_max_;
  bool check_each_;
  TimingWheel wheel_;
  std::set<Key> model_;
  std::vector<Entry> out_;
};

}  // namespace

TEST_CASE("timing wheel: random lives, the invariants checked at each step") {
  for (uint64_t seed = 1; seed <= 30 * wheel_scale(); ++seed) {
    CAPTURE(seed);
    Life(seed, 300, true).run(4'000);
  }
}

TEST_CASE("timing wheel: random lives, millions of operations") {
  uint64_t operations = 0;
  for (uint64_t seed = 1000; operations < 10'000'000 * wheel_scale(); ++seed) {
    CAPTURE(seed);
    SplitMix sizes(seed);
    operations += Life(seed, size_t{1} << (4 + sizes.below(13)), false).run(100'000);
  }
  MESSAGE("operations: " << operations);
}

}  // namespace tidemark::timerwheel
