// A producer's whole path from send() to the report, against a scripted broker with faults drawn
// from a seed.
#include "clients/cpp/src/produce_engine.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/unit/clients/cpp/producer_rig.h"

namespace tidemark::client_core {
namespace {

using testing::Rig;

TEST_CASE("messages arrive in order, batched, exactly once") {
  Rig rig(1);
  rig.network.add_topic("t", 1);
  for (uint64_t i = 0; i < 1000; ++i) {
    REQUIRE(rig.send("t", 0, std::to_string(i), i).ok());
  }
  REQUIRE(rig.drain());
  const auto stored = rig.network.topic("t").partitions[0].messages();
  REQUIRE(stored.size() == 1000);
  for (uint64_t i = 0; i < 1000; ++i) {
    CHECK(stored[i].value == std::to_string(i));
    CHECK(rig.reports.at(i).offset == i);
  }
  CHECK(rig.network.produce_requests == 1);
  CHECK(rig.network.violations.empty());
}

TEST_CASE("partitions of a shard share a request") {
  Rig rig(2);
  rig.network.shards = 2;
  rig.network.add_topic("t", 8);
  for (uint64_t i = 0; i < 800; ++i) {
    REQUIRE(rig.send("t", static_cast<uint32_t>(i % 8), "v", i).ok());
  }
  REQUIRE(rig.drain());
  CHECK(rig.network.produce_parts_max == 4);
  CHECK(rig.network.produce_requests == 2);
}

TEST_CASE("nothing waits longer than linger") {
  Rig rig(3, {.linger_ns = 5 * kNsPerMs});
  rig.network.add_topic("t", 1);
  REQUIRE(rig.send("t", 0, "first", 0).ok());
  REQUIRE(rig.run_until([&] { return rig.reports.size() == 1; }, 1'000));
  const int64_t before = rig.clock.monotonic().ns;
  REQUIRE(rig.send("t", 0, "second", 1).ok());
  REQUIRE(rig.run_until([&] { return rig.reports.size() == 2; }, 1'000));
  const int64_t waited = rig.clock.monotonic().ns - before;
  CHECK(waited >= 5 * kNsPerMs);
  CHECK(waited <= 7 * kNsPerMs);
}

TEST_CASE("messages whose ids the broker knew lie where the answer says") {
  Rig rig(4);
  rig.network.add_topic("t", 1);
  rig.network.produce_offsets = {7, 100, 9};
  for (uint64_t i = 0; i < 3; ++i) {
    REQUIRE(rig.send("t", 0, "v", i).ok());
  }
  REQUIRE(rig.drain());
  REQUIRE(rig.reports.size() == 3);
  CHECK(rig.reports.at(0).offset == 7);
  CHECK(rig.reports.at(1).offset == 100);
  CHECK(rig.reports.at(2).offset == 9);
}

// What a run with faults must never do, whatever the seed.
void check_stored(Rig& rig, uint32_t partitions, const std::vector<std::vector<uint64_t>>& sent) {
  for (uint32_t p = 0; p < partitions; ++p) {
    CAPTURE(p);
    std::map<uint64_t, uint64_t> stored;  // opaque -> offset
    uint64_t last = 0;
    bool first = true;
    for (const auto& message : rig.network.topic("t").partitions[p].messages()) {
      const uint64_t opaque = std::stoull(message.value);
      CHECK_MESSAGE(stored.emplace(opaque, message.offset).second, "stored twice: ", opaque);
      CHECK_MESSAGE((first || opaque > last), "out of order: ", opaque, " after ", last);
      last = opaque;
      first = false;
    }
    for (const uint64_t opaque : sent[p]) {
      const auto report = rig.reports.find(opaque);
      REQUIRE_MESSAGE(report != rig.reports.end(), "never reported: ", opaque);
      if (report->second.code == client::ErrorCode::kOk) {
        REQUIRE_MESSAGE(stored.contains(opaque), "acknowledged but not stored: ", opaque);
        CHECK(stored.at(opaque) == report->second.offset);
      } else if (!report->second.outcome_unknown) {
        CHECK_MESSAGE(!stored.contains(opaque), "refused but stored: ", opaque, " ",
                      report->second.text);
      }
    }
  }
  CHECK(rig.network.violations.empty());
}

// What happened over several runs: a property test that never met a rare case proves nothing.
struct Seen {
  size_t failed = 0;
  size_t unknown = 0;
  size_t retried = 0;
  size_t duplicates = 0;

  void add(Rig& rig) {
    for (const auto& [id, report] : rig.reports) {
      failed += report.code != client::ErrorCode::kOk ? 1 : 0;
      unknown += report.outcome_unknown ? 1 : 0;
    }
    retried += rig.buffer->stats().batches_retried;
    duplicates += rig.buffer->stats().duplicates;
  }
};

void property_run(uint64_t seed, const testing::Faults& faults, Seen& seen) {
  CAPTURE(seed);
  Random random(seed);
  constexpr uint32_t kPartitions = 3;
  BatcherOptions batcher;
  batcher.batch_bytes = 1024 + random.below(4096);
  batcher.linger_ns = static_cast<int64_t>(random.below(6)) * kNsPerMs;
  EngineOptions engine;
  engine.window.batches_max = static_cast<uint32_t>(1 + random.below(5));
  engine.window.codec = random.chance(1, 3) ? format::Codec::kZstd : format::Codec::kNone;
  Rig rig(seed, batcher, engine);
  rig.network.faults = faults;
  rig.network.add_topic("t", kPartitions);
  std::vector<std::vector<uint64_t>> sent(kPartitions);
  const std::string padding(100, ' ');
  uint64_t opaque = 0;
  for (int round = 0; round < 400; ++round) {
    for (uint64_t n = random.below(12); n > 0; --n) {
      const auto partition = static_cast<uint32_t>(random.below(kPartitions));
      const std::string value = std::to_string(opaque) + padding;
      REQUIRE(rig.send("t", partition, value, opaque).ok());
      sent[partition].push_back(opaque++);
    }
    rig.turn();
    for (uint64_t n = random.below(6); n > 0; --n) {
      rig.network.step();
    }
    if (random.chance(1, 100)) {
      rig.network.cut_all();
    }
    rig.clock.advance_ms(static_cast<int64_t>(random.below(4)));
  }
  rig.network.faults = {};
  REQUIRE(rig.drain(120'000));
  check_stored(rig, kPartitions, sent);
  seen.add(rig);
}

TEST_CASE(
    "property: lost connections, lost answers and refusals lose nothing, double nothing, reorder "
    "nothing") {
  Seen seen;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    property_run(seed, {.refuse_connect = 200, .lose_before = 30, .lose_after = 30, .refuse = 40},
                 seen);
    // Every fault passes within the delivery timeout, so every message must get through.
    CHECK(seen.failed == 0);
  }
  CHECK(seen.retried > 1'000);
  CHECK(seen.duplicates > 100);
}

TEST_CASE("property: a broker that forgets producers, too") {
  Seen seen;
  for (uint64_t seed = 1000; seed < 1050; ++seed) {
    property_run(
        seed,
        {.refuse_connect = 100, .lose_before = 30, .lose_after = 60, .refuse = 60, .forget = 100},
        seen);
  }
  // A batch whose answer was lost and whose producer was then forgotten can only be reported as
  // unknown.
  CHECK(seen.unknown > 100);
  CHECK(seen.failed == seen.unknown);
  CHECK(seen.duplicates > 100);
}

TEST_CASE(
    "property: short delivery timeouts: nothing acknowledged is lost, nothing refused is stored") {
  Seen seen;
  for (uint64_t seed = 2000; seed < 2040; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    EngineOptions engine;
    engine.delivery_timeout_ns = 100 * kNsPerMs;
    Rig rig(seed, {.batch_bytes = 1024, .linger_ns = kNsPerMs}, engine);
    rig.network.faults = {
        .refuse_connect = 400, .lose_before = 50, .lose_after = 80, .refuse = 200};
    rig.network.add_topic("t", 1);
    std::vector<std::vector<uint64_t>> sent(1);
    for (uint64_t opaque = 0; opaque < 1500; ++opaque) {
      REQUIRE(rig.send("t", 0, std::to_string(opaque) + std::string(300, ' '), opaque).ok());
      sent[0].push_back(opaque);
      rig.turn();
      rig.network.step();
      if (random.chance(1, 2)) {
        rig.clock.advance_ms(static_cast<int64_t>(random.below(4)));
      }
    }
    rig.network.faults = {};
    REQUIRE(rig.drain());
    check_stored(rig, 1, sent);
    seen.add(rig);
  }
  CHECK(seen.unknown > 100);
  CHECK(seen.failed > seen.unknown);
}

TEST_CASE(
    "five batches are under way, no more, and a refused first one is followed by the others in "
    "order") {
  Rig rig(4, {.batch_bytes = 1024, .linger_ns = 0});
  rig.network.add_topic("t", 1);
  int refusals = 3;
  size_t parts = 0;
  rig.network.on_produce_part = [&](uint32_t) {
    ++parts;
    return refusals-- > 0 ? Status(ErrorCode::kOverloaded, "full") : Status();
  };
  for (uint64_t i = 0; i < 100; ++i) {
    REQUIRE(rig.send("t", 0, std::to_string(i) + std::string(300, '.'), i).ok());
  }
  REQUIRE(rig.drain());
  const auto stored = rig.network.topic("t").partitions[0].messages();
  REQUIRE(stored.size() == 100);
  for (uint64_t i = 0; i < 100; ++i) {
    CHECK(std::stoull(stored[i].value) == i);
  }
  CHECK(rig.buffer->stats().batches_retried >= 3);
}

TEST_CASE("a batch refused for good fails alone; the next ones get a new producer id") {
  Rig rig(5, {.batch_bytes = 1024, .linger_ns = 0});
  rig.network.add_topic("t", 1);
  int count = 0;
  rig.network.on_produce_part = [&](uint32_t) {
    return ++count == 2 ? Status(ErrorCode::kInvalidArgument, "not this one") : Status();
  };
  for (uint64_t i = 0; i < 30; ++i) {
    REQUIRE(rig.send("t", 0, std::to_string(i) + std::string(300, '.'), i).ok());
  }
  REQUIRE(rig.drain());
  size_t failed = 0;
  for (const auto& [opaque, report] : rig.reports) {
    failed += report.code == client::ErrorCode::kInvalidArgument ? 1 : 0;
    CHECK(!report.outcome_unknown);
  }
  CHECK(failed > 0);
  const auto stored = rig.network.topic("t").partitions[0].messages();
  CHECK(stored.size() == 30 - failed);
  CHECK(stored.front().producer_id != stored.back().producer_id);
  CHECK(std::is_sorted(stored.begin(), stored.end(), [](const auto& a, const auto& b) {
    return std::stoull(a.value) < std::stoull(b.value);
  }));
}

TEST_CASE("no broker: messages time out, known as not stored, and the text says why") {
  EngineOptions engine;
  engine.delivery_timeout_ns = 2'000 * kNsPerMs;
  Rig rig(6, {}, engine);
  rig.network.add_topic("t", 1);
  rig.network.reachable = false;
  REQUIRE(rig.send("t", 0, "v", 0).ok());
  const int64_t before = rig.clock.monotonic().ns;
  REQUIRE(rig.run_until([&] { return rig.reports.size() == 1; }, 10'000));
  const testing::Report& report = rig.reports.at(0);
  CHECK(report.code == client::ErrorCode::kTimedOut);
  CHECK(!report.outcome_unknown);
  CHECK(report.text.find("seed:1: connect: connection refused") != std::string::npos);
  CHECK(rig.clock.monotonic().ns - before >= 2'000 * kNsPerMs);
  CHECK(rig.clock.monotonic().ns - before <= 2'600 * kNsPerMs);
}

TEST_CASE(
    "a silent broker: what was sent times out as unknown, and later messages go on under a new "
    "id") {
  EngineOptions engine;
  engine.delivery_timeout_ns = 1'000 * kNsPerMs;
  Rig rig(7, {}, engine);
  rig.network.add_topic("t", 1);
  REQUIRE(rig.send("t", 0, "0", 0).ok());
  REQUIRE(rig.drain());
  rig.network.silent = true;
  REQUIRE(rig.send("t", 0, "1", 1).ok());
  REQUIRE(rig.run_until([&] { return rig.reports.size() == 2; }, 10'000));
  CHECK(rig.reports.at(1).code == client::ErrorCode::kTimedOut);
  CHECK(rig.reports.at(1).outcome_unknown);
  rig.network.silent = false;
  REQUIRE(rig.send("t", 0, "2", 2).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(2).code == client::ErrorCode::kOk);
}

TEST_CASE("disk full is tried until the timeout, or reported at once if asked for") {
  for (const bool fail_fast : {false, true}) {
    CAPTURE(fail_fast);
    EngineOptions engine;
    engine.window.fail_fast_on_disk_full = fail_fast;
    Rig rig(8, {}, engine);
    rig.network.add_topic("t", 1);
    const int64_t freed = rig.clock.monotonic().ns + 5'000 * kNsPerMs;
    rig.network.on_produce_part = [&](uint32_t) {
      return rig.clock.monotonic().ns < freed ? Status(ErrorCode::kDiskFull, "no space") : Status();
    };
    REQUIRE(rig.send("t", 0, "v", 0).ok());
    REQUIRE(rig.run_until([&] { return rig.reports.size() == 1; }, 60'000));
    if (fail_fast) {
      CHECK(rig.reports.at(0).code == client::ErrorCode::kDiskFull);
      CHECK(!rig.reports.at(0).outcome_unknown);
    } else {
      CHECK(rig.reports.at(0).code == client::ErrorCode::kOk);
    }
  }
}

TEST_CASE("retry_after of the broker is kept") {
  Rig rig(9);
  rig.network.add_topic("t", 1);
  std::vector<int64_t> at;
  rig.network.on_produce_part = [&](uint32_t) {
    at.push_back(rig.clock.monotonic().ns);
    return at.size() == 1 ? Status(ErrorCode::kOverloaded, "full") : Status();
  };
  REQUIRE(rig.send("t", 0, "v", 0).ok());
  REQUIRE(rig.drain());
  REQUIRE(at.size() == 2);
  CHECK(at[1] - at[0] >= 50 * kNsPerMs);  // what the scripted broker asks for
}

TEST_CASE(
    "topics: unknown ones are reported; one that appears later is found; a recreated one is sent "
    "to") {
  Rig rig(10);
  REQUIRE(rig.send("t", std::nullopt, "0", 0).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(0).code == client::ErrorCode::kUnknownTopic);
  CHECK(!rig.reports.at(0).outcome_unknown);

  rig.network.add_topic("t", 2);
  REQUIRE(rig.send("t", 1, "1", 1).ok());
  REQUIRE(rig.send("t", 7, "2", 2).ok());  // accepted before the partitions are known
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(1).code == client::ErrorCode::kOk);
  CHECK(rig.reports.at(1).partition == 1);
  CHECK(rig.reports.at(2).code == client::ErrorCode::kUnknownPartition);
  CHECK(rig.send("t", 7, "3", 3).code() == ErrorCode::kInvalidArgument);

  rig.network.remove_topic("t");
  REQUIRE(rig.send("t", 1, "4", 4).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(4).code == client::ErrorCode::kUnknownTopic);
  rig.network.add_topic("t", 2);
  REQUIRE(rig.send("t", 1, "5", 5).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(5).code == client::ErrorCode::kOk);
  CHECK(rig.network.topic("t").partitions[1].messages().size() == 1);
}

TEST_CASE("hand_back copies what is unresolved, with the reason, and gives it up when asked") {
  Rig rig(11);
  rig.network.add_topic("t", 1);
  rig.network.reachable = false;
  const client::Header header{"h", "x"};
  auto topic = rig.buffer->topic("t");
  REQUIRE(topic.ok());
  REQUIRE(rig.buffer
              ->append(**topic,
                       {.key = "k", .value = "v", .headers = {&header, 1}, .timestamp_ms = 123}, 5,
                       nullptr, false)
              .ok());
  const uint64_t point = rig.buffer->flush_point();
  REQUIRE(rig.send("t", 0, "later", 6).ok());
  rig.run_until([] { return false; }, 500);

  auto copies = rig.engine->hand_back(point, false);
  REQUIRE(copies.size() == 1);
  CHECK(copies[0].message.key == "k");
  CHECK(copies[0].message.value == "v");
  CHECK(copies[0].message.timestamp_ms == 123);
  CHECK(copies[0].message.opaque == 5);
  REQUIRE(copies[0].message.headers.size() == 1);
  CHECK(copies[0].message.headers[0].first == "h");
  CHECK(copies[0].why.code() == client::ErrorCode::kUnavailable);
  CHECK(!copies[0].outcome_unknown);
  CHECK(rig.reports.empty());

  copies = rig.engine->hand_back(~uint64_t{0}, true);
  CHECK(copies.size() == 2);
  CHECK(rig.reports.at(5).code == client::ErrorCode::kCancelled);
  CHECK(rig.reports.at(6).code == client::ErrorCode::kCancelled);
  CHECK(rig.buffer->stats().buffered_messages == 0);
  CHECK(rig.buffer->stats().buffered_bytes == 0);
}

TEST_CASE("hand_back of what waits keeps it deliverable") {
  Rig rig(12, {.linger_ns = 1'000 * kNsPerMs});
  rig.network.add_topic("t", 1);
  REQUIRE(rig.send("t", 0, "0", 0).ok());
  REQUIRE(rig.drain());
  REQUIRE(rig.send("t", 0, "1", 1).ok());
  CHECK(rig.engine->hand_back(~uint64_t{0}, false).size() == 1);
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(1).code == client::ErrorCode::kOk);
  CHECK(rig.network.topic("t").partitions[0].messages().size() == 2);
}

TEST_CASE("a broker of another cluster is not talked to") {
  Rig rig(13);
  rig.network.add_topic("t", 2);
  REQUIRE(rig.send("t", 0, "0", 0).ok());
  REQUIRE(rig.drain());
  rig.network.cluster_id = 78;
  rig.network.cut_all();
  REQUIRE(rig.send("t", 0, "1", 1).ok());
  REQUIRE(rig.run_until([&] { return rig.reports.size() == 2; }, 60'000));
  CHECK(rig.reports.at(1).code != client::ErrorCode::kOk);
  CHECK(rig.network.topic("t").partitions[0].messages().size() == 1);
}

}  // namespace
}  // namespace tidemark::client_core
