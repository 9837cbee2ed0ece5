#include "clients/cpp/src/fetcher.h"

#include <string>

#include <doctest/doctest.h>

#include "clients/cpp/src/chunk_reader.h"
#include "tests/support/request_builder.h"
#include "tests/unit/clients/cpp/fake_network.h"

namespace tidemark::client_core {
namespace {

using client::Assignment;
using client::Position;
using testing::FakeNetwork;

class FetchRig {
 public:
  explicit FetchRig(uint64_t seed, const FetcherOptions& options = {})
      : network(clock, seed),
        cluster({.brokers = {{"seed", 1}}, .session = {.client_name = "test"}}, network, clock,
                seed) {
    fetcher = std::make_shared<Fetcher>(
        options, cluster, [] {}, [this] { ++arrivals; }, seed);
  }

  void fill(const std::string& topic, uint32_t partition, uint64_t from, uint64_t count,
            size_t per_batch = 10) {
    std::vector<std::string> values;
    for (uint64_t i = from; i < from + count; ++i) {
      values.push_back(std::to_string(i));
      if (values.size() == per_batch || i + 1 == from + count) {
        CHECK(network.topic(topic)
                  .partitions[partition]
                  .append(testing::build_batch(values).view())
                  .error == ErrorCode::kOk);
        values.clear();
      }
    }
  }

  template <typename Done>
  bool run_until(Done done, int64_t ms) {
    const int64_t end = clock.monotonic().ns + ms * kNsPerMs;
    while (true) {
      const MonotonicTime now = clock.monotonic();
      MonotonicTime next = std::min(cluster.run(now), fetcher->run(now));
      next = std::min(next, cluster.run(now));
      if (done()) {
        return true;
      }
      if (network.step()) {
        continue;
      }
      if (clock.monotonic().ns >= end) {
        return false;
      }
      clock.advance_ns(
          std::clamp<int64_t>(next.ns - clock.monotonic().ns, kNsPerMs, 50 * kNsPerMs));
    }
  }

  // The values of `count` messages, in the order they come; with the partition in front. Stops at
  // an error.
  std::vector<std::string> read(size_t count, int64_t ms = 10'000) {
    std::vector<std::string> values;
    run_until([&] { return !take(values) || values.size() >= count; }, ms);
    return values;
  }

  // Takes what is there; false after an error (in `error`).
  bool take(std::vector<std::string>& values) {
    while (true) {
      auto chunk = fetcher->next_chunk(0);
      REQUIRE(chunk.ok());
      if (!chunk->has_value()) {
        return true;
      }
      if (!(**chunk).error.ok()) {
        error = (**chunk).error;
        return false;
      }
      ChunkReader reader;
      reader.open((**chunk).bytes, (**chunk).from);
      while (!reader.done()) {
        REQUIRE(reader.read(1'000).ok());
        for (const auto& message : reader.messages()) {
          values.push_back(std::to_string((**chunk).partition) + ":" +
                           std::string(message.value.value()));
        }
      }
      CHECK(fetcher->advance(**chunk, (**chunk).next_offset));
      fetcher->release(**chunk);
    }
  }

  SimClock clock;
  FakeNetwork network;
  Cluster cluster;
  std::shared_ptr<Fetcher> fetcher;
  Status error;
  size_t arrivals = 0;
};

std::vector<std::string> numbers(uint32_t partition, uint64_t from, uint64_t to) {
  std::vector<std::string> out;
  for (uint64_t i = from; i < to; ++i) {
    out.push_back(std::to_string(partition) + ":" + std::to_string(i));
  }
  return out;
}

TEST_CASE("reads from the start, from an offset inside a batch, and follows the end") {
  FetchRig rig(1);
  rig.network.add_topic("t", 1);
  rig.fill("t", 0, 0, 100);
  REQUIRE(rig.fetcher->assign({{"t", 0, Position::start()}}).ok());
  CHECK(rig.fetcher->position("t", 0).status().code() == ErrorCode::kUnavailable);
  CHECK(rig.read(100) == numbers(0, 0, 100));
  CHECK(*rig.fetcher->position("t", 0) == 100);
  CHECK(rig.arrivals > 0);

  REQUIRE(rig.fetcher->seek("t", 0, Position::offset(57)).ok());
  CHECK(rig.read(43) == numbers(0, 57, 100));

  rig.read(1, 2'000);  // a long poll is under way
  rig.fill("t", 0, 100, 5);
  CHECK(rig.read(5) == numbers(0, 100, 105));

  REQUIRE(rig.fetcher->seek("t", 0, Position::end()).ok());
  CHECK(rig.read(1, 1'000).empty());
  rig.fill("t", 0, 105, 1);
  CHECK(rig.read(1) == numbers(0, 105, 106));
}

TEST_CASE("partitions of a shard share requests, and an idle one does not hold up the others") {
  FetchRig rig(2);
  rig.network.shards = 1;
  rig.network.add_topic("t", 4);
  rig.fill("t", 0, 0, 10);
  REQUIRE(rig.fetcher
              ->assign({{"t", 0, Position::offset(0)},
                        {"t", 1, Position::offset(0)},
                        {"t", 2, Position::offset(0)},
                        {"t", 3, Position::offset(0)}})
              .ok());
  CHECK(rig.read(10) == numbers(0, 0, 10));
  const size_t requests = rig.network.fetch_requests;
  CHECK(requests <= 3);
  // Partition 1 waits in a long poll with the others; partition 0 is asked for by itself again.
  const int64_t before = rig.clock.monotonic().ns;
  rig.fill("t", 0, 10, 10);
  CHECK(rig.read(10) == numbers(0, 10, 20));
  CHECK(rig.clock.monotonic().ns - before < 100 * kNsPerMs);
}

TEST_CASE("prefetch stays within its budget") {
  FetchRig rig(3, {.prefetch_bytes_max = 64 * 1024, .fetch_bytes_per_partition = 16 * 1024});
  rig.network.add_topic("t", 2);
  for (uint32_t p = 0; p < 2; ++p) {
    for (int i = 0; i < 300; ++i) {
      CHECK(rig.network.topic("t")
                .partitions[p]
                .append(testing::build_batch_of(4, 250).view())
                .error == ErrorCode::kOk);
    }
  }
  REQUIRE(rig.fetcher->assign({{"t", 0, Position::offset(0)}, {"t", 1, Position::offset(0)}}).ok());
  rig.run_until([] { return false; }, 2'000);
  size_t buffered = 0;
  std::vector<Chunk> chunks;
  for (auto chunk = rig.fetcher->next_chunk(0); chunk.ok() && chunk->has_value();
       chunk = rig.fetcher->next_chunk(0)) {
    buffered += (**chunk).bytes.size();
    chunks.push_back(std::move(**chunk));
  }
  CHECK(buffered > 32 * 1024);
  CHECK(buffered <= 64 * 1024);
  // Giving back lets it go on.
  for (const Chunk& chunk : chunks) {
    CHECK(rig.fetcher->advance(chunk, chunk.next_offset));
    rig.fetcher->release(chunk);
  }
  CHECK(rig.run_until([&] { return rig.fetcher->next_chunk(0)->has_value(); }, 1'000));
}

TEST_CASE("offset out of range: error, start or end as asked for") {
  for (const auto policy :
       {client::OutOfRange::kError, client::OutOfRange::kStart, client::OutOfRange::kEnd}) {
    CAPTURE(static_cast<int>(policy));
    FetchRig rig(4, {.out_of_range = policy});
    rig.network.add_topic("t", 1);
    rig.fill("t", 0, 0, 100);
    rig.network.topic("t").partitions[0].trim(50);
    REQUIRE(rig.fetcher->assign({{"t", 0, Position::offset(7)}}).ok());
    if (policy == client::OutOfRange::kError) {
      CHECK(rig.read(1).empty());
      CHECK(rig.error.code() == ErrorCode::kOffsetOutOfRange);
      CHECK(rig.error.context().find("topic \"t\" partition 0 at offset 7") !=
            std::string_view::npos);
      REQUIRE(rig.fetcher->seek("t", 0, Position::offset(99)).ok());
      CHECK(rig.read(1) == numbers(0, 99, 100));
    } else if (policy == client::OutOfRange::kStart) {
      CHECK(rig.read(50) == numbers(0, 50, 100));
    } else {
      CHECK(rig.read(1, 1'000).empty());
      rig.fill("t", 0, 100, 1);
      CHECK(rig.read(1) == numbers(0, 100, 101));
    }
  }
}

TEST_CASE("pause holds, resume goes on, seek and assign void what was read ahead") {
  FetchRig rig(5);
  rig.network.add_topic("t", 2);
  rig.fill("t", 0, 0, 20);
  rig.fill("t", 1, 0, 20);
  REQUIRE(rig.fetcher->assign({{"t", 0, Position::start()}, {"t", 1, Position::start()}}).ok());
  REQUIRE(rig.fetcher->pause("t", 1, true).ok());
  CHECK(rig.read(40, 2'000) == numbers(0, 0, 20));
  REQUIRE(rig.fetcher->pause("t", 1, false).ok());
  CHECK(rig.read(20) == numbers(1, 0, 20));

  rig.fill("t", 0, 20, 20);
  REQUIRE(rig.run_until([&] { return rig.fetcher->next_chunk(0)->has_value(); }, 2'000));
  rig.fill("t", 0, 40, 20);
  rig.run_until([] { return false; }, 1'000);
  auto chunk = rig.fetcher->next_chunk(0);
  REQUIRE(chunk->has_value());
  CHECK(rig.fetcher->use_of(**chunk) == Fetcher::Use::kShow);
  REQUIRE(rig.fetcher->pause("t", 0, true).ok());
  CHECK(rig.fetcher->use_of(**chunk) == Fetcher::Use::kHold);
  REQUIRE(rig.fetcher->seek("t", 0, Position::offset(0)).ok());
  CHECK(rig.fetcher->use_of(**chunk) == Fetcher::Use::kDrop);
  CHECK(!rig.fetcher->advance(**chunk, 60));
  CHECK(*rig.fetcher->position("t", 0) == 0);

  CHECK(rig.fetcher->seek("t", 5, Position::start()).code() == ErrorCode::kNotFound);
  CHECK(rig.fetcher->pause("x", 0, true).code() == ErrorCode::kNotFound);
  CHECK(rig.fetcher->position("x", 0).status().code() == ErrorCode::kNotFound);
  CHECK(rig.fetcher->assign({{"t", 0, Position::start()}, {"t", 0, Position::end()}}).code() ==
        ErrorCode::kInvalidArgument);
  rig.fetcher->close();
  CHECK(rig.fetcher->next_chunk(0).status().code() == ErrorCode::kShuttingDown);
}

TEST_CASE("unknown topics and partitions are told; a topic that appears can be sought again") {
  FetchRig rig(6);
  REQUIRE(rig.fetcher->assign({{"t", 0, Position::start()}}).ok());
  CHECK(rig.read(1).empty());
  CHECK(rig.error.code() == ErrorCode::kUnknownTopic);
  rig.network.add_topic("t", 1);
  rig.fill("t", 0, 0, 3);
  REQUIRE(rig.fetcher->seek("t", 0, Position::start()).ok());
  CHECK(rig.read(3) == numbers(0, 0, 3));
  REQUIRE(rig.fetcher->assign({{"t", 4, Position::start()}}).ok());
  CHECK(rig.read(1).empty());
  CHECK(rig.error.code() == ErrorCode::kUnknownPartition);
}

TEST_CASE("tags and filter travel with every fetch; a broker that refuses them stops reading") {
  FetchRig rig(9, {.tags = {"red", "blue"}, .filter = "a = 1"});
  rig.network.add_topic("t", 2);
  rig.fill("t", 0, 0, 1);
  REQUIRE(rig.fetcher->assign({{.topic = "t", .partition = 0}}).ok());
  CHECK(rig.read(1).size() == 1);
  CHECK(rig.network.fetch_tags == std::vector<std::string>{"red", "blue"});
  CHECK(rig.network.fetch_filter == "a = 1");

  rig.network.on_request = [](protocol::FrameType type) {
    return type == protocol::FrameType::kFetch
               ? Status(ErrorCode::kInvalidArgument, "filter: unexpected end")
               : Status();
  };
  REQUIRE(rig.fetcher->assign({{.topic = "t", .partition = 0}}).ok());
  const size_t before = rig.network.fetch_requests;
  CHECK(rig.read(1).empty());
  CHECK(rig.error.to_string() ==
        "invalid argument: topic \"t\" partition 0: filter: unexpected end");
  const auto never = [] { return false; };
  CHECK(!rig.run_until(never, 5'000));
  CHECK(rig.network.fetch_requests == before);  // refused before it was counted, and never again
}

TEST_CASE("property: lost connections and answers: every message once, in order") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    FetchRig rig(seed, {.prefetch_bytes_max = 64 * 1024, .fetch_bytes_per_partition = 4 * 1024});
    rig.network.add_topic("t", 3);
    for (uint32_t p = 0; p < 3; ++p) {
      rig.fill("t", p, 0, 500, 1 + seed % 13);
    }
    rig.network.faults = {.refuse_connect = 200, .lose_before = 100, .lose_after = 100};
    REQUIRE(rig.fetcher
                ->assign({{"t", 0, Position::start()},
                          {"t", 1, Position::offset(0)},
                          {"t", 2, Position::start()}})
                .ok());
    const auto values = rig.read(1'500, 600'000);
    REQUIRE(values.size() == 1'500);
    std::vector<uint64_t> next(3);
    for (const std::string& value : values) {
      const auto partition = static_cast<size_t>(value[0] - '0');
      CHECK(std::stoull(value.substr(2)) == next[partition]++);
    }
    CHECK(rig.network.violations.empty());
  }
}

TEST_CASE("last_error tells while the broker is away and is forgotten afterwards") {
  FetchRig rig(8);
  rig.network.add_topic("t", 1);
  rig.fill("t", 0, 0, 1);
  rig.network.reachable = false;
  REQUIRE(rig.fetcher->assign({{"t", 0, Position::start()}}).ok());
  CHECK(rig.read(1, 3'000).empty());
  CHECK(rig.fetcher->last_error().code() == ErrorCode::kUnavailable);
  CHECK(rig.fetcher->last_error().context().find("seed:1") != std::string_view::npos);
  rig.network.reachable = true;
  CHECK(rig.read(1, 20'000).size() == 1);
  CHECK(rig.fetcher->last_error().ok());
}

TEST_CASE("chunk reader: damage is told, what lies before it is given") {
  const std::vector<std::string> values = {"a", "b"};
  std::vector<uint8_t> bytes;
  for (uint64_t base : {0u, 2u, 4u}) {
    Buffer batch = Buffer::copy_of(testing::build_batch(values).view());
    format::stamp_batch(batch.mutable_view(), base, static_cast<uint32_t>(batch.size()), 0);
    bytes.insert(bytes.end(), batch.view().begin(), batch.view().end());
  }
  ChunkReader reader;
  reader.open(SharedBytes(Buffer::copy_of(bytes)), 1);
  REQUIRE(reader.read(100).ok());
  CHECK(reader.messages().size() == 5);
  CHECK(reader.messages().front().offset == 1);
  CHECK(reader.next_offset() == 6);
  CHECK(reader.done());

  bytes[bytes.size() / 3 + 65] ^= 1;  // in the second batch
  reader.open(SharedBytes(Buffer::copy_of(bytes)), 0);
  CHECK(reader.read(100).code() == ErrorCode::kCorrupted);
  CHECK(reader.messages().size() == 2);
  CHECK(reader.next_offset() == 2);
  CHECK(reader.done());

  reader.open(SharedBytes(Buffer::copy_of(ByteView(bytes).first(bytes.size() / 3 + 20))), 0);
  CHECK(!reader.read(100).ok());
  CHECK(reader.messages().size() == 2);
}

}  // namespace
}  // namespace tidemark::client_core
