// Errors of the client library: Status (ok, or a code and a sentence) and Result<T> (a value or a
// Status).
//
// Names and numbers are those of the wire (broker/protocol/PROTOCOL.md). Two questions decide what
// to do with an error: is_retryable(): the same call may succeed later unchanged;
// outcome_unknown(): it may or may not have taken effect. The library throws nothing of its own.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tidemark::client {

enum class ErrorCode : uint16_t {
  kOk = 0,
  kInvalidArgument = 1,
  kNotFound = 2,
  kAlreadyExists = 3,
  kConflict = 4,
  kNotAllowed = 5,
  kUnavailable = 6,  // no broker could be reached; the text names host:port
  kTimedOut = 7,
  kOverloaded = 8,  // also: the producer's write buffer is full
  kNotLeader = 9,
  kOutcomeUnknown = 10,
  kCorrupted = 11,
  kIoError = 12,
  kDiskFull = 13,
  kTooLarge = 14,
  kUnsupportedVersion = 15,
  kUnsupportedType = 16,
  kMalformed = 17,
  kOffsetOutOfRange = 18,
  kOutOfOrderSequence = 19,
  kFenced = 20,
  kUnknownTopic = 21,
  kUnknownPartition = 22,
  kUnknownProducer = 23,
  kReadOnly = 24,
  kShuttingDown = 25,  // also: the producer, consumer or client was closed
  kLimitExceeded = 26,
  kCancelled = 27,
  kInternal = 28,
  kLocked = 29,
  kWrongShard = 30,
};

// Identifier without the leading k, e.g. "DiskFull"; stable, for logs and JSON.
std::string_view error_name(ErrorCode code);
// Words for people, e.g. "disk full".
std::string_view error_text(ErrorCode code);
bool is_retryable(ErrorCode code);
bool outcome_unknown(ErrorCode code);

// A value type; copying shares the text. Ok costs one word and never allocates.
class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  // Requires: code is not kOk.
  Status(ErrorCode code, std::string context);

  [[nodiscard]] bool ok() const { return detail_ == nullptr; }

  [[nodiscard]] ErrorCode code() const { return detail_ ? detail_->code : ErrorCode::kOk; }

  // The sentence that says what was tried and what went wrong; empty when ok.
  [[nodiscard]] std::string_view context() const {
    return detail_ ? std::string_view(detail_->context) : std::string_view();
  }

  // "unavailable: 127.0.0.1:9470: connection refused", or "ok".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Detail {
    ErrorCode code;
    std::string context;
  };

  std::shared_ptr<const Detail> detail_;
};

// A value or the Status that says why there is none. value() of a failed Result ends the process:
// look at ok() first.
template <typename T>
class [[nodiscard]] Result {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): `return value;`
  Result(T value) : value_(std::move(value)) {}

  // NOLINTNEXTLINE(google-explicit-constructor): `return status;`
  Result(Status status) : status_(std::move(status)) {
    if (status_.ok()) {
      std::abort();
    }
  }

  [[nodiscard]] bool ok() const { return value_.has_value(); }

  explicit operator bool() const { return ok(); }

  [[nodiscard]] const Status& status() const { return status_; }

  T& value() & {
    require();
    return *value_;
  }

  const T& value() const& {
    require();
    return *value_;
  }

  T&& value() && {
    require();
    return std::move(*value_);
  }

  T& operator*() & { return value(); }

  const T& operator*() const& { return value(); }

  T&& operator*() && { return std::move(*this).value(); }

  T* operator->() { return &value(); }

  const T* operator->() const { return &value(); }

 private:
  void require() const {
    if (!value_.has_value()) {
      std::abort();
    }
  }

  std::optional<T> value_;
  Status status_;
};

}  // namespace tidemark::client
