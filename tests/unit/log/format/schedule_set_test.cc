// Schedule sets: written by the builder, read by the reader, and what a damaged one may do.
#include "log/format/schedule_set.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/random.h"
#include "tests/unit/log/format/model_record.h"

namespace tidemark::format {
namespace {

constexpr int64_t kBaseMs = 1'700'000'000'000;

// An item that owns its texts.
struct ModelItem {
  DueKind due_kind = DueKind::kAfter;
  int64_t due_ms = 0;
  std::string key = {};
  bool replace = false;
  RecurrenceKind recurrence = RecurrenceKind::kNone;
  int64_t every_ms = 0;
  std::string zone = {};
  std::string cron = {};
  int64_t next_due_ms = 0;
  ModelRecord record = {};

  friend bool operator==(const ModelItem&, const ModelItem&) = default;
};

ScheduleItem to_item(const ModelItem& model) {
  ScheduleItem item;
  item.due_kind = model.due_kind;
  item.due_ms = model.due_ms;
  item.key = model.key;
  item.replace = model.replace;
  item.recurrence = model.recurrence;
  item.every_ms = model.every_ms;
  item.zone = model.zone;
  item.cron = model.cron;
  item.next_due_ms = model.next_due_ms;
  return item;
}

Buffer build(const std::vector<ModelItem>& items, PartitionId partition,
             BatchBuilder::Producer producer) {
  ScheduleBuilder builder;
  for (const ModelItem& item : items) {
    const ModelInput input(item.record);
    const size_t header = builder.item_count() == 0 ? kScheduleHeaderBytes : 0;
    const size_t expected =
        builder.bytes() + header + builder.item_bytes(to_item(item), input.get());
    REQUIRE(builder.append(to_item(item), input.get()).ok());
    CHECK(builder.bytes() == expected);
  }
  CHECK(builder.item_count() == items.size());
  Buffer set = builder.finish(partition, producer);
  CHECK(builder.item_count() == 0);
  CHECK(builder.bytes() == 0);
  return set;
}

std::vector<ModelItem> read_items(ByteView set) {
  auto reader = ScheduleReader::open(set);
  REQUIRE_MESSAGE(reader.ok(), reader.error().to_string());
  std::vector<ModelItem> out;
  ScheduleItem item;
  while (reader->next(item)) {
    REQUIRE(validate_produced_batch(item.batch).ok());
    CHECK(item.batch.data() == set.data() + item.batch_offset);
    CHECK(load_le<int64_t>(set.data() + item.due_offset) == item.due_ms);
    if (item.recurrence != RecurrenceKind::kNone) {
      CHECK(load_le<int64_t>(set.data() + item.next_due_offset) == item.next_due_ms);
    }
    const std::vector<ModelRecord> records = read_all(item.batch);
    REQUIRE(records.size() == 1);
    out.push_back({item.due_kind, item.due_ms, std::string(item.key), item.replace, item.recurrence,
                   item.every_ms, std::string(item.zone), std::string(item.cron), item.next_due_ms,
                   records.front()});
  }
  CHECK_MESSAGE(reader->status().ok(), reader->status().to_string());
  CHECK(out.size() == reader->header().items);
  return out;
}

// What make_schedule_set_v1.py writes.
std::vector<ModelItem> golden_items() {
  return {
      {.due_ms = 90'000, .record = {.timestamp_ms = kBaseMs, .value = "in a minute and a half"}},
      {.due_kind = DueKind::kAt,
       .due_ms = kBaseMs + 86'400'000,
       .key = "order-17",
       .record = {.timestamp_ms = kBaseMs + 1,
                  .has_key = true,
                  .key = "key",
                  .value = "tomorrow",
                  .headers = {{"h", true, "v"}, {"absent", false, ""}}}},
      {.key = std::string(255, 'k'),
       .replace = true,
       .record = {.timestamp_ms = kBaseMs + 2, .has_key = true, .key = "", .has_value = false}},
      {.due_ms = 60'000,
       .recurrence = RecurrenceKind::kEvery,
       .every_ms = 60'000,
       .record = {.timestamp_ms = kBaseMs + 3, .value = "every minute"}},
      {.key = "report",
       .recurrence = RecurrenceKind::kCron,
       .zone = "Europe/Berlin",
       .cron = "0 0 9 * * 1-5",
       .record = {.timestamp_ms = kBaseMs + 4, .value = "workdays at nine"}},
  };
}

constexpr PartitionId kGoldenPartition{TopicId{7}, PartitionIndex{3}};
constexpr BatchBuilder::Producer kGoldenProducer{.id = 4242, .epoch = 1, .base_sequence = 1000};

std::vector<uint8_t> bytes_of(ByteView view) { return {view.begin(), view.end()}; }

std::vector<uint8_t> golden() {
  std::ifstream file("tests/golden/schedule_set_v1.bin", std::ios::binary);
  REQUIRE(file.is_open());
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return {text.begin(), text.end()};
}

// Gives a changed set the check word that it should have.
void repair_check(MutableByteView set) {
  store_le(set.data() + 44, uint32_t{0});
  store_le(set.data() + 44, crc32c(set));
}

// Reads all of it, whatever it is; true if it was accepted to the end.
bool reads(ByteView set, size_t& items) {
  items = 0;
  auto reader = ScheduleReader::open(set);
  if (!reader.ok()) {
    const ErrorCode code = reader.error().code();
    CHECK((code == ErrorCode::kMalformed || code == ErrorCode::kUnsupportedVersion));
    return false;
  }
  ScheduleItem item;
  while (reader->next(item)) {
    ++items;
    REQUIRE(item.batch_offset + item.batch.size() <= set.size());
    REQUIRE(item.due_offset + 8 <= set.size());
    REQUIRE(item.next_due_offset + 8 <= set.size());
  }
  CHECK(!reader->next(item));
  return reader->status().ok();
}

ModelItem random_item(Random& random) {
  const auto text = [&random](size_t low, size_t high) {
    std::string out(low + random.below(high - low + 1), ' ');
    for (char& c : out) {
      c = static_cast<char>(random.below(256));
    }
    return out;
  };
  ModelItem item;
  item.due_kind = random.chance(1, 2) ? DueKind::kAfter : DueKind::kAt;
  item.due_ms = static_cast<int64_t>(random.next());
  if (random.chance(1, 2)) {
    item.key = text(1, kDelayKeyBytesMax);
    item.replace = random.chance(1, 2);
  }
  switch (random.below(3)) {
    case 1:
      item.recurrence = RecurrenceKind::kEvery;
      item.every_ms = static_cast<int64_t>(random.next());
      break;
    case 2:
      item.recurrence = RecurrenceKind::kCron;
      item.zone = text(0, limits::kZoneNameBytesMax);
      item.cron = text(0, limits::kCronBytesMax);
      break;
    default:
      break;
  }
  item.record.timestamp_ms = static_cast<int64_t>(random.next());
  item.record.value = text(0, 300);
  if (random.chance(1, 2)) {
    item.record.has_key = true;
    item.record.key = text(0, 30);
  }
  return item;
}

TEST_CASE("golden: the schedule set is read, and written byte for byte") {
  const std::vector<uint8_t> file = golden();
  CHECK(verify_schedule_check(file).ok());
  const auto reader = ScheduleReader::open(file);
  REQUIRE(reader.ok());
  CHECK(reader->header().partition == kGoldenPartition);
  CHECK(reader->header().received_ms == 0);
  CHECK(reader->header().first_id == 0);
  CHECK(reader->header().producer_id == 4242);
  CHECK(reader->header().producer_epoch == 1);
  CHECK(reader->header().base_sequence == 1000);
  CHECK(read_items(file) == golden_items());
  CHECK(bytes_of(build(golden_items(), kGoldenPartition, kGoldenProducer).view()) == file);
}

TEST_CASE("property: what is built is read again") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::vector<ModelItem> items(1 + random.below(40));
    for (ModelItem& item : items) {
      item = random_item(random);
    }
    const PartitionId partition{TopicId{static_cast<uint32_t>(random.next())},
                                PartitionIndex{static_cast<uint32_t>(random.next())}};
    const Buffer set = build(items, partition, {});
    CHECK(verify_schedule_check(set.view()).ok());
    CHECK(read_items(set.view()) == items);
    CHECK(ScheduleReader::open(set.view())->header().partition == partition);
  }
}

TEST_CASE("a finished set gets another producer and another target, and nothing else changes") {
  Buffer set = build(golden_items(), {}, {});
  CHECK(ScheduleReader::open(set.view())->header().producer_id == -1);
  CHECK(ScheduleReader::open(set.view())->header().base_sequence == -1);
  set_schedule_producer(set.mutable_view(), kGoldenPartition, kGoldenProducer);
  CHECK(bytes_of(set.view()) == golden());
  const BatchHeader header =
      sequence_header(ScheduleReader::open(set.view())->header(), set.size());
  CHECK(header.batch_bytes == set.size());
  CHECK(header.record_count == 5);
  CHECK(header.producer_id == 4242);
  CHECK(header.producer_epoch == 1);
  CHECK(header.base_sequence == 1000);
}

TEST_CASE("the broker's stamps go to their places and to no others") {
  std::vector<uint8_t> set = golden();
  stamp_schedule(set, kBaseMs + 5, 77);
  std::vector<ModelItem> expected = golden_items();
  auto reader = ScheduleReader::open(set);
  ScheduleItem item;
  for (size_t i = 0; reader->next(item); ++i) {
    expected[i].due_kind = DueKind::kAt;
    expected[i].due_ms = kBaseMs + static_cast<int64_t>(i);
    expected[i].next_due_ms =
        item.recurrence != RecurrenceKind::kNone ? kBaseMs + 100 + static_cast<int64_t>(i) : 0;
    stamp_schedule_item(set, item, expected[i].due_ms, kBaseMs + 100 + static_cast<int64_t>(i));
  }
  CHECK(read_items(set) == expected);
  const ScheduleHeader header = ScheduleReader::open(set)->header();
  CHECK(header.received_ms == kBaseMs + 5);
  CHECK(header.first_id == 77);
  CHECK(header.partition == kGoldenPartition);
  CHECK(!verify_schedule_check(set).ok());
  seal_schedule(set);
  CHECK(verify_schedule_check(set).ok());
  CHECK(read_items(set) == expected);
}

TEST_CASE("every truncation is refused") {
  const std::vector<uint8_t> set = golden();
  for (size_t size = 0; size < set.size(); ++size) {
    CAPTURE(size);
    const ByteView cut = ByteView(set).first(size);
    CHECK(verify_schedule_check(cut).code() == ErrorCode::kCorrupted);
    size_t items = 0;
    CHECK(!reads(cut, items));
    if (size >= kScheduleHeaderBytes) {
      std::vector<uint8_t> repaired = bytes_of(cut);
      repair_check(repaired);
      CHECK(verify_schedule_check(repaired).ok());
      CHECK(!reads(repaired, items));
    }
  }
  std::vector<uint8_t> longer = set;
  longer.push_back(0);
  size_t items = 0;
  CHECK(!reads(longer, items));
  CHECK(items == 5);
}

TEST_CASE("every flipped bit fails the check, and with a right check stays within the set") {
  const std::vector<uint8_t> set = golden();
  size_t refused = 0;
  for (size_t bit = 0; bit < set.size() * 8; ++bit) {
    CAPTURE(bit);
    std::vector<uint8_t> flipped = set;
    flipped[bit / 8] = static_cast<uint8_t>(flipped[bit / 8] ^ (1u << (bit % 8)));
    REQUIRE(verify_schedule_check(flipped).code() == ErrorCode::kCorrupted);
    repair_check(flipped);
    size_t items = 0;
    refused += reads(flipped, items) ? 0u : 1u;
    CHECK(items <= 5);
  }
  // Lengths, kinds, flags and counts; most bits are content.
  CHECK(refused > 400);
}

TEST_CASE("limits: texts, items, bytes; an error changes nothing") {
  ScheduleBuilder builder;
  const RecordInput small{.value = as_bytes("v")};
  const auto refused = [&](const ScheduleItem& item, const RecordInput& record, ErrorCode code) {
    const size_t bytes = builder.bytes();
    const uint32_t count = builder.item_count();
    CHECK(builder.append(item, record).code() == code);
    CHECK(builder.bytes() == bytes);
    CHECK(builder.item_count() == count);
  };
  const std::string long_text(300, 'x');
  const std::string_view text(long_text);
  ScheduleItem item;
  for (const uint32_t already : {0u, 1u}) {
    CAPTURE(already);
    item = {};
    item.key = text.substr(0, kDelayKeyBytesMax + 1);
    refused(item, small, ErrorCode::kInvalidArgument);
    item = {};
    item.recurrence = RecurrenceKind::kCron;
    item.cron = text.substr(0, limits::kCronBytesMax + 1);
    refused(item, small, ErrorCode::kInvalidArgument);
    item.cron = text.substr(0, limits::kCronBytesMax);
    item.zone = text.substr(0, limits::kZoneNameBytesMax + 1);
    refused(item, small, ErrorCode::kInvalidArgument);
    const std::string large(limits::kMessageBytesMax + 1, 'x');
    refused({}, {.value = as_bytes(large)}, ErrorCode::kTooLarge);
    REQUIRE(builder.append({}, small).ok());
  }
  while (builder.item_count() < kScheduleItemsMax) {
    REQUIRE(builder.append({}, small).ok());
  }
  refused({}, small, ErrorCode::kLimitExceeded);
  const Buffer full = builder.finish({}, {});
  size_t items = 0;
  CHECK(reads(full.view(), items));
  CHECK(items == kScheduleItemsMax);
}

TEST_CASE("limits: a largest message with a largest extension fits an empty set, and no second") {
  ScheduleBuilder builder;
  const std::string value(limits::kMessageBytesMax - 1, 'x');
  const std::string key(kDelayKeyBytesMax, 'k');
  const std::string zone(limits::kZoneNameBytesMax, 'z');
  const std::string cron(limits::kCronBytesMax, 'c');
  ScheduleItem item;
  item.key = key;
  item.recurrence = RecurrenceKind::kCron;
  item.zone = zone;
  item.cron = cron;
  const RecordInput record{.has_key = true, .key = as_bytes("k"), .value = as_bytes(value)};
  REQUIRE(builder.append(item, record).ok());
  CHECK(builder.bytes() <= limits::kBatchBytesMax);
  CHECK(builder.append(item, record).code() == ErrorCode::kLimitExceeded);
  CHECK(read_items(builder.finish({}, {}).view()).front().record.value == value);
}

TEST_CASE("what the reader refuses by name") {
  struct Case {
    const char* what;
    size_t at;
    std::vector<uint8_t> bytes;
    ErrorCode code;
  };

  const Case cases[] = {
      {"flags of the set", 34, {1}, ErrorCode::kUnsupportedVersion},
      {"no items", 40, {0, 0, 0, 0}, ErrorCode::kMalformed},
      {"too many items", 40, {1, 16, 0, 0}, ErrorCode::kMalformed},
      {"one item less than there are", 40, {4, 0, 0, 0}, ErrorCode::kMalformed},
      {"one item more than there are", 40, {6, 0, 0, 0}, ErrorCode::kMalformed},
      {"a producer without epoch", 32, {255, 255}, ErrorCode::kMalformed},
      {"a producer without sequence", 36, {255, 255, 255, 255}, ErrorCode::kMalformed},
      {"an item that claims 4 GiB", 48, {255, 255, 255, 255}, ErrorCode::kMalformed},
      {"an item shorter than its header", 48, {15, 0, 0, 0}, ErrorCode::kMalformed},
      {"a due kind", 52, {2}, ErrorCode::kUnsupportedVersion},
      {"an item's flags", 53, {8}, ErrorCode::kUnsupportedVersion},
      {"a key that is not there", 53, {1}, ErrorCode::kMalformed},
      {"an extension larger than the item", 54, {255, 255}, ErrorCode::kMalformed},
      {"an extension that nothing explains", 54, {1, 0}, ErrorCode::kMalformed},
  };
  for (const Case& each : cases) {
    CAPTURE(each.what);
    std::vector<uint8_t> set = golden();
    std::copy(each.bytes.begin(), each.bytes.end(), set.begin() + static_cast<ptrdiff_t>(each.at));
    auto reader = ScheduleReader::open(set);
    if (!reader.ok()) {
      CHECK(reader.error().code() == each.code);
      continue;
    }
    ScheduleItem item;
    while (reader->next(item)) {
    }
    CHECK(reader->status().code() == each.code);
  }
}

TEST_CASE("texts longer than allowed are refused when read") {
  // A key of 255 bytes is the longest that a length byte can say; zone and cron could be longer.
  ModelItem model{.recurrence = RecurrenceKind::kCron,
                  .zone = std::string(limits::kZoneNameBytesMax, 'z'),
                  .cron = std::string(limits::kCronBytesMax, 'c')};
  Buffer set = build({model}, {}, {});
  CHECK(read_items(set.view()).front() == model);
  // One byte moves from cron to zone.
  uint8_t* const extension = set.data() + kScheduleHeaderBytes + kScheduleItemHeaderBytes;
  extension[9] = static_cast<uint8_t>(limits::kZoneNameBytesMax + 1);
  extension[10 + limits::kZoneNameBytesMax + 1] = static_cast<uint8_t>(limits::kCronBytesMax - 1);
  size_t items = 0;
  CHECK(!reads(set.view(), items));
}

}  // namespace
}  // namespace tidemark::format
