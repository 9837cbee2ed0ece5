// The files tests/golden/segment_v1_*.bin, written once by an encoder that shares no code with ours
// (make_segment_v1.py beside them). They never change: a log that is on a disk today must be opened
// by every later version.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/file_names.h"
#include "log/segment_format.h"
#include "log/verify.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

namespace {

constexpr uint64_t kGoldenSeed = 12345;
const std::string kSealedName = segment_file_name(1, LogPosition{0});
const std::string kOpenName = segment_file_name(2, LogPosition{192});

std::vector<uint8_t> golden(const std::string& name) {
  const std::string path = "tests/golden/" + name;  // tests run in the root of the tree
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.is_open(), path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return {text.begin(), text.end()};
}

SharedBytes bytes_of(std::string_view text) { return SharedBytes(Buffer::copy_of(as_bytes(text))); }

SharedBytes large_payload() {
  Buffer buffer(12000);
  for (size_t i = 0; i < buffer.size(); ++i) {
    buffer.data()[i] = static_cast<uint8_t>(i * 7);
  }
  return SharedBytes(std::move(buffer));
}

SharedBytes configuration_payload() {
  Buffer buffer(24);
  for (size_t i = 0; i < buffer.size(); ++i) {
    buffer.data()[i] = static_cast<uint8_t>(i);
  }
  return SharedBytes(std::move(buffer));
}

struct GoldenLog : LogHarness {
  GoldenLog() : LogHarness(kGoldenSeed, 16 * limits::kKiB) {
    options.cluster_id = 0x0102030405060708;
    options.shard = ShardId{5};
  }
};

}  // namespace

TEST_CASE("golden segments, format 1: are read") {
  GoldenLog harness;
  harness.fs.put("log/" + kSealedName, golden("segment_v1_sealed.bin"));
  harness.fs.put("log/" + kOpenName, golden("segment_v1_open.bin"));
  const LogVerification verified = verify_log(harness.fs, "log").value();
  CHECK(verified.findings.empty());
  CHECK(verified.replicated_entries == 5);
  CHECK(verified.local_entries == 5);
  for (const uint64_t verify_from : {uint64_t{0}, uint64_t{192}}) {
    REQUIRE_MESSAGE(harness.open(LogPosition{verify_from}), harness.open_status.to_string());
    CHECK(harness.report.notes.empty());
    CHECK(harness.log->vote().term == Term{2});
    CHECK(harness.log->vote().voted_for == NodeId{1});
    REQUIRE(harness.log->snapshot().has_value());
    CHECK(harness.log->snapshot()->index == LogIndex{2});
    CHECK(harness.log->snapshot()->next_position == LogPosition{136});
    CHECK(harness.log->snapshot()->configuration == std::vector<uint8_t>{1, 2, 3});
    CHECK(as_text(harness.log->snapshot()->data) == "snap");
    const std::vector<EntryInfo> entries = harness.log->entries_from(LogPosition{0}).value();
    REQUIRE(entries.size() == 4);
    CHECK(entries[0].kind == EntryKind::kConfiguration);
    CHECK(entries[2].term == Term{3});
    CHECK(entries[2].position == LogPosition{136});
    CHECK(as_text(harness.log->read_payload(entries[1])->view()) == "hello, log!!!");
    CHECK(as_text(harness.log->read_payload(entries[2])->view()) == "again");
    CHECK(as_text(harness.log->read_payload(entries[3])->view()) ==
          as_text(large_payload().view()));
    CHECK(harness.log->next_position() == LogPosition{192 + entry_bytes(12000)});
  }
}

TEST_CASE("golden segments, format 1: the same log is written to the same bytes") {
  GoldenLog harness;
  REQUIRE(harness.open());
  Log& log = *harness.log;
  const auto settle = [&] { harness.settle(); };
  log.append(EntryKind::kConfiguration, Term{1}, LogIndex{1}, configuration_payload(), nullptr);
  settle();
  log.append_vote({Term{2}, NodeId{1}}, nullptr);
  settle();
  log.append(EntryKind::kCommand, Term{2}, LogIndex{2}, bytes_of("hello, log!!!"), nullptr);
  settle();
  log.append(EntryKind::kBarrier, Term{2}, LogIndex{3}, SharedBytes(), nullptr);
  settle();
  log.truncate_suffix(LogIndex{3}, LogPosition{136}, nullptr);
  settle();
  log.append(EntryKind::kCommand, Term{3}, LogIndex{3}, bytes_of("again"), nullptr);
  settle();
  SnapshotManifest manifest;
  manifest.index = LogIndex{2};
  manifest.term = Term{2};
  manifest.next_position = LogPosition{136};
  manifest.configuration_index = LogIndex{1};
  manifest.configuration = {1, 2, 3};
  manifest.data = {'s', 'n', 'a', 'p'};
  log.append_snapshot(manifest, nullptr);
  settle();
  log.append(EntryKind::kCommand, Term{3}, LogIndex{4}, large_payload(), nullptr);
  settle();
  CHECK(harness.fs.content("log/" + kSealedName) == golden("segment_v1_sealed.bin"));
  std::vector<uint8_t> open = golden("segment_v1_open.bin");
  const std::vector<uint8_t> found = harness.fs.content("log/" + kOpenName);
  REQUIRE(found.size() >= open.size());
  open.resize(found.size());
  CHECK(found == open);
}

}  // namespace tidemark::log
