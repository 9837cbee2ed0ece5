// A session: one broker and one shard, over whatever connection there is at the moment.
//
//            request()               open               Hello ok
//   kIdle ------------> kConnecting ------> kGreeting ------------> kReady
//     ^                      |                  |                      |
//     |  nothing queued      +------- closed, refused, timed out ------+
//     +------------------- kWaiting <-----------------------------------
//                             |  back-off over and something queued -> kConnecting
//
// Requests that arrive before kReady wait; they fail with the attempt that fails. A request is
// answered exactly once, never inside request(): with the reply frame, or with a status:
//   kUnavailable       it was never sent
//   kOutcomeUnknown    it was sent, then the connection was lost
//   kTimedOut          it was sent and not answered in time (the connection is then closed)
//   kMalformed, kUnsupported*, or the code of an Error frame: refused by the broker
//
// Thread: the I/O thread. No libuv, no clock: time is an argument of run(), or asked of the Clock
// when a request comes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/protocol/frame.h"
#include "clients/cpp/src/address.h"
#include "clients/cpp/src/backoff.h"
#include "clients/cpp/src/channel.h"
#include "log/base/clock.h"
#include "log/base/function.h"
#include "log/base/random.h"

namespace tidemark::client_core {

struct Reply {
  Status status;
  protocol::Frame frame;  // when ok; verified as far as its header goes
  uint32_t retry_after_ms = 0;
};

using ReplyHandler = MoveOnlyFunction<void(Reply)>;

// What the handshake told.
struct BrokerFacts {
  uint64_t cluster_id = 0;
  uint64_t node_id = 0;
  uint16_t shards = 0;
  uint32_t message_bytes_max = 0;
  uint32_t batch_bytes_max = 0;
  uint32_t frame_bytes_max = 0;
  std::string fsync;
  std::string version;
};

struct SessionOptions {
  std::string client_name;
  int64_t connect_timeout_ns = 5'000 * kNsPerMs;
  int64_t backoff_min_ns = 50 * kNsPerMs;
  int64_t backoff_max_ns = 5'000 * kNsPerMs;
};

class Session final : private ChannelEvents {
 public:
  // Judges a handshake; an error closes the connection with this status.
  using Greeter = MoveOnlyFunction<Status(const BrokerFacts&)>;

  Session(Address address, uint16_t shard, const SessionOptions& options, ChannelFactory& factory,
          Clock& clock, uint64_t seed, Greeter greeter);
  // Forgets what is under way without answering it.
  ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const Address& address() const { return address_; }

  [[nodiscard]] uint16_t shard() const { return shard_; }

  [[nodiscard]] bool ready() const { return state_ == State::kReady; }

  // How many connections were lost, or could not be made, so far.
  [[nodiscard]] uint64_t losses() const { return losses_; }

  // Of the last handshake; empty before the first.
  [[nodiscard]] const BrokerFacts& facts() const { return facts_; }

  // Why the last connection ended; ok before that and after a handshake.
  [[nodiscard]] const Status& last_error() const { return last_error_; }

  // `frame_shard` goes into the header (kNoShard: the metadata shard).
  void request(protocol::FrameType type, uint16_t frame_shard, ByteView table,
               std::vector<SharedBytes> payload, MonotonicTime deadline, ReplyHandler handler);

  MonotonicTime run(MonotonicTime now);

 private:
  enum class State { kIdle, kWaiting, kConnecting, kGreeting, kReady };

  struct Request {
    protocol::FrameType type = protocol::FrameType::kError;
    MonotonicTime deadline;
    ReplyHandler handler;
    protocol::OutFrame frame;  // until sent
  };

  void on_open() override;
  void on_frame(protocol::Frame frame) override;
  void on_closed(Status why) override;

  void connect();
  void on_hello_reply(const protocol::Frame& frame);
  void answer(Request& request, protocol::Frame frame);
  // Ends the connection: what waits fails with `why`, what was sent with kOutcomeUnknown.
  void fail(Status why);
  void expire(MonotonicTime now);
  void note_deadline(MonotonicTime deadline);

  Address address_;
  uint16_t shard_;
  SessionOptions options_;
  ChannelFactory& factory_;
  Clock& clock_;
  Random random_;
  Greeter greeter_;
  Backoff backoff_;

  State state_ = State::kIdle;
  MonotonicTime state_until_ = kNever;  // end of back-off, or of the time to connect
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<Channel> doomed_;  // closed inside an event, destroyed by run()
  BrokerFacts facts_;
  Status last_error_;
  uint64_t losses_ = 0;

  uint64_t next_correlation_ = 1;
  uint64_t hello_correlation_ = 0;
  std::deque<std::pair<uint64_t, Request>> queued_;
  std::unordered_map<uint64_t, Request> sent_;
  MonotonicTime next_deadline_ = kNever;  // not later than that of any request
};

}  // namespace tidemark::client_core
