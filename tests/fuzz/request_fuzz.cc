// Tables from anybody, as every type that travels: what verifies can be read to its last field.
//
// The first two bytes choose the type, the rest is the table.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "broker/protocol/messages.h"
#include "log/base/check.h"
#include "log/base/coding.h"

namespace tidemark::protocol {
namespace {

// Reads are added up so that none is optimised away.
struct Sum {
  uint64_t value = 0;

  template <typename T>
  void add(T number) {
    value = value * 31 + static_cast<uint64_t>(number);
  }

  void add(const flatbuffers::String* text) {
    for (const char c : view(text)) {
      add(c);
    }
  }

  template <typename T>
  void add(const flatbuffers::Vector<T>* numbers) {
    if (numbers != nullptr) {
      for (const T number : *numbers) {
        add(number);
      }
    }
  }

  void add(const fbs::Error* error) {
    const Status status = to_status(error);
    add(status.code());
    add(retry_after_ms(error));
    TIDEMARK_CHECK(status.ok() || status.to_string().size() >= status.context().size());
  }

  template <typename T, typename F>
  void each(const flatbuffers::Vector<flatbuffers::Offset<T>>* tables, F read) {
    if (tables != nullptr) {
      for (const T* table : *tables) {
        read(*table);
      }
    }
  }
};

void read(Sum& sum, const fbs::TopicConfig* config) {
  if (config != nullptr) {
    sum.add(config->retention_ms());
    sum.add(config->retention_bytes());
  }
}

void read(Sum& sum, const fbs::TopicInfo* topic) {
  if (topic == nullptr) {
    return;
  }
  sum.add(topic->error());
  sum.add(topic->name());
  sum.add(topic->id());
  sum.add(topic->created_ms());
  read(sum, topic->config());
  sum.each(topic->partitions(), [&](const fbs::PartitionInfo& partition) {
    sum.add(partition.index());
    sum.add(partition.shard());
    sum.add(partition.leader());
  });
}

void read(Sum& sum, const fbs::Hello& t) {
  sum.add(t.client());
  sum.add(t.preferred_shard());
}

void read(Sum& sum, const fbs::HelloReply& t) {
  sum.add(t.error());
  sum.add(t.cluster_id() + t.node_id() + t.shards() + t.message_bytes_max() + t.batch_bytes_max() +
          t.frame_bytes_max());
  sum.add(t.fsync());
  sum.add(t.version());
}

void read(Sum& /*sum*/, const fbs::InitProducer& /*t*/) {}

void read(Sum& sum, const fbs::InitProducerReply& t) {
  sum.add(t.error());
  sum.add(t.producer_id());
  sum.add(t.epoch());
}

void read(Sum& sum, const fbs::Metadata& t) {
  if (t.topics() != nullptr) {
    for (const flatbuffers::String* topic : *t.topics()) {
      sum.add(topic);
    }
  }
}

void read(Sum& sum, const fbs::MetadataReply& t) {
  sum.add(t.error());
  sum.each(t.brokers(), [&](const fbs::BrokerInfo& broker) {
    sum.add(broker.id());
    sum.add(broker.host());
    sum.add(broker.port());
  });
  sum.each(t.topics(), [&](const fbs::TopicInfo& topic) { read(sum, &topic); });
}

void read(Sum& sum, const fbs::TopicCreate& t) {
  sum.add(t.name());
  sum.add(t.partitions());
  read(sum, t.config());
}

void read(Sum& sum, const fbs::TopicAlter& t) {
  sum.add(t.name());
  read(sum, t.config());
  if (t.set() != nullptr) {
    for (const flatbuffers::String* field : *t.set()) {
      sum.add(field);
    }
  }
  sum.add(t.partitions());
}

void read(Sum& sum, const fbs::TopicDelete& t) { sum.add(t.name()); }

void read(Sum& sum, const fbs::TopicReply& t) {
  sum.add(t.error());
  read(sum, t.topic());
}

void read(Sum& sum, const fbs::Produce& t) {
  sum.each(t.parts(), [&](const fbs::ProducePart& part) {
    sum.add(part.topic());
    sum.add(part.partition());
    sum.add(part.bytes());
  });
}

void read(Sum& sum, const fbs::ProduceReply& t) {
  sum.add(t.error());
  sum.each(t.parts(), [&](const fbs::ProducePartReply& part) {
    sum.add(part.error());
    sum.add(part.base_offset());
    sum.add(part.received_ms());
    sum.add(part.duplicate());
  });
}

void read(Sum& sum, const fbs::Fetch& t) {
  sum.each(t.parts(), [&](const fbs::FetchPart& part) {
    sum.add(part.topic());
    sum.add(part.partition());
    sum.add(part.offset());
    sum.add(part.bytes_max());
  });
  sum.add(t.wait_ms_max());
  sum.add(t.bytes_min());
  sum.add(t.bytes_max());
}

void read(Sum& sum, const fbs::FetchReply& t) {
  sum.add(t.error());
  sum.each(t.parts(), [&](const fbs::FetchPartReply& part) {
    sum.add(part.error());
    sum.add(part.bytes());
    sum.add(part.high_watermark());
    sum.add(part.start_offset());
    sum.add(part.next_offset());
  });
}

void read(Sum& sum, const fbs::ListOffsets& t) {
  sum.each(t.parts(), [&](const fbs::ListOffsetsPart& part) {
    sum.add(part.topic());
    sum.add(part.partition());
    sum.add(part.time_ms());
  });
}

void read(Sum& sum, const fbs::ListOffsetsReply& t) {
  sum.add(t.error());
  sum.each(t.parts(), [&](const fbs::ListOffsetsPartReply& part) {
    sum.add(part.error());
    sum.add(part.offset());
    sum.add(part.time_ms());
  });
}

void read(Sum& sum, const fbs::PartitionDescribe& t) {
  sum.add(t.topic());
  sum.add(t.partitions());
}

void read(Sum& sum, const fbs::PartitionDescribeReply& t) {
  sum.add(t.error());
  sum.each(t.partitions(), [&](const fbs::PartitionState& state) {
    sum.add(state.error());
    sum.add(state.partition() + state.shard() + state.leader() + state.start_offset() +
            state.end_offset());
    sum.add(state.bytes() + state.batches() + state.producers());
    sum.add(state.last_received_ms());
  });
}

void read(Sum& sum, const fbs::ErrorReply& t) { sum.add(t.error()); }

template <typename T>
uint64_t try_table(ByteView bytes, std::string_view name) {
  const Result<const T*> table = read_table<T>(bytes, name);
  if (!table.ok()) {
    TIDEMARK_CHECK(table.error().code() == ErrorCode::kMalformed);
    TIDEMARK_CHECK(table.error().context().find(name) != std::string_view::npos);
    return 0;
  }
  Sum sum;
  read(sum, **table);
  return sum.value;
}

using Try = uint64_t (*)(ByteView, std::string_view);

struct Type {
  Try run;
  std::string_view name;
};

constexpr Type kTypes[] = {
    {try_table<fbs::Hello>, "Hello"},
    {try_table<fbs::HelloReply>, "HelloReply"},
    {try_table<fbs::InitProducer>, "InitProducer"},
    {try_table<fbs::InitProducerReply>, "InitProducerReply"},
    {try_table<fbs::Metadata>, "Metadata"},
    {try_table<fbs::MetadataReply>, "MetadataReply"},
    {try_table<fbs::TopicCreate>, "TopicCreate"},
    {try_table<fbs::TopicAlter>, "TopicAlter"},
    {try_table<fbs::TopicDelete>, "TopicDelete"},
    {try_table<fbs::TopicReply>, "TopicReply"},
    {try_table<fbs::Produce>, "Produce"},
    {try_table<fbs::ProduceReply>, "ProduceReply"},
    {try_table<fbs::Fetch>, "Fetch"},
    {try_table<fbs::FetchReply>, "FetchReply"},
    {try_table<fbs::ListOffsets>, "ListOffsets"},
    {try_table<fbs::ListOffsetsReply>, "ListOffsetsReply"},
    {try_table<fbs::PartitionDescribe>, "PartitionDescribe"},
    {try_table<fbs::PartitionDescribeReply>, "PartitionDescribeReply"},
    {try_table<fbs::ErrorReply>, "Error"},
};

volatile uint64_t g_sink = 0;

}  // namespace
}  // namespace tidemark::protocol

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace protocol = tidemark::protocol;
  if (size < 2) {
    return 0;
  }
  const protocol::Type& type =
      protocol::kTypes[tidemark::load_le<uint16_t>(data) % std::size(protocol::kTypes)];
  // Tables lie at multiples of 8 in a frame; here they get a block of their own.
  const std::vector<uint8_t> table(data + 2, data + size);
  protocol::g_sink = type.run(table, type.name);
  return 0;
}
