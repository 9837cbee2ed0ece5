// Schedule sets from anybody: the input as it is, and with its check word made right. What is read
// to its end lies within the set, can be stamped as the broker does without moving anything else,
// and, if its batches are sound, is built again with the same content.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"
#include "log/format/schedule_set.h"

namespace tidemark::format {
namespace {

bool same_bytes(ByteView a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool same(const ScheduleItem& a, const ScheduleItem& b) {
  return a.due_kind == b.due_kind && a.due_ms == b.due_ms && a.key == b.key &&
         a.replace == b.replace && a.recurrence == b.recurrence && a.every_ms == b.every_ms &&
         a.zone == b.zone && a.cron == b.cron && a.next_due_ms == b.next_due_ms;
}

// All items; empty if the set is refused.
std::vector<ScheduleItem> read(ByteView set) {
  auto reader = ScheduleReader::open(set);
  if (!reader.ok()) {
    return {};
  }
  std::vector<ScheduleItem> items;
  ScheduleItem item;
  while (reader->next(item)) {
    TIDEMARK_CHECK(item.batch.data() == set.data() + item.batch_offset);
    TIDEMARK_CHECK(item.batch_offset + item.batch.size() <= set.size());
    TIDEMARK_CHECK(item.key.size() <= kDelayKeyBytesMax &&
                   item.cron.size() <= limits::kCronBytesMax &&
                   item.zone.size() <= limits::kZoneNameBytesMax);
    items.push_back(item);
  }
  if (!reader->status().ok()) {
    return {};
  }
  TIDEMARK_CHECK(items.size() == reader->header().items && !items.empty());
  return items;
}

void check_stamps(ByteView set, const std::vector<ScheduleItem>& items) {
  std::vector<uint8_t> copy(set.begin(), set.end());
  stamp_schedule(copy, 5, 6);
  for (const ScheduleItem& item : items) {
    stamp_schedule_item(copy, item, 7, 8);
  }
  std::vector<ScheduleItem> expected = items;
  for (ScheduleItem& item : expected) {
    item.due_kind = DueKind::kAt;
    item.due_ms = 7;
    item.next_due_ms = item.recurrence == RecurrenceKind::kNone ? 0 : 8;
  }
  const std::vector<ScheduleItem> stamped = read(copy);
  TIDEMARK_CHECK(
      std::equal(stamped.begin(), stamped.end(), expected.begin(), expected.end(), same));
  for (size_t i = 0; i < items.size(); ++i) {
    TIDEMARK_CHECK(same_bytes(stamped[i].batch, items[i].batch));
  }
}

// The one record of a sound batch goes into the builder; false if the batch is not sound.
bool add_again(ScheduleBuilder& builder, const ScheduleItem& item) {
  const auto header = validate_produced_batch(item.batch);
  if (!header.ok() || header->record_count != 1) {
    return false;
  }
  auto batch = BatchReader::open(item.batch);
  RecordView record;
  if (!batch.ok() || !batch->next(record)) {
    return false;
  }
  std::vector<HeaderInput> headers;
  HeaderCursor cursor(record.headers, record.header_count);
  HeaderView view;
  while (cursor.next(view)) {
    headers.push_back({view.key, view.value, view.has_value});
  }
  const RecordInput input{.timestamp_ms = record.timestamp_ms,
                          .has_key = record.has_key,
                          .key = record.key,
                          .has_value = record.has_value,
                          .value = record.value,
                          .headers = headers};
  return builder.append(item, input).ok();
}

void check_rebuild(const std::vector<ScheduleItem>& items) {
  ScheduleBuilder builder;
  for (const ScheduleItem& item : items) {
    if (!add_again(builder, item)) {
      return;
    }
  }
  const Buffer set = builder.finish({}, {});
  TIDEMARK_CHECK(verify_schedule_check(set.view()).ok());
  const std::vector<ScheduleItem> again = read(set.view());
  TIDEMARK_CHECK(std::equal(again.begin(), again.end(), items.begin(), items.end(), same));
  for (const ScheduleItem& item : again) {
    TIDEMARK_CHECK(validate_produced_batch(item.batch).ok());
  }
}

void try_set(ByteView set) {
  static_cast<void>(verify_schedule_check(set).ok());
  const std::vector<ScheduleItem> items = read(set);
  if (!items.empty()) {
    check_stamps(set, items);
    check_rebuild(items);
  }
}

void try_repaired(ByteView input) {
  Buffer set = Buffer::copy_of(input);
  set_schedule_producer(set.mutable_view(), {}, {});
  TIDEMARK_CHECK(verify_schedule_check(set.view()).ok());
  try_set(set.view());
}

}  // namespace
}  // namespace tidemark::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::format::try_set({data, size});
  if (size >= tidemark::format::kScheduleHeaderBytes) {
    tidemark::format::try_repaired({data, size});
  }
  return 0;
}
