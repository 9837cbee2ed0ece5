#include "tests/support/delay_traffic.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <utility>

#include <doctest/doctest.h>

#include "log/base/check.h"
#include "log/base/clock.h"
#include "tests/support/daemon_process.h"

namespace tidemark::testing {

namespace {

client::Consumer open_consumer(const client::Client& client, const std::string& topic,
                               uint32_t partitions) {
  auto consumer = client::Consumer::create(client, {});
  REQUIRE_MESSAGE(consumer.ok(), consumer.status().to_string());
  std::vector<client::Assignment> all;
  for (uint32_t partition = 0; partition < partitions; ++partition) {
    all.push_back({topic, partition, client::Position::start()});
  }
  REQUIRE(consumer->assign(all).ok());
  return std::move(*consumer);
}

}  // namespace

int64_t wall_now_ms() { return system_clock().wall().ms; }

int64_t monotonic_now_ns() { return system_clock().monotonic().ns; }

void wait_for_wall(int64_t wall_ms) {
  const int timer = ::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
  TIDEMARK_CHECK(timer >= 0);
  itimerspec at{};
  at.it_value = {wall_ms / 1'000, (wall_ms % 1'000) * 1'000'000};
  TIDEMARK_CHECK(::timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, nullptr) == 0);
  uint64_t expired = 0;
  TIDEMARK_CHECK(::read(timer, &expired, sizeof expired) == sizeof expired);
  ::close(timer);
}

uint64_t full_size(const char* variable, uint64_t fallback) {
  const char* text = ::getenv(variable);  // NOLINT(concurrency-mt-unsafe): set before the test
  return text != nullptr ? std::strtoull(text, nullptr, 10) : fallback;
}

uint64_t process_memory(int pid, std::string_view field) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(std::string(field) + ":")) {
      return std::strtoull(line.c_str() + field.size() + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

bool reset_peak_memory(int pid) {
  std::ofstream file("/proc/" + std::to_string(pid) + "/clear_refs");
  file << "5";
  file.flush();
  return file.good();
}

double metric_sum(uint16_t http_port, std::string_view name) {
  const HttpAnswer answer = http_get(http_port, "/metrics");
  double sum = 0;
  bool found = false;
  std::istringstream lines(answer.body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name) && (line[name.size()] == '{' || line[name.size()] == ' ')) {
      sum += std::strtod(line.c_str() + line.rfind(' '), nullptr);
      found = true;
    }
  }
  REQUIRE_MESSAGE(found, name);
  return sum;
}

// --- sending

Schedules::Schedules(const client::Client& client, std::string topic, size_t bytes)
    : bytes_(bytes) {
  client::ProducerOptions options;
  options.linger_ms = 1;
  options.delivery_timeout_ms = 5 * kTrafficDeadlineMs;
  options.on_delivery = [this](const client::DeliveryBatch& batch) { take(batch); };
  auto created = client::Producer::create(client, options);
  REQUIRE_MESSAGE(created.ok(), created.status().to_string());
  producer_ = std::make_unique<client::Producer>(std::move(*created));
  topic_ = *producer_->topic(topic);
}

void Schedules::send(uint64_t number, const client::Delay& delay) {
  const std::string value = numbered_value(number, bytes_);
  client::Message message;
  message.value = value;
  message.delay = delay;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    all_[number].sent_ns = monotonic_now_ns();
  }
  const client::Status sent = producer_->send(topic_, message, number);
  REQUIRE_MESSAGE(sent.ok(), sent.to_string());
}

void Schedules::take(const client::DeliveryBatch& batch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t now_ns = monotonic_now_ns();
  for (size_t i = 0; i < batch.opaques.size(); ++i) {
    Scheduled& one = all_[batch.opaques[i]];
    one.acked = true;
    one.acked_ns = now_ns;
    one.status = batch.status;
    if (batch.status.ok() && i < batch.receipts.size()) {
      one.status = batch.receipts[i].status;
      one.handle = batch.receipts[i].handle;
      one.due_ms = batch.receipts[i].due_ms;
    }
  }
  acks_ += batch.opaques.size();
  grown_.notify_all();
}

bool Schedules::wait_for_acks(size_t count) {
  std::unique_lock<std::mutex> lock(mutex_);
  return grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                         [&] { return acks_ >= count; });
}

size_t Schedules::acks() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return acks_;
}

std::optional<Scheduled> Schedules::find(uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = all_.find(number);
  return it == all_.end() ? std::nullopt : std::optional(it->second);
}

void Schedules::flush() {
  const client::FlushResult rest = producer_->flush(kTrafficDeadlineMs);
  REQUIRE_MESSAGE(rest.status.ok(), rest.status.to_string());
  REQUIRE(wait_for_acks(all_.size()));
  for (const auto& numbered : all_) {
    const client::Status& status = numbered.second.status;
    REQUIRE_MESSAGE(status.ok(), status.to_string());
  }
}

std::vector<client::DelayTarget> Schedules::targets(const std::vector<uint64_t>& numbers) const {
  std::vector<client::DelayTarget> targets;
  targets.reserve(numbers.size());
  for (const uint64_t number : numbers) {
    targets.push_back(client::DelayTarget::of(of(number).handle));
  }
  return targets;
}

// --- reading

Arrivals::Arrivals(const client::Client& client, std::string topic, uint32_t partitions)
    : consumer_(open_consumer(client, topic, partitions)), thread_([this] { run(); }) {}

Arrivals::~Arrivals() { stop(); }

void Arrivals::run() {
  while (!stopping_.load()) {
    const auto batch = consumer_.poll(50);
    const int64_t wall_ms = wall_now_ms();
    const int64_t now_ns = monotonic_now_ns();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!batch.ok()) {
      errors_.push_back(batch.status().to_string());
      grown_.notify_all();
      return;
    }
    for (const client::ReceivedMessage& message : batch->messages) {
      const uint64_t number = number_of(message.value.value_or(""));
      damaged_ += number == UINT64_MAX ? 1U : 0U;
      arrivals_.push_back({number, batch->partition, message.offset, wall_ms, now_ns});
      ++times_[number];
    }
    if (!batch->messages.empty()) {
      grown_.notify_all();
    }
  }
}

bool Arrivals::wait_for(size_t count, int64_t ms_max) {
  std::unique_lock<std::mutex> lock(mutex_);
  grown_.wait_for(lock, std::chrono::milliseconds(ms_max),
                  [&] { return arrivals_.size() >= count || !errors_.empty(); });
  return arrivals_.size() >= count;
}

bool Arrivals::wait_for_number(uint64_t number, int64_t ms_max) {
  std::unique_lock<std::mutex> lock(mutex_);
  grown_.wait_for(lock, std::chrono::milliseconds(ms_max),
                  [&] { return times_.contains(number) || !errors_.empty(); });
  return times_.contains(number);
}

size_t Arrivals::count() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return arrivals_.size();
}

std::string Arrivals::error() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return errors_.empty() ? "" : errors_.front();
}

const std::vector<Arrival>& Arrivals::stop() {
  stopping_.store(true);
  if (thread_.joinable()) {
    thread_.join();
  }
  return arrivals_;
}

std::unordered_map<uint64_t, size_t> Arrivals::times() const { return times_; }

}  // namespace tidemark::testing
