// HttpServer: answers GET and HEAD of a few fixed paths (metrics, health). One request per
// connection, bodies are not read.
//
// Bounds: kRequestBytesMax for request line and headers (else 431), kConnectionsMax at once (more
// are closed unanswered), kRequestMsMax for the request to arrive, kConnectionMsMax for all of it.
//
// Thread: the loop's. Owner: the server; destroying it closes everything.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "broker/net/event_loop.h"
#include "broker/net/listener.h"
#include "log/base/clock.h"
#include "log/base/result.h"

namespace tidemark::net {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// A request that is not answered yet. Never reused.
using HttpRequestId = uint64_t;

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // `path` without the query. Answer with HttpServer::respond(), now or later.
  virtual void http_get(HttpRequestId request, std::string_view path) = 0;
};

// What the first line and the headers of a request say, or how to refuse it. Pure, for tests and
// fuzzing.
struct HttpRequest {
  enum class Kind { kIncomplete, kGet, kHead, kRefused };
  Kind kind = Kind::kIncomplete;
  std::string path;  // kGet, kHead
  int refusal = 0;   // kRefused: the status
};

HttpRequest parse_http_request(std::string_view received);

class HttpServer {
 public:
  static constexpr size_t kRequestBytesMax = size_t{8} << 10;
  static constexpr size_t kConnectionsMax = 64;
  static constexpr int64_t kRequestMsMax = 5'000;
  static constexpr int64_t kConnectionMsMax = 20'000;

  // Takes a bound listener.
  HttpServer(Clock& clock, HttpHandler& handler, std::unique_ptr<Listener> listener);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  Status start();
  // Ignored if the client is gone.
  void respond(HttpRequestId request, const HttpResponse& response);
  // Called about once a second.
  void check_deadlines();

  [[nodiscard]] const HostPort& address() const { return listener_->address(); }

  [[nodiscard]] size_t connections() const { return exchanges_.size(); }

 private:
  class Exchange;

  void accepted(UvHandle<uv_tcp_t> socket);

  Clock& clock_;
  HttpHandler& handler_;
  std::unique_ptr<Listener> listener_;
  std::map<HttpRequestId, std::unique_ptr<Exchange>> exchanges_;
  HttpRequestId next_id_ = 1;
};

}  // namespace tidemark::net
