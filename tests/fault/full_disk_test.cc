// A full disk: producing gets a named error, consuming goes on, and producing works again when
// there is space, without a restart.
//
// On a 64 MiB ext4 in a loop device, which needs root; skipped where that cannot be had.
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/run_command.h"
#include "tests/support/skip.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kDeadlineMs = 60'000;

// A small file system of its own, gone at the end.
class LoopFileSystem {
 public:
  LoopFileSystem(const TempDirectory& directory, uint64_t bytes)
      : image_(directory / "disk.img"), path_(directory / "disk") {
    std::filesystem::create_directory(path_);
    std::ofstream(image_).close();
    std::filesystem::resize_file(image_, bytes);
    mounted_ = run_command({"/sbin/mkfs.ext4", "-q", "-F", "-m", "0", image_}).exit_code == 0 &&
               run_command({"/bin/mount", "-o", "loop", image_, path_}).exit_code == 0;
  }

  ~LoopFileSystem() {
    if (mounted_) {
      ::umount2(path_.c_str(), MNT_DETACH);
    }
  }

  LoopFileSystem(const LoopFileSystem&) = delete;
  LoopFileSystem& operator=(const LoopFileSystem&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string image_;
  std::string path_;
  bool mounted_ = false;
};

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

// Sends 64 KiB messages one by one until one fails; returns why. `stored` counts the others.
client::Status fill(client::Producer& producer, uint64_t& stored, uint64_t attempts_max) {
  const std::string value(64 * 1024, 'v');
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

}  // namespace

TEST_CASE(
    "a full disk refuses produce by name, serves consumers, and recovers when space is freed") {
  const TempDirectory directory;
  if (::geteuid() != 0) {
    skip_test("full disk: mounting a loop file system needs root");
    return;
  }
  const LoopFileSystem disk(directory, uint64_t{64} << 20);
  if (!disk.mounted()) {
    skip_test("full disk: no loop file system can be mounted here");
    return;
  }
  const std::string ballast = disk.path() + "/ballast";
  {
    std::ofstream out(ballast, std::ios::binary);
    out << std::string(24 << 20, 'b');
  }
  DaemonProcess daemon(disk.path() + "/data", {"--shards", "1"});
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

  std::filesystem::remove(ballast);
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
  CHECK(daemon.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace tidemark::testing
