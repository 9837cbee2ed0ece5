// host:port as users write it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "broker/net/uv_handle.h"
#include "log/base/result.h"

namespace tidemark::net {

struct HostPort {
  std::string host;  // name or address, without brackets
  uint16_t port = 0;

  // "127.0.0.1:9470", "[::1]:9470".
  [[nodiscard]] std::string to_string() const;
  // 0.0.0.0 or ::, which clients cannot connect to.
  [[nodiscard]] bool is_wildcard() const;

  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// kInvalidArgument that says what is wrong. An IPv6 address needs brackets; the port is 0 to 65535.
Result<HostPort> parse_host_port(std::string_view text);

// The first address of the host, by the system's resolver. Blocking: start-up only. kNotFound if
// there is none.
Result<sockaddr_storage> resolve(const HostPort& address);

// The numeric form of a socket address.
HostPort to_host_port(const sockaddr_storage& address);

}  // namespace tidemark::net
