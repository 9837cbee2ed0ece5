#include "tidemark/transaction.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "clients/cpp/src/call.h"
#include "clients/cpp/src/client_impl.h"
#include "clients/cpp/src/option_range.h"
#include "clients/cpp/src/txn_checks.h"
#include "clients/cpp/src/txn_engine.h"
#include "log/base/clock.h"

namespace tidemark::client {

using client_core::CheckGate;
using client_core::CheckThread;
using client_core::Cluster;
using client_core::EndWaiter;
using client_core::Identity;
using client_core::kHourMs;
using client_core::kNsPerMs;
using client_core::OptionRange;
using client_core::PrepareWaiter;
using client_core::Promise;
using client_core::Runtime;
using client_core::to_public;
using client_core::Txn;
using client_core::TxnBuffer;
using client_core::TxnBufferOptions;
using client_core::TxnChecks;
using client_core::TxnEngine;
namespace fbs = protocol::fbs;

namespace {

Status check(const TransactionOptions& options) {
  for (const auto& [name, text, bytes_min] :
       {std::tuple("group", &options.group, size_t{1}),
        std::tuple("instance", &options.instance, size_t{0})}) {
    Status status = to_public(client_core::check_txn_text(name, *text, bytes_min));
    if (!status.ok()) {
      return status;
    }
  }
  const OptionRange ranges[] = {
      {"check_deadline_ms", options.check_deadline_ms, 1, 24 * kHourMs},
      {"timeout_ms", options.timeout_ms, limits::kTxnTimeoutMsMin, limits::kTxnTimeoutMsMax},
      {"buffer_bytes_max", static_cast<int64_t>(options.buffer_bytes_max), 64 << 10,
       int64_t{1} << 40},
      {"open_max", static_cast<int64_t>(options.open_max), 1, limits::kTxnOpenPerShardMax},
      {"batch_bytes", static_cast<int64_t>(options.batch_bytes), 1 << 10, 1 << 20},
      {"compression_level", options.compression_level, 1, 19},
      {"delivery_timeout_ms", options.delivery_timeout_ms, 1, 24 * kHourMs},
      {"retry_backoff_min_ms", options.retry_backoff_min_ms, 1, kHourMs},
      {"retry_backoff_max_ms", options.retry_backoff_max_ms, options.retry_backoff_min_ms, kHourMs},
      {"close_timeout_ms", options.close_timeout_ms, 0, 24 * kHourMs},
  };
  return client_core::check_ranges(ranges);
}

Status on_io_thread_error(std::string_view call) {
  return {ErrorCode::kInvalidArgument,
          std::string(call) + " waits and cannot be called in a callback"};
}

TxnBufferOptions buffer_options(const TransactionOptions& options, Identity identity) {
  return {.group = options.group,
          .identity = identity,
          .timeout_ms = options.timeout_ms,
          .buffer_bytes_max = options.buffer_bytes_max,
          .open_max = options.open_max,
          .batch_bytes = options.batch_bytes,
          .codec = options.compression == Compression::kZstd ? format::Codec::kZstd
                                                             : format::Codec::kNone,
          .zstd_level = options.compression_level,
          .delivery_timeout_ms = options.delivery_timeout_ms};
}

}  // namespace

// Lives as long as the TransactionProducer and every Transaction of it.
class TransactionProducerImpl {
 public:
  TransactionProducerImpl(std::shared_ptr<ClientImpl> client, const TransactionOptions& options,
                          Identity identity)
      : client_(std::move(client)), close_timeout_ms_(options.close_timeout_ms) {
    // Only calls of the program wake and post, and while this object lives, so does the runtime.
    Runtime* const runtime = client_->shared_runtime().get();
    buffer_ = std::make_shared<TxnBuffer>(
        buffer_options(options, identity), system_clock(),
        TxnBuffer::Hooks{
            .wake = [runtime] { runtime->wake(); },
            .post = [runtime](std::function<void()> task) { runtime->post(std::move(task)); },
            .dispatch = client_->options().executor});
    engine_ = std::make_shared<TxnEngine>(
        client_core::TxnEngineOptions{.backoff_min_ns = options.retry_backoff_min_ms * kNsPerMs,
                                      .backoff_max_ns = options.retry_backoff_max_ms * kNsPerMs},
        buffer_, runtime->cluster(), seed_from_system());
    if (options.check) {
      make_checks(options);
    }
    runtime->post([engine = engine_, checks = checks_, runtime] {
      runtime->add(engine);
      if (checks != nullptr) {
        runtime->add(checks);
      }
    });
  }

  ~TransactionProducerImpl() {
    client_->runtime().post([engine = engine_, checks = checks_, &runtime = client_->runtime()] {
      runtime.remove(engine.get());
      runtime.remove(checks.get());
    });
  }

  TransactionProducerImpl(const TransactionProducerImpl&) = delete;
  TransactionProducerImpl& operator=(const TransactionProducerImpl&) = delete;

  [[nodiscard]] TxnBuffer& buffer() { return *buffer_; }

  [[nodiscard]] bool on_io_thread() const { return client_->runtime().on_thread(); }

  Status close(int64_t deadline_ms) {
    if (on_io_thread()) {
      return on_io_thread_error("close()");
    }
    if (closed_.exchange(true)) {
      return {};
    }
    buffer_->close();
    const int64_t until_ns = system_clock().monotonic().ns + deadline_ms * kNsPerMs;
    const auto left_ms = [until_ns] {
      return std::max<int64_t>(0, (until_ns - system_clock().monotonic().ns) / kNsPerMs);
    };
    const bool checked = gate_->close(left_ms());
    const bool ended = buffer_->wait_ends(left_ms());
    const auto given_up =
        client_->on_io_thread<size_t>([engine = engine_, checks = checks_](Runtime&) {
          if (checks != nullptr) {
            checks->stop();
          }
          return engine->give_up();
        });
    buffer_->silence();
    if (!ended) {
      return {ErrorCode::kTimedOut, std::to_string(given_up) + " ends not answered within " +
                                        std::to_string(deadline_ms) + " ms"};
    }
    return checked ? Status()
                   : Status(ErrorCode::kTimedOut, "the check function still runs after " +
                                                      std::to_string(deadline_ms) + " ms");
  }

  // The producer object goes away. A check that still runs is waited for: it may use what the
  // program destroys next.
  void shut_down() {
    if (!on_io_thread()) {
      static_cast<void>(close(close_timeout_ms_));
      thread_.reset();
      return;
    }
    if (closed_.exchange(true)) {
      return;
    }
    // Nothing may be waited for here.
    buffer_->close();
    static_cast<void>(gate_->close(0));
    if (thread_ != nullptr) {
      thread_->detach();
    }
    client_->runtime().post([engine = engine_, checks = checks_, buffer = buffer_] {
      if (checks != nullptr) {
        checks->stop();
      }
      static_cast<void>(engine->give_up());
      buffer->silence();
    });
  }

 private:
  void make_checks(const TransactionOptions& options) {
    TxnChecks::Hooks hooks;
    if (client_->options().executor) {
      hooks.run = client_->options().executor;
    } else {
      thread_ = std::make_shared<CheckThread>();
      hooks.run = [thread = std::weak_ptr<CheckThread>(thread_)](TxnChecks::Task task) {
        if (const auto alive = thread.lock()) {
          alive->run(std::move(task));
        }
      };
    }
    // A check may outlive everything but the runtime.
    hooks.post = [runtime = client_->shared_runtime()](TxnChecks::Task task) {
      runtime->post(std::move(task));
    };
    hooks.count = [buffer = buffer_](bool unknown) { buffer->count_check(unknown); };
    checks_ = std::make_shared<TxnChecks>(
        client_core::TxnCheckOptions{.group = options.group,
                                     .check = options.check,
                                     .deadline_ms = options.check_deadline_ms},
        client_->runtime().cluster(), gate_, std::move(hooks), seed_from_system());
  }

  std::shared_ptr<ClientImpl> client_;
  int64_t close_timeout_ms_;
  std::atomic<bool> closed_ = false;
  std::shared_ptr<TxnBuffer> buffer_;
  std::shared_ptr<TxnEngine> engine_;
  std::shared_ptr<CheckGate> gate_ = std::make_shared<CheckGate>();
  std::shared_ptr<CheckThread> thread_;
  std::shared_ptr<TxnChecks> checks_;
};

struct TransactionState {
  std::shared_ptr<TransactionProducerImpl> producer;
  std::shared_ptr<Txn> txn;

  ~TransactionState() { producer->buffer().drop(txn); }
};

// --- Transaction ---

Transaction::Transaction(std::shared_ptr<TransactionState> state) : state_(std::move(state)) {}

Transaction::~Transaction() = default;
Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;

Status Transaction::send(std::string_view topic, const Message& message) {
  return to_public(state_->producer->buffer().send(state_->txn, topic, message));
}

Status Transaction::prepare(int64_t deadline_ms) {
  if (state_->producer->on_io_thread()) {
    return on_io_thread_error("prepare()");
  }
  auto promise = std::make_shared<Promise<Status>>();
  PrepareWaiter waiter;
  waiter.callback = [promise](const Status& status) { promise->set(status); };
  waiter.direct = true;
  state_->producer->buffer().prepare(state_->txn, std::move(waiter), deadline_ms);
  return promise->wait();
}

void Transaction::prepare(std::function<void(const Status&)> callback) {
  PrepareWaiter waiter;
  waiter.callback = std::move(callback);
  state_->producer->buffer().prepare(state_->txn, std::move(waiter), -1);
}

namespace {

TransactionEnd end_and_wait(TransactionState& state, bool commit, int64_t deadline_ms) {
  if (state.producer->on_io_thread()) {
    return {.status = on_io_thread_error(commit ? "commit()" : "rollback()"), .id = {}};
  }
  auto promise = std::make_shared<Promise<TransactionEnd>>();
  EndWaiter waiter;
  waiter.callback = [promise](const TransactionEnd& end) { promise->set(end); };
  waiter.direct = true;
  state.producer->buffer().end(state.txn, commit, std::move(waiter), deadline_ms);
  return promise->wait();
}

void end_later(TransactionState& state, bool commit, EndCallback callback) {
  EndWaiter waiter;
  waiter.callback = std::move(callback);
  state.producer->buffer().end(state.txn, commit, std::move(waiter), -1);
}

}  // namespace

TransactionEnd Transaction::commit(int64_t deadline_ms) {
  return end_and_wait(*state_, true, deadline_ms);
}

void Transaction::commit(EndCallback callback) { end_later(*state_, true, std::move(callback)); }

TransactionEnd Transaction::rollback(int64_t deadline_ms) {
  return end_and_wait(*state_, false, deadline_ms);
}

void Transaction::rollback(EndCallback callback) { end_later(*state_, false, std::move(callback)); }

TransactionId Transaction::id() const { return TxnBuffer::id(*state_->txn); }

// --- TransactionProducer ---

Result<TransactionProducer> TransactionProducer::create(const Client& client,
                                                        TransactionOptions options,
                                                        int64_t deadline_ms) {
  Status status = check(options);
  if (!status.ok()) {
    return status;
  }
  client_core::Call call(client, deadline_ms);
  if (!call.check().ok()) {
    return to_public(call.check());
  }
  flatbuffers::FlatBufferBuilder builder(256);
  const auto group = builder.CreateString(options.group);
  const auto instance = builder.CreateString(options.instance);
  builder.Finish(fbs::CreateInitProducer(builder, group, instance));
  // An identity asked for twice is raised twice; the last one counts.
  const client_core::Reply reply =
      call.ask(protocol::FrameType::kInitProducer, client_core::finished_copy(builder),
               Cluster::Repeat::kAlways);
  if (!reply.status.ok()) {
    return to_public(reply.status);
  }
  const auto& table = client_core::table_of<fbs::InitProducerReply>(reply);
  if (table.producer_id() == 0 || table.epoch() < 0) {
    return Status(ErrorCode::kMalformed, "InitProducer gave no identity");
  }
  return TransactionProducer(std::make_shared<TransactionProducerImpl>(
      client.impl(), options, Identity{.id = table.producer_id(), .epoch = table.epoch()}));
}

TransactionProducer::TransactionProducer(std::shared_ptr<TransactionProducerImpl> impl)
    : impl_(std::move(impl)) {}

TransactionProducer::~TransactionProducer() {
  if (impl_ != nullptr) {
    impl_->shut_down();
  }
}

TransactionProducer::TransactionProducer(TransactionProducer&&) noexcept = default;

TransactionProducer& TransactionProducer::operator=(TransactionProducer&& other) noexcept {
  if (this != &other) {
    if (impl_ != nullptr) {
      impl_->shut_down();
    }
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Transaction TransactionProducer::begin(BeginOptions options) {
  auto state = std::make_shared<TransactionState>();
  state->producer = impl_;
  state->txn = impl_->buffer().begin(std::move(options));
  return Transaction(std::move(state));
}

Status TransactionProducer::close(int64_t deadline_ms) { return impl_->close(deadline_ms); }

TransactionStats TransactionProducer::stats() const { return impl_->buffer().stats(); }

}  // namespace tidemark::client
