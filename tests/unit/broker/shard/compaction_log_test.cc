// Compaction: the index in the store, the log, crashes, and random histories.
#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/delay_requests.h"
#include "tests/support/txn_requests.h"
#include "tests/unit/broker/shard/compaction_harness.h"

namespace tidemark::shard {
namespace {

using compaction_testing::build;
using compaction_testing::CompactionHarness;
using compaction_testing::Contents;
using compaction_testing::kPartition;
using compaction_testing::kRoundMs;
using compaction_testing::Model;
using compaction_testing::Update;

// --- the index in the store

TEST_CASE("batches whose index lies in the store are compacted as well, and found there") {
  CompactionHarness harness;
  Model model;
  const auto send = [&](int key, int value) {
    const std::vector<Update> update = {{"k" + std::to_string(key), std::to_string(value)}};
    model.add(harness.send(update), update);
  };
  for (int i = 0; i < 1'300; ++i) {
    send(i % 7 == 0 ? 1'000 + i : i % 50, i);
  }
  harness.checkpoint();
  REQUIRE(harness.partition().index().refs().size() < 1'300);
  harness.source.cached_from = harness.core->views().applied().next_position;
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  const auto check = [&] {
    const Contents contents = harness.read();
    model.check(contents);
    model.check_compacted(contents, 1'300);
    uint64_t live = 0;
    for (const auto& [offset, update] : contents) {
      live += build({update}).size();
    }
    CHECK(harness.partition().bytes() == live);
    CHECK(harness.partition().batches() == contents.size());
  };
  check();  // from memory over the store
  CHECK(harness.partition().index().unstored_moves() > 0);
  harness.checkpoint();
  CHECK(harness.partition().index().unstored_moves() == 0);
  check();
  harness.checkpoint();  // memory forgets what it did
  check();
  const uint64_t hash = harness.core->views().hash();
  CHECK(hash == harness.hash_of_log());
  harness.restart_from_checkpoint();
  CHECK(harness.core->views().hash() == hash);
  check();
  // And again, over what was compacted before.
  for (int i = 0; i < 1'300; ++i) {
    send(i % 50, i);
  }
  harness.compact();
  const Contents contents = harness.read();
  model.check(contents);
  model.check_compacted(contents, 2'600);
  harness.checkpoint();
  harness.restart_from_checkpoint();
  CHECK(harness.read() == contents);
}

TEST_CASE("a checkpoint that fails stores what compaction did with the next one") {
  CompactionHarness harness;
  for (int i = 0; i < 600; ++i) {
    harness.send("k" + std::to_string(i % 10), std::to_string(i));
  }
  harness.checkpoint();
  harness.compact();
  const Contents contents = harness.read();
  CHECK(contents.size() == 10);
  Views::Delta delta = harness.core->views().freeze();
  harness.core->views().commit_failed(delta);
  harness.checkpoint();
  harness.checkpoint();
  CHECK(harness.read() == contents);
  harness.restart_from_checkpoint();
  CHECK(harness.read() == contents);
}

TEST_CASE("a run waits for a checkpoint when memory has enough to remember") {
  CompactionHarness harness({.after_ms = 0}, limits::kCompactionKeysMax, 5);
  for (int i = 0; i < 40; ++i) {
    harness.send("a", std::string(100'000, 'x'));  // ten make a step
  }
  harness.compact();
  CHECK(harness.core->wants_checkpoint());
  CHECK(harness.partition().batches() > 1);
  for (int i = 0; i < 8 && harness.core->wants_checkpoint(); ++i) {
    harness.checkpoint();
    harness.compact();
  }
  CHECK(!harness.core->wants_checkpoint());
  CHECK(harness.partition().batches() == 1);
  CHECK(harness.stats().compactions == 1);
}

// --- the log

TEST_CASE("what compaction leaves alone holds the log, what it wrote again does not") {
  CompactionHarness harness;
  harness.send("a", "1");
  harness.send("b", "1");
  harness.send("a", "2");
  const LogPosition second = harness.partition().index().refs()[1].position;
  CHECK(harness.partition().low_position() < second);
  harness.compact();
  CHECK(harness.partition().low_position() == second);
  harness.send("b", "2");
  harness.send("c", std::string(300, 'c'));
  const LogPosition third = harness.partition().index().refs()[2].position;
  harness.compact();
  CHECK(harness.partition().low_position() == third);
}

TEST_CASE("what is alive in the oldest segment is written again when the log is mostly dead") {
  CompactionHarness harness;
  for (int i = 0; i < 100; ++i) {
    harness.send("k" + std::to_string(i), std::string(1'000, 'x'));
  }
  const LogPosition segment_end = harness.core->views().applied().next_position;
  harness.compact();  // nothing is dead
  CHECK(harness.records_of(format::RecordKind::kCompact) == 0);
  for (int i = 0; i < 150; ++i) {
    harness.send("big", std::string(1'000, 'y'));
  }
  harness.compact();
  const Contents contents = harness.read();
  CHECK(contents.size() == 101);
  CHECK(harness.partition().low_position() < segment_end);
  // Only now is there a segment behind it.
  harness.source.segment_end = segment_end;
  const uint64_t bytes = harness.partition().bytes();
  harness.compact();
  CHECK(harness.partition().low_position() >= segment_end);
  CHECK(harness.read() == contents);
  CHECK(harness.partition().bytes() == bytes);
  CHECK(harness.core->views().hash() == harness.hash_of_log());
  const size_t entries = harness.consensus.log.size();
  harness.compact();
  CHECK(harness.consensus.log.size() == entries);
}

TEST_CASE("an oldest segment that others hold, or a log that is mostly alive, is left alone") {
  CompactionHarness harness;
  harness.send("a", "1");
  const LogPosition segment_end = harness.core->views().applied().next_position;
  harness.send("a", "2");
  harness.compact();
  SUBCASE("another topic holds it") {
    harness.open_partitions_of(TopicId{2}, 1);
    harness.produce({TopicId{2}, PartitionIndex{0}}, build({{"a", "1"}}));
    harness.source.segment_end = harness.core->views().applied().next_position;
    harness.send("a", std::string(10, 'x'));
  }
  SUBCASE("most of it lives") {
    harness.send("b", std::string(100'000, 'x'));
    harness.source.segment_end = segment_end;
  }
  harness.compact();
  const size_t moved = harness.records_of(format::RecordKind::kCompact);
  harness.compact();
  harness.compact();
  CHECK(harness.records_of(format::RecordKind::kCompact) == moved);
  CHECK(moved == 0);
}

TEST_CASE("a record that is applied twice changes nothing the second time") {
  CompactionHarness harness;
  harness.send({{"a", "1"}, {"b", "1"}});
  harness.send("a", "2");
  harness.send("b", "2");
  harness.send({{"b", "3"}, {"c", "1"}});
  const size_t before = harness.consensus.log.size();
  harness.compact();
  const Contents contents = harness.read();
  const uint64_t hash = harness.partition().hash();
  const size_t after = harness.consensus.log.size();
  REQUIRE(after > before + 1);
  for (size_t i = before; i < after; ++i) {
    format::RecordListReader list(harness.consensus.log[i].payload.view());
    format::LogRecord record;
    bool begins = false;
    while (list.next(record)) {
      begins =
          begins || (record.kind == format::RecordKind::kCompacted &&
                     flatbuffers::GetRoot<format::fbs::Compacted>(record.body.data())->step() ==
                         static_cast<uint8_t>(CompactionStep::kBegin));
    }
    if (!begins) {
      REQUIRE(harness.consensus.propose(harness.consensus.log[i].payload).ok());
      harness.consensus.commit_all();
      CHECK(harness.partition().hash() == hash);
    }
  }
  CHECK(harness.read() == contents);
}

TEST_CASE("a crash between the records of a run loses nothing, and the next run ends it") {
  for (size_t commits = 0; commits < 8; ++commits) {
    CAPTURE(commits);
    CompactionHarness harness;
    Model model;
    for (int i = 0; i < 60; ++i) {
      const std::vector<Update> update = {{"k" + std::to_string(i % 6), std::string(60'000, 'x')},
                                          {"k" + std::to_string(i), std::to_string(i)}};
      model.add(harness.send(update), update);
    }
    harness.advance_ms(kRoundMs);
    harness.core->tick(harness.now);
    for (size_t done = 0; done < commits;) {
      harness.core->flush(harness.now);
      if (harness.consensus.commit_one()) {
        ++done;
      } else if (!harness.source.run_one()) {
        break;
      }
    }
    if (commits % 2 == 0) {
      harness.restart();
    } else {
      harness.checkpoint();
      harness.restart_from_checkpoint();
    }
    CHECK(harness.core->views().hash() == harness.hash_of_log());
    model.check(harness.read());
    for (int i = 0; i < 3; ++i) {
      harness.compact();
    }
    const Contents contents = harness.read();
    model.check(contents);
    model.check_compacted(contents, 120);
    CHECK(harness.core->views().hash() == harness.hash_of_log());
  }
}

TEST_CASE("a leader that steps down gives its run up; the next one begins anew") {
  CompactionHarness harness;
  for (int i = 0; i < 10; ++i) {
    harness.send("a", std::to_string(i));
  }
  harness.advance_ms(kRoundMs);
  harness.core->tick(harness.now);
  harness.settle();  // it has begun, and reads
  REQUIRE(harness.source.pending() > 0);
  harness.consensus.set_role(replica::Role::kFollower);
  harness.consensus.set_role(replica::Role::kLeader);
  harness.drain();
  CHECK(harness.read().size() == 10);
  CHECK(harness.partition().compaction().running);
  harness.compact();
  CHECK(harness.read().size() == 1);
  CHECK(!harness.partition().compaction().running);
}

TEST_CASE("a run that the disk has no room for is tried again") {
  CompactionHarness harness;
  harness.send({{"a", "1"}, {"b", "1"}});
  harness.send("a", "2");
  harness.consensus.refuse_with(Status(ErrorCode::kDiskFull, "test"));
  harness.compact();
  CHECK(harness.stats().compactions == 0);
  harness.consensus.refuse_with(Status());
  harness.compact();
  CHECK(harness.stats().compactions == 1);
  CHECK(harness.read().size() == 2);
}

TEST_CASE("a run ends when the topic goes, and when the shard stops") {
  CompactionHarness harness;
  harness.send("a", "1");
  harness.send("a", "2");
  harness.advance_ms(kRoundMs);
  harness.core->tick(harness.now);
  harness.settle();
  REQUIRE(harness.source.pending() > 0);
  SUBCASE("dropped") {
    ShardMail mail;
    mail.topic = TopicId{1};
    mail.version = 9;
    mail.state = ShardMail::State::kDropped;
    harness.core->receive_mail(mail, harness.now);
    harness.drain();
    CHECK(harness.core->views().find(kPartition) == nullptr);
    harness.compact();
    return;
  }
  SUBCASE("no longer compacted") {
    harness.configure({}, 2);
    harness.drain();
    CHECK(harness.read().size() == 2);
    return;
  }
  harness.core->begin_stop();
  harness.drain();
  CHECK(harness.core->drained());
  CHECK(harness.stats().compactions == 0);
}

// --- messages that the index refers to elsewhere in the log

TEST_CASE("messages of transactions and delayed ones replace, are replaced, and free the log") {
  CompactionHarness harness;
  const protocol::fbs::TxnId txn(7, 1, 0);
  const testing::HalfInput half{txn, kPartition, 0, build({{"a", "txn"}, {"b", "txn"}})};
  harness.ask(testing::half_request({&half, 1}));
  format::ScheduleBuilder set;
  for (const std::string_view value : {"due 1", "due 2"}) {
    format::ScheduleItem item;
    item.due_ms = 1'000;
    REQUIRE(set.append(item, {.timestamp_ms = 1000,
                              .has_key = true,
                              .key = as_bytes("d"),
                              .value = as_bytes(value)})
                .ok());
  }
  harness.receive(testing::schedule_request(kPartition, SharedBytes(set.finish(kPartition, {}))));
  harness.drain();
  harness.outbox.replies.clear();
  harness.send({{"a", "1"}, {"b", "1"}, {"d", "1"}});  // before all of them
  const LogPosition first = harness.partition().index().refs()[0].position;
  const testing::EndInput end{txn, true};
  harness.ask(testing::txn_end_request({&end, 1}));
  harness.run_ms(2'000);
  REQUIRE(harness.partition().end() == Offset{7});
  harness.send("a", "2");
  CHECK(harness.partition().low_position() < first);
  harness.compact();
  const Contents expected = {{4, {"b", "txn"}}, {6, {"d", "due 2"}}, {7, {"a", "2"}}};
  CHECK(harness.read() == expected);
  CHECK(harness.core->views().hash() == harness.hash_of_log());
  // What is left of the transaction lies elsewhere now, the delayed message where it was.
  const auto& refs = harness.partition().index().refs();
  CHECK(refs[1].position > first);
  CHECK(refs[3].position < first);
  CHECK(harness.partition().low_position() == refs[3].position);
  harness.checkpoint();
  harness.restart_from_checkpoint();
  CHECK(harness.read() == expected);
}

// --- everything at once

TEST_CASE("random histories: nothing that is newest is lost, nothing else is made up") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    CompactionHarness harness({.after_ms = 0}, random.chance(1, 3) ? 8 : 10'000);
    Model model;
    if (random.chance(1, 2)) {
      harness.source.cached_from = LogPosition{UINT64_MAX};
    }
    for (int step = 0; step < 60; ++step) {
      const uint64_t what = random.below(10);
      if (what < 6) {
        std::vector<Update> updates;
        for (uint64_t i = 0; i <= random.below(6); ++i) {
          Update update{{}, std::string(random.below(300), 'v') + std::to_string(step)};
          if (!random.chance(1, 8)) {
            update.key = "k" + std::to_string(random.below(12));
          }
          if (update.key.has_value() && random.chance(1, 10)) {
            update.value.reset();
          }
          updates.push_back(std::move(update));
        }
        model.add(harness.send(updates,
                               random.chance(1, 3) ? format::Codec::kZstd : format::Codec::kNone),
                  updates);
      } else if (what == 6) {
        harness.compact();
      } else if (what == 7) {  // a run that is cut off somewhere
        harness.advance_ms(kRoundMs);
        harness.core->tick(harness.now);
        for (uint64_t i = random.below(12); i > 0; --i) {
          harness.core->flush(harness.now);
          if (!harness.consensus.commit_one()) {
            harness.source.run_one();
          }
        }
        if (random.chance(1, 2)) {
          harness.restart();
        }
      } else if (what == 8) {
        harness.drain();
        harness.checkpoint();
      } else {
        harness.checkpoint();
        harness.restart_from_checkpoint();
      }
      model.check(harness.read(), 0);
    }
    harness.drain();
    for (int i = 0; i < 4; ++i) {
      harness.compact();
    }
    const Contents contents = harness.read();
    model.check(contents);
    REQUIRE(harness.core->views().hash() == harness.hash_of_log());
    if (harness.partition().compaction().dirty_bytes == 0) {
      model.check_compacted(contents, harness.partition().end().value());
    }
  }
}

}  // namespace
}  // namespace tidemark::shard
