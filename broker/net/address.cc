#include "broker/net/address.h"

#include <netdb.h>

#include <charconv>
#include <cstring>

#include "log/base/check.h"

namespace tidemark::net {

std::string HostPort::to_string() const {
  const bool brackets = host.find(':') != std::string::npos;
  return (brackets ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool HostPort::is_wildcard() const { return host == "0.0.0.0" || host == "::"; }

Result<HostPort> parse_host_port(std::string_view text) {
  const auto invalid = [text](std::string_view what) {
    return Status(ErrorCode::kInvalidArgument,
                  "'" + std::string(text) + "' " + std::string(what) +
                      "; expected HOST:PORT, as 127.0.0.1:9470 or [::1]:9470");
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return invalid("has no port");
  }
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (host.find_first_of("[]") != std::string_view::npos) {
      return invalid("has brackets within brackets");
    }
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return invalid("is an IPv6 address without brackets");
  }
  if (host.empty()) {
    return invalid("has no host");
  }
  // The longest name that DNS knows.
  if (host.size() > 255 || host.find('\0') != std::string_view::npos) {
    return invalid("is no host name");
  }
  HostPort out;
  out.host = std::string(host);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size()) {
    return invalid("has a port that is not a number from 0 to 65535");
  }
  return out;
}

Result<sockaddr_storage> resolve(const HostPort& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0) {
    return Status(ErrorCode::kNotFound, "host '" + address.host + "': " + ::gai_strerror(error));
  }
  sockaddr_storage out = {};
  TIDEMARK_CHECK(found != nullptr && found->ai_addrlen <= sizeof out);
  std::memcpy(&out, found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  return out;
}

HostPort to_host_port(const sockaddr_storage& address) {
  char text[64] = {};
  HostPort out;
  if (address.ss_family == AF_INET6) {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(&address);
    uv_ip6_name(six, text, sizeof text);
    out.port = ntohs(six->sin6_port);
  } else {
    const auto* four = reinterpret_cast<const sockaddr_in*>(&address);
    uv_ip4_name(four, text, sizeof text);
    out.port = ntohs(four->sin_port);
  }
  out.host = text;
  return out;
}

}  // namespace tidemark::net
