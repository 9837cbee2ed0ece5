// A Dispatcher against a model that looks at all of its messages each time.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/queue/dispatcher.h"
#include "log/base/random.h"

namespace tidemark::queue {
namespace {

enum class State { kReady, kRetrying, kLeased, kSettling };

struct Message {
  LoadedMessage loaded;
  State state = State::kReady;
  uint32_t failures = 0;
  uint64_t token = 0;
  int64_t until_ms = 0;
};

class Model {
 public:
  explicit Model(bool ordered) : ordered_(ordered) {}

  [[nodiscard]] bool can_be_given(uint64_t offset) const {
    const Message& message = messages.at(offset);
    if (message.state != State::kReady) {
      return false;
    }
    const uint64_t key = message.loaded.key_hash;
    return !ordered_ || key == 0 ||
           std::none_of(messages.begin(), messages.find(offset),
                        [key](const auto& other) { return other.second.loaded.key_hash == key; });
  }

  [[nodiscard]] std::optional<uint64_t> best() const {
    std::optional<uint64_t> found;
    for (const auto& [offset, message] : messages) {
      if (can_be_given(offset) &&
          (!found || message.loaded.priority > messages.at(*found).loaded.priority)) {
        found = offset;
      }
    }
    return found;
  }

  [[nodiscard]] size_t ready() const {
    return static_cast<size_t>(std::count_if(messages.begin(), messages.end(),
                                             [&](const auto& m) { return can_be_given(m.first); }));
  }

  [[nodiscard]] size_t in(State state) const {
    return static_cast<size_t>(std::count_if(
        messages.begin(), messages.end(), [&](const auto& m) { return m.second.state == state; }));
  }

  // What has a time, the earliest.
  [[nodiscard]] std::optional<int64_t> next_time() const {
    std::optional<int64_t> next;
    for (const auto& [offset, message] : messages) {
      if (message.state == State::kLeased || message.state == State::kRetrying) {
        next = std::min(next.value_or(message.until_ms), message.until_ms);
      }
    }
    return next;
  }

  std::map<uint64_t, Message> messages;

 private:
  bool ordered_;
};

struct Mix {
  bool ordered = false;
  uint64_t keys = 1;  // 1: none
  uint64_t priorities = 1;
  size_t window = 50;
  int64_t lease_ms_max = 100;
};

class Run {
 public:
  Run(const Mix& mix, uint64_t seed)
      : mix_(mix),
        random_(seed),
        model_(mix.ordered),
        dispatcher_({mix.ordered, mix.window}, Offset{0}, 1) {}

  void step() {
    switch (random_.below(12)) {
      case 0:
        load();
        break;
      case 1:
      case 2:
        take();
        break;
      case 3:
      case 4:
      case 5:
        begin_settle();
        break;
      case 6:
      case 7:
        finish_settle(pick());
        break;
      case 8:
        finish_settle(random_.below(loaded_to_ + 2));
        break;
      case 9:
        extend();
        break;
      case 10:
        pass_time();
        break;
      default:
        if (random_.chance(1, 30)) {
          trim();
        }
    }
  }

  void check() const {
    REQUIRE(dispatcher_.size() == model_.messages.size());
    REQUIRE(dispatcher_.ready() == model_.ready());
    REQUIRE(dispatcher_.has_ready() == (model_.ready() > 0));
    REQUIRE(dispatcher_.leased() == model_.in(State::kLeased));
    REQUIRE(dispatcher_.retrying() == model_.in(State::kRetrying));
    REQUIRE(dispatcher_.loaded_to() == Offset{loaded_to_});
    const std::optional<int64_t> wake = dispatcher_.next_wake();
    const std::optional<int64_t> next = model_.next_time();
    REQUIRE(wake.has_value() == next.has_value());
    REQUIRE((!wake || *wake <= std::max(*next, now_ms_)));
    for (const auto& [offset, message] : model_.messages) {
      REQUIRE(dispatcher_.failures(Offset{offset}) == message.failures);
    }
    dispatcher_.check_invariants();
  }

  // From one wake to the next, all that has a time comes up, in few steps.
  void run_out() {
    size_t wakes = 0;
    const size_t timers = dispatcher_.timers();
    while (dispatcher_.next_wake()) {
      now_ms_ = std::max(now_ms_, *dispatcher_.next_wake());
      expire(1 + random_.below(5));
      REQUIRE(++wakes <= 2 * timers + 2);
    }
    CHECK(!model_.next_time());
    check();
  }

 private:
  // An offset that is loaded, if there is one; more often one that is not merely ready.
  uint64_t pick() {
    uint64_t offset = 0;
    for (int i = 0; i < 3 && !model_.messages.empty(); ++i) {
      auto at = model_.messages.begin();
      std::advance(at, static_cast<ptrdiff_t>(random_.below(model_.messages.size())));
      offset = at->first;
      if (at->second.state != State::kReady) {
        break;
      }
    }
    return offset;
  }

  void load() {
    REQUIRE(
        dispatcher_.wants_load() ==
        (model_.messages.size() < mix_.window ? std::optional(Offset{loaded_to_}) : std::nullopt));
    if (!dispatcher_.wants_load()) {
      return;
    }
    QueueState state;
    std::vector<LoadedMessage> messages;
    const uint64_t next = loaded_to_ + random_.below(30);
    for (uint64_t at = loaded_to_ - std::min<uint64_t>(loaded_to_, random_.below(3)); at < next;
         ++at) {
      if (random_.chance(1, 10)) {
        continue;  // no message of ours
      }
      LoadedMessage loaded{Offset{at}, static_cast<uint32_t>(random_.below(20)),
                           static_cast<uint8_t>(random_.below(mix_.priorities)),
                           random_.below(mix_.keys)};
      messages.push_back(loaded);
      Message message{.loaded = loaded};
      if (random_.chance(1, 5)) {
        state.acks.add(Offset{at});
        continue;
      }
      if (random_.chance(1, 5)) {
        const int64_t retry_ms = now_ms_ - 20 + static_cast<int64_t>(random_.below(60));
        message.failures = 1 + static_cast<uint32_t>(random_.below(5));
        state.failures[Offset{at}] = {message.failures, retry_ms};
        wait_until(message, retry_ms);
      }
      if (at >= loaded_to_) {
        model_.messages[at] = message;
      }
    }
    dispatcher_.load(messages, Offset{next}, &state, now_ms_);
    loaded_to_ = next;
  }

  void wait_until(Message& message, int64_t retry_ms) const {
    message.state = retry_ms > now_ms_ ? State::kRetrying : State::kReady;
    message.until_ms = retry_ms;
  }

  void take() {
    const Dispatcher::Wanted wanted{random_.below(8), random_.below(60), now_ms_ + lease_ms()};
    std::vector<Lease> out;
    const size_t bytes = dispatcher_.take(wanted, out);
    size_t expected = 0;
    size_t given = 0;
    for (; given < wanted.messages; ++given) {
      const auto best = model_.best();
      if (!best) {
        break;
      }
      Message& message = model_.messages.at(*best);
      if (given > 0 &&
          (expected >= wanted.bytes || expected + message.loaded.bytes > wanted.bytes)) {
        break;
      }
      expected += message.loaded.bytes;
      REQUIRE(given < out.size());
      REQUIRE(out[given].offset == Offset{*best});
      REQUIRE(out[given].deliveries == message.failures + 1);
      REQUIRE(out[given].token == ++last_token_);
      message.state = State::kLeased;
      message.token = last_token_;
      message.until_ms = wanted.lease_until_ms;
    }
    REQUIRE(out.size() == given);
    REQUIRE(bytes == expected);
  }

  int64_t lease_ms() {
    return static_cast<int64_t>(random_.below(static_cast<uint64_t>(mix_.lease_ms_max)));
  }

  // The right one, none, or another.
  uint64_t token_of(uint64_t offset) {
    const auto at = model_.messages.find(offset);
    const uint64_t kind = random_.below(6);
    if (kind < 4 && at != model_.messages.end() && at->second.state == State::kLeased) {
      return at->second.token;
    }
    return kind == 4 ? 0 : random_.below(last_token_ + 2);
  }

  void begin_settle() {
    const uint64_t offset = random_.chance(1, 8) ? random_.below(loaded_to_ + 2) : pick();
    const uint64_t token = token_of(offset);
    ErrorCode expected = ErrorCode::kNotFound;
    if (const auto at = model_.messages.find(offset); at != model_.messages.end()) {
      Message& message = at->second;
      if (message.state == State::kSettling) {
        expected =
            token != 0 && token == message.token ? ErrorCode::kUnavailable : ErrorCode::kFenced;
      } else if ((message.state == State::kLeased && token != message.token)) {
        expected = ErrorCode::kFenced;
      } else if (message.state == State::kLeased || token == 0) {
        expected = ErrorCode::kOk;
        message.until_ms = message.state == State::kRetrying ? message.until_ms : 0;
        message.state = State::kSettling;
        message.token = token;
      }
    }
    CAPTURE(token);
    REQUIRE(dispatcher_.begin_settle(Offset{offset}, token) == expected);
  }

  void finish_settle(uint64_t offset) {
    const auto at = model_.messages.find(offset);
    const bool is_there = at != model_.messages.end();
    switch (random_.below(3)) {
      case 0:
        dispatcher_.settled(Offset{offset});
        model_.messages.erase(offset);
        break;
      case 1: {
        const int64_t retry_ms = now_ms_ - 5 + static_cast<int64_t>(random_.below(60));
        const auto failures = static_cast<uint32_t>(1 + random_.below(9));
        dispatcher_.failed(Offset{offset}, failures, retry_ms, now_ms_);
        if (is_there) {
          at->second.failures = failures;
          wait_until(at->second, retry_ms);
        }
        break;
      }
      default:
        dispatcher_.put_back(Offset{offset});
        if (is_there && at->second.state == State::kSettling) {
          wait_until(at->second, at->second.until_ms);
        } else if (is_there && at->second.state == State::kLeased) {
          at->second.state = State::kReady;
        }
    }
  }

  void extend() {
    const uint64_t offset = pick();
    const uint64_t token = token_of(offset);
    const int64_t until_ms = now_ms_ + lease_ms();
    ErrorCode expected = ErrorCode::kNotFound;
    if (const auto at = model_.messages.find(offset);
        at != model_.messages.end() && at->second.state == State::kLeased) {
      expected = token == at->second.token ? ErrorCode::kOk : ErrorCode::kFenced;
      if (expected == ErrorCode::kOk) {
        at->second.until_ms = until_ms;
      }
    }
    REQUIRE(dispatcher_.extend(Offset{offset}, token, until_ms) == expected);
  }

  void pass_time() {
    now_ms_ += static_cast<int64_t>(random_.below(20));
    expire(random_.chance(1, 3) ? random_.below(4) : 1000);
  }

  void expire(size_t limit) {
    std::vector<Offset> out;
    dispatcher_.expire(now_ms_, limit, out);
    size_t over = 0;
    for (auto& [offset, message] : model_.messages) {
      if (message.state == State::kRetrying && message.until_ms <= now_ms_) {
        message.state = State::kReady;
      }
      over += message.state == State::kLeased && message.until_ms <= now_ms_ ? 1 : 0;
    }
    REQUIRE(out.size() == std::min(over, limit));
    for (const Offset offset : out) {
      Message& message = model_.messages.at(offset.value());
      REQUIRE(message.state == State::kLeased);
      REQUIRE(message.until_ms <= now_ms_);
      message.until_ms = 0;
      message.state = State::kSettling;
    }
  }

  void trim() {
    const uint64_t start = random_.below(loaded_to_ + 5);
    dispatcher_.trim(Offset{start});
    model_.messages.erase(model_.messages.begin(), model_.messages.lower_bound(start));
    loaded_to_ = std::max(loaded_to_, start);
  }

  Mix mix_;
  Random random_;
  Model model_;
  Dispatcher dispatcher_;
  uint64_t loaded_to_ = 0;
  uint64_t last_token_ = 0;
  int64_t now_ms_ = 1'700'000'000'000;
};

void run_seeds(const Mix& mix, uint64_t first_seed) {
  for (uint64_t seed = first_seed; seed < first_seed + 60; ++seed) {
    CAPTURE(seed);
    Run run(mix, seed);
    for (int i = 0; i < 2000; ++i) {
      run.step();
      if (i % 20 == 0) {
        run.check();
      }
    }
    run.check();
    run.run_out();
  }
}

TEST_CASE("a random dispatcher without keys and priorities is as its model") { run_seeds({}, 1); }

TEST_CASE("a random dispatcher with priorities is as its model") {
  run_seeds({.priorities = 8, .window = 30}, 1000);
}

TEST_CASE("a random dispatcher in order of a few keys is as its model") {
  run_seeds({.ordered = true, .keys = 4, .priorities = 3}, 2000);
}

TEST_CASE("a random dispatcher in order of many keys is as its model") {
  run_seeds({.ordered = true, .keys = 40, .priorities = 8, .lease_ms_max = 10}, 3000);
}

TEST_CASE("a random dispatcher with long leases and a small window is as its model") {
  run_seeds({.ordered = true, .keys = 2, .window = 8, .lease_ms_max = 100'000}, 4000);
}

}  // namespace
}  // namespace tidemark::queue
