// The cluster as the client knows it: brokers, topics, and one session per (broker, shard) that is
// talked to.
//
// Thread: the I/O thread. No libuv.
// Metadata is pulled: who needs a topic calls want() and looks again in its next run(); `version`
// tells whether what it sees is newer than what failed. Topics that somebody wanted are refreshed
// every minute, so that added partitions are found.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/session.h"

namespace tidemark::client_core {

struct ClusterOptions {
  std::vector<Address> brokers;  // at least one
  SessionOptions session;
  int64_t request_timeout_ns = 10'000 * kNsPerMs;
};

struct PartitionHome {
  uint16_t shard = 0;
  uint64_t leader = 0;  // node id; 0: none
};

struct TopicMeta {
  Status status;  // kUnknownTopic: there is none of this name
  uint32_t id = 0;
  std::vector<PartitionHome> partitions;
  uint64_t version = 0;  // grows with every answer
};

class Cluster final : public Component {
 public:
  Cluster(ClusterOptions options, ChannelFactory& factory, Clock& clock, uint64_t seed);
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  [[nodiscard]] Clock& clock() { return clock_; }

  [[nodiscard]] const ClusterOptions& options() const { return options_; }

  // nullptr: nobody asked yet, or no answer yet.
  [[nodiscard]] const TopicMeta* find(std::string_view topic) const;
  // Asks for the topic soon (at most every 50 ms).
  void want(std::string_view topic);

  // Why metadata cannot be had at the moment; ok if it can.
  [[nodiscard]] const Status& metadata_error() const { return metadata_error_; }

  // The session of the partition's leader; nullptr while that is not known.
  Session* session_of(const PartitionHome& home);
  Session& session(const Address& address, uint16_t shard);
  // The session of whoever leads this shard; nullptr before the first handshake.
  Session* session_of_shard(uint16_t shard);

  // Whether a request may be sent again when it is not known if it took effect.
  enum class Repeat { kIfRefused, kAlways };

  // A request that any broker can answer (about topics and the cluster: the metadata shard). Tried
  // again on passing failures, at other brokers too, until the deadline. The reply's table is
  // verified and its error field is ok when Reply::status is.
  void call(protocol::FrameType type, ByteView table, MonotonicTime deadline, Repeat repeat,
            ReplyHandler handler);

  // Facts of the broker that answered last.
  [[nodiscard]] const BrokerFacts& facts() const { return facts_; }

  [[nodiscard]] const std::map<uint64_t, Address>& nodes() const { return nodes_; }

  MonotonicTime run(MonotonicTime now) override;

 private:
  struct Call {
    protocol::FrameType type = protocol::FrameType::kError;
    SharedBytes table;
    MonotonicTime deadline;
    Repeat repeat = Repeat::kIfRefused;
    ReplyHandler handler;
    Backoff backoff;
    MonotonicTime retry_at;
    Address sent_to;
  };

  // Takes the broker list of a metadata answer that came from `from`.
  void learn_brokers(const protocol::fbs::MetadataReply& reply, const Address& from);
  void start(std::shared_ptr<Call> call);
  void on_call_reply(const std::shared_ptr<Call>& call, Reply reply);
  void ask_for_wanted(MonotonicTime now);
  void on_metadata(Reply reply, const std::vector<std::string>& asked);
  Status on_hello(const BrokerFacts& facts, const Address& from);

  ClusterOptions options_;
  ChannelFactory& factory_;
  Clock& clock_;
  Random random_;

  std::map<std::pair<std::string, uint16_t>, std::unique_ptr<Session>> sessions_;
  std::map<std::pair<uint64_t, uint16_t>, Session*> by_home_;  // look-aside for session_of()
  std::vector<Address> candidates_;  // the given brokers, then those learnt
  size_t candidate_ = 0;
  std::map<uint64_t, Address> nodes_;
  BrokerFacts facts_;
  Address facts_from_;

  std::list<std::shared_ptr<Call>> waiting_calls_;

  struct Watched {
    TopicMeta meta;
    bool answered = false;
    bool wanted = false;
    MonotonicTime asked_at{};
  };

  std::map<std::string, Watched, std::less<>> topics_;
  bool asking_ = false;
  uint64_t metadata_version_ = 0;
  Status metadata_error_;
};

// The error field of a reply frame whose table verifies; kMalformed if it does not. With
// retry_after_ms if the broker gave it.
struct ReplyError {
  Status status;
  uint32_t retry_after_ms = 0;
};

ReplyError error_of(const protocol::Frame& reply);

}  // namespace tidemark::client_core
