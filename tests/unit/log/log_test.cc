#include "log/log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "log/base/coding.h"
#include "log/file_names.h"
#include "log/segment_format.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

namespace {

SnapshotManifest manifest_at(LogIndex index, LogPosition next) {
  SnapshotManifest manifest;
  manifest.index = index;
  manifest.term = Term{1};
  manifest.next_position = next;
  manifest.configuration = {1, 2, 3};
  manifest.data = {4, 5};
  return manifest;
}

// Appends entries of 1000 bytes until `count` more segments were started; runs everything.
void fill_segments(LogHarness& harness, size_t count) {
  const size_t wanted = harness.log->segments().size() + count;
  while (harness.log->segments().size() < wanted) {
    harness.append(1000);
    harness.settle();
  }
}

void check_contents(LogHarness& harness, LogPosition from = LogPosition{}) {
  const Result<std::vector<EntryInfo>> entries = harness.log->entries_from(from);
  REQUIRE_MESSAGE(entries.ok(), entries.error().to_string());
  for (const EntryInfo& entry : *entries) {
    CAPTURE(entry.index.value());
    const Result<SharedBytes> payload = harness.log->read_payload(entry);
    REQUIRE_MESSAGE(payload.ok(), payload.error().to_string());
    CHECK(as_text(payload->view()) ==
          as_text(harness.payloads.at(entry.index.value() - 1).view()));
  }
}

std::string only_segment(LogHarness& harness) {
  const Result<std::vector<SegmentFileName>> files = list_segment_files(harness.fs, "log");
  REQUIRE(files.ok());
  REQUIRE(files->size() == 1);
  return "log/" + files->front().name;
}

}  // namespace

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

TEST_CASE("fsync never and interval: written is enough, the interval syncs, recovery syncs the rest") {
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

TEST_CASE("log: every call of a roll may fail; what was acknowledged survives") {
  for (const SimCall call : {SimCall::kWrite, SimCall::kSync, SimCall::kTruncate, SimCall::kRename,
                             SimCall::kSyncDirectory, SimCall::kOpen, SimCall::kAllocate}) {
    for (uint64_t nth = 1; nth <= 40; nth += 3) {
      CAPTURE(static_cast<int>(call));
      CAPTURE(nth);
      LogHarness harness(nth, 16 * limits::kKiB);
      REQUIRE(harness.open());
      harness.fs.fail_at(call, nth, true);
      uint64_t acked = 0;
      for (int i = 0; i < 60 && harness.log->failure().ok(); ++i) {
        harness.append(900);
        harness.settle();
        acked = harness.completed;
      }
      harness.fs.heal();
      harness.crash();
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      const Result<std::vector<EntryInfo>> entries = harness.log->entries_from(LogPosition{});
      REQUIRE(entries.ok());
      CHECK(entries->size() >= acked);
      check_contents(harness);
    }
  }
}

TEST_CASE("log: power fails at every call of a roll into a recycled file") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    for (uint64_t nth = 1; nth <= 14; ++nth) {
      CAPTURE(seed);
      CAPTURE(nth);
      LogHarness harness(seed, 16 * limits::kKiB);
      REQUIRE(harness.open());
      fill_segments(harness, 3);
      const LogPosition end = harness.log->segments().at(1).end;
      const LogIndex index{end.value() / entry_bytes(1000)};
      harness.log->append_snapshot(manifest_at(index, end), [] {});
      harness.settle();
      // Up to the entry that rolls; then the drop and the roll run with the power failing.
      const size_t before = harness.log->segments().size();
      harness.log->drop_prefix(end);
      while (harness.log->segments().size() < before) {
        harness.append(1000);
        if (harness.log->segments().size() < before - 1) {
          harness.disk.run_one();
        }
        if (harness.last_index.value() % 15 == 0) {
          break;
        }
      }
      harness.fs.cut_power_at(nth);
      harness.disk.run_all();
      const uint64_t acked = harness.completed;
      harness.crash();
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      const Result<std::vector<EntryInfo>> entries =
          harness.log->entries_from(harness.log->first_position());
      REQUIRE(entries.ok());
      REQUIRE(!entries->empty());
      CHECK(entries->back().index.value() >= acked);
      check_contents(harness, harness.log->first_position());
    }
  }
}

TEST_CASE("log: a torn last group is cut at every byte, nothing before it is") {
  LogHarness harness;
  REQUIRE(harness.open());
  for (int i = 0; i < 5; ++i) {
    harness.append(40);
    harness.settle();
  }
  const std::string path = only_segment(harness);
  const std::vector<uint8_t> before = harness.fs.content(path);
  harness.append(33);
  harness.disk.run_all();
  harness.log->append_vote({Term{9}, NodeId{1}}, [] {});
  harness.append(120);
  harness.append(7);
  harness.disk.run_all();
  const std::vector<uint8_t> whole = harness.fs.content(path);
  REQUIRE(before.size() == whole.size());
  // Entries 7 and 8 and perhaps the vote are the last group; entry 6 was durable before.
  const uint64_t group_start = kSegmentHeaderBytes + 5 * entry_bytes(40) + entry_bytes(33);
  const uint64_t group_end =
      group_start + entry_bytes(16) + entry_bytes(120) + entry_bytes(7);
  const std::vector<SharedBytes> written = harness.payloads;
  harness.close();
  for (const uint8_t filler : {uint8_t{0}, uint8_t{0xFF}}) {
    for (uint64_t cut = group_start; cut < group_end; ++cut) {
      CAPTURE(filler);
      CAPTURE(cut);
      std::vector<uint8_t> torn = whole;
      std::fill(torn.begin() + static_cast<ptrdiff_t>(cut), torn.begin() + static_cast<ptrdiff_t>(group_end), filler);
      harness.fs.put(path, torn);
      harness.payloads = written;
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      const std::vector<EntryInfo> entries = harness.log->entries_from(LogPosition{}).value();
      // The padding of the last entry is part of it only as zeros.
      const bool last_is_whole = filler == 0 && cut >= group_end - 1;
      CHECK(entries.size() == (last_is_whole                                              ? 8
                               : cut >= group_start + entry_bytes(16) + entry_bytes(120) ? 7
                                                                                         : 6));
      check_contents(harness);
      // The log goes on, and what is written next is all there is.
      harness.last_index = LogIndex{entries.size()};
      harness.payloads.resize(entries.size());
      harness.append(50);
      harness.settle();
      REQUIRE(harness.open());
      CHECK(harness.log->entries_from(LogPosition{}).value().size() == entries.size() + 1);
      CHECK(harness.report.torn_bytes_cut == 0);
      harness.close();
    }
  }
}

TEST_CASE("log: a hole in the last group is cut although valid entries of the group follow") {
  LogHarness harness;
  REQUIRE(harness.open());
  harness.append(64);
  harness.settle();
  harness.append(64);  // goes out alone; the others wait for it
  harness.append(2000);
  harness.append(64);
  harness.append(64);
  harness.disk.run_all();
  harness.close();
  const std::string path = only_segment(harness);
  const uint64_t hole = kSegmentHeaderBytes + 2 * entry_bytes(64) + 512;
  std::vector<uint8_t> bytes = harness.fs.content(path);
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(hole), 512, uint8_t{0});
  harness.fs.put(path, bytes);
  REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 2);
  CHECK(harness.report.torn_bytes_cut == entry_bytes(2000) + 2 * entry_bytes(64));
  REQUIRE(harness.report.notes.size() == 1);
  CHECK(harness.report.notes[0].find("unacknowledged tail") != std::string::npos);
}

TEST_CASE("log: what a lost group left behind is not taken for a later write") {
  LogHarness harness;
  REQUIRE(harness.open());
  harness.append(64);
  harness.settle();
  harness.append(64);
  harness.append(64);
  harness.append(64);
  harness.disk.run_all();
  harness.close();
  // Of the last group only its second entry arrives.
  const std::string path = only_segment(harness);
  const uint64_t lost = kSegmentHeaderBytes + 2 * entry_bytes(64);
  std::vector<uint8_t> bytes = harness.fs.content(path);
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(lost), entry_bytes(64), uint8_t{0});
  harness.fs.put(path, bytes);
  REQUIRE(harness.open());
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 2);
  harness.last_index = LogIndex{2};
  harness.payloads.resize(2);
  harness.append(64);  // exactly in the place of the lost one
  harness.settle();
  REQUIRE(harness.open());
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 3);
  check_contents(harness);
}

TEST_CASE("log: a flipped bit where data was durable is an error that names the place") {
  LogHarness harness;
  REQUIRE(harness.open());
  for (int i = 0; i < 6; ++i) {
    harness.append(50);
    harness.settle();
  }
  harness.close();
  const std::string path = only_segment(harness);
  const std::vector<uint8_t> good = harness.fs.content(path);
  const uint64_t start = kSegmentHeaderBytes + 2 * entry_bytes(50);
  for (uint64_t at = start; at < start + entry_bytes(50); ++at) {
    CAPTURE(at);
    harness.fs.put(path, good);
    harness.fs.flip_bit(path, at, static_cast<unsigned>(at % 8));
    REQUIRE(!harness.open());
    CHECK(harness.open_status.code() == ErrorCode::kCorrupted);
    const std::string text(harness.open_status.context());
    CHECK_MESSAGE(text.find(path) != std::string::npos, text);
    CHECK_MESSAGE(text.find("offset " + std::to_string(start)) != std::string::npos, text);
    CHECK_MESSAGE(text.find("log position " + std::to_string(2 * entry_bytes(50))) !=
                      std::string::npos,
                  text);
    // The file is as it was found.
    std::vector<uint8_t> expected = good;
    expected[at] ^= static_cast<uint8_t>(1u << (at % 8));
    CHECK(harness.fs.content(path) == expected);
  }
  // A zeroed sector as well.
  std::vector<uint8_t> zeroed = good;
  std::fill_n(zeroed.begin() + static_cast<ptrdiff_t>(start), entry_bytes(50), uint8_t{0});
  harness.fs.put(path, zeroed);
  REQUIRE(!harness.open());
  CHECK(harness.open_status.code() == ErrorCode::kCorrupted);
}

TEST_CASE("log: damage in a full segment is found if it is to be verified, headers always in the last") {
  LogHarness harness(3, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 2);
  const std::vector<Log::SegmentInfo> segments = harness.log->segments();
  harness.close();
  const std::string first = "log/" + segment_file_name(1, LogPosition{0});
  harness.fs.flip_bit(first, kSegmentHeaderBytes + kEntryHeaderBytes + 5, 3);
  REQUIRE(!harness.open(LogPosition{0}));
  CHECK(harness.open_status.code() == ErrorCode::kCorrupted);
  // The checkpoint covers it: found when it is read.
  REQUIRE(harness.open(segments.at(1).first));
  const std::vector<EntryInfo> entries = harness.log->entries_from(LogPosition{}).value();
  CHECK(harness.log->read_payload(entries.at(0)).error().code() == ErrorCode::kCorrupted);
  CHECK(harness.log->read_payload(entries.at(1)).ok());
  harness.fs.flip_bit(first, kSegmentHeaderBytes + kEntryHeaderBytes + 5, 3);

  // A damaged trailer costs only time.
  const std::vector<uint8_t> content = harness.fs.content(first);
  harness.close();
  harness.fs.flip_bit(first, content.size() - 20, 0);
  REQUIRE_MESSAGE(harness.open(segments.at(2).first), harness.open_status.to_string());
  CHECK(harness.report.notes.size() == 1);
  check_contents(harness);
  harness.close();
  harness.fs.flip_bit(first, content.size() - 20, 0);

  // A missing segment, one of another shard, one under another's name.
  harness.fs.put("log/" + segment_file_name(9, LogPosition{0}), content);
  REQUIRE(!harness.open());
  CHECK(harness.open_status.code() == ErrorCode::kCorrupted);
  REQUIRE(harness.fs.remove("log/" + segment_file_name(9, LogPosition{0})).ok());
  const std::string second = "log/" + segment_file_name(2, segments.at(1).first);
  const std::vector<uint8_t> middle = harness.fs.content(second);
  REQUIRE(harness.fs.remove(second).ok());
  REQUIRE(!harness.open());
  CHECK(harness.open_status.to_string().find("segment 2 is missing") != std::string::npos);
  harness.fs.put(second, middle);
  harness.options.shard = ShardId{4};
  REQUIRE(!harness.open());
  CHECK(harness.open_status.code() == ErrorCode::kConflict);
  harness.options.shard = ShardId{3};
  REQUIRE(harness.open());
  check_contents(harness);
}

TEST_CASE("log: stale entries of a recycled file never come back") {
  LogHarness harness(5, 16 * limits::kKiB);
  REQUIRE(harness.open());
  for (int round = 0; round < 12; ++round) {
    fill_segments(harness, 1);
    const std::vector<Log::SegmentInfo> segments = harness.log->segments();
    const LogPosition end = segments.at(segments.size() - 2).end;
    harness.log->append_snapshot(manifest_at(LogIndex{end.value() / entry_bytes(1000)}, end), [] {});
    harness.settle();
    harness.log->drop_prefix(end);
    harness.settle();
    CHECK(harness.log->segments().size() == 1);
    CHECK(harness.log->first_position() == end);
    const LogPosition next = harness.log->next_position();
    harness.close();
    // The tail of the file is full of entries of its last use, all of the same size as the new ones.
    REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
    CHECK(harness.log->next_position() == next);
    CHECK(harness.report.torn_bytes_cut == 0);
    check_contents(harness, end);
  }
  harness.append(10);
  harness.settle();
  REQUIRE(harness.open());
  CHECK(harness.log->segments().size() == 1);
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
  harness.log->append_snapshot(
      manifest_at(LogIndex{covered.value() / entry_bytes(1000)}, covered),
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
  CHECK(!harness.log->cached(last, 1000));                             // header
  CHECK(!harness.log->cached(last + kEntryHeaderBytes, 1001));         // past the entry
  CHECK(!harness.log->cached(harness.log->next_position(), 1));
  CHECK(!harness.log->cached(LogPosition{0}, 8));
  // Across a vote or a segment there is no single place.
  CHECK(harness.log->locate(positions[0], 2096).error().code() == ErrorCode::kInvalidArgument);
}

TEST_CASE("log: a full disk is no failure; accepted entries have their space, and it goes on when there is room") {
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
    const std::vector<EntryInfo> entries = harness.log->entries_from(LogPosition{1'000'000}).value();
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
