#include "broker/replica/raft_io.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::replica {

namespace {

constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;

log::EntryKind kind_of(unsigned short type) {
  switch (type) {
    case RAFT_COMMAND:
      return log::EntryKind::kCommand;
    case RAFT_BARRIER:
      return log::EntryKind::kBarrier;
    case RAFT_CHANGE:
      return log::EntryKind::kConfiguration;
    default:
      TIDEMARK_CHECK(false, "raft entry of type " + std::to_string(type));
      return log::EntryKind::kBarrier;
  }
}

unsigned short type_of(log::EntryKind kind) {
  switch (kind) {
    case log::EntryKind::kCommand:
      return RAFT_COMMAND;
    case log::EntryKind::kBarrier:
      return RAFT_BARRIER;
    case log::EntryKind::kConfiguration:
      return RAFT_CHANGE;
    case log::EntryKind::kVote:
    case log::EntryKind::kTruncate:
    case log::EntryKind::kSnapshot:
    case log::EntryKind::kSeal:
      break;
  }
  TIDEMARK_CHECK(false, "a local entry is not part of the raft log");
  return 0;
}

// Memory that libraft frees. Running out of it is not an outcome that libraft 0.15 survives.
raft_buffer raft_copy(ByteView bytes) {
  raft_buffer buffer{};
  buffer.len = bytes.size();
  buffer.base = raft_malloc(std::max<size_t>(bytes.size(), 1));
  TIDEMARK_CHECK(buffer.base != nullptr, "out of memory");
  if (!bytes.empty()) {
    std::memcpy(buffer.base, bytes.data(), bytes.size());
  }
  return buffer;
}

ByteView view_of(const raft_buffer& buffer) {
  return {static_cast<const uint8_t*>(buffer.base), buffer.len};
}

Status corrupted(std::string text) { return {ErrorCode::kCorrupted, std::move(text)}; }

std::string number(auto id) { return std::to_string(id.value()); }

}  // namespace

RaftIo::RaftIo(const Environment& environment)
    : log_(environment.log),
      clock_(environment.clock),
      deferrer_(environment.deferrer),
      transport_(environment.transport),
      shard_(environment.shard),
      node_(environment.node),
      random_(environment.random_seed),
      gate_(std::make_shared<Gate>(Gate{this})) {
  io_.version = 1;
  io_.impl = this;
  io_.init = io_init;
  io_.close = io_close;
  io_.load = io_load;
  io_.start = io_start;
  io_.bootstrap = io_bootstrap;
  io_.recover = io_recover;
  io_.set_term = io_set_term;
  io_.set_vote = io_set_vote;
  io_.send = io_send;
  io_.append = io_append;
  io_.truncate = io_truncate;
  io_.snapshot_put = io_snapshot_put;
  io_.snapshot_get = io_snapshot_get;
  io_.time = io_time;
  io_.random = io_random;
}

RaftIo::~RaftIo() {
  TIDEMARK_CHECK(pending_appends_.empty() && pending_sends_.empty() && pending_gets_.empty() &&
                     pending_put_ == nullptr,
                 "raft_io destroyed before it was closed");
  gate_->io = nullptr;
}

// --- Start ---------------------------------------------------------------------------------------

Status RaftIo::recover(LogIndex applied, LogPosition applied_next_position) {
  vote_ = log_.vote();
  LogIndex before;  // the last entry that is not needed
  LogPosition from;
  if (const std::optional<log::SnapshotManifest>& stored = log_.snapshot()) {
    manifest_ = SnapshotPoint{stored->index, stored->term, stored->configuration_index,
                              stored->configuration};
    manifest_next_position_ = stored->next_position;
    manifest_written_ = stored->index;
    before = stored->index;
    from = stored->next_position;
  }
  if (applied < before) {
    before = applied;
    from = applied_next_position;
  }
  if (from < log_.first_position()) {
    return corrupted("the views cover entries up to " + number(before) + " (position " +
                     number(from) + "), but the log begins at position " +
                     number(log_.first_position()));
  }
  ASSIGN_OR_RETURN(const std::vector<log::EntryInfo> entries, log_.entries_from(from));
  table_ = EntryTable(before + 1);
  for (const log::EntryInfo& entry : entries) {
    RETURN_IF_ERROR(recover_entry(entry));
  }
  const LogIndex last(table_.end() - LogIndex(1));
  if (applied > last || (manifest_ && manifest_->index > last)) {
    return corrupted("the log ends at entry " + number(last) + ", but the views cover up to " +
                     number(std::max(applied, manifest_written_)) +
                     ": the end of the log is missing");
  }
  const EntrySlot* slot = table_.find(applied);
  if (slot != nullptr && slot->end() != applied_next_position) {
    return corrupted("entry " + number(applied) + " ends at position " + number(slot->end()) +
                     ", but the views say " + number(applied_next_position) +
                     ": they belong to another log");
  }
  return {};
}

Status RaftIo::recover_entry(const log::EntryInfo& entry) {
  if (entry.index != table_.end()) {
    return corrupted("the entry at position " + number(entry.position) + " has index " +
                     number(entry.index) + ", expected was " + number(table_.end()));
  }
  if (entry.index == LogIndex(1) && entry.kind != log::EntryKind::kConfiguration) {
    return corrupted("the first entry of the log is not a configuration");
  }
  if (entry.term > vote_.term) {
    return corrupted("entry " + number(entry.index) + " has term " + number(entry.term) +
                     ", but the log's last vote was in term " + number(vote_.term));
  }
  const EntrySlot slot{entry.term, entry.position, entry.payload_bytes, entry.kind};
  if (entry.kind == log::EntryKind::kCommand) {
    table_.append_stored(slot);
    return {};
  }
  ASSIGN_OR_RETURN(SharedBytes bytes, log_.read_payload(entry));
  table_.append(slot, std::move(bytes));
  return {};
}

Result<std::vector<Server>> RaftIo::stored_configuration() const {
  for (LogIndex end = table_.end(); end > table_.first();) {
    end = LogIndex(end - LogIndex(1));
    if (table_.find(end)->kind == log::EntryKind::kConfiguration) {
      return decode_configuration(table_.payload(end)->view());
    }
  }
  TIDEMARK_CHECK(manifest_.has_value(), "a log without any configuration");
  return decode_configuration(manifest_->configuration);
}

int RaftIo::io_init(raft_io* /*io*/, raft_id /*id*/, const char* /*address*/) { return 0; }

int RaftIo::io_load(raft_io* io, raft_term* term, raft_id* voted_for, raft_snapshot** snapshot,
                    raft_index* start_index, raft_entry** entries, size_t* count) {
  const RaftIo& self = of(io);
  *term = self.vote_.term.value();
  *voted_for = self.vote_.voted_for.value();
  *snapshot = self.manifest_ ? self.make_snapshot(*self.manifest_) : nullptr;
  const LogIndex first = self.manifest_ ? self.manifest_->index + 1 : LogIndex(1);
  *start_index = first.value();
  *count = self.table_.end() - first;
  *entries = nullptr;
  if (*count > 0) {
    *entries = static_cast<raft_entry*>(raft_calloc(*count, sizeof(raft_entry)));
    TIDEMARK_CHECK(*entries != nullptr, "out of memory");
    for (size_t i = 0; i < *count; ++i) {
      (*entries)[i] = self.make_entry(first + i);
    }
  }
  return 0;
}

// Without a batch: each entry owns its bytes. libraft searches its whole log whenever it frees an
// entry of a batch.
raft_entry RaftIo::make_entry(LogIndex index) const {
  const EntrySlot& slot = *table_.find(index);
  raft_entry entry{};
  entry.term = slot.term.value();
  entry.type = type_of(slot.kind);
  if (slot.kind == log::EntryKind::kCommand) {
    const EntryHandle handle{nullptr, slot.payload_bytes};
    entry.buf = raft_copy({reinterpret_cast<const uint8_t*>(&handle), sizeof handle});
  } else {
    entry.buf = raft_copy(table_.payload(index)->view());
  }
  return entry;
}

raft_snapshot* RaftIo::make_snapshot(const SnapshotPoint& point) const {
  auto* snapshot = static_cast<raft_snapshot*>(raft_calloc(1, sizeof(raft_snapshot)));
  TIDEMARK_CHECK(snapshot != nullptr, "out of memory");
  snapshot->index = point.index.value();
  snapshot->term = point.term.value();
  snapshot->configuration_index = point.configuration_index.value();
  const Result<std::vector<Server>> servers = decode_configuration(point.configuration);
  RaftConfiguration configuration;
  TIDEMARK_CHECK(servers.ok() && fill_configuration(*servers, configuration).ok(),
                 "a stored configuration that is not one");
  snapshot->configuration = configuration.release();
  snapshot->n_bufs = 1;
  snapshot->bufs = static_cast<raft_buffer*>(raft_malloc(sizeof(raft_buffer)));
  TIDEMARK_CHECK(snapshot->bufs != nullptr, "out of memory");
  snapshot->bufs[0] = raft_copy({});
  return snapshot;
}

int RaftIo::io_start(raft_io* io, unsigned /*tick_ms*/, raft_io_tick_cb tick,
                     raft_io_recv_cb /*receive*/) {
  of(io).tick_callback_ = tick;
  return 0;
}

// The same first entry on every initial member. A crash may keep the vote and lose the entry: then
// this runs again.
int RaftIo::io_bootstrap(raft_io* io, const raft_configuration* configuration) {
  RaftIo& self = of(io);
  TIDEMARK_CHECK(self.pristine());
  if (self.vote_.term < Term(1)) {
    self.vote_ = {Term(1), NodeId(0)};
    self.append_vote();
  }
  SharedBytes bytes(Buffer::copy_of(encode_configuration(*configuration)));
  self.append_entry(log::EntryKind::kConfiguration, Term(1), std::move(bytes), false);
  return 0;
}

// raft_recover() is never called.
int RaftIo::io_recover(raft_io* /*io*/, const raft_configuration* /*configuration*/) {
  return RAFT_INVALID;
}

void RaftIo::elect_self() {
  vote_ = {vote_.term + 1, node_};
  append_vote();
}

// --- Disk ----------------------------------------------------------------------------------------

int RaftIo::io_set_term(raft_io* io, raft_term term) {
  RaftIo& self = of(io);
  self.vote_ = {Term(term), NodeId(0)};
  self.append_vote();
  return 0;
}

int RaftIo::io_set_vote(raft_io* io, raft_id server) {
  RaftIo& self = of(io);
  self.vote_.voted_for = NodeId(server);
  self.append_vote();
  return 0;
}

void RaftIo::append_vote() {
  ++votes_appended_;
  log_.append_vote(vote_, [gate = gate_] {
    if (gate->io != nullptr) {
      gate->io->on_vote_durable();
    }
  });
}

void RaftIo::on_vote_durable() {
  ++votes_durable_;
  while (!held_.empty() && held_.front().vote_sequence <= votes_durable_) {
    transport_->send(std::move(held_.front().message));
    held_.pop_front();
  }
}

int RaftIo::io_append(raft_io* io, raft_io_append* request, const raft_entry* entries,
                      unsigned count, raft_io_append_cb callback) {
  RaftIo& self = of(io);
  request->cb = callback;
  self.pending_appends_.push_back({request, count});
  for (unsigned i = 0; i < count; ++i) {
    const raft_entry& entry = entries[i];
    const log::EntryKind kind = kind_of(entry.type);
    if (kind == log::EntryKind::kCommand) {
      EntryHandle handle{};
      TIDEMARK_CHECK(entry.buf.len == sizeof handle);
      std::memcpy(&handle, entry.buf.base, sizeof handle);
      TIDEMARK_CHECK(handle.payload != nullptr, "a stored entry is appended again");
      self.append_entry(kind, Term(entry.term), *handle.payload, true);
    } else {
      Buffer copy = Buffer::copy_of(view_of(entry.buf));
      if (kind == log::EntryKind::kConfiguration) {
        clear_configuration_padding(copy.mutable_view());
      }
      SharedBytes bytes(std::move(copy));
      self.append_entry(kind, Term(entry.term), std::move(bytes), true);
    }
  }
  return 0;
}

// `counted`: part of the newest of pending_appends_.
void RaftIo::append_entry(log::EntryKind kind, Term term, SharedBytes payload, bool counted) {
  EntrySlot slot;
  slot.term = term;
  slot.kind = kind;
  slot.payload_bytes = static_cast<uint32_t>(payload.size());
  slot.position = log_.append(kind, term, table_.end(), payload, [gate = gate_, counted] {
    if (counted && gate->io != nullptr) {
      gate->io->on_entry_durable();
    }
  });
  table_.append(slot, std::move(payload));
}

void RaftIo::on_entry_durable() {
  TIDEMARK_CHECK(!pending_appends_.empty());
  if (--pending_appends_.front().entries_left > 0) {
    return;
  }
  raft_io_append* request = pending_appends_.front().request;
  pending_appends_.pop_front();
  request->cb(request, 0);
  notify();
}

int RaftIo::io_truncate(raft_io* io, raft_index index) {
  RaftIo& self = of(io);
  const EntrySlot* slot = self.table_.find(LogIndex(index));
  TIDEMARK_CHECK(slot != nullptr, "truncation of an entry that is not in memory");
  const LogPosition position = slot->position;
  self.table_.truncate(LogIndex(index));
  self.log_.truncate_suffix(LogIndex(index), position, [] {});
  return 0;
}

Result<SharedBytes> RaftIo::payload(LogIndex index) const {
  if (const SharedBytes* held = table_.payload(index)) {
    return *held;
  }
  const EntrySlot* slot = table_.find(index);
  TIDEMARK_CHECK(slot != nullptr, "payload of an entry that was forgotten");
  if (slot->payload_bytes == 0) {
    return SharedBytes();
  }
  if (std::optional<SharedBytes> bytes =
          log_.cached(slot->position + log::kEntryHeaderBytes, slot->payload_bytes)) {
    return *std::move(bytes);
  }
  return log_.read_payload({slot->kind, slot->term, index, slot->position, slot->payload_bytes});
}

// --- Snapshots -----------------------------------------------------------------------------------

void RaftIo::checkpointed(LogIndex covered, LogPosition low_position) {
  low_position_ = std::max(low_position_, low_position);
  drop_log_prefix();
  const raft& core = *static_cast<raft*>(io_.data);
  if (covered <= manifest_written_ || core.configuration_uncommitted_index != 0 ||
      core.configuration_index > covered.value()) {
    return;
  }
  const EntrySlot* slot = table_.find(covered);
  TIDEMARK_CHECK(slot != nullptr, "checkpoint of an entry that is not in memory");
  SnapshotPoint point{covered, slot->term, LogIndex(core.configuration_index),
                      encode_configuration(core.configuration)};
  log::SnapshotManifest manifest{
      point.index, point.term, slot->end(), point.configuration_index, point.configuration, {}};
  manifest_written_ = covered;
  log_.append_snapshot(std::move(manifest),
                       [gate = gate_, point = std::move(point), next = slot->end()] {
                         if (gate->io != nullptr) {
                           gate->io->on_manifest_durable(point, next);
                         }
                       });
}

void RaftIo::on_manifest_durable(const SnapshotPoint& point, LogPosition next_position) {
  manifest_ = point;
  manifest_next_position_ = next_position;
  drop_log_prefix();
  trim_table();
}

void RaftIo::drop_log_prefix() {
  if (manifest_) {
    log_.drop_prefix(std::min(low_position_, manifest_next_position_));
  }
}

// Slots are needed for what libraft holds and for the entries a next manifest may be about.
void RaftIo::trim_table() {
  const LogIndex needed_by_raft(static_cast<raft*>(io_.data)->log.offset + 1);
  const LogIndex needed_by_manifest = manifest_ ? manifest_->index + 1 : LogIndex(1);
  table_.drop_before(std::max(table_.first(), std::min(needed_by_raft, needed_by_manifest)));
}

// Called to take a snapshot as well as to install one of the leader's. The second begins with a
// message from a peer, and none is received without a transport.
int RaftIo::io_snapshot_put(raft_io* io, unsigned /*trailing*/, raft_io_snapshot_put* request,
                            const raft_snapshot* snapshot, raft_io_snapshot_put_cb callback) {
  RaftIo& self = of(io);
  TIDEMARK_CHECK(static_cast<raft*>(io->data)->snapshot.pending.term != 0,
                 "installation of a snapshot that no peer can have sent");
  TIDEMARK_CHECK(self.pending_put_ == nullptr);
  request->cb = callback;
  self.pending_put_ = request;
  self.trimmed_ = SnapshotPoint{LogIndex(snapshot->index), Term(snapshot->term),
                                LogIndex(snapshot->configuration_index),
                                encode_configuration(snapshot->configuration)};
  self.schedule_turn();
  return 0;
}

int RaftIo::io_snapshot_get(raft_io* io, raft_io_snapshot_get* request,
                            raft_io_snapshot_get_cb callback) {
  RaftIo& self = of(io);
  request->cb = callback;
  self.pending_gets_.push_back(request);
  self.schedule_turn();
  return 0;
}

// --- Network -------------------------------------------------------------------------------------

int RaftIo::io_send(raft_io* io, raft_io_send* request, const raft_message* message,
                    raft_io_send_cb callback) {
  RaftIo& self = of(io);
  // Without a callback the request may be gone before we look at it again.
  if (callback != nullptr) {
    request->cb = callback;
    self.pending_sends_.push_back(request);
    self.schedule_turn();
  }
  if (self.transport_ == nullptr) {
    return 0;
  }
  if (self.votes_appended_ == self.votes_durable_) {
    self.transport_->send(self.make_message(*message));
  } else if (self.held_.size() < limits::kHeldPeerMessagesMax) {
    self.held_.push_back({self.votes_appended_, self.make_message(*message)});
  }
  return 0;
}

// A full copy: what libraft's message points to is gone when send() returns or its callback has
// fired.
PeerMessage RaftIo::make_message(const raft_message& message) const {
  PeerMessage copy{shard_, node_, NodeId(message.server_id), {}};
  switch (message.type) {
    case RAFT_IO_APPEND_ENTRIES:
      copy.body = make_append_entries(message.append_entries);
      break;
    case RAFT_IO_APPEND_ENTRIES_RESULT: {
      const raft_append_entries_result& body = message.append_entries_result;
      copy.body = AppendEntriesResult{Term(body.term), LogIndex(body.rejected),
                                      LogIndex(body.last_log_index)};
      break;
    }
    case RAFT_IO_REQUEST_VOTE: {
      const raft_request_vote& body = message.request_vote;
      copy.body = RequestVote{
          Term(body.term),          NodeId(body.candidate_id), LogIndex(body.last_log_index),
          Term(body.last_log_term), body.disrupt_leader,       body.pre_vote};
      break;
    }
    case RAFT_IO_REQUEST_VOTE_RESULT: {
      const raft_request_vote_result& body = message.request_vote_result;
      RequestVoteResult result{Term(body.term), body.vote_granted, std::nullopt};
      if (body.pre_vote != raft_tribool_unknown) {
        result.pre_vote = body.pre_vote == raft_tribool_true;
      }
      copy.body = result;
      break;
    }
    case RAFT_IO_INSTALL_SNAPSHOT: {
      const raft_install_snapshot& body = message.install_snapshot;
      const ByteView data = view_of(body.data);
      copy.body = InstallSnapshot{
          Term(body.term),           LogIndex(body.last_index),       Term(body.last_term),
          LogIndex(body.conf_index), encode_configuration(body.conf), {data.begin(), data.end()}};
      break;
    }
    case RAFT_IO_TIMEOUT_NOW: {
      const raft_timeout_now& body = message.timeout_now;
      copy.body =
          TimeoutNow{Term(body.term), LogIndex(body.last_log_index), Term(body.last_log_term)};
      break;
    }
    default:
      TIDEMARK_CHECK(false, "raft message of type " + std::to_string(message.type));
  }
  return copy;
}

AppendEntries RaftIo::make_append_entries(const raft_append_entries& message) const {
  AppendEntries copy{Term(message.term),
                     LogIndex(message.prev_log_index),
                     Term(message.prev_log_term),
                     LogIndex(message.leader_commit),
                     {}};
  copy.entries.reserve(message.n_entries);
  for (unsigned i = 0; i < message.n_entries; ++i) {
    const LogIndex index = copy.previous_index + 1 + i;
    const EntrySlot* slot = table_.find(index);
    TIDEMARK_CHECK(slot != nullptr && slot->term == Term(message.entries[i].term),
                   "libraft and the table hold different entries");
    PeerEntry entry{index, slot->term, slot->kind, slot->position, slot->payload_bytes, {}};
    if (const SharedBytes* held = table_.payload(index)) {
      entry.payload = *held;
    } else {
      entry.payload = log_.cached(slot->position + log::kEntryHeaderBytes, slot->payload_bytes);
    }
    copy.entries.push_back(std::move(entry));
  }
  return copy;
}

// --- Turns ---------------------------------------------------------------------------------------

void RaftIo::schedule_turn() {
  if (turn_scheduled_) {
    return;
  }
  turn_scheduled_ = true;
  deferrer_.defer([gate = gate_] {
    if (gate->io != nullptr) {
      gate->io->run_turn();
    }
  });
}

void RaftIo::run_turn() {
  turn_scheduled_ = false;
  const int send_status = transport_ == nullptr ? RAFT_NOCONNECTION : 0;
  for (raft_io_send* request : std::exchange(pending_sends_, {})) {
    request->cb(request, send_status);
  }
  if (raft_io_snapshot_put* request = std::exchange(pending_put_, nullptr)) {
    request->cb(request, 0);
    trim_table();
  }
  for (raft_io_snapshot_get* request : std::exchange(pending_gets_, {})) {
    const std::optional<SnapshotPoint>& point = trimmed_ ? trimmed_ : manifest_;
    if (point) {
      request->cb(request, make_snapshot(*point), 0);
    } else {
      request->cb(request, nullptr, RAFT_NOTFOUND);
    }
  }
  notify();
}

void RaftIo::notify() {
  if (on_activity_) {
    on_activity_();
  }
}

void RaftIo::tick() {
  if (tick_callback_ != nullptr) {
    tick_callback_(&io_);
    notify();
  }
}

raft_time RaftIo::io_time(raft_io* io) {
  return static_cast<raft_time>(of(io).clock_.monotonic().ns / kNanosecondsPerMillisecond);
}

int RaftIo::io_random(raft_io* io, int low, int high) {
  if (high <= low) {
    return low;
  }
  return low + static_cast<int>(of(io).random_.below(static_cast<uint64_t>(high - low)));
}

// --- Close ---------------------------------------------------------------------------------------

void RaftIo::io_close(raft_io* io, raft_io_close_cb callback) {
  RaftIo& self = of(io);
  self.close_callback_ = callback;
  if (self.close_at_once_) {
    self.finish_close();
    return;
  }
  self.deferrer_.defer([gate = self.gate_] {
    if (gate->io != nullptr) {
      gate->io->finish_close();
    }
  });
}

// libraft is unavailable by now: an append that completes does not commit or apply anything, it
// only lets go of memory.
void RaftIo::finish_close() {
  gate_->io = nullptr;
  tick_callback_ = nullptr;
  for (const PendingAppend& append : std::exchange(pending_appends_, {})) {
    append.request->cb(append.request, 0);
  }
  for (raft_io_send* request : std::exchange(pending_sends_, {})) {
    request->cb(request, 0);
  }
  for (raft_io_snapshot_get* request : std::exchange(pending_gets_, {})) {
    request->cb(request, nullptr, RAFT_CANCELED);
  }
  if (raft_io_snapshot_put* request = std::exchange(pending_put_, nullptr)) {
    request->cb(request, RAFT_CANCELED);
  }
  held_.clear();
  close_callback_(&io_);  // may destroy this
}

}  // namespace tidemark::replica
