// The seam to the network: a channel carries frames to one broker. The library has one over TCP
// (connection.h); tests have one that a script plays.
//
// Thread: one, the owner's. No event is raised inside a call of open() or send(); an event may come
// during any later turn.
#pragma once

#include <functional>
#include <limits>
#include <memory>

#include "broker/protocol/frame.h"
#include "clients/cpp/src/address.h"
#include "log/base/clock.h"

namespace tidemark::client_core {

inline constexpr MonotonicTime kNever{std::numeric_limits<int64_t>::max()};

class ChannelEvents {
 public:
  // The channel may be sent to.
  virtual void on_open() = 0;
  virtual void on_frame(protocol::Frame frame) = 0;
  // Could not be opened, was lost, or the peer broke the protocol; the text names the peer. Nothing
  // follows.
  virtual void on_closed(Status why) = 0;

 protected:
  ~ChannelEvents() = default;
};

class Channel {
 public:
  // Closes; no event follows. Not to be called inside an event.
  virtual ~Channel() = default;
  // Requires: open. Frames arrive in order or not at all.
  virtual void send(protocol::OutFrame frame) = 0;
};

class ChannelFactory {
 public:
  virtual ~ChannelFactory() = default;
  // `events` outlives the channel.
  virtual std::unique_ptr<Channel> open(const Address& address, ChannelEvents& events) = 0;
};

// A part of the client that the I/O loop runs after every turn and when a time has come.
class Component {
 public:
  virtual ~Component() = default;
  // Does what is due; when to be run again at the latest (kNever: only after events).
  virtual MonotonicTime run(MonotonicTime now) = 0;
};

// Runs a report; the client gives one that goes through ClientOptions::executor.
using Dispatcher = std::function<void(std::function<void()>)>;

}  // namespace tidemark::client_core
