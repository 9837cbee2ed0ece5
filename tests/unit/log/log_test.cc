#include "log/log.h"

#include <algorithm>
#include <functional>

#include <doctest/doctest.h>

#include "log/base/coding.h"
#include "log/file_names.h"
#include "log/segment_format.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

TEST_CASE("fsync policy: read and printed") {
  for (const char* text : {"batch", "never", "interval:1", "interval:100", "interval:60000"}) {
    const Result<FsyncPolicy> policy = FsyncPolicy::parse(text);
    REQUIRE(policy.ok());
    CHECK(policy->to_string() == text);
  }
  for (const char* text : {"", "Batch", "interval", "interval:", "interval:0", "interval:-5",
                           "interval:60001", "interval:10ms", "interval:99999999999", "always"}) {
    CAPTURE(text);
    const Result<FsyncPolicy> policy = FsyncPolicy::parse(text);
    REQUIRE(!policy.ok());
    CHECK(policy.error().code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("log: a new one is empty, entries come back after reopening") {
  LogHarness harness;
  REQUIRE(harness.open());
  CHECK(harness.log->next_position() == LogPosition{0});
  CHECK(harness.log->first_position() == LogPosition{0});
  CHECK(harness.log->idle());
  CHECK(!harness.log->snapshot());
  CHECK(harness.log->vote().term == Term{0});

  CHECK(harness.append(10) == LogPosition{0});
  CHECK(harness.append(0) == LogPosition{64});
  CHECK(harness.append(8, Term{2}) == LogPosition{112});
  CHECK(harness.log->next_position() == LogPosition{168});
  CHECK(harness.completed == 0);
  CHECK(harness.log->durable_position() == LogPosition{0});
  CHECK(harness.log->unsynced_bytes() == 18);
  CHECK(!harness.log->idle());
  harness.settle();
  CHECK(harness.completed == 3);
  CHECK(harness.log->durable_position() == LogPosition{168});
  CHECK(harness.log->unsynced_bytes() == 0);
  CHECK(harness.log->idle());
  harness.log->append_vote({Term{5}, NodeId{2}}, [] {});
  harness.log->append_snapshot(manifest_at(LogIndex{2}, LogPosition{112}), [] {});
  harness.settle();

  REQUIRE(harness.open());
  CHECK(harness.log->next_position() == LogPosition{168});
  CHECK(harness.log->vote().term == Term{5});
  CHECK(harness.log->vote().voted_for == NodeId{2});
  REQUIRE(harness.log->snapshot().has_value());
  CHECK(harness.log->snapshot()->next_position == LogPosition{112});
  CHECK(harness.log->snapshot()->configuration == std::vector<uint8_t>{1, 2, 3});
  CHECK(harness.log->snapshot()->data == std::vector<uint8_t>{4, 5});
  CHECK(harness.report.segments == 1);
  CHECK(harness.report.entries_verified == 5);
  CHECK(harness.report.notes.empty());
  const Result<std::vector<EntryInfo>> entries = harness.log->entries_from(LogPosition{64});
  REQUIRE(entries.ok());
  REQUIRE(entries->size() == 2);
  CHECK(entries->at(0).index == LogIndex{2});
  CHECK(entries->at(1).term == Term{2});
  CHECK(entries->at(1).position == LogPosition{112});
  CHECK(entries->at(1).payload_bytes == 8);
  check_contents(harness);
  CHECK(harness.log->entries_from(LogPosition{168}).value().empty());
  CHECK(harness.log->entries_from(LogPosition{176}).error().code() == ErrorCode::kNotFound);
}

TEST_CASE("log: group commit gathers what comes while a write is out") {
  LogHarness harness(1, 16 * limits::kMiB);
  REQUIRE(harness.open());
  harness.settle();
  for (int i = 0; i < 50; ++i) {
    harness.append(100);
  }
  while (harness.completed == 0) {
    REQUIRE(harness.disk.run_one());
  }
  CHECK(harness.completed == 1);
  harness.disk.run_all();
  CHECK(harness.completed == 50);
  CHECK(harness.log->counters().syncs == 2);
  CHECK(harness.log->counters().entries == 50);
  // A group is bounded: 5 entries of 1 MiB are three more of at most 2 MiB.
  for (int i = 0; i < 5; ++i) {
    harness.append(limits::kMiB - 48);
  }
  harness.settle();
  CHECK(harness.completed == 55);
  CHECK(harness.log->counters().syncs == 5);
}

TEST_CASE("log: completions fire in order and never inside append") {
  LogHarness harness;
  REQUIRE(harness.open());
  std::vector<int> order;
  bool inside = false;
  for (int i = 0; i < 20; ++i) {
    inside = true;
    harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{static_cast<uint64_t>(i) + 1},
                        SharedBytes(Buffer(8)), [&, i] {
                          CHECK(!inside);
                          order.push_back(i);
                        });
    inside = false;
    if (i % 7 == 0) {
      harness.disk.run_one();
    }
  }
  harness.settle();
  REQUIRE(order.size() == 20);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("log: a completion may append, and may destroy the log") {
  LogHarness harness;
  REQUIRE(harness.open());
  uint64_t index = 0;
  std::function<void()> more = [&] {
    if (index < 100) {
      harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{++index}, SharedBytes(Buffer(64)),
                          [&] { more(); });
    }
  };
  more();
  harness.settle();
  CHECK(index == 100);
  bool later = false;
  harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{101}, SharedBytes(), [] {});
  harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{102}, SharedBytes(),
                      [&] { harness.log.reset(); });
  harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{103}, SharedBytes(),
                      [&] { later = true; });
  harness.disk.run_all();
  CHECK(harness.log == nullptr);
  CHECK(!later);
}

TEST_CASE(
    "fsync never and interval: written is enough, the interval syncs, recovery syncs the rest") {
  LogHarness harness(9, 1 * limits::kMiB);
  harness.options.fsync = FsyncPolicy::parse("interval:50").value();
  REQUIRE(harness.open());
  harness.settle();
  const uint64_t syncs = harness.fs.calls(SimCall::kSync);
  harness.append(100);
  harness.settle();
  CHECK(harness.completed == 1);
  CHECK(harness.log->durable_position() == harness.log->next_position());
  CHECK(harness.fs.calls(SimCall::kSync) == syncs);
  harness.clock.advance_ms(49);
  harness.settle();
  CHECK(harness.fs.calls(SimCall::kSync) == syncs);
  harness.clock.advance_ms(1);
  harness.settle();
  CHECK(harness.fs.calls(SimCall::kSync) == syncs + 1);
  // Nothing new: nothing to sync.
  harness.clock.advance_ms(500);
  harness.settle();
  CHECK(harness.fs.calls(SimCall::kSync) == syncs + 1);

  harness.options.fsync = FsyncPolicy::parse("never").value();
  REQUIRE(harness.open());
  const uint64_t before = harness.fs.calls(SimCall::kSync);
  for (int i = 0; i < 20; ++i) {
    harness.append(1000);
    harness.clock.advance_ms(100);
    harness.settle();
  }
  CHECK(harness.completed == 21);
  CHECK(harness.fs.calls(SimCall::kSync) == before);
  // The process is killed, the next one opens the log: from now on all of it counts.
  REQUIRE(harness.open());
  const LogPosition end = harness.log->next_position();
  harness.crash();
  REQUIRE(harness.open());
  CHECK(harness.log->next_position() == end);
  check_contents(harness);
}

TEST_CASE("log: a failed write or sync makes it read-only, nothing is retried or completed") {
  for (const SimCall call : {SimCall::kSync, SimCall::kWrite}) {
    CAPTURE(static_cast<int>(call));
    LogHarness harness;
    REQUIRE(harness.open());
    harness.append(100);
    harness.settle();
    int failures = 0;
    harness.log->on_failure([&](const Status& status) {
      ++failures;
      CHECK(status.code() == ErrorCode::kIoError);
    });
    harness.fs.fail_at(call, 1, false);
    const LogPosition durable = harness.log->durable_position();
    harness.append(100);
    harness.append(100);
    harness.disk.run_all();
    CHECK(failures == 1);
    CHECK(harness.log->failure().code() == ErrorCode::kIoError);
    CHECK(harness.completed == 1);
    CHECK(harness.log->durable_position() == durable);
    CHECK(!harness.log->has_room(10));
    // The disk works again, but what it lost nobody knows.
    const uint64_t syncs = harness.fs.calls(SimCall::kSync);
    const uint64_t writes = harness.fs.calls(SimCall::kWrite);
    harness.append(100);
    harness.clock.advance_ms(10'000);
    harness.settle();
    CHECK(harness.fs.calls(SimCall::kSync) == syncs);
    CHECK(harness.fs.calls(SimCall::kWrite) == writes);
    CHECK(harness.completed == 1);
    CHECK(failures == 1);
    CHECK(harness.log->idle());
    // What was acknowledged survives.
    harness.crash();
    REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
    CHECK(harness.log->next_position() >= durable);
    check_contents(harness);
  }
}

// The first segment is made of a file of other bytes, which shows what was written.
std::vector<uint8_t> append_to_marked_file(LogHarness& harness, size_t payload_bytes) {
  constexpr uint8_t kMark = 0xab;
  const std::vector<uint8_t> marked(harness.options.segment_bytes, kMark);
  harness.fs.put("log/" + spare_file_name(1), marked);
  REQUIRE(harness.open());
  harness.append(payload_bytes);
  harness.settle();
  const Log::Counters& counters = harness.log->counters();
  CHECK(counters.bytes_written == entry_bytes(payload_bytes));
  std::vector<uint8_t> content = harness.fs.content("log/" + segment_file_name(1, LogPosition{0}));
  const auto behind = std::find(content.rbegin(), content.rend(), uint8_t{0});
  content.erase(behind.base(), content.end());
  return content;
}

TEST_CASE("log: a small group takes zeros along for the groups behind it, and only if synced") {
  constexpr uint64_t kSegment = limits::kMiB;
  constexpr uint64_t kZeros = kSegment / 16;
  LogHarness small(1, kSegment);
  const uint64_t end = kSegmentHeaderBytes + entry_bytes(100);
  const std::vector<uint8_t> written = append_to_marked_file(small, 100);
  CHECK(written.size() == end + kZeros);
  CHECK(std::all_of(written.begin() + static_cast<std::ptrdiff_t>(end), written.end(),
                    [](uint8_t byte) { return byte == 0; }));
  // There is nothing to take along as long as the next ones lie within it.
  small.append(100);
  small.settle();
  CHECK(small.log->counters().bytes_written == 2 * entry_bytes(100));
  CHECK(small.fs.content("log/" + segment_file_name(1, LogPosition{0})).at(end + kZeros) == 0xab);
  for (int i = 0; i < 1'000; ++i) {
    small.append(100);
    small.settle();
  }
  REQUIRE(small.open());
  check_contents(small);

  LogHarness large(1, kSegment);
  CHECK(append_to_marked_file(large, 40 * limits::kKiB).size() <
        kSegmentHeaderBytes + entry_bytes(40 * limits::kKiB) + 8);
  LogHarness unsynced(1, kSegment);
  unsynced.options.fsync.mode = FsyncPolicy::Mode::kNever;
  CHECK(append_to_marked_file(unsynced, 100).size() < end + 8);
}

TEST_CASE("log: retention needs a snapshot, recycles, and leaves files to readers that hold them") {
  LogHarness harness(5, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 3);
  const std::vector<Log::SegmentInfo> segments = harness.log->segments();
  harness.log->drop_prefix(segments.at(2).end);
  CHECK(harness.log->segments().size() == segments.size());

  const LogPosition covered = segments.at(1).end;
  bool snapshot_done = false;
  harness.log->append_snapshot(manifest_at(LogIndex{covered.value() / entry_bytes(1000)}, covered),
                               [&] { snapshot_done = true; });
  harness.log->drop_prefix(covered);
  CHECK(harness.log->segments().size() == segments.size());  // not durable yet
  harness.settle();
  CHECK(snapshot_done);
  harness.log->drop_prefix(covered + 8);  // more than is covered: nothing
  CHECK(harness.log->segments().size() == segments.size());

  const Result<ReadPlan> held = harness.log->locate(LogPosition{kEntryHeaderBytes}, 1000);
  REQUIRE(held.ok());
  harness.log->drop_prefix(covered);
  harness.settle();
  CHECK(harness.log->segments().size() == segments.size() - 2);
  CHECK(harness.log->first_position() == covered);
  CHECK(harness.log->counters().segments_recycled == 1);  // the second one; the first was held
  CHECK(harness.log->locate(LogPosition{0}, 8).error().code() == ErrorCode::kNotFound);
  CHECK(harness.log->entries_from(LogPosition{0}).error().code() == ErrorCode::kNotFound);
  std::vector<uint8_t> bytes(1000);
  fill_segments(harness, 4);
  REQUIRE(held->read(bytes).ok());
  CHECK(as_text(bytes) == as_text(harness.payloads[0].view()));
  REQUIRE(harness.open());
  CHECK(harness.log->first_position() == covered);
  REQUIRE(harness.log->snapshot().has_value());
  CHECK(harness.log->snapshot()->next_position == covered);
}

TEST_CASE("log: tail cache and places on disk give the same bytes") {
  LogHarness harness(2, 64 * limits::kKiB);
  harness.options.tail_cache_bytes = 8 * 1024;
  REQUIRE(harness.open());
  std::vector<LogPosition> positions;
  for (int i = 0; i < 60; ++i) {
    positions.push_back(harness.append(1000));
    if (i % 5 == 0) {
      harness.log->append_vote({Term{static_cast<uint64_t>(i)}, NodeId{1}}, [] {});
    }
    // Not durable: nowhere but in memory.
    CHECK(harness.log->cached(positions.back() + kEntryHeaderBytes, 1000).has_value());
    CHECK(harness.log->locate(positions.back(), 1048).error().code() ==
          ErrorCode::kInvalidArgument);
    harness.settle();
  }
  size_t cached = 0;
  for (size_t i = 0; i < positions.size(); ++i) {
    CAPTURE(i);
    const LogPosition at = positions[i] + kEntryHeaderBytes + 17;
    const std::string_view expected = as_text(harness.payloads[i].view()).substr(17, 900);
    if (const std::optional<SharedBytes> bytes = harness.log->cached(at, 900)) {
      ++cached;
      CHECK(as_text(bytes->view()) == expected);
      CHECK(bytes->data() == harness.payloads[i].data() + 17);  // shared, not copied
    }
    const Result<ReadPlan> plan = harness.log->locate(at, 900);
    REQUIRE(plan.ok());
    std::vector<uint8_t> bytes(plan->size());
    REQUIRE(plan->read(bytes).ok());
    CHECK(as_text(bytes) == expected);
  }
  CHECK(cached >= 6);
  CHECK(cached <= 9);
  const LogPosition last = positions.back();
  CHECK(!harness.log->cached(last, 1000));                      // header
  CHECK(!harness.log->cached(last + kEntryHeaderBytes, 1001));  // past the entry
  CHECK(!harness.log->cached(harness.log->next_position(), 1));
  CHECK(!harness.log->cached(LogPosition{0}, 8));
  // Across a vote or a segment there is no single place.
  CHECK(harness.log->locate(positions[0], 2096).error().code() == ErrorCode::kInvalidArgument);
}

TEST_CASE(
    "log: a full disk is no failure; accepted entries have their space, and it goes on when there "
    "is room") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    LogHarness harness(seed, 32 * limits::kKiB);
    REQUIRE(harness.open());
    harness.settle();
    harness.fs.set_capacity(200 * limits::kKiB);
    Random random(seed);
    uint64_t accepted = 0;
    int refused = 0;
    for (int i = 0; i < 1000 && refused < 20; ++i) {
      const size_t size = random.between(1, 3000);
      if (harness.log->has_room(size)) {
        harness.append(size);
        ++accepted;
      } else {
        ++refused;
      }
      if (random.chance(1, 2)) {
        harness.clock.advance_ms(20);
        harness.settle();
      }
    }
    harness.settle();
    REQUIRE(harness.log->failure().ok());
    CHECK(refused == 20);
    CHECK(accepted > 20);
    CHECK(harness.completed == accepted);
    harness.clock.advance_ms(300);
    CHECK(!harness.log->has_room(20'000));
    harness.settle();
    CHECK(harness.log->disk_full());
    // Control entries still go through: room was kept for them.
    for (uint64_t i = 1; i <= 20; ++i) {
      harness.log->append_vote({Term{i}, NodeId{1}}, [&] { ++harness.completed; });
    }
    harness.settle();
    CHECK(harness.completed == accepted + 20);
    // At most one attempt in 200 ms.
    const uint64_t tries = harness.fs.calls(SimCall::kAllocate);
    for (int i = 0; i < 100; ++i) {
      harness.clock.advance_ms(10);
      harness.settle();
    }
    CHECK(harness.fs.calls(SimCall::kAllocate) - tries <= 10);
    CHECK(harness.log->disk_full());

    harness.fs.set_capacity(UINT64_MAX);
    harness.clock.advance_ms(200);
    harness.settle();
    CHECK(!harness.log->disk_full());
    CHECK(harness.log->has_room(3000));
    harness.append(3000);
    harness.settle();
    CHECK(harness.completed == accepted + 21);
    REQUIRE(harness.open());
    check_contents(harness);
    CHECK(harness.log->vote().term == Term{20});
  }
}

TEST_CASE("log: what does not fit on a full disk waits and is written once there is space") {
  LogHarness harness(1, 16 * limits::kKiB);
  REQUIRE(harness.open());
  harness.settle();
  harness.fs.set_capacity(harness.fs.used_bytes());
  // Far more than the reserve, without asking for room.
  for (int i = 0; i < 60; ++i) {
    harness.append(1000);
  }
  harness.settle();
  CHECK(harness.completed < 60);
  CHECK(harness.log->disk_full());
  CHECK(!harness.log->has_room(1));
  harness.fs.set_capacity(UINT64_MAX);
  harness.clock.advance_ms(200);
  harness.settle();
  CHECK(harness.completed == 60);
  REQUIRE(harness.open());
  check_contents(harness);
}

TEST_CASE("log: an entry larger than a segment gets one of its own") {
  LogHarness harness(1, 16 * limits::kKiB);
  REQUIRE(harness.open());
  harness.append(100);
  harness.settle();
  CHECK(!harness.log->has_room(limits::kEntryPayloadBytesMax));
  harness.settle();
  CHECK(harness.log->has_room(limits::kEntryPayloadBytesMax));
  harness.append(limits::kEntryPayloadBytesMax);
  harness.append(100);
  harness.settle();
  CHECK(harness.completed == 3);
  REQUIRE(harness.open());
  CHECK(harness.log->segments().size() == 3);
  check_contents(harness);
}

TEST_CASE("log: a truncation may reach into full segments, whose files may go first") {
  LogHarness harness(1, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 4);
  const std::vector<EntryInfo> before = harness.log->entries_from(LogPosition{}).value();
  const EntryInfo& from = before.at(12);
  harness.log->truncate_suffix(from.index, from.position, [] {});
  CHECK(harness.log->next_position() == from.position);
  CHECK(harness.log->durable_position() == from.position);
  harness.last_index = LogIndex{from.index.value() - 1};
  harness.payloads.resize(harness.last_index.value());
  harness.append(500, Term{2});
  harness.settle();
  check_contents(harness);
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 13);
  REQUIRE(harness.open());
  check_contents(harness);
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 13);
  // What the truncation voided is gone from the map of segments.
  LogPosition end;
  for (const Log::SegmentInfo& segment : harness.log->segments()) {
    CHECK(segment.first == end);
    end = segment.end;
  }
  CHECK(end == harness.log->next_position());
}

TEST_CASE("log: a snapshot from elsewhere replaces everything") {
  LogHarness harness(1, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 2);
  SnapshotManifest manifest = manifest_at(LogIndex{1000}, LogPosition{1'000'000});
  manifest.term = Term{7};
  harness.log->append_snapshot(manifest, [] {});
  harness.settle();
  CHECK(harness.log->first_position() == LogPosition{1'000'000});
  CHECK(harness.log->next_position() == LogPosition{1'000'000});
  CHECK(harness.log->durable_position() == LogPosition{1'000'000});
  CHECK(harness.log->locate(LogPosition{0}, 8).error().code() == ErrorCode::kNotFound);
  const SharedBytes payload = random_payload(harness.random, 77);
  CHECK(harness.log->append(EntryKind::kCommand, Term{7}, LogIndex{1001}, payload, [] {}) ==
        LogPosition{1'000'000});
  harness.settle();
  for (int round = 0; round < 2; ++round) {
    REQUIRE(harness.open());
    const std::vector<EntryInfo> entries =
        harness.log->entries_from(LogPosition{1'000'000}).value();
    REQUIRE(entries.size() == 1);
    CHECK(entries[0].index == LogIndex{1001});
    CHECK(as_text(harness.log->read_payload(entries[0])->view()) == as_text(payload.view()));
    harness.log->drop_prefix(LogPosition{1'000'000});
    harness.settle();
    CHECK(harness.log->segments().size() == 1);
  }
}

TEST_CASE("log: options that make no sense are refused") {
  LogHarness harness;
  harness.options.segment_bytes = 1000;
  REQUIRE(!harness.open());
  CHECK(harness.open_status.code() == ErrorCode::kInvalidArgument);
  harness.options.segment_bytes = limits::kSegmentBytesMax + 1;
  REQUIRE(!harness.open());
  harness.options.segment_bytes = 64 * limits::kKiB;
  harness.options.directory = "nowhere";
  REQUIRE(!harness.open());
  CHECK(harness.open_status.code() == ErrorCode::kNotFound);
}

TEST_CASE("log: a new log takes little space before it is used") {
  LogHarness harness(1, limits::kSegmentBytesDefault);
  REQUIRE(harness.open());
  CHECK(harness.fs.used_bytes() == limits::kMiB);
  harness.settle();
  CHECK(harness.log->has_room(limits::kEntryPayloadBytesMax));
  CHECK(harness.fs.used_bytes() <= 8 * limits::kMiB);
}

}  // namespace tidemark::log
