// What a log should hold, as a vector: operations are applied to it as they are issued and as they
// are acknowledged, and a log that was opened again is compared with it. Shared by the tests of
// log/.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "log/log.h"

namespace tidemark::log {

struct ModelEntry {
  EntryInfo info;
  SharedBytes payload;
};

struct Model {
  std::vector<ModelEntry> entries;  // of the whole life, also those dropped
  LogPosition next;
  LogIndex last_index;
  Vote vote;
  std::optional<SnapshotManifest> snapshot;
  LogPosition floor;

  void truncate(LogPosition position) {
    while (!entries.empty() && entries.back().info.position >= position) {
      entries.pop_back();
    }
  }
};

struct Operation {
  enum class Kind { kAppend, kVote, kSnapshot, kTruncate } kind = Kind::kAppend;
  ModelEntry entry;
  Vote vote;
  SnapshotManifest manifest;
  LogIndex index;
  LogPosition position;

  void apply_to(Model& model) const {
    switch (kind) {
      case Kind::kAppend:
        model.entries.push_back(entry);
        model.next = entry.info.position + entry_bytes(entry.payload.size());
        model.last_index = entry.info.index;
        break;
      case Kind::kVote:
        model.vote = vote;
        break;
      case Kind::kSnapshot:
        if (manifest.index > model.last_index) {
          model.entries.clear();
          model.next = model.floor = manifest.next_position;
          model.last_index = manifest.index;
        }
        model.snapshot = manifest;
        break;
      case Kind::kTruncate:
        model.truncate(position);
        model.next = position;
        model.last_index = LogIndex{index.value() - 1};
        break;
    }
  }
};

inline bool is_equal(const SnapshotManifest& a, const SnapshotManifest& b) {
  return a.index == b.index && a.term == b.term && a.next_position == b.next_position &&
         a.configuration_index == b.configuration_index && a.configuration == b.configuration &&
         a.data == b.data;
}

// `found`: the entries of the log from its first position on. Headers only; payloads are compared
// once the state is known.
inline bool matches(const Log& log, const std::vector<EntryInfo>& found, const Model& model) {
  const LogPosition first = log.first_position();
  size_t at = 0;
  for (const ModelEntry& entry : model.entries) {
    if (entry.info.position < first) {
      continue;
    }
    if (at == found.size()) {
      return false;
    }
    const EntryInfo& info = found[at++];
    if (info.kind != entry.info.kind || info.term != entry.info.term ||
        info.index != entry.info.index || info.position != entry.info.position ||
        info.payload_bytes != entry.info.payload_bytes) {
      return false;
    }
  }
  return at == found.size() && log.next_position() == model.next &&
         log.vote().term == model.vote.term && log.vote().voted_for == model.vote.voted_for &&
         log.snapshot().has_value() == model.snapshot.has_value() &&
         (!model.snapshot || is_equal(*log.snapshot(), *model.snapshot));
}

inline bool matches(const Log& log, const Model& model) {
  const Result<std::vector<EntryInfo>> found = log.entries_from(log.first_position());
  REQUIRE_MESSAGE(found.ok(), found.error().to_string());
  return matches(log, *found, model);
}

}  // namespace tidemark::log
