// A shard with a compacted partition, what a reader gets from it, and what there has to be.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard::compaction_testing {

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr int64_t kRoundMs = 5'000;  // how often a run may begin

// What a producer sends. Without a key nothing ever replaces it; without a value it is a tombstone.
struct Update {
  std::optional<std::string> key;
  std::optional<std::string> value;

  friend bool operator==(const Update&, const Update&) = default;
};

inline SharedBytes build(const std::vector<Update>& updates,
                         format::Codec codec = format::Codec::kNone) {
  format::BatchBuilder builder;
  for (const Update& update : updates) {
    const Status added = builder.append({.timestamp_ms = 1000,
                                         .has_key = update.key.has_value(),
                                         .key = as_bytes(update.key.value_or("")),
                                         .has_value = update.value.has_value(),
                                         .value = as_bytes(update.value.value_or(""))});
    REQUIRE(added.ok());
  }
  return SharedBytes(std::move(builder.finish(codec, 1, {})).value());
}

using Contents = std::map<uint64_t, Update>;  // by offset

class CompactionHarness : public ShardHarness {
 public:
  explicit CompactionHarness(const partition::CompactionConfig& config = {.after_ms = 0},
                             size_t keys_max = limits::kCompactionKeysMax,
                             size_t moves_max = limits::kCompactionMovesMax) {
    options.compaction_bytes_min = 1;
    options.compaction_keys_max = keys_max;
    options.compaction_moves_max = moves_max;
    restart();
    configure(config, 1);
  }

  void configure(const partition::CompactionConfig& config, uint64_t version) {
    open_partitions_of(TopicId{1}, 1, {}, retention_ms, retention_bytes, {}, config, version);
  }

  uint64_t send(const std::vector<Update>& updates, format::Codec codec = format::Codec::kNone) {
    const auto result = produce(kPartition, build(updates, codec));
    REQUIRE_MESSAGE(result.status.ok(), result.status.to_string());
    return result.base.value();
  }

  uint64_t send(const std::string& key, const std::string& value) {
    return send(std::vector<Update>{{key, value}});
  }

  // Everything that is under way comes to its end.
  void drain() {
    do {
      settle();
    } while (source.run_one());
  }

  // A run, if one is wanted.
  void compact() {
    advance_ms(kRoundMs);
    core->tick(now);
    drain();
  }

  // What a reader who begins at `from` gets, batch by batch.
  Contents read(uint64_t from = 0) {
    Contents contents;
    uint64_t next = from;
    while (next < partition().end().value()) {
      const testing::FetchInput part{kPartition, Offset{next}};
      receive(testing::fetch_request({&part, 1}, {.bytes_max = 5'000}));
      drain();
      const protocol::Frame frame = outbox.take();
      const auto& reply = testing::read_reply<protocol::fbs::FetchReply>(frame);
      const auto* answer = reply.parts()->Get(0);
      REQUIRE(answer->error() == nullptr);
      REQUIRE(answer->next_offset() > next);
      take(frame.payload(), next, contents);
      next = answer->next_offset();
    }
    return contents;
  }

  [[nodiscard]] const partition::Partition& partition() const {
    return *core->views().find(kPartition);
  }

  ShardStats stats() const {
    ShardStats stats;
    core->add_stats(stats);
    return stats;
  }

  // The views as the log alone gives them.
  [[nodiscard]] uint64_t hash_of_log() const {
    Views fresh(options.shard);
    std::vector<RecordOutcome> outcomes;
    for (const replica::CommittedEntry& entry : consensus.log) {
      outcomes.clear();
      fresh.apply(entry.index, entry.term, entry.position + log::kEntryHeaderBytes,
                  entry.payload.view(), outcomes);
    }
    return fresh.hash();
  }

  [[nodiscard]] size_t records_of(format::RecordKind kind) const {
    size_t count = 0;
    for (const replica::CommittedEntry& entry : consensus.log) {
      format::RecordListReader list(entry.payload.view());
      format::LogRecord record;
      while (list.next(record)) {
        count += record.kind == kind ? 1 : 0;
      }
    }
    return count;
  }

  int64_t retention_ms = -1;
  int64_t retention_bytes = -1;

 private:
  static void take(ByteView payload, uint64_t from, Contents& contents) {
    while (!payload.empty()) {
      const uint32_t size = format::batch_bytes_from_prefix(payload).value();
      auto reader = format::BatchReader::open(payload.first(size)).value();
      REQUIRE(format::verify_batch(payload.first(size)).ok());
      format::RecordView record;
      while (reader.next(record)) {
        const uint64_t offset = reader.header().base_offset + record.offset_delta;
        Update update;
        if (record.has_key) {
          update.key = std::string(as_text(record.key));
        }
        if (record.has_value) {
          update.value = std::string(as_text(record.value));
        }
        if (offset >= from) {
          REQUIRE((contents.empty() || contents.rbegin()->first < offset));
          contents.emplace(offset, std::move(update));
        }
      }
      REQUIRE(reader.status().ok());
      payload = payload.subspan(size);
    }
  }
};

// What has to be there, and what may.
class Model {
 public:
  void add(uint64_t base, const std::vector<Update>& updates) {
    for (const Update& update : updates) {
      all_[base] = update;
      if (update.key.has_value()) {
        newest_[*update.key] = base;
      }
      ++base;
    }
  }

  void check(const Contents& contents, uint64_t start = 0) const {
    for (const auto& [offset, update] : contents) {
      REQUIRE(all_.at(offset) == update);
    }
    for (const auto& [offset, update] : all_) {
      if (offset >= start && must_stay(offset, update)) {
        REQUIRE_MESSAGE(contents.contains(offset), "offset " << offset << " is lost");
      }
    }
  }

  // Below `end` nothing else is left.
  void check_compacted(const Contents& contents, uint64_t end, uint64_t from = 0) const {
    for (auto it = contents.lower_bound(from); it != contents.end() && it->first < end; ++it) {
      REQUIRE_MESSAGE(must_stay(it->first, it->second), "offset " << it->first << " is old");
    }
  }

 private:
  [[nodiscard]] bool must_stay(uint64_t offset, const Update& update) const {
    return !update.key.has_value() || newest_.at(*update.key) == offset;
  }

  Contents all_;
  std::map<std::string, uint64_t> newest_;
};

}  // namespace tidemark::shard::compaction_testing
