// Histories of queues, each with one fault.
#include <vector>

#include "tests/simulation/checker_test.h"
#include "tests/simulation/queue_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNs = 1'000'000;  // of a millisecond
constexpr int64_t kVisibilityMs = 1'000;
constexpr uint32_t kMaxDeliveries = 3;
constexpr PartitionId kPartition{TopicId{1}, PartitionIndex{0}};

using Action = QueueModel::Action;
using Answer = QueueModel::Answer;

// Everything is answered 1 ms after it arrived; log time is simulated time.
struct QueueHistory {
  QueueModel model{kMaxDeliveries};
  QueueModel::Name name{"workers", kPartition};
  bool retention = false;  // of the topic

  QueueHistory() { model.broker_started(0); }

  uint64_t receive(int64_t at_ms) {
    const uint64_t receive = model.receive_sent(name.group, {kPartition}, kVisibilityMs);
    model.receive_arrived(receive, at_ms * kNs);
    return receive;
  }

  void lease(uint64_t token, uint32_t deliveries, int64_t at_ms, uint64_t offset = 0) {
    const uint64_t from = receive(at_ms);
    model.leased(from, kPartition, {Offset{offset}, token, deliveries}, (at_ms + 1) * kNs,
                 at_ms + 1);
    model.receive_answered(from);
  }

  uint64_t send(Action action, uint64_t token, int64_t at_ms, int64_t delay_ms = 0,
                uint64_t count = 1) {
    const uint64_t settle =
        model.settle_sent({name, Offset{0}, token, count, action, delay_ms, retention});
    model.settle_arrived(settle, at_ms * kNs, at_ms);
    return settle;
  }

  void settle(Action action, uint64_t token, int64_t at_ms, Answer answer = Answer::kOk,
              int64_t delay_ms = 0) {
    model.settle_answered(send(action, token, at_ms, delay_ms), answer, (at_ms + 1) * kNs,
                          at_ms + 1);
  }

  void die(uint32_t deliveries, int64_t at_ms) {
    model.dead_letter(name, {Offset{0}, deliveries, at_ms});
  }

  void end(uint64_t at, bool trimmed = false) {
    model.check();
    model.check_settled(name, Offset{at}, trimmed);
  }
};

using BadHistory = JudgedHistory<QueueHistory>;

std::vector<BadHistory> settled() {
  return {
      {"leased, acked, settled", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 20);
         h.end(1);
       }},
      {"the answer to an ack was lost, it was done", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.send(Action::kAck, 1, 20);
         h.end(1);
       }},
      {"leased after an ack", "I20: settled at",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 20);
         h.lease(2, 1, 2'000);
       }},
      {"an ack is forgotten by a restart", "I20: settled at",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 20);
         h.model.broker_started(100 * kNs);
         h.lease(2, 1, 200);
       }},
      {"leased after an ack of an operator", "I20: settled at",
       [](QueueHistory& h) {
         h.settle(Action::kAck, 0, 20);
         h.lease(2, 1, 200);
       }},
      {"leased after it became a dead letter", "I20: settled at",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kDeadLetter, 1, 20);
         h.lease(2, 1, 200);
       }},
      {"an ack that may not have been done, leased again", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.send(Action::kAck, 1, 20);
         h.model.broker_started(100 * kNs);
         h.lease(2, 1, 200);
         h.settle(Action::kAck, 2, 220);
         h.end(1);
       }},
  };
}

std::vector<BadHistory> endings() {
  return {
      {"never leased", "I20: never leased",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 20);
         h.end(2);
       }},
      {"never leased, but an operator acked it", "",
       [](QueueHistory& h) {
         h.model.settle_answered(h.send(Action::kAck, 0, 20, 0, 2), Answer::kOk, 21 * kNs, 21);
         h.end(2);
       }},
      {"never leased: retention took it", "", [](QueueHistory& h) { h.end(2, true); }},
      {"settled, but only nacked", "I20: settled, but nobody acked it",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 0);
         h.end(1);
       }},
      {"settled, but the ack was fenced", "I20: settled, but nobody acked it",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 2'000, Answer::kFenced);
         h.end(1);
       }},
  };
}

std::vector<BadHistory> deliveries() {
  return {
      {"a nack, then its lease ends, then an ack", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 100);
         h.lease(2, 2, 130);
         h.lease(3, 3, 1'500);
         h.settle(Action::kAck, 3, 1'600);
         h.end(1);
       }},
      {"a nack is not counted", "I20: 1 nacks were answered before",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 0);
         h.lease(2, 1, 130);
       }},
      {"a nack is forgotten by a restart", "I20: 1 nacks were answered before",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 0);
         h.model.broker_started(100 * kNs);
         h.lease(2, 1, 130);
       }},
      {"a nack is counted twice", "I20: at most 1 deliveries may have failed before",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 0);
         h.lease(2, 3, 130);
       }},
      {"a lease that a restart ended is counted", "I20: at most 0 deliveries may have failed",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.model.broker_started(100 * kNs);
         h.lease(2, 2, 2'000);
       }},
      {"released, and leased again as it was", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kRelease, 1, 20);
         h.lease(2, 1, 30);
       }},
      {"a release is counted", "I20: at most 0 deliveries may have failed",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kRelease, 1, 20);
         h.lease(2, 2, 2'000);
       }},
      {"an unknown lease may have failed", "",
       [](QueueHistory& h) {
         h.receive(10);
         h.lease(1, 2, 2'000);
       }},
      {"an unknown lease has not failed yet", "I20: at most 0 deliveries may have failed",
       [](QueueHistory& h) {
         h.receive(10);
         h.lease(1, 2, 500);
       }},
      {"an unknown lease that a restart ended has not failed",
       "I20: at most 0 deliveries may have failed",
       [](QueueHistory& h) {
         h.receive(10);
         h.model.broker_started(500 * kNs);
         h.lease(1, 2, 2'000);
       }},
      {"deliveries go back", "I20: deliveries went back from 2",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 2, 1'500);
         h.lease(3, 1, 3'000);
       }},
      {"delivery 0", "I20: deliveries went back from 1",
       [](QueueHistory& h) { h.lease(1, 0, 10); }},
      {"a token comes again", "I20: leased again under the token 1",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(1, 2, 1'500);
       }},
      {"no token", "I20: a lease without a token", [](QueueHistory& h) { h.lease(0, 1, 10); }},
  };
}

std::vector<BadHistory> holders() {
  return {
      {"given to two", "I20: held from",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 1, 500);
       }},
      {"given to two at once", "I20: held from",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 1, 10);
       }},
      {"given again after a restart", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.model.broker_started(100 * kNs);
         h.lease(2, 1, 500);
       }},
      {"given again before the extension is over", "I20: held from",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kExtend, 1, 900, Answer::kOk, 1'000);
         h.lease(2, 2, 1'800);
       }},
      {"given again after a short extension", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kExtend, 1, 100, Answer::kOk, 50);
         h.lease(2, 2, 200);
       }},
      {"given again after an extension that may have been short", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.send(Action::kExtend, 1, 100, 50);
         h.lease(2, 2, 200);
       }},
  };
}

std::vector<BadHistory> refusals() {
  return {
      {"an ack of one whose lease is over", "I20: settled by one who does not hold it",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 2, 1'500);
         h.settle(Action::kAck, 1, 1'600);
       }},
      {"an ack of an operator takes it away", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 20);
         h.settle(Action::kAck, 0, 30);
       }},
      {"a late ack of what is settled", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 2, 1'500);
         h.settle(Action::kAck, 2, 1'600);
         h.settle(Action::kAck, 1, 1'700);
       }},
      {"the holder's ack is fenced", "I20: the holder was refused",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kAck, 1, 500, Answer::kFenced);
       }},
      {"a late ack is ok, retention took the message", "",
       [](QueueHistory& h) {
         h.retention = true;
         h.lease(1, 1, 10);
         h.lease(2, 2, 1'500);
         h.settle(Action::kAck, 1, 1'600);
         h.model.check();
       }},
      {"the holder's nack finds nothing, retention took the message", "",
       [](QueueHistory& h) {
         h.retention = true;
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kNotFound);
         h.model.check();
       }},
      {"the holder's nack finds no lease", "I20: the holder was refused",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 500, Answer::kNotFound);
       }},
      {"his second nack finds no lease", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 500);
         h.settle(Action::kNack, 1, 501, Answer::kNotFound);
       }},
      {"too late, or after a restart", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 1'100, Answer::kNotFound);
         h.lease(2, 2, 1'500);
         h.model.broker_started(1'600 * kNs);
         h.settle(Action::kNack, 2, 1'700, Answer::kNotFound);
       }},
  };
}

std::vector<BadHistory> delays() {
  return {
      {"given before the delay is over", "I20: nacked at log time",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 500);
         h.lease(2, 2, 400);
       }},
      {"given before the topic's first delay is over", "I20: nacked at log time",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, -1);
         h.lease(2, 2, 115);
       }},
      {"given after the topic's first delay", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, -1);
         h.lease(2, 2, 120);
       }},
      {"given before the topic's third delay is over", "I20: nacked at log time",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.lease(2, 2, 1'500);
         h.lease(3, 3, 3'000);
         h.settle(Action::kNack, 3, 3'100, Answer::kOk, -1);
         h.lease(4, 4, 3'690);
       }},
      {"a restart forgets the delay", "I20: nacked at log time",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20, Answer::kOk, 500);
         h.model.broker_started(50 * kNs);
         h.lease(2, 2, 100);
       }},
  };
}

// Of a message that failed three times.
void fail(QueueHistory& h) {
  h.lease(1, 1, 10);
  h.settle(Action::kNack, 1, 20, Answer::kOk, 0);
  h.lease(2, 2, 30);
  h.lease(3, 3, 1'500);
  h.settle(Action::kNack, 3, 1'600);
}

std::vector<BadHistory> deaths() {
  return {
      {"a dead letter after three deliveries", "",
       [](QueueHistory& h) {
         fail(h);
         h.die(3, 1'600);
         h.end(1);
       }},
      {"twice in the dead-letter topic", "I20: 2 times in the dead-letter topic",
       [](QueueHistory& h) {
         fail(h);
         h.die(3, 1'600);
         h.die(3, 1'601);
       }},
      {"acked, and a dead letter", "I20: acked at log time",
       [](QueueHistory& h) {
         fail(h);
         h.model.broker_started(1'650 * kNs);
         h.settle(Action::kAck, 3, 1'700);
         h.die(3, 1'800);
       }},
      {"a dead letter, then an ack of what is settled", "",
       [](QueueHistory& h) {
         fail(h);
         h.die(3, 1'600);
         h.settle(Action::kAck, 1, 1'700);
         h.end(1);
       }},
      {"a dead letter too early", "I20: the maximum is 3",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20);
         h.die(1, 21);
       }},
      {"a dead letter that somebody asked for", "",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kDeadLetter, 1, 20);
         h.die(1, 20);
         h.end(1);
       }},
      {"nobody had it three times", "I20: at most 1 deliveries may have failed",
       [](QueueHistory& h) {
         h.lease(1, 1, 10);
         h.settle(Action::kNack, 1, 20);
         h.die(3, 21);
       }},
      {"leased once more", "I20: leased for delivery 4",
       [](QueueHistory& h) {
         fail(h);
         h.lease(4, 4, 1'900);
         h.die(3, 1'600);
       }},
  };
}

}  // namespace

std::string find_blind_queue_checker() {
  return find_misjudged<QueueHistory>(
      {settled(), endings(), deliveries(), holders(), refusals(), delays(), deaths()},
      [](QueueHistory& history) { history.model.check(); });
}

}  // namespace tidemark::sim
