#include "broker/net/connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "broker/protocol/messages.h"
#include "log/base/check.h"

namespace tidemark::net {

namespace {

using protocol::Frame;
using protocol::FrameHeader;
using protocol::FrameType;
using protocol::OutFrame;

// Frames of other versions, or refused Hellos, that a peer may send before it has to give up.
constexpr size_t kHandshakeFramesMax = 16;
constexpr unsigned kKeepAliveSeconds = 60;

uv_stream_t* stream(const UvHandle<uv_tcp_t>& socket) {
  return reinterpret_cast<uv_stream_t*>(socket.get());
}

bool older_than(MonotonicTime since, MonotonicTime now, int64_t ms) {
  return now.ns - since.ns > ms * 1'000'000;
}

std::string seconds(int64_t ms) { return std::to_string(ms / 1000) + " s"; }

Status judge(const FrameHeader& header) {
  if (header.version != protocol::kProtocolVersion) {
    return {ErrorCode::kUnsupportedVersion, "protocol version " + std::to_string(header.version) +
                                                ", this broker speaks " +
                                                std::to_string(protocol::kProtocolVersion)};
  }
  if (header.reply) {
    return {ErrorCode::kMalformed, "a reply was sent to the broker"};
  }
  if (!protocol::is_known_request(header.type)) {
    return {ErrorCode::kUnsupportedType, "frame type " + std::to_string(header.type)};
  }
  return {};
}

void append_parts(const OutFrame& frame, std::vector<uv_buf_t>& out) {
  const auto add = [&out](ByteView bytes) {
    if (!bytes.empty()) {
      // libuv does not write through the pointer.
      out.push_back(uv_buf_init(reinterpret_cast<char*>(const_cast<uint8_t*>(bytes.data())),
                                static_cast<unsigned>(bytes.size())));
    }
  };
  add(frame.head.view());
  for (const SharedBytes& part : frame.payload) {
    add(part.view());
  }
}

}  // namespace

DetachedConnection::~DetachedConnection() {
  if (socket >= 0) {
    ::close(socket);
  }
}

DetachedConnection::DetachedConnection(DetachedConnection&& other) noexcept
    : id(other.id),
      socket(std::exchange(other.socket, -1)),
      received(std::move(other.received)),
      hello_reply(std::move(other.hello_reply)) {}

// A write that the socket did not take at once. Owns its bytes; outlives the connection if that
// closes first.
struct Connection::WriteRequest {
  uv_write_t request = {};
  Connection* owner = nullptr;  // nullptr: closed
  std::vector<OutFrame> frames;
  size_t bytes = 0;
};

Connection::Connection(FrameHandler& handler, ConnectionCounters& counters, uint64_t id,
                       UvHandle<uv_tcp_t> socket)
    : handler_(handler),
      counters_(counters),
      id_(id),
      socket_(std::move(socket)),
      opened_at_(handler.now()),
      parser_(limits::kFrameBytesMax),
      write_progress_at_(opened_at_) {
  ++counters_.opened;
  socket_->data = this;
  // Hints: a connection without them still works. Buffer sizes are left to the system, which grows
  // them with the traffic; setting them would switch that off.
  static_cast<void>(uv_tcp_nodelay(socket_.get(), 1));
  static_cast<void>(uv_tcp_keepalive(socket_.get(), 1, kKeepAliveSeconds));
}

Result<std::unique_ptr<Connection>> Connection::attach(EventLoop& loop, FrameHandler& handler,
                                                       ConnectionCounters& counters,
                                                       DetachedConnection detached) {
  auto handle = std::make_unique<uv_tcp_t>();
  RETURN_IF_ERROR(uv_status(uv_tcp_init(loop.uv(), handle.get()), "take over a connection"));
  UvHandle<uv_tcp_t> socket(handle.release());
  RETURN_IF_ERROR(uv_status(uv_tcp_open(socket.get(), detached.socket), "take over a connection"));
  detached.socket = -1;
  auto connection = std::make_unique<Connection>(handler, counters, detached.id, std::move(socket));
  connection->state_ = State::kServing;
  connection->received_ = std::move(detached.received);
  connection->hello_reply_.push_back(std::move(detached.hello_reply));
  return connection;
}

void Connection::start() {
  for (OutFrame& reply : std::exchange(hello_reply_, {})) {
    send(std::move(reply));
  }
  update_reading();
  if (state_ == State::kServing) {
    const Buffer received = std::exchange(received_, Buffer());
    parsed(parse_copy(received.view()));
  }
}

Connection::~Connection() {
  if (writing_ != nullptr) {
    writing_->owner = nullptr;
  }
  if (state_ != State::kClosed) {
    ++counters_.closed;
  }
}

void Connection::refuse(UvHandle<uv_tcp_t> socket, const OutFrame& frame) {
  std::vector<uv_buf_t> parts;
  append_parts(frame, parts);
  // A fresh socket takes a small frame; if not, the peer sees the close alone.
  static_cast<void>(
      uv_try_write(stream(socket), parts.data(), static_cast<unsigned>(parts.size())));
}

std::string Connection::peer() const {
  sockaddr_storage address = {};
  int size = sizeof address;
  if (!socket_ ||
      uv_tcp_getpeername(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return "?";
  }
  return to_host_port(address).to_string();
}

// --- in ---

void Connection::update_reading() {
  const bool wanted = state_ == State::kHandshake || state_ == State::kLingering ||
                      (state_ == State::kServing && !blocked_);
  if (wanted == reading_ || state_ == State::kClosed) {
    return;
  }
  reading_ = wanted;
  if (!wanted) {
    counters_.paused += blocked_ ? 1 : 0;
    uv_read_stop(stream(socket_));
    return;
  }
  // The time that we did not read is not held against the peer.
  frame_started_at_ = handler_.now();
  const int result = uv_read_start(
      stream(socket_),
      [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        auto* self = owner_of<Connection>(handle);
        *buffer = self != nullptr ? self->next_read_buffer() : uv_buf_init(nullptr, 0);
      },
      [](uv_stream_t* handle, ssize_t bytes, const uv_buf_t*) {
        if (auto* self = owner_of<Connection>(handle); self != nullptr) {
          self->read_done(bytes);
        }
      });
  if (result != 0) {
    close();
  }
}

uv_buf_t Connection::next_read_buffer() {
  MutableByteView room;
  if (state_ == State::kServing) {
    room = parser_.prepare();
  } else {
    if (handshake_.size() == 0) {
      handshake_ = Buffer(limits::kFrameBytesMaxBeforeHello);
    }
    room = handshake_.mutable_view().subspan(state_ == State::kHandshake ? handshake_filled_ : 0);
  }
  return uv_buf_init(reinterpret_cast<char*>(room.data()), static_cast<unsigned>(room.size()));
}

void Connection::read_done(ssize_t bytes) {
  if (bytes == UV_EOF && state_ == State::kLingering && unsent_bytes_ > 0) {
    // The error is still to be written.
    peer_done_ = true;
    uv_read_stop(stream(socket_));
    return;
  }
  if (bytes < 0) {
    close();
    return;
  }
  const auto size = static_cast<size_t>(bytes);
  counters_.bytes_in += size;
  switch (state_) {
    case State::kHandshake:
      take_handshake_bytes(size);
      break;
    case State::kServing:
      // Also with nothing read: the parser then gives its unused block back.
      parsed(parser_.commit(size, frames_));
      break;
    case State::kLingering:
    case State::kClosed:
      break;
  }
}

void Connection::take_handshake_bytes(size_t bytes) {
  handshake_filled_ += bytes;
  while (state_ == State::kHandshake && handshake_filled_ >= protocol::kFrameHeaderBytes) {
    const ByteView received = handshake_.view().first(handshake_filled_);
    Result<FrameHeader> header =
        protocol::decode_frame_header(received, limits::kFrameBytesMaxBeforeHello);
    if (!header.ok()) {
      fail(0, header.error());
      return;
    }
    const size_t frame_bytes = header->frame_bytes;
    if (handshake_filled_ < frame_bytes) {
      return;
    }
    Frame frame{*header, SharedBytes(Buffer::copy_of(received.first(frame_bytes)))};
    handshake_filled_ -= frame_bytes;
    std::memmove(handshake_.data(), handshake_.data() + frame_bytes, handshake_filled_);
    take_first_frame(std::move(frame));
  }
  if (state_ == State::kServing) {
    const Buffer rest = std::exchange(handshake_, Buffer());
    parsed(parse_copy(rest.view().first(std::exchange(handshake_filled_, 0))));
  }
}

void Connection::take_first_frame(Frame frame) {
  ++counters_.frames_in;
  const uint64_t correlation = frame.header.correlation;
  if (++handshake_frames_ > kHandshakeFramesMax) {
    fail(correlation,
         {ErrorCode::kLimitExceeded, "more than " + std::to_string(kHandshakeFramesMax) +
                                         " frames without an accepted Hello"});
    return;
  }
  if (const Status status = judge(frame.header); status.code() == ErrorCode::kUnsupportedVersion) {
    ++counters_.rejected;
    send(protocol::make_error_frame(correlation, status));
    return;
  }
  if (frame.header.reply || frame.header.type != static_cast<uint16_t>(FrameType::kHello)) {
    fail(correlation, {ErrorCode::kNotAllowed, "say Hello first"});
    return;
  }
  handler_.hello(*this, std::move(frame));
}

Status Connection::parse_copy(ByteView bytes) {
  while (!bytes.empty()) {
    const MutableByteView room = parser_.prepare();
    const size_t size = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), size);
    bytes = bytes.subspan(size);
    RETURN_IF_ERROR(parser_.commit(size, frames_));
  }
  return {};
}

void Connection::parsed(Status status) {
  if (state_ != State::kServing) {
    return;
  }
  note_frame_progress(next_frame_ < frames_.size());
  // Frames that were whole before the damage are requests like any others.
  if (next_frame_ < frames_.size()) {
    dispatch();
  }
  if (!status.ok()) {
    fail(0, status);
  }
}

void Connection::note_frame_progress(bool completed_any) {
  const bool mid_frame = parser_.mid_frame();
  if (mid_frame && (completed_any || !mid_frame_)) {
    frame_started_at_ = handler_.now();
  }
  mid_frame_ = mid_frame;
}

bool Connection::over_bounds() const {
  return in_flight_.size() >= limits::kRequestsInFlightPerConnectionMax ||
         in_flight_bytes_ >= limits::kInFlightBytesPerConnectionMax ||
         unsent_bytes_ >= limits::kOutQueueBytesPerConnectionMax || !handler_.takes_requests();
}

bool Connection::under_half() const {
  return in_flight_.size() <= limits::kRequestsInFlightPerConnectionMax / 2 &&
         in_flight_bytes_ <= limits::kInFlightBytesPerConnectionMax / 2 &&
         unsent_bytes_ <= limits::kOutQueueBytesPerConnectionMax / 2 && handler_.takes_requests();
}

void Connection::dispatch() {
  while (state_ == State::kServing && next_frame_ < frames_.size()) {
    if (over_bounds()) {
      break;
    }
    take_frame(std::move(frames_[next_frame_++]));
  }
  if (next_frame_ == frames_.size()) {
    frames_.clear();
    next_frame_ = 0;
  }
  if (over_bounds()) {
    blocked_ = true;
  }
  update_reading();
}

void Connection::take_frame(Frame frame) {
  ++counters_.frames_in;
  const FrameHeader& header = frame.header;
  Status status = judge(header);
  if (status.ok() && header.type == static_cast<uint16_t>(FrameType::kHello)) {
    status = {ErrorCode::kNotAllowed, "Hello was said before"};
  }
  if (!status.ok()) {
    ++counters_.rejected;
    send(protocol::make_error_frame(header.correlation, status));
    return;
  }
  in_flight_.push_back({header.correlation, header.frame_bytes});
  in_flight_bytes_ += header.frame_bytes;
  handler_.request(*this, std::move(frame));
}

void Connection::resume() {
  if (state_ == State::kServing && blocked_ && under_half()) {
    blocked_ = false;
    dispatch();
  }
}

// --- out ---

void Connection::greet(OutFrame reply) {
  TIDEMARK_CHECK(state_ == State::kHandshake);
  state_ = State::kServing;
  send(std::move(reply));
  update_reading();
}

void Connection::reject_hello(OutFrame reply) {
  TIDEMARK_CHECK(state_ == State::kHandshake);
  send(std::move(reply));
}

Result<DetachedConnection> Connection::detach() {
  TIDEMARK_CHECK(state_ == State::kHandshake);
  uv_os_fd_t fd = -1;
  RETURN_IF_ERROR(
      uv_status(uv_fileno(reinterpret_cast<uv_handle_t*>(socket_.get()), &fd), "hand-over"));
  DetachedConnection out;
  out.id = id_;
  // libuv closes its own descriptor with the handle; the copy goes on.
  out.socket = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (out.socket < 0) {
    return Status(ErrorCode::kUnavailable, "hand-over: no file descriptor is free");
  }
  out.received = Buffer::copy_of(handshake_.view().first(handshake_filled_));
  handshake_ = Buffer();
  handshake_filled_ = 0;
  state_ = State::kClosed;
  reading_ = false;
  socket_.reset();
  ++counters_.closed;
  return out;
}

void Connection::reply(uint64_t correlation, OutFrame frame) {
  if (state_ != State::kServing) {
    return;
  }
  const auto found = std::find_if(in_flight_.begin(), in_flight_.end(), [=](const InFlight& one) {
    return one.correlation == correlation;
  });
  TIDEMARK_CHECK(found != in_flight_.end(), "a request was answered twice");
  in_flight_bytes_ -= found->bytes;
  // Replies come mostly in order, so what is in front stays in front.
  in_flight_.erase(found);
  send(std::move(frame));
}

void Connection::send(OutFrame frame) {
  if (unsent_bytes_ == 0) {
    write_progress_at_ = handler_.now();
  }
  unsent_bytes_ += frame.bytes();
  ++counters_.frames_out;
  out_.push_back(std::move(frame));
  handler_.has_work(*this);
}

void Connection::flush() {
  if (writing_ != nullptr || state_ == State::kClosed) {
    return;
  }
  if (out_.empty()) {
    shut_down_if_drained();
    return;
  }
  parts_.clear();
  size_t bytes = 0;
  for (const OutFrame& frame : out_) {
    append_parts(frame, parts_);
    bytes += frame.bytes();
  }
  size_t first = 0;
  size_t left = bytes;
  while (left > 0) {
    const int written = uv_try_write(stream(socket_), parts_.data() + first,
                                     static_cast<unsigned>(parts_.size() - first));
    if (written < 0 && written != UV_EAGAIN) {
      close();
      return;
    }
    if (written <= 0) {
      break;
    }
    auto done = static_cast<size_t>(written);
    left -= done;
    while (done > 0 && done >= parts_[first].len) {
      done -= parts_[first++].len;
    }
    if (done > 0) {
      // Taken in part: the socket is full.
      parts_[first].base += done;
      parts_[first].len -= done;
      break;
    }
  }
  if (left < bytes) {
    counters_.bytes_out += bytes - left;
    unsent_bytes_ -= bytes - left;
    write_progress_at_ = handler_.now();
  }
  if (left > 0) {
    write_rest(parts_, first, left);
    return;
  }
  out_.clear();
  shut_down_if_drained();
  if (blocked_) {
    handler_.has_work(*this);
  }
}

void Connection::write_rest(std::vector<uv_buf_t>& parts, size_t first, size_t bytes) {
  auto write = std::make_unique<WriteRequest>();
  write->owner = this;
  write->frames = std::exchange(out_, {});
  write->bytes = bytes;
  write->request.data = write.get();
  const int result = uv_write(
      &write->request, stream(socket_), parts.data() + first,
      static_cast<unsigned>(parts.size() - first), [](uv_write_t* request, int status) {
        const std::unique_ptr<WriteRequest> done(static_cast<WriteRequest*>(request->data));
        if (done->owner != nullptr) {
          done->owner->write_done(done->bytes, status);
        }
      });
  if (result != 0) {
    close();
    return;
  }
  writing_ = write.release();
  write_left_seen_ = bytes;
}

void Connection::write_done(size_t bytes, int status) {
  writing_ = nullptr;
  if (status != 0) {
    close();
    return;
  }
  counters_.bytes_out += bytes;
  unsent_bytes_ -= bytes;
  write_progress_at_ = handler_.now();
  shut_down_if_drained();
  if (!out_.empty() || blocked_) {
    handler_.has_work(*this);
  }
}

// --- the end ---

void Connection::fail(uint64_t correlation, const Status& status) {
  if (state_ != State::kHandshake && state_ != State::kServing) {
    return;
  }
  ++counters_.frame_errors;
  send(protocol::make_error_frame(correlation, status));
  linger(kLingerMsMax);
}

void Connection::finish(int64_t ms_max) {
  if (state_ != State::kHandshake && state_ != State::kServing) {
    return;
  }
  handler_.has_work(*this);
  linger(ms_max);
}

void Connection::linger(int64_t ms_max) {
  state_ = State::kLingering;
  linger_until_ = {handler_.now().ns + ms_max * 1'000'000};
  frames_.clear();
  next_frame_ = 0;
  update_reading();
}

void Connection::shut_down_if_drained() {
  if (state_ != State::kLingering || shut_down_ || unsent_bytes_ > 0) {
    return;
  }
  if (peer_done_) {
    close();
    return;
  }
  shut_down_ = true;
  linger_until_ = std::min(linger_until_, {handler_.now().ns + kLingerMsMax * 1'000'000});
  auto request = std::make_unique<uv_shutdown_t>();
  const int result =
      uv_shutdown(request.get(), stream(socket_), [](uv_shutdown_t* done, int) { delete done; });
  if (result != 0) {
    close();
    return;
  }
  request.release();  // NOLINT(bugprone-unused-return-value): the callback frees it
}

void Connection::check_deadlines() {
  const MonotonicTime now = handler_.now();
  if (writing_ != nullptr) {
    const size_t left = uv_stream_get_write_queue_size(stream(socket_));
    if (left != std::exchange(write_left_seen_, left)) {
      write_progress_at_ = now;
    }
  }
  if (unsent_bytes_ > 0 && older_than(write_progress_at_, now, kWriteStallMsMax)) {
    ++counters_.stalled;
    close();
    return;
  }
  switch (state_) {
    case State::kHandshake:
      if (older_than(opened_at_, now, kHandshakeMsMax)) {
        fail(0, {ErrorCode::kTimedOut, "no Hello within " + seconds(kHandshakeMsMax)});
      }
      break;
    case State::kServing:
      if (mid_frame_ && reading_ && older_than(frame_started_at_, now, kFrameMsMax)) {
        fail(0, {ErrorCode::kTimedOut, "a frame was not complete within " + seconds(kFrameMsMax)});
      }
      break;
    case State::kLingering:
      if (now >= linger_until_) {
        close();
      }
      break;
    case State::kClosed:
      break;
  }
}

void Connection::close() {
  if (state_ == State::kClosed) {
    return;
  }
  state_ = State::kClosed;
  reading_ = false;
  ++counters_.closed;
  if (writing_ != nullptr) {
    // Its callback comes with the close, after which this object may be gone.
    std::exchange(writing_, nullptr)->owner = nullptr;
  }
  unsent_bytes_ = 0;
  out_.clear();
  frames_.clear();
  next_frame_ = 0;
  in_flight_.clear();
  in_flight_bytes_ = 0;
  socket_.reset();
  handler_.closed(*this);
}

}  // namespace tidemark::net
