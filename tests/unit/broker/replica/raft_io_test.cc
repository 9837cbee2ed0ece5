// What raft_io promises to libraft, seen from libraft's side: the methods are called as libraft
// calls them.
#include "broker/replica/raft_io.h"

#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/sim_file_system.h"
#include "tests/unit/broker/replica/replica_fixture.h"

namespace tidemark::replica {
namespace {

class RecordingTransport final : public PeerTransport {
 public:
  void send(PeerMessage&& message) override { sent.push_back(std::move(message)); }

  std::vector<PeerMessage> sent;
};

// Counts the completions of requests.
struct Completions {
  std::vector<int> statuses;
};

void on_sent(raft_io_send* request, int status) {
  static_cast<Completions*>(request->data)->statuses.push_back(status);
}

void on_appended(raft_io_append* request, int status) {
  static_cast<Completions*>(request->data)->statuses.push_back(status);
}

class RaftIoFixture {
 public:
  explicit RaftIoFixture(bool with_transport = true)
      : io_owner({.log = *log,
                  .clock = clock,
                  .deferrer = turns,
                  .transport = with_transport ? &transport : nullptr,
                  .shard = ShardId(3),
                  .node = NodeId(1),
                  .random_seed = 1}),
        io(io_owner.get()) {
    REQUIRE(io_owner.recover(LogIndex(0), LogPosition(0)).ok());
  }

  ~RaftIoFixture() {
    io_owner.close_at_once();
    io->close(io, [](raft_io*) {});
  }

  RaftIoFixture(const RaftIoFixture&) = delete;
  RaftIoFixture& operator=(const RaftIoFixture&) = delete;

  static raft_message vote_request(raft_id to) {
    raft_message message{};
    message.type = RAFT_IO_REQUEST_VOTE;
    message.server_id = to;
    message.server_address = "unused";
    message.request_vote = {7, 1, 10, 6, true, false};
    return message;
  }

  void append(std::vector<raft_entry> entries) {
    append_requests.emplace_back().data = &completions;
    CHECK(io->append(io, &append_requests.back(), entries.data(),
                     static_cast<unsigned>(entries.size()), on_appended) == 0);
  }

  void append_commands(const std::vector<std::string>& payloads, raft_term term) {
    std::vector<SharedBytes> bytes;
    for (const std::string& payload : payloads) {
      bytes.push_back(bytes_of(payload));
    }
    std::vector<EntryHandle> handles;
    for (const SharedBytes& payload : bytes) {
      handles.push_back({&payload, payload.size()});
    }
    std::vector<raft_entry> entries;
    for (EntryHandle& handle : handles) {
      entries.push_back({term, RAFT_COMMAND, {&handle, sizeof handle}, nullptr});
    }
    append(std::move(entries));
  }

  std::unique_ptr<SimFileSystem> file_system = [] {
    auto created = std::make_unique<SimFileSystem>(1);
    REQUIRE(created->create_directories("/shard").ok());
    return created;
  }();
  SimClock clock;
  InlineExecutor disk;
  TurnQueue turns;
  RecordingTransport transport;
  std::unique_ptr<log::Log> log = [this] {
    log::LogOptions options;
    options.directory = "/shard";
    options.segment_bytes = limits::kSegmentBytesMin;
    log::RecoveryReport report;
    return log::Log::open(*file_system, disk, clock, options, LogPosition(0), &report).value();
  }();
  RaftIo io_owner;
  raft_io* io;
  Completions completions;
  std::deque<raft_io_append> append_requests;
};

TEST_CASE("a message waits for the vote it was sent under, later ones keep their order") {
  RaftIoFixture fixture;
  raft_io* io = fixture.io;
  const raft_message to_two = RaftIoFixture::vote_request(2);
  const raft_message to_three = RaftIoFixture::vote_request(3);
  raft_io_send first{&fixture.completions, nullptr};
  raft_io_send second = first;
  raft_io_send third = first;

  CHECK(io->send(io, &first, &to_two, on_sent) == 0);
  CHECK(fixture.transport.sent.size() == 1);
  CHECK(fixture.completions.statuses.empty());  // never inside send()

  CHECK(io->set_term(io, 7) == 0);
  CHECK(io->set_vote(io, 1) == 0);
  CHECK(io->send(io, &second, &to_two, on_sent) == 0);
  CHECK(io->send(io, &third, &to_three, on_sent) == 0);
  fixture.turns.run_all();
  CHECK(fixture.completions.statuses == std::vector<int>{0, 0, 0});
  CHECK(fixture.transport.sent.size() == 1);  // still only what needed no vote
  fixture.disk.run_all();
  REQUIRE(fixture.transport.sent.size() == 3);
  CHECK(fixture.transport.sent[1].to == NodeId(2));
  CHECK(fixture.transport.sent[2].to == NodeId(3));
  const PeerMessage& message = fixture.transport.sent[2];
  CHECK(message.shard == ShardId(3));
  CHECK(message.from == NodeId(1));
  const auto* body = std::get_if<RequestVote>(&message.body);
  REQUIRE(body != nullptr);
  CHECK(body->term == Term(7));
  CHECK(body->candidate == NodeId(1));
  CHECK(body->last_index == LogIndex(10));
  CHECK(body->last_term == Term(6));
  CHECK(body->disrupt_leader);
  CHECK_FALSE(body->pre_vote);
}

TEST_CASE("messages that wait are bounded") {
  RaftIoFixture fixture;
  raft_io* io = fixture.io;
  CHECK(io->set_term(io, 7) == 0);
  const raft_message message = RaftIoFixture::vote_request(2);
  raft_io_send request{};
  for (size_t i = 0; i < limits::kHeldPeerMessagesMax + 10; ++i) {
    CHECK(io->send(io, &request, &message, nullptr) == 0);
  }
  fixture.disk.run_all();
  CHECK(fixture.transport.sent.size() == limits::kHeldPeerMessagesMax);
}

TEST_CASE("without a transport a send fails in a later turn") {
  RaftIoFixture fixture(false);
  const raft_message message = RaftIoFixture::vote_request(2);
  raft_io_send request{&fixture.completions, nullptr};
  CHECK(fixture.io->send(fixture.io, &request, &message, on_sent) == 0);
  CHECK(fixture.completions.statuses.empty());
  fixture.turns.run_all();
  CHECK(fixture.completions.statuses == std::vector<int>{RAFT_NOCONNECTION});
}

TEST_CASE("an append completes once, after its last entry is on disk, in order") {
  RaftIoFixture fixture;
  CHECK(fixture.io->set_term(fixture.io, 1) == 0);
  fixture.append_commands({"a", "b", "c"}, 1);
  fixture.append_commands({"d"}, 1);
  fixture.turns.run_all();
  CHECK(fixture.completions.statuses.empty());
  fixture.disk.run_all();
  CHECK(fixture.completions.statuses == std::vector<int>{0, 0});
  CHECK(fixture.io_owner.table().end() == LogIndex(5));
}

TEST_CASE("entries travel with their payload while it is in memory") {
  RaftIoFixture fixture;
  CHECK(fixture.io->set_term(fixture.io, 1) == 0);
  fixture.append_commands({"alpha", "beta"}, 1);
  char barrier[8] = {};
  fixture.append({{1, RAFT_BARRIER, {barrier, sizeof barrier}, nullptr}});
  fixture.disk.run_all();

  std::vector<raft_entry> entries(2);
  entries[0].term = 1;
  entries[1].term = 1;
  raft_message message{};
  message.type = RAFT_IO_APPEND_ENTRIES;
  message.server_id = 2;
  message.append_entries = {1, 1, 1, 3, entries.data(), 2};
  raft_io_send request{&fixture.completions, nullptr};
  CHECK(fixture.io->send(fixture.io, &request, &message, nullptr) == 0);
  REQUIRE(fixture.transport.sent.size() == 1);
  const auto* body = std::get_if<AppendEntries>(&fixture.transport.sent[0].body);
  REQUIRE(body != nullptr);
  CHECK(body->previous_index == LogIndex(1));
  CHECK(body->leader_commit == LogIndex(3));
  REQUIRE(body->entries.size() == 2);
  CHECK(body->entries[0].index == LogIndex(2));
  CHECK(body->entries[0].kind == log::EntryKind::kCommand);
  REQUIRE(body->entries[0].payload.has_value());
  CHECK(as_text(body->entries[0].payload->view()) == "beta");
  CHECK(body->entries[1].kind == log::EntryKind::kBarrier);
  CHECK(body->entries[1].payload_bytes == 8);
}

TEST_CASE("a truncated suffix is gone, also after a restart") {
  RaftIoFixture fixture;
  CHECK(fixture.io->set_term(fixture.io, 1) == 0);
  char configuration[9] = {1};
  fixture.append({{1, RAFT_CHANGE, {configuration, sizeof configuration}, nullptr}});
  fixture.append_commands({"keep", "cut", "cut too"}, 1);
  CHECK(fixture.io->truncate(fixture.io, 3) == 0);
  CHECK(fixture.io->set_term(fixture.io, 2) == 0);
  fixture.append_commands({"new"}, 2);
  fixture.disk.run_all();
  CHECK(fixture.completions.statuses == std::vector<int>{0, 0, 0});

  log::LogOptions options;
  options.directory = "/shard";
  options.segment_bytes = limits::kSegmentBytesMin;
  log::RecoveryReport report;
  const auto reopened = log::Log::open(*fixture.file_system, fixture.disk, fixture.clock, options,
                                       LogPosition(0), &report);
  REQUIRE(reopened.ok());
  RaftIo second({.log = **reopened,
                 .clock = fixture.clock,
                 .deferrer = fixture.turns,
                 .transport = nullptr,
                 .shard = ShardId(3),
                 .node = NodeId(1),
                 .random_seed = 1});
  REQUIRE(second.recover(LogIndex(0), LogPosition(0)).ok());
  REQUIRE(second.table().end() == LogIndex(4));
  CHECK(second.table().find(LogIndex(3))->term == Term(2));
  CHECK(as_text(second.payload(LogIndex(2)).value().view()) == "keep");
  CHECK(as_text(second.payload(LogIndex(3)).value().view()) == "new");
}

TEST_CASE("a start loads headers from behind the manifest, a snapshot for peers is the manifest") {
  SimFileSystem file_system(1);
  REQUIRE(file_system.create_directories("/shard").ok());
  Checkpoint covered;
  Term covered_term;
  {
    Replica replica(file_system, "/shard");
    REQUIRE(replica.start().ok());
    replica.propose("one");
    replica.propose("two");
    replica.settle();
    covered = replica.checkpoint();
    covered_term = replica.engine->term();
    replica.engine->checkpointed(covered.covered, LogPosition(0));
    replica.propose("three");
    replica.propose("four");
    replica.settle();
    replica.stop();
  }
  Replica reopened(file_system, "/shard");
  log::RecoveryReport report;
  const auto log = log::Log::open(file_system, reopened.disk, reopened.clock, reopened.options,
                                  covered.next_position, &report);
  REQUIRE(log.ok());
  RaftIo owner({.log = **log,
                .clock = reopened.clock,
                .deferrer = reopened.turns,
                .transport = nullptr,
                .shard = ShardId(3),
                .node = NodeId(1),
                .random_seed = 1});
  REQUIRE(owner.recover(covered.covered, covered.next_position).ok());
  CHECK_FALSE(owner.pristine());
  CHECK(owner.stored_configuration().value().at(0).member.id == NodeId(1));

  raft_io* io = owner.get();
  raft_term term = 0;
  raft_id voted_for = 0;
  raft_snapshot* snapshot = nullptr;
  raft_index start = 0;
  raft_entry* entries = nullptr;
  size_t count = 0;
  CHECK(io->load(io, &term, &voted_for, &snapshot, &start, &entries, &count) == 0);
  CHECK(term == covered_term.value());
  CHECK(voted_for == 1);
  CHECK(start == covered.covered.value() + 1);
  REQUIRE(count == 2);
  for (size_t i = 0; i < count; ++i) {
    CHECK(entries[i].term == covered_term.value());
    CHECK(entries[i].type == RAFT_COMMAND);
    CHECK(entries[i].batch == nullptr);
    EntryHandle handle{};
    REQUIRE(entries[i].buf.len == sizeof handle);
    std::memcpy(&handle, entries[i].buf.base, sizeof handle);
    CHECK(handle.payload == nullptr);
    CHECK(handle.payload_bytes == (i == 0 ? 5 : 4));
    raft_free(entries[i].buf.base);
  }
  raft_free(entries);

  static std::vector<raft_snapshot*> got;
  got = {snapshot};
  raft_io_snapshot_get request{};
  CHECK(
      io->snapshot_get(io, &request, [](raft_io_snapshot_get*, raft_snapshot* loaded, int status) {
        CHECK(status == 0);
        got.push_back(loaded);
      }) == 0);
  CHECK(got.size() == 1);
  reopened.turns.run_all();
  REQUIRE(got.size() == 2);
  for (raft_snapshot* one : got) {
    REQUIRE(one != nullptr);
    CHECK(one->index == covered.covered.value());
    CHECK(one->term == covered_term.value());
    CHECK(one->configuration_index == 1);
    REQUIRE(one->configuration.n == 1);
    CHECK(one->configuration.servers[0].id == 1);
    CHECK(one->n_bufs == 1);
    raft_configuration_close(&one->configuration);
    raft_free(one->bufs[0].base);
    raft_free(one->bufs);
    raft_free(one);
  }
}

TEST_CASE("close completes what is open without an error, and late completions are harmless") {
  RaftIoFixture fixture;
  raft_io* io = fixture.io;
  CHECK(io->set_term(io, 1) == 0);
  fixture.append_commands({"a"}, 1);
  const raft_message message = RaftIoFixture::vote_request(2);
  raft_io_send request{&fixture.completions, nullptr};
  CHECK(io->send(io, &request, &message, on_sent) == 0);
  static bool closed;
  closed = false;
  io->close(io, [](raft_io*) { closed = true; });
  CHECK_FALSE(closed);
  fixture.turns.run_all();
  CHECK(closed);
  CHECK(fixture.completions.statuses == std::vector<int>{0, 0});
  fixture.disk.run_all();
  CHECK(fixture.completions.statuses.size() == 2);
  CHECK(fixture.transport.sent.empty());
}

TEST_CASE("time is in milliseconds, random numbers are in their range") {
  RaftIoFixture fixture;
  const raft_time before = fixture.io->time(fixture.io);
  fixture.clock.advance_ms(1234);
  CHECK(fixture.io->time(fixture.io) == before + 1234);
  for (int i = 0; i < 100; ++i) {
    const int number = fixture.io->random(fixture.io, 500, 1000);
    CHECK(number >= 500);
    CHECK(number < 1000);
  }
}

}  // namespace
}  // namespace tidemark::replica
