// MoveOnlyFunction: std::function for callables that can only be moved (std::move_only_function is
// C++23).
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace tidemark {

template <typename Signature>
class MoveOnlyFunction;

template <typename R, typename... Args>
class MoveOnlyFunction<R(Args...)> {
 public:
  MoveOnlyFunction() = default;

  MoveOnlyFunction(std::nullptr_t) {}  // NOLINT(google-explicit-constructor)

  template <typename F>

  requires(!std::is_same_v<std::decay_t<F>, MoveOnlyFunction> &&
           std::is_invocable_r_v<R, F&, Args...>)
      MoveOnlyFunction(F&& callable)  // NOLINT(google-explicit-constructor)
      : callable_(std::make_unique<Holder<std::decay_t<F>>>(std::forward<F>(callable))) {}

  R operator()(Args... args) { return callable_->call(std::forward<Args>(args)...); }

  explicit operator bool() const { return callable_ != nullptr; }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual R call(Args... args) = 0;
  };

  template <typename F>
  struct Holder final : Base {
    template <typename G>
    explicit Holder(G&& g) : f(std::forward<G>(g)) {}

    R call(Args... args) override { return f(std::forward<Args>(args)...); }

    F f;
  };

  std::unique_ptr<Base> callable_;
};

}  // namespace tidemark
