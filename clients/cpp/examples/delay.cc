// Delayed messages: sends some, cancels one, moves one to another time, lets one recur twice, and
// prints what comes and how late.
//
//   delay TOPIC [BROKERS]
//
// The topic must exist. BROKERS defaults to $TIDEMARK_BROKERS. Takes about five seconds. Exit code:
// 0 everything happened as it should, 1 it did not, 2 wrong usage.
#include <chrono>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

constexpr int64_t kTickMs = 1'000;

// Due times are wall time.
int64_t now_ms() {
  const auto now = std::chrono::system_clock::now();  // tidy: allow(clock): a program of a user
  return std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
}

int fail(const std::string& what, const mq::Status& status) {
  std::cerr << what << ": " << status.to_string() << "\n";
  return 1;
}

// Reads every partition from where it ends now.
mq::Status read_from_here(const mq::Client& client, const char* topic, mq::Consumer& consumer) {
  const auto partitions = mq::Admin(client).describe_partitions(topic);
  if (!partitions.ok()) {
    return partitions.status();
  }
  std::vector<mq::Assignment> assignment;
  for (const mq::PartitionDescription& partition : *partitions) {
    assignment.push_back({.topic = topic,
                          .partition = partition.partition,
                          .from = mq::Position::offset(partition.end_offset)});
  }
  return consumer.assign(assignment);
}

// Sends and waits until the broker has it. The report says when it is due and gives the handle.
mq::Delivery schedule(mq::Producer& producer, const char* topic, const char* text,
                      const mq::Delay& delay) {
  mq::Delivery delivery = producer.send_future(topic, {.value = text, .delay = delay}).get();
  if (delivery.status.ok()) {
    std::cout << "scheduled " << text << " in " << delivery.due_ms - now_ms()
              << " ms: " << delivery.handle.to_string() << "\n";
  } else {
    std::cerr << text << ": " << delivery.status.to_string() << "\n";
  }
  return delivery;
}

// True if the one target that was asked for had this outcome.
bool changed(const mq::Result<std::vector<mq::DelayChange>>& answer, mq::DelayOutcome expected) {
  if (!answer.ok()) {
    std::cerr << answer.status().to_string() << "\n";
    return false;
  }
  const mq::DelayChange& change = answer->front();
  if (!change.status.ok()) {
    std::cerr << change.status.to_string() << "\n";
    return false;
  }
  std::cout << mq::delay_outcome_text(change.outcome) << "\n";
  return change.outcome == expected;
}

// Reads for a while and cancels the ticks after two of them. True if all came that should, and
// nothing else. `due`: when each text is due.
bool receive(mq::Consumer& consumer, mq::Delays& delays, const char* topic,
             std::map<std::string, int64_t> due) {
  std::map<std::string, int> count;  // of what came
  // Longer than "never" would have taken, and a third tick.
  const int64_t until_ms = now_ms() + 5'000;
  while (now_ms() < until_ms) {
    const auto batch = consumer.poll(100);
    if (!batch.ok()) {
      std::cerr << "poll: " << batch.status().to_string() << "\n";
      return false;
    }
    for (const mq::ReceivedMessage& message : batch->messages) {
      const std::string text(message.value.value_or(""));
      const auto at = due.find(text);
      if (at == due.end()) {
        std::cerr << "unexpected: " << text << "\n";
        return false;
      }
      std::cout << "received " << text << ", " << now_ms() - at->second << " ms late\n";
      ++count[text];
      if (text != "tick") {
        continue;
      }
      at->second += kTickMs;  // the next occurrence
      if (count[text] == 2 &&
          !changed(delays.cancel(topic, {mq::DelayTarget::of_key("example-tick")}),
                   mq::DelayOutcome::kCancelled)) {
        return false;
      }
    }
  }

  const bool as_told = count["soon"] == 1 && count["moved"] == 1 && count["tick"] == 2;
  if (!as_told) {
    std::cerr << "came: soon " << count["soon"] << ", moved " << count["moved"] << ", tick "
              << count["tick"] << "; expected 1, 1, 2\n";
  }
  return as_told;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: delay TOPIC [BROKERS]\n";
    return 2;
  }
  const char* const topic = argv[1];
  const auto client = mq::Client::create(
      {.brokers = argc == 3 ? mq::split_brokers(argv[2]) : mq::brokers_from_environment(),
       .client_name = "example-delay"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }
  auto producer = mq::Producer::create(*client, {.linger_ms = 0});
  auto consumer = mq::Consumer::create(*client);
  auto delays = mq::Delays::create(*client);
  if (!producer.ok() || !consumer.ok() || !delays.ok()) {
    std::cerr << "no producer, consumer or delays\n";
    return 1;
  }
  const mq::Status reading = read_from_here(*client, topic, *consumer);
  if (!reading.ok()) {
    return fail("read", reading);
  }

  // A handle names a message until it is delivered; so does a key, if it is given one. With
  // kReplace, what an earlier run left under the key makes way.
  const mq::Delivery soon = schedule(*producer, topic, "soon", mq::Delay::after(1'000));
  const mq::Delivery moved = schedule(*producer, topic, "moved", mq::Delay::after(3'000));
  const mq::Delivery never = schedule(*producer, topic, "never", mq::Delay::after(3'000));
  const mq::Delivery tick =
      schedule(*producer, topic, "tick",
               mq::Delay::every(kTickMs).with_key("example-tick", mq::Delay::OnPending::kReplace));
  if (!soon.status.ok() || !moved.status.ok() || !never.status.ok() || !tick.status.ok()) {
    return 1;
  }
  if (!changed(delays->cancel(topic, {mq::DelayTarget::of(never.handle)}),
               mq::DelayOutcome::kCancelled)) {
    return 1;
  }
  const auto later =
      delays->reschedule(topic, {mq::DelayTarget::of(moved.handle)}, mq::Delay::after(2'000));
  if (!changed(later, mq::DelayOutcome::kRescheduled)) {
    return 1;
  }

  std::map<std::string, int64_t> due = {
      {"soon", soon.due_ms}, {"moved", later->front().receipt.due_ms}, {"tick", tick.due_ms}};
  return receive(*consumer, *delays, topic, std::move(due)) ? 0 : 1;
}
