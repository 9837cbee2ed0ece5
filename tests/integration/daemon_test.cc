// The real daemon seen from its sockets, its signals and its exit codes, without the client
// library.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/protocol/messages.h"
#include "log/base/random.h"
#include "tests/support/daemon_process.h"
#include "tests/support/raw_client.h"
#include "tests/support/request_builder.h"
#include "tests/support/temp_directory.h"

namespace tidemark {
namespace {

using protocol::Frame;
using protocol::FrameType;
using testing::bare_frame;
using testing::DaemonProcess;
using testing::hello_frame;
using testing::http_get;
using testing::RawClient;

// Bytes of a request that request_builder made, for shard `shard`.
std::vector<uint8_t> addressed(const Frame& frame, uint16_t shard) {
  std::vector<uint8_t> bytes(frame.bytes.data(), frame.bytes.data() + frame.bytes.size());
  protocol::FrameHeader header = frame.header;
  header.shard = shard;
  protocol::encode_frame_header(header, bytes);
  return bytes;
}

Frame wait(RawClient& client) {
  std::optional<Frame> frame = client.wait_frame(DaemonProcess::kWaitMs);
  REQUIRE(frame.has_value());
  return *frame;
}

Frame greet(RawClient& client, uint16_t shard = protocol::kNoShard) {
  REQUIRE(client.send(hello_frame(shard)));
  Frame reply = wait(client);
  REQUIRE(reply.header.type == static_cast<uint16_t>(FrameType::kHello));
  return reply;
}

// Whether the daemon still serves, asked over a fresh connection.
bool serves(const DaemonProcess& daemon) {
  RawClient client(daemon.port());
  greet(client);
  REQUIRE(client.send(addressed(testing::metadata_request({}, 9), protocol::kNoShard)));
  const Frame reply = wait(client);
  return reply.header.correlation == 9 &&
         reply.header.type == static_cast<uint16_t>(FrameType::kMetadata);
}

struct Started {
  explicit Started(std::vector<std::string> flags = {"--shards", "4", "--loops", "2"})
      : daemon(directory / "data", std::move(flags)) {
    REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  }

  testing::TempDirectory directory;
  DaemonProcess daemon;
};

TEST_CASE("the ready line says where and what") {
  Started started;
  const DaemonProcess& daemon = started.daemon;
  CHECK(daemon.ready_value("listen") == daemon.address());
  CHECK(daemon.ready_value("http") == "127.0.0.1:" + std::to_string(daemon.http_port()));
  CHECK(daemon.ready_value("shards") == "4");
  CHECK(daemon.ready_value("data") == daemon.data_dir());
  CHECK(daemon.ready_value("fsync") == "batch");
  CHECK(daemon.ready_value("pid") == std::to_string(daemon.pid()));
  CHECK(daemon.port() != 0);
}

TEST_CASE("Hello tells the limits, on whichever loop the connection ends up") {
  Started started;
  for (const uint16_t shard :
       {protocol::kNoShard, uint16_t{0}, uint16_t{1}, uint16_t{2}, uint16_t{3}}) {
    CAPTURE(shard);
    RawClient client(started.daemon.port());
    const Frame reply = greet(client, shard);
    const auto& hello = testing::read_reply<protocol::fbs::HelloReply>(reply);
    CHECK(protocol::to_status(hello.error()).ok());
    CHECK(hello.cluster_id() != 0);
    CHECK(hello.node_id() == 1);
    CHECK(hello.shards() == 4);
    CHECK(hello.message_bytes_max() == limits::kMessageBytesMax);
    CHECK(hello.batch_bytes_max() == limits::kBatchBytesMax);
    CHECK(hello.frame_bytes_max() == limits::kFrameBytesMax);
    CHECK(protocol::view(hello.fsync()) == "batch");
    CHECK_FALSE(protocol::view(hello.version()).empty());
  }
  RawClient wrong(started.daemon.port());
  REQUIRE(wrong.send(hello_frame(4)));
  const Status error = testing::error_of(wait(wrong));
  CHECK(error.code() == ErrorCode::kInvalidArgument);
  CHECK(error.context() == "preferred shard 4 is out of range: 0 to 3");
  // It may try again.
  greet(wrong, 3);
}

TEST_CASE("requests reach every shard from every loop, errors name what is allowed") {
  Started started;
  for (const uint16_t home : {uint16_t{0}, uint16_t{1}}) {
    RawClient client(started.daemon.port());
    greet(client, home);
    for (uint16_t shard = 0; shard < 4; ++shard) {
      CAPTURE(home);
      CAPTURE(shard);
      const uint64_t correlation = 100u + shard;
      REQUIRE(
          client.send(addressed(testing::describe_request(TopicId{77}, {}, correlation), shard)));
      const Frame reply = wait(client);
      CHECK(reply.header.correlation == correlation);
      CHECK(reply.header.type == static_cast<uint16_t>(FrameType::kPartitionDescribe));
    }
    REQUIRE(client.send(addressed(testing::metadata_request({}, 5), 4)));
    const Status error = testing::error_of(wait(client));
    CHECK(error.code() == ErrorCode::kInvalidArgument);
    CHECK(error.context() == "shard 4 is out of range: 0 to 3");
  }
}

TEST_CASE("a topic is created, written and read over raw frames") {
  Started started;
  RawClient client(started.daemon.port());
  greet(client, 1);
  REQUIRE(client.send(addressed(testing::topic_create_request({.name = "t", .partitions = 4}, 1),
                                protocol::kNoShard)));
  const Frame created = wait(client);
  const auto& topic = testing::read_reply<protocol::fbs::TopicReply>(created);
  REQUIRE(protocol::to_status(topic.error()).ok());
  REQUIRE(topic.topic()->partitions()->size() == 4);
  const TopicId id{topic.topic()->id()};
  for (const protocol::fbs::PartitionInfo* partition : *topic.topic()->partitions()) {
    const PartitionId where{id, PartitionIndex{partition->index()}};
    const std::vector<std::string> values = {"one", "two", "three"};
    const testing::ProduceInput input{where, testing::build_batch(values)};
    REQUIRE(client.send(addressed(testing::produce_request({&input, 1}, 2), partition->shard())));
    const auto produced = testing::read_produce_reply(wait(client));
    REQUIRE(produced.size() == 1);
    REQUIRE_MESSAGE(produced[0].status.ok(), produced[0].status.to_string());
    const testing::FetchInput fetch{where, Offset{0}};
    REQUIRE(client.send(
        addressed(testing::fetch_request({&fetch, 1}, {.wait_ms = 5'000}, 3), partition->shard())));
    const auto fetched = testing::read_fetch_reply(wait(client));
    REQUIRE(fetched.size() == 1);
    REQUIRE(fetched[0].messages.size() == 3);
    CHECK(fetched[0].messages[2].value == "three");
  }
}

TEST_CASE("more forwarded requests than a mailbox holds are all answered, in order") {
  Started started;
  constexpr size_t kClients = 40;
  constexpr uint64_t kRequests = 600;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(started.daemon.port()));
    greet(*clients.back(), 1);
  }
  // Shard 0 is on the other loop.
  std::vector<uint8_t> bytes;
  for (uint64_t i = 1; i <= kRequests; ++i) {
    const std::vector<uint8_t> more = addressed(testing::describe_request(TopicId{77}, {}, i), 0);
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  for (const auto& client : clients) {
    REQUIRE(client->send(bytes));
  }
  for (const auto& client : clients) {
    for (uint64_t i = 1; i <= kRequests; ++i) {
      REQUIRE(wait(*client).header.correlation == i);
    }
  }
  const testing::HttpAnswer metrics = http_get(started.daemon.http_port(), "/metrics");
  CHECK(metrics.body.find("tidemark_requests_forwarded_total{loop=\"1\"} " +
                          std::to_string(kClients * kRequests) + "\n") != std::string::npos);
  CHECK(metrics.body.find("tidemark_mailbox_overflow_messages{loop=\"1\"} 0\n") !=
        std::string::npos);
}

TEST_CASE("unknown versions and types are answered, the socket lives") {
  Started started;
  RawClient client(started.daemon.port());
  greet(client, 1);
  protocol::FrameHeader header;
  header.frame_bytes = protocol::kFrameHeaderBytes;
  header.type = 4711;
  header.correlation = 8;
  REQUIRE(client.send(testing::header_bytes(header)));
  const Frame unknown = wait(client);
  CHECK(unknown.header.correlation == 8);
  CHECK(testing::error_of(unknown).code() == ErrorCode::kUnsupportedType);
  header.version = 2;
  REQUIRE(client.send(testing::header_bytes(header)));
  CHECK(testing::error_of(wait(client)).code() == ErrorCode::kUnsupportedVersion);
  REQUIRE(client.send(addressed(testing::metadata_request({}, 9), protocol::kNoShard)));
  CHECK(wait(client).header.correlation == 9);
}

TEST_CASE("a malformed table is answered, the socket lives") {
  Started started;
  RawClient client(started.daemon.port());
  greet(client);
  for (const FrameType type :
       {FrameType::kMetadata, FrameType::kProduce, FrameType::kFetch, FrameType::kTopicCreate,
        FrameType::kListOffsets, FrameType::kPartitionDescribe}) {
    const std::vector<uint8_t> junk(64, 0xFF);
    const auto frame = protocol::make_frame(type, /*reply=*/false, 0, 6, junk);
    REQUIRE(client.send(frame));
    const Frame reply = wait(client);
    CHECK(reply.header.correlation == 6);
  }
  CHECK(serves(started.daemon));
}

TEST_CASE("bad streams end in an error and a close, the daemon goes on") {
  Started started;
  SUBCASE("a frame that claims 2 GiB") {
    RawClient client(started.daemon.port());
    greet(client);
    protocol::FrameHeader header;
    header.frame_bytes = 0x80000000u;
    header.type = static_cast<uint16_t>(FrameType::kProduce);
    REQUIRE(client.send(testing::header_bytes(header)));
    const Status error = testing::error_of(wait(client));
    CHECK(error.code() == ErrorCode::kTooLarge);
    CHECK(error.context().find(std::to_string(limits::kFrameBytesMax)) != std::string_view::npos);
    CHECK(client.wait_closed());
  }
  SUBCASE("something else before Hello") {
    RawClient client(started.daemon.port());
    REQUIRE(client.send(bare_frame(FrameType::kMetadata, 1)));
    CHECK(testing::error_of(wait(client)).code() == ErrorCode::kNotAllowed);
    CHECK(client.wait_closed());
  }
  SUBCASE("random bytes, before and after Hello") {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      RawClient client(started.daemon.port());
      if (random.chance(1, 2)) {
        greet(client, static_cast<uint16_t>(random.below(4)));
      }
      std::vector<uint8_t> junk(random.between(32, 100'000));
      for (uint8_t& byte : junk) {
        byte = static_cast<uint8_t>(random.next());
      }
      client.send(junk);
      CHECK(testing::error_of(wait(client)).code() == ErrorCode::kMalformed);
      CHECK(client.wait_closed());
    }
  }
  SUBCASE("valid headers around random tables") {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      RawClient client(started.daemon.port());
      greet(client, static_cast<uint16_t>(random.below(4)));
      for (int i = 0; i < 20; ++i) {
        std::vector<uint8_t> table(random.below(300));
        for (uint8_t& byte : table) {
          byte = static_cast<uint8_t>(random.next());
        }
        const auto type = static_cast<FrameType>(random.between(2, 20));
        const auto shard = static_cast<uint16_t>(random.below(5));
        REQUIRE(client.send(protocol::make_frame(type, /*reply=*/false, shard,
                                                 1000u + static_cast<uint64_t>(i), table)));
        CHECK(wait(client).header.reply);
      }
    }
  }
  SUBCASE("connections that close in the middle of a frame") {
    for (size_t cut = 1; cut < 60; cut += 7) {
      RawClient client(started.daemon.port());
      const std::vector<uint8_t> hello = testing::to_bytes(hello_frame());
      REQUIRE(client.send(ByteView(hello).first(std::min(cut, hello.size()))));
    }
  }
  CHECK(serves(started.daemon));
}

TEST_CASE("a second instance on the data directory is refused") {
  Started started;
  DaemonProcess second(started.daemon.data_dir());
  second.launch();
  CHECK(second.wait_exit() == 1);
  CHECK(second.errors().find("in use by process " + std::to_string(started.daemon.pid())) !=
        std::string::npos);
  CHECK(serves(started.daemon));
}

TEST_CASE("a configuration is checked without a start, a missing file is named") {
  testing::TempDirectory other;
  DaemonProcess checked(other / "data", {"--check-config"});
  checked.launch();
  CHECK(checked.wait_exit() == 0);
  DaemonProcess missing(other / "data", {"--config", "/nonexistent"});
  missing.launch();
  CHECK(missing.wait_exit() == 1);
  CHECK(missing.errors().find("/nonexistent") != std::string::npos);
}

TEST_CASE(
    "SIGTERM stops in order, a restart keeps identity and data, another number of shards is "
    "refused") {
  Started started;
  DaemonProcess& daemon = started.daemon;
  uint64_t cluster = 0;
  {
    RawClient client(daemon.port());
    const Frame hello = greet(client);
    cluster = testing::read_reply<protocol::fbs::HelloReply>(hello).cluster_id();
    REQUIRE(client.send(
        addressed(testing::topic_create_request({.name = "kept"}, 1), protocol::kNoShard)));
    REQUIRE(testing::error_of(wait(client)).ok());
    // An open connection does not hold it up.
    CHECK(daemon.terminate() == 0);
    CHECK(client.wait_closed());
  }
  CHECK(daemon.errors().find("stopped status=\"ok\"") != std::string::npos);
  const uint16_t port = daemon.port();
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  CHECK(daemon.port() == port);
  RawClient client(port);
  const Frame hello = greet(client);
  CHECK(testing::read_reply<protocol::fbs::HelloReply>(hello).cluster_id() == cluster);
  REQUIRE(client.send(addressed(testing::metadata_request({}, 2), protocol::kNoShard)));
  const Frame metadata = wait(client);
  const auto& topics = testing::read_reply<protocol::fbs::MetadataReply>(metadata);
  REQUIRE(topics.topics()->size() == 1);
  CHECK(protocol::view(topics.topics()->Get(0)->name()) == "kept");
  CHECK(topics.brokers()->Get(0)->port() == port);
  CHECK(daemon.terminate() == 0);

  DaemonProcess other(daemon.data_dir(), {"--shards", "5"});
  other.launch();
  CHECK(other.wait_exit() == 1);
  CHECK(other.errors().find("was created with 4") != std::string::npos);
}

TEST_CASE("kill -9 and a start later the broker serves") {
  Started started;
  for (int round = 0; round < 3; ++round) {
    CHECK(serves(started.daemon));
    started.daemon.kill();
    REQUIRE_MESSAGE(started.daemon.start(), started.daemon.errors());
  }
  CHECK(started.daemon.terminate() == 0);
}

TEST_CASE("signals that mean nothing do nothing") {
  Started started;
  for (const int signal : {SIGHUP, SIGPIPE, SIGXFSZ}) {
    started.daemon.send_signal(signal);
  }
  CHECK(serves(started.daemon));
}

TEST_CASE("health, readiness and metrics over HTTP") {
  Started started;
  const uint16_t http = started.daemon.http_port();
  CHECK(http_get(http, "/healthz").status == 200);
  const testing::HttpAnswer ready = http_get(http, "/readyz");
  CHECK(ready.status == 200);
  CHECK(ready.body == "ready\n");
  CHECK(http_get(http, "/nothing").status == 404);
  CHECK(serves(started.daemon));
  const testing::HttpAnswer metrics = http_get(http, "/metrics");
  CHECK(metrics.status == 200);
  for (int shard = 0; shard < 4; ++shard) {
    CHECK(metrics.body.find("tidemark_shard_ready{shard=\"" + std::to_string(shard) + "\"} 1\n") !=
          std::string::npos);
  }
  CHECK(metrics.body.find("tidemark_frames_in_total{loop=\"1\"}") != std::string::npos);
}

TEST_CASE("an idle broker holds little memory") {
  Started started;
  const testing::HttpAnswer metrics = http_get(started.daemon.http_port(), "/metrics");
  const std::string name = "\ntidemark_resident_memory_bytes ";
  const size_t at = metrics.body.find(name);
  REQUIRE(at != std::string::npos);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(std::stod(metrics.body.substr(at + name.size())) <=
        40.0 * static_cast<double>(limits::kMiB));
#endif
}

TEST_CASE("a shard that cannot open is named and the exit code says so") {
  Started started({"--shards", "2", "--loops", "2"});
  CHECK(started.daemon.terminate() == 0);
  const std::filesystem::path log =
      std::filesystem::path(started.daemon.data_dir()) / "shard-1" / "log";
  std::filesystem::path segment;
  for (const auto& entry : std::filesystem::directory_iterator(log)) {
    segment = entry.path();
  }
  REQUIRE_FALSE(segment.empty());
  {
    std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
    const std::string junk(64, 'x');
    file.write(junk.data(), static_cast<std::streamsize>(junk.size()));
  }
  started.daemon.launch();
  CHECK(started.daemon.wait_exit() == 1);
  CHECK(started.daemon.errors().find("shard 1: ") != std::string::npos);
}

}  // namespace
}  // namespace tidemark
