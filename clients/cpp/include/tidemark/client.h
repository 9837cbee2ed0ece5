// Client: the connection to a cluster that producers, consumers and admin calls share.
//
//   auto client = tidemark::client::Client::create({.brokers = {"127.0.0.1:9470"}});
//   if (!client.ok()) { ... client.status().to_string() ... }
//
// Thread: a Client is a handle that may be copied and used from any thread. It owns one I/O thread,
// on which all network work and, unless ClientOptions::executor is set, all callbacks run. A
// callback must not block: it holds up everything else of this client. Calls that wait (flush,
// close, poll, admin calls) fail with kInvalidArgument when made from a callback on the I/O thread.
// Life: producers, consumers and admins keep what they need of the client alive. The I/O thread
// ends with the last handle of any kind.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/error.h"

namespace tidemark::client {

inline constexpr uint16_t kDefaultPort = 9470;

struct ClientOptions {
  // "host:port", "host" (port 9470) or "[ipv6]:port". One that answers is enough to find the
  // others.
  std::vector<std::string> brokers = {"127.0.0.1:9470"};
  // Shown to the operator of the broker. At most 100 bytes.
  std::string client_name = "tidemark-cpp";
  // To connect and shake hands with one broker.
  int64_t connect_timeout_ms = 5'000;
  // From sending a request to its answer; then the connection is given up as dead.
  int64_t request_timeout_ms = 10'000;
  // Pause between attempts to reach a broker: doubles from min to max, with jitter.
  int64_t reconnect_backoff_min_ms = 50;
  int64_t reconnect_backoff_max_ms = 5'000;
  // Runs callbacks somewhere else: called on the I/O thread with a task that the function must have
  // run once, in the order given. Empty: callbacks run on the I/O thread.
  std::function<void(std::function<void()>)> executor = {};
};

class ClientImpl;

class Client {
 public:
  // Checks the options and starts the I/O thread. Does not wait for a broker: connections are made
  // when needed. kInvalidArgument names the option that is wrong.
  static Result<Client> create(ClientOptions options);

  // Used by the other classes of this library.
  [[nodiscard]] const std::shared_ptr<ClientImpl>& impl() const { return impl_; }

 private:
  explicit Client(std::shared_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}

  std::shared_ptr<ClientImpl> impl_;
};

// Splits "host:port,host:port" (the form of TIDEMARK_BROKERS and --brokers). Blanks around entries
// are dropped.
std::vector<std::string> split_brokers(std::string_view text);
// From the environment variable TIDEMARK_BROKERS; the default broker when it is unset or empty.
std::vector<std::string> brokers_from_environment();

// Version of this library, e.g. "0.1.0".
std::string_view library_version();

}  // namespace tidemark::client
