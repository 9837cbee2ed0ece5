#include "broker/replica/raft_engine.h"

extern "C" {
#include <raft.h>
}

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>

#include "broker/replica/raft_io.h"
#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::replica {

// From outside to inside: a call of ours or a completion (RaftIo) enters libraft; when libraft has
// returned, catch_up() looks at what it did and tells the machine. So the machine is never called
// from inside libraft, and may propose again.
//
// States: running --stop()--> stopping --closed--> stopped. After stop() the machine is not called
// any more.
class RaftEngine::Impl {
 public:
  Impl(log::Log& log, Clock& clock, Deferrer& deferrer, StateMachine& machine,
       const RaftOptions& options)
      : log_(log),
        machine_(machine),
        options_(options),
        io_({.log = log,
             .clock = clock,
             .deferrer = deferrer,
             .transport = nullptr,
             .shard = options.shard,
             .node = options.node,
             .random_seed = options.random_seed}) {
    fsm_.version = 1;
    fsm_.data = this;
    fsm_.apply = fsm_apply;
    fsm_.snapshot = fsm_snapshot;
    fsm_.restore = fsm_restore;
    io_.on_activity([this] { catch_up(); });
  }

  // Still running: a process dies in a simulation, and nothing of it happens any more.
  ~Impl() {
    if (state_ == State::kRunning) {
      abandon();
    }
    TIDEMARK_CHECK(state_ == State::kStopped, "replica destroyed before it was stopped");
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Status start(LogIndex applied, LogPosition applied_next_position);
  Result<LogIndex> propose(const SharedBytes& payload, log::Room room);

  void reserve(uint64_t bytes) { log_.set_reserve(bytes); }

  [[nodiscard]] bool reserve_kept() const { return log_.reserve_kept(); }

  void tick(MonotonicTime now);
  void checkpointed(LogIndex covered, LogPosition low_position);
  void stop(MoveOnlyFunction<void()> done);

  [[nodiscard]] Role role() const;

  [[nodiscard]] Term term() const { return Term(raft_.current_term); }

  [[nodiscard]] LogIndex last_applied() const { return delivered_; }

  [[nodiscard]] const Status& failure() const { return failure_.ok() ? log_.failure() : failure_; }

  [[nodiscard]] size_t resident_entries() const {
    const raft_log& entries = raft_.log;
    return entries.front <= entries.back ? entries.back - entries.front
                                         : entries.size - entries.front + entries.back;
  }

 private:
  enum class State { kNew, kRunning, kStopping, kStopped };

  static Impl& of(raft_fsm* fsm) { return *static_cast<Impl*>(fsm->data); }

  static int fsm_apply(raft_fsm* fsm, const raft_buffer* buffer, void** result);
  static int fsm_snapshot(raft_fsm* fsm, raft_buffer** buffers, unsigned* count);
  static int fsm_restore(raft_fsm* fsm, raft_buffer* buffer);
  static void on_request_finished(struct raft_apply* request, int status, void* result);
  static void on_closed(raft* core);

  Status check_options() const;
  Status init_core();
  Status start_core();
  Status bootstrap();
  Status check_membership();
  void catch_up();
  void deliver();
  bool deliver_next();
  void report_role();
  void abandon();

  log::Log& log_;
  StateMachine& machine_;
  const RaftOptions options_;
  RaftIo io_;
  raft_fsm fsm_{};
  raft raft_{};
  State state_ = State::kNew;
  // Requests that libraft has a pointer to, in the order of their indexes.
  std::deque<struct raft_apply> requests_;
  LogIndex delivered_;  // the machine has seen everything up to here
  bool catching_up_ = false;
  Role reported_role_ = Role::kFollower;
  Term reported_term_;
  MonotonicTime next_tick_;
  Status failure_;
  MoveOnlyFunction<void()> stopped_;
};

// --- Start ---------------------------------------------------------------------------------------

Status RaftEngine::Impl::check_options() const {
  const auto is_self = [this](const Member& member) { return member.id == options_.node; };
  const auto& members = options_.initial_members;
  if (std::none_of(members.begin(), members.end(), is_self)) {
    return {ErrorCode::kInvalidArgument,
            "initial members do not include this node, " + std::to_string(options_.node.value())};
  }
  if (options_.heartbeat_ms == 0 || options_.heartbeat_ms >= options_.election_timeout_ms) {
    return {ErrorCode::kInvalidArgument,
            "heartbeat of " + std::to_string(options_.heartbeat_ms) +
                " ms; it must be above 0 and below the election timeout, " +
                std::to_string(options_.election_timeout_ms) + " ms"};
  }
  return {};
}

Status RaftEngine::Impl::start(LogIndex applied, LogPosition applied_next_position) {
  delivered_ = applied;
  Status status = check_options();
  if (status.ok()) {
    status = io_.recover(applied, applied_next_position);
  }
  if (status.ok()) {
    status = init_core();
  }
  if (!status.ok()) {
    state_ = State::kStopped;  // nothing to close
    return status;
  }
  io_.release_commands(applied);
  state_ = State::kRunning;
  status = start_core();
  if (status.ok()) {
    catch_up();
    status = failure_;
  }
  if (!status.ok()) {
    abandon();
  }
  return status;
}

Status RaftEngine::Impl::init_core() {
  const auto self =
      std::find_if(options_.initial_members.begin(), options_.initial_members.end(),
                   [this](const Member& member) { return member.id == options_.node; });
  const int code =
      raft_init(&raft_, io_.get(), &fsm_, options_.node.value(), self->address.c_str());
  if (code != 0) {
    return {ErrorCode::kInternal, std::string("raft_init: ") + raft_strerror(code)};
  }
  raft_set_election_timeout(&raft_, options_.election_timeout_ms);
  raft_set_heartbeat_timeout(&raft_, options_.heartbeat_ms);
  raft_set_snapshot_threshold(&raft_, limits::kRaftEntriesPerTrim);
  raft_set_snapshot_trailing(&raft_, options_.trailing_entries);
  raft_set_pre_vote(&raft_, true);
  return {};
}

Status RaftEngine::Impl::start_core() {
  if (io_.pristine()) {
    RETURN_IF_ERROR(bootstrap());
  }
  RETURN_IF_ERROR(check_membership());
  io_.elect_self();
  const int code = raft_start(&raft_);
  if (code != 0) {
    return {ErrorCode::kInternal, std::string("raft_start: ") + raft_errmsg(&raft_)};
  }
  TIDEMARK_CHECK(raft_state(&raft_) == RAFT_LEADER, "the only voter does not lead");
  return {};
}

Status RaftEngine::Impl::bootstrap() {
  std::vector<Server> servers;
  for (const Member& member : options_.initial_members) {
    servers.push_back({member, ServerRole::kVoter});
  }
  RaftConfiguration configuration;
  RETURN_IF_ERROR(fill_configuration(servers, configuration));
  if (servers.size() == 1) {
    const int code = raft_bootstrap(&raft_, configuration.get());
    TIDEMARK_CHECK(code == 0, raft_strerror(code));
    return {};
  }
  return {ErrorCode::kInvalidArgument, "a group of " + std::to_string(servers.size()) +
                                           " members; without a transport to peers it must be 1"};
}

Status RaftEngine::Impl::check_membership() {
  ASSIGN_OR_RETURN(const std::vector<Server> servers, io_.stored_configuration());
  std::string members;
  bool alone = servers.size() == 1;
  for (const Server& server : servers) {
    members += (members.empty() ? "" : ", ") + std::to_string(server.member.id.value());
    alone = alone && server.member.id == options_.node && server.role == ServerRole::kVoter;
  }
  if (!alone) {
    return {ErrorCode::kInvalidArgument, "this log belongs to a group of node " + members +
                                             ", not of node " +
                                             std::to_string(options_.node.value()) + " alone"};
  }
  return {};
}

// Closes libraft inside the call: the start failed after it was initialised, or the process dies.
void RaftEngine::Impl::abandon() {
  state_ = State::kStopping;
  io_.close_at_once();
  raft_close(&raft_, on_closed);
  TIDEMARK_CHECK(state_ == State::kStopped);
}

// --- libraft's state machine ---------------------------------------------------------------------

// Nothing to do: catch_up() follows raft_.last_applied.
int RaftEngine::Impl::fsm_apply(raft_fsm* /*fsm*/, const raft_buffer* /*buffer*/, void** result) {
  *result = nullptr;
  return 0;
}

// Trims libraft's memory; the views are in the checkpoint. A snapshot must not hold a configuration
// that may be rolled back, so it waits while one is not committed.
int RaftEngine::Impl::fsm_snapshot(raft_fsm* fsm, raft_buffer** buffers, unsigned* count) {
  if (of(fsm).raft_.configuration_uncommitted_index != 0) {
    return RAFT_BUSY;
  }
  *count = 1;
  *buffers = static_cast<raft_buffer*>(raft_calloc(1, sizeof(raft_buffer)));
  TIDEMARK_CHECK(*buffers != nullptr, "out of memory");
  (*buffers)[0].base = raft_malloc(1);
  TIDEMARK_CHECK((*buffers)[0].base != nullptr, "out of memory");
  return 0;
}

int RaftEngine::Impl::fsm_restore(raft_fsm* /*fsm*/, raft_buffer* buffer) {
  raft_free(buffer->base);
  return 0;
}

// --- Running -------------------------------------------------------------------------------------

Result<LogIndex> RaftEngine::Impl::propose(const SharedBytes& payload, log::Room room) {
  if (state_ != State::kRunning) {
    return Status(ErrorCode::kShuttingDown, "the replica is stopping");
  }
  if (payload.size() > limits::kEntryPayloadBytesMax) {
    return Status(ErrorCode::kTooLarge, "entry of " + std::to_string(payload.size()) +
                                            " bytes; at most " +
                                            std::to_string(limits::kEntryPayloadBytesMax));
  }
  if (!failure().ok()) {
    return Status(ErrorCode::kReadOnly, failure().to_string());
  }
  if (role() != Role::kLeader) {
    return Status(ErrorCode::kNotLeader, "shard " + std::to_string(options_.shard.value()));
  }
  if (!log_.has_room(payload.size(), room)) {
    // Space is taken ahead of need; a burst can be faster than that on a disk that is not full.
    return Status(
        log_.disk_full() ? ErrorCode::kDiskFull : ErrorCode::kOverloaded,
        "no space is allocated for an entry of " + std::to_string(payload.size()) + " bytes");
  }
  const EntryHandle handle{&payload, payload.size()};
  raft_buffer buffer{raft_malloc(sizeof handle), sizeof handle};
  TIDEMARK_CHECK(buffer.base != nullptr, "out of memory");
  std::memcpy(buffer.base, &handle, sizeof handle);
  struct raft_apply& request = requests_.emplace_back();
  request.data = this;
  const int code = raft_apply(&raft_, &request, &buffer, 1, on_request_finished);
  if (code != 0) {
    raft_free(buffer.base);
    requests_.pop_back();
    return Status(code == RAFT_NOTLEADER ? ErrorCode::kNotLeader : ErrorCode::kInternal,
                  raft_errmsg(&raft_));
  }
  return LogIndex(request.index);
}

// Committed, or given up because leadership was lost; the machine hears of both in catch_up().
void RaftEngine::Impl::on_request_finished(struct raft_apply* request, int /*status*/,
                                           void* /*result*/) {
  Impl& self = *static_cast<Impl*>(request->data);
  TIDEMARK_CHECK(request == &self.requests_.front(), "requests finish in their order");
  self.requests_.pop_front();
}

void RaftEngine::Impl::tick(MonotonicTime now) {
  // A leader that cannot write must not keep others from leading.
  if (state_ != State::kRunning || now < next_tick_ || !failure().ok()) {
    return;
  }
  next_tick_.ns = now.ns + int64_t{options_.heartbeat_ms} * 1'000'000;
  io_.tick();
}

void RaftEngine::Impl::checkpointed(LogIndex covered, LogPosition low_position) {
  TIDEMARK_CHECK(covered <= delivered_, "checkpoint of entries that were not applied");
  if (state_ == State::kRunning && failure().ok()) {
    io_.checkpointed(covered, low_position);
  }
}

Role RaftEngine::Impl::role() const {
  if (state_ != State::kRunning) {
    return Role::kStopped;
  }
  switch (raft_.state) {
    case RAFT_LEADER:
      return Role::kLeader;
    case RAFT_CANDIDATE:
      return Role::kCandidate;
    case RAFT_FOLLOWER:
      return Role::kFollower;
    default:
      return Role::kStopped;
  }
}

void RaftEngine::Impl::catch_up() {
  if (catching_up_) {
    return;  // the machine called us; the loop below goes on
  }
  catching_up_ = true;
  deliver();
  report_role();
  catching_up_ = false;
}

void RaftEngine::Impl::deliver() {
  while (state_ == State::kRunning && failure_.ok() && delivered_ < LogIndex(raft_.last_applied)) {
    if (!deliver_next()) {
      return;
    }
  }
}

// False if the entry cannot be read: then nothing after it may be applied either.
bool RaftEngine::Impl::deliver_next() {
  const LogIndex index = delivered_ + 1;
  const EntrySlot* found = io_.table().find(index);
  TIDEMARK_CHECK(found != nullptr, "a committed entry was forgotten");
  const EntrySlot slot = *found;
  if (slot.kind != log::EntryKind::kCommand) {
    io_.release_commands(index);
    delivered_ = index;
    return true;
  }
  Result<SharedBytes> payload = io_.payload(index);
  if (!payload.ok()) {
    failure_ = payload.status();
    return false;
  }
  io_.release_commands(index);
  delivered_ = index;
  machine_.apply({index, slot.term, slot.position, std::move(payload).value()});
  return true;
}

void RaftEngine::Impl::report_role() {
  if (state_ != State::kRunning) {
    return;
  }
  if (raft_.state == RAFT_UNAVAILABLE && failure_.ok()) {
    failure_ = Status(ErrorCode::kInternal, std::string("raft gave up: ") + raft_errmsg(&raft_));
  }
  if (role() != reported_role_ || term() != reported_term_) {
    reported_role_ = role();
    reported_term_ = term();
    machine_.on_role(reported_role_, reported_term_);
  }
}

// --- Stop ----------------------------------------------------------------------------------------

void RaftEngine::Impl::stop(MoveOnlyFunction<void()> done) {
  TIDEMARK_CHECK(state_ == State::kRunning, "a replica is stopped once");
  state_ = State::kStopping;
  stopped_ = std::move(done);
  raft_close(&raft_, on_closed);
}

void RaftEngine::Impl::on_closed(raft* core) {
  Impl& self = of(core->fsm);
  self.state_ = State::kStopped;
  if (self.stopped_) {
    MoveOnlyFunction<void()> stopped = std::move(self.stopped_);
    stopped();  // may destroy the engine
  }
}

// --- RaftEngine ----------------------------------------------------------------------------------

Result<std::unique_ptr<RaftEngine>> RaftEngine::start(log::Log& log, Clock& clock,
                                                      Deferrer& deferrer, StateMachine& machine,
                                                      RaftOptions options, LogIndex applied,
                                                      LogPosition applied_next_position) {
  auto impl = std::make_unique<Impl>(log, clock, deferrer, machine, options);
  RETURN_IF_ERROR(impl->start(applied, applied_next_position));
  return std::unique_ptr<RaftEngine>(new RaftEngine(std::move(impl)));
}

RaftEngine::RaftEngine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RaftEngine::~RaftEngine() = default;

Result<LogIndex> RaftEngine::propose(SharedBytes payload, log::Room room) {
  return impl_->propose(payload, room);
}

void RaftEngine::reserve(uint64_t bytes) { impl_->reserve(bytes); }

bool RaftEngine::reserve_kept() const { return impl_->reserve_kept(); }

Role RaftEngine::role() const { return impl_->role(); }

Term RaftEngine::term() const { return impl_->term(); }

LogIndex RaftEngine::last_applied() const { return impl_->last_applied(); }

void RaftEngine::tick(MonotonicTime now) { impl_->tick(now); }

void RaftEngine::checkpointed(LogIndex covered, LogPosition low_position) {
  impl_->checkpointed(covered, low_position);
}

const Status& RaftEngine::failure() const { return impl_->failure(); }

void RaftEngine::stop(MoveOnlyFunction<void()> done) { impl_->stop(std::move(done)); }

size_t RaftEngine::resident_entries() const { return impl_->resident_entries(); }

}  // namespace tidemark::replica
