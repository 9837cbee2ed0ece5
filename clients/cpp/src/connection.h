// Channels over TCP with libuv.
//
// Thread: the I/O thread. Names are looked up on libuv's pool; every address of a name is tried in
// turn.
#pragma once

#include <memory>

#include <uv.h>

#include "clients/cpp/src/channel.h"
#include "log/base/function.h"

namespace tidemark::client_core {

class UvChannelFactory final : public ChannelFactory {
 public:
  // Runs a task in a later turn of the loop.
  using Defer = MoveOnlyFunction<void(MoveOnlyFunction<void()>)>;

  UvChannelFactory(uv_loop_t& loop, Defer defer) : loop_(loop), defer_(std::move(defer)) {}

  std::unique_ptr<Channel> open(const Address& address, ChannelEvents& events) override;

 private:
  uv_loop_t& loop_;
  Defer defer_;
};

}  // namespace tidemark::client_core
