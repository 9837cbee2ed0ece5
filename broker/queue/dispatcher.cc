#include "broker/queue/dispatcher.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "log/base/check.h"
#include "log/base/coverage_mark.h"

namespace tidemark::queue {

namespace {

timerwheel::Tick tick_of(int64_t ms) { return ms < 0 ? 0 : static_cast<timerwheel::Tick>(ms); }

uint32_t next_delivery(uint32_t failures) {
  return failures == std::numeric_limits<uint32_t>::max() ? failures : failures + 1;
}

}  // namespace

Dispatcher::Dispatcher(Options options, Offset from, uint64_t first_token)
    : options_(options), next_load_(from), next_token_(first_token), lowest_(from.value()) {
  TIDEMARK_CHECK(first_token != 0, "0 is no lease");
}

// --- Loading

std::optional<Offset> Dispatcher::wants_load() const {
  return messages_.size() < options_.window ? std::optional(next_load_) : std::nullopt;
}

void Dispatcher::load(std::span<const LoadedMessage> messages, Offset next, const QueueState* state,
                      int64_t now_ms) {
  now_ms_ = std::max(now_ms_, now_ms);
  Offset from = next_load_;
  for (const LoadedMessage& loaded : messages) {
    if (loaded.offset < from) {
      TIDEMARK_CHECK(loaded.offset < next_load_, "messages are loaded in order");
      continue;
    }
    TIDEMARK_CHECK(loaded.offset < next, "what is loaded is before `next`");
    from = loaded.offset + 1;
    if (state != nullptr && state->acks.contains(loaded.offset)) {
      continue;
    }
    const uint64_t offset = loaded.offset.value();
    Message& message = messages_[offset];
    message.bytes = loaded.bytes;
    message.priority = std::min<uint8_t>(loaded.priority, kPriorities - 1);
    message.key_hash = options_.ordered ? loaded.key_hash : 0;
    link(offset, message);
    int64_t retry_ms = now_ms;
    if (state != nullptr) {
      if (const auto it = state->failures.find(loaded.offset); it != state->failures.end()) {
        message.failures = it->second.count;
        retry_ms = it->second.retry_ms;
      }
    }
    retry(offset, message, retry_ms, now_ms);
  }
  next_load_ = std::max(next_load_, next);
}

// --- States. A message without one is in none of the counts.

bool Dispatcher::can_be_given(const Message& message) const {
  return message.state == State::kReady && message.before == kNone;
}

void Dispatcher::enter(uint64_t offset, Message& message, State state) {
  message.state = state;
  leased_ += state == State::kLeased ? 1 : 0;
  retrying_ += state == State::kRetrying ? 1 : 0;
  if (can_be_given(message)) {
    ready_of_[message.priority].insert(offset);
    ++ready_;
  }
}

void Dispatcher::leave(uint64_t offset, Message& message) {
  leased_ -= message.state == State::kLeased ? 1 : 0;
  retrying_ -= message.state == State::kRetrying ? 1 : 0;
  if (can_be_given(message)) {
    ready_of_[message.priority].erase(offset);
    --ready_;
  }
  message.token = 0;
  clear_timer(message);
}

// Behind all of its key.
void Dispatcher::link(uint64_t offset, Message& message) {
  if (message.key_hash == 0) {
    return;
  }
  OfKey& key = keys_[message.key_hash];
  message.before = key.last;
  if (key.last == kNone) {
    key.first = offset;
  } else {
    messages_.find(key.last)->second.behind = offset;
  }
  key.last = offset;
}

// The next of its key can be given, if it is ready and this was the first.
void Dispatcher::unlink(const Message& message) {
  if (message.key_hash == 0) {
    return;
  }
  const auto key = keys_.find(message.key_hash);
  if (message.behind == kNone) {
    key->second.last = message.before;
  } else {
    Message& behind = messages_.find(message.behind)->second;
    behind.before = message.before;
    if (can_be_given(behind)) {
      ready_of_[behind.priority].insert(message.behind);
      ++ready_;
    }
  }
  if (message.before == kNone) {
    key->second.first = message.behind;
  } else {
    messages_.find(message.before)->second.behind = message.behind;
  }
  if (key->second.first == kNone) {
    keys_.erase(key);
  }
}

Dispatcher::Messages::iterator Dispatcher::remove(Messages::iterator at) {
  leave(at->first, at->second);
  unlink(at->second);
  return messages_.erase(at);
}

void Dispatcher::lease(uint64_t offset, Message& message, int64_t until_ms) {
  leave(offset, message);
  message.token = next_token_++;
  next_token_ += next_token_ == 0 ? 1 : 0;
  message.until_ms = until_ms;
  enter(offset, message, State::kLeased);
  set_timer(offset, message);
}

// `token` of the lease that ends by it, if any.
void Dispatcher::settle(uint64_t offset, Message& message, uint64_t token) {
  const bool waits = message.state == State::kRetrying;
  leave(offset, message);
  enter(offset, message, State::kSettling);
  message.token = token;
  message.until_ms = waits ? message.until_ms : 0;
}

// Of a message without a state.
void Dispatcher::retry(uint64_t offset, Message& message, int64_t retry_ms, int64_t now_ms) {
  if (retry_ms <= now_ms) {
    enter(offset, message, State::kReady);
    return;
  }
  message.until_ms = retry_ms;
  enter(offset, message, State::kRetrying);
  set_timer(offset, message);
}

// --- Giving

size_t Dispatcher::take(const Wanted& wanted, std::vector<Lease>& out) {
  size_t bytes = 0;
  size_t given = 0;
  for (size_t priority = kPriorities; priority-- > 0;) {
    std::set<uint64_t>& ready = ready_of_[priority];
    while (!ready.empty() && given < wanted.messages) {
      const uint64_t offset = *ready.begin();
      Message& message = messages_.find(offset)->second;
      if ((given > 0 || !wanted.one_anyway) &&
          (bytes >= wanted.bytes || message.bytes > wanted.bytes - bytes)) {
        return bytes;
      }
      lease(offset, message, wanted.lease_until_ms);
      out.push_back({Offset{offset}, message.token, next_delivery(message.failures)});
      bytes += message.bytes;
      ++given;
    }
  }
  return bytes;
}

// --- Settling

ErrorCode Dispatcher::begin_settle(Offset offset, uint64_t token) {
  const auto at = messages_.find(offset.value());
  if (at == messages_.end()) {
    return ErrorCode::kNotFound;
  }
  Message& message = at->second;
  switch (message.state) {
    case State::kSettling:
      TIDEMARK_COVERAGE_MARK(queue_settled_while_settling);
      return token != 0 && token == message.token ? ErrorCode::kUnavailable : ErrorCode::kFenced;
    case State::kLeased:
      if (token != message.token) {
        TIDEMARK_COVERAGE_MARK(queue_settle_fenced);
        return ErrorCode::kFenced;
      }
      break;
    case State::kReady:
    case State::kRetrying:
      if (token != 0) {
        TIDEMARK_COVERAGE_MARK(queue_settle_after_lease);
        return ErrorCode::kNotFound;
      }
      break;
  }
  settle(at->first, message, token);
  return ErrorCode::kOk;
}

ErrorCode Dispatcher::extend(Offset offset, uint64_t token, int64_t lease_until_ms) {
  const auto at = messages_.find(offset.value());
  if (at == messages_.end() || at->second.state != State::kLeased) {
    return ErrorCode::kNotFound;
  }
  Message& message = at->second;
  if (token != message.token) {
    return ErrorCode::kFenced;
  }
  message.until_ms = lease_until_ms;
  if (lease_until_ms < message.timer_ms) {
    TIDEMARK_COVERAGE_MARK(queue_lease_shortened);
    clear_timer(message);
    set_timer(at->first, message);
  }
  return ErrorCode::kOk;
}

void Dispatcher::settled(Offset offset) {
  if (const auto at = messages_.find(offset.value()); at != messages_.end()) {
    remove(at);
  }
}

void Dispatcher::failed(Offset offset, uint32_t failures, int64_t retry_ms, int64_t now_ms) {
  now_ms_ = std::max(now_ms_, now_ms);
  const auto at = messages_.find(offset.value());
  if (at == messages_.end()) {
    return;
  }
  leave(at->first, at->second);
  at->second.failures = failures;
  retry(at->first, at->second, retry_ms, now_ms);
}

void Dispatcher::put_back(Offset offset) {
  const auto at = messages_.find(offset.value());
  if (at == messages_.end() ||
      (at->second.state != State::kSettling && at->second.state != State::kLeased)) {
    return;
  }
  const int64_t retry_ms = at->second.state == State::kSettling ? at->second.until_ms : 0;
  leave(at->first, at->second);
  retry(at->first, at->second, retry_ms, now_ms_);
}

void Dispatcher::trim(Offset start) {
  next_load_ = std::max(next_load_, start);
  if (start.value() <= lowest_) {
    return;
  }
  lowest_ = start.value();
  for (auto at = messages_.begin(); at != messages_.end();) {
    if (at->first < lowest_) {
      TIDEMARK_COVERAGE_MARK(queue_loaded_message_trimmed);
      at = remove(at);
    } else {
      ++at;
    }
  }
}

// --- Time

void Dispatcher::set_timer(uint64_t offset, Message& message) {
  if (wheel_ == nullptr) {
    wheel_ = std::make_unique<timerwheel::TimingWheel>(tick_of(now_ms_));
  }
  message.timer = next_timer_++;
  message.timer_ms = message.until_ms;
  wheel_->add({tick_of(message.timer_ms), message.timer, offset, 0});
}

void Dispatcher::clear_timer(Message& message) {
  if (std::exchange(message.timer, 0) != 0) {
    sweep_timers();
  }
}

// nullptr: it counts no more.
Dispatcher::Message* Dispatcher::owner_of(uint64_t offset, uint64_t timer) {
  const auto at = messages_.find(offset);
  return at != messages_.end() && at->second.timer == timer ? &at->second : nullptr;
}

size_t Dispatcher::timers() const { return (wheel_ ? wheel_->size() : 0) + ended_.size(); }

// Costs as much as what became stale since the last time, times a small number.
void Dispatcher::sweep_timers() {
  if (timers() <= 2 * (leased_ + retrying_) + kStaleTimersMax) {
    return;
  }
  std::erase_if(ended_,
                [this](const Ended& entry) { return !owner_of(entry.offset, entry.timer); });
  std::vector<timerwheel::Entry> all;
  wheel_->extract(0, std::numeric_limits<timerwheel::Tick>::max(), all);
  for (const timerwheel::Entry& entry : all) {
    if (owner_of(entry.position, entry.id) != nullptr) {
      wheel_->add(entry);
    }
  }
}

void Dispatcher::timer_is_due(uint64_t offset, uint64_t timer, int64_t now_ms) {
  Message* const message = owner_of(offset, timer);
  if (message == nullptr) {
    return;
  }
  if (message->state == State::kRetrying) {
    leave(offset, *message);
    enter(offset, *message, State::kReady);
  } else if (message->until_ms > now_ms) {
    TIDEMARK_COVERAGE_MARK(queue_lease_was_extended);
    set_timer(offset, *message);
  } else {
    ended_.push_back({offset, timer});
  }
}

void Dispatcher::expire(int64_t now_ms, size_t limit, std::vector<Offset>& out) {
  now_ms_ = std::max(now_ms_, now_ms);
  if (wheel_ != nullptr && now_ms >= 0) {
    due_.clear();
    const bool all = wheel_->pop(timerwheel::last_key(tick_of(now_ms)),
                                 std::numeric_limits<size_t>::max(), due_);
    TIDEMARK_CHECK(all, "without a limit all that is due is given");
    for (const timerwheel::Entry& entry : due_) {
      timer_is_due(entry.position, entry.id, now_ms);
    }
  }
  for (size_t ended = 0; ended < limit && !ended_.empty();) {
    const Ended entry = ended_.front();
    ended_.pop_front();
    Message* const message = owner_of(entry.offset, entry.timer);
    if (message == nullptr) {
      continue;
    }
    if (message->until_ms > now_ms) {
      set_timer(entry.offset, *message);  // extended at the last moment
      continue;
    }
    settle(entry.offset, *message, message->token);
    TIDEMARK_COVERAGE_MARK(queue_lease_expired);
    out.emplace_back(entry.offset);
    ++ended;
  }
}

std::optional<int64_t> Dispatcher::next_wake() const {
  if (leased_ + retrying_ == 0) {
    return std::nullopt;
  }
  if (!ended_.empty()) {
    return now_ms_;
  }
  const auto due = wheel_->next_due();
  TIDEMARK_CHECK(due.has_value(), "what waits has an entry of the wheel");
  return static_cast<int64_t>(
      std::min<timerwheel::Tick>(*due, std::numeric_limits<int64_t>::max()));
}

// --- Numbers

uint32_t Dispatcher::failures(Offset offset) const {
  const auto at = messages_.find(offset.value());
  return at == messages_.end() ? 0 : at->second.failures;
}

void Dispatcher::check_invariants() const {
  std::array<size_t, 4> in_state{};
  size_t ready = 0;
  size_t linked = 0;
  for (const auto& [offset, message] : messages_) {
    ++in_state[static_cast<size_t>(message.state)];
    const bool timed = message.state == State::kLeased || message.state == State::kRetrying;
    TIDEMARK_CHECK(timed == (message.timer != 0), "a timer for what has a time");
    TIDEMARK_CHECK(!timed || message.timer_ms <= message.until_ms, "a timer is not late");
    TIDEMARK_CHECK(message.state == State::kSettling ||
                       (message.state == State::kLeased) == (message.token != 0),
                   "a lease has a token");
    TIDEMARK_CHECK(ready_of_[message.priority].contains(offset) == can_be_given(message),
                   "what can be given is among the ready ones");
    TIDEMARK_CHECK(offset >= lowest_ && offset < next_load_.value(), "loaded, and not trimmed");
    ready += can_be_given(message) ? 1 : 0;
    linked += message.key_hash != 0 ? 1 : 0;
    TIDEMARK_CHECK(message.key_hash != 0 || message.before == kNone, "no key, no order");
    TIDEMARK_CHECK(message.before == kNone || message.before < offset, "linked in order of offset");
  }
  size_t listed = 0;
  for (const std::set<uint64_t>& of : ready_of_) {
    listed += of.size();
  }
  TIDEMARK_CHECK(ready == ready_ && ready == listed, "ready ones are counted");
  TIDEMARK_CHECK(in_state[static_cast<size_t>(State::kLeased)] == leased_, "leases are counted");
  TIDEMARK_CHECK(in_state[static_cast<size_t>(State::kRetrying)] == retrying_, "so is what waits");
  for (const auto& [key, of] : keys_) {
    uint64_t before = kNone;
    for (uint64_t at = of.first; at != kNone; before = at, at = messages_.at(at).behind, --linked) {
      TIDEMARK_CHECK(messages_.at(at).before == before && messages_.at(at).key_hash == key,
                     "the messages of a key are linked");
    }
    TIDEMARK_CHECK(before == of.last && before != kNone, "to the last one");
  }
  TIDEMARK_CHECK(linked == 0, "what has a key is linked");
  size_t counting = 0;
  const auto count = [&](uint64_t offset, uint64_t timer) {
    const auto at = messages_.find(offset);
    counting += at != messages_.end() && at->second.timer == timer ? 1 : 0;
  };
  if (wheel_ != nullptr) {
    wheel_->check_invariants();
    wheel_->for_each([&](const timerwheel::Entry& entry) { count(entry.position, entry.id); });
  }
  std::for_each(ended_.begin(), ended_.end(),
                [&](const Ended& entry) { count(entry.offset, entry.timer); });
  TIDEMARK_CHECK(counting == leased_ + retrying_, "one timer of each counts");
  TIDEMARK_CHECK(timers() <= 2 * counting + kStaleTimersMax + 1, "stale timers are bounded");
}

}  // namespace tidemark::queue
