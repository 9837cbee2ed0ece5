// Queue mode with ten consumers of a group, some of whose messages fail once and some always: every
// message ends up acked or in the dead-letter topic, and comes again when its back-off says. The
// same with a broker and a consumer that are killed with -9 meanwhile, and the way back of dead
// letters.
//
// TIDEMARK_QUEUE_MESSAGES=1000000 and TIDEMARK_REDRIVE_LETTERS=10000 make the big runs. A
// redelivery may be late by TIDEMARK_QUEUE_LATE_MS: 50 is what holds on a machine that has nothing
// else to do.
#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/support/child_process.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/queue_traffic.h"
#include "tests/support/split_mix.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 4;
constexpr size_t kConsumers = 10;
constexpr size_t kMessageBytes = 100;
constexpr uint32_t kDeliveriesMax = 5;
constexpr const char* kReason = "cannot be worked on";
// After the n-th failure; the last one follows from the factor of two.
constexpr std::array<int64_t, kDeliveriesMax - 1> kBackoffMs = {100, 200, 400, 800};

uint64_t message_count() { return full_size("TIDEMARK_QUEUE_MESSAGES", 5'000); }

int64_t late_ms_max() { return static_cast<int64_t>(full_size("TIDEMARK_QUEUE_LATE_MS", 2'000)); }

enum class Fate { kGood, kFailsOnce, kPoison };

// 1 of 100 is poison, 20 fail once.
Fate fate_of(uint64_t number) {
  const uint64_t part = SplitMix(number + 20261129).below(100);
  if (part == 0) {
    return Fate::kPoison;
  }
  return part <= 20 ? Fate::kFailsOnce : Fate::kGood;
}

client::TopicConfig queue_config() {
  client::TopicConfig config;
  config.retry_delays_ms.assign(kBackoffMs.begin(), kBackoffMs.end() - 1);
  config.retry_factor_percent = 200;
  config.max_deliveries = kDeliveriesMax;
  config.dead_letter_topic = "dead";
  return config;
}

void create_topics(const client::Client& client) {
  client::Admin admin(client);
  REQUIRE(admin.create_topic("dead", kPartitions, {}, kTrafficDeadlineMs).ok());
  const auto created = admin.create_topic("t", kPartitions, queue_config(), kTrafficDeadlineMs);
  REQUIRE_MESSAGE(created.ok(), created.status().to_string());
}

// What handlers saw of one message, and what they were told.
struct Story {
  std::vector<uint32_t> deliveries;
  int64_t nacked_ns = 0;  // monotonic, before the last nack
  bool acked = false;     // the broker said so
};

// What became of messages 0 to count - 1. Handlers of all consumers write into it.
class Ledger {
 public:
  explicit Ledger(uint64_t count) : stories_(count) {}

  // A handler: settles the message as its fate has it.
  bool handle(client::QueueMessage& message) {
    const int64_t now_ns = monotonic_now_ns();
    const uint64_t number = number_of(message.value().value_or(""));
    const std::lock_guard<std::mutex> lock(mutex_);
    if (number >= stories_.size()) {
      ++strange;
      return true;
    }
    Story& story = stories_[number];
    const uint32_t deliveries = message.deliveries();
    came_after_ack += story.acked ? 1U : 0U;
    const bool fewer = !story.deliveries.empty() && deliveries < story.deliveries.back();
    forgotten += fewer ? 1U : 0U;
    note_time(story, deliveries, now_ns);
    story.deliveries.push_back(deliveries);
    const Fate fate = fate_of(number);
    if (fate == Fate::kPoison || (fate == Fate::kFailsOnce && deliveries == 1)) {
      ++nacks;
      story.nacked_ns = monotonic_now_ns();
      message.nack(kReason);
    } else {
      message.ack([this, number](const client::Status& status) { acked(number, status); });
    }
    return true;
  }

  // False if it does not come to so many acks in time.
  bool wait_for_acks(uint64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return grown_.wait_for(lock, std::chrono::milliseconds(kTrafficDeadlineMs),
                           [&] { return acks_ >= count; });
  }

  // When no consumer is left.
  [[nodiscard]] const std::vector<Story>& stories() const { return stories_; }

  std::vector<int64_t> late_us;  // redeliveries, behind the time that the back-off asks for
  uint64_t early = 0;            // redeliveries before that time
  uint64_t came_after_ack = 0;
  uint64_t forgotten = 0;  // deliveries that count fewer failures than the one before
  uint64_t strange = 0;    // that nobody sent
  uint64_t nacks = 0;
  uint64_t acks_refused = 0;

 private:
  void acked(uint64_t number, const client::Status& status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!status.ok()) {
      ++acks_refused;
      return;
    }
    stories_[number].acked = true;
    ++acks_;
    grown_.notify_all();
  }

  void note_time(const Story& story, uint32_t deliveries, int64_t now_ns) {
    // With a failure between that was no nack of ours there is nothing to compare with.
    if (story.nacked_ns == 0 || deliveries != story.deliveries.back() + 1 || deliveries < 2) {
      return;
    }
    const int64_t due_ns = story.nacked_ns + kBackoffMs.at(deliveries - 2) * 1'000'000;
    early += now_ns < due_ns ? 1U : 0U;
    late_us.push_back((now_ns - due_ns) / 1'000);
  }

  std::mutex mutex_;
  std::condition_variable grown_;
  std::vector<Story> stories_;
  uint64_t acks_ = 0;
};

// Consumers of group g, each with a connection of its own.
class Crew {
 public:
  Crew(const std::string& address, Ledger& ledger) {
    for (size_t i = 0; i < kConsumers; ++i) {
      client::QueueOptions options;
      options.group = "g";
      options.topics = {"t"};
      options.in_flight_max = 64;
      options.receive_wait_ms = 100;  // as long as close() may take
      options.on_message = [&ledger](client::QueueMessage& message) {
        return ledger.handle(message);
      };
      options.handlers = 2;
      auto consumer = client::QueueConsumer::create(connect(address), options);
      REQUIRE_MESSAGE(consumer.ok(), consumer.status().to_string());
      consumers_.push_back(std::move(*consumer));
    }
  }

  void close() {
    for (client::QueueConsumer& consumer : consumers_) {
      // Not its result: settlements that came too late are among the failures.
      (void)consumer.close(kTrafficDeadlineMs);
    }
    consumers_.clear();
  }

 private:
  std::vector<client::QueueConsumer> consumers_;
};

// What the dead-letter topic says, held against where the messages were.
std::set<uint64_t> check_dead_letters(const client::Client& client, int64_t began_ms) {
  std::set<uint64_t> dead;
  size_t twice = 0;
  size_t wrong = 0;
  for (const StoredMessage& letter : read_all(client, "dead", kPartitions)) {
    const uint64_t number = number_of(letter.value);
    twice += dead.insert(number).second ? 0U : 1U;
    const int64_t died_ms = std::atoll(letter.header("tm-dead-time").c_str());
    const bool right = letter.header("tm-dead-topic") == "t" &&
                       letter.header("tm-dead-partition") == std::to_string(number % kPartitions) &&
                       letter.header("tm-dead-offset") == std::to_string(number / kPartitions) &&
                       letter.header("tm-dead-group") == "g" &&
                       letter.header("tm-dead-reason") == kReason &&
                       letter.header("tm-dead-deliveries") == std::to_string(kDeliveriesMax) &&
                       died_ms >= began_ms && died_ms <= wall_now_ms();
    wrong += right ? 0U : 1U;
  }
  CHECK(twice == 0);
  CHECK(wrong == 0);
  return dead;
}

std::string times_text(Ledger& ledger) {
  const auto text = [&](double part) {
    const std::string ms =
        std::to_string(static_cast<double>(quantile(ledger.late_us, part)) / 1e3);
    return ms.substr(0, ms.find('.') + 2);
  };
  return std::to_string(ledger.late_us.size()) + " redeliveries, late by p0 " + text(0) + ", p50 " +
         text(0.5) + ", p99 " + text(0.99) + ", at most " + text(1) + " ms";
}

void check_times(Ledger& ledger) {
  CHECK(ledger.early == 0);
  CHECK(ledger.strange == 0);
  CHECK(ledger.forgotten == 0);
  REQUIRE_FALSE(ledger.late_us.empty());
  CHECK(quantile(ledger.late_us, 1) <= 1'000 * late_ms_max());
}

// Nobody was interrupted: each was delivered as often as its fate says, and counted so.
void check_deliveries(const std::vector<Story>& stories) {
  const std::map<Fate, std::vector<uint32_t>> expected = {
      {Fate::kGood, {1}}, {Fate::kFailsOnce, {1, 2}}, {Fate::kPoison, {1, 2, 3, 4, 5}}};
  size_t wrong = 0;
  for (uint64_t number = 0; number < stories.size(); ++number) {
    wrong += stories[number].deliveries == expected.at(fate_of(number)) ? 0U : 1U;
  }
  CHECK(wrong == 0);
}

// `tidemark consume --queue --ack` in a process of its own, to be killed.
class Worker {
 public:
  explicit Worker(ToolFixture& broker) : output_(broker.directory() / "worker.out") {
    ChildProcess::Start start;
    start.arguments = {tool_path(),    "consume", "t",        "--group", "g",           "--queue",
                       "--ack",        "-q",      "--format", "%v\\n",   "--in-flight", "200",
                       "--visibility", "1s"};
    start.environment = {"TIDEMARK_BROKERS=" + broker.daemon().address()};
    start.output_file = output_;
    start.error_file = broker.directory() / "worker.err";
    child_.launch(start);
  }

  void kill() { child_.kill(); }

  void wait_for_output() {
    const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
    while (printed().empty()) {
      REQUIRE(wall_now_ms() < until_ms);
      wait_for_wall(wall_now_ms() + 5);
    }
  }

  // What it wrote before it was killed, in whole.
  std::set<uint64_t> printed() {
    std::set<uint64_t> numbers;
    for (const std::string& line : lines_of(file_text(output_))) {
      if (const uint64_t number = number_of(line);
          number != UINT64_MAX && line.size() == kMessageBytes) {
        numbers.insert(number);
      }
    }
    return numbers;
  }

 private:
  const std::string output_;
  ChildProcess child_;
};

void wait_for_receiver(const client::Client& client) {
  const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
  while (queue_sums(client, "g").receivers == 0) {
    REQUIRE(wall_now_ms() < until_ms);
    wait_for_wall(wall_now_ms() + 10);
  }
}

}  // namespace

TEST_CASE("ten consumers of a queue: acked or dead, and again when the back-off says") {
  const uint64_t count = message_count();
  ToolFixture broker;
  const client::Client client = connect(broker.daemon().address());
  create_topics(client);
  const int64_t began_ms = wall_now_ms();
  Ledger ledger(count);
  Crew crew(broker.daemon().address(), ledger);
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, count);
  sender.flush();
  const QueueSums sums = wait_until_settled(client, "g", count);
  const int64_t took_ms = wall_now_ms() - began_ms;
  crew.close();

  const std::set<uint64_t> dead = check_dead_letters(client, began_ms);
  size_t acked = 0;
  size_t neither = 0;
  size_t both = 0;
  size_t wrong = 0;
  for (uint64_t number = 0; number < count; ++number) {
    const bool ok = ledger.stories()[number].acked;
    acked += ok ? 1U : 0U;
    neither += !ok && !dead.contains(number) ? 1U : 0U;
    both += ok && dead.contains(number) ? 1U : 0U;
    wrong += dead.contains(number) != (fate_of(number) == Fate::kPoison) ? 1U : 0U;
  }
  MESSAGE(count << " messages in " << took_ms << " ms: " << acked << " acked, " << ledger.nacks
                << " nacks, " << dead.size() << " dead; " << times_text(ledger));
  CHECK(neither == 0);
  CHECK(both == 0);
  CHECK(wrong == 0);
  CHECK(ledger.came_after_ack == 0);
  CHECK(ledger.acks_refused == 0);
  check_deliveries(ledger.stories());
  check_times(ledger);
  // The broker counts as we do.
  CHECK(sums.acked == acked);
  CHECK(sums.dead_lettered == dead.size());
  CHECK(sums.failed == ledger.nacks - dead.size());
}

TEST_CASE("kill -9 of the broker and of a consumer of a queue: no message lost, no ack undone") {
  const uint64_t count = message_count();
  ToolFixture broker({"--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB"});
  const client::Client client = connect(broker.daemon().address());
  create_topics(client);
  const int64_t began_ms = wall_now_ms();
  Worker worker(broker);
  wait_for_receiver(client);
  Ledger ledger(count);
  Crew crew(broker.daemon().address(), ledger);
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  // What is sent is under way while things are killed.
  sender.send_all(0, count);
  CHECK(ledger.wait_for_acks(count / 10));
  worker.wait_for_output();
  worker.kill();
  for (const uint64_t acks : {count / 4, count / 2}) {
    CHECK(ledger.wait_for_acks(acks));
    broker.daemon().kill();
    REQUIRE_MESSAGE(broker.daemon().start(), broker.daemon().errors());
  }
  sender.flush();
  const QueueSums sums = wait_until_settled(client, "g", count);
  crew.close();

  const std::set<uint64_t> printed = worker.printed();
  const std::set<uint64_t> dead = check_dead_letters(client, began_ms);
  size_t acked = 0;
  size_t lost = 0;
  size_t both = 0;
  size_t wrong = 0;
  size_t again = 0;
  for (uint64_t number = 0; number < count; ++number) {
    const Story& story = ledger.stories()[number];
    acked += story.acked ? 1U : 0U;
    again += story.deliveries.size() > 1 ? 1U : 0U;
    // An ack whose answer was lost with the broker holds, too.
    const bool seen = !story.deliveries.empty() || printed.contains(number);
    lost += seen ? 0U : 1U;
    both += story.acked && dead.contains(number) ? 1U : 0U;
    const bool poison = fate_of(number) == Fate::kPoison;
    wrong += dead.contains(number) && !poison ? 1U : 0U;
    wrong += poison && !dead.contains(number) && !printed.contains(number) ? 1U : 0U;
  }
  MESSAGE(count << " messages: " << acked << " acks confirmed, " << ledger.acks_refused
                << " refused or unknown, " << again << " came again, " << printed.size()
                << " printed by the killed consumer, " << dead.size() << " dead; "
                << times_text(ledger));
  CHECK_FALSE(printed.empty());
  CHECK(lost == 0);
  CHECK(both == 0);
  CHECK(wrong == 0);
  CHECK(ledger.came_after_ack == 0);
  // A process takes the wall clock at its start in whole milliseconds, so the next one may be ahead
  // of it by less than one.
  CHECK(quantile(ledger.late_us, 0) > -1'000);
  CHECK(ledger.strange == 0);
  CHECK(ledger.forgotten == 0);
  CHECK(sums.acked + sums.dead_lettered == count);
  CHECK(sums.dead_lettered == dead.size());

  CHECK(broker.daemon().terminate() == 0);
  const CommandResult verify =
      run_command({tool_path(), "log", "verify", broker.daemon().data_dir()});
  CHECK_MESSAGE(verify.exit_code == 0, verify.output << verify.errors);
}

TEST_CASE("what was leased ahead before kill -9 of the broker is not shown once another acked it") {
  constexpr uint64_t kCount = 100;
  ToolFixture broker;
  const client::Client client = connect(broker.daemon().address());
  create_topics(client);
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, kCount);
  sender.flush();
  client::QueueOptions options;
  options.group = "g";
  options.topics = {"t"};
  auto first = client::QueueConsumer::create(connect(broker.daemon().address()), options);
  REQUIRE(first.ok());
  const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
  while (first->in_flight() < kCount) {
    REQUIRE(wall_now_ms() < until_ms);
    wait_for_wall(wall_now_ms() + 5);
  }
  broker.daemon().kill();
  REQUIRE_MESSAGE(broker.daemon().start(), broker.daemon().errors());

  // Leases went with the broker: who asks next gets everything.
  auto second = client::QueueConsumer::create(connect(broker.daemon().address()), options);
  REQUIRE(second.ok());
  while (queue_sums(client, "g").unsettled > 0) {
    REQUIRE(wall_now_ms() < until_ms);
    auto message = second->receive(20);
    REQUIRE_MESSAGE(message.ok(), message.status().to_string());
    if (message->has_value()) {
      (*message)->ack();
    }
  }
  size_t shown = 0;
  for (auto message = first->receive(0); message.ok() && message->has_value();
       message = first->receive(0)) {
    ++shown;
    (*message)->ack();
  }
  MESSAGE(shown << " of " << kCount << " messages that were acked before were shown again");
  CHECK(shown == 0);
}

TEST_CASE("dead letters of a queue are redriven, as many as were said, and come once each") {
  const uint64_t count = full_size("TIDEMARK_REDRIVE_LETTERS", 1'000);
  ToolFixture broker;
  const client::Client client = connect(broker.daemon().address());
  create_topics(client);
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, count);
  sender.flush();

  client::QueueOptions options;
  options.group = "g";
  options.topics = {"t"};
  auto consumer = client::QueueConsumer::create(client, options);
  REQUIRE(consumer.ok());
  const auto next = [&] {
    auto message = consumer->receive(kTrafficDeadlineMs);
    REQUIRE_MESSAGE(message.ok(), message.status().to_string());
    REQUIRE(message->has_value());
    return std::move(**message);
  };
  for (uint64_t i = 0; i < count; ++i) {
    next().dead_letter("no such address");
  }
  REQUIRE(consumer->flush(kTrafficDeadlineMs).ok());
  CHECK(wait_until_settled(client, "g", count).dead_lettered == count);
  CHECK(broker.output_json({"dlq", "list", "dead"})["letters"] == count);

  const nlohmann::json dry = broker.output_json({"dlq", "redrive", "dead", "--dry-run"});
  CHECK(dry["matched"] == count);
  CHECK(dry["redriven"] == 0);
  CHECK(broker.output_json({"dlq", "list", "dead"})["letters"] == count);
  const int64_t began_ms = wall_now_ms();
  const nlohmann::json real = broker.output_json({"dlq", "redrive", "dead", "-y"});
  MESSAGE("redriven " << real["redriven"] << " of " << count << " in " << wall_now_ms() - began_ms
                      << " ms");
  CHECK(real["matched"] == dry["matched"]);
  CHECK(real["redriven"] == count);
  CHECK(real["failed"] == 0);
  CHECK(broker.output_json({"dlq", "list", "dead"})["letters"] == 0);
  CHECK(broker.output_json({"dlq", "redrive", "dead", "-y"})["matched"] == 0);

  std::set<uint64_t> came;
  size_t wrong = 0;
  for (uint64_t i = 0; i < count; ++i) {
    client::QueueMessage message = next();
    const bool fresh = came.insert(number_of(message.value().value_or(""))).second;
    const auto is_mark = [](const client::Header& header) { return header.key == "tm-redriven"; };
    const bool marked = std::ranges::count_if(message.headers(), is_mark) == 1;
    wrong += fresh && marked && message.deliveries() == 1 ? 0U : 1U;
    message.ack();
  }
  REQUIRE(consumer->flush(kTrafficDeadlineMs).ok());
  CHECK(wrong == 0);
  CHECK(came.size() == count);
  CHECK(*came.rbegin() == count - 1);
  CHECK(wait_until_settled(client, "g", 2 * count).acked == count);
}

}  // namespace tidemark::testing
