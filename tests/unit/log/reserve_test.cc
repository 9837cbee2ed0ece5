// Space that is promised: entries that may use a reserve have their place on a full disk.
#include <doctest/doctest.h>

#include "log/log.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {
namespace {

constexpr uint64_t kSegmentBytes = 64 * limits::kKiB;
constexpr uint64_t kControlBytes = kSegmentBytes / 8;
constexpr uint64_t kReserveMax = kSegmentBytes / 4 - kControlBytes;

void pass_time(LogHarness& harness) {
  harness.clock.advance_ms(300);
  harness.settle();
}

// Appends ordinary entries until the disk is full.
void fill_disk(LogHarness& harness, Random& random) {
  for (int refused = 0; refused < 20;) {
    const size_t size = random.between(1, 3000);
    const bool kept = harness.log->reserve_kept();
    if (harness.log->has_room(size)) {
      harness.append(size);
      CHECK((!kept || harness.log->reserve_kept()));
    } else {
      ++refused;
    }
    if (random.chance(1, 2)) {
      harness.clock.advance_ms(20);
      harness.settle();
    }
  }
  pass_time(harness);
  REQUIRE(harness.log->disk_full());
}

// Appends reserved entries that take `bytes` of log.
void append_reserved(LogHarness& harness, Random& random, uint64_t bytes) {
  while (bytes > 0) {
    uint64_t take = std::min<uint64_t>(bytes, entry_bytes(random.between(1, 400)));
    if (bytes - take < entry_bytes(8)) {
      take = bytes;
    }
    const size_t payload = static_cast<size_t>(take) - kEntryHeaderBytes;
    REQUIRE(harness.log->has_room(payload, Room::kReserved));
    harness.append(payload);
    bytes -= take;
    if (random.chance(1, 4)) {
      pass_time(harness);
    }
  }
}

void append_vote(LogHarness& harness, uint64_t term) {
  harness.log->append_vote({Term{term}, NodeId{1}}, [&harness] { ++harness.completed; });
}

TEST_CASE("reserve: on a full disk it takes entries of its size and no more") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    LogHarness harness(seed, kSegmentBytes);
    Random random(seed);
    REQUIRE(harness.open());
    const uint64_t reserve = random.between(16, kReserveMax / 8) * 8;
    harness.log->set_reserve(reserve);
    harness.settle();
    CHECK(harness.log->reserve_kept());
    harness.fs.set_capacity(random.between(200, 400) * limits::kKiB);
    fill_disk(harness, random);
    CHECK(harness.log->reserve_kept());
    // What is left for ordinary entries.
    while (harness.log->has_room(1)) {
      harness.append(1);
    }
    append_reserved(harness, random, reserve);
    CHECK(!harness.log->has_room(1));
    // Half of what the control reserve has, and it is still not the others'.
    for (uint64_t term = 1; term <= kControlBytes / 128; ++term) {
      append_vote(harness, term);
    }
    CHECK(!harness.log->has_room(400, Room::kReserved));
    harness.settle();
    REQUIRE(harness.log->failure().ok());
    CHECK(harness.completed == harness.payloads.size() + kControlBytes / 128);

    harness.fs.set_capacity(UINT64_MAX);
    pass_time(harness);
    harness.settle();
    CHECK(harness.log->reserve_kept());
    CHECK(harness.log->has_room(3000));
    REQUIRE(harness.open());
    check_contents(harness);
  }
}

TEST_CASE("reserve: wherever the log ends when the disk is full, in the next segment, too") {
  size_t rolls = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    LogHarness harness(seed, kSegmentBytes);
    Random random(seed);
    REQUIRE(harness.open());
    harness.settle();
    for (uint64_t i = random.between(1, 200); i > 0; --i) {
      harness.append(random.between(1, 1000));
      harness.settle();
    }
    harness.fs.set_capacity(harness.fs.used_bytes());
    harness.log->set_reserve(kReserveMax);
    pass_time(harness);
    if (!harness.log->reserve_kept()) {
      continue;
    }
    const size_t segments = harness.log->segments().size();
    append_reserved(harness, random, kReserveMax);
    append_vote(harness, 1);
    harness.settle();
    rolls += harness.log->segments().size() - segments;
    CHECK(harness.completed == harness.payloads.size() + 1);
    REQUIRE(harness.open());
    check_contents(harness);
  }
  CHECK(rolls > 10);
}

// Small entries until none is taken any more, a large one if there is room, and then what the
// reserve promises.
void fill_and_use_reserve(LogHarness& harness) {
  Random random(1);
  while (harness.log->has_room(200)) {
    harness.append(200);
    harness.settle();
  }
  if (harness.log->has_room(15'000)) {
    harness.append(15'000);
  }
  CHECK(harness.log->reserve_kept());
  append_reserved(harness, random, kReserveMax);
  harness.settle();
  CHECK(harness.completed == harness.payloads.size());
}

TEST_CASE("reserve: it is not sought in a spare while the segment could not be filled") {
  LogHarness harness(1, kSegmentBytes);
  REQUIRE(harness.open());
  harness.log->set_reserve(kReserveMax);
  CHECK(harness.log->has_room(32'000));  // a spare is to have that much ahead
  harness.fs.set_capacity(harness.fs.used_bytes() + 56 * limits::kKiB);
  fill_segments(harness, 1);
  harness.fs.set_capacity(harness.fs.used_bytes());
  // The segment before becomes a spare.
  const Log::SegmentInfo last = harness.log->segments().back();
  REQUIRE(last.file_bytes < kSegmentBytes);
  REQUIRE(last.file_bytes > kSegmentBytes * 3 / 4);
  harness.log->append_snapshot(manifest_at(harness.last_index, harness.log->next_position()),
                               [] {});
  harness.settle();
  harness.log->drop_prefix(last.first);
  harness.settle();
  REQUIRE(harness.log->segments().size() == 1);
  fill_and_use_reserve(harness);
}

TEST_CASE("reserve: space of a file behind the end of its segment does not count") {
  LogHarness harness(1, kSegmentBytes);
  REQUIRE(harness.open());
  harness.log->set_reserve(kReserveMax);
  CHECK(!harness.log->has_room(100'000));  // more than a segment: spares become as large
  fill_segments(harness, 1);
  REQUIRE(harness.log->segments().back().file_bytes > kSegmentBytes);
  harness.fs.set_capacity(harness.fs.used_bytes());
  fill_and_use_reserve(harness);
}

TEST_CASE("reserve: control entries take nothing of it") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    LogHarness harness(seed, kSegmentBytes);
    Random random(seed);
    REQUIRE(harness.open());
    harness.log->set_reserve(kReserveMax);
    harness.settle();
    harness.fs.set_capacity(random.between(200, 400) * limits::kKiB);
    fill_disk(harness, random);
    uint64_t votes = 0;
    for (; votes < 20; ++votes) {
      append_vote(harness, votes + 1);
      append_reserved(harness, random, kReserveMax / 20 & ~uint64_t{7});
    }
    harness.settle();
    CHECK(harness.completed == harness.payloads.size() + votes);
    // Whole again, both are as large as before.
    harness.fs.set_capacity(UINT64_MAX);
    pass_time(harness);
    harness.settle();
    REQUIRE(harness.log->reserve_kept());
    harness.fs.set_capacity(harness.fs.used_bytes());
    fill_disk(harness, random);
    append_reserved(harness, random, kReserveMax);
    harness.settle();
    CHECK(harness.completed == harness.payloads.size() + votes);
  }
}

TEST_CASE("reserve: one that cannot be had is not kept, until there is space") {
  LogHarness harness(1, kSegmentBytes);
  Random random(1);
  REQUIRE(harness.open());
  CHECK(harness.log->reserve_kept());  // none was asked for
  harness.fs.set_capacity(200 * limits::kKiB);
  fill_disk(harness, random);
  while (harness.log->has_room(1)) {
    harness.append(1);
  }
  CHECK(harness.log->reserve_kept());
  harness.log->set_reserve(4096);
  pass_time(harness);
  CHECK(!harness.log->reserve_kept());
  CHECK(!harness.log->has_room(1));
  harness.log->set_reserve(0);
  CHECK(harness.log->reserve_kept());
  harness.log->set_reserve(4096);
  harness.fs.set_capacity(UINT64_MAX);
  pass_time(harness);
  harness.settle();
  CHECK(harness.log->reserve_kept());
  CHECK(harness.log->has_room(1));
}

TEST_CASE("reserve: it is not kept once the log is read-only") {
  LogHarness harness(1, kSegmentBytes);
  REQUIRE(harness.open());
  harness.log->set_reserve(4096);
  harness.settle();
  CHECK(harness.log->reserve_kept());
  harness.fs.fail_at(SimCall::kSync, 1, false);
  harness.append(100);
  harness.settle();
  CHECK(!harness.log->failure().ok());
  CHECK(!harness.log->reserve_kept());
  CHECK(!harness.log->has_room(1, Room::kReserved));
  harness.log->set_reserve(8192);
}

TEST_CASE("reserve: what is asked beyond the cap is not taken") {
  LogHarness harness(1, kSegmentBytes);
  REQUIRE(harness.open());
  harness.log->set_reserve(UINT64_MAX);
  harness.settle();
  CHECK(harness.log->reserve_kept());
  CHECK(harness.fs.used_bytes() <= 2 * kSegmentBytes);
  fill_segments(harness, 3);
  CHECK(harness.log->reserve_kept());
  CHECK(harness.log->has_room(1000));
}

TEST_CASE("reserve: growing by little takes space in steps") {
  LogHarness harness(1, 64 * limits::kMiB);
  REQUIRE(harness.open());
  harness.settle();
  const uint64_t before = harness.fs.calls(SimCall::kAllocate);
  constexpr uint64_t kReserve = 8 * limits::kMiB;
  for (uint64_t bytes = 0; bytes <= kReserve; bytes += 1024) {
    harness.log->set_reserve(bytes);
    REQUIRE(harness.log->reserve_kept());  // there is always some space ahead
    harness.settle();
  }
  CHECK(harness.fs.calls(SimCall::kAllocate) - before <= 16);
}

}  // namespace
}  // namespace tidemark::log
