// Reactor: one event loop with what lives on it: some shards, their workers, and the connections of
// clients that mostly talk to them. It joins net (sockets) to shard (state) and the loops to each
// other.
//
// A request for a shard of this loop is handed to it directly; one for another loop goes there by
// mailbox, and its reply comes back the same way. While a mailbox overflows, no connection of this
// loop is read, so the overflow is bounded by what was in flight.
//
// Turn: timers, I/O and mail run first; then, in turn_ended(): what was deferred, connections that
// have room again, flush() of every shard (what the turn gathered becomes one log entry each), one
// write for every connection with output, one wake-up for every loop with new mail.
//
// Thread: everything but the constructor, the destructor and wake() belongs to the loop's thread.
// Owner: the server.
#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/config.h"
#include "broker/data_directory.h"
#include "broker/loop_message.h"
#include "broker/net/connection.h"
#include "broker/net/event_loop.h"
#include "broker/replica/raft_engine.h"
#include "broker/shard/shard_runtime.h"
#include "broker/shard/thread_executor.h"

namespace tidemark::broker {

class Reactor;

// What all loops share. Set up before their threads start and constant from then on, except the
// count of connections.
struct World {
  Config config;
  DataDirectory* data = nullptr;
  net::HostPort advertised;
  FileSystem* file_system = nullptr;
  Clock* clock = nullptr;
  uint32_t loops = 0;
  std::vector<uint64_t> shard_seeds;
  std::vector<std::unique_ptr<LoopMailbox>> mailboxes;  // [from * loops + to]
  std::vector<std::unique_ptr<Reactor>> reactors;
  std::atomic<uint32_t> connections{0};  // open, on all loops

  [[nodiscard]] uint16_t shards() const { return data->identity().shards; }

  [[nodiscard]] uint32_t loop_of(uint16_t shard) const { return shard % loops; }

  LoopMailbox& mailbox(uint32_t from, uint32_t to) { return *mailboxes[size_t{from} * loops + to]; }
};

// Gets the messages that are for the broker as a whole. The server; called on loop 0.
class Coordinator {
 public:
  virtual ~Coordinator() = default;
  virtual void loop_opened(OpenedMessage message) = 0;
  virtual void loop_report(ReportMessage message) = 0;
  virtual void shards_stopped(ShardsStoppedMessage message) = 0;
};

class Reactor final : public net::LoopClient,
                      public net::FrameHandler,
                      public shard::Outbox,
                      public replica::Deferrer {
 public:
  static constexpr uint64_t kTickMs = 10;
  // For unsent replies when the broker stops.
  static constexpr int64_t kCloseMsMax = 5'000;

  // `coordinator` is used by loop 0 only.
  static Result<std::unique_ptr<Reactor>> create(World& world, uint32_t loop,
                                                 Coordinator* coordinator);
  ~Reactor() override;
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Opens the shards of this loop (blocking), says so to loop 0, serves until it was closed.
  void run();

  // Any thread.
  void wake() { loop_->wake(); }

  // --- for the server, on loop 0 ---
  [[nodiscard]] net::EventLoop& event_loop() { return *loop_; }

  // Takes an accepted socket, or refuses it over the limit.
  void accept(net::UvHandle<uv_tcp_t> socket);
  // To this or another loop; never blocks.
  void send(uint32_t loop, LoopMessage message);
  [[nodiscard]] LoopReport report() const;

  // --- net::LoopClient ---
  void woken() override;
  void turn_ended() override;
  // --- net::FrameHandler ---
  void hello(net::Connection& connection, protocol::Frame frame) override;
  void request(net::Connection& connection, protocol::Frame frame) override;
  void has_work(net::Connection& connection) override;
  void closed(net::Connection& connection) override;

  [[nodiscard]] bool takes_requests() const override { return !congested_; }

  [[nodiscard]] MonotonicTime now() const override { return world_.clock->monotonic(); }

  // --- shard::Outbox ---
  void reply(const shard::ReplyTo& to, protocol::OutFrame frame) override;
  void mail(shard::ShardMail mail) override;
  // --- replica::Deferrer ---
  void defer(MoveOnlyFunction<void()> callback) override;

 private:
  enum class State { kServing, kStopping, kStopped, kClosing };

  struct LocalShard {
    uint16_t number = 0;
    std::unique_ptr<shard::ThreadExecutor> disk;
    std::unique_ptr<shard::ShardRuntime> runtime;  // nullptr: not open
    bool stopped = false;
  };

  struct Client {
    std::unique_ptr<net::Connection> connection;
    std::bitset<limits::kShardsMax> shards;  // that have had requests from it
    bool has_work = false;
  };

  Reactor(World& world, uint32_t loop, Coordinator* coordinator);

  Status open_shards();
  Status open_shard(LocalShard& local);
  void tick();

  LocalShard* local_shard(uint16_t shard);
  void deliver(const shard::ReplyTo& from, uint16_t shard, protocol::Frame frame);
  protocol::OutFrame hello_reply(uint64_t correlation) const;

  // True if there was any.
  bool receive_mail();
  void handle(LoopMessage message);
  void on_message(RequestMessage message);
  void on_message(ReplyMessage message);
  void on_message(ShardMailMessage message);
  void on_message(ConnectionMessage message);
  void on_message(const ConnectionGoneMessage& message);
  void on_message(OpenedMessage message);
  void on_message(const ReportRequestMessage& message);
  void on_message(ReportMessage message);
  void on_message(const StopShardsMessage& message);
  void on_message(ShardsStoppedMessage message);
  void on_message(const CloseMessage& message);
  bool resend_overflow();

  void arm_wake();
  void run_deferred();
  void work_on_clients();
  void flush_clients();
  net::Connection& add_client(std::unique_ptr<net::Connection> connection);
  // Of all connections, for loops in which some may close.
  [[nodiscard]] std::vector<uint64_t> client_ids() const;

  void shard_stopped(LocalShard& local, const Status& status);
  void say_stopped_when_settled();
  void end_when_closed();

  World& world_;
  const uint32_t loop_number_;
  Coordinator* const coordinator_;
  State state_ = State::kServing;

  // Executors wake the loop, timers and connections stand on it: the loop goes last.
  std::unique_ptr<net::EventLoop> loop_;
  std::unique_ptr<shard::ThreadExecutor> checkpoint_;
  std::unique_ptr<shard::ThreadExecutor> reads_;
  std::vector<LocalShard> shards_;  // shard n at n / loops
  std::unique_ptr<net::Timer> tick_timer_;
  std::unique_ptr<net::Alarm> alarm_;
  uint64_t ticks_ = 0;
  uint64_t turns_ = 0;

  std::unordered_map<uint64_t, Client> clients_;
  std::vector<uint64_t> with_work_;
  std::vector<std::unique_ptr<net::Connection>> gone_;  // closed in this turn; freed at its end
  uint64_t next_connection_ = 1;                        // loop 0 numbers them
  net::ConnectionCounters counters_;

  std::deque<MoveOnlyFunction<void()>> deferred_;
  std::vector<bool> mailed_;  // loops with new mail in this turn
  bool any_mailed_ = false;
  bool congested_ = false;
  uint64_t requests_forwarded_ = 0;

  size_t stopping_ = 0;  // shards whose stop is under way
  Status stop_status_;
  MonotonicTime close_deadline_;
};

}  // namespace tidemark::broker
