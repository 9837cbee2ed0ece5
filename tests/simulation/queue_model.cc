#include "tests/simulation/queue_model.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tests/simulation/delay_model.h"
#include "tests/simulation/scheduler.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Between the moment when a message is taken and the one when the answer leaves it is read from the
// disk, perhaps.
constexpr int64_t kServeNs = 400 * kNsPerMs;
// Log time is counted in whole ms.
constexpr int64_t kMarginMs = 2;

std::string place(const QueueModel::Name& name, Offset offset) {
  return "group " + name.group + ", topic " + std::to_string(name.partition.topic.value()) +
         " partition " + std::to_string(name.partition.index.value()) + " offset " +
         std::to_string(offset.value());
}

// After the n-th failure.
int64_t topic_delay_ms(uint32_t failures) {
  constexpr size_t kListed = std::size(kQueueRetryMs);
  if (failures <= kListed) {
    return kQueueRetryMs[std::max<uint32_t>(failures, 1) - 1];
  }
  int64_t delay_ms = kQueueRetryMs[kListed - 1];
  for (uint32_t i = kListed; i < failures && delay_ms < kQueueRetryMsMax; ++i) {
    delay_ms = delay_ms * kQueueRetryFactorPercent / 100;
  }
  return std::min(delay_ms, kQueueRetryMsMax);
}

}  // namespace

// --- events

uint64_t QueueModel::receive_sent(const std::string& group,
                                  const std::vector<PartitionId>& partitions,
                                  int64_t visibility_ms) {
  const uint64_t id = next_++;
  receives_[id] = {group, partitions, visibility_ms * kNsPerMs, INT64_MAX, false};
  return id;
}

void QueueModel::receive_arrived(uint64_t receive, int64_t at_ns) {
  receives_.at(receive).arrived_ns = at_ns;
}

void QueueModel::receive_answered(uint64_t receive) { receives_.at(receive).answered = true; }

void QueueModel::leased(uint64_t receive, PartitionId partition, const Lease& lease,
                        int64_t left_ns, int64_t log_ms) {
  if (forgotten_.contains(partition.topic)) {
    return;
  }
  const Receive& from = receives_.at(receive);
  const Name name{from.group, partition};
  require(lease.token != 0,
          [&] { return "I20: a lease without a token: " + place(name, lease.offset); });
  Message& message = queues_[name][lease.offset];
  for (const Given& given : message.leases) {
    require(given.token != lease.token, [&] {
      return "I20: leased again under the token " + std::to_string(lease.token) + ": " +
             place(name, lease.offset);
    });
  }
  message.leases.push_back({lease.token, lease.deliveries,
                            std::max(from.arrived_ns, left_ns - kServeNs), left_ns, log_ms,
                            from.visibility_ns});
  ++counters_.leases;
  counters_.again += message.leases.size() > 1 ? 1 : 0;
}

uint64_t QueueModel::settle_sent(const Settle& settle) {
  const uint64_t id = next_++;
  if (!forgotten_.contains(settle.name.partition.topic)) {
    settlings_[id].settle = settle;
    Queue& queue = queues_[settle.name];
    for (uint64_t i = 0; i < settle.count; ++i) {
      queue[settle.offset + i].settlings.push_back(id);
    }
  }
  return id;
}

void QueueModel::settle_arrived(uint64_t settle, int64_t at_ns, int64_t log_ms) {
  if (const auto it = settlings_.find(settle); it != settlings_.end()) {
    it->second.arrived_ns = at_ns;
    it->second.arrived_log_ms = log_ms;
  }
}

void QueueModel::settle_answered(uint64_t settle, Answer answer, int64_t left_ns, int64_t log_ms) {
  const auto it = settlings_.find(settle);
  if (it == settlings_.end()) {
    return;
  }
  it->second.answer = answer;
  it->second.left_ns = left_ns;
  it->second.left_log_ms = log_ms;
  const Action action = it->second.settle.action;
  if (answer == Answer::kOk) {
    counters_.acks += action == Action::kAck ? 1 : 0;
    counters_.nacks += action == Action::kNack ? 1 : 0;
    counters_.released += action == Action::kRelease ? 1 : 0;
    counters_.extended += action == Action::kExtend ? 1 : 0;
  }
  counters_.fenced += answer == Answer::kFenced ? 1 : 0;
  counters_.not_found += answer == Answer::kNotFound ? 1 : 0;
}

void QueueModel::dead_letter(const Name& name, const DeadLetter& letter) {
  if (!forgotten_.contains(name.partition.topic)) {
    queues_[name][letter.offset].deaths.push_back(letter);
    ++counters_.dead_letters;
  }
}

void QueueModel::forget(TopicId topic) {
  forgotten_.insert(topic);
  std::erase_if(queues_, [&](const auto& entry) { return entry.first.partition.topic == topic; });
  std::erase_if(settlings_, [&](const auto& entry) {
    return entry.second.settle.name.partition.topic == topic;
  });
}

// --- judging

int64_t QueueModel::process_end_ns(int64_t at_ns) const {
  const auto next = std::upper_bound(starts_.begin(), starts_.end(), at_ns);
  return next == starts_.end() ? INT64_MAX : *next;
}

// An answer that was lost may have leased any message.
std::vector<int64_t> QueueModel::unknown_failures(const Name& name) const {
  std::vector<int64_t> failures;
  for (const auto& [id, receive] : receives_) {
    if (receive.answered || receive.arrived_ns == INT64_MAX || receive.group != name.group ||
        std::find(receive.partitions.begin(), receive.partitions.end(), name.partition) ==
            receive.partitions.end()) {
      continue;
    }
    const int64_t over_ns = receive.arrived_ns + receive.visibility_ns - kMarginMs * kNsPerMs;
    if (over_ns < process_end_ns(receive.arrived_ns)) {
      failures.push_back(over_ns);
    }
  }
  std::sort(failures.begin(), failures.end());
  return failures;
}

std::string QueueModel::History::what() const { return place(name, offset); }

QueueModel::History QueueModel::history_of(const Name& name, Offset offset,
                                           const Message& message) const {
  History history{name, offset, message.leases, {}, message.deaths, nullptr};
  std::stable_sort(history.leases.begin(), history.leases.end(),
                   [](const Given& a, const Given& b) { return a.left_ns < b.left_ns; });
  for (const uint64_t id : message.settlings) {
    if (const Settling& settling = settlings_.at(id); settling.arrived_ns != INT64_MAX) {
      history.settlings.push_back(settling);
    }
  }
  std::stable_sort(
      history.settlings.begin(), history.settlings.end(),
      [](const Settling& a, const Settling& b) { return a.arrived_ns < b.arrived_ns; });
  return history;
}

void QueueModel::check() const {
  for (const auto& [name, queue] : queues_) {
    const std::vector<int64_t> unknown = unknown_failures(name);
    for (const auto& [offset, message] : queue) {
      History history = history_of(name, offset, message);
      history.unknown_failures = &unknown;
      check_settled_once(history);
      check_deliveries(history);
      check_holders(history);
      check_delays(history);
      check_deaths(history);
    }
  }
}

bool QueueModel::is_settlement(const Settling& settling) const {
  return settling.settle.action == Action::kAck || settling.settle.action == Action::kDeadLetter;
}

void QueueModel::check_settled_once(const History& history) const {
  for (const Settling& settling : history.settlings) {
    if (!is_settlement(settling) || settling.answer != Answer::kOk) {
      continue;
    }
    for (const Given& lease : history.leases) {
      // What retention took may be on its way to somebody.
      const int64_t given_ns = settling.settle.trimmed ? lease.taken_ns : lease.left_ns;
      require(given_ns <= settling.left_ns, [&] {
        return "I20: settled at " + std::to_string(settling.left_ns) + ", leased at " +
               std::to_string(lease.left_ns) + " for delivery " + std::to_string(lease.deliveries) +
               ": " + history.what();
      });
    }
  }
}

bool QueueModel::may_have_failed(const Given& lease, const History& history,
                                 int64_t before_ns) const {
  int64_t over_ns = lease.taken_ns + lease.visibility_ns;
  for (const Settling& settling : history.settlings) {
    if (settling.settle.token != lease.token || settling.arrived_ns > before_ns) {
      continue;
    }
    if (settling.settle.action == Action::kNack || settling.settle.action == Action::kDeadLetter) {
      return true;
    }
    if (settling.settle.action == Action::kRelease && settling.answer == Answer::kOk) {
      return false;
    }
    if (settling.settle.action == Action::kExtend) {
      over_ns = std::min(over_ns, settling.arrived_ns + settling.settle.delay_ms * kNsPerMs);
    }
  }
  over_ns -= kMarginMs * kNsPerMs;
  return over_ns <= before_ns && over_ns < process_end_ns(lease.left_ns);
}

void QueueModel::check_deliveries(const History& history) const {
  uint32_t before = 1;
  for (size_t i = 0; i < history.leases.size(); ++i) {
    const Given& lease = history.leases[i];
    const auto at = [&] {
      return ", leased at " + std::to_string(lease.left_ns) + " for delivery " +
             std::to_string(lease.deliveries) + ": " + history.what();
    };
    require(lease.deliveries >= before,
            [&] { return "I20: deliveries went back from " + std::to_string(before) + at(); });
    before = lease.deliveries;
    uint64_t nacks = 0;
    for (const Settling& settling : history.settlings) {
      nacks += settling.settle.action == Action::kNack && settling.answer == Answer::kOk &&
                       settling.left_ns < lease.left_ns
                   ? 1
                   : 0;
    }
    require(lease.deliveries >= 1 + nacks,
            [&] { return "I20: " + std::to_string(nacks) + " nacks were answered before" + at(); });
    const auto& unknown = *history.unknown_failures;
    uint64_t failures = static_cast<uint64_t>(
        std::upper_bound(unknown.begin(), unknown.end(), lease.left_ns) - unknown.begin());
    for (size_t j = 0; j < i; ++j) {
      failures += may_have_failed(history.leases[j], history, lease.left_ns) ? 1 : 0;
    }
    require(lease.deliveries <= 1 + failures, [&] {
      return "I20: at most " + std::to_string(failures) + " deliveries may have failed before" +
             at();
    });
  }
}

int64_t QueueModel::held_until_ns(const Given& lease, const History& history,
                                  size_t settlings) const {
  int64_t until_ns = lease.taken_ns + lease.visibility_ns;
  for (size_t i = 0; i < settlings; ++i) {
    const Settling& settling = history.settlings[i];
    const bool mine = settling.settle.token == lease.token;
    if (settling.arrived_ns >= until_ns || (!mine && settling.settle.token != 0)) {
      continue;
    }
    if (settling.settle.action != Action::kExtend) {
      until_ns = settling.arrived_ns;
      break;
    }
    const int64_t wanted_ns = settling.arrived_ns + settling.settle.delay_ms * kNsPerMs;
    if (settling.answer == Answer::kOk) {
      until_ns = wanted_ns;
    } else if (settling.answer == Answer::kUnsure) {
      until_ns = std::min(until_ns, wanted_ns);
    }
  }
  return std::min(until_ns - kMarginMs * kNsPerMs, process_end_ns(lease.left_ns));
}

void QueueModel::check_holders(const History& history) const {
  for (size_t i = 0; i < history.leases.size(); ++i) {
    const Given& lease = history.leases[i];
    if (i + 1 < history.leases.size()) {
      const int64_t until_ns = held_until_ns(lease, history, history.settlings.size());
      const Given& next = history.leases[i + 1];
      require(next.left_ns >= until_ns, [&] {
        return "I20: held from " + std::to_string(lease.left_ns) + " until " +
               std::to_string(until_ns) + ", given to another one at " +
               std::to_string(next.left_ns) + ": " + history.what();
      });
    }
    check_settling_of(lease, history);
  }
}

void QueueModel::check_settling_of(const Given& lease, const History& history) const {
  const int64_t end_ns = held_until_ns(lease, history, history.settlings.size());
  for (size_t i = 0; i < history.settlings.size(); ++i) {
    const Settling& settling = history.settlings[i];
    if (settling.arrived_ns < lease.left_ns) {
      continue;
    }
    const auto when = [&] {
      return " (action " + std::to_string(static_cast<int>(settling.settle.action)) + ", token " +
             std::to_string(settling.settle.token) + ", " + std::to_string(settling.settle.count) +
             " messages) at " + std::to_string(settling.arrived_ns) + " answered at " +
             std::to_string(settling.left_ns) + ", held by token " + std::to_string(lease.token) +
             " from " + std::to_string(lease.left_ns) + ": " + history.what();
    };
    if (settling.settle.token == lease.token) {
      const bool refused = settling.answer == Answer::kFenced ||
                           (settling.answer == Answer::kNotFound && !settling.settle.trimmed);
      require(!refused || settling.arrived_ns >= held_until_ns(lease, history, i),
              [&] { return "I20: the holder was refused" + when(); });
    } else if (settling.settle.action != Action::kRelease || settling.arrived_ns > lease.left_ns) {
      require(
          settling.answer != Answer::kOk || settling.left_ns >= end_ns || settling.settle.trimmed,
          [&] { return "I20: settled by one who does not hold it" + when(); });
    }
  }
}

void QueueModel::check_delays(const History& history) const {
  for (const Settling& nack : history.settlings) {
    if (nack.settle.action != Action::kNack || nack.answer != Answer::kOk) {
      continue;
    }
    int64_t delay_ms = nack.settle.delay_ms;
    for (const Given& lease : history.leases) {
      if (delay_ms < 0 && lease.token == nack.settle.token) {
        delay_ms = topic_delay_ms(lease.deliveries);
      }
    }
    for (const Given& lease : history.leases) {
      // A broker that starts may be ahead of the log time that the one before had.
      const bool restarted = process_end_ns(nack.arrived_ns) <= lease.left_ns;
      const int64_t margin_ms = kMarginMs + (restarted ? DelayModel::kLeadMs : 0);
      require(lease.left_ns <= nack.left_ns ||
                  lease.log_ms >= nack.arrived_log_ms + delay_ms - margin_ms,
              [&] {
                return "I20: nacked at log time " + std::to_string(nack.arrived_log_ms) +
                       " with a delay of " + std::to_string(delay_ms) + " ms, leased at " +
                       std::to_string(lease.log_ms) + ": " + history.what();
              });
    }
  }
}

void QueueModel::check_deaths(const History& history) const {
  if (history.deaths.empty()) {
    return;
  }
  require(history.deaths.size() == 1, [&] {
    return "I20: " + std::to_string(history.deaths.size()) +
           " times in the dead-letter topic: " + history.what();
  });
  const DeadLetter& death = history.deaths.front();
  const auto what = [&] {
    return ", a dead letter after " + std::to_string(death.deliveries) +
           " deliveries at log time " + std::to_string(death.log_ms) + ": " + history.what();
  };
  const bool asked = std::any_of(
      history.settlings.begin(), history.settlings.end(),
      [](const Settling& settling) { return settling.settle.action == Action::kDeadLetter; });
  const uint32_t least = asked ? 1 : max_deliveries_;
  const uint32_t most = letters_fail_ ? UINT32_MAX : max_deliveries_;
  require(max_deliveries_ > 0 && death.deliveries >= least && death.deliveries <= most,
          [&] { return "I20: the maximum is " + std::to_string(max_deliveries_) + what(); });
  uint64_t failures = history.unknown_failures->size();
  for (const Given& lease : history.leases) {
    require(lease.deliveries <= death.deliveries, [&] {
      return "I20: leased for delivery " + std::to_string(lease.deliveries) + what();
    });
    failures += may_have_failed(lease, history, INT64_MAX) ? 1 : 0;
  }
  require(failures >= death.deliveries, [&] {
    return "I20: at most " + std::to_string(failures) + " deliveries may have failed" + what();
  });
  for (const Settling& settling : history.settlings) {
    require(
        settling.settle.action != Action::kAck || settling.answer != Answer::kOk ||
            settling.left_log_ms >= death.log_ms - kMarginMs,
        [&] { return "I20: acked at log time " + std::to_string(settling.left_log_ms) + what(); });
  }
}

void QueueModel::check_settled(const Name& name, Offset end, bool trimmed) const {
  const auto queue = queues_.find(name);
  for (Offset offset{0}; offset < end; ++offset) {
    const bool known = queue != queues_.end() && queue->second.contains(offset);
    require(known || trimmed, [&] { return "I20: never leased: " + place(name, offset); });
    if (!known || trimmed) {
      continue;
    }
    const Message& message = queue->second.at(offset);
    const bool acked =
        std::any_of(message.settlings.begin(), message.settlings.end(), [&](uint64_t id) {
          const Settling& settling = settlings_.at(id);
          return settling.arrived_ns != INT64_MAX && settling.settle.action == Action::kAck &&
                 (settling.answer == Answer::kOk || settling.answer == Answer::kUnsure);
        });
    require(acked || !message.deaths.empty(), [&] {
      return "I20: settled, but nobody acked it and it is no dead letter: " + place(name, offset);
    });
  }
}

}  // namespace tidemark::sim
