// RabbitMQ over librabbitmq. A queue is a quorum queue in durable mode, else a classic durable one
// with persistent messages. A delayed message waits in a queue whose messages expire after its
// delay and then go to the queue that is read (TTL and dead-letter exchange): one such queue for
// each delay, since a queue lets only its first message expire.
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <poll.h>

#include <deque>
#include <vector>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr amqp_channel_t kChannel = 1;
constexpr uint16_t kPrefetch = 1'000;
constexpr int kTakenAtOnce = 200;  // then they are acknowledged together

amqp_bytes_t bytes_of(std::string_view text) {
  // The library takes a pointer to what it does not change.
  return {.len = text.size(), .bytes = const_cast<char*>(text.data())};
}

amqp_table_entry_t text_entry(const char* key, std::string_view value) {
  amqp_table_entry_t out = {};
  out.key = amqp_cstring_bytes(key);
  out.value.kind = AMQP_FIELD_KIND_UTF8;
  out.value.value.bytes = bytes_of(value);
  return out;
}

amqp_table_entry_t number_entry(const char* key, int64_t value) {
  amqp_table_entry_t out = {};
  out.key = amqp_cstring_bytes(key);
  out.value.kind = AMQP_FIELD_KIND_I64;
  out.value.value.i64 = value;
  return out;
}

timeval interval(int64_t us) { return {.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000}; }

// One connection with one channel.
class RabbitConnection {
 public:
  explicit RabbitConnection(const Endpoint& endpoint) : state_(amqp_new_connection()) {
    amqp_socket_t* socket = amqp_tcp_socket_new(state_);
    check(amqp_socket_open(socket, "127.0.0.1", endpoint.port), "connecting");
    check(amqp_login(state_, "/", 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, "guest",
                     "guest"),
          "login");
    amqp_channel_open(state_, kChannel);
    check_rpc("channel.open");
  }

  ~RabbitConnection() { amqp_destroy_connection(state_); }

  RabbitConnection(const RabbitConnection&) = delete;
  RabbitConnection& operator=(const RabbitConnection&) = delete;

  [[nodiscard]] amqp_connection_state_t get() const { return state_; }

  // Until something has come, at most `wait_us`: the library itself waits for whole milliseconds.
  void wait(int64_t wait_us) {
    if (amqp_frames_enqueued(state_) != 0 || amqp_data_in_buffer(state_) != 0) {
      return;
    }
    pollfd waiting = {.fd = amqp_get_sockfd(state_), .events = POLLIN, .revents = 0};
    const timespec limit = {.tv_sec = wait_us / 1'000'000, .tv_nsec = wait_us % 1'000'000 * 1'000};
    (void)ppoll(&waiting, 1, &limit, nullptr);
  }

  static void check(int status, std::string_view doing) {
    if (status != AMQP_STATUS_OK) {
      throw PeerError(fmt::format("rabbitmq: {}: {}", doing, amqp_error_string2(status)));
    }
  }

  static void check(const amqp_rpc_reply_t& reply, std::string_view doing) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
      return;
    }
    std::string why = amqp_error_string2(reply.library_error);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
      why = "refused";
      if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_bytes_t text =
            static_cast<amqp_channel_close_t*>(reply.reply.decoded)->reply_text;
        why = std::string(static_cast<const char*>(text.bytes), text.len);
      }
    }
    throw PeerError(fmt::format("rabbitmq: {}: {}", doing, why));
  }

  void check_rpc(std::string_view doing) { check(amqp_get_rpc_reply(state_), doing); }

 private:
  amqp_connection_state_t state_;
};

std::string delay_queue(std::string_view queue, int64_t seconds) {
  return fmt::format("{}.{}s", queue, seconds);
}

class RabbitProducer : public Producer {
 public:
  RabbitProducer(const Endpoint& endpoint, std::string queue)
      : connection_(endpoint), queue_(std::move(queue)) {
    amqp_confirm_select(connection_.get(), kChannel);
    connection_.check_rpc("confirm.select");
    properties_._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties_.delivery_mode = 2;  // persistent
  }

  void send(std::string_view value, int64_t due_ms) override {
    std::string key = queue_;
    if (due_ms > 0) {
      key = delay_queue(queue_, (due_ms - system_clock().wall().ms + 500) / 1'000);
    }
    RabbitConnection::check(amqp_basic_publish(connection_.get(), kChannel, amqp_empty_bytes,
                                               bytes_of(key), 0, 0, &properties_, bytes_of(value)),
                            "publish");
    open_.push_back(true);
  }

  void pump(int64_t wait_us) override {
    connection_.wait(wait_us);
    for (;;) {
      amqp_frame_t frame;
      const timeval limit = interval(0);
      const int status = amqp_simple_wait_frame_noblock(connection_.get(), &frame, &limit);
      if (status == AMQP_STATUS_TIMEOUT) {
        break;
      }
      RabbitConnection::check(status, "waiting for confirms");
      if (frame.frame_type == AMQP_FRAME_METHOD) {
        on_method(frame.payload.method);
      }
    }
    amqp_maybe_release_buffers(connection_.get());
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  void on_method(const amqp_method_t& method) {
    if (method.id != AMQP_BASIC_ACK_METHOD) {
      throw PeerError(
          fmt::format("rabbitmq: {} instead of a confirm", amqp_method_name(method.id)));
    }
    const auto& ack = *static_cast<amqp_basic_ack_t*>(method.decoded);
    const uint64_t last = ack.delivery_tag;
    for (uint64_t tag = ack.multiple ? first_ : last; tag <= last; ++tag) {
      confirm(tag);
    }
    while (!open_.empty() && !open_.front()) {
      open_.pop_front();
      ++first_;
    }
  }

  void confirm(uint64_t tag) {
    if (tag >= first_ && tag - first_ < open_.size() && open_[tag - first_]) {
      open_[tag - first_] = false;
      ++acked_;
    }
  }

  RabbitConnection connection_;
  std::string queue_;
  amqp_basic_properties_t properties_ = {};
  // Whether the message with tag first_ + i waits for its confirm; they may come out of order.
  std::deque<bool> open_;
  uint64_t first_ = 1;
  uint64_t acked_ = 0;
};

class RabbitConsumer : public Consumer {
 public:
  RabbitConsumer(const Endpoint& endpoint, const std::string& queue) : connection_(endpoint) {
    amqp_basic_qos(connection_.get(), kChannel, 0, kPrefetch, 0);
    connection_.check_rpc("basic.qos");
    amqp_basic_consume(connection_.get(), kChannel, bytes_of(queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    connection_.check_rpc("basic.consume");
  }

  void poll(int64_t wait_ms, const Sink& sink) override {
    int64_t wait_us = wait_ms * 1'000;
    uint64_t last = 0;
    for (int taken = 0; taken < kTakenAtOnce; ++taken) {
      amqp_maybe_release_buffers(connection_.get());
      amqp_envelope_t envelope;
      const timeval limit = interval(wait_us);
      const amqp_rpc_reply_t reply = amqp_consume_message(connection_.get(), &envelope, &limit, 0);
      if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
          reply.library_error == AMQP_STATUS_TIMEOUT) {
        break;
      }
      RabbitConnection::check(reply, "consuming");
      sink({static_cast<const char*>(envelope.message.body.bytes), envelope.message.body.len});
      last = envelope.delivery_tag;
      amqp_destroy_envelope(&envelope);
      wait_us = 0;
    }
    if (last > 0) {
      RabbitConnection::check(amqp_basic_ack(connection_.get(), kChannel, last, 1), "ack");
    }
  }

 private:
  RabbitConnection connection_;
};

class RabbitAdapter : public Adapter {
 public:
  explicit RabbitAdapter(const Endpoint& endpoint) : endpoint_(endpoint) {}

  [[nodiscard]] std::string why_not(QueueKind kind) const override {
    return kind == QueueKind::kTransactional
               ? "AMQP transactions cannot be prepared and decided later"
               : "";
  }

  [[nodiscard]] int64_t delay_step_ms() const override { return 1'000; }

  [[nodiscard]] std::string notes() const override {
    return "librabbitmq; publisher confirms; prefetch 1,000, acknowledged in groups; delayed: TTL "
           "and dead-letter exchange, a queue for each second of delay";
  }

  void create_queue(const std::string& queue, QueueKind kind, int64_t longest_delay_ms) override {
    RabbitConnection connection(endpoint_);
    const amqp_table_entry_t type =
        text_entry("x-queue-type", endpoint_.durable ? "quorum" : "classic");
    declare(connection, queue, {type});
    const int64_t delays = kind == QueueKind::kDelayed ? longest_delay_ms / 1'000 : 0;
    for (int64_t seconds = 1; seconds <= delays; ++seconds) {
      declare(connection, delay_queue(queue, seconds),
              {type, number_entry("x-message-ttl", seconds * 1'000),
               text_entry("x-dead-letter-exchange", ""),
               text_entry("x-dead-letter-routing-key", queue)});
    }
  }

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind, uint32_t) override {
    return std::make_unique<RabbitProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind, Reading) override {
    return std::make_unique<RabbitConsumer>(endpoint_, queue);
  }

 private:
  static void declare(RabbitConnection& connection, const std::string& queue,
                      std::vector<amqp_table_entry_t> arguments) {
    const amqp_table_t table = {.num_entries = static_cast<int>(arguments.size()),
                                .entries = arguments.data()};
    amqp_queue_declare(connection.get(), kChannel, bytes_of(queue), 0, 1, 0, 0, table);
    connection.check_rpc(fmt::format("declaring {}", queue));
  }

  Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Adapter> rabbitmq_adapter(const Endpoint& endpoint) {
  return std::make_unique<RabbitAdapter>(endpoint);
}

}  // namespace tidemark::bench
