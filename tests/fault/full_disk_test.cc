// A full disk: producing gets a named error, consuming goes on, transactions that are open can be
// ended, and producing works again when there is space, without a restart.
//
// On a 64 MiB ext4 in a loop device, which needs root; skipped where that cannot be had.
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/loop_disk.h"
#include "tests/support/run_command.h"
#include "tests/support/skip.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kDeadlineMs = 60'000;

std::string ballast_of(const LoopDisk& disk) { return disk.path() + "/ballast"; }

// 64 MiB, of which removing the ballast gives back 24. Null, and the test is skipped: not here.
std::unique_ptr<LoopDisk> small_disk(const TempDirectory& directory) {
  std::string why;
  auto disk = LoopDisk::create(directory / "disk", uint64_t{64} << 20, why);
  if (disk == nullptr) {
    skip_test("full disk: " + why);
    return nullptr;
  }
  std::ofstream out(ballast_of(*disk), std::ios::binary);
  out << std::string(24 << 20, 'b');
  return disk;
}

uint64_t count_messages(const client::Client& client) {
  auto consumer = client::Consumer::create(client, {});
  REQUIRE(consumer.ok());
  REQUIRE(consumer->assign({{"t", 0, client::Position::start()}}).ok());
  uint64_t count = 0;
  while (true) {
    auto batch = consumer->poll(kDeadlineMs);
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    count += batch->messages.size();
    if (batch->next_offset >= batch->high_watermark) {
      return count;
    }
  }
}

// Sends messages one by one until one fails; returns why. `stored` counts the others.
client::Status fill(client::Producer& producer, uint64_t& stored, uint64_t attempts_max,
                    size_t bytes = size_t{64} << 10) {
  const std::string value(bytes, 'v');
  for (uint64_t i = 0; i < attempts_max; ++i) {
    client::Message message;
    message.value = value;
    const client::Delivery delivery = producer.send_future("t", message).get();
    if (!delivery.status.ok()) {
      return delivery.status;
    }
    ++stored;
  }
  return {};
}

void check_verified(DaemonProcess& daemon) {
  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

// The error, or what it says was the last one, has this name.
void check_disk_full(const client::Status& status) {
  CHECK_FALSE(status.ok());
  CHECK_MESSAGE(status.to_string().find("disk full") != std::string::npos, status.to_string());
}

client::TransactionProducer transactional(const client::Client& client) {
  client::TransactionOptions options;
  options.group = "full-disk";
  options.timeout_ms = 3'600'000;  // nobody is to be asked here
  auto producer = client::TransactionProducer::create(client, options, kDeadlineMs);
  REQUIRE_MESSAGE(producer.ok(), producer.status().to_string());
  return std::move(*producer);
}

client::Transaction begin(client::TransactionProducer& producer, const std::string& value) {
  client::Transaction txn = producer.begin();
  const client::Status sent = txn.send("t", {.value = value});
  REQUIRE_MESSAGE(sent.ok(), sent.to_string());
  return txn;
}

}  // namespace

TEST_CASE(
    "a full disk refuses produce by name, serves consumers, and recovers when space is freed") {
  const TempDirectory directory;
  const auto disk = small_disk(directory);
  if (disk == nullptr) {
    return;
  }
  DaemonProcess daemon(disk->path() + "/data", {"--shards", "1"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  REQUIRE(admin.create_topic("t", 1, {}, kDeadlineMs).ok());

  client::ProducerOptions options;
  options.fail_fast_on_disk_full = true;
  options.linger_ms = 0;
  auto producer = client::Producer::create(client, options);
  REQUIRE(producer.ok());
  uint64_t stored = 0;
  const client::Status full = fill(*producer, stored, 2'000);
  REQUIRE_FALSE(full.ok());
  CHECK_MESSAGE(full.code() == client::ErrorCode::kDiskFull, full.to_string());
  CHECK(stored > 0);
  CHECK(count_messages(client) == stored);

  std::filesystem::remove(ballast_of(*disk));
  // The broker looks for space by itself a few times a second; a client that keeps trying is
  // served.
  client::ProducerOptions patient;
  patient.linger_ms = 0;
  patient.delivery_timeout_ms = kDeadlineMs;
  auto again = client::Producer::create(client, patient);
  REQUIRE(again.ok());
  const client::Status after = fill(*again, stored, 20);
  CHECK_MESSAGE(after.ok(), after.to_string());
  CHECK(count_messages(client) == stored);
  check_verified(daemon);
}

TEST_CASE("a full disk: transactions that are open can be ended, new ones are refused by name") {
  constexpr size_t kOpen = 1'000;
  const TempDirectory directory;
  const auto disk = small_disk(directory);
  if (disk == nullptr) {
    return;
  }
  DaemonProcess daemon(disk->path() + "/data", {"--shards", "1"});
  REQUIRE_MESSAGE(daemon.start(), daemon.errors());
  const client::Client client = connect(daemon.address());
  client::Admin admin(client);
  REQUIRE(admin.create_topic("t", 1, {}, kDeadlineMs).ok());
  client::TransactionProducer producer = transactional(client);
  std::vector<client::Transaction> open;
  for (size_t i = 0; i < kOpen; ++i) {
    open.push_back(begin(producer, std::to_string(i)));
    REQUIRE(open.back().prepare(kDeadlineMs).ok());
  }

  // Down to the last block. A producer that was refused takes a new id first, and may be refused
  // that: then it says so when its time is over.
  client::ProducerOptions options;
  options.fail_fast_on_disk_full = true;
  options.linger_ms = 0;
  options.delivery_timeout_ms = 1'000;
  auto filler = client::Producer::create(client, options);
  REQUIRE(filler.ok());
  uint64_t stored = 0;
  for (const size_t bytes : {size_t{64} << 10, size_t{4} << 10, size_t{64}}) {
    CAPTURE(bytes);
    check_disk_full(fill(*filler, stored, 20'000, bytes));
  }

  client::Transaction refused = begin(producer, "too late");
  check_disk_full(refused.prepare(500));
  for (size_t i = 0; i < kOpen; ++i) {
    CAPTURE(i);
    const client::TransactionEnd end =
        i % 2 == 0 ? open[i].commit(kDeadlineMs) : open[i].rollback(kDeadlineMs);
    REQUIRE_MESSAGE(end.status.ok(), end.status.to_string());
  }
  CHECK(count_messages(client) == stored + kOpen / 2);

  std::filesystem::remove(ballast_of(*disk));
  client::Transaction again = begin(producer, "in time");
  CHECK(again.commit(kDeadlineMs).status.ok());
  CHECK(count_messages(client) == stored + kOpen / 2 + 1);
  check_verified(daemon);
}

}  // namespace tidemark::testing
