#include "tidemark/producer.h"

#include <algorithm>

#include "clients/cpp/src/client_impl.h"
#include "clients/cpp/src/option_range.h"

namespace tidemark::client {

using client_core::Batcher;
using client_core::check_ranges;
using client_core::kHourMs;
using client_core::kNsPerMs;
using client_core::OptionRange;
using client_core::ProduceEngine;
using client_core::to_public;
using client_core::TopicQueue;

namespace {

constexpr int64_t kAgeParts =
    16;  // an open batch that cannot leave is sealed after this part of the delivery timeout

Status check(const ProducerOptions& options) {
  const OptionRange ranges[] = {
      {"buffer_bytes_max", static_cast<int64_t>(options.buffer_bytes_max), 64 << 10,
       int64_t{1} << 40},
      {"buffer_messages_max", static_cast<int64_t>(options.buffer_messages_max), 1,
       int64_t{1} << 32},
      {"overflow.block_ms", options.overflow.block_ms, 0, 24 * kHourMs},
      {"batch_bytes", static_cast<int64_t>(options.batch_bytes), 1 << 10, 1 << 20},
      {"linger_ms", options.linger_ms, 0, kHourMs},
      {"compression_level", options.compression_level, 1, 19},
      {"in_flight_per_partition_max", options.in_flight_per_partition_max, 1, 5},
      {"delivery_timeout_ms", options.delivery_timeout_ms, 1, 24 * kHourMs},
      {"retry_backoff_min_ms", options.retry_backoff_min_ms, 1, kHourMs},
      {"retry_backoff_max_ms", options.retry_backoff_max_ms, options.retry_backoff_min_ms, kHourMs},
      {"close_timeout_ms", options.close_timeout_ms, 0, 24 * kHourMs},
  };
  return check_ranges(ranges);
}

Status on_io_thread_error(std::string_view call) {
  return {ErrorCode::kInvalidArgument,
          std::string(call) + " waits and cannot be called in a callback"};
}

}  // namespace

class ProducerImpl {
 public:
  ProducerImpl(std::shared_ptr<ClientImpl> client, const ProducerOptions& options)
      : client_(std::move(client)), close_timeout_ms_(options.close_timeout_ms) {
    const client_core::BatcherOptions batcher{
        .buffer_bytes_max = options.buffer_bytes_max,
        .buffer_messages_max = options.buffer_messages_max,
        .overflow = options.overflow,
        .batch_bytes = options.batch_bytes,
        .linger_ns = options.linger_ms * kNsPerMs,
        .batch_age_ns_max =
            std::max(options.linger_ms, options.delivery_timeout_ms / kAgeParts) * kNsPerMs};
    // Only append() and flush_point() wake, and while this object lives, so does the runtime.
    batcher_ = std::make_shared<Batcher>(
        batcher, system_clock(), [runtime = client_->shared_runtime().get()] { runtime->wake(); });
    client_core::EngineOptions engine;
    engine.window = {.batches_max = options.idempotent ? options.in_flight_per_partition_max : 1,
                     .idempotent = options.idempotent,
                     .fail_fast_on_disk_full = options.fail_fast_on_disk_full,
                     .codec = options.compression == Compression::kZstd ? format::Codec::kZstd
                                                                        : format::Codec::kNone,
                     .zstd_level = options.compression_level,
                     .backoff_min_ns = options.retry_backoff_min_ms * kNsPerMs,
                     .backoff_max_ns = options.retry_backoff_max_ms * kNsPerMs};
    engine.delivery_timeout_ns = options.delivery_timeout_ms * kNsPerMs;
    engine.on_delivery = options.on_delivery;
    engine_ =
        std::make_shared<ProduceEngine>(std::move(engine), batcher_, client_->runtime().cluster(),
                                        client_->options().executor, seed_from_system());
    client_->runtime().post(
        [engine = engine_, &runtime = client_->runtime()] { runtime.add(engine); });
  }

  ~ProducerImpl() {
    if (client_->runtime().on_thread()) {
      batcher_->close();
      client_->runtime().post(
          [engine = engine_] { static_cast<void>(engine->hand_back(~uint64_t{0}, true)); });
    } else {
      static_cast<void>(close(close_timeout_ms_));
    }
    client_->runtime().post(
        [engine = engine_, &runtime = client_->runtime()] { runtime.remove(engine.get()); });
  }

  ProducerImpl(const ProducerImpl&) = delete;
  ProducerImpl& operator=(const ProducerImpl&) = delete;

  tidemark::Result<TopicQueue*> topic(std::string_view name) { return batcher_->topic(name); }

  Status send(TopicQueue& topic, const Message& message, uint64_t opaque,
              DeliveryCallback* callback) {
    return to_public(
        batcher_->append(topic, message, opaque, callback, !client_->runtime().on_thread()));
  }

  FlushResult flush(int64_t deadline_ms, bool give_up) {
    FlushResult result;
    if (client_->runtime().on_thread()) {
      result.status = on_io_thread_error(give_up ? "close()" : "flush()");
      return result;
    }
    const uint64_t generation = batcher_->flush_point();
    const bool all = batcher_->wait_released(generation, std::max<int64_t>(deadline_ms, 0));
    if (!all) {
      using List = std::vector<Undelivered>;
      result.undelivered = client_->on_io_thread<List>(
          [engine = engine_, generation, give_up](client_core::Runtime&) {
            return engine->hand_back(generation, give_up);
          });
    }
    const Batcher::Failures failures = batcher_->take_failures();
    result.failed = failures.count;
    result.status = to_public(failures.first);
    if (!result.undelivered.empty()) {
      result.status = Status(ErrorCode::kTimedOut, std::to_string(result.undelivered.size()) +
                                                       " messages not delivered within " +
                                                       std::to_string(deadline_ms) + " ms; " +
                                                       result.undelivered.front().why.to_string());
    }
    return result;
  }

  FlushResult close(int64_t deadline_ms) {
    if (!client_->runtime().on_thread()) {
      if (closed_.exchange(true)) {
        return {};
      }
      batcher_->close();
    }
    return flush(deadline_ms, /*give_up=*/true);
  }

  [[nodiscard]] ProducerStats stats() const { return batcher_->stats(); }

 private:
  std::shared_ptr<ClientImpl> client_;
  int64_t close_timeout_ms_;
  std::atomic<bool> closed_ = false;
  std::shared_ptr<Batcher> batcher_;
  std::shared_ptr<ProduceEngine> engine_;
};

Result<Producer> Producer::create(const Client& client, ProducerOptions options) {
  Status status = check(options);
  if (!status.ok()) {
    return status;
  }
  return Producer(std::make_unique<ProducerImpl>(client.impl(), options));
}

Producer::Producer(std::unique_ptr<ProducerImpl> impl) : impl_(std::move(impl)) {}

Producer::~Producer() = default;
Producer::Producer(Producer&&) noexcept = default;
Producer& Producer::operator=(Producer&&) noexcept = default;

Result<Topic> Producer::topic(std::string_view name) {
  const auto found = impl_->topic(name);
  if (!found.ok()) {
    return to_public(found.error());
  }
  return Topic(*found);
}

Status Producer::send(const Topic& topic, const Message& message, uint64_t opaque) {
  if (topic.slot_ == nullptr) {
    return {ErrorCode::kInvalidArgument, "the Topic was not made by Producer::topic()"};
  }
  return impl_->send(*static_cast<TopicQueue*>(topic.slot_), message, opaque, nullptr);
}

Status Producer::send(const Topic& topic, const Message& message, DeliveryCallback callback) {
  if (topic.slot_ == nullptr) {
    return {ErrorCode::kInvalidArgument, "the Topic was not made by Producer::topic()"};
  }
  return impl_->send(*static_cast<TopicQueue*>(topic.slot_), message, 0, &callback);
}

Status Producer::send(std::string_view topic, const Message& message, DeliveryCallback callback) {
  const auto found = impl_->topic(topic);
  if (!found.ok()) {
    return to_public(found.error());
  }
  return impl_->send(**found, message, 0, &callback);
}

std::future<Delivery> Producer::send_future(std::string_view topic, const Message& message) {
  auto promise = std::make_shared<std::promise<Delivery>>();
  std::future<Delivery> future = promise->get_future();
  const Status accepted =
      send(topic, message, [promise](const Delivery& delivery) { promise->set_value(delivery); });
  if (!accepted.ok()) {
    Delivery refused;
    refused.status = accepted;
    promise->set_value(std::move(refused));
  }
  return future;
}

FlushResult Producer::flush(int64_t deadline_ms) {
  return impl_->flush(deadline_ms, /*give_up=*/false);
}

FlushResult Producer::close(int64_t deadline_ms) { return impl_->close(deadline_ms); }

ProducerStats Producer::stats() const { return impl_->stats(); }

}  // namespace tidemark::client
