// One life of a log, with everything that it does to files, in which the k-th call fails: for every
// k, by EIO and by ENOSPC, once and from then on, followed by the death of the process alone or by
// a power failure. Afterwards, on a good disk, all that was acknowledged is there.
//
// A run that stops after the failure is over; one that can go on goes on to the end of its life.
#include <cerrno>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "log/verify.h"
#include "tests/support/log_harness.h"
#include "tests/support/log_model.h"

namespace tidemark::log {

namespace {

const std::map<SimCall, std::string> kNames = {{SimCall::kOpen, "open"},
                                               {SimCall::kRead, "read"},
                                               {SimCall::kWrite, "write"},
                                               {SimCall::kSync, "sync"},
                                               {SimCall::kAllocate, "allocate"},
                                               {SimCall::kTruncate, "truncate"},
                                               {SimCall::kRename, "rename"},
                                               {SimCall::kRemove, "remove"},
                                               {SimCall::kSyncDirectory, "sync of the directory"},
                                               {SimCall::kList, "list"},
                                               {SimCall::kSize, "size"}};
const std::set<SimCall> kEveryCall = {SimCall::kOpen,   SimCall::kRead,     SimCall::kWrite,
                                      SimCall::kSync,   SimCall::kAllocate, SimCall::kTruncate,
                                      SimCall::kRename, SimCall::kRemove,   SimCall::kSyncDirectory,
                                      SimCall::kList,   SimCall::kSize};
// Those that may have to take space, of a file or of a directory.
const std::set<SimCall> kTakesSpace = {SimCall::kOpen,         SimCall::kWrite,    SimCall::kSync,
                                       SimCall::kAllocate,     SimCall::kTruncate, SimCall::kRename,
                                       SimCall::kSyncDirectory};
const std::set<SimCall> kAllocates = {SimCall::kAllocate};

struct Failure {
  std::string name;
  std::set<SimCall> kinds = {};
  int error = 0;
  bool sticky = false;
};

enum class Death { kProcess, kPower };

class Life {
 public:
  // The seed decides what a power failure leaves.
  explicit Life(uint64_t seed) : harness_(seed, 16 * limits::kKiB) {}

  SimFileSystem& fs() { return harness_.fs; }

  // Ends early when the log cannot be opened or has failed.
  void live();
  // What holds on the bad disk; then the disk is good, the process dies, and all is there.
  void die_and_judge(Death death);

  // It got to its end.
  [[nodiscard]] bool complete() const { return complete_; }

  [[nodiscard]] bool failed() const { return failed_; }

  // The one that it did not survive, or the last one.
  [[nodiscard]] std::string last_step() const { return last_step_; }

 private:
  struct Step {
    std::string name;
    std::function<void(Life&)> run;
  };

  static const std::vector<Step>& steps();

  Log& log() { return *harness_.log; }

  [[nodiscard]] bool alive() const {
    return harness_.log != nullptr && harness_.log->failure().ok();
  }

  void run_jobs();
  void issue(Operation operation);
  Log::Completion completion();
  void append(size_t bytes);
  void append_segments(size_t count);
  void vote();
  void truncate(size_t count);
  void cover();
  void drop();
  void adopt();
  void sync();
  void read();
  void open();
  void reopen();
  void take_over();
  void check_named(const Status& status);
  void check_silent();
  void check_same();

  LogHarness harness_;
  Random random_{7};
  Model base_;                    // when the log was opened, and everything acknowledged since
  std::deque<Operation> issued_;  // not acknowledged
  Model now_;
  Term term_{1};
  LogPosition drop_limit_;
  uint64_t acknowledged_ = 0;
  uint64_t syncs_done_ = 0;
  bool complete_ = false;
  bool failed_ = false;
  std::string last_step_;
};

// Everything that a log does to files.
const std::vector<Life::Step>& Life::steps() {
  static const std::vector<Step> all = {
      {"new", [](Life& life) { life.open(); }},
      {"first entries",
       [](Life& life) {
         life.append(100);
         life.append(0);
         life.append(3'000);
       }},
      {"vote", &Life::vote},
      {"roll", [](Life& life) { life.append_segments(2); }},
      {"truncate", [](Life& life) { life.truncate(3); }},
      {"write over",
       [](Life& life) {
         life.append(1'000);
         life.append(1'000);
       }},
      {"snapshot", &Life::cover},
      {"read", &Life::read},
      {"sync", &Life::sync},
      {"roll on", [](Life& life) { life.append_segments(3); }},
      {"second snapshot", &Life::cover},
      // Some files become spare ones, the rest is removed.
      {"drop", &Life::drop},
      {"recycle", [](Life& life) { life.append_segments(2); }},
      {"reopen", &Life::reopen},
      {"vote again", &Life::vote},
      {"larger than a segment",
       [](Life& life) {
         life.append(20'000);
         life.append(500);
       }},
      // Into a segment that is sealed.
      {"truncate far", [](Life& life) { life.truncate(18); }},
      {"roll again", [](Life& life) { life.append_segments(1); }},
      {"second reopen", &Life::reopen},
      {"read all", &Life::read},
      {"snapshot from elsewhere", &Life::adopt},
      {"drop what it replaced", &Life::drop},
      {"last entries",
       [](Life& life) {
         life.append(200);
         life.append(2'000);
       }},
      {"last reopen", &Life::reopen},
  };
  return all;
}

void Life::live() {
  for (const Step& step : steps()) {
    CAPTURE(step.name);
    last_step_ = step.name;
    step.run(*this);
    if (alive()) {
      run_jobs();
    }
    if (!alive()) {
      failed_ = true;
      if (harness_.log != nullptr) {
        check_named(log().failure());
        check_silent();
      }
      return;
    }
  }
  complete_ = true;
}

// Until nothing is left to do, or only what waits for space.
void Life::run_jobs() {
  for (int i = 0; i < 3 && alive(); ++i) {
    harness_.disk.run_all();
    harness_.clock.advance_ms(10);
    log().tick(harness_.clock.monotonic());
    harness_.disk.run_all();
  }
}

void Life::issue(Operation operation) {
  operation.apply_to(now_);
  issued_.push_back(std::move(operation));
}

Log::Completion Life::completion() {
  return [this] {
    REQUIRE(!issued_.empty());
    CHECK(harness_.log->failure().ok());
    issued_.front().apply_to(base_);
    issued_.pop_front();
    ++acknowledged_;
  };
}

void Life::append(size_t bytes) {
  if (!alive() || !log().has_room(bytes)) {
    return;
  }
  Operation operation;
  operation.entry.payload = random_payload(random_, bytes);
  operation.entry.info = {EntryKind::kCommand, term_, now_.last_index + 1, now_.next,
                          static_cast<uint32_t>(bytes)};
  const EntryInfo info = operation.entry.info;
  const SharedBytes payload = operation.entry.payload;
  issue(std::move(operation));
  REQUIRE(log().append(info.kind, info.term, info.index, payload, completion()) == info.position);
}

// Groups of two entries until so many segments were begun.
void Life::append_segments(size_t count) {
  const size_t wanted = alive() ? log().segments().size() + count : 0;
  for (int i = 0; i < 60 && alive() && log().segments().size() < wanted; ++i) {
    append(1'000);
    append(700);
    run_jobs();
  }
}

void Life::vote() {
  Operation operation;
  operation.kind = Operation::Kind::kVote;
  operation.vote = {++term_, NodeId{term_.value() % 3}};
  const Vote voted = operation.vote;
  issue(std::move(operation));
  log().append_vote(voted, completion());
}

void Life::truncate(size_t count) {
  const LogIndex covered = now_.snapshot ? now_.snapshot->index : LogIndex{0};
  const ModelEntry* first = nullptr;
  for (auto at = now_.entries.rbegin(); at != now_.entries.rend() && count > 0; ++at, --count) {
    if (at->info.index > covered && at->info.position >= log().first_position()) {
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
  log().truncate_suffix(index, position, completion());
}

// A snapshot of what is durable, but for the last entries.
void Life::cover() {
  if (base_.entries.size() < 24) {
    return;
  }
  const ModelEntry& entry = base_.entries[base_.entries.size() - 20];
  Operation operation;
  operation.kind = Operation::Kind::kSnapshot;
  operation.manifest =
      manifest_at(entry.info.index, entry.info.position + entry_bytes(entry.payload.size()));
  const SnapshotManifest copy = operation.manifest;
  issue(std::move(operation));
  log().append_snapshot(copy, completion());
}

void Life::drop() {
  if (base_.snapshot) {
    drop_limit_ = std::max(drop_limit_, base_.snapshot->next_position);
    log().drop_prefix(base_.snapshot->next_position);
  }
}

// It replaces all that is stored.
void Life::adopt() {
  Operation operation;
  operation.kind = Operation::Kind::kSnapshot;
  operation.manifest = manifest_at(now_.last_index + 100, now_.next + 8'000);
  operation.manifest.term = term_;
  const SnapshotManifest copy = operation.manifest;
  issue(std::move(operation));
  log().append_snapshot(copy, completion());
}

void Life::sync() {
  log().sync([this] { ++syncs_done_; });
}

// A read that fails says so, and harms nobody.
void Life::read() {
  for (const ModelEntry& entry : base_.entries) {
    if (entry.info.position < log().first_position()) {
      continue;
    }
    const Result<SharedBytes> payload = log().read_payload(entry.info);
    if (payload.ok()) {
      CHECK(as_text(payload->view()) == as_text(entry.payload.view()));
    } else {
      check_named(payload.error());
    }
    if (entry.payload.size() > 0) {
      const Result<ReadPlan> plan =
          log().locate(entry.info.position + kEntryHeaderBytes, entry.payload.size());
      REQUIRE_MESSAGE(plan.ok(), plan.error().to_string());
      std::vector<uint8_t> bytes(plan->size());
      const Status status = plan->read(bytes);
      if (!status.ok()) {
        check_named(status);
      }
    }
  }
  CHECK(alive());
}

void Life::open() {
  if (!harness_.open()) {
    check_named(harness_.open_status);
  }
}

// The process ends without a word, and another one begins.
void Life::reopen() {
  harness_.close();
  open();
  if (harness_.log != nullptr) {
    take_over();
  }
}

// What was acknowledged is there; of the rest, some first part. A log that cannot be read is no
// use.
void Life::take_over() {
  const Result<std::vector<EntryInfo>> found = log().entries_from(log().first_position());
  if (!found.ok()) {
    check_named(found.error());
    harness_.close();
    return;
  }
  while (!matches(log(), *found, base_)) {
    REQUIRE_MESSAGE(!issued_.empty(), "the log is in no state that it was ever in");
    issued_.front().apply_to(base_);
    issued_.pop_front();
  }
  issued_.clear();
  now_ = base_;
}

void Life::check_named(const Status& status) {
  CAPTURE(status.to_string());
  CHECK((status.code() == ErrorCode::kIoError || status.code() == ErrorCode::kDiskFull));
  CHECK(status.to_string().find("log") != std::string::npos);
  CHECK(status.to_string().find(": injected") != std::string::npos);
}

// Nothing is tried any more, and nothing more is acknowledged.
void Life::check_silent() {
  const auto changes = [&] {
    uint64_t sum = 0;
    for (const SimCall call :
         {SimCall::kOpen, SimCall::kWrite, SimCall::kSync, SimCall::kAllocate, SimCall::kTruncate,
          SimCall::kRename, SimCall::kRemove, SimCall::kSyncDirectory}) {
      sum += fs().calls(call);
    }
    return sum + fs().failures();
  };
  harness_.disk.run_all();  // what was under way
  const uint64_t calls = changes();
  const uint64_t acknowledged = acknowledged_;
  CHECK_FALSE(log().has_room(100));
  Log& dead = log();
  dead.append_vote({++term_, NodeId{1}}, [this] { ++acknowledged_; });
  dead.sync([this] { ++acknowledged_; });
  for (int i = 0; i < 5; ++i) {
    harness_.clock.advance_ms(1'000);
    dead.tick(harness_.clock.monotonic());
    harness_.disk.run_all();
  }
  CHECK(changes() == calls);
  CHECK(acknowledged_ == acknowledged);
}

void Life::die_and_judge(Death death) {
  CHECK(fs().syncs_repeated() == 0);
  fs().heal();
  if (alive()) {
    // What waited for space gets it.
    for (int i = 0; i < 20; ++i) {
      harness_.clock.advance_ms(200);
      run_jobs();
    }
    REQUIRE_MESSAGE(alive(), log().failure().to_string());
    CHECK(issued_.empty());
  }
  death == Death::kProcess ? harness_.close() : harness_.crash();
  REQUIRE_MESSAGE(harness_.open(), harness_.open_status.to_string());
  // Nothing is cut without a word.
  CHECK((harness_.report.torn_bytes_cut == 0 || !harness_.report.notes.empty()));
  take_over();
  REQUIRE(alive());
  check_same();
  // It goes on from there, and what it calls durable is so.
  append(1'000);
  run_jobs();
  REQUIRE(issued_.empty());
  harness_.crash();
  REQUIRE_MESSAGE(harness_.open(), harness_.open_status.to_string());
  CHECK(harness_.report.torn_bytes_cut == 0);
  check_same();
}

void Life::check_same() {
  REQUIRE(matches(log(), base_));
  CHECK(log().first_position() <= std::max(drop_limit_, base_.floor));
  for (const ModelEntry& entry : base_.entries) {
    if (entry.info.position >= log().first_position()) {
      const Result<SharedBytes> payload = log().read_payload(entry.info);
      REQUIRE_MESSAGE(payload.ok(), payload.error().to_string());
      REQUIRE(as_text(payload->view()) == as_text(entry.payload.view()));
    }
  }
  const Result<LogVerification> verified = verify_log(fs(), "log");
  REQUIRE(verified.ok());
  for (const LogFinding& finding : verified->findings) {
    INFO(finding.file, " ", finding.offset, " ", finding.what);
    CHECK(finding.kind == LogFinding::Kind::kNote);
  }
}

// Fails the k-th call for each k until there is no such call; gives how many there were.
uint64_t fail_each(const Failure& failure, Death death, uint64_t& stopped) {
  for (uint64_t k = 1;; ++k) {
    CAPTURE(k);
    Life life(k);
    life.fs().fail_any_at(failure.kinds, k, failure.error, failure.sticky);
    life.live();
    if (life.fs().failures() == 0) {
      CHECK(life.complete());
      return k - 1;
    }
    // Where there is nothing yet, a log that cannot be made is refused.
    stopped += life.failed() && life.last_step() != "new" ? 1U : 0U;
    CAPTURE(life.last_step());
    life.die_and_judge(death);
  }
}

}  // namespace

TEST_CASE("a life of a log without failures does everything that it does to files") {
  Life life(1);
  life.live();
  REQUIRE(life.complete());
  std::string counts;
  for (const auto& [call, name] : kNames) {
    CAPTURE(name);
    CHECK(life.fs().calls(call) > 0);
    counts += (counts.empty() ? "" : ", ") + name + " " + std::to_string(life.fs().calls(call));
  }
  MESSAGE("calls: " << counts);
  life.die_and_judge(Death::kPower);
}

TEST_CASE("log: whichever call fails, what was acknowledged is there") {
  const std::vector<Failure> failures = {
      {"EIO once", kEveryCall, EIO, false},
      {"EIO for good", kEveryCall, EIO, true},
      {"ENOSPC once", kTakesSpace, ENOSPC, false},
      {"ENOSPC for good", kTakesSpace, ENOSPC, true},
  };
  for (const Failure& failure : failures) {
    for (const Death death : {Death::kProcess, Death::kPower}) {
      CAPTURE(failure.name);
      CAPTURE(static_cast<int>(death));
      uint64_t stopped = 0;
      const uint64_t count = fail_each(failure, death, stopped);
      const std::string who = death == Death::kPower ? "power" : "process";
      MESSAGE(failure.name << ", then the " << who << " fails: " << count << " calls, " << stopped
                           << " stopped the log");
      CHECK(count > 200);
      CHECK(stopped > 0);
    }
  }
}

TEST_CASE("log: a disk that is full for a while does not stop it") {
  for (const bool sticky : {false, true}) {
    uint64_t stopped = 0;
    const Failure failure{"full", kAllocates, ENOSPC, sticky};
    const uint64_t count = fail_each(failure, Death::kPower, stopped);
    const std::string how = sticky ? "for good" : "once";
    MESSAGE("full " << how << ": " << count << " calls");
    CHECK(count > 5);
    CHECK(stopped == 0);
  }
}

}  // namespace tidemark::log
