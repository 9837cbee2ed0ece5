#include "clients/cpp/src/connection.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "clients/cpp/src/uv_handle.h"
#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

constexpr unsigned kKeepAliveSeconds = 30;
constexpr size_t kAddressesMax = 16;
// Frames have a head and at most this many parts; more than the kernel takes at once is no error.
constexpr size_t kBuffersMax = limits::kPartsPerRequestMax + 1;

class UvChannel;

// Requests outlive the channel that made them; their callbacks look whether it is still there.
struct Lookup {
  uv_getaddrinfo_t request{};
  UvChannel* channel = nullptr;
};

struct WriteRequest {
  uv_write_t request{};
  protocol::OutFrame frame;
};

class UvChannel final : public Channel {
 public:
  UvChannel(uv_loop_t& loop, Address address, ChannelEvents& events)
      : loop_(loop),
        address_(std::move(address)),
        events_(events),
        parser_(limits::kFrameBytesMax) {}

  ~UvChannel() override;
  UvChannel(const UvChannel&) = delete;
  UvChannel& operator=(const UvChannel&) = delete;

  // An error: nothing was started and no event will come by itself.
  Status start();
  void send(protocol::OutFrame frame) override;

  [[nodiscard]] const std::shared_ptr<bool>& alive() const { return alive_; }

  // Raises on_closed once.
  void lose(Status why);

 private:
  static void on_resolved(uv_getaddrinfo_t* request, int status, addrinfo* list);
  static void on_connected(uv_connect_t* request, int status);
  static void on_allocate(uv_handle_t* handle, size_t suggested, uv_buf_t* out);
  static void on_read(uv_stream_t* stream, ssize_t bytes, const uv_buf_t* buffer);
  static void on_written(uv_write_t* request, int status);

  void take_addresses(const addrinfo* list);
  // Tries the remaining addresses; an error when none is left, which names the last failure.
  Status connect_next(Status last);
  void opened();
  void received(size_t bytes);
  [[nodiscard]] Status unavailable(std::string_view what, int code) const;

  uv_loop_t& loop_;
  Address address_;
  ChannelEvents& events_;
  protocol::FrameParser parser_;
  Lookup* lookup_ = nullptr;
  std::vector<sockaddr_storage> candidates_;
  size_t next_candidate_ = 0;
  UvHandle<uv_tcp_t> socket_;
  bool lost_ = false;
  // False once the channel is gone: for what runs later or goes on after raising an event.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

UvChannel::~UvChannel() {
  *alive_ = false;
  if (lookup_ != nullptr) {
    lookup_->channel = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&lookup_->request));
  }
}

Status UvChannel::unavailable(std::string_view what, int code) const {
  return {ErrorCode::kUnavailable,
          address_.text() + ": " + std::string(what) + ": " + uv_strerror(code)};
}

Status UvChannel::start() {
  sockaddr_storage numeric{};
  if (uv_ip4_addr(address_.host.c_str(), address_.port, reinterpret_cast<sockaddr_in*>(&numeric)) ==
          0 ||
      uv_ip6_addr(address_.host.c_str(), address_.port,
                  reinterpret_cast<sockaddr_in6*>(&numeric)) == 0) {
    candidates_.push_back(numeric);
    return connect_next({});
  }
  auto lookup = std::make_unique<Lookup>();
  lookup->channel = this;
  lookup->request.data = lookup.get();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const std::string port = std::to_string(address_.port);
  const int code = uv_getaddrinfo(&loop_, &lookup->request, on_resolved, address_.host.c_str(),
                                  port.c_str(), &hints);
  if (code != 0) {
    return unavailable("look-up of the name", code);
  }
  lookup_ = lookup.release();  // on_resolved frees it
  return {};
}

void UvChannel::on_resolved(uv_getaddrinfo_t* request, int status, addrinfo* list) {
  const std::unique_ptr<Lookup> lookup(static_cast<Lookup*>(request->data));
  UvChannel* const self = lookup->channel;
  if (self != nullptr) {
    self->lookup_ = nullptr;
    if (status == 0) {
      self->take_addresses(list);
    }
    Status started =
        status == 0 ? self->connect_next({}) : self->unavailable("look-up of the name", status);
    if (!started.ok()) {
      self->lose(std::move(started));
    }
  }
  uv_freeaddrinfo(list);
}

void UvChannel::take_addresses(const addrinfo* list) {
  for (const addrinfo* at = list; at != nullptr && candidates_.size() < kAddressesMax;
       at = at->ai_next) {
    if (at->ai_addrlen <= sizeof(sockaddr_storage)) {
      sockaddr_storage& candidate = candidates_.emplace_back();
      std::memcpy(&candidate, at->ai_addr, at->ai_addrlen);
    }
  }
}

Status UvChannel::connect_next(Status last) {
  while (next_candidate_ < candidates_.size()) {
    const sockaddr_storage& address = candidates_[next_candidate_++];
    auto* const raw = new uv_tcp_t;
    const int initialised = uv_tcp_init(&loop_, raw);
    if (initialised != 0) {
      delete raw;
      return unavailable("socket", initialised);
    }
    socket_ = UvHandle<uv_tcp_t>(raw);
    socket_->data = this;
    auto request = std::make_unique<uv_connect_t>();
    const int code = uv_tcp_connect(request.get(), socket_.get(),
                                    reinterpret_cast<const sockaddr*>(&address), on_connected);
    if (code == 0) {
      request.release();  // NOLINT(bugprone-unused-return-value): on_connected frees it
      return {};
    }
    last = unavailable("connect", code);
  }
  return last.ok() ? Status(ErrorCode::kUnavailable, address_.text() + ": the name has no address")
                   : last;
}

void UvChannel::on_connected(uv_connect_t* raw, int status) {
  const std::unique_ptr<uv_connect_t> request(raw);
  auto* const self = static_cast<UvChannel*>(request->handle->data);
  if (self == nullptr) {
    return;
  }
  if (status == 0) {
    self->opened();
    return;
  }
  Status next = self->connect_next(self->unavailable("connect", status));
  if (!next.ok()) {
    self->lose(std::move(next));
  }
}

void UvChannel::opened() {
  uv_tcp_nodelay(socket_.get(), 1);
  uv_tcp_keepalive(socket_.get(), 1, kKeepAliveSeconds);
  const int code =
      uv_read_start(reinterpret_cast<uv_stream_t*>(socket_.get()), on_allocate, on_read);
  if (code != 0) {
    lose(unavailable("read", code));
    return;
  }
  events_.on_open();
}

void UvChannel::on_allocate(uv_handle_t* handle, size_t /*suggested*/, uv_buf_t* out) {
  auto* const self = static_cast<UvChannel*>(handle->data);
  if (self == nullptr) {
    *out = uv_buf_init(nullptr, 0);
    return;
  }
  const MutableByteView room = self->parser_.prepare();
  *out = uv_buf_init(reinterpret_cast<char*>(room.data()), static_cast<unsigned>(room.size()));
}

void UvChannel::on_read(uv_stream_t* stream, ssize_t bytes, const uv_buf_t* /*buffer*/) {
  auto* const self = static_cast<UvChannel*>(stream->data);
  if (self == nullptr) {
    return;
  }
  if (bytes < 0) {
    self->lose(bytes == UV_EOF
                   ? Status(ErrorCode::kUnavailable,
                            self->address_.text() + ": the broker closed the connection")
                   : self->unavailable("read", static_cast<int>(bytes)));
    return;
  }
  self->received(static_cast<size_t>(bytes));
}

void UvChannel::received(size_t bytes) {
  std::vector<protocol::Frame> frames;
  const Status status = parser_.commit(bytes, frames);
  const std::shared_ptr<bool> alive = alive_;
  for (protocol::Frame& frame : frames) {
    if (!*alive || lost_) {
      return;
    }
    events_.on_frame(std::move(frame));
  }
  if (!status.ok() && *alive) {
    lose(Status(ErrorCode::kUnavailable,
                address_.text() +
                    ": is not a broker or sent damaged data: " + std::string(status.context())));
  }
}

void UvChannel::send(protocol::OutFrame frame) {
  if (lost_) {
    return;  // on_closed was raised or is on its way
  }
  auto write = std::make_unique<WriteRequest>();
  write->frame = std::move(frame);
  write->request.data = write.get();
  TIDEMARK_CHECK(write->frame.payload.size() < kBuffersMax,
                 "a frame has a bounded number of parts");
  std::vector<uv_buf_t> buffers;
  buffers.reserve(write->frame.payload.size() + 1);
  const auto add = [&](const uint8_t* data, size_t size) {
    // libuv's type is not const; it does not write.
    auto* const base = const_cast<char*>(reinterpret_cast<const char*>(data));
    buffers.push_back(uv_buf_init(base, static_cast<unsigned>(size)));
  };
  add(write->frame.head.data(), write->frame.head.size());
  for (const SharedBytes& part : write->frame.payload) {
    add(part.data(), part.size());
  }
  const int code = uv_write(&write->request, reinterpret_cast<uv_stream_t*>(socket_.get()),
                            buffers.data(), static_cast<unsigned>(buffers.size()), on_written);
  // A write that cannot even be queued means a dead socket, which reading reports as well.
  if (code == 0) {
    write.release();  // NOLINT(bugprone-unused-return-value): on_written frees it
  }
}

void UvChannel::on_written(uv_write_t* request, int status) {
  const std::unique_ptr<WriteRequest> write(static_cast<WriteRequest*>(request->data));
  auto* const self = static_cast<UvChannel*>(request->handle->data);
  if (self != nullptr && status < 0) {
    self->lose(self->unavailable("write", status));
  }
}

void UvChannel::lose(Status why) {
  if (!std::exchange(lost_, true)) {
    events_.on_closed(std::move(why));
  }
}

}  // namespace

std::unique_ptr<Channel> UvChannelFactory::open(const Address& address, ChannelEvents& events) {
  auto channel = std::make_unique<UvChannel>(loop_, address, events);
  const Status started = channel->start();
  if (!started.ok()) {
    defer_([raw = channel.get(), alive = channel->alive(), started] {
      if (*alive) {
        raw->lose(started);
      }
    });
  }
  return channel;
}

}  // namespace tidemark::client_core
