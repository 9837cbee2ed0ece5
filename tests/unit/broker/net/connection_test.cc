#include "broker/net/connection.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/protocol/messages.h"
#include "log/base/random.h"
#include "tests/support/raw_client.h"
#include "tests/support/sim_clock.h"
#include "tests/unit/broker/net/loop_fixture.h"

namespace tidemark::net {
namespace {

using protocol::Frame;
using protocol::FrameHeader;
using protocol::FrameType;
using protocol::OutFrame;
using testing::bare_frame;
using testing::hello_frame;
using testing::RawClient;
using testing::to_bytes;

OutFrame reply_of(uint64_t correlation, size_t payload_bytes = 0,
                  FrameType type = FrameType::kProduce) {
  std::vector<SharedBytes> payload;
  if (payload_bytes > 0) {
    Buffer bytes(payload_bytes);
    std::fill(bytes.data(), bytes.data() + bytes.size(), static_cast<uint8_t>(correlation));
    payload.emplace_back(std::move(bytes));
  }
  return protocol::make_frame(type, /*reply=*/true, 0, correlation, {}, std::move(payload));
}

// A request whose payload makes it this large.
OutFrame request_of(uint64_t correlation, size_t payload_bytes) {
  OutFrame frame = reply_of(correlation, payload_bytes);
  FrameHeader header;
  header.frame_bytes = static_cast<uint32_t>(frame.bytes());
  header.type = static_cast<uint16_t>(FrameType::kProduce);
  header.shard = 0;
  header.correlation = correlation;
  protocol::encode_frame_header(header, frame.head.mutable_view());
  return frame;
}

// The end of a listener: greets, keeps requests for the test to answer, and does at the end of a
// turn what a reactor does.
class Host final : public FrameHandler, public LoopClient {
 public:
  enum class OnHello { kGreet, kReject, kDetach };

  explicit Host(LoopFixture& fixture) : fixture_(fixture), listener_(fixture.listen()) {
    fixture.loop().set_client(this);
    const Status status = listener_->start([this](UvHandle<uv_tcp_t> socket) {
      auto connection =
          std::make_unique<Connection>(*this, counters, next_id_++, std::move(socket));
      Connection* raw = connection.get();
      connections[raw->id()] = std::move(connection);
      raw->start();
    });
    REQUIRE(status.ok());
  }

  ~Host() override {
    connections.clear();
    gone_.clear();
    fixture_.loop().set_client(nullptr);
  }

  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  void woken() override {}

  void turn_ended() override {
    for (const uint64_t id : std::vector<uint64_t>(with_work_)) {
      if (connections.count(id) != 0) {
        connections[id]->resume();
      }
    }
    for (const uint64_t id : std::exchange(with_work_, {})) {
      if (connections.count(id) != 0) {
        connections[id]->flush();
      }
    }
    gone_.clear();
    fixture_.loop().set_busy(!with_work_.empty());
  }

  void hello(Connection& connection, Frame frame) override {
    ++hellos;
    const uint64_t correlation = frame.header.correlation;
    switch (on_hello) {
      case OnHello::kGreet:
        connection.greet(reply_of(correlation, 0, FrameType::kHello));
        return;
      case OnHello::kReject:
        connection.reject_hello(
            protocol::make_error_frame(correlation, {ErrorCode::kInvalidArgument, "not this one"}));
        return;
      case OnHello::kDetach: {
        auto detached = connection.detach();
        REQUIRE(detached.ok());
        detached->hello_reply = reply_of(correlation, 0, FrameType::kHello);
        gone_.push_back(std::move(connections[connection.id()]));
        connections.erase(connection.id());
        moved.push_back(std::move(*detached));
        return;
      }
    }
  }

  void request(Connection& connection, Frame frame) override {
    if (echo) {
      connection.reply(frame.header.correlation, reply_of(frame.header.correlation, echo_bytes));
      return;
    }
    requests.push_back({connection.id(), frame.header,
                        std::vector<uint8_t>(frame.payload().begin(), frame.payload().end())});
  }

  void has_work(Connection& connection) override { with_work_.push_back(connection.id()); }

  void closed(Connection& connection) override {
    gone_.push_back(std::move(connections[connection.id()]));
    connections.erase(connection.id());
  }

  [[nodiscard]] bool takes_requests() const override { return takes; }

  [[nodiscard]] MonotonicTime now() const override { return clock.monotonic(); }

  // What a loop does with a connection that another one detached.
  void attach(DetachedConnection detached) {
    auto connection = Connection::attach(fixture_.loop(), *this, counters, std::move(detached));
    REQUIRE(connection.ok());
    Connection* raw = connection->get();
    connections[raw->id()] = std::move(*connection);
    raw->start();
  }

  void check_deadlines() {
    std::vector<uint64_t> ids;
    for (const auto& [id, connection] : connections) {
      ids.push_back(id);
    }
    for (const uint64_t id : ids) {
      connections[id]->check_deadlines();
    }
  }

  [[nodiscard]] uint16_t port() const { return listener_->address().port; }

  // Answers the oldest kept request.
  void answer_one(size_t payload_bytes = 0) {
    const Request request = requests.front();
    requests.erase(requests.begin());
    if (connections.count(request.connection) != 0) {
      connections[request.connection]->reply(request.header.correlation,
                                             reply_of(request.header.correlation, payload_bytes));
    }
  }

  struct Request {
    uint64_t connection;
    FrameHeader header;
    std::vector<uint8_t> payload;
  };

  mutable SimClock clock;
  ConnectionCounters counters;
  std::map<uint64_t, std::unique_ptr<Connection>> connections;
  std::vector<Request> requests;
  std::vector<DetachedConnection> moved;
  OnHello on_hello = OnHello::kGreet;
  int hellos = 0;
  bool echo = false;
  size_t echo_bytes = 0;
  bool takes = true;

 private:
  LoopFixture& fixture_;
  std::unique_ptr<Listener> listener_;
  std::vector<uint64_t> with_work_;
  std::vector<std::unique_ptr<Connection>> gone_;
  uint64_t next_id_ = 1;
};

struct World {
  LoopFixture fixture;
  Host host{fixture};

  std::optional<Frame> frame_from(RawClient& client) {
    std::optional<Frame> frame;
    static_cast<void>(fixture.run_until([&] {
      client.pump(0);
      frame = client.next_frame();
      return frame.has_value() || client.closed();
    }));
    return frame;
  }

  Status error_from(RawClient& client) {
    const std::optional<Frame> frame = frame_from(client);
    REQUIRE(frame.has_value());
    REQUIRE(frame->header.reply);
    REQUIRE(frame->header.type == static_cast<uint16_t>(FrameType::kError));
    const auto table = protocol::read_table<protocol::fbs::ErrorReply>(frame->table(), "error");
    REQUIRE(table.ok());
    return protocol::to_status((*table)->error());
  }

  bool closes(RawClient& client) {
    return fixture.run_until([&] {
      client.pump(0);
      return client.closed();
    });
  }

  void greet(RawClient& client) {
    REQUIRE(client.send(hello_frame()));
    const std::optional<Frame> reply = frame_from(client);
    REQUIRE(reply.has_value());
    REQUIRE(reply->header.type == static_cast<uint16_t>(FrameType::kHello));
  }
};

TEST_CASE("Hello, a request, its reply") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  REQUIRE(client.send(request_of(42, 1000)));
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == 1; }));
  CHECK(world.host.requests[0].header.correlation == 42);
  CHECK(world.host.requests[0].payload == std::vector<uint8_t>(1000, 42));
  world.host.answer_one(500);
  const std::optional<Frame> reply = world.frame_from(client);
  REQUIRE(reply.has_value());
  CHECK(reply->header.correlation == 42);
  CHECK(reply->payload().size() == 500);
}

TEST_CASE("requests that come in one segment with Hello are taken, large ones too") {
  World world;
  RawClient client(world.host.port());
  std::vector<uint8_t> bytes = to_bytes(hello_frame());
  for (uint64_t i = 1; i <= 3; ++i) {
    const std::vector<uint8_t> more = to_bytes(request_of(i, i * 40'000));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  REQUIRE(client.send(bytes));
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == 3; }));
  for (uint64_t i = 1; i <= 3; ++i) {
    CHECK(world.host.requests[i - 1].payload ==
          std::vector<uint8_t>(i * 40'000, static_cast<uint8_t>(i)));
  }
}

TEST_CASE("a stream means the same however it is cut") {
  std::vector<uint8_t> bytes = to_bytes(hello_frame());
  for (uint64_t i = 1; i <= 20; ++i) {
    const std::vector<uint8_t> more = to_bytes(request_of(i, (i * 977) % 5000));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    World world;
    world.host.echo = true;
    world.host.echo_bytes = 100;
    RawClient client(world.host.port());
    ByteView rest = bytes;
    while (!rest.empty()) {
      const size_t piece = std::min<size_t>(rest.size(), random.between(1, 3000));
      REQUIRE(client.send(rest.first(piece)));
      rest = rest.subspan(piece);
      world.fixture.loop().turn(/*wait=*/false);
    }
    REQUIRE(world.frame_from(client).has_value());
    for (uint64_t i = 1; i <= 20; ++i) {
      const std::optional<Frame> reply = world.frame_from(client);
      REQUIRE(reply.has_value());
      CHECK(reply->header.correlation == i);
    }
  }
}

TEST_CASE("the first frame must be Hello") {
  World world;
  RawClient client(world.host.port());
  REQUIRE(client.send(bare_frame(FrameType::kMetadata, 5)));
  const Status error = world.error_from(client);
  CHECK(error.code() == ErrorCode::kNotAllowed);
  CHECK(error.context() == "say Hello first");
  CHECK(world.closes(client));
  CHECK(world.host.requests.empty());
  CHECK(world.host.counters.frame_errors == 1);
}

TEST_CASE("a second Hello is refused, the connection lives") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  REQUIRE(client.send(hello_frame()));
  CHECK(world.error_from(client).code() == ErrorCode::kNotAllowed);
  REQUIRE(client.send(bare_frame(FrameType::kMetadata, 1)));
  CHECK(world.fixture.run_until([&] { return world.host.requests.size() == 1; }));
}

TEST_CASE(
    "unknown types, versions and replies get an error with their correlation, the connection "
    "lives") {
  World world;
  RawClient client(world.host.port());
  FrameHeader header;
  header.frame_bytes = protocol::kFrameHeaderBytes;
  header.type = static_cast<uint16_t>(FrameType::kHello);
  header.version = 9;
  // Before Hello: a newer client may try its own version first.
  REQUIRE(client.send(testing::header_bytes(header)));
  CHECK(world.error_from(client).code() == ErrorCode::kUnsupportedVersion);
  world.greet(client);

  header.correlation = 77;
  REQUIRE(client.send(testing::header_bytes(header)));
  const std::optional<Frame> frame = world.frame_from(client);
  REQUIRE(frame.has_value());
  CHECK(frame->header.correlation == 77);

  header.version = protocol::kProtocolVersion;
  header.type = 999;
  REQUIRE(client.send(testing::header_bytes(header)));
  const Status unknown = world.error_from(client);
  CHECK(unknown.code() == ErrorCode::kUnsupportedType);
  CHECK(unknown.context() == "frame type 999");

  header.type = static_cast<uint16_t>(FrameType::kFetch);
  header.reply = true;
  REQUIRE(client.send(testing::header_bytes(header)));
  CHECK(world.error_from(client).code() == ErrorCode::kMalformed);

  REQUIRE(client.send(bare_frame(FrameType::kMetadata, 1)));
  CHECK(world.fixture.run_until([&] { return world.host.requests.size() == 1; }));
  CHECK(world.host.counters.rejected == 4);
}

TEST_CASE("frames over the limit are refused from their header, with the limit named") {
  World world;
  FrameHeader header;
  header.type = static_cast<uint16_t>(FrameType::kProduce);
  SUBCASE("before Hello") {
    RawClient client(world.host.port());
    header.frame_bytes = limits::kFrameBytesMaxBeforeHello + 1;
    REQUIRE(client.send(testing::header_bytes(header)));
    const Status error = world.error_from(client);
    CHECK(error.code() == ErrorCode::kTooLarge);
    CHECK(error.context().find("4096") != std::string_view::npos);
    CHECK(world.closes(client));
  }
  SUBCASE("after Hello: 2 GiB are claimed") {
    RawClient client(world.host.port());
    world.greet(client);
    header.frame_bytes = 0x80000000u;
    REQUIRE(client.send(testing::header_bytes(header)));
    const Status error = world.error_from(client);
    CHECK(error.code() == ErrorCode::kTooLarge);
    CHECK(error.context().find(std::to_string(limits::kFrameBytesMax)) != std::string_view::npos);
    CHECK(world.closes(client));
  }
  SUBCASE("the largest is taken") {
    RawClient client(world.host.port());
    world.greet(client);
    const std::vector<uint8_t> bytes =
        to_bytes(request_of(3, limits::kFrameBytesMax - protocol::kFrameHeaderBytes));
    ByteView rest = bytes;
    REQUIRE(world.fixture.run_until([&] {
      rest = rest.subspan(client.send_some(rest));
      return world.host.requests.size() == 1;
    }));
    CHECK(world.host.requests[0].payload.size() ==
          limits::kFrameBytesMax - protocol::kFrameHeaderBytes);
  }
}

TEST_CASE("random bytes end in an error and a close, never worse") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    World world;
    RawClient client(world.host.port());
    if (random.chance(1, 2)) {
      world.greet(client);
    }
    std::vector<uint8_t> junk(random.between(32, 5000));
    for (uint8_t& byte : junk) {
      byte = static_cast<uint8_t>(random.next());
    }
    REQUIRE(client.send(junk));
    CHECK(world.error_from(client).code() == ErrorCode::kMalformed);
    CHECK(world.closes(client));
    client.shut_down();
    CHECK(world.fixture.run_until([&] {
      client.send_some(junk);
      return world.host.connections.empty();
    }));
  }
}

TEST_CASE("frames before the damage still count") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  std::vector<uint8_t> bytes = to_bytes(request_of(1, 10));
  bytes.insert(bytes.end(), 64, 0xEE);
  REQUIRE(client.send(bytes));
  CHECK(world.error_from(client).code() == ErrorCode::kMalformed);
  CHECK(world.host.requests.size() == 1);
  // Answering it now is allowed and goes nowhere.
  world.host.answer_one();
  CHECK(world.closes(client));
}

TEST_CASE("an error reaches a client that has closed its sending side") {
  World world;
  RawClient client(world.host.port());
  REQUIRE(client.send(std::vector<uint8_t>(100, 0x55)));
  client.shut_down();
  CHECK(world.error_from(client).code() == ErrorCode::kMalformed);
  CHECK(world.closes(client));
  CHECK(world.fixture.run_until([&] { return world.host.connections.empty(); }));
}

TEST_CASE("more requests than the bound wait in the socket, below half they go on") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  constexpr size_t kMax = limits::kRequestsInFlightPerConnectionMax;
  std::vector<uint8_t> bytes;
  for (uint64_t i = 1; i <= 2 * kMax; ++i) {
    const std::vector<uint8_t> more = to_bytes(bare_frame(FrameType::kMetadata, i));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  REQUIRE(client.send(bytes));
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == kMax; }));
  world.fixture.turns(5);
  CHECK(world.host.requests.size() == kMax);
  CHECK(world.host.counters.paused == 1);
  for (size_t i = 0; i < kMax / 2 - 1; ++i) {
    world.host.answer_one();
  }
  world.fixture.turns(5);
  CHECK(world.host.requests.size() == kMax / 2 + 1);
  world.host.answer_one();
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == kMax; }));
  size_t replies = 0;
  REQUIRE(world.fixture.run_until([&] {
    if (!world.host.requests.empty()) {
      world.host.answer_one();
    }
    client.pump(0);
    while (const std::optional<Frame> reply = client.next_frame()) {
      ++replies;
      REQUIRE(reply->header.correlation == replies);
    }
    return replies == 2 * kMax;
  }));
}

TEST_CASE("request bytes under way are bounded") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  constexpr size_t kFrame = 4 * limits::kMiB;
  std::vector<uint8_t> bytes;
  for (uint64_t i = 1; i <= 8; ++i) {
    const std::vector<uint8_t> more = to_bytes(request_of(i, kFrame));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  ByteView rest = bytes;
  REQUIRE(world.fixture.run_until([&] {
    rest = rest.subspan(client.send_some(rest));
    return world.host.requests.size() == 4;
  }));
  world.fixture.turns(20);
  CHECK(world.host.requests.size() == 4);
  // Two of them with their headers are a little more than half.
  world.host.answer_one();
  world.host.answer_one();
  world.fixture.turns(20);
  CHECK(world.host.requests.size() == 2);
  world.host.answer_one();
  CHECK(world.fixture.run_until([&] {
    rest = rest.subspan(client.send_some(rest));
    return world.host.requests.size() == 4;
  }));
}

TEST_CASE("a client that does not read its replies is not read from, and is let go after a while") {
  World world;
  world.host.echo = true;
  world.host.echo_bytes = limits::kMiB;
  RawClient client(world.host.port());
  world.greet(client);
  std::vector<uint8_t> bytes;
  for (uint64_t i = 1; i <= 60; ++i) {
    const std::vector<uint8_t> more = to_bytes(bare_frame(FrameType::kMetadata, i));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  REQUIRE(client.send(bytes));
  REQUIRE(world.fixture.run_until([&] { return world.host.counters.paused == 1; }));
  world.fixture.turns(20);
  const uint64_t taken = world.host.counters.frames_in;
  CHECK(taken < 40);
  SUBCASE("it reads after all") {
    size_t replies = 0;
    REQUIRE(world.fixture.run_until([&] {
      while (client.pump(0)) {
      }
      while (client.next_frame().has_value()) {
        ++replies;
      }
      return replies == 60;
    }));
  }
  SUBCASE("it never reads") {
    world.host.clock.advance_ms(Connection::kWriteStallMsMax / 2);
    world.host.check_deadlines();
    REQUIRE(world.host.connections.size() == 1);
    world.host.clock.advance_ms(Connection::kWriteStallMsMax / 2 + 2000);
    world.host.check_deadlines();
    CHECK(world.host.connections.empty());
    CHECK(world.host.counters.stalled == 1);
  }
}

TEST_CASE("while the handler is congested nothing is taken") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  world.host.takes = false;
  REQUIRE(client.send(bare_frame(FrameType::kMetadata, 1)));
  world.fixture.turns(10);
  CHECK(world.host.requests.empty());
  world.host.takes = true;
  for (auto& [id, connection] : world.host.connections) {
    connection->resume();
  }
  CHECK(world.fixture.run_until([&] { return world.host.requests.size() == 1; }));
}

TEST_CASE("many replies of one turn arrive whole and in order") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  std::vector<uint8_t> bytes;
  for (uint64_t i = 1; i <= 200; ++i) {
    const std::vector<uint8_t> more = to_bytes(bare_frame(FrameType::kFetch, i));
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  REQUIRE(client.send(bytes));
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == 200; }));
  // About 10 MiB in one go: more than a socket takes.
  for (int i = 0; i < 200; ++i) {
    world.host.answer_one(50'000);
  }
  for (uint64_t i = 1; i <= 200; ++i) {
    const std::optional<Frame> reply = world.frame_from(client);
    REQUIRE(reply.has_value());
    REQUIRE(reply->header.correlation == i);
    REQUIRE(reply->payload().size() == 50'000);
    const ByteView payload = reply->payload();
    REQUIRE(std::all_of(payload.begin(), payload.end(),
                        [i](uint8_t byte) { return byte == static_cast<uint8_t>(i); }));
  }
}

TEST_CASE("Hello must come in time") {
  World world;
  RawClient client(world.host.port());
  REQUIRE(world.fixture.run_until([&] { return world.host.connections.size() == 1; }));
  world.host.clock.advance_ms(Connection::kHandshakeMsMax);
  world.host.check_deadlines();
  world.host.clock.advance_ms(1);
  world.host.check_deadlines();
  const Status error = world.error_from(client);
  CHECK(error.code() == ErrorCode::kTimedOut);
  CHECK(error.context() == "no Hello within 5 s");
  CHECK(world.closes(client));
  // This client does not close its side; the broker does not wait for it for ever.
  world.host.clock.advance_ms(Connection::kLingerMsMax);
  world.host.check_deadlines();
  CHECK(world.host.connections.empty());
}

TEST_CASE("a frame must be complete in time after its first byte") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  // An idle connection may stay.
  world.host.clock.advance_ms(10 * Connection::kFrameMsMax);
  world.host.check_deadlines();
  REQUIRE(world.host.connections.size() == 1);
  const std::vector<uint8_t> bytes = to_bytes(request_of(1, 1000));
  REQUIRE(client.send(ByteView(bytes).first(10)));
  world.fixture.turns(5);
  world.host.clock.advance_ms(Connection::kFrameMsMax - 1000);
  // Another byte does not renew the time.
  REQUIRE(client.send(ByteView(bytes).subspan(10, 1)));
  world.fixture.turns(5);
  world.host.check_deadlines();
  REQUIRE(world.host.counters.frame_errors == 0);
  world.host.clock.advance_ms(1001);
  world.host.check_deadlines();
  const Status error = world.error_from(client);
  CHECK(error.code() == ErrorCode::kTimedOut);
  CHECK(error.context() == "a frame was not complete within 30 s");
  CHECK(world.closes(client));
}

TEST_CASE("the time in which we do not read is not held against the client") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  std::vector<uint8_t> bytes = to_bytes(request_of(1, 10));
  const std::vector<uint8_t> second = to_bytes(request_of(2, 1000));
  bytes.insert(bytes.end(), second.begin(), second.begin() + 100);
  world.host.takes = false;
  REQUIRE(client.send(bytes));
  world.fixture.turns(10);
  world.host.clock.advance_ms(2 * Connection::kFrameMsMax);
  world.host.check_deadlines();
  CHECK(world.host.counters.frame_errors == 0);
  world.host.takes = true;
  for (auto& [id, connection] : world.host.connections) {
    connection->resume();
  }
  world.host.check_deadlines();
  REQUIRE(client.send(ByteView(second).subspan(100)));
  CHECK(world.fixture.run_until([&] { return world.host.requests.size() == 2; }));
}

TEST_CASE("a refused Hello may be tried again, not for ever") {
  World world;
  world.host.on_hello = Host::OnHello::kReject;
  RawClient client(world.host.port());
  for (int i = 0; i < 16; ++i) {
    REQUIRE(client.send(hello_frame()));
    CHECK(world.error_from(client).code() == ErrorCode::kInvalidArgument);
  }
  REQUIRE(client.send(hello_frame()));
  CHECK(world.error_from(client).code() == ErrorCode::kLimitExceeded);
  CHECK(world.closes(client));
}

TEST_CASE("a connection moves to another loop with what was read of it") {
  World world;
  world.host.on_hello = Host::OnHello::kDetach;
  LoopFixture other_fixture;
  Host other(other_fixture);
  RawClient client(world.host.port());
  std::vector<uint8_t> bytes = to_bytes(hello_frame());
  const std::vector<uint8_t> first = to_bytes(request_of(1, 300));
  const std::vector<uint8_t> second = to_bytes(request_of(2, 300));
  bytes.insert(bytes.end(), first.begin(), first.end());
  // The second is cut in the middle of its header.
  bytes.insert(bytes.end(), second.begin(), second.begin() + 20);
  REQUIRE(client.send(bytes));
  REQUIRE(world.fixture.run_until([&] { return world.host.moved.size() == 1; }));
  CHECK(world.host.connections.empty());
  const uint64_t id = world.host.moved[0].id;
  other.attach(std::move(world.host.moved[0]));
  REQUIRE(client.send(ByteView(second).subspan(20)));
  REQUIRE(other_fixture.run_until([&] { return other.requests.size() == 2; }));
  CHECK(other.requests[0].connection == id);
  CHECK(other.requests[1].payload == std::vector<uint8_t>(300, 2));
  other.answer_one();
  other.answer_one();
  std::vector<uint64_t> replies;
  REQUIRE(other_fixture.run_until([&] {
    client.pump(0);
    while (const std::optional<Frame> reply = client.next_frame()) {
      replies.push_back(reply->header.correlation);
    }
    return replies.size() == 3;
  }));
  CHECK(replies == std::vector<uint64_t>{1, 1, 2});
  // The first loop can go, the connection stays.
  world.fixture.turns(3);
  REQUIRE(client.send(request_of(3, 1)));
  CHECK(other_fixture.run_until([&] { return other.requests.size() == 1; }));
}

TEST_CASE("a detached connection that nobody takes closes") {
  World world;
  world.host.on_hello = Host::OnHello::kDetach;
  RawClient client(world.host.port());
  REQUIRE(client.send(hello_frame()));
  REQUIRE(world.fixture.run_until([&] { return world.host.moved.size() == 1; }));
  world.host.moved.clear();
  CHECK(world.closes(client));
}

TEST_CASE("finish writes what is queued, then closes") {
  World world;
  RawClient client(world.host.port());
  world.greet(client);
  REQUIRE(client.send(request_of(1, 1)));
  REQUIRE(world.fixture.run_until([&] { return world.host.requests.size() == 1; }));
  world.host.answer_one(2'000'000);
  world.host.connections.begin()->second->finish(5'000);
  const std::optional<Frame> reply = world.frame_from(client);
  REQUIRE(reply.has_value());
  CHECK(reply->payload().size() == 2'000'000);
  CHECK(world.closes(client));
  client.shut_down();
  CHECK(world.fixture.run_until([&] { return world.host.connections.empty(); }));
}

TEST_CASE("a client that vanishes with replies under way leaves nothing behind") {
  World world;
  world.host.echo = true;
  world.host.echo_bytes = limits::kMiB;
  {
    RawClient client(world.host.port());
    world.greet(client);
    for (uint64_t i = 1; i <= 30; ++i) {
      REQUIRE(client.send(bare_frame(FrameType::kFetch, i)));
    }
    world.fixture.turns(3);
  }
  CHECK(world.fixture.run_until([&] { return world.host.connections.empty(); }));
  CHECK(world.host.counters.closed == world.host.counters.opened);
}

TEST_CASE("a connection over the limit is told so") {
  LoopFixture fixture;
  std::unique_ptr<Listener> listener = fixture.listen();
  REQUIRE(listener
              ->start([](UvHandle<uv_tcp_t> socket) {
                Connection::refuse(
                    std::move(socket),
                    protocol::make_error_frame(0, {ErrorCode::kLimitExceeded, "too many"}));
              })
              .ok());
  RawClient client(listener->address().port);
  REQUIRE(fixture.run_until([&] {
    client.pump(0);
    return client.closed();
  }));
  const std::optional<Frame> frame = client.next_frame();
  REQUIRE(frame.has_value());
  CHECK(frame->header.type == static_cast<uint16_t>(FrameType::kError));
}

}  // namespace
}  // namespace tidemark::net
