#include "broker/protocol/alignment.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "broker/protocol/messages.h"
#include "log/base/bytes.h"
#include "log/base/coding.h"

namespace tidemark::protocol {
namespace {

// A table in bytes of its own, and where it refers to the vector that was written first, which is
// what lies last.
struct Written {
  Buffer bytes;
  size_t reference = 0;
};

// `table`: finished by `builder`; `field`: its vector.
Written written(const flatbuffers::FlatBufferBuilder& builder, const void* table,
                flatbuffers::voffset_t field) {
  const uint8_t* const at = static_cast<const flatbuffers::Table*>(table)->GetAddressOf(field);
  REQUIRE(at != nullptr);
  return {Buffer::copy_of(finished(builder)), static_cast<size_t>(at - builder.GetBufferPointer())};
}

template <typename T>
const T* root(const flatbuffers::FlatBufferBuilder& builder) {
  return flatbuffers::GetRoot<T>(builder.GetBufferPointer());
}

// The same with the vector `bytes` further behind.
Buffer moved(const Written& from, size_t bytes) {
  const ByteView all = from.bytes.view();
  const auto distance = load_le<uint32_t>(all.data() + from.reference);
  const size_t vector = from.reference + distance;
  Buffer out(all.size() + bytes);
  std::copy_n(all.begin(), vector, out.data());
  std::fill_n(out.data() + vector, bytes, uint8_t{0});
  std::copy(all.begin() + static_cast<ptrdiff_t>(vector), all.end(), out.data() + vector + bytes);
  store_le<uint32_t>(out.data() + from.reference, distance + static_cast<uint32_t>(bytes));
  return out;
}

template <typename T>
Status read_status(const Buffer& bytes) {
  const auto table = read_table<T>(bytes.view(), "Some");
  return table.ok() ? Status() : table.error();
}

// Where the elements belong and eight bytes behind it is fine, in between it is not. Every other
// distance is refused by the Verifier: the length is not at a multiple of four.
template <typename T>
void check_eight(const Written& table) {
  CHECK(read_status<T>(table.bytes).ok());
  CHECK(read_status<T>(moved(table, 8)).ok());
  for (const size_t bytes : {4u, 12u}) {
    CAPTURE(bytes);
    const Status status = read_status<T>(moved(table, bytes));
    CHECK(status.code() == ErrorCode::kMalformed);
    CHECK(status.context() == "table of Some has a vector that is not aligned");
  }
  const Status status = read_status<T>(moved(table, 2));
  CHECK(status.code() == ErrorCode::kMalformed);
  CHECK(status.context() == "table of Some does not verify");
}

TEST_CASE("alignment: a vector of structs") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<fbs::QueueRange> ranges = {{1, 2}, {5, 6}};
  builder.Finish(
      fbs::CreateQueueUnsettledReply(builder, 0, builder.CreateVectorOfStructs(ranges), 9));
  check_eight<fbs::QueueUnsettledReply>(written(builder, root<fbs::QueueUnsettledReply>(builder),
                                                fbs::QueueUnsettledReply::VT_RANGES));
}

TEST_CASE("alignment: a vector of structs of a request") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<fbs::TxnId> items = {{1, 2, 3}};
  builder.Finish(fbs::CreateTxnRecheck(builder, builder.CreateVectorOfStructs(items)));
  check_eight<fbs::TxnRecheck>(
      written(builder, root<fbs::TxnRecheck>(builder), fbs::TxnRecheck::VT_ITEMS));
}

TEST_CASE("alignment: a vector of numbers of eight bytes") {
  flatbuffers::FlatBufferBuilder builder;
  const auto offsets = builder.CreateVector(std::vector<uint64_t>{7, 8, 9});
  builder.Finish(fbs::CreateQueueRedrive(builder, 1, 2, offsets));
  check_eight<fbs::QueueRedrive>(
      written(builder, root<fbs::QueueRedrive>(builder), fbs::QueueRedrive::VT_OFFSETS));
}

TEST_CASE("alignment: in a table below the first one") {
  flatbuffers::FlatBufferBuilder builder;
  const auto delays = builder.CreateVector(std::vector<int64_t>{1'000, 5'000});
  fbs::TopicConfigBuilder config(builder);
  config.add_retry_delays_ms(delays);
  const auto built = config.Finish();
  const auto name = builder.CreateString("orders");
  builder.Finish(fbs::CreateTopicCreate(builder, name, 1, built));
  check_eight<fbs::TopicCreate>(written(builder, root<fbs::TopicCreate>(builder)->config(),
                                        fbs::TopicConfig::VT_RETRY_DELAYS_MS));
}

TEST_CASE("alignment: in the last one of a vector of tables") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<fbs::DelayReceipt> receipts = {{1, 2, 3, 4, 5, 0}};
  const auto last = builder.CreateVectorOfStructs(receipts);
  std::vector<flatbuffers::Offset<fbs::ProducePartReply>> parts;
  parts.push_back(fbs::CreateProducePartReply(builder, 0, 1, 2, false,
                                              builder.CreateVectorOfStructs(receipts)));
  parts.push_back(fbs::CreateProducePartReply(builder, 0, 1, 2, false, last));
  builder.Finish(fbs::CreateProduceReply(builder, 0, builder.CreateVector(parts)));
  check_eight<fbs::ProduceReply>(written(builder, root<fbs::ProduceReply>(builder)->parts()->Get(1),
                                         fbs::ProducePartReply::VT_RECEIPTS));
}

TEST_CASE("alignment: elements of up to four bytes may lie at any multiple of four") {
  flatbuffers::FlatBufferBuilder structs;
  const std::vector<fbs::GroupPartition> partitions = {{1, 2, 3}, {4, 5, 6}};
  structs.Finish(fbs::CreateGroupOffsets(structs, 0, structs.CreateVectorOfStructs(partitions)));
  const Written group =
      written(structs, root<fbs::GroupOffsets>(structs), fbs::GroupOffsets::VT_PARTITIONS);
  flatbuffers::FlatBufferBuilder numbers;
  const auto list = numbers.CreateVector(std::vector<uint32_t>{1, 2, 3});
  numbers.Finish(fbs::CreatePartitionDescribe(numbers, 1, list));
  const Written describe = written(numbers, root<fbs::PartitionDescribe>(numbers),
                                   fbs::PartitionDescribe::VT_PARTITIONS);
  for (const size_t bytes : {0u, 4u, 8u}) {
    CAPTURE(bytes);
    CHECK(read_status<fbs::GroupOffsets>(moved(group, bytes)).ok());
    CHECK(read_status<fbs::PartitionDescribe>(moved(describe, bytes)).ok());
  }
}

TEST_CASE("alignment: a vector without elements may lie at any multiple of four") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<fbs::QueueRange> none;
  builder.Finish(
      fbs::CreateQueueUnsettledReply(builder, 0, builder.CreateVectorOfStructs(none), 9));
  const Written reply = written(builder, root<fbs::QueueUnsettledReply>(builder),
                                fbs::QueueUnsettledReply::VT_RANGES);
  for (const size_t bytes : {0u, 4u, 8u}) {
    CAPTURE(bytes);
    CHECK(read_status<fbs::QueueUnsettledReply>(moved(reply, bytes)).ok());
  }
}

// What counts is the address, whatever the distance from the table's first byte is.
TEST_CASE("alignment: a table that lies beside where it belongs is refused") {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<fbs::QueueRange> ranges = {{1, 2}};
  builder.Finish(
      fbs::CreateQueueUnsettledReply(builder, 0, builder.CreateVectorOfStructs(ranges), 9));
  const ByteView table = finished(builder);
  Buffer room(table.size() + 8);
  for (const size_t at : {0u, 4u, 8u}) {
    CAPTURE(at);
    std::copy(table.begin(), table.end(), room.data() + at);
    CHECK(read_table<fbs::QueueUnsettledReply>(room.view().subspan(at, table.size()), "").ok() ==
          (at % 8 == 0));
  }
}

}  // namespace
}  // namespace tidemark::protocol
