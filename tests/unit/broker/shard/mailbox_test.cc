#include "broker/shard/mailbox.h"

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>

#include <doctest/doctest.h>

namespace tidemark::shard {
namespace {

TEST_CASE("what does not fit waits in the overflow and arrives in order") {
  Mailbox<int> mailbox(4);
  for (int i = 0; i < 10; ++i) {
    mailbox.send(std::make_unique<int>(i));
  }
  CHECK_FALSE(mailbox.settled());
  CHECK(mailbox.overflow_messages() == 6);
  int expected = 0;
  while (std::unique_ptr<int> message = mailbox.receive()) {
    CHECK(*message == expected++);
  }
  CHECK(expected == 4);
  CHECK(mailbox.take_sender_waiting());
  CHECK_FALSE(mailbox.take_sender_waiting());
  CHECK(mailbox.resend());
  CHECK(mailbox.overflow_messages() == 2);
  // A message sent now goes behind those that wait.
  mailbox.send(std::make_unique<int>(10));
  while (expected < 11) {
    std::unique_ptr<int> message = mailbox.receive();
    if (message == nullptr) {
      REQUIRE(mailbox.resend());
      continue;
    }
    CHECK(*message == expected++);
  }
  CHECK(mailbox.settled());
  CHECK_FALSE(mailbox.resend());
  CHECK(mailbox.receive() == nullptr);
}

TEST_CASE("a sender with an overflow is woken whenever there is room") {
  // Each side sleeps unless the other wakes it, as loops do; a lost wake-up would hang here.
  constexpr int kMessages = 50'000;
  Mailbox<int> mailbox(8);
  std::counting_semaphore<> wake_sender{0};
  std::counting_semaphore<> wake_receiver{0};
  std::thread sender([&] {
    for (int i = 0; i < kMessages; ++i) {
      mailbox.send(std::make_unique<int>(i));
      wake_receiver.release();
      while (!mailbox.settled()) {
        wake_sender.acquire();
        mailbox.resend();
        wake_receiver.release();
      }
    }
  });
  int expected = 0;
  bool in_order = true;
  while (expected < kMessages) {
    wake_receiver.acquire();
    while (std::unique_ptr<int> message = mailbox.receive()) {
      in_order = in_order && *message == expected;
      ++expected;
    }
    if (mailbox.take_sender_waiting()) {
      wake_sender.release();
    }
  }
  // The last wake-up may still be needed by a sender that is settled by now.
  wake_sender.release();
  sender.join();
  CHECK(in_order);
}

}  // namespace
}  // namespace tidemark::shard
