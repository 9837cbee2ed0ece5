#include "tidemark/consumer.h"

#include <algorithm>
#include <mutex>

#include "clients/cpp/src/chunk_reader.h"
#include "clients/cpp/src/client_impl.h"
#include "clients/cpp/src/fetcher.h"
#include "clients/cpp/src/option_range.h"

namespace tidemark::client {

using client_core::Chunk;
using client_core::ChunkReader;
using client_core::Fetcher;
using client_core::to_public;

namespace {

// A batch given to the program has about this many messages: few enough to stay in the cache, many
// enough to be cheap each.
constexpr size_t kMessagesPerBatch = 512;
// Batches given to the callback before the I/O thread looks after its connections again.
constexpr size_t kBatchesPerTurn = 16;

Status check(const ConsumerOptions& options) {
  const auto bad = [](std::string_view name, int64_t value, int64_t low, int64_t high) {
    return Status(ErrorCode::kInvalidArgument, std::string(name) + " is " + std::to_string(value) +
                                                   "; allowed are " + std::to_string(low) + " to " +
                                                   std::to_string(high));
  };
  const auto prefetch = static_cast<int64_t>(options.prefetch_bytes_max);
  if (prefetch < (64 << 10) || prefetch > (1 << 30)) {
    return bad("prefetch_bytes_max", prefetch, 64 << 10, 1 << 30);
  }
  const auto fetch = static_cast<int64_t>(options.fetch_bytes_per_partition);
  if (fetch < (4 << 10) || fetch > static_cast<int64_t>(limits::kFetchBytesMax)) {
    return bad("fetch_bytes_per_partition", fetch, 4 << 10, limits::kFetchBytesMax);
  }
  if (options.fetch_wait_ms < 0 || options.fetch_wait_ms > limits::kFetchWaitMsMax) {
    return bad("fetch_wait_ms", options.fetch_wait_ms, 0, limits::kFetchWaitMsMax);
  }
  return client_core::check_filter(options.tags, options.filter);
}

}  // namespace

class ConsumerImpl : public std::enable_shared_from_this<ConsumerImpl> {
 public:
  ConsumerImpl(std::shared_ptr<ClientImpl> client, ConsumerOptions options)
      : client_(std::move(client)), options_(std::move(options)) {}

  ConsumerImpl(const ConsumerImpl&) = delete;
  ConsumerImpl& operator=(const ConsumerImpl&) = delete;

  void start() {
    std::function<void()> arrived;
    if (options_.on_messages) {
      arrived = [weak = weak_from_this()] {
        if (const auto self = weak.lock()) {
          self->schedule_delivery();
        }
      };
    }
    const client_core::FetcherOptions fetch{
        .prefetch_bytes_max = options_.prefetch_bytes_max,
        .fetch_bytes_per_partition = options_.fetch_bytes_per_partition,
        .fetch_wait_ms = options_.fetch_wait_ms,
        .out_of_range = options_.out_of_range,
        .tags = options_.tags,
        .filter = options_.filter};
    // The executor may run a delivery after the client is gone, so the wake-up must not outlive the
    // runtime.
    fetcher_ = std::make_shared<Fetcher>(
        fetch, client_->runtime().cluster(),
        [weak = std::weak_ptr(client_->shared_runtime())] {
          if (const auto runtime = weak.lock()) {
            runtime->wake();
          }
        },
        std::move(arrived), tidemark::seed_from_system());
    client_->runtime().post(
        [fetcher = fetcher_, &runtime = client_->runtime()] { runtime.add(fetcher); });
  }

  [[nodiscard]] Fetcher& fetcher() { return *fetcher_; }

  Result<MessageBatch> poll(int64_t timeout_ms) {
    if (options_.on_messages) {
      return Status(ErrorCode::kInvalidArgument, "poll() cannot be used together with on_messages");
    }
    if (timeout_ms > 0 && client_->runtime().on_thread()) {
      return Status(ErrorCode::kInvalidArgument, "poll() waits and cannot be called in a callback");
    }
    return next(timeout_ms);
  }

  void close() {
    fetcher_->close();
    client_->runtime().post(
        [fetcher = fetcher_, &runtime = client_->runtime()] { runtime.remove(fetcher.get()); });
    // Wait for a callback that is running elsewhere.
    std::unique_lock lock(delivery_mutex_);
    closed_ = true;
    delivery_ended_.wait(
        lock, [this] { return !delivering_ || delivering_thread_ == std::this_thread::get_id(); });
  }

 private:
  // The next batch or error; an empty batch when nothing came.
  Result<MessageBatch> next(int64_t timeout_ms) {
    tidemark::Clock& clock = tidemark::system_clock();
    const int64_t until_ns = clock.monotonic().ns + timeout_ms * client_core::kNsPerMs;
    while (true) {
      if (current_.has_value()) {
        Result<MessageBatch> batch = read_current();
        if (!batch.ok() || !batch->messages.empty()) {
          return batch;
        }
        continue;
      }
      const int64_t left_ns = until_ns - clock.monotonic().ns;
      const int64_t left_ms = (left_ns + client_core::kNsPerMs - 1) / client_core::kNsPerMs;
      auto chunk = fetcher_->next_chunk(std::max<int64_t>(0, left_ms));
      if (!chunk.ok()) {
        return to_public(chunk.error());
      }
      if (!chunk->has_value()) {
        return MessageBatch{};
      }
      if (!(**chunk).error.ok()) {
        return to_public((**chunk).error);
      }
      current_ = std::move(**chunk);
      reader_.open(current_->bytes, current_->from);
    }
  }

  // Messages of the current chunk; empty when it turns out to be used up or void.
  Result<MessageBatch> read_current() {
    switch (fetcher_->use_of(*current_)) {
      case Fetcher::Use::kDrop:
        current_.reset();
        return MessageBatch{};
      case Fetcher::Use::kHold:
        current_->bytes = reader_.rest();
        current_->from = std::max(current_->from, reader_.next_offset());
        fetcher_->put_back(std::move(*current_));
        current_.reset();
        return MessageBatch{};
      case Fetcher::Use::kShow:
        break;
    }
    if (pending_error_.ok() && reader_.done()) {
      // Offsets may have gaps: go on where the broker said.
      static_cast<void>(fetcher_->advance(*current_, current_->next_offset));
      fetcher_->release(*current_);
      current_.reset();
      return MessageBatch{};
    }
    tidemark::Status status = std::exchange(pending_error_, {});
    if (status.ok()) {
      status = reader_.read(kMessagesPerBatch);
      if (!status.ok() && !reader_.messages().empty()) {
        pending_error_ = std::exchange(status, {});  // what is good comes first
      }
    }
    if (!status.ok()) {
      const tidemark::Status error(status.code(), "topic \"" + current_->topic + "\" partition " +
                                                      std::to_string(current_->partition) +
                                                      " at offset " +
                                                      std::to_string(reader_.next_offset()) + ": " +
                                                      std::string(status.context()));
      fetcher_->stop(*current_);
      current_.reset();
      return to_public(error);
    }
    const bool last = reader_.done() && pending_error_.ok();
    const uint64_t next_offset = last ? current_->next_offset : reader_.next_offset();
    if (!fetcher_->advance(*current_, next_offset)) {
      current_.reset();
      return MessageBatch{};
    }
    topic_ = current_->topic;
    return MessageBatch{.topic = topic_,
                        .partition = current_->partition,
                        .messages = reader_.messages(),
                        .next_offset = next_offset,
                        .high_watermark = current_->high_watermark};
  }

  // --- callback style ---

  void schedule_delivery() {
    {
      const std::lock_guard lock(delivery_mutex_);
      again_ = true;
      if (closed_ || scheduled_) {
        return;
      }
      scheduled_ = true;
    }
    auto task = [self = shared_from_this()] { self->deliver(); };
    if (client_->options().executor) {
      client_->options().executor(std::move(task));
    } else {
      client_->runtime().post(std::move(task));
    }
  }

  void deliver() {
    bool more = true;
    for (size_t i = 0; more && i < kBatchesPerTurn; ++i) {
      {
        const std::lock_guard lock(delivery_mutex_);
        if (closed_) {
          scheduled_ = false;
          return;
        }
        again_ = false;
        delivering_ = true;
        delivering_thread_ = std::this_thread::get_id();
      }
      const Result<MessageBatch> batch = next(0);
      more = !batch.ok() ? batch.status().code() != ErrorCode::kShuttingDown &&
                               batch.status().code() != ErrorCode::kInvalidArgument
                         : !batch->messages.empty();
      if (more) {
        options_.on_messages(batch);
      }
      const std::lock_guard lock(delivery_mutex_);
      delivering_ = false;
      delivering_thread_ = {};
      delivery_ended_.notify_all();
    }
    bool go_on = more;
    {
      const std::lock_guard lock(delivery_mutex_);
      go_on = (go_on || again_) && !closed_;
      scheduled_ = false;
    }
    if (go_on) {
      schedule_delivery();
    }
  }

  std::shared_ptr<ClientImpl> client_;
  ConsumerOptions options_;
  std::shared_ptr<Fetcher> fetcher_;

  // Of the thread in poll(), or of the delivery.
  std::optional<Chunk> current_;
  ChunkReader reader_;
  tidemark::Status pending_error_;
  std::string topic_;

  std::mutex delivery_mutex_;
  std::condition_variable delivery_ended_;
  bool scheduled_ = false;
  bool again_ = false;
  bool delivering_ = false;
  std::thread::id delivering_thread_;
  bool closed_ = false;
};

Result<Consumer> Consumer::create(const Client& client, ConsumerOptions options) {
  Status status = check(options);
  if (!status.ok()) {
    return status;
  }
  auto impl = std::make_shared<ConsumerImpl>(client.impl(), std::move(options));
  impl->start();
  return Consumer(std::move(impl));
}

Consumer::Consumer(std::shared_ptr<ConsumerImpl> impl) : impl_(std::move(impl)) {}

Consumer::~Consumer() {
  if (impl_ != nullptr) {
    impl_->close();
  }
}

Consumer::Consumer(Consumer&&) noexcept = default;

Consumer& Consumer::operator=(Consumer&& other) noexcept {
  if (impl_ != nullptr && this != &other) {
    impl_->close();
  }
  impl_ = std::move(other.impl_);
  return *this;
}

Status Consumer::assign(const std::vector<Assignment>& assignment) {
  return to_public(impl_->fetcher().assign(assignment));
}

Status Consumer::add(const std::vector<Assignment>& assignment) {
  return to_public(impl_->fetcher().add(assignment));
}

Status Consumer::remove(std::string_view topic, uint32_t partition) {
  return to_public(impl_->fetcher().remove(topic, partition));
}

Result<MessageBatch> Consumer::poll(int64_t timeout_ms) { return impl_->poll(timeout_ms); }

Status Consumer::seek(std::string_view topic, uint32_t partition, Position position) {
  return to_public(impl_->fetcher().seek(topic, partition, position));
}

Status Consumer::pause(std::string_view topic, uint32_t partition) {
  return to_public(impl_->fetcher().pause(topic, partition, true));
}

Status Consumer::resume(std::string_view topic, uint32_t partition) {
  return to_public(impl_->fetcher().pause(topic, partition, false));
}

Result<uint64_t> Consumer::position(std::string_view topic, uint32_t partition) const {
  const auto found = impl_->fetcher().position(topic, partition);
  if (!found.ok()) {
    return to_public(found.error());
  }
  return *found;
}

Status Consumer::last_error() const { return to_public(impl_->fetcher().last_error()); }

void Consumer::close() { impl_->close(); }

}  // namespace tidemark::client
