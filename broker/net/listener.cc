#include "broker/net/listener.h"

#include <string>
#include <utility>

namespace tidemark::net {

namespace {

// Connections that the system completes ahead of accept; it may hold fewer (net.core.somaxconn).
constexpr int kBacklog = 1024;

}  // namespace

Result<std::unique_ptr<Listener>> Listener::bind(EventLoop& loop, const HostPort& address) {
  const std::string subject = "listen on " + address.to_string();
  ASSIGN_OR_RETURN(const sockaddr_storage where, resolve(address));
  auto socket = std::make_unique<uv_tcp_t>();
  RETURN_IF_ERROR(uv_status(uv_tcp_init(loop.uv(), socket.get()), subject));
  std::unique_ptr<Listener> listener(new Listener(loop));
  listener->socket_.reset(socket.release());
  listener->socket_->data = listener.get();
  RETURN_IF_ERROR(uv_status(
      uv_tcp_bind(listener->socket_.get(), reinterpret_cast<const sockaddr*>(&where), 0), subject));
  sockaddr_storage bound = {};
  int size = sizeof bound;
  // Also brings out an address in use, which uv_tcp_bind keeps for later.
  RETURN_IF_ERROR(uv_status(
      uv_tcp_getsockname(listener->socket_.get(), reinterpret_cast<sockaddr*>(&bound), &size),
      subject));
  listener->address_ = {address.host, to_host_port(bound).port};
  return listener;
}

Status Listener::start(OnAccept on_accept) {
  on_accept_ = std::move(on_accept);
  const int result = uv_listen(
      reinterpret_cast<uv_stream_t*>(socket_.get()), kBacklog, [](uv_stream_t* server, int status) {
        if (auto* self = owner_of<Listener>(server); self != nullptr && status == 0) {
          self->accept_one();
        }
      });
  return uv_status(result, "listen on " + address_.to_string());
}

void Listener::accept_one() {
  auto handle = std::make_unique<uv_tcp_t>();
  if (uv_tcp_init(loop_.uv(), handle.get()) != 0) {
    return;
  }
  UvHandle<uv_tcp_t> client(handle.release());
  // A peer that is gone again is no error of ours.
  if (uv_accept(reinterpret_cast<uv_stream_t*>(socket_.get()),
                reinterpret_cast<uv_stream_t*>(client.get())) == 0) {
    on_accept_(std::move(client));
  }
}

}  // namespace tidemark::net
