#include "clients/cpp/src/address.h"

#include <charconv>

namespace tidemark::client_core {

namespace {

Status bad(std::string_view text, std::string_view why) {
  return {ErrorCode::kInvalidArgument, "broker address \"" + std::string(text) +
                                           "\": " + std::string(why) + "; expected host:port"};
}

}  // namespace

std::string Address::text() const {
  const bool ipv6 = host.find(':') != std::string::npos;
  return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<Address> parse_address(std::string_view text, uint16_t default_port) {
  Address address;
  address.port = default_port;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) {
      return bad(text, "the bracket is not closed");
    }
    address.host = text.substr(1, end - 1);
    const std::string_view rest = text.substr(end + 1);
    if (!rest.empty() && rest.front() != ':') {
      return bad(text, "unexpected text after the bracket");
    }
    has_port = !rest.empty();
    port = has_port ? rest.substr(1) : rest;
  } else {
    const size_t colon = text.rfind(':');
    if (colon != text.find(':')) {
      return bad(text, "an IPv6 address needs brackets");
    }
    address.host = text.substr(0, colon);
    has_port = colon != std::string_view::npos;
    port = has_port ? text.substr(colon + 1) : std::string_view();
  }
  if (address.host.empty() || address.host.size() > 255) {
    return bad(text, "the host is missing or too long");
  }
  if (address.host.find_first_of("[]") != std::string::npos) {
    return bad(text, "the host has brackets");
  }
  if (has_port) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (error != std::errc() || end != port.data() + port.size() || address.port == 0) {
      return bad(text, "the port is not a number from 1 to 65535");
    }
  }
  return address;
}

}  // namespace tidemark::client_core
