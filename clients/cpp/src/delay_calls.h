// What Delays asks of a topic's shards, and what the answers mean.
//
// Each function is one waiting call: it looks the topic up, asks the shards concerned, and tries
// again what may pass until the Asker's time is over.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "clients/cpp/src/call.h"
#include "tidemark/delay.h"

namespace tidemark::client_core {

// Of one request; the broker refuses more.
inline constexpr size_t kDelayRefsPerRequestMax = 1024;
inline constexpr uint32_t kDelayListMax = 10'000;

// One change per target. An error: nothing could be asked.
Result<std::vector<client::DelayChange>> cancel_delayed(
    Asker& asker, std::string_view topic, const std::vector<client::DelayTarget>& targets);
// `now_ms`: wall time, bounds `when`.
Result<std::vector<client::DelayChange>> reschedule_delayed(
    Asker& asker, std::string_view topic, const std::vector<client::DelayTarget>& targets,
    const client::Delay& when, int64_t now_ms);

Result<std::vector<client::DelayedMessage>> list_delayed(Asker& asker, std::string_view topic,
                                                         const client::DelayQuery& query);
Result<client::DelayedMessage> show_delayed(Asker& asker, std::string_view topic,
                                            const client::DelayTarget& target);
Result<std::vector<client::DelayStats>> delay_stats(Asker& asker, std::string_view topic);

// --- targets ---

// The partition of this number, or the one that follows from the key. kInvalidArgument: there is no
// such partition.
Result<client::PartitionPlace> place_of(const client::TopicDescription& topic,
                                        std::optional<uint32_t> partition, std::string_view key);
// Where a target has to be asked for. kInvalidArgument: neither handle nor key, a key that is too
// long, a handle of another topic, no such partition.
Result<Home> home_of(const client::TopicDescription& topic, const client::DelayTarget& target);
// Requires: home_of() is ok.
flatbuffers::Offset<protocol::fbs::DelayRef> build_ref(flatbuffers::FlatBufferBuilder& builder,
                                                       const client::TopicDescription& topic,
                                                       const client::DelayTarget& target);

}  // namespace tidemark::client_core
