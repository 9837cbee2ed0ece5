// Settings of a topic, as the program says them and as they travel.
#pragma once

#include <string>
#include <vector>

#include "broker/protocol/messages.h"
#include "tidemark/admin.h"

namespace tidemark::client_core {

flatbuffers::Offset<protocol::fbs::TopicConfig> build_topic_config(
    flatbuffers::FlatBufferBuilder& builder, const client::TopicConfig& config);
client::TopicConfig read_topic_config(const protocol::fbs::TopicConfig& config);

// What is to be changed: its values, and the names of the fields that are meant ("partitions" among
// them).
struct Alteration {
  client::TopicConfig config;
  std::vector<std::string> set;
};

Alteration alteration_of(const client::TopicChange& change);

}  // namespace tidemark::client_core
