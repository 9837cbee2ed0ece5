#include "tests/blackbox/workload.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "log/base/clock.h"
#include "tests/support/numbered_value.h"
#include "tests/support/run_command.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kDeadlineMs = 120'000;
constexpr int64_t kImpatientMs = 100;
constexpr int64_t kCheckBacksMs = 1'500;  // for what was left open
constexpr size_t kQueueConsumers = 2;
constexpr int64_t kTickMs = 10;  // the load is sent in portions
constexpr int64_t kCancelEveryMs = 100;
constexpr uint64_t kCancelsAtOnce = 2;
constexpr int64_t kLookEveryMs = 200;
constexpr int64_t kShortMs = 1'000;  // for cancels and looks: more than that is not known
constexpr int64_t kSoonMs = 2'000;   // what is due within it is waited for, other is cancelled

client::ProducerOptions patience(int64_t delivery_timeout_ms) {
  client::ProducerOptions options;
  options.delivery_timeout_ms = delivery_timeout_ms;
  return options;
}

std::string failed(const std::string& what, const client::Status& status) {
  return what + ": " + status.to_string();
}

void pause_ms(int64_t ms) { (void)::poll(nullptr, 0, static_cast<int>(ms)); }

// False: not in time. It is looked at every millisecond: what is waited for are counts that grow.
template <typename Condition>
bool wait_until(const Condition& holds, int64_t ms_max) {
  const int64_t until_ns = system_clock().monotonic().ns + ms_max * 1'000'000;
  while (!holds()) {
    if (system_clock().monotonic().ns >= until_ns) {
      return false;
    }
    pause_ms(1);
  }
  return true;
}

}  // namespace

Workload::Workload(client::Client client, History& history, const BrokerClock& clock,
                   WorkloadOptions options)
    : client_(std::move(client)),
      history_(history),
      clock_(clock),
      options_(std::move(options)),
      place_{"t" + options_.name, kPartitions},
      queue_place_{"q" + options_.name, kQueuePartitions},
      dead_topic_("dead" + options_.name),
      group_("g" + options_.name),
      next_uid_(options_.first_uid) {}

Workload::~Workload() { stop_load(); }

std::string Workload::create_topics() {
  client::Admin admin(client_);
  for (const auto& [topic, partitions, config] :
       {std::tuple(place_.topic, kPartitions, client::TopicConfig()),
        std::tuple(dead_topic_, RecordedQueue::kDeadPartitions, client::TopicConfig()),
        std::tuple(queue_place_.topic, kQueuePartitions,
                   RecordedQueue::topic_config(dead_topic_))}) {
    const auto created = admin.create_topic(topic, partitions, config, kDeadlineMs);
    if (!created.ok()) {
      return failed("creating " + topic, created.status());
    }
  }
  return "";
}

std::string Workload::start() {
  if (std::string wrong = create_topics(); !wrong.empty()) {
    return wrong;
  }
  // Of the log time the broker may be ahead by 5 ms after a restart.
  history_.observe("test", "config",
                   {{"skew_ms", 5},
                    {"max_late_ms", options_.max_late_ms},
                    {"recovery_ms", options_.recovery_ms},
                    {"progress_ms", options_.progress_ms}});
  history_.observe("test", "topic", {{"topic", place_.topic}});
  history_.observe(
      "test", "topic",
      {{"topic", queue_place_.topic}, {"max_deliveries", RecordedQueue::kDeliveriesMax}});
  const auto producer = [this](const Place& place, int number, int64_t patience_ms) {
    return std::make_unique<RecordedProducer>(client_, history_, place, number,
                                              patience(patience_ms));
  };
  patient_ = producer(place_, 1, 5 * kDeadlineMs);
  delaying_ = producer(place_, 2, 5 * kDeadlineMs);
  impatient_ = producer(place_, 3, kImpatientMs);
  queueing_ = producer(queue_place_, 5, 5 * kDeadlineMs);
  reader_ = std::make_unique<RecordedReader>(client_, history_, place_, clock_);
  member_ = std::make_unique<RecordedMember>(client_, history_, place_, group_);
  queue_ = std::make_unique<RecordedQueue>(client_, history_, queue_place_, dead_topic_,
                                           "w" + options_.name, kQueueConsumers, options_.seed);
  transactions_ = std::make_unique<RecordedTransactions>(
      client_, history_, place_, "x" + options_.name, next_uid_, options_.seed);
  if (!transactions_->error().empty()) {
    return "a producer of transactions: " + transactions_->error();
  }
  load_ = std::thread([this] { load(); });
  canceller_ = std::thread([this] {
    while (pause(kCancelEveryMs)) {
      cancel_some();
    }
  });
  looker_ = std::thread([this] {
    while (pause(kLookEveryMs)) {
      look_at_positions();
    }
  });
  return "";
}

uint64_t Workload::acknowledged() const {
  uint64_t sum = 0;
  for (const RecordedProducer* producer : producers()) {
    sum += producer == nullptr ? 0 : producer->acknowledged();  // before start()
  }
  return sum;
}

uint64_t Workload::unknown() const {
  uint64_t sum = 0;
  for (const RecordedProducer* producer : producers()) {
    sum += producer == nullptr ? 0 : producer->unknown();  // before start()
  }
  return sum;
}

uint64_t Workload::given_up() const {
  uint64_t sum = unknown();
  for (const RecordedProducer* producer : producers()) {
    sum += producer == nullptr ? 0 : producer->refused();
  }
  return sum;
}

uint64_t Workload::in_flight() const {
  uint64_t sum = 0;
  for (const RecordedProducer* producer : producers()) {
    sum += producer == nullptr ? 0 : producer->open();  // before start()
  }
  return sum;
}

bool Workload::wait_for_acknowledged(uint64_t count, int64_t ms_max) const {
  return wait_until([&] { return acknowledged() >= count; }, ms_max);
}

bool Workload::wait_for_given_up(uint64_t count, int64_t ms_max) const {
  return wait_until([&] { return given_up() >= count; }, ms_max);
}

bool Workload::pause(int64_t ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !ending_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return stopping_; });
}

// --- the load

void Workload::load() {
  Random random(options_.seed);
  const uint64_t portion =
      std::max<uint64_t>(uint64_t{options_.messages_per_s} * kTickMs / 1'000, 1);
  for (uint64_t i = 0; pause(kTickMs);) {
    for (uint64_t sent = 0; sent < portion; ++sent, ++i) {
      send_one(random, i);
    }
  }
}

void Workload::send_one(Random& random, uint64_t i) {
  const uint64_t uid = next_uid_++;
  if (i % 4 == 3) {
    impatient_->send(uid);
  } else if (i % 16 == 5) {
    queueing_->send(uid);
  } else if (i % 8 != 0) {
    patient_->send(uid);
  } else if (random.chance(3, 4)) {
    delaying_->send_after(uid, random.between(0, kDelayMsMax));
  } else {
    delaying_->send_at(uid, system_clock().wall().ms + clock_.offset_ms.load() +
                                static_cast<int64_t>(random.between(0, kDelayMsMax)));
  }
}

// The newest ones: what is older has come.
void Workload::cancel_some() {
  const std::map<uint64_t, client::DelayHandle> handles = delaying_->take_handles();
  uint64_t left = kCancelsAtOnce;
  for (auto at = handles.rbegin(); at != handles.rend() && left > 0; ++at, --left) {
    cancel(at->first, at->second);
  }
}

void Workload::cancel(uint64_t uid, const client::DelayHandle& handle) {
  auto delays = client::Delays::create(client_);
  const uint64_t id = history_.next_id();
  history_.invoke("canceller", "cancel", id, {{"topic", place_.topic}, {"uid", uid}});
  const auto answer = delays->cancel(place_.topic, {client::DelayTarget::of(handle)}, kShortMs);
  const client::Status status = answer.ok() ? answer->front().status : answer.status();
  if (status.ok()) {
    const bool done = answer->front().outcome == client::DelayOutcome::kCancelled;
    history_.end("canceller", "cancel", id, done ? "ok" : "fail");
  } else {
    history_.end("canceller", "cancel", id, "info", {{"err", status.to_string()}});
  }
}

void Workload::look_at_positions() {
  auto groups = client::Groups::create(client_);
  std::map<uint32_t, uint64_t> ids;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    ids[partition] = history_.next_id();
    history_.invoke("looker", "offset_fetch", ids[partition],
                    {{"group", group_}, {"topic", place_.topic}, {"part", partition}});
  }
  const auto answer = groups->describe(group_, kShortMs);
  if (!answer.ok()) {
    return;  // nobody knows; before the first commit there may be no group
  }
  for (const client::GroupLag& lag : answer->partitions) {
    if (lag.committed.has_value()) {
      history_.end("looker", "offset_fetch", ids.at(lag.partition.partition), "ok",
                   {{"off", *lag.committed}});
    }
  }
}

void Workload::stop_load() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  ending_.notify_all();
  for (std::thread* thread : {&load_, &canceller_, &looker_}) {
    if (thread->joinable()) {
      thread->join();
    }
  }
}

// --- the end

std::string Workload::finish() {
  stop_load();
  history_.observe("test", "heal", {});
  for (RecordedProducer* producer :
       {patient_.get(), delaying_.get(), impatient_.get(), queueing_.get()}) {
    if (!producer->close(kDeadlineMs)) {
      return "a producer was not told about all of its messages";
    }
  }
  if (std::string wrong = end_pending(); !wrong.empty()) {
    return wrong;
  }
  if (std::string wrong = transactions_->finish(kCheckBacksMs); !wrong.empty()) {
    return wrong;
  }
  if (std::string wrong = queue_->finish(options_.progress_ms); !wrong.empty()) {
    return wrong;
  }
  if (std::string wrong = send_last(); !wrong.empty()) {
    return wrong;
  }
  if (const std::string ended = reader_->stop(); !ended.empty()) {
    return "the reader ended: " + ended;
  }
  std::map<uint32_t, uint64_t> ends;
  std::map<uint32_t, uint64_t> queue_ends;
  std::string wrong = drain(place_, ends);
  wrong = wrong.empty() ? drain(queue_place_, queue_ends) : wrong;
  if (!wrong.empty()) {
    return wrong;
  }
  if (!member_->wait_for(ends, options_.progress_ms)) {
    return "the group did not come to the end in time: " + member_->stop();
  }
  look_at_positions();
  for (const auto& [partition, end] : ends) {
    history_.observe(
        "test", "group_final",
        {{"group", group_}, {"topic", place_.topic}, {"part", partition}, {"off", end}});
  }
  const std::string ended = member_->stop();
  return ended.empty() ? "" : "the member ended: " + ended;
}

// Of what is far away, because the clock stepped under it, nobody is going to wait for the end.
std::string Workload::end_pending() {
  auto delays = client::Delays::create(client_);
  const int64_t until_ns = system_clock().monotonic().ns + kDeadlineMs * 1'000'000;
  while (true) {
    const auto pending = delays->list(place_.topic, {}, kDeadlineMs);
    if (!pending.ok()) {
      return failed("listing what is pending", pending.status());
    }
    if (pending->empty()) {
      return "";
    }
    if (system_clock().monotonic().ns >= until_ns) {
      return std::to_string(pending->size()) + " messages are still pending";
    }
    const auto stats = delays->stats(place_.topic, kDeadlineMs);
    const int64_t now_ms = stats.ok() && !stats->empty() ? stats->front().now_ms : INT64_MAX;
    for (const client::DelayedMessage& one : *pending) {
      if (now_ms == INT64_MAX || one.due_ms - now_ms <= kSoonMs) {
        continue;
      }
      const auto shown =
          delays->show(place_.topic, client::DelayTarget::of(one.handle), kDeadlineMs);
      if (shown.ok()) {
        cancel(number_of(shown->message_value.value_or("")), one.handle);
      }
    }
    pause_ms(kTickMs);
  }
}

// One more message behind everything in each partition, so that what would come wrongly has come.
std::string Workload::send_last() {
  RecordedProducer last(client_, history_, place_, 4, {});
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    last.send_after(next_uid_++, kDelayMsMax + 100);
  }
  if (!last.close(kDeadlineMs) || last.acknowledged() != kPartitions) {
    return "the last messages were not taken";
  }
  return reader_->wait_for(last.delayed(), kDeadlineMs)
             ? ""
             : "the last messages did not come: " + reader_->stop();
}

std::string Workload::drain(const Place& place, std::map<uint32_t, uint64_t>& ends) {
  auto consumer = client::Consumer::create(client_, {});
  if (const client::Status assigned = consumer->assign(all_partitions(place)); !assigned.ok()) {
    return failed("draining", assigned);
  }
  client::Admin admin(client_);
  const auto partitions = admin.describe_partitions(place.topic, kDeadlineMs);
  if (!partitions.ok()) {
    return failed("describing partitions", partitions.status());
  }
  std::map<uint32_t, uint64_t> next;
  for (const client::PartitionDescription& one : *partitions) {
    ends[one.partition] = one.end_offset;
    next[one.partition] = one.start_offset;
    history_.observe("drain", "drain_start",
                     {{"topic", place.topic}, {"part", one.partition}, {"off", one.start_offset}});
    history_.observe("drain", "drain_end",
                     {{"topic", place.topic}, {"part", one.partition}, {"end", one.end_offset}});
  }
  while (next != ends) {
    const auto batch = consumer->poll(kDeadlineMs);
    if (!batch.ok() || batch->messages.empty()) {
      return batch.ok() ? "the drain found less than is stored"
                        : failed("draining", batch.status());
    }
    next[batch->partition] = batch->next_offset;
    for (const client::ReceivedMessage& message : batch->messages) {
      record(history_, "drain", "drain", place.topic, batch->partition, message, {});
    }
  }
  return "";
}

std::string Workload::remove() {
  transactions_.reset();
  queue_.reset();
  reader_.reset();
  member_.reset();
  client::Admin admin(client_);
  for (const std::string& topic : {place_.topic, queue_place_.topic, dead_topic_}) {
    const auto deleted = admin.delete_topic(topic, kDeadlineMs);
    if (!deleted.ok()) {
      return failed("deleting " + topic, deleted.status());
    }
  }
  return "";
}

std::string Workload::invariants() {
  return "I1,I2,I3,I4,I5,I6,I7,I8,I9,I10,I11,I12,I13,I14,I15,I16,I17,I18,I20";
}

Verdict judge_history(const std::string& path, const std::string& invariants) {
  const CommandResult result = run_command(
      {required_environment("CHECK_HISTORY"), "--require", invariants, "--verbose", path});
  Verdict verdict;
  verdict.accepted = result.exit_code == 0;
  verdict.text = result.output + result.errors;
  const size_t end = result.output.find_last_not_of('\n');
  const size_t begin = result.output.rfind('\n', end);
  verdict.summary = result.output.substr(begin == std::string::npos ? 0 : begin + 1);
  while (verdict.summary.ends_with('\n')) {
    verdict.summary.pop_back();
  }
  return verdict;
}

}  // namespace tidemark::testing
