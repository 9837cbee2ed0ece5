#include "broker/queue/dispatcher.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "log/base/check.h"

namespace tidemark::queue {
namespace {

using Offsets = std::vector<uint64_t>;

struct Spec {
  uint64_t offset;
  uint8_t priority = 0;
  uint64_t key_hash = 0;
  uint32_t bytes = 10;
};

// What is loaded, given and ended, in plain numbers; leases end at `until_`.
class Bench {
 public:
  explicit Bench(bool ordered = false, size_t window = 100, uint64_t from = 0)
      : dispatcher({ordered, window}, Offset{from}, 1) {}

  ~Bench() { dispatcher.check_invariants(); }

  void load(const std::vector<Spec>& specs, uint64_t next, const QueueState* state = nullptr,
            int64_t now_ms = 0) {
    std::vector<LoadedMessage> messages;
    for (const Spec& spec : specs) {
      messages.push_back({Offset{spec.offset}, spec.bytes, spec.priority, spec.key_hash});
    }
    dispatcher.load(messages, Offset{next}, state, now_ms);
  }

  // Without priority and key, [0, count).
  void load_plain(uint64_t count) {
    std::vector<Spec> specs;
    for (uint64_t offset = 0; offset < count; ++offset) {
      specs.push_back({offset});
    }
    load(specs, count);
  }

  std::vector<Lease> leases(size_t messages = 1000, size_t bytes = 1'000'000,
                            int64_t until_ms = 100) {
    std::vector<Lease> out;
    dispatcher.take({messages, bytes, until_ms}, out);
    dispatcher.check_invariants();
    return out;
  }

  Offsets take(size_t messages = 1000, size_t bytes = 1'000'000, int64_t until_ms = 100) {
    Offsets offsets;
    for (const Lease& lease : leases(messages, bytes, until_ms)) {
      offsets.push_back(lease.offset.value());
    }
    return offsets;
  }

  Offsets expire(int64_t now_ms, size_t limit = 1000) {
    std::vector<Offset> out;
    dispatcher.expire(now_ms, limit, out);
    dispatcher.check_invariants();
    Offsets offsets;
    for (const Offset offset : out) {
      offsets.push_back(offset.value());
    }
    return offsets;
  }

  // Its only lease.
  Lease take_one(int64_t until_ms = 100) {
    const std::vector<Lease> out = leases(1, 1'000'000, until_ms);
    REQUIRE(out.size() == 1);
    return out.front();
  }

  Dispatcher dispatcher;
};

constexpr ErrorCode kOk = ErrorCode::kOk;
constexpr ErrorCode kFenced = ErrorCode::kFenced;
constexpr ErrorCode kNotFound = ErrorCode::kNotFound;

// --- Loading

TEST_CASE("loading begins where it is told and goes on while there is room") {
  Bench bench(false, 3, 50);
  CHECK(bench.dispatcher.wants_load() == Offset{50});
  CHECK(bench.dispatcher.loaded_to() == Offset{50});
  bench.load({{50}, {51}}, 60);
  CHECK(bench.dispatcher.wants_load() == Offset{60});
  bench.load({{60}, {61}, {62}}, 63);  // exceeds the window by one step
  CHECK(bench.dispatcher.size() == 5);
  CHECK(bench.dispatcher.wants_load() == std::nullopt);
  CHECK(bench.dispatcher.loaded_to() == Offset{63});
  CHECK(bench.take() == Offsets{50, 51, 60, 61, 62});
  CHECK(bench.dispatcher.wants_load() == std::nullopt);  // unsettled, given or not
  bench.dispatcher.settled(Offset{50});
  bench.dispatcher.settled(Offset{60});
  CHECK(bench.dispatcher.wants_load() == std::nullopt);
  bench.dispatcher.settled(Offset{51});
  CHECK(bench.dispatcher.wants_load() == Offset{63});
}

TEST_CASE("nothing may be in what is loaded") {
  Bench bench;
  bench.load({}, 10);
  CHECK(bench.dispatcher.loaded_to() == Offset{10});
  CHECK(!bench.dispatcher.has_ready());
}

TEST_CASE("what is loaded already, or was before, is passed over") {
  Bench bench;
  bench.load_plain(4);
  bench.dispatcher.settled(Offset{2});
  bench.load({{1}, {2}, {3}, {4}}, 5);  // the batch begins before
  CHECK(bench.take() == Offsets{0, 1, 3, 4});
  bench.load({{2}}, 3);
  CHECK(bench.dispatcher.loaded_to() == Offset{5});
  CHECK(bench.dispatcher.size() == 4);
}

TEST_CASE("settled ones are left out, failed ones wait for their time") {
  QueueState state;
  state.acks.add(Offset{1}, 2);
  state.failures[Offset{3}] = {4, 50};
  state.failures[Offset{4}] = {2, 49};
  state.failures[Offset{5}] = {1, 48};
  Bench bench;
  bench.load({{0}, {1}, {2}, {3}, {4}, {5}}, 6, &state, 49);
  CHECK(bench.dispatcher.size() == 4);
  CHECK(bench.dispatcher.retrying() == 1);
  CHECK(bench.dispatcher.failures(Offset{3}) == 4);
  CHECK(bench.dispatcher.failures(Offset{0}) == 0);
  CHECK(bench.dispatcher.failures(Offset{1}) == 0);
  CHECK(bench.dispatcher.next_wake() == 50);
  const std::vector<Lease> leases = bench.leases();
  REQUIRE(leases.size() == 3);
  CHECK(leases[0].offset == Offset{0});
  CHECK(leases[0].deliveries == 1);
  CHECK(leases[1].offset == Offset{4});
  CHECK(leases[1].deliveries == 3);
  CHECK(leases[2].deliveries == 2);
  CHECK(bench.expire(50).empty());
  const Lease last = bench.take_one();
  CHECK(last.offset == Offset{3});
  CHECK(last.deliveries == 5);
}

// --- Giving

TEST_CASE("the highest priority goes first, in a priority the lowest offset") {
  Bench bench;
  bench.load({{0, 0}, {1, 7}, {2, 3}, {3, 7}, {4, 0}, {5, 255}}, 6);
  CHECK(bench.dispatcher.ready() == 6);
  CHECK(bench.take(2) == Offsets{1, 3});
  CHECK(bench.take() == Offsets{5, 2, 0, 4});
  CHECK(bench.dispatcher.ready() == 0);
  CHECK(bench.dispatcher.leased() == 6);
  CHECK(bench.take().empty());
}

TEST_CASE("bytes bound what is given, but for the first message") {
  Bench bench;
  bench.load({{0, 0, 0, 100}, {1, 0, 0, 30}, {2, 0, 0, 30}, {3, 0, 0, 31}, {4, 0, 0, 1}}, 5);
  std::vector<Lease> out;
  CHECK(bench.dispatcher.take({10, 0, 100}, out) == 100);
  CHECK(out.size() == 1);
  CHECK(bench.dispatcher.take({10, 60, 100}, out) == 60);
  CHECK(out.size() == 3);
  CHECK(bench.dispatcher.take({10, 31, 100}, out) == 31);  // not over the one that is too large
  CHECK(out.size() == 4);
  CHECK(bench.dispatcher.take({0, 31, 100}, out) == 0);
  CHECK(bench.dispatcher.take({10, 31, 100}, out) == 1);
  CHECK(out.back().offset == Offset{4});
  CHECK(bench.dispatcher.take({10, 31, 100}, out) == 0);
}

TEST_CASE("a large message of a lower priority is not passed over for a smaller one") {
  Bench bench;
  bench.load({{0, 7}, {1, 5, 0, 100}, {2, 0}}, 3);
  CHECK(bench.take(10, 50) == Offsets{0});
  CHECK(bench.take(10, 50) == Offsets{1});
}

TEST_CASE("tokens count up and are never 0") {
  Dispatcher dispatcher({}, Offset{0}, UINT64_MAX);
  const std::vector<LoadedMessage> messages = {{Offset{0}}, {Offset{1}}};
  dispatcher.load(messages, Offset{2}, nullptr, 0);
  std::vector<Lease> out;
  dispatcher.take({2, 100, 100}, out);
  REQUIRE(out.size() == 2);
  CHECK(out[0].token == UINT64_MAX);
  CHECK(out[1].token == 1);
}

TEST_CASE("deliveries do not wrap round") {
  Bench bench;
  bench.load_plain(1);
  bench.dispatcher.failed(Offset{0}, UINT32_MAX, 0, 0);
  CHECK(bench.take_one().deliveries == UINT32_MAX);
}

// --- Settling

TEST_CASE("whoever has the lease settles it, and nobody else meanwhile") {
  Bench bench;
  bench.load_plain(1);
  const Lease lease = bench.take_one();
  CHECK(bench.dispatcher.begin_settle(lease.offset, lease.token + 1) == kFenced);
  CHECK(bench.dispatcher.begin_settle(lease.offset, 0) == kFenced);
  CHECK(bench.dispatcher.leased() == 1);
  CHECK(bench.dispatcher.begin_settle(lease.offset, lease.token) == kOk);
  CHECK(bench.dispatcher.leased() == 0);
  CHECK(bench.dispatcher.size() == 1);
  CHECK(bench.dispatcher.begin_settle(lease.offset, lease.token) == ErrorCode::kUnavailable);
  CHECK(bench.dispatcher.begin_settle(lease.offset, lease.token + 1) == kFenced);
  CHECK(bench.dispatcher.begin_settle(lease.offset, 0) == kFenced);
  CHECK(bench.dispatcher.next_wake() == std::nullopt);
  CHECK(bench.expire(1000).empty());
  CHECK(bench.take().empty());
  bench.dispatcher.settled(lease.offset);
  CHECK(bench.dispatcher.size() == 0);
  CHECK(bench.dispatcher.begin_settle(lease.offset, lease.token) == kNotFound);
  CHECK(bench.dispatcher.begin_settle(lease.offset, 0) == kNotFound);
}

TEST_CASE("without a lease what nobody has can be settled") {
  QueueState state;
  state.failures[Offset{1}] = {1, 500};
  Bench bench;
  bench.load({{0}, {1}}, 2, &state);
  CHECK(bench.dispatcher.begin_settle(Offset{0}, 0) == kOk);
  CHECK(bench.dispatcher.begin_settle(Offset{1}, 0) == kOk);
  CHECK(bench.dispatcher.ready() == 0);
  CHECK(bench.dispatcher.retrying() == 0);
  CHECK(bench.dispatcher.next_wake() == std::nullopt);
  bench.dispatcher.settled(Offset{0});
  bench.dispatcher.put_back(Offset{1});
  CHECK(bench.dispatcher.next_wake() == 500);
  CHECK(bench.expire(500).empty());
  CHECK(bench.take() == Offsets{1});
}

TEST_CASE("a lease that is over settles nothing") {
  Bench bench;
  bench.load_plain(2);
  const std::vector<Lease> leases = bench.leases(2);
  CHECK(bench.expire(100) == Offsets{0, 1});
  // Its end is under way.
  CHECK(bench.dispatcher.begin_settle(Offset{0}, leases[0].token) == ErrorCode::kUnavailable);
  CHECK(bench.dispatcher.begin_settle(Offset{0}, leases[1].token) == kFenced);
  CHECK(bench.dispatcher.extend(Offset{0}, leases[0].token, 900) == kNotFound);
  bench.dispatcher.failed(Offset{0}, 1, 150, 100);
  bench.dispatcher.put_back(Offset{1});
  CHECK(bench.dispatcher.begin_settle(Offset{0}, leases[0].token) == kNotFound);
  CHECK(bench.dispatcher.begin_settle(Offset{1}, leases[1].token) == kNotFound);
  CHECK(bench.dispatcher.begin_settle(Offset{7}, 5) == kNotFound);
  CHECK(bench.take_one(200).offset == Offset{1});
  CHECK(bench.dispatcher.begin_settle(Offset{1}, leases[1].token) == kFenced);
}

TEST_CASE("a late ack frees what another one has leased") {
  for (const bool ordered : {false, true}) {
    CAPTURE(ordered);
    Bench bench(ordered);
    bench.load({{0, 0, 9}, {1, 0, 9}}, 2);
    const Lease lease = bench.take_one();
    bench.dispatcher.settled(Offset{0});
    CHECK(bench.dispatcher.leased() == 0);
    CHECK(bench.dispatcher.size() == 1);
    CHECK(bench.dispatcher.begin_settle(Offset{0}, lease.token) == kNotFound);
    CHECK(bench.dispatcher.next_wake() == std::nullopt);
    CHECK(bench.expire(200).empty());
    CHECK(bench.take() == Offsets{1});
  }
}

TEST_CASE("what failed waits for its time, then it is given again") {
  Bench bench;
  bench.load_plain(1);
  const Lease lease = bench.take_one();
  REQUIRE(bench.dispatcher.begin_settle(Offset{0}, lease.token) == kOk);
  bench.dispatcher.failed(Offset{0}, 3, 70, 20);
  CHECK(bench.dispatcher.retrying() == 1);
  CHECK(bench.dispatcher.failures(Offset{0}) == 3);
  CHECK(bench.dispatcher.next_wake() == 70);
  CHECK(bench.expire(69).empty());
  CHECK(!bench.dispatcher.has_ready());
  CHECK(bench.expire(70).empty());
  CHECK(bench.dispatcher.has_ready());
  CHECK(bench.dispatcher.retrying() == 0);
  CHECK(bench.take_one().deliveries == 4);
}

TEST_CASE("what may be tried again at once is ready at once") {
  Bench bench;
  bench.load_plain(1);
  bench.take_one();
  bench.dispatcher.failed(Offset{0}, 1, 20, 20);
  CHECK(bench.dispatcher.has_ready());
  CHECK(bench.dispatcher.leased() == 0);
  CHECK(bench.dispatcher.next_wake() == std::nullopt);
}

TEST_CASE("what is put back is as it was before it was given") {
  Bench bench;
  bench.load_plain(3);
  bench.dispatcher.failed(Offset{1}, 2, 0, 0);
  const std::vector<Lease> leases = bench.leases(3);
  CHECK(bench.dispatcher.begin_settle(Offset{1}, leases[1].token) == kOk);
  bench.dispatcher.put_back(Offset{1});
  bench.dispatcher.put_back(Offset{2});  // the lease did not reach anybody
  CHECK(bench.dispatcher.ready() == 2);
  CHECK(bench.dispatcher.leased() == 1);
  const Lease again = bench.take_one();
  CHECK(again.offset == Offset{1});
  CHECK(again.deliveries == 3);
  CHECK(again.token != leases[1].token);
  bench.dispatcher.put_back(Offset{2});  // is ready
  CHECK(bench.dispatcher.ready() == 1);
  bench.dispatcher.failed(Offset{2}, 1, 500, 0);
  bench.dispatcher.put_back(Offset{2});  // waits
  CHECK(bench.dispatcher.retrying() == 1);
  bench.dispatcher.put_back(Offset{77});
  bench.dispatcher.failed(Offset{77}, 1, 500, 0);
  bench.dispatcher.settled(Offset{77});
  CHECK(bench.dispatcher.size() == 3);
}

// An operator's ack, or a late one, while a disk is full: its record is refused.
TEST_CASE("what waits for its time and is put back waits on") {
  Bench bench;
  bench.load_plain(2);
  bench.leases(2);
  bench.dispatcher.failed(Offset{0}, 1, 500, 20);
  bench.dispatcher.failed(Offset{1}, 1, 500, 20);
  CHECK(bench.dispatcher.begin_settle(Offset{0}, 0) == kOk);
  bench.dispatcher.put_back(Offset{0});
  CHECK_FALSE(bench.dispatcher.has_ready());
  CHECK(bench.dispatcher.retrying() == 2);
  CHECK(bench.dispatcher.begin_settle(Offset{1}, 0) == kOk);
  std::vector<Offset> over;
  bench.dispatcher.expire(500, 10, over);
  CHECK(over.empty());
  CHECK(bench.dispatcher.ready() == 1);
  bench.dispatcher.put_back(Offset{1});  // its time has come meanwhile
  CHECK(bench.dispatcher.ready() == 2);
  bench.dispatcher.check_invariants();
}

TEST_CASE("a trim takes away what is before it, in whatever state") {
  Bench bench;
  bench.load_plain(6);
  const std::vector<Lease> leases = bench.leases(4);
  bench.dispatcher.begin_settle(Offset{1}, leases[1].token);
  bench.dispatcher.failed(Offset{2}, 1, 500, 0);
  bench.dispatcher.trim(Offset{0});
  CHECK(bench.dispatcher.size() == 6);
  bench.dispatcher.trim(Offset{5});
  CHECK(bench.dispatcher.size() == 1);
  CHECK(bench.dispatcher.leased() == 0);
  CHECK(bench.dispatcher.retrying() == 0);
  CHECK(bench.dispatcher.next_wake() == std::nullopt);
  bench.dispatcher.settled(Offset{1});
  CHECK(bench.take() == Offsets{5});
  bench.dispatcher.trim(Offset{2});
  CHECK(bench.dispatcher.size() == 1);
  bench.dispatcher.trim(Offset{20});
  CHECK(bench.dispatcher.size() == 0);
  CHECK(bench.dispatcher.wants_load() == Offset{20});
  bench.load({{6}, {7}}, 8);  // was being read meanwhile
  CHECK(bench.dispatcher.size() == 0);
  CHECK(bench.dispatcher.loaded_to() == Offset{20});
}

// --- Time

TEST_CASE("leases that ended are settling, at most so many at once") {
  Bench bench;
  bench.load_plain(5);
  bench.take(2, 1000, 100);
  bench.take(2, 1000, 90);
  CHECK(bench.dispatcher.next_wake() == 90);
  CHECK(bench.expire(89).empty());
  CHECK(bench.expire(100, 3) == Offsets{2, 3, 0});
  CHECK(bench.dispatcher.leased() == 1);
  REQUIRE(bench.dispatcher.next_wake().has_value());
  CHECK(*bench.dispatcher.next_wake() <= 100);
  CHECK(bench.expire(100, 3) == Offsets{1});
  CHECK(bench.dispatcher.next_wake() == std::nullopt);
  CHECK(bench.dispatcher.leased() == 0);
  CHECK(bench.dispatcher.size() == 5);
  CHECK(bench.take() == Offsets{4});
}

TEST_CASE("the limit of leases does not keep back what waited for its time") {
  QueueState state;
  state.failures[Offset{3}] = {1, 100};
  Bench bench;
  bench.load({{0}, {1}, {2}, {3}}, 4, &state);
  bench.take(3, 1000, 50);
  CHECK(bench.expire(100, 1) == Offsets{0});
  CHECK(bench.dispatcher.ready() == 1);
  CHECK(bench.expire(100, 0).empty());
  CHECK(bench.expire(100, 5) == Offsets{1, 2});
}

TEST_CASE("a lease whose end was reached counts until it is ended") {
  Bench bench;
  bench.load_plain(3);
  const std::vector<Lease> leases = bench.leases(3);
  CHECK(bench.expire(100, 1) == Offsets{0});
  CHECK(bench.dispatcher.extend(Offset{1}, leases[1].token, 300) == kOk);
  CHECK(bench.dispatcher.begin_settle(Offset{2}, leases[2].token) == kOk);
  CHECK(bench.expire(200).empty());
  CHECK(bench.dispatcher.next_wake() == 300);
  CHECK(bench.expire(300) == Offsets{1});
}

TEST_CASE("a lease is extended by whoever has it") {
  Bench bench;
  bench.load_plain(2);
  const Lease lease = bench.take_one(100);
  CHECK(bench.dispatcher.extend(Offset{0}, lease.token + 1, 200) == kFenced);
  CHECK(bench.dispatcher.extend(Offset{0}, 0, 200) == kFenced);
  CHECK(bench.dispatcher.extend(Offset{1}, lease.token, 200) == kNotFound);
  CHECK(bench.dispatcher.extend(Offset{9}, lease.token, 200) == kNotFound);
  CHECK(bench.dispatcher.extend(Offset{0}, lease.token, 200) == kOk);
  CHECK(bench.expire(100).empty());
  CHECK(bench.dispatcher.next_wake() == 200);
  CHECK(bench.expire(199).empty());
  CHECK(bench.expire(200) == Offsets{0});
  CHECK(bench.dispatcher.extend(Offset{0}, lease.token, 400) == kNotFound);
}

TEST_CASE("a lease may be made shorter") {
  Bench bench;
  bench.load_plain(1);
  const Lease lease = bench.take_one(1000);
  CHECK(bench.dispatcher.extend(Offset{0}, lease.token, 50) == kOk);
  CHECK(bench.dispatcher.next_wake() == 50);
  CHECK(bench.dispatcher.extend(Offset{0}, lease.token, 80) == kOk);
  CHECK(bench.expire(79).empty());
  CHECK(bench.dispatcher.next_wake() == 80);
  CHECK(bench.expire(80) == Offsets{0});
  bench.dispatcher.put_back(Offset{0});
  bench.take_one(1500);
  CHECK(bench.expire(1000).empty());  // the first end of the first lease means nothing
  CHECK(bench.expire(1500) == Offsets{0});
}

TEST_CASE("a wake is never missed, and one in vain is the last of its kind") {
  Bench bench;
  bench.load_plain(2);
  const std::vector<Lease> leases = bench.leases(2, 1000, 100);
  bench.dispatcher.extend(Offset{1}, leases[1].token, 500);
  bench.dispatcher.settled(Offset{0});
  REQUIRE(bench.dispatcher.next_wake().has_value());
  CHECK(*bench.dispatcher.next_wake() == 100);
  CHECK(bench.expire(100).empty());
  CHECK(bench.dispatcher.next_wake() == 500);
}

TEST_CASE("times before 1970 and at the end of time") {
  Bench bench;
  bench.load_plain(2);
  bench.take_one(INT64_MAX);
  CHECK(bench.dispatcher.next_wake() == INT64_MAX);
  bench.take_one(-5);
  CHECK(bench.expire(-1).empty());
  CHECK(bench.expire(0) == Offsets{1});
  CHECK(bench.expire(INT64_MAX - 1).empty());
  CHECK(bench.expire(INT64_MAX) == Offsets{0});
}

TEST_CASE("timers that count no more are bounded") {
  Bench bench;
  bench.load_plain(10);
  const auto check_bounded = [&bench] {
    CHECK(bench.dispatcher.timers() <=
          2 * (bench.dispatcher.leased() + bench.dispatcher.retrying()) + kStaleTimersMax + 1);
  };
  size_t most = 0;
  for (int i = 0; i < 20'000; ++i) {  // given and put back
    std::vector<Lease> out;
    bench.dispatcher.take({10, 1000, 1'000'000 + i % 7}, out);
    for (const Lease& lease : out) {
      bench.dispatcher.put_back(lease.offset);
    }
    most = std::max(most, bench.dispatcher.timers());
  }
  check_bounded();
  CHECK(most > 1000);
  CHECK(most <= 2 * 10 + kStaleTimersMax + 1);
  const std::vector<Lease> leases = bench.leases(10, 1000, 1'000'000);
  for (int64_t i = 1; i < 20'000; ++i) {  // ever shorter
    for (const Lease& lease : leases) {
      REQUIRE(bench.dispatcher.extend(lease.offset, lease.token, 1'000'000 - i) == kOk);
    }
    check_bounded();
  }
  for (int64_t i = 1; i < 20'000; ++i) {  // ever longer costs nothing
    REQUIRE(bench.dispatcher.extend(Offset{0}, leases[0].token, 1'000'000 + i) == kOk);
  }
  check_bounded();
  CHECK(bench.expire(980'001) == Offsets{1, 2, 3, 4, 5, 6, 7, 8, 9});
  REQUIRE(bench.dispatcher.next_wake().has_value());
  CHECK(*bench.dispatcher.next_wake() <= 1'019'999);  // earlier for those that count no more
  CHECK(bench.expire(1'019'998).empty());
  CHECK(bench.dispatcher.next_wake() == 1'019'999);
  CHECK(bench.expire(1'019'999) == Offsets{0});
  CHECK(bench.dispatcher.timers() == 0);
}

// --- In the order of keys

TEST_CASE("with `ordered` only the oldest of a key is given, whatever its priority") {
  Bench bench(true);
  bench.load({{0, 0, 1}, {1, 7, 1}, {2, 3, 2}, {3, 7, 0}, {4, 7, 0}, {5, 0, 1}}, 6);
  CHECK(bench.dispatcher.ready() == 4);
  CHECK(bench.take() == Offsets{3, 4, 2, 0});
  CHECK(bench.take().empty());
  bench.dispatcher.settled(Offset{0});
  CHECK(bench.dispatcher.ready() == 1);
  CHECK(bench.take() == Offsets{1});
  bench.dispatcher.settled(Offset{1});
  CHECK(bench.take() == Offsets{5});
}

TEST_CASE("without `ordered` keys mean nothing") {
  Bench bench(false);
  bench.load({{0, 0, 1}, {1, 0, 1}}, 2);
  CHECK(bench.take() == Offsets{0, 1});
}

TEST_CASE("the oldest of a key blocks the others while it is leased, settling, or waits") {
  Bench bench(true);
  bench.load({{0, 0, 1}, {1, 0, 1}}, 2);
  const Lease lease = bench.take_one();
  CHECK(bench.take().empty());
  REQUIRE(bench.dispatcher.begin_settle(Offset{0}, lease.token) == kOk);
  CHECK(bench.take().empty());
  bench.dispatcher.failed(Offset{0}, 1, 200, 50);
  CHECK(bench.take().empty());
  CHECK(bench.expire(200).empty());
  CHECK(bench.take() == Offsets{0});
  bench.dispatcher.put_back(Offset{0});
  CHECK(bench.take() == Offsets{0});
  CHECK(bench.expire(1000) == Offsets{0});
  CHECK(bench.take().empty());
  bench.dispatcher.settled(Offset{0});
  CHECK(bench.take() == Offsets{1});
}

TEST_CASE("the next of a key is released by a trim, and by an ack out of turn it is not") {
  Bench bench(true);
  bench.load({{0, 0, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1}}, 4);
  REQUIRE(bench.dispatcher.begin_settle(Offset{1}, 0) == kOk);
  bench.dispatcher.settled(Offset{1});
  CHECK(bench.dispatcher.ready() == 1);
  CHECK(bench.take() == Offsets{0});
  bench.dispatcher.trim(Offset{1});
  CHECK(bench.take() == Offsets{2});
  bench.dispatcher.trim(Offset{4});
  CHECK(bench.dispatcher.size() == 0);
  bench.load({{4, 0, 1}}, 5);
  CHECK(bench.take() == Offsets{4});
}

TEST_CASE("one that waits behind the oldest of its key is not ready when its time comes") {
  QueueState state;
  state.failures[Offset{1}] = {1, 50};
  state.failures[Offset{2}] = {1, 500};
  Bench bench(true);
  bench.load({{0, 0, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1}}, 4, &state);
  CHECK(bench.expire(50).empty());
  CHECK(bench.dispatcher.ready() == 1);
  CHECK(bench.take(10, 1000, 900) == Offsets{0});
  bench.dispatcher.settled(Offset{0});
  CHECK(bench.take(10, 1000, 900) == Offsets{1});
  bench.dispatcher.settled(Offset{1});
  CHECK(bench.take().empty());  // 2 waits, and 3 behind it
  CHECK(bench.expire(500).empty());
  CHECK(bench.take() == Offsets{2});
}

TEST_CASE("what settles one that was put back behind another of its key keeps it back") {
  Bench bench(true);
  bench.load({{0, 0, 1}, {1, 0, 1}}, 2);
  REQUIRE(bench.dispatcher.begin_settle(Offset{1}, 0) == kOk);
  bench.dispatcher.put_back(Offset{1});
  CHECK(bench.dispatcher.ready() == 1);
  CHECK(bench.take() == Offsets{0});
}

// --- Our own slips

void throw_instead(std::string_view) { throw 1; }

struct CheckHook {
  CheckHook() { set_check_fail_hook(throw_instead); }

  ~CheckHook() { set_check_fail_hook(nullptr); }

#ifdef __SANITIZE_ADDRESS__
  // The product is built without exceptions: what it holds when one passes is not freed.
  const __lsan::ScopedDisabler leaks_;
#endif
};

TEST_CASE("what cannot be is noticed") {
  const CheckHook hook;
  CHECK_THROWS(Dispatcher({}, Offset{0}, 0));
  const auto load = [](const std::vector<LoadedMessage>& messages, uint64_t next) {
    Dispatcher dispatcher({}, Offset{0}, 1);
    dispatcher.load(messages, Offset{next}, nullptr, 0);
  };
  CHECK_THROWS(load({{Offset{2}}, {Offset{1}}}, 5));
  CHECK_THROWS(load({{Offset{2}}, {Offset{2}}}, 5));
  CHECK_THROWS(load({{Offset{5}}}, 5));
  CHECK_NOTHROW(load({{Offset{1}}, {Offset{4}}}, 5));
}

}  // namespace
}  // namespace tidemark::queue
