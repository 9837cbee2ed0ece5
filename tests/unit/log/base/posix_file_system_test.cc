#include "log/base/posix_file_system.h"

#include <unistd.h>

#include <array>
#include <filesystem>

#include <doctest/doctest.h>

#include "log/base/clock.h"
#include "tests/support/temp_directory.h"

namespace tidemark {

namespace {

Status write_text(File& file, uint64_t offset, std::string_view text) {
  const ByteView part = as_bytes(text);
  return file.write(offset, {&part, 1});
}

std::string read_text(File& file, uint64_t offset, size_t size) {
  std::string text(size, '\0');
  const Status status = file.read(offset, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return text;
}

}  // namespace

TEST_CASE("posix file: write, read, size, truncate") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  auto file = fs.open(directory / "a", OpenMode::kCreateNew).value();
  REQUIRE(write_text(*file, 0, "hello world").ok());
  REQUIRE(write_text(*file, 6, "there").ok());
  CHECK(read_text(*file, 0, 11) == "hello there");
  CHECK(file->size().value() == 11);
  CHECK(file->sync().ok());
  REQUIRE(file->truncate(5).ok());
  CHECK(file->size().value() == 5);
  REQUIRE(file->truncate(7).ok());
  CHECK(read_text(*file, 0, 7) == std::string("hello\0\0", 7));
  CHECK(file->read(0, {}).ok());
}

TEST_CASE("posix file: a read past the end names file and place") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  auto file = fs.open(directory / "a", OpenMode::kCreateNew).value();
  REQUIRE(write_text(*file, 0, "12345").ok());
  std::array<uint8_t, 4> bytes{};
  const Status status = file->read(3, bytes);
  CHECK(status.code() == ErrorCode::kCorrupted);
  CHECK(status.to_string().find(directory / "a") != std::string::npos);
  CHECK(status.to_string().find("ends at 5") != std::string::npos);
}

TEST_CASE("posix file: more parts than one call takes, some of them empty") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  auto file = fs.open(directory / "a", OpenMode::kCreateNew).value();
  std::string text(5000, '\0');
  std::vector<ByteView> parts;
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>('a' + i % 26);
    parts.push_back(as_bytes(std::string_view(text).substr(i, 1)));
    if (i % 3 == 0) {
      parts.emplace_back();
    }
  }
  REQUIRE(file->write(10, parts).ok());
  CHECK(read_text(*file, 10, text.size()) == text);
  CHECK(file->write(0, {}).ok());
  CHECK(file->size().value() == 5010);
}

TEST_CASE("posix file: allocated space reads as zeros and keeps what was there") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  auto file = fs.open(directory / "a", OpenMode::kCreateNew).value();
  REQUIRE(write_text(*file, 0, "abc").ok());
  REQUIRE(file->allocate(100'000).ok());
  CHECK(file->size().value() == 100'000);
  CHECK(read_text(*file, 0, 5) == std::string("abc\0\0", 5));
  CHECK(read_text(*file, 99'999, 1) == std::string(1, '\0'));
  REQUIRE(file->allocate(50).ok());
  CHECK(file->size().value() == 100'000);
}

TEST_CASE("posix file system: open modes and links") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  CHECK(fs.open(directory / "a", OpenMode::kReadOnly).error().code() == ErrorCode::kNotFound);
  CHECK(fs.open(directory / "a", OpenMode::kReadWrite).error().code() == ErrorCode::kNotFound);
  REQUIRE(fs.open(directory / "a", OpenMode::kCreateNew).ok());
  CHECK(fs.open(directory / "a", OpenMode::kCreateNew).error().code() == ErrorCode::kAlreadyExists);
  auto read_only = fs.open(directory / "a", OpenMode::kReadOnly).value();
  CHECK(!write_text(*read_only, 0, "x").ok());
  std::filesystem::create_symlink(directory / "a", directory / "link");
  CHECK(!fs.open(directory / "link", OpenMode::kReadWrite).ok());
}

TEST_CASE("posix file system: names") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  REQUIRE(fs.create_directories(directory / "x/y/z/").ok());
  REQUIRE(fs.create_directories(directory / "x/y").ok());
  CHECK(fs.exists(directory / "x/y/z").value());
  CHECK(!fs.exists(directory / "x/q").value());
  for (const char* name : {"c", "a", "b"}) {
    REQUIRE(fs.open(directory / "x/y/" + name, OpenMode::kCreateNew).ok());
  }
  CHECK(fs.list(directory / "x/y").value() == std::vector<std::string>{"a", "b", "c", "z"});
  REQUIRE(fs.rename(directory / "x/y/a", directory / "x/y/b").ok());
  REQUIRE(fs.remove(directory / "x/y/c").ok());
  REQUIRE(fs.sync_directory(directory / "x/y").ok());
  CHECK(fs.list(directory / "x/y").value() == std::vector<std::string>{"b", "z"});
  CHECK(fs.remove(directory / "x/y/c").code() == ErrorCode::kNotFound);
  CHECK(fs.list(directory / "nowhere").error().code() == ErrorCode::kNotFound);
  CHECK(fs.sync_directory(directory / "nowhere").code() == ErrorCode::kNotFound);
  CHECK(fs.free_bytes(directory.path()).value() > 0);
}

TEST_CASE("posix file system: a directory is locked once, and its owner is named") {
  const testing::TempDirectory directory;
  PosixFileSystem fs;
  auto lock = fs.lock_directory(directory.path()).value();
  const Result<std::unique_ptr<DirectoryLock>> second = fs.lock_directory(directory.path());
  REQUIRE(!second.ok());
  CHECK(second.error().code() == ErrorCode::kLocked);
  CHECK(second.error().to_string().find("process " + std::to_string(::getpid())) !=
        std::string::npos);
  lock.reset();
  CHECK(fs.lock_directory(directory.path()).ok());
  CHECK(fs.lock_directory(directory / "nowhere").error().code() == ErrorCode::kNotFound);
}

TEST_CASE("system clock: monotonic never goes back, wall is in this century") {
  const MonotonicTime first = system_clock().monotonic();
  CHECK(system_clock().monotonic() >= first);
  CHECK(system_clock().wall().ms > 1'700'000'000'000);
}

}  // namespace tidemark
