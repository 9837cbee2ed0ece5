// Mailbox: one direction of mail between two loops: a bounded queue, and an overflow on the
// sender's side, so that sending never blocks and never drops.
//
// The overflow is bounded by its user: as long as settled() is false the sending loop takes no new
// work from its sockets, so at most what those had in flight can pile up.
//
// Thread: one sending and one receiving thread; each function says whose it is. Waking the other
// side is the owner's business: the sender wakes the receiver after send(), the receiver wakes the
// sender when take_sender_waiting() says so.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "log/base/limits.h"
#include "log/base/spsc_queue.h"

namespace tidemark::shard {

template <typename Message>
class Mailbox {
 public:
  explicit Mailbox(size_t messages_max = limits::kMailboxMessagesMax) : queue_(messages_max) {}

  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Sender. Messages arrive in the order of the calls.
  void send(std::unique_ptr<Message> message) {
    if (overflow_.empty() && queue_.try_push(std::move(message))) {
      return;
    }
    overflow_.push_back(std::move(message));
    static_cast<void>(resend());
  }

  // Sender. Moves what it can from the overflow into the queue; true if anything was moved.
  bool resend() {
    if (overflow_.empty()) {
      return false;
    }
    const size_t before = overflow_.size();
    push_overflow();
    if (!overflow_.empty()) {
      // Pairs with take_sender_waiting(): of the two exchanges one comes first. Either the
      // receiver's finds the flag set, or this one follows it and the second try sees the room that
      // the receiver made before.
      sender_waiting_.exchange(true, std::memory_order_acq_rel);
      push_overflow();
    }
    return overflow_.size() != before;
  }

  // Sender. Everything sent is in the queue.
  [[nodiscard]] bool settled() const { return overflow_.empty(); }

  // Sender.
  [[nodiscard]] size_t overflow_messages() const { return overflow_.size(); }

  // Receiver. nullptr if there is none.
  std::unique_ptr<Message> receive() {
    std::optional<std::unique_ptr<Message>> message = queue_.pop();
    return message ? std::move(*message) : nullptr;
  }

  // Receiver, after a receive() that gave something: true once if the sender has an overflow and
  // must be woken to send it.
  [[nodiscard]] bool take_sender_waiting() {
    return sender_waiting_.exchange(false, std::memory_order_acq_rel);
  }

 private:
  void push_overflow() {
    while (!overflow_.empty() && queue_.try_push(std::move(overflow_.front()))) {
      overflow_.pop_front();
    }
  }

  SpscQueue<std::unique_ptr<Message>> queue_;
  std::deque<std::unique_ptr<Message>> overflow_;  // sender's
  std::atomic<bool> sender_waiting_{false};
};

}  // namespace tidemark::shard
