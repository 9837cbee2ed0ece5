// Calls that wait for their answer: what Admin and Delays have in common.
//
// An Asker is one such call with its deadline. What is asked and what the answers mean is written
// against it, without threads, so that tests answer from a scripted broker.
//
// Thread: the caller's, not the I/O thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/client_impl.h"
#include "log/base/function.h"
#include "tidemark/admin.h"

namespace tidemark::client_core {

// Where partitions of a topic are: leader, shard.
using Home = std::pair<uint64_t, uint16_t>;

class Asker {
 public:
  virtual ~Asker() = default;

  // Ok unless the caller is on the I/O thread, where waiting would never end.
  [[nodiscard]] virtual Status check() const = 0;
  // As Cluster::call().
  virtual Reply ask(protocol::FrameType type, Buffer table, Cluster::Repeat repeat) = 0;
  // As send_to_homes().
  virtual std::map<Home, Reply> ask_homes(protocol::FrameType type,
                                          std::map<Home, Buffer> tables) = 0;
  // Of the broker that answered last.
  [[nodiscard]] virtual BrokerFacts facts() = 0;
  // A pause before trying again; false when there is no time left for it.
  virtual bool pause() = 0;
};

// The call of a program, at most `deadline_ms` long.
class Call final : public Asker {
 public:
  Call(const client::Client& client, int64_t deadline_ms);

  [[nodiscard]] Status check() const override;
  Reply ask(protocol::FrameType type, Buffer table, Cluster::Repeat repeat) override;
  std::map<Home, Reply> ask_homes(protocol::FrameType type, std::map<Home, Buffer> tables) override;
  [[nodiscard]] BrokerFacts facts() override;
  bool pause() override;

  [[nodiscard]] client::ClientImpl& client() { return *client_; }

 private:
  std::shared_ptr<client::ClientImpl> client_;
  int64_t until_ns_;
};

using RepliesHandler = MoveOnlyFunction<void(std::map<Home, Reply>)>;

// Sends one table to each home, once, and gathers the answers; the handler may run inside. A home
// without a known leader answers kUnavailable. A reply's table is verified and its error field is
// ok when Reply::status is. Thread: the I/O thread.
void send_to_homes(Cluster& cluster, protocol::FrameType type, const std::map<Home, Buffer>& tables,
                   MonotonicTime until, RepliesHandler handler);

Buffer finished_copy(const flatbuffers::FlatBufferBuilder& builder);

// The table of a reply whose status is ok.
template <typename T>
const T& table_of(const Reply& reply) {
  return **protocol::read_table<T>(reply.frame.table(), "reply");
}

// --- topics ---

// Asks for these topics, or for all if there are none.
Reply ask_metadata(Asker& asker, const std::vector<std::string>& names);
// Sorted by name.
Result<std::vector<client::TopicDescription>> find_all_topics(Asker& asker);
// kUnknownTopic.
Result<client::TopicDescription> find_topic(Asker& asker, std::string_view name);
client::TopicDescription describe(const protocol::fbs::TopicInfo& info);

inline Home home_of(const client::PartitionPlace& place) { return {place.leader, place.shard}; }

std::set<Home> homes_of(const client::TopicDescription& topic);

// --- items that are answered one by one ---

// Asks each home about its items (by number), at most `chunk_max` in one request, until each was
// asked about once. `build` makes the table for some items, `take` gets the answer to them.
using ItemsBuilder = std::function<Buffer(const std::vector<size_t>& items)>;
using ItemsTaker =
    std::function<void(Home home, const std::vector<size_t>& items, const Reply& reply)>;
void ask_in_chunks(Asker& asker, protocol::FrameType type,
                   std::map<Home, std::vector<size_t>> items, size_t chunk_max,
                   const ItemsBuilder& build, const ItemsTaker& take);

// --- trying again ---

// What a status about one shard's answer means for a call that only reads.
bool may_ask_again(const Status& status);
// The first status that is not ok.
Status first_failure(const std::map<Home, Reply>& replies);

// `once()` until there is an answer, an error that will not pass, or no time. For reads.
template <typename T, typename Once>
Result<T> until_answered(Asker& asker, Once once) {
  RETURN_IF_ERROR(asker.check());
  while (true) {
    Result<T> answer = once();
    if (answer.ok() || !may_ask_again(answer.error()) || !asker.pause()) {
      return answer;
    }
  }
}

// `once(topic)` in the same way, each time with where the topic's partitions are now.
template <typename T, typename Once>
Result<T> until_answered(Asker& asker, std::string_view name, Once once) {
  RETURN_IF_ERROR(asker.check());
  while (true) {
    ASSIGN_OR_RETURN(const client::TopicDescription topic, find_topic(asker, name));
    Result<T> answer = once(topic);
    if (answer.ok() || !may_ask_again(answer.error()) || !asker.pause()) {
      return answer;
    }
  }
}

template <typename T>
client::Result<T> to_public(Result<T> result) {
  if (!result.ok()) {
    return to_public(result.error());
  }
  return std::move(result).value();
}

}  // namespace tidemark::client_core
