// Connection: a client's socket on a loop: frames in, replies out, and every bound that keeps it
// small.
//
//                greet()              fail(), finish()
//   kHandshake ------------> kServing ------------> kLingering ----> kClosed
//        |  \___________ fail(), finish() ____________/^   (peer done or deadline)
//        |  detach(): goes on as kServing on another loop
//        +--------------------------------------------------------> kClosed  (peer gone, close())
//
//   kHandshake  only Hello is taken, in frames of at most limits::kFrameBytesMaxBeforeHello, within
//               kHandshakeMsMax.
//   kServing    requests go to the handler; the connection counts what is under way and unsent.
//   kLingering  the last word was said: it is written, then the rest of what the peer sends is
//               thrown away for a moment, because the system throws the last word away when a
//               socket is closed with unread bytes.
//
// Bounds: over limits::kRequestsInFlightPerConnectionMax, kInFlightBytesPerConnectionMax or
// kOutQueueBytesPerConnectionMax, or while the handler is congested, frames are neither taken from
// the parser nor read from the socket; below half of all of them it goes on.
//
// Thread: the loop's. Owner: the handler, which must not destroy it inside one of its calls into
// the handler.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "broker/net/address.h"
#include "broker/net/event_loop.h"
#include "broker/protocol/frame.h"
#include "log/base/clock.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::net {

class Connection;

// Since start, of all connections of a loop. Belongs to the loop.
struct ConnectionCounters {
  uint64_t opened = 0;
  uint64_t closed = 0;
  uint64_t refused = 0;  // over the limit of connections
  uint64_t frames_in = 0;
  uint64_t frames_out = 0;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t frame_errors = 0;  // closed for what they sent, or did not send in time
  uint64_t rejected = 0;      // frames of an unknown version or type
  uint64_t paused = 0;        // times that reading stopped at a bound
  uint64_t stalled = 0;       // closed because the peer did not read its replies
};

// What the frames of a connection mean. Called on the loop's thread.
class FrameHandler {
 public:
  virtual ~FrameHandler() = default;
  // The first frame. Must call one of greet(), reject_hello(), detach() before it returns.
  virtual void hello(Connection& connection, protocol::Frame frame) = 0;
  // A request of a known version and type. Must be answered once, now or later, by
  // Connection::reply().
  virtual void request(Connection& connection, protocol::Frame frame) = 0;
  // Asks for resume() and flush() at the end of this turn. May come again within one turn.
  virtual void has_work(Connection& connection) = 0;
  // The socket is gone. Not called after detach().
  virtual void closed(Connection& connection) = 0;
  // False while requests have nowhere to go. When it turns true again the handler calls resume() of
  // its connections.
  [[nodiscard]] virtual bool takes_requests() const = 0;
  [[nodiscard]] virtual MonotonicTime now() const = 0;
};

// A connection on its way to another loop. Closes the socket if it does not get there.
struct DetachedConnection {
  uint64_t id = 0;
  int socket = -1;
  Buffer received;                 // read after the Hello, not looked at
  protocol::OutFrame hello_reply;  // set by the handler; the new owner sends it

  DetachedConnection() = default;
  ~DetachedConnection();
  DetachedConnection(DetachedConnection&& other) noexcept;
  DetachedConnection& operator=(DetachedConnection&&) = delete;
};

class Connection {
 public:
  static constexpr int64_t kHandshakeMsMax = 5'000;
  // From the first byte of a frame to its last, while we are reading.
  static constexpr int64_t kFrameMsMax = 30'000;
  // Unsent replies must make progress within this time.
  static constexpr int64_t kWriteStallMsMax = 60'000;
  static constexpr int64_t kLingerMsMax = 2'000;

  enum class State { kHandshake, kServing, kLingering, kClosed };

  // Takes an accepted socket.
  Connection(FrameHandler& handler, ConnectionCounters& counters, uint64_t id,
             UvHandle<uv_tcp_t> socket);
  // Takes a connection from another loop, greeted. On error the socket is closed.
  static Result<std::unique_ptr<Connection>> attach(EventLoop& loop, FrameHandler& handler,
                                                    ConnectionCounters& counters,
                                                    DetachedConnection detached);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Starts to read; an attached connection sends its Hello reply and handles what came after the
  // Hello. The handler must know the connection by now.
  void start();

  // Writes `frame` if the socket takes it at once, and closes: for connections over the limit.
  static void refuse(UvHandle<uv_tcp_t> socket, const protocol::OutFrame& frame);

  // --- answers to FrameHandler::hello() ---
  void greet(protocol::OutFrame reply);
  // Says no; the peer may try another Hello.
  void reject_hello(protocol::OutFrame reply);
  // Lets go of the socket. The connection is kClosed afterwards; on error it is still kHandshake.
  Result<DetachedConnection> detach();

  // The answer to a request. Ignored unless kServing.
  void reply(uint64_t correlation, protocol::OutFrame frame);

  // --- at the end of a turn ---
  // Goes on with frames that were held back, if there is room again.
  void resume();
  // Writes everything queued in this turn with one call.
  void flush();

  // Called about once a second; closes what is over its time.
  void check_deadlines();
  // Takes no more requests, writes what is queued, tells the peer that nothing more comes, and
  // closes when the peer has done so too or after `ms_max`.
  void finish(int64_t ms_max);
  // At once. Calls FrameHandler::closed() unless it was closed before.
  void close();

  [[nodiscard]] State state() const { return state_; }

  [[nodiscard]] uint64_t id() const { return id_; }

  [[nodiscard]] size_t requests_in_flight() const { return in_flight_.size(); }

  // Numeric address of the peer, "?" if unknown.
  [[nodiscard]] std::string peer() const;

 private:
  struct InFlight {
    uint64_t correlation;
    size_t bytes;
  };
  struct WriteRequest;

  void update_reading();
  uv_buf_t next_read_buffer();
  void read_done(ssize_t bytes);
  void take_handshake_bytes(size_t bytes);
  void take_first_frame(protocol::Frame frame);
  Status parse_copy(ByteView bytes);
  void parsed(Status status);
  void dispatch();
  void take_frame(protocol::Frame frame);
  void note_frame_progress(bool completed_any);

  [[nodiscard]] bool over_bounds() const;
  [[nodiscard]] bool under_half() const;

  void send(protocol::OutFrame frame);
  // Says `status` to the peer and closes once it was written.
  void fail(uint64_t correlation, const Status& status);
  void write_rest(std::vector<uv_buf_t>& parts, size_t first, size_t bytes);
  void write_done(size_t bytes, int status);
  void linger(int64_t ms_max);
  void shut_down_if_drained();

  FrameHandler& handler_;
  ConnectionCounters& counters_;
  const uint64_t id_;
  UvHandle<uv_tcp_t> socket_;
  State state_ = State::kHandshake;
  bool reading_ = false;
  bool blocked_ = false;    // at a bound since the last resume()
  bool shut_down_ = false;  // our side of the socket
  bool peer_done_ = false;  // the peer's side ended while we were kLingering
  const MonotonicTime opened_at_;
  MonotonicTime linger_until_;

  // What came with a hand-over, until start().
  Buffer received_;
  std::vector<protocol::OutFrame> hello_reply_;  // at most one

  // In.
  Buffer handshake_;  // kHandshake: the bytes of the frame under way
  size_t handshake_filled_ = 0;
  size_t handshake_frames_ = 0;
  protocol::FrameParser parser_;
  std::vector<protocol::Frame> frames_;  // complete, not yet dispatched: [next_frame_, end)
  size_t next_frame_ = 0;
  bool mid_frame_ = false;
  MonotonicTime frame_started_at_;  // when mid_frame_

  // Under way.
  std::vector<InFlight> in_flight_;
  size_t in_flight_bytes_ = 0;

  // Out.
  std::vector<protocol::OutFrame> out_;
  std::vector<uv_buf_t> parts_;      // scratch of flush()
  size_t unsent_bytes_ = 0;          // in out_ and in the write under way
  WriteRequest* writing_ = nullptr;  // owned by libuv until its callback
  size_t write_left_seen_ = 0;       // of the write under way, at the last look
  MonotonicTime write_progress_at_;
};

}  // namespace tidemark::net
