// RocketMQ over its remoting protocol. A queue is a topic with one queue.
//
// The protocol is spoken here, not its Java client through a driver: so the messages, the clock and
// the counting are the same code for every system, and no second virtual machine shares the cores.
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "bench/peers/rocketmq_protocol.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr const char* kGroup = "bench";
constexpr int kHalfMessage = 4;  // system flags
constexpr int kCommit = 8;
constexpr size_t kBatchBytesMax = size_t{512} << 10;
constexpr int kPullCount = 32;  // the broker gives no more at once by default

std::string number(int64_t value) { return fmt::format("{}", value); }

RocketFields send_fields(const std::string& topic, int system_flag, const RocketFields& properties,
                         bool batch) {
  return {{"a", kGroup},
          {"b", topic},
          {"c", "TBW102"},
          {"d", "1"},
          {"e", "0"},
          {"f", number(system_flag)},
          {"g", number(system_clock().wall().ms)},
          {"h", "0"},
          {"i", rocket_properties(properties)},
          {"j", "0"},
          {"k", "false"},
          {"m", batch ? "true" : "false"}};
}

// Plain messages travel in batches of those that were taken since the last pump(); delayed ones
// cannot.
class RocketProducer : public Producer {
 public:
  RocketProducer(const Endpoint& endpoint, std::string topic)
      : connection_(endpoint.port), topic_(std::move(topic)) {}

  void send(std::string_view value, int64_t due_ms) override {
    if (due_ms > 0) {
      const int32_t opaque = connection_.request(
          RocketCode::kSendMessage,
          send_fields(topic_, 0, {{"TIMER_DELIVER_MS", number(due_ms)}}, false), value);
      open_[opaque] = 1;
      return;
    }
    append_batched(batch_, value);
    ++batched_;
    if (batch_.size() >= kBatchBytesMax) {
      send_batch();
    }
  }

  void pump(int64_t wait_us) override {
    send_batch();
    connection_.exchange(wait_us);
    connection_.take([this](const RocketAnswer& answer) {
      connection_.require(answer);
      const auto found = open_.find(answer.opaque);
      if (found != open_.end()) {
        acked_ += found->second;
        open_.erase(found);
      }
    });
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  void send_batch() {
    if (batched_ > 0) {
      const int32_t opaque =
          connection_.request(RocketCode::kSendBatch, send_fields(topic_, 0, {}, true), batch_);
      open_[opaque] = std::exchange(batched_, 0);
      batch_.clear();
    }
  }

  RocketConnection connection_;
  std::string topic_;
  std::string batch_;
  uint64_t batched_ = 0;
  std::unordered_map<int32_t, uint64_t> open_;  // messages of a request
  uint64_t acked_ = 0;
};

// Each message is a half message; when that is stored, its transaction is committed. The Java
// client does not wait for the answer to the commit; here it counts with it.
class RocketTransactions : public Producer {
 public:
  RocketTransactions(const Endpoint& endpoint, std::string topic)
      : connection_(endpoint.port), topic_(std::move(topic)) {}

  void send(std::string_view value, int64_t) override {
    std::string id = fmt::format("{:032X}", ++sent_);
    const RocketFields properties = {{"PGROUP", kGroup}, {"TRAN_MSG", "true"}, {"UNIQ_KEY", id}};
    const int32_t opaque = connection_.request(
        RocketCode::kSendMessage, send_fields(topic_, kHalfMessage, properties, false), value);
    halves_[opaque] = std::move(id);
  }

  void pump(int64_t wait_us) override {
    connection_.exchange(wait_us);
    connection_.take([this](const RocketAnswer& answer) {
      connection_.require(answer);
      const auto half = halves_.find(answer.opaque);
      if (half == halves_.end()) {
        ++acked_;
        return;
      }
      commit(answer.fields, half->second);
      halves_.erase(half);
    });
    connection_.exchange(0);
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  void commit(const RocketFields& stored, const std::string& id) {
    const auto field = [&](const char* name) {
      const auto found = stored.find(name);
      return found == stored.end() ? std::string() : found->second;
    };
    // The last 16 of its hexadecimal digits say where in the log the half message is.
    const std::string place = field("msgId");
    if (place.size() < 16) {
      connection_.fail("a half message without a place");
    }
    const std::string offset =
        number(static_cast<int64_t>(std::stoull(place.substr(place.size() - 16), nullptr, 16)));
    connection_.request(RocketCode::kEndTransaction,
                        {{"topic", topic_},
                         {"producerGroup", kGroup},
                         {"tranStateTableOffset", field("queueOffset")},
                         {"commitLogOffset", offset},
                         {"commitOrRollback", number(kCommit)},
                         {"fromTransactionCheck", "false"},
                         {"msgId", id},
                         {"transactionId", field("transactionId")}});
  }

  RocketConnection connection_;
  std::string topic_;
  uint64_t sent_ = 0;
  std::unordered_map<int32_t, std::string> halves_;
  uint64_t acked_ = 0;
};

// One pull request after the other; the broker holds one that has nothing to give.
class RocketConsumer : public Consumer {
 public:
  RocketConsumer(const Endpoint& endpoint, std::string topic)
      : connection_(endpoint.port), topic_(std::move(topic)) {
    pull();
  }

  void poll(int64_t wait_ms, const Sink& sink) override {
    connection_.exchange(wait_ms * 1'000);
    const bool answered =
        connection_.take([&](const RocketAnswer& answer) { on_pulled(answer, sink); });
    if (answered) {
      pull();
      connection_.exchange(0);
    }
  }

 private:
  void on_pulled(const RocketAnswer& answer, const Sink& sink) {
    if (answer.code != kRocketPullNotFound && answer.code != kRocketPullRetry) {
      connection_.require(answer);
    }
    if (const auto next = answer.fields.find("nextBeginOffset"); next != answer.fields.end()) {
      offset_ = next->second;
    }
    for_each_pulled(answer.body, sink);
  }

  void pull() {
    constexpr int kMayWait = 2;
    constexpr int kWithSubscription = 4;
    connection_.request(RocketCode::kPullMessage,
                        {{"consumerGroup", kGroup},
                         {"topic", topic_},
                         {"queueId", "0"},
                         {"queueOffset", offset_},
                         {"maxMsgNums", number(kPullCount)},
                         {"sysFlag", number(kMayWait | kWithSubscription)},
                         {"commitOffset", "0"},
                         {"suspendTimeoutMillis", "15000"},
                         {"subscription", "*"},
                         {"subVersion", "0"},
                         {"expressionType", "TAG"}});
  }

  RocketConnection connection_;
  std::string topic_;
  std::string offset_ = "0";
};

class RocketAdapter : public Adapter {
 public:
  explicit RocketAdapter(const Endpoint& endpoint) : endpoint_(endpoint) {}

  [[nodiscard]] std::string why_not(QueueKind) const override { return ""; }

  [[nodiscard]] std::string notes() const override {
    return "remoting protocol spoken by the benchmark; 1 queue; plain messages in batches, delayed "
           "and half messages one by one; pulls of 32 messages, the broker's default; delayed: "
           "timer messages, precision 1 s by default; commits answered (its client does not wait)";
  }

  void create_queue(const std::string& queue, QueueKind, int64_t) override {
    RocketConnection(endpoint_.port)
        .ask(RocketCode::kUpdateAndCreateTopic, {{"topic", queue},
                                                 {"defaultTopic", "TBW102"},
                                                 {"readQueueNums", "1"},
                                                 {"writeQueueNums", "1"},
                                                 {"perm", "6"},
                                                 {"topicFilterType", "SINGLE_TAG"},
                                                 {"topicSysFlag", "0"},
                                                 {"order", "false"}});
  }

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind kind, uint32_t) override {
    if (kind == QueueKind::kTransactional) {
      return std::make_unique<RocketTransactions>(endpoint_, queue);
    }
    return std::make_unique<RocketProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind, Reading) override {
    return std::make_unique<RocketConsumer>(endpoint_, queue);
  }

 private:
  Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Adapter> rocketmq_adapter(const Endpoint& endpoint) {
  return std::make_unique<RocketAdapter>(endpoint);
}

}  // namespace tidemark::bench
