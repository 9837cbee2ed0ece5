// Producer: asynchronous sending into a bounded write buffer.
//
//   auto producer = Producer::create(client, {});
//   auto topic = producer->topic("orders");
//   Status accepted = producer->send(*topic, {.key = "k", .value = "v"}, [](const Delivery& d) {
//   ... }); FlushResult rest = producer->close(5'000);
//
// Life of a message: send() encodes it into the open batch of its partition; a batch leaves when it
// is full, when linger_ms is over, or on flush(); the broker's answer, an error that cannot be
// retried, or the delivery timeout resolves it, exactly once.
//
// Promises (idempotent, the default):
//   - a message whose delivery is ok is stored exactly once, also when requests had to be repeated
//   or connections broke;
//   - messages of one partition from one thread are stored in the order of send(), repeated or not;
//   - a message whose delivery failed with outcome_unknown == false is not stored and will not be;
//   - every accepted message gets its delivery report, at the latest after delivery_timeout_ms plus
//   the time for one request.
// With idempotent = false a message may be stored twice after a lost connection.
//
// Delayed messages (Message::delay) are stored like others, with the same promises; their reports
// bring the handle that cancels them. They travel apart from plain ones: a partition's open batch
// leaves when a message of the other kind follows, so batches stay larger when the two kinds do not
// alternate. They are not compressed on their way.
//
// Thread: every member may be called from any thread. Reports come on the client's I/O thread (or
// executor), per partition in order.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"
#include "tidemark/message.h"

namespace tidemark::client {

// What happened to one message.
struct Delivery {
  Status status;                 // ok: stored, as durably as the broker's fsync policy says
  uint32_t partition = 0;        // meaningless while no partition was chosen (topic never found)
  uint64_t offset = 0;           // of the message; when ok
  int64_t received_ms = 0;       // log time of the broker; when ok
  bool outcome_unknown = false;  // not ok, and it may nevertheless be stored
  uint64_t opaque = 0;           // as given to send()
  DelayHandle handle = {};       // of a delayed message; when ok. It has no offset yet
  int64_t due_ms = 0;            // of a delayed message; when ok
};

using DeliveryCallback = std::function<void(const Delivery&)>;

// What happened to messages of one partition. Message i has offset base_offset + i, or offsets[i].
// Valid during the callback.
struct DeliveryBatch {
  std::string_view topic;
  uint32_t partition = 0;
  Status status;
  uint64_t base_offset = 0;
  int64_t received_ms = 0;
  bool duplicate = false;  // stored by an earlier attempt whose answer was lost
  bool outcome_unknown = false;
  std::span<const uint64_t> opaques;  // one per message, in order
  // Of delayed messages: one per message when status is ok (an item may still have been refused);
  // base_offset means nothing then. Plain and delayed messages never share a batch.
  std::span<const DelayReceipt> receipts = {};
  // Where each message is, if the broker knew the ids of some (Message::id); base_offset means
  // nothing then. Else empty.
  std::span<const uint64_t> offsets = {};
};

using DeliveryBatchCallback = std::function<void(const DeliveryBatch&)>;

// What send() does when the write buffer is full.
struct Overflow {
  enum class Kind { kBlockFor, kFail, kDropOldest };
  Kind kind = Kind::kBlockFor;
  int64_t block_ms = 60'000;

  // Waits up to `ms` for room, then kOverloaded. From the I/O thread it never waits.
  static Overflow block_for(int64_t ms) { return {Kind::kBlockFor, ms}; }

  // kOverloaded at once.
  static Overflow fail() { return {Kind::kFail, 0}; }

  // Gives up the oldest batch that was never sent; its messages are reported kOverloaded. If
  // everything in the buffer has been sent already, kOverloaded at once.
  static Overflow drop_oldest() { return {Kind::kDropOldest, 0}; }
};

enum class Compression { kNone, kZstd };

struct ProducerOptions {
  // Bounds of what is accepted and not yet resolved. Hard: send() never goes over them.
  size_t buffer_bytes_max = size_t{64} << 20;
  size_t buffer_messages_max = 1'000'000;
  Overflow overflow = Overflow::block_for(60'000);

  // A batch leaves when it has this many bytes (1 KiB to 1 MiB) ...
  size_t batch_bytes = size_t{256} << 10;
  // ... or when its first message has waited this long. 0: as soon as the partition may have
  // another batch under way.
  int64_t linger_ms = 5;
  Compression compression = Compression::kNone;
  int compression_level = 1;  // zstd, 1 to 19

  bool idempotent = true;
  // Batches under way per partition: 1 to 5; without idempotence 1.
  uint32_t in_flight_per_partition_max = 5;
  // From send() to the report.
  int64_t delivery_timeout_ms = 30'000;
  // Pause before a refused batch is sent again: doubles from min to max; longer if the broker asks
  // for it.
  int64_t retry_backoff_min_ms = 20;
  int64_t retry_backoff_max_ms = 1'000;
  // Report kDiskFull at once instead of trying until the delivery timeout.
  bool fail_fast_on_disk_full = false;

  // Reports whole batches: the cheap form for high rates. Comes before the callbacks of single
  // messages.
  DeliveryBatchCallback on_delivery = {};
  // What the destructor waits for deliveries.
  int64_t close_timeout_ms = 5'000;
};

struct Undelivered {
  OwnedMessage message;
  Status why;                    // the last thing that went wrong, or kTimedOut if nothing did
  bool outcome_unknown = false;  // it was sent at least once and may be stored
};

struct FlushResult {
  // Ok: every message accepted before the call was delivered. kTimedOut: the deadline came first,
  // see `undelivered`. Else the first error of a message that failed since the last flush.
  Status status;
  // Messages reported as failed since the last flush; refused delayed messages are among them.
  uint64_t failed = 0;
  std::vector<Undelivered> undelivered;
};

struct ProducerStats {
  uint64_t buffered_messages = 0;  // accepted, not resolved
  uint64_t buffered_bytes = 0;
  uint64_t delivered = 0;
  uint64_t failed = 0;
  uint64_t batches_sent = 0;  // repetitions included
  uint64_t batches_retried = 0;
  uint64_t duplicates = 0;  // batches that the broker had already
};

class ProducerImpl;

// A topic of one producer: saves send() the look-up by name. Valid as long as the producer.
class Topic {
 public:
  Topic() = default;

 private:
  friend class Producer;

  explicit Topic(void* slot) : slot_(slot) {}

  void* slot_ = nullptr;
};

class Producer {
 public:
  // kInvalidArgument names the option that is wrong and what is allowed.
  static Result<Producer> create(const Client& client, ProducerOptions options = {});
  // close(close_timeout_ms).
  ~Producer();
  Producer(Producer&&) noexcept;
  Producer& operator=(Producer&&) noexcept;

  // Does not ask the broker: messages wait in the buffer until the topic's partitions are known,
  // and are reported kUnknownTopic if there is no such topic. kInvalidArgument for an impossible
  // name, kLimitExceeded above 10,000 topics.
  Result<Topic> topic(std::string_view name);

  // Accepts a message. Ok: it will be reported exactly once. An error: it was not taken, and no
  // report will come: kTooLarge, kLimitExceeded (headers), kInvalidArgument (no such partition, an
  // impossible delay), kOverloaded (buffer full), kShuttingDown (closed). `opaque` comes back in
  // on_delivery.
  Status send(const Topic& topic, const Message& message, uint64_t opaque = 0);
  Status send(const Topic& topic, const Message& message, DeliveryCallback callback);
  Status send(std::string_view topic, const Message& message, DeliveryCallback callback);
  // An error of acceptance is the future's value, too.
  std::future<Delivery> send_future(std::string_view topic, const Message& message);

  // Sends what is buffered without waiting for linger and waits until it is resolved, at most
  // `deadline_ms`. What is not resolved by then is handed back as copies and stays in the buffer:
  // it will still be tried and reported.
  FlushResult flush(int64_t deadline_ms);
  // Accepts nothing more, then as flush(). What is not resolved in time is given up and handed
  // back; its reports say kCancelled. A second call returns an empty result.
  FlushResult close(int64_t deadline_ms);

  [[nodiscard]] ProducerStats stats() const;

 private:
  explicit Producer(std::unique_ptr<ProducerImpl> impl);

  std::unique_ptr<ProducerImpl> impl_;
};

}  // namespace tidemark::client
