#include "broker/reactor.h"

#include <algorithm>
#include <utility>

#include "broker/kv/lmdb_store.h"
#include "broker/protocol/messages.h"
#include "log/base/check.h"
#include "log/base/logging.h"

namespace tidemark::broker {

namespace {

using protocol::Frame;
using protocol::OutFrame;

// Cold reads that one loop has on disk at a time.
constexpr size_t kReadThreads = 2;
constexpr size_t kWheelEntriesMin = 4096;
constexpr int64_t kNsPerMs = 1'000'000;
// Deadlines are looked at every so many ticks.
constexpr uint64_t kTicksPerDeadlineCheck = 100;
// A turn delivers at most this many messages of one mailbox before it looks at its sockets again.
constexpr size_t kMessagesPerTurnMax = 1024;
// A shard never gets less of the broker's budgets than this.
constexpr uint64_t kShardBufferBytesMin = 2 * limits::kEntryPayloadBytesMax;

Status broker_stops() { return {ErrorCode::kShuttingDown, "the broker is stopping"}; }

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create(World& world, uint32_t loop,
                                                 Coordinator* coordinator) {
  std::unique_ptr<Reactor> reactor(new Reactor(world, loop, coordinator));
  ASSIGN_OR_RETURN(reactor->loop_, net::EventLoop::create());
  Reactor* self = reactor.get();
  const std::string number = std::to_string(loop);
  const auto wake = [self] { self->wake(); };
  reactor->checkpoint_ = std::make_unique<shard::ThreadExecutor>(
      shard::ThreadExecutor::Options{.name = "checkpoint-" + number}, wake);
  reactor->reads_ = std::make_unique<shard::ThreadExecutor>(
      shard::ThreadExecutor::Options{.name = "reads-" + number, .threads = kReadThreads}, wake);
  reactor->tick_timer_ = std::make_unique<net::Timer>(*reactor->loop_, [self] { self->tick(); });
  ASSIGN_OR_RETURN(reactor->alarm_, net::Alarm::create(*reactor->loop_));
  return reactor;
}

Reactor::Reactor(World& world, uint32_t loop, Coordinator* coordinator)
    : world_(world), loop_number_(loop), coordinator_(coordinator), mailed_(world.loops) {}

Reactor::~Reactor() {
  if (loop_) {
    loop_->set_client(nullptr);
  }
  clients_.clear();
  gone_.clear();
  // Workers first: what they still run is dropped without its callback.
  for (LocalShard& local : shards_) {
    local.disk.reset();
  }
  checkpoint_.reset();
  reads_.reset();
  deferred_.clear();
  shards_.clear();
  tick_timer_.reset();
  alarm_.reset();
}

void Reactor::run() {
  const Status status = open_shards();
  loop_->set_client(this);
  tick_timer_->start(kTickMs, kTickMs);
  send(0, OpenedMessage{loop_number_, status});
  loop_->run();
}

Status Reactor::open_shards() {
  for (uint32_t number = loop_number_; number < world_.shards(); number += world_.loops) {
    LocalShard& local = shards_.emplace_back();
    local.number = static_cast<uint16_t>(number);
  }
  for (LocalShard& local : shards_) {
    if (const Status status = open_shard(local); !status.ok()) {
      // Its callbacks have nowhere to go.
      local.disk.reset();
      return {status.code(),
              "shard " + std::to_string(local.number) + ": " + std::string(status.context())};
    }
  }
  return {};
}

Status Reactor::open_shard(LocalShard& local) {
  const ShardId id{local.number};
  const Config& config = world_.config;
  const MonotonicTime started = now();
  shard::ShardOptions options;
  ASSIGN_OR_RETURN(options.log_directory, world_.data->log_directory(id));
  ASSIGN_OR_RETURN(const std::string views, world_.data->views_directory(id));
  ASSIGN_OR_RETURN(std::unique_ptr<kv::KeyValueStore> store,
                   kv::LmdbStore::open(*world_.file_system, {.directory = views}));
  options.cluster_id = world_.data->identity().cluster_id;
  options.shard = id;
  options.shard_count = world_.shards();
  options.node = world_.data->identity().node;
  options.advertised_host = world_.advertised.host;
  options.advertised_port = world_.advertised.port;
  options.segment_bytes = config.segment_bytes;
  options.fsync = config.fsync;
  options.write_buffer_bytes =
      std::max(config.write_buffer_bytes / world_.shards(), kShardBufferBytesMin);
  options.tail_cache_bytes =
      std::max(config.tail_cache_bytes / world_.shards(), kShardBufferBytesMin);
  options.wheel.memory_entries_max = std::max<size_t>(
      config.wheel_memory_bytes / world_.shards() / sizeof(timerwheel::Entry), kWheelEntriesMin);
  options.checkpoint_log_bytes = config.checkpoint_bytes;
  options.checkpoint_interval_ms = config.checkpoint_interval_ms;
  options.retention_interval_ms = config.retention_interval_ms;
  options.txn_pending_age_ms = config.txn_pending_age_ms;
  options.txn_outcome_age_ms = config.txn_outcome_age_ms;
  options.random_seed = world_.shard_seeds[local.number];
  const std::string number = std::to_string(local.number);
  local.disk = std::make_unique<shard::ThreadExecutor>(
      shard::ThreadExecutor::Options{.name = "disk-" + number}, [this] { wake(); });
  shard::Environment environment{.file_system = *world_.file_system,
                                 .clock = *world_.clock,
                                 .disk = *local.disk,
                                 .checkpoint = *checkpoint_,
                                 .reads = *reads_,
                                 .deferrer = *this,
                                 .outbox = *this,
                                 .store = std::move(store)};
  log::RecoveryReport report;
  ASSIGN_OR_RETURN(local.runtime,
                   shard::ShardRuntime::open(std::move(environment), std::move(options), &report));
  for (const std::string& note : report.notes) {
    log_line(LogLevel::kWarning, "recovery shard=" + number + " note=\"" + note + "\"");
  }
  log_line(LogLevel::kInfo, "shard_open shard=" + number +
                                " segments=" + std::to_string(report.segments) +
                                " entries=" + std::to_string(report.entries_verified) +
                                " bytes=" + std::to_string(report.bytes_verified) +
                                " torn_bytes_cut=" + std::to_string(report.torn_bytes_cut) +
                                " ms=" + std::to_string((now().ns - started.ns) / 1'000'000));
  return {};
}

void Reactor::tick() {
  ++ticks_;
  for (LocalShard& local : shards_) {
    if (local.runtime != nullptr && !local.stopped) {
      local.runtime->tick();
    }
  }
  if (ticks_ % kTicksPerDeadlineCheck == 0) {
    for (const uint64_t id : client_ids()) {
      clients_.find(id)->second.connection->check_deadlines();
    }
  }
}

// --- turns ---

void Reactor::woken() {
  for (LocalShard& local : shards_) {
    if (local.disk != nullptr) {
      local.disk->finish_completed();
    }
  }
  checkpoint_->finish_completed();
  reads_->finish_completed();
  static_cast<void>(receive_mail());
}

bool Reactor::receive_mail() {
  bool any = false;
  for (uint32_t from = 0; from < world_.loops; ++from) {
    if (from == loop_number_) {
      continue;
    }
    LoopMailbox& mailbox = world_.mailbox(from, loop_number_);
    size_t received = 0;
    while (received < kMessagesPerTurnMax) {
      std::unique_ptr<LoopMessage> message = mailbox.receive();
      if (message == nullptr) {
        break;
      }
      ++received;
      handle(std::move(*message));
    }
    if (received == kMessagesPerTurnMax) {
      // More may be there; come back after the sockets had their turn.
      wake();
    }
    if (received > 0 && mailbox.take_sender_waiting()) {
      world_.reactors[from]->wake();
    }
    any = any || received > 0;
  }
  return any;
}

void Reactor::turn_ended() {
  ++turns_;
  run_deferred();
  resend_overflow();
  work_on_clients();
  for (LocalShard& local : shards_) {
    if (local.runtime != nullptr && !local.stopped) {
      local.runtime->flush();
    }
  }
  flush_clients();
  gone_.clear();
  say_stopped_when_settled();
  if (any_mailed_) {
    any_mailed_ = false;
    for (uint32_t to = 0; to < world_.loops; ++to) {
      if (mailed_[to]) {
        mailed_[to] = false;
        world_.reactors[to]->wake();
      }
    }
  }
  loop_->set_busy(!deferred_.empty() || !with_work_.empty());
  arm_wake();
  end_when_closed();
}

// A delayed message comes due between two ticks: a turn at that time, in which flush() sees to it.
void Reactor::arm_wake() {
  std::optional<MonotonicTime> wake;
  for (const LocalShard& local : shards_) {
    if (local.runtime != nullptr && !local.stopped) {
      if (const auto next = local.runtime->next_wake(); next.has_value()) {
        wake = wake.has_value() ? std::min(*wake, *next) : next;
      }
    }
  }
  if (!wake.has_value()) {
    return;
  }
  const MonotonicTime time = now();
  if (*wake <= time) {
    wake = MonotonicTime{time.ns + kNsPerMs};  // this turn could not do it: the next try
  }
  if (wake->ns - time.ns < static_cast<int64_t>(kTickMs) * kNsPerMs) {
    alarm_->set(*wake, time);
  }
}

// What callbacks defer in turn waits for the next turn.
void Reactor::run_deferred() {
  for (size_t count = deferred_.size(); count > 0; --count) {
    MoveOnlyFunction<void()> callback = std::move(deferred_.front());
    deferred_.pop_front();
    callback();
  }
}

// Lets connections go on that were held back and have room again.
void Reactor::work_on_clients() {
  const bool was_congested = congested_;
  congested_ = false;
  for (uint32_t to = 0; to < world_.loops; ++to) {
    congested_ = congested_ || (to != loop_number_ && !world_.mailbox(loop_number_, to).settled());
  }
  if (was_congested && !congested_) {
    for (auto& [id, client] : clients_) {
      has_work(*client.connection);
    }
  }
  for (size_t i = 0; i < with_work_.size(); ++i) {
    if (const auto found = clients_.find(with_work_[i]); found != clients_.end()) {
      found->second.connection->resume();
    }
  }
}

void Reactor::flush_clients() {
  // A connection whose output drained may have work again: that is for the next turn.
  std::vector<uint64_t> ids = std::exchange(with_work_, {});
  for (const uint64_t id : ids) {
    if (const auto found = clients_.find(id); found != clients_.end()) {
      found->second.has_work = false;
      found->second.connection->flush();
    }
  }
  if (with_work_.empty()) {
    ids.clear();
    with_work_ = std::move(ids);
  }
}

void Reactor::defer(MoveOnlyFunction<void()> callback) {
  deferred_.push_back(std::move(callback));
  loop_->set_busy(true);
}

// --- mail ---

void Reactor::send(uint32_t loop, LoopMessage message) {
  if (loop == loop_number_) {
    // Not inside the caller: it may be in the middle of something that the message changes.
    defer([this, held = std::make_unique<LoopMessage>(std::move(message))] {
      handle(std::move(*held));
    });
    return;
  }
  LoopMailbox& mailbox = world_.mailbox(loop_number_, loop);
  mailbox.send(std::make_unique<LoopMessage>(std::move(message)));
  congested_ = congested_ || !mailbox.settled();
  mailed_[loop] = true;
  any_mailed_ = true;
}

bool Reactor::resend_overflow() {
  bool any = false;
  for (uint32_t to = 0; to < world_.loops; ++to) {
    if (to != loop_number_ && world_.mailbox(loop_number_, to).resend()) {
      mailed_[to] = true;
      any = true;
    }
  }
  any_mailed_ = any_mailed_ || any;
  return any;
}

void Reactor::handle(LoopMessage message) {
  std::visit([this](auto&& one) { on_message(std::forward<decltype(one)>(one)); },
             std::move(message));
}

void Reactor::on_message(RequestMessage message) {
  deliver(message.from, message.shard, std::move(message.frame));
}

void Reactor::on_message(ReplyMessage message) { reply(message.to, std::move(message.frame)); }

void Reactor::on_message(ShardMailMessage message) {
  LocalShard* local = local_shard(message.mail.to.value());
  // The sender repeats what a stopped shard does not answer.
  if (local != nullptr) {
    local->runtime->receive_mail(message.mail);
  }
}

void Reactor::on_message(ConnectionMessage message) {
  if (state_ == State::kClosing) {
    world_.connections.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  Result<std::unique_ptr<net::Connection>> connection =
      net::Connection::attach(*loop_, *this, counters_, std::move(message.connection));
  if (!connection.ok()) {
    world_.connections.fetch_sub(1, std::memory_order_relaxed);
    log_line(LogLevel::kWarning,
             "connection_lost reason=\"" + connection.error().to_string() + "\"");
    return;
  }
  add_client(std::move(*connection)).start();
}

void Reactor::on_message(const ConnectionGoneMessage& message) {
  if (LocalShard* local = local_shard(message.shard); local != nullptr) {
    local->runtime->connection_closed(message.loop, message.connection);
  }
}

void Reactor::on_message(OpenedMessage message) { coordinator_->loop_opened(std::move(message)); }

void Reactor::on_message(const ReportRequestMessage& message) {
  send(0, ReportMessage{message.gather, report()});
}

void Reactor::on_message(ReportMessage message) { coordinator_->loop_report(std::move(message)); }

void Reactor::on_message(ShardsStoppedMessage message) {
  coordinator_->shards_stopped(std::move(message));
}

// --- requests and replies ---

Reactor::LocalShard* Reactor::local_shard(uint16_t shard) {
  TIDEMARK_CHECK(world_.loop_of(shard) == loop_number_);
  LocalShard& local = shards_[shard / world_.loops];
  return local.runtime != nullptr && !local.stopped ? &local : nullptr;
}

void Reactor::request(net::Connection& connection, Frame frame) {
  const uint16_t shard =
      frame.header.shard == protocol::kNoShard ? uint16_t{0} : frame.header.shard;
  const uint64_t correlation = frame.header.correlation;
  if (shard >= world_.shards()) {
    connection.reply(correlation, protocol::make_error_frame(
                                      correlation, {ErrorCode::kInvalidArgument,
                                                    "shard " + std::to_string(shard) +
                                                        " is out of range: 0 to " +
                                                        std::to_string(world_.shards() - 1)}));
    return;
  }
  const shard::ReplyTo from{.loop = loop_number_,
                            .connection = connection.id(),
                            .correlation = correlation,
                            .type = static_cast<protocol::FrameType>(frame.header.type)};
  const uint32_t loop = world_.loop_of(shard);
  clients_.find(connection.id())->second.shards.set(shard);
  if (loop == loop_number_) {
    deliver(from, shard, std::move(frame));
    return;
  }
  ++requests_forwarded_;
  send(loop, RequestMessage{from, shard, std::move(frame)});
}

void Reactor::deliver(const shard::ReplyTo& from, uint16_t shard, Frame frame) {
  if (LocalShard* local = local_shard(shard); local != nullptr) {
    local->runtime->receive(from, std::move(frame));
    return;
  }
  reply(from, protocol::make_error_frame(from.correlation, broker_stops()));
}

void Reactor::reply(const shard::ReplyTo& to, OutFrame frame) {
  if (to.loop != loop_number_) {
    send(to.loop, ReplyMessage{to, std::move(frame)});
    return;
  }
  if (const auto found = clients_.find(to.connection); found != clients_.end()) {
    found->second.connection->reply(to.correlation, std::move(frame));
  }
}

void Reactor::mail(shard::ShardMail mail) {
  const uint32_t loop = world_.loop_of(mail.to.value());
  send(loop, ShardMailMessage{std::move(mail)});
}

// --- connections ---

void Reactor::accept(net::UvHandle<uv_tcp_t> socket) {
  if (world_.connections.load(std::memory_order_relaxed) >= limits::kConnectionsMax) {
    ++counters_.refused;
    net::Connection::refuse(
        std::move(socket),
        protocol::make_error_frame(
            0, {ErrorCode::kLimitExceeded,
                "this broker takes " + std::to_string(limits::kConnectionsMax) + " connections"}));
    return;
  }
  world_.connections.fetch_add(1, std::memory_order_relaxed);
  add_client(
      std::make_unique<net::Connection>(*this, counters_, next_connection_++, std::move(socket)))
      .start();
}

net::Connection& Reactor::add_client(std::unique_ptr<net::Connection> connection) {
  net::Connection& out = *connection;
  clients_[out.id()].connection = std::move(connection);
  return out;
}

std::vector<uint64_t> Reactor::client_ids() const {
  std::vector<uint64_t> ids;
  ids.reserve(clients_.size());
  for (const auto& [id, client] : clients_) {
    ids.push_back(id);
  }
  return ids;
}

OutFrame Reactor::hello_reply(uint64_t correlation) const {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto fsync = builder.CreateString(world_.config.fsync.to_string());
  const auto version = builder.CreateString(TIDEMARK_VERSION);
  const Identity& identity = world_.data->identity();
  builder.Finish(protocol::fbs::CreateHelloReply(
      builder, 0, identity.cluster_id, identity.node.value(), identity.shards,
      limits::kMessageBytesMax, limits::kBatchBytesMax, limits::kFrameBytesMax, fsync, version));
  return protocol::make_frame(protocol::FrameType::kHello, /*reply=*/true, protocol::kNoShard,
                              correlation, protocol::finished(builder));
}

void Reactor::hello(net::Connection& connection, Frame frame) {
  const uint64_t correlation = frame.header.correlation;
  const auto hello = protocol::read_table<protocol::fbs::Hello>(frame.table(), "Hello");
  if (!hello.ok()) {
    connection.reject_hello(protocol::make_error_frame(correlation, hello.error()));
    return;
  }
  uint16_t shard = (*hello)->preferred_shard();
  shard = shard == protocol::kNoShard ? uint16_t{0} : shard;
  if (shard >= world_.shards()) {
    const std::string text = "preferred shard " + std::to_string(shard) +
                             " is out of range: 0 to " + std::to_string(world_.shards() - 1);
    connection.reject_hello(
        protocol::make_error_frame(correlation, {ErrorCode::kInvalidArgument, text}));
    return;
  }
  const uint32_t loop = world_.loop_of(shard);
  if (loop == loop_number_) {
    connection.greet(hello_reply(correlation));
    return;
  }
  Result<net::DetachedConnection> detached = connection.detach();
  if (!detached.ok()) {
    // It works from here as well, with a hop.
    log_line(LogLevel::kWarning,
             "connection_not_moved reason=\"" + detached.error().to_string() + "\"");
    connection.greet(hello_reply(correlation));
    return;
  }
  const auto found = clients_.find(connection.id());
  gone_.push_back(std::move(found->second.connection));
  clients_.erase(found);
  detached->hello_reply = hello_reply(correlation);
  send(loop, ConnectionMessage{std::move(*detached)});
}

void Reactor::has_work(net::Connection& connection) {
  const auto found = clients_.find(connection.id());
  if (found != clients_.end() && !found->second.has_work) {
    found->second.has_work = true;
    with_work_.push_back(connection.id());
  }
}

void Reactor::closed(net::Connection& connection) {
  const auto found = clients_.find(connection.id());
  TIDEMARK_CHECK(found != clients_.end(), "a connection closes once");
  for (uint16_t shard = 0; shard < world_.shards(); ++shard) {
    if (found->second.shards.test(shard)) {
      // By message also to the own loop: the shard may be in the middle of answering this
      // connection.
      send(world_.loop_of(shard), ConnectionGoneMessage{loop_number_, connection.id(), shard});
    }
  }
  gone_.push_back(std::move(found->second.connection));
  clients_.erase(found);
  world_.connections.fetch_sub(1, std::memory_order_relaxed);
}

LoopReport Reactor::report() const {
  LoopReport out;
  out.loop = loop_number_;
  for (const LocalShard& local : shards_) {
    if (local.runtime != nullptr) {
      out.shards.push_back({local.runtime->stats(), local.runtime->ready() && !local.stopped});
    }
  }
  out.connections = counters_;
  out.open_connections = clients_.size();
  out.requests_forwarded = requests_forwarded_;
  for (uint32_t to = 0; to < world_.loops; ++to) {
    out.mail_overflow +=
        to != loop_number_ ? world_.mailbox(loop_number_, to).overflow_messages() : 0;
  }
  out.turns = turns_;
  return out;
}

// --- the end ---

void Reactor::on_message(const StopShardsMessage&) {
  state_ = State::kStopping;
  for (LocalShard& local : shards_) {
    if (local.runtime != nullptr) {
      ++stopping_;
      local.runtime->stop([this, &local](const Status& status) { shard_stopped(local, status); });
    }
  }
}

void Reactor::shard_stopped(LocalShard& local, const Status& status) {
  local.stopped = true;
  --stopping_;
  log_line(status.ok() ? LogLevel::kInfo : LogLevel::kError,
           "shard_stopped shard=" + std::to_string(local.number) + " status=\"" +
               status.to_string() + "\"");
  if (!status.ok() && stop_status_.ok()) {
    stop_status_ = {status.code(),
                    "shard " + std::to_string(local.number) + ": " + std::string(status.context())};
  }
}

// Replies that shards of this loop gave must be in the mailboxes before the connections are closed.
void Reactor::say_stopped_when_settled() {
  if (state_ != State::kStopping || stopping_ != 0 || congested_) {
    return;
  }
  state_ = State::kStopped;
  send(0, ShardsStoppedMessage{loop_number_, stop_status_});
}

void Reactor::on_message(const CloseMessage&) {
  state_ = State::kClosing;
  close_deadline_ = {now().ns + kCloseMsMax * 1'000'000};
  // Every reply was in a mailbox before this message was sent, so this finds them all.
  while (receive_mail()) {
  }
  for (const uint64_t id : client_ids()) {
    clients_.find(id)->second.connection->finish(kCloseMsMax);
  }
}

void Reactor::end_when_closed() {
  if (state_ != State::kClosing) {
    return;
  }
  if (now() >= close_deadline_) {
    for (const uint64_t id : client_ids()) {
      clients_.find(id)->second.connection->close();
    }
  }
  if (clients_.empty()) {
    gone_.clear();
    loop_->stop();
  }
}

}  // namespace tidemark::broker
