#include "tools/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include <doctest/doctest.h>

#include "tools/errors.h"
#include "tools/progress.h"

namespace tidemark::tools {
namespace {

TEST_CASE("a table lines up its columns") {
  Table table({{"NAME"}, {"COUNT", Table::Align::kRight}, {"NOTE"}});
  table.add({"a", "1", "x"});
  table.add({"longer", "12345", ""});
  CHECK(table.to_string() ==
        "NAME    COUNT  NOTE\n"
        "a           1  x\n"
        "longer  12345\n");
}

TEST_CASE("output is gathered and written whole") {
  int ends[2];
  REQUIRE(pipe2(ends, O_NONBLOCK) == 0);
  OutputBuffer out(ends[1]);
  CHECK(out.empty());
  out.text() += "hello ";
  out.commit();
  char bytes[64];
  CHECK(read(ends[0], bytes, sizeof(bytes)) == -1);
  out.text() += "world";
  out.flush();
  CHECK(out.empty());
  const ssize_t got = read(ends[0], bytes, sizeof(bytes));
  REQUIRE(got > 0);
  CHECK(std::string_view(bytes, static_cast<size_t>(got)) == "hello world");
  CHECK(out.bytes_written() == 11);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("a reader that has gone ends the output, any other failure is an error") {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  OutputBuffer out(ends[1]);
  close(ends[0]);
  out.text() += "x";
  CHECK_THROWS_AS(out.flush(), OutputClosed);
  CHECK(out.empty());
  close(ends[1]);
  out.text() += "x";
  CHECK_THROWS_AS(out.flush(), CommandError);
}

TEST_CASE("errors keep their name and choose the exit code") {
  const CommandError error(Status(ErrorCode::kUnknownTopic, "orders"), "topic orders");
  CHECK(error.exit_code() == ExitCode::kNotFound);
  CHECK(error.name() == "UnknownTopic");
  CHECK(std::string_view(error.what()) == "topic orders: unknown topic: orders");
  CHECK(exit_code_of(ErrorCode::kOk) == ExitCode::kOk);
  CHECK(exit_code_of(ErrorCode::kTimedOut) == ExitCode::kUnavailable);
  CHECK(exit_code_of(ErrorCode::kAlreadyExists) == ExitCode::kConflict);
  CHECK(exit_code_of(ErrorCode::kNotAllowed) == ExitCode::kNotAllowed);
  CHECK(exit_code_of(ErrorCode::kCorrupted) == ExitCode::kFailed);
  CHECK(exit_code_of(ErrorCode::kInvalidArgument) == ExitCode::kUsage);
}

TEST_CASE("a progress line") {
  CHECK(Progress::render("produce", 25, 100, "messages", 0, 5, 90) ==
        "produce   25%  [##########..............................]  5 messages/s  16s left");
  CHECK(Progress::render("produce", 100, 100, "messages", 2'000'000, 2, 90) ==
        "produce  100%  [########################################]  50 messages/s  1.0 MB/s");
  CHECK(Progress::render("consume", 1234, 0, "messages", 0, 2, 79) ==
        "consume  1,234 messages  617 messages/s");
  CHECK(Progress::render("produce", 25, 100, "messages", 0, 5, 30) ==
        "produce   25%  5 messages/s  1");
}

}  // namespace
}  // namespace tidemark::tools
