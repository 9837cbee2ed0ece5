// The log against a vector: random operations, reopened and crashed at random.
#include "tests/support/log_model.h"

#include <deque>

#include <doctest/doctest.h>

#include "log/verify.h"
#include "tests/support/log_harness.h"

namespace tidemark::log {

namespace {

class ModelTest {
 public:
  ModelTest(uint64_t seed, uint64_t segment_bytes)
      : random_(seed), same_size_(seed % 2 == 0), harness_(seed, segment_bytes) {
    REQUIRE(harness_.open());
  }

  void step();
  void crash_and_check();
  void reopen_and_check();
  void check_same();

  LogHarness& harness() { return harness_; }

  uint64_t crashes = 0;
  uint64_t entries_checked = 0;

 private:
  void append();
  void snapshot();
  void truncate();
  void issue(Operation operation);
  Log::Completion completion();
  size_t payload_size();

  Random random_;
  bool same_size_;
  LogHarness harness_;
  Model base_;  // as it was when the log was opened, and everything completed since
  std::deque<Operation> issued_;  // not completed, in order
  Model now_;                     // base_ and all of issued_
  Term term_{1};
  LogPosition drop_limit_;
};

Log::Completion ModelTest::completion() {
  return [this] {
    REQUIRE(!issued_.empty());
    issued_.front().apply_to(base_);
    issued_.pop_front();
  };
}

size_t ModelTest::payload_size() {
  if (same_size_) {
    // What is left of a lost write then fits exactly behind what is written in its place.
    return 1000;
  }
  switch (random_.below(8)) {
    case 0:
      return 0;
    case 1:
      return random_.between(1, 16);
    case 2:
      return random_.between(4000, 12000);
    default:
      return random_.between(20, 900);
  }
}

void ModelTest::issue(Operation operation) {
  operation.apply_to(now_);
  issued_.push_back(std::move(operation));
}

void ModelTest::append() {
  const size_t size = payload_size();
  if (!harness_.log->has_room(size)) {
    return;
  }
  if (random_.chance(1, 30)) {
    ++term_;
  }
  Operation operation;
  operation.entry.payload = random_payload(random_, size);
  const auto kind = static_cast<EntryKind>(random_.between(1, 3));
  operation.entry.info = {kind, term_, now_.last_index + 1, now_.next, static_cast<uint32_t>(size)};
  const EntryInfo info = operation.entry.info;
  const SharedBytes payload = operation.entry.payload;
  issue(std::move(operation));
  REQUIRE(harness_.log->append(kind, info.term, info.index, payload, completion()) ==
          info.position);
}

void ModelTest::snapshot() {
  Operation operation;
  operation.kind = Operation::Kind::kSnapshot;
  SnapshotManifest& manifest = operation.manifest;
  if (random_.chance(1, 12)) {
    // From elsewhere: the log goes on behind it, at a position that has nothing to do with ours.
    manifest.index = now_.last_index + random_.between(1, 50);
    manifest.term = term_;
    manifest.next_position =
        LogPosition{(now_.next.value() + random_.below(100'000)) & ~uint64_t{7}};
  } else if (base_.entries.empty()) {
    return;
  } else {
    // Only what is durable is ever covered by a checkpoint.
    const ModelEntry& entry = base_.entries[random_.below(base_.entries.size())];
    if (now_.last_index < entry.info.index || now_.floor != base_.floor ||
        (now_.snapshot && now_.snapshot->index > entry.info.index)) {
      return;
    }
    manifest.index = entry.info.index;
    manifest.term = entry.info.term;
    manifest.next_position = entry.info.position + entry_bytes(entry.payload.size());
  }
  manifest.configuration_index = LogIndex{random_.below(100)};
  manifest.configuration.assign(random_.below(40), uint8_t{0x5A});
  manifest.data.assign(random_.below(200), static_cast<uint8_t>(random_.next()));
  const SnapshotManifest copy = manifest;
  issue(std::move(operation));
  harness_.log->append_snapshot(copy, completion());
}

void ModelTest::truncate() {
  const LogIndex covered = now_.snapshot ? now_.snapshot->index : LogIndex{0};
  size_t count = random_.below(random_.chance(1, 4) ? 200 : 6) + 1;
  const ModelEntry* first = nullptr;
  for (auto at = now_.entries.rbegin(); at != now_.entries.rend() && count > 0; ++at, --count) {
    if (at->info.index > covered && at->info.position >= harness_.log->first_position()) {
      first = &*at;
    }
  }
  if (first == nullptr) {
    return;
  }
  Operation operation;
  operation.kind = Operation::Kind::kTruncate;
  operation.index = first->info.index;
  operation.position = first->info.position;
  const LogIndex index = operation.index;
  const LogPosition position = operation.position;
  issue(std::move(operation));
  harness_.log->truncate_suffix(index, position, completion());
}

void ModelTest::step() {
  Log& log = *harness_.log;
  switch (random_.below(40)) {
    case 0: {
      Operation operation;
      operation.kind = Operation::Kind::kVote;
      operation.vote = {++term_, NodeId{random_.below(4)}};
      const Vote vote = operation.vote;
      issue(std::move(operation));
      log.append_vote(vote, completion());
      break;
    }
    case 1:
      snapshot();
      break;
    case 2:
      truncate();
      break;
    case 3:
      if (base_.snapshot && now_.snapshot && random_.chance(1, 2)) {
        drop_limit_ = std::max(drop_limit_, base_.snapshot->next_position);
        log.drop_prefix(base_.snapshot->next_position);
      }
      break;
    case 4:
      harness_.clock.advance_ms(10);
      log.tick(harness_.clock.monotonic());
      break;
    default:
      append();
      break;
  }
  for (uint64_t jobs = random_.below(4); jobs > 0; --jobs) {
    harness_.disk.run_one();
  }
  REQUIRE(log.failure().ok());
  REQUIRE(log.next_position() == now_.next);
}

// The log is what base_ says: reads everything.
void ModelTest::check_same() {
  Log& log = *harness_.log;
  REQUIRE(matches(log, base_));
  // Dropped at most what was asked for, and never what is not covered.
  CHECK(log.first_position() <= std::max(drop_limit_, base_.floor));
  CHECK(log.durable_position() == base_.next);
  for (const ModelEntry& entry : base_.entries) {
    if (entry.info.position < log.first_position()) {
      continue;
    }
    ++entries_checked;
    const Result<SharedBytes> payload = log.read_payload(entry.info);
    REQUIRE_MESSAGE(payload.ok(), payload.error().to_string());
    REQUIRE(as_text(payload->view()) == as_text(entry.payload.view()));
    const Result<ReadPlan> plan =
        log.locate(entry.info.position + kEntryHeaderBytes, entry.payload.size());
    if (entry.payload.size() > 0) {
      REQUIRE_MESSAGE(plan.ok(), plan.error().to_string());
      std::vector<uint8_t> bytes(plan->size());
      REQUIRE(plan->read(bytes).ok());
      REQUIRE(as_text(bytes) == as_text(entry.payload.view()));
    }
  }
  const Result<LogVerification> verified = verify_log(harness_.fs, "log");
  REQUIRE(verified.ok());
  for (const LogFinding& finding : verified->findings) {
    // A recycled file may hold old bytes behind the end; nothing else is to be found after
    // recovery.
    INFO(finding.file, " ", finding.offset, " ", finding.what);
    CHECK(finding.kind == LogFinding::Kind::kNote);
  }
  CHECK(verified->end == log.next_position());
}

void ModelTest::reopen_and_check() {
  harness_.disk.run_all();
  harness_.settle();
  REQUIRE(issued_.empty());
  const LogPosition verify_from{random_.chance(1, 2) ? 0 : random_.below(base_.next.value() + 1)};
  REQUIRE_MESSAGE(harness_.open(verify_from), harness_.open_status.to_string());
  CHECK(harness_.report.torn_bytes_cut == 0);
  check_same();
  now_ = base_;
}

// What was acknowledged is there; of the rest, some first part.
void ModelTest::crash_and_check() {
  ++crashes;
  // In the middle of a job, and perhaps of the recovery after it.
  harness_.fs.cut_power_at(random_.between(1, 12));
  harness_.disk.run_all();
  harness_.crash();
  const LogPosition verify_from{random_.chance(1, 2) ? 0 : random_.below(base_.next.value() + 1)};
  while (random_.chance(1, 3)) {
    harness_.fs.cut_power_at(random_.between(1, 5));
    if (harness_.open(verify_from)) {
      harness_.disk.run_all();
    } else {
      REQUIRE_MESSAGE(harness_.open_status.code() == ErrorCode::kIoError,
                      harness_.open_status.to_string());
    }
    harness_.crash();
  }
  REQUIRE_MESSAGE(harness_.open(verify_from), harness_.open_status.to_string());
  while (!matches(*harness_.log, base_)) {
    REQUIRE_MESSAGE(!issued_.empty(), "the log is in no state that it was ever in");
    issued_.front().apply_to(base_);
    issued_.pop_front();
  }
  issued_.clear();
  check_same();
  now_ = base_;
}

}  // namespace

TEST_CASE("log equals a vector: random operations, reopened cleanly") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    ModelTest test(seed, seed % 3 == 0 ? 256 * limits::kKiB : 32 * limits::kKiB);
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 150; ++i) {
        test.step();
      }
      test.reopen_and_check();
    }
    CHECK(test.entries_checked > 0);
  }
}

TEST_CASE("log after a power failure: what was acknowledged is there") {
  uint64_t crashes = 0;
  uint64_t entries = 0;
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    CAPTURE(seed);
    ModelTest test(seed * 1001, seed % 4 == 0 ? 256 * limits::kKiB : 24 * limits::kKiB);
    for (int round = 0; round < 14; ++round) {
      CAPTURE(round);
      const uint64_t steps = 5 + test.harness().random.below(70);
      for (uint64_t i = 0; i < steps; ++i) {
        test.step();
      }
      test.crash_and_check();
    }
    crashes += test.crashes;
    entries += test.entries_checked;
  }
  CHECK(crashes == 25 * 14);
  CHECK(entries > 1000);
}

}  // namespace tidemark::log
