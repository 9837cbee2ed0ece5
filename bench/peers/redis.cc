// Redis over hiredis. A queue is a stream; a delayed one is a sorted set, whose scores are the due
// times, as those who delay jobs with Redis do.
#include <hiredis/hiredis.h>
#include <poll.h>

#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr int kReadCount = 1'000;
constexpr int kDelayPollUs = 1'000;  // between two looks at a set with nothing due

// Takes what is due, in one step for all who look at the set.
constexpr std::string_view kTakeDue =
    "local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 500) "
    "if #due > 0 then redis.call('ZREM', KEYS[1], unpack(due)) end return due";

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

using Reply = std::unique_ptr<redisReply, FreeReply>;

class Connection {
 public:
  explicit Connection(const Endpoint& endpoint)
      : context_(redisConnect("127.0.0.1", endpoint.port)) {
    if (context_ == nullptr || context_->err != 0) {
      throw PeerError(fmt::format("redis: {}", context_ ? context_->errstr : "no memory"));
    }
  }

  template <size_t kCount>
  void append(const std::array<std::string_view, kCount>& words) {
    std::array<const char*, kCount> starts = {};
    std::array<size_t, kCount> sizes = {};
    for (size_t i = 0; i < kCount; ++i) {
      starts[i] = words[i].data();
      sizes[i] = words[i].size();
    }
    check(redisAppendCommandArgv(context_.get(), static_cast<int>(kCount), starts.data(),
                                 sizes.data()));
  }

  // Sends all that was appended.
  void flush() {
    int done = 0;
    while (done == 0) {
      check(redisBufferWrite(context_.get(), &done));
    }
  }

  // True if there is something to read within `wait_us`.
  bool wait(int64_t wait_us) {
    pollfd waiting = {.fd = context_->fd, .events = POLLIN, .revents = 0};
    const timespec limit = {.tv_sec = wait_us / 1'000'000, .tv_nsec = wait_us % 1'000'000 * 1'000};
    return ppoll(&waiting, 1, &limit, nullptr) > 0;
  }

  void read() { check(redisBufferRead(context_.get())); }

  // The next answer that was read, or nothing.
  Reply next() {
    void* raw = nullptr;
    check(redisReaderGetReply(context_->reader, &raw));
    return checked(static_cast<redisReply*>(raw));
  }

  // Waits for the next answer.
  Reply answer() {
    void* raw = nullptr;
    check(redisGetReply(context_.get(), &raw));
    return checked(static_cast<redisReply*>(raw));
  }

 private:
  static Reply checked(redisReply* raw) {
    Reply reply(raw);
    if (reply != nullptr && reply->type == REDIS_REPLY_ERROR) {
      throw PeerError(fmt::format("redis: {}", reply->str));
    }
    return reply;
  }

  void check(int result) {
    if (result != REDIS_OK) {
      throw PeerError(fmt::format("redis: {}", context_->errstr));
    }
  }

  std::unique_ptr<redisContext, FreeContext> context_;
};

class RedisProducer : public Producer {
 public:
  RedisProducer(const Endpoint& endpoint, std::string queue)
      : connection_(endpoint), queue_(std::move(queue)) {}

  void send(std::string_view value, int64_t due_ms) override {
    if (due_ms > 0) {
      connection_.append<4>({"ZADD", queue_, fmt::format("{}", due_ms), value});
    } else {
      connection_.append<5>({"XADD", queue_, "*", "v", value});
    }
  }

  void pump(int64_t wait_us) override {
    connection_.flush();
    if (!connection_.wait(wait_us)) {
      return;
    }
    connection_.read();
    while (connection_.next() != nullptr) {
      ++acked_;
    }
  }

  [[nodiscard]] uint64_t acked() const override { return acked_; }

 private:
  Connection connection_;
  std::string queue_;
  uint64_t acked_ = 0;
};

std::string_view text_of(const redisReply& reply) { return {reply.str, reply.len}; }

class StreamConsumer : public Consumer {
 public:
  StreamConsumer(const Endpoint& endpoint, std::string queue)
      : connection_(endpoint), queue_(std::move(queue)) {}

  void poll(int64_t wait_ms, const Sink& sink) override {
    connection_.append<8>(
        {"XREAD", "COUNT", count_, "BLOCK", fmt::format("{}", wait_ms), "STREAMS", queue_, last_});
    const Reply reply = connection_.answer();
    if (reply->type == REDIS_REPLY_NIL) {
      return;
    }
    // [[stream, [[id, [field, value]], ...]]]
    const redisReply& entries = *reply->element[0]->element[1];
    for (size_t i = 0; i < entries.elements; ++i) {
      sink(text_of(*entries.element[i]->element[1]->element[1]));
    }
    if (entries.elements > 0) {
      last_ = text_of(*entries.element[entries.elements - 1]->element[0]);
    }
  }

 private:
  Connection connection_;
  std::string queue_;
  std::string count_ = fmt::format("{}", kReadCount);
  std::string last_ = "0";
};

class DelayConsumer : public Consumer {
 public:
  DelayConsumer(const Endpoint& endpoint, std::string queue)
      : connection_(endpoint), queue_(std::move(queue)) {}

  void poll(int64_t, const Sink& sink) override {
    const std::string now = fmt::format("{}", system_clock().wall().ms);
    connection_.append<5>({"EVAL", kTakeDue, "1", queue_, now});
    const Reply reply = connection_.answer();
    for (size_t i = 0; i < reply->elements; ++i) {
      sink(text_of(*reply->element[i]));
    }
    if (reply->elements == 0) {
      (void)connection_.wait(kDelayPollUs);
    }
  }

 private:
  Connection connection_;
  std::string queue_;
};

class RedisAdapter : public Adapter {
 public:
  explicit RedisAdapter(const Endpoint& endpoint) : endpoint_(endpoint) {}

  [[nodiscard]] std::string why_not(QueueKind kind) const override {
    return kind == QueueKind::kTransactional ? "Redis has no transactions that wait for a local one"
                                             : "";
  }

  [[nodiscard]] std::string notes() const override {
    return "hiredis; XADD pipelined; XREAD COUNT 1000, no group, nothing acknowledged; delayed: a "
           "sorted set that the consumer looks at every ms (Redis itself has no delays)";
  }

  // A key is there once it is written.
  void create_queue(const std::string&, QueueKind, int64_t) override {}

  std::unique_ptr<Producer> producer(const std::string& queue, QueueKind, uint32_t) override {
    return std::make_unique<RedisProducer>(endpoint_, queue);
  }

  std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind kind, Reading) override {
    if (kind == QueueKind::kDelayed) {
      return std::make_unique<DelayConsumer>(endpoint_, queue);
    }
    return std::make_unique<StreamConsumer>(endpoint_, queue);
  }

 private:
  Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Adapter> redis_adapter(const Endpoint& endpoint) {
  return std::make_unique<RedisAdapter>(endpoint);
}

}  // namespace tidemark::bench
