#include "clients/cpp/src/send_window.h"

#include <memory>
#include <utility>

#include <doctest/doctest.h>

#include "log/base/limits.h"

namespace tidemark::client_core {

namespace {

constexpr MonotonicTime kNow{1'000'000'000};

std::unique_ptr<Batch> one_message() {
  auto batch = std::make_unique<Batch>();
  batch->builder = std::make_unique<format::BatchBuilder>();
  format::RecordInput record;
  record.value = as_bytes("v");
  REQUIRE(batch->builder->append(record).ok());
  batch->records = 1;
  return batch;
}

struct WindowBench {
  WindowBench() { window.set_identity({7, 0}); }

  // False: there is no room for one more.
  bool send_new() {
    if (!window.has_room()) {
      return false;
    }
    std::unique_ptr<Batch> batch = one_message();
    REQUIRE(window.take(batch, ++serial).ok());
    return send() == serial;
  }

  // The serial of what was sent; 0: nothing may be.
  uint64_t send() {
    Batch* const batch = window.next_to_send(kNow);
    if (batch == nullptr) {
      return 0;
    }
    window.on_sent(*batch);
    return batch->serial;
  }

  bool answer(uint64_t of, ErrorCode code = ErrorCode::kOk) {
    return window
        .on_answer(of, code == ErrorCode::kOk ? Status() : Status(code, "answer"), 0, kNow, random)
        .has_value();
  }

  SendWindow window{WindowOptions{.backoff_min_ns = 0, .backoff_max_ns = 0}};
  Random random{1};
  uint64_t serial = 0;
};

}  // namespace

// The broker remembers the last five batches of a producer. One whose answer was lost and that it
// has forgotten by the time when it comes again would be refused as out of order, and be stored
// once more under another number.
TEST_CASE("send window: what is sent never runs further ahead than the broker remembers") {
  static_assert(limits::kProducerBatchesRemembered == 5);
  WindowBench bench;
  for (uint64_t i = 1; i <= 5; ++i) {
    REQUIRE(bench.send_new());
  }
  CHECK_FALSE(bench.send_new());
  // All but the first are answered: it is still among the five newest that were sent.
  for (uint64_t i = 2; i <= 5; ++i) {
    CHECK(bench.answer(i));
  }
  CHECK(bench.window.batches().size() == 1);
  CHECK_FALSE(bench.send_new());
  // Nor while it is sent again.
  CHECK_FALSE(bench.answer(1, ErrorCode::kOutcomeUnknown));
  CHECK_FALSE(bench.window.has_room());
  CHECK(bench.send() == 1);
  CHECK_FALSE(bench.window.has_room());
  CHECK(bench.answer(1));
  for (uint64_t i = 6; i <= 10; ++i) {
    CHECK(bench.send_new());
  }
  CHECK_FALSE(bench.send_new());
}

TEST_CASE("send window: a new identity begins with all of its room") {
  WindowBench bench;
  for (uint64_t i = 1; i <= 3; ++i) {
    REQUIRE(bench.send_new());
  }
  CHECK(bench.answer(2));
  CHECK_FALSE(bench.answer(1, ErrorCode::kOutOfOrderSequence));
  CHECK_FALSE(bench.answer(3, ErrorCode::kOutOfOrderSequence));
  REQUIRE(bench.window.wants_identity());
  bench.window.set_identity({8, 0});
  CHECK(bench.send() == 1);
  CHECK(bench.send() == 3);
  for (uint64_t i = 4; i <= 6; ++i) {
    CHECK(bench.send_new());
  }
  CHECK_FALSE(bench.send_new());
}

}  // namespace tidemark::client_core
