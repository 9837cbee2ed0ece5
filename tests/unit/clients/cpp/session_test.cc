#include "clients/cpp/src/session.h"

#include <doctest/doctest.h>

#include "broker/protocol/messages.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::client_core {
namespace {

using protocol::FrameType;
using testing::FakeNetwork;
namespace fbs = protocol::fbs;

class SessionRig {
 public:
  explicit SessionRig(uint64_t seed = 1)
      : network(clock, seed),
        session({"host", 7}, 3, {.client_name = "test"}, network, clock, seed,
                [this](const BrokerFacts&) { return greeting; }) {}

  void ask(int64_t timeout_ms = 1'000) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(fbs::CreateInitProducer(builder));
    session.request(FrameType::kInitProducer, protocol::kNoShard, protocol::finished(builder), {},
                    {clock.monotonic().ns + timeout_ms * kNsPerMs},
                    [this](Reply reply) { answers.push_back(std::move(reply.status)); });
  }

  void run(int64_t ms) {
    const int64_t end = clock.monotonic().ns + ms * kNsPerMs;
    while (true) {
      const MonotonicTime next = session.run(clock.monotonic());
      if (network.step()) {
        continue;
      }
      if (clock.monotonic().ns >= end) {
        return;
      }
      clock.advance_ns(std::max<int64_t>(std::min(next.ns, end) - clock.monotonic().ns, kNsPerMs));
    }
  }

  SimClock clock;
  FakeNetwork network;
  Status greeting;
  std::vector<Status> answers;
  Session session;
};

TEST_CASE("connects when first asked, greets, answers") {
  SessionRig rig;
  CHECK(rig.network.connects == 0);
  rig.ask();
  CHECK(rig.answers.empty());
  rig.run(10);
  REQUIRE(rig.answers.size() == 1);
  CHECK(rig.answers[0].ok());
  CHECK(rig.session.ready());
  CHECK(rig.session.facts().cluster_id == 77);
  CHECK(rig.network.connects == 1);
  CHECK(rig.network.violations.empty());
}

TEST_CASE("connection refused: what waits fails with host and port, and attempts are spaced out") {
  SessionRig rig;
  rig.network.reachable = false;
  for (int i = 0; i < 400; ++i) {
    rig.ask(60'000);
    rig.run(100);
  }
  REQUIRE(!rig.answers.empty());
  for (const Status& status : rig.answers) {
    CHECK(status.code() == ErrorCode::kUnavailable);
    CHECK(status.context().find("host:7") != std::string_view::npos);
  }
  // 40 s: the pauses grow from 50 ms to 5 s.
  CHECK(rig.network.connects >= 12);
  CHECK(rig.network.connects <= 24);
  rig.network.reachable = true;
  rig.answers.clear();
  rig.ask(60'000);
  rig.run(6'000);
  REQUIRE(!rig.answers.empty());
  CHECK(rig.answers.back().ok());
}

TEST_CASE("a lost connection: what was sent has an unknown outcome") {
  SessionRig rig;
  rig.ask();
  rig.run(10);
  rig.network.silent = true;
  rig.ask();
  rig.run(10);
  rig.network.cut_all();
  REQUIRE(rig.answers.size() == 2);
  CHECK(rig.answers[1].code() == ErrorCode::kOutcomeUnknown);
  CHECK(rig.answers[1].context().find("host:7") != std::string_view::npos);
}

TEST_CASE(
    "no answer in time: timed out, the connection is given up, the next request makes a new one") {
  SessionRig rig;
  rig.ask();
  rig.run(10);
  rig.network.silent = true;
  rig.ask(500);
  rig.ask(5'000);
  rig.run(600);
  REQUIRE(rig.answers.size() == 3);
  CHECK(rig.answers[1].code() == ErrorCode::kTimedOut);
  CHECK(rig.answers[2].code() == ErrorCode::kOutcomeUnknown);
  rig.network.silent = false;
  rig.ask();
  rig.run(1'000);
  CHECK(rig.answers[3].ok());
  CHECK(rig.network.connects == 2);
}

TEST_CASE("a broker that never greets is given up after the time to connect") {
  SessionRig rig;
  rig.network.silent = true;
  rig.ask(60'000);
  rig.run(6'000);
  REQUIRE(rig.answers.size() == 1);
  CHECK(rig.answers[0].code() == ErrorCode::kUnavailable);
}

TEST_CASE("what waits longer than its deadline was never sent") {
  SessionRig rig;
  rig.network.silent = true;
  rig.ask(100);
  rig.run(200);
  REQUIRE(rig.answers.size() == 1);
  CHECK(rig.answers[0].code() == ErrorCode::kUnavailable);
}

TEST_CASE("an Error frame is the answer, with its code") {
  SessionRig rig;
  rig.network.on_request = [](FrameType type) {
    return type == FrameType::kInitProducer ? Status(ErrorCode::kReadOnly, "sync failed")
                                            : Status();
  };
  rig.ask();
  rig.run(10);
  REQUIRE(rig.answers.size() == 1);
  CHECK(rig.answers[0].code() == ErrorCode::kReadOnly);
  CHECK(rig.session.ready());
}

TEST_CASE("a refused handshake fails what waits, with the reason") {
  SessionRig rig;
  SUBCASE("by the broker") {
    rig.network.on_request = [](FrameType) {
      return Status(ErrorCode::kUnsupportedVersion, "too old");
    };
    rig.ask();
    rig.run(10);
    REQUIRE(rig.answers.size() == 1);
    CHECK(rig.answers[0].code() == ErrorCode::kUnsupportedVersion);
  }
  SUBCASE("by the client") {
    rig.greeting = Status(ErrorCode::kConflict, "another cluster");
    rig.ask();
    rig.run(10);
    REQUIRE(rig.answers.size() == 1);
    CHECK(rig.answers[0].code() == ErrorCode::kConflict);
  }
}

TEST_CASE("addresses") {
  CHECK(parse_address("a:1", 9)->text() == "a:1");
  CHECK(parse_address("a", 9)->text() == "a:9");
  CHECK(parse_address("[::1]:5", 9)->text() == "[::1]:5");
  CHECK(parse_address("[::1]", 9)->host == "::1");
  for (const char* bad :
       {"", ":5", "a:", "a:0", "a:65536", "a:b", "::1", "[::1", "[::1]x", "a:1:2", "[[]", "a]:1"}) {
    CAPTURE(bad);
    CHECK(parse_address(bad, 9).status().code() == ErrorCode::kInvalidArgument);
  }
}

TEST_CASE("back-off doubles up to its maximum, with jitter") {
  Random random(1);
  Backoff backoff(50, 5'000);
  int64_t step = 50;
  for (int i = 0; i < 20; ++i) {
    const int64_t pause = backoff.next_ns(random);
    CHECK(pause <= step);
    CHECK(pause >= step / 2);
    step = std::min<int64_t>(step * 2, 5'000);
  }
  backoff.reset();
  CHECK(backoff.next_ns(random) <= 50);
}

}  // namespace
}  // namespace tidemark::client_core
