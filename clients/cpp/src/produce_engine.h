// Takes batches from a producer's write buffer, sends them, and reports what became of them.
//
// Thread: the I/O thread; no libuv. Each run(): topics are resolved, late batches given up, windows
// filled, and what may go is gathered per session into Produce requests (one batch per partition
// and request, about 1 MiB). Reports go through the dispatcher given at construction; run() and
// answers never call back into the engine from there, because everything a callback may do (send,
// close) only posts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "clients/cpp/src/batcher.h"
#include "clients/cpp/src/cluster.h"
#include "clients/cpp/src/send_window.h"
#include "tidemark/producer.h"

namespace tidemark::client_core {

struct EngineOptions {
  WindowOptions window;
  int64_t delivery_timeout_ns = 30'000 * kNsPerMs;
  size_t request_bytes_target = 1 * limits::kMiB;
  size_t in_flight_bytes_per_session_max = 8 * limits::kMiB;
  client::DeliveryBatchCallback on_delivery;
};

class ProduceEngine final : public Component, public std::enable_shared_from_this<ProduceEngine> {
 public:
  // `dispatch` empty: reports run at once.
  ProduceEngine(EngineOptions options, std::shared_ptr<Batcher> batcher, Cluster& cluster,
                Dispatcher dispatch, uint64_t seed);

  MonotonicTime run(MonotonicTime now) override;

  // Copies of what belongs to generations up to this one and is not resolved. `give_up`: it is then
  // reported kCancelled.
  std::vector<client::Undelivered> hand_back(uint64_t generation, bool give_up);

 private:
  struct TopicState {
    TopicQueue* queue = nullptr;
    const TopicMeta* meta = nullptr;  // owned by the cluster, stays
    uint32_t topic_id = 0;
    uint64_t need_version = 0;  // metadata older than this is known to be wrong
  };

  struct Lane {
    Lane(PartitionQueue& q, TopicState& t, const WindowOptions& options)
        : queue(q), topic(t), window(options) {}

    PartitionQueue& queue;
    TopicState& topic;
    SendWindow window;
    bool busy = false;
    MonotonicTime ready_at = kNever;  // linger
    MonotonicTime check_at{};         // next look for late batches
    uint64_t frame = 0;               // last request that took a batch
  };

  struct Part {
    Lane* lane = nullptr;
    Batch* batch = nullptr;
  };

  struct Group {
    Session* session = nullptr;
    std::vector<Part> parts;
  };

  struct SentPart {
    Lane* lane = nullptr;
    uint64_t serial = 0;
    uint32_t items = 0;  // of a schedule set; 0: a record batch
  };

  TopicState& state_of(TopicQueue& queue);
  Lane& lane_of(PartitionQueue& queue);
  void take_news();
  void resolve_topics(MonotonicTime now);
  bool resolve_topic(TopicState& topic, MonotonicTime now);
  void refresh(TopicState& topic);
  void give_up_topic(TopicState& topic, const Status& why);
  // The session to send to, or null while that cannot be told (or the lane was given up).
  Session* route(Lane& lane);
  void check_late(Lane& lane, MonotonicTime now);
  void fill(MonotonicTime now);
  bool fill_one(Lane& lane, MonotonicTime now);
  void send_groups();
  void send_request(Session& session, const std::vector<Part>& parts, size_t from, size_t to);
  void on_reply(Session* session, size_t bytes, const std::vector<SentPart>& sent, Reply reply);
  void on_part(const SentPart& part, uint16_t shard, const Status& status, uint32_t retry_after_ms,
               const protocol::fbs::ProducePartReply* table);
  void ask_identity();
  void give_identities();
  MonotonicTime next_run(MonotonicTime now) const;
  std::string late_text() const;
  void report_late(const std::string& topic, uint32_t partition, std::unique_ptr<Batch> batch);

  struct Outcome {
    Status status;
    bool outcome_unknown = false;
    uint64_t base_offset = 0;
    int64_t received_ms = 0;
    bool duplicate = false;
  };

  void report(const std::string& topic, uint32_t partition, std::unique_ptr<Batch> batch,
              Outcome outcome);

  EngineOptions options_;
  std::shared_ptr<Batcher> batcher_;
  Cluster& cluster_;
  Dispatcher dispatch_;
  Random random_;

  std::unordered_map<TopicQueue*, std::unique_ptr<TopicState>> topics_;
  std::unordered_map<PartitionQueue*, std::unique_ptr<Lane>> lanes_;
  std::vector<TopicState*> unresolved_;
  std::vector<Lane*> busy_;
  std::vector<Group> groups_;
  std::unordered_map<Session*, size_t> in_flight_bytes_;
  uint64_t next_serial_ = 1;
  uint64_t next_frame_ = 1;
  flatbuffers::FlatBufferBuilder builder_{1024};

  Identity identity_;  // the newest; lanes take it when they need another than they have
  bool asking_identity_ = false;
  MonotonicTime ask_identity_at_{};
  Backoff identity_backoff_{50 * kNsPerMs, 5'000 * kNsPerMs};
  Status last_error_;
};

}  // namespace tidemark::client_core
