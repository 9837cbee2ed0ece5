#include "log/base/status.h"

#include <cerrno>

#include <doctest/doctest.h>

#include "log/base/check.h"
#include "log/base/result.h"

namespace tidemark {

TEST_CASE("status: ok costs nothing and says so") {
  const Status status;
  CHECK(status.ok());
  CHECK(status.code() == ErrorCode::kOk);
  CHECK(status.context().empty());
  CHECK(status.to_string() == "ok");
}

TEST_CASE("status: code and context, copied cheaply") {
  const Status status(ErrorCode::kDiskFull, "segment 12");
  const Status copy = status;
  CHECK(!copy.ok());
  CHECK(copy.code() == ErrorCode::kDiskFull);
  CHECK(copy.to_string() == "disk full: segment 12");
  CHECK(copy.context().data() == status.context().data());
}

TEST_CASE("status: errno picks the code") {
  CHECK(Status::from_errno(ENOSPC, "x").code() == ErrorCode::kDiskFull);
  CHECK(Status::from_errno(EDQUOT, "x").code() == ErrorCode::kDiskFull);
  CHECK(Status::from_errno(ENOENT, "x").code() == ErrorCode::kNotFound);
  CHECK(Status::from_errno(EEXIST, "x").code() == ErrorCode::kAlreadyExists);
  CHECK(Status::from_errno(EACCES, "x").code() == ErrorCode::kNotAllowed);
  CHECK(Status::from_errno(EPERM, "x").code() == ErrorCode::kNotAllowed);
  CHECK(Status::from_errno(EIO, "x").code() == ErrorCode::kIoError);
  CHECK(Status::from_errno(ENOSPC, "segment 12").to_string() ==
        "disk full: segment 12: No space left on device (errno 28)");
}

TEST_CASE("status: the table of errors") {
  CHECK(error_text(ErrorCode::kDiskFull) == "disk full");
  CHECK(error_name(ErrorCode::kDiskFull) == "DiskFull");
  CHECK(error_name(ErrorCode::kOk) == "Ok");
  CHECK(error_is_retryable(ErrorCode::kOverloaded));
  CHECK(!error_is_retryable(ErrorCode::kCorrupted));
  CHECK(error_outcome_unknown(ErrorCode::kTimedOut));
  CHECK(!error_outcome_unknown(ErrorCode::kNotLeader));
  CHECK(error_from_wire(0) == ErrorCode::kOk);
  CHECK(error_from_wire(13) == ErrorCode::kDiskFull);
  CHECK(error_from_wire(30) == ErrorCode::kWrongShard);
  CHECK(error_from_wire(60'000) == ErrorCode::kInternal);
  const auto unknown = static_cast<ErrorCode>(60'000);
  CHECK(error_text(unknown) == "unknown error");
  CHECK(!error_is_retryable(unknown));
}

namespace {

Result<int> half(int value) {
  if (value % 2 != 0) {
    return Status(ErrorCode::kInvalidArgument, "odd");
  }
  return value / 2;
}

Result<int> quarter(int value) {
  ASSIGN_OR_RETURN(const int halved, half(value));
  return half(halved);
}

}  // namespace

TEST_CASE("result: a value or the reason why not") {
  CHECK(quarter(8).value() == 2);
  CHECK(*quarter(8) == 2);
  CHECK(quarter(8).error().ok());
  CHECK(!quarter(6).ok());
  CHECK(quarter(6).error().to_string() == "invalid argument: odd");
  CHECK(!quarter(7).has_value());
}

namespace {

struct CheckFailed {
  std::string message;
};

void throw_instead(std::string_view message) { throw CheckFailed{std::string(message)}; }

}  // namespace

TEST_CASE("check: says what, where and why, then calls the hook") {
  set_check_fail_hook(throw_instead);
  std::string message;
  try {
    TIDEMARK_CHECK(1 + 1 == 3, "sums are " + std::to_string(2));
  } catch (const CheckFailed& failed) {
    message = failed.message;
  }
  set_check_fail_hook(nullptr);
  CHECK(message.find("status_test.cc:") != std::string::npos);
  CHECK(message.find("1 + 1 == 3: sums are 2") != std::string::npos);
  TIDEMARK_CHECK(true, "never built");
}

}  // namespace tidemark
