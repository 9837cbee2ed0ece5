// Result<T>: a value or the Status that says why there is none. Member names follow std::expected,
// which needs C++23. A function that returns Result<T> may `return value;` or `return status;`.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "log/base/check.h"
#include "log/base/status.h"

namespace tidemark {

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit on purpose: `return value;` and `return Status(...)` read as they should.
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Result(Status status) : error_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    TIDEMARK_CHECK(!error_.ok(), "a Result without a value needs an error");
  }

  [[nodiscard]] bool has_value() const { return value_.has_value(); }

  [[nodiscard]] bool ok() const { return value_.has_value(); }

  explicit operator bool() const { return value_.has_value(); }

  T& value() & {
    require_value();
    return *value_;
  }

  const T& value() const& {
    require_value();
    return *value_;
  }

  T&& value() && {
    require_value();
    return std::move(*value_);
  }

  T& operator*() & { return value(); }

  const T& operator*() const& { return value(); }

  T&& operator*() && { return std::move(*this).value(); }

  T* operator->() { return &value(); }

  const T* operator->() const { return &value(); }

  // Ok status when there is a value.
  [[nodiscard]] const Status& error() const { return error_; }

  [[nodiscard]] const Status& status() const { return error_; }

 private:
  void require_value() const {
    TIDEMARK_CHECK(value_.has_value(), "value() of a failed Result: " + error_.to_string());
  }

  std::optional<T> value_;
  Status error_;
};

}  // namespace tidemark

// ASSIGN_OR_RETURN(auto file, fs.open(path)): declares `file` or returns the error.
#define TIDEMARK_CONCAT_INNER(a, b) a##b
#define TIDEMARK_CONCAT(a, b) TIDEMARK_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL(TIDEMARK_CONCAT(assign_or_return_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL(temporary, declaration, expression) \
  auto temporary = (expression);                                  \
  if (!temporary.ok()) {                                          \
    return temporary.error();                                     \
  }                                                               \
  declaration = std::move(temporary).value()
