// One log on a simulated disk, with jobs that run when the test says so. Shared by the tests of
// log/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/executor.h"
#include "log/base/random.h"
#include "log/file_names.h"
#include "log/log.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace tidemark::log {

inline SharedBytes random_payload(Random& random, size_t size) {
  Buffer buffer(size);
  for (uint8_t& byte : buffer.mutable_view()) {
    byte = static_cast<uint8_t>(random.next());
  }
  return SharedBytes(std::move(buffer));
}

struct LogHarness {
  explicit LogHarness(uint64_t seed = 1, uint64_t segment_bytes = 64 * limits::kKiB) : fs(seed) {
    options.directory = "log";
    options.cluster_id = 7;
    options.shard = ShardId{3};
    options.segment_bytes = segment_bytes;
    options.incarnation_seed = seed;
    REQUIRE(fs.create_directories("log").ok());
  }

  // Keeps the status of a failed open.
  [[nodiscard]] bool open(LogPosition verify_from = LogPosition{}) {
    close();
    report = RecoveryReport();
    Result<std::unique_ptr<Log>> opened = Log::open(fs, disk, clock, options, verify_from, &report);
    open_status = opened.error();
    if (opened) {
      log = std::move(opened).value();
    }
    return opened.ok();
  }

  // Without running what is queued, as a process that is killed.
  void close() {
    log.reset();
    disk.run_all();  // the jobs of a log that is gone do nothing on finish(); what they write is
                     // not waited for
  }

  void crash() {
    log.reset();
    disk = InlineExecutor();
    fs.crash();
  }

  // Ticks and runs jobs until nothing is left to do.
  void settle() {
    disk.run_all();
    log->tick(clock.monotonic());
    disk.run_all();
  }

  LogPosition append(size_t payload_bytes, Term term = Term{1}) {
    const SharedBytes payload = random_payload(random, payload_bytes);
    payloads.push_back(payload);
    return log->append(EntryKind::kCommand, term, ++last_index, payload, [this] { ++completed; });
  }

  SimFileSystem fs;
  InlineExecutor disk;
  SimClock clock;
  Random random{42};
  LogOptions options;
  RecoveryReport report;
  Status open_status;
  LogIndex last_index;
  std::vector<SharedBytes> payloads;
  uint64_t completed = 0;
  std::unique_ptr<Log> log;
};

inline SnapshotManifest manifest_at(LogIndex index, LogPosition next) {
  SnapshotManifest manifest;
  manifest.index = index;
  manifest.term = Term{1};
  manifest.next_position = next;
  manifest.configuration = {1, 2, 3};
  manifest.data = {4, 5};
  return manifest;
}

// Appends entries of 1000 bytes until `count` more segments were started; runs everything.
inline void fill_segments(LogHarness& harness, size_t count) {
  const size_t wanted = harness.log->segments().size() + count;
  while (harness.log->segments().size() < wanted) {
    harness.append(1000);
    harness.settle();
  }
}

inline void check_contents(LogHarness& harness, LogPosition from = LogPosition{}) {
  const Result<std::vector<EntryInfo>> entries = harness.log->entries_from(from);
  REQUIRE_MESSAGE(entries.ok(), entries.error().to_string());
  for (const EntryInfo& entry : *entries) {
    CAPTURE(entry.index.value());
    const Result<SharedBytes> payload = harness.log->read_payload(entry);
    REQUIRE_MESSAGE(payload.ok(), payload.error().to_string());
    CHECK(as_text(payload->view()) == as_text(harness.payloads.at(entry.index.value() - 1).view()));
  }
}

inline std::string only_segment(LogHarness& harness) {
  const Result<std::vector<SegmentFileName>> files = list_segment_files(harness.fs, "log");
  REQUIRE(files.ok());
  REQUIRE(files->size() == 1);
  return "log/" + files->front().name;
}

}  // namespace tidemark::log
