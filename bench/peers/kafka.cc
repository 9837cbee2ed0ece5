// Kafka over librdkafka. A queue is a topic with one partition.
#include <librdkafka/rdkafka.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench/peers/adapter.h"

namespace tidemark::bench {
namespace {

constexpr int kAnswerMs = 30'000;
constexpr size_t kTakenAtOnce = 2'000;

struct Setting {
  const char* name;
  std::string value;
};

struct Destroy {
  void operator()(rd_kafka_t* handle) const { rd_kafka_destroy(handle); }

  void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }

  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }

  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }

  void operator()(rd_kafka_NewTopic_t* topic) const { rd_kafka_NewTopic_destroy(topic); }

  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};

template <typename T>
using Owned = std::unique_ptr<T, Destroy>;

[[noreturn]] void fail(std::string_view doing, std::string_view why) {
  throw PeerError(fmt::format("kafka: {}: {}", doing, why));
}

void check(rd_kafka_resp_err_t error, std::string_view doing) {
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    fail(doing, rd_kafka_err2str(error));
  }
}

using DeliveryReport = void (*)(rd_kafka_t*, const rd_kafka_message_t*, void*);

Owned<rd_kafka_t> connect(rd_kafka_type_t type, const Endpoint& endpoint,
                          std::vector<Setting> settings, DeliveryReport report, void* opaque) {
  char error[512];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  settings.push_back({"bootstrap.servers", fmt::format("127.0.0.1:{}", endpoint.port)});
  // Else small requests wait for the acknowledgements of those before, 40 ms long.
  settings.push_back({"socket.nagle.disable", "true"});
  // Nothing on stderr while a server starts or stops.
  settings.push_back({"log_level", "0"});
  for (const Setting& setting : settings) {
    if (rd_kafka_conf_set(conf, setting.name, setting.value.c_str(), error, sizeof(error)) !=
        RD_KAFKA_CONF_OK) {
      rd_kafka_conf_destroy(conf);
      fail(setting.name, error);
    }
  }
  if (report != nullptr) {
    rd_kafka_conf_set_dr_msg_cb(conf, report);
    rd_kafka_conf_set_opaque(conf, opaque);
  }
  Owned<rd_kafka_t> handle(rd_kafka_new(type, conf, error, sizeof(error)));
  if (handle == nullptr) {
    rd_kafka_conf_destroy(conf);
    fail("client", error);
  }
  return handle;
}

class KafkaProducer : public Producer {
 public:
  KafkaProducer(const Endpoint& endpoint, const std::string& topic)
      : handle_(connect(RD_KAFKA_PRODUCER, endpoint,
                        {{"enable.idempotence", "true"},
                         {"linger.ms", "0"},
                         {"queue.buffering.max.messages", "1000000"}},
                        on_report, this)),
        topic_(rd_kafka_topic_new(handle_.get(), topic.c_str(), nullptr)) {
    // Brings the connection and the producer id about. Readers leave out what has no stamp.
    send("", 0);
    check(rd_kafka_flush(handle_.get(), kAnswerMs), "first message");
    check(failure_, "first message");
  }

  void send(std::string_view value, int64_t) override {
    // The library takes a pointer to what it copies.
    const int result =
        rd_kafka_produce(topic_.get(), 0, RD_KAFKA_MSG_F_COPY, const_cast<char*>(value.data()),
                         value.size(), nullptr, 0, nullptr);
    if (result != 0) {
      check(rd_kafka_last_error(), "produce");
    }
  }

  void pump(int64_t wait_us) override {
    const uint64_t before = acked_;
    rd_kafka_poll(handle_.get(), static_cast<int>(wait_us / 1'000));
    // The library waits for whole milliseconds.
    if (acked_ == before && wait_us > 0 && wait_us < 1'000) {
      std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
    }
    check(failure_, "delivery");
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  static void on_report(rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
    auto& self = *static_cast<KafkaProducer*>(opaque);
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      ++self.acked_;
    } else {
      self.failure_ = message->err;
    }
  }

  uint64_t acked_ = 0;
  rd_kafka_resp_err_t failure_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  Owned<rd_kafka_t> handle_;
  Owned<rd_kafka_topic_t> topic_;
};

class KafkaConsumer : public Consumer {
 public:
  KafkaConsumer(const Endpoint& endpoint, const std::string& topic)
      : handle_(connect(RD_KAFKA_CONSUMER, endpoint,
                        {{"group.id", "bench"},
                         {"enable.auto.commit", "false"},
                         {"enable.auto.offset.store", "false"}},
                        nullptr, nullptr)),
        messages_(kTakenAtOnce) {
    const Owned<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), 0)->offset =
        RD_KAFKA_OFFSET_BEGINNING;
    check(rd_kafka_poll_set_consumer(handle_.get()), "consumer");
    check(rd_kafka_assign(handle_.get(), list.get()), "assign");
    queue_.reset(rd_kafka_queue_get_consumer(handle_.get()));
  }

  ~KafkaConsumer() override {
    queue_.reset();
    (void)rd_kafka_consumer_close(handle_.get());
  }

  KafkaConsumer(const KafkaConsumer&) = delete;
  KafkaConsumer& operator=(const KafkaConsumer&) = delete;

  void poll(int64_t wait_ms, const Sink& sink) override {
    // With a timeout a batch waits until it is full: so what is there, else the next message.
    const ssize_t count =
        rd_kafka_consume_batch_queue(queue_.get(), 0, messages_.data(), messages_.size());
    for (ssize_t i = 0; i < count; ++i) {
      take(messages_[static_cast<size_t>(i)], sink);
    }
    if (count <= 0) {
      take(rd_kafka_consumer_poll(handle_.get(), static_cast<int>(wait_ms)), sink);
    }
    check(failure_, "consume");
  }

 private:
  void take(rd_kafka_message_t* message, const Sink& sink) {
    if (message == nullptr) {
      return;
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      sink({static_cast<const char*>(message->payload), message->len});
    } else {
      failure_ = message->err;
    }
    rd_kafka_message_destroy(message);
  }

  rd_kafka_resp_err_t failure_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  Owned<rd_kafka_t> handle_;
  Owned<rd_kafka_queue_t> queue_;
  std::vector<rd_kafka_message_t*> messages_;
};

class KafkaAdapter : public Adapter {
 public:
  explicit KafkaAdapter(const Endpoint& endpoint)
      : endpoint_(endpoint), admin_(connect(RD_KAFKA_PRODUCER, endpoint, {}, nullptr, nullptr)) {}

  [[nodiscard]] std::string why_not(QueueKind kind) const override {
    switch (kind) {
      case QueueKind::kPlain:
        return "";
      case QueueKind::kDelayed:
        return "Kafka has no delayed messages";
      case QueueKind::kTransactional:
        return "a Kafka producer has one transaction at a time, and nobody is asked about an open "
               "one";
    }
    return "";
  }

  [[nodiscard]] std::string notes() const override {
    return "librdkafka; 1 partition, acks=all, idempotent producer, linger 0, no Nagle delay; "
           "consumer without "
           "commits";
  }

  void create_queue(const std::string& queue, QueueKind, int64_t) override {
    char error[512];
    const Owned<rd_kafka_NewTopic_t> topic(
        rd_kafka_NewTopic_new(queue.c_str(), 1, 1, error, sizeof(error)));
    const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(admin_.get()));
    rd_kafka_NewTopic_t* list[] = {topic.get()};
    rd_kafka_CreateTopics(admin_.get(), list, 1, nullptr, answers.get());
    const Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(answers.get(), kAnswerMs));
    if (event == nullptr) {
      fail("creating a topic", "no answer");
    }
    check(rd_kafka_event_error(event.get()), "creating a topic");
    size_t count = 0;
    const rd_kafka_topic_result_t** results = rd_kafka_CreateTopics_result_topics(
        rd_kafka_event_CreateTopics_result(event.get()), &count);
    for (size_t i = 0; i < count; ++i) {
      check(rd_kafka_topic_result_error(results[i]), "creating a topic");
    }
  }

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind, uint32_t) override {
    return std::make_unique<KafkaProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind, Reading) override {
    return std::make_unique<KafkaConsumer>(endpoint_, queue);
  }

 private:
  Endpoint endpoint_;
  Owned<rd_kafka_t> admin_;
};

}  // namespace

std::unique_ptr<Adapter> kafka_adapter(const Endpoint& endpoint) {
  return std::make_unique<KafkaAdapter>(endpoint);
}

}  // namespace tidemark::bench
