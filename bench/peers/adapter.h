// What the comparison asks of a messaging system. One implementation per system, each over the
// client library or the wire protocol that its users use; the workload knows nothing else of it.
//
// Thread: an object belongs to one thread at a time; a producer and a consumer of one adapter may
// be used from two threads at once. Errors are thrown as PeerError: a row is a straight line of
// steps, and the first failure ends it with one sentence.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tidemark::bench {

class PeerError : public std::exception {
 public:
  explicit PeerError(std::string what) : what_(std::move(what)) {}

  [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

// Where the server listens, and how it was started.
struct Endpoint {
  uint16_t port = 0;  // on 127.0.0.1
  bool durable = false;
};

enum class QueueKind {
  kPlain,
  kDelayed,
  kTransactional,
};

// How a consumer is used: it decides only what a protocol asks for ahead.
enum class Reading {
  kBacklog,  // what is stored, as fast as possible
  kLive,     // each message as soon as it is there
};

// Takes messages and counts those that the server has acknowledged.
class Producer {
 public:
  virtual ~Producer() = default;

  // Takes a message, copies it. `due_ms` (ms since 1970, delayed queues only): when to deliver it.
  // On a transactional queue each message is a transaction of its own: stored half, then committed.
  virtual void send(std::string_view value, int64_t due_ms) = 0;

  // Sends what was taken and handles the answers that are there; if none is, waits for one for at
  // most `wait_us`.
  virtual void pump(int64_t wait_us) = 0;

  // Messages acknowledged, or transactions committed, so far.
  [[nodiscard]] virtual uint64_t acked() const = 0;
};

using Sink = std::function<void(std::string_view value)>;

class Consumer {
 public:
  virtual ~Consumer() = default;

  // Gives what has arrived to `sink`; if nothing has, waits for at most `wait_ms`.
  virtual void poll(int64_t wait_ms, const Sink& sink) = 0;
};

class Adapter {
 public:
  virtual ~Adapter() = default;

  // Why the system has no queue of this kind; empty: it has.
  [[nodiscard]] virtual std::string why_not(QueueKind kind) const = 0;

  // Due times are drawn in steps of this many ms: the finest delay that the system takes.
  [[nodiscard]] virtual int64_t delay_step_ms() const { return 1; }

  // How the system is used, in one sentence: client, batches, acknowledgements, delays.
  [[nodiscard]] virtual std::string notes() const = 0;

  // `longest_delay_ms`: of the messages of a delayed queue.
  virtual void create_queue(const std::string& queue, QueueKind kind, int64_t longest_delay_ms) = 0;

  // Connected when they return. At most `in_flight` messages are ever sent and not acknowledged.
  virtual std::unique_ptr<Producer> producer(const std::string& queue, QueueKind kind,
                                             uint32_t in_flight) = 0;
  virtual std::unique_ptr<Consumer> consumer(const std::string& queue, QueueKind kind,
                                             Reading reading) = 0;
};

// Connected when they return.
std::unique_ptr<Adapter> tidemark_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> beanstalkd_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> kafka_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> nats_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> rabbitmq_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> redis_adapter(const Endpoint& endpoint);
std::unique_ptr<Adapter> rocketmq_adapter(const Endpoint& endpoint);

}  // namespace tidemark::bench
