#include "broker/net/http_server.h"

#include <utility>

#include "log/base/check.h"

namespace tidemark::net {

namespace {

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

HttpRequest refused(int status) {
  HttpRequest request;
  request.kind = HttpRequest::Kind::kRefused;
  request.refusal = status;
  return request;
}

bool is_token(std::string_view text) {
  for (const char c : text) {
    if (c < 'A' || c > 'Z') {
      return false;
    }
  }
  return !text.empty();
}

std::string head_of(const HttpResponse& response) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " ";
  head += reason_of(response.status);
  head += "\r\nContent-Type: " + response.content_type;
  head += "\r\nContent-Length: " + std::to_string(response.body.size());
  if (response.status == 405) {
    head += "\r\nAllow: GET, HEAD";
  }
  head += "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
  return head;
}

}  // namespace

HttpRequest parse_http_request(std::string_view received) {
  const size_t end = received.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    return received.size() >= HttpServer::kRequestBytesMax ? refused(431) : HttpRequest{};
  }
  if (end > HttpServer::kRequestBytesMax) {
    return refused(431);
  }
  const std::string_view line = received.substr(0, received.find("\r\n"));
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end <= method_end + 1) {
    return refused(400);
  }
  const std::string_view method = line.substr(0, method_end);
  std::string_view target = line.substr(method_end + 1, target_end - method_end - 1);
  const std::string_view version = line.substr(target_end + 1);
  if (!is_token(method) || target.front() != '/') {
    return refused(400);
  }
  for (const char c : target) {
    if (c <= ' ' || c > '~') {
      return refused(400);
    }
  }
  if (!version.starts_with("HTTP/")) {
    return refused(400);
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return refused(505);
  }
  if (method != "GET" && method != "HEAD") {
    return refused(405);
  }
  target = target.substr(0, target.find('?'));
  HttpRequest request;
  request.kind = method == "GET" ? HttpRequest::Kind::kGet : HttpRequest::Kind::kHead;
  request.path = std::string(target);
  return request;
}

// One connection: reads a request, waits for the answer, writes it, then throws away what the
// client still sends until it closes (closing with unread bytes would make the system throw the
// answer away).
class HttpServer::Exchange {
 public:
  Exchange(HttpServer& server, HttpRequestId id, UvHandle<uv_tcp_t> socket)
      : server_(server),
        id_(id),
        opened_at_(server.clock_.monotonic()),
        socket_(std::move(socket)) {
    socket_->data = this;
  }

  ~Exchange() {
    if (write_ != nullptr) {
      write_->owner = nullptr;
    }
  }

  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // False: nothing can be read, drop it.
  bool start() {
    return uv_read_start(
               stream(),
               [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
                 auto* self = owner_of<Exchange>(handle);
                 *buffer = self != nullptr ? self->room() : uv_buf_init(nullptr, 0);
               },
               [](uv_stream_t* handle, ssize_t bytes, const uv_buf_t* buffer) {
                 if (auto* self = owner_of<Exchange>(handle); self != nullptr) {
                   self->read_done(bytes, buffer->base);
                 }
               }) == 0;
  }

  void respond(const HttpResponse& response) {
    if (state_ == State::kWriting) {
      return;
    }
    state_ = State::kWriting;
    auto write = std::make_unique<Write>();
    write->owner = this;
    write->text = head_of(response);
    if (!head_only_) {
      write->text += response.body;
    }
    write->request.data = write.get();
    const uv_buf_t buffer =
        uv_buf_init(write->text.data(), static_cast<unsigned>(write->text.size()));
    const int result =
        uv_write(&write->request, stream(), &buffer, 1, [](uv_write_t* request, int status) {
          const std::unique_ptr<Write> done(static_cast<Write*>(request->data));
          if (done->owner != nullptr) {
            done->owner->written(status);
          }
        });
    if (result == 0) {
      write_ = write.release();
    } else {
      broken_ = true;
    }
  }

  // True if it must be dropped.
  bool check_deadline(MonotonicTime now) {
    const int64_t age_ms = (now.ns - opened_at_.ns) / 1'000'000;
    if (age_ms > kRequestMsMax && state_ == State::kReading) {
      respond({408, "text/plain; charset=utf-8", "the request did not arrive in time\n"});
    }
    return broken_ || age_ms > kConnectionMsMax;
  }

 private:
  enum class State { kReading, kWaiting, kWriting };

  struct Write {
    uv_write_t request = {};
    Exchange* owner = nullptr;
    std::string text;
  };

  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(socket_.get()); }

  uv_buf_t room() { return uv_buf_init(piece_, sizeof piece_); }

  void read_done(ssize_t bytes, const char* data) {
    if (bytes < 0) {
      drop();
      return;
    }
    if (state_ != State::kReading) {
      return;
    }
    received_.append(data, static_cast<size_t>(bytes));
    const HttpRequest request = parse_http_request(received_);
    switch (request.kind) {
      case HttpRequest::Kind::kIncomplete:
        return;
      case HttpRequest::Kind::kRefused:
        respond({request.refusal, "text/plain; charset=utf-8",
                 std::string(reason_of(request.refusal)) + "\n"});
        return;
      case HttpRequest::Kind::kGet:
      case HttpRequest::Kind::kHead:
        head_only_ = request.kind == HttpRequest::Kind::kHead;
        state_ = State::kWaiting;
        server_.handler_.http_get(id_, request.path);
        return;
    }
  }

  void written(int status) {
    write_ = nullptr;
    if (status != 0) {
      drop();
      return;
    }
    auto request = std::make_unique<uv_shutdown_t>();
    if (uv_shutdown(request.get(), stream(), [](uv_shutdown_t* done, int) { delete done; }) != 0) {
      drop();
      return;
    }
    request.release();  // NOLINT(bugprone-unused-return-value): the callback frees it
  }

  // Destroys this.
  void drop() { server_.exchanges_.erase(id_); }

  HttpServer& server_;
  const HttpRequestId id_;
  const MonotonicTime opened_at_;
  UvHandle<uv_tcp_t> socket_;
  State state_ = State::kReading;
  bool head_only_ = false;
  bool broken_ = false;
  std::string received_;
  char piece_[2048];
  Write* write_ = nullptr;  // owned by libuv until its callback
};

HttpServer::HttpServer(Clock& clock, HttpHandler& handler, std::unique_ptr<Listener> listener)
    : clock_(clock), handler_(handler), listener_(std::move(listener)) {}

HttpServer::~HttpServer() = default;

Status HttpServer::start() {
  return listener_->start([this](UvHandle<uv_tcp_t> socket) { accepted(std::move(socket)); });
}

void HttpServer::accepted(UvHandle<uv_tcp_t> socket) {
  if (exchanges_.size() >= kConnectionsMax) {
    return;
  }
  const HttpRequestId id = next_id_++;
  auto exchange = std::make_unique<Exchange>(*this, id, std::move(socket));
  if (exchange->start()) {
    exchanges_.emplace(id, std::move(exchange));
  }
}

void HttpServer::respond(HttpRequestId request, const HttpResponse& response) {
  if (const auto found = exchanges_.find(request); found != exchanges_.end()) {
    found->second->respond(response);
  }
}

void HttpServer::check_deadlines() {
  const MonotonicTime now = clock_.monotonic();
  for (auto at = exchanges_.begin(); at != exchanges_.end();) {
    at = at->second->check_deadline(now) ? exchanges_.erase(at) : std::next(at);
  }
}

}  // namespace tidemark::net
