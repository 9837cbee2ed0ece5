#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "clients/cpp/src/client_impl.h"
#include "clients/cpp/src/message_input.h"
#include "clients/cpp/src/option_range.h"
#include "clients/cpp/src/queue_engine.h"
#include "tidemark/queue.h"

namespace tidemark::client {

using client_core::kNsPerMs;
using client_core::OptionRange;
using client_core::QueueEngine;
using client_core::to_public;

namespace {

constexpr size_t kHandlersMax = 256;
constexpr int64_t kCloseMs = 5'000;
// A handler without work looks this often; it is woken when there is some.
constexpr int64_t kHandlerWaitMs = 60'000;

Status bad_option(std::string text) { return {ErrorCode::kInvalidArgument, std::move(text)}; }

Status check_topics(const std::vector<std::string>& topics) {
  if (topics.empty() || topics.size() > limits::kGroupTopicsMax) {
    return bad_option("topics has " + std::to_string(topics.size()) +
                      " entries; allowed are 1 to " + std::to_string(limits::kGroupTopicsMax));
  }
  std::set<std::string_view> seen;
  for (const std::string& topic : topics) {
    const tidemark::Status status = client_core::check_topic_name(topic);
    if (!status.ok()) {
      return to_public(status);
    }
    if (!seen.insert(topic).second) {
      return bad_option("topics has \"" + topic + "\" twice");
    }
  }
  return {};
}

Status check(const QueueOptions& options) {
  const auto number = [](size_t value) {
    return static_cast<int64_t>(std::min<size_t>(value, INT64_MAX));
  };
  const OptionRange ranges[] = {
      {"visibility_ms", options.visibility_ms, limits::kQueueVisibilityMsMin,
       limits::kQueueVisibilityMsMax},
      {"in_flight_max", number(options.in_flight_max), 1, 65'536},
      {"prefetch_bytes_max", number(options.prefetch_bytes_max), 64 << 10, 1 << 30},
      {"auto_extend_ms", options.auto_extend_ms, 0, limits::kQueueDelayMsMax},
      {"receive_wait_ms", options.receive_wait_ms, 0, limits::kFetchWaitMsMax},
      {"handlers", number(options.handlers), 1, kHandlersMax}};
  if (options.group.empty() || options.group.size() > limits::kGroupNameBytesMax) {
    return bad_option("group has " + std::to_string(options.group.size()) +
                      " bytes; allowed are 1 to " + std::to_string(limits::kGroupNameBytesMax));
  }
  Status status = check_topics(options.topics);
  if (status.ok()) {
    status = client_core::check_ranges(ranges);
  }
  return status.ok() ? client_core::check_filter(options.tags, options.filter) : status;
}

}  // namespace

class QueueConsumerImpl : public std::enable_shared_from_this<QueueConsumerImpl> {
 public:
  QueueConsumerImpl(std::shared_ptr<ClientImpl> client, QueueOptions options)
      : client_(std::move(client)), options_(std::move(options)) {}

  QueueConsumerImpl(const QueueConsumerImpl&) = delete;
  QueueConsumerImpl& operator=(const QueueConsumerImpl&) = delete;

  void start() {
    const std::weak_ptr<client_core::Runtime> weak = client_->shared_runtime();
    const auto wake = [weak] {
      if (const auto runtime = weak.lock()) {
        runtime->wake();
      }
    };
    const auto post = [weak, executor = client_->options().executor](std::function<void()> task) {
      const auto runtime = weak.lock();
      if (runtime == nullptr) {
        return;
      }
      if (executor) {
        runtime->post([executor, task = std::move(task)]() mutable { executor(std::move(task)); });
      } else {
        runtime->post([task = std::move(task)] { task(); });
      }
    };
    engine_ = std::make_shared<QueueEngine>(
        client_core::QueueEngineOptions{.group = options_.group,
                                        .topics = options_.topics,
                                        .visibility_ms = options_.visibility_ms,
                                        .in_flight_max = options_.in_flight_max,
                                        .prefetch_bytes_max = options_.prefetch_bytes_max,
                                        .auto_extend_ms = options_.auto_extend_ms,
                                        .tags = options_.tags,
                                        .filter = options_.filter,
                                        .ordered = options_.ordered,
                                        .from_end = options_.from_end,
                                        .receive_wait_ms = options_.receive_wait_ms},
        client_core::QueueEngineHooks{.wake = wake, .post = post}, client_->runtime().cluster(),
        tidemark::seed_from_system());
    client_->runtime().post(
        [engine = engine_, &runtime = client_->runtime()] { runtime.add(engine); });
    if (options_.on_message) {
      running_ = options_.handlers;
      for (size_t i = 0; i < options_.handlers; ++i) {
        threads_.emplace_back([self = shared_from_this()] { self->handle(); });
      }
    }
  }

  [[nodiscard]] QueueEngine& engine() { return *engine_; }

  Result<std::optional<QueueMessage>> receive(int64_t timeout_ms) {
    if (options_.on_message) {
      return bad_option("receive() cannot be used together with on_message");
    }
    if (timeout_ms > 0 && on_io_thread()) {
      return bad_option("receive() waits and cannot be called in a callback");
    }
    auto state = engine_->next(timeout_ms);
    if (!state.ok()) {
      return to_public(state.error());
    }
    return *state != nullptr ? std::optional(QueueMessageState::give(std::move(*state)))
                             : std::nullopt;
  }

  Status flush(int64_t deadline_ms) {
    if (on_io_thread()) {
      return bad_option("flush() waits and cannot be called in a callback");
    }
    if (!engine_->wait_flushed(engine_->flush_point(), std::max<int64_t>(deadline_ms, 0))) {
      return {ErrorCode::kTimedOut, "not everything that was settled is answered"};
    }
    return to_public(engine_->take_failure());
  }

  Status close(int64_t deadline_ms) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(closed_, true)) {
        return {};
      }
    }
    const int64_t until_ns = now_ns() + std::max<int64_t>(deadline_ms, 0) * kNsPerMs;
    engine_->stop();
    bool in_time = true;
    // On the I/O thread nothing would be answered while it waits.
    if (!on_io_thread()) {
      in_time = wait_for_handlers(left_ms(until_ns));
      in_time = engine_->wait_drained(left_ms(until_ns)) && in_time;
    }
    const Status failure = to_public(engine_->take_failure());
    engine_->close();
    client_->runtime().post(
        [engine = engine_, &runtime = client_->runtime()] { runtime.remove(engine.get()); });
    return in_time ? failure
                   : Status(ErrorCode::kTimedOut,
                            "not all handlers have returned, or not everything is answered");
  }

  // After close(): handlers use what the program is about to destroy, so they end first.
  void join() {
    for (std::thread& thread : std::exchange(threads_, {})) {
      if (on_io_thread() || thread.get_id() == std::this_thread::get_id()) {
        thread.detach();  // it keeps what it needs
      } else {
        thread.join();
      }
    }
  }

 private:
  static int64_t now_ns() { return tidemark::system_clock().monotonic().ns; }

  static int64_t left_ms(int64_t until_ns) {
    return std::max<int64_t>(0, (until_ns - now_ns()) / kNsPerMs);
  }

  [[nodiscard]] bool on_io_thread() const { return client_->runtime().on_thread(); }

  void handle() {
    while (true) {
      auto state = engine_->next(kHandlerWaitMs);
      if (!state.ok() && state.error().code() != tidemark::ErrorCode::kConflict) {
        break;  // closed, or options that the broker refuses: see last_error()
      }
      if (!state.ok() || *state == nullptr) {
        continue;
      }
      QueueMessage message = QueueMessageState::give(std::move(*state));
      // Of what the handler itself did with the message, and this, the first counts.
      if (options_.on_message(message)) {
        message.ack();
      } else {
        message.nack();
      }
    }
    const std::lock_guard lock(mutex_);
    --running_;
    ended_.notify_all();
  }

  bool wait_for_handlers(int64_t timeout_ms) {
    const bool is_handler = std::any_of(
        threads_.begin(), threads_.end(),
        [](const std::thread& thread) { return thread.get_id() == std::this_thread::get_id(); });
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return running_ == (is_handler ? 1U : 0U); });
  }

  std::shared_ptr<ClientImpl> client_;
  QueueOptions options_;
  std::shared_ptr<QueueEngine> engine_;
  std::vector<std::thread> threads_;  // of handlers

  std::mutex mutex_;
  std::condition_variable ended_;
  size_t running_ = 0;  // handlers
  bool closed_ = false;
};

Result<QueueConsumer> QueueConsumer::create(const Client& client, QueueOptions options) {
  Status status = check(options);
  if (!status.ok()) {
    return status;
  }
  auto impl = std::make_shared<QueueConsumerImpl>(client.impl(), std::move(options));
  impl->start();
  return QueueConsumer(std::move(impl));
}

QueueConsumer::QueueConsumer(std::shared_ptr<QueueConsumerImpl> impl) : impl_(std::move(impl)) {}

QueueConsumer::~QueueConsumer() {
  if (impl_ != nullptr) {
    static_cast<void>(impl_->close(kCloseMs));
    impl_->join();
  }
}

QueueConsumer::QueueConsumer(QueueConsumer&&) noexcept = default;

QueueConsumer& QueueConsumer::operator=(QueueConsumer&& other) noexcept {
  if (this != &other) {
    const QueueConsumer dropped(std::exchange(impl_, std::move(other.impl_)));
  }
  return *this;
}

Result<std::optional<QueueMessage>> QueueConsumer::receive(int64_t timeout_ms) {
  return impl_->receive(timeout_ms);
}

void QueueConsumer::pause() { impl_->engine().pause(true); }

void QueueConsumer::resume() { impl_->engine().pause(false); }

Status QueueConsumer::flush(int64_t deadline_ms) { return impl_->flush(deadline_ms); }

Status QueueConsumer::close(int64_t deadline_ms) { return impl_->close(deadline_ms); }

size_t QueueConsumer::in_flight() const { return impl_->engine().in_flight(); }

Status QueueConsumer::last_error() const { return to_public(impl_->engine().last_error()); }

}  // namespace tidemark::client
