// Everything at once under kill -9, and a judge that knows nothing of the broker: producers that
// try for ever and that give up soon, delayed messages and cancels, a reader and a group write down
// what they ask and are told, and the history checker accepts it.
//
// TIDEMARK_KILL_ROUNDS=100 makes the long run.
#include "tests/support/history.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/checksum.h"
#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/daemon_process.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/run_command.h"
#include "tests/support/temp_directory.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 3;
constexpr uint64_t kPerRound = 3'000;
constexpr uint64_t kDelayMsMax = 900;
constexpr size_t kValueBytes = 100;
constexpr const char* kTopic = "t";
constexpr const char* kGroup = "g";

uint32_t crc_of(std::string_view value) {
  return crc32c({reinterpret_cast<const uint8_t*>(value.data()), value.size()});
}

// One producer as a process of the history. The id of a send is the uid of its message.
class RecordedProducer {
 public:
  RecordedProducer(const client::Client& client, History& history, int number,
                   client::ProducerOptions options)
      : history_(history), name_("p" + std::to_string(number)), number_(number) {
    options.linger_ms = 1;
    options.buffer_messages_max = 500;  // sending keeps pace with the broker
    options.on_delivery = [this](const client::DeliveryBatch& batch) { take(batch); };
    auto created = client::Producer::create(client, options);
    REQUIRE_MESSAGE(created.ok(), created.status().to_string());
    producer_ = std::make_unique<client::Producer>(std::move(*created));
    topic_ = *producer_->topic(kTopic);
  }

  void send(uint64_t uid, std::optional<uint64_t> delay_ms) {
    const std::string value = numbered_value(uid, kValueBytes);
    const auto partition = static_cast<uint32_t>(uid % kPartitions);
    client::Message message;
    message.value = value;
    message.partition = partition;
    if (delay_ms.has_value()) {
      message.delay = client::Delay::after(static_cast<int64_t>(*delay_ms));
      history_.invoke(name_, "send", uid,
                      {{"topic", kTopic},
                       {"part", partition},
                       {"uid", uid},
                       {"crc", crc_of(value)},
                       {"delay_ms", *delay_ms}});
    } else {
      history_.invoke(name_, "send", uid,
                      {{"topic", kTopic},
                       {"part", partition},
                       {"uid", uid},
                       {"crc", crc_of(value)},
                       {"pid", number_},
                       {"epoch", 0},
                       {"seq", next_[partition]++}});
    }
    open_ += 1;
    if (const client::Status sent = producer_->send(topic_, message, uid); !sent.ok()) {
      open_ -= 1;
      history_.end(name_, "send", uid, "fail", {{"err", sent.to_string()}});
    }
  }

  // False if some of what was sent has no report in time.
  bool wait_for_reports() {
    std::unique_lock<std::mutex> lock(mutex_);
    return reported_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                              [&] { return open_.load() == 0; });
  }

  void close() {
    (void)producer_->close(kTrafficDeadlineMs);
    CHECK(wait_for_reports());
  }

  // Handles of delayed messages, by uid; empties the list.
  std::map<uint64_t, client::DelayHandle> take_handles() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(handles_, {});
  }

  // Stored delayed messages so far.
  std::set<uint64_t> delayed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return delayed_;
  }

  [[nodiscard]] uint64_t unknown() const { return unknown_.load(); }

 private:
  void take(const client::DeliveryBatch& batch) {
    for (size_t i = 0; i < batch.opaques.size(); ++i) {
      const uint64_t uid = batch.opaques[i];
      const bool delayed = batch.status.ok() && i < batch.receipts.size();
      const client::Status status = delayed ? batch.receipts[i].status : batch.status;
      if (!status.ok()) {
        unknown_ += batch.outcome_unknown ? 1U : 0U;
        history_.end(name_, "send", uid, batch.outcome_unknown ? "info" : "fail",
                     {{"err", status.to_string()}});
      } else if (delayed) {
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

  History& history_;
  const std::string name_;
  const int number_;
  std::map<uint32_t, uint64_t> next_;  // seq, by partition
  std::mutex mutex_;
  std::map<uint64_t, client::DelayHandle> handles_;
  std::set<uint64_t> delayed_;
  std::condition_variable reported_;
  std::atomic<size_t> open_{0};
  std::atomic<uint64_t> unknown_{0};
  std::unique_ptr<client::Producer> producer_;
  client::Topic topic_;
};

// `more`: fields besides those that every message has.
void record(History& history, std::string_view process, std::string_view op, uint32_t partition,
            const client::ReceivedMessage& message, const History::Fields& more) {
  const std::string_view value = message.value.value_or("");
  const uint64_t uid = number_of(value);
  History::Fields fields = {
      {"topic", kTopic}, {"part", partition}, {"off", message.offset}, {"crc", crc_of(value)}};
  if (uid != UINT64_MAX) {  // else the checker finds a message that nobody can name
    fields.emplace_back("uid", uid);
  }
  fields.insert(fields.end(), more.begin(), more.end());
  history.observe(process, op, fields);
}

std::vector<client::Assignment> all_partitions() {
  std::vector<client::Assignment> all;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    all.push_back({kTopic, partition, client::Position::start()});
  }
  return all;
}

// Reads along in a thread of its own.
class RecordedReader {
 public:
  RecordedReader(const client::Client& client, History& history)
      : history_(history), consumer_(*client::Consumer::create(client, {})) {
    REQUIRE(consumer_.assign(all_partitions()).ok());
    thread_ = std::thread([this] { run(); });
  }

  ~RecordedReader() { stop(); }

  RecordedReader(const RecordedReader&) = delete;
  RecordedReader& operator=(const RecordedReader&) = delete;

  // False if they do not all come in time, or reading ended.
  bool wait_for(const std::set<uint64_t>& uids) {
    std::unique_lock<std::mutex> lock(mutex_);
    grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs), [&] {
      return !error_.empty() || std::includes(seen_.begin(), seen_.end(), uids.begin(), uids.end());
    });
    return error_.empty() && std::includes(seen_.begin(), seen_.end(), uids.begin(), uids.end());
  }

  // What ended the reading, "" if nothing did.
  std::string stop() {
    stopping_.store(true);
    if (thread_.joinable()) {
      thread_.join();
    }
    return error_;
  }

 private:
  void run() {
    while (!stopping_.load()) {
      const auto batch = consumer_.poll(50);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!batch.ok()) {
        error_ = batch.status().to_string();
        grown_.notify_all();
        return;
      }
      if (!batch->topic.empty()) {
        history_.observe("reader", "poll",
                         {{"topic", kTopic},
                          {"part", batch->partition},
                          {"session", "s"},
                          {"end", batch->next_offset},
                          {"hw", batch->high_watermark}});
      }
      for (const client::ReceivedMessage& message : batch->messages) {
        record(history_, "reader", "read", batch->partition, message, {{"session", "s"}});
        seen_.insert(number_of(message.value.value_or("")));
      }
      grown_.notify_all();
    }
  }

  History& history_;
  client::Consumer consumer_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable grown_;
  std::set<uint64_t> seen_;
  std::string error_;
  std::thread thread_;
};

// A member of a group that commits each batch when the next one has come.
class RecordedMember {
 public:
  RecordedMember(const client::Client& client, History& history) : history_(history) {
    client::GroupOptions options;
    options.group = kGroup;
    options.topics = {kTopic};
    options.commit = client::CommitMode::kManual;
    // Reading begins at the committed position: what was read behind it comes again.
    options.on_assigned = [this](const std::vector<client::TopicPartition>& partitions) {
      for (const client::TopicPartition& one : partitions) {
        history_.observe("member", "seek",
                         {{"topic", kTopic}, {"part", one.partition}, {"session", "s"}});
      }
    };
    auto created = client::GroupConsumer::create(client, options);
    REQUIRE_MESSAGE(created.ok(), created.status().to_string());
    consumer_ = std::make_unique<client::GroupConsumer>(std::move(*created));
    thread_ = std::thread([this] { run(); });
  }

  ~RecordedMember() { stop(); }

  RecordedMember(const RecordedMember&) = delete;
  RecordedMember& operator=(const RecordedMember&) = delete;

  // False if the group has not committed that far in time, or reading ended.
  bool wait_for(const std::map<uint32_t, uint64_t>& ends) {
    std::unique_lock<std::mutex> lock(mutex_);
    grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                    [&] { return !error_.empty() || committed_ == ends; });
    return committed_ == ends;
  }

  // What ended the reading, "" if nothing did.
  std::string stop() {
    stopping_.store(true);
    if (thread_.joinable()) {
      thread_.join();
    }
    return error_;
  }

 private:
  void run() {
    while (!stopping_.load()) {
      const auto batch = consumer_->poll(50);
      if (!batch.ok()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        error_ = batch.status().to_string();
        grown_.notify_all();
        return;
      }
      for (const client::ReceivedMessage& message : batch->messages) {
        record(history_, "member", "read", batch->partition, message,
               {{"session", "s"}, {"group", kGroup}});
      }
      if (!batch->messages.empty()) {
        commit(batch->partition, batch->next_offset);
      }
    }
  }

  void commit(uint32_t partition, uint64_t offset) {
    const uint64_t id = history_.next_id();
    history_.invoke("member", "offset_commit", id,
                    {{"group", kGroup}, {"topic", kTopic}, {"part", partition}, {"off", offset}});
    const client::Status status =
        consumer_->commit({{.partition = {kTopic, partition}, .offset = offset}}, 10'000);
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

  History& history_;
  std::unique_ptr<client::GroupConsumer> consumer_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable grown_;
  std::map<uint32_t, uint64_t> committed_;
  std::string error_;
  std::thread thread_;
};

// The broker, its clients and the nemesis.
class Run {
 public:
  Run()
      : daemon_(directory_ / "data",
                {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"}),
        history_(path()),
        random_(20261129) {
    REQUIRE_MESSAGE(daemon_.start(), daemon_.errors());
    client_ = std::make_unique<client::Client>(connect(daemon_.address()));
    client::Admin admin(*client_);
    REQUIRE(admin.create_topic(kTopic, kPartitions, {}, kTrafficDeadlineMs).ok());
    // Of the log time the broker may be ahead by 5 ms after a restart. Lateness is bounded for a
    // machine that has other work.
    history_.observe("test", "config",
                     {{"skew_ms", 5}, {"max_late_ms", 5'000}, {"recovery_ms", 10'000}});
    history_.observe("test", "topic", {{"topic", kTopic}});
  }

  [[nodiscard]] std::string path() const { return directory_ / "history.jsonl"; }

  void run(uint64_t rounds);
  void judge();
  void judge_without_a_message();

 private:
  void kill(RecordedProducer& hasty);
  void cancel_some(RecordedProducer& producer);
  void look_at_positions();
  std::map<uint32_t, uint64_t> drain();

  TempDirectory directory_;
  DaemonProcess daemon_;
  History history_;
  Random random_;
  std::unique_ptr<client::Client> client_;
  uint64_t next_uid_ = 1;
};

// The broker stays away until `hasty` has given up all that it had sent.
void Run::kill(RecordedProducer& hasty) {
  const uint64_t id = history_.next_id();
  history_.invoke("nemesis", "fault", id, {{"kind", "kill"}});
  daemon_.kill();
  CHECK(hasty.wait_for_reports());
  REQUIRE_MESSAGE(daemon_.start(), daemon_.errors());
  history_.end("nemesis", "fault", id, "ok");
}

void Run::cancel_some(RecordedProducer& producer) {
  auto delays = client::Delays::create(*client_);
  uint64_t count = 0;
  for (const auto& [uid, handle] : producer.take_handles()) {
    if (++count % 10 != 0) {
      continue;
    }
    const uint64_t id = history_.next_id();
    history_.invoke("canceller", "cancel", id, {{"topic", kTopic}, {"uid", uid}});
    const auto answer =
        delays->cancel(kTopic, {client::DelayTarget::of(handle)}, kTrafficDeadlineMs);
    const client::Status status = answer.ok() ? answer->front().status : answer.status();
    if (status.ok()) {
      const bool done = answer->front().outcome == client::DelayOutcome::kCancelled;
      history_.end("canceller", "cancel", id, done ? "ok" : "fail");
    } else {
      history_.end("canceller", "cancel", id, "info", {{"err", status.to_string()}});
    }
  }
}

void Run::look_at_positions() {
  auto groups = client::Groups::create(*client_);
  std::map<uint32_t, uint64_t> ids;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    ids[partition] = history_.next_id();
    history_.invoke("looker", "offset_fetch", ids[partition],
                    {{"group", kGroup}, {"topic", kTopic}, {"part", partition}});
  }
  const auto answer = groups->describe(kGroup, kTrafficDeadlineMs);
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

void Run::run(uint64_t rounds) {
  client::ProducerOptions options;
  options.delivery_timeout_ms = 5 * kTrafficDeadlineMs;
  RecordedProducer patient(*client_, history_, 1, options);
  RecordedProducer delaying(*client_, history_, 2, options);
  options.delivery_timeout_ms = 100;  // gives up while the broker is away
  RecordedProducer hasty(*client_, history_, 3, options);
  RecordedReader reader(*client_, history_);
  RecordedMember member(*client_, history_);
  for (uint64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const uint64_t kill_at = random_.between(kPerRound / 4, kPerRound - 1);
    for (uint64_t i = 0; i < kPerRound; ++i) {
      RecordedProducer& producer = i % 4 == 3 ? hasty : i % 8 == 0 ? delaying : patient;
      producer.send(next_uid_++, &producer == &delaying
                                     ? std::optional(random_.between(0, kDelayMsMax))
                                     : std::nullopt);
      if (i == kill_at / 2) {
        cancel_some(delaying);
      }
      if (i == kill_at) {
        kill(hasty);
        look_at_positions();
      }
    }
    cancel_some(delaying);
  }
  history_.observe("test", "heal", {});
  patient.close();
  delaying.close();
  hasty.close();
  MESSAGE("rounds " << rounds << ", sent " << next_uid_ - 1 << ", unknown outcomes "
                    << patient.unknown() + delaying.unknown() + hasty.unknown());
  // One more message behind everything delayed, so that what would come wrongly has come.
  RecordedProducer last(*client_, history_, 4, {});
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    last.send(next_uid_++, kDelayMsMax + 100);
  }
  last.close();
  CHECK(reader.wait_for(last.delayed()));
  CHECK(reader.stop() == "");
  const std::map<uint32_t, uint64_t> ends = drain();
  CHECK(member.wait_for(ends));
  look_at_positions();
  for (const auto& [partition, end] : ends) {
    history_.observe("test", "group_final",
                     {{"group", kGroup}, {"topic", kTopic}, {"part", partition}, {"off", end}});
  }
  CHECK(member.stop() == "");
}

std::map<uint32_t, uint64_t> Run::drain() {
  auto consumer = client::Consumer::create(*client_, {});
  REQUIRE(consumer->assign(all_partitions()).ok());
  client::Admin admin(*client_);
  const auto partitions = admin.describe_partitions(kTopic, kTrafficDeadlineMs);
  REQUIRE_MESSAGE(partitions.ok(), partitions.status().to_string());
  std::map<uint32_t, uint64_t> ends;
  std::map<uint32_t, uint64_t> next;
  for (const client::PartitionDescription& one : *partitions) {
    ends[one.partition] = one.end_offset;
    next[one.partition] = one.start_offset;
    history_.observe("drain", "drain_start",
                     {{"topic", kTopic}, {"part", one.partition}, {"off", one.start_offset}});
    history_.observe("drain", "drain_end",
                     {{"topic", kTopic}, {"part", one.partition}, {"end", one.end_offset}});
  }
  while (next != ends) {
    const auto batch = consumer->poll(static_cast<int64_t>(kTrafficDeadlineMs));
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    REQUIRE_FALSE(batch->messages.empty());
    next[batch->partition] = batch->next_offset;
    for (const client::ReceivedMessage& message : batch->messages) {
      record(history_, "drain", "drain", batch->partition, message, {});
    }
  }
  auto delays = client::Delays::create(*client_);
  const auto pending = delays->list(kTopic, {}, kTrafficDeadlineMs);
  REQUIRE_MESSAGE(pending.ok(), pending.status().to_string());
  CHECK(pending->empty());
  return ends;
}

// The same history is refused when the drain lacks one message: what is recorded is evidence.
void Run::judge_without_a_message() {
  std::ifstream in(path());
  const std::string shorter = directory_ / "shorter.jsonl";
  std::ofstream out(shorter);
  bool left_out = false;
  for (std::string line; std::getline(in, line);) {
    if (!left_out && line.find("\"op\":\"drain\",") != std::string::npos) {
      left_out = true;
    } else {
      out << line << "\n";
    }
  }
  out.close();
  const CommandResult verdict = run_command({required_environment("CHECK_HISTORY"), shorter});
  CHECK(verdict.exit_code == 1);
  CHECK_MESSAGE(verdict.output.find("I7 violated 1 time: ") != std::string::npos, verdict.output);
}

void Run::judge() {
  history_.close();
  const CommandResult verdict =
      run_command({required_environment("CHECK_HISTORY"), "--require",
                   "I1,I2,I3,I4,I5,I6,I7,I8,I9,I10,I11,I12,I13,I14,I15", "--verbose", path()});
  CHECK_MESSAGE(verdict.exit_code == 0, verdict.output << verdict.errors);
  MESSAGE(verdict.output.substr(verdict.output.rfind('\n', verdict.output.size() - 2) + 1));
  judge_without_a_message();
  CHECK(daemon_.terminate() == 0);
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon_.data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

}  // namespace

TEST_CASE("the history of a run with kill -9 is accepted by the checker") {
  Run run;
  run.run(full_size("TIDEMARK_KILL_ROUNDS", 4));
  run.judge();
}

}  // namespace tidemark::testing
