// One replica over a log, with a disk worker, a loop and a clock that do something only when the
// test says so.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "broker/replica/raft_engine.h"
#include "log/base/executor.h"
#include "log/log.h"
#include "tests/support/sim_clock.h"

namespace tidemark::replica {

// The loop's next turns.
class TurnQueue final : public Deferrer {
 public:
  void defer(MoveOnlyFunction<void()> callback) override { turns_.push_back(std::move(callback)); }

  void run_all() {
    while (!turns_.empty()) {
      MoveOnlyFunction<void()> callback = std::move(turns_.front());
      turns_.pop_front();
      callback();
    }
  }

 private:
  std::deque<MoveOnlyFunction<void()>> turns_;
};

inline SharedBytes bytes_of(std::string_view text) {
  return SharedBytes(Buffer::copy_of(as_bytes(text)));
}

// Remembers what was applied, and fails the test at once if it is out of order.
class RecordingMachine final : public StateMachine {
 public:
  struct Applied {
    LogIndex index;
    Term term;
    LogPosition position;
    std::string payload;
  };

  void apply(const CommittedEntry& entry) override {
    REQUIRE_FALSE(stopped);
    REQUIRE((applied.empty() || entry.index > applied.back().index));
    REQUIRE((applied.empty() || entry.term >= applied.back().term));
    REQUIRE((applied.empty() || entry.position > applied.back().position));
    applied.push_back(
        {entry.index, entry.term, entry.position, std::string(as_text(entry.payload.view()))});
    if (on_apply) {
      on_apply(entry);
    }
  }

  void on_role(Role role, Term term) override {
    REQUIRE_FALSE(stopped);
    roles.emplace_back(role, term);
  }

  [[nodiscard]] std::vector<std::string> payloads() const {
    std::vector<std::string> texts;
    for (const Applied& entry : applied) {
      texts.push_back(entry.payload);
    }
    return texts;
  }

  std::vector<Applied> applied;
  std::vector<std::pair<Role, Term>> roles;
  MoveOnlyFunction<void(const CommittedEntry&)> on_apply;
  bool stopped = false;
};

// What the views' checkpoint says: survives crashes as a commit of the checkpoint does.
struct Checkpoint {
  LogIndex covered;
  LogPosition next_position;
};

inline RaftOptions single_voter(NodeId node = NodeId(1)) {
  RaftOptions options;
  options.cluster_id = 7;
  options.node = node;
  options.initial_members = {{node, "127.0.0.1:9470"}};
  return options;
}

// One run of a process. Destroying it without stop() is its death.
class Replica {
 public:
  Replica(FileSystem& file_system, std::string directory) : file_system_(file_system) {
    options.directory = std::move(directory);
    options.cluster_id = 7;
    options.segment_bytes = limits::kSegmentBytesMin;
  }

  ~Replica() { machine.stopped = true; }

  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  Status start(const Checkpoint& checkpoint = {},
               const RaftOptions& raft_options = single_voter()) {
    if (!log) {
      log::RecoveryReport report;
      auto opened =
          log::Log::open(file_system_, disk, clock, options, checkpoint.next_position, &report);
      if (!opened.ok()) {
        return opened.status();
      }
      log = std::move(opened).value();
    }
    auto started = RaftEngine::start(*log, clock, turns, machine, raft_options, checkpoint.covered,
                                     checkpoint.next_position);
    if (!started.ok()) {
      return started.status();
    }
    engine = std::move(started).value();
    return {};
  }

  // Until neither the disk nor the loop has anything to do.
  void settle() {
    while (disk.pending() > 0) {
      disk.run_one();
      turns.run_all();
    }
    turns.run_all();
  }

  LogIndex propose(std::string_view payload) {
    const Result<LogIndex> index = engine->propose(bytes_of(payload));
    REQUIRE_MESSAGE(index.ok(), index.status().to_string());
    return *index;
  }

  // Everything applied, as a checkpoint of the views.
  [[nodiscard]] Checkpoint checkpoint() const {
    REQUIRE_FALSE(machine.applied.empty());
    const RecordingMachine::Applied& last = machine.applied.back();
    return {last.index, last.position + log::entry_bytes(last.payload.size())};
  }

  void stop() {
    bool done = false;
    engine->stop([&done] { done = true; });
    CHECK(engine->role() == Role::kStopped);
    machine.stopped = true;
    CHECK_FALSE(done);
    turns.run_all();
    REQUIRE(done);
    engine.reset();
  }

  SimClock clock;
  InlineExecutor disk;
  TurnQueue turns;
  RecordingMachine machine;
  log::LogOptions options;
  std::unique_ptr<log::Log> log;
  std::unique_ptr<RaftEngine> engine;

 private:
  FileSystem& file_system_;
};

}  // namespace tidemark::replica
