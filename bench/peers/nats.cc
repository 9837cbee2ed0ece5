// NATS JetStream over its text protocol. A queue is a stream of that name, file storage, one
// replica, with the subjects <name>.>; a delayed message is a schedule on a subject of its own,
// whose target is the subject that consumers read.
#include <charconv>
#include <ctime>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "bench/peers/socket.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr uint32_t kPullCount = 1'000;  // messages asked for at a time
constexpr int64_t kPullExpiresNs = 30'000'000'000;

// What the server says: PING, +OK, a message. Errors are thrown.
struct Event {
  bool is_message = false;
  std::string_view reply_to;
  std::string_view headers;  // "NATS/1.0 408 Request Timeout\r\n..."
  std::string_view payload;
};

class NatsConnection {
 public:
  explicit NatsConnection(const Endpoint& endpoint) : socket_("nats", endpoint.port) {
    (void)socket_.wait_line();  // INFO
    socket_.put(
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
        "\"no_responders\":true,\"name\":\"bench\"}\r\nPING\r\n");
    socket_.exchange(0);
    if (const std::string answer = socket_.wait_line(); answer != "PONG") {
      socket_.fail(answer);
    }
    inbox_ = fmt::format("_INBOX.{}", system_clock().monotonic().ns);
    socket_.put(fmt::format("SUB {} 1\r\n", inbox_));
  }

  void publish(std::string_view subject, std::string_view reply_to, std::string_view value) {
    socket_.put(fmt::format("PUB {} {} {}\r\n", subject, reply_to, value.size()));
    socket_.put(value);
    socket_.put("\r\n");
  }

  void publish(std::string_view subject, std::string_view reply_to, std::string_view headers,
               std::string_view value) {
    socket_.put(fmt::format("HPUB {} {} {} {}\r\n", subject, reply_to, headers.size(),
                            headers.size() + value.size()));
    socket_.put(headers);
    socket_.put(value);
    socket_.put("\r\n");
  }

  void exchange(int64_t wait_us) { socket_.exchange(wait_us); }

  // Gives each message that has come whole to `sink`; true if there was one.
  template <typename MessageSink>
  bool take(const MessageSink& sink) {
    bool any = false;
    for (Event event; next(event);) {
      if (event.is_message) {
        any = true;
        sink(event);
      }
    }
    return any;
  }

  // One request of the JetStream API; throws what it refuses.
  void request(std::string_view subject, std::string_view body) {
    publish(subject, inbox_, body);
    const int64_t deadline_ns = system_clock().monotonic().ns + 10'000'000'000;
    bool answered = false;
    while (!answered) {
      exchange(10'000);
      answered = take([this](const Event& event) { check(event); });
      if (!answered && system_clock().monotonic().ns > deadline_ns) {
        socket_.fail(fmt::format("{}: no answer within 10 s", subject));
      }
    }
  }

  // Of an answer: acknowledgements have no "error", nor a status in their headers.
  void check(const Event& event) const {
    if (!event.headers.empty() || event.payload.find("\"error\"") != std::string_view::npos) {
      socket_.fail(event.headers.empty() ? event.payload : event.headers);
    }
  }

  [[nodiscard]] const std::string& inbox() const { return inbox_; }

  [[noreturn]] void fail(std::string_view what) const { socket_.fail(what); }

 private:
  // "MSG subject sid [reply] size" or "HMSG subject sid [reply] headers size".
  bool next(Event& event) {
    const std::string_view text = socket_.received();
    const size_t end = text.find("\r\n");
    if (end == std::string_view::npos) {
      return false;
    }
    const std::string_view line = text.substr(0, end);
    event = {};
    if (!line.starts_with("MSG ") && !line.starts_with("HMSG ")) {
      if (line.starts_with("-ERR")) {
        socket_.fail(line);
      }
      if (line == "PING") {
        socket_.put("PONG\r\n");
      }
      socket_.consume(end + 2);
      return true;
    }
    const size_t bytes = number_at(line, line.rfind(' ') + 1);
    if (text.size() < end + 2 + bytes + 2) {
      return false;
    }
    const std::string_view body = text.substr(end + 2, bytes);
    size_t header_bytes = 0;
    if (line.front() == 'H') {
      header_bytes = number_at(line, line.rfind(' ', line.rfind(' ') - 1) + 1);
    }
    event.is_message = true;
    event.headers = body.substr(0, header_bytes);
    event.payload = body.substr(header_bytes);
    socket_.consume(end + 2 + bytes + 2);
    return true;
  }

  static size_t number_at(std::string_view line, size_t start) {
    size_t out = 0;
    std::from_chars(line.data() + start, line.data() + line.size(), out);
    return out;
  }

  Socket socket_;
  std::string inbox_;
};

// RFC 3339 with milliseconds.
std::string time_text(int64_t ms) {
  const std::time_t seconds = ms / 1'000;
  std::tm parts = {};
  (void)gmtime_r(&seconds, &parts);
  char text[32];
  (void)std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", text, ms % 1'000);
}

class NatsProducer : public Producer {
 public:
  NatsProducer(const Endpoint& endpoint, std::string queue)
      : connection_(endpoint), queue_(std::move(queue)), subject_(queue_ + ".m") {}

  void send(std::string_view value, int64_t due_ms) override {
    if (due_ms == 0) {
      connection_.publish(subject_, connection_.inbox(), value);
      return;
    }
    const std::string headers =
        fmt::format("NATS/1.0\r\nNats-Schedule: @at {}\r\nNats-Schedule-Target: {}\r\n\r\n",
                    time_text(due_ms), subject_);
    connection_.publish(fmt::format("{}.s.{}", queue_, ++schedules_), connection_.inbox(), headers,
                        value);
  }

  void pump(int64_t wait_us) override {
    connection_.exchange(wait_us);
    connection_.take([this](const Event& event) {
      connection_.check(event);
      ++acked_;
    });
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  NatsConnection connection_;
  std::string queue_;
  std::string subject_;
  uint64_t schedules_ = 0;
  uint64_t acked_ = 0;
};

// A pull consumer that asks for the next messages before those it asked for are all there.
class NatsConsumer : public Consumer {
 public:
  NatsConsumer(const Endpoint& endpoint, const std::string& queue) : connection_(endpoint) {
    connection_.request(
        fmt::format("$JS.API.CONSUMER.CREATE.{0}.c.{0}.m", queue),
        fmt::format("{{\"stream_name\":\"{0}\",\"config\":{{\"name\":\"c\",\"deliver_policy\":"
                    "\"all\",\"ack_policy\":\"none\",\"filter_subject\":\"{0}.m\","
                    "\"inactive_threshold\":600000000000,\"max_waiting\":8}}}}",
                    queue));
    next_ = fmt::format("$JS.API.CONSUMER.MSG.NEXT.{}.c", queue);
    pull();
  }

  void poll(int64_t wait_ms, const Sink& sink) override {
    const auto on_message = [&](const Event& event) {
      // A pull request that has ended says so instead of what it did not deliver.
      if (event.headers.starts_with("NATS/1.0 4")) {
        expected_ = 0;
        return;
      }
      expected_ -= expected_ > 0 ? 1 : 0;
      sink(event.payload);
    };
    if (!connection_.take(on_message)) {
      connection_.exchange(wait_ms * 1'000);
      connection_.take(on_message);
    }
    if (expected_ < kPullCount / 2) {
      pull();
    }
    connection_.exchange(0);
  }

 private:
  void pull() {
    connection_.publish(next_, connection_.inbox(),
                        fmt::format("{{\"batch\":{},\"expires\":{}}}", kPullCount, kPullExpiresNs));
    expected_ += kPullCount;
  }

  NatsConnection connection_;
  std::string next_;
  uint32_t expected_ = 0;
};

class NatsAdapter : public Adapter {
 public:
  explicit NatsAdapter(const Endpoint& endpoint) : endpoint_(endpoint) {}

  [[nodiscard]] std::string why_not(QueueKind kind) const override {
    return kind == QueueKind::kTransactional
               ? "JetStream has no transactions that wait for a local one"
               : "";
  }

  [[nodiscard]] std::string notes() const override {
    return "text protocol spoken by the benchmark; asynchronous publish with an acknowledgement "
           "each; pull consumer, 1,000 asked for ahead, nothing acknowledged; delayed: message "
           "schedules";
  }

  void create_queue(const std::string& queue, QueueKind kind, int64_t) override {
    NatsConnection(endpoint_).request(
        fmt::format("$JS.API.STREAM.CREATE.{}", queue),
        fmt::format("{{\"name\":\"{0}\",\"subjects\":[\"{0}.>\"],\"storage\":\"file\","
                    "\"num_replicas\":1,\"retention\":\"limits\","
                    "\"allow_msg_schedules\":{1},\"allow_msg_ttl\":{1}}}",
                    queue, kind == QueueKind::kDelayed));
  }

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind, uint32_t) override {
    return std::make_unique<NatsProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind, Reading) override {
    return std::make_unique<NatsConsumer>(endpoint_, queue);
  }

 private:
  Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Adapter> nats_adapter(const Endpoint& endpoint) {
  return std::make_unique<NatsAdapter>(endpoint);
}

}  // namespace tidemark::bench
