// Damaged files under the real daemon: a torn tail is cut and said; a flipped bit in an old segment
// is reported with its position and the rest stays readable.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kDeadlineMs = 60'000;

void produce(const client::Client& client, int count, size_t bytes) {
  client::ProducerOptions options;
  options.batch_bytes = 16 * 1024;
  auto producer = client::Producer::create(client, options);
  REQUIRE(producer.ok());
  const auto topic = producer->topic("t");
  REQUIRE(topic.ok());
  const std::string value(bytes, 'v');
  for (int i = 0; i < count; ++i) {
    client::Message message;
    message.value = value;
    REQUIRE(producer->send(*topic, message).ok());
  }
  const client::FlushResult rest = producer->close(kDeadlineMs);
  REQUIRE_MESSAGE(rest.status.ok(), rest.status.to_string());
}

struct Reading {
  uint64_t messages = 0;
  uint64_t end = 0;
  std::vector<std::string> errors;
};

// Reads everything; goes on behind every damaged batch by trying the following offsets.
Reading read_all(const client::Client& client) {
  auto consumer = client::Consumer::create(client, {});
  REQUIRE(consumer.ok());
  REQUIRE(consumer->assign({{"t", 0, client::Position::start()}}).ok());
  client::Admin admin(client);
  const auto described = admin.describe_partitions("t", kDeadlineMs);
  REQUIRE(described.ok());
  Reading reading;
  reading.end = described->at(0).end_offset;
  uint64_t next = 0;
  while (next < reading.end) {
    auto batch = consumer->poll(kDeadlineMs);
    if (batch.ok()) {
      REQUIRE_FALSE(batch->messages.empty());
      reading.messages += batch->messages.size();
      next = batch->next_offset;
      continue;
    }
    REQUIRE_MESSAGE(batch.status().code() == client::ErrorCode::kCorrupted,
                    batch.status().to_string());
    if (reading.errors.empty() || reading.errors.back() != batch.status().to_string()) {
      reading.errors.push_back(batch.status().to_string());
    }
    REQUIRE(consumer->seek("t", 0, client::Position::offset(++next)).ok());
  }
  return reading;
}

std::vector<std::filesystem::path> segments(const std::string& data_dir) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir + "/shard-0/log")) {
    if (entry.path().extension() == ".seg") {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

void change_byte(const std::filesystem::path& file, uint64_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  const int byte = stream.get();
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(static_cast<char>(byte ^ 0x10));
}

// Offset behind the last byte of the file that is not zero: the end of what was written.
uint64_t written_end(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)),
                          std::istreambuf_iterator<char>());
  return bytes.find_last_not_of('\0') + 1;
}

CommandResult verify(const DaemonProcess& daemon) {
  return run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
}

}  // namespace

TEST_CASE("a torn tail is cut and said, and everything before it is served") {
  const TempDirectory directory;
  // No checkpoint: the whole log is verified at start.
  DaemonProcess daemon(directory / "data", {"--shards", "1"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  {
    const client::Client client = connect(daemon.address());
    client::Admin admin(client);
    REQUIRE(admin.create_topic("t", 1, {}, kDeadlineMs).ok());
    produce(client, 1'000, 1'000);
    produce(client, 1, 1'000);
  }
  daemon.kill();
  const auto last = segments(daemon.data_dir()).back();
  // The last entry as a power cut in the middle of its write would leave it: the second half never
  // reached the disk.
  {
    std::fstream out(last, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(written_end(last) - 500));
    out << std::string(500, '\0');
  }
  const CommandResult before = verify(daemon);
  CHECK_MESSAGE(before.output.find("torn") != std::string::npos, before.output << before.errors);
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  CHECK_MESSAGE(daemon.errors().find("torn_bytes_cut=1") != std::string::npos, daemon.errors());
  const client::Client client = connect(daemon.address());
  const Reading reading = read_all(client);
  CHECK(reading.messages == 1'000);
  CHECK(reading.errors.empty());
  CHECK(daemon.terminate() == 0);
  const CommandResult after = verify(daemon);
  CHECK_MESSAGE(after.exit_code == 0, after.output << after.errors);
}

TEST_CASE(
    "a flipped bit in an old segment is reported with its position and the rest stays readable") {
  const TempDirectory directory;
  DaemonProcess daemon(directory / "data", {"--shards", "1", "--segment-bytes", "4MiB"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  {
    const client::Client client = connect(daemon.address());
    client::Admin admin(client);
    REQUIRE(admin.create_topic("t", 1, {}, kDeadlineMs).ok());
    produce(client, 12'000, 1'000);
  }
  REQUIRE(daemon.terminate() == 0);
  const auto files = segments(daemon.data_dir());
  REQUIRE(files.size() >= 3);
  change_byte(files[1], 1'000'000);

  const CommandResult found = verify(daemon);
  CHECK(found.exit_code == 1);
  CHECK_MESSAGE(found.output.find(files[1].filename().string()) != std::string::npos, found.output);
  CHECK_MESSAGE(found.output.find("position") != std::string::npos, found.output);

  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  const Reading reading = read_all(client);
  REQUIRE_FALSE(reading.errors.empty());
  CHECK_MESSAGE(reading.errors[0].find("log position") != std::string::npos, reading.errors[0]);
  // One batch of at most 16 KiB is lost, nothing else.
  CHECK(reading.messages >= 12'000 - 17);
  CHECK(reading.messages < 12'000);
  CHECK(daemon.terminate() == 0);
}

}  // namespace tidemark::testing
