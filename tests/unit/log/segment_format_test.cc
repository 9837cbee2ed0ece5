#include "log/segment_format.h"

#include <doctest/doctest.h>

#include "log/base/coding.h"
#include "log/base/random.h"
#include "log/file_names.h"

namespace tidemark::log {

namespace {

SegmentHeader sample_header() {
  SegmentHeader header;
  header.cluster_id = 0x1122334455667788;
  header.shard = ShardId{9};
  header.sequence = 4;
  header.first_position = LogPosition{4096};
  header.first_index = LogIndex{77};
  header.term_before = Term{5};
  header.vote = {Term{6}, NodeId{2}};
  header.incarnation = 0xABCDEF;
  return header;
}

}  // namespace

TEST_CASE("segment header: comes back, and any changed byte is noticed") {
  std::vector<uint8_t> bytes(kSegmentHeaderBytes);
  const uint64_t seed = encode_segment_header(sample_header(), bytes);
  const Result<DecodedSegmentHeader> decoded = decode_segment_header(bytes);
  REQUIRE(decoded.ok());
  CHECK(decoded->seed == seed);
  CHECK(decoded->header.cluster_id == 0x1122334455667788);
  CHECK(decoded->header.shard == ShardId{9});
  CHECK(decoded->header.sequence == 4);
  CHECK(decoded->header.first_position == LogPosition{4096});
  CHECK(decoded->header.first_index == LogIndex{77});
  CHECK(decoded->header.term_before == Term{5});
  CHECK(decoded->header.vote.term == Term{6});
  CHECK(decoded->header.vote.voted_for == NodeId{2});
  CHECK(decoded->header.incarnation == 0xABCDEF);
  for (size_t at = 0; at < bytes.size(); ++at) {
    bytes[at] ^= 0x10;
    const ErrorCode code = decode_segment_header(bytes).error().code();
    CHECK_MESSAGE(
        code == (at >= 8 && at < 12 ? ErrorCode::kUnsupportedVersion : ErrorCode::kCorrupted), at);
    bytes[at] ^= 0x10;
  }
}

TEST_CASE("entry header: comes back, and a changed bit in header or payload is noticed") {
  const std::vector<uint8_t> payload{1, 2, 3, 4, 5};
  const EntryHeader header{.kind = EntryKind::kBarrier,
                           .payload_bytes = 5,
                           .term = Term{3},
                           .index = LogIndex{8},
                           .position = LogPosition{800},
                           .synced_to = 4096};
  EntryHeaderBytes bytes;
  encode_entry_header(header, 99, payload, bytes);
  const std::optional<DecodedEntryHeader> decoded = decode_entry_header(bytes, 99);
  REQUIRE(decoded.has_value());
  CHECK(decoded->header.kind == EntryKind::kBarrier);
  CHECK(decoded->header.payload_bytes == 5);
  CHECK(decoded->header.term == Term{3});
  CHECK(decoded->header.index == LogIndex{8});
  CHECK(decoded->header.position == LogPosition{800});
  CHECK(decoded->header.synced_to == 4096);
  CHECK(decoded->payload_matches(payload));
  CHECK(!decoded->payload_matches(ByteView(payload).first(4)));
  CHECK(!decoded->payload_matches(std::vector<uint8_t>{1, 2, 3, 4, 6}));
  // Another use of the same file has another seed.
  const std::optional<DecodedEntryHeader> stale = decode_entry_header(bytes, 100);
  CHECK((!stale || !stale->payload_matches(payload)));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    EntryHeaderBytes changed = bytes;
    changed[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const std::optional<DecodedEntryHeader> bad = decode_entry_header(changed, 99);
    CHECK_MESSAGE((!bad || !bad->payload_matches(payload)), bit);
  }
}

TEST_CASE("payloads of local entries: come back; cut or too long they are refused") {
  const std::vector<uint8_t> vote = encode_vote({Term{4}, NodeId{3}});
  REQUIRE(decode_vote(vote).has_value());
  CHECK(decode_vote(vote)->term == Term{4});
  CHECK(decode_vote(vote)->voted_for == NodeId{3});

  const std::vector<uint8_t> truncation =
      encode_truncation({LogIndex{10}, LogPosition{800}, Term{2}});
  REQUIRE(decode_truncation(truncation).has_value());
  CHECK(decode_truncation(truncation)->index == LogIndex{10});
  CHECK(decode_truncation(truncation)->position == LogPosition{800});
  CHECK(decode_truncation(truncation)->term_before == Term{2});

  SnapshotManifest manifest;
  manifest.index = LogIndex{5};
  manifest.term = Term{2};
  manifest.next_position = LogPosition{64};
  manifest.configuration_index = LogIndex{1};
  manifest.configuration = {9, 8, 7};
  manifest.data = {6};
  const std::vector<uint8_t> snapshot = encode_snapshot(manifest);
  CHECK(snapshot.size() == snapshot_bytes(manifest));
  REQUIRE(decode_snapshot(snapshot).has_value());
  CHECK(decode_snapshot(snapshot)->configuration == manifest.configuration);
  CHECK(decode_snapshot(snapshot)->data == manifest.data);
  CHECK(decode_snapshot(snapshot)->configuration_index == LogIndex{1});

  Seal seal;
  seal.end = LogPosition{1000};
  seal.last_index = LogIndex{20};
  seal.last_term = Term{4};
  seal.low_index = LogIndex{3};
  seal.term_before_low = Term{1};
  seal.replicated_entries = 30;
  seal.local_entries = 4;
  seal.floor = LogFloor{LogPosition{8}, LogIndex{2}, Term{1}};
  seal.rows = {{LogPosition{8}, 4096}, {LogPosition{400}, 4600}};
  seal.runs = {{LogIndex{3}, Term{1}}, {LogIndex{9}, Term{4}}};
  const std::vector<uint8_t> sealed = encode_seal(seal);
  CHECK(sealed.size() == seal_payload_bytes(2, 2));
  const std::optional<Seal> unsealed = decode_seal(sealed);
  REQUIRE(unsealed.has_value());
  CHECK(unsealed->end == seal.end);
  CHECK(unsealed->floor == seal.floor);
  CHECK(unsealed->rows == seal.rows);
  CHECK(unsealed->runs == seal.runs);
  CHECK(unsealed->term_before_low == Term{1});

  for (const std::vector<uint8_t>& good : {vote, truncation, snapshot, sealed}) {
    std::vector<uint8_t> longer = good;
    longer.push_back(0);
    const ByteView shorter = ByteView(good).first(good.size() - 1);
    for (const ByteView bad : {ByteView(longer), shorter, ByteView()}) {
      CHECK((good != vote || !decode_vote(bad)));
      CHECK((good != truncation || !decode_truncation(bad)));
      CHECK((good != snapshot || !decode_snapshot(bad)));
      CHECK((good != sealed || !decode_seal(bad)));
    }
  }
}

TEST_CASE("trailer: valid only for its own segment and file size") {
  SegmentTrailerBytes bytes;
  encode_trailer(8193, 9000, 42, bytes);
  CHECK(!decode_trailer(bytes, 9000, 42).has_value());  // offsets are multiples of 8
  encode_trailer(8192, 9000, 42, bytes);
  CHECK(decode_trailer(bytes, 9000, 42) == 8192);
  CHECK(!decode_trailer(bytes, 9008, 42).has_value());
  CHECK(!decode_trailer(bytes, 9000, 43).has_value());
  for (size_t at = 0; at < bytes.size(); ++at) {
    bytes[at] ^= 1;
    CHECK(!decode_trailer(bytes, 9000, 42).has_value());
    bytes[at] ^= 1;
  }
}

TEST_CASE("file names: sorted as numbered, and nothing else is one") {
  CHECK(segment_file_name(7, LogPosition{12345678}) == "0000000007-00000000000012345678.seg");
  const auto parsed = parse_segment_file_name("0000000007-00000000000012345678.seg");
  REQUIRE(parsed.has_value());
  CHECK(parsed->sequence == 7);
  CHECK(parsed->first == LogPosition{12345678});
  CHECK(spare_file_name(3) == "spare-3.seg");
  CHECK(parse_spare_file_name("spare-3.seg") == 3);
  for (const char* name :
       {"", "LOCK", "spare-.seg", "0000000007.seg", "000000000a-00000000000012345678.seg",
        "0000000007-00000000000012345678.seg~", "0000000007_00000000000012345678.seg"}) {
    CHECK_MESSAGE(!parse_segment_file_name(name), name);
    CHECK_MESSAGE(!parse_spare_file_name(name), name);
  }
  CHECK(!parse_segment_file_name("spare-3.seg"));
  CHECK(!parse_spare_file_name("spare-3x.seg"));
}

}  // namespace tidemark::log
