#include "broker/net/http_server.h"

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/raw_client.h"
#include "tests/support/sim_clock.h"
#include "tests/unit/broker/net/loop_fixture.h"

namespace tidemark::net {
namespace {

using testing::RawClient;

TEST_CASE("requests are read or refused") {
  using Kind = HttpRequest::Kind;
  CHECK(parse_http_request("").kind == Kind::kIncomplete);
  CHECK(parse_http_request("GET / HTTP/1.1\r\nHost: x\r\n").kind == Kind::kIncomplete);
  const HttpRequest get = parse_http_request("GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(get.kind == Kind::kGet);
  CHECK(get.path == "/metrics");
  CHECK(parse_http_request("HEAD / HTTP/1.0\r\n\r\n").kind == Kind::kHead);

  const struct {
    std::string text;
    int status;
  } refused[] = {
      {"POST / HTTP/1.1\r\n\r\n", 405},
      {"GET /\r\n\r\n", 400},
      {"GET  HTTP/1.1\r\n\r\n", 400},
      {"get / HTTP/1.1\r\n\r\n", 400},
      {"GET x HTTP/1.1\r\n\r\n", 400},
      {"GET /a b HTTP/1.1\r\n\r\n", 400},
      {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/2\r\n\r\n", 505},
      {"\r\n\r\n", 400},
      {"GET / SMTP\r\n\r\n", 400},
      {std::string(9000, 'x'), 431},
      {"GET /" + std::string(9000, 'x') + " HTTP/1.1\r\n\r\n", 431},
  };

  for (const auto& one : refused) {
    CAPTURE(one.text.substr(0, 40));
    const HttpRequest request = parse_http_request(one.text);
    CHECK(request.kind == Kind::kRefused);
    CHECK(request.refusal == one.status);
  }
}

// Answers /now at once and keeps everything else.
struct World final : HttpHandler {
  World() : server(clock, *this, fixture.listen()) { REQUIRE(server.start().ok()); }

  void http_get(HttpRequestId request, std::string_view path) override {
    if (path == "/now") {
      server.respond(request, {.body = "hello\n"});
    } else {
      waiting.push_back(request);
    }
  }

  std::string answer(RawClient& client) {
    CHECK(fixture.run_until([&] {
      client.pump(0);
      return client.closed();
    }));
    return client.wait_text(0);
  }

  LoopFixture fixture;
  SimClock clock;
  HttpServer server;
  std::vector<HttpRequestId> waiting;
};

TEST_CASE("a page is served and the connection closed") {
  World world;
  RawClient client(world.server.address().port);
  REQUIRE(client.send(as_bytes("GET /now HTTP/1.1\r\nHost: a\r\n\r\n")));
  const std::string text = world.answer(client);
  CHECK(text.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(text.find("Content-Length: 6\r\n") != std::string::npos);
  CHECK(text.ends_with("\r\n\r\nhello\n"));
}

TEST_CASE("HEAD has no body, other methods are refused") {
  World world;
  RawClient head(world.server.address().port);
  REQUIRE(head.send(as_bytes("HEAD /now HTTP/1.1\r\n\r\n")));
  const std::string text = world.answer(head);
  CHECK(text.find("Content-Length: 6\r\n") != std::string::npos);
  CHECK(text.ends_with("\r\n\r\n"));
  RawClient post(world.server.address().port);
  REQUIRE(post.send(as_bytes("POST /now HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")));
  const std::string refused = world.answer(post);
  CHECK(refused.starts_with("HTTP/1.1 405 "));
  CHECK(refused.find("Allow: GET, HEAD\r\n") != std::string::npos);
}

TEST_CASE("an answer may come later, also after the client has gone") {
  World world;
  RawClient client(world.server.address().port);
  REQUIRE(client.send(as_bytes("GET /la")));
  world.fixture.turns(3);
  REQUIRE(client.send(as_bytes("ter HTTP/1.1\r\n\r\n")));
  REQUIRE(world.fixture.run_until([&] { return world.waiting.size() == 1; }));
  {
    RawClient other(world.server.address().port);
    REQUIRE(other.send(as_bytes("GET /later HTTP/1.1\r\n\r\n")));
    REQUIRE(world.fixture.run_until([&] { return world.waiting.size() == 2; }));
  }
  REQUIRE(world.fixture.run_until([&] { return world.server.connections() == 1; }));
  world.server.respond(world.waiting[1], {.body = "nobody reads this"});
  world.server.respond(world.waiting[0], {.status = 503, .body = "no\n"});
  world.server.respond(world.waiting[0], {.status = 200, .body = "twice\n"});
  CHECK(world.answer(client).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
}

TEST_CASE("slow requests, too large ones and too many connections are bounded") {
  World world;
  RawClient slow(world.server.address().port);
  REQUIRE(slow.send(as_bytes("GET /now HTT")));
  REQUIRE(world.fixture.run_until([&] { return world.server.connections() == 1; }));
  world.clock.advance_ms(HttpServer::kRequestMsMax + 1);
  world.server.check_deadlines();
  CHECK(world.answer(slow).starts_with("HTTP/1.1 408 "));

  RawClient large(world.server.address().port);
  REQUIRE(large.send(as_bytes("GET /now HTTP/1.1\r\nX: " + std::string(20'000, 'x'))));
  CHECK(world.answer(large).starts_with("HTTP/1.1 431 "));

  world.clock.advance_ms(HttpServer::kConnectionMsMax + 1);
  world.server.check_deadlines();
  REQUIRE(world.server.connections() == 0);
  std::vector<std::unique_ptr<RawClient>> many;
  for (size_t i = 0; i < HttpServer::kConnectionsMax; ++i) {
    many.push_back(std::make_unique<RawClient>(world.server.address().port));
  }
  REQUIRE(world.fixture.run_until(
      [&] { return world.server.connections() == HttpServer::kConnectionsMax; }));
  RawClient one_more(world.server.address().port);
  CHECK(world.answer(one_more).empty());
  CHECK(world.server.connections() == HttpServer::kConnectionsMax);
}

}  // namespace
}  // namespace tidemark::net
