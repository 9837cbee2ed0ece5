#include "tools/line_reader.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::tools {
namespace {

using FilePointer = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

FilePointer file_with(std::string_view content) {
  FilePointer file(std::tmpfile(), &std::fclose);
  REQUIRE(file != nullptr);
  REQUIRE(std::fwrite(content.data(), 1, content.size(), file.get()) == content.size());
  std::rewind(file.get());
  return file;
}

std::vector<std::string> lines_of(std::string_view content, size_t line_bytes_max = 1 << 20) {
  const FilePointer file = file_with(content);
  LineReader reader(fileno(file.get()), line_bytes_max);
  std::vector<std::string> lines;
  std::string_view line;
  while (reader.next(line).value()) {
    lines.emplace_back(line);
  }
  CHECK(reader.line_number() == lines.size());
  CHECK(reader.bytes_read() == content.size());
  return lines;
}

TEST_CASE("lines") {
  using namespace std::string_literals;
  using Lines = std::vector<std::string>;
  CHECK(lines_of("").empty());
  CHECK(lines_of("a") == Lines{"a"});
  CHECK(lines_of("a\n") == Lines{"a"});
  CHECK(lines_of("\n") == Lines{""});
  CHECK(lines_of("\n\n") == Lines{"", ""});
  CHECK(lines_of("a\r\nb\n\nc") == Lines{"a\r", "b", "", "c"});
  CHECK(lines_of("a\0b\n\xFF\n"s) == Lines{"a\0b"s, "\xFF"});
}

TEST_CASE("a line at the limit is taken, one byte more is an error that names it") {
  const std::string full(1000, 'x');
  CHECK(lines_of(full + "\n" + full, 1000).size() == 2);
  for (const std::string& content : {"a\n" + full + "y\nb\n", "a\n" + full + "y"}) {
    const FilePointer file = file_with(content);
    LineReader reader(fileno(file.get()), 1000);
    std::string_view line;
    CHECK(reader.next(line).value());
    const Result<bool> result = reader.next(line);
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().code() == ErrorCode::kTooLarge);
    CHECK(result.error().context() == "line 2 is longer than the limit of 1000 bytes");
  }
}

TEST_CASE("a line without an end is refused before it is read whole") {
  const std::string endless(8 << 20, 'x');
  const FilePointer file = file_with(endless);
  LineReader reader(fileno(file.get()), 1 << 20);
  std::string_view line;
  CHECK_FALSE(reader.next(line).ok());
  CHECK(reader.bytes_read() < (2u << 20));
}

TEST_CASE("lines of any length come back as they were") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::vector<std::string> expected;
    std::string content;
    while (content.size() < 3'000'000) {
      const uint64_t length = random.chance(1, 50) ? random.below(700'000) : random.below(100);
      std::string line(length, '\0');
      for (char& c : line) {
        c = static_cast<char>(random.next());
        c = c == '\n' ? ' ' : c;
      }
      content += line + "\n";
      expected.push_back(std::move(line));
    }
    CHECK((lines_of(content) == expected));
  }
}

TEST_CASE("an interrupt ends a read that waits") {
  int input[2];
  int interrupt[2];
  REQUIRE(pipe(input) == 0);
  REQUIRE(pipe(interrupt) == 0);
  LineReader reader(input[0], 1000, interrupt[0]);
  REQUIRE(write(input[1], "a\nb", 3) == 3);
  std::string_view line;
  CHECK(reader.next(line).value());
  CHECK(line == "a");
  REQUIRE(write(interrupt[1], "!", 1) == 1);
  const Result<bool> result = reader.next(line);
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code() == ErrorCode::kCancelled);
  for (const int descriptor : {input[0], input[1], interrupt[0], interrupt[1]}) {
    close(descriptor);
  }
}

}  // namespace
}  // namespace tidemark::tools
