#include "log/segment_set.h"

#include <doctest/doctest.h>

namespace tidemark::log {

TEST_CASE("position map: local entries and truncations move offsets, not positions") {
  PositionMap map(LogPosition{1000});
  CHECK(map.tail() == kSegmentHeaderBytes);
  CHECK(!map.find(LogPosition{1000}));
  map.add_local(64);
  map.add_local(64);
  CHECK(map.rows().size() == 1);
  CHECK(map.tail() == kSegmentHeaderBytes + 128);
  map.add_replicated(100);
  map.add_replicated(100);
  map.add_local(64);
  map.add_replicated(100);
  CHECK(map.end() == LogPosition{1300});
  CHECK(map.rows().size() == 2);
  CHECK(map.find(LogPosition{1000})->offset == kSegmentHeaderBytes + 128);
  CHECK(map.find(LogPosition{1000})->contiguous == 200);
  CHECK(map.find(LogPosition{1199})->offset == kSegmentHeaderBytes + 128 + 199);
  CHECK(map.find(LogPosition{1200})->offset == kSegmentHeaderBytes + 128 + 264);
  CHECK(!map.find(LogPosition{999}));
  CHECK(!map.find(LogPosition{1300}));
  // Back into the middle, then below everything.
  map.fall_back(LogPosition{1100}, 72);
  CHECK(map.end() == LogPosition{1100});
  CHECK(map.tail() == kSegmentHeaderBytes + 128 + 364 + 72);
  map.add_replicated(50);
  CHECK(map.find(LogPosition{1099})->offset == kSegmentHeaderBytes + 128 + 99);
  CHECK(map.find(LogPosition{1100})->offset == kSegmentHeaderBytes + 128 + 364 + 72);
  map.fall_back(LogPosition{400}, 72);
  CHECK(map.low() == LogPosition{400});
  CHECK(map.rows().size() == 1);
  map.restart(LogPosition{9000}, 80);
  CHECK(map.low() == LogPosition{9000});
  CHECK(map.end() == LogPosition{9000});
}

TEST_CASE("term table: runs, truncation, what was dropped") {
  TermTable table;
  table.reset(LogIndex{0}, Term{0});
  for (uint64_t i = 1; i <= 10; ++i) {
    table.add(LogIndex{i}, Term{1 + i / 4});
  }
  CHECK(table.term_of(LogIndex{0}) == Term{0});
  CHECK(table.term_of(LogIndex{3}) == Term{1});
  CHECK(table.term_of(LogIndex{4}) == Term{2});
  CHECK(table.term_of(LogIndex{10}) == Term{3});
  CHECK(table.runs(LogIndex{2}, LogIndex{10}) == std::vector<TermRun>{{LogIndex{2}, Term{1}},
                                                                      {LogIndex{4}, Term{2}},
                                                                      {LogIndex{8}, Term{3}}});
  CHECK(table.runs(LogIndex{5}, LogIndex{4}).empty());
  CHECK(table.run_count(LogIndex{5}) == 2);
  table.truncate(LogIndex{8});
  CHECK(table.term_of(LogIndex{7}) == Term{2});
  CHECK(table.runs(LogIndex{2}, LogIndex{7}).size() == 2);
  table.drop_before(LogIndex{5});
  CHECK(table.covers(LogIndex{5}));
  CHECK(!table.covers(LogIndex{4}));
  CHECK(table.term_of(LogIndex{6}) == Term{2});
}

namespace {

EntryHeader command(uint64_t term, uint64_t index, uint64_t position, uint32_t bytes) {
  return {.kind = EntryKind::kCommand,
          .payload_bytes = bytes,
          .term = Term{term},
          .index = LogIndex{index},
          .position = LogPosition{position},
          .synced_to = kSegmentHeaderBytes};
}

}  // namespace

TEST_CASE("segment set: an entry that does not follow is refused and changes nothing") {
  SegmentSet set;
  SegmentHeader header;
  header.sequence = 1;
  header.first_index = LogIndex{1};
  set.start(std::make_shared<Segment>(header, 1));
  REQUIRE(set.apply(command(2, 1, 0, 16), {}).empty());
  for (const EntryHeader& bad :
       {command(2, 3, 64, 8), command(2, 1, 64, 8), command(2, 2, 72, 8), command(1, 2, 64, 8)}) {
    CHECK(!set.apply(bad, {}).empty());
    CHECK(set.next_position() == LogPosition{64});
    CHECK(set.last_index() == LogIndex{1});
  }
  EntryHeader vote = command(2, 1, 64, 16);
  vote.kind = EntryKind::kVote;
  CHECK(!set.apply(vote, encode_truncation({})).empty());
  CHECK(set.apply(vote, encode_vote({Term{3}, NodeId{1}})).empty());
  CHECK(set.vote().term == Term{3});
  EntryHeader truncation = command(2, 1, 64, 24);
  truncation.kind = EntryKind::kTruncate;
  CHECK(!set.apply(truncation, encode_truncation({LogIndex{3}, LogPosition{64}, Term{2}})).empty());
  CHECK(!set.apply(truncation, encode_truncation({LogIndex{2}, LogPosition{72}, Term{2}})).empty());
  CHECK(set.apply(truncation, encode_truncation({LogIndex{1}, LogPosition{0}, Term{0}})).empty());
  CHECK(set.last_index() == LogIndex{0});
  CHECK(set.last_term() == Term{0});
  CHECK(set.next_position() == LogPosition{0});
}

TEST_CASE("segment set: a segment has to follow the one before") {
  SegmentSet set;
  SegmentHeader header;
  header.sequence = 5;
  header.first_index = LogIndex{10};
  header.first_position = LogPosition{800};
  header.term_before = Term{3};
  set.start(std::make_shared<Segment>(header, 1));
  REQUIRE(set.apply(command(4, 10, 800, 16), {}).empty());
  SegmentHeader next = header;
  next.sequence = 6;
  next.first_index = LogIndex{11};
  next.first_position = LogPosition{864};
  next.term_before = Term{4};
  CHECK(set.check_follows(next).empty());
  SegmentHeader bad = next;
  bad.sequence = 7;
  CHECK(set.check_follows(bad) == "segment 6 is missing");
  bad = next;
  bad.first_position = LogPosition{872};
  CHECK(!set.check_follows(bad).empty());
  bad = next;
  bad.first_index = LogIndex{12};
  CHECK(!set.check_follows(bad).empty());
  bad = next;
  bad.shard = ShardId{1};
  CHECK(!set.check_follows(bad).empty());
}

}  // namespace tidemark::log
