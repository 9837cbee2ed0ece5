// Listener: a listening TCP socket on a loop. Bound when created, so that a port chosen by the
// system is known before anything is served; listens from start() on.
#pragma once

#include <memory>

#include "broker/net/address.h"
#include "broker/net/event_loop.h"
#include "log/base/function.h"
#include "log/base/result.h"

namespace tidemark::net {

class Listener {
 public:
  // Gets each accepted socket.
  using OnAccept = MoveOnlyFunction<void(UvHandle<uv_tcp_t>)>;

  // Binds. Port 0 takes a free one. kConflict if the address is taken, kNotFound for an unknown
  // host; names the address.
  static Result<std::unique_ptr<Listener>> bind(EventLoop& loop, const HostPort& address);

  // From here on connections are accepted. Same errors as bind().
  Status start(OnAccept on_accept);

  // The host as it was asked for and the real port.
  [[nodiscard]] const HostPort& address() const { return address_; }

 private:
  explicit Listener(EventLoop& loop) : loop_(loop) {}

  void accept_one();

  EventLoop& loop_;
  HostPort address_;
  UvHandle<uv_tcp_t> socket_;
  OnAccept on_accept_;
};

}  // namespace tidemark::net
