// beanstalkd over its text protocol. A queue is a tube.
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "bench/peers/socket.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

// Reserved and not deleted: none of them may come back during a row.
constexpr int kTimeToRunSeconds = 3'600;
// Of a backlog this many are asked for ahead. Of live messages one: a `delete` behind a waiting
// `reserve` would wait with it.
constexpr uint32_t kReservesOfBacklog = 200;

class BeanstalkdProducer : public Producer {
 public:
  BeanstalkdProducer(const Endpoint& endpoint, const std::string& tube)
      : socket_("beanstalkd", endpoint.port) {
    socket_.put(fmt::format("use {}\r\n", tube));
    socket_.exchange(0);
    if (const std::string answer = socket_.wait_line(); !answer.starts_with("USING")) {
      socket_.fail(answer);
    }
  }

  void send(std::string_view value, int64_t due_ms) override {
    int64_t delay_s = 0;
    if (due_ms > 0) {
      // Rounded to the nearest: the due time was drawn as a whole number of seconds from now.
      delay_s = (due_ms - system_clock().wall().ms + 500) / 1'000;
    }
    socket_.put(fmt::format("put 0 {} {} {}\r\n", delay_s, kTimeToRunSeconds, value.size()));
    socket_.put(value);
    socket_.put("\r\n");
  }

  void pump(int64_t wait_us) override {
    socket_.exchange(wait_us);
    while (const auto answer = socket_.line()) {
      if (!answer->starts_with("INSERTED")) {
        socket_.fail(*answer);
      }
      ++acked_;
    }
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  Socket socket_;
  uint64_t acked_ = 0;
};

class BeanstalkdConsumer : public Consumer {
 public:
  BeanstalkdConsumer(const Endpoint& endpoint, const std::string& tube, Reading reading)
      : socket_("beanstalkd", endpoint.port) {
    socket_.put(fmt::format("watch {}\r\nignore default\r\n", tube));
    socket_.exchange(0);
    (void)socket_.wait_line();
    if (const std::string answer = socket_.wait_line(); answer != "WATCHING 1") {
      socket_.fail(answer);
    }
    for (uint32_t i = 0; i < (reading == Reading::kBacklog ? kReservesOfBacklog : 1); ++i) {
      socket_.put("reserve\r\n");
    }
  }

  void poll(int64_t wait_ms, const Sink& sink) override {
    if (!take(sink)) {
      socket_.exchange(wait_ms * 1'000);
      (void)take(sink);
    }
    socket_.exchange(0);
  }

 private:
  // What has come whole; true if there was anything.
  bool take(const Sink& sink) {
    bool any = false;
    for (;;) {
      const std::string_view text = socket_.received();
      const size_t end = text.find("\r\n");
      if (end == std::string_view::npos) {
        return any;
      }
      const std::string_view line = text.substr(0, end);
      if (line.starts_with("RESERVED ")) {
        const size_t space = line.find(' ', 9);
        size_t bytes = 0;
        std::from_chars(line.data() + space + 1, line.data() + line.size(), bytes);
        if (text.size() < end + 2 + bytes + 2) {
          return any;
        }
        socket_.put(fmt::format("delete {}\r\nreserve\r\n", line.substr(9, space - 9)));
        sink(text.substr(end + 2, bytes));
        socket_.consume(end + 2 + bytes + 2);
        any = true;
      } else if (line == "DELETED") {
        socket_.consume(end + 2);
      } else {
        socket_.fail(line);
      }
    }
  }

  Socket socket_;
};

class BeanstalkdAdapter : public Adapter {
 public:
  explicit BeanstalkdAdapter(const Endpoint& endpoint) : endpoint_(endpoint) {}

  [[nodiscard]] std::string why_not(QueueKind kind) const override {
    return kind == QueueKind::kTransactional ? "beanstalkd has no transactions" : "";
  }

  [[nodiscard]] int64_t delay_step_ms() const override { return 1'000; }

  [[nodiscard]] std::string notes() const override {
    return "text protocol spoken by the benchmark; `put` pipelined; each message is reserved and "
           "deleted; delays in whole seconds";
  }

  // A tube is there once it is used.
  void create_queue(const std::string&, QueueKind, int64_t) override {}

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind, uint32_t) override {
    return std::make_unique<BeanstalkdProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind,
                                     Reading reading) override {
    return std::make_unique<BeanstalkdConsumer>(endpoint_, queue, reading);
  }

 private:
  Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Adapter> beanstalkd_adapter(const Endpoint& endpoint) {
  return std::make_unique<BeanstalkdAdapter>(endpoint);
}

}  // namespace tidemark::bench
