// What a crash or a bad disk leaves, and what opening the log makes of it.
#include "log/recovery.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "log/file_names.h"
#include "log/segment_format.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

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
  const uint64_t group_end = group_start + entry_bytes(16) + entry_bytes(120) + entry_bytes(7);
  const std::vector<SharedBytes> written = harness.payloads;
  harness.close();
  for (const uint8_t filler : {uint8_t{0}, uint8_t{0xFF}}) {
    for (uint64_t cut = group_start; cut < group_end; ++cut) {
      CAPTURE(filler);
      CAPTURE(cut);
      std::vector<uint8_t> torn = whole;
      std::fill(torn.begin() + static_cast<ptrdiff_t>(cut),
                torn.begin() + static_cast<ptrdiff_t>(group_end), filler);
      harness.fs.put(path, torn);
      harness.payloads = written;
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      const std::vector<EntryInfo> entries = harness.log->entries_from(LogPosition{}).value();
      // The padding of the last entry is part of it only as zeros.
      const bool last_is_whole = filler == 0 && cut >= group_end - 1;
      CHECK(entries.size() == (last_is_whole                                             ? 8
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

TEST_CASE("log: a seal or a trailer that was not written whole is cut, and the segment goes on") {
  LogHarness harness(1, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 1);
  const LogPosition end = harness.log->segments().at(0).end;
  const LogPosition second = harness.log->segments().at(1).first;
  harness.close();
  const std::string path = "log/" + segment_file_name(1, LogPosition{0});
  const std::vector<uint8_t> whole = harness.fs.content(path);
  const uint64_t seal = kSegmentHeaderBytes + end.value();
  // The crash came before the next segment was there.
  REQUIRE(harness.fs.remove("log/" + segment_file_name(2, second)).ok());
  harness.last_index = LogIndex{end.value() / entry_bytes(1000)};
  const std::vector<SharedBytes> written(
      harness.payloads.begin(),
      harness.payloads.begin() + static_cast<ptrdiff_t>(harness.last_index.value()));
  for (uint64_t from = seal; from < whole.size(); from += 8) {
    for (const uint64_t to : {from + 8, uint64_t{whole.size()}}) {
      CAPTURE(from);
      CAPTURE(to);
      std::vector<uint8_t> torn = whole;
      std::fill(torn.begin() + static_cast<ptrdiff_t>(from),
                torn.begin() + static_cast<ptrdiff_t>(to), uint8_t{0});
      harness.fs.put(path, torn);
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      CHECK(harness.log->next_position() == end);
      harness.payloads = written;
      harness.last_index = LogIndex{written.size()};
      harness.append(2000);
      harness.settle();
      REQUIRE_MESSAGE(harness.open(), harness.open_status.to_string());
      CHECK(harness.log->segments().size() == 2);
      check_contents(harness);
      harness.close();
      const std::string next = "log/" + segment_file_name(2, end);
      REQUIRE(harness.fs.remove(next).ok());
    }
  }
  // Whole, it stays as it is.
  harness.fs.put(path, whole);
  REQUIRE(harness.open());
  CHECK(harness.log->segments().size() == 2);
  CHECK(harness.fs.content(path) == whole);
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
    CHECK_MESSAGE(
        text.find("log position " + std::to_string(2 * entry_bytes(50))) != std::string::npos,
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

TEST_CASE(
    "log: damage in a full segment is found if it is to be verified, headers always in the last") {
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

TEST_CASE("log: a seal that is damaged is found, also where a checkpoint covers its segment") {
  LogHarness harness(3, 16 * limits::kKiB);
  REQUIRE(harness.open());
  fill_segments(harness, 2);
  const std::vector<Log::SegmentInfo> segments = harness.log->segments();
  harness.close();
  const std::string first = "log/" + segment_file_name(1, LogPosition{0});
  const uint64_t seal = kSegmentHeaderBytes + segments.at(0).end.value();
  harness.fs.flip_bit(first, seal + kEntryHeaderBytes + 3, 2);
  REQUIRE(!harness.open(segments.at(2).first));
  CHECK(harness.open_status.code() == ErrorCode::kCorrupted);
  const std::string text(harness.open_status.context());
  CHECK_MESSAGE(text.find("offset " + std::to_string(seal)) != std::string::npos, text);
  REQUIRE(harness.report.notes.size() == 1);
  CHECK(harness.report.notes[0].find("the seal does not verify") != std::string::npos);
  harness.fs.flip_bit(first, seal + kEntryHeaderBytes + 3, 2);
  REQUIRE(harness.open(segments.at(2).first));
  CHECK(harness.report.notes.empty());
  check_contents(harness);
}

// Gives the second entry of a segment another place, with hashes that are right.
void misplace_second_entry(LogHarness& harness, const std::string& path, int64_t positions,
                           int64_t indexes) {
  auto opened = harness.fs.open(path, OpenMode::kReadWrite);
  REQUIRE(opened.ok());
  File& file = **opened;
  std::vector<uint8_t> bytes(file.size().value());
  REQUIRE(file.read(0, bytes).ok());
  const auto segment = decode_segment_header(ByteView(bytes).first(kSegmentHeaderBytes));
  REQUIRE(segment.ok());
  const auto header_at = [&](size_t at) {
    return decode_entry_header(ByteView(bytes).subspan(at, kEntryHeaderBytes), segment->seed);
  };
  const auto first = header_at(kSegmentHeaderBytes);
  REQUIRE(first.has_value());
  const size_t at = kSegmentHeaderBytes + entry_bytes(first->header.payload_bytes);
  const auto second = header_at(at);
  REQUIRE(second.has_value());
  EntryHeader header = second->header;
  header.position = LogPosition{header.position.value() + static_cast<uint64_t>(positions)};
  header.index = LogIndex{header.index.value() + static_cast<uint64_t>(indexes)};
  EntryHeaderBytes changed;
  encode_entry_header(header, segment->seed,
                      ByteView(bytes).subspan(at + kEntryHeaderBytes, header.payload_bytes),
                      changed);
  const ByteView part(changed);
  REQUIRE(file.write(at, {&part, 1}).ok());
}

TEST_CASE("log: an entry of another place, in a segment taken up by its seal, is damage") {
  struct Misplaced {
    int64_t positions;
    int64_t indexes;
    std::string_view text;
  };

  for (const Misplaced& one :
       {Misplaced{8, 0, "its position is"}, Misplaced{0, 1, "its index is"}}) {
    LogHarness harness(3, 16 * limits::kKiB);
    REQUIRE(harness.open());
    fill_segments(harness, 2);
    const LogPosition covered = harness.log->segments().at(2).first;
    harness.close();
    misplace_second_entry(harness, "log/" + segment_file_name(1, LogPosition{0}), one.positions,
                          one.indexes);
    REQUIRE(harness.open(covered));
    const auto listed = harness.log->entries_from(LogPosition{0});
    REQUIRE(!listed.ok());
    CHECK(listed.error().code() == ErrorCode::kCorrupted);
    const std::string text(listed.error().context());
    CHECK_MESSAGE(text.find(one.text) != std::string::npos, text);
  }
}

TEST_CASE("log: what cannot be read at start is an error, never a tail to cut") {
  // Larger than what is read at once, so that each step of the walk reads.
  LogHarness harness(1, 8 * limits::kMiB);
  REQUIRE(harness.open());
  for (int i = 0; i < 4; ++i) {
    harness.append(600 * limits::kKiB);
    harness.settle();
  }
  // The last group is torn in its first entry, and a whole one follows.
  harness.append(600 * limits::kKiB);  // goes out alone; the others wait for it
  harness.append(600 * limits::kKiB);
  harness.append(600 * limits::kKiB);
  harness.disk.run_all();
  harness.close();
  const std::string path = only_segment(harness);
  const uint64_t torn = kSegmentHeaderBytes + 5 * entry_bytes(600 * limits::kKiB);
  harness.fs.flip_bit(path, torn + kEntryHeaderBytes, 0);
  const std::vector<uint8_t> found = harness.fs.content(path);
  uint64_t nth = 1;
  for (;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 100);
    harness.fs.fail_at(SimCall::kRead, nth, false);
    if (harness.open()) {
      break;  // it does not read as often as that
    }
    CHECK_MESSAGE(harness.open_status.code() == ErrorCode::kIoError,
                  harness.open_status.to_string());
    // Nothing was cut, though the last read may have been of what had been cut already.
    if (harness.report.torn_bytes_cut == 0) {
      CHECK(harness.fs.content(path) == found);
    }
    harness.fs.heal();
    harness.fs.put(path, found);
  }
  harness.fs.heal();
  CHECK(nth > 5);
  CHECK(harness.log->entries_from(LogPosition{}).value().size() == 5);
  CHECK(harness.report.torn_bytes_cut == 2 * entry_bytes(600 * limits::kKiB));
  check_contents(harness);
}

TEST_CASE("log: stale entries of a recycled file never come back") {
  LogHarness harness(5, 16 * limits::kKiB);
  REQUIRE(harness.open());
  for (int round = 0; round < 12; ++round) {
    fill_segments(harness, 1);
    const std::vector<Log::SegmentInfo> segments = harness.log->segments();
    const LogPosition end = segments.at(segments.size() - 2).end;
    harness.log->append_snapshot(manifest_at(LogIndex{end.value() / entry_bytes(1000)}, end),
                                 [] {});
    harness.settle();
    harness.log->drop_prefix(end);
    harness.settle();
    CHECK(harness.log->segments().size() == 1);
    CHECK(harness.log->first_position() == end);
    const LogPosition next = harness.log->next_position();
    harness.close();
    // The tail of the file is full of entries of its last use, all of the same size as the new
    // ones.
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

}  // namespace tidemark::log
