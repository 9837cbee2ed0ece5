#include "broker/replica/entry_table.h"

#include <utility>

#include "log/base/check.h"

namespace tidemark::replica {

const EntrySlot* EntryTable::find(LogIndex index) const {
  return index >= first_ && index < end() ? &slots_[index - first_] : nullptr;
}

const SharedBytes* EntryTable::payload(LogIndex index) const {
  const EntrySlot* slot = find(index);
  if (slot == nullptr) {
    return nullptr;
  }
  if (slot->kind != log::EntryKind::kCommand) {
    const auto found = control_.find(index);
    return found == control_.end() ? nullptr : &found->second;
  }
  return index >= unapplied_first_ ? &unapplied_[index - unapplied_first_] : nullptr;
}

void EntryTable::append(const EntrySlot& slot, SharedBytes payload) {
  TIDEMARK_CHECK(slot.payload_bytes == payload.size());
  payload_bytes_ += payload.size();
  if (slot.kind == log::EntryKind::kCommand) {
    unapplied_.push_back(std::move(payload));
  } else {
    control_.emplace(end(), std::move(payload));
    unapplied_.emplace_back();
  }
  slots_.push_back(slot);
}

void EntryTable::append_stored(const EntrySlot& slot) {
  TIDEMARK_CHECK(slot.kind == log::EntryKind::kCommand);
  TIDEMARK_CHECK(unapplied_first_ + unapplied_.size() == end());
  release_commands(end());
  slots_.push_back(slot);
  unapplied_first_ = end();
}

void EntryTable::truncate(LogIndex index) {
  TIDEMARK_CHECK(find(index) != nullptr);
  while (end() > index) {
    slots_.pop_back();
    if (!unapplied_.empty()) {
      payload_bytes_ -= unapplied_.back().size();
      unapplied_.pop_back();
    }
  }
  while (!control_.empty() && control_.rbegin()->first >= index) {
    payload_bytes_ -= control_.rbegin()->second.size();
    control_.erase(std::prev(control_.end()));
  }
  if (unapplied_first_ > end()) {
    unapplied_first_ = end();
  }
}

void EntryTable::release_commands(LogIndex last) {
  while (!unapplied_.empty() && unapplied_first_ <= last) {
    payload_bytes_ -= unapplied_.front().size();
    unapplied_.pop_front();
    ++unapplied_first_;
  }
}

void EntryTable::drop_before(LogIndex index) {
  TIDEMARK_CHECK(index <= unapplied_first_, "an entry that was not applied would be forgotten");
  while (first_ < index) {
    slots_.pop_front();
    ++first_;
  }
  while (!control_.empty() && control_.begin()->first < first_) {
    payload_bytes_ -= control_.begin()->second.size();
    control_.erase(control_.begin());
  }
}

}  // namespace tidemark::replica
