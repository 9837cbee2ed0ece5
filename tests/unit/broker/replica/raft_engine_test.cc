#include "broker/replica/raft_engine.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/sim_file_system.h"
#include "tests/unit/broker/replica/replica_fixture.h"

namespace tidemark::replica {
namespace {

constexpr const char* kDirectory = "/shard";

std::unique_ptr<SimFileSystem> new_file_system(uint64_t seed = 1) {
  auto file_system = std::make_unique<SimFileSystem>(seed);
  REQUIRE(file_system->create_directories(kDirectory).ok());
  return file_system;
}

std::string random_payload(Random& random, uint64_t number) {
  std::string payload = std::to_string(number) + ":";
  payload.resize(payload.size() + random.below(random.chance(1, 50) ? 20'000 : 200),
                 static_cast<char>('a' + number % 26));
  return payload;
}

TEST_CASE("a single voter leads when start returns and applies what is on disk") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  CHECK(replica.engine->role() == Role::kLeader);
  REQUIRE(replica.machine.roles.size() == 1);
  CHECK(replica.machine.roles[0] == std::pair(Role::kLeader, replica.engine->term()));

  const LogIndex first = replica.propose("one");
  const LogIndex second = replica.propose("");
  CHECK(second == first + 1);
  replica.turns.run_all();
  CHECK(replica.machine.applied.empty());  // nothing is on disk yet
  replica.settle();
  CHECK(replica.machine.payloads() == std::vector<std::string>{"one", ""});
  CHECK(replica.machine.applied[0].index == first);
  CHECK(replica.machine.applied[1].index == second);
  CHECK(replica.machine.applied[0].term == replica.engine->term());
  CHECK(replica.engine->last_applied() == second);
  CHECK(replica.engine->failure().ok());
  replica.stop();
}

TEST_CASE("the position of an entry is where the log has it") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  const LogPosition before = replica.log->next_position();
  replica.propose("payload");
  replica.settle();
  REQUIRE(replica.machine.applied.size() == 1);
  CHECK(replica.machine.applied[0].position == before);
  const auto cached = replica.log->cached(before + log::kEntryHeaderBytes, 7);
  REQUIRE(cached.has_value());
  CHECK(as_text(cached->view()) == "payload");
  replica.stop();
}

TEST_CASE("every start is a new term, and everything is applied again") {
  auto file_system = new_file_system();
  Term last_term;
  std::vector<std::string> expected;
  for (int run = 0; run < 5; ++run) {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    CHECK(replica.engine->term() > last_term);
    last_term = replica.engine->term();
    CHECK(replica.machine.payloads() == expected);
    expected.push_back("run " + std::to_string(run));
    replica.propose(expected.back());
    replica.settle();
    replica.stop();
  }
}

TEST_CASE("what was checkpointed is not applied again") {
  auto file_system = new_file_system();
  Checkpoint checkpoint;
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    replica.propose("old");
    replica.settle();
    checkpoint = replica.checkpoint();
    replica.propose("new");
    replica.settle();
    replica.stop();
  }
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start(checkpoint).ok());
  CHECK(replica.machine.payloads() == std::vector<std::string>{"new"});
  CHECK(replica.engine->last_applied() == checkpoint.covered + 1);
  replica.stop();
}

TEST_CASE("proposals that are refused append nothing") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  const LogPosition before = replica.log->next_position();
  const auto too_large =
      replica.engine->propose(SharedBytes(Buffer(limits::kEntryPayloadBytesMax + 1)));
  CHECK(too_large.status().code() == ErrorCode::kTooLarge);
  CHECK(too_large.status().context() == "entry of 2097153 bytes; at most 2097152");
  CHECK(replica.log->next_position() == before);
  replica.engine->stop([] {});
  CHECK(replica.engine->propose(bytes_of("late")).status().code() == ErrorCode::kShuttingDown);
  replica.turns.run_all();
  replica.engine.reset();
}

TEST_CASE("the machine may propose while an entry is applied to it") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  replica.machine.on_apply = [&replica](const CommittedEntry& entry) {
    const size_t left = entry.payload.size();
    if (left > 0) {
      replica.propose(std::string(left - 1, 'x'));
      replica.propose("");
    }
  };
  replica.propose("xxxxx");
  replica.settle();
  CHECK(replica.machine.applied.size() == 11);
  replica.stop();
}

TEST_CASE("stop with appends under way applies nothing more and survives their completion") {
  for (const bool disk_first : {false, true}) {
    CAPTURE(disk_first);
    auto file_system = new_file_system();
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    replica.settle();
    for (int i = 0; i < 100; ++i) {
      replica.propose("pending " + std::to_string(i));
    }
    bool done = false;
    replica.engine->stop([&replica, &done] {
      replica.engine.reset();  // allowed in the callback
      done = true;
    });
    replica.machine.stopped = true;
    if (disk_first) {
      replica.disk.run_all();
    }
    replica.turns.run_all();
    CHECK(done);
    replica.disk.run_all();
    CHECK(replica.machine.applied.empty());
  }
}

TEST_CASE("an engine that is destroyed while it runs does nothing any more") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  replica.settle();
  for (uint32_t i = 0; i < limits::kRaftEntriesPerTrim + 1; ++i) {
    replica.propose("pending");
    if (i + 1 == limits::kRaftEntriesPerTrim) {
      replica.disk.run_all();  // but not the loop: libraft's snapshot is under way
    }
  }
  const size_t applied = replica.machine.applied.size();
  CHECK(applied == limits::kRaftEntriesPerTrim);
  replica.machine.stopped = true;
  replica.engine.reset();
  replica.turns.run_all();
  replica.disk.run_all();
  CHECK(replica.machine.applied.size() == applied);
}

TEST_CASE("after a storage failure nothing is acknowledged any more, and stop works") {
  auto file_system = new_file_system();
  std::vector<std::string> applied;
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    replica.propose("good");
    replica.settle();
    file_system->fail_at(SimCall::kSync, 1, true);
    replica.propose("bad");
    replica.settle();
    CHECK(replica.machine.payloads() == std::vector<std::string>{"good"});
    CHECK_FALSE(replica.engine->failure().ok());
    const auto refused = replica.engine->propose(bytes_of("worse"));
    CHECK(refused.status().code() == ErrorCode::kReadOnly);
    CHECK(refused.status().context() == replica.engine->failure().to_string());
    replica.clock.advance_ms(1000);
    replica.engine->tick(replica.clock.monotonic());
    replica.engine->checkpointed(replica.engine->last_applied(), LogPosition(0));
    replica.stop();
  }
  file_system->heal();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  REQUIRE_FALSE(replica.machine.applied.empty());
  CHECK(replica.machine.applied[0].payload == "good");
  replica.stop();
}

TEST_CASE("without space proposals are refused, with space they go on") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  replica.settle();
  file_system->set_capacity(file_system->used_bytes());
  const std::string payload(100'000, 'x');
  Status refused;
  uint64_t accepted = 0;
  for (; accepted < 10'000 && refused.ok(); ++accepted) {
    refused = replica.engine->propose(bytes_of(payload)).status();
    replica.settle();
  }
  CHECK(refused.code() == ErrorCode::kDiskFull);
  CHECK(replica.machine.applied.size() == accepted - 1);  // all that was accepted
  CHECK(replica.engine->failure().ok());
  file_system->set_capacity(UINT64_MAX);
  for (int i = 0; i < 200; ++i) {
    replica.clock.advance_ms(10);
    replica.log->tick(replica.clock.monotonic());
    replica.settle();
  }
  replica.propose(payload);
  replica.settle();
  CHECK(replica.machine.applied.size() == accepted);
  replica.stop();
}

TEST_CASE("without space a reserved proposal has the space that was kept for it") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  constexpr uint64_t kEnds = 100;
  const std::string end(200, 'e');
  replica.engine->reserve(kEnds * log::entry_bytes(end.size()));
  replica.settle();
  CHECK(replica.engine->reserve_kept());
  file_system->set_capacity(file_system->used_bytes());
  for (const size_t size : {100'000u, 1u}) {  // and then the rest
    while (replica.engine->propose(bytes_of(std::string(size, 'x'))).ok()) {
      replica.settle();
    }
  }
  CHECK(replica.engine->reserve_kept());
  const size_t before = replica.machine.applied.size();
  for (uint64_t i = 0; i < kEnds; ++i) {
    REQUIRE(replica.engine->propose(bytes_of(end), log::Room::kReserved).ok());
    replica.settle();
  }
  CHECK(replica.machine.applied.size() == before + kEnds);
  CHECK(!replica.engine->reserve_kept());
  CHECK(replica.engine->propose(bytes_of(end), log::Room::kReserved).status().code() ==
        ErrorCode::kDiskFull);
  replica.engine->reserve(0);
  CHECK(replica.engine->reserve_kept());
  replica.stop();
}

TEST_CASE("ticks keep a lone leader leading") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  const Term term = replica.engine->term();
  for (int i = 0; i < 1000; ++i) {
    replica.clock.advance_ms(10);
    replica.engine->tick(replica.clock.monotonic());
    replica.settle();
  }
  CHECK(replica.engine->role() == Role::kLeader);
  CHECK(replica.engine->term() == term);
  CHECK(replica.machine.roles.size() == 1);
  replica.stop();
}

TEST_CASE("a start that makes no sense is refused and says why") {
  auto file_system = new_file_system();
  const auto refuse = [&file_system](const RaftOptions& options, const Checkpoint& checkpoint,
                                     std::string_view text) {
    Replica replica(*file_system, kDirectory);
    const Status status = replica.start(checkpoint, options);
    INFO(status.to_string());
    CHECK(status.to_string().find(text) != std::string::npos);
    replica.settle();
    return status.code();
  };
  RaftOptions options = single_voter();
  options.initial_members.push_back({NodeId(2), "127.0.0.1:9471"});
  CHECK(refuse(options, {}, "a group of 2 members") == ErrorCode::kInvalidArgument);
  options = single_voter();
  options.node = NodeId(3);
  CHECK(refuse(options, {}, "do not include this node, 3") == ErrorCode::kInvalidArgument);
  options = single_voter();
  options.heartbeat_ms = 500;
  CHECK(refuse(options, {}, "heartbeat of 500 ms") == ErrorCode::kInvalidArgument);

  Checkpoint good;
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    replica.propose("entry");
    replica.settle();
    good = replica.checkpoint();
    replica.stop();
  }
  CHECK(refuse(single_voter(NodeId(2)), {}, "a group of node 1, not of node 2") ==
        ErrorCode::kInvalidArgument);
  CHECK(refuse(single_voter(), {good.covered + 1, good.next_position}, "the log ends at entry") ==
        ErrorCode::kCorrupted);
  CHECK(refuse(single_voter(), {good.covered, good.next_position + 8}, "belong to another log") ==
        ErrorCode::kCorrupted);
  Replica replica(*file_system, kDirectory);
  CHECK(replica.start(good).ok());
  replica.stop();
}

TEST_CASE("libraft's memory is bounded with and without checkpoints") {
  for (const bool with_checkpoints : {true, false}) {
    CAPTURE(with_checkpoints);
    auto file_system = new_file_system();
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    replica.settle();
    size_t resident_max = 0;
    const uint64_t count = with_checkpoints ? 200'000 : 50'000;
    for (uint64_t i = 1; i <= count; ++i) {
      replica.propose("0123456789");
      if (i % 100 == 0) {
        replica.settle();
        resident_max = std::max(resident_max, replica.engine->resident_entries());
        replica.machine.applied.erase(replica.machine.applied.begin(),
                                      replica.machine.applied.end() - 1);
      }
      if (with_checkpoints && i % 10'000 == 0) {
        const Checkpoint checkpoint = replica.checkpoint();
        replica.engine->checkpointed(checkpoint.covered, checkpoint.next_position);
        replica.settle();
      }
    }
    CHECK(replica.engine->last_applied().value() >= count);
    CHECK(resident_max <= 8192 + limits::kRaftEntriesPerTrim + 100);
    if (with_checkpoints) {
      CHECK(replica.log->first_position() > LogPosition(0));
      CHECK(replica.log->segments().size() <= 2);
    }
    replica.stop();
  }
}

TEST_CASE("the log keeps what the views refer to, however far the checkpoint is") {
  auto file_system = new_file_system();
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start().ok());
  replica.settle();
  const std::string payload(256 * 1024, 'x');
  while (replica.log->segments().size() < 6) {
    replica.propose(payload);
    replica.settle();
  }
  const Checkpoint all = replica.checkpoint();
  replica.engine->checkpointed(all.covered, LogPosition(0));
  replica.settle();
  CHECK(replica.log->segments().size() == 6);
  // A view lets go of more, without a new checkpoint.
  const LogPosition low = replica.log->segments()[2].first + 8;
  replica.engine->checkpointed(all.covered, low);
  replica.settle();
  CHECK(replica.log->segments().size() == 4);
  CHECK(replica.log->first_position() <= low);
  // No view refers to the log at all: it is kept from the checkpoint on.
  replica.propose(payload);
  replica.settle();
  replica.engine->checkpointed(all.covered, replica.log->next_position());
  replica.settle();
  CHECK(replica.log->first_position() <= all.next_position);
  CHECK(replica.log->segments().size() <= 2);
  replica.stop();
}

TEST_CASE("a checkpoint may be far behind what libraft has forgotten") {
  auto file_system = new_file_system();
  Checkpoint checkpoint;
  LogIndex last;
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    for (int i = 0; i < 30'000; ++i) {
      last = replica.propose(std::to_string(i));
      if (i % 50 == 0) {
        replica.settle();
      }
    }
    replica.settle();
    CHECK(replica.engine->resident_entries() < 15'000);
    const RecordingMachine::Applied& early = replica.machine.applied[1000];
    checkpoint = {early.index, early.position + log::entry_bytes(early.payload.size())};
    replica.engine->checkpointed(checkpoint.covered, checkpoint.next_position);
    replica.settle();
    replica.stop();
  }
  Replica replica(*file_system, kDirectory);
  REQUIRE(replica.start(checkpoint).ok());
  REQUIRE(replica.machine.applied.size() == 28'999);
  CHECK(replica.machine.applied[0].payload == "1001");
  CHECK(replica.engine->last_applied() == last);
  replica.stop();
}

// The order: the views commit, the engine is told, the manifest is written. A crash may come
// between any two.
TEST_CASE("views and manifest may each be ahead of the other") {
  auto file_system = new_file_system();
  std::vector<Checkpoint> after;  // after[i]: entry i and all before
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    for (int i = 0; i < 10; ++i) {
      replica.propose(std::to_string(i));
      replica.settle();
      after.push_back(replica.checkpoint());
    }
    replica.engine->checkpointed(after[4].covered, LogPosition(0));
    replica.settle();
    replica.stop();
  }
  for (const size_t views : {size_t{1}, size_t{4}, size_t{7}, size_t{9}}) {
    CAPTURE(views);
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start(after[views]).ok());
    std::vector<std::string> expected;
    for (size_t i = views + 1; i < 10; ++i) {
      expected.push_back(std::to_string(i));
    }
    CHECK(replica.machine.payloads() == expected);
    replica.settle();
    // Also when nothing was applied in this run.
    replica.engine->checkpointed(after[views].covered, LogPosition(0));
    replica.settle();
    CHECK(replica.log->snapshot().has_value());
    replica.stop();
  }
  Replica deleted(*file_system, kDirectory);
  REQUIRE(deleted.start().ok());
  CHECK(deleted.machine.applied.size() == 10);
  deleted.stop();
}

TEST_CASE("views that were deleted after the log let go of its beginning cannot be rebuilt") {
  auto file_system = new_file_system();
  {
    Replica replica(*file_system, kDirectory);
    REQUIRE(replica.start().ok());
    while (replica.log->segments().size() < 3) {
      replica.propose(std::string(256 * 1024, 'x'));
      replica.settle();
    }
    replica.engine->checkpointed(replica.checkpoint().covered, replica.checkpoint().next_position);
    replica.settle();
    CHECK(replica.log->first_position() > LogPosition(0));
    replica.stop();
  }
  Replica replica(*file_system, kDirectory);
  const Status refused = replica.start();
  CHECK(refused.code() == ErrorCode::kCorrupted);
  CHECK(refused.to_string().find("the log begins at position") != std::string::npos);
}

// A process that proposes, checkpoints, dies at any moment and starts again. After each start the
// machine must have seen exactly what the log promised: everything that was acknowledged before, in
// order, from the checkpoint on.
class CrashRun {
 public:
  explicit CrashRun(uint64_t seed) : random_(seed), file_system_(new_file_system(seed)) {}

  void run(uint64_t proposals_max) {
    while (proposed_ < proposals_max) {
      start();
      const uint64_t steps = random_.between(1, 300);
      for (uint64_t i = 0; i < steps; ++i) {
        step();
      }
      die();
    }
    start();
    replica_->stop();
  }

  [[nodiscard]] uint64_t acknowledged() const { return acknowledged_.size(); }

 private:
  void start() {
    replica_ = std::make_unique<Replica>(*file_system_, kDirectory);
    const Status started = replica_->start(checkpoint_);
    REQUIRE_MESSAGE(started.ok(), started.to_string());
    CHECK(replica_->engine->role() == Role::kLeader);
    CHECK(replica_->engine->term() > acknowledged_term_);
    check_applied();
    acknowledge();
  }

  // What was applied continues the checkpoint and has everything acknowledged at its index.
  void check_applied() {
    const auto& applied = replica_->machine.applied;
    auto expected = acknowledged_.upper_bound(checkpoint_.covered);
    for (const RecordingMachine::Applied& entry : applied) {
      CHECK(entry.index > checkpoint_.covered);
      if (expected != acknowledged_.end()) {
        REQUIRE(entry.index == expected->first);
        REQUIRE(entry.payload == expected->second);
        ++expected;
      } else {
        CHECK(all_payloads_.count(entry.payload) == 1);
      }
    }
    REQUIRE(expected == acknowledged_.end());
  }

  void acknowledge() {
    for (const RecordingMachine::Applied& entry : replica_->machine.applied) {
      acknowledged_.emplace(entry.index, entry.payload);
      acknowledged_term_ = std::max(acknowledged_term_, entry.term);
    }
  }

  void step() {
    switch (random_.below(10)) {
      case 0:
      case 1:
        replica_->disk.run_one();
        break;
      case 2:
        replica_->turns.run_all();
        break;
      case 3:
        checkpoint();
        break;
      default: {
        std::string payload = random_payload(random_, ++proposed_);
        replica_->propose(payload);
        all_payloads_.insert(std::move(payload));
        break;
      }
    }
    acknowledge();
  }

  void checkpoint() {
    if (replica_->machine.applied.empty() || !random_.chance(1, 4)) {
      return;
    }
    // Any prefix of what was applied, at least as far as the last one.
    const auto& applied = replica_->machine.applied;
    const auto& at = applied[random_.below(applied.size())];
    if (at.index < checkpoint_.covered) {
      return;
    }
    checkpoint_ = {at.index, at.position + log::entry_bytes(at.payload.size())};
    if (random_.chance(3, 4)) {  // else: the process dies between its commit and telling the engine
      // Views may refer to anything before; a checkpoint that is thrown away later needs the log
      // from its beginning.
      const LogPosition low = random_.chance(1, 2) ? LogPosition(0) : checkpoint_.next_position;
      low_ = std::max(low_, low);
      replica_->engine->checkpointed(checkpoint_.covered, low);
    }
  }

  void die() {
    replica_.reset();
    file_system_->crash();
    if (low_ == LogPosition(0) && random_.chance(1, 3)) {
      checkpoint_ = {};  // somebody deleted the views
    }
  }

  Random random_;
  std::unique_ptr<SimFileSystem> file_system_;
  std::unique_ptr<Replica> replica_;
  Checkpoint checkpoint_;
  LogPosition low_;
  Term acknowledged_term_;
  uint64_t proposed_ = 0;
  std::map<LogIndex, std::string> acknowledged_;
  std::set<std::string> all_payloads_;
};

TEST_CASE("what was acknowledged survives any crash, in order and once") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    CrashRun run(seed);
    run.run(1000);
    CHECK(run.acknowledged() > 100);
  }
}

}  // namespace
}  // namespace tidemark::replica
