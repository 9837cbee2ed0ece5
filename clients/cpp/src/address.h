// Host and port of a broker.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "log/base/result.h"

namespace tidemark::client_core {

struct Address {
  std::string host;
  uint16_t port = 0;

  // "host:port", "[::1]:port".
  [[nodiscard]] std::string text() const;

  friend bool operator==(const Address&, const Address&) = default;
};

// "host:port", "host" (default port), "[ipv6]:port", "[ipv6]". kInvalidArgument says what is wrong.
Result<Address> parse_address(std::string_view text, uint16_t default_port);

}  // namespace tidemark::client_core
