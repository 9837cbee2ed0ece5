#include "broker/net/address.h"

#include <string>

#include <doctest/doctest.h>

#include "broker/net/listener.h"
#include "tests/unit/broker/net/loop_fixture.h"

namespace tidemark::net {
namespace {

TEST_CASE("host and port are taken apart and put together") {
  const struct {
    std::string text;
    HostPort value;
  } cases[] = {{"127.0.0.1:9470", {"127.0.0.1", 9470}},
               {"[::1]:0", {"::1", 0}},
               {"localhost:65535", {"localhost", 65535}},
               {"broker-1.example:1", {"broker-1.example", 1}},
               {"[127.0.0.1]:5", {"127.0.0.1", 5}}};

  for (const auto& one : cases) {
    CAPTURE(one.text);
    const auto parsed = parse_host_port(one.text);
    REQUIRE(parsed.ok());
    CHECK(*parsed == one.value);
    CHECK(*parse_host_port(parsed->to_string()) == one.value);
  }
}

TEST_CASE("what is no address is refused with the reason") {
  for (const std::string text :
       {"", ":", "9470", "host", "host:", ":9470", "host:65536", "host:-1", "host:1x", "::1:9470",
        "[::1:9470", "[]:1", "host: 1", "a]:1", "[]]:1", "[[::1]:1"}) {
    CAPTURE(text);
    const auto parsed = parse_host_port(text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code() == ErrorCode::kInvalidArgument);
    CHECK(parsed.error().context().find("HOST:PORT") != std::string_view::npos);
  }
}

TEST_CASE("wildcards are known") {
  CHECK(HostPort{"0.0.0.0", 1}.is_wildcard());
  CHECK(HostPort{"::", 1}.is_wildcard());
  CHECK_FALSE(HostPort{"127.0.0.1", 1}.is_wildcard());
}

TEST_CASE("an address resolves to itself, nonsense to nothing") {
  const auto found = resolve({"127.0.0.1", 1234});
  REQUIRE(found.ok());
  CHECK(to_host_port(*found) == HostPort{"127.0.0.1", 1234});
  const auto six = resolve({"::1", 80});
  if (six.ok()) {
    CHECK(to_host_port(*six) == HostPort{"::1", 80});
  }
  const auto nothing = resolve({"no host has spaces", 1});
  REQUIRE_FALSE(nothing.ok());
  CHECK(nothing.error().code() == ErrorCode::kNotFound);
}

TEST_CASE("a listener on port 0 tells the port, a second one on it is refused by name") {
  LoopFixture fixture;
  std::unique_ptr<Listener> first = fixture.listen();
  REQUIRE(first->address().port != 0);
  CHECK(first->address().host == "127.0.0.1");
  REQUIRE(first->start([](UvHandle<uv_tcp_t>) {}).ok());
  auto second = Listener::bind(fixture.loop(), first->address());
  Status status = second.status();
  if (status.ok()) {
    status = (*second)->start([](UvHandle<uv_tcp_t>) {});
  }
  CHECK(status.code() == ErrorCode::kConflict);
  CHECK(status.context().find(first->address().to_string()) != std::string_view::npos);
}

}  // namespace
}  // namespace tidemark::net
