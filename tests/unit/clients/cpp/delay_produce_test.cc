// Delayed messages from send() to the report, against a scripted broker with faults drawn from a
// seed.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "clients/cpp/src/delay_item.h"
#include "log/base/checksum.h"
#include "tests/unit/clients/cpp/producer_rig.h"

namespace tidemark::client_core {
namespace {

using client::Delay;
using client::DelayHandle;
using testing::FakePartition;
using testing::PendingMessage;
using testing::Rig;

std::vector<std::string> values_of(const std::vector<PendingMessage>& messages) {
  std::vector<std::string> values;
  for (const PendingMessage& message : messages) {
    values.push_back(message.value);
  }
  return values;
}

TEST_CASE("a delayed message is stored as it was sent, and its report brings the handle") {
  Rig rig(1);
  rig.network.add_topic("t", 3);
  const client::Header header{"h", "x"};
  Delay delay = Delay::cron("0 0 9 * * 1-5", "Europe/Berlin");
  delay.with_key("report", Delay::OnPending::kReplace);
  client::Delivery seen;
  REQUIRE(
      rig.send("t",
               {.key = "k", .value = "v", .headers = {&header, 1}, .partition = 1, .delay = delay},
               7, [&](const client::Delivery& delivery) { seen = delivery; })
          .ok());
  REQUIRE(rig.drain());
  const auto& pending = rig.network.topic("t").partitions[1].pending;
  REQUIRE(pending.size() == 1);
  CHECK(pending[0].key == "report");
  CHECK(pending[0].cron == "0 0 9 * * 1-5");
  CHECK(pending[0].zone == "Europe/Berlin");
  CHECK(pending[0].value == "v");
  CHECK(seen.status.ok());
  CHECK(seen.partition == 1);
  CHECK(seen.opaque == 7);
  CHECK(seen.due_ms == pending[0].due_ms);
  CHECK(seen.handle.id == pending[0].id);
  CHECK(seen.handle.shard == 1);
  CHECK(seen.handle.topic == rig.network.topic("t").id);
  CHECK(seen.handle.due_ms == seen.due_ms);
  CHECK(seen.handle.position != 0);
  CHECK(seen.handle.tag != 0);
  CHECK(rig.reports.at(7).handle == seen.handle);
  CHECK(rig.network.violations.empty());
  CHECK(rig.buffer->stats().delivered == 1);
}

TEST_CASE("kinds of delay: after counts from the broker's clock, at is a time, every goes on") {
  Rig rig(2);
  rig.network.add_topic("t", 1);
  const int64_t now = rig.clock.wall().ms;
  REQUIRE(rig.send("t", {.value = "after", .delay = Delay::after(5'000)}, 0).ok());
  REQUIRE(rig.send("t", {.value = "at", .delay = Delay::at(now + 77)}, 1).ok());
  REQUIRE(rig.send("t", {.value = "every", .delay = Delay::every(1'000)}, 2).ok());
  REQUIRE(rig.drain());
  const auto& pending = rig.network.topic("t").partitions[0].pending;
  REQUIRE(pending.size() == 3);
  CHECK(pending[0].due_ms >= now + 5'000);
  CHECK(pending[1].due_ms == now + 77);
  CHECK(pending[2].every_ms == 1'000);
  CHECK(rig.network.produce_requests == 1);
}

TEST_CASE("plain and delayed messages of a partition keep their order in batches of their own") {
  Rig rig(3);
  rig.network.add_topic("t", 1);
  std::vector<std::string> sent;
  for (uint64_t i = 0; i < 100; ++i) {
    sent.push_back(std::to_string(i));
    client::Message message{.value = sent.back()};
    if (i / 10 % 2 == 1) {
      message.delay = Delay::after(1'000);
    }
    REQUIRE(rig.send("t", message, i).ok());
  }
  REQUIRE(rig.drain());
  const FakePartition& partition = rig.network.topic("t").partitions[0];
  CHECK(partition.applied == sent);
  CHECK(partition.batches().size() == 5);
  CHECK(partition.pending.size() == 50);
  CHECK(rig.buffer->stats().batches_sent == 10);
  // Offsets are those of plain messages alone.
  CHECK(rig.reports.at(20).offset == 10);
}

TEST_CASE("a set is as large as batch_bytes and the limit of items allow") {
  SUBCASE("bytes") {
    Rig rig(4, {.batch_bytes = 4096});
    rig.network.add_topic("t", 1);
    const std::string value(200, 'x');
    for (uint64_t i = 0; i < 100; ++i) {
      REQUIRE(rig.send("t", {.value = value, .delay = Delay::after(1'000)}, i).ok());
    }
    REQUIRE(rig.drain());
    CHECK(rig.network.topic("t").partitions[0].pending.size() == 100);
    // About 290 bytes each.
    CHECK(rig.buffer->stats().batches_sent >= 7);
    CHECK(rig.buffer->stats().batches_sent <= 9);
  }
  SUBCASE("items") {
    Rig rig(5, {.batch_bytes = 1 << 20});
    rig.network.add_topic("t", 1);
    for (uint64_t i = 0; i < format::kScheduleItemsMax + 1; ++i) {
      REQUIRE(rig.send("t", {.value = "", .delay = Delay::after(1'000)}, i).ok());
    }
    REQUIRE(rig.drain());
    CHECK(rig.network.topic("t").partitions[0].pending.size() == format::kScheduleItemsMax + 1);
    CHECK(rig.buffer->stats().batches_sent == 2);
  }
  SUBCASE("one message larger than batch_bytes, the largest there is") {
    Rig rig(6, {.batch_bytes = 4096});
    rig.network.add_topic("t", 1);
    const std::string value(limits::kMessageBytesMax, 'x');
    REQUIRE(rig.send("t", {.value = value, .delay = Delay::after(1'000)}, 0).ok());
    REQUIRE(rig.drain());
    CHECK(rig.network.topic("t").partitions[0].pending.size() == 1);
  }
}

TEST_CASE("partition: the one asked for, else by delay key, else by message key, else in turn") {
  Rig rig(7);
  rig.network.add_topic("t", 7);
  REQUIRE(rig.send("t", {.value = "resolve"}, 1'000).ok());
  REQUIRE(rig.drain());
  for (uint64_t i = 0; i < 30; ++i) {
    const std::string key = "key" + std::to_string(i);
    const std::string delay_key = "delay" + std::to_string(i);
    const auto partition_of = [](const std::string& text) { return xxh3(as_bytes(text)) % 7; };
    Delay keyed = Delay::after(1'000);
    keyed.with_key(delay_key);
    REQUIRE(rig.send("t", {.key = key, .value = "v", .partition = 3, .delay = keyed}, 0).ok());
    REQUIRE(rig.drain());
    CHECK(rig.reports.at(0).partition == 3);
    keyed.with_key(delay_key, Delay::OnPending::kReplace);
    REQUIRE(rig.send("t", {.key = key, .value = "v", .delay = keyed}, 1).ok());
    REQUIRE(rig.drain());
    CHECK(rig.reports.at(1).partition == partition_of(delay_key));
    REQUIRE(rig.send("t", {.key = key, .value = "v", .delay = Delay::after(1'000)}, 2).ok());
    REQUIRE(rig.drain());
    CHECK(rig.reports.at(2).partition == partition_of(key));
    rig.reports.clear();
  }
  CHECK(rig.network.violations.empty());
}

TEST_CASE("without keys plain and delayed messages do not end each other's batches") {
  Rig rig(8, {.linger_ns = 1'000 * kNsPerMs});
  rig.network.add_topic("t", 4);
  REQUIRE(rig.send("t", {.value = "resolve"}, 1'000).ok());
  REQUIRE(rig.drain());
  const uint64_t before = rig.buffer->stats().batches_sent;
  for (uint64_t i = 0; i < 200; ++i) {
    client::Message message{.value = "v"};
    if (i % 2 == 1) {
      message.delay = Delay::after(1'000);
    }
    REQUIRE(rig.send("t", message, i).ok());
  }
  REQUIRE(rig.drain());
  CHECK(rig.buffer->stats().batches_sent - before == 2);
}

TEST_CASE("refused items fail alone, with a reason, and count as failed") {
  Rig rig(9);
  rig.network.add_topic("t", 1);
  Delay keyed = Delay::after(1'000);
  keyed.with_key("order-17");
  REQUIRE(rig.send("t", {.value = "a", .delay = keyed}, 0).ok());
  client::Delivery refused;
  REQUIRE(rig.send("t", {.value = "b", .delay = keyed}, 1,
                   [&](const client::Delivery& delivery) { refused = delivery; })
              .ok());
  REQUIRE(rig.send("t", {.value = "c", .delay = Delay::after(1'000)}, 2).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(0).code == client::ErrorCode::kOk);
  CHECK(rig.reports.at(1).code == client::ErrorCode::kAlreadyExists);
  CHECK(rig.reports.at(1).handle.empty());
  CHECK(rig.reports.at(1).text.find("the delay key is taken") != std::string::npos);
  CHECK(rig.reports.at(2).code == client::ErrorCode::kOk);
  CHECK(refused.status.code() == client::ErrorCode::kAlreadyExists);
  CHECK(!refused.outcome_unknown);
  CHECK(rig.buffer->stats().delivered == 2);
  CHECK(rig.buffer->stats().failed == 1);
  const auto failures = rig.buffer->take_failures();
  CHECK(failures.count == 1);
  CHECK(failures.first.code() == ErrorCode::kAlreadyExists);

  keyed.with_key("order-17", Delay::OnPending::kReplace);
  REQUIRE(rig.send("t", {.value = "d", .delay = keyed}, 3).ok());
  rig.network.topic("t").partitions[0].pending_max = 2;
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(3).code == client::ErrorCode::kLimitExceeded);
  rig.network.topic("t").partitions[0].pending_max = 3;
  REQUIRE(rig.send("t", {.value = "e", .delay = keyed}, 4).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(4).code == client::ErrorCode::kOk);
  CHECK(values_of(rig.network.topic("t").partitions[0].pending) ==
        std::vector<std::string>{"c", "e"});
}

TEST_CASE("an answer without receipts is no answer") {
  Rig rig(10);
  rig.network.add_topic("t", 1);
  rig.network.faults.lose_receipts = 1'000;
  REQUIRE(rig.send("t", {.value = "a", .delay = Delay::after(1'000)}, 0).ok());
  rig.buffer->flush_point();
  CHECK(!rig.run_until([&] { return !rig.reports.empty(); }, 2'000));
  rig.network.faults.lose_receipts = 0;
  REQUIRE(rig.drain());
  // Stored once; the duplicate's answer has what the first one lacked.
  CHECK(rig.reports.at(0).code == client::ErrorCode::kOk);
  CHECK(rig.network.topic("t").partitions[0].pending.size() == 1);
  CHECK(rig.reports.at(0).handle.id == rig.network.topic("t").partitions[0].pending[0].id);
  CHECK(rig.buffer->stats().duplicates == 1);
}

struct Seen {
  size_t retried = 0;
  size_t duplicates = 0;
  size_t unknown = 0;
  size_t taken_keys = 0;
};

// What was sent to one partition, and what must be true of it afterwards.
void check_partition(Rig& rig, const FakePartition& partition, const std::vector<uint64_t>& sent,
                     const std::set<uint64_t>& delayed, Seen& seen) {
  std::map<uint64_t, size_t> applied;
  uint64_t last = 0;
  for (const std::string& value : partition.applied) {
    const uint64_t opaque = std::stoull(value);
    CHECK_MESSAGE(applied.emplace(opaque, applied.size()).second, "stored twice: ", opaque);
    CHECK_MESSAGE((applied.size() == 1 || opaque > last), "out of order: ", opaque);
    last = opaque;
  }
  std::map<uint64_t, const PendingMessage*> pending;
  for (const PendingMessage& message : partition.pending) {
    pending[std::stoull(message.value)] = &message;
  }
  for (const uint64_t opaque : sent) {
    const auto found = rig.reports.find(opaque);
    REQUIRE_MESSAGE(found != rig.reports.end(), "never reported: ", opaque);
    const testing::Report& report = found->second;
    if (report.code == client::ErrorCode::kOk) {
      REQUIRE_MESSAGE(applied.contains(opaque), "acknowledged but not stored: ", opaque);
      CHECK(delayed.contains(opaque) != report.handle.empty());
      if (delayed.contains(opaque)) {
        REQUIRE(pending.contains(opaque));
        CHECK(pending.at(opaque)->id == report.handle.id);
        CHECK(pending.at(opaque)->due_ms == report.due_ms);
      }
    } else if (report.outcome_unknown) {
      ++seen.unknown;
    } else {
      CHECK_MESSAGE(!applied.contains(opaque), "refused but stored: ", opaque, " ", report.text);
      seen.taken_keys += report.code == client::ErrorCode::kAlreadyExists ? 1 : 0;
    }
  }
}

void property_run(uint64_t seed, const testing::Faults& faults, Seen& seen) {
  CAPTURE(seed);
  Random random(seed);
  constexpr uint32_t kPartitions = 3;
  BatcherOptions batcher;
  batcher.batch_bytes = 1024 + random.below(4096);
  batcher.linger_ns = static_cast<int64_t>(random.below(6)) * kNsPerMs;
  EngineOptions engine;
  engine.window.batches_max = static_cast<uint32_t>(1 + random.below(5));
  engine.window.codec = random.chance(1, 3) ? format::Codec::kZstd : format::Codec::kNone;
  Rig rig(seed, batcher, engine);
  rig.network.faults = faults;
  rig.network.add_topic("t", kPartitions);
  std::vector<std::vector<uint64_t>> sent(kPartitions);
  std::set<uint64_t> delayed;
  const std::string padding(100, ' ');
  uint64_t opaque = 0;
  bool delays = false;
  for (int round = 0; round < 400; ++round) {
    for (uint64_t n = random.below(12); n > 0; --n) {
      const auto partition = static_cast<uint32_t>(random.below(kPartitions));
      const std::string value = std::to_string(opaque) + padding;
      const std::string key = "key" + std::to_string(random.below(500));
      client::Message message{.value = value, .partition = partition};
      delays = random.chance(1, 4) ? !delays : delays;
      if (delays) {
        message.delay = Delay::after(static_cast<int64_t>(random.below(1'000'000)));
        if (random.chance(1, 4)) {
          message.delay->with_key(key);
        }
        delayed.insert(opaque);
      }
      REQUIRE(rig.send("t", message, opaque).ok());
      sent[partition].push_back(opaque++);
    }
    rig.turn();
    for (uint64_t n = random.below(6); n > 0; --n) {
      rig.network.step();
    }
    if (random.chance(1, 100)) {
      rig.network.cut_all();
    }
    rig.clock.advance_ms(static_cast<int64_t>(random.below(4)));
  }
  rig.network.faults = {};
  REQUIRE(rig.drain(120'000));
  for (uint32_t p = 0; p < kPartitions; ++p) {
    check_partition(rig, rig.network.topic("t").partitions[p], sent[p], delayed, seen);
  }
  CHECK(rig.network.violations.empty());
  seen.retried += rig.buffer->stats().batches_retried;
  seen.duplicates += rig.buffer->stats().duplicates;
}

TEST_CASE("property: mixed messages survive lost connections and answers in one sequence space") {
  Seen seen;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    property_run(seed,
                 {.refuse_connect = 200,
                  .lose_before = 30,
                  .lose_after = 30,
                  .refuse = 40,
                  .lose_receipts = 10},
                 seen);
  }
  CHECK(seen.retried > 1'000);
  CHECK(seen.duplicates > 100);
  CHECK(seen.unknown == 0);
  CHECK(seen.taken_keys > 100);
}

TEST_CASE("property: the same with a broker that forgets producers") {
  Seen seen;
  for (uint64_t seed = 1000; seed < 1030; ++seed) {
    property_run(
        seed,
        {.refuse_connect = 100, .lose_before = 30, .lose_after = 60, .refuse = 60, .forget = 100},
        seen);
  }
  CHECK(seen.unknown > 50);
  CHECK(seen.duplicates > 50);
}

TEST_CASE("before the partitions are known delayed messages wait, each kind in its order") {
  Rig rig(11);
  client::Message lost{.value = "99", .partition = 9, .delay = Delay::after(1'000)};
  REQUIRE(rig.send("t", lost, 99).ok());
  std::vector<std::string> sent;
  for (uint64_t i = 0; i < 60; ++i) {
    sent.push_back(std::to_string(i));
    client::Message message{.value = sent.back(), .partition = 1};
    if (i / 5 % 2 == 1) {
      message.delay = Delay::after(1'000);
    }
    REQUIRE(rig.send("t", message, i).ok());
  }
  Delay keyed = Delay::every(2'000);
  keyed.with_key("somewhere", Delay::OnPending::kReplace);
  REQUIRE(rig.send("t", {.value = "60", .delay = keyed}, 60).ok());
  const auto before = rig.buffer->stats();
  rig.network.add_topic("t", 2);
  rig.turn();
  CHECK(rig.buffer->stats().buffered_bytes == before.buffered_bytes);
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(99).code == client::ErrorCode::kUnknownPartition);
  const auto home = static_cast<uint32_t>(xxh3(as_bytes("somewhere")) % 2);
  CHECK(rig.reports.at(60).partition == home);
  const PendingMessage& last = rig.network.topic("t").partitions[home].pending.back();
  CHECK(last.key == "somewhere");
  CHECK(last.every_ms == 2'000);
  if (home == 1) {
    sent.emplace_back("60");
  }
  CHECK(rig.network.topic("t").partitions[1].applied == sent);
  CHECK(rig.network.violations.empty());
  CHECK(rig.buffer->stats().buffered_bytes == 0);
}

TEST_CASE("a topic made anew gets the delayed messages that wait, under its own id") {
  Rig rig(12);
  rig.network.add_topic("t", 1);
  REQUIRE(rig.send("t", {.value = "0", .delay = Delay::after(1'000)}, 0).ok());
  REQUIRE(rig.drain());
  rig.network.remove_topic("t");
  rig.network.add_topic("t", 1);
  REQUIRE(rig.send("t", {.value = "1", .delay = Delay::after(1'000)}, 1).ok());
  REQUIRE(rig.drain());
  REQUIRE(rig.send("t", {.value = "2", .delay = Delay::after(1'000)}, 2).ok());
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(2).code == client::ErrorCode::kOk);
  CHECK(rig.reports.at(2).handle.topic == rig.network.topic("t").id);
  CHECK(rig.network.violations.empty());
}

TEST_CASE(
    "hand_back of delayed messages: all that is needed to send them again; still deliverable") {
  Rig rig(13);
  rig.network.reachable = false;
  Delay cron = Delay::cron("0 0 * * * *", "Asia/Tokyo");
  cron.with_key("hourly", Delay::OnPending::kReplace);
  const int64_t tomorrow = rig.clock.wall().ms + 86'400'000;
  REQUIRE(rig.send("t", {.key = "k", .value = "a", .delay = cron}, 0).ok());
  REQUIRE(rig.send("t", {.value = "b", .partition = 1, .delay = Delay::at(tomorrow)}, 1).ok());
  REQUIRE(rig.send("t", {.value = "c", .delay = Delay::every(9'000)}, 2).ok());
  REQUIRE(rig.send("t", {.value = "d"}, 3).ok());
  rig.buffer->flush_point();
  rig.run_until([] { return false; }, 300);
  const auto copies = rig.engine->hand_back(~uint64_t{0}, false);
  REQUIRE(copies.size() == 4);
  REQUIRE(copies[0].message.delay);
  const Delay view = copies[0].message.delay->view();
  CHECK(view.repeat() == Delay::Repeat::kCron);
  CHECK(view.cron() == "0 0 * * * *");
  CHECK(view.zone() == "Asia/Tokyo");
  CHECK(view.key() == "hourly");
  CHECK(view.replace());
  CHECK(copies[0].message.key == "k");
  REQUIRE(copies[1].message.delay);
  CHECK(copies[1].message.delay->kind == Delay::Kind::kAt);
  CHECK(copies[1].message.delay->ms == tomorrow);
  CHECK(copies[1].message.partition == 1);
  REQUIRE(copies[2].message.delay);
  CHECK(copies[2].message.delay->repeat == Delay::Repeat::kEvery);
  CHECK(copies[2].message.delay->every_ms == 9'000);
  CHECK(copies[2].message.delay->ms == 9'000);
  CHECK(!copies[3].message.delay);

  rig.network.reachable = true;
  rig.network.add_topic("t", 2);
  REQUIRE(rig.drain());
  for (uint64_t i = 0; i < 4; ++i) {
    CHECK(rig.reports.at(i).code == client::ErrorCode::kOk);
  }
  CHECK(rig.network.violations.empty());

  // The same from the queue of a partition that is known.
  rig.network.reachable = false;
  rig.network.cut_all();
  REQUIRE(rig.send("t", {.value = "e", .partition = 0, .delay = Delay::after(5)}, 4).ok());
  CHECK(rig.engine->hand_back(~uint64_t{0}, false).size() == 1);
  rig.network.reachable = true;
  REQUIRE(rig.drain());
  CHECK(rig.reports.at(4).code == client::ErrorCode::kOk);
  REQUIRE(rig.send("t", {.value = "f", .partition = 0, .delay = Delay::after(5)}, 5).ok());
  CHECK(rig.engine->hand_back(~uint64_t{0}, true).front().message.delay->ms == 5);
  CHECK(rig.reports.at(5).code == client::ErrorCode::kCancelled);
  CHECK(rig.buffer->stats().buffered_bytes == 0);
}

TEST_CASE("impossible delays are refused by send, with what is wrong and what is allowed") {
  Rig rig(14);
  rig.network.add_topic("t", 1);
  const auto refused = [&](const Delay& delay, const std::string& text) {
    const Status status = rig.send("t", {.value = "v", .delay = delay}, 0);
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    CHECK_MESSAGE(status.context().find(text) != std::string_view::npos, status.to_string());
  };
  const std::string max = std::to_string(client::kDelayMsMax);
  refused(Delay::after(-1), "the delay is -1 ms; allowed are 0 to " + max);
  refused(Delay::after(client::kDelayMsMax + 1), "allowed are 0 to " + max);
  refused(Delay::at(-1), "the time of delivery");
  refused(Delay::at(rig.clock.wall().ms + client::kDelayMsMax + 1), "the time of delivery");
  refused(Delay::every(999), "is 999 ms; allowed are 1000 to " + max);
  refused(Delay::every(0), "is 0 ms; allowed are 1000 to " + max);
  refused(Delay::every(client::kDelayMsMax + 1), "allowed are 1000 to " + max);
  refused(Delay::cron(""), "the cron text has 0 bytes; allowed are 1 to 200");
  refused(Delay::cron(std::string(201, '*')), "the cron text has 201 bytes");
  refused(Delay::cron("* * * * * *", std::string(65, 'z')), "the time zone has 65 bytes");
  const std::string key(256, 'k');
  Delay keyed = Delay::after(0);
  refused(keyed.with_key(key), "the delay key has 256 bytes; allowed are 0 to 255");
  CHECK(rig.buffer->stats().buffered_messages == 0);
  CHECK(rig.buffer->stats().buffered_bytes == 0);
  REQUIRE(rig.send("t", {.value = "v", .delay = Delay::after(0)}, 0).ok());
  REQUIRE(rig.send("t", {.value = "v", .delay = Delay::after(client::kDelayMsMax)}, 1).ok());
  REQUIRE(rig.send("t", {.value = "v", .delay = Delay::at(0)}, 2).ok());
  REQUIRE(rig.send("t", {.value = "v", .delay = Delay::every(1'000)}, 3).ok());
  REQUIRE(rig.drain());
  CHECK(rig.network.topic("t").partitions[0].pending.size() == 4);
}

TEST_CASE("overflow drop_oldest drops sets too, and their builders are used again") {
  Rig rig(15, {.buffer_messages_max = 10, .overflow = client::Overflow::drop_oldest()});
  rig.network.reachable = false;
  for (uint64_t i = 0; i < 30; ++i) {
    client::Message message{.value = "v"};
    if (i % 2 == 0) {
      message.delay = Delay::after(1'000);
    }
    REQUIRE(rig.send("t", message, i).ok());
  }
  rig.turn();
  size_t dropped = 0;
  for (const auto& [opaque, report] : rig.reports) {
    dropped += report.code == client::ErrorCode::kOverloaded ? 1 : 0;
  }
  CHECK(dropped == 20);
  CHECK(rig.buffer->stats().buffered_messages == 10);
}

}  // namespace
}  // namespace tidemark::client_core
