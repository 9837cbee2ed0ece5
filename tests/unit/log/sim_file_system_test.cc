// The crash model that the tests of the log stand on.
#include "tests/support/sim_file_system.h"

#include <cerrno>
#include <set>

#include <doctest/doctest.h>

namespace tidemark {

namespace {

Status write_text(File& file, uint64_t offset, std::string_view text) {
  const ByteView part = as_bytes(text);
  return file.write(offset, {&part, 1});
}

std::string text_of(const SimFileSystem& fs, const std::string& path) {
  return std::string(as_text(fs.content(path)));
}

}  // namespace

TEST_CASE("simulated disk: what was synced survives, what was not may not") {
  std::set<std::string> seen;
  std::set<bool> second_name;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SimFileSystem fs(seed);
    REQUIRE(fs.create_directories("d").ok());
    auto file = fs.open("d/a", OpenMode::kCreateNew).value();
    REQUIRE(write_text(*file, 0, std::string(1024, 's')).ok());
    REQUIRE(file->sync().ok());
    REQUIRE(fs.sync_directory("d").ok());
    REQUIRE(write_text(*file, 0, std::string(1024, 'n')).ok());
    REQUIRE(fs.open("d/b", OpenMode::kCreateNew).ok());
    CHECK(text_of(fs, "d/a") == std::string(1024, 'n'));
    fs.crash();
    const std::string after = text_of(fs, "d/a");
    // Each sector is old or new, never a mixture.
    for (size_t sector = 0; sector < 1024; sector += 512) {
      CHECK(after.substr(sector, 512) == std::string(512, after[sector]));
    }
    seen.insert({after[0], after[512]});
    second_name.insert(fs.exists("d/b").value());
    CHECK(write_text(*file, 0, "x").code() == ErrorCode::kIoError);
    CHECK(file->sync().code() == ErrorCode::kIoError);
  }
  CHECK(seen == std::set<std::string>{"ss", "sn", "ns", "nn"});
  CHECK(second_name.size() == 2);
}

TEST_CASE("simulated disk: a rename is lost or kept as a whole") {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimFileSystem fs(seed);
    REQUIRE(fs.create_directories("d").ok());
    REQUIRE(fs.open("d/a", OpenMode::kCreateNew).ok());
    REQUIRE(fs.sync_directory("d").ok());
    REQUIRE(fs.rename("d/a", "d/b").ok());
    fs.crash();
    const std::vector<std::string> names = fs.list("d").value();
    REQUIRE(names.size() == 1);
    seen.insert(names[0]);
  }
  CHECK(seen.size() == 2);
}

TEST_CASE(
    "simulated disk: errors once and for good, a failed sync loses what it should have stored") {
  SimFileSystem fs(1);
  REQUIRE(fs.create_directories("d").ok());
  auto file = fs.open("d/a", OpenMode::kCreateNew).value();
  REQUIRE(fs.sync_directory("d").ok());
  REQUIRE(write_text(*file, 0, "lost").ok());
  fs.fail_at(SimCall::kSync, 1, false);
  CHECK(file->sync().code() == ErrorCode::kIoError);
  CHECK(file->sync().ok());
  CHECK(text_of(fs, "d/a") == "lost");
  fs.crash();
  CHECK(text_of(fs, "d/a").empty());
  file = fs.open("d/a", OpenMode::kReadWrite).value();
  fs.fail_at(SimCall::kWrite, 2, true);
  CHECK(write_text(*file, 0, "1").ok());
  CHECK(!write_text(*file, 0, "2").ok());
  CHECK(!write_text(*file, 0, "3").ok());
  fs.heal();
  CHECK(write_text(*file, 0, "4").ok());
  CHECK(fs.calls(SimCall::kWrite) == 5);
}

TEST_CASE("simulated disk: capacity, power, locks") {
  SimFileSystem fs(1);
  REQUIRE(fs.create_directories("d").ok());
  auto file = fs.open("d/a", OpenMode::kCreateNew).value();
  fs.set_capacity(1000);
  CHECK(file->allocate(900).ok());
  CHECK(fs.free_bytes("d").value() == 100);
  CHECK(file->allocate(1001).code() == ErrorCode::kDiskFull);
  CHECK(write_text(*file, 800, "inside").ok());
  CHECK(write_text(*file, 999, "outside").code() == ErrorCode::kDiskFull);
  REQUIRE(file->truncate(0).ok());
  CHECK(fs.used_bytes() == 0);

  auto lock = fs.lock_directory("d").value();
  CHECK(fs.lock_directory("d").error().code() == ErrorCode::kLocked);
  REQUIRE(fs.sync_directory("d").ok());
  fs.cut_power_at(2);
  CHECK(write_text(*file, 0, "a").ok());
  CHECK(!write_text(*file, 0, "b").ok());
  CHECK(!file->sync().ok());
  CHECK(!fs.rename("d/a", "d/b").ok());
  fs.crash();
  CHECK(fs.lock_directory("d").ok());
  CHECK(fs.open("d/a", OpenMode::kReadOnly).ok());
}

TEST_CASE(
    "simulated disk: the n-th of several kinds of calls fails, and repeated syncs are counted") {
  SimFileSystem fs(1);
  REQUIRE(fs.create_directories("d").ok());
  const std::unique_ptr<File> file = std::move(fs.open("d/f", OpenMode::kCreateNew)).value();
  const ByteView part = as_bytes("x");
  fs.fail_any_at({SimCall::kSync, SimCall::kList}, 2, ENOSPC, false);
  CHECK(file->write(0, {&part, 1}).ok());  // not one of them
  CHECK(fs.list("d").ok());
  const Status failed = file->sync();
  CHECK(failed.code() == ErrorCode::kDiskFull);
  CHECK(failed.to_string().find("d/f: injected") != std::string::npos);
  CHECK(fs.failures() == 1);
  CHECK(fs.syncs_repeated() == 0);
  CHECK(file->sync().ok());
  CHECK(fs.syncs_repeated() == 1);
  fs.heal();
  CHECK(fs.syncs_repeated() == 0);
  CHECK(file->sync().ok());
  CHECK(fs.syncs_repeated() == 0);

  fs.fail_any_at({SimCall::kSyncDirectory, SimCall::kSize}, 1, EIO, true);
  CHECK(fs.sync_directory("d").code() == ErrorCode::kIoError);
  CHECK(fs.sync_directory("d").code() == ErrorCode::kIoError);
  CHECK(file->size().error().code() == ErrorCode::kIoError);
  CHECK(fs.failures() == 3);
  CHECK(fs.syncs_repeated() == 1);
  fs.heal();
  CHECK(fs.sync_directory("d").ok());
  CHECK(fs.failures() == 0);
}

}  // namespace tidemark
