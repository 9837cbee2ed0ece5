// EntryTable: what a replica knows in memory of the newest entries of its log: where each lies, its
// term and kind, and the payload as long as somebody still needs it from here.
//
// Entries have consecutive indexes in [first(), end()). A slot takes 24 bytes; a command's payload
// is held from append() until release_commands() (once applied, the log's tail cache and the
// segment have it), the few bytes of barriers and configurations as long as the slot.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <deque>
#include <map>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/log.h"

namespace tidemark::replica {

struct EntrySlot {
  Term term;
  LogPosition position;  // of the entry header
  uint32_t payload_bytes = 0;
  log::EntryKind kind = log::EntryKind::kCommand;

  // The first position after the entry.
  [[nodiscard]] LogPosition end() const { return position + log::entry_bytes(payload_bytes); }
};

class EntryTable {
 public:
  // An empty table whose first entry will be `first`.
  explicit EntryTable(LogIndex first) : first_(first), unapplied_first_(first) {}

  [[nodiscard]] LogIndex first() const { return first_; }

  [[nodiscard]] LogIndex end() const { return first_ + slots_.size(); }

  [[nodiscard]] size_t size() const { return slots_.size(); }

  // nullptr if `index` is not in the table. Valid until the table changes.
  [[nodiscard]] const EntrySlot* find(LogIndex index) const;
  // nullptr if the payload is not held here.
  [[nodiscard]] const SharedBytes* payload(LogIndex index) const;

  // Bytes of payloads held.
  [[nodiscard]] size_t payload_bytes() const { return payload_bytes_; }

  // Adds entry end() with its payload.
  void append(const EntrySlot& slot, SharedBytes payload);
  // Adds entry end(), a command whose payload stays on disk. Requires: no payload of a command is
  // held.
  void append_stored(const EntrySlot& slot);
  // Removes the entries from `index` on. Requires: index is in the table.
  void truncate(LogIndex index);
  // Lets go of the payloads of commands up to and including `last`.
  void release_commands(LogIndex last);
  // Removes the entries before `index`, which is at most end(). Requires: their payloads were
  // released.
  void drop_before(LogIndex index);

 private:
  LogIndex first_;
  std::deque<EntrySlot> slots_;
  // One place for each entry of [unapplied_first_, end()); empty where the entry is not a command.
  LogIndex unapplied_first_;
  std::deque<SharedBytes> unapplied_;
  std::map<LogIndex, SharedBytes> control_;
  size_t payload_bytes_ = 0;
};

}  // namespace tidemark::replica
