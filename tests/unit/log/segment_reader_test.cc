#include "log/segment_reader.h"

#include <doctest/doctest.h>

#include "log/file_names.h"
#include "log/verify.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

namespace {

std::string describe(const LogVerification& found) {
  std::string text;
  for (const LogFinding& finding : found.findings) {
    text += finding.file + " offset " + std::to_string(finding.offset) + " position " +
            std::to_string(finding.position.value()) + ": " + finding.what + "\n";
  }
  return text;
}

// Three segments of entries of 1000 bytes, each written and synced for itself.
struct Written {
  Written() : harness(3, 16 * limits::kKiB) {
    REQUIRE(harness.open());
    while (harness.log->segments().size() < 3) {
      harness.append(1000);
      harness.settle();
    }
    harness.append(1000);
    harness.settle();
    harness.log->append_vote({Term{4}, NodeId{1}}, [] {});
    harness.settle();
    for (const Log::SegmentInfo& segment : harness.log->segments()) {
      firsts.push_back(segment.first);
    }
    end = harness.log->next_position();
    harness.close();
  }

  [[nodiscard]] std::string path(size_t i) const {
    return "log/" + segment_file_name(i + 1, firsts.at(i));
  }

  LogVerification verify() {
    Result<LogVerification> found = verify_log(harness.fs, "log");
    REQUIRE(found.ok());
    return std::move(found).value();
  }

  LogHarness harness;
  std::vector<LogPosition> firsts;
  LogPosition end;
};

}  // namespace

TEST_CASE("segment reader: every entry once, in order, with its payload") {
  Written written;
  uint64_t index = 0;
  uint64_t locals = 0;
  for (size_t i = 0; i < 3; ++i) {
    Result<SegmentReader> reader = SegmentReader::open(written.harness.fs, written.path(i));
    REQUIRE(reader.ok());
    CHECK(reader->header().first_position == written.firsts[i]);
    CHECK(reader->seal_offset().has_value() == (i < 2));
    SegmentEntry entry;
    while (reader->next(entry, LogPosition{UINT64_MAX}).value() == SegmentReader::Step::kEntry) {
      if (!is_replicated(entry.header().kind)) {
        ++locals;
        CHECK(entry.verified);
        continue;
      }
      CHECK(!entry.verified);
      CHECK(entry.info().index.value() == ++index);
      const Result<ByteView> payload = reader->payload(entry);
      REQUIRE(payload.ok());
      CHECK(as_text(*payload) == as_text(written.harness.payloads.at(index - 1).view()));
    }
  }
  CHECK(index == written.harness.payloads.size());
  CHECK(locals == 3);  // two seals and a vote
}

TEST_CASE("segment reader: goes on behind damage") {
  Written written;
  const uint64_t third = kSegmentHeaderBytes + 2 * entry_bytes(1000);
  for (const uint64_t at : {third + 3, third + 20, third + 500}) {
    CAPTURE(at);
    written.harness.fs.flip_bit(written.path(0), at, 2);
    Result<SegmentReader> reader = SegmentReader::open(written.harness.fs, written.path(0));
    REQUIRE(reader.ok());
    SegmentEntry entry;
    CHECK(reader->next(entry, LogPosition{}).value() == SegmentReader::Step::kEntry);
    CHECK(reader->next(entry, LogPosition{}).value() == SegmentReader::Step::kEntry);
    CHECK(reader->next(entry, LogPosition{}).value() == SegmentReader::Step::kDamaged);
    CHECK(reader->offset() == third);
    CHECK(!reader->damage().empty());
    CHECK(reader->find_next(entry).value());
    CHECK(entry.offset == third + entry_bytes(1000));
    CHECK(entry.verified);
    CHECK(reader->next(entry, LogPosition{}).value() == SegmentReader::Step::kEntry);
    written.harness.fs.flip_bit(written.path(0), at, 2);
  }
}

TEST_CASE("segment reader: a search through a payload full of entry-like bytes stays fast") {
  LogHarness harness(1, 8 * limits::kMiB);
  REQUIRE(harness.open());
  harness.settle();
  // Each 8 bytes look like the start of an entry with a payload of 2 MiB.
  Buffer payload(2 * limits::kMiB);
  for (size_t at = 0; at < payload.size(); at += 8) {
    const uint64_t word = (uint64_t{1} << 32) | (limits::kEntryPayloadBytesMax - at % 4096);
    std::memcpy(payload.data() + at, &word, sizeof word);
  }
  harness.log->append(EntryKind::kCommand, Term{1}, LogIndex{1}, SharedBytes(std::move(payload)),
                      [] {});
  harness.settle();
  harness.close();
  const std::string path = "log/" + segment_file_name(1, LogPosition{0});
  harness.fs.flip_bit(path, kSegmentHeaderBytes + 1'000'000, 0);
  REQUIRE(harness.open());
  CHECK(harness.log->next_position() == LogPosition{0});
  CHECK(harness.report.torn_bytes_cut == entry_bytes(2 * limits::kMiB));
}

TEST_CASE("verify: a good log has no findings, and nothing is written") {
  Written written;
  const uint64_t writes = written.harness.fs.calls(SimCall::kWrite);
  const LogVerification found = written.verify();
  CHECK_MESSAGE(found.findings.empty(), describe(found));
  CHECK(!found.damaged());
  CHECK(found.segments == 3);
  CHECK(found.sealed_segments == 2);
  CHECK(found.replicated_entries == written.harness.payloads.size());
  CHECK(found.local_entries == 3);
  CHECK(found.first == LogPosition{0});
  CHECK(found.end == written.end);
  CHECK(written.harness.fs.calls(SimCall::kWrite) == writes);
}

TEST_CASE("verify: every damaged place is listed once, wherever it lies") {
  Written written;
  const uint64_t third = kSegmentHeaderBytes + 2 * entry_bytes(1000);
  written.harness.fs.flip_bit(written.path(0), third + 100, 2);
  written.harness.fs.flip_bit(written.path(0), third + 3 * entry_bytes(1000) + 9, 2);
  written.harness.fs.flip_bit(written.path(1), kSegmentHeaderBytes + 60, 2);
  const LogVerification found = written.verify();
  REQUIRE_MESSAGE(found.findings.size() == 3, describe(found));
  CHECK(found.damaged());
  CHECK(found.findings[0].offset == third);
  CHECK(found.findings[0].position == LogPosition{2 * entry_bytes(1000)});
  CHECK(found.findings[1].offset == third + 3 * entry_bytes(1000));
  CHECK(found.findings[2].offset == kSegmentHeaderBytes);
  CHECK(found.findings[2].position == written.firsts[1]);
  CHECK(found.replicated_entries == written.harness.payloads.size() - 3);
  CHECK(found.end == written.end);
}

TEST_CASE("verify: damaged header, missing segment, torn tail, damaged trailer") {
  Written written;
  const std::vector<uint8_t> middle = written.harness.fs.content(written.path(1));
  written.harness.fs.flip_bit(written.path(1), 30, 1);
  LogVerification found = written.verify();
  REQUIRE_MESSAGE(found.findings.size() == 1, describe(found));
  CHECK(found.findings[0].what.find("header does not verify") != std::string::npos);
  written.harness.fs.flip_bit(written.path(1), 30, 1);

  REQUIRE(written.harness.fs.remove(written.path(1)).ok());
  found = written.verify();
  REQUIRE_MESSAGE(found.findings.size() == 1, describe(found));
  CHECK(found.findings[0].what == "segment 2 is missing");
  written.harness.fs.put(written.path(1), middle);

  written.harness.fs.flip_bit(written.path(1), middle.size() - 30, 1);
  found = written.verify();
  REQUIRE_MESSAGE(found.findings.size() == 1, describe(found));
  CHECK(found.findings[0].kind == LogFinding::Kind::kNote);
  CHECK(!found.damaged());
  written.harness.fs.flip_bit(written.path(1), middle.size() - 30, 1);

  // The vote is the last entry: nothing proves that it had been durable.
  std::vector<uint8_t> last = written.harness.fs.content(written.path(2));
  const uint64_t vote = kSegmentHeaderBytes + entry_bytes(1000) * 2;
  written.harness.fs.flip_bit(written.path(2), vote + kEntryHeaderBytes, 1);
  found = written.verify();
  REQUIRE_MESSAGE(found.findings.size() == 1, describe(found));
  CHECK(found.findings[0].kind == LogFinding::Kind::kTornTail);
  CHECK(found.findings[0].offset == vote);
  CHECK(!found.damaged());

  CHECK(verify_log(written.harness.fs, "nowhere").error().code() == ErrorCode::kNotFound);
}

}  // namespace tidemark::log
