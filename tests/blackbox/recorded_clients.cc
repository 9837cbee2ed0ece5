#include "tests/blackbox/recorded_clients.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/clock.h"
#include "tests/support/numbered_value.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kPollMs = 50;
constexpr int64_t kCommitDeadlineMs = 10'000;

}  // namespace

uint32_t crc_of(std::string_view value) {
  return crc32c({reinterpret_cast<const uint8_t*>(value.data()), value.size()});
}

std::vector<client::Assignment> all_partitions(const Place& place) {
  std::vector<client::Assignment> all;
  for (uint32_t partition = 0; partition < place.partitions; ++partition) {
    all.push_back({place.topic, partition, client::Position::start()});
  }
  return all;
}

void record(History& history, std::string_view process, std::string_view op,
            const std::string& topic, uint32_t partition, const client::ReceivedMessage& message,
            const History::Fields& more) {
  const std::string_view value = message.value.value_or("");
  const uint64_t uid = number_of(value);
  History::Fields fields = {
      {"topic", topic}, {"part", partition}, {"off", message.offset}, {"crc", crc_of(value)}};
  if (uid != UINT64_MAX) {  // else the checker finds a message that nobody can name
    fields.emplace_back("uid", uid);
  }
  fields.insert(fields.end(), more.begin(), more.end());
  history.observe(process, op, fields);
}

// --- producer

RecordedProducer::RecordedProducer(const client::Client& client, History& history, Place place,
                                   int number, client::ProducerOptions options)
    : history_(history),
      place_(std::move(place)),
      name_("p" + std::to_string(number)),
      number_(number) {
  options.linger_ms = 1;
  options.buffer_messages_max = 500;  // sending keeps pace with the broker
  options.on_delivery = [this](const client::DeliveryBatch& batch) { take(batch); };
  auto created = client::Producer::create(client, options);
  TIDEMARK_CHECK(created.ok(), created.status().to_string());
  producer_ = std::make_unique<client::Producer>(std::move(*created));
  topic_ = *producer_->topic(place_.topic);
}

void RecordedProducer::send(uint64_t uid) {
  const std::string value = numbered_value(uid, kValueBytes);
  const uint32_t partition = place_.partition_of(uid);
  history_.invoke(name_, "send", uid,
                  {{"topic", place_.topic},
                   {"part", partition},
                   {"uid", uid},
                   {"crc", crc_of(value)},
                   {"pid", number_},
                   {"epoch", 0},
                   {"seq", next_[partition]++}});
  send(uid, value, std::nullopt);
}

void RecordedProducer::send_after(uint64_t uid, uint64_t delay_ms) {
  const std::string value = numbered_value(uid, kValueBytes);
  history_.invoke(name_, "send", uid,
                  {{"topic", place_.topic},
                   {"part", place_.partition_of(uid)},
                   {"uid", uid},
                   {"crc", crc_of(value)},
                   {"delay_ms", delay_ms}});
  send(uid, value, client::Delay::after(static_cast<int64_t>(delay_ms)));
}

void RecordedProducer::send_at(uint64_t uid, int64_t wall_ms) {
  const std::string value = numbered_value(uid, kValueBytes);
  history_.invoke(name_, "send", uid,
                  {{"topic", place_.topic},
                   {"part", place_.partition_of(uid)},
                   {"uid", uid},
                   {"crc", crc_of(value)},
                   {"due_ms", wall_ms}});
  send(uid, value, client::Delay::at(wall_ms));
}

void RecordedProducer::send(uint64_t uid, const std::string& value,
                            const std::optional<client::Delay>& delay) {
  client::Message message;
  message.value = value;
  message.partition = place_.partition_of(uid);
  message.delay = delay;
  open_ += 1;
  if (const client::Status sent = producer_->send(topic_, message, uid); !sent.ok()) {
    open_ -= 1;
    refused_ += 1;
    history_.end(name_, "send", uid, "fail", {{"err", sent.to_string()}});
  }
}

bool RecordedProducer::wait_for_reports(int64_t ms_max) {
  std::unique_lock<std::mutex> lock(mutex_);
  return reported_.wait_for(lock, std::chrono::milliseconds(ms_max),
                            [&] { return open_.load() == 0; });
}

bool RecordedProducer::close(int64_t ms_max) {
  (void)producer_->close(ms_max);
  return wait_for_reports(ms_max);
}

std::map<uint64_t, client::DelayHandle> RecordedProducer::take_handles() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(handles_, {});
}

std::set<uint64_t> RecordedProducer::delayed() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return delayed_;
}

void RecordedProducer::take(const client::DeliveryBatch& batch) {
  for (size_t i = 0; i < batch.opaques.size(); ++i) {
    const uint64_t uid = batch.opaques[i];
    const bool delayed = batch.status.ok() && i < batch.receipts.size();
    const client::Status status = delayed ? batch.receipts[i].status : batch.status;
    if (!status.ok()) {
      (batch.outcome_unknown ? unknown_ : refused_) += 1;
      history_.end(name_, "send", uid, batch.outcome_unknown ? "info" : "fail",
                   {{"err", status.to_string()}});
      continue;
    }
    acknowledged_ += 1;
    if (delayed) {
      history_.end(name_, "send", uid, "ok", {{"due_ms", batch.receipts[i].due_ms}});
      const std::lock_guard<std::mutex> lock(mutex_);
      handles_[uid] = batch.receipts[i].handle;
      delayed_.insert(uid);
    } else {
      history_.end(name_, "send", uid, "ok", {{"off", batch.base_offset + i}});
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  open_ -= batch.opaques.size();
  reported_.notify_all();
}

// --- reader

RecordedReader::RecordedReader(const client::Client& client, History& history, Place place,
                               const BrokerClock& clock)
    : history_(history),
      place_(std::move(place)),
      clock_(clock),
      consumer_(*client::Consumer::create(client, {})) {
  const client::Status assigned = consumer_.assign(all_partitions(place_));
  TIDEMARK_CHECK(assigned.ok(), assigned.to_string());
  thread_ = std::thread([this] { run(); });
}

bool RecordedReader::wait_for(const std::set<uint64_t>& uids, int64_t ms_max) {
  const auto all_seen = [&] {
    return std::includes(seen_.begin(), seen_.end(), uids.begin(), uids.end());
  };
  std::unique_lock<std::mutex> lock(mutex_);
  grown_.wait_for(lock, std::chrono::milliseconds(ms_max),
                  [&] { return !error_.empty() || all_seen(); });
  return error_.empty() && all_seen();
}

std::string RecordedReader::stop() {
  stopping_.store(true);
  if (thread_.joinable()) {
    thread_.join();
  }
  return error_;
}

void RecordedReader::run() {
  while (!stopping_.load()) {
    const auto batch = consumer_.poll(kPollMs);
    if (!batch.ok() && batch.status().code() == client::ErrorCode::kIoError) {
      read_on();
      continue;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!batch.ok()) {
      error_ = batch.status().to_string();
      grown_.notify_all();
      return;
    }
    if (!batch->topic.empty()) {
      next_[batch->partition] = batch->next_offset;
      history_.observe("reader", "poll",
                       {{"topic", place_.topic},
                        {"part", batch->partition},
                        {"session", "s"},
                        {"end", batch->next_offset},
                        {"hw", batch->high_watermark}});
    }
    // What the broker's clock showed at most: it may have been set back since it wrote this.
    const int64_t wall_ms = system_clock().wall().ms + clock_.ahead_ms.load();
    for (const client::ReceivedMessage& message : batch->messages) {
      record(history_, "reader", "read", place_.topic, batch->partition, message,
             {{"session", "s"}, {"wall_ms", wall_ms}});
      seen_.insert(number_of(message.value.value_or("")));
    }
    grown_.notify_all();
  }
}

void RecordedReader::read_on() {
  for (uint32_t partition = 0; partition < place_.partitions; ++partition) {
    (void)consumer_.seek(place_.topic, partition, client::Position::offset(next_[partition]));
  }
}

// --- member of a group

RecordedMember::RecordedMember(const client::Client& client, History& history, Place place,
                               std::string group)
    : history_(history), place_(std::move(place)), group_(std::move(group)) {
  client::GroupOptions options;
  options.group = group_;
  options.topics = {place_.topic};
  options.commit = client::CommitMode::kManual;
  // Reading begins at the committed position: what was read behind it comes again.
  options.on_assigned = [this](const std::vector<client::TopicPartition>& partitions) {
    for (const client::TopicPartition& one : partitions) {
      history_.observe("member", "seek",
                       {{"topic", place_.topic}, {"part", one.partition}, {"session", "s"}});
      const std::lock_guard<std::mutex> lock(mutex_);
      next_[one.partition] = committed_[one.partition];
      grown_.notify_all();
    }
  };
  auto created = client::GroupConsumer::create(client, options);
  TIDEMARK_CHECK(created.ok(), created.status().to_string());
  consumer_ = std::make_unique<client::GroupConsumer>(std::move(*created));
  thread_ = std::thread([this] { run(); });
}

bool RecordedMember::wait_for(const std::map<uint32_t, uint64_t>& ends, int64_t ms_max) {
  std::unique_lock<std::mutex> lock(mutex_);
  grown_.wait_for(lock, std::chrono::milliseconds(ms_max),
                  [&] { return !error_.empty() || committed_ == ends; });
  return committed_ == ends;
}

std::string RecordedMember::stop() {
  stopping_.store(true);
  if (thread_.joinable()) {
    thread_.join();
  }
  return error_;
}

void RecordedMember::run() {
  while (!stopping_.load()) {
    const auto batch = consumer_->poll(kPollMs);
    if (!batch.ok() && batch.status().code() == client::ErrorCode::kIoError) {
      read_on();
      continue;
    }
    if (!batch.ok()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      error_ = batch.status().to_string();
      grown_.notify_all();
      return;
    }
    for (const client::ReceivedMessage& message : batch->messages) {
      record(history_, "member", "read", place_.topic, batch->partition, message,
             {{"session", "s"}, {"group", group_}});
    }
    if (!batch->messages.empty()) {
      next_[batch->partition] = batch->next_offset;
      commit(batch->partition, batch->next_offset);
    }
  }
}

void RecordedMember::read_on() {
  for (const client::TopicPartition& one : consumer_->assignment()) {
    (void)consumer_->seek(one.topic, one.partition, client::Position::offset(next_[one.partition]));
  }
}

void RecordedMember::commit(uint32_t partition, uint64_t offset) {
  const uint64_t id = history_.next_id();
  history_.invoke(
      "member", "offset_commit", id,
      {{"group", group_}, {"topic", place_.topic}, {"part", partition}, {"off", offset}});
  const client::Status status = consumer_->commit(
      {{.partition = {place_.topic, partition}, .offset = offset}}, kCommitDeadlineMs);
  if (status.ok()) {
    history_.end("member", "offset_commit", id, "ok");
    const std::lock_guard<std::mutex> lock(mutex_);
    committed_[partition] = offset;
    grown_.notify_all();
  } else {
    const bool fenced = status.code() == client::ErrorCode::kFenced;
    history_.end("member", "offset_commit", id, fenced ? "fail" : "info",
                 {{"err", status.to_string()}});
  }
}

}  // namespace tidemark::testing
