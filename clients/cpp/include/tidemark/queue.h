// QueueConsumer: takes messages of topics one by one, together with any number of other consumers
// of its group. Each message is leased to one of them for visibility_ms, and then acked, or it
// comes again: after a nack, or when its lease ends.
//
//   auto consumer = QueueConsumer::create(client, {.group = "mailer", .topics = {"mails"}});
//   while (...) {
//     auto message = consumer->receive(1'000);             // pull style
//     if (!message.ok() || !*message) { ... }
//     send_mail((*message)->value()) ? (*message)->ack() : (*message)->nack();
//   }
//
//   QueueConsumer::create(client, {..., .on_message = [](QueueMessage& m) { return work(m); }});
//                                                          // handler style: true acks, false nacks
//
// Promises: a message is delivered until it is acked, or dead-lettered after the topic's
// max_deliveries; what ack() answers with ok is on disk and does not come again. It may be
// delivered more than once: when a lease ends before the ack, or the broker restarts. `deliveries`
// tells.
//
// Thread: every member may be called from any thread; several threads may be in receive(). Handlers
// run on `handlers` threads of the consumer's own; they may block, and end the lease only by
// returning late (auto_extend keeps it up).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"
#include "tidemark/message.h"

namespace tidemark::client {

class QueueConsumerImpl;
struct QueueMessageState;

// A leased message. Owns its bytes; may outlive the consumer (then it can no longer be settled:
// kShuttingDown). Settling is asynchronous: the calls queue the answer, travel together with others
// and are repeated until the lease ends (an ack for 30 s at least: it holds without a lease, unless
// another consumer has it); the optional callback gets the outcome on the I/O thread (or executor).
// Of several calls the first one counts; the others are told kConflict. Destroyed unsettled:
// nacked, so it comes again after the back-off.
class QueueMessage {
 public:
  using Settled = std::function<void(const Status&)>;

  QueueMessage(QueueMessage&&) noexcept;
  QueueMessage& operator=(QueueMessage&&) noexcept;
  QueueMessage(const QueueMessage&) = delete;
  QueueMessage& operator=(const QueueMessage&) = delete;
  ~QueueMessage();

  [[nodiscard]] const std::string& topic() const;
  [[nodiscard]] uint32_t partition() const;
  [[nodiscard]] uint64_t offset() const;
  [[nodiscard]] int64_t timestamp_ms() const;
  [[nodiscard]] std::optional<std::string_view> key() const;
  [[nodiscard]] std::optional<std::string_view> value() const;
  [[nodiscard]] std::span<const Header> headers() const;
  // How often it was delivered, this time included (failures that were recorded, and one).
  [[nodiscard]] uint32_t deliveries() const;
  // Time left, by this machine's clock, counted from when the request was sent: never too long.
  [[nodiscard]] int64_t lease_left_ms() const;

  void ack(Settled settled = {});
  // Again after the topic's back-off, or after delay_ms (at most 366 days). Of a reason the first
  // 255 bytes are kept. Ok also when the broker was lost before it answered: the message comes
  // again, but then at once and perhaps without this failure counted.
  void nack(std::string_view reason = {}, std::optional<int64_t> delay_ms = {},
            Settled settled = {});
  // No use to try again: to the dead-letter topic at once.
  void dead_letter(std::string_view reason, Settled settled = {});
  // Gives it back as it came, for another consumer: ready at once, and not counted as a delivery.
  void release(Settled settled = {});
  // The lease ends visibility_ms from now, which is taken as 1 s to 12 h. Waits for nothing; a
  // lease that is over says so in `settled` (kNotFound, kFenced).
  void extend(int64_t visibility_ms, Settled settled = {});

 private:
  friend struct QueueMessageState;
  explicit QueueMessage(std::unique_ptr<QueueMessageState> state);

  std::unique_ptr<QueueMessageState> state_;
};

struct QueueOptions {
  std::string group;                // 1 to 255 bytes
  std::vector<std::string> topics;  // 1 to 256; those that do not exist yet are waited for
  int64_t visibility_ms = 30'000;   // 1 s to 12 h
  // Messages and bytes leased and not yet settled. Leased ahead is what a handler or receive() has
  // not taken yet: their lease runs, and they are given back when the connection is lost.
  size_t in_flight_max = 256;                   // 1 to 65,536
  size_t prefetch_bytes_max = size_t{8} << 20;  // 64 KiB to 1 GiB; exceeded by a message a request
  // Leases of messages that the program has are extended before they end, as long as this process
  // lives: up to this long after the delivery; 0: not at all.
  int64_t auto_extend_ms = 0;          // at most 366 days
  std::vector<std::string> tags = {};  // only messages with one of these: at most 64
  std::string filter = {};  // only messages whose headers make this true; at most 4096 bytes
  bool ordered = false;     // messages of one key one after another
  bool from_end = false;    // a new group begins with what comes from now on
  // How long the broker may hold a request: up to 60 s, but not more than a quarter of
  // visibility_ms.
  int64_t receive_wait_ms = 500;
  // Handler style: true acks, false nacks. receive() must not be used. One thread each.
  std::function<bool(QueueMessage&)> on_message = {};
  size_t handlers = 1;  // 1 to 256
};

class QueueConsumer {
 public:
  // Does not wait for the broker. kInvalidArgument names the option that is wrong.
  static Result<QueueConsumer> create(const Client& client, QueueOptions options);
  // close(5'000), then waits until the handlers have returned, however long they run.
  ~QueueConsumer();
  QueueConsumer(QueueConsumer&&) noexcept;
  QueueConsumer& operator=(QueueConsumer&&) noexcept;

  // The next message; nullopt: none came within timeout_ms. Errors: kInvalidArgument (a filter that
  // the broker does not understand; on_message is set), kConflict (others of the group have another
  // filter: told once for each time that the broker said so), kShuttingDown (closed).
  Result<std::optional<QueueMessage>> receive(int64_t timeout_ms);

  // No new messages until resume(); leased ones stay, and what is leased ahead waits as long as its
  // leases last.
  void pause();
  void resume();
  // Waits until everything settled so far is answered. kTimedOut; else the first failure since the
  // last flush.
  Status flush(int64_t deadline_ms);
  // Takes no more messages, waits for handlers, settles what was settled, gives back (as release())
  // what was leased ahead. Waits also for requests that the broker holds, as they may bring
  // messages (receive_wait_ms). kTimedOut: leases that were not given back end by themselves.
  // On the I/O thread it waits for nothing. Idempotent.
  Status close(int64_t deadline_ms);

  [[nodiscard]] size_t in_flight() const;
  [[nodiscard]] Status last_error() const;

 private:
  explicit QueueConsumer(std::shared_ptr<QueueConsumerImpl> impl);

  std::shared_ptr<QueueConsumerImpl> impl_;
};

// --- for operators ---

struct QueuePartitionInfo {
  std::string topic;
  uint32_t partition = 0;
  uint16_t shard = 0;
  uint64_t floor = 0;  // everything before is settled
  uint64_t end_offset = 0;
  uint64_t unsettled = 0;  // stored and not settled: the lag
  uint64_t leased = 0;
  uint64_t retrying = 0;
  uint32_t receivers = 0;
  uint64_t acked = 0;
  uint64_t failed = 0;
  uint64_t dead_lettered = 0;
  uint64_t expired = 0;
  uint64_t filtered = 0;
  std::optional<int64_t> oldest_unsettled_ms = {};
};

struct OffsetRange {
  uint64_t first = 0;
  uint64_t count = 1;
};

// Queues and dead letters as an operator sees them. Calls wait for their answer, at most
// deadline_ms; thread: any but the client's I/O thread.
class Queues {
 public:
  static Result<Queues> create(const Client& client);

  // Of all topics that the group works on in queue mode; none: an empty list.
  Result<std::vector<QueuePartitionInfo>> describe(std::string_view group,
                                                   int64_t deadline_ms = 10'000);
  // Acks without a lease. Gives, for each range, how it went: kFenced if messages of it are leased
  // now (the others were acked).
  Result<std::vector<Status>> ack(std::string_view group, std::string_view topic,
                                  uint32_t partition, const std::vector<OffsetRange>& ranges,
                                  int64_t deadline_ms = 10'000);
  // Dead letters (offsets of a dead-letter topic) go back to where they came from. One status each;
  // kNotFound: redriven or purged before.
  Result<std::vector<Status>> redrive(std::string_view topic, uint32_t partition,
                                      const std::vector<uint64_t>& offsets,
                                      int64_t deadline_ms = 10'000);
  // Which offsets of a dead-letter topic's partition are neither redriven nor purged: [floor, end)
  // without what is settled. At most `max` from `from` on.
  Result<std::vector<OffsetRange>> unsettled(std::string_view group, std::string_view topic,
                                             uint32_t partition, uint64_t from, size_t max,
                                             int64_t deadline_ms = 10'000);

 private:
  explicit Queues(Client client) : client_(std::move(client)) {}

  Client client_;
};

}  // namespace tidemark::client
