// Wheel entries as bytes in the checkpoint store.
#pragma once

#include "log/base/coding.h"
#include "timerwheel/entry.h"

namespace tidemark::delay {

inline void put_entry(ByteWriter& writer, const timerwheel::Entry& entry) {
  writer.le(entry.due);
  writer.le(entry.id);
  writer.le(entry.position);
  writer.le(entry.tag);
}

inline timerwheel::Entry get_entry(ByteReader& reader) {
  timerwheel::Entry entry;
  entry.due = reader.le<uint64_t>();
  entry.id = reader.le<uint64_t>();
  entry.position = reader.le<uint64_t>();
  entry.tag = reader.le<uint64_t>();
  return entry;
}

}  // namespace tidemark::delay
