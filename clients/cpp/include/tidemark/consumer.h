// Consumer: reads partitions that the program assigns to it, from given positions.
//
//   auto consumer = Consumer::create(client, {});
//   consumer->assign({{"orders", 0, Position::start()}});
//   while (...) {
//     auto batch = consumer->poll(1'000);
//     if (!batch.ok()) { ... }
//     for (const ReceivedMessage& m : batch->messages) { ... }
//   }
//
// What is assigned is read ahead in the background within prefetch_bytes_max. Every batch is
// verified (CRC-32C) before a message of it is shown. Lost connections, overload and moved
// partitions are dealt with inside; last_error() tells about them.
//
// Thread: every member may be called from any thread, but only one thread may be in poll() or use
// what it returned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/error.h"
#include "tidemark/message.h"

namespace tidemark::client {

// Where to begin in a partition.
class Position {
 public:
  enum class Kind { kOffset, kStart, kEnd, kTimestamp };

  static Position offset(uint64_t value) { return {Kind::kOffset, static_cast<int64_t>(value)}; }

  // The first message still stored.
  static Position start() { return {Kind::kStart, 0}; }

  // Only what is written after the broker was asked.
  static Position end() { return {Kind::kEnd, 0}; }

  // The first message that the broker received at or after this time (ms since 1970).
  static Position timestamp(int64_t ms) { return {Kind::kTimestamp, ms}; }

  [[nodiscard]] Kind kind() const { return kind_; }

  [[nodiscard]] int64_t value() const { return value_; }

 private:
  Position(Kind kind, int64_t value) : kind_(kind), value_(value) {}

  Kind kind_;
  int64_t value_;
};

struct Assignment {
  std::string topic = {};
  uint32_t partition = 0;
  Position from = Position::start();
};

// Messages of one partition, in order of offset. Views: valid until the next poll() (or the end of
// the callback).
struct MessageBatch {
  std::string_view topic;
  uint32_t partition = 0;
  std::span<const ReceivedMessage> messages;  // empty: nothing came within the timeout
  uint64_t next_offset = 0;                   // where reading goes on after these messages
  uint64_t high_watermark = 0;                // next offset to be written, when these were fetched
};

using MessagesCallback = std::function<void(const Result<MessageBatch>&)>;

// When the offset to read is not (or no longer) stored.
enum class OutOfRange { kError, kStart, kEnd };

struct ConsumerOptions {
  // Bytes read ahead and not yet taken, over all partitions: 64 KiB to 1 GiB. Exceeded by at most
  // one batch per partition.
  size_t prefetch_bytes_max = size_t{32} << 20;
  // Asked of one partition at a time.
  size_t fetch_bytes_per_partition = size_t{1} << 20;
  // How long the broker may hold a request when there is nothing to read.
  int64_t fetch_wait_ms = 500;
  OutOfRange out_of_range = OutOfRange::kError;
  // Only messages with one of these tags / whose headers make this expression true; the broker
  // leaves the others out. At most 64 tags of 1 to 255 bytes, and 4096 bytes of expression. One
  // that the broker does not understand: kInvalidArgument from poll().
  std::vector<std::string> tags = {};
  std::string filter = {};
  // Callback style: batches and errors are given to this function and poll() must not be used. The
  // next one comes when it has returned.
  MessagesCallback on_messages = {};
};

class ConsumerImpl;

class Consumer {
 public:
  static Result<Consumer> create(const Client& client, ConsumerOptions options = {});
  // Closes: no callback runs after it returns, unless it is called from a callback.
  ~Consumer();
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) noexcept;

  // Replaces the whole assignment. What was read ahead of partitions that stay assigned is dropped,
  // too. kInvalidArgument: a partition is named twice or a name is impossible. Whether topics exist
  // shows in poll().
  Status assign(const std::vector<Assignment>& assignment);

  // Adds partitions to the assignment, or takes some away; the others are not interrupted.
  // kInvalidArgument: one is assigned already. Taking away what is not assigned is no error.
  Status add(const std::vector<Assignment>& assignment);
  Status remove(std::string_view topic, uint32_t partition);

  // The next messages of some partition; partitions take turns. Waits up to timeout_ms (0: does not
  // wait). An error concerns one partition (the text names it) and stops it until seek():
  // kUnknownTopic, kUnknownPartition, kOffsetOutOfRange (policy kError), kCorrupted (seek past it).
  // kInvalidArgument: nothing is assigned, or on_messages is set. kShuttingDown: closed meanwhile.
  Result<MessageBatch> poll(int64_t timeout_ms);

  // Drops what was read ahead of this partition and goes on from there. kNotFound: not assigned.
  Status seek(std::string_view topic, uint32_t partition, Position position);
  // A paused partition is not read further; what was read ahead waits. kNotFound: not assigned.
  Status pause(std::string_view topic, uint32_t partition);
  Status resume(std::string_view topic, uint32_t partition);
  // Offset of the next message that poll() will give. kNotFound: not assigned; kUnavailable: the
  // broker has not told the start yet.
  Result<uint64_t> position(std::string_view topic, uint32_t partition) const;

  // The last passing failure (broker away, overloaded) since something was last read; ok if none.
  [[nodiscard]] Status last_error() const;

  // Stops reading; poll() returns kShuttingDown. Idempotent.
  void close();

 private:
  explicit Consumer(std::shared_ptr<ConsumerImpl> impl);

  std::shared_ptr<ConsumerImpl> impl_;
};

}  // namespace tidemark::client
