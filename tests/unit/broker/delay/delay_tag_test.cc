#include "broker/delay/delay_tag.h"

#include <doctest/doctest.h>

#include "log/base/random.h"

namespace tidemark::delay {
namespace {

TEST_CASE("tag: bits as the format describes them") {
  const DelayTag tag{{TopicId{0x01020304}, PartitionIndex{5}}, true, 0x6789A};
  CHECK(tag.packed() == (uint64_t{0x01020304} << 32 | 5u << 22 | 1u << 21 | 0x6789Au));
  CHECK(tag.low() == static_cast<uint32_t>(tag.packed()));
  CHECK(DelayTag{}.packed() == 0);
}

TEST_CASE("tag: the largest of each field, and random ones, come back") {
  Random random(1);
  for (int i = 0; i < 10'000; ++i) {
    DelayTag tag;
    tag.partition.topic = TopicId{static_cast<uint32_t>(random.next())};
    tag.partition.index =
        PartitionIndex{static_cast<uint32_t>(random.below(limits::kPartitionsPerTopicMax))};
    tag.special = random.chance(1, 2);
    tag.bytes = static_cast<uint32_t>(random.below(limits::kBatchBytesMax + 1));
    if (i == 0) {
      tag = {{TopicId{UINT32_MAX}, PartitionIndex{limits::kPartitionsPerTopicMax - 1}},
             true,
             static_cast<uint32_t>(limits::kBatchBytesMax)};
    }
    for (const DelayTag back :
         {DelayTag::unpack(tag.packed()), DelayTag::unpack(tag.partition.topic, tag.low())}) {
      REQUIRE(back.partition == tag.partition);
      REQUIRE(back.special == tag.special);
      REQUIRE(back.bytes == tag.bytes);
    }
  }
}

}  // namespace
}  // namespace tidemark::delay
