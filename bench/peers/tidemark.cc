// Tidemark over its C++ client. A queue is a topic with one partition.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "tidemark/admin.h"
#include "tidemark/consumer.h"
#include "tidemark/producer.h"
#include "tidemark/transaction.h"

namespace tidemark::bench {
namespace {

constexpr int64_t kFlushMs = 20'000;

void require(const client::Status& status, std::string_view doing) {
  if (!status.ok()) {
    throw PeerError(fmt::format("tidemark: {}: {}", doing, status.to_string()));
  }
}

template <typename T>
T require(client::Result<T> result, std::string_view doing) {
  require(result.status(), doing);
  return std::move(result).value();
}

// Answers, counted on the client's thread and waited for on ours.
class Answers {
 public:
  void add(uint64_t count, const client::Status& status) {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      if (status.ok()) {
        acked_ += count;
      } else if (failure_.ok()) {
        failure_ = status;
      }
    }
    changed_.notify_one();
  }

  // Until something was added since the last call, at most `wait_us`. Throws the first failure.
  void wait(int64_t wait_us) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (acked_ == seen_ && failure_.ok() && wait_us > 0) {
      changed_.wait_for(lock, std::chrono::microseconds(wait_us));
    }
    seen_ = acked_;
    require(failure_, "answer");
  }

  // As of the last wait().
  [[nodiscard]] uint64_t seen() const { return seen_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t acked_ = 0;
  client::Status failure_;
  uint64_t seen_ = 0;
};

class TidemarkProducer : public Producer {
 public:
  TidemarkProducer(const client::Client& client, const std::string& topic)
      : producer_(require(client::Producer::create(client, options()), "producer")),
        topic_(require(producer_.topic(topic), "topic")) {
    // Brings the connection and the producer id about. Readers leave out what has no stamp.
    client::Message message;
    message.value = std::nullopt;
    require(producer_.send(topic_, message, kWarmUp), "send");
    require(producer_.flush(kFlushMs).status, "first message");
  }

  void send(std::string_view value, int64_t due_ms) override {
    client::Message message;
    message.value = value;
    if (due_ms > 0) {
      message.delay = client::Delay::at(due_ms);
    }
    require(producer_.send(topic_, message, kCounted), "send");
  }

  void pump(int64_t wait_us) override { answers_.wait(wait_us); }

  [[nodiscard]] uint64_t acked() const override { return answers_.seen(); }

 private:
  static constexpr uint64_t kWarmUp = 0;
  static constexpr uint64_t kCounted = 1;

  client::ProducerOptions options() {
    client::ProducerOptions out;
    out.linger_ms = 0;
    out.on_delivery = [this](const client::DeliveryBatch& batch) {
      if (batch.opaques.front() == kWarmUp) {
        return;
      }
      const auto refused = std::ranges::find_if(
          batch.receipts, [](const client::DelayReceipt& receipt) { return !receipt.status.ok(); });
      answers_.add(batch.opaques.size(),
                   refused == batch.receipts.end() ? batch.status : refused->status);
    };
    return out;
  }

  Answers answers_;
  client::Producer producer_;  // after what its callbacks use
  client::Topic topic_;
};

// Each message is a transaction, driven by the answers: stored, then committed.
class TidemarkTransactions : public Producer {
 public:
  TidemarkTransactions(const client::Client& client, std::string topic)
      : topic_(std::move(topic)),
        producer_(require(client::TransactionProducer::create(client, {.group = "bench"}),
                          "producer of transactions")) {}

  void send(std::string_view value, int64_t) override {
    client::Message message;
    message.value = value;
    // Shared with the callbacks, the last of which ends it.
    const auto txn = std::make_shared<client::Transaction>(producer_.begin());
    require(txn->send(topic_, message), "send");
    txn->prepare([this, txn](const client::Status& status) {
      if (!status.ok()) {
        answers_.add(0, status);
        return;
      }
      txn->commit([this, txn](const client::TransactionEnd& end) { answers_.add(1, end.status); });
    });
  }

  void pump(int64_t wait_us) override { answers_.wait(wait_us); }

  [[nodiscard]] uint64_t acked() const override { return answers_.seen(); }

 private:
  std::string topic_;
  Answers answers_;
  client::TransactionProducer producer_;
};

class TidemarkConsumer : public Consumer {
 public:
  TidemarkConsumer(const client::Client& client, const std::string& topic)
      : consumer_(require(client::Consumer::create(client), "consumer")) {
    require(consumer_.assign({{.topic = topic}}), "assign");
  }

  void poll(int64_t wait_ms, const Sink& sink) override {
    const client::MessageBatch batch = require(consumer_.poll(wait_ms), "poll");
    for (const client::ReceivedMessage& message : batch.messages) {
      sink(message.value.value_or(std::string_view()));
    }
  }

 private:
  client::Consumer consumer_;
};

class TidemarkAdapter : public Adapter {
 public:
  explicit TidemarkAdapter(const Endpoint& endpoint)
      : client_(require(
            client::Client::create({.brokers = {fmt::format("127.0.0.1:{}", endpoint.port)}}),
            "client")) {}

  [[nodiscard]] std::string why_not(QueueKind) const override { return ""; }

  [[nodiscard]] std::string notes() const override {
    return "C++ client; 1 partition, linger 0, idempotent producer; consumer without group, "
           "nothing acknowledged";
  }

  void create_queue(const std::string& queue, QueueKind, int64_t) override {
    require(client::Admin(client_).create_topic(queue, 1).status(), "creating the topic");
  }

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind kind, uint32_t) override {
    if (kind == QueueKind::kTransactional) {
      return std::make_unique<TidemarkTransactions>(client_, queue);
    }
    return std::make_unique<TidemarkProducer>(client_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind, Reading) override {
    return std::make_unique<TidemarkConsumer>(client_, queue);
  }

 private:
  client::Client client_;
};

}  // namespace

std::unique_ptr<Adapter> tidemark_adapter(const Endpoint& endpoint) {
  return std::make_unique<TidemarkAdapter>(endpoint);
}

}  // namespace tidemark::bench
