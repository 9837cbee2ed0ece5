// What the public classes share: the runtime, the options, and how calls wait for the I/O thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "clients/cpp/src/produce_engine.h"
#include "clients/cpp/src/runtime.h"
#include "tidemark/client.h"

namespace tidemark::client_core {

client::Status to_public(const Status& status);

// A value that one thread gives and another waits for.
template <typename T>
class Promise {
 public:
  void set(T value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    given_.notify_all();
  }

  // nullopt: not given within the time. Once only.
  std::optional<T> wait_ms(int64_t timeout_ms) {
    std::unique_lock lock(mutex_);
    given_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                    [this] { return value_.has_value(); });
    return std::exchange(value_, std::nullopt);
  }

  T wait() {
    std::unique_lock lock(mutex_);
    given_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  std::optional<T> value_;
};

}  // namespace tidemark::client_core

namespace tidemark::client {

class ClientImpl {
 public:
  ClientImpl(std::shared_ptr<client_core::Runtime> runtime, ClientOptions options)
      : runtime_(std::move(runtime)), options_(std::move(options)) {}

  ~ClientImpl() { runtime_->stop(); }

  ClientImpl(const ClientImpl&) = delete;
  ClientImpl& operator=(const ClientImpl&) = delete;

  [[nodiscard]] client_core::Runtime& runtime() { return *runtime_; }

  [[nodiscard]] const std::shared_ptr<client_core::Runtime>& shared_runtime() const {
    return runtime_;
  }

  [[nodiscard]] const ClientOptions& options() const { return options_; }

  // Runs on the I/O thread and waits for the result. Requires: not on the I/O thread.
  template <typename T>
  T on_io_thread(MoveOnlyFunction<T(client_core::Runtime&)> task) {
    auto promise = std::make_shared<client_core::Promise<T>>();
    client_core::Runtime* const runtime = runtime_.get();
    runtime_->post(
        [promise, runtime, task = std::move(task)]() mutable { promise->set(task(*runtime)); });
    return promise->wait();
  }

 private:
  std::shared_ptr<client_core::Runtime> runtime_;
  ClientOptions options_;
};

}  // namespace tidemark::client
